//! The real daemon as a child process, with folders of its own.
//!
//! In: configuration text. Out: a running `watchpost run`, whose log is kept for failures. Dropping it kills it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::data::root;

/// The built binary.
///
/// # Panics
/// Where it has not been built: `make test` builds it first.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().find(|folder| folder.join("watchpost").is_file());
    folder
        .map(|folder| folder.join("watchpost"))
        .expect("target/release/watchpost is not built: run `make build`")
}

/// Shipped plugins and models, as `make build` lays them out.
#[must_use]
pub fn dist() -> PathBuf {
    root().join("target/dist")
}

/// A free TCP port of this machine.
#[must_use]
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    folder: PathBuf,
}

impl Daemon {
    /// Starts the daemon in `folder` (kept by the caller, so that a second start finds the first one's state).
    /// `config` is TOML; the folders for state, cache, socket, plugins and models are added to it.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(folder: &Path, config: &str) -> Self {
        Self::start_with(folder, config, &[])
    }

    /// As [`Daemon::start`], with variables added to its environment, such as `NOTIFY_SOCKET`.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start_with(folder: &Path, config: &str, environment: &[(&str, &Path)]) -> Self {
        Self::spawn(folder, config, environment, &[])
    }

    /// As [`Daemon::start`], with `--record` into a folder.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn recording(folder: &Path, config: &str, traces: &Path) -> Self {
        Self::spawn(folder, config, &[], &[Path::new("--record"), traces])
    }

    fn spawn(folder: &Path, config: &str, environment: &[(&str, &Path)], more: &[&Path]) -> Self {
        let file = write_config(folder, config);
        let mut child = Command::new(binary())
            .args(["run", "--config"])
            .arg(&file)
            .args(more)
            .env("NO_COLOR", "1")
            .env_remove("NOTIFY_SOCKET")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let sink = Arc::clone(&log);
        let reader = std::thread::Builder::new()
            .name("daemon log".into())
            .spawn(move || {
                for line in stderr.lines().map_while(Result::ok) {
                    sink.lines.lock().unwrap().push(line);
                    sink.grown.notify_all();
                }
            })
            .unwrap();
        Self { child, log, reader: Some(reader), folder: folder.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("watchpost.toml")
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// Waits for a line that contains `text`.
    ///
    /// # Panics
    /// Where none comes in time.
    pub fn wait_for(&self, text: &str, within: Duration) {
        let until = Instant::now() + within;
        let mut lines = self.log.lines.lock().unwrap();
        while !lines.iter().any(|line| line.contains(text)) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "the daemon did not log \"{text}\" within {within:?}:\n{}",
                lines.join("\n")
            );
            lines = self.log.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&self) {
        self.wait_for("ready", Duration::from_secs(60));
    }

    /// Runs another `watchpost` command on the same configuration; gives status and output.
    ///
    /// # Panics
    /// Where the binary cannot be run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(binary()).args(arguments).arg("--config").arg(self.config()).output().unwrap()
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// Where it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself; gives how, and everything it has logged.
    ///
    /// # Panics
    /// Where it does not end in time.
    #[must_use]
    pub fn end(mut self, within: Duration) -> (std::process::ExitStatus, String) {
        self.wait_end(within);
        (self.child.wait().unwrap(), self.log())
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Panics
    /// Where it does not stop within 30 seconds.
    pub fn stop(self) -> std::process::ExitStatus {
        self.stop_with_log().0
    }

    /// As [`Daemon::stop`], and everything it has logged.
    ///
    /// # Panics
    /// As [`Daemon::stop`].
    #[must_use]
    pub fn stop_with_log(mut self) -> (std::process::ExitStatus, String) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.wait_end(Duration::from_secs(30));
        (self.child.wait().unwrap(), self.log())
    }

    /// Waits for the log's end, which is the process's end.
    fn wait_end(&self, within: Duration) {
        let until = Instant::now() + within;
        while !self.reader.as_ref().unwrap().is_finished() {
            assert!(Instant::now() < until, "the daemon does not end:\n{}", self.log());
            let lines = self.log.lines.lock().unwrap();
            drop(self.log.grown.wait_timeout(lines, Duration::from_millis(50)).unwrap());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Writes the configuration into `folder`, and makes the folders that it names.
fn write_config(folder: &Path, config: &str) -> PathBuf {
    for name in ["state", "cache", "run", "plugins"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let (here, dist) = (folder.display(), dist());
    let dist = dist.display();
    let paths = format!(
        "[paths]\nstate = \"{here}/state\"\ncache = \"{here}/cache\"\nrun = \"{here}/run\"\n\
         plugins = [\"{dist}/plugins\", \"{here}/plugins\"]\nmodels = [\"{dist}/models\"]\n"
    );
    // Daemons of several tests would share the page's port: only who asks for the page has one.
    let page =
        if config.contains("http.") || config.contains("[http]") { "" } else { "[http]\nlisten = \"off\"\n" };
    let paths = paths + page;
    std::fs::create_dir_all(folder.join("conf.d")).unwrap();
    std::fs::write(folder.join("conf.d/00-paths.toml"), paths).unwrap();
    let file = folder.join("watchpost.toml");
    std::fs::write(&file, config).unwrap();
    file
}
