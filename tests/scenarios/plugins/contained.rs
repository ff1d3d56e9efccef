//! Plugins built to misbehave: each is contained and named, and nobody else notices.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e::plugins::{Bench, frame, frames, frames_until, is};
use serde_json::{Value, json};
use watchpost::config::settings::Limits;
use watchpost::flow::{Change, Objects};
use watchpost::plugins::InstanceState::{Quarantined, Refused, Running};

use super::strict;

/// What a plugin does, and what the host says of it.
fn breaches() -> Vec<(Value, &'static str)> {
    vec![
        (json!({ "behave": "loop" }), "process took more than 100 ms of CPU time (limits.call_ms)"),
        (json!({ "behave": "memory" }), "the limit is 64 MiB (limits.memory_mib)"),
        (json!({ "behave": "recursion" }), "used up its stack"),
        (
            json!({ "behave": "large-recursion" }),
            "touched memory that it does not have; a recursion too deep",
        ),
        (json!({ "behave": "trap" }), "built to trap at frame"),
        (json!({ "behave": "exit" }), "called exit"),
        (
            json!({ "behave": "huge-text", "amount": 10_000_000 }),
            "process gave more than 8 MiB (limits.result_mib)",
        ),
        (json!({ "behave": "many-objects", "amount": 5000 }), "process gave 5000 objects, the limit is 4096"),
        (json!({ "behave": "many-shapes", "amount": 300 }), "process gave 300 shapes, the limit is 256"),
        (json!({ "behave": "many-ids", "amount": 20_000 }), "asked for more than 10000 ids in one call"),
        (json!({ "behave": "not-a-number" }), "object 3 has a number that is not finite"),
        (json!({ "behave": "negative" }), "object 3 has a negative size"),
        (json!({ "behave": "no-such-model" }), "object 3 is of model 77, the stream has 1"),
        (json!({ "behave": "huge-state", "amount": 5 << 20 }), "the limit is 4 MiB (limits.snapshot_mib)"),
        (
            json!({ "behave": "loop-at-start" }),
            "configure took more than 200 ms of CPU time (limits.setup_ms)",
        ),
    ]
}

/// Raises a flag when it goes, also by a panic: threads of the same scope wait for it.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The tracks that the honest plugin gives each frame of a stream.
fn marked(bench: &Bench, stream: &str, count: u64) -> Vec<Objects> {
    let mut row = bench.row(stream, &[("mark", "misbehave", json!({ "behave": "mark" }))]);
    frames(&mut row, stream, 0..count).into_iter().map(|given| given.objects).collect()
}

#[test]
fn each_breach_ends_its_own_instance_and_is_named() {
    let bench = Bench::with(Limits { setup_ms: 200, call_ms: 100, ..strict() }, &["misbehave", "lying"]);
    let alone = marked(&bench, "second", 2000);
    assert!(alone[5].tracks.iter().all(|track| *track > 5000), "{:?}", alone[5]);

    // A second stream runs all the while, over and over.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = AtEnd(&stop);
        let second = scope.spawn(|| {
            let mut rounds = 0;
            while rounds == 0 || !stop.load(Ordering::Relaxed) {
                assert!(marked(&bench, "second", 2000) == alone, "the second stream gave other objects");
                rounds += 1;
            }
        });

        let mut cases: Vec<_> =
            breaches().into_iter().map(|(config, says)| ("misbehave", config, says)).collect();
        cases.push((
            "lying",
            json!({}),
            "columns models, classes, scores, bounds, tracks have [3, 3, 3, 12, 4]",
        ));
        cases.push(("lying", json!({ "what": "bounds" }), "have [3, 3, 3, 9, 3] entries"));
        for (case, (plugin, config, says)) in cases.into_iter().enumerate() {
            let stream = format!("bad-{case}");
            let mut row = bench.row(
                &stream,
                &[
                    ("before", "misbehave", json!({ "behave": "mark" })),
                    ("bad", plugin, config.clone()),
                    ("after", "misbehave", json!({})),
                ],
            );
            let (next, given) =
                frames_until(&mut row, &stream, 0, "quarantine", |s| is(s, "bad", Quarantined));
            let status = row.status();
            assert!(status[1].message.contains(says), "{config}: {}", status[1].message);
            assert_eq!(status[1].failures, 2, "{config}");
            let named = bench.notices.all().into_iter().any(|notice| {
                notice.stream == stream && notice.plugin == plugin && notice.message.contains(says)
            });
            assert!(named, "{config}: no notice names it");
            // Those beside it saw every frame, and the objects as the honest one before it left them.
            for entry in [&status[0], &status[2]] {
                assert_eq!((entry.state, entry.calls, entry.failures), (Running, next, 0), "{config}");
            }
            for (index, given) in given.iter().enumerate() {
                assert_eq!(given.objects, alone[index], "{config}, frame {index}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        second.join().unwrap();
    });
}

#[test]
fn what_does_not_fit_is_dropped_and_the_instance_lives() {
    let bench = Bench::with(Limits::default(), &["misbehave"]);
    for (behave, dropped) in [("disorder", 4), ("misfits", 6)] {
        let mut row = bench.row(behave, &[("odd", "misbehave", json!({ "behave": behave }))]);
        let given = frames(&mut row, behave, 0..10);
        assert!(
            given
                .iter()
                .all(|given| given.events.is_empty() && given.views.is_empty() && given.shapes.is_empty())
        );
        // The one state that it may publish comes, and comes with each change.
        let counts: Vec<_> = given.iter().map(|given| given.states[0].1.value.clone()).collect();
        assert_eq!(counts, (1..=10).map(Value::from).collect::<Vec<_>>());
        let status = &row.status()[0];
        assert_eq!((status.state, status.dropped, status.failures), (Running, dropped * 10, 0), "{behave}");
    }
}

#[test]
fn an_error_of_its_own_is_counted_and_no_failure() {
    let bench = Bench::with(Limits::default(), &["misbehave"]);
    let config = json!({ "behave": "error", "from": 5, "until": 8 });
    let mut row = bench.row("door", &[("cross", "misbehave", config)]);
    let given = frames(&mut row, "door", 0..20);
    assert!(given.iter().all(|given| given.objects.len() == 3));
    let status = &row.status()[0];
    assert_eq!((status.calls, status.errors, status.failures, status.state), (20, 3, 0, Running));
    // Nothing of a failed call is used, but the instance was not made anew: its count goes on.
    assert!(given[6].states.is_empty());
    assert_eq!(given[19].states[0].1.value, 20);
}

#[test]
fn a_flood_of_log_lines_costs_nothing_but_the_lines() {
    let bench = Bench::with(Limits::default(), &["misbehave"]);
    let mut row = bench.row(
        "door",
        &[
            ("flood", "misbehave", json!({ "behave": "log-flood", "amount": 2000 })),
            ("print", "misbehave", json!({ "behave": "print" })),
        ],
    );
    frames(&mut row, "door", 0..30);
    for status in row.status() {
        assert_eq!((status.state, status.calls, status.failures), (Running, 30, 0));
    }
}

#[test]
fn a_slow_plugin_survives_a_busy_machine() {
    // Ten times what a call takes of the processor, and less than it takes of the clock beside so many others.
    let limits = Limits { call_ms: 400, failures: 1, ..Limits::default() };
    let bench = Bench::with(limits, &["misbehave"]);
    // As many rounds as take some twenty milliseconds here.
    let mut amount = 1_000_000;
    let config = |amount: u64| json!({ "behave": "slow", "amount": amount });
    loop {
        // Figures are kept by stream, over rows: each round is a stream of its own.
        let probe = format!("probe-{amount}");
        let mut row = bench.row(&probe, &[("slow", "misbehave", config(amount))]);
        frames(&mut row, &probe, 0..3);
        if row.status()[0].p50_seconds > 0.02 || amount > 1 << 34 {
            break;
        }
        amount *= 2;
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = AtEnd(&stop);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores * 16 {
            scope.spawn(|| {
                let mut number = 1u64;
                while !stop.load(Ordering::Relaxed) {
                    number = std::hint::black_box(number.wrapping_mul(3));
                }
            });
        }
        let mut row = bench.row("busy", &[("slow", "misbehave", config(amount))]);
        frames(&mut row, "busy", 0..10);
        stop.store(true, Ordering::Relaxed);
        let status = &row.status()[0];
        assert_eq!((status.state, status.failures), (Running, 0), "{}", status.message);
    });
}

#[test]
fn a_wrong_configuration_is_refused_by_key() {
    let bench = Bench::with(Limits::default(), &["misbehave"]);
    let cases = [
        (json!({ "behave": "loop-de-loop" }), "streams.door.plugins.odd.behave: "),
        (json!({ "amount": "much" }), "streams.door.plugins.odd.amount: "),
        (json!({ "amonut": 3 }), "'amonut'"),
        (json!({ "behave": "refuse" }), "this configuration is not to my taste (plugin misbehave 1.0.0)"),
    ];
    for (case, (config, says)) in cases.into_iter().enumerate() {
        let stream = format!("door-{case}");
        let says = says.replace("door", &stream);
        let mut row =
            bench.row(&stream, &[("odd", "misbehave", config.clone()), ("fine", "misbehave", json!({}))]);
        let given = frames(&mut row, &stream, 0..5);
        assert!(given.iter().all(|given| given.objects.len() == 3));
        let status = row.status();
        assert_eq!(status[0].state, Refused, "{config}");
        assert!(status[0].message.contains(&says), "{config}: {}", status[0].message);
        assert_eq!((status[1].state, status[1].calls), (Running, 5));
    }
}

#[test]
fn the_incidents_of_a_quarantined_plugin_are_ended() {
    let bench = Bench::with(strict(), &["misbehave"]);
    // It alerts at frame 10, and from frame 12 on a second entry of its kind never comes back; the alert goes on.
    let mut row = bench.row(
        "door",
        &[
            ("alert", "misbehave", json!({ "behave": "alert" })),
            ("loop", "misbehave", json!({ "behave": "loop", "from": 12 })),
        ],
    );
    let given = frames(&mut row, "door", 0..14);
    let begun = &given[10].events[0];
    assert_eq!((begun.entry.as_str(), begun.event.change), ("alert", Change::Begin));
    drop(row);

    // What a dropped row leaves open is ended when the stream is built again.
    let mut row = bench.row("door", &[("alert", "misbehave", json!({ "behave": "alert" }))]);
    let (meta, objects) = frame("door", 0);
    let ended = row.process(&meta, &[], objects, &[]).events;
    assert_eq!(ended[0].event.incident, begun.event.incident);
    assert_eq!(
        (ended[0].event.change, &ended[0].event.data["reason"]),
        (Change::End, &json!("stream-stopped"))
    );

    // And one whose plugin fails for good is ended with that reason.
    let mut row = bench.row("gate", &[("alert", "misbehave", json!({ "behave": "alert" }))]);
    frames(&mut row, "gate", 0..12);
    let failure = row.command("alert", "panic", &Value::Null).unwrap_err().to_string();
    assert!(failure.contains("built to trap over a command"), "{failure}");
    let (next, given) = frames_until(&mut row, "gate", 12, "a new instance", |s| is(s, "alert", Running));
    assert!(
        given.iter().all(|given| given.events.is_empty()),
        "its state was carried over, so the incident goes on"
    );
    row.command("alert", "panic", &Value::Null).unwrap_err();
    assert_eq!(row.status()[0].state, Quarantined);
    let ended = frames(&mut row, "gate", next..next + 1).remove(0).events;
    assert_eq!(
        (ended[0].event.change, &ended[0].event.data["reason"]),
        (Change::End, &json!("plugin-failed"))
    );
}
