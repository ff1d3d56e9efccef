//! A daemon with a configuration that changes, and what its streams and its broker have seen.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use e2e::daemon::Daemon;
use e2e::mosquitto::{Message, PATIENCE, until};
use e2e::plugins::{install, wasm};
use serde_json::Value;
use tempfile::TempDir;

/// A box.
pub struct Site {
    pub folder: TempDir,
    pub daemon: Daemon,
}

/// What systemd is told: read all the time, as systemd does, since its socket takes few words at once.
pub struct Systemd {
    path: PathBuf,
    words: Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Systemd {
    pub fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let (sender, words) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = socket.recv(&mut buffer)
                && count > 0
            {
                let _ = sender.send(String::from_utf8_lossy(&buffer[..count]).trim_end().to_owned());
            }
        });
        Self { path: path.to_owned(), words, reader: Some(reader) }
    }

    /// Waits for words that begin so; neither the start nor a reload may be over, or begin, before.
    pub fn until(&self, word: &str) -> String {
        loop {
            let words = self.words.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {word}"));
            if words.starts_with(word) {
                return words;
            }
            assert!(!words.starts_with("READY") && !words.starts_with("RELOADING"), "{words} before {word}");
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Nothing at all ends the reader.
        let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"", &self.path));
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A rendered stream with a plugin that counts frames and raises an alert every four seconds, and its trace beside the
/// configuration; with an output that is served.
pub fn door(name: &str, served: bool) -> String {
    let output = if served { "outputs.wide = { serve = \"rtsp\" }\n" } else { "" };
    format!(
        "[streams.{name}]\nsource = \"scene://people?seed=3&size=160x96&fps=10&people=2\"\n\
         plugins.alert = {{ use = \"misbehave\", behave = \"alert\" }}\ntrace = \"FOLDER/{name}.jsonl\"\n{output}"
    )
}

impl Site {
    /// Starts with this main file and these drop-ins, which are named after their streams, and waits until it is ready.
    pub fn start(main: &str, streams: &[&str]) -> Self {
        Self::start_with(main, streams, &[])
    }

    pub fn start_with(main: &str, streams: &[&str], environment: &[(&str, &Path)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("plugins")).unwrap();
        let component = std::fs::read(wasm("misbehave")).unwrap();
        install(&folder.path().join("plugins/misbehave.wasm"), &component);
        std::fs::create_dir_all(folder.path().join("conf.d")).unwrap();
        for text in streams {
            let name = text.trim_start_matches("[streams.").split(']').next().unwrap();
            write(folder.path(), &format!("10-{name}.toml"), text);
        }
        let daemon = Daemon::start_with(folder.path(), main, environment);
        daemon.wait_ready();
        Self { folder, daemon }
    }

    /// Writes a drop-in.
    pub fn drop_in(&self, file: &str, text: &str) {
        write(self.folder.path(), file, text);
    }

    /// Reloads with this main file; gives what the command says.
    pub fn reload(&self, main: &str) -> String {
        std::fs::write(self.daemon.config(), main).unwrap();
        let done = self.daemon.command(&["reload"]);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}\n{}", self.daemon.log());
        String::from_utf8(done.stdout).unwrap()
    }

    /// Reloads with this main file, which is refused with an exit status; gives what the command says.
    pub fn refused(&self, main: &str, code: i32) -> String {
        std::fs::write(self.daemon.config(), main).unwrap();
        let done = self.daemon.command(&["reload"]);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!((done.status.code(), done.stdout.len()), (Some(code), 0), "{said}\n{}", self.daemon.log());
        said
    }

    /// `watchpost status --json`.
    pub fn status(&self) -> Value {
        let done = self.daemon.command(&["status", "--json"]);
        assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), self.daemon.log());
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Waits until the status is so.
    pub fn wait_status(&self, what: &str, fits: impl Fn(&Value) -> bool) {
        until(what, || fits(&self.status()));
    }

    /// Sees some pictures of a stream that is served.
    pub fn watch(&self, url: &str) {
        let mut command = Command::new("timeout");
        command.args(["30", "ffmpeg", "-nostdin", "-v", "error", "-rtsp_transport", "tcp", "-i", url]);
        let done = command.args(["-frames:v", "5", "-f", "null", "-"]).output().expect("ffmpeg");
        assert!(
            done.status.success(),
            "{url}: {}\n{}",
            String::from_utf8_lossy(&done.stderr),
            self.daemon.log()
        );
    }

    /// Stops it; gives its folder and its log.
    pub fn stop(self) -> (TempDir, String) {
        let (status, log) = self.daemon.stop_with_log();
        assert!(status.success(), "{log}");
        (self.folder, log)
    }
}

fn write(folder: &Path, file: &str, text: &str) {
    let text = text.replace("FOLDER", &folder.display().to_string());
    std::fs::write(folder.join("conf.d").join(file), text).unwrap();
}

/// Box, stream and number of each event, in the order they came.
pub fn events(messages: &[Message]) -> Vec<(String, String, u64)> {
    let events = messages.iter().filter(|message| message.topic.contains("/events/"));
    let event = |message: &Message| {
        let event = message.json();
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        (text("box"), text("stream"), text("seq").parse().unwrap())
    };
    events.map(event).collect()
}

/// The frames of a trace; the last line may be half written.
pub fn frames(trace: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(trace).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["frame"].is_u64()).collect()
}
