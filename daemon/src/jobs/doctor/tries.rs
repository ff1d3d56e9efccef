//! Trying things that may take the process along: the side of the process that tries.
//!
//! In: what to try, one thing after another. Out: a line of JSON on standard output before each, and for each finding.
//! The doctor reads them: where the process dies, it knows of what, and starts another that begins with the next.

use std::io::Write as _;

use serde::{Deserialize, Serialize};

use super::finding::Finding;

/// What is about to be tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Try {
    /// How many were tried before it in this part.
    pub number: usize,
    /// As in [`Finding::what`].
    pub what: String,
    /// What exactly.
    pub name: String,
    /// Streams that cannot run where it takes the process along.
    pub stops: Vec<String>,
    /// Whether the rest of the part needs it.
    pub vital: bool,
}

/// A line from the process that tries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// It tries this now.
    Try(Try),
    /// It found this.
    Found(Finding),
    /// It has tried everything. What happens to it from here on is of no interest.
    End,
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// It was tried now.
    Now,
    /// It was tried by a process before this one, and that went on.
    Before,
    /// It took the process before this one along.
    Badly,
}

/// Tries one thing after another.
pub(super) struct Tries {
    from: usize,
    next: usize,
}

impl Tries {
    /// Passes over the first so many.
    pub(super) fn from(from: usize) -> Self {
        Self { from, next: 0 }
    }

    /// Tries something. `stops`: streams that cannot run if it crashes.
    pub(super) fn one(
        &mut self,
        what: &str,
        name: &str,
        stops: &[String],
        it: impl FnOnce() -> Vec<Finding>,
    ) -> Went {
        self.go(what, name, stops, false, it)
    }

    /// Tries something without which nothing after it needs to be tried.
    pub(super) fn vital(
        &mut self,
        what: &str,
        name: &str,
        stops: &[String],
        it: impl FnOnce() -> Vec<Finding>,
    ) -> Went {
        self.go(what, name, stops, true, it)
    }

    fn go(
        &mut self,
        what: &str,
        name: &str,
        stops: &[String],
        vital: bool,
        it: impl FnOnce() -> Vec<Finding>,
    ) -> Went {
        let number = self.next;
        self.next += 1;
        if number < self.from {
            // The one right before is why there is this process.
            return if number + 1 == self.from { Went::Badly } else { Went::Before };
        }
        let (what, name, stops) = (what.to_owned(), name.to_owned(), stops.to_vec());
        say(&Line::Try(Try { number, what, name, stops, vital }));
        for finding in it() {
            say(&Line::Found(finding));
        }
        Went::Now
    }

    /// Everything was tried.
    pub(super) fn end(self) {
        say(&Line::End);
    }
}

/// Says a line. Where nobody listens any more, this process is about to be killed.
fn say(line: &Line) {
    let Ok(text) = serde_json::to_string(line) else { return };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// What a process that died says of what it tried.
pub(super) fn died(tried: &Try, how: &str, fix: &str) -> Finding {
    let found = format!("{}: the process that tried it {how}", tried.name);
    Finding::needed(&tried.what, found, fix, &tried.stops)
}
