//! What others say: panics of Rust code, and GStreamer's errors, as lines of the log like any other.
//!
//! In: the panic hook, GStreamer's log. Out: events of `tracing`. Set once, with logging; nothing fails. A panic is an
//! error, with the stream whose thread it was. GStreamer's errors are for who looks closer (`log.level =
//! "info,gstreamer=debug"`): what matters of them comes back as errors of a source or output, which say it themselves.
//! Where `GST_DEBUG` is set, somebody wants GStreamer's own log, and gets it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use gstreamer as gst;

/// From now on both go to the log.
pub(super) fn take_over() {
    std::panic::set_hook(Box::new(panicked));
    if std::env::var_os("GST_DEBUG").is_none() {
        gst::log::remove_default_log_function();
        gst::log::set_default_threshold(gst::DebugLevel::Error);
        gst::log::add_log_function(|category, _, _, _, _, object, message| {
            let element = object.map(ToString::to_string).unwrap_or_default();
            let text = message.get().map(|text| text.to_string()).unwrap_or_default();
            tracing::debug!(target: "gstreamer", category = category.name(), element, "{text}");
        });
    }
}

fn panicked(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("(no name)");
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(stream = stream(thread), thread, place, trace, "a bug: panicked: {text}");
}

/// The stream that a thread works for, by the thread's name.
fn stream(thread: &str) -> Option<&str> {
    ["stream ", "read "].iter().find_map(|kind| thread.strip_prefix(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_tell_their_stream() {
        assert_eq!(stream("stream entrance"), Some("entrance"));
        assert_eq!(stream("read entrance"), Some("entrance"));
        assert_eq!(stream("model people"), None);
    }
}
