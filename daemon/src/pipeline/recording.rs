//! What is recorded of one stream's incidents: a picture of the frame with which each begins, and a clip.
//!
//! In: frames on their way through delivery, and the events of their plugins. Out: orders to the recorder, and the paths
//! that the events name. Owned by the stream's delivery. Nothing here waits: a picture is rendered in the stream's lane, and
//! the recorder's thread does the rest. Fails as the lane does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lane::{Lane, LaneError};
use super::shot::Shot;
use super::worker::size_of;
use crate::flow::{Change, Event, Frame, Packets, Picture, StreamInfo};
use crate::plugins::RowOutput;
use crate::publish::messages::Edge;
use crate::record::{RecordHandle, remuxable};
use crate::render::Overlay;

/// Pixels across of a snapshot at most.
const WIDTH: u32 = 1920;

/// Records one stream.
pub(super) struct Recording<L: Lane> {
    stream: Arc<str>,
    record: RecordHandle,
    /// The source's packets, or why no clip is made of them.
    packets: Result<Arc<dyn Packets>, String>,
    shot: Shot<L>,
    /// Incidents under way of which something was to be recorded.
    open: BTreeMap<u64, Recorded>,
}

/// What was recorded of an incident.
#[derive(Default)]
struct Recorded {
    /// A picture was taken, also where it went nowhere.
    taken: bool,
    snapshot: Option<String>,
    /// A clip was tried.
    tried: bool,
    clip: Option<String>,
}

impl<L: Lane> Recording<L> {
    pub(super) fn new(
        stream: Arc<str>,
        record: RecordHandle,
        packets: Result<Arc<dyn Packets>, String>,
    ) -> Self {
        Self { stream, record, packets, shot: Shot::new("snapshot", WIDTH), open: BTreeMap::new() }
    }

    /// The source says what it is.
    pub(super) fn started(&mut self, info: &StreamInfo) {
        if let (Ok(_), Some(codec)) = (&self.packets, &info.codec)
            && !remuxable(&codec.0)
        {
            self.packets = Err(format!("MP4 cannot hold its {}", codec.0));
        }
    }

    /// Why no clips are recorded, where they are otherwise.
    pub(super) fn no_clips(&self) -> Option<&String> {
        self.packets.as_ref().err().filter(|_| self.record.makes_clips())
    }

    /// The picture that the events of this frame want, where one does.
    ///
    /// # Errors
    /// Where the lane cannot render it.
    pub(super) fn picture(
        &mut self,
        lane: &L,
        frame: &Frame<L::Pixels>,
        row: &RowOutput,
        overlay: impl FnOnce() -> Overlay,
    ) -> Result<Option<Picture>, LaneError> {
        let wanted = row.events.iter().map(|event| &event.event).any(|event| {
            event.change != Change::End
                && !self.open.get(&event.incident).is_some_and(|recorded| recorded.taken)
                && self.record.wish(&event.kind, event.severity).snapshot
        });
        if !wanted {
            return Ok(None);
        }
        self.shot.take(lane, &frame.pixels, size_of(frame), &overlay())
    }

    /// Records what an event at this stream time wants; gives back the paths of snapshot and clip. `picture`: of its frame.
    pub(super) fn event(
        &mut self,
        event: &Event,
        pts: u64,
        picture: Option<&Picture>,
    ) -> (Option<String>, Option<String>) {
        if event.change == Change::End {
            let recorded = self.open.remove(&event.incident).unwrap_or_default();
            if recorded.clip.is_some() {
                self.record.end(event.incident, pts);
            }
            return (recorded.snapshot, recorded.clip);
        }
        let wish = self.record.wish(&event.kind, event.severity);
        if !wish.snapshot && !wish.clip && !self.open.contains_key(&event.incident) {
            return (None, None);
        }
        let recorded = self.open.entry(event.incident).or_default();
        if let Some(picture) = picture.filter(|_| wish.snapshot && !recorded.taken) {
            recorded.taken = true;
            recorded.snapshot = self.record.snapshot(&self.stream, event.incident, picture);
        }
        if let Ok(packets) = &self.packets
            && wish.clip
            && !std::mem::replace(&mut recorded.tried, true)
        {
            recorded.clip = self.record.clip(&self.stream, event.incident, packets, pts);
        }
        (recorded.snapshot.clone(), recorded.clip.clone())
    }

    /// Lets go of what was not used lately.
    pub(super) fn rest(&mut self) {
        self.shot.rest();
    }

    /// What takes the pictures, while some are taken.
    pub(super) fn edge(&self, lane: &L) -> Option<Edge> {
        self.shot.edge(lane)
    }

    /// The stream stops.
    pub(super) fn stop(&self) {
        if self.packets.is_ok() {
            self.record.stopped(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Colorimetry, Matrix, Range, Severity, Size};
    use crate::pipeline::lane::Cpu;
    use crate::pipeline::lane::check::meta;
    use crate::record::Recorder;
    use crate::telemetry::Registry;

    struct NoPackets;

    impl Packets for NoPackets {
        fn since(&self, _: u64) -> crate::flow::Part {
            crate::flow::Part::default()
        }

        fn after(&self, _: u64) -> crate::flow::Part {
            crate::flow::Part::default()
        }
    }

    fn row(incident: u64, change: Change, severity: Severity) -> RowOutput {
        let event = Event {
            incident,
            kind: "violence".into(),
            change,
            severity,
            tracks: Vec::new(),
            region: None,
            score: 0.9,
            data: serde_json::Map::new(),
        };
        let (entry, plugin, version) = ("fights".into(), "violence-alert".into(), "1".into());
        let event = crate::plugins::PluginEvent { entry, plugin, version, event };
        RowOutput { events: vec![event], ..RowOutput::default() }
    }

    #[test]
    fn an_incident_has_one_picture_from_the_severity_on_and_names_it_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = crate::config::Settings::default();
        settings.paths.state = folder.path().to_owned();
        settings.record.min_free_bytes = 0;
        let recorder = Recorder::start(&settings, &Registry::new(), Box::new(|_, _| ())).unwrap();
        let packets: Arc<dyn Packets> = Arc::new(NoPackets);
        let mut recording = Recording::<Cpu>::new("entrance".into(), recorder.handle(), Ok(packets));
        let size = Size::new(64, 36);
        let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
        let pixels = Picture::nv12(size, color, vec![100; 64 * 36], vec![128; 64 * 18]);
        let frame = Frame { meta: meta(size), pixels };
        let mut step = |change, severity| {
            let row = row(7, change, severity);
            let picture = recording.picture(&Cpu, &frame, &row, Overlay::default).unwrap();
            (picture.is_some(), recording.event(&row.events[0].event, 0, picture.as_ref()))
        };
        let both = (Some("clips/entrance/7.jpg".to_owned()), Some("clips/entrance/7.mp4".to_owned()));
        assert_eq!(step(Change::Begin, Severity::Low), (false, (None, None)));
        assert_eq!(step(Change::Update, Severity::High), (true, both.clone()));
        assert_eq!(step(Change::Update, Severity::Critical), (false, both.clone()));
        assert_eq!(step(Change::End, Severity::High), (false, both));
        assert!(recording.open.is_empty());
        recording.stop();
        recorder.stop();
        assert!(folder.path().join("clips/entrance/7.jpg").is_file());
        assert!(!folder.path().join("clips/entrance/7.mp4").exists(), "no packets, no clip");
    }

    #[test]
    fn a_stream_says_why_it_has_no_clips() {
        let mut info = StreamInfo {
            size: Size::new(64, 36),
            rate: (25, 1),
            format: crate::flow::PixelFormat::Nv12,
            codec: Some(crate::flow::Codec("image/jpeg".into())),
            decoder: String::new(),
            on_gpu: false,
            live: true,
        };
        let folder = tempfile::tempdir().unwrap();
        let mut settings = crate::config::Settings::default();
        settings.paths.state = folder.path().to_owned();
        let recorder = Recorder::start(&settings, &Registry::new(), Box::new(|_, _| ())).unwrap();
        let packets: Arc<dyn Packets> = Arc::new(NoPackets);
        let mut recording = Recording::<Cpu>::new("s".into(), recorder.handle(), Ok(packets));
        assert_eq!(recording.no_clips(), None);
        info.codec = Some(crate::flow::Codec("video/x-h264".into()));
        recording.started(&info);
        assert_eq!(recording.no_clips(), None);
        info.codec = Some(crate::flow::Codec("image/jpeg".into()));
        recording.started(&info);
        assert_eq!(recording.no_clips().unwrap(), "MP4 cannot hold its image/jpeg");
        settings.record.clips = false;
        recorder.handle().configure(&settings);
        assert_eq!(recording.no_clips(), None, "nobody asked for clips");
    }
}
