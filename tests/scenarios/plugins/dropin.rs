//! What people and tools do to the folders of plugins: slow and broken copies, links, rights, two versions of one name,
//! folders that come and go.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use e2e::plugins::{Bench, frames, frames_until, install, is, patched, wait, wasm};
use serde_json::json;
use watchpost::config::settings::Limits;
use watchpost::flow::Change;
use watchpost::plugins::InstanceState::{Running, Waiting};
use watchpost::plugins::{EntryStatus, Host, PluginInfo, PluginOrigin, PluginState};

/// Misbehave in another version.
fn version(version: &str) -> Vec<u8> {
    patched("misbehave", "misbehave1.0.0Does", &format!("misbehave{version}Does"))
}

fn runs(version: &'static str) -> impl Fn(&[EntryStatus]) -> bool {
    move |status| status[0].version.as_deref() == Some(version) && status[0].state == Running
}

fn of<'a>(found: &'a [PluginInfo], file: &str) -> Option<&'a PluginInfo> {
    found.iter().find(|info| info.file.ends_with(file))
}

fn append(file: &Path, bytes: &[u8]) {
    let mut open = OpenOptions::new().append(true).create(true).open(file).unwrap();
    open.write_all(bytes).unwrap();
}

#[test]
fn a_slow_copy_is_taken_when_it_is_whole() {
    let bench = Bench::new(Limits::default());
    let mut row = bench.row("door", &[("count", "misbehave", json!({}))]);
    let file = bench.user("slow.wasm");
    let bytes = fs::read(wasm("misbehave")).unwrap();
    // As `cp` does it: empty, then piece by piece, each looked at.
    append(&file, &[]);
    bench.wait_files("the empty file", |found| {
        of(found, "slow.wasm").is_some_and(|info| info.error.is_some())
    });
    for (from, to) in [(0, bytes.len() / 3), (bytes.len() / 3, bytes.len() - 7)] {
        append(&file, &bytes[from..to]);
        let size = format!("{to} bytes");
        bench.wait_files("the piece", |found| {
            of(found, "slow.wasm")
                .and_then(|info| info.error.as_ref())
                .is_some_and(|error| error.contains("is not whole") && error.contains(&size))
        });
        frames(&mut row, "door", 0..3);
        assert_eq!(row.status()[0].state, Waiting);
    }
    append(&file, &bytes[bytes.len() - 7..]);
    let (next, _) = frames_until(&mut row, "door", 3, "the start", |s| is(s, "count", Running));

    // Over a good one, in place: what was loaded stays until the new one is whole.
    let newer = version("1.0.1");
    fs::write(&file, &newer[..newer.len() / 2]).unwrap();
    bench.wait_files("the half", |found| of(found, "slow.wasm").unwrap().error.is_some());
    let info = bench.host().plugins().remove(0);
    assert_eq!((info.state, info.version.as_str()), (PluginState::Ready, "1.0.0"));
    let given = frames(&mut row, "door", next..next + 20);
    assert!(given.iter().all(|given| given.states.len() == 1), "it ran on every frame");
    append(&file, &newer[newer.len() / 2..]);
    frames_until(&mut row, "door", next + 20, "the newer one", runs("1.0.1"));
    assert!(bench.host().plugins().remove(0).error.is_none());
    assert!(
        bench.notices.all().iter().all(|notice| notice.state != Waiting || notice.message.contains("yet"))
    );
}

#[test]
fn a_file_that_is_removed_and_written_anew_is_the_same_plugin_all_along() {
    let bench = Bench::with(Limits::default(), &["misbehave"]);
    let file = bench.shipped("misbehave.wasm");
    let mut row = bench.row("door", &[("alert", "misbehave", json!({ "behave": "alert" }))]);
    // An incident is open.
    let begun = frames(&mut row, "door", 0..13).remove(10).events.remove(0);
    fs::remove_file(&file).unwrap();
    let newer = version("1.0.1");
    append(&file, &newer[..1000]);
    bench.wait_files("the new file's beginning", |found| found.iter().any(|info| info.error.is_some()));
    append(&file, &newer[1000..]);
    let (next, given) = frames_until(&mut row, "door", 1000, "the newer one", runs("1.0.1"));
    // The incident ended when the plugin said so, and not before.
    let end = next.next_multiple_of(40) + 25;
    let given = [given, frames(&mut row, "door", next..end)].concat();
    let steps: Vec<_> = given.iter().flat_map(|given| &given.events).map(|event| &event.event).collect();
    let ended =
        steps.iter().find(|event| event.incident == begun.event.incident && event.change == Change::End);
    assert!(ended.is_some_and(|event| event.data.is_empty()), "{steps:?}");
    assert!(steps.iter().all(|event| !event.data.contains_key("reason")), "{steps:?}");

    // Renamed, also over another file, it runs on; gone for good, it ends.
    let calls = row.status()[0].calls;
    let other = bench.shipped("other.wasm");
    install(&other, &fs::read(wasm("minimal")).unwrap());
    bench.wait_files("the other plugin", |found| found.iter().any(|info| info.name == "minimal"));
    fs::rename(&file, &other).unwrap();
    bench.wait_files("the rename", |found| {
        found.len() == 1 && found[0].file == other && found[0].version == "1.0.1"
    });
    frames(&mut row, "door", end..end + 5);
    assert_eq!((row.status()[0].state, row.status()[0].calls), (Running, calls + 5));
    fs::remove_file(&other).unwrap();
    frames_until(&mut row, "door", end + 5, "the removal", |s| is(s, "alert", Waiting));
}

#[test]
fn of_two_with_one_name_the_users_wins_then_the_higher_version_then_the_first() {
    let bench = Bench::new(Limits::default());
    install(&bench.shipped("b.wasm"), &version("1.0.9"));
    install(&bench.shipped("a.wasm"), &version("1.0.9"));
    install(&bench.shipped("c.wasm"), &version("1.0.2"));
    bench.wait_files("all three", |found| found.len() == 3);
    let winner = |wins: &Path, text: &str| {
        bench.wait_files("the winner", |found| {
            found.iter().all(|info| {
                let right = if info.file == wins { PluginState::Ready } else { PluginState::Shadowed };
                info.state == right
            })
        });
        let found = bench.host().plugins();
        let error = found.iter().filter_map(|info| info.error.clone()).collect::<Vec<_>>().join("\n");
        assert!(error.contains(text) && error.contains(wins.to_str().unwrap()), "{error}");
    };
    winner(&bench.shipped("a.wasm"), "its file name comes first");
    winner(&bench.shipped("a.wasm"), "its version is higher");
    install(&bench.shipped("d.wasm"), &version("1.1.0"));
    winner(&bench.shipped("d.wasm"), "its version is higher");
    // The user's wins, older as it is; broken, it leaves the place to the next in line only for who never had it.
    install(&bench.user("z.wasm"), &version("0.9.0"));
    winner(&bench.user("z.wasm"), "its folder comes later in paths.plugins");
    let found = bench.host().plugins();
    assert_eq!(of(&found, "z.wasm").unwrap().origin, PluginOrigin::User);
    assert_eq!(of(&found, "a.wasm").unwrap().origin, PluginOrigin::Shipped);
    fs::write(bench.user("z.wasm"), "rubbish").unwrap();
    bench.wait_files("the rubbish", |found| of(found, "z.wasm").unwrap().error.is_some());
    let found = bench.host().plugins();
    assert_eq!(
        (of(&found, "z.wasm").unwrap().state, of(&found, "z.wasm").unwrap().version.as_str()),
        (PluginState::Ready, "0.9.0")
    );
    fs::remove_file(bench.user("z.wasm")).unwrap();
    winner(&bench.shipped("d.wasm"), "its version is higher");
}

#[test]
fn links_are_followed_wherever_they_lead() {
    let bench = Bench::new(Limits::default());
    let mut row = bench.row("door", &[("count", "misbehave", json!({}))]);
    let elsewhere = tempfile::tempdir().unwrap();
    let (one, two) = (elsewhere.path().join("one"), elsewhere.path().join("two"));
    install(&one, &version("1.0.1"));
    install(&two, &version("1.0.2"));
    let link = bench.user("linked.wasm");
    let point = |to: &Path| {
        let aside = bench.user(".linked");
        symlink(to, &aside).unwrap();
        fs::rename(&aside, &link).unwrap();
    };
    point(&one);
    let (next, _) = frames_until(&mut row, "door", 0, "the link's file", runs("1.0.1"));
    point(&two);
    let (next, _) = frames_until(&mut row, "door", next, "the other file", runs("1.0.2"));
    // The file behind it is replaced, in a folder that nobody watches.
    install(&two, &version("1.0.3"));
    let (next, _) = frames_until(&mut row, "door", next, "the file's successor", runs("1.0.3"));
    for (to, says) in [
        ("nowhere", "a symbolic link that leads nowhere?"),
        ("linked.wasm", "a symbolic link that leads in a circle"),
        (elsewhere.path().to_str().unwrap(), "it is a folder; a plugin is a file"),
    ] {
        point(Path::new(to));
        bench.wait_files(says, |found| {
            of(found, "linked.wasm")
                .and_then(|info| info.error.as_ref())
                .is_some_and(|error| error.contains(says))
        });
        let info = bench.host().plugins().remove(0);
        assert_eq!(
            (info.state, info.version.as_str()),
            (PluginState::Ready, "1.0.3"),
            "what was loaded stays"
        );
    }
    frames(&mut row, "door", next..next + 3);
    assert_eq!(row.status()[0].state, Running);
    point(&one);
    frames_until(&mut row, "door", next + 3, "the link mended", runs("1.0.1"));
}

#[test]
fn what_cannot_be_read_says_so_and_is_taken_when_it_is_mended() {
    let bench = Bench::new(Limits::default());
    let file = bench.user("misbehave.wasm");
    install(&bench.user(".aside"), &version("1.0.1"));
    let rights = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let says = |text: &'static str| {
        bench.wait_files(text, |found| {
            let error = of(found, "misbehave.wasm").map(|info| info.error.clone().unwrap_or_default());
            error.is_some_and(|error| if text.is_empty() { error.is_empty() } else { error.contains(text) })
        });
    };
    fs::set_permissions(bench.user(".aside"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::rename(bench.user(".aside"), &file).unwrap();
    says("chmod o-w");
    rights(0o644);
    says("");
    // Root may read anything.
    if !rustix::process::geteuid().is_root() {
        rights(0o000);
        says("chmod a+r");
        rights(0o600);
        says("");
    }
    // A folder of that name, in place of the file.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    says("it is a folder; a plugin is a file");
    fs::remove_dir(&file).unwrap();
    install(&file, &version("1.0.2"));
    bench.wait_files("the file again", |found| found[0].version == "1.0.2" && found[0].error.is_none());
}

#[test]
fn folders_come_and_go() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(Limits::default());
    let mut options = bench.options();
    let (folder, aside) = (place.path().join("plugins"), place.path().join("aside"));
    options.paths.plugins = vec![bench.shipped(""), folder.clone()];
    options.paths.state = place.path().join("state");
    let host = Host::new(options).unwrap();
    let until = |what: &str, done: &dyn Fn(&[PluginInfo]) -> bool| {
        wait(what, || done(&host.plugins()), || format!("{:#?} {:#?}", host.plugins(), host.folders()));
    };
    let ready = |wanted: &'static str| {
        move |found: &[PluginInfo]| {
            found.iter().any(|info| info.version == wanted && info.state == PluginState::Ready)
        }
    };
    assert!(host.plugins().is_empty());
    assert!(!host.folders()[1].present && host.folders()[1].error.is_none(), "{:?}", host.folders());

    // Made later, with something in it; then by a file that appears in it.
    fs::create_dir(&aside).unwrap();
    install(&aside.join("a.wasm"), &version("1.0.1"));
    fs::rename(&aside, &folder).unwrap();
    until("the folder", &ready("1.0.1"));
    assert!(host.folders()[1].present);
    install(&folder.join("b.wasm"), &version("1.0.2"));
    until("its second file", &ready("1.0.2"));

    // Something that cannot be read is in its place: what was loaded stays.
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "a file").unwrap();
    wait(
        "the folder's error",
        || host.folders()[1].error.as_ref().is_some_and(|error| error.contains("a folder is expected")),
        || format!("{:?}", host.folders()),
    );
    assert!(ready("1.0.2")(&host.plugins()));
    fs::remove_file(&folder).unwrap();
    // A link to the folder, and then to another one, as a release is switched.
    symlink(&aside, &folder).unwrap();
    wait("the folder again", || host.folders()[1].error.is_none() && host.folders()[1].present, String::new);
    until("the same files", &ready("1.0.2"));
    let next = place.path().join("next");
    fs::create_dir(&next).unwrap();
    install(&next.join("a.wasm"), &version("2.0.0"));
    fs::remove_file(&folder).unwrap();
    symlink(&next, &folder).unwrap();
    until("the other folder's", &|found| found.len() == 1 && found[0].version == "2.0.0");

    // Removed, with what was in it.
    fs::remove_file(&folder).unwrap();
    until("the end", &<[PluginInfo]>::is_empty);
    // And there again, with the number on the disk that the one before had, if the disk likes.
    fs::create_dir(&folder).unwrap();
    install(&folder.join("a.wasm"), &version("1.0.1"));
    until("the folder made anew", &ready("1.0.1"));
}
