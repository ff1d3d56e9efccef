//! Files of all kinds: every frame, in order, at its time; loops; at their own pace; sizes and depths that change.

use std::time::{Duration, Instant};

use watchpost::flow::PixelFormat;
use watchpost::ingest::{Next, Source, SourceSpec};

use super::clips::{Clip, clip};
use super::play::{LONG, open, play};

const FRAME: u64 = 40_000_000;

#[test]
fn every_container_gives_every_frame() {
    for (name, codec, decoder) in [
        ("kind.mp4", "h264", "avdec_h264"),
        ("kind.mkv", "h264", "avdec_h264"),
        ("kind.ts", "h264", "avdec_h264"),
        ("kind.h264", "h264", "avdec_h264"),
        ("kind265.mp4", "h265", "avdec_h265"),
        ("kind265.mkv", "h265", "avdec_h265"),
        ("kind265.ts", "h265", "avdec_h265"),
        ("kind.h265", "h265", "avdec_h265"),
        ("kind.ivf", "vp9", "vp9dec"),
    ] {
        let path = clip(&Clip { name, codec, ..Clip::default() });
        let played = play(&mut open(&path));
        assert_eq!(played.failed, None, "{name}");
        assert_eq!(played.frames.len(), 50, "{name}");
        let info = played.info.unwrap();
        assert_eq!((info.size.width, info.size.height, info.decoder.as_str()), (320, 240, decoder), "{name}");
        assert_eq!(info.codec.unwrap().0.as_ref(), format!("video/x-{codec}"), "{name}");
        assert!(!info.live);
        for (index, frame) in played.frames.iter().enumerate() {
            let off = frame.pts.abs_diff(index as u64 * FRAME);
            assert!(off <= FRAME / 8, "{name}: frame {index} has pts {}", frame.pts);
            assert_eq!(frame.gap, 0, "{name}");
        }
        assert!(played.frames[1..].iter().any(|frame| frame.motion > 0.0), "{name}: the ball moves");
        assert!(played.frames.iter().all(|frame| !frame.cut), "{name}: a ball is no cut");
    }
}

#[test]
fn a_file_uri_works_as_its_path_does() {
    let path = clip(&Clip { name: "kind.mp4", ..Clip::default() });
    let uri = format!("file://{}", path.display().to_string().replace('k', "%6B"));
    assert_eq!(play(&mut Source::start(SourceSpec::new("test", &uri)).unwrap()).frames.len(), 50);
}

#[test]
fn ten_bits_and_other_formats_are_converted_once_and_said() {
    for (name, codec, format, expected, edge) in [
        ("ten.mp4", "h265", "I420_10LE", PixelFormat::P010, "videoconvert (I420_10LE to P010_10LE)"),
        ("full.mp4", "h264", "Y444", PixelFormat::I420, "videoconvert (Y444 to "),
    ] {
        let played = play(&mut open(&clip(&Clip { name, codec, format, frames: 10, ..Clip::default() })));
        let info = played.info.unwrap();
        assert_eq!(played.frames.len(), 10, "{name}");
        assert!(info.decoder.contains(edge), "{name}: {}", info.decoder);
        assert!(
            info.format == expected || info.format == PixelFormat::Nv12 && name == "full.mp4",
            "{info:?}"
        );
    }
}

#[test]
fn odd_sizes() {
    let played =
        play(&mut open(&clip(&Clip { name: "odd.mkv", size: (326, 182), frames: 10, ..Clip::default() })));
    assert_eq!((played.frames[9].width, played.frames[9].height, played.frames.len()), (326, 182, 10));
}

#[test]
fn a_file_whose_size_changes_says_so() {
    let small = std::fs::read(clip(&Clip { name: "small.h264", frames: 20, ..Clip::default() })).unwrap();
    let large =
        std::fs::read(clip(&Clip { name: "large.h264", size: (640, 480), frames: 20, ..Clip::default() }))
            .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.h264");
    std::fs::write(&path, [small, large].concat()).unwrap();
    let played = play(&mut open(&path));
    assert_eq!(played.frames.len(), 40);
    assert_eq!(played.sizes.iter().map(|size| size.width).collect::<Vec<_>>(), [640]);
    assert_eq!((played.frames[19].width, played.frames[20].width), (320, 640));
    assert!(played.frames[20].cut, "another size is a cut");
}

#[test]
fn a_scene_change_is_a_cut() {
    let ball = std::fs::read(clip(&Clip { name: "ball.h264", frames: 20, ..Clip::default() })).unwrap();
    let bars = Clip { name: "bars.h264", frames: 20, pattern: "smpte", ..Clip::default() };
    let bars = std::fs::read(clip(&bars)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.h264");
    std::fs::write(&path, [ball, bars].concat()).unwrap();
    let played = play(&mut open(&path));
    let cuts: Vec<u64> = played.frames.iter().filter(|frame| frame.cut).map(|frame| frame.index).collect();
    assert_eq!((played.frames.len(), cuts), (40, vec![20]));
}

#[test]
fn a_loop_goes_on_without_end_and_without_a_gap() {
    let path = clip(&Clip { name: "kind.mp4", ..Clip::default() });
    let spec = SourceSpec { loop_: true, ..SourceSpec::new("test", path.to_str().unwrap()) };
    let mut source = Source::start(spec).unwrap();
    let mut frames = Vec::new();
    while frames.len() < 170 {
        match source.next(LONG) {
            Next::Frame(frame) => frames.push(frame.meta),
            Next::Started(_) => assert!(frames.is_empty()),
            other => panic!("{other:?} after {} frames", frames.len()),
        }
    }
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!((frame.index, frame.gap), (index as u64, 0));
        assert!(frame.pts.abs_diff(index as u64 * FRAME) <= FRAME / 8, "{frame:?}");
    }
    assert_eq!(source.stats().loops, 3);
}

#[test]
fn realtime_plays_at_the_files_pace_also_over_a_loop() {
    let path = clip(&Clip { name: "kind.mp4", ..Clip::default() });
    let spec = SourceSpec { loop_: true, realtime: true, ..SourceSpec::new("test", path.to_str().unwrap()) };
    let mut source = Source::start(spec).unwrap();
    let Next::Started(info) = source.next(LONG) else { panic!("it starts") };
    assert!(info.live, "its frames cannot wait");
    let began = Instant::now();
    let mut last = 0;
    while last < 3_000_000_000 {
        if let Next::Frame(frame) = source.next(LONG) {
            last = frame.meta.pts;
        }
    }
    // It cannot be faster than the clock. How much slower it may be is the machine's affair.
    assert!(began.elapsed() > Duration::from_millis(2800), "3 s in {:?}", began.elapsed());
}

#[test]
fn a_consumer_that_waits_gets_every_frame_of_a_file() {
    let mut source = open(&clip(&Clip { name: "kind.mp4", ..Clip::default() }));
    let Next::Started(_) = source.next(LONG) else { panic!("it starts") };
    // Nothing is taken until the source has nothing left to do but wait.
    let deadline = Instant::now() + LONG;
    let mut before = u64::MAX;
    while before != source.stats().packets || before == 0 {
        assert!(Instant::now() < deadline);
        before = source.stats().packets;
        assert!(matches!(source.ring().since(0).packets.len(), 0..=50));
        std::thread::park_timeout(Duration::from_millis(200));
    }
    assert!(before < 50, "the reader waits, and has not read all {before} packets");
    assert_eq!(play_rest(&mut source), 50);
    assert_eq!(source.stats().dropped, 0);
}

fn play_rest(source: &mut Source) -> usize {
    let mut frames = 0;
    loop {
        match source.next(LONG) {
            Next::Frame(_) => frames += 1,
            Next::Ended => return frames,
            other => panic!("{other:?} after {frames} frames"),
        }
    }
}

#[test]
fn frames_outlive_their_source() {
    let mut source = open(&clip(&Clip { name: "kind.mp4", ..Clip::default() }));
    let mut kept = Vec::new();
    while kept.len() < 10 {
        if let Next::Frame(frame) = source.next(LONG) {
            kept.push(frame);
        }
    }
    let sum = |frame: &watchpost::flow::Frame<watchpost::flow::Decoded>| {
        super::play::host(&frame.pixels).plane(0).iter().map(|&byte| u64::from(byte)).sum::<u64>()
    };
    let before: Vec<u64> = kept.iter().map(sum).collect();
    drop(source);
    assert_eq!(kept.iter().map(sum).collect::<Vec<_>>(), before);
}

#[test]
fn what_cannot_be_a_source_is_refused_with_what_works() {
    for uri in ["gopher://x/y", "rtsp://", "/no/such/file.mp4", "", "udp://239.0.0.1:5000"] {
        let error = Source::start(SourceSpec::new("test", uri)).unwrap_err().to_string();
        assert!(error.contains("rtsp://HOST/PATH") || error.contains("No such file"), "{error}");
    }
    let path = clip(&Clip { name: "kind.mp4", ..Clip::default() });
    let spec = SourceSpec { stall: Duration::ZERO, ..SourceSpec::new("test", path.to_str().unwrap()) };
    let error = Source::start(spec).unwrap_err().to_string();
    assert!(error.contains("stall_seconds") && error.contains("0.2 to 3600"), "{error}");
}

#[test]
fn a_file_without_video_is_named_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.mkv");
    super::clips::sound(&path);
    let played = play(&mut open(&path));
    let error = played.failed.unwrap().to_string();
    assert!(error.contains("no video") && error.contains("audio/"), "{error}");
}
