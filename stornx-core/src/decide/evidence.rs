//! How a change of ours is told from a change of everything: by the difference of two
//! differences. What is ours got slower by so much more than what was not touched got slower
//! over the same time.
//!
//! Shared by the judgement of moves and by that of routes, which differ in what they
//! touch and in how much worse is too much.

/// By what factor what was not touched got slower: what is ours would have, too. Never
/// below 1: that others got faster is no reason for ours to.
pub(crate) fn slowdown(before: Option<f64>, after: Option<f64>) -> f64 {
    match (before, after) {
        (Some(before), Some(after)) if before > 0.0 => (after / before).max(1.0),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slowed_everything_down_is_not_of_our_making() {
        assert!((slowdown(Some(20.0), Some(30.0)) - 1.5).abs() < 1e-12);
        assert!((slowdown(Some(20.0), Some(10.0)) - 1.0).abs() < 1e-12);
        assert!((slowdown(None, Some(10.0)) - 1.0).abs() < 1e-12);
        assert!((slowdown(Some(0.0), Some(10.0)) - 1.0).abs() < 1e-12);
    }
}
