//! From errors of the Kubernetes client to errors of the ports.
//!
//! Decides which answers mean "the world has moved on" ([`PortError::Conflict`]: 404,
//! 409, 410), which mean "no" ([`PortError::Rejected`]: every other 4xx) and which mean
//! "nobody knows" ([`PortError::Unavailable`]: 408, 429, 5xx, no answer, an answer that
//! cannot be read). A failed `test` of a JSON patch is a 422, which only the caller can
//! tell from other 422s, by looking at what is there.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use kube::Error;
use stornx_core::ports::PortError;
use tokio::time::{Instant, sleep_until};

/// The error of a port for an error of the client.
pub(crate) fn port_error(what: &str, error: &Error) -> PortError {
    let (what, detail) = (what.to_owned(), detail(error));
    match error {
        Error::Api(status) => match status.code {
            404 | 409 | 410 => PortError::Conflict { what, detail },
            408 | 429 => PortError::Unavailable { what, detail },
            400..500 => PortError::Rejected { what, detail },
            _ => PortError::Unavailable { what, detail },
        },
        Error::BuildRequest(_) | Error::HttpError(_) => PortError::Rejected { what, detail },
        _ => PortError::Unavailable { what, detail },
    }
}

/// What came of it, without the debugging output that the client's own text carries.
pub(crate) fn detail(error: &Error) -> String {
    match error {
        Error::Api(status) => {
            let reason = if status.reason.is_empty() { "no reason" } else { &status.reason };
            format!("{} {reason}: {}", status.code, status.message)
        }
        other => {
            // The outermost text alone is often no more than "service error".
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(inner) = source {
                let inner_text = inner.to_string();
                if !text.contains(&inner_text) {
                    text = format!("{text}: {inner_text}");
                }
                source = inner.source();
            }
            text
        }
    }
}

/// What kind of failure it is, for logging a failure that lasts only once.
pub(crate) fn class(error: &Error) -> u16 {
    match error {
        Error::Api(status) => status.code,
        _ => 0,
    }
}

/// Whether the server says that there is no such thing.
pub(crate) fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// The answer to `call`, or why there was none within `limit`.
///
/// # Errors
/// [`PortError`] by [`port_error`]; [`PortError::Unavailable`] after `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, PortError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(port_error(what, &error)),
        Err(_) => Err(no_answer(what, limit)),
    }
}

/// What a write gives before `until`. After that instant no further step of it is taken,
/// not even one whose turn it is: a process that stood still in the middle of a write
/// must not go on with it when somebody else may have begun to write.
pub(crate) async fn before<T>(until: Instant, write: impl Future<Output = T>) -> Option<T> {
    let mut write = pin!(write);
    let mut over = pin!(sleep_until(until));
    poll_fn(|context| {
        if Instant::now() >= until {
            return Poll::Ready(None);
        }
        match write.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => over.as_mut().poll(context).map(|()| None),
        }
    })
    .await
}

/// That nothing came within `limit`.
pub(crate) fn no_answer(what: &str, limit: Duration) -> PortError {
    let detail = format!("nothing within {:.1} s", limit.as_secs_f64());
    PortError::Unavailable { what: what.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use kube::core::Status;

    use super::*;

    fn answered(code: u16) -> PortError {
        let status = Status::failure("told so", "Because").with_code(code);
        port_error("scale shop/cart", &Error::Api(Box::new(status)))
    }

    #[test]
    fn answers_map_by_what_they_mean() {
        for code in [404, 409, 410] {
            assert!(matches!(answered(code), PortError::Conflict { .. }), "{code}");
        }
        for code in [400, 401, 403, 405, 413, 422] {
            assert!(matches!(answered(code), PortError::Rejected { .. }), "{code}");
        }
        for code in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(answered(code), PortError::Unavailable { .. }), "{code}");
        }
        assert_eq!(
            answered(403).to_string(),
            "scale shop/cart: rejected: 403 Because: told so",
            "no debugging output"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_takes_no_step_after_its_time() {
        let second = Duration::from_secs(1);
        for (late, expected) in [(second / 2, Some(())), (second, None), (5 * second, None)] {
            let (answer, answered) = tokio::sync::oneshot::channel::<()>();
            let went_on = std::cell::Cell::new(false);
            let write = async {
                let _ = answered.await;
                went_on.set(true);
            };
            let mut write = pin!(before(Instant::now() + second, write));
            let mut context = Context::from_waker(Waker::noop());
            assert!(write.as_mut().poll(&mut context).is_pending());
            // The answer to its first request is there when the process goes on.
            let _ = answer.send(());
            tokio::time::advance(late).await;
            assert_eq!(write.as_mut().poll(&mut context), Poll::Ready(expected), "{late:?}");
            assert_eq!(went_on.get(), expected.is_some(), "{late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_an_answer_is_given_up() {
        let limit = Duration::from_secs(5);
        let began = Instant::now();
        assert_eq!(before(began + limit, std::future::pending::<()>()).await, None);
        assert_eq!(began.elapsed(), limit);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_given_up() {
        let never = std::future::pending::<kube::Result<()>>();
        let error = within(Duration::from_secs(5), "get x", never).await.unwrap_err();
        assert_eq!(error.to_string(), "get x: no answer: nothing within 5.0 s");
    }
}
