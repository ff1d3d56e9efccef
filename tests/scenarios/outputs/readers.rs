//! Readers that are not ours: ffmpeg, ffprobe, and GStreamer's RTSP client.
//!
//! In: an address or a file. Out: decoded NV12 pictures, or what ffprobe says. Each is bounded in time.

use std::process::Command;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::pattern::{BYTES, SIZE};

/// Seconds that a reader may take.
const LIMIT: u64 = 60;

/// The first `count` pictures that ffmpeg reads; all where `count` is 0.
pub fn ffmpeg(input: &[&str], count: usize) -> Vec<Vec<u8>> {
    let mut command = Command::new("timeout");
    command.arg(LIMIT.to_string()).args(["ffmpeg", "-nostdin", "-v", "error"]).args(input);
    if count > 0 {
        command.args(["-frames:v", &count.to_string()]);
    }
    command.args(["-fps_mode", "passthrough", "-pix_fmt", "nv12", "-f", "rawvideo", "-"]);
    let output = command.output().expect("ffmpeg: install ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout.len() % BYTES, 0, "{input:?}: not pictures of {SIZE}: {said}");
    assert!(!output.stdout.is_empty(), "{input:?}: no picture: {} {said}", output.status);
    output.stdout.chunks(BYTES).map(<[u8]>::to_vec).collect()
}

/// What ffprobe says of the video stream.
pub fn ffprobe(input: &[&str]) -> serde_json::Value {
    let output = Command::new("timeout")
        .arg(LIMIT.to_string())
        .args(["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_frames"])
        .args(["-show_streams", "-show_format", "-of", "json"])
        .args(input)
        .output()
        .expect("ffprobe: install ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{input:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The first `count` pictures that GStreamer's rtspsrc reads, with their times; from a key frame on, since the
/// decoder would else show what it makes of differences to pictures that it never saw.
pub fn rtspsrc(url: &str, protocol: &str, count: usize) -> Vec<(Vec<u8>, Duration)> {
    gst::init().unwrap();
    let line = format!(
        "rtspsrc location={url} protocols={protocol} latency=100 ! rtph264depay wait-for-keyframe=true ! h264parse ! avdec_h264 ! \
         videoconvert ! video/x-raw,format=NV12 ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut frames = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(LIMIT);
    while frames.len() < count && Instant::now() < deadline {
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(200)) else { continue };
        let buffer = sample.buffer().unwrap();
        let bytes = buffer.map_readable().unwrap().to_vec();
        frames.push((bytes, Duration::from_nanos(buffer.pts().unwrap().nseconds())));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    frames
}
