//! What runs in the cluster: the boutique, and workloads that are special in one way.
//!
//! The boutique is the scenario `online-boutique` of `stornx-sim`, the one source of its
//! services, replicas, requests and budgets, written as Kubernetes objects. Images are
//! names that nobody pulls.

mod boutique;
mod objects;
mod workload;

pub use boutique::{Boutique, boutique_scenario};
pub use objects::{
    create, disruption_budget, horizontal_autoscaler, namespace, rights, scale, scaled_object,
};
pub use workload::{Roll, Workload, is_ready, ready_pods, wait_ready};
