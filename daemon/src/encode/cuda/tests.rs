//! Outputs of pictures in video memory, on the software driver, with elements that stand for NVENC.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use tempfile::TempDir;

use super::*;
use crate::encode::{OutputState, OutputStatus, RtspServer, Target, VideoOut};
use crate::flow::{Colorimetry, Matrix, PixelFormat, Range, Size};
use crate::gpu::gst::Pool;
use crate::gpu::soft::{self, Primary, child};

const SIZE: Size = Size::new(320, 180);
const COLOR: Colorimetry = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
const LONG: gst::ClockTime = gst::ClockTime::from_seconds(60);
const PICTURES: u64 = 30;

/// A GPU, its encoding, and pictures to draw on.
struct Gpu {
    encoding: Arc<CudaEncoding>,
    pool: Pool,
}

impl Gpu {
    fn new() -> Self {
        let context = Primary::retain().wrap();
        let pool = Pool::new(&context, PixelFormat::Nv12, SIZE, 40, None).unwrap();
        Self { encoding: Arc::new(CudaEncoding::new(context)), pool }
    }

    /// Gray, as bright as its number says.
    fn picture(&self, number: u64) -> Rendered {
        let canvas = self.pool.acquire(COLOR).unwrap();
        let picture = *canvas.picture();
        let luma = vec![luma(number); picture.luma_pitch as usize * SIZE.height as usize];
        soft::write(picture.luma, &luma);
        soft::write(picture.chroma, &vec![128; picture.chroma_pitch as usize * SIZE.height as usize / 2]);
        canvas.finish()
    }

    fn spec(&self, target: Target, codec: VideoCodec) -> OutputSpec {
        OutputSpec {
            stream: "yard".into(),
            name: "wide".into(),
            target,
            size: SIZE,
            rate: (25, 1),
            codec,
            bitrate: Some(1_500_000),
            keyframe_seconds: None,
            realtime: false,
            gpu: Some(Arc::clone(&self.encoding)),
        }
    }

    /// An output to a file that waits for all its pictures.
    fn file(&self, path: &Path, codec: VideoCodec) -> VideoOut {
        VideoOut::open(self.spec(Target::Mp4 { path: path.to_owned() }, codec)).unwrap()
    }

    /// Writes all pictures to a file; gives what the output says at the end.
    fn write(&self, path: &Path, codec: VideoCodec) -> OutputStatus {
        let out = self.file(path, codec);
        (0..PICTURES).for_each(|number| out.push(self.picture(number), number * 40_000_000));
        out.stop()
    }
}

fn luma(number: u64) -> u8 {
    (40 + number * 5) as u8
}

/// Luma in the middle of each picture that a pipeline decodes.
fn decoded(description: &str, most: u64) -> Vec<u8> {
    let line =
        format!("{description} ! videoconvert ! video/x-raw,format=GRAY8 ! appsink name=out sync=false");
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut found = Vec::new();
    while (found.len() as u64) < most
        && let Some(sample) = sink.try_pull_sample(LONG)
    {
        let map = sample.buffer().unwrap().map_readable().unwrap();
        found.push(map[90 * 320 + 160]);
    }
    pipeline.set_state(gst::State::Null).unwrap();
    found
}

/// Every picture is in the file, in order.
fn check_file(path: &Path, decoder: &str) {
    let found = decoded(&format!("filesrc location={} ! qtdemux ! {decoder}", path.display()), u64::MAX);
    assert_eq!(found.len() as u64, PICTURES, "{}", path.display());
    for (number, found) in found.into_iter().enumerate() {
        let expected = luma(number as u64);
        // GRAY8 is of full range where the video is of limited range.
        let full = (i32::from(expected) - 16) * 255 / 219;
        let near = |value: i32| (i32::from(found) - value).abs() <= 6;
        assert!(near(full) || near(expected.into()), "picture {number}: {found}, not {expected}");
    }
}

fn nvenc(name: &str, sessions: &str) -> bool {
    let codecs = soft::codecs();
    child(module_path!(), name, &[("GST_PLUGIN_PATH", &codecs), ("WATCHPOST_SOFT_NVENC", sessions)])
}

#[test]
fn nvenc_takes_pictures_from_video_memory() {
    if !nvenc("nvenc_takes_pictures_from_video_memory", "8") {
        return;
    }
    let (gpu, folder) = (Gpu::new(), TempDir::new().unwrap());
    let codecs = [
        (VideoCodec::H264, "nvh264enc", "h264parse ! avdec_h264"),
        (VideoCodec::H265, "nvh265enc", "h265parse ! avdec_h265"),
        (VideoCodec::Av1, "nvav1enc", "av1parse ! av1dec"),
    ];
    for (codec, element, decoder) in codecs {
        assert_eq!(gpu.encoding.may_encode(codec), Ok(element.into()));
        assert_eq!(gpu.encoding.try_codec(codec), Ok(element.into()));
        let path = folder.path().join(format!("{element}.mp4"));
        let status = gpu.write(&path, codec);
        assert_eq!((status.state, &status.error), (OutputState::Stopped, &None), "{element}");
        assert_eq!((status.encoder.as_str(), status.downloads), (element, 0));
        assert_eq!((status.frames, status.dropped), (PICTURES, 0), "{element}");
        check_file(&path, decoder);
    }
    assert_eq!(gpu.encoding.sessions(), (0, None), "all given back");
    let (opened, why) = gpu.encoding.count_sessions(VideoCodec::H264, 16);
    assert_eq!((opened, why.as_deref()), (8, Some("Failed to open session: out of memory (10)")));
    assert_eq!(gpu.encoding.count_sessions(VideoCodec::H264, 4), (4, None));
    assert!(gpu.file(&folder.path().join("none.mp4"), VideoCodec::H264).prefers_gpu());

    let contexts = soft::books()["contexts"]["created"].clone();
    gpu.write(&folder.path().join("again.mp4"), VideoCodec::H264);
    assert_eq!(soft::books()["contexts"]["created"], contexts, "an element made a context of its own");
}

#[test]
fn rtsp_serves_h265() {
    if !nvenc("rtsp_serves_h265", "8") {
        return;
    }
    let gpu = Gpu::new();
    let server = RtspServer::start("127.0.0.1", 0).unwrap();
    let target = || Target::Rtsp { server: server.handle(), mount: "yard/wide".into() };
    let refused = VideoOut::open(gpu.spec(target(), VideoCodec::Av1)).map(drop).unwrap_err();
    assert!(refused.to_string().contains("RTSP viewers take H.264 or H.265, not AV1"), "{refused}");

    let spec = OutputSpec { realtime: true, ..gpu.spec(target(), VideoCodec::H265) };
    let out = VideoOut::open(spec).unwrap();
    let url = server.handle().url("yard/wide");
    let watching = std::thread::spawn(move || {
        decoded(&format!("rtspsrc location={url} protocols=tcp ! rtph265depay ! h265parse ! avdec_h265"), 20)
    });
    let (never, told) = std::sync::mpsc::channel::<()>();
    for number in 0..3000 {
        if watching.is_finished() {
            break;
        }
        out.push(gpu.picture(number % PICTURES), number * 40_000_000);
        // The pace of a camera.
        let _ = told.recv_timeout(Duration::from_millis(40));
    }
    drop(never);
    assert_eq!(watching.join().unwrap().len(), 20);
    let status = out.stop();
    assert_eq!((status.encoder.as_str(), status.downloads, status.error), ("nvh265enc", 0, None));
    server.stop();
}

#[test]
fn without_nvenc_x264_encodes_from_one_copy_and_says_so() {
    if !child(module_path!(), "without_nvenc_x264_encodes_from_one_copy_and_says_so", &[]) {
        return;
    }
    let (gpu, folder) = (Gpu::new(), TempDir::new().unwrap());
    let none = "no NVENC element for H.264 on this GPU".to_owned();
    assert_eq!(gpu.encoding.count_sessions(VideoCodec::H264, 4), (0, Some(none)));
    let path = folder.path().join("a.mp4");
    assert!(!gpu.file(&path, VideoCodec::H264).prefers_gpu());
    let downloads = || soft::books()["copies"]["device_to_host"]["calls"].as_u64().unwrap();
    let before = downloads();
    let status = gpu.write(&path, VideoCodec::H264);
    let label = "cudadownload + x264enc (no NVENC element for H.264 on this GPU)";
    assert_eq!((status.encoder.as_str(), status.downloads, status.frames), (label, PICTURES, PICTURES));
    assert!(downloads() - before >= PICTURES, "the driver knows of them too");
    check_file(&path, "h264parse ! avdec_h264");

    let spec = gpu.spec(Target::Mp4 { path: folder.path().join("b.mp4") }, VideoCodec::H265);
    let refused = VideoOut::open(spec).map(drop).unwrap_err().to_string();
    assert!(refused.contains("H.265 needs NVENC: no NVENC element for H.265 on this GPU"), "{refused}");
}

#[test]
fn an_encoder_that_does_not_open_gives_way_and_no_picture_is_lost() {
    if !nvenc("an_encoder_that_does_not_open_gives_way_and_no_picture_is_lost", "0") {
        return;
    }
    let (gpu, folder) = (Gpu::new(), TempDir::new().unwrap());
    assert!(gpu.encoding.may_encode(VideoCodec::H264).is_ok(), "it is there");
    let path = folder.path().join("a.mp4");
    let status = gpu.write(&path, VideoCodec::H264);
    let reason = "nvh264enc does not encode: Failed to open session: out of memory (10)";
    assert_eq!(status.encoder, format!("cudadownload + x264enc ({reason})"));
    assert_eq!((status.frames, status.error), (PICTURES, None));
    check_file(&path, "h264parse ! avdec_h264");
    assert_eq!(gpu.encoding.may_encode(VideoCodec::H264), Err(reason.into()), "it was refused lately");
    let spec = gpu.spec(Target::Mp4 { path: folder.path().join("b.mp4") }, VideoCodec::H265);
    let out = VideoOut::open(spec).unwrap();
    out.push(gpu.picture(0), 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let failed = loop {
        if let Some(error) = out.status().error {
            break error;
        }
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    };
    assert!(failed.starts_with("H.265 needs NVENC: nvh265enc does not encode: Failed to open"), "{failed}");
}

/// As GStreamer's own elements do: "not negotiated" is on the bus, and why is in the log.
#[test]
fn a_refusal_that_is_only_in_the_log_is_known() {
    let environment = [
        ("GST_PLUGIN_PATH", &*soft::codecs()),
        ("WATCHPOST_SOFT_NVENC", "1"),
        ("WATCHPOST_SOFT_NVENC_QUIET", "1"),
    ];
    if !child(module_path!(), "a_refusal_that_is_only_in_the_log_is_known", &environment) {
        return;
    }
    let gpu = Gpu::new();
    assert_eq!(gpu.encoding.try_codec(VideoCodec::H264), Ok("nvh264enc".into()));
    let (opened, why) = gpu.encoding.count_sessions(VideoCodec::H264, 4);
    let said = "Failed to open session, status: NV_ENC_ERR_OUT_OF_MEMORY (10) (";
    assert!(opened == 1 && why.as_deref().is_some_and(|why| why.starts_with(said)), "{opened}: {why:?}");
}

#[test]
fn sessions_are_a_resource_that_outputs_share() {
    if !nvenc("sessions_are_a_resource_that_outputs_share", "1") {
        return;
    }
    let (gpu, folder) = (Gpu::new(), TempDir::new().unwrap());
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let first = gpu.file(&path("first.mp4"), VideoCodec::H264);
    first.push(gpu.picture(0), 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while first.status().frames == 0 {
        assert!(Instant::now() < deadline, "{:?}", first.status());
        std::thread::yield_now();
    }
    assert_eq!(gpu.encoding.sessions(), (1, None));
    // The second is refused by the driver, the third by what was learnt; neither loses a picture.
    for name in ["second.mp4", "third.mp4"] {
        let status = gpu.write(&path(name), VideoCodec::H264);
        assert_eq!(status.encoder, "cudadownload + x264enc (all 1 NVENC sessions of the GPU are in use)");
        assert_eq!((status.frames, status.dropped, status.reconnects), (PICTURES, 0, 0), "{name}");
        assert_eq!(status.error, None);
        assert_eq!(status.location, path(name).display().to_string(), "no empty file stays");
        check_file(&path(name), "h264parse ! avdec_h264");
        assert_eq!(gpu.encoding.sessions(), (1, Some(1)));
    }
    (1..PICTURES).for_each(|number| first.push(gpu.picture(number), number * 40_000_000));
    let status = first.stop();
    assert_eq!((status.encoder.as_str(), status.frames, status.error), ("nvh264enc", PICTURES, None));
    check_file(&path("first.mp4"), "h264parse ! avdec_h264");
    // Its session is free again.
    assert_eq!(gpu.encoding.sessions(), (0, Some(1)));
    assert_eq!(gpu.write(&path("fourth.mp4"), VideoCodec::H264).encoder, "nvh264enc");
}

#[test]
fn outputs_come_and_go() {
    if !nvenc("outputs_come_and_go", "8") {
        return;
    }
    let (gpu, folder) = (Gpu::new(), TempDir::new().unwrap());
    let round = |number: usize| {
        let out = gpu.file(&folder.path().join(format!("{number}.mp4")), VideoCodec::H264);
        (0..number as u64 % 4).for_each(|number| out.push(gpu.picture(number), number * 40_000_000));
        if number.is_multiple_of(2) {
            out.stop();
        }
    };
    (0..6).for_each(round);
    let kinds = ["contexts", "streams", "events", "host_allocations"];
    let before = kinds.map(soft::alive);
    (6..106).for_each(round);
    assert_eq!(kinds.map(soft::alive), before, "{kinds:?}");
    assert_eq!(gpu.encoding.sessions(), (0, None));
    drop(gpu);
    assert_eq!(soft::alive("allocations"), 0);
}
