//! The web page in a real browser (headless Chromium): over `stornx demo --serve` and over a
//! recorded snapshot of a large cluster. What it does over a daemon on the test bed is in
//! `tests/e2e/page.rs`.
//!
//! Without a browser the tests are ignored, with a line that says so; where `CI=true` they
//! fail. Pictures go to `target/tmp/page`; with `STORNX_BLESS=1` to `docs/images`, too.

mod browser;
mod large;
mod served;

use std::{path::Path, process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Completion, Trial};
use serde_json::Value;

use self::{
    browser::{Browser, Failure, Programs, Scheme},
    served::Served,
};

type TestResult = Result<(), Failure>;

/// Width and height of a desk and of a phone.
const DESK: (u32, u32) = (1200, 660);
const PHONE: (u32, u32) = (390, 844);
/// A picture in the documentation takes no more.
const LARGEST_PICTURE: usize = 200_000;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A browser takes a core: one at a time.
    arguments.test_threads.get_or_insert(1);
    let programs = if arguments.list { Err("only listed".to_owned()) } else { Programs::find() };
    if let (Err(error), false) = (&programs, arguments.list) {
        eprintln!("page: {error}");
    }
    let programs = Arc::new(programs);
    let trial = |name: &str, body: fn(&Programs) -> TestResult| {
        let programs = programs.clone();
        Trial::ignorable_test(name, move || match programs.as_ref() {
            Ok(programs) => Ok(body(programs).map(|()| Completion::Completed)?),
            Err(error) if browser::required() => Err(error.into()),
            Err(error) => Ok(Completion::ignored_with(error.clone())),
        })
    };
    let trials = vec![
        trial("page_shows_the_demo_and_follows_it", |programs| wait(follows(programs))),
        trial("page_has_no_barriers", |programs| wait(accessible(programs))),
        trial("page_is_used_by_keyboard", |programs| wait(keyboard(programs))),
        trial("page_fits_a_phone", |programs| wait(phone(programs))),
        trial("page_says_when_it_is_cut_off", |programs| wait(cut_off(programs))),
        trial("page_of_a_large_cluster_loads_within_a_second", |programs| {
            wait(large_cluster(programs))
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn wait(body: impl Future<Output = TestResult>) -> TestResult {
    tokio::runtime::Runtime::new()?.block_on(body)
}

fn demo() -> Result<Served, Failure> {
    Served::start(&["demo", "--serve"])
}

/// Nothing was complained about.
async fn silent(browser: &Browser) -> TestResult {
    let said = browser.complaints().await?;
    if said.is_empty() { Ok(()) } else { Err(format!("the console says {said:?}").into()) }
}

/// Keeps a picture, and takes it into the documentation when asked to.
fn keep(name: &str, picture: &[u8]) -> TestResult {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), picture)?;
    println!("page: {name}, {} bytes, in {}", picture.len(), folder.display());
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    if std::env::var_os("STORNX_BLESS").is_some() {
        if picture.len() > LARGEST_PICTURE {
            return Err(format!("{name} takes {} bytes", picture.len()).into());
        }
        std::fs::write(images.join(name), picture)?;
    }
    // The documentation shows what a test has shown.
    if images.join(name).is_file() {
        Ok(())
    } else {
        Err(format!("docs/images/{name} is missing: STORNX_BLESS=1 makes it").into())
    }
}

async fn follows(programs: &Programs) -> TestResult {
    let demo = demo()?;
    let browser = Browser::start(programs).await?;
    browser.look(DESK.0, DESK.1, Scheme::Light).await?;
    browser.open(&demo.url).await?;

    // The graph: a box for each service in each zone that it runs in, lines with rates.
    browser.until("boxes", "document.querySelectorAll('#graph .node').length >= 25").await?;
    browser.until("lines", "document.querySelectorAll('#graph .edge').length >= 40").await?;
    browser.until("lanes", "document.querySelectorAll('#graph .lane').length === 3").await?;
    browser.until("rates and latencies", r"[...document.querySelectorAll('.edge-label')].some((it) => /\/s · [\d.]+ ?ms/.test(it.textContent))").await?;

    // It follows: the document changes, the page was not loaded anew.
    browser.value("(window.stays = true)").await?;
    let first = browser.number("Number(document.documentElement.dataset.cycle)").await?;
    browser
        .until(
            "the next cycles",
            &format!("Number(document.documentElement.dataset.cycle) >= {first} + 3"),
        )
        .await?;
    browser.until("weights on lines", r"[...document.querySelectorAll('.edge-label')].some((it) => /\d ?%$/.test(it.textContent))").await?;
    browser.until("decisions", "document.querySelectorAll('#decisions li').length >= 3 && /calls to|goes from/i.test(document.getElementById('decisions').innerText)").await?;
    browser
        .until("history", "document.querySelectorAll('#history svg .curve').length >= 4")
        .await?;
    browser.until("fewer calls between zones", "parseFloat([...document.querySelectorAll('#figures div')].find((it) => /leave their zone/.test(it.textContent)).querySelector('dd').textContent) < 20").await?;
    browser
        .until("it to be live", "document.getElementById('link').textContent === 'live'")
        .await?;
    if browser.value("window.stays").await? != true {
        return Err("the page was loaded anew".into());
    }
    browser.until("zones", "document.querySelectorAll('#zones meter').length === 3").await?;
    browser
        .until("inputs", "document.querySelectorAll('#inputs [data-state=fresh]').length >= 4")
        .await?;

    // The numbers behind a decision.
    browser.value("document.querySelector('#decisions summary').click()").await?;
    browser
        .until(
            "numbers",
            "document.querySelectorAll('#decisions details[open] .numbers dt').length >= 1",
        )
        .await?;
    let at = browser.number("Number(document.documentElement.dataset.cycle)").await?;
    browser
        .until("another cycle", &format!("Number(document.documentElement.dataset.cycle) > {at}"))
        .await?;
    browser
        .value(
            "document.querySelectorAll('#decisions details').forEach((it) => { it.open = false; })",
        )
        .await?;

    // Nothing is asked of anybody else.
    let outside = browser.value("performance.getEntriesByType('resource').map((it) => it.name).filter((it) => !it.startsWith(location.origin))").await?;
    if outside != Value::Array(Vec::new()) {
        return Err(format!("it asks {outside}").into());
    }
    keep("page-light.png", &browser.picture(None).await?)?;
    keep(
        "page-history.png",
        &browser.picture(Some("section[aria-labelledby=history-title]")).await?,
    )?;
    keep("page-decisions.png", &browser.picture(Some("main > .columns")).await?)?;
    browser.look(1100, 680, Scheme::Dark).await?;
    choose(&browser, "cart").await?;
    browser.value("scrollTo(0, document.getElementById('graph').getBoundingClientRect().top + scrollY - 90)").await?;
    keep("page-dark.png", &browser.picture(None).await?)?;
    silent(&browser).await?;
    browser.close().await
}

/// Chooses a service as a click does.
async fn choose(browser: &Browser, name: &str) -> TestResult {
    let click = format!(
        "[...document.querySelectorAll('#graph .node')].find((it) => it.textContent.includes('/{name}:') && it.getAttribute('aria-pressed') === 'false').dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))"
    );
    browser.value(&click).await?;
    browser
        .until(
            "the detail",
            &format!("document.querySelector('#detail h3')?.textContent.includes('{name}')"),
        )
        .await
}

async fn accessible(programs: &Programs) -> TestResult {
    let demo = demo()?;
    let browser = Browser::start(programs).await?;
    for ((width, height), scheme) in
        [(DESK, Scheme::Light), (DESK, Scheme::Dark), (PHONE, Scheme::Light), (PHONE, Scheme::Dark)]
    {
        browser.look(width, height, scheme).await?;
        browser.open(&demo.url).await?;
        browser.until("decisions", "document.querySelectorAll('#decisions li').length > 0").await?;
        choose(&browser, "frontend").await?;
        browser
            .value("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
            .await?;
        let found = browser.barriers().await?;
        if !found.is_empty() {
            return Err(format!("{width} wide, {scheme:?}: {}", found.join("\n")).into());
        }
    }
    silent(&browser).await?;
    browser.close().await
}

async fn keyboard(programs: &Programs) -> TestResult {
    let demo = demo()?;
    let browser = Browser::start(programs).await?;
    browser.look(DESK.0, DESK.1, Scheme::Light).await?;
    browser.open(&demo.url).await?;
    browser.press("Tab").await?;
    browser.until("the skip link", "document.activeElement.className === 'skip' && document.activeElement.getBoundingClientRect().left >= 0").await?;
    browser.press("Enter").await?;
    browser.until("the content", "document.activeElement.id === 'main'").await?;
    // Everything that can be reached shows that it is: forward to the graph and into it.
    for _ in 0..20 {
        browser.press("Tab").await?;
        let plain = "(() => { const it = document.activeElement; const inner = it.querySelector?.(':scope > rect') ?? it; const style = getComputedStyle(inner); return it.matches(':focus-visible') && (style.outlineStyle !== 'none' || parseFloat(style.strokeWidth) >= 3); })()";
        if browser.value(plain).await? != true {
            let which = browser.value("document.activeElement.outerHTML.slice(0, 200)").await?;
            return Err(format!("no focus is seen on {which}").into());
        }
        if browser.value("document.activeElement.classList.contains('node')").await? == true {
            break;
        }
    }
    browser.until("a service", "document.activeElement.classList.contains('node')").await?;
    let first = browser.value("document.activeElement.dataset.key").await?;
    browser.press("ArrowRight").await?;
    browser.until("the next service", &format!("document.activeElement.classList.contains('node') && document.activeElement.dataset.key !== {first}")).await?;
    browser.press("Enter").await?;
    browser.until("its detail", "document.querySelectorAll('#detail .box').length === 1 && document.activeElement.getAttribute('aria-pressed') === 'true'").await?;
    // A new cycle takes the focus away from nobody.
    let chosen = browser.value("document.activeElement.dataset.key").await?;
    let at = browser.number("Number(document.documentElement.dataset.cycle)").await?;
    browser
        .until("another cycle", &format!("Number(document.documentElement.dataset.cycle) > {at}"))
        .await?;
    browser
        .until("the focus to stay", &format!("document.activeElement.dataset.key === {chosen}"))
        .await?;
    browser.press("Escape").await?;
    browser.until("no detail", "document.querySelectorAll('#detail .box').length === 0").await?;
    silent(&browser).await?;
    browser.close().await
}

async fn phone(programs: &Programs) -> TestResult {
    let demo = demo()?;
    let browser = Browser::start(programs).await?;
    browser.look(PHONE.0, PHONE.1, Scheme::Light).await?;
    browser.open(&demo.url).await?;
    browser.until("decisions", "document.querySelectorAll('#decisions li').length > 0").await?;
    choose(&browser, "checkout").await?;
    // A phone shows a page that is too wide smaller: what counts is the width that there is.
    let wide = browser.number("Math.max(document.documentElement.scrollWidth, innerWidth)").await?;
    let over = wide - f64::from(PHONE.0);
    if over > 0.0 {
        let which = browser.value("[...document.querySelectorAll('main *, header *')].filter((it) => it.getBoundingClientRect().right > 391 && !it.closest('.scroll, .graph')).slice(0, 3).map((it) => it.outerHTML.slice(0, 120))").await?;
        return Err(format!("{over} points too wide: {which}").into());
    }
    browser.value("document.querySelector('#detail button').click()").await?;
    browser.value("scrollTo(0, 0)").await?;
    keep("page-phone.png", &browser.picture(None).await?)?;
    silent(&browser).await?;
    browser.close().await
}

async fn cut_off(programs: &Programs) -> TestResult {
    let mut demo = demo()?;
    let browser = Browser::start(programs).await?;
    browser.look(DESK.0, DESK.1, Scheme::Light).await?;
    browser.open(&demo.url).await?;
    browser
        .until("it to be live", "document.getElementById('link').textContent === 'live'")
        .await?;
    demo.end();
    browser
        .until("it to say so", "document.getElementById('link').dataset.state === 'lost'")
        .await?;
    // What was known is still there.
    browser.until("the graph", "document.querySelectorAll('#graph .node').length > 0").await?;
    browser.close().await
}

async fn large_cluster(programs: &Programs) -> TestResult {
    const LOADS: usize = 7;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("large.json");
    std::fs::write(&file, large::snapshot())?;
    let name = file.display().to_string();
    let served = Served::start(&["plan", "--serve", "--snapshot", &name])?;
    let browser = Browser::start(programs).await?;
    browser.look(DESK.0, DESK.1, Scheme::Light).await?;
    let mut times = Vec::new();
    for _ in 0..LOADS {
        browser.open(&served.url).await?;
        browser
            .until("it to be painted", "performance.getEntriesByName('shown').length > 0")
            .await?;
        times.push(browser.number("performance.getEntriesByName('shown')[0].startTime").await?);
    }
    times.sort_by(f64::total_cmp);
    let size = browser.number("performance.getEntriesByType('resource').find((it) => it.name.endsWith('/state')).decodedBodySize").await?;
    println!(
        "page: {} services, {} pods: shown after {times:.0?} ms, state of {size:.0} bytes",
        large::SERVICES,
        large::SERVICES * large::REPLICAS
    );
    browser
        .until("all services", "document.querySelector('#figures dd').textContent === '500'")
        .await?;
    browser
        .until(
            "all replicas",
            "/^5,?000/.test(document.querySelectorAll('#figures dd')[1].textContent)",
        )
        .await?;
    browser.until("what is left out", "/edges with most requests are shown/.test(document.getElementById('graph-note').textContent)").await?;
    browser.until("the dry run", "document.getElementById('dry-run') !== null").await?;
    // Text stays text.
    let shown =
        format!("document.getElementById('inputs').textContent.includes({:?})", large::HOSTILE);
    browser.until("what the cluster says", &shown).await?;
    if browser.value("document.getElementById('hostile') === null").await? != true {
        return Err("text of the cluster has become an element".into());
    }
    // One of many is found by its name.
    browser.value("(() => { const it = document.getElementById('search'); it.value = 'service-321'; it.dispatchEvent(new Event('input')); })()").await?;
    browser.until("the one that was searched for", "[...document.querySelectorAll('#graph .node')].some((it) => it.textContent.includes('service-321')) && document.querySelectorAll('#graph .node').length <= 24").await?;
    // It is light: the state leaves its edges out, and they are shown all the same.
    browser.until("its row", "(() => { const rows = document.querySelectorAll('#services tbody tr'); return rows.length === 1 && rows[0].textContent.includes('service-321'); })()").await?;
    browser.value("document.querySelector('#services button').click()").await?;
    browser.until("its calls by zone", "[...document.querySelectorAll('#detail [data-key=around] tbody tr')].some((it) => it.textContent.includes('called by'))").await?;
    // Every service is found, and zones are summed over all edges.
    for service in [1, 150, 499] {
        let name = format!("service-{service:03}");
        browser.value(&format!("(() => {{ const it = document.getElementById('search'); it.value = '{name}'; it.dispatchEvent(new Event('input')); }})()")).await?;
        browser.until(&name, &format!("(() => {{ const rows = document.querySelectorAll('#services tbody tr'); return rows.length === 1 && rows[0].textContent.includes('{name}'); }})()")).await?;
    }
    let sums = "(() => { const n = (text) => Number(text.replaceAll(',', '').split('/')[0]); const cells = [...document.querySelectorAll('#flows td.n')].map((it) => n(it.textContent)); const all = n([...document.querySelectorAll('#figures div')].find((it) => /calls$/.test(it.querySelector('dt').textContent)).querySelector('dd').textContent); return cells.length === 9 && Math.abs(cells.reduce((a, b) => a + b) - all) <= 10; })()";
    browser.until("the sums over zones", sums).await?;
    browser
        .until("what it is", "document.getElementById('about').textContent.includes('a recording')")
        .await?;
    silent(&browser).await?;
    browser.close().await?;
    // Nobody waits longer than a second; half of the loads may meet a busy machine.
    let median = times[LOADS / 2];
    if median < 1000.0 { Ok(()) } else { Err(format!("shown after {median:.0} ms").into()) }
}
