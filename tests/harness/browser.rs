//! A real browser: Debian's Chromium, driven over WebDriver.
//!
//! In: addresses, keys, scripts. Out: what the page says, what the browser logged. It reaches this machine and nothing else:
//! no name is resolved. Owned by the test: closed and waited for when it is dropped. A machine without it fails with the
//! package's name.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::free_port;
use crate::http::{self, Reply};

/// How long the browser may take to start, and a page to come to a state.
const PATIENCE: Duration = Duration::from_secs(90);

/// The tabulator key.
pub const TAB: &str = "\u{e004}";
/// The enter key.
pub const ENTER: &str = "\u{e007}";
/// The escape key.
pub const ESCAPE: &str = "\u{e00c}";

/// A running browser with one window.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it.
    ///
    /// # Panics
    /// Where it is missing or does not start.
    #[must_use]
    pub fn start() -> Self {
        let port = free_port();
        let profile = tempfile::tempdir().unwrap();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", profile.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver cannot be run ({error}): install chromium-driver"));
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let until = Instant::now() + PATIENCE;
        while http::get(port, "/status").is_err() {
            assert!(Instant::now() < until, "chromedriver does not answer");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let profile = browser._profile.path().join("profile");
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--window-size=1280,900",
            // Without internet: nothing but addresses of this machine can be reached.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            format!("--user-data-dir={}", profile.display()),
        ]);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = browser.post("/session", &wanted);
        let session =
            made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}; install chromium"));
        browser.session = format!("/session/{session}");
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let reply: Reply = http::request(
            self.port,
            "POST",
            &format!("{}{path}", self.session),
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
        .unwrap();
        let mut answer = reply.json();
        assert_eq!(reply.status, 200, "{path}: {answer}");
        answer["value"].take()
    }

    /// Opens an address, and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What a script returns: the body of a function.
    #[must_use]
    pub fn script(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Runs a script for what it does.
    pub fn run(&self, body: &str) {
        let _ = self.script(body);
    }

    /// Waits until a script returns something true, and gives it.
    ///
    /// # Panics
    /// Where it does not within `PATIENCE`; with what the page shows.
    pub fn wait(&self, what: &str, body: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let value = self.script(body);
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return value;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what}; the page shows: {}",
                self.script("return document.body.innerText")
            );
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// Presses keys, one after the other.
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        self.post(
            "/actions",
            &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }),
        );
    }

    /// A screen of this size in CSS pixels, as a phone's.
    pub fn phone(&self, width: u32, height: u32) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": true }),
        );
    }

    /// A command of the browser's own protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    /// What was logged since the last look, from warnings on: `LEVEL text`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let line = |entry: &Value| {
            format!("{} {}", entry["level"].as_str().unwrap(), entry["message"].as_str().unwrap())
        };
        let lines = entries.as_array().into_iter().flatten().map(line);
        lines.filter(|line| !line.starts_with("INFO") && !line.starts_with("DEBUG")).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // The driver closes the browser with its session.
            let _ = http::request(self.port, "DELETE", &self.session, &[], b"");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
