//! Fetching: what comes, what is left, and how it goes on after being cut off, killed or told to wait.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use e2e::daemon::{Daemon, dist};
use e2e::gate::Gate;
use e2e::web::Web;
use e2e::wheels;

use super::support::{Box_, NAME, WHOLE, end, names, said, small_wheels, wait};

const BIG: &str = "onnxruntime_test-1.31.1-py3-none-any.whl";

/// The first byte that each request asked for, in order.
fn starts(web: &Web, file: &str) -> Vec<u64> {
    let asked = web.asked().into_iter().filter(|asked| asked.path.ends_with(file));
    asked
        .map(|asked| {
            let start = asked.range.strip_prefix("bytes=").and_then(|range| range.split('-').next());
            start.map_or(0, |start| start.parse().unwrap())
        })
        .collect()
}

#[test]
fn a_runtime_is_fetched_used_checked_and_removed() {
    let web = Web::start();
    let onnxruntime = wheels::onnxruntime();
    let file = "onnxruntime_test-1.31.1-py3-none-any.whl";
    wheels::wheel(&web.root().join(file), &[("onnxruntime/capi/libonnxruntime.so.1.31.1", &onnxruntime)]);
    let text = wheels::manifest(NAME, &web.root(), &[(file, &["onnxruntime/capi/libonnxruntime.so.1.31.1"])]);
    let box_ = Box_::new();
    let manifest = box_.folder.path().join("manifest.toml");
    std::fs::write(&manifest, text).unwrap();

    // As somebody whose files nobody else may read: the service must read these.
    let mut command = std::process::Command::new("sh");
    let fetching = box_.fetching(&manifest, &web.url("/"), &[]);
    command
        .args(["-c", "umask 077; exec \"$0\" \"$@\""])
        .arg(fetching.get_program())
        .args(fetching.get_args());
    let done = said(&command.output().unwrap()).fine();
    assert!(done.out.contains(&format!("watchpost runtime use {NAME}")), "{done:?}");
    assert!(done.out.contains("CUDA: not in this ONNX Runtime"), "{done:?}");
    assert_eq!(box_.names(), [".lock", NAME], "nothing else is left");
    let folder = box_.runtimes().join(NAME);
    assert_eq!(names(&folder), ["libonnxruntime.so", "libonnxruntime.so.1.31.1", "runtime.json"]);
    assert_eq!(wheels::sha256(&folder.join("libonnxruntime.so")), wheels::sha256(&onnxruntime));
    for file in [&folder, &folder.join("libonnxruntime.so.1.31.1"), &folder.join("runtime.json")] {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o444, 0o444, "{}: {mode:o}", file.display());
    }
    assert_eq!(web.asked().len(), 1);

    // There already: nothing is asked for.
    let again = box_.fetch(&manifest, &web.url("/"), &[]).fine();
    assert!(again.err.contains("is there already"), "{again:?}");
    assert_eq!(web.asked().len(), 1);

    // Not in use before it is chosen.
    let model = dist().join("models/people");
    // Without it there may be no ONNX Runtime at all here: then this fails, and names none.
    let check = || box_.run(&["model", "check", model.to_str().unwrap(), "--json"]).out;
    assert!(!check().contains(NAME));
    assert_eq!(box_.list()["current"], serde_json::Value::Null);
    box_.run(&["runtime", "use", NAME]).fine();
    let list = box_.list();
    assert_eq!(list["current"], NAME);
    assert_eq!(list["installed"][0]["kind"], "fetched");
    assert_eq!(list["installed"][0]["providers"][0]["state"], "absent");
    let checked = check();
    assert!(checked.contains(&format!("(runtime {NAME})")), "{checked}");

    // Damaged: found, and fetched anew in one step.
    box_.run(&["runtime", "verify"]).fine();
    std::fs::write(folder.join("libonnxruntime.so.1.31.1"), "damaged").unwrap();
    let wrong = box_.run(&["runtime", "verify", NAME]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.out.contains("libonnxruntime.so.1.31.1 has 7 bytes"), "{wrong:?}");
    let refused = box_.run(&["model", "check", model.to_str().unwrap()]);
    refused.refused(&["does not load", NAME, "watchpost runtime verify", "watchpost runtime use system"]);
    let before = folder.metadata().unwrap().ino();
    box_.fetch(&manifest, &web.url("/"), &["--replace"]).fine();
    assert_ne!(folder.metadata().unwrap().ino(), before);
    assert_eq!(box_.names(), [".lock", NAME, "current"]);
    box_.run(&["runtime", "verify"]).fine();

    // In use: kept. No longer in use: gone.
    box_.run(&["runtime", "remove", NAME]).refused(&["is in use", "system"]);
    box_.run(&["runtime", "use", "system"]).fine();
    assert!(!check().contains(NAME));
    box_.run(&["runtime", "remove", NAME]).fine();
    assert_eq!(box_.names(), [".lock"]);
    box_.run(&["runtime", "remove", NAME]).refused(&["no runtime"]);
}

#[test]
fn a_package_index_is_asked_for_what_is_not_in_the_folder() {
    let web = Web::start();
    let files = web.root().join("files/ab");
    std::fs::create_dir_all(&files).unwrap();
    let manifest = small_wheels(&files, 4096);
    // One project's page is HTML, the other's JSON.
    let (small, big) = ("nvidia_test-13.0-py3-none-any.whl", BIG);
    for project in ["nvidia-test", "onnxruntime-test"] {
        std::fs::create_dir_all(web.root().join("simple").join(project)).unwrap();
    }
    let page = |hash: &str| {
        format!(
            "<html><a href=\"../../files/ab/nvidia_test-12.0-py3-none-any.whl\">12</a>\n\
             <a href=\"../../files/ab/{small}#sha256={hash}\">13</a></html>"
        )
    };
    let html = web.root().join("simple/nvidia-test/index.html");
    std::fs::write(&html, page(&"0".repeat(64))).unwrap();
    let json = format!(
        "{{\"files\": [{{\"filename\": \"{big}\", \"url\": \"{}\", \"hashes\": {{}}}}]}}",
        web.url(&format!("/files/ab/{big}"))
    );
    std::fs::write(web.root().join("simple/onnxruntime-test/index.json"), json).unwrap();
    let mut web = web;
    web.serve("index index.html index.json;");
    let box_ = Box_::new();
    let fetch = || box_.fetch(&manifest, &web.url("/simple"), &[]);
    // The index says itself that it has another file: not a byte of it is fetched.
    fetch().refused(&[small, "0000000000", "another file"]);
    assert!(!web.asked().iter().any(|asked| asked.path.starts_with("/files")), "{:?}", web.asked());
    std::fs::write(&html, page(&wheels::sha256(&files.join(small)))).unwrap();
    fetch().fine();
    assert_eq!(names(&box_.runtimes().join(NAME)), WHOLE);
    // An address that is no index and no folder.
    let other = Box_::new();
    let refused = other.fetch(&manifest, &web.url("/elsewhere"), &[]);
    refused.refused(&[small, "not found", "/elsewhere/nvidia-test/", "package index"]);
    // A folder of this machine.
    other.fetch(&manifest, &format!("file://{}", files.display()), &[]).fine();
    assert_eq!(names(&other.runtimes().join(NAME)), WHOLE);
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let mut web = Web::start();
    let manifest = small_wheels(&web.root(), 3 << 20);
    web.serve("limit_rate 1500k;");
    let gate = Gate::new(web.port());
    let box_ = Box_::new();
    let child = box_.fetching(&manifest, &format!("http://127.0.0.1:{}", gate.port()), &[]).spawn().unwrap();
    box_.wait_for_part(NAME, BIG, 300_000);
    gate.cut();
    end(child).fine();
    assert_eq!(names(&box_.runtimes().join(NAME)), WHOLE);
    let starts = starts(&web, BIG);
    assert!(starts.len() == 2 && starts[0] == 0 && starts[1] >= 300_000, "{starts:?}");
    assert_eq!(web.asked().last().unwrap().status, 206);
}

#[test]
fn a_fetch_that_is_killed_goes_on_and_a_second_one_waits_for_nobody() {
    let mut web = Web::start();
    let manifest = small_wheels(&web.root(), 3 << 20);
    web.serve("location ~ onnxruntime { limit_rate 500k; }");
    let box_ = Box_::new();
    let mut child = box_.fetching(&manifest, &web.url(""), &[]).spawn().unwrap();
    box_.wait_for_part(NAME, BIG, 300_000);
    // The other archive is finished; this one is under way, and its folder is taken.
    box_.fetch(&manifest, &web.url(""), &[]).refused(&["another `watchpost runtime`"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(box_.names(), [".lock", &format!(".partial-{NAME}")]);
    assert_eq!(box_.list()["unfinished"][0], NAME);
    assert!(box_.list()["installed"].as_array().unwrap().is_empty());
    box_.run(&["runtime", "use", NAME]).refused(&["no runtime"]);

    web.serve("");
    box_.fetch(&manifest, &web.url(""), &[]).fine();
    assert_eq!(names(&box_.runtimes().join(NAME)), WHOLE);
    assert_eq!(box_.names(), [".lock", NAME]);
    let starts = starts(&web, BIG);
    assert!(starts.last().is_some_and(|start| *start >= 300_000), "{starts:?}");
    let small = web.asked().iter().filter(|asked| asked.path.contains("nvidia")).count();
    assert_eq!(small, 1, "what was finished is not fetched again");
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let mut web = Web::start();
    let manifest = small_wheels(&web.root(), 1 << 20);
    web.serve("max_ranges 0;");
    let box_ = Box_::new();
    let partial = box_.runtimes().join(format!(".partial-{NAME}"));
    std::fs::create_dir_all(&partial).unwrap();
    // What is there is wrong from the first byte, and of the other more than there can be.
    std::fs::write(partial.join(format!("{BIG}.part")), vec![7; 1000]).unwrap();
    std::fs::write(partial.join("nvidia_test-13.0-py3-none-any.whl.part"), vec![7; 2 << 20]).unwrap();
    box_.fetch(&manifest, &web.url(""), &[]).fine();
    assert_eq!(names(&box_.runtimes().join(NAME)), WHOLE);
    assert!(web.asked().iter().all(|asked| asked.status == 200), "{:?}", web.asked());
}

#[test]
fn a_server_that_falls_silent_is_not_waited_for() {
    let web = Web::start();
    let manifest = small_wheels(&web.root(), 1 << 20);
    let gate = Gate::new(web.port());
    gate.silence(true);
    let box_ = Box_::new();
    let from = format!("http://127.0.0.1:{}", gate.port());
    box_.fetch(&manifest, &from, &["--timeout", "1"]).refused(&["timeout", "run the same command again"]);
    gate.silence(false);
    box_.fetch(&manifest, &from, &["--timeout", "30"]).fine();
}

#[test]
fn https_asks_the_systems_authorities() {
    let web = Web::start_tls();
    let manifest = small_wheels(&web.root(), 4096);
    let box_ = Box_::new();
    box_.fetch(&manifest, &web.url(""), &[]).refused(&["UnknownIssuer", "localhost"]);
    let mut known = box_.fetching(&manifest, &web.url(""), &[]);
    said(&known.env("SSL_CERT_FILE", web.authority()).output().unwrap()).fine();
    assert_eq!(names(&box_.runtimes().join(NAME)), WHOLE);
}

#[test]
fn the_daemon_loads_the_chosen_runtime_and_says_so() {
    let box_ = Box_::new();
    let from = box_.folder.path().join("capi");
    std::fs::create_dir(&from).unwrap();
    std::fs::copy(wheels::onnxruntime(), from.join("libonnxruntime.so.1.31.1")).unwrap();
    let adopted = box_.run(&["runtime", "adopt", from.to_str().unwrap(), "--name", "mine", "--use"]).fine();
    assert!(adopted.out.contains("runtime mine is used"), "{adopted:?}");
    let text = "box.name = \"gate\"\nmqtt.url = \"off\"\nmodels.people.path = \"people\"\n[streams.yard]\n\
                source = \"scene://people?size=320x180&fps=10\"\nmodels.people = {}\n";
    let quiet: &[(&str, &Path)] = &[("ORT_DYLIB_PATH", Path::new(""))];
    let daemon = Daemon::start_with(box_.folder.path(), text, quiet);
    daemon.wait_for("ONNX Runtime loaded", Duration::from_secs(60));
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("ONNX Runtime loaded")).unwrap();
    assert!(line.contains("runtime mine"), "{line}");
    let file = from.join("libonnxruntime.so.1.31.1").canonicalize().unwrap();
    let maps = format!("/proc/{}/maps", daemon.id());
    wait("the library in the daemon's memory", || {
        std::fs::read_to_string(&maps).is_ok_and(|maps| maps.contains(file.to_str().unwrap()))
    });
    assert!(daemon.stop().success());
}
