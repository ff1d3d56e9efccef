//! The life of an instance: crash, restart, end; commands; incidents over a kill.

use e2e::plugins::{Bench, frames, frames_until, install, is, patched};
use serde_json::{Value, json};
use watchpost::config::settings::Limits;
use watchpost::flow::Change;
use watchpost::plugins::CommandError;
use watchpost::plugins::InstanceState::{Disabled, Quarantined, Restarting, Running};

use super::strict;

#[test]
fn a_crashed_instance_comes_back_with_its_state() {
    let bench = Bench::with(Limits::default(), &["misbehave"]);
    let config = json!({ "behave": "trap", "from": 300, "until": 301 });
    let mut row = bench.row("door", &[("count", "misbehave", config)]);
    let given = frames(&mut row, "door", 0..301);
    assert_eq!(given[299].states[0].1.value, 300);
    // The frame goes on without it.
    assert_eq!((given[300].objects.len(), given[300].states.len()), (3, 0));
    assert_eq!(row.status()[0].state, Restarting);
    let (_, given) = frames_until(&mut row, "door", 301, "the restart", |s| is(s, "count", Running));
    let count = given.last().unwrap().states[0].1.value.as_u64().unwrap();
    // Its state is kept every five seconds of stream time: at frame 250 the last time.
    assert_eq!(count, 251 + 1, "the count at frame 250, and the frame after the restart");
    assert_eq!(row.status()[0].failures, 1);
}

#[test]
fn quarantine_ends_with_a_new_file() {
    let bench = Bench::with(strict(), &["misbehave"]);
    let mut row = bench.row("door", &[("bad", "misbehave", json!({ "behave": "trap", "until": 1000 }))]);
    let (next, _) = frames_until(&mut row, "door", 0, "quarantine", |s| is(s, "bad", Quarantined));
    assert!(row.status()[0].message.contains("failed 2 times within ten minutes (limits.failures)"));
    let later = next.max(1000);
    frames(&mut row, "door", later..later + 50);
    assert_eq!(row.status()[0].state, Quarantined);
    install(&bench.user("misbehave.wasm"), &patched("misbehave", "misbehave1.0.0Does", "misbehave1.1.0Does"));
    frames_until(&mut row, "door", later + 50, "a new start", |s| is(s, "bad", Running));
}

#[test]
fn state_survives_a_restart_and_a_stop_ends_incidents() {
    let mut bench = Bench::with(Limits::default(), &["misbehave"]);
    let entries = [("alert", "misbehave", json!({ "behave": "alert" }))];
    let mut row = bench.row("door", &entries);
    let begun = frames(&mut row, "door", 0..13).remove(10).events.remove(0);
    let ended = row.stop().events.remove(0);
    assert_eq!(ended.event.incident, begun.event.incident);
    assert_eq!((ended.event.change, &ended.event.data["reason"]), (Change::End, &json!("stream-stopped")));
    drop(row);

    bench.restart();
    assert!(bench.host().orphans().is_empty(), "a clean stop leaves none");
    let mut row = bench.row("door", &entries);
    let given = frames(&mut row, "door", 0..16);
    assert_eq!(given[0].states[0].1.value, 14, "the count of the last life goes on");
    // The plugin believes in the incident of its last life; the host knows that it is over.
    assert!(given.iter().all(|given| given.events.is_empty()), "{given:?}");
    assert_eq!(row.status()[0].dropped, 1);
}

#[test]
fn incidents_that_a_kill_left_open_are_handed_over_until_settled() {
    let mut bench = Bench::with(Limits::default(), &["misbehave"]);
    let mut row = bench.row("door", &[("alert", "misbehave", json!({ "behave": "alert" }))]);
    let given = frames(&mut row, "door", 0..55);
    let events: Vec<_> = given.iter().flat_map(|given| &given.events).collect();
    let changes: Vec<_> = events.iter().map(|event| event.event.change).collect();
    assert_eq!(changes, [Change::Begin, Change::Update, Change::End, Change::Begin]);
    // As after a kill: what is on disk is all that is left.
    let kept = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(bench.state().join("incidents")).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, kept.path().join(path.file_name().unwrap())).unwrap();
    }
    row.stop();
    drop(row);
    bench.host = None;
    for file in std::fs::read_dir(kept.path()).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, bench.state().join("incidents").join(path.file_name().unwrap())).unwrap();
    }

    for _ in 0..2 {
        bench.restart();
        let orphans = bench.host().orphans();
        assert_eq!(orphans.len(), 1);
        assert_eq!(orphans[0].stream, "door");
        assert_eq!(orphans[0].end.event.incident, events[3].event.incident);
        assert_eq!(orphans[0].end.event.data["reason"], "restart");
        assert_eq!(orphans[0].end.plugin, "misbehave");
    }
    bench.host.as_mut().unwrap().settle_orphans().unwrap();
    bench.restart();
    assert!(bench.host().orphans().is_empty());
    assert!(bench.host().new_id().unwrap() > events[3].event.incident, "ids go on");
}

#[test]
fn a_removed_plugin_leaves_no_incident_open() {
    let bench = Bench::with(Limits::default(), &["misbehave"]);
    let mut row = bench.row("door", &[("alert", "misbehave", json!({ "behave": "alert" }))]);
    let begun = frames(&mut row, "door", 0..11).remove(10).events.remove(0);
    std::fs::remove_file(bench.shipped("misbehave.wasm")).unwrap();
    let (_, given) = frames_until(&mut row, "door", 11, "its end", |s| s[0].state != Running);
    let events: Vec<_> = given.iter().flat_map(|given| given.events.clone()).collect();
    let mut open = vec![begun.event.incident];
    for event in &events {
        match event.event.change {
            Change::Begin => open.push(event.event.incident),
            Change::Update => {}
            // By itself at frame 20 of each 40, or with the plugin.
            Change::End => {
                let reason = event.event.data.get("reason");
                assert!(reason.is_none_or(|reason| reason == "plugin-removed"), "{reason:?}");
                open.retain(|incident| *incident != event.event.incident);
            }
        }
    }
    assert!(open.is_empty(), "{open:?} {events:?}");
}

#[test]
fn a_plugin_that_is_turned_off_ends_its_incidents_and_goes_on_with_its_state() {
    let bench = Bench::with(Limits::default(), &["misbehave"]);
    let entries = [("alert", "misbehave", json!({ "behave": "alert" }))];
    let mut row = bench.row("door", &entries);
    let begun = frames(&mut row, "door", 0..13).remove(10).events.remove(0);
    bench.host().set_enabled("misbehave", false).unwrap();
    let given = frames(&mut row, "door", 13..15);
    let ended = &given[0].events[0];
    assert_eq!((ended.event.incident, ended.event.change), (begun.event.incident, Change::End));
    assert_eq!(ended.event.data["reason"], "plugin-disabled");
    assert_eq!((row.status()[0].state, given[1].states.len()), (Disabled, 0));
    assert!(!bench.host().is_enabled("misbehave"));
    // Neither a stream that starts meanwhile nor a new file turns it on.
    let mut other = bench.row("hall", &entries);
    install(&bench.user("misbehave.wasm"), &patched("misbehave", "misbehave1.0.0Does", "misbehave1.1.0Does"));
    bench.wait_files("the new file is seen", |files| files.iter().any(|file| file.version == "1.1.0"));
    frames(&mut row, "door", 15..18);
    assert!(frames(&mut other, "hall", 0..3).iter().all(|given| given.states.is_empty()));
    assert_eq!((row.status()[0].state, other.status()[0].state), (Disabled, Disabled));
    bench.host().set_enabled("misbehave", true).unwrap();
    let (_, given) = frames_until(&mut row, "door", 30, "a new start", |s| is(s, "alert", Running));
    assert_eq!(given.last().unwrap().states[0].1.value, 13 + 1, "its count went on");
    frames_until(&mut other, "hall", 3, "a start", |s| is(s, "alert", Running));
    let unknown = bench.host().set_enabled("nobody", false).unwrap_err();
    assert!(unknown.starts_with("no plugin \"nobody\"; there are: misbehave"), "{unknown}");
}

#[test]
fn commands_are_answered_or_say_why_not() {
    let bench = Bench::with(Limits::default(), &["misbehave", "minimal"]);
    let mut row = bench.row(
        "door",
        &[("count", "misbehave", json!({})), ("double", "minimal", json!({})), ("gone", "nobody", json!({}))],
    );
    frames(&mut row, "door", 0..3);
    assert_eq!(row.command("count", "count", &json!(41)).unwrap(), json!({ "count": 41 }));
    assert_eq!(frames(&mut row, "door", 3..4)[0].states[0].1.value, 42);
    let refused = row.command("count", "count", &Value::Null).unwrap_err();
    assert!(matches!(&refused, CommandError::Refused { reason, .. } if reason == "a whole number is wanted"));
    let unknown = row.command("count", "dance", &Value::Null).unwrap_err().to_string();
    assert_eq!(unknown, "plugin misbehave knows no command \"dance\"; it knows: count, panic");
    assert!(row.command("double", "any", &Value::Null).unwrap_err().to_string().ends_with("it knows: none"));
    assert!(matches!(row.command("gone", "any", &Value::Null), Err(CommandError::NotRunning { .. })));
    assert!(matches!(row.command("nothing", "any", &Value::Null), Err(CommandError::NoEntry { .. })));
    assert!(matches!(row.command("count", "panic", &Value::Null), Err(CommandError::Failed { .. })));
    frames_until(&mut row, "door", 4, "the restart", |s| is(s, "count", Running));
}
