//! The outputs of one stream: which view each shows, what is drawn over it, where the picture goes.
//!
//! In: frames with their objects, views and shapes, in order. Out: pictures to the encoders, which run on threads of
//! their own and never hold a live stream back. Owned by the stream's delivery.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lane::{Lane, LaneError};
use super::output_meters::OutputMeters;
use super::overlay::{Banners, outline};
use crate::config::settings::VideoOutput;
use crate::encode::{OutputSpec, RtspHandle, Target, VideoOut};
use crate::flow::{Frame, Rect, Size, StreamInfo};
use crate::plugins::RowOutput;
use crate::publish::messages::{Edge, Labels, OutputState, OutputStatus};
use crate::render::Overlay;
use crate::telemetry::Registry;
use crate::telemetry::progress::Progress;

/// A view's size where the configuration names none.
const VIEW_SIZE: Size = Size::new(1280, 720);

struct Output<L: Lane> {
    name: String,
    settings: VideoOutput,
    /// Made when the source's size and rate are known.
    out: Option<VideoOut>,
    render: Option<L::Render>,
    /// Its encoder takes pictures in video memory.
    on_gpu: bool,
    error: Option<String>,
    meters: OutputMeters,
}

/// The outputs of one stream.
pub(super) struct Outputs<L: Lane> {
    stream: Arc<str>,
    outputs: Vec<Output<L>>,
    server: RtspHandle,
    /// Where the outputs' workers are watched.
    progress: Progress,
    /// Where each virtual camera looks: holds until its plugin says otherwise.
    views: BTreeMap<String, Rect>,
    banners: Banners,
    info: Option<StreamInfo>,
}

impl<L: Lane> Outputs<L> {
    pub(super) fn new(
        stream: Arc<str>,
        outputs: &BTreeMap<String, VideoOutput>,
        server: RtspHandle,
        registry: &Registry,
    ) -> Self {
        let outputs = outputs
            .iter()
            .map(|(name, settings)| Output {
                name: name.clone(),
                settings: settings.clone(),
                out: None,
                render: None,
                on_gpu: false,
                error: None,
                meters: OutputMeters::new(registry, &stream, name),
            })
            .collect();
        Self {
            banners: Banners::new(),
            stream,
            outputs,
            server,
            progress: registry.progress().clone(),
            views: BTreeMap::new(),
            info: None,
        }
    }

    /// The source's size and rate are known. Encoders that run stay: a reconnected source changes neither.
    pub(super) fn started(&mut self, info: &StreamInfo) {
        let resized = self.info.as_ref().is_some_and(|old| old.size != info.size);
        self.info = Some(info.clone());
        if resized {
            self.resized(info.size);
        }
    }

    /// Frames have another size: outputs that follow the source's size start anew.
    pub(super) fn resized(&mut self, size: Size) {
        if let Some(info) = &mut self.info {
            info.size = size;
        }
        self.views.clear();
        for output in &mut self.outputs {
            if output.settings.size.is_none() && output.settings.view.is_none() {
                output.render = None;
                if let Some(out) = output.out.take() {
                    out.stop();
                }
            }
        }
    }

    /// Notes what the plugins said of the frame at `pts`: incidents, and where virtual cameras look.
    pub(super) fn take(&mut self, row: &RowOutput, pts: u64) {
        self.banners.take(row, pts);
        for (entry, view) in &row.views {
            self.views.insert(format!("{entry}/{}", view.camera), view.bounds);
        }
    }

    /// What is drawn over this frame.
    pub(super) fn overlay(&self, row: &RowOutput, labels: &[Labels]) -> Overlay {
        self.banners.overlay(&self.stream, row, labels)
    }

    /// The same, and what each virtual camera shows.
    pub(super) fn overlay_with_views(&self, row: &RowOutput, labels: &[Labels]) -> Overlay {
        let mut overlay = self.overlay(row, labels);
        overlay.shapes.extend(self.views.iter().flat_map(|(camera, bounds)| outline(camera, *bounds)));
        overlay
    }

    /// Renders and encodes one frame for every output.
    /// [`Self::take`] has seen what the plugins said of it.
    ///
    /// # Errors
    /// Where the lane cannot render it.
    pub(super) fn push(
        &mut self,
        lane: &L,
        frame: &Frame<L::Pixels>,
        size: Size,
        row: &RowOutput,
        labels: &[Labels],
    ) -> Result<(), LaneError> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        let overlay =
            self.outputs.iter().any(|output| output.settings.overlay).then(|| self.overlay(row, labels));
        let Some(info) = &self.info else { return Ok(()) };
        for output in &mut self.outputs {
            if output.out.is_none() && output.error.is_none() {
                open(lane, &self.stream, output, info, size, &self.server);
                if let Some(out) = &output.out {
                    self.progress.add(out.pulse());
                }
            }
            let (Some(out), Some(render)) = (&output.out, &mut output.render) else { continue };
            if !out.wanted() {
                out.skip();
                continue;
            }
            let view = output.settings.view.as_ref().and_then(|view| self.views.get(view)).copied();
            let view = view.unwrap_or_else(|| Rect::of_size(size));
            let overlay = overlay.as_ref().filter(|_| output.settings.overlay);
            match lane.render(render, &frame.pixels, view, overlay)? {
                Some(picture) => out.push(picture, frame.meta.pts),
                None => out.skip(),
            }
        }
        Ok(())
    }

    /// Brings the metrics up to date.
    pub(super) fn meter(&mut self) {
        for output in &mut self.outputs {
            output.meters.show(output.out.as_ref());
        }
    }

    /// What each output does.
    pub(super) fn status(&self) -> Vec<OutputStatus> {
        self.outputs
            .iter()
            .map(|output| match &output.out {
                Some(out) => {
                    let status = out.status();
                    OutputStatus {
                        name: output.name.clone(),
                        state: state(status.state),
                        address: status.location,
                        error: status.error,
                    }
                }
                None => OutputStatus {
                    name: output.name.clone(),
                    state: if output.error.is_some() { OutputState::Failed } else { OutputState::Starting },
                    address: String::new(),
                    error: output.error.clone(),
                },
            })
            .collect()
    }

    /// Pictures encoded, and those dropped because an output was away or too slow, over all outputs.
    pub(super) fn counts(&self) -> (u64, u64) {
        let all = self.outputs.iter().filter_map(|output| output.out.as_ref()).map(VideoOut::status);
        all.fold((0, 0), |(encoded, not), it| (encoded + it.frames, not + it.dropped))
    }

    /// Encoders, as edges of the lane.
    pub(super) fn edges(&self, lane: &L) -> Vec<Edge> {
        self.outputs
            .iter()
            .filter_map(|output| Some((&output.name, output.out.as_ref()?.status(), output.on_gpu)))
            .map(|(name, status, on_gpu)| lane.encode_edge(name, &status.encoder, on_gpu))
            .collect()
    }

    /// Finalises every output, all at once: each may take a while.
    pub(super) fn stop(&mut self) {
        for out in self.outputs.iter().filter_map(|output| output.out.as_ref()) {
            out.ask_to_stop();
        }
        for output in &mut self.outputs {
            if let Some(out) = output.out.take() {
                out.stop();
            }
        }
    }
}

fn open<L: Lane>(
    lane: &L,
    stream: &Arc<str>,
    output: &mut Output<L>,
    info: &StreamInfo,
    frame: Size,
    server: &RtspHandle,
) {
    let settings = &output.settings;
    let default = if settings.view.is_some() { VIEW_SIZE } else { even(frame) };
    let size = settings.size.unwrap_or(default);
    let target = match (&settings.to, &settings.file) {
        (Some(url), _) => Target::Rtmp { url: url.clone() },
        (None, Some(path)) => Target::Mp4 { path: path.clone() },
        (None, None) => Target::Rtsp { server: server.clone(), mount: format!("{stream}/{}", output.name) },
    };
    let mut spec = OutputSpec {
        stream: stream.to_string(),
        name: output.name.clone(),
        target,
        size,
        rate: info.rate,
        codec: settings.codec,
        bitrate: settings.bitrate.map(|bitrate| bitrate.0),
        keyframe_seconds: settings.keyframe_seconds,
        realtime: info.live,
        gpu: None,
    };
    lane.encode_here(&mut spec);
    match VideoOut::open(spec) {
        Ok(out) => {
            output.on_gpu = out.prefers_gpu();
            output.render = Some(lane.renderer(size, output.on_gpu));
            output.out = Some(out);
        }
        Err(error) => {
            tracing::error!(stream = %stream, output = %output.name, %error, "the output cannot be opened");
            output.error = Some(error.to_string());
        }
    }
}

fn state(state: crate::encode::OutputState) -> OutputState {
    use crate::encode::OutputState as Out;
    match state {
        Out::Idle | Out::Running => OutputState::Running,
        Out::Connecting => OutputState::Starting,
        Out::Retrying => OutputState::Down,
        Out::Stopped => OutputState::Failed,
    }
}

/// x264 and players want even sizes.
fn even(size: Size) -> Size {
    Size::new((size.width & !1).max(32), (size.height & !1).max(32))
}
