//! Large answers. Their text is made once and shared by all who ask for it, and only so many
//! are under way at one time: whoever reads slowly holds a seat and no copy.

use std::sync::Arc;

use axum::{
    body::Bytes,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api::Refusal;

/// The seats for large answers.
#[derive(Debug, Clone)]
pub(crate) struct Large {
    seats: Arc<Semaphore>,
    most: usize,
}

/// The right to one large answer, until its last byte is sent or the reader is gone.
#[derive(Debug)]
pub(crate) struct Seat {
    _permit: OwnedSemaphorePermit,
}

/// A text with the seat that it takes.
struct Held {
    text: Bytes,
    _seat: Seat,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Large {
    pub(crate) fn new(most: usize) -> Self {
        Self { seats: Arc::new(Semaphore::new(most)), most }
    }

    /// A seat, or what is said to one too many.
    pub(crate) fn seat(&self) -> Result<Seat, Full> {
        match self.seats.clone().try_acquire_owned() {
            Ok(permit) => Ok(Seat { _permit: permit }),
            Err(_) => Err(Full { most: self.most }),
        }
    }

    /// Seats that nobody has.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.seats.available_permits()
    }
}

impl Seat {
    /// The same text, which holds the seat as long as anybody holds it.
    pub(crate) fn hold(self, text: Bytes) -> Bytes {
        Bytes::from_owner(Held { text, _seat: self })
    }

    /// Makes a text where it may take its time. The seat is taken until it is made, also
    /// when the reader has left by then.
    pub(crate) async fn make<E: Send + 'static>(
        self,
        make: impl FnOnce() -> Result<Bytes, E> + Send + 'static,
    ) -> Option<Result<Bytes, E>> {
        tokio::task::spawn_blocking(move || make().map(|text| self.hold(text))).await.ok()
    }
}

/// No seat is free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Full {
    most: usize,
}

impl Full {
    /// Status 503, when to ask again, and why.
    pub(crate) fn answer(self, path: &str) -> Response {
        let allowed = format!("{} large answers at one time", self.most);
        let refusal = Refusal {
            error: format!("{} large answers are under way: ask again in 2 s", self.most),
            ..Refusal::parameter(path, "one more", &allowed)
        };
        let answer = refusal.answer(StatusCode::SERVICE_UNAVAILABLE);
        ([(RETRY_AFTER, "2")], answer).into_response()
    }
}
