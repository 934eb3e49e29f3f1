//! The adapter against a small API server in this process.

// This is test code: a broken assumption has to stop the test there and then.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../support/shop.rs"]
mod shop;
#[path = "../support/mod.rs"]
mod support;

mod clean;
mod connect;
mod labels;
mod lease;
mod moves;
mod store;
mod talk;
mod watch;
mod webhook;
mod write;

use std::{future::Future, time::Duration};

/// Waits, in virtual time where it is paused, until something holds.
pub(crate) async fn until<F>(what: &str, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    for _ in 0..20_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
