//! Decoding for the CUDA lane: NVDEC where it takes the video, else the CPU's decoder and one upload.
//!
//! In: a video. Out: what a frame costs until it lies in video memory, its motion measured where no CPU sees it; the
//! decoder alone, whose pictures stay where it leaves them. Sources and pipelines are stopped before these return.

use std::time::Duration;

use anyhow::Context;

use super::Lab;
use crate::flow::StreamInfo;
use crate::ingest::{Next, Source, SourceSpec};
use crate::jobs::bench::cost::{Cost, Marks, Window, passes};
use crate::jobs::bench::cpu::decode::Bare;
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::video::{LOOK, Video};
use crate::pipeline::lane::Lane;

/// Frames of a stream that the lane holds at once: as many as may be in flight with the default settings.
const HELD: usize = 8;

/// The lane's way in, and the decoder alone.
pub(super) struct Parts {
    pub(super) lab: Lab,
    info: StreamInfo,
}

impl Parts {
    /// Finds out what decodes it.
    pub(super) fn open(video: &Video, mut lab: Lab, stop: &Stop) -> anyhow::Result<Self> {
        let mut source = Source::start(spec(video, &lab)?)?;
        let mut info = None;
        // What opens may still refuse the first frame: then the CPU takes its place.
        let info = loop {
            stop.check()?;
            match source.next(LOOK) {
                Next::Started(started) | Next::Back(started) => info = Some(started),
                Next::Frame(_) => break info.context("a frame before the source has started")?,
                Next::Ended => anyhow::bail!("no frame"),
                Next::Failed(error) => return Err(error.into()),
                _ => {}
            }
        };
        source.stop();
        lab.ready()?;
        Ok(Self { lab, info })
    }

    pub(super) fn decoder(&self) -> (&str, bool) {
        (self.info.decoder.split(' ').next().unwrap_or_default(), self.info.on_gpu)
    }

    pub(super) fn by(&self) -> String {
        self.lab.lane.decode_edge(&self.info).by
    }

    pub(super) fn floor_is(&self) -> String {
        let (decoder, on_gpu) = self.decoder();
        let memory = if on_gpu { "in video memory" } else { "in host memory" };
        format!("{decoder} alone, its pictures left {memory}")
    }

    pub(super) fn part(
        &mut self,
        video: &Video,
        window: Window,
        time: Duration,
        stop: &Stop,
    ) -> anyhow::Result<Cost> {
        passes(time, stop, || {
            let mut source = Source::start(spec(video, &self.lab)?)?;
            let mut marks = Marks::new(window);
            loop {
                stop.check()?;
                match source.next(LOOK) {
                    Next::Frame(mut frame) => {
                        self.lab.lane.adopt(frame.pixels, &mut frame.meta)?;
                        self.lab.frames += 1;
                        if marks.is_next() {
                            self.lab.wait()?;
                        }
                        if marks.frame() {
                            break;
                        }
                    }
                    Next::Ended => break,
                    Next::Failed(error) => return Err(error.into()),
                    _ => {}
                }
            }
            source.stop();
            marks.cost()
        })
    }

    pub(super) fn floor(
        &self,
        video: &Video,
        window: Window,
        time: Duration,
        stop: &Stop,
    ) -> anyhow::Result<Cost> {
        let (decoder, on_gpu) = self.decoder();
        let gpu = self.lab.shared.gstreamer().filter(|_| on_gpu).map(|context| &**context);
        Bare { video, decoder, gpu }.floor(window, time, stop)
    }
}

fn spec(video: &Video, lab: &Lab) -> anyhow::Result<SourceSpec> {
    let mut spec = SourceSpec::new("bench", video.path.to_str().context("a path that is no text")?);
    lab.lane.decode_here(&mut spec, HELD);
    Ok(spec)
}
