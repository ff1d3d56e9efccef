//! The SDK from the outside: the tutorial's plugin runs as a component, and binaries of published contracts
//! still do.

use std::fs;
use std::process::Command;

use e2e::daemon::binary;
use e2e::plugins::{Bench, context, frame, frames, install, wasm};
use serde_json::json;
use watchpost::config::settings::{Limits, PluginUse, Polygon};
use watchpost::flow::{Change, ShapeKind};
use watchpost::plugins::{PluginState, Signal, StreamPlugins};

#[test]
fn the_tutorials_plugin_alerts_when_somebody_stays() {
    let bench = Bench::with(Limits::default(), &["loitering"]);
    let mut context = context("door");
    let door = Polygon { polygon: vec![[0.0, 100.0], [200.0, 100.0], [200.0, 360.0], [0.0, 360.0]] };
    context.zones.insert("door".into(), door);
    let config = json!({ "zone": "door", "seconds": 2.0 }).as_object().cloned().unwrap();
    let used = PluginUse { order: 0, use_: None, enabled: true, config };
    let mut row =
        StreamPlugins::new(bench.host(), &context, &[("loitering".to_owned(), used)].into()).unwrap();
    let mut events = Vec::new();
    for index in 0..100 {
        let (meta, mut objects) = frame("door", index);
        // Somebody with track 5 stands in the door.
        (objects.bounds[0].x, objects.tracks[0]) = (50.0, 5);
        let given = row.process(&meta, &[], objects, &[]);
        assert_eq!(given.shapes[0].1.kind, ShapeKind::Polygon);
        events.extend(given.events);
    }
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].event.change, &events[0].event.tracks[..]), (Change::Begin, &[5][..]));
    // The source dies: ticks go on, and the incident ends.
    let ended = row.signal(8_000_000_000, Signal::Tick).events;
    assert_eq!(ended[0].event.change, Change::End);
    assert!(ended[0].event.data["stayed"].as_f64().unwrap() > 3.0);
}

#[test]
fn binaries_of_published_contracts_still_run() {
    let folder = e2e::data::root().join("tests/contract");
    let bench = Bench::new(Limits::default());
    let mut count = 0;
    for version in fs::read_dir(folder).unwrap() {
        let version = version.unwrap().path();
        for file in fs::read_dir(&version).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "wasm") {
                continue;
            }
            count += 1;
            let name = format!("{}-{count}.wasm", version.file_name().unwrap().to_str().unwrap());
            install(&bench.user(&name), &fs::read(&file).unwrap());
        }
    }
    assert!(count > 0, "no binaries");
    bench.wait_files("all judged", |found| found.len() == count);
    for info in bench.host().plugins() {
        assert_eq!(info.state, PluginState::Ready, "{info:?}");
        let mut row = bench.row(&info.name, &[("only", &info.name, json!({}))]);
        frames(&mut row, &info.name, 0..30);
        let status = &row.status()[0];
        assert_eq!((status.calls, status.failures, status.errors), (30, 0, 0), "{status:?}");
        row.stop();
    }
}

/// Runs a program to its end, and shows what it said where it fails.
fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}\n{said}\n{wrong}");
    said.into_owned()
}

#[test]
fn a_new_plugin_builds_passes_its_tests_and_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new(binary()).args(["plugin", "new", "door-counter", "--dir"]).arg(folder.path()));
    let made = folder.path().join("door-counter");
    // The registry is not asked: the versions are those that the workspace was built with.
    fs::copy(e2e::data::root().join("Cargo.lock"), made.join("Cargo.lock")).unwrap();
    let target = e2e::data::root().join("target/tmp/new-plugin");
    let cargo = || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&made).env("CARGO_TARGET_DIR", &target);
        command
    };
    run(cargo().args(["test", "--offline"]));
    run(cargo().args(["build", "--offline", "--target", "wasm32-wasip2"]));
    let file = target.join("wasm32-wasip2/debug/door_counter.wasm");
    let said = run(Command::new(binary()).args(["plugin", "check", "--json"]).arg(file));
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["name"], "door-counter");
    assert_eq!(found["trial"]["frames"], 250);
    assert_eq!(found["trial"]["doubts"], json!([]));
    assert!(found["trial"]["states"].as_u64().unwrap() > 0);
}

#[test]
fn a_check_says_what_is_wrong() {
    let check = |name: &str, entry: &str| {
        let mut command = Command::new(binary());
        command.args(["plugin", "check", "--entry", entry]).arg(wasm(name));
        let done = command.output().unwrap();
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    assert_eq!(check("misbehave", "{}").0, 0);
    let (status, said) = check("misbehave", r#"{ "behave": "loop", "from": 9 }"#);
    assert!(status == 1 && said.contains("failed its trial: process took more than 50 ms"), "{said}");
    let (status, said) = check("misbehave", r#"{ "behave": "dance" }"#);
    assert!(status == 1 && said.contains("refuses its configuration: behave: "), "{said}");
    let (status, said) = check("sockets", "{}");
    assert!(status == 1 && said.contains("imports wasi:sockets/"), "{said}");
}
