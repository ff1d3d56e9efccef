//! Health, metrics and the status page of a daemon that works: by a plain client, a real Prometheus, a real browser.

mod browser;
mod dashboard;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::daemon::{Daemon, binary, free_port};
use e2e::http::{get, request};
use e2e::mosquitto::until;
use e2e::prometheus::lint;

/// A scene with fights, all shipped plugins, and the page on a port.
fn config(page: u16, mqtt: &str) -> String {
    format!(
        "box.name = \"gate\"\nmqtt.url = \"{mqtt}\"\nhttp.listen = \"127.0.0.1:{page}\"\n\
         models.people.path = \"people\"\nmodels.violence.path = \"violence\"\n\
         [streams.square]\nsource = \"scene://people?seed=11&size=640x360&fps=15&people=7&fights=8\"\n\
         models.people = {{ sample = \"fps:7.5\" }}\nmodels.violence = {{}}\nplugins.tracker = {{ order = 1 }}\n\
         plugins.fights = {{ order = 2, use = \"violence-alert\" }}\n\
         plugins.follow = {{ order = 3, use = \"camera-framing\", mode = \"group\" }}\n"
    )
}

/// Waits until the page is served.
fn served(daemon: &Daemon) {
    daemon.wait_for("the status page is served", Duration::from_secs(60));
}

#[test]
fn a_daemon_at_work_answers_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let daemon = Daemon::start(folder.path(), &config(port, "off"));
    served(&daemon);
    assert_eq!(get(port, "/healthz").unwrap().json()["alive"], true);
    until("it is ready", || get(port, "/readyz").unwrap().status == 200);
    let status = get(port, "/api/status").unwrap();
    assert_eq!(status.json()["streams"]["square"]["state"], "running");
    assert_eq!(status.json()["http"]["url"], format!("http://127.0.0.1:{port}/"));
    for header in ["content-security-policy", "x-content-type-options", "referrer-policy", "x-frame-options"]
    {
        assert!(status.header(header).is_some(), "{header}");
    }
    assert_eq!(
        request(port, "GET", "/api/status", &[("Host", "evil.example")], b"").unwrap().status,
        400,
        "two hosts"
    );

    // The picture is a picture, with what is drawn on it, and is not sent twice.
    let mut picture = get(port, "/api/streams/square/thumbnail.jpg").unwrap();
    until("a picture comes", || {
        picture = get(port, "/api/streams/square/thumbnail.jpg").unwrap();
        picture.status == 200
    });
    assert_eq!(picture.header("content-type"), Some("image/jpeg"));
    assert!(
        picture.body.starts_with(b"\xff\xd8") && picture.body.len() > 2000,
        "{} bytes",
        picture.body.len()
    );
    assert_eq!(get(port, "/api/streams/nobody/thumbnail.jpg").unwrap().status, 404);

    // Figures over time, and the incidents of the scene.
    until("rates are known", || {
        let series = get(port, "/api/series").unwrap().json();
        series["streams"]["square"]["fps"]
            .as_array()
            .is_some_and(|fps| fps.iter().flat_map(|v| v.as_f64()).any(|v| v > 1.0))
            && series["box"]["box"]["cpu"]
                .as_array()
                .is_some_and(|cpu| cpu.iter().any(serde_json::Value::is_f64))
    });

    // Nobody who is slow, or says nothing at all, keeps the others waiting.
    let mut silent: Vec<TcpStream> =
        (0..60).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for stream in &mut silent {
        stream.write_all(b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ").unwrap();
    }
    let asked = std::time::Instant::now();
    assert_eq!(get(port, "/healthz").unwrap().status, 200);
    assert_eq!(get(port, "/api/status").unwrap().status, 200);
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}: less than the silent ones may take",
        asked.elapsed()
    );
    silent[0].set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = Vec::new();
    let hung_up = silent[0].read_to_end(&mut answer);
    assert!(
        hung_up.is_ok() && !answer.starts_with(b"HTTP/1.1 200"),
        "{hung_up:?}: {}",
        String::from_utf8_lossy(&answer)
    );

    let page = get(port, "/").unwrap();
    assert!(page.text().contains("<main") && page.header("set-cookie").is_none());
    let text = daemon.command(&["status"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains(&format!("page http://127.0.0.1:{port}/")));
    let doctor = String::from_utf8_lossy(&daemon.command(&["doctor"]).stdout).into_owned();
    assert!(doctor.contains(&format!("of the running daemon, at http://127.0.0.1:{port}/")), "{doctor}");
    let (code, log) = daemon.stop_with_log();
    assert!(code.success() && !log.contains("panicked"), "{log}");
    assert!(get(port, "/healthz").is_err(), "nobody listens any more");
}

#[test]
fn alerts_outlive_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let alerts = || get(port, "/api/alerts").unwrap().json()["alerts"].clone();
    let daemon = Daemon::start(folder.path(), &config(port, "off"));
    served(&daemon);
    until("an alert is shown", || alerts()[0].is_object());
    let before = alerts()[0].clone();
    let id = before["incident"].as_str().unwrap();
    let file = folder.path().join("state/alerts.json");
    until("it is written down", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains(id)));
    daemon.kill();

    let daemon = Daemon::start(folder.path(), &config(port, "off"));
    served(&daemon);
    let all = alerts();
    let after = all.as_array().unwrap().iter().find(|alert| alert["incident"] == *id);
    let after = after.unwrap_or_else(|| panic!("{id} in {all}"));
    assert_eq!((&after["kind"], &after["begin"]), (&before["kind"], &before["begin"]));
    assert_eq!(after["ended"], true, "no daemon sees it any more");
    assert!(daemon.stop().success());
}

#[test]
fn the_page_is_not_opened_to_others_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let open = format!("mqtt.url = \"off\"\n[http]\nlisten = \"0.0.0.0:{port}\"\n");
    let (code, log) = Daemon::start(folder.path(), &open).end(Duration::from_secs(60));
    assert_eq!(code.code(), Some(78));
    assert!(
        log.contains("watchpost.toml:3") && log.contains("http.listen") && log.contains("token"),
        "{log}"
    );

    // With one it is, and without a right one nothing but the pulse is told.
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123\n").unwrap();
    let open = format!("{open}token_file = \"{}\"\n", token.display());
    let daemon = Daemon::start(folder.path(), &open);
    served(&daemon);
    assert_eq!(get(port, "/healthz").unwrap().status, 200);
    for path in ["/metrics", "/readyz", "/api/status", "/api/alerts", "/clips/a/1.jpg", "/page.js"] {
        assert_eq!(get(port, path).unwrap().status, 401, "{path}");
    }
    let bearer = [("Authorization", "Bearer 0123456789abcdef0123")];
    let metrics = request(port, "GET", "/metrics", &bearer, b"").unwrap();
    assert_eq!(metrics.status, 200);
    let status = String::from_utf8(daemon.command(&["status", "--json"]).stdout).unwrap();
    let told = [metrics.text(), &status, &daemon.log()].concat();
    assert!(!told.contains("0123456789abcdef"), "the token is told");

    // A second daemon whose port is taken runs on without a page, and says so.
    let second = tempfile::tempdir().unwrap();
    let other =
        Daemon::start(second.path(), &format!("mqtt.url = \"off\"\nhttp.listen = \"127.0.0.1:{port}\"\n"));
    other.wait_ready();
    other.wait_for("the status page and the metrics are not served", Duration::from_secs(30));
    let text = String::from_utf8_lossy(&other.command(&["status"]).stdout).into_owned();
    assert!(text.contains("failed") && text.contains("http.listen"), "{text}");
    assert!(other.stop().success() && daemon.stop().success());
}

#[test]
fn metrics_agree_with_promtool_and_with_our_own_rules() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let daemon = Daemon::start(
        folder.path(),
        &config(port, "embedded")
            .replace("box.name", &format!("mqtt.listen = \"127.0.0.1:{}\"\nbox.name", free_port())),
    );
    served(&daemon);
    until("plugins are called", || {
        get(port, "/metrics").unwrap().text().contains("watchpost_plugin_call_seconds_count")
    });
    get(port, "/nothing/of/the/kind").unwrap();
    let reply = get(port, "/metrics").unwrap();
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = reply.text();
    let found = lint(text);
    assert!(found.is_empty(), "promtool: {found}");
    let known = [
        "by", "camera", "code", "edge", "entry", "gpu", "instance", "kind", "lane", "le", "model", "output",
        "plugin", "process", "route", "state", "stream", "version",
    ];
    let mut helped = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped.insert(rest.split(' ').next().unwrap().to_owned());
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(name.starts_with("watchpost_"), "{line}");
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(helped.contains(family) || helped.contains(name), "{name} is not explained");
        let labels =
            line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        for pair in labels.split("\",").filter(|pair| !pair.is_empty()) {
            let label = pair.split('=').next().unwrap();
            assert!(
                known.contains(&label),
                "{label} is no label of ours; ids of tracks and incidents never are: {line}"
            );
        }
    }
    for name in [
        "stream_frames_total",
        "stream_frames_left_out_total",
        "stream_inference_skipped_total",
        "stream_latency_seconds_bucket",
        "stream_preprocess_seconds_bucket",
        "stream_in_flight_frames",
        "infer_seconds_bucket",
        "infer_queue_jobs",
        "plugin_call_seconds_bucket",
        "plugin_failures_total",
        "publish_outbox_pending",
        "publish_connected",
        "publish_queue_messages",
        "http_requests_total",
        "box_cpu_ratio",
    ] {
        assert!(text.contains(&format!("\nwatchpost_{name}")), "{name} is missing");
    }
    assert!(!text.contains("of/the/kind"), "what is asked for is no label");
    assert!(daemon.stop().success());
}

#[test]
fn the_demo_says_where_its_page_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(binary())
        .args(["demo", "--seconds", "300", "--http-port", &free_port().to_string()])
        .args(["--mqtt-port", &free_port().to_string(), "--rtsp-port", &free_port().to_string()])
        .env("XDG_CACHE_HOME", folder.path())
        .env("WATCHPOST_SHARE", e2e::daemon::dist())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Kept open to the end: the demo goes on talking.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let line = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("  page "));
    let line = line.expect("a line about the page");
    let port: u16 = line.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let page = get(port, "/api/status").unwrap();
    assert_eq!(page.json()["box"], "demo");
    // Its broker is a process of its own, and ends with it.
    let id = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}
