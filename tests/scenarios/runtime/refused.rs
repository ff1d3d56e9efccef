//! What goes wrong: each is said with the file and what to do, and leaves nothing that is used.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use e2e::daemon::{binary, free_port};
use e2e::web::Web;

use super::support::{Box_, NAME, WHOLE, manifest, names, said, small_wheels};

const SMALL: &str = "nvidia_test-13.0-py3-none-any.whl";
const BIG: &str = "onnxruntime_test-1.31.1-py3-none-any.whl";

/// Nothing of that runtime is there to be used.
fn nothing(box_: &Box_) {
    assert!(!box_.runtimes().join(NAME).exists());
    assert!(box_.list()["installed"].as_array().unwrap().is_empty());
    assert_eq!(box_.list()["current"], serde_json::Value::Null);
}

#[test]
fn another_file_than_the_pinned_one_is_never_used() {
    let web = Web::start();
    let pinned = small_wheels(&web.root(), 8192);
    let (file, box_) = (web.root().join(BIG), Box_::new());
    let right = std::fs::read(&file).unwrap();
    let fetch = || box_.fetch(&pinned, &web.url(""), &[]);

    // One bit of it.
    let mut changed = right.clone();
    changed[right.len() / 2] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    let found = e2e::wheels::sha256(&file);
    fetch().refused(&[BIG, &found, "is pinned", "thrown away"]);
    nothing(&box_);

    // Longer, shorter.
    std::fs::write(&file, [right.as_slice(), b"more"].concat()).unwrap();
    fetch().refused(&[BIG, "are pinned", "another file"]);
    std::fs::write(&file, &right[..right.len() - 100]).unwrap();
    fetch().refused(&[BIG, "are pinned", "another file"]);
    // Shorter than what is there already.
    let part = box_.runtimes().join(format!(".partial-{NAME}/{BIG}.part"));
    std::fs::write(&part, &right[..right.len() - 50]).unwrap();
    fetch().refused(&[BIG, "another file"]);
    nothing(&box_);

    // Right again: what was finished is kept, the rest comes.
    std::fs::write(&file, &right).unwrap();
    fetch().fine();
    assert_eq!(names(&box_.runtimes().join(NAME)), WHOLE);
    let small = web.asked().iter().filter(|asked| asked.path.contains("nvidia")).count();
    assert_eq!(small, 1, "{:?}", web.asked());
}

#[test]
fn an_archive_without_a_library_that_is_to_be_in_it_is_refused() {
    let web = Web::start();
    let pinned = small_wheels(&web.root(), 8192);
    let text = std::fs::read_to_string(&pinned).unwrap();
    let box_ = Box_::new();
    std::fs::write(&pinned, text.replace("libtest.so.13", "libtest.so.14")).unwrap();
    box_.fetch(&pinned, &web.url(""), &[]).refused(&[SMALL, "holds no nvidia/lib/libtest.so.14", "manifest"]);
    nothing(&box_);
    // No zip file at all, though pinned.
    std::fs::write(web.root().join(SMALL), "<html>please log in</html>").unwrap();
    box_.fetch(&manifest(&web.root()), &web.url(""), &[]).refused(&[SMALL, "no zip file"]);
    nothing(&box_);
}

#[test]
fn a_server_that_says_no_or_is_not_there_is_named() {
    let mut web = Web::start();
    let pinned = small_wheels(&web.root(), 8192);
    let box_ = Box_::new();
    std::fs::rename(web.root().join(SMALL), web.root().join("away")).unwrap();
    box_.fetch(&pinned, &web.url(""), &[]).refused(&[SMALL, "not found", &web.url(""), "package index"]);
    std::fs::rename(web.root().join("away"), web.root().join(SMALL)).unwrap();
    for (status, hint) in [(403, "may not read it"), (503, "again later"), (400, "is the address right")] {
        web.serve(&format!("location ~ whl {{ return {status}; }}"));
        box_.fetch(&pinned, &web.url(""), &[]).refused(&[SMALL, &format!("answers {status}"), hint]);
    }
    // A page where a file should be: a login, say.
    web.serve("location / { default_type text/html; return 200 '<html>log in</html>'; }");
    box_.fetch(&pinned, &web.url(""), &[]).refused(&[SMALL, "not found"]);
    let refusing = format!("http://127.0.0.1:{}", free_port());
    box_.fetch(&pinned, &refusing, &[]).refused(&[
        SMALL,
        &refusing,
        "refused",
        "proxy".to_uppercase().as_str(),
    ]);
    box_.fetch(&pinned, "http://no-such-host.invalid", &[]).refused(&[SMALL, "no-such-host.invalid"]);
    let folder = box_.folder.path().display().to_string();
    box_.fetch(&pinned, &format!("file://{folder}"), &[]).refused(&[SMALL, "not found", &folder]);
    nothing(&box_);
}

#[test]
fn arguments_that_cannot_be_meant_are_refused_before_anything_is_done() {
    let box_ = Box_::new();
    box_.run(&["runtime", "fetch"]).refused(&[
        "where are the archives",
        "--from",
        "runtime.from",
        "file:///",
    ]);
    box_.run(&["runtime", "fetch", "nothing", "--from", "file:///x"])
        .refused(&["no runtime \"nothing\"", "cuda13"]);
    let secret =
        box_.run(&["runtime", "fetch", "--from", "https://me:geheim@host/"]).refused(&["credentials"]);
    assert!(!secret.err.contains("geheim"), "{secret:?}");
    box_.run(&["runtime", "fetch", "--from", "ftp://host/"]).refused(&["ftp://host/", "expected https://"]);
    box_.run(&["runtime", "fetch", "--from", "file:///x", "--manifest", "/no/such"]).refused(&["/no/such"]);
    box_.run(&["runtime", "use", "../../etc"]).refused(&["is no name for a runtime"]);
    box_.run(&["runtime", "remove", "current"]).refused(&["is no name for a runtime"]);
    box_.run(&["runtime", "verify", "nothing"]).refused(&["no runtime \"nothing\"", "there are: none"]);
    assert_eq!(box_.run(&["runtime", "fetch", "--timeout", "0"]).code, 2);
    // In the configuration: by key.
    let file = box_.folder.path().join("watchpost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}runtime.from = \"ftp://host/\"\n")).unwrap();
    let wrong = box_.run(&["runtime", "list"]);
    assert_eq!(wrong.code, 78, "{wrong:?}");
    assert!(wrong.err.contains("watchpost.toml:3: runtime.from: expected https://"), "{wrong:?}");
    // A folder where it is right.
    std::fs::write(&file, format!("{text}runtime.from = \"file:///nowhere\"\n")).unwrap();
    let machine = std::env::consts::ARCH;
    if machine == "x86_64" {
        box_.run(&["runtime", "fetch"]).refused(&["onnxruntime_gpu-", "not found", "/nowhere"]);
    }
}

#[test]
fn too_little_room_is_said_before_a_byte_comes() {
    let web = Web::start();
    let pinned = small_wheels(&web.root(), 8192);
    let text = std::fs::read_to_string(&pinned).unwrap();
    let huge: String = text
        .lines()
        .map(|line| if line.starts_with("unpacked") { "unpacked = 1000000000000000000" } else { line })
        .fold(String::new(), |all, line| all + line + "\n");
    std::fs::write(&pinned, huge).unwrap();
    let box_ = Box_::new();
    box_.fetch(&pinned, &web.url(""), &[]).refused(&["are needed", "are free", "Make room"]);
    assert!(web.asked().is_empty());
    nothing(&box_);
}

#[test]
fn a_disk_that_is_full_on_the_way_is_said_and_the_next_try_goes_on() {
    let web = Web::start();
    let pinned = small_wheels(&web.root(), 1 << 20);
    let box_ = Box_::new();
    // A limit on the size of files stands in for the disk's end: the write fails as it does there.
    let fetching = box_.fetching(&pinned, &web.url(""), &[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\""]);
    limited.arg(fetching.get_program()).args(fetching.get_args());
    said(&limited.output().unwrap()).refused(&[SMALL, "cannot be written", "run the same command again"]);
    nothing(&box_);
    let there = box_.runtimes().join(format!(".partial-{NAME}/{SMALL}.part")).metadata().unwrap().len();
    assert!(there > 100_000 && there <= 600 * 1024, "{there}");
    box_.fetch(&pinned, &web.url(""), &[]).fine();
    assert_eq!(names(&box_.runtimes().join(NAME)), WHOLE);
    let asked = web.asked();
    assert!(
        asked.iter().any(|asked| asked.range == format!("bytes={there}-") && asked.status == 206),
        "{asked:?}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_said_with_who_may() {
    let web = Web::start();
    let pinned = small_wheels(&web.root(), 8192);
    let box_ = Box_::new();
    let (here, state) = (box_.folder.path(), box_.folder.path().join("state"));
    let nobody = 65534;
    let root = here.metadata().unwrap().uid() == 0;
    // Somebody else must be able to run it: out of a folder that everybody may enter.
    let program = here.join("watchpost");
    std::fs::hard_link(binary(), &program).or_else(|_| std::fs::copy(binary(), &program).map(drop)).unwrap();
    for (path, mode) in [(here, 0o755), (&state, 0o555), (&web.root(), 0o755), (&pinned, 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let manifest = here.join("manifest.toml");
    std::fs::copy(&pinned, &manifest).unwrap();
    let mut command = Command::new(&program);
    command.args(["runtime", "fetch", "--from", &web.url(""), "--manifest"]).arg(&manifest);
    command.arg("--config").arg(here.join("watchpost.toml")).current_dir("/");
    if root {
        command.uid(nobody).gid(nobody);
    }
    let refused = said(&command.output().unwrap()).refused(&["state/runtime cannot be written", "denied"]);
    assert!(refused.err.contains(if root { "as root" } else { "as the user" }), "{refused:?}");
    // The service's own user may.
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    if root {
        std::os::unix::fs::chown(&state, Some(nobody), Some(nobody)).unwrap();
    }
    said(&command.output().unwrap()).fine();
    assert_eq!(names(&state.join("runtime").join(NAME)), WHOLE);
}

#[test]
fn a_link_in_place_of_a_folder_is_not_written_through() {
    let web = Web::start();
    let pinned = small_wheels(&web.root(), 8192);
    let box_ = Box_::new();
    let elsewhere = box_.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::create_dir(box_.runtimes()).unwrap();
    let partial = box_.runtimes().join(format!(".partial-{NAME}"));
    std::os::unix::fs::symlink(&elsewhere, &partial).unwrap();
    box_.fetch(&pinned, &web.url(""), &[]).refused(&["is no folder"]);
    std::fs::remove_file(&partial).unwrap();
    std::fs::create_dir(&partial).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("x"), partial.join(format!("{SMALL}.part"))).unwrap();
    box_.fetch(&pinned, &web.url(""), &[]).refused(&[SMALL, "cannot be written"]);
    assert!(names(Path::new(&elsewhere)).is_empty());
}
