//! A simulated cluster behind the ports of `stornx-core`: the world that decisions are
//! proved in.
//!
//! | room | owns | may not |
//! | --- | --- | --- |
//! | [`scenario`] | the file format of a run | run anything |

pub mod scenario;
