//! The journal: a daemon whose standard error leads there speaks journald's protocol, with fields to filter by.
//!
//! In a mount namespace of its own, where `/run/systemd/journal/socket` is the test's. That takes root: without, nothing
//! is tried here, and the layer's own tests say what it writes.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::daemon::{Daemon, binary, free_port};

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The value of a field without line breaks.
fn field<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn entries_of_a_daemon_have_the_stream_and_a_priority() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting takes root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A first start makes the folders.
    let config = format!(
        "mqtt.url = \"off\"\naccel.lane = \"cpu\"\n[streams.yard]\nsource = \"rtsp://127.0.0.1:{}/x\"\n",
        free_port()
    );
    let daemon = Daemon::start(folder.path(), &config);
    daemon.wait_ready();
    assert!(daemon.stop().success());

    let journal = folder.path().join("journal");
    std::fs::create_dir(&journal).unwrap();
    let socket = UnixDatagram::bind(journal.join("socket")).unwrap();
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind '{}' /run/systemd/journal && \
         export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && exec '{}' run --config '{}'",
        journal.display(),
        binary().display(),
        folder.path().join("watchpost.toml").display()
    );
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _child = Killed(child);
    let until = Instant::now() + Duration::from_secs(60);
    let mut entries = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    let found = loop {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no entry of the stream came: {entries:#?}");
        socket.set_read_timeout(Some(left)).unwrap();
        let Ok(count) = socket.recv(&mut buffer) else { continue };
        let entry = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if field(&entry, "STREAM") == Some("yard") && field(&entry, "PRIORITY") == Some("4") {
            break entry;
        }
        entries.push(entry);
    };
    assert_eq!(field(&found, "SYSLOG_IDENTIFIER"), Some("watchpost"), "{found}");
    let message = field(&found, "MESSAGE").unwrap();
    assert!(message.contains("stream=yard") && message.contains("error="), "{found}");
    assert!(
        entries.iter().all(|entry| field(entry, "MESSAGE").is_some_and(|text| !text.is_empty())),
        "{entries:#?}"
    );
}
