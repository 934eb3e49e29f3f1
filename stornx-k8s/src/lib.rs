//! Kubernetes behind the ports of `stornx-core`.

mod error;
mod map;
