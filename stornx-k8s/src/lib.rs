//! Kubernetes behind the ports of `stornx-core`.

mod connect;
mod error;
mod facts;
mod map;
mod watch;

pub use self::{
    connect::{Access, Capabilities, ConnectError, ConnectOptions, Connection, MissingApi},
    watch::{Cluster, ClusterOptions, WatchStats},
};

/// A random number from 0 to 1, for spreading waits: nothing is decided by it.
pub(crate) fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    // Each state is seeded anew by the operating system's generator.
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
