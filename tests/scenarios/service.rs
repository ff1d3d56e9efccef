//! The daemon as systemd's service: watchdog, status line, state version, credentials, journal.

mod credentials;
mod journal;
mod watchdog;

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use e2e::daemon::binary;

/// A socket that takes what a daemon tells systemd.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    /// What it is told within a time, line by line; until `enough` says so of a line.
    fn told(&self, within: Duration, enough: impl Fn(&str) -> bool) -> Vec<String> {
        let until = Instant::now() + within;
        let (mut told, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || told.last().is_some_and(|line: &String| enough(line)) {
                return told;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            match self.socket.recv(&mut buffer) {
                Ok(count) => {
                    told.extend(String::from_utf8_lossy(&buffer[..count]).lines().map(str::to_owned));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return told,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits for a line; gives all that were told till then.
    fn wait(&self, what: &str, enough: impl Fn(&str) -> bool) -> Vec<String> {
        let told = self.told(Duration::from_secs(60), &enough);
        assert!(told.last().is_some_and(|line| enough(line)), "systemd was not told {what}: {told:#?}");
        told
    }
}

/// A command of the daemon's binary on a configuration that a daemon was started with before.
fn command(folder: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Output {
    Command::new(binary())
        .args(arguments)
        .arg("--config")
        .arg(folder.join("watchpost.toml"))
        .env_remove("CREDENTIALS_DIRECTORY")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// All that a command said.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
