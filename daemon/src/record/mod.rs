//! Room `record`: pictures and clips of incidents, on disk and bounded.
//!
//! In: rendered pictures and a source's packets, from the streams' workers by a [`RecordHandle`], which never blocks. Out:
//! `clips/<stream>/<incident>.jpg` and `.mp4` below the state folder; the newest picture of a stream for whoever publishes
//! it; a [`RecordStatus`]. `app` owns the [`Recorder`], which owns one writer thread and ends it.
//!
//! When it fails: a disk that is full or refuses stops the recording, said once, in status and metrics; the writer looks
//! whether there is room again, and goes on by itself. Alerts go on all the while, without pictures. What nobody can record
//! is counted. A file has its final name only once it is whole and on the disk.

mod clip;
mod handle;
mod jpeg;
mod mux;
mod status;
mod store;
mod timing;
mod writer;

pub use handle::{RecordHandle, Wish};
pub use jpeg::{JpegError, jpeg};
pub use mux::remuxable;
pub use status::{RecordState, RecordStatus};
pub use writer::{Recorder, ShowSnapshot};

use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::config::settings::Record;
use crate::flow::Severity;

/// What is recorded, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    settings: Record,
    /// The folder of all recordings.
    root: PathBuf,
    /// The newest picture is shown elsewhere too, whatever the disk does.
    shown: bool,
}

impl Rules {
    /// As the settings say.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        // Home Assistant shows the pictures too.
        let wanted = settings.mqtt.snapshots || settings.homeassistant.enabled;
        let shown = wanted && settings.mqtt.url != "off";
        Self { settings: settings.record.clone(), root: folder(&settings.paths.state), shown }
    }

    /// Nothing is recorded.
    fn off() -> Self {
        let settings = Record { snapshots: false, clips: false, ..Record::default() };
        Self { settings, root: PathBuf::new(), shown: false }
    }

    fn is_off(&self) -> bool {
        !self.settings.snapshots && !self.settings.clips
    }

    /// Whether an incident is worth it.
    fn matches(&self, kind: &str, severity: Severity) -> bool {
        let kinds = &self.settings.kinds;
        severity >= self.settings.severity && (kinds.is_empty() || kinds.iter().any(|known| known == kind))
    }
}

/// Where recordings lie: `<state>/clips`.
fn folder(state: &Path) -> PathBuf {
    state.join("clips")
}
