//! The outbox on a real disk: order, restarts, damage, limits, a disk that fails.

use std::path::PathBuf;

use super::*;

fn start(folder: &tempfile::TempDir, limit: u64) -> Outbox {
    Outbox::start(folder.path(), limit, &Registry::new()).unwrap()
}

fn push(outbox: &Outbox, size: usize) -> u64 {
    outbox.push(|epoch, seq| ("t".into(), format!("{epoch}/{seq}:{}", "x".repeat(size)).into_bytes().into()))
}

fn pushes(outbox: &Outbox, count: usize, size: usize) {
    for _ in 0..count {
        push(outbox, size);
    }
}

/// Takes `count` messages as a connection would; waits for them.
fn take(outbox: &Outbox, count: usize) -> Vec<Record> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut got = Vec::new();
    while got.len() < count {
        match outbox.pop() {
            Some(record) => got.push(record),
            None => std::thread::yield_now(),
        }
        assert!(Instant::now() < deadline, "got {} of {count}: {:?}", got.len(), outbox.report());
    }
    got
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::yield_now();
    }
}

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.seq).collect()
}

fn segments(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join("outbox")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

#[test]
fn what_is_not_acknowledged_comes_again_with_its_number_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = start(&folder, 1 << 20);
    let epoch = outbox.epoch();
    pushes(&outbox, 10, 20);
    outbox.connected();
    let got = take(&outbox, 10);
    assert_eq!(seqs(&got), (1..=10).collect::<Vec<_>>());
    outbox.ack(got[3].position + 1);
    wait("the ack is seen", || outbox.pending() == 6);
    outbox.disconnected();
    outbox.stop();
    drop(outbox);

    let outbox = start(&folder, 1 << 20);
    assert_eq!(outbox.epoch(), epoch + 1);
    push(&outbox, 5);
    outbox.connected();
    let again = take(&outbox, 7);
    assert_eq!(again[..6], got[4..]);
    assert_eq!((again[6].epoch, again[6].seq), (epoch + 1, 1));
    outbox.ack(again[6].position + 1);
    wait("all is acknowledged", || outbox.pending() == 0);
    drop(outbox);
    assert_eq!(start(&folder, 1 << 20).report().dropped, 0);
    wait("acknowledged files are removed", || segments(&folder).is_empty());
}

#[test]
fn a_new_connection_gets_everything_unacknowledged_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = start(&folder, 64 << 20);
    pushes(&outbox, 3000, 1000);
    outbox.connected();
    let first = take(&outbox, 500);
    outbox.ack(first[99].position + 1);
    outbox.disconnected();
    pushes(&outbox, 10, 10);
    outbox.connected();
    assert_eq!(seqs(&take(&outbox, 2910)), (101..=3010).collect::<Vec<_>>());
    assert!(outbox.pop().is_none());
}

#[test]
fn over_the_limit_the_oldest_go_first_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = start(&folder, 4000);
    for _ in 0..100 {
        push(&outbox, 100);
        outbox.settle();
    }
    assert!(outbox.bytes() <= 4000, "{}", outbox.bytes());
    let kept = outbox.pending();
    assert!(kept > 10, "{kept}");
    assert_eq!(outbox.report().dropped, 100 - kept);
    outbox.connected();
    let got = take(&outbox, kept as usize);
    assert_eq!(seqs(&got), (101 - kept..=100).collect::<Vec<_>>());
    push(&outbox, 5000);
    outbox.settle();
    assert_eq!(outbox.report().dropped, 101 - kept, "a message over the limit is dropped, and no other");
}

#[test]
fn a_torn_end_and_a_damaged_record_lose_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = start(&folder, 1 << 20);
    pushes(&outbox, 5, 50);
    outbox.settle();
    drop(outbox);
    let path = segments(&folder).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let (size, whole) = (bytes.len() / 5, bytes.len());
    bytes[size + 40] ^= 0x10;
    bytes.extend_from_within(..30);
    std::fs::write(&path, &bytes).unwrap();

    let outbox = start(&folder, 1 << 20);
    outbox.connected();
    let got = take(&outbox, 4);
    assert_eq!(seqs(&got), [1, 3, 4, 5]);
    assert_eq!((outbox.report().corrupt, outbox.report().dropped), (1, 0));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), whole as u64);
}

#[test]
fn garbage_in_place_of_files_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("outbox")).unwrap();
    std::fs::write(folder.path().join("outbox/acked"), "garbage that is long enough").unwrap();
    std::fs::write(folder.path().join("outbox/00000000000000000007.seg"), vec![0xFE; 5000]).unwrap();
    let outbox = start(&folder, 1 << 20);
    push(&outbox, 1);
    outbox.connected();
    assert_eq!(seqs(&take(&outbox, 1)), [1]);
    assert!(outbox.report().durable);
}

#[test]
fn a_disk_that_fails_is_said_and_its_events_go_to_disk_once_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = start(&folder, 1 << 20);
    outbox.settle();
    let (place, aside) = (folder.path().join("outbox"), folder.path().join("aside"));
    std::fs::rename(&place, &aside).unwrap();
    pushes(&outbox, 3, 10);
    outbox.settle();
    let report = outbox.report();
    assert!(!report.durable && report.error.unwrap().contains("cannot write"), "the failure is said");
    assert_eq!(outbox.bytes(), 0);
    outbox.connected();
    let got = take(&outbox, 3);
    assert_eq!(seqs(&got), [1, 2, 3], "events still go out");

    outbox.ack(got[0].position + 1);
    std::fs::rename(&aside, &place).unwrap();
    wait("the disk is tried again", || outbox.report().durable);
    assert!(outbox.bytes() > 0);
    drop(outbox);
    let outbox = start(&folder, 1 << 20);
    outbox.connected();
    assert_eq!(seqs(&take(&outbox, 2)), [2, 3]);
}

#[test]
fn a_folder_that_cannot_be_used_leaves_the_events_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outbox"), "a file").unwrap();
    let outbox = start(&folder, 1 << 20);
    push(&outbox, 10);
    outbox.connected();
    assert_eq!(seqs(&take(&outbox, 1)), [1]);
    assert!(outbox.report().error.unwrap().contains("cannot open"));
}

#[test]
fn two_daemons_cannot_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(&folder, 1 << 20);
    let second = || Outbox::start(folder.path(), 1 << 20, &Registry::new());
    assert!(matches!(second(), Err(Error::InUse(_))));
    first.stop();
    second().expect("a stopped one lets go of its folder");
}

#[test]
fn what_is_dropped_while_it_is_sent_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = start(&folder, 4000);
    for _ in 0..10 {
        push(&outbox, 100);
        outbox.settle();
    }
    outbox.connected();
    let sent = take(&outbox, 10);
    outbox.disconnected();
    for _ in 0..100 {
        push(&outbox, 100);
        outbox.settle();
    }
    outbox.connected();
    let first = take(&outbox, 1);
    assert_eq!(outbox.report().dropped, first[0].seq - 1, "{:?}", sent.last());
    outbox.disconnected();
    outbox.connected();
    assert_eq!(take(&outbox, 1), first);
    assert_eq!(outbox.report().dropped, first[0].seq - 1);
}
