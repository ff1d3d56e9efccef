//! Sources that crash the decoder: the daemon dies, as it must, and the next one knows whose fault it was.
//!
//! In: a decoder with a bug (`crash/decoder.c`, compiled here), found by GStreamer before all others, and files with
//! packets that it dies of. Out: daemons that die of the signal itself, and what they say after the restart.

#[path = "crash/gpu.rs"]
mod gpu;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use e2e::daemon::Daemon;
use e2e::data::root;
use e2e::mosquitto::Mosquitto;
use e2e::plugins::{install, wait, wasm};
use e2e::rtsp::RtspServer;
use gstreamer::{self as gst, prelude::*};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The number of the packet that the decoder dies of.
const FATAL: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder with the decoder, compiled once, and GStreamer's registry that knows it.
fn decoder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash");
        let plugins = folder.join("plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        // A registry of an earlier run may know an earlier decoder.
        let _ = std::fs::remove_file(folder.join("registry"));
        let flags =
            Command::new("pkg-config").args(["--cflags", "--libs", "gstreamer-video-1.0"]).output().unwrap();
        assert!(flags.status.success(), "{flags:?}");
        let done = Command::new("gcc")
            .args([
                "-std=c11",
                "-O1",
                "-fno-optimize-sibling-calls",
                "-Wall",
                "-Wextra",
                "-Wno-infinite-recursion",
            ])
            .args(["-fPIC", "-shared", "-pthread", "-o"])
            .arg(plugins.join("libgstcrashdec.so"))
            .arg(root().join("tests/scenarios/crash/decoder.c"))
            .args(String::from_utf8(flags.stdout).unwrap().split_whitespace())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        folder
    })
}

/// Motion JPEG of four seconds; one of its packets carries a word for the decoder, where one is given.
fn video(folder: &Path, name: &str, word: Option<&str>) -> PathBuf {
    let path = folder.join(format!("{name}.avi"));
    encode(&path, "jpegenc", "avimux", word, |packet, mark| {
        // Behind the start marker: the marker of a comment, its length with the two bytes of the length.
        let length = u16::try_from(mark.len() + 2).unwrap().to_be_bytes();
        let segment = [&[0xff, 0xfe], &length[..], mark].concat();
        packet.splice(2..2, segment);
    });
    path
}

/// Encodes four seconds; `put` puts the mark for the decoder into the fatal packet, where a word for it is given.
fn encode(
    path: &Path,
    encoder: &str,
    muxer: &str,
    word: Option<&str>,
    put: impl Fn(&mut Vec<u8>, &[u8]) + Send + Sync + 'static,
) {
    gst::init().unwrap();
    let text = format!(
        "videotestsrc num-buffers=100 ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 ! {encoder} ! \
         identity name=mark ! {muxer} ! filesink location={}",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
    let mark = word.map(|word| format!("watchpost-test:{word}"));
    let count = std::sync::atomic::AtomicUsize::new(0);
    let pad = pipeline.by_name("mark").unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let (Some(mark), FATAL, Some(buffer)) = (&mark, number, info.buffer_mut()) {
            let mut bytes = buffer.map_readable().unwrap().to_vec();
            put(&mut bytes, mark.as_bytes());
            let mut marked = gst::Buffer::from_mut_slice(bytes);
            buffer.copy_into(marked.get_mut().unwrap(), gst::BufferCopyFlags::TIMESTAMPS, ..).unwrap();
            *buffer = marked;
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(matches!(end.unwrap().view(), gst::MessageView::Eos(_)), "{} is made", path.display());
}

/// A configuration in which each stream plays its file over and over, at its own pace.
fn config(mqtt: &str, streams: &[(&str, &Path)]) -> String {
    let mut text = format!("box.name = \"gate\"\nmqtt.url = \"{mqtt}\"\n");
    for (name, source) in streams {
        text +=
            &format!("[streams.{name}]\nsource = \"{}\"\nloop = true\nrealtime = true\n", source.display());
    }
    text
}

fn start(folder: &Path, config: &str) -> Daemon {
    let decoder = decoder();
    let (plugins, registry) = (decoder.join("plugins"), decoder.join("registry"));
    Daemon::start_with(folder, config, &[("GST_PLUGIN_PATH", &plugins), ("GST_REGISTRY", &registry)])
}

/// Starts a daemon and waits until it has died; gives the signal and its log.
fn dies(folder: &Path, config: &str) -> (i32, String) {
    let (end, log) = start(folder, config).end(PATIENCE);
    (end.signal().unwrap_or_else(|| panic!("{end:?}\n{log}")), log)
}

/// The streams, as `watchpost status` shows them.
fn streams(daemon: &Daemon) -> BTreeMap<String, Value> {
    let done = daemon.command(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    serde_json::from_value(status["streams"].clone()).unwrap_or_default()
}

/// Waits until a stream is in a state; gives its status.
fn wait_state(daemon: &Daemon, stream: &str, state: &str) -> Value {
    let mut last = Value::Null;
    wait(
        &format!("stream {stream} is {state}"),
        || {
            last = streams(daemon).remove(stream).unwrap_or_default();
            last["state"] == state && (state != "running" || last["frames"].as_u64() > Some(20))
        },
        || daemon.log(),
    );
    last
}

/// The book of crashes below a daemon's folder.
fn book(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("state/crashes/ledger.json")).unwrap_or_else(|_| b"{}".to_vec());
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn a_source_that_crashes_the_decoder_is_quarantined_by_name_and_the_others_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (good, bad) = (video(folder, "good", None), video(folder, "bad", Some("segv")));
    let broker = Mosquitto::start();
    let inbox = broker.subscribe("watchpost/gate/streams/+/status");
    let both = config(&broker.url(), &[("good", &good), ("bad", &bad)]);
    for count in 0..3 {
        let (signal, log) = dies(folder, &both);
        assert_eq!(signal, Signal::SEGV.as_raw(), "life {count}:\n{log}");
        let told = log.contains("the daemon crashed before: SIGSEGV")
            && log.contains("in the decoder of stream bad");
        assert_eq!(told, count > 0, "life {count}:\n{log}");
    }

    let daemon = start(folder, &both);
    daemon.wait_ready();
    let status = wait_state(&daemon, "bad", "quarantined");
    let error = status["error"].as_str().unwrap();
    for part in [
        "stream bad is quarantined",
        &bad.display().to_string(),
        "crashed the daemon 3 times in its decoder (crashdec)",
        "SIGSEGV at 20",
        "watchpost enable bad",
    ] {
        assert!(error.contains(part), "\"{part}\" is not in: {error}");
    }
    assert!(daemon.log().contains(error));
    wait_state(&daemon, "good", "running");
    wait(
        "MQTT says so",
        || {
            inbox.messages().iter().rev().any(|message| {
                let status = message.json();
                status["stream"] == "bad" && status["state"] == "quarantined" && status["error"] == error
            })
        },
        || format!("{:#?}", inbox.messages()),
    );
    // Neither a clean end nor `kill -9` makes it forget.
    assert!(daemon.stop().success());
    start(folder, &both).kill();
    let daemon = start(folder, &both);
    wait_state(&daemon, "bad", "quarantined");
    wait_state(&daemon, "good", "running");

    // Another source for the same stream, without a restart.
    let better = video(folder, "better", None);
    std::fs::write(daemon.config(), config(&broker.url(), &[("good", &good), ("bad", &better)])).unwrap();
    assert!(daemon.command(&["reload"]).status.success(), "{}", daemon.log());
    wait_state(&daemon, "bad", "running");
    // The old one again: it is not forgotten, but nothing crashes.
    std::fs::write(daemon.config(), &both).unwrap();
    assert!(daemon.command(&["reload"]).status.success(), "{}", daemon.log());
    wait_state(&daemon, "bad", "quarantined");
    wait_state(&daemon, "good", "running");
    // Whoever turns it on wants it to be tried: and it is.
    assert!(daemon.command(&["enable", "bad"]).status.success(), "{}", daemon.log());
    let (end, log) = daemon.end(PATIENCE);
    assert_eq!(end.signal(), Some(Signal::SEGV.as_raw()), "{log}");
    assert_eq!(book(folder)["quarantined"], serde_json::json!([]));
}

#[test]
fn other_ways_to_die_blame_the_source_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = video(folder, "good", None);
    let both = |bad: &Path| config("off", &[("good", &good), ("bad", bad)]);
    // In a thread that the decoder made; by abort; with no stack left.
    for (word, died_of) in [("thread", Signal::SEGV), ("abort", Signal::ABORT), ("deep", Signal::SEGV)] {
        let (signal, log) = dies(folder, &both(&video(folder, word, Some(word))));
        assert_eq!(signal, died_of.as_raw(), "{word}:\n{log}");
    }
    // In a thread that cannot be told whose it is: both had just begun.
    let (signal, log) = dies(folder, &both(&video(folder, "stray", Some("stray"))));
    assert_eq!(signal, Signal::SEGV.as_raw(), "{log}");

    let daemon = start(folder, &both(&good));
    wait_state(&daemon, "bad", "running");
    wait_state(&daemon, "good", "running");
    let log = daemon.log();
    assert!(log.contains("and suspected: the decoders of"), "{log}");
    let book = book(folder);
    let crashes = book["crashes"].as_array().unwrap();
    assert_eq!(crashes.len(), 4, "{book:#}");
    let mut sources = Vec::new();
    for (number, crash) in crashes.iter().enumerate() {
        let names: Vec<&str> =
            crash["sources"].as_array().unwrap().iter().map(|s| s["stream"].as_str().unwrap()).collect();
        assert_eq!(crash["certain"], number < 3, "{book:#}");
        assert!(names.contains(&"bad"), "{book:#}");
        assert_eq!(names.contains(&"good"), number == 3, "{book:#}");
        sources.push(crash["sources"][0]["source"].clone());
    }
    // Four files, so four sources: none has three strikes.
    sources.dedup();
    assert_eq!(sources.len(), 4);
    assert!(!book.to_string().contains("stray.avi"), "an address is on disk: {book:#}");
    assert!(daemon.stop().success());
}

/// The timer slack of each of a process's threads, with its name; none where it may not be read.
fn slacks(process: u32) -> Option<Vec<(u64, String)>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let thread = entry.unwrap().file_name().into_string().unwrap();
        // Threads come and go.
        let Ok(name) = std::fs::read_to_string(format!("/proc/{thread}/comm")) else { continue };
        match std::fs::read_to_string(format!("/proc/{thread}/timerslack_ns")) {
            Ok(slack) => threads.push((slack.trim().parse().unwrap(), name.trim().to_owned())),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()) => {
                return None;
            }
            Err(_) => {}
        }
    }
    Some(threads)
}

#[test]
fn the_threads_of_a_real_decoder_carry_the_mark_of_their_source() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = crate::ingest::clips::clip(&crate::ingest::clips::Clip::default());
    let camera = RtspServer::serve(&file);
    let text = format!(
        "{}[streams.camera]\nsource = \"{}\"\n",
        config("off", &[("file", &file)]),
        camera.url("/main")
    );
    let daemon = start(folder, &text);
    wait_state(&daemon, "file", "running");
    let status = wait_state(&daemon, "camera", "running");
    assert_eq!(status["edges"][0]["by"], "avdec_h264");
    let Some(threads) = slacks(daemon.id()) else {
        return eprintln!("SKIPPED the mark of threads: reading it needs CAP_SYS_NICE");
    };
    let none = threads.iter().find(|(_, name)| name == "watchpost").unwrap().0;
    let mut marked: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (slack, name) in threads.iter().filter(|(slack, _)| *slack != none) {
        // Only what decodes, and what it started: names are handed down too.
        assert!(name.contains(':'), "{name} is marked: {threads:?}");
        marked.entry(*slack).or_default().push(name);
    }
    // Frames of a file are decoded by two threads beside, a live one's by one.
    let mut counts: Vec<usize> = marked.values().map(Vec::len).collect();
    counts.sort_unstable();
    assert_eq!(counts.len(), 2, "{marked:?}");
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert!(counts[0] >= 2 && counts[1] >= 3, "{marked:?}");
    }
    assert!(daemon.stop().success());
}

#[test]
fn a_daemon_that_is_killed_blames_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (first, second) = (video(folder, "first", None), video(folder, "second", None));
    let both = config("off", &[("first", &first), ("second", &second)]);
    // `kill -9`, and the signals of a crash, but sent by another: systemd's watchdog sends SIGABRT.
    for signal in
        [Signal::KILL, Signal::KILL, Signal::KILL, Signal::SEGV, Signal::SEGV, Signal::ABORT, Signal::ABORT]
    {
        let daemon = start(folder, &both);
        wait_state(&daemon, "first", "running");
        wait_state(&daemon, "second", "running");
        kill_process(Pid::from_raw(daemon.id().cast_signed()).unwrap(), signal).unwrap();
        let (end, log) = daemon.end(PATIENCE);
        assert_eq!(end.signal(), Some(signal.as_raw()), "{log}");
    }
    let daemon = start(folder, &both);
    for stream in ["first", "second"] {
        assert_eq!(wait_state(&daemon, stream, "running")["error"], Value::Null);
    }
    assert!(!daemon.log().contains("crashed"), "{}", daemon.log());
    assert_eq!(book(folder), serde_json::json!({}));
    assert!(daemon.stop().success());
}

#[test]
fn traps_of_plugins_stay_contained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = video(folder, "good", None);
    std::fs::create_dir_all(folder.join("plugins")).unwrap();
    install(&folder.join("plugins/misbehave.wasm"), &std::fs::read(wasm("misbehave")).unwrap());
    let mut text = format!("limits.failures = 2\n{}", config("off", &[("good", &good)]));
    for (entry, behave) in [("trap", "trap"), ("deep", "large-recursion")] {
        text += &format!("plugins.{entry} = {{ use = \"misbehave\", behave = \"{behave}\" }}\n");
    }
    let daemon = start(folder, &text);
    wait(
        "both entries are quarantined",
        || {
            let status = streams(&daemon).remove("good").unwrap_or_default();
            let entries = status["plugins"].as_array().cloned().unwrap_or_default();
            entries.len() == 2 && entries.iter().all(|entry| entry["state"] == "quarantined")
        },
        || daemon.log(),
    );
    let status = wait_state(&daemon, "good", "running");
    let messages = status["plugins"].to_string();
    assert!(messages.contains("built to trap") && messages.contains("a recursion too deep"), "{messages}");
    assert!(daemon.stop().success());
    assert_eq!(book(folder), serde_json::json!({}));
}
