//! A trace's lines, one by one.
//!
//! In: a file. Out: its first line, then an iterator over the others, each with its number; what is no line of a trace is
//! named and left out, and one that is cut off at the end too. How far it has come is on a bar.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::pipeline::trace::lines::{Header, Line, SCHEMA};

/// Larger traces have a bar.
const LARGE: u64 = 8 << 20;
/// Bad lines that are named one by one.
const NAMED: u64 = 5;

/// The lines behind the first one.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    buffer: Vec<u8>,
    number: u64,
    bar: ProgressBar,
    /// Lines that were left out.
    pub bad: u64,
}

/// Opens a trace and reads its first line.
pub(super) fn open(path: &Path) -> anyhow::Result<(Header, Lines)> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("the trace {name} cannot be read"))?;
    let size = file.metadata().with_context(|| format!("the trace {name} cannot be read"))?.len();
    let bar = if size > LARGE { ProgressBar::new(size) } else { ProgressBar::hidden() };
    if let Ok(style) =
        ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    let mut lines = Lines {
        path: path.to_owned(),
        reader: BufReader::new(file),
        buffer: Vec::new(),
        number: 0,
        bar,
        bad: 0,
    };
    let first = lines.text().with_context(|| format!("the trace {name} cannot be read"))?;
    let first = first.with_context(|| format!("the trace {name} is empty"))?;
    let value: Value = serde_json::from_str(&first).with_context(|| format!("{name}:1: this is no trace"))?;
    match value["schema"].as_str() {
        Some(SCHEMA) => {}
        Some(other) if other.starts_with("watchpost.trace/") => {
            bail!("{name}:1: this trace is {other}, replayed is {SCHEMA}; record it again");
        }
        _ => bail!("{name}:1: this is no trace: its first line has no schema {SCHEMA}"),
    }
    let header =
        serde_json::from_value(value).with_context(|| format!("{name}:1: the head of the trace is wrong"))?;
    Ok((header, lines))
}

impl Lines {
    /// The next line that is one, with its number; `None` at the end.
    ///
    /// # Errors
    /// Where the file cannot be read, or holds nothing but lines that are none.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(u64, Line)>> {
        loop {
            let text = self.text();
            let text = text.with_context(|| format!("the trace {} cannot be read", self.path.display()))?;
            let Some(text) = text else { break };
            let whole = text.ends_with('\n');
            match Line::parse(&text) {
                Ok(line) => return Ok(Some((self.number, line))),
                Err(_) if text.trim().is_empty() => {}
                Err(error) => {
                    self.bad += 1;
                    if !whole {
                        self.say(&format!(
                            "{}:{}: the trace is cut off in this line",
                            self.path.display(),
                            self.number
                        ));
                    } else if self.bad <= NAMED {
                        let text = format!(
                            "{}:{}: left out, no line of a trace: {error}",
                            self.path.display(),
                            self.number
                        );
                        self.say(&text);
                    }
                }
            }
        }
        self.bar.finish_and_clear();
        ensure!(self.number > self.bad, "the trace {} holds no line that is whole", self.path.display());
        Ok(None)
    }

    /// Prints beside the bar.
    pub(super) fn beside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// The next line as it stands there, with its end.
    fn text(&mut self) -> std::io::Result<Option<String>> {
        self.buffer.clear();
        let read = self.reader.read_until(b'\n', &mut self.buffer)?;
        self.number += 1;
        self.bar.inc(read as u64);
        Ok((read > 0).then(|| String::from_utf8_lossy(&self.buffer).into_owned()))
    }
}
