//! A real browser, through chromedriver: Debian's packages `chromium` and `chromium-driver`,
//! or whatever `STORNX_CHROMIUM` and `STORNX_CHROMEDRIVER` name.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use fantoccini::{Client, ClientBuilder, wd::WebDriverCompatibleCommand};
use serde_json::{Value, json};

/// Any error fails a test.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long something may take that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

/// The programs, or why there are none.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    chromium: PathBuf,
    driver: PathBuf,
    /// The source of axe-core.
    axe: PathBuf,
}

impl Programs {
    /// Looks for the browser and fetches what judges accessibility.
    pub(crate) fn find() -> Result<Self, String> {
        let chromium =
            program("STORNX_CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])?;
        let driver = program("STORNX_CHROMEDRIVER", &["chromedriver"])?;
        Ok(Self { chromium, driver, axe: axe()? })
    }
}

/// Where there must be a browser (`CI` is set), a test that has none fails.
pub(crate) fn required() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

fn program(variable: &str, names: &[&str]) -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os(variable) {
        let path = PathBuf::from(given);
        return path
            .is_file()
            .then_some(path.clone())
            .ok_or(format!("{variable}: no {}", path.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    all.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        format!(
            "there is no {}: deploy/testbed/browser installs it, {variable} names another",
            names[0]
        )
    })
}

/// axe-core in the version of `package-lock.json`, under the target folder.
fn axe() -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    let found = folder.join("node_modules/axe-core/axe.min.js");
    let said = |error: std::io::Error| format!("axe-core: {error}");
    std::fs::create_dir_all(&folder).map_err(said)?;
    let mut same = found.is_file();
    for name in ["package.json", "package-lock.json"] {
        let wanted = std::fs::read(own.join(name)).map_err(said)?;
        if std::fs::read(folder.join(name)).ok().as_ref() != Some(&wanted) {
            std::fs::write(folder.join(name), wanted).map_err(said)?;
            same = false;
        }
    }
    if !same {
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
        let done =
            Command::new("npm").args(arguments).current_dir(&folder).status().map_err(said)?;
        if !done.success() {
            return Err(format!("axe-core: npm ci in {} fails: {done}", folder.display()));
        }
    }
    Ok(found)
}

/// A command of chromedriver's own.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }
    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

/// A browser with one window; ended with the handle.
pub(crate) struct Browser {
    driver: Child,
    client: Client,
    axe: PathBuf,
    _profile: tempfile::TempDir,
}

/// Colours that a person asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

impl Browser {
    pub(crate) async fn start(programs: &Programs) -> Result<Self, Failure> {
        let profile = tempfile::tempdir()?;
        let mut driver = Command::new(&programs.driver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = driver.stdout.take().ok_or("no output of chromedriver")?;
        let port = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(out).lines();
            let port = lines.find_map(|line| {
                let line = line.ok()?;
                let (_, rest) = line.split_once("successfully on port ")?;
                rest.trim_end_matches('.').parse::<u16>().ok()
            });
            // What it says later must not block it.
            std::thread::spawn(move || lines.for_each(drop));
            port
        });
        let port = match tokio::time::timeout(SOON, port).await {
            Ok(Ok(Some(port))) => port,
            _ => {
                let _ = driver.kill();
                return Err("chromedriver does not say where it listens".into());
            }
        };
        let folder = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--lang=en-GB",
            &folder,
        ];
        let capabilities = json!({
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": programs.chromium, "args": arguments},
        });
        let capabilities = capabilities.as_object().cloned().unwrap_or_default();
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await;
        match client {
            Ok(client) => Ok(Self { driver, client, axe: programs.axe.clone(), _profile: profile }),
            Err(error) => {
                let _ = driver.kill();
                Err(error.into())
            }
        }
    }

    async fn own(&self, path: &'static str, body: Value) -> Result<Value, Failure> {
        Ok(self.client.issue_cmd(Own { path, body }).await?)
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Result<Value, Failure> {
        self.own("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Opens a page and waits until it shows a state.
    pub(crate) async fn open(&self, url: &str) -> Result<(), Failure> {
        self.load(url).await?;
        self.until("the page to show a cycle", "document.documentElement.dataset.cycle > 0").await
    }

    /// Opens a page, whatever it shows.
    pub(crate) async fn load(&self, url: &str) -> Result<(), Failure> {
        Ok(self.client.goto(url).await?)
    }

    /// The value of an expression.
    pub(crate) async fn value(&self, expression: &str) -> Result<Value, Failure> {
        Ok(self.client.execute(&format!("return {expression};"), Vec::new()).await?)
    }

    /// A number; anything else fails.
    pub(crate) async fn number(&self, expression: &str) -> Result<f64, Failure> {
        let value = self.value(expression).await?;
        value.as_f64().ok_or_else(|| format!("{expression} is {value}").into())
    }

    /// Waits for an expression to be true.
    pub(crate) async fn until(&self, what: &str, expression: &str) -> Result<(), Failure> {
        let began = std::time::Instant::now();
        loop {
            let value = self.value(expression).await?;
            if value == true {
                return Ok(());
            }
            if began.elapsed() > SOON {
                let text = self.value("document.body.innerText.slice(0, 600)").await?;
                return Err(
                    format!("waited in vain for {what}: {expression} is {value}; {text}").into()
                );
            }
            // The browser is asked again; what is waited for is the condition.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Size of the window, and the colours that are asked for.
    pub(crate) async fn look(
        &self,
        width: u32,
        height: u32,
        scheme: Scheme,
    ) -> Result<(), Failure> {
        let mobile = width < 600;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await?;
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let media = json!({"features": [
            {"name": "prefers-color-scheme", "value": value},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        self.devtools("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// Presses a key as a person does: `Tab`, `Enter`, `ArrowDown`, `Escape`.
    pub(crate) async fn press(&self, key: &str) -> Result<(), Failure> {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            other => return Err(format!("what key is {other}?").into()),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.devtools("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// A picture: of the window, or of an element and what is around it.
    pub(crate) async fn picture(&self, of: Option<&str>) -> Result<Vec<u8>, Failure> {
        let mut parameters = json!({"format": "png"});
        if let Some(selector) = of {
            let place = format!(
                "(() => {{ const r = document.querySelector({selector:?}).getBoundingClientRect(); \
                 return {{ x: Math.max(0, r.x + scrollX - 12), y: Math.max(0, r.y + scrollY - 12), width: r.width + 24, height: r.height + 24, scale: 1 }}; }})()"
            );
            parameters["clip"] = self.value(&place).await?;
            parameters["captureBeyondViewport"] = true.into();
        }
        let picture = self.devtools("Page.captureScreenshot", parameters).await?;
        let text = picture["data"].as_str().ok_or("no picture")?;
        decode(text).ok_or_else(|| "the picture is not base64".into())
    }

    /// What the console has said since it was last asked, errors and warnings only.
    pub(crate) async fn complaints(&self) -> Result<Vec<String>, Failure> {
        let said = self.own("se/log", json!({"type": "browser"})).await?;
        let bad = |line: &&Value| line["level"] == "SEVERE" || line["level"] == "WARNING";
        let lines = said.as_array().into_iter().flatten().filter(bad);
        Ok(lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// What axe finds against WCAG 2.2 A and AA and good practice.
    pub(crate) async fn barriers(&self) -> Result<Vec<String>, Failure> {
        let source = std::fs::read_to_string(&self.axe)?;
        self.client.execute(&source, Vec::new()).await?;
        let run = "const done = arguments[arguments.length - 1]; \
             axe.run(document, { resultTypes: ['violations'] }).then( \
             (it) => done(it.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((n) => n.html + ' ' + (n.any[0]?.message ?? '')).join(' | ')}`)), \
             (error) => done(['axe: ' + error]));";
        let found = self.client.execute_async(run, Vec::new()).await?;
        let found = found.as_array().ok_or("axe says nothing")?;
        Ok(found.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Ends the session in order.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.client.clone().close().await?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its browser ends with it: asked by SIGTERM, it closes what it opened.
        let _ = Command::new("kill").arg(self.driver.id().to_string()).status();
        for _ in 0..50 {
            if matches!(self.driver.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Base64 as the protocol writes it.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = ALPHABET.iter().position(|one| *one == letter)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}
