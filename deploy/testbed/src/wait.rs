//! Waiting for a condition with a deadline; never for a length of time alone.

use std::{fmt::Display, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::error::{BedError, Result};

/// Between two looks: short against everything that is waited for (the quickest is a
/// pod becoming Ready), long against the cost of one look.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until `look` gives `Ok`, whose value is returned.
///
/// # Errors
/// [`BedError::Deadline`] with the last `Err` seen, when `limit` has passed.
pub async fn until<T, E, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    E: Display,
    F: Future<Output = std::result::Result<T, E>>,
{
    let deadline = Instant::now() + limit;
    let mut last = "nothing".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_) if left.is_zero() => {}
            Err(_) => last = format!("{last}; then no answer"),
        }
        if Instant::now() + LOOK >= deadline {
            return Err(BedError::Deadline { what: what.to_owned(), limit, last });
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gives_the_value_or_what_was_last_seen() {
        let mut looks = 0;
        let third = until("the third look", Duration::from_secs(1), || {
            looks += 1;
            std::future::ready(if looks == 3 { Ok(looks) } else { Err("too early") })
        });
        assert_eq!(third.await.unwrap(), 3);

        let never: Result<()> =
            until("the moon", Duration::from_secs(2), || std::future::ready(Err("a cloud"))).await;
        assert_eq!(never.unwrap_err().to_string(), "the moon: not within 2 s; last seen: a cloud");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_without_an_answer_ends_at_the_deadline() {
        let silent: Result<()> = until("an answer", Duration::from_secs(2), || {
            std::future::pending::<std::result::Result<(), String>>()
        })
        .await;
        assert!(silent.unwrap_err().to_string().contains("no answer"));
    }
}
