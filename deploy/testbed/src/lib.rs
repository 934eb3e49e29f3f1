//! The test bed: a real control plane and a real Prometheus; containers and packets are
//! simulated.
//!
//! A run, from the outside in:
//! 1. [`Programs`] builds the pinned Go programs, once.
//! 2. [`namespace`] puts the program into a user, network and process namespace of its
//!    own, whose end is the end of everything in it.
//! 3. [`TestBed`] starts etcd, kube-apiserver, kube-controller-manager, kube-scheduler
//!    and kwok there, with keys, ports and a data folder of their own.
//! 4. [`apps`] deploys the boutique and workloads that are special in one way.
//! 5. [`emulate`] runs the simulator's traffic over the pods that are there and shows it
//!    as metrics.
//! 6. [`prometheus`] starts the real Prometheus over them, or over what a test names.
//!
//! [`harness`] makes tests of all this; [`forward`] lets people look in from outside.
//!
//! | room | may not |
//! | --- | --- |
//! | `programs` | use the network inside a namespace |
//! | `process` | look for programs by name |
//! | `cluster` | restart anything by itself |
//! | `apps` | have a source of its own for the boutique |
//! | `emulate` | decide about pods, or read rules with the code under test |

pub mod apps;
pub mod cluster;
mod dirs;
pub mod emulate;
mod error;
pub mod forward;
pub mod harness;
pub mod mesh;
pub mod namespace;
pub mod ports;
mod process;
mod programs;
pub mod prometheus;
pub mod schemas;
mod tools;
pub mod wait;

pub use cluster::{Crd, NodeSpec, Options, Server, TestBed};
pub use dirs::testbed as folder;
pub use error::{BedError, Result};
pub use harness::main;
pub use programs::{Programs, left_out};
pub use tools::Tool;
