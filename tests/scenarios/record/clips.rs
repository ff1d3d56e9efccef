//! Clips are the source's own video: they begin at a key frame before the incident, play to their end, and nothing was
//! encoded again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use e2e::mosquitto::until;
use gstreamer::{self as gst, prelude::*};
use serde_json::Value;
use watchpost::config::Settings;
use watchpost::flow::Packets;
use watchpost::ingest::{Next, Source, SourceSpec};
use watchpost::record::Recorder;
use watchpost::telemetry::Registry;

const SECOND: u64 = 1_000_000_000;

/// What ffprobe reads of a file.
pub fn probe(file: &Path) -> Value {
    let done = Command::new("ffprobe")
        .args(["-v", "error", "-show_streams", "-show_packets", "-show_format", "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.is_empty(), "{}: {said}", file.display());
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Frames of a file that ffprobe decodes, without a word of complaint.
pub fn decodes(file: &Path) -> usize {
    let done = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-count_frames"])
        .args(["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.is_empty(), "{}: {said}", file.display());
    String::from_utf8_lossy(&done.stdout).trim().parse().unwrap()
}

fn seconds(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("no time: {value}")).parse().unwrap()
}

/// Ten seconds of a ball, a key frame each second.
fn video(folder: &Path, name: &str, encoder: &str, muxer: &str, sound: bool) -> PathBuf {
    gst::init().unwrap();
    let path = folder.join(name);
    let sound = if sound {
        "audiotestsrc num-buffers=430 samplesperbuffer=1024 ! audio/x-raw,rate=44100 ! avenc_aac ! aacparse ! mux."
    } else {
        ""
    };
    let text = format!(
        "videotestsrc num-buffers=250 pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! \
         {encoder} ! {muxer} name=mux ! filesink location={} {sound}",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &wanted).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    path
}

fn settings(state: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.paths.state = state.to_owned();
    settings.record.before_seconds = 2.0;
    settings.record.after_seconds = 1.0;
    settings.record.min_free_bytes = 0;
    settings
}

/// Reads frames up to a stream time, or to the end.
fn read(source: &mut Source, until: u64) {
    loop {
        match source.next(Duration::from_secs(20)) {
            Next::Frame(frame) if frame.meta.pts >= until => return,
            Next::Ended => return,
            Next::Failed(error) => panic!("{error}"),
            Next::Timeout => panic!("nothing came"),
            _ => {}
        }
    }
}

/// Records an incident from 5 s to 6 s; gives the clip's file, once it is there.
fn record(folder: &Path, file: &Path) -> PathBuf {
    let recorder =
        Recorder::start(&settings(folder), &Registry::new(), std::boxed::Box::new(|_, _| ())).unwrap();
    let handle = recorder.handle();
    let mut source = Source::start(SourceSpec::new("s", file.to_str().unwrap())).unwrap();
    let packets: Arc<dyn Packets> = Arc::new(source.ring());
    let stream = Arc::from("s");
    read(&mut source, 5 * SECOND);
    assert_eq!(handle.clip(&stream, 77, &packets, 5 * SECOND).as_deref(), Some("clips/s/77.mp4"));
    until("it is under way", || handle.status().open == 1);
    read(&mut source, 6 * SECOND);
    handle.end(77, 6 * SECOND);
    let clip = folder.join("clips/s/77.mp4");
    assert!(!clip.exists(), "a clip that is not over has no name yet");
    read(&mut source, u64::MAX);
    until("the clip is there", || handle.status().clips == 1);
    assert!(clip.is_file());
    let status = handle.status();
    assert_eq!((status.open, status.files, status.dropped), (0, 1, 0));
    recorder.stop();
    clip
}

#[test]
fn a_clip_is_the_source_around_the_incident_not_encoded_again() {
    let folder = tempfile::tempdir().unwrap();
    let x264 = "x264enc key-int-max=25 bframes=2 b-adapt=false speed-preset=veryfast ! h264parse";
    let x265 = "x265enc key-int-max=25 speed-preset=ultrafast option-string=open-gop=0 ! h265parse";
    for (name, encoder, muxer, codec, sound) in [
        ("b.mp4", x264, "mp4mux", "h264", true),
        ("b.ts", x264, "mpegtsmux", "h264", false),
        ("h265.mkv", x265, "matroskamux", "hevc", false),
    ] {
        let state = folder.path().join(name.replace('.', "-"));
        let file = video(folder.path(), name, encoder, muxer, sound);
        let clip = record(&state, &file);
        let seen = probe(&clip);
        let streams = seen["streams"].as_array().unwrap();
        let video = streams.iter().find(|stream| stream["codec_type"] == "video").unwrap();
        assert_eq!(video["codec_name"], codec, "{name}");
        assert_eq!(streams.iter().any(|stream| stream["codec_type"] == "audio"), sound, "{name}");
        let packets: Vec<&Value> = seen["packets"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|packet| packet["codec_type"] == "video")
            .collect();
        assert!(packets[0]["flags"].as_str().unwrap().starts_with('K'), "{name}: begins at a key frame");
        let mut times: Vec<f64> = packets.iter().map(|packet| seconds(&packet["pts_time"])).collect();
        times.sort_by(f64::total_cmp);
        // From the key frame at 3 s, or the one before, to 7 s.
        let length = times[times.len() - 1] - times[0];
        assert!((3.8..=5.2).contains(&length), "{name}: {length} s");
        // Where it was cut, frames that others refer to come without those between.
        let even = &times[..times.len() - 4];
        assert!(even.windows(2).all(|pair| (pair[1] - pair[0] - 0.04).abs() < 0.002), "{name}: {times:?}");
        // A player leaves out what the edit list puts before the beginning.
        let shown = decodes(&clip);
        assert!((times.len() - 1..=times.len()).contains(&shown), "{name}: {shown} of {}", times.len());
        // The same bytes: a source whose pictures were coded anew would have others.
        let size = |packet: &Value| packet["size"].as_str().unwrap().parse::<i64>().unwrap();
        let source = probe(&file);
        let sizes: Vec<i64> = source["packets"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|packet| packet["codec_type"] == "video")
            .map(size)
            .collect();
        let clipped: Vec<i64> = packets.iter().map(|packet| size(packet)).collect();
        // Parameter sets and delimiters may be in the packets here and in the header there: a few bytes.
        let found = sizes.windows(clipped.len()).any(|part| {
            part.iter().zip(&clipped).filter(|(a, b)| (**a - **b).abs() > 120).count() * 10 < clipped.len()
        });
        assert!(found, "{name}: {clipped:?} is no part of {sizes:?}");
    }
}

#[test]
fn a_stream_that_stops_ends_its_clips_and_what_was_killed_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    let x264 = "x264enc key-int-max=25 speed-preset=veryfast ! h264parse";
    let file = video(folder.path(), "a.mp4", x264, "mp4mux", false);
    let state = folder.path().join("state");
    let recorder =
        Recorder::start(&settings(&state), &Registry::new(), std::boxed::Box::new(|_, _| ())).unwrap();
    let handle = recorder.handle();
    let mut source = Source::start(SourceSpec::new("s", file.to_str().unwrap())).unwrap();
    let packets: Arc<dyn Packets> = Arc::new(source.ring());
    let stream = Arc::from("s");
    read(&mut source, 4 * SECOND);
    assert!(handle.clip(&stream, 1, &packets, 4 * SECOND).is_some());
    until("it is under way", || std::fs::metadata(state.join("clips/s/1.mp4.part")).is_ok());
    // What a daemon that is killed now leaves behind is nobody's recording.
    std::fs::copy(state.join("clips/s/1.mp4.part"), state.join("clips/s/9.mp4.part")).unwrap();
    handle.stopped(&stream);
    source.stop();
    until("the clip is there", || handle.status().clips == 1);
    let clip = state.join("clips/s/1.mp4");
    assert!(decodes(&clip) >= 50, "two seconds before, at least");
    recorder.stop();
    let again =
        Recorder::start(&settings(&state), &Registry::new(), std::boxed::Box::new(|_, _| ())).unwrap();
    until("the folder was looked through", || again.handle().status().files == 1);
    assert!(!state.join("clips/s/9.mp4.part").exists());
    again.stop();
}
