//! Prometheus behind the metrics port of `stornx-core`.
//!
//! A cycle asks ten questions, whatever the size of the cluster, adds their rows up as
//! they come in, joins them with the pods that the cluster has, and says of each group of
//! facts how old it is and what is missing.
//!
//! | room | owns | may not |
//! | --- | --- | --- |
//! | `options`, `tls` | how Prometheus is reached | ask anything |
//! | `queries` | every question, as data | know how it is sent |
//! | `client`, `error`, `stats` | one exchange: time, size, who we are, what went wrong | know what is asked |
//! | `response` | the wire format, row by row | keep rows |
//! | `places` | names of the cluster to places in lists | know series |
//! | `ages` | when each pod was last heard of | use our clock |
//! | `youth` | by how much rates of young pods are too low | know series |
//! | `sums`, `usage`, `latency` | rows to sums | judge them |
//! | `fit`, `routes` | sums of callers and callees to routes between zones | know rows |
//! | `source` | the port: order of questions, what is missing and why | compute |

mod ages;
mod client;
mod error;
mod fit;
mod latency;
mod options;
mod places;
mod queries;
mod response;
mod routes;
mod source;
mod stats;
mod sums;
mod tls;
mod usage;
mod youth;

pub use client::ClientError;
pub use error::QueryError;
pub use options::{
    Auth, Labels, OptionProblem, OptionsError, PrometheusOptions, PrometheusOptionsBuilder, Secret,
};
pub use queries::{QUERIES, Query};
pub use source::Prometheus;
pub use stats::{QueryStats, Stats};
