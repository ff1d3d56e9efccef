//! What the elements for the GPU say in GStreamer's log, and nowhere else.
//!
//! In: GStreamer's log, from the first [`Listening`] on. Out: the error that was logged since then. NVENC's elements answer
//! "not negotiated" on the bus when the driver refuses a session, whatever its reason; NVDEC's likewise: which call of the
//! driver failed, and how, is in the log (GStreamer 1.22 to 1.28). One function listens for as long as the process lives;
//! it is called for errors only, and keeps the last few. Where GStreamer was built without a log nothing is heard.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use gstreamer as gst;

/// Categories of the plugin `nvcodec` and of the CUDA library.
const CATEGORIES: [&str; 2] = ["nv", "cuda"];
/// Errors that are kept.
const KEPT: usize = 32;
/// Longest text that is kept.
const LONG: usize = 200;

/// The last errors, and how many there were before them.
#[derive(Default)]
struct Heard {
    before: usize,
    errors: VecDeque<String>,
}

static HEARD: OnceLock<Mutex<Heard>> = OnceLock::new();

/// A moment since which errors are heard.
#[derive(Debug)]
pub struct Listening {
    since: usize,
}

impl Listening {
    /// From now on. GStreamer must have been started.
    #[must_use]
    pub fn begin() -> Self {
        let heard = HEARD.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner);
        Self { since: heard.before + heard.errors.len() }
    }

    /// The error that says most: the first with a number, for that is the driver's; or else the first.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let heard = HEARD.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = heard.errors.iter().skip(self.since.saturating_sub(heard.before));
        let first = new.next()?;
        let numbered = |text: &&String| text.chars().any(|c| c.is_ascii_digit());
        Some(std::iter::once(first).chain(new).find(numbered).unwrap_or(first).clone())
    }

    /// A reason with the log's words before it, where the log has some that it lacks.
    #[must_use]
    pub fn explain(&self, reason: String) -> String {
        match self.error() {
            Some(error) if !reason.contains(&error) => format!("{error} ({reason})"),
            _ => reason,
        }
    }
}

/// Has GStreamer log errors of these categories, to us alone: whoever wants to read them sets `GST_DEBUG`.
fn start() -> Mutex<Heard> {
    if std::env::var_os("GST_DEBUG").is_none() {
        gst::log::remove_default_log_function();
        for category in CATEGORIES {
            gst::log::set_threshold_for_name(&format!("{category}*"), gst::DebugLevel::Error);
        }
    }
    gst::log::set_active(true);
    gst::log::add_log_function(|category, level, _, _, _, _, message| {
        let ours = CATEGORIES.iter().any(|start| category.name().starts_with(start));
        if let (gst::DebugLevel::Error, true, Some(text)) = (level, ours, message.get())
            && let Some(heard) = HEARD.get()
        {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.errors.push_back(text.trim().chars().take(LONG).collect());
            if heard.errors.len() > KEPT {
                heard.errors.pop_front();
                heard.before += 1;
            }
        }
    });
    Mutex::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(name: &str) -> gst::DebugCategory {
        gst::DebugCategory::new(name, gst::DebugColorFlags::empty(), None)
    }

    #[test]
    fn errors_of_the_elements_for_the_gpu_are_heard_and_no_others() {
        gst::init().unwrap();
        let early = Listening::begin();
        // Categories come with the plugin, which may be loaded later.
        let (ours, other) = (category("nvwords"), category("otherwords"));
        other.set_threshold(gst::DebugLevel::Error);
        gst::error!(other, "status 7");
        gst::warning!(ours, "status 8");
        assert_eq!(early.error(), None);
        assert_eq!(early.explain("not negotiated".into()), "not negotiated");
        gst::error!(ours, "Failed to open session");
        assert_eq!(early.error().unwrap(), "Failed to open session");
        gst::error!(ours, "status: out of memory (10)");
        assert_eq!(early.explain("not negotiated".into()), "status: out of memory (10) (not negotiated)");
        assert_eq!(early.explain("x: status: out of memory (10)".into()), "x: status: out of memory (10)");

        let late = Listening::begin();
        assert_eq!(late.error(), None);
        (0..100).for_each(|number| gst::error!(ours, "number {number}"));
        assert_eq!(late.error().unwrap(), "number 68", "only the last are kept");
    }
}
