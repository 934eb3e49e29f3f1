//! The example that was recorded from the simulated Online Boutique: what StornX sees
//! in its first cycle, and what it decides on it.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use stornx_core::model::Snapshot;
use stornx_sim::{
    builtin,
    experiment::{Moment, PolicyName, run},
};
use support::{printed, root, stornx};

const BOUTIQUE: &str = "docs/examples/online-boutique.yaml";

/// What the engine observes in the first cycle of the scenario.
fn record() -> Snapshot {
    let scenario = builtin::find("online-boutique").unwrap();
    let mut first = None;
    run(&scenario, PolicyName::Stornx, 1, &mut |moment| {
        if let (None, Moment::Cycle { outcome, .. }) = (&first, moment) {
            first.clone_from(&outcome.snapshot);
        }
    })
    .unwrap();
    first.unwrap()
}

/// A recording stays as it is; `STORNX_BLESS=1` records anew.
#[test]
fn plan_and_explain_work_on_the_recorded_boutique() {
    if std::env::var_os("STORNX_BLESS").is_some() {
        let text = format!(
            "# The simulated Online Boutique as StornX sees it in its first cycle: deployed by\n\
             # the default scheduler, no routing rule stands yet.\n{}",
            serde_saphyr::to_string(&record()).unwrap()
        );
        std::fs::write(root().join(BOUTIQUE), text).unwrap();
    }
    insta::assert_snapshot!(printed(&mut stornx(&["plan", "--snapshot", BOUTIQUE])));
    insta::assert_snapshot!(printed(&mut stornx(&[
        "explain",
        "productcatalog",
        "--snapshot",
        BOUTIQUE
    ])));
}
