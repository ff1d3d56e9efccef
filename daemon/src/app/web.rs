//! The daemon as the HTTP room sees it: its pulse, its status, its pictures, its incidents.
//!
//! In: what the daemon shares. Out: answers to `http::Source`; each event, as a step of an incident on the page. Owned by
//! the daemon. Nothing here fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::Core;
use crate::http::{NoPicture, Page, Picture, Source, Step};
use crate::publish::PublishHandle;

/// The control loop goes round four times a second; so long without, it is taken to hang.
const LONGEST: Duration = Duration::from_secs(10);

/// When the control loop last went round.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// The control loop has gone round.
    pub(super) fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn since(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// The daemon, for the HTTP room.
pub(super) struct Web(pub(super) Arc<Core>);

impl Source for Web {
    fn alive(&self) -> Result<(), String> {
        let since = self.0.pulse.since();
        if since < LONGEST {
            return Ok(());
        }
        Err(format!("the control loop has not gone round for {} s", since.as_secs()))
    }

    fn status(&self) -> Value {
        super::handler::status_of(&self.0)
    }

    fn thumbnail(&self, stream: &str) -> Result<Picture, NoPicture> {
        if !self.0.settings().streams.contains_key(stream) {
            return Err(NoPicture::Unknown);
        }
        let picture = self.0.supervisor.thumbnail(stream).map_err(NoPicture::NotNow)?;
        Ok(Picture { frame: picture.frame, captured: picture.captured, jpeg: picture.jpeg })
    }
}

/// Shows each event on the page, from here on.
pub(super) fn show_events(publish: &PublishHandle, page: &Page) {
    let page = page.clone();
    publish.observe(move |record| {
        page.event(Step {
            stream: Arc::clone(&record.stream),
            plugin: Arc::clone(&record.plugin),
            entry: Arc::clone(&record.entry),
            event: record.event.clone(),
            captured: record.captured,
            reason: record.reason.clone(),
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pulse_is_of_the_last_beat() {
        let pulse = Pulse(Mutex::new(Instant::now().checked_sub(LONGEST * 2).unwrap()));
        assert!(pulse.since() > LONGEST);
        pulse.beat();
        assert!(pulse.since() < LONGEST);
    }
}
