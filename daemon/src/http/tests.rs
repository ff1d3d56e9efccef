//! The server as its clients find it, over real connections on loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// How long anything may take that is no matter of time.
const SOON: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Daemon {
    hangs: AtomicBool,
}

impl Source for Daemon {
    fn alive(&self) -> Result<(), String> {
        if self.hangs.load(Ordering::Relaxed) { Err("it has not gone round for 11 s".into()) } else { Ok(()) }
    }

    fn status(&self) -> Value {
        json!({
            "box": "gate", "streams": { "gate": { "state": "running" } }, "mqtt": { "state": "off" },
            "plugins": [{ "name": "tracker", "config_schema": { "type": "object" } }],
        })
    }

    fn thumbnail(&self, stream: &str) -> Result<Picture, NoPicture> {
        match stream {
            "gate" => Ok(Picture { frame: 7, captured: 9, jpeg: Arc::from(&b"\xff\xd8jpeg"[..]) }),
            "yard" => Err(NoPicture::NotNow("the stream is starting".into())),
            _ => Err(NoPicture::Unknown),
        }
    }
}

struct Rig {
    page: Page,
    server: Server,
    daemon: Arc<Daemon>,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let waited = tokio::time::timeout(SOON, async {
        while !done() {
            look.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

impl Rig {
    async fn start(token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token_file = token.map(|token| {
            let path = folder.path().join("token");
            std::fs::write(&path, token).unwrap();
            path
        });
        let address = free();
        let http = Http { listen: address.to_string(), token_file };
        let page = Page::new(&http, folder.path(), &Registry::new());
        let daemon = Arc::new(Daemon::default());
        let source: Arc<dyn Source> = Arc::clone(&daemon) as Arc<dyn Source>;
        let server = Server::start(&page, source, &tokio::runtime::Handle::current());
        let rig = Self { page, server, daemon, folder, address };
        until("it listens", || rig.page.status().state == HttpState::Listening).await;
        rig
    }

    async fn ask(&self, head: &str) -> Reply {
        send(self.address, &format!("{head}\r\nConnection: close\r\n\r\n")).await
    }

    /// `GET` with these further header lines.
    async fn get(&self, path: &str, headers: &[&str]) -> Reply {
        let more: String = headers.iter().map(|header| format!("\r\n{header}")).collect();
        // One host: its own, where the test names none.
        let named = headers.iter().any(|header| header.starts_with("Host:"));
        let host = if named { String::new() } else { format!("\r\nHost: {}", self.address) };
        self.ask(&format!("GET {path} HTTP/1.1{host}{more}")).await
    }
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let line =
            self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn send(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has heard enough may hang up before all is said.
    let _ = stream.write_all(request.as_bytes()).await;
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "no end of the answer: {}", String::from_utf8_lossy(&bytes));
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Reply { status, head, body }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_answers_in_its_kind() {
    let rig = Rig::start(None).await;
    let page = rig.get("/", &[]).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<main"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains(concat!("un", "safe")), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("access-control-allow-origin"), None);
    assert_eq!(rig.get("/healthz", &[]).await.json(), json!({ "alive": true }));
    assert_eq!(rig.get("/readyz", &[]).await.status, 200);
    let status = rig.get("/api/status", &[]).await.json();
    assert_eq!((&status["box"], &status["plugins"][0]["config_schema"]), (&json!("gate"), &Value::Null));
    assert!(status["health"]["cpu"].is_null());
    assert!(rig.get("/api/series", &[]).await.json()["step"] == 2);
    assert_eq!(rig.get("/api/alerts", &[]).await.json(), json!({ "alerts": [] }));
    let metrics = rig.get("/metrics", &[]).await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.text().contains("watchpost_http_requests_total{code=\"200\",route=\"page\"} 1\n"));
    let open = rig.get("/metrics", &["Accept: application/openmetrics-text; version=1.0.0"]).await;
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(open.text().ends_with("# EOF\n"));

    let picture = rig.get("/api/streams/gate/thumbnail.jpg", &[]).await;
    assert_eq!((picture.status, &picture.body[..]), (200, &b"\xff\xd8jpeg"[..]));
    let had = format!("If-None-Match: {}", picture.header("etag").unwrap());
    assert_eq!(rig.get("/api/streams/gate/thumbnail.jpg", &[&had]).await.status, 304);
    let none = rig.get("/api/streams/yard/thumbnail.jpg", &[]).await;
    assert_eq!((none.status, none.header("watchpost-reason")), (204, Some("the stream is starting")));
    assert_eq!(rig.get("/api/streams/nobody/thumbnail.jpg", &[]).await.status, 404);

    for path in ["/nothing", "/clips/gate/../../token", "/clips/%2e%2e/1.jpg", "/etc/passwd", "/style.css/"] {
        assert_eq!(rig.get(path, &[]).await.status, 404, "{path}");
    }
    let head = rig.ask(&format!("HEAD / HTTP/1.1\r\nHost: {}", rig.address)).await;
    assert!(head.status == 200 && head.body.is_empty() && head.header("content-length") != Some("0"));
    let post =
        rig.ask(&format!("POST /api/status HTTP/1.1\r\nHost: {}\r\nContent-Length: 0", rig.address)).await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));

    rig.daemon.hangs.store(true, Ordering::Relaxed);
    let dead = rig.get("/healthz", &[]).await;
    assert_eq!((dead.status, &dead.json()["alive"]), (503, &json!(false)));
    rig.server.stop().await;
    assert!(TcpStream::connect(rig.address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_elsewhere_are_not_answered() {
    let rig = Rig::start(None).await;
    for host in ["evil.example", "evil.example:8590", "127.0.0.1.evil.example"] {
        let reply = rig.ask(&format!("GET /api/status HTTP/1.1\r\nHost: {host}")).await;
        assert_eq!(reply.status, 421, "{host}");
        assert!(reply.text().contains("http.token_file"));
        let reply = rig.ask(&format!("GET http://{host}/ HTTP/1.1\r\nHost: localhost")).await;
        assert_eq!(reply.status, 421, "{host} as a whole address");
    }
    assert_eq!(rig.ask("GET / HTTP/1.1\r\nHost: localhost:1").await.status, 200);
    assert_eq!(rig.ask("GET /healthz HTTP/1.1\r\nHost: evil.example").await.status, 200);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_page_for_programs_and_browsers() {
    let token = "a token of many letters";
    let rig = Rig::start(Some(token)).await;
    assert!(rig.page.status().token);
    assert_eq!(rig.get("/healthz", &[]).await.status, 200);
    for path in ["/metrics", "/readyz", "/api/status", "/page.js", "/clips/gate/1.jpg", "/nothing"] {
        let reply = rig.get(path, &[]).await;
        assert_eq!(reply.status, 401, "{path}");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
    assert_eq!(rig.get("/metrics", &["Authorization: Bearer a token of many letterz"]).await.status, 401);
    let metrics = rig.get("/metrics", &[&format!("Authorization: Bearer {token}")]).await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("watchpost_http_logins_refused_total 1\n"), "the wrong one is counted");
    assert!(!metrics.text().contains(token));

    let start = rig.get("/", &[]).await;
    assert_eq!((start.status, start.header("location")), (303, Some("/login")));
    assert!(rig.get("/login", &[]).await.text().contains("name=\"token\""));
    assert_eq!(rig.get("/style.css", &[]).await.status, 200);
    let log_in = async |form: &str, more: &str| {
        let request = format!(
            "POST /login HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded{more}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
            rig.address,
            form.len()
        );
        send(rig.address, &request).await
    };
    let wrong = log_in("token=nonsense", "").await;
    assert!(
        wrong.status == 401
            && wrong.text().contains("role=\"alert\"")
            && wrong.header("set-cookie").is_none()
    );
    let form = format!("token={}", token.replace(' ', "+"));
    assert_eq!(log_in(&form, "\r\nOrigin: http://evil.example").await.status, 403);
    assert_eq!(log_in(&format!("token={}", "x".repeat(9000)), "").await.status, 413);
    let right = log_in(&form, &format!("\r\nOrigin: http://{}", rig.address)).await;
    assert_eq!((right.status, right.header("location")), (303, Some("/")));
    let cookie = right.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("letters"));
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    assert_eq!(rig.get("/api/status", &[&cookie]).await.status, 200);
    assert_eq!(rig.get("/", &[&cookie, "Host: any.example"]).await.status, 200);

    // Another token, and the old one is worth nothing.
    let http = Http { listen: rig.address.to_string(), token_file: Some(rig.folder.path().join("token2")) };
    rig.page.configure(&http, rig.folder.path());
    until("without its token it does not listen", || rig.page.status().state == HttpState::Failed).await;
    assert!(rig.page.status().error.unwrap().contains("http.token_file"));
    assert!(TcpStream::connect(rig.address).await.is_err());
    std::fs::write(rig.folder.path().join("token2"), "another token of letters").unwrap();
    until("it has found it", || rig.page.status().state == HttpState::Listening).await;
    assert_eq!(rig.get("/api/status", &[&cookie]).await.status, 401);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_tried_again() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = Http { listen: taken.local_addr().unwrap().to_string(), token_file: None };
    let page = Page::new(&http, Path::new("/nonexistent"), &Registry::new());
    let server = Server::start(&page, Arc::new(Daemon::default()), &tokio::runtime::Handle::current());
    until("it says so", || page.status().state == HttpState::Failed).await;
    assert!(page.status().error.unwrap().contains("in use"));
    drop(taken);
    until("it listens", || page.status().state == HttpState::Listening).await;
    page.configure(&Http { listen: "off".into(), token_file: None }, Path::new("/nonexistent"));
    until("it is off", || page.status().state == HttpState::Off).await;
    assert!(TcpStream::connect(http.listen.as_str()).await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_are_refused() {
    let rig = Rig::start(None).await;
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(64 << 10));
    assert_eq!(rig.ask(&long).await.status, 431);
    let many: String = (0..100).map(|n| format!("\r\nX-{n}: 1")).collect();
    assert_eq!(rig.ask(&format!("GET / HTTP/1.1\r\nHost: localhost{many}")).await.status, 431);
    assert_eq!(rig.ask("nonsense").await.status, 400);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_block_nobody() {
    let rig = Rig::start(None).await;
    let mut silent = Vec::new();
    // More than there is room for, each with half a request.
    for _ in 0..200 {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: local").await.unwrap();
        silent.push(stream);
        if silent.len() % 50 == 0 {
            assert_eq!(rig.get("/healthz", &[]).await.status, 200, "beside {} others", silent.len());
        }
    }
    // The first ones had to go.
    let mut first = silent.swap_remove(0);
    let gone = tokio::time::timeout(SOON, first.read(&mut [0; 64])).await;
    assert!(matches!(gone, Ok(Ok(0) | Err(_))), "{gone:?}");
    let text = rig.get("/metrics", &[]).await;
    let refused =
        text.text().lines().find(|line| line.starts_with("watchpost_http_connections_refused_total"));
    assert!(refused.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap() >= 72, "{refused:?}");
    // And the last one after the time that a client has.
    let mut last = silent.pop().unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(SOON, last.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "it is still connected");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_are_sent_whole_and_in_parts() {
    let rig = Rig::start(None).await;
    let clips = rig.folder.path().join("clips/gate");
    std::fs::create_dir_all(&clips).unwrap();
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(clips.join("77.mp4"), &bytes).unwrap();
    std::fs::write(clips.join("notes.txt"), "secret").unwrap();
    let whole = rig.get("/clips/gate/77.mp4", &[]).await;
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("video/mp4")));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert!(whole.body == bytes);
    let part = rig.get("/clips/gate/77.mp4", &["Range: bytes=100000-"]).await;
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 100000-199999/200000")));
    assert!(part.body == bytes[100_000..]);
    let tag = whole.header("etag").unwrap();
    let same = rig.get("/clips/gate/77.mp4", &["Range: bytes=0-9", &format!("If-Range: {tag}")]).await;
    assert_eq!((same.status, same.body.len()), (206, 10));
    let other = rig.get("/clips/gate/77.mp4", &["Range: bytes=0-9", "If-Range: \"other\""]).await;
    assert_eq!((other.status, other.body.len()), (200, bytes.len()));
    let outside = rig.get("/clips/gate/77.mp4", &["Range: bytes=200000-"]).await;
    assert_eq!((outside.status, outside.header("content-range")), (416, Some("bytes */200000")));
    assert_eq!(rig.get("/clips/gate/77.mp4", &[&format!("If-None-Match: {tag}")]).await.status, 304);
    for path in ["/clips/gate/78.mp4", "/clips/gate/notes.txt", "/clips/gate/", "/clips/gate/../gate/77.mp4"]
    {
        assert_eq!(rig.get(path, &[]).await.status, 404, "{path}");
    }
    rig.server.stop().await;
}
