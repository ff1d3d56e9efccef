//! The watchdog is fed by progress, and the state of a newer daemon is refused.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use e2e::daemon::{Daemon, free_port};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use super::{Systemd, command, said};

/// systemd's WatchdogSec in these tests, in microseconds.
const INTERVAL: &str = "2000000";
const FED: &str = "WATCHDOG=1";

fn start(folder: &Path, config: &str, systemd: &Systemd) -> Daemon {
    let environment = [("NOTIFY_SOCKET", systemd.path.as_path()), ("WATCHDOG_USEC", Path::new(INTERVAL))];
    Daemon::start_with(folder, config, &environment)
}

#[test]
fn dark_cameras_are_no_reason_to_restart_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let systemd = Systemd::new(folder.path());
    let (one, two) = (free_port(), free_port());
    let config = format!(
        "mqtt.url = \"off\"\naccel.lane = \"cpu\"\n[streams.door]\nsource = \"rtsp://127.0.0.1:{one}/x\"\n\
         [streams.yard]\nsource = \"rtsp://127.0.0.1:{two}/x\"\n"
    );
    let daemon = start(folder.path(), &config, &systemd);
    let mut told = systemd.wait("that it is ready", |line| line == "READY=1");
    // Three times what a worker may take.
    told.extend(systemd.told(Duration::from_secs(6), |_| false));
    let fed = told.iter().filter(|line| *line == FED).count();
    assert!(fed >= 6, "fed only {fed} times: {told:#?}\n{}", daemon.log());
    let line = "STATUS=0 of 2 streams running; door is down, yard is down";
    assert!(told.iter().any(|told| told == line), "{told:#?}");
    let lines = told.iter().filter(|line| line.starts_with("STATUS=")).count();
    assert!(lines <= 4, "the status is said where there is news: {told:#?}");
    assert!(!daemon.log().contains("hangs"), "{}", daemon.log());

    let (status, log) = daemon.stop_with_log();
    assert!(status.success(), "{log}");
    let last = systemd.told(Duration::from_secs(1), |_| false);
    assert!(last.iter().any(|line| line == "STOPPING=1"), "{last:?}");
}

#[test]
fn a_daemon_without_streams_is_ready_and_fed() {
    let folder = tempfile::tempdir().unwrap();
    let systemd = Systemd::new(folder.path());
    let daemon = start(folder.path(), "mqtt.url = \"off\"\naccel.lane = \"cpu\"\n", &systemd);
    systemd.wait("that it is ready", |line| line == "READY=1");
    systemd.wait("that it lives", |line| line == FED);
    assert!(daemon.stop().success());
}

/// A FIFO that is full and that nobody reads: who writes to it hangs, for as long as the file is kept.
fn full_fifo(path: &Path) -> std::fs::File {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut fifo = std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap();
    while fifo.write(&[b' '; 4096]).is_ok() {}
    fifo
}

#[test]
fn a_worker_that_hangs_leaves_the_watchdog_unfed_and_is_named_and_no_source_is_blamed() {
    let folder = tempfile::tempdir().unwrap();
    let systemd = Systemd::new(folder.path());
    let trace = folder.path().join("trace");
    let _fifo = full_fifo(&trace);
    let stream =
        |name: &str| format!("[streams.{name}]\nsource = \"scene://people?seed=1&size=160x90&fps=25\"\n");
    let head = "mqtt.url = \"off\"\naccel.lane = \"cpu\"\n";
    let config = format!("{head}{}trace = \"{}\"\n{}", stream("stuck"), trace.display(), stream("fine"));
    let daemon = start(folder.path(), &config, &systemd);
    systemd.wait("that it is ready", |line| line == "READY=1");
    systemd.wait("that it lives", |line| line == FED);
    daemon.wait_for("stream stuck hangs while writing the trace, since ", Duration::from_secs(60));
    // What was told till then.
    systemd.told(Duration::from_millis(100), |_| false);
    let told = systemd.told(Duration::from_secs(4), |_| false);
    assert!(!told.contains(&FED.to_owned()), "a daemon that hangs is fed: {told:?}\n{}", daemon.log());
    let log = daemon.log();
    let hangs: Vec<&str> = log.lines().filter(|line| line.contains(" hangs while ")).collect();
    assert_eq!(hangs.len(), 1, "it is said once, and of nobody else: {log}");
    assert!(hangs[0].contains("ERROR") && hangs[0].contains("stream=\"stuck\""), "{}", hangs[0]);

    // As systemd does when the interval is over.
    kill_process(Pid::from_raw(daemon.id().cast_signed()).unwrap(), Signal::ABORT).unwrap();
    let (status, log) = daemon.end(Duration::from_secs(30));
    assert_eq!(status.signal(), Some(6), "{log}");
    let daemon = start(folder.path(), &format!("{head}{}{}", stream("stuck"), stream("fine")), &systemd);
    systemd.wait("that it is ready", |line| line == "READY=1");
    let (status, log) = daemon.stop_with_log();
    assert!(status.success() && !log.contains("crashed"), "{log}");
}

#[test]
fn the_state_of_a_newer_daemon_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), "mqtt.url = \"off\"\naccel.lane = \"cpu\"\n");
    daemon.wait_ready();
    assert!(daemon.stop().success());
    let version = folder.path().join("state/version");
    let written = std::fs::read_to_string(&version).unwrap();
    assert_eq!(written, format!("1\nwatchpost {}\n", env!("CARGO_PKG_VERSION")));

    std::fs::write(&version, "7\nwatchpost 2.0.0\n").unwrap();
    let listed = || {
        let entries = std::fs::read_dir(folder.path().join("state")).unwrap();
        let mut all: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|it| (it.file_name(), it.metadata().unwrap().len()))
            .collect();
        all.sort();
        all
    };
    let before = listed();
    for what in ["run", "check"] {
        let output = command(folder.path(), &[what], &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(78), "{what}: {text}");
        assert!(text.contains("version 7, written by watchpost 2.0.0"), "{what}: {text}");
    }
    assert_eq!(listed(), before);
    std::fs::write(&version, "1\nwatchpost 0.0.1\n").unwrap();
    let output = command(folder.path(), &["check"], &[]);
    assert!(output.status.success(), "{}", said(&output));
}
