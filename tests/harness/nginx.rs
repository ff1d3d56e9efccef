//! nginx itself: a process on a port and in a folder of its own, whatever it serves.
//!
//! In: its configuration. Out: a port that accepts connections, and what was logged. Owned by the server made of it: the
//! process is killed and waited for when it is stopped or dropped.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to answer.
const START: Duration = Duration::from_secs(20);

/// A running (or stopped) nginx.
pub(crate) struct Nginx {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Nginx {
    /// A folder and a free port; nothing runs yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, port, child: None }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Writes its configuration, for the next [`Self::start`].
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.folder().join("nginx.conf"), config).unwrap();
    }

    /// Starts it (anew), and returns once it accepts connections. Without nginx the `package` is named.
    pub(crate) fn start(&mut self, package: &str) {
        self.stop();
        let at = self.folder.path();
        let errors = std::fs::File::create(at.join("stderr.log")).unwrap();
        let nginx = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let child = Command::new(nginx)
            .arg("-p")
            .arg(at)
            .arg("-c")
            .arg(at.join("nginx.conf"))
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("nginx cannot be run ({error}): install {package}"));
        self.child = Some(child);
        let deadline = Instant::now() + START;
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let gone = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(!gone && Instant::now() < deadline, "nginx does not listen: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Kills it: every connection breaks at once, and its port refuses further ones.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder().join(name)).unwrap_or_default();
        format!("{}{}", read("stderr.log"), read("error.log"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}
