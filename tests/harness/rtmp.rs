//! A real RTMP server: nginx with its RTMP module, on a port and in a folder of its own.
//!
//! In: nothing but a free port. Out: addresses to push to and read from; the same address for both. Owned by
//! the test: the process is killed and waited for when it is stopped or dropped. A machine without nginx or the
//! module fails with their package's name.
//!
//! Read a stream back by the same address: `ffmpeg -i rtmp://127.0.0.1:PORT/live/KEY`, or GStreamer's
//! `rtmp2src`. nginx gives a new reader what comes after the next key frame.

use std::path::Path;

use crate::nginx::Nginx;

/// The module that Debian's `libnginx-mod-rtmp` installs.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// A running (or stopped) nginx.
pub struct Rtmp(Nginx);

impl Rtmp {
    /// Starts nginx on a free port, and returns once it accepts connections.
    ///
    /// # Panics
    /// Where nginx or its RTMP module is missing, or it does not come up; with its log.
    #[must_use]
    pub fn start() -> Self {
        assert!(Path::new(MODULE).exists(), "{MODULE} is missing: install libnginx-mod-rtmp");
        let nginx = Nginx::new();
        let (at, port) = (nginx.folder().display(), nginx.port());
        let config = format!(
            "load_module {MODULE};\nuser root;\ndaemon off;\nmaster_process off;\nworker_processes 1;\n\
             pid {at}/nginx.pid;\nerror_log {at}/error.log info;\nevents {{ worker_connections 64; }}\n\
             rtmp {{\n  access_log off;\n  server {{\n    listen 127.0.0.1:{port};\n    chunk_size 4096;\n    \
             application live {{ live on; record off; wait_key on; wait_video on; idle_streams off; }}\n  }}\n}}\n"
        );
        nginx.configure(&config);
        let mut server = Self(nginx);
        server.restart();
        server
    }

    /// The address of a stream, to push to and to read from.
    #[must_use]
    pub fn url(&self, key: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{key}", self.0.port())
    }

    /// Kills nginx: every connection breaks at once, and its port refuses further ones.
    pub fn stop(&mut self) {
        self.0.stop();
    }

    /// Starts nginx again, on the same port; returns once it accepts connections.
    ///
    /// # Panics
    /// Where it does not come up within twenty seconds; with its log.
    pub fn restart(&mut self) {
        self.0.start("libnginx-mod-rtmp");
    }

    /// What nginx logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.log()
    }
}
