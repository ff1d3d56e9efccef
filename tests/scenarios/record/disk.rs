//! A disk that is full: recording stops and says so, alerts go on, and recording goes on when there is room.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::daemon::Daemon;
use e2e::mosquitto::{Mosquitto, until};

use super::incidents::{MODELS, fight, status, stream};

/// A small disk of its own; `None`, said aloud, where nobody may mount one.
struct Disk(PathBuf);

impl Disk {
    fn mount(test: &str, at: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={megabytes}m");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().unwrap();
        if done.status.success() {
            return Some(Self(at.to_owned()));
        }
        let required = std::env::var("WATCHPOST_REQUIRE_DATA").is_ok_and(|value| value == "1");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!required, "{test}: a small disk is required: {said}");
        eprintln!("SKIPPED {test}: only root may mount a small disk: {said}");
        None
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        let mut block = vec![7u8; 1 << 20];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_recording_and_not_the_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) =
        Disk::mount("a_full_disk_stops_the_recording_and_not_the_alerts", &folder.path().join("state"), 24)
    else {
        return;
    };
    let broker = Mosquitto::start();
    let inbox = broker.subscribe("watchpost/b/#");
    let config = format!(
        "box.name = \"b\"\nmqtt.url = \"{}\"\nmqtt.snapshots = true\naccel.lane = \"cpu\"\nrecord.min_free_bytes = 2000000\n\
         {MODELS}\n{}",
        broker.url(),
        stream("s", &fight(), "")
    );
    let daemon = Daemon::start(folder.path(), &config);
    // The scene starts over, and with it the time until the fight.
    let again = || {
        for command in ["disable", "enable"] {
            let done = daemon.command(&[command, "s"]);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            inbox.clear();
        }
    };
    let record = |key: &str| status(&daemon)["record"][key].clone();
    until("it records", || record("state") == "recording");
    disk.fill();
    until("it says that the disk is full", || record("state") == "full");
    inbox.wait_for("watchpost/b/status", |status| {
        status["record"]["state"] == "full"
            && status["problems"].as_array().is_some_and(|problems| {
                problems.iter().any(|problem| problem.as_str().unwrap().starts_with("nothing is recorded: "))
            })
    });
    let text = String::from_utf8_lossy(&daemon.command(&["status"]).stdout).into_owned();
    assert!(text.contains("record full") && text.contains("record.min_free_bytes"), "{text}");
    assert_eq!(daemon.log().matches("recording stops; alerts go on").count(), 1, "{}", daemon.log());

    again();
    let events = "watchpost/b/streams/s/events/violence";
    let begin = inbox.wait_for(events, |event| event["change"] == "begin");
    assert!(begin.get("snapshot").is_none() && begin.get("clip").is_none(), "{begin}");
    // The picture that needs no disk goes out all the same.
    inbox.wait("a picture", |messages| {
        messages.iter().any(|message| message.topic == "watchpost/b/streams/s/snapshot")
    });

    disk.free();
    until("it records again", || record("state") == "recording");
    again();
    let begin = inbox.wait_for(events, |event| event["change"] == "begin");
    let snapshot = disk.0.join(begin["snapshot"].as_str().unwrap_or_else(|| panic!("{begin}")));
    until("a snapshot is written again", || snapshot.is_file());
    assert!(daemon.log().contains("recording goes on"), "{}", daemon.log());
    assert!(daemon.stop().success());
}
