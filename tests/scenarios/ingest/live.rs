//! Live sources over RTSP.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::rtsp::RtspServer;
use watchpost::config::settings::Transport;
use watchpost::flow::{Decoded, Frame, StreamInfo};
use watchpost::ingest::{IngestError, Next, Source, SourceSpec};

use super::clips::{Clip, clip};
use super::play::LONG;

/// What a live source said until a condition held.
#[derive(Default)]
struct Heard {
    frames: Vec<Frame<Decoded>>,
    started: Vec<StreamInfo>,
    lost: Vec<IngestError>,
    back: Vec<StreamInfo>,
}

fn listen(source: &mut Source, until: impl Fn(&Heard) -> bool) -> Heard {
    let mut heard = Heard::default();
    let deadline = Instant::now() + LONG;
    while !until(&heard) {
        assert!(
            Instant::now() < deadline,
            "{source:?} gave {} frames, lost {:?}, {:?}",
            heard.frames.len(),
            heard.lost,
            source.stats()
        );
        match source.next(Duration::from_millis(500)) {
            Next::Frame(frame) => heard.frames.push(frame),
            Next::Started(info) => heard.started.push(info),
            Next::Lost(error, retry) => {
                assert!(retry >= Duration::from_millis(400) && retry <= Duration::from_secs(37));
                heard.lost.push(error);
            }
            Next::Back(info) => heard.back.push(info),
            Next::Timeout => {}
            other => panic!("a live source says {other:?}"),
        }
    }
    for pair in heard.frames.windows(2) {
        assert!(pair[1].meta.pts > pair[0].meta.pts && pair[1].meta.index == pair[0].meta.index + 1);
    }
    heard
}

fn live(url: &str) -> SourceSpec {
    SourceSpec { stall: Duration::from_secs(1), ..SourceSpec::new("live", url) }
}

fn file() -> PathBuf {
    clip(&Clip { name: "live.mp4", frames: 50, audio: true, ..Clip::default() })
}

#[test]
fn two_streams_of_one_server_at_once() {
    let server = RtspServer::builder().mount("/main", &file()).start();
    let play = |url: String| {
        let mut source = Source::start(live(&url)).unwrap();
        // More than the file has: the server starts over, its timestamps go on, and so does the stream.
        let heard = listen(&mut source, |heard| heard.frames.len() >= 70);
        let info = &heard.started[0];
        assert!(info.live && info.decoder == "avdec_h264" && info.size.width == 320, "{info:?}");
        assert_eq!(heard.frames[0].meta.pts, 0);
        let span = heard.frames[69].meta.pts;
        // 2.76 s, less what the jitter buffer takes back of the first packets' lateness.
        assert!((2_200_000_000..=3_000_000_000).contains(&span), "70 frames at 25 a second span {span} ns");
        assert!(heard.frames.iter().all(|frame| frame.meta.gap == 0) && heard.lost.is_empty());
    };
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..2).map(|_| scope.spawn(|| play(server.url("/main")))).collect();
        streams.into_iter().for_each(|stream| stream.join().unwrap());
    });
}

#[test]
fn by_udp_too() {
    let server = RtspServer::serve(&file());
    let spec = SourceSpec { transport: Transport::Udp, ..live(&server.url("/main")) };
    let mut source = Source::start(spec).unwrap();
    listen(&mut source, |heard| heard.frames.len() >= 20);
}

#[test]
fn a_consumer_that_is_stuck_loses_the_oldest_frames_and_no_others() {
    let server = RtspServer::serve(&file());
    let mut source = Source::start(live(&server.url("/main"))).unwrap();
    let before = listen(&mut source, |heard| heard.frames.len() >= 3);
    let deadline = Instant::now() + LONG;
    while source.stats().dropped < 20 {
        assert!(Instant::now() < deadline, "{:?}", source.stats());
        std::thread::yield_now();
    }
    assert!(source.left_out() >= 20);
    let after = listen(&mut source, |heard| heard.frames.len() >= 20);
    let (last, first) = (&before.frames.last().unwrap().meta, &after.frames[0].meta);
    assert_eq!(first.index, last.index + 1);
    assert!(first.gap > 500_000_000, "what is missing is said: {first:?}");
    assert!(after.frames[1..].iter().all(|frame| frame.meta.gap == 0));
}

#[test]
fn a_server_that_goes_and_comes_back() {
    let mut server = RtspServer::serve(&file());
    let mut source = Source::start(live(&server.url("/main"))).unwrap();
    let before = listen(&mut source, |heard| heard.frames.len() >= 10);
    server.stop();
    let lost = listen(&mut source, |heard| !heard.lost.is_empty());
    assert!(!source.stats().connected && source.stats().last_error.is_some());
    server.restart();
    let after = listen(&mut source, |heard| heard.frames.len() >= 10);
    assert_eq!((after.back.len(), after.started.len(), after.lost.len()), (1, 0, 0), "said once each");
    let first = &after.frames[0].meta;
    let last = &lost.frames.last().unwrap_or(before.frames.last().unwrap()).meta;
    assert_eq!(first.index, last.index + 1, "indexes have no hole");
    assert!(first.gap > 0 && first.pts > last.pts + first.gap, "{first:?} after {last:?}");
    assert!(after.frames[1..].iter().all(|frame| frame.meta.gap == 0));
    assert_eq!(source.stats().reconnects, 1);
}

#[test]
fn connected_but_silent_counts_as_down() {
    let server = RtspServer::serve(&file());
    let mut source = Source::start(live(&server.url("/main"))).unwrap();
    listen(&mut source, |heard| heard.frames.len() >= 5);
    server.silence(true);
    let heard = listen(&mut source, |heard| !heard.lost.is_empty());
    assert!(matches!(heard.lost[0], IngestError::Stalled { .. }), "{}", heard.lost[0]);
    server.silence(false);
    let heard = listen(&mut source, |heard| heard.frames.len() >= 5);
    assert_eq!(heard.back.len(), 1);
}

#[test]
fn a_source_that_is_not_there_holds_up_nobody() {
    let server = RtspServer::serve(&file());
    // An address that swallows connections (TEST-NET-1), one that refuses them, and one that is not served.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut bad: Vec<Source> = [
        "rtsp://192.0.2.1/none".to_string(),
        format!("rtsp://127.0.0.1:{closed}/none"),
        server.url("/not-mounted"),
    ]
    .iter()
    .map(|url| Source::start(live(url)).unwrap())
    .collect();
    let mut good = Source::start(live(&server.url("/main"))).unwrap();
    listen(&mut good, |heard| heard.frames.len() >= 10);
    for source in &mut bad[1..] {
        let heard = listen(source, |heard| !heard.lost.is_empty());
        assert!(heard.started.is_empty() && heard.frames.is_empty());
    }
    assert!(good.stats().attempts == 1 && good.stats().last_error.is_none());
}

#[test]
fn a_server_that_comes_late_is_started_and_not_back() {
    let mut server = RtspServer::serve(&file());
    server.stop();
    let mut source = Source::start(live(&server.url("/main"))).unwrap();
    listen(&mut source, |heard| !heard.lost.is_empty());
    server.restart();
    let heard = listen(&mut source, |heard| heard.frames.len() >= 5);
    assert_eq!((heard.started.len(), heard.back.len()), (1, 0));
    assert_eq!((heard.frames[0].meta.index, heard.frames[0].meta.pts, heard.frames[0].meta.gap), (0, 0, 0));
}

#[test]
fn credentials_work_and_are_shown_nowhere() {
    let (user, password) = ("operator-joe", "p:w/%s3cret");
    let escaped = "p%3Aw%2F%25s3cret";
    let mut server = RtspServer::builder().mount("/main", &file()).credentials(user, password).start();
    let url = format!("rtsp://{user}:{escaped}@127.0.0.1:{}/main", server.port());
    let mut texts = vec![format!("{:?}", SourceSpec::new("live", &url))];
    let mut source = Source::start(live(&url)).unwrap();
    listen(&mut source, |heard| heard.frames.len() >= 5);
    texts.push(format!("{source:?} {} {:?}", source.location(), source.location()));
    server.stop();
    let lost = listen(&mut source, |heard| !heard.lost.is_empty());
    texts.push(format!("{} {:?} {:?}", lost.lost[0], lost.lost[0], source.stats()));
    server.restart();

    let wrong = format!("rtsp://{user}:wrong-{escaped}@127.0.0.1:{}/main", server.port());
    let mut refused = Source::start(live(&wrong)).unwrap();
    let heard = listen(&mut refused, |heard| !heard.lost.is_empty());
    texts.push(format!("{} {:?} {:?}", heard.lost[0], heard.lost[0], refused.stats()));
    assert!(heard.lost[0].to_string().to_lowercase().contains("unauthorized"), "{}", heard.lost[0]);
    for text in texts {
        for secret in [user, password, escaped, "s3cret"] {
            assert!(!text.contains(secret), "{secret} in: {text}");
        }
    }
}

#[test]
fn wall_clock_of_live_frames() {
    let server = RtspServer::serve(&file());
    let mut source = Source::start(live(&server.url("/main"))).unwrap();
    let heard = listen(&mut source, |heard| heard.frames.len() >= 30);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
    for frame in &heard.frames {
        let age = now.abs_diff(frame.meta.captured);
        assert!(age < LONG.as_micros() as u64, "captured {age} µs from now");
    }
}
