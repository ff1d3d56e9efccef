//! Traces, and plugins over them: what was recorded from a rendered scene comes out again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use e2e::daemon::{Daemon, binary, dist};
use e2e::plugins::{wait, wasm};
use serde_json::{Value, json};
use watchpost::jobs::scene::{ExportOptions, export};
use watchpost::scene::SceneSpec;

const ROW: &str = "models.people = {}\nmodels.violence = {}\nplugins.ids = { order = 1, use = \"tracker\" }\n\
    plugins.fights = { order = 2, use = \"violence-alert\" }\n\
    plugins.follow = { order = 3, use = \"camera-framing\", mode = \"group\" }\n";

fn replay(plugin: &Path, trace: &Path, more: &[&str]) -> Output {
    Command::new(binary()).args(["plugin", "replay"]).arg(plugin).arg(trace).args(more).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The comparison as JSON, and whether the command succeeded.
fn compared(plugin: &Path, trace: &Path, more: &[&str]) -> (bool, Value) {
    let output = replay(plugin, trace, &[&["--compare", "--json"], more].concat());
    let text = said(&output);
    (
        output.status.success(),
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

fn shipped(name: &str) -> PathBuf {
    dist().join("plugins").join(format!("{name}.wasm"))
}

fn ended(daemon: &Daemon) {
    wait(
        "the end of the video",
        || {
            let status: Value =
                serde_json::from_slice(&daemon.command(&["status", "--json"]).stdout).unwrap_or_default();
            assert_ne!(status["streams"]["yard"]["state"], "failed", "{status}");
            status["streams"]["yard"]["state"] == "ended"
        },
        || daemon.log(),
    );
}

#[test]
fn what_was_recorded_comes_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let uri = "scene://people?seed=8101&size=640x360&fps=25&seconds=14&fights=1&people=5";
    let quiet = ExportOptions { progress: false, ..ExportOptions::default() };
    let video = export(&SceneSpec::parse(uri).unwrap(), &folder.path().join("scene"), &quiet).unwrap().video;
    let config = format!(
        "box.name = \"b\"\nmqtt.url = \"off\"\nmodels.people.path = \"people\"\nmodels.violence.path = \"violence\"\n\
         plugins.violence-alert = {{ update_every = 1.0 }}\n[streams.yard]\nsource = \"{}\"\n{ROW}",
        video.display()
    );
    let traces = folder.path().join("traces");
    let daemon = Daemon::recording(folder.path(), &config, &traces);
    ended(&daemon);
    assert!(daemon.stop().success());
    let trace = traces.join("yard.jsonl");
    let text = fs::read_to_string(&trace).unwrap();
    assert!(!text.contains(video.to_str().unwrap()), "nothing of the source is in a trace");

    // Each shipped plugin, from the front of the row to its end.
    for (plugin, entry) in [("tracker", "ids"), ("violence-alert", "fights"), ("camera-framing", "follow")] {
        let (equal, tally) = compared(&shipped(plugin), &trace, &[]);
        assert!(equal && tally["first"].is_null(), "{plugin}: {tally:#}");
        assert_eq!((&tally["entry"], &tally["frames"]), (&json!(entry), &json!(350)));
        assert!(tally["equal"].as_u64().unwrap() >= 350, "{tally:#}");
    }
    // Other configurations give something else, and where is said.
    for (plugin, config) in
        [("tracker", r#"{ "birth": 0.99 }"#), ("camera-framing", r#"{ "mode": "track" }"#)]
    {
        let (equal, tally) = compared(&shipped(plugin), &trace, &["--config", config]);
        assert!(!equal && tally["different"].as_u64().unwrap() > 50, "{plugin}: {tally:#}");
        assert!(tally["first"]["line"].as_u64().unwrap() > 2, "{tally:#}");
        let output = replay(&shipped(plugin), &trace, &["--config", config, "--compare"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said(&output).contains("first difference: ") && said(&output).contains("calls differ"),
            "{}",
            said(&output)
        );
    }
    let settings = folder.path().join("wrong.toml");
    fs::write(&settings, "enters = 1\n").unwrap();
    let output = replay(&shipped("violence-alert"), &trace, &["--config", settings.to_str().unwrap()]);
    assert!(!output.status.success() && said(&output).contains("fights.enters: "), "{}", said(&output));

    // What it emits, as lines for programs and for people; a plugin that the trace knows nothing of runs at the end.
    let output = replay(&shipped("camera-framing"), &trace, &["--json"]);
    let views =
        String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.contains("\"view\":")).count();
    assert!(views > 100, "{views} views");
    let output = replay(&wasm("misbehave"), &trace, &["--config", r#"{ "behave": "alert" }"#]);
    let text_ = said(&output);
    assert!(
        output.status.success() && text_.contains("fuss begin") && text_.contains("count = 350"),
        "{text_}"
    );
    let output = replay(&wasm("misbehave"), &trace, &["--compare"]);
    assert!(!output.status.success() && said(&output).contains("ids (tracker), fights (violence-alert)"));
    let output = replay(&wasm("misbehave"), &trace, &["--entry", "fights", "--config", "{}", "--compare"]);
    assert!(!output.status.success() && said(&output).contains("misbehave 1.0.0 in place of entry fights"));

    // Cut off, as by a power cut, and damaged in the middle: said, and what is whole is replayed.
    let lines: Vec<&str> = text.lines().collect();
    let damaged = folder.path().join("damaged.jsonl");
    let middle = lines.iter().position(|line| line.starts_with("{\"signal\"")).unwrap_or(lines.len() / 3);
    let mut content =
        lines[..middle].join("\n") + "\n{\"fra\n" + &lines[middle + 1..lines.len() / 2].join("\n") + "\n";
    content.push_str(&lines[lines.len() / 2][..40]);
    fs::write(&damaged, content).unwrap();
    let output = replay(&shipped("tracker"), &damaged, &[]);
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{wrong}");
    assert!(wrong.contains(&format!("damaged.jsonl:{}: left out", middle + 1)), "{wrong}");
    assert!(
        wrong.contains(&format!("damaged.jsonl:{}: the trace is cut off", lines.len() / 2 + 1)),
        "{wrong}"
    );
    for (name, content, says) in [
        ("empty.jsonl", "", "is empty"),
        ("other.jsonl", "{\"a\":1}\n", "other.jsonl:1: this is no trace"),
        ("old.jsonl", "{\"schema\":\"watchpost.trace/1\"}\n", "this trace is watchpost.trace/1"),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
        let output = replay(&shipped("tracker"), &folder.path().join(name), &[]);
        assert!(!output.status.success() && said(&output).contains(says), "{}", said(&output));
    }
}

/// What `plugin list` says of the plugin in a file.
fn listed(daemon: &Daemon) -> Value {
    serde_json::from_slice(&daemon.command(&["plugin", "list", "--json"]).stdout).unwrap()
}

#[test]
fn a_users_day_with_the_folder_and_conf_d() {
    let folder = tempfile::tempdir().unwrap();
    let config = "box.name = \"b\"\nmqtt.url = \"off\"\n[streams.yard]\n\
        source = \"scene://people?seed=8102&size=320x180&fps=25\"\nplugins.tracker = {}\nplugins.later = { use = \"misbehave\" }\n";
    let daemon = Daemon::start(folder.path(), config);
    daemon.wait_ready();
    let plugin = |listed: &Value, state: &str, name: &str| {
        let all = listed["plugins"].as_array().unwrap();
        all.iter().find(|plugin| plugin["name"] == name && plugin["state"] == state).cloned()
    };
    let until = |what: &str, state: &str, name: &str, done: &dyn Fn(&Value) -> bool| {
        wait(
            what,
            || plugin(&listed(&daemon), state, name).is_some_and(|plugin| done(&plugin)),
            || format!("{:#}\n{}", listed(&daemon), daemon.log()),
        );
    };
    until("the shipped tracker", "ready", "tracker", &|plugin| {
        plugin["origin"] == "shipped"
            && plugin["calls"].as_u64() > Some(10)
            && plugin["streams"] == json!(["yard"])
    });
    assert!(plugin(&listed(&daemon), "missing", "misbehave").is_some());
    // Dropped in, replaced by a broken one, shadowing the shipped one, removed.
    let mine = folder.path().join("plugins");
    fs::copy(wasm("misbehave"), mine.join("misbehave.wasm")).unwrap();
    until("the dropped plugin", "ready", "misbehave", &|plugin| plugin["calls"].as_u64() > Some(10));
    fs::write(mine.join("misbehave.wasm"), "rubbish").unwrap();
    until("the broken one", "ready", "misbehave", &|plugin| plugin["error"].is_string());
    fs::copy(shipped("tracker"), mine.join("tracker-mine.wasm")).unwrap();
    until("the user's tracker", "ready", "tracker", &|plugin| plugin["origin"] == "user");
    assert!(
        plugin(&listed(&daemon), "shadowed", "tracker").is_some_and(|plugin| plugin["origin"] == "shipped")
    );
    fs::remove_file(mine.join("tracker-mine.wasm")).unwrap();
    until("the shipped one again", "ready", "tracker", &|plugin| plugin["origin"] == "shipped");

    // Off for all streams by a file in conf.d; a wrong key there is named with file and line.
    let drop_in = folder.path().join("conf.d/50-plugins.toml");
    fs::write(&drop_in, "[plugins.tracker]\nenabled = false\n[plugins.nobody]\n").unwrap();
    assert!(daemon.command(&["reload"]).status.success());
    until("the switch", "disabled", "tracker", &|plugin| plugin["streams"] == json!([]));
    daemon.wait_for("plugins.nobody: no plugin of that name", Duration::from_secs(5));
    fs::write(&drop_in, "[plugins.tracker]\nmax_lost = 3.0\nlow_ = 1\n").unwrap();
    let check = daemon.command(&["check"]);
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(!check.status.success() && text.contains("50-plugins.toml:3: plugins.tracker.low_: "), "{text}");
    fs::write(&drop_in, "[plugins.tracker]\nmax_lost = 3.0\n").unwrap();
    assert!(daemon.command(&["reload"]).status.success());
    until("the tracker again", "ready", "tracker", &|plugin| plugin["calls"].as_u64() > Some(0));
    let lines = String::from_utf8(daemon.command(&["plugin", "list"]).stdout).unwrap();
    let first: Vec<&str> = lines.lines().take_while(|line| !line.is_empty()).collect();
    assert!(first.len() >= 4 && first.iter().all(|line| line.chars().count() <= 120), "{lines}");
    assert!(daemon.stop().success());
}
