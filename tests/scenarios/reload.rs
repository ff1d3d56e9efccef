//! The configuration changes while the daemon runs: what changed applies, what did not goes on without a lost frame, and
//! what is wrong changes nothing.

mod refused;
mod support;

use std::net::TcpStream;
use std::time::Duration;

use e2e::daemon::free_port;
use e2e::mosquitto::{Mosquitto, until};
use serde_json::{Value, json};

use support::{Site, Systemd, door, events, frames};

/// Everything that can change without a stream changing does, one after the other and at last all of it at once.
#[test]
fn the_box_moves_and_a_stream_that_nobody_touched_loses_no_frame_and_no_event() {
    let (first, second) = (Mosquitto::start(), Mosquitto::start());
    let (here, there) = (first.subscribe("watchpost/#"), second.subscribe("watchpost/#"));
    let ports = [free_port(), free_port()];
    let config = |broker: &Mosquitto, more: &str| format!("mqtt.url = \"{}\"\n{more}", broker.url());
    let site = Site::start(
        &config(&first, &format!("box.name = \"a\"\nrtsp.port = {}\n", ports[0])),
        &[&door("door", true)],
    );
    here.wait("events", |messages| events(messages).len() >= 3);
    assert!(TcpStream::connect(("127.0.0.1", ports[0])).is_ok());

    // Another broker.
    let done = site.reload(&config(&second, &format!("box.name = \"a\"\nrtsp.port = {}\n", ports[0])));
    assert_eq!(done, "applied    mqtt\nuntouched  door\n");
    here.wait_for("watchpost/a/status", |status| status["reason"] == "moved");
    there.wait_for("watchpost/a/streams/door/status", |status| status["state"] == "running");
    there.wait("events", |messages| events(messages).len() >= 3);

    // Another port for viewers; other limits, which the running instance is held to; less in the log, and more again.
    let done = site.reload(&config(
        &second,
        &format!("box.name = \"a\"\nrtsp.port = {}\nlog.level = \"warn\"\nlimits.results = 300\n", ports[1]),
    ));
    assert_eq!(done, "applied    limits, log, rtsp\nuntouched  door\n");
    assert!(TcpStream::connect(("127.0.0.1", ports[0])).is_err(), "{}", site.daemon.log());
    let url = format!("rtsp://127.0.0.1:{}/door/wide", ports[1]);
    site.wait_status("the output is there", |status| {
        status["streams"]["door"]["outputs"][0]["address"] == url
    });
    site.watch(&url);
    let told = site.daemon.log().matches("configuration reloaded").count();
    assert_eq!(told, 1, "the second one came at a level that is not logged:\n{}", site.daemon.log());

    // Another name, the first broker again, and a second stream, all at once.
    site.drop_in("20-gate.toml", &door("gate", false));
    let done = site.reload(&config(&first, &format!("box.name = \"b\"\nrtsp.port = {}\n", ports[1])));
    assert_eq!(done, "applied    box, limits, log, mqtt\nstarted    gate\nuntouched  door\n");
    there.wait_for("watchpost/a/status", |status| status["reason"] == "moved");
    here.wait_for("watchpost/b/streams/gate/status", |status| status["state"] == "running");
    here.wait_for("watchpost/b/status", |status| status["streams"] == json!(["door", "gate"]));
    here.wait("events of both", |messages| {
        let events = events(messages);
        let of = |stream: &str| events.iter().filter(|(box_, of, ..)| box_ == "b" && of == stream).count();
        of("door") >= 3 && of("gate") >= 1
    });
    assert_eq!(site.daemon.log().matches("configuration reloaded").count(), 2);

    // And away with it.
    std::fs::remove_file(site.folder.path().join("conf.d/20-gate.toml")).unwrap();
    let done = site.reload(&config(&first, &format!("box.name = \"b\"\nrtsp.port = {}\n", ports[1])));
    assert_eq!(done, "stopped    gate\nuntouched  door\n");
    here.wait("it is forgotten", |messages| {
        let of = messages.iter().rfind(|message| message.topic == "watchpost/b/streams/gate/status");
        of.is_some_and(|message| message.payload.is_empty())
    });
    until("nothing waits", || site.status()["mqtt"]["pending"] == 0);
    let frames_now = site.status()["streams"]["door"]["frames"].as_u64().unwrap();
    assert_eq!(site.status()["streams"]["door"]["plugins"][0]["failures"], 0);
    let (folder, log) = site.stop();

    // Each event came, to one broker or the other.
    let mut came = [events(&here.messages()), events(&there.messages())].concat();
    came.sort_by_key(|event| event.2);
    came.dedup_by_key(|event| event.2);
    let seqs: Vec<u64> = came.iter().map(|event| event.2).collect();
    let expected: Vec<u64> = (1..=seqs.len() as u64).collect();
    assert_eq!(seqs, expected, "{log}");
    // And no frame of the stream is missing: they are numbered from its one start on.
    let frames = frames(&folder.path().join("door.jsonl"));
    assert!(frames.len() as u64 >= frames_now && frames_now > 20, "{} of {frames_now}", frames.len());
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!((frame["frame"].as_u64(), &frame["gap"]), (Some(index as u64), &json!(0)), "{log}");
    }
    // Its plugin has counted them all.
    let count = |frame: &Value| frame["states"][0]["value"].as_u64();
    assert_eq!(count(frames.last().unwrap()), Some(frames.len() as u64), "{log}");
}

/// What a stream's restart costs: its own frames and nobody else's, and its plugins' state is carried over.
#[test]
fn a_changed_stream_starts_anew_with_its_plugins_state_and_systemd_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = Systemd::listen(&path);
    let until_word = |word: &str| systemd.until(word);
    let (one, other) = (door("door", true), door("gate", false));
    let site = Site::start_with("mqtt.url = \"off\"\n", &[&one, &other], &[("NOTIFY_SOCKET", &path)]);
    until_word("READY=1");
    site.wait_status("some frames", |status| status["streams"]["door"]["frames"].as_u64() > Some(30));

    // SIGHUP, as of old.
    site.drop_in("10-door.toml", &one.replace("fps=10", "fps=12"));
    let process = rustix::process::Pid::from_raw(site.daemon.id().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    let words = until_word("RELOADING=1");
    let (_, since) = words.split_once("\nMONOTONIC_USEC=").unwrap();
    assert!(since.parse::<u64>().unwrap() > 0);
    until_word("READY=1");
    site.daemon.wait_for("restarted=[\"door\"]", Duration::from_secs(20));
    site.wait_status("it runs again", |status| {
        status["streams"]["door"]["state"] == "running"
            && status["streams"]["door"]["frames"].as_u64() > Some(50)
    });
    // One that fails is over, too, and said in the status line until the next good one.
    let good = std::fs::read_to_string(site.folder.path().join("conf.d/10-door.toml")).unwrap();
    site.drop_in("10-door.toml", &good.replace("fps=12", "fps=none"));
    assert_eq!(site.daemon.command(&["reload"]).status.code(), Some(78));
    until_word("RELOADING=1");
    until_word("READY=1");
    let line = until_word("STATUS=2 of 2 streams running; the last reload was refused");
    assert!(line.contains("10-door.toml:2: streams.door.source") && line.contains("fps=none"), "{line}");
    site.drop_in("10-door.toml", &good);
    assert_eq!(site.daemon.command(&["reload"]).status.code(), Some(0));
    until_word("RELOADING=1");
    until_word("READY=1");
    assert_eq!(site.status()["refused"], Value::Null);

    let (folder, log) = site.stop();
    let frames = frames(&folder.path().join("door.jsonl"));
    assert_eq!(frames[0]["frame"], 0, "it has started anew: {log}");
    let count = frames[0]["states"][0]["value"].as_u64().unwrap();
    assert!(count > 25, "the plugin goes on counting: {count}\n{log}");
}

#[test]
fn outputs_come_and_go_with_the_server_and_streams_are_turned_on_and_off() {
    let port = free_port();
    let site = Site::start(&format!("mqtt.url = \"off\"\nrtsp.port = {port}\n"), &[]);
    let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let main = format!("mqtt.url = \"off\"\nrtsp.port = {port}\n");
    assert!(!listens(), "nothing is served");
    site.drop_in("10-door.toml", &door("door", true));
    assert_eq!(site.reload(&main), "started    door\n");
    assert!(listens());
    site.watch(&format!("rtsp://127.0.0.1:{port}/door/wide"));
    site.drop_in("10-door.toml", &door("door", false));
    assert_eq!(site.reload(&main), "restarted  door\n");
    assert!(!listens(), "nothing is served any more");

    // Off in the configuration; on by command, whatever is reloaded; off again when the configuration says so anew.
    let off = door("door", false) + "enabled = false\n";
    site.drop_in("10-door.toml", &off);
    assert_eq!(site.reload(&main), "stopped    door\n");
    let state = |site: &Site| site.status()["streams"]["door"]["state"].as_str().unwrap().to_owned();
    assert_eq!(state(&site), "disabled");
    assert!(site.daemon.command(&["enable", "door"]).status.success());
    site.wait_status("it runs", |status| status["streams"]["door"]["state"] == "running");
    assert_eq!(
        site.reload(&format!("{main}log.level = \"info,watchpost=debug\"\n")),
        "applied    log\nuntouched  door\n"
    );
    assert_eq!(state(&site), "running");
    assert!(site.daemon.command(&["disable", "door"]).status.success());
    assert_eq!(state(&site), "disabled");
    site.drop_in("10-door.toml", &door("door", false));
    assert_eq!(site.reload(&main), "applied    log\nstarted    door\n", "`enabled` was changed");
    site.wait_status("it runs", |status| status["streams"]["door"]["state"] == "running");
    assert!(site.daemon.command(&["disable", "door"]).status.success());
    site.drop_in("10-door.toml", &door("door", false).replace("fps=10", "fps=11"));
    assert_eq!(site.reload(&main), "untouched  door\n", "it stays off");
    assert_eq!(state(&site), "disabled");
}

#[test]
fn a_model_is_opened_anew_where_it_changes_and_other_streams_go_on() {
    let models = tempfile::tempdir().unwrap();
    let copy = models.path().join("mine");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(e2e::daemon::dist().join("models/people")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let seeing = door("door", false) + "models.people = { sample = \"fps:2\" }\n";
    let main =
        |more: &str| format!("mqtt.url = \"off\"\nmodels.people.path = \"{}\"\n{more}", copy.display());
    let site = Site::start(&main(""), &[&seeing, &door("gate", false)]);
    let loaded = || site.daemon.log().matches("model loaded").count();
    site.wait_status("it runs", |status| status["streams"]["door"]["state"] == "running");
    assert_eq!((loaded(), site.reload(&main("")).as_str()), (1, "untouched  door, gate\n"));
    assert_eq!(
        site.reload(&main("infer.batch_wait_ms = 5\n")),
        "applied    infer\nrestarted  door\nuntouched  gate\n"
    );
    // Another file in its folder.
    let manifest = std::fs::read_to_string(copy.join("model.toml")).unwrap();
    std::fs::write(copy.join("model.toml"), format!("{manifest}\n# mine\n")).unwrap();
    assert_eq!(site.reload(&main("infer.batch_wait_ms = 5\n")), "restarted  door\nuntouched  gate\n");
    site.wait_status("it runs", |status| status["streams"]["door"]["state"] == "running");
    // A broken one is refused, and named.
    std::fs::write(copy.join("model.toml"), "task = \"dance\"\n").unwrap();
    let refused = site.refused(&main("infer.batch_wait_ms = 5\n"), 78);
    assert!(
        refused.contains("watchpost.toml:2: models.people: ") && refused.contains("model.toml"),
        "{refused}"
    );
    assert_eq!(site.status()["streams"]["door"]["state"], "running");
}
