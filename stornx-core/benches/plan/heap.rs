//! The peak heap of a plan, its check and what is remembered of it.
//!
//! `cargo bench -p stornx-core --bench heap -- 1` prints, for each run of the bench `plan`
//! at that size, the bytes that were held at most beside the snapshot and the memory that
//! a plan starts with, and what these two hold. `--gate` compares the first with the
//! committed figures, at a size that takes seconds.
//!
//! Counted by dhat: bytes that were asked for, not pages that the process held.

// A bench may stop at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::panic)]
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod cluster;
mod gate;
mod run;

use std::{hint::black_box, process::ExitCode};

use run::{Kind, Run};

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

/// Of the cluster.
const SEED: u64 = 7;

/// Size at which the gate measures.
const GATED: f64 = 0.125;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next().as_deref() {
        Some("--gate") => {
            let kinds = ["first", "later", "probed"];
            let figure = |name: &str| {
                let heap = peaks(GATED, Kind::named(name).unwrap());
                (format!("heap {name} {GATED}"), heap.beside)
            };
            gate::judge(&kinds.map(figure))
        }
        size => {
            let size = size.map_or(1.0, |size| size.parse().unwrap());
            for kind in [Kind::First, Kind::Later, Kind::Probed] {
                let heap = peaks(size, kind);
                let megabytes = |bytes: u64| bytes as f64 / 1e6;
                println!(
                    "size {size}, {kind:?}: {:.1} MB beside {:.1} MB of input",
                    megabytes(heap.beside),
                    megabytes(heap.input),
                );
            }
            ExitCode::SUCCESS
        }
    }
}

struct Peaks {
    /// Bytes held at most by plan, check and memory.
    beside: u64,
    /// Bytes that are there before.
    input: u64,
}

fn peaks(size: f64, kind: Kind) -> Peaks {
    let profiler = dhat::Profiler::builder().testing().trim_backtraces(Some(1)).build();
    let run = Run::new(size, kind, SEED);
    let input = dhat::HeapStats::get().curr_bytes as u64;
    drop(profiler);
    // A new one knows nothing of what is there already.
    let profiler = dhat::Profiler::builder().testing().trim_backtraces(Some(1)).build();
    let planned = run.only_plan();
    assert_eq!(run.only_check(&planned), []);
    black_box(run.only_remember(&planned));
    let beside = dhat::HeapStats::get().max_bytes as u64;
    drop(profiler);
    Peaks { beside, input }
}
