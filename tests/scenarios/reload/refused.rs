//! Reloads that change nothing, and say why: file, line and key.

use std::net::TcpListener;

use super::support::{Site, door};

#[test]
fn what_is_wrong_is_named_and_changes_nothing() {
    let port = e2e::daemon::free_port();
    let main = format!("mqtt.url = \"off\"\nrtsp.port = {port}\n");
    let site = Site::start(&main, &[&door("door", true)]);
    let frames = |site: &Site| site.status()["streams"]["door"]["frames"].as_u64().unwrap();
    let mut before = frames(&site);
    // Whatever else a wrong one asks for is not done either.
    let more = "box.name = \"other\"\nlog.level = \"warn\"\n";
    let conf = site.folder.path().join("conf.d");
    let folder = |file: &str| conf.join(file).display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("mqtt.url = \"off\"\nrtsp.port = {}\n", taken.local_addr().unwrap().port());
    let drop_in = |text: &str| site.drop_in("50-new.toml", text);
    let cases: [(&str, &str, &str, i32); 12] = [
        (&main, "[streams.door]\nsorce = \"x\"\n", "50-new.toml:2: streams.door.sorce: unknown key", 78),
        (&main, "[streams.new]\nsource = = 1\n", "50-new.toml:2: ", 78),
        (&main, "\n[streams.new]\nsource = \"ftp://x\"\n", "50-new.toml:3: streams.new.source: ", 78),
        (
            &main,
            "models.new.path = \"nowhere\"\n",
            "50-new.toml:1: models.new: model new: no folder nowhere",
            78,
        ),
        (
            &main,
            "[streams.door]\nplugins.more = { use = \"tracer\" }\n",
            "50-new.toml:2: streams.door.plugins.more: no plugin \"tracer\" in the folders; there are: camera-framing, misbehave, tracker, violence-alert",
            78,
        ),
        (
            &main,
            "[streams.door.plugins.alert]\nbehave = \"well\"\n",
            "50-new.toml:2: streams.door.plugins.alert.behave: ",
            78,
        ),
        (&main, "limits.memory_mib = 1\n", "10-door.toml:3: streams.door.plugins.alert: ", 78),
        (&main, "log.level = \"loud\"\n", "50-new.toml:1: log.level: ", 78),
        (
            &main,
            "mqtt.url = \"mqtt://127.0.0.1\"\nmqtt.username = \"u\"\nmqtt.password_file = \"/no/such\"\n",
            "50-new.toml:3: mqtt.password_file: ",
            78,
        ),
        (&main, "accel.lane = \"cuda\"\n", "50-new.toml:1: accel.lane: lane \"cuda\" cannot start", 78),
        (&taken, "", "watchpost.toml:2: rtsp.port: RTSP server cannot listen", 78),
        (
            &main,
            "mqtt.prefix = \"x\"\n[paths]\nstate = \"/tmp/elsewhere\"\n",
            "50-new.toml:3: paths.state: cannot change while the daemon runs: systemctl restart watchpost",
            1,
        ),
    ];
    for (main, text, says, code) in cases {
        if text.starts_with("accel") && watchpost::gpu::probe().is_ok() {
            continue;
        }
        drop_in(text);
        let said = site.refused(&format!("{main}{more}"), code);
        assert!(said.contains(says), "{text}: {said}");
        assert!(!says.starts_with("50-new") || said.contains(&folder("50-new.toml")), "{said}");
        let status = site.status();
        assert!(status["box"] != "other" && status["refused"].as_str().unwrap().contains(says), "{status}");
        let stream = &status["streams"]["door"];
        let now = stream["frames"].as_u64().unwrap();
        assert!(now >= before && stream["state"] == "running", "{stream}");
        before = now;
    }
    // It was said in the log, at the level that is in force.
    assert!(site.daemon.log().contains("the new configuration is refused; the old one stays in force"));
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "viewers are served as before");
    // A camera that is away is no reason, nor a broker.
    drop_in("mqtt.url = \"mqtt://127.0.0.1:9\"\n[streams.gate]\nsource = \"rtsp://127.0.0.1:9/x\"\n");
    assert_eq!(site.reload(&main), "applied    mqtt\nstarted    gate\nuntouched  door\n");
    assert_eq!(site.status()["refused"], serde_json::Value::Null);
}

#[test]
fn a_daemon_is_found_whose_socket_the_new_configuration_moves() {
    let site = Site::start("mqtt.url = \"off\"\n", &[]);
    site.drop_in("90-run.toml", "[paths]\nrun = \"FOLDER/elsewhere\"\n");
    let said = site.refused("mqtt.url = \"off\"\n", 1);
    assert!(said.contains("90-run.toml:2: paths.run: cannot change while the daemon runs"), "{said}");
    // Also where the file says nothing of sockets any more.
    site.drop_in("90-run.toml", "[paths\n");
    let said = site.refused("mqtt.url = \"off\"\n", 78);
    assert!(said.contains("90-run.toml:1: "), "{said}");
    assert!(site.daemon.log().contains("90-run.toml:1: "), "the daemon says so, too: {}", site.daemon.log());

    // Without a daemon: what is wrong with the file, or that nobody reads it.
    let (folder, _) = site.stop();
    let reload = || {
        let mut command = std::process::Command::new(e2e::daemon::binary());
        let done = command.arg("reload").arg("--config").arg(folder.path().join("watchpost.toml")).output();
        let done = done.unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = reload();
    assert!(code == Some(78) && said.contains("90-run.toml:1: "), "{said}");
    std::fs::remove_file(folder.path().join("conf.d/90-run.toml")).unwrap();
    let (code, said) = reload();
    assert!(code == Some(1) && said.contains("does not answer") && said.contains("control.sock"), "{said}");
}
