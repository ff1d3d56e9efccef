//! Which decoder is chosen; and sources on the software driver, with elements that stand for NVDEC.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::flow::{Decoded, Frame, PixelFormat, Size};
use crate::gpu::soft::{self, Primary, child};
use crate::ingest::session::listen;
use crate::ingest::{Next, Source, SourceSpec, Watch};

fn check(caps: &str) -> Result<(), String> {
    gst::init().unwrap();
    readable(&caps.parse::<gst::Caps>().unwrap())
}

#[test]
fn only_what_comes_out_as_nv12_or_p010() {
    assert!(check("video/x-h264, chroma-format=4:2:0, bit-depth-luma=(uint)8").is_ok());
    assert!(check("video/x-h265, chroma-format=4:2:0, bit-depth-luma=(uint)10").is_ok());
    assert!(check("video/x-vp9").is_ok());
    assert!(check("image/jpeg, sampling=YCbCr-4:2:0").is_ok());
    for (caps, reason) in [
        ("video/x-h264, chroma-format=4:4:4", "4:4:4"),
        ("video/x-h265, chroma-format=4:2:0, bit-depth-luma=(uint)12", "12 bits"),
        ("image/jpeg, sampling=YCbCr-4:2:2", "YCbCr-4:2:2"),
    ] {
        let error = check(caps).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn vp9_and_av1_come_frame_by_frame() {
    gst::init().unwrap();
    let caps = |text: &str| text.parse::<gst::Caps>().unwrap();
    let (split_caps, parser) = split(&caps("video/x-vp9, alignment=super-frame, width=64"));
    assert_eq!(parser, Some("vp9parse"));
    assert_eq!(split_caps.structure(0).unwrap().get::<&str>("alignment"), Ok("frame"));
    assert_eq!(split(&caps("video/x-h264, alignment=au")).1, None);
}

/// What lies before the first key frame does not pass; everything after it does.
#[test]
fn a_stream_begins_with_a_key_frame() {
    gst::init().unwrap();
    let source = gst::Pad::new(gst::PadDirection::Src);
    let came = Arc::new(std::sync::Mutex::new(Vec::new()));
    let taken = Arc::clone(&came);
    let sink = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            taken.lock().unwrap().push(buffer.pts().unwrap().nseconds());
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    source.link(&sink).unwrap();
    source.set_active(true).unwrap();
    sink.set_active(true).unwrap();
    begin_with_key(&sink);
    source.push_event(gst::event::StreamStart::new("test"));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    source.push_event(gst::event::Segment::new(segment.as_ref()));
    for (pts, delta) in [(0, true), (1, true), (2, false), (3, true), (4, false)] {
        let mut buffer = gst::Buffer::with_size(1).unwrap();
        let writable = buffer.get_mut().unwrap();
        writable.set_pts(gst::ClockTime::from_nseconds(pts));
        if delta {
            writable.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        source.push(buffer).unwrap();
    }
    assert_eq!(*came.lock().unwrap(), [2, 3, 4]);
}

const LONG: Duration = Duration::from_secs(60);

/// A clip of `frames` moving pictures, 320x240, in a folder that goes with it.
fn clip(folder: &TempDir, format: &str, encoder: &str, muxer: &str) -> PathBuf {
    gst::init().unwrap();
    let path = folder.path().join("clip.mp4");
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers={FRAMES} pattern=ball ! video/x-raw,format={format},width=320,height=240,framerate=25/1 ! {encoder} \
         ! {muxer} ! filesink location={}",
        path.display()
    ));
    let pipeline = pipeline.unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let message = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(60),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    assert!(matches!(message.unwrap().view(), gst::MessageView::Eos(_)), "no clip by {encoder}");
    pipeline.set_state(gst::State::Null).unwrap();
    path
}

const FRAMES: u64 = 40;
const H264: &str = "x264enc key-int-max=10 ! h264parse";

/// What a source gave to its end.
#[derive(Default)]
struct Played {
    frames: Vec<Frame<Decoded>>,
    labels: Vec<String>,
    failed: Option<String>,
}

impl Played {
    fn on_gpu(&self) -> usize {
        self.frames.iter().filter(|frame| matches!(frame.pixels, Decoded::Device(_))).count()
    }
}

fn play(path: &Path, gpu: Option<&Arc<CudaDecoding>>) -> Played {
    play_watched(path, gpu, Arc::new(()))
}

fn play_watched(path: &Path, gpu: Option<&Arc<CudaDecoding>>, watch: Arc<dyn Watch>) -> Played {
    let spec = SourceSpec { gpu: gpu.cloned(), watch, ..SourceSpec::new("test", path.to_str().unwrap()) };
    let mut source = Source::start(spec).unwrap();
    let mut played = Played::default();
    let deadline = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < deadline, "{path:?} does not end");
        match source.next(Duration::from_secs(1)) {
            Next::Frame(frame) => played.frames.push(frame),
            Next::Started(info) | Next::Back(info) => played.labels.push(info.decoder),
            Next::Ended => break,
            Next::Failed(error) => {
                played.failed = Some(error.to_string());
                break;
            }
            _ => {}
        }
    }
    for (index, frame) in played.frames.iter().enumerate() {
        assert_eq!(frame.meta.index, index as u64);
    }
    assert!(played.frames.windows(2).all(|pair| pair[0].meta.pts < pair[1].meta.pts));
    played.labels.push(source.stats().decoder.unwrap_or_default());
    played
}

/// The planes of a picture as NV12 or P010, row by row without padding.
fn planes(decoded: &Decoded) -> [Vec<u8>; 2] {
    match decoded {
        Decoded::Device(frame) => {
            let picture = frame.picture;
            let chroma = picture.chroma_size();
            [
                (picture.luma, picture.luma_pitch, picture.size.width, picture.size.height),
                (picture.chroma, picture.chroma_pitch, chroma.width * 2, chroma.height),
            ]
            .map(|(address, pitch, width, rows)| {
                let width = (width as i32 * picture.bytes()) as usize;
                (0..rows).flat_map(|y| soft::read(address + u64::from(y) * pitch as u64, width)).collect()
            })
        }
        Decoded::Host(picture) => {
            let rows = |plane: usize, width: u32| {
                let width = width as usize * if picture.format == PixelFormat::P010 { 2 } else { 1 };
                picture.plane(plane).chunks(picture.strides[plane]).map(move |row| row[..width].to_vec())
            };
            let (size, chroma) = (picture.size, picture.chroma_size());
            let luma = rows(0, size.width).take(size.height as usize).flatten().collect();
            let pairs = if picture.format == PixelFormat::I420 {
                let (u, v) = (rows(1, chroma.width), rows(2, chroma.width));
                let pair = |(u, v): (Vec<u8>, Vec<u8>)| u.into_iter().zip(v).flat_map(|(u, v)| [u, v]);
                u.zip(v).take(chroma.height as usize).flat_map(pair).collect()
            } else {
                rows(1, chroma.width * 2).take(chroma.height as usize).flatten().collect()
            };
            [luma, pairs]
        }
    }
}

fn decoding() -> Arc<CudaDecoding> {
    Arc::new(CudaDecoding::new(Primary::retain().wrap(), 16))
}

#[test]
fn frames_stay_in_video_memory() {
    let codecs = soft::codecs();
    if !child(module_path!(), "frames_stay_in_video_memory", &[("GST_PLUGIN_PATH", &codecs)]) {
        return;
    }
    let gpu = decoding();
    let known = gpu.codecs();
    for (media, element) in known {
        let expected = match media {
            "video/x-h264" => Some("nvh264dec"),
            "video/x-h265" => Some("nvh265dec"),
            "video/x-vp9" => Some("nvvp9dec"),
            _ => None,
        };
        assert_eq!(element.as_deref().ok(), expected, "{media}: {element:?}");
    }
    let h265 = "x265enc key-int-max=10 ! h265parse";
    let vp9 = "vp9enc deadline=1 keyframe-max-dist=10 ! vp9parse";
    let clips = [
        ("I420", H264, "mp4mux", "nvh264dec", PixelFormat::Nv12),
        ("I420", h265, "mp4mux", "nvh265dec", PixelFormat::Nv12),
        ("I420_10LE", h265, "mp4mux", "nvh265dec", PixelFormat::P010),
        ("I420", vp9, "matroskamux", "nvvp9dec", PixelFormat::Nv12),
    ];
    for (raw, encoder, muxer, name, format) in clips {
        let folder = TempDir::new().unwrap();
        let path = clip(&folder, raw, encoder, muxer);
        let cpu = play(&path, None);
        let contexts = soft::books()["contexts"]["created"].clone();
        let played = play(&path, Some(&gpu));
        assert_eq!(played.failed, None, "{encoder}");
        assert_eq!(played.frames.len() as u64, FRAMES, "{encoder}");
        assert_eq!(played.on_gpu() as u64, FRAMES);
        assert_eq!(played.labels, [name, name]);
        assert_eq!(soft::books()["contexts"]["created"], contexts, "an element made a context of its own");
        for (mine, other) in played.frames.iter().zip(&cpu.frames) {
            let Decoded::Device(frame) = &mine.pixels else { panic!("{mine:?}") };
            assert_eq!((frame.picture.format, frame.picture.size), (format, other.pixels.size()));
            assert_eq!(mine.meta.pts, other.meta.pts);
            assert!(planes(&mine.pixels) == planes(&other.pixels), "{encoder}, frame {}", mine.meta.index);
        }
        drop(played);
        assert_eq!(soft::alive("allocations"), 0);
    }
}

#[test]
fn without_nvdec_the_cpu_decodes_and_the_label_says_why() {
    if !child(module_path!(), "without_nvdec_the_cpu_decodes_and_the_label_says_why", &[]) {
        return;
    }
    let gpu = decoding();
    assert!(gpu.codecs().iter().all(|(_, element)| element.is_err()));
    let folder = TempDir::new().unwrap();
    let played = play(&clip(&folder, "I420", H264, "mp4mux"), Some(&gpu));
    assert_eq!((played.frames.len() as u64, played.on_gpu()), (FRAMES, 0));
    assert_eq!(played.labels[0], "avdec_h264 (NVDEC: no element for video/x-h264)");
    assert_eq!(soft::alive("allocations"), 0);
}

#[test]
fn what_nvdec_does_not_take_goes_to_the_cpu() {
    let codecs = soft::codecs();
    if !child(module_path!(), "what_nvdec_does_not_take_goes_to_the_cpu", &[("GST_PLUGIN_PATH", &codecs)]) {
        return;
    }
    let gpu = decoding();
    let tiny = format!("videoscale ! video/x-raw,width=32,height=32 ! {H264}");
    for (raw, encoder, reason) in [
        ("Y444", H264, "NVDEC: takes no chroma 4:4:4"),
        ("I420_10LE", H264, "NVDEC: takes no video/x-h264 (high-10)"),
        ("I420", "jpegenc", "NVDEC: no element for image/jpeg"),
        ("I420", tiny.as_str(), "NVDEC: takes no video/x-h264 (high)"),
    ] {
        let folder = TempDir::new().unwrap();
        let played = play(&clip(&folder, raw, encoder, "matroskamux"), Some(&gpu));
        assert_eq!((played.frames.len() as u64, played.on_gpu()), (FRAMES, 0), "{encoder}");
        assert!(played.labels[0].contains(reason), "{encoder}: {}", played.labels[0]);
    }

    let folder = TempDir::new().unwrap();
    let (path, turned) = (clip(&folder, "I420", H264, "mp4mux"), folder.path().join("turned.mp4"));
    let turn = ["-v", "error", "-c", "copy", "-metadata:s:v:0", "rotate=90"];
    let ffmpeg = std::process::Command::new("ffmpeg").arg("-i").arg(&path).args(turn).arg(&turned).output();
    let ffmpeg = ffmpeg.unwrap();
    assert!(ffmpeg.status.success(), "{}", String::from_utf8_lossy(&ffmpeg.stderr));
    let played = play(&turned, Some(&gpu));
    assert_eq!((played.frames.len() as u64, played.on_gpu()), (FRAMES, 0));
    assert_eq!(played.frames[0].pixels.size(), Size::new(240, 320));
    let reason = "avdec_h264 + videoflip (NVDEC: does not turn pictures)";
    assert!(played.labels[0].starts_with(reason), "{}", played.labels[0]);
}

/// Writes down what it is told.
#[derive(Default)]
struct Told(std::sync::Mutex<Vec<String>>);

impl Told {
    fn add(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|told| *told == what).count()
    }
}

impl Watch for Told {
    fn enter(&self) {
        self.add("enter");
    }
    fn leave(&self) {
        self.add("leave");
    }
    fn inside(&self) {
        self.add("inside");
    }
    fn outside(&self) {
        self.add("outside");
    }
    fn decoding(&self, decoder: &str) {
        self.add(decoder);
    }
    fn packet(&self) {
        self.add("packet");
    }
    fn idle(&self) {
        self.add("idle");
    }
}

/// A crash in a decoder on the GPU can be blamed on its source, as one on the CPU; what the driver starts there is not
/// taken for the source's own.
#[test]
fn a_decoder_on_the_gpu_is_watched() {
    let codecs = soft::codecs();
    if !child(module_path!(), "a_decoder_on_the_gpu_is_watched", &[("GST_PLUGIN_PATH", &codecs)]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = clip(&folder, "I420", H264, "mp4mux");
    for (gpu, name) in [(Some(decoding()), "nvh264dec"), (None, "avdec_h264")] {
        let told = Arc::new(Told::default());
        let played = play_watched(&path, gpu.as_ref(), told.clone());
        assert_eq!((played.failed, played.frames.len() as u64), (None, FRAMES));
        assert_eq!(told.count(name), 1, "{:?}", told.0);
        assert_eq!(told.count("packet") as u64, FRAMES);
        assert_eq!(told.count("outside") as u64, FRAMES);
        assert_eq!(told.count("inside") > 0, name == "avdec_h264");
        // The supervisor's thread, and at least one of the pipeline's.
        assert!(told.count("enter") > 2 && told.count("leave") > 2, "{:?}", told.0);
        let before_decoder = |what: &str| {
            let all = told.0.lock().unwrap();
            all.iter().position(|told| told == what) < all.iter().position(|told| told == name)
        };
        assert!(before_decoder("enter") && before_decoder("outside") && !before_decoder("packet"));
    }
}

/// One handler of a pipeline's messages serves both: who asks for the context, and who is told of threads.
#[test]
fn the_bus_gives_the_context_and_tells_of_threads() {
    if !child(module_path!(), "the_bus_gives_the_context_and_tells_of_threads", &[]) {
        return;
    }
    let gpu = decoding();
    // The plugin makes contexts while it is loaded, to ask the driver.
    gst::ElementFactory::make("cudaupload").build().unwrap();
    let before = soft::books()["contexts"]["created"].clone();
    let told = Arc::new(Told::default());
    let spec =
        SourceSpec { gpu: Some(Arc::clone(&gpu)), watch: told.clone(), ..SourceSpec::new("test", "x.mp4") };
    let description = "videotestsrc num-buffers=2 ! video/x-raw,format=NV12,width=64,height=48 ! queue ! \
                       cudaupload ! fakesink";
    let pipeline = gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let bus = pipeline.bus().unwrap();
    listen(&bus, &spec);
    pipeline.set_state(gst::State::Playing).unwrap();
    let wait = gst::ClockTime::from_seconds(LONG.as_secs());
    assert!(bus.timed_pop_filtered(wait, &[gst::MessageType::Eos]).is_some());
    assert_eq!(soft::books()["contexts"]["created"], before, "the element made a context of its own");
    pipeline.set_state(gst::State::Null).unwrap();
    // Two threads: before the queue and behind it.
    assert_eq!((told.count("enter"), told.count("leave")), (2, 2));
}

fn fails_at(name: &str, picture: &str) -> Option<Played> {
    let codecs = soft::codecs();
    let environment = [("GST_PLUGIN_PATH", codecs.as_str()), ("WATCHPOST_SOFT_NVDEC_FAIL", picture)];
    if !child(module_path!(), name, &environment) {
        return None;
    }
    let folder = TempDir::new().unwrap();
    Some(play(&clip(&folder, "I420", H264, "mp4mux"), Some(&decoding())))
}

#[test]
fn a_decoder_that_fails_at_once_gives_way_to_the_cpu() {
    let Some(played) = fails_at("a_decoder_that_fails_at_once_gives_way_to_the_cpu", "0") else { return };
    assert_eq!(played.failed, None);
    assert_eq!((played.frames.len() as u64, played.on_gpu()), (FRAMES, 0));
    assert_eq!(played.labels, ["avdec_h264 (NVDEC: nvh264dec failed)"; 2]);
}

#[test]
fn a_decoder_that_fails_soon_gives_way_and_no_frame_comes_twice() {
    let Some(played) = fails_at("a_decoder_that_fails_soon_gives_way_and_no_frame_comes_twice", "3") else {
        return;
    };
    assert_eq!(played.failed, None);
    assert_eq!((played.frames.len() as u64, played.on_gpu()), (FRAMES, 3));
    assert_eq!(played.labels, ["nvh264dec", "avdec_h264 (NVDEC: nvh264dec failed)"]);
    let kinds: Vec<_> =
        played.frames.iter().map(|frame| matches!(frame.pixels, Decoded::Device(_))).collect();
    assert!(kinds[..3].iter().all(|gpu| *gpu) && kinds[3..].iter().all(|gpu| !gpu));
    // The ball moves with each frame: no picture is the one before.
    let all: Vec<_> = played.frames.iter().map(|frame| planes(&frame.pixels)).collect();
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_decoder_that_fails_late_fails_the_stream() {
    let Some(played) = fails_at("a_decoder_that_fails_late_fails_the_stream", "20") else { return };
    assert_eq!(played.on_gpu(), 20);
    assert!(played.failed.is_some_and(|error| error.contains("nvh264dec")));
}

/// Sources that are stopped at any moment, their frames let go before or after, leave nothing.
#[test]
fn sources_come_and_go() {
    let codecs = soft::codecs();
    if !child(module_path!(), "sources_come_and_go", &[("GST_PLUGIN_PATH", &codecs)]) {
        return;
    }
    let gpu = decoding();
    let folder = TempDir::new().unwrap();
    let path = clip(&folder, "I420", H264, "mp4mux");
    let round = |stop_at: usize| {
        let spec = SourceSpec {
            gpu: Some(Arc::clone(&gpu)),
            loop_: true,
            ..SourceSpec::new("test", path.to_str().unwrap())
        };
        let mut source = Source::start(spec).unwrap();
        let mut held = Vec::new();
        while held.len() < stop_at {
            if let Next::Frame(frame) = source.next(LONG) {
                held.push(frame);
            }
        }
        if stop_at.is_multiple_of(2) {
            source.stop();
        }
        drop(held);
    };
    (0..4).for_each(round);
    let kinds = ["contexts", "streams", "events", "allocations", "host_allocations"];
    let before = kinds.map(soft::alive);
    (0..100).for_each(|index| round(index % 5));
    assert_eq!(kinds.map(soft::alive), before, "{kinds:?}");
    assert_eq!(before[3], 0);
}
