//! Damaged, truncated, encrypted, odd and fake files: each ends in frames, or in words that say what is wrong.

use watchpost::ingest::{Source, SourceSpec};

use super::play::play;

/// What becomes of a file.
enum Class {
    /// So many frames (at least, at most), then the end.
    Frames(usize, usize),
    /// It fails without a frame, and the error holds this.
    Fails(&'static str),
    /// It does not even start, and the error holds this.
    Refused(&'static str),
    /// As [`Class::Fails`], with one text or the other.
    FailsOr(&'static str, &'static str),
}

use Class::{Fails, FailsOr, Frames, Refused};

/// Frame counts are ranges where decoders may differ in what they conceal.
const FILES: [(&str, Class); 35] = [
    ("BA_MW_D_IDR_LOST.264", Frames(40, 100)),
    ("BA_MW_D_P_LOST.264", Frames(90, 100)),
    ("Error_I_P.264", Frames(2, 10)),
    ("SVA_FM1_E.264", Frames(10, 17)),
    ("chunk_out_of_range.mp4", Fails("corrupt")),
    ("cut_short.mp4", Frames(60, 72)),
    ("empty.mp4", Refused("it is empty")),
    ("encrypted_cbcs.mp4", Fails("encrypted")),
    ("fuzzbox_1.mp4", Fails("parsebin")),
    ("fuzzbox_10.mp4", Fails("typefind")),
    ("fuzzbox_2.mp4", Fails("typefind")),
    ("fuzzbox_3.mp4", Fails("parsebin")),
    ("fuzzbox_4.mp4", Fails("parsebin")),
    ("fuzzbox_5.mp4", Fails("parsebin")),
    ("fuzzbox_6.mp4", Fails("parsebin")),
    ("fuzzbox_7.mp4", Fails("typefind")),
    ("fuzzbox_8.mp4", Fails("parsebin")),
    ("fuzzbox_9.mp4", Fails("parsebin")),
    ("hevc_white_frame.mp4", Frames(1, 1)),
    ("init_truncated.mp4", Fails("incomplete")),
    ("invalid_userdata.mp4", Fails("without one decodable frame")),
    ("minimal.mp4", Frames(1, 1)),
    ("no_timescale.mp4", Fails("no playable streams")),
    ("noise.mp4", Fails("typefind")),
    // Once in some hundred runs GStreamer posts no error for it; then the stall limit speaks.
    ("short-cenc.mp4", FailsOr("encrypted", "no frame could be read for 20s")),
    ("sps_subsetsps_bothVUI.264", Fails("avdec_h264")),
    ("test_case_1185230.mp4", Fails("avdec_h264")),
    ("text.mp4", Fails("typefind")),
    ("tiny_av1.mp4", Frames(1, 1)),
    ("video_rotation_90.mp4", Frames(1, 1)),
    ("vp9.ivf", Frames(25, 25)),
    ("white.mp4", Frames(300, 300)),
    ("zero_empty_stsc.mp4", Fails("avdec_h264")),
    (".", Refused("no regular file")),
    ("not-there.mp4", Refused("No such file")),
];

#[test]
fn every_damaged_file_ends_in_frames_or_in_a_clear_error() {
    let Some(data) = e2e::data::data("every_damaged_file_ends_in_frames_or_in_a_clear_error") else { return };
    let folder = data.join("corrupt");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(FILES.iter().any(|(known, _)| name == *known), "{} is not in the table", name.display());
    }
    let mut wrong = Vec::new();
    for (name, class) in &FILES {
        let path = folder.join(name);
        let started = Source::start(SourceSpec::new("test", path.to_str().unwrap()));
        let outcome = started.map(|mut source| play(&mut source));
        let found = match &outcome {
            Err(error) => format!("refused: {error}"),
            Ok(played) => match &played.failed {
                Some(error) => format!("{} frames, then: {error}", played.frames.len()),
                None => format!("{} frames", played.frames.len()),
            },
        };
        let right = match (class, &outcome) {
            (Refused(text), Err(error)) => error.to_string().contains(text),
            (Frames(least, most), Ok(played)) => {
                played.failed.is_none() && (*least..=*most).contains(&played.frames.len())
            }
            (Fails(text) | FailsOr(text, _), Ok(played)) => {
                let other = if let FailsOr(_, other) = class { other } else { text };
                let named = |error: &watchpost::ingest::IngestError| {
                    let error = error.to_string();
                    (error.contains(text) || error.contains(other)) && error.contains(name)
                };
                played.frames.is_empty() && played.failed.as_ref().is_some_and(named)
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{name}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "unexpected outcomes:\n{}", wrong.join("\n"));
}

#[test]
fn a_rotation_tag_is_honoured() {
    let Some(data) = e2e::data::data("a_rotation_tag_is_honoured") else { return };
    let played = play(&mut super::play::open(&data.join("corrupt/video_rotation_90.mp4")));
    let info = played.info.unwrap();
    assert_eq!(
        (info.size.width, info.size.height),
        (60, 100),
        "stored as 100x60, to be turned by 90 degrees"
    );
    assert!(info.decoder.ends_with("+ videoflip"), "{}", info.decoder);
}

#[test]
fn the_shared_videos_give_all_their_frames_and_colours() {
    let Some(data) = e2e::data::data("the_shared_videos_give_all_their_frames_and_colours") else { return };
    use watchpost::flow::Matrix::{Bt601, Bt709};
    for (name, frames, matrix) in [
        ("intel_bottle-detection", 1189, Bt601),
        ("intel_car-detection", 377, Bt601),
        ("intel_one-by-one-person-detection", 1394, Bt601),
        ("nvidia_Retail02_short", 603, Bt709),
        ("opencv_zoo_TestV4", 151, Bt709),
        ("supervision_walking", 341, Bt709),
    ] {
        let mut source = super::play::open(&data.join(format!("videos/{name}.mp4")));
        let mut count = 0;
        loop {
            match source.next(super::play::LONG) {
                watchpost::ingest::Next::Frame(frame) => {
                    assert_eq!(super::play::host(&frame.pixels).color.matrix, matrix, "{name}");
                    assert_eq!(frame.meta.gap, 0, "{name} has no gap at {count}");
                    count += 1;
                }
                watchpost::ingest::Next::Started(_) => {}
                watchpost::ingest::Next::Ended => break,
                other => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!(count, frames, "{name}");
    }
}
