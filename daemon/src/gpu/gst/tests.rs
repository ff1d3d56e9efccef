//! CUDA memory of Debian's own GStreamer, on the software driver: what goes up is found at the addresses, what is drawn
//! comes down, and nothing is left.

use std::sync::Arc;
use std::time::Duration;

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video::{self as gst_video, VideoFrameExt as _};

use super::library::open;
use super::*;
use crate::flow::{Colorimetry, DeviceFrame, DevicePicture, Matrix, PixelFormat, Range, Size};
use crate::gpu::soft::{self, Primary, child};

const COLOR: Colorimetry = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
const LONG: gst::ClockTime = gst::ClockTime::from_seconds(30);

fn caps(format: &str, size: Size, feature: Option<&str>) -> gst::Caps {
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", format)
        .field("width", size.width as i32)
        .field("height", size.height as i32)
        .field("framerate", gst::Fraction::new(25, 1));
    match feature {
        Some(feature) => caps.features([feature]).build(),
        None => caps.build(),
    }
}

/// Bytes that differ from each other and from picture to picture.
fn byte(index: usize, seed: usize) -> u8 {
    (index * 7 + index / 251 * 13 + seed * 41) as u8
}

/// A host buffer of these caps, every byte of it set.
fn host_buffer(info: &gst_video::VideoInfo, seed: usize) -> gst::Buffer {
    let bytes: Vec<u8> = (0..info.size()).map(|index| byte(index, seed)).collect();
    gst::Buffer::from_slice(bytes)
}

/// `appsrc ! DESCRIPTION ! appsink`, given the context.
struct Line {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
}

impl Line {
    fn start(context: Option<&CudaContext>, from: &gst::Caps, through: &str, to: Option<&gst::Caps>) -> Self {
        let source = gst_app::AppSrc::builder().caps(from).format(gst::Format::Time).build();
        let sink = gst_app::AppSink::builder().sync(false).build();
        sink.set_caps(to);
        sink.set_property("enable-last-sample", false);
        let middle = gst::parse::bin_from_description(through, true).unwrap();
        let pipeline = gst::Pipeline::new();
        let row: [&gst::Element; 3] = [source.upcast_ref(), middle.upcast_ref(), sink.upcast_ref()];
        pipeline.add_many(row).unwrap();
        gst::Element::link_many(row).unwrap();
        if let Some(context) = context {
            context.give(&pipeline);
        }
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, source, sink }
    }

    fn push(&self, mut buffer: gst::Buffer, pts: u64) {
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_mseconds(pts));
        }
        self.source.push_buffer(buffer).unwrap();
    }

    fn pull(&self) -> gst::Sample {
        self.sink.try_pull_sample(LONG).unwrap_or_else(|| {
            let error = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
            panic!("nothing comes: {error:?}");
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// Uploads one picture and gives its frame.
fn upload(context: &CudaContext, format: &str, size: Size, seed: usize) -> DeviceFrame {
    let from = caps(format, size, None);
    let line = Line::start(Some(context), &from, "cudaupload", Some(&caps(format, size, Some(FEATURE))));
    let info = gst_video::VideoInfo::from_caps(&from).unwrap();
    line.push(host_buffer(&info, seed), 0);
    let sample = line.pull();
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    context.frame(sample.buffer_owned().unwrap(), &info, COLOR).unwrap()
}

/// The samples of a picture on the device, plane by plane and row by row, without the rows' padding.
fn samples(picture: &DevicePicture) -> [Vec<u8>; 2] {
    let chroma = picture.chroma_size();
    let planes = [
        (picture.luma, picture.luma_pitch, picture.size.width, picture.size.height),
        (picture.chroma, picture.chroma_pitch, chroma.width * 2, chroma.height),
    ];
    planes.map(|(address, pitch, width, rows)| {
        let width = width as usize * picture.bytes() as usize;
        (0..rows).flat_map(|row| soft::read(address + u64::from(row) * pitch as u64, width)).collect()
    })
}

/// What [`host_buffer`] has there.
fn expected(format: &str, size: Size, seed: usize) -> [Vec<u8>; 2] {
    let info = gst_video::VideoInfo::from_caps(&caps(format, size, None)).unwrap();
    let bytes = if format == "NV12" { 1 } else { 2 };
    let chroma = Size::new(size.width.div_ceil(2), size.height.div_ceil(2));
    [(0, size.width, size.height), (1, chroma.width * 2, chroma.height)].map(|(plane, width, rows)| {
        let row = |row: u32| info.offset()[plane] + row as usize * info.stride()[plane] as usize;
        let width = width as usize * bytes;
        (0..rows).flat_map(|y| (0..width).map(move |x| byte(row(y) + x, seed))).collect()
    })
}

#[test]
fn an_absent_library_is_an_ordinary_answer() {
    let error = open("libgstcuda-of-nobody.so.0").err().unwrap();
    assert!(matches!(error, NoCudaMemory::NoLibrary(_)), "{error}");
    assert!(error.to_string().contains("install libgstreamer-plugins-bad1.0-0"), "{error}");
    // A library of that name which is something else, as an old version would be.
    let error = open("libgstreamer-1.0.so.0").err().unwrap();
    assert!(matches!(
        error,
        NoCudaMemory::NoFunction("gst_cuda_memory_get_stream" | "gst_cuda_load_library")
    ));
}

#[test]
fn frames_are_where_the_addresses_say() {
    if !child(module_path!(), "frames_are_where_the_addresses_say", &[("WATCHPOST_SOFT_STRICT", "1")]) {
        return;
    }
    let primary = Primary::retain();
    let context = primary.wrap();
    let sizes = [
        Size::new(320, 240),
        Size::new(1280, 720),
        Size::new(322, 182),
        Size::new(97, 83),
        Size::new(64, 33),
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        for (name, format) in [("NV12", PixelFormat::Nv12), ("P010_10LE", PixelFormat::P010)] {
            let frame = upload(&context, name, size, seed);
            let what = format!("{name} {size}: {:?}", frame.picture);
            assert_eq!((frame.picture.format, frame.picture.size), (format, size), "{what}");
            assert_eq!(frame.picture.color, COLOR);
            assert!(frame.picture.luma_pitch >= frame.picture.bytes() * size.width as i32, "{what}");
            assert_eq!(frame.stream.is_some(), context.has_streams());
            assert_eq!(samples(&frame.picture), expected(name, size, seed), "{what}");
        }
    }
}

#[test]
fn what_is_no_frame_is_refused() {
    if !child(module_path!(), "what_is_no_frame_is_refused", &[]) {
        return;
    }
    let primary = Primary::retain();
    let context = primary.wrap();
    let size = Size::new(64, 48);
    let info = |format: &str, size| gst_video::VideoInfo::from_caps(&caps(format, size, None)).unwrap();
    let nv12 = info("NV12", size);
    let refused = |buffer: gst::Buffer, info: &_| context.frame(buffer, info, COLOR).map(drop).unwrap_err();
    assert_eq!(refused(host_buffer(&nv12, 0), &nv12), FrameError::Host);
    assert_eq!(refused(gst::Buffer::new(), &nv12), FrameError::Host);

    let sample = |context: Option<&CudaContext>, format: &str| {
        let from = caps(format, size, None);
        let line = Line::start(context, &from, "cudaupload", Some(&caps(format, size, Some(FEATURE))));
        line.push(host_buffer(&info(format, size), 0), 0);
        line.pull().buffer_owned().unwrap()
    };
    let i420 = info("I420", size);
    assert_eq!(refused(sample(Some(&context), "I420"), &i420), FrameError::Format("I420".into()));
    let large = info("NV12", Size::new(64, 4800));
    assert!(matches!(refused(sample(Some(&context), "NV12"), &large), FrameError::Small { plane: 0, .. }));
    // An element that was not given the context makes one of its own.
    assert_eq!(refused(sample(None, "NV12"), &nv12), FrameError::Context);
}

/// A frame outlives its pipeline, and its memory goes with it.
#[test]
fn a_frame_keeps_its_memory() {
    if !child(module_path!(), "a_frame_keeps_its_memory", &[("WATCHPOST_SOFT_PAGES", "1")]) {
        return;
    }
    let primary = Primary::retain();
    let context = primary.wrap();
    let size = Size::new(96, 64);
    let frame = upload(&context, "NV12", size, 5);
    let copy = frame.clone();
    drop(frame);
    assert!(soft::alive("allocations") > 0);
    assert_eq!(samples(&copy.picture), expected("NV12", size, 5));
    drop(copy);
    // GStreamer's threads may be the last to let go.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while soft::alive("allocations") > 0 {
        assert!(std::time::Instant::now() < deadline, "{} allocations are left", soft::alive("allocations"));
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

fn draw(canvas: &Canvas, seed: usize) {
    let picture = canvas.picture();
    let [luma, chroma] = expected("NV12", picture.size, seed);
    let planes = [
        (picture.luma, picture.luma_pitch, luma, picture.size.width),
        (picture.chroma, picture.chroma_pitch, chroma, picture.chroma_size().width * 2),
    ];
    for (address, pitch, bytes, width) in planes {
        for (row, bytes) in bytes.chunks(width as usize).enumerate() {
            soft::write(address + row as u64 * pitch as u64, bytes);
        }
    }
}

#[test]
fn what_is_drawn_comes_down() {
    if !child(module_path!(), "what_is_drawn_comes_down", &[("WATCHPOST_SOFT_STRICT", "1")]) {
        return;
    }
    let primary = Primary::retain();
    let context = primary.wrap();
    for size in [Size::new(320, 180), Size::new(98, 66)] {
        let stream = context.stream();
        assert_eq!(stream.is_some(), context.has_streams());
        let pool = Pool::new(&context, PixelFormat::Nv12, size, 4, stream.as_ref()).unwrap();
        assert_eq!(pool.size(), size);
        let from = caps("NV12", size, Some(FEATURE));
        let line = Line::start(Some(&context), &from, "cudadownload", Some(&caps("NV12", size, None)));
        let downloads = || soft::books()["copies"]["device_to_host"]["bytes"].as_u64().unwrap();
        let before = downloads();
        for seed in 0..8 {
            let canvas = pool.acquire(COLOR).unwrap();
            assert_eq!(canvas.stream().is_some(), stream.is_some());
            draw(&canvas, seed);
            let rendered = canvas.finish();
            assert_eq!((rendered.size(), rendered.format()), (size, PixelFormat::Nv12));
            line.push(rendered.into_buffer(seed as u64 * 40_000_000), seed as u64 * 40);
            let sample = line.pull();
            let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
            let frame = gst_video::VideoFrame::from_buffer_readable(sample.buffer_owned().unwrap(), &info);
            let frame = frame.unwrap();
            for (plane, expected) in expected("NV12", size, seed).iter().enumerate() {
                let rows =
                    frame.plane_data(plane as u32).unwrap().chunks(frame.plane_stride()[plane] as usize);
                let width = size.width as usize;
                let found: Vec<u8> = rows.flat_map(|row| &row[..width.min(row.len())]).copied().collect();
                assert_eq!(found[..expected.len()], expected[..], "plane {plane} of picture {seed}");
            }
        }
        let bytes = u64::from(size.width * size.height) * 3 / 2;
        assert_eq!(downloads() - before, 8 * bytes, "one download a picture");
        drop(line);
        drop((pool, stream));
        assert_eq!(soft::alive("allocations"), 0);
    }
}

#[test]
fn x264_encodes_what_is_drawn() {
    if !child(module_path!(), "x264_encodes_what_is_drawn", &[]) {
        return;
    }
    let primary = Primary::retain();
    let context = primary.wrap();
    let size = Size::new(320, 180);
    let pool = Pool::new(&context, PixelFormat::Nv12, size, 8, None).unwrap();
    let from = caps("NV12", size, Some(FEATURE));
    let line =
        Line::start(Some(&context), &from, "cudadownload ! x264enc tune=zerolatency ! avdec_h264", None);
    for seed in 0..4 {
        let canvas = pool.acquire(COLOR).unwrap();
        let luma = vec![40 + 40 * seed as u8; canvas.picture().luma_pitch as usize];
        for row in 0..u64::from(size.height) {
            soft::write(canvas.picture().luma + row * luma.len() as u64, &luma);
        }
        let chroma = vec![128; canvas.picture().chroma_pitch as usize];
        for row in 0..u64::from(size.height / 2) {
            soft::write(canvas.picture().chroma + row * chroma.len() as u64, &chroma);
        }
        line.push(canvas.finish().into_buffer(seed * 40_000_000), seed * 40);
    }
    line.source.end_of_stream().unwrap();
    for seed in 0..4 {
        let sample = line.pull();
        let map = sample.buffer().unwrap().map_readable().unwrap();
        let middle = i32::from(map.as_slice()[90 * 320 + 160]);
        assert!((middle - (40 + 40 * seed)).abs() <= 3, "picture {seed}: {middle}");
    }
}

#[test]
fn a_pool_has_so_many_buffers_and_says_when_memory_is_out() {
    if !child(module_path!(), "a_pool_has_so_many_buffers_and_says_when_memory_is_out", &[]) {
        return;
    }
    let primary = Primary::retain();
    let context = primary.wrap();
    let size = Size::new(128, 72);
    assert!(matches!(
        Pool::new(&context, PixelFormat::I420, size, 2, None).map(drop),
        Err(PoolError::Format(PixelFormat::I420))
    ));
    let pool = Pool::new(&context, PixelFormat::P010, size, 2, None).unwrap();
    let first = pool.acquire(COLOR).unwrap();
    let second = pool.acquire(COLOR).unwrap();
    assert_ne!(first.picture().luma, second.picture().luma);
    assert_eq!(pool.acquire(COLOR).map(drop).unwrap_err(), PoolError::Empty(2));
    let address = second.picture().luma;
    drop(second.finish());
    assert_eq!(pool.acquire(COLOR).unwrap().picture().luma, address, "its memory is used again");
    // A canvas outlives its pool.
    drop(pool);
    assert_eq!(soft::read(first.picture().luma, 16).len(), 16);
    drop(first);
    assert_eq!(soft::alive("allocations"), 0);

    soft::fail("cuMemAllocPitch:1+=2");
    let error = Pool::new(&context, PixelFormat::Nv12, size, 2, None).map(drop).unwrap_err();
    assert!(error.to_string().contains("out of memory"), "{error}");
    soft::fail("");
    let pool = Pool::new(&context, PixelFormat::Nv12, size, 2, None).unwrap();
    soft::fail("cuMemAllocPitch:1+=2");
    let canvases: Vec<_> = (0..2).map(|_| pool.acquire(COLOR).map(drop)).collect();
    soft::fail("");
    assert!(canvases.iter().any(|canvas| matches!(canvas, Err(PoolError::Acquire(_)))), "{canvases:?}");
    assert!(pool.acquire(COLOR).is_ok(), "it goes on when there is memory again");
}

fn created(kind: &str) -> i64 {
    soft::books()[kind]["created"].as_i64().unwrap()
}

#[test]
fn all_pipelines_share_one_context() {
    if !child(module_path!(), "all_pipelines_share_one_context", &[]) {
        return;
    }
    let primary = Primary::retain();
    let context = primary.wrap();
    assert!(Arc::ptr_eq(&context, &primary.wrap()), "the same object for the same context");
    assert_eq!(context.device(), 0);
    let size = Size::new(64, 48);
    // The plugin makes contexts while it is loaded, to ask the driver.
    drop(upload(&context, "NV12", size, 0));
    let before = created("contexts");
    let frames: Vec<_> = (0..3).map(|seed| upload(&context, "NV12", size, seed)).collect();
    let from = caps("NV12", size, Some(FEATURE));
    let line = Line::start(Some(&context), &from, "cudadownload", None);
    let pool = Pool::new(&context, PixelFormat::Nv12, size, 2, None).unwrap();
    line.push(pool.acquire(COLOR).unwrap().finish().into_buffer(0), 0);
    line.pull();
    assert_eq!(created("contexts"), before, "an element has made a context of its own");
    drop((frames, line, pool));

    // Without the context beforehand: the element asks, and is answered on the bus.
    let description =
        "videotestsrc num-buffers=2 ! video/x-raw,format=NV12,width=64,height=48 ! cudaupload ! fakesink";
    let pipeline = gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let answering = Arc::clone(&context);
    let answers = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&answers);
    let bus = pipeline.bus().unwrap();
    bus.set_sync_handler(move |_, message| {
        if answering.answer(message) {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        gst::BusSyncReply::Pass
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    assert!(bus.timed_pop_filtered(LONG, &[gst::MessageType::Eos]).is_some());
    assert!(answers.load(std::sync::atomic::Ordering::Relaxed) > 0);
    assert_eq!(created("contexts"), before);
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Teardown and restart, a hundred times: neither memory nor streams nor contexts are left, and the primary context is
/// given back once GStreamer needs it no more.
#[test]
fn a_hundred_restarts_leave_nothing() {
    if !child(module_path!(), "a_hundred_restarts_leave_nothing", &[]) {
        return;
    }
    let primary = Primary::retain();
    let context = primary.wrap();
    let size = Size::new(96, 54);
    let round = |seed: usize| {
        let frame = upload(&context, "NV12", size, seed);
        let pool = Pool::new(&context, PixelFormat::Nv12, size, 3, context.stream().as_ref()).unwrap();
        let from = caps("NV12", size, Some(FEATURE));
        let line = Line::start(Some(&context), &from, "cudadownload ! x264enc tune=zerolatency", None);
        for picture in 0..3 {
            line.push(pool.acquire(COLOR).unwrap().finish().into_buffer(0), picture * 40);
        }
        line.pull();
        // Torn down with pictures on their way, the frame later.
        drop(line);
        drop(pool);
        assert_eq!(samples(&frame.picture), expected("NV12", size, seed));
    };
    round(0);
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let kinds = ["contexts", "streams", "events", "allocations", "host_allocations", "modules"];
    let (before, open) = (kinds.map(soft::alive), files());
    (1..=100).for_each(round);
    assert_eq!(kinds.map(soft::alive), before, "{kinds:?}");
    assert!(files() <= open + 2, "{} files, {open} before", files());
    assert_eq!(before[3..5], [0, 0], "memory");

    let frame = upload(&context, "NV12", size, 7);
    drop(context);
    drop(primary);
    let balance = || {
        let books = soft::books();
        books["primary"]["retained"].as_i64().unwrap() - books["primary"]["released"].as_i64().unwrap()
    };
    assert_eq!(balance(), 1, "a frame keeps the context");
    assert_eq!(samples(&frame.picture), expected("NV12", size, 7));
    drop(frame);
    // A thread of GLib's pool may let its element go a moment later.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while balance() > 0 {
        assert!(std::time::Instant::now() < deadline, "the primary context is never given back");
        std::thread::yield_now();
    }
    assert_eq!(soft::alive("contexts"), 0);
}
