//! NVENC, tried: a pipeline that encodes one picture.
//!
//! In: a GPU's context, the name of an element. Out: whether a picture came out encoded; or the session, held open. The
//! pipeline is gone when this returns, or with the session. Fails with the element's own words, within a bounded time.

use std::sync::Arc;

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;

use crate::flow::{Colorimetry, Matrix, PixelFormat, Range, Size};
use crate::gpu::gst::{CudaContext, FEATURE, Listening, Pool};

/// Larger than the least size of any NVENC.
const SIZE: Size = Size::new(640, 360);
/// An encoder that gives nothing for so long gives nothing.
const LONG: gst::ClockTime = gst::ClockTime::from_seconds(10);
const COLOR: Colorimetry = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };

/// A session that is open.
pub(super) struct Held(gst::Pipeline);

impl Drop for Held {
    fn drop(&mut self) {
        // Going to NULL does not fail; the element's threads are gone when it returns.
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// Encodes one picture.
pub(super) fn encode_one(context: &Arc<CudaContext>, element: &str) -> Result<(), String> {
    open(context, element).map(drop)
}

/// Opens a session, which has encoded one picture when this returns.
pub(super) fn open(context: &Arc<CudaContext>, element: &str) -> Result<Held, String> {
    // Why the driver refuses a session the element writes to GStreamer's log alone.
    let listening = Listening::begin();
    start(context, element).map_err(|reason| listening.explain(reason))
}

fn start(context: &Arc<CudaContext>, element: &str) -> Result<Held, String> {
    let text = |error: gst::glib::BoolError| error.to_string();
    let caps = gst::Caps::builder("video/x-raw")
        .features([FEATURE])
        .field("format", "NV12")
        .field("width", SIZE.width as i32)
        .field("height", SIZE.height as i32)
        .field("framerate", gst::Fraction::new(25, 1))
        .build();
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
    let encoder = gst::ElementFactory::make(element).build().map_err(text)?;
    let sink = gst_app::AppSink::builder().sync(false).async_(false).build();
    let pipeline = gst::Pipeline::new();
    let row: [&gst::Element; 3] = [source.upcast_ref(), &encoder, sink.upcast_ref()];
    pipeline.add_many(row).and_then(|()| gst::Element::link_many(row)).map_err(text)?;
    context.give(&pipeline);
    let held = Held(pipeline);
    held.0.set_state(gst::State::Playing).map_err(|_| complaint(&held.0))?;
    let pool = Pool::new(context, PixelFormat::Nv12, SIZE, 8, None).map_err(|error| error.to_string())?;
    // An encoder may want a few pictures before the first comes out; what is on them does not matter.
    for number in 0..4 {
        let canvas = pool.acquire(COLOR).map_err(|error| error.to_string())?;
        let buffer = canvas.finish().into_buffer(number * 40_000_000);
        source.push_buffer(buffer).map_err(|_| complaint(&held.0))?;
    }
    let bus = held.0.bus().ok_or("the pipeline has no bus")?;
    let deadline = std::time::Instant::now() + std::time::Duration::from(LONG);
    while std::time::Instant::now() < deadline {
        if sink.try_pull_sample(gst::ClockTime::from_mseconds(20)).is_some() {
            return Ok(held);
        }
        if bus.peek().is_some_and(|message| message.type_() == gst::MessageType::Error) {
            return Err(complaint(&held.0));
        }
        // Anything else is of no interest.
        bus.pop_filtered(&[gst::MessageType::StateChanged, gst::MessageType::StreamStatus]);
    }
    Err(format!("it has encoded nothing within {} s", LONG.seconds()))
}

/// What an element of the pipeline complained about first: of NVENC's errors the detail says more than the text.
fn complaint(pipeline: &gst::Pipeline) -> String {
    let message = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => super::words(error),
        _ => "it does not start and does not say why".into(),
    }
}
