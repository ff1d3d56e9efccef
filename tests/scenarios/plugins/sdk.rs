//! The SDK from the outside: the tutorial's plugin runs as a component, and binaries of published contracts
//! still do.

use std::fs;

use e2e::plugins::{Bench, context, frame, frames, install};
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
