//! The page of a daemon that does not lead, in a real browser: it says so and who leads, and
//! follows when the leader goes.

use std::sync::Arc;

use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    harness::Test,
};

use crate::{
    browser::{Browser, Programs, Scheme, required},
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick, with},
        rights,
    },
};

const HERE: &str = "followed";

/// Nobody listens there: who leads does not depend on metrics.
const NO_PROMETHEUS: &str = "http://127.0.0.1:9";

/// Without a browser the test is left out, with a line that says so, where it may be.
pub(crate) fn tests(programs: Result<Programs, String>) -> Vec<Test> {
    let body = |bed| async move {
        match programs {
            Ok(programs) => page(bed, programs).await,
            Err(error) if required() => Err(error.into()),
            Err(error) => {
                eprintln!("page_of_a_follower is left out: {error}");
                Ok(())
            }
        }
    };
    vec![Test::own("page_of_a_follower", Options::default(), body)]
}

async fn page(bed: Arc<TestBed>, programs: Programs) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    let workload = Workload::new(HERE, "web", 2);
    workload.create(&admin).await?;
    apps::wait_ready(&admin, &workload, 2, SOON).await?;
    let settings = |pod| with(quick(HERE, NO_PROMETHEUS), &[("POD_NAME", pod)]);
    let mut leader = Daemon::start(&bed, "stornx", "leader", &settings("stornx-aaa")).await?;
    leader.wait_ready().await?;
    let follower = Daemon::start(&bed, "stornx", "follower", &settings("stornx-bbb")).await?;
    follower.wait_ready().await?;

    let browser = Browser::start(&programs).await?;
    browser.look(1280, 900, Scheme::Light).await?;
    browser.load(&follower.url()).await?;
    let says =
        |words: &str| format!("/{words}/.test(document.getElementById('notices').innerText)");
    let name = format!(r"leads and decides: stornx-aaa-{}-[0-9a-f]+\.", leader.id());
    browser.until("who leads", &says(&name)).await?;
    browser.until("where to look", &says(r"port-forward pod\/stornx-aaa 3000")).await?;
    browser
        .until(
            "the leader among the facts",
            "/stornx-aaa/.test(document.getElementById('about').innerText)",
        )
        .await?;
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.look(390, 844, scheme).await?;
        let barriers = browser.barriers().await?;
        if !barriers.is_empty() {
            return Err(barriers.join("\n").into());
        }
    }

    // The lease is given back, and the page follows without being loaded anew.
    browser.value("(window.stays = true)").await?;
    leader.terminate().await?;
    let leads = "!/leads and decides/.test(document.getElementById('notices').innerText) && \
         /stornx-bbb/.test(document.getElementById('about').innerText) && window.stays === true";
    browser.until("it to lead", leads).await?;
    let said = browser.complaints().await?;
    if !said.is_empty() {
        return Err(format!("the console says {said:?}").into());
    }
    browser.close().await
}
