//! A real web server: nginx, on a port and in a folder of its own.
//!
//! In: files in [`Web::root`], directives of nginx. Out: addresses, and what was asked of it. Owned by the test: the
//! process is killed and waited for when it is stopped or dropped. A machine without nginx fails with its package's name.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::nginx::Nginx;

/// A request as nginx logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Path.
    pub path: String,
    /// `Range` of the request; `-` for none.
    pub range: String,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub bytes: u64,
}

/// A running (or stopped) nginx.
pub struct Web {
    nginx: Nginx,
    tls: bool,
}

impl Web {
    /// Serves over HTTP.
    #[must_use]
    pub fn start() -> Self {
        Self::begin(false)
    }

    /// Serves over HTTPS, with a certificate for `localhost` whose authority is [`Web::authority`].
    #[must_use]
    pub fn start_tls() -> Self {
        Self::begin(true)
    }

    fn begin(tls: bool) -> Self {
        let nginx = Nginx::new();
        std::fs::create_dir(nginx.folder().join("www")).unwrap();
        if tls {
            certificates(nginx.folder());
        }
        let mut web = Self { nginx, tls };
        web.serve("");
        web
    }

    /// The folder whose files are served.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.nginx.folder().join("www")
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.nginx.port()
    }

    /// The address of a path that begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let (scheme, host) = if self.tls { ("https", "localhost") } else { ("http", "127.0.0.1") };
        format!("{scheme}://{host}:{}{path}", self.nginx.port())
    }

    /// PEM file of the authority that signed its certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.nginx.folder().join("ca.crt")
    }

    /// Starts anew, with further directives in its server's block, such as `limit_rate 100k;`.
    ///
    /// # Panics
    /// Where nginx is missing or does not come up; with its log.
    pub fn serve(&mut self, directives: &str) {
        let (here, port) = (self.nginx.folder().display(), self.nginx.port());
        let tls = if self.tls {
            format!(" ssl; ssl_certificate {here}/server.crt; ssl_certificate_key {here}/server.key")
        } else {
            String::new()
        };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {here}/{name};"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {here}/nginx.pid;\nerror_log {here}/error.log info;\n\
             events {{ worker_connections 64; }}\nhttp {{\n  {temporary}\n  types {{ text/html html; application/json \
             json; }}\n  default_type application/octet-stream;\n  log_format plain '$uri $http_range $status \
             $body_bytes_sent';\n  access_log {here}/access.log plain;\n  server {{\n    listen 127.0.0.1:{port}{tls};\n    \
             root {here}/www;\n    {directives}\n  }}\n}}\n"
        );
        self.nginx.configure(&config);
        self.nginx.start("nginx");
    }

    /// Kills nginx: its port refuses connections.
    pub fn stop(&mut self) {
        self.nginx.stop();
    }

    /// Every request that was answered, in the order of their ends.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let log = std::fs::read_to_string(self.nginx.folder().join("access.log")).unwrap_or_default();
        log.lines()
            .filter_map(|line| {
                let mut words = line.rsplitn(4, ' ');
                let (bytes, status, range) = (words.next()?, words.next()?, words.next()?);
                Some(Asked {
                    path: words.next()?.to_owned(),
                    range: range.to_owned(),
                    status: status.parse().ok()?,
                    bytes: bytes.parse().ok()?,
                })
            })
            .collect()
    }

    /// What nginx logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.nginx.log()
    }
}

/// An authority, and a certificate of it for `localhost`.
fn certificates(folder: &Path) {
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let key = "-newkey rsa:2048 -nodes";
    for arguments in [
        format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=authority -days 2"),
        format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names"
            .to_owned(),
    ] {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
