//! Many streams on the CUDA lane as fast as they go, beside as many decoders alone and beside inference alone.
//!
//! In: a video, a model, a GPU, numbers of streams. Out: for each number frames a second of all streams, over the slower of
//! the two floors of the same run; CPU time and copies a frame. `watchpost gpu check` reports it. Owns what it opens. A
//! stream that fails is an error; nothing is asserted of the figures.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gstreamer as gst;
use gstreamer::prelude::*;
use serde::Serialize;

use super::backend::{Backend, Kind, Part};
use super::copies::Copies;
use super::cost::Clock;
use super::cpu::decode::Bare;
use super::cuda::CudaBackend;
use super::interrupt::Stop;
use super::subject::{Subject, SubjectArgs};
use super::whole::{Rig, healthy};
use crate::gpu::gst::CudaContext;
use crate::publish::messages::StreamState;

/// How often streams and pipelines are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long all streams may take to start, or to show a first frame.
const START: Duration = Duration::from_secs(120);
/// Frames of each stream that are waited for in any case.
const LEAST: u64 = 16;
/// Frames of the video's beginning that are looked at, to know what it is.
const FRAMES: u64 = 300;

/// What is to be measured.
pub struct Order<'a> {
    /// Index of the GPU.
    pub gpu: u32,
    /// `infer.library`.
    pub library: Option<&'a Path>,
    /// A video file.
    pub video: &'a Path,
    /// A model's folder.
    pub model: &'a Path,
    /// Frames in one run of the model at most.
    pub batch: usize,
    /// Seconds for each figure.
    pub seconds: f64,
}

/// What the floors are.
#[derive(Debug, Clone, Serialize)]
pub struct Floors {
    /// The element that decodes.
    pub decoder: String,
    /// Whether its pictures stay in video memory.
    pub decodes_on_gpu: bool,
    /// What infers.
    pub provider: String,
    /// Whether that is the GPU.
    pub infers_on_gpu: bool,
    /// Frames a second of inference alone.
    pub infer_fps: f64,
}

/// What so many streams did.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// How many.
    pub streams: usize,
    /// Frames a second, all together.
    pub fps: f64,
    /// CPU milliseconds a frame, over all threads.
    pub cpu_ms: f64,
    /// Copies between host and GPU a frame, by the lane's own counters.
    pub copies: Copies,
    /// Frames a second of as many decoders alone, all together.
    pub decode_fps: f64,
    /// CPU milliseconds a frame of theirs.
    pub decode_cpu_ms: f64,
    /// Frames a second over the slower one of decoding alone and inference alone.
    pub over_floor: f64,
}

/// Measures.
pub struct Throughput {
    subject: Subject,
    /// What the floors are.
    pub floors: Floors,
    context: Option<Arc<CudaContext>>,
    /// Frames a second of one decoder alone, in the midst of the video.
    decode_fps: f64,
    time: Duration,
    stop: Stop,
}

impl Throughput {
    /// Opens GPU and model, and measures inference alone.
    ///
    /// # Errors
    /// Where the video, the model or the GPU cannot be used.
    pub fn open(order: &Order<'_>) -> anyhow::Result<Self> {
        let stop = Stop::default();
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is no text");
        let args = SubjectArgs {
            video: text(order.video)?,
            model: text(order.model)?,
            threads: 0,
            batch: order.batch,
            sample: None,
            plugins: Vec::new(),
            encode: false,
            gpu: order.gpu,
            library: order.library.map(Path::to_owned),
            backends: vec![Kind::Cuda],
            json: false,
        };
        let subject = Subject::prepare(&args, |_| FRAMES, &stop)?;
        let time = Duration::from_secs_f64(order.seconds);
        let device = crate::gpu::Device::open(order.gpu)?;
        let mut backend = CudaBackend::open(&subject, &stop)?;
        let (decoder, decodes_on_gpu) = backend.decoder();
        let decoder = decoder.to_owned();
        let (provider, infers_on_gpu) = (backend.by(Part::Infer), backend.infers());
        let infer_fps = backend.floor(Part::Infer, time)?.figure().fps;
        let decode_fps = backend.floor(Part::Decode, time)?.figure().fps;
        drop(backend);
        let context = if decodes_on_gpu { Some(device.gstreamer()?) } else { None };
        let floors = Floors { decoder, decodes_on_gpu, provider, infers_on_gpu, infer_fps };
        Ok(Self { subject, floors, context, decode_fps, time, stop })
    }

    /// So many streams at once.
    ///
    /// # Errors
    /// Where a stream or a pipeline fails, or gives nothing.
    pub fn measure(&self, streams: usize) -> anyhow::Result<Row> {
        let (decode_fps, decode_cpu_ms) = self.decoders(streams).context("decoders alone")?;
        let mut rig = Rig::start(&self.subject, Kind::Cuda)?;
        let names: Vec<String> = (1..=streams).map(|stream| format!("s{stream:03}")).collect();
        let stream = self.subject.endless()?;
        rig.run(names.iter().map(|name| (name.clone(), stream.clone())).collect());
        let frames = || -> u64 { names.iter().map(|name| rig.counted("stream_frames_total", name)).sum() };
        let until = Instant::now() + START;
        loop {
            let reports = rig.report();
            reports.values().try_for_each(healthy)?;
            let running = reports.values().filter(|it| it.status.state == StreamState::Running).count();
            let shown = names.iter().filter(|name| rig.counted("stream_frames_total", name) > 0).count();
            if running == streams && shown == streams {
                break;
            }
            ensure!(Instant::now() < until, "{shown} of {streams} streams run after {} s", START.as_secs());
            self.stop.wait(LOOK)?;
        }
        let (clock, first, copied) = (Clock::start(), frames(), rig.copied());
        self.stop.wait(self.time)?;
        // A slow box: frames that are on their way would weigh too much.
        while frames() - first < LEAST * streams as u64 && clock.elapsed() < START {
            self.stop.wait(LOOK)?;
        }
        let cost = clock.stop(frames() - first);
        let copies = rig.copied().since(&copied, cost.frames);
        rig.report().values().try_for_each(healthy)?;
        ensure!(cost.frames > 0, "no frame within {:?}", self.time);
        let figure = cost.figure();
        let over_floor = figure.fps / decode_fps.min(self.floors.infer_fps);
        let (fps, cpu_ms) = (figure.fps, figure.cpu_ms);
        Ok(Row { streams, fps, cpu_ms, copies, decode_fps, decode_cpu_ms, over_floor })
    }

    /// So many decoders alone, over and over: frames a second and CPU milliseconds a frame.
    fn decoders(&self, count: usize) -> anyhow::Result<(f64, f64)> {
        let frames = Arc::new(AtomicU64::new(0));
        let bare =
            Bare { video: &self.subject.video, decoder: &self.floors.decoder, gpu: self.context.as_deref() };
        let (tell, told) = std::sync::mpsc::channel();
        let mut all = Vec::new();
        for index in 0..count {
            let (pipeline, pad) = bare.pipeline()?;
            let tell = tell.clone();
            // Told of at once: one that has ended and waits is no floor.
            pipeline.bus().context("no bus")?.set_sync_handler(move |_, message| {
                if matches!(message.type_(), gst::MessageType::Eos | gst::MessageType::Error) {
                    // Nobody is left who listens once it is over.
                    let _ = tell.send((index, message.clone()));
                }
                gst::BusSyncReply::Drop
            });
            let counted = Arc::clone(&frames);
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                counted.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
            all.push(Playing(pipeline));
        }
        for playing in &all {
            playing.0.set_state(gst::State::Playing)?;
        }
        // All of them are at work after as many frames as there are decoders, and a few more.
        let until = Instant::now() + START;
        let again = |wait: Duration| -> anyhow::Result<()> {
            self.stop.check()?;
            if let Ok((index, message)) = told.recv_timeout(wait) {
                all.get(index).map_or(Ok(()), |playing: &Playing| playing.again(&message))?;
            }
            Ok(())
        };
        while frames.load(Ordering::Relaxed) < 4 * count as u64 {
            ensure!(Instant::now() < until, "no frames after {} s", START.as_secs());
            again(LOOK)?;
        }
        let (clock, first) = (Clock::start(), frames.load(Ordering::Relaxed));
        while clock.elapsed() < self.time {
            again(LOOK.min(self.time.saturating_sub(clock.elapsed())))?;
        }
        let figure = clock.stop(frames.load(Ordering::Relaxed) - first).figure();
        // Each begins again at its end, which takes its time: together they are not slower than one that does not.
        Ok((figure.fps.max(self.decode_fps), figure.cpu_ms))
    }
}

/// A pipeline that plays.
struct Playing(gst::Pipeline);

impl Playing {
    /// Begins again at the end.
    fn again(&self, message: &gst::Message) -> anyhow::Result<()> {
        if let gst::MessageView::Error(error) = message.view() {
            bail!("{}", error.error());
        }
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        Ok(self.0.seek_simple(flags, gst::ClockTime::ZERO)?)
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // Going to NULL joins the pipeline's threads; it cannot be refused.
        let _ = self.0.set_state(gst::State::Null);
    }
}
