//! The web page over the daemon, in a real browser: the boutique under traffic, a service that
//! goes up while somebody looks, history over a restart, a dry run.

use std::sync::Arc;

use serde_json::Value;
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Boutique, boutique_scenario},
    emulate::{Emulation, Settings},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::{
    browser::{Browser, Programs, Scheme, required},
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick, with},
        rights,
    },
};

/// Called by others at 300 requests a second; one replica of it is far too few.
const BUSY: &str = "currency";

/// Without a browser the test is left out, with a line that says so, where it may be.
pub(crate) fn tests(programs: Result<Programs, String>) -> Vec<Test> {
    let body = |bed| async move {
        match programs {
            Ok(programs) => page(bed, programs).await,
            Err(error) if required() => Err(error.into()),
            Err(error) => {
                eprintln!("page_on_the_test_bed is left out: {error}");
                Ok(())
            }
        }
    };
    vec![Test::own("page_on_the_test_bed", Options::default(), body)]
}

async fn page(bed: Arc<TestBed>, programs: Programs) -> TestResult {
    let admin = bed.client("admin").await?;
    let boutique = Boutique::new();
    boutique.deploy(&admin).await?;
    boutique.wait_ready(&admin, SOON).await?;
    let here = boutique.namespace.as_str();
    rights::grant(&admin, "stornx", &[here]).await?;
    let busy = boutique.workload(BUSY).ok_or("a service of the boutique")?;
    apps::scale(&admin, busy, 1).await?;
    apps::wait_ready(&admin, busy, 1, SOON).await?;
    let emulation = Emulation::start(&admin, Settings::new(boutique_scenario().clone())).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([emulation.address()])).await?;

    // First one that only looks.
    let settings = quick(here, &prometheus.url());
    let looks = with(settings.clone(), &[("DRY_RUN", "true")]);
    let mut dry = Daemon::start(&bed, "stornx", "stornx-dry", &looks).await?;
    dry.wait_ready().await?;
    let browser = Browser::start(&programs).await?;
    browser.look(1280, 900, Scheme::Light).await?;
    browser.open(&dry.url()).await?;
    browser
        .until(
            "the banner",
            "document.getElementById('dry-run')?.textContent.startsWith('Dry run') === true",
        )
        .await?;
    browser
        .until(
            "what would be done",
            "/would be done/.test(document.getElementById('decisions').innerText)",
        )
        .await?;
    dry.terminate().await?;
    // It is told that there is nobody any more.
    browser
        .until("it to say so", "document.getElementById('link').dataset.state === 'lost'")
        .await?;
    browser.complaints().await?;

    let file = bed.folder().join("history.json").display().to_string();
    let keeps = with(settings, &[("HISTORY_FILE", &file)]);
    let mut daemon = Daemon::start(&bed, "stornx", "stornx", &keeps).await?;
    daemon.wait_ready().await?;
    browser.open(&daemon.url()).await?;
    browser.value("(window.stays = true)").await?;
    follows(&browser).await?;
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.look(1280, 900, scheme).await?;
        let barriers = browser.barriers().await?;
        if !barriers.is_empty() {
            return Err(barriers.join("\n").into());
        }
    }
    let said = browser.complaints().await?;
    if !said.is_empty() {
        return Err(format!("the console says {said:?}").into());
    }
    let (status, refused) = daemon.get("/api/v1/history?since=noon").await?;
    if status != 400 || !refused.contains("milliseconds since 1970") {
        return Err(format!("a bad question is answered with {status} {refused}").into());
    }
    history(&bed, &mut daemon, &keeps, &browser).await?;
    browser.close().await
}

/// The graph, the change, the reasons: without loading the page anew.
async fn follows(browser: &Browser) -> TestResult {
    browser.until("boxes", "document.querySelectorAll('#graph .node').length >= 15").await?;
    browser
        .until("inputs", "document.querySelectorAll('#inputs [data-state=fresh]').length >= 4")
        .await?;
    browser.until("the leader", "/Leader/.test(document.getElementById('about').textContent) && /Next/.test(document.getElementById('about').textContent)").await?;
    let grown =
        format!("/{BUSY} goes from 1 to/i.test(document.getElementById('decisions').innerText)");
    browser.value("(() => { const more = document.querySelector('#decisions .more'); if (more) more.click(); })()").await?;
    browser.until("the decision", &grown).await?;
    let replicas = format!(
        "[...document.querySelectorAll('#graph .node')].filter((it) => it.textContent.includes('/{BUSY}:')).reduce((sum, it) => sum + Number(it.querySelector('.count').textContent.slice(1)), 0) > 1"
    );
    browser.until("its new replicas", &replicas).await?;
    browser.until("weights", r"[...document.querySelectorAll('.edge-label')].some((it) => /\d ?%$/.test(it.textContent))").await?;
    browser.until("history", "document.querySelectorAll('#history svg').length >= 6").await?;
    browser
        .until(
            "it to be live",
            "document.getElementById('link').textContent === 'live' && window.stays === true",
        )
        .await
}

/// What was seen before a restart is there after it.
async fn history(
    bed: &TestBed,
    daemon: &mut Daemon,
    settings: &[(&str, String)],
    browser: &Browser,
) -> TestResult {
    let first = |text: &str| -> Option<Value> {
        serde_json::from_str::<Value>(text).ok()?["points"].get(0).cloned()
    };
    let before = first(&daemon.page("/api/v1/history").await?).ok_or("no history")?;
    daemon.terminate().await?;
    *daemon = Daemon::start(bed, "stornx", "stornx", settings).await?;
    daemon.wait_ready().await?;
    let again = &*daemon;
    until("the history from before", SOON, || async {
        let text = again.page("/api/v1/history").await.map_err(|error| error.to_string())?;
        let after = first(&text);
        if after.as_ref() == Some(&before) {
            Ok(())
        } else {
            Err(format!("{after:?}, not {before}"))
        }
    })
    .await?;
    browser.open(&daemon.url()).await?;
    browser
        .until(
            "where it is kept",
            "/in a file, over restarts/.test(document.getElementById('history-note').textContent)",
        )
        .await
}
