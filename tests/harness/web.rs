//! A real web server: nginx, on a port and in a folder of its own.
//!
//! In: files in [`Web::root`], directives of nginx. Out: addresses, and what was asked of it. Owned by the test: the
//! process is killed and waited for when it is stopped or dropped. A machine without nginx fails with its package's name.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long nginx may take to answer.
const START: Duration = Duration::from_secs(20);

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
    folder: tempfile::TempDir,
    port: u16,
    tls: bool,
    child: Option<Child>,
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
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("www")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if tls {
            certificates(folder.path());
        }
        let mut web = Self { folder, port, tls, child: None };
        web.serve("");
        web
    }

    /// The folder whose files are served.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("www")
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a path that begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let (scheme, host) = if self.tls { ("https", "localhost") } else { ("http", "127.0.0.1") };
        format!("{scheme}://{host}:{}{path}", self.port)
    }

    /// PEM file of the authority that signed its certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Starts anew, with further directives in its server's block, such as `limit_rate 100k;`.
    ///
    /// # Panics
    /// Where nginx is missing or does not come up; with its log.
    pub fn serve(&mut self, directives: &str) {
        self.stop();
        let (at, port) = (self.folder.path(), self.port);
        let here = at.display();
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
        std::fs::write(at.join("nginx.conf"), config).unwrap();
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
            .unwrap_or_else(|error| panic!("nginx cannot be run ({error}): install nginx"));
        self.child = Some(child);
        let deadline = Instant::now() + START;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let gone = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(!gone && Instant::now() < deadline, "nginx does not listen: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Kills nginx: its port refuses connections.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Every request that was answered, in the order of their ends.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let log = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
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
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        format!("{}{}", read("stderr.log"), read("error.log"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop();
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
