//! The ring of compressed packets: bounded, on the frames' clock, and good for a recording without re-encoding.

use std::path::Path;
use std::time::Duration;

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use watchpost::flow::PacketKind;
use watchpost::ingest::{Clip as Recorded, Next, Source, SourceSpec};

use super::clips::{Clip, clip};
use super::play::{LONG, open, play};

/// Writes packets into an MP4 as they are: a parser and the muxer, no codec.
fn remux(recorded: &Recorded, path: &Path) {
    let pipeline = gst::Pipeline::new();
    let muxer = gst::ElementFactory::make("mp4mux").build().unwrap();
    let sink = gst::ElementFactory::make("filesink").property("location", path).build().unwrap();
    pipeline.add_many([&muxer, &sink]).unwrap();
    muxer.link(&sink).unwrap();
    let begin = recorded.packets[0].dts.min(recorded.packets[0].pts);
    let mut sources = Vec::new();
    for track in [&recorded.video, &recorded.audio].into_iter().flatten() {
        let caps: gst::Caps = track.caps.parse().unwrap();
        let parser = match caps.structure(0).unwrap().name().as_str() {
            "video/x-h264" => "h264parse",
            "video/x-h265" => "h265parse",
            "audio/mpeg" => "aacparse",
            other => panic!("no parser for {other}"),
        };
        let source =
            gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).max_bytes(u64::MAX).build();
        let parser = gst::ElementFactory::make(parser).build().unwrap();
        pipeline.add_many([source.upcast_ref(), &parser]).unwrap();
        gst::Element::link_many([source.upcast_ref(), &parser, &muxer]).unwrap();
        sources.push((track.kind, source));
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    for packet in &recorded.packets {
        let mut buffer = gst::Buffer::from_slice(packet.data.clone());
        let buffer_mut = buffer.get_mut().unwrap();
        buffer_mut.set_pts(gst::ClockTime::from_nseconds(packet.pts.saturating_sub(begin)));
        buffer_mut.set_dts(gst::ClockTime::from_nseconds(packet.dts.saturating_sub(begin)));
        let (_, source) = sources.iter().find(|(kind, _)| *kind == packet.kind).unwrap();
        source.push_buffer(buffer).unwrap();
    }
    for (_, source) in &sources {
        source.end_of_stream().unwrap();
    }
    let end = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(60),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
}

#[test]
fn the_ring_becomes_a_recording_without_re_encoding() {
    let folder = tempfile::tempdir().unwrap();
    for (name, codec, audio) in [
        ("ring.mp4", "h264", true),
        ("ring.ts", "h264", true),
        ("ring.mkv", "h264", false),
        ("ring.h264", "h264", false),
        ("ring265.mp4", "h265", true),
        ("ring265.ts", "h265", false),
    ] {
        let path = clip(&Clip { name, codec, audio, frames: 100, ..Clip::default() });
        let mut source = open(&path);
        let played = play(&mut source);
        assert_eq!(played.frames.len(), 100, "{name}");
        let ring = source.ring();
        drop(source);

        // On the frames' clock: each frame's time is a packet's time.
        let recorded = ring.since(0);
        let mut times: Vec<u64> =
            recorded.packets.iter().filter(|p| p.kind == PacketKind::Video).map(|p| p.pts).collect();
        times.sort_unstable();
        assert_eq!(times.len(), 100, "{name}");
        for (time, frame) in times.iter().zip(&played.frames) {
            assert!(time.abs_diff(frame.pts) < 10_000_000, "{name}: packet {time}, frame {}", frame.pts);
        }
        assert_eq!(recorded.audio.is_some(), audio, "{name}");
        assert_eq!(recorded.packets.iter().any(|p| p.kind == PacketKind::Audio), audio, "{name}");

        // The last two seconds, from a key frame.
        let last = ring.since(2_000_000_000);
        assert!(last.packets[0].key && last.packets[0].kind == PacketKind::Video);
        let begin = last.packets[0].pts;
        assert!((1_600_000_000..=2_010_000_000).contains(&begin), "{name} begins at {begin}");
        let expected = last.packets.iter().filter(|p| p.kind == PacketKind::Video).count();
        let copy = folder.path().join(format!("{name}.mp4"));
        remux(&last, &copy);
        let again = play(&mut open(&copy));
        assert_eq!((again.failed, again.frames.len()), (None, expected), "{name}");
        let (first, end) = (again.frames[0].pts, again.frames.last().unwrap().pts);
        let span = played.frames.last().unwrap().pts - begin;
        assert!((end - first).abs_diff(span) < 50_000_000, "{name}: {} ns, not {span}", end - first);
    }
}

#[test]
fn the_ring_is_bounded_by_time() {
    let path = clip(&Clip { name: "ring.mp4", audio: true, frames: 100, ..Clip::default() });
    let spec = SourceSpec {
        ring: Duration::from_secs(2),
        loop_: true,
        ..SourceSpec::new("test", path.to_str().unwrap())
    };
    let mut source = Source::start(spec).unwrap();
    let mut frames = 0;
    while frames < 330 {
        match source.next(LONG) {
            Next::Frame(_) => frames += 1,
            Next::Started(_) => {}
            other => panic!("{other:?}"),
        }
        let span = source.ring().span();
        assert!(span <= Duration::from_millis(2900), "2 s, and at most two groups of pictures: {span:?}");
    }
    let recorded = source.ring().since(0);
    assert!(source.ring().span() >= Duration::from_secs(2));
    assert!(recorded.packets[0].key && recorded.packets[0].kind == PacketKind::Video);
}

#[test]
fn no_ring_where_none_is_wanted() {
    let path = clip(&Clip { name: "ring.mp4", audio: true, frames: 100, ..Clip::default() });
    let spec = SourceSpec { ring: Duration::ZERO, ..SourceSpec::new("test", path.to_str().unwrap()) };
    let mut source = Source::start(spec).unwrap();
    assert_eq!(play(&mut source).frames.len(), 100);
    assert!(source.ring().since(0).packets.is_empty() && source.ring().bytes() == 0);
}
