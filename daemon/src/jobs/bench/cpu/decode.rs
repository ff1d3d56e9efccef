//! Decoding alone: by the daemon's source, and by a GStreamer pipeline that throws the pictures away.
//!
//! In: a video. Out: what a frame costs. The floor's decoder is the one that the source takes, set as the source sets it,
//! and its pictures are not copied. Pipelines are stopped before this returns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use gstreamer as gst;
use gstreamer::prelude::*;

use crate::gpu::gst::{CudaContext, FEATURE};
use crate::ingest::{Next, Source, SourceSpec};
use crate::jobs::bench::cost::{Cost, Marks, Window, passes};
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::video::{LOOK, Video};

/// A pipeline that gives no frame for so long is given up.
const PATIENCE: u32 = 300;

/// The daemon's source, which nothing follows.
pub(super) fn part(video: &Video, window: Window, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
    let uri = video.path.to_str().context("a path that is no text")?;
    passes(time, stop, || {
        let mut source = Source::start(SourceSpec::new("bench", uri))?;
        let mut marks = Marks::new(window);
        loop {
            stop.check()?;
            match source.next(LOOK) {
                Next::Frame(_) if marks.frame() => break,
                Next::Ended => break,
                Next::Failed(error) => return Err(error.into()),
                _ => {}
            }
        }
        source.stop();
        marks.cost()
    })
}

/// A decoder with nothing around it.
#[derive(Clone, Copy)]
pub(in crate::jobs::bench) struct Bare<'a> {
    pub(in crate::jobs::bench) video: &'a Video,
    /// The element.
    pub(in crate::jobs::bench) decoder: &'a str,
    /// The GPU in whose memory its pictures stay; none where it has them in the host's.
    pub(in crate::jobs::bench) gpu: Option<&'a CudaContext>,
}

/// GStreamer alone.
pub(super) fn floor(video: &Video, window: Window, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
    Bare { video, decoder: &video.decoder, gpu: None }.floor(window, time, stop)
}

impl Bare<'_> {
    /// What a frame costs.
    pub(in crate::jobs::bench) fn floor(
        self,
        window: Window,
        time: Duration,
        stop: &Stop,
    ) -> anyhow::Result<Cost> {
        passes(time, stop, || {
            let marks = Arc::new(Mutex::new(Marks::new(window)));
            let pipeline = self.counted(&marks)?;
            let played = play(&pipeline, &marks, stop);
            pipeline.set_state(gst::State::Null)?;
            played?;
            marks.lock().unwrap_or_else(PoisonError::into_inner).cost()
        })
    }

    /// Tells when the window is over.
    fn counted(self, marks: &Arc<Mutex<Marks>>) -> anyhow::Result<gst::Pipeline> {
        let (pipeline, pad) = self.pipeline()?;
        let (marks, bus) = (Arc::clone(marks), pipeline.bus().context("no bus")?);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if marks.lock().unwrap_or_else(PoisonError::into_inner).frame() {
                // A bus that is flushing has nobody left to wake.
                let _ = bus.post(gst::message::Application::new(gst::Structure::new_empty("enough")));
            }
            gst::PadProbeReturn::Ok
        });
        Ok(pipeline)
    }

    /// From the file to nothing, and where its pictures end.
    pub(in crate::jobs::bench) fn pipeline(self) -> anyhow::Result<(gst::Pipeline, gst::Pad)> {
        gst::init()?;
        // As in ingest: NVDEC takes what its own parser made.
        let split = match (self.gpu, self.video.codec.as_deref()) {
            (Some(_), Some("video/x-h264")) => "h264parse !",
            (Some(_), Some("video/x-h265")) => "h265parse !",
            (Some(_), Some("video/x-vp9")) => "vp9parse !",
            (Some(_), Some("video/x-av1")) => "av1parse !",
            _ => "",
        };
        let memory = self.gpu.map_or_else(String::new, |_| format!("video/x-raw({FEATURE}) !"));
        let text = format!(
            "filesrc name=source ! parsebin name=parse parse. ! {split} {} name=decoder ! {memory} \
         fakesink name=sink sync=false enable-last-sample=false",
            self.decoder
        );
        let pipeline = gst::parse::launch(&text)?.downcast::<gst::Pipeline>().ok().context("no pipeline")?;
        if let Some(gpu) = self.gpu {
            gpu.give(&pipeline);
        }
        let element = |name| pipeline.by_name(name).context("an element that was just made");
        element("source")?
            .set_property("location", self.video.path.to_str().context("a path that is no text")?);
        // As ingest/decoder.rs sets it for a file.
        let decoder = element("decoder")?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(4).to_string();
        for (name, value) in [
            ("max-threads", threads.as_str()),
            ("threads", threads.as_str()),
            ("output-corrupt", "false"),
            ("discard-corrupted-frames", "false"),
            ("qos", "false"),
        ] {
            if decoder.find_property(name).is_some() {
                decoder.set_property_from_str(name, value);
            }
        }
        let pad = element("sink")?.static_pad("sink").context("fakesink has no sink pad")?;
        crate::ingest::accept_padded_rows(&pad);
        Ok((pipeline, pad))
    }
}

/// Plays until the window is over, or the file.
fn play(pipeline: &gst::Pipeline, marks: &Mutex<Marks>, stop: &Stop) -> anyhow::Result<()> {
    let bus = pipeline.bus().context("no bus")?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error, gst::MessageType::Application];
    let refused = pipeline.set_state(gst::State::Playing).is_err();
    let mut looks = 0;
    while looks < PATIENCE {
        stop.check()?;
        let message = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(100), &ends);
        match message.as_deref().map(gst::MessageRef::view) {
            Some(gst::MessageView::Error(error)) => bail!("{}", error.error()),
            Some(_) => return Ok(()),
            None if refused => bail!("the pipeline refuses to play"),
            None => looks += 1,
        }
    }
    let seen = marks.lock().unwrap_or_else(PoisonError::into_inner).cost();
    bail!("no end within {} s: {:?}", PATIENCE / 10, seen)
}
