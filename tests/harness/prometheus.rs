//! A real Prometheus that scrapes one target every second, and promtool.
//!
//! In: the target's port. Out: answers to queries. Owned by the test: killed and waited for when it is dropped. A machine
//! without it fails with the package's name.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::free_port;
use crate::http;

/// How long it may take to start, and to have scraped.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running Prometheus.
pub struct Prometheus {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts it, to scrape `127.0.0.1:target/metrics`.
    ///
    /// # Panics
    /// Where it is missing or does not start.
    #[must_use]
    pub fn start(target: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: watchpost\n    \
             static_configs:\n      - targets: [\"127.0.0.1:{target}\"]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus cannot be run ({error}): install prometheus"));
        let prometheus = Self { child, port, _folder: folder };
        let until = Instant::now() + PATIENCE;
        while !http::get(port, "/-/ready").is_ok_and(|reply| reply.status == 200) {
            assert!(Instant::now() < until, "Prometheus does not start");
            std::thread::park_timeout(Duration::from_millis(100));
        }
        prometheus
    }

    /// What an expression gives now, or what is wrong with it.
    ///
    /// # Errors
    /// Prometheus' own words.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let reply = http::get(self.port, &format!("/api/v1/query?query={escaped}")).unwrap().json();
        match reply["data"]["result"].as_array() {
            Some(result) => Ok(result.clone()),
            None => Err(reply["error"].to_string()),
        }
    }

    /// The number of a result.
    #[must_use]
    pub fn number(result: &Value) -> f64 {
        result["value"][1].as_str().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
    }

    /// Waits until a query has a result that is `right`.
    ///
    /// # Panics
    /// Where it does not within `PATIENCE`.
    pub fn wait(&self, expression: &str, right: impl Fn(&[Value]) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let result = self.query(expression).unwrap();
            if right(&result) {
                return;
            }
            let target = || {
                http::get(self.port, "/api/v1/targets").unwrap().json()["data"]["activeTargets"][0]
                    .to_string()
            };
            assert!(Instant::now() < until, "{expression} gives {result:?}; the target: {}", target());
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `promtool check metrics` finds wrong with a text of metrics; empty: nothing.
///
/// # Panics
/// Where it cannot be run.
#[must_use]
pub fn lint(metrics: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool cannot be run ({error}): install prometheus"));
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.is_empty() && !output.status.success() { format!("{:?}", output.status) } else { said }
}
