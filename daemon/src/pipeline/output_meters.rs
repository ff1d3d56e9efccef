//! What an output did, as metrics: its own figures start over whenever it is opened anew, the metrics do not.
//!
//! In: the output's status, looked at twice a second. Out: counters and gauges. Owned by the stream's outputs.

use crate::encode::VideoOut;
use crate::telemetry::{Counter, Gauge, Registry, fields};

/// The metrics of one output.
pub(super) struct OutputMeters {
    frames: Total,
    dropped: Total,
    bytes: Total,
    waiting: Gauge,
    viewers: Gauge,
}

/// A counter that follows a figure which may start over.
struct Total {
    counter: Counter,
    last: u64,
}

impl Total {
    fn follow(&mut self, now: u64) {
        self.counter.add(if now < self.last { now } else { now - self.last });
        self.last = now;
    }
}

impl OutputMeters {
    pub(super) fn new(registry: &Registry, stream: &str, output: &str) -> Self {
        let labels = [(fields::STREAM, stream), (fields::OUTPUT, output)];
        let total = |counter| Total { counter, last: 0 };
        Self {
            frames: total(registry.counter("output_frames_total", &labels)),
            dropped: total(registry.counter("output_frames_dropped_total", &labels)),
            bytes: total(registry.counter("output_bytes_total", &labels)),
            waiting: registry.gauge("output_queue_pictures", &labels),
            viewers: registry.gauge("output_viewers", &labels),
        }
    }

    /// Brings them up to date.
    pub(super) fn show(&mut self, out: Option<&VideoOut>) {
        let (status, waiting) = (out.map(VideoOut::status), out.map_or(0, VideoOut::waiting));
        self.waiting.set(waiting as f64);
        self.viewers.set(status.as_ref().map_or(0, |status| status.clients) as f64);
        if let Some(status) = status {
            self.frames.follow(status.frames);
            self.dropped.follow(status.dropped);
            self.bytes.follow(status.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_starts_over_goes_on_counting() {
        let mut total = Total { counter: Counter::new(), last: 0 };
        for now in [3, 5, 5, 2, 4] {
            total.follow(now);
        }
        assert_eq!(total.counter.get(), 5 + 4);
    }
}
