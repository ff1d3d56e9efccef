//! The floor of the CPU lane: decoding alone, and decoding with inference and nothing else.
//!
//! In: a video. Out: CPU seconds of this process, in which nothing else works meanwhile. The decoder is the one
//! that the daemon takes, set as the daemon sets it, and its frames are not copied. Pipelines are stopped before this
//! returns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use anyhow::{Context, bail, ensure};
use gstreamer as gst;
use gstreamer::prelude::*;
use watchpost::flow::Tensor;

use crate::figures::process_cpu;
use crate::inference::Inference;

/// Longer than any of the pipelines here may take.
const LONG: gst::ClockTime = gst::ClockTime::from_seconds(120);

/// The parser and the decoder of a file's codec.
fn codec(file: &Path) -> anyhow::Result<(&'static str, &'static str)> {
    gst::init()?;
    let pipeline = launch(file, "fakesink name=sink sync=false")?;
    pipeline.set_state(gst::State::Paused)?;
    pipeline.state(LONG).0.context("the file cannot be read")?;
    let pad = pipeline.by_name("sink").and_then(|sink| sink.static_pad("sink"));
    let caps = pad.and_then(|pad| pad.current_caps());
    let media = caps.as_ref().and_then(|caps| caps.structure(0)).map(|it| it.name().to_string());
    pipeline.set_state(gst::State::Null)?;
    match media.as_deref() {
        Some("video/x-h264") => Ok(("h264parse", "avdec_h264")),
        Some("video/x-h265") => Ok(("h265parse", "avdec_h265")),
        other => bail!("{}: no decoder known for {other:?}", file.display()),
    }
}

/// A pipeline behind the video of an MP4 file.
fn launch(file: &Path, rest: &str) -> anyhow::Result<gst::Pipeline> {
    let text = format!("filesrc name=source ! qtdemux name=demux demux.video_0 ! {rest}");
    let pipeline = gst::parse::launch(&text)?.downcast::<gst::Pipeline>().ok().context("no pipeline")?;
    let source = pipeline.by_name("source").context("no source")?;
    source.set_property("location", file.to_str().context("a path that is no text")?);
    Ok(pipeline)
}

fn play(pipeline: &gst::Pipeline) -> anyhow::Result<()> {
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("no bus")?;
    let end = bus.timed_pop_filtered(LONG, &[gst::MessageType::Eos, gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null)?;
    match end.as_deref().map(gst::MessageRef::view) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(error)) => bail!("{} {:?}", error.error(), error.debug()),
        _ => bail!("no end within two minutes"),
    }
}

/// Writes the first frames of a file into another, not encoded anew.
pub fn cut(from: &Path, to: &Path, frames: u64) -> anyhow::Result<()> {
    let (parser, _) = codec(from)?;
    let rest = format!("{parser} ! identity eos-after={frames} ! mp4mux ! filesink name=out");
    let pipeline = launch(from, &rest)?;
    let out = pipeline.by_name("out").context("no sink")?;
    out.set_property("location", to.to_str().context("a path that is no text")?);
    play(&pipeline)
}

/// A pipeline that decodes a file into nothing and calls `each` for every frame.
fn decoding(file: &Path, each: impl Fn() + Send + Sync + 'static) -> anyhow::Result<gst::Pipeline> {
    let (parser, decoder) = codec(file)?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    let rest = format!(
        "{parser} ! {decoder} max-threads={threads} output-corrupt=false ! fakesink name=sink sync=false enable-last-sample=false"
    );
    let pipeline = launch(file, &rest)?;
    let pad = pipeline.by_name("sink").and_then(|sink| sink.static_pad("sink")).context("no sink")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        each();
        gst::PadProbeReturn::Ok
    });
    // As in the daemon: a decoder that knows its padded rows are understood does not copy each frame.
    watchpost::ingest::accept_padded_rows(&pad);
    Ok(pipeline)
}

/// Decodes a file into nothing: frames, and CPU seconds.
pub fn decode(file: &Path) -> anyhow::Result<(u64, f64)> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let pipeline = decoding(file, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    })?;
    let begun = process_cpu();
    play(&pipeline)?;
    let spent = process_cpu().saturating_sub(begun);
    let frames = count.load(Ordering::Relaxed);
    ensure!(frames > 0, "{}: no frame came out", file.display());
    Ok((frames, spent.as_secs_f64()))
}

/// Decodes a file into nothing and runs the model once for each frame meanwhile: CPU seconds. What this costs
/// more than both alone is the machine's: caches and cores that the two share.
pub fn together(file: &Path, inference: &mut Inference, tensor: &Tensor) -> anyhow::Result<f64> {
    // As many frames ahead as the daemon lets in.
    let (ready, frames) = sync_channel(4);
    let pipeline = decoding(file, move || {
        // Nobody takes frames any more once a run has failed.
        let _ = ready.send(());
    })?;
    let begun = process_cpu();
    std::thread::scope(|scope| {
        let player = scope.spawn(|| {
            let played = play(&pipeline);
            // The pipeline holds the channel's other end.
            drop(pipeline);
            played
        });
        for () in frames {
            inference.run(tensor)?;
        }
        player.join().map_err(|_| anyhow::anyhow!("the player panicked"))?
    })?;
    Ok(process_cpu().saturating_sub(begun).as_secs_f64())
}
