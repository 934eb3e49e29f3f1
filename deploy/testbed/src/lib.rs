//! The test bed: a real control plane and a real Prometheus; containers and packets are
//! simulated.
