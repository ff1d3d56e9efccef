//! How far long work has come: a bar on a terminal, a line for each file elsewhere.
//!
//! In: names and bytes. Out: text on stderr. Nothing fails.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes; without a terminal, the line `what` alone.
#[must_use]
pub fn bar(what: &str, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let template = "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if bar.is_hidden() {
        eprintln!("{what}");
    }
    bar.set_message(what.to_owned());
    bar
}

/// Bytes for people, such as `1.35 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
