//! The decisions of StornX.
//!
//! Data flows one way. Adapters give a [`model::Snapshot`]; [`decide::plan`] turns it,
//! with the [`policy::Policy`] and the [`memory::Memory`], into a [`plan::Plan`] and a
//! [`report::Report`]; [`check`] verifies the plan with its own code; actuators carry
//! it out; the remember step makes the next memory. The engine runs this cycle over the
//! traits of [`ports`], so that the daemon, the simulator and other controllers share
//! one loop.
//!
//! | room | owns | may not |
//! | --- | --- | --- |
//! | [`ids`], [`units`] | names and numbers as types | know what they are used for |
//! | [`model`] | what is known of the world | decide |
//! | [`policy`] | settings and their limits | read them from anywhere |
//! | [`memory`] | what lasts from cycle to cycle | change while planning |
//! | [`decide`] | every decision | touch the world, ask the time, use a random number |
//! | [`plan`], [`report`] | what to do, and why | decide |
//! | [`search`] | which few moves make a placement worth most | know what a workload is |
//! | [`check`] | the invariants | call the planner |
//! | [`steer`] | which node a pod that is being created is told | decide where replicas go |
//! | [`engine`], [`ports`] | the loop and its edges | know a foreign type |

pub mod check;
pub mod decide;
pub mod engine;
pub mod ids;
pub mod memory;
pub mod model;
pub mod plan;
pub mod policy;
pub mod ports;
pub mod remember;
pub mod report;
pub mod search;
pub mod steer;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod units;
mod view;
