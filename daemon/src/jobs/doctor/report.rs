//! Prints what the doctor found.
//!
//! In: findings. Out: a line each as they come, for people; or one JSON document at the end. Where nobody reads any
//! more, nothing is printed any more.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use serde_json::json;

use super::finding::{Finding, Verdict};

/// Collects and prints.
pub(super) struct Report {
    findings: Vec<Finding>,
    json: bool,
    color: bool,
    read: bool,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { findings: Vec::new(), json, color, read: true }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if !self.json {
            let text = line(&finding, self.color);
            self.print(&text);
        }
        self.findings.push(finding);
    }

    pub(super) fn extend(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.add(finding);
        }
    }

    /// Whether something works.
    pub(super) fn has(&self, what: &str) -> bool {
        self.findings.iter().any(|finding| finding.what == what && finding.verdict == Verdict::Good)
    }

    /// Whether the configured streams can run.
    pub(super) fn can_run(&self) -> bool {
        !self.findings.iter().any(|finding| finding.verdict == Verdict::Wrong)
    }

    /// Those streams that cannot run.
    pub(super) fn stopped<'a>(&self, streams: &'a [String]) -> Vec<&'a str> {
        streams.iter().filter(|name| !self.stopped_by(name).is_empty()).map(String::as_str).collect()
    }

    /// What keeps a stream from running. What is wrong and names no stream keeps all of them.
    fn stopped_by(&self, stream: &str) -> Vec<String> {
        let stops =
            |finding: &&Finding| finding.stops.is_empty() || finding.stops.iter().any(|it| it == stream);
        let wrong = self.findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).filter(stops);
        let mut by: Vec<String> = wrong.map(|finding| finding.what.clone()).collect();
        by.dedup();
        by
    }

    /// Says of each stream whether it can run, and ends the report.
    pub(super) fn finish(&mut self, streams: &[String]) {
        let verdicts: Vec<_> = streams.iter().map(|name| (name.clone(), self.stopped_by(name))).collect();
        if self.json {
            let streams: BTreeMap<_, _> = verdicts
                .iter()
                .map(|(name, by)| (name, json!({ "can_run": by.is_empty(), "stopped_by": by })))
                .collect();
            let document = json!({
                "schema": "watchpost.doctor/1",
                "version": env!("CARGO_PKG_VERSION"),
                "can_run": self.can_run(),
                "streams": streams,
                "findings": self.findings,
            });
            self.print(&format!("{document}"));
            return;
        }
        for (name, by) in verdicts {
            let finding = if by.is_empty() {
                Finding::good("stream", format!("{name}: can run"))
            } else {
                let why = format!("{name}: cannot run");
                Finding::wrong("stream", why, format!("mend what is wrong above: {}", by.join(", ")), &[name])
            };
            self.print(&line(&finding, self.color));
        }
    }

    fn print(&mut self, text: &str) {
        if self.read {
            let mut out = std::io::stdout().lock();
            self.read = writeln!(out, "{text}").and_then(|()| out.flush()).is_ok();
        }
    }
}

/// One line: verdict, what, what was found, what to do.
fn line(finding: &Finding, color: bool) -> String {
    let (word, number) = match finding.verdict {
        Verdict::Good => ("ok", 32),
        Verdict::Limited => ("limited", 33),
        Verdict::Wrong => ("WRONG", 31),
        Verdict::Untried => ("untried", 36),
    };
    let word = if color { format!("\x1b[{number}m{word:8}\x1b[0m") } else { format!("{word:8}") };
    let fix = finding.fix.as_ref().map(|fix| format!("  -> {fix}")).unwrap_or_default();
    format!("{word} {:14} {}{fix}", finding.what, finding.found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each_and_what_is_wrong_decides() {
        let mut report = Report { findings: Vec::new(), json: true, color: false, read: true };
        report.add(Finding::limited("GPU driver", "none:\n  no library", "install it"));
        assert!(report.can_run() && !report.has("GPU driver"));
        assert_eq!(
            line(&report.findings[0], false),
            "limited  GPU driver     none: no library  -> install it"
        );
        report.add(Finding::needed("model", "nobody uses it", "x", &[]));
        assert!(report.can_run());
        report.add(Finding::wrong("model", "gone", "put it back", &["yard".to_owned()]));
        assert!(!report.can_run());
        assert_eq!(report.stopped_by("yard"), ["model"]);
        assert!(report.stopped_by("gate").is_empty());
        assert_eq!(report.stopped(&["gate".to_owned(), "yard".to_owned()]), ["yard"]);
        report.add(Finding::wrong("configuration", "line 3", "mend it", &[]));
        assert_eq!(report.stopped_by("gate"), ["configuration"]);
    }
}
