//! A source that is gone leaves nothing behind: threads, file descriptors, memory of its frames.

use std::time::{Duration, Instant};

use e2e::rtsp::RtspServer;
use watchpost::ingest::{Next, Source, SourceSpec};

use super::clips::{Clip, clip};
use super::play::LONG;

/// Names the environment variable under which this test's process is its own child.
const ALONE: &str = "WATCHPOST_INGEST_LEAKS";

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn names() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .collect()
}

/// Other tests of this binary have threads and files of their own: counted in a process of its own.
#[test]
fn fifty_starts_and_stops_leave_nothing_behind() {
    if std::env::var_os(ALONE).is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ingest::leaks::fifty_starts_and_stops_leave_nothing_behind", "--nocapture"])
            .env(ALONE, "1")
            .status()
            .unwrap();
        assert!(status.success(), "see above");
        return;
    }
    let path = clip(&Clip { name: "leaks.mp4", audio: true, ..Clip::default() });
    let server = RtspServer::serve(&path);
    let (file, live) = (path.display().to_string(), server.url("/main"));
    let missing = "rtsp://127.0.0.1:9/none".to_string();
    let round = |stop_at: usize| {
        for uri in [&file, &live] {
            let spec = SourceSpec { loop_: true, ..SourceSpec::new("leaks", uri) };
            let mut source = Source::start(spec).unwrap();
            let mut frames = 0;
            while frames < stop_at {
                if let Next::Frame(_) = source.next(LONG) {
                    frames += 1;
                }
            }
        }
        drop(Source::start(SourceSpec::new("leaks", &missing)).unwrap());
    };
    // GStreamer and GLib keep pools and caches of their own, which the first rounds fill.
    (0..5).for_each(|i| round(i % 3));
    let (threads, files) = (count("/proc/self/task"), count("/proc/self/fd"));
    for i in 0..50 {
        round(i % 3);
        let ours: Vec<String> = names().into_iter().filter(|name| name.starts_with("in-")).collect();
        assert!(ours.is_empty(), "round {i} leaves {ours:?}");
    }
    // The server's own media, and idle threads of GLib's pool, go a little later.
    let deadline = Instant::now() + LONG;
    while count("/proc/self/task") > threads + 8 || count("/proc/self/fd") > files {
        assert!(
            Instant::now() < deadline,
            "{threads} threads before, now {:?}; {files} files before, now {}",
            names(),
            count("/proc/self/fd")
        );
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
