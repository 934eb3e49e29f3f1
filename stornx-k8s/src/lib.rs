//! Kubernetes behind the ports of `stornx-core`.
