//! Logging: to the journal with structured fields under systemd, else readable lines on standard error.
//!
//! In: `log.level`, and where standard error leads. Out: the process-wide subscriber of `tracing`, set once
//! by `main`; the level can be changed on a reload. The same line over and over is limited (`limit.rs`), what others say
//! arrives too (`foreign.rs`), and no line shows a secret that somebody knows to be one. A level that cannot be read is
//! an error that says what would be one.

mod foreign;
mod journal;
mod limit;

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use self::journal::Journal;
use self::limit::Limit;
use crate::telemetry::secrets;

/// The process has one log, and so one count of its lines.
static LIMIT: OnceLock<Limit> = OnceLock::new();

/// What can go wrong with logging.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `log.level` cannot be read.
    #[error(
        "log.level = \"{level}\": {problem}; expected error, warn, info, debug or trace, or directives such as info,watchpost::ingest=debug"
    )]
    Level {
        /// As configured.
        level: String,
        /// What is wrong.
        problem: String,
    },
    /// Somebody set up logging before.
    #[error("logging is set up already")]
    Twice,
}

/// Changes the level later.
#[derive(Debug, Clone)]
pub struct Logging(reload::Handle<EnvFilter, Registry>);

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let problem = |problem: String| Error::Level { level: level.to_owned(), problem };
    let filter = EnvFilter::builder().parse(level).map_err(|error| problem(error.to_string()))?;
    // A single word that is no level is taken for the name of a module, and would silence everything.
    let word = !level.is_empty() && level.chars().all(char::is_alphanumeric);
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    if level.trim().is_empty() || (word && !levels.contains(&level.to_ascii_lowercase().as_str())) {
        return Err(problem("this is no level".into()));
    }
    Ok(filter)
}

/// Whether this is a level that [`init`] would take.
///
/// # Errors
/// Where it is not.
pub fn check(level: &str) -> Result<(), Error> {
    filter(level).map(drop)
}

/// Sets up logging for the process.
///
/// # Errors
/// Where the level cannot be read, or logging is set up already.
pub fn init(level: &str) -> Result<Logging, Error> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let layer = match is_journal().then(Journal::system) {
        Some(Ok(journal)) => journal.boxed(),
        // Where the journal's own socket is missing the lines on standard error still arrive there.
        _ => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let color = std::io::stderr().is_terminal() && !plain;
            fmt::layer().with_writer(|| Clean).with_ansi(color).with_target(false).compact().boxed()
        }
    };
    let limit = LIMIT.get_or_init(Limit::default).clone();
    let all = tracing_subscriber::registry().with(filter).with(layer).with(limit);
    all.try_init().map_err(|_| Error::Twice)?;
    foreign::take_over();
    Ok(Logging(handle))
}

impl Logging {
    /// Changes the level.
    ///
    /// # Errors
    /// Where it cannot be read; the old one stays.
    pub fn set(&self, level: &str) -> Result<(), Error> {
        let filter = filter(level)?;
        let gone =
            |error: reload::Error| Error::Level { level: level.to_owned(), problem: error.to_string() };
        self.0.reload(filter).map_err(gone)
    }
}

/// Says how often lines were held back that came too often; with `all`, also of the minute that is not over yet. To be
/// called now and then, and at the end.
pub fn sum_up(all: bool) {
    if let Some(limit) = LIMIT.get() {
        limit.sum_up(all);
    }
}

/// Standard error, without secrets.
struct Clean;

impl Write for Clean {
    /// One whole line, as the layer writes it.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(secrets::scrub(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Whether standard error leads to the journal: systemd names its device and inode (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(found) = rustix::fs::fstat(std::io::stderr()) else { return false };
    named == format!("{}:{}", found.st_dev, found.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        for good in ["info", "WARN", "off", "info,watchpost::ingest=debug"] {
            check(good).unwrap();
        }
        for bad in ["", "loud", "info,watchpost::ingest=loud"] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains("log.level") && error.contains("expected"), "{bad}: {error}");
        }
    }
}
