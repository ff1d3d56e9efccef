//! Small video files, made once a test run with x264 and x265, in each container that ingest reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use gstreamer::{self as gst, prelude::*};

/// What to make. The picture is GStreamer's ball on black, so that frames differ.
pub struct Clip {
    /// File name; its extension says the container.
    pub name: &'static str,
    pub frames: u32,
    pub codec: &'static str,
    pub size: (u32, u32),
    pub fps: u32,
    /// Frames from one key frame to the next.
    pub gop: u32,
    pub audio: bool,
    /// Format of the encoder's input.
    pub format: &'static str,
    /// Pattern of videotestsrc.
    pub pattern: &'static str,
}

impl Default for Clip {
    fn default() -> Self {
        Self {
            name: "clip.mp4",
            frames: 50,
            codec: "h264",
            size: (320, 240),
            fps: 25,
            gop: 10,
            audio: false,
            format: "I420",
            pattern: "ball",
        }
    }
}

/// Names of the clips that this process has made.
static MADE: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The file of a clip, made where it was not yet. Clips of one name must be equal.
pub fn clip(clip: &Clip) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ingest");
    let path = folder.join(clip.name);
    let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !made.contains(clip.name) {
        std::fs::create_dir_all(&folder).unwrap();
        let unfinished = folder.join(format!("{}-{}", std::process::id(), clip.name));
        make(clip, &unfinished);
        std::fs::rename(&unfinished, &path).unwrap();
        made.insert(clip.name);
    }
    path
}

fn make(clip: &Clip, path: &Path) {
    gst::init().unwrap();
    let Clip { frames, codec, size: (width, height), fps, gop, format, pattern, .. } = clip;
    let encoder = match *codec {
        "h264" => format!("x264enc key-int-max={gop} bframes=2 speed-preset=veryfast ! h264parse"),
        "h265" => {
            format!("x265enc key-int-max={gop} speed-preset=ultrafast option-string=open-gop=0 ! h265parse")
        }
        "vp9" => format!("vp9enc keyframe-max-dist={gop} deadline=1 cpu-used=8 ! vp9parse"),
        other => panic!("no encoder for {other}"),
    };
    let (form, muxer) = match path.extension().unwrap().to_str().unwrap() {
        "mp4" => ("", "mp4mux name=mux"),
        "mkv" => ("", "matroskamux name=mux"),
        "ts" => ("", "mpegtsmux name=mux"),
        "ivf" => ("", "avmux_ivf name=mux"),
        "h264" => ("video/x-h264,stream-format=byte-stream,alignment=au !", "identity name=mux"),
        "h265" => ("video/x-h265,stream-format=byte-stream,alignment=au !", "identity name=mux"),
        other => panic!("no container for {other}"),
    };
    let audio = if clip.audio {
        // 44100 samples are 43.07 AAC frames.
        let buffers = frames * 43 / fps;
        format!(
            "audiotestsrc num-buffers={buffers} samplesperbuffer=1024 ! audio/x-raw,rate=44100 ! avenc_aac ! aacparse ! mux."
        )
    } else {
        String::new()
    };
    let description = format!(
        "videotestsrc num-buffers={frames} pattern={pattern} ! \
         video/x-raw,format={format},width={width},height={height},framerate={fps}/1 ! \
         {encoder} ! {form} mux. {muxer} ! filesink location={} {audio}",
        path.display()
    );
    run(&description, path);
}

fn run(description: &str, path: &Path) {
    let pipeline = gst::parse::launch(description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(60),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    let end = end.unwrap_or_else(|| panic!("{} is made in a minute", path.display()));
    if let gst::MessageView::Error(error) = end.view() {
        panic!("{}: {error:?}", path.display());
    }
}

/// A file with sound alone.
pub fn sound(path: &Path) {
    gst::init().unwrap();
    let description = format!(
        "audiotestsrc num-buffers=20 ! avenc_aac ! aacparse ! matroskamux ! filesink location={}",
        path.display()
    );
    run(&description, path);
}
