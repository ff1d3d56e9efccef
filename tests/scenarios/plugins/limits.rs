//! Limits and folders that change while plugins run.

use e2e::plugins::{Bench, frames, frames_until, install, is, patched};
use serde_json::json;
use watchpost::config::settings::Limits;
use watchpost::plugins::InstanceState::{Quarantined, Running, Waiting};

use super::strict;

/// The frames counted, as the plugin says.
fn count(given: &watchpost::plugins::RowOutput) -> u64 {
    given.states.iter().find(|(_, state)| state.name == "count").unwrap().1.value.as_u64().unwrap()
}

#[test]
fn limits_hold_for_running_instances_from_the_next_frame_on() {
    let bench = Bench::with(Limits { results: 1000, ..strict() }, &["misbehave"]);
    let mut row = bench.row(
        "door",
        &[
            ("many", "misbehave", json!({ "behave": "many-shapes", "amount": 300 })),
            ("count", "misbehave", json!({})),
        ],
    );
    let given = frames(&mut row, "door", 0..20);
    assert!(given.iter().all(|given| given.shapes.len() == 300));
    let folders = bench.options().paths.plugins;

    // The one that gives too much is quarantined; the other one never knows.
    bench.host().configure(&folders, &strict());
    let (next, given) = frames_until(&mut row, "door", 20, "quarantine", |s| is(s, "many", Quarantined));
    assert!(given.iter().all(|given| given.shapes.is_empty()));
    assert!(row.status()[0].message.contains("gave 300 shapes, the limit is 256 (limits.results)"));
    let counts: Vec<u64> = given.iter().map(count).collect();
    assert_eq!(counts, (21..=next).collect::<Vec<_>>(), "its instance is the same");
    assert_eq!(row.status()[1].failures, 0);

    // And with room again it is let out of quarantine.
    bench.host().configure(&folders, &Limits { results: 300, ..strict() });
    let (next, _) = frames_until(&mut row, "door", next, "a new start", |s| is(s, "many", Running));
    assert_eq!(frames(&mut row, "door", next..next + 1)[0].shapes.len(), 300);
}

#[test]
fn an_instance_with_more_memory_than_it_may_have_now_is_made_anew_with_its_state() {
    let bench = Bench::with(strict(), &["misbehave"]);
    let mut row = bench.row("door", &[("count", "misbehave", json!({}))]);
    frames(&mut row, "door", 0..30);
    assert!(row.status()[0].memory > 1 << 20, "{:?}", row.status()[0]);
    let folders = bench.options().paths.plugins;
    bench.host().configure(&folders, &Limits { memory_mib: 1, ..strict() });
    let (next, _) = frames_until(&mut row, "door", 30, "quarantine", |s| is(s, "count", Quarantined));
    assert!(row.status()[0].message.contains("the limit is 1 MiB (limits.memory_mib)"), "{:?}", row.status());
    bench.host().configure(&folders, &strict());
    let (next, _) = frames_until(&mut row, "door", next, "a new start", |s| is(s, "count", Running));
    let last = frames(&mut row, "door", next..next + 1).remove(0);
    assert!((31..=next + 1).contains(&count(&last)), "the 30 frames before are not forgotten: {last:?}");
}

#[test]
fn folders_change_and_what_is_in_them_is_there_at_once() {
    let bench = Bench::with(strict(), &["misbehave"]);
    let mut row = bench.row("door", &[("count", "misbehave", json!({}))]);
    frames(&mut row, "door", 0..10);
    let other = tempfile::tempdir().unwrap();
    let newer = patched("misbehave", "misbehave1.0.0Does", "misbehave1.1.0Does");
    install(&other.path().join("misbehave.wasm"), &newer);
    let folders = bench.options().paths.plugins;
    bench.host().configure(&[other.path().to_owned()], &strict());
    let plugins = bench.host().plugins();
    assert_eq!((plugins.len(), plugins[0].version.as_str()), (1, "1.1.0"));
    let newer = |s: &[watchpost::plugins::EntryStatus]| s[0].version.as_deref() == Some("1.1.0");
    let (next, given) = frames_until(&mut row, "door", 10, "the newer version", newer);
    assert_eq!(count(given.last().unwrap()), next, "its state is carried over");

    // A file that comes into the new folder is noticed; the old ones are not looked at any more.
    install(&bench.user("misbehave.wasm"), &patched("misbehave", "misbehave1.0.0Does", "misbehave1.2.0Does"));
    std::fs::remove_file(other.path().join("misbehave.wasm")).unwrap();
    let (next, _) = frames_until(&mut row, "door", next, "its removal", |s| is(s, "count", Waiting));
    bench.host().configure(&folders, &strict());
    frames_until(&mut row, "door", next, "the version in the old folder", |s| {
        s[0].version.as_deref() == Some("1.2.0") && is(s, "count", Running)
    });
}
