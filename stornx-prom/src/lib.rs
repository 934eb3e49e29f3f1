//! Prometheus behind the metrics port of `stornx-core`.
