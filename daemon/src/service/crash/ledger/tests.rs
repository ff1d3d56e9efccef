//! The rule, crash by crash.

use super::*;

fn culprit(stream: &str) -> Culprit {
    Culprit { stream: stream.into(), source: "0123".into(), decoder: "fake".into() }
}

fn crash(at: u64, certain: bool, streams: &[&str]) -> Crash {
    let sources = streams.iter().map(|stream| culprit(stream)).collect();
    Crash { at, signal: libc::SIGSEGV, thread: "t".into(), certain, sources }
}

struct Bench {
    folder: tempfile::TempDir,
    at: u64,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), at: 0 }
    }

    /// As the next life of the daemon finds it.
    fn open(&self) -> Ledger {
        Ledger::open(&self.folder.path().join("ledger.json")).unwrap()
    }

    /// A life that ends in a crash, seen by the next one.
    fn life(&mut self, certain: bool, streams: &[&str]) -> Ledger {
        self.at += 1;
        let mut ledger = self.open();
        ledger.take_in(vec![crash(self.at, certain, streams)]).unwrap();
        ledger
    }
}

fn held(ledger: &Ledger, stream: &str) -> bool {
    matches!(ledger.verdict(&culprit(stream)), Verdict::Quarantined(_))
}

#[test]
fn the_third_certain_crash_quarantines_and_the_others_go_free() {
    let mut bench = Bench::new();
    assert_eq!(bench.open().verdict(&culprit("a")), Verdict::Fit(0));
    bench.life(true, &["a"]);
    // Another's crashes in between change nothing.
    bench.life(true, &["b"]);
    bench.life(false, &["b", "c"]);
    let ledger = bench.life(true, &["a"]);
    assert_eq!(ledger.verdict(&culprit("a")), Verdict::Fit(2));
    let ledger = bench.life(true, &["a"]);
    let Verdict::Quarantined(found) = ledger.verdict(&culprit("a")) else { panic!("{ledger:?}") };
    assert_eq!(found.crashes.iter().map(|crash| crash.at).collect::<Vec<_>>(), [1, 4, 5]);
    assert_eq!(ledger.verdict(&culprit("b")), Verdict::Fit(2));
    // Another source of the same stream, and the same address as another stream's, are not meant.
    let other = Culprit { source: "4567".into(), ..culprit("a") };
    assert_eq!(ledger.verdict(&other), Verdict::Fit(0));
    assert!(held(&bench.open(), "a"), "forgotten at the next start");
    for _ in 0..3 {
        assert!(held(&bench.life(true, &["c"]), "a"), "forgotten over others' crashes");
    }
}

#[test]
fn a_crash_read_twice_counts_once() {
    let bench = Bench::new();
    for _ in 0..4 {
        let mut ledger = bench.open();
        ledger.take_in(vec![crash(7, true, &["a"]), crash(8, true, &["a"])]).unwrap();
        assert_eq!(ledger.verdict(&culprit("a")), Verdict::Fit(2));
    }
    let mut ledger = bench.open();
    ledger.take_in(vec![crash(9, true, &["a"])]).unwrap();
    ledger.take_in(vec![crash(9, true, &["a"]), crash(8, true, &["a"])]).unwrap();
    assert!(held(&ledger, "a") && ledger.is_clean());
}

#[test]
fn suspicion_needs_three_in_a_row_and_one_in_common() {
    let mut bench = Bench::new();
    bench.life(false, &["a", "b", "c"]);
    bench.life(false, &["b", "d"]);
    // The row is broken: b is in three of four.
    bench.life(false, &["c", "e"]);
    let ledger = bench.life(false, &["b"]);
    assert!(["a", "b", "c", "d", "e"].iter().all(|stream| !held(&ledger, stream)), "{ledger:?}");
    bench.life(false, &["b", "e"]);
    let ledger = bench.life(false, &["b", "c"]);
    assert!(held(&ledger, "b"));
    assert!(["a", "c", "d", "e"].iter().all(|stream| !held(&ledger, stream)), "{ledger:?}");
    // What the quarantine explains does not speak against the others.
    assert_eq!(ledger.verdict(&culprit("e")), Verdict::Fit(1));
}

#[test]
fn of_twenty_that_start_together_none_is_punished_and_the_one_is_found() {
    let names: Vec<String> = (0..20).map(|number| format!("s{number:02}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new();
    bench.life(false, &all);
    let ledger = bench.life(false, &all);
    assert_eq!(ledger.verdict(&culprit("s07")), Verdict::Fit(2));
    let ledger = bench.life(false, &all);
    for (place, name) in (0u32..).zip(&all) {
        assert_eq!(ledger.verdict(&culprit(name)), Verdict::Apart(Duration::from_secs(10) * place));
    }
    assert_eq!(ledger.verdict(&culprit("another")), Verdict::Fit(0));
    // They start apart: the next crash finds one in its first seconds.
    let ledger = bench.life(false, &["s07"]);
    assert!(all.iter().all(|name| held(&ledger, name) == (*name == "s07")), "{ledger:?}");
    assert_eq!(ledger.verdict(&culprit("s08")), Verdict::Fit(0));
}

#[test]
fn certain_and_suspected_crashes_add_up() {
    let mut bench = Bench::new();
    bench.life(true, &["a"]);
    bench.life(false, &["a", "b"]);
    assert!(held(&bench.life(false, &["a", "b"]), "a"));
    assert!(!held(&bench.open(), "b"));
}

#[test]
fn clearing_and_lifting() {
    let mut bench = Bench::new();
    bench.life(true, &["a"]);
    bench.life(true, &["a"]);
    let mut ledger = bench.open();
    assert!(ledger.clear(&culprit("a")).unwrap());
    assert!(!ledger.clear(&culprit("a")).unwrap());
    bench.life(true, &["a"]);
    assert!(!held(&bench.life(true, &["a"]), "a"), "crashes before it was cleared count");
    let mut ledger = bench.life(true, &["a"]);
    assert!(held(&ledger, "a"));
    assert!(!ledger.lift("b").unwrap());
    assert!(ledger.lift("a").unwrap());
    assert_eq!(bench.open().verdict(&culprit("a")), Verdict::Fit(0));
}

#[test]
fn the_book_is_bounded_and_a_spoiled_one_is_put_aside() {
    let mut bench = Bench::new();
    for number in 0..CRASHES + 10 {
        bench.life(true, &[&format!("s{number}")]);
    }
    assert_eq!(bench.open().book.crashes.len(), CRASHES);
    std::fs::write(bench.folder.path().join("ledger.json"), "{").unwrap();
    assert!(bench.life(true, &["s70"]).book.crashes.len() == 1);
    assert_eq!(std::fs::read_to_string(bench.folder.path().join("ledger.spoiled")).unwrap(), "{");
    // A folder in its place is no spoiled file.
    std::fs::remove_file(bench.folder.path().join("ledger.json")).unwrap();
    std::fs::create_dir(bench.folder.path().join("ledger.json")).unwrap();
    assert!(Ledger::open(&bench.folder.path().join("ledger.json")).is_err());
}
