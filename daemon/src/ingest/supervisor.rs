//! The life of a source: one session after the other until it is stopped, or a file is over.
//!
//! In: a [`Feed`]. Out: events in its queue. Runs on the source's own thread, so that no source waits for
//! another. A live source that fails is tried again for ever, with backoff.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::IngestError;
use super::backoff::Backoff;
use super::session::{self, Event, Feed, Outcome};

/// A session that gave frames for so long was a sound one: the next loss is tried again soon.
const STABLE: std::time::Duration = std::time::Duration::from_secs(10);

/// Runs until the feed is stopped or a file is over.
pub(super) fn run(feed: &Arc<Feed>) {
    feed.spec.watch.enter();
    if feed.location.is_live() {
        live(feed)
    } else {
        file(feed)
    }
    feed.spec.watch.leave();
}

fn live(feed: &Arc<Feed>) {
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        let report = session::run(feed);
        let error = match report.outcome {
            Outcome::Stopped => return,
            Outcome::Again => continue,
            Outcome::Ended => IngestError::EndedByServer { source_: feed.location.to_string() },
            Outcome::Failed(error) => error,
        };
        if report.delivered >= STABLE {
            backoff.reset();
        }
        let wait = backoff.next();
        feed.counters.update(|stats| {
            stats.connected = false;
            stats.last_error = Some(error.clone());
        });
        let text = error.to_string();
        if !feed.outage.swap(true, Ordering::AcqRel) {
            tracing::warn!(stream = %feed.spec.name, error = %text, retry_in = ?wait, "source lost");
            feed.queue.event(Event::Lost(error, wait));
        } else if text != said {
            tracing::warn!(stream = %feed.spec.name, error = %text, retry_in = ?wait, "source still lost");
        } else {
            tracing::debug!(stream = %feed.spec.name, error = %text, retry_in = ?wait, "source still lost");
        }
        said = text;
        if !feed.queue.wait_until(None, Instant::now() + wait) {
            return;
        }
    }
}

fn file(feed: &Arc<Feed>) {
    loop {
        let report = session::run(feed);
        let over = match report.outcome {
            Outcome::Stopped => return,
            Outcome::Again => continue,
            Outcome::Failed(error) => Err(error),
            Outcome::Ended if report.frames == 0 => Err(IngestError::NoFrames {
                source_: feed.location.to_string(),
                detail: format!("{} compressed packets were found", report.packets),
            }),
            Outcome::Ended if feed.spec.loop_ => {
                feed.counters.update(|stats| stats.loops += 1);
                continue;
            }
            Outcome::Ended => Ok(()),
        };
        feed.counters.update(|stats| {
            stats.connected = false;
            stats.last_error = over.as_ref().err().cloned();
        });
        feed.queue.event(over.map_or_else(Event::Failed, |()| Event::Ended));
        return;
    }
}
