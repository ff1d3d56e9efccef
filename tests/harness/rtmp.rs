//! A real RTMP server: nginx with its RTMP module, on a port and in a folder of its own.
//!
//! In: nothing but a free port. Out: addresses to push to and read from; the same address for both. Owned by
//! the test: the process is killed and waited for when it is stopped or dropped. A machine without nginx or the
//! module fails with their package's name.
//!
//! Read a stream back by the same address: `ffmpeg -i rtmp://127.0.0.1:PORT/live/KEY`, or GStreamer's
//! `rtmp2src`. nginx gives a new reader what comes after the next key frame.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The module that Debian's `libnginx-mod-rtmp` installs.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
/// How long nginx may take to answer.
const START: Duration = Duration::from_secs(20);

/// A running (or stopped) nginx.
pub struct Rtmp {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Rtmp {
    /// Starts nginx on a free port, and returns once it accepts connections.
    ///
    /// # Panics
    /// Where nginx or its RTMP module is missing, or it does not come up; with its log.
    #[must_use]
    pub fn start() -> Self {
        assert!(Path::new(MODULE).exists(), "{MODULE} is missing: install libnginx-mod-rtmp");
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = folder.path().display();
        let config = format!(
            "load_module {MODULE};\nuser root;\ndaemon off;\nmaster_process off;\nworker_processes 1;\n\
             pid {at}/nginx.pid;\nerror_log {at}/error.log info;\nevents {{ worker_connections 64; }}\n\
             rtmp {{\n  access_log off;\n  server {{\n    listen 127.0.0.1:{port};\n    chunk_size 4096;\n    \
             application live {{ live on; record off; wait_key on; wait_video on; idle_streams off; }}\n  }}\n}}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut server = Self { folder, port, child: None };
        server.restart();
        server
    }

    /// The address of a stream, to push to and to read from.
    #[must_use]
    pub fn url(&self, key: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{key}", self.port)
    }

    /// Kills nginx: every connection breaks at once, and its port refuses further ones.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts nginx again, on the same port; returns once it accepts connections.
    ///
    /// # Panics
    /// Where it does not come up within twenty seconds; with its log.
    pub fn restart(&mut self) {
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
            .unwrap_or_else(|error| panic!("nginx cannot be run ({error}): install libnginx-mod-rtmp"));
        self.child = Some(child);
        let deadline = Instant::now() + START;
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let gone = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(!gone && Instant::now() < deadline, "nginx does not listen: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What nginx logged.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        format!("{}{}", read("stderr.log"), read("error.log"))
    }
}

impl Drop for Rtmp {
    fn drop(&mut self) {
        self.stop();
    }
}
