//! Between the streams and the memory of crashes: who is told what, and in which words.
//!
//! In: verdicts and crashes of `service::crash`. Out: texts for the log and the status, which say what to do. Nothing
//! here fails.

use std::time::Duration;

use crate::publish::messages::Timestamp;
use crate::service::crash::{Crash, Quarantine, STRIKES, Watch};

impl crate::ingest::Watch for Watch {
    fn enter(&self) {
        Self::enter(self);
    }

    fn leave(&self) {
        Self::leave(self);
    }

    fn inside(&self) {
        Self::inside(self);
    }

    fn outside(&self) {
        Self::outside(self);
    }

    fn decoding(&self, decoder: &str) {
        Self::decoding(self, decoder);
    }

    fn packet(&self) {
        Self::packet(self);
    }

    fn idle(&self) {
        Self::idle(self);
    }
}

/// Says in the log how earlier lives of the daemon ended.
pub fn announce(crashes: &[Crash]) {
    for crash in crashes {
        let streams: Vec<&str> = crash.sources.iter().map(|source| source.stream.as_str()).collect();
        let blamed = match (streams.as_slice(), crash.certain) {
            ([], _) => "no stream's decoder is suspected".to_owned(),
            ([stream], true) => format!("in the decoder of stream {stream}"),
            (streams, _) => format!("at work, and suspected: the decoders of {}", streams.join(", ")),
        };
        tracing::error!("the daemon crashed before: {}; {blamed}", when(crash));
    }
}

/// Why a stream is not started, and what starts it.
pub(super) fn quarantined(stream: &str, source: &str, found: &Quarantine) -> String {
    let decoder = match found.culprit.decoder.as_str() {
        "" => "before it had a decoder".to_owned(),
        decoder => format!("in its decoder ({decoder})"),
    };
    let count = found.crashes.len();
    let blamed = if found.crashes.iter().all(|crash| crash.certain) {
        format!("crashed the daemon {count} times {decoder}")
    } else {
        format!(
            "is the one source at work {decoder} in each of the last {STRIKES} of {count} crashes of the daemon"
        )
    };
    let last: Vec<String> = found.crashes[count.saturating_sub(STRIKES)..].iter().map(when).collect();
    format!(
        "stream {stream} is quarantined: its source {source} {blamed}: {}{}. It is started again once its source is \
         changed in the configuration, or somebody turns it on: watchpost enable {stream}",
        if count > STRIKES { "... " } else { "" },
        last.join("; ")
    )
}

/// Why a stream starts late.
pub(super) fn apart(stream: &str, delay: Duration) -> String {
    format!(
        "stream {stream} starts in {:.0} s: its source is one of several that were at work in the last crashes of the \
         daemon; they start one after the other, so that the next crash shows which of them it is",
        delay.as_secs_f64()
    )
}

/// What deserves a look before it comes to a quarantine.
pub(super) fn warning(crashes: usize) -> String {
    format!("the daemon crashed {crashes} times while this source was decoded; see the log of its starts")
}

fn when(crash: &Crash) -> String {
    format!("{} at {} in thread {}", crash.signal_name(), Timestamp(crash.at), crash.thread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::crash::Culprit;

    #[test]
    fn the_text_names_stream_source_crashes_and_cure() {
        let culprit = Culprit { stream: "gate".into(), source: "ab".into(), decoder: "avdec_h264".into() };
        let crash = |at, certain| Crash {
            at,
            signal: libc::SIGSEGV,
            thread: "av:h264:df0".into(),
            certain,
            sources: vec![culprit.clone()],
        };
        let at = 1_795_300_681_482_000;
        let mut found = Quarantine { culprit: culprit.clone(), crashes: vec![crash(at, true); 3] };
        let text = quarantined("gate", "rtsp://***@cam/main", &found);
        for part in [
            "stream gate is quarantined",
            "rtsp://***@cam/main crashed the daemon 3 times in its decoder (avdec_h264)",
            "SIGSEGV at 2026-11-21T22:38:01.482Z in thread av:h264:df0",
            "watchpost enable gate",
        ] {
            assert!(text.contains(part), "{text}");
        }
        found.crashes[1] = crash(at, false);
        let text = quarantined("gate", "x", &found);
        assert!(
            text.contains("x is the one source at work in its decoder (avdec_h264) in each of the last 3"),
            "{text}"
        );
    }
}
