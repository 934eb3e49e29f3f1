//! A simulated cluster behind the ports of `stornx-core`: the world that decisions are
//! proved in.
//!
//! | room | owns | may not |
//! | --- | --- | --- |
//! | [`scenario`] | the file format of a run | run anything |
//! | [`world`] | the simulated cluster, its ports and the truth about it | decide |

pub mod scenario;
pub mod world;
