//! A simulated cluster behind the ports of `stornx-core`: the world that decisions are
//! proved in, what they are compared with, and the experiments that do it.
//!
//! | room | owns | may not |
//! | --- | --- | --- |
//! | [`scenario`] | the file format of a run | run anything |
//! | [`baseline`] | the rules that StornX is compared with | see more than the systems they stand for |
//! | [`experiment`] | runs, seeds, comparisons | decide |
//! | [`plot`] | pictures | know what they show |
//! | [`dataset`] | published placements and their measure | know the simulated world |
//! | [`generate`] | large clusters, drawn from published distributions | run or decide anything |
//! | [`builtin`] | the scenarios that come with the binary | interpret them |
//! | [`files`] | reading files with errors that name the place | know what a file is for |
//! | [`world`] | the simulated cluster, its ports, the truth about it, and its traffic on pods of others | decide |

pub mod baseline;
pub mod builtin;
pub mod dataset;
pub mod experiment;
pub mod files;
pub mod generate;
pub mod plot;
pub mod scenario;
pub mod world;
