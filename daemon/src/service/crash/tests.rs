//! Processes that die, each in its own way, and what the next one knows of it.
//!
//! A test starts this test binary again, for the one test [`dies`], which does what a variable says.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Barrier;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

const HOW: &str = "WATCHPOST_TEST_DIES";
const FOLDER: &str = "WATCHPOST_TEST_DIES_IN";

/// What is printed by who waits for a signal from outside.
const WAITING: &str = "waiting for a signal";

/// `(module (func (export "f") unreachable))`
const UNREACHABLE: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x05\x01\x03\0\0\x0b";
/// `(module (memory 1) (func (export "f") (drop (i32.load (i32.const 0x7fffffff)))))`
const OUT_OF_BOUNDS: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x05\x01\x01f\0\0\
    \x0a\x0e\x01\x0c\0\x41\xff\xff\xff\xff\x07\x28\x02\0\x1a\x0b";

/// Runs both kinds of traps, and takes it to be a failure if one is not contained.
fn trap(engine: &wasmtime::Engine) {
    for (code, says) in [(UNREACHABLE, "unreachable"), (OUT_OF_BOUNDS, "out of bounds")] {
        let module = wasmtime::Module::new(engine, code).unwrap();
        let mut store = wasmtime::Store::new(engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let error =
            instance.get_typed_func::<(), ()>(&mut store, "f").unwrap().call(&mut store, ()).unwrap_err();
        assert!(format!("{error:?}").contains(says), "{error:?}");
    }
}

#[expect(unconditional_recursion, reason = "it is to use up its stack")]
fn recurse(depth: &[u64; 64]) -> u64 {
    let next = std::hint::black_box([depth[0] + 1; 64]);
    recurse(&next) + next[1]
}

/// Dies as it is told, or passes where it is not.
#[test]
fn dies() {
    let (Ok(how), Ok(folder)) = (std::env::var(HOW), std::env::var(FOLDER)) else { return };
    let folder = Path::new(&folder);
    let start = || Crashes::start(folder).unwrap().0;
    if how == "traps-before" || how == "traps-before-marked" {
        let engine = wasmtime::Engine::default();
        let crashes = start();
        let watch = crashes.watch("gate", "somewhere");
        watch.decoding("fake");
        trap(&engine);
        if how == "traps-before-marked" {
            watch.enter();
        }
        return signal::fault::write_to_null();
    }
    let crashes = start();
    let (gate, yard) = (crashes.watch("gate", "somewhere"), crashes.watch("yard", "elsewhere"));
    gate.decoding("fake");
    let elsewhere = |work: fn()| std::thread::spawn(work).join().unwrap();
    match how.as_str() {
        "marked" => {
            gate.enter();
            signal::fault::write_to_null();
        }
        "worker" => {
            yard.enter();
            yard.inside();
            elsewhere(elsewhere_again);
        }
        "left" => {
            yard.enter();
            yard.inside();
            yard.leave();
            elsewhere(signal::fault::write_to_null);
        }
        "outside" => {
            yard.enter();
            yard.inside();
            yard.outside();
            elsewhere(signal::fault::write_to_null);
        }
        "stale" => {
            yard.enter();
            yard.idle();
            signal::fault::write_to_null();
        }
        "idle" => {
            gate.idle();
            signal::fault::write_to_null();
        }
        "blameless" => blameless(signal::fault::write_to_null),
        "blameless-inside" => {
            gate.enter();
            blameless(signal::fault::write_to_null);
        }
        "blameless-before" => {
            gate.enter();
            blameless(|| {});
            signal::fault::write_to_null();
        }
        "pardoned" => {
            gate.enter();
            pardon();
            signal::fault::write_to_null();
        }
        "abort" => {
            gate.enter();
            std::process::abort();
        }
        "overflow" => {
            gate.enter();
            recurse(&[0; 64]);
        }
        "panic" => {
            gate.enter();
            signal::fault::panic_in_a_callback();
        }
        "two" => {
            let barrier = Barrier::new(2);
            std::thread::scope(|scope| {
                for watch in [&gate, &yard] {
                    scope.spawn(|| {
                        watch.enter();
                        barrier.wait();
                        signal::fault::write_to_null();
                    });
                }
            });
        }
        "traps" => {
            trap(&wasmtime::Engine::default());
            println!("{WAITING}");
            gate.enter();
            signal::fault::write_to_null();
        }
        "sent" => {
            gate.enter();
            println!("{WAITING}");
            loop {
                std::thread::park();
            }
        }
        other => panic!("{other}?"),
    }
}

/// A thread of a thread.
fn elsewhere_again() {
    std::thread::Builder::new()
        .name("worker".into())
        .spawn(signal::fault::write_to_null)
        .unwrap()
        .join()
        .unwrap();
}

/// Lets a process die, and gives its end and what the next life finds.
fn life(how: &str, folder: &Path, send: Option<Signal>) -> (ExitStatus, Vec<Crash>, Crashes) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "service::crash::tests::dies", "--nocapture", "--test-threads=1"])
        .env(HOW, how)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut waiting = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if line.contains(WAITING) {
            waiting = true;
            if let Some(signal) = send {
                kill_process(Pid::from_child(&child), signal).unwrap();
            }
        }
    }
    assert_eq!(waiting, matches!(how, "sent" | "traps"), "{how}");
    let end = child.wait().unwrap();
    let (crashes, new, _) = Crashes::open(folder).unwrap();
    (end, new, crashes)
}

/// The signal, whether it is certain, the thread, and the streams of the one crash.
fn one(how: &str) -> (i32, Crash, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (end, new, _) = life(how, folder.path(), None);
    let [crash] = new.as_slice() else { panic!("{how}: {new:?}, {end:?}") };
    let streams = crash.sources.iter().map(|source| source.stream.clone()).collect();
    (end.signal().unwrap(), crash.clone(), streams)
}

#[test]
fn a_thread_of_a_source_blames_it_and_so_do_those_it_starts() {
    let (signal, crash, streams) = one("marked");
    assert_eq!((signal, crash.signal, crash.certain), (libc::SIGSEGV, libc::SIGSEGV, true));
    assert_eq!(streams, ["gate"]);
    assert_eq!(crash.sources[0].decoder, "fake");

    let (signal, crash, streams) = one("worker");
    assert_eq!((signal, crash.certain, crash.thread.as_str()), (libc::SIGSEGV, true, "worker"));
    assert_eq!(streams, ["yard"]);

    let (signal, crash, streams) = one("abort");
    assert_eq!((signal, crash.signal, crash.certain), (libc::SIGABRT, libc::SIGABRT, true));
    assert_eq!(streams, ["gate"]);
}

#[test]
fn a_thread_of_nobody_makes_suspects_of_those_that_decode() {
    for how in ["left", "outside", "stale"] {
        let (signal, crash, streams) = one(how);
        assert_eq!((signal, crash.certain), (libc::SIGSEGV, false), "{how}");
        assert_eq!(streams, ["gate"], "{how}: the yard has no decoder yet");
    }
    let (signal, crash, streams) = one("idle");
    assert_eq!((signal, crash.certain, streams.len()), (libc::SIGSEGV, false, 0));
}

#[test]
fn what_no_source_has_a_part_in_is_recorded_and_blamed_on_nobody() {
    for how in ["blameless", "blameless-inside", "pardoned"] {
        let (signal, crash, streams) = one(how);
        assert_eq!((signal, crash.certain, streams.len()), (libc::SIGSEGV, false, 0), "{how}");
    }
    let (_, crash, streams) = one("blameless-before");
    assert_eq!((crash.certain, streams), (true, vec!["gate".to_owned()]));
}

#[test]
fn a_recursion_without_end_is_recorded_on_the_stack_for_signals() {
    let (signal, crash, streams) = one("overflow");
    // Rust's own handler, which is next, says what it was and aborts.
    assert_eq!((signal, crash.signal, crash.certain), (libc::SIGABRT, libc::SIGSEGV, true));
    assert_eq!(streams, ["gate"]);
}

#[test]
fn two_threads_that_crash_at_once_leave_one_whole_record() {
    for _ in 0..5 {
        let (signal, crash, streams) = one("two");
        assert_eq!((signal, crash.certain, streams.len()), (libc::SIGSEGV, true, 1));
    }
}

#[test]
fn what_is_no_crash_of_a_decoder_is_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    for (how, send, dies_of) in [
        ("panic", None, libc::SIGABRT),
        ("sent", Some(Signal::SEGV), libc::SIGSEGV),
        ("sent", Some(Signal::ABORT), libc::SIGABRT),
        ("sent", Some(Signal::KILL), libc::SIGKILL),
    ] {
        let (end, new, crashes) = life(how, folder.path(), send);
        assert_eq!(end.signal(), Some(dies_of), "{how} {send:?}");
        assert_eq!(new, [], "{how} {send:?}");
        assert_eq!(crashes.verdict("gate", "somewhere"), Verdict::Fit(0));
    }
}

#[test]
fn traps_of_wasm_stay_traps_whoever_was_first() {
    // The child goes on after its traps, and then dies of a fault of its own.
    let (signal, crash, streams) = one("traps");
    assert_eq!((signal, crash.certain, streams), (libc::SIGSEGV, true, vec!["gate".to_owned()]));
    let (signal, crash, streams) = one("traps-before-marked");
    assert_eq!((signal, crash.certain, streams), (libc::SIGSEGV, true, vec!["gate".to_owned()]));
    // Where wasmtime was first, what is not marked might be a trap: nothing is recorded.
    let folder = tempfile::tempdir().unwrap();
    let (end, new, _) = life("traps-before", folder.path(), None);
    assert_eq!((end.signal(), new.len()), (Some(libc::SIGSEGV), 0));
}

#[test]
fn the_third_crash_quarantines_until_it_is_lifted() {
    let folder = tempfile::tempdir().unwrap();
    for count in 1..=2 {
        let (_, _, crashes) = life("marked", folder.path(), None);
        assert_eq!(crashes.verdict("gate", "somewhere"), Verdict::Fit(count));
    }
    let (_, _, crashes) = life("marked", folder.path(), None);
    let Verdict::Quarantined(found) = crashes.verdict("gate", "somewhere") else { panic!("{crashes:?}") };
    assert_eq!((found.crashes.len(), found.culprit.decoder.as_str()), (3, "fake"));
    assert_eq!(crashes.verdict("gate", "another address"), Verdict::Fit(0));
    assert_eq!(crashes.verdict("yard", "elsewhere"), Verdict::Fit(0));
    assert!(crashes.lift("gate").unwrap() && !crashes.lift("gate").unwrap());
    assert_eq!(Crashes::open(folder.path()).unwrap().0.verdict("gate", "somewhere"), Verdict::Fit(0));
}

#[test]
fn an_hour_of_decoding_clears_a_source() {
    let folder = tempfile::tempdir().unwrap();
    life("marked", folder.path(), None);
    let (_, _, crashes) = life("marked", folder.path(), None);
    let minute = Duration::from_secs(60);
    let watch = crashes.watch("gate", "somewhere");
    // Three quarters of an hour with packets, as long without, and some more with.
    let mut now = signal::now();
    for (count, decodes, left) in [(45, true, 2), (45, false, 2), (14, true, 2), (1, true, 0)] {
        for _ in 0..count {
            now += 60_000;
            if decodes {
                table::slot(watch.slot.unwrap()).unwrap().packet(now - 10);
            }
            let elapsed = crashes.lock().looked + minute;
            crashes.look(elapsed, now);
        }
        assert_eq!(crashes.verdict("gate", "somewhere"), Verdict::Fit(left), "{count} {decodes}");
    }
    assert_eq!(Crashes::open(folder.path()).unwrap().0.verdict("gate", "somewhere"), Verdict::Fit(0));
}

#[test]
fn addresses_are_told_apart_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    life("marked", folder.path(), None);
    let text = std::fs::read_to_string(folder.path().join("ledger.json")).unwrap();
    assert!(text.contains("gate") && !text.contains("somewhere"), "{text}");
    assert_ne!(culprit("a", "bc").source, culprit("ab", "c").source);
}
