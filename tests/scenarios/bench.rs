//! `watchpost bench lane` and `bench streams`: what they report is consistent, they end, and they say what is wrong.
//!
//! In: short rendered scenes, the shipped people model. Out: passes where figures agree with their parts. No time is
//! asserted: a slow or busy machine reports other numbers, not other facts.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::cuda::Soft;
use e2e::daemon::{binary, dist};
use e2e::data::root;
use serde_json::Value;

const SCENE: &str = "scene://people?seed=5&size=320x180&fps=25";
const LONG: Duration = Duration::from_secs(60);

/// On the software driver, with more in its environment: the report, with both backends.
fn soft(arguments: &[&str], more: &[(&str, &str)]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let driver = more.iter().fold(Soft::new(folder.path()), |soft, (name, value)| soft.with(name, value));
    let temporary = tempfile::tempdir().unwrap();
    let output = command(arguments, temporary.path()).envs(driver.environment()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    assert_eq!(left(temporary.path()), Vec::<String>::new());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn command(arguments: &[&str], temporary: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("bench").args(arguments);
    command.env("WATCHPOST_SHARE", dist()).env("TMPDIR", temporary).env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end; what it made in the folder for temporary files must be gone then.
fn bench(arguments: &[&str]) -> Output {
    let temporary = tempfile::tempdir().unwrap();
    let output = command(arguments, temporary.path()).output().unwrap();
    assert_eq!(left(temporary.path()), Vec::<String>::new(), "{arguments:?}");
    output
}

/// What lies in a folder, but for the one file that ONNX Runtime's library leaves wherever it is loaded.
fn left(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name != ".ses").collect()
}

fn report(arguments: &[&str]) -> Value {
    let output = bench(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn positive(value: &Value) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!(number.is_finite() && number > 0.0, "{number}");
    number
}

fn same(a: f64, b: f64) {
    assert!((a / b - 1.0).abs() < 1e-6, "{a} is not {b}");
}

/// Every backend is listed: those that are there, and those that are not with the reason.
fn backends(report: &Value) -> Vec<&Value> {
    let all = report["backends"].as_array().unwrap();
    let names: Vec<&str> = all.iter().map(|backend| backend["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cpu", "cuda"]);
    assert!(all.iter().all(|backend| backend["about"].as_str().is_some_and(|about| about.len() > 8)));
    let present: Vec<&Value> = all.iter().filter(|backend| backend["present"] == true).collect();
    assert_eq!(present[0]["name"], "cpu");
    present
}

#[test]
fn the_lane_s_parts_and_the_whole_are_over_floors_of_the_same_run() {
    let found = report(&["lane", SCENE, "--encode", "--seconds", "0.6", "--frames", "60", "--json"]);
    assert_eq!(
        (&found["schema"], &found["video"]["size"]),
        (&"watchpost.bench.lane/1".into(), &"320x180".into())
    );
    same(positive(&found["video"]["rate"]), 25.0);
    for backend in backends(&found) {
        for part in ["decode", "preprocess", "infer", "encode"] {
            let row = &backend["parts"][part];
            positive(&row["fps"]);
            positive(&row["floor"]["fps"]);
            same(positive(&row["ratio"]), positive(&row["cpu_ms"]) / positive(&row["floor"]["cpu_ms"]));
            assert!(row["floor_is"].as_str().is_some_and(|floor| !floor.is_empty()), "{row}");
        }
        let whole = &backend["whole"];
        let parts = whole["floor"]["parts"].as_object().unwrap();
        let mut names: Vec<&String> = parts.keys().collect();
        names.sort();
        assert_eq!(names, ["decode", "encode", "infer"]);
        same(parts.values().map(positive).sum(), positive(&whole["floor"]["cpu_ms"]));
        same(positive(&whole["ratio"]), positive(&whole["cpu_ms"]) / positive(&whole["floor"]["cpu_ms"]));
        positive(&whole["runs_a_frame"]);
        let slowest = positive(&whole["slowest_floor"]["fps"]);
        same(positive(&whole["over_slowest_floor"]), positive(&whole["fps"]) / slowest);
    }
}

/// One copy a frame by an edge that copies, none by one that does not.
fn copies(of: &Value, edge: &str) -> f64 {
    of["copies"].get(edge).and_then(Value::as_f64).unwrap_or(0.0)
}

/// The CUDA backend of a report: every part with a ratio to its floor.
fn cuda(found: &Value) -> &Value {
    let cuda = *backends(found).last().unwrap();
    assert_eq!((&cuda["name"], &cuda["present"]), (&"cuda".into(), &true.into()), "{cuda}");
    assert!(cuda["about"].as_str().unwrap().contains("GPU 0, "), "{cuda}");
    for part in ["decode", "preprocess", "infer", "encode"] {
        let row = &cuda["parts"][part];
        same(positive(&row["ratio"]), positive(&row["cpu_ms"]) / positive(&row["floor"]["cpu_ms"]));
        positive(&row["fps"]);
        assert!(row["floor_is"].as_str().is_some_and(|floor| !floor.is_empty()), "{row}");
    }
    positive(&cuda["whole"]["ratio"]);
    cuda
}

fn edge<'a>(cuda: &'a Value, name: &str) -> &'a Value {
    let edges = cuda["edges"].as_array().unwrap();
    edges
        .iter()
        .find(|edge| edge["name"].as_str().unwrap().starts_with(name))
        .unwrap_or_else(|| panic!("{edges:?}"))
}

#[test]
fn the_cuda_lane_is_measured_with_its_copies_counted_and_its_edges_named() {
    let arguments = ["lane", SCENE, "--encode", "--seconds", "0.6", "--frames", "60", "--json"];
    let found = soft(&arguments, &[]);
    let cuda = cuda(&found);
    let parts = &cuda["parts"];
    // Neither NVDEC nor NVENC: one upload, one download a frame, and nothing else of frames.
    assert_eq!((copies(&parts["decode"], "upload"), copies(&parts["decode"], "download")), (1.0, 0.0));
    assert_eq!((copies(&parts["encode"], "download"), copies(&parts["encode"], "upload")), (1.0, 0.0));
    assert_eq!((copies(&parts["infer"], "upload"), copies(&parts["preprocess"], "upload")), (0.0, 0.0));
    assert!(copies(&parts["preprocess"], "tables") >= 1.0, "{parts}");
    assert!(parts["decode"]["by"].as_str().unwrap().ends_with(" + upload"), "{parts}");
    assert!(parts["encode"]["by"].as_str().unwrap().contains("download + x264enc"), "{parts}");
    assert_eq!(parts["infer"]["by"], "CPU, input in pinned memory");
    for name in ["decode", "infer", "encode"] {
        assert_eq!(edge(cuda, name)["copies"], true, "{cuda}");
    }
    // Frames that are on their way when the window begins are not exactly those when it ends.
    for name in ["upload", "download"] {
        assert!((0.5..1.5).contains(&copies(&cuda["whole"], name)), "{cuda}");
    }
    // The CPU has nothing to copy to.
    assert!(backends(&found)[0]["whole"]["copies"].is_null());
}

#[test]
fn native_edges_of_the_cuda_lane_are_measured_and_copy_no_frame() {
    let arguments =
        ["lane", SCENE, "--encode", "--seconds", "0.6", "--frames", "60", "--backend", "cuda", "--json"];
    let codecs = root().join("target/cuda/codecs");
    let found = soft(&arguments, &[("GST_PLUGIN_PATH", codecs.to_str().unwrap())]);
    let cuda = &found["backends"][0];
    let parts = &cuda["parts"];
    assert_eq!(
        (&parts["decode"]["by"], &edge(cuda, "decode")["copies"]),
        (&"nvh264dec".into(), &false.into())
    );
    assert!(parts["encode"]["by"].as_str().unwrap().ends_with("nvh264enc"), "{parts}");
    assert!(parts["decode"]["floor_is"].as_str().unwrap().contains("nvh264dec alone"), "{parts}");
    assert!(parts["encode"]["floor_is"].as_str().unwrap().contains("nvh264enc alone"), "{parts}");
    for of in [&parts["decode"], &parts["encode"], &cuda["whole"]] {
        assert_eq!((copies(of, "upload"), copies(of, "download")), (0.0, 0.0), "{of}");
    }
}

#[test]
fn streams_on_the_cuda_lane_are_searched_with_cpu_time_and_copies_a_frame() {
    let scene = "scene://people?seed=5&size=64x64&fps=2&seconds=8";
    let arguments = ["streams", scene, "--seconds", "2", "--most", "1", "--backend", "cuda", "--json"];
    let found = soft(&arguments, &[]);
    let step = &found["backends"][0]["steps"][0];
    positive(&step["cpu_ms"]);
    assert!((0.5..1.5).contains(&copies(step, "upload")), "{step}");
}

#[test]
fn the_table_names_parts_backends_and_a_plugin() {
    let arguments =
        ["lane", SCENE, "--seconds", "0.3", "--frames", "20", "--sample", "every:2", "--plugin", "tracker"];
    let output = bench(&arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for word in
        ["320x180", "model people", "plugins tracker", "cpu:", "cuda:", "decode", "encode", "whole lane"]
    {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
}

#[test]
fn the_search_ends_at_the_first_number_that_is_not_held_and_names_what_is_full() {
    // One model thread cannot keep up with many streams of so many frames on any machine.
    let scene = "scene://people?seed=5&size=320x180&fps=240";
    let found = report(&["streams", scene, "--seconds", "0.6", "--most", "600", "--json"]);
    assert_eq!(found["schema"], "watchpost.bench.streams/1");
    for backend in backends(&found) {
        let streams = backend["streams"].as_u64().unwrap();
        let (good, bad) = (&backend["last_good"], &backend["first_bad"]);
        assert_eq!(bad["streams"], streams + 1, "{backend}");
        assert_eq!((bad["held"].as_bool(), bad["why"].is_string()), (Some(false), true), "{bad}");
        if streams > 0 {
            assert_eq!((good["streams"].as_u64(), good["held"].as_bool()), (Some(streams), Some(true)));
            assert_eq!(good["counts"]["frames"].as_array().map(Vec::len), Some(streams as usize));
            assert!(good["why"].is_null() && good["refused"].is_null(), "{good}");
            positive(&good["load"]["busy_cores"]);
            positive(&good["load"]["model"]);
            positive(&good["load"]["threads"]["model"]["cores"]);
        }
        let full = &backend["saturated"];
        assert!(full["what"].as_str().is_some_and(|what| !what.is_empty()), "{full}");
        let (share, bound) = (positive(&full["share"]), positive(&full["bound"]));
        assert_eq!(full["full"], share >= bound, "{full}");
        for step in backend["steps"].as_array().unwrap() {
            assert_eq!(step["held"].as_bool().unwrap(), step["why"].is_null(), "{step}");
            assert!(step["held"] == false || step["streams"].as_u64().unwrap() <= streams, "{step}");
        }
    }
}

#[test]
fn a_search_that_reaches_its_bound_says_that_nothing_was_full() {
    let scene = "scene://people?seed=5&size=64x64&fps=2&seconds=8";
    let found = report(&["streams", scene, "--encode", "--seconds", "2", "--most", "1", "--json"]);
    let backend = backends(&found)[0];
    let held = backend["streams"] == 1;
    // A machine on which not even this runs has something that is full.
    assert_eq!((backend["saturated"].is_null(), backend["first_bad"].is_null()), (held, held), "{backend}");
}

#[test]
fn what_is_wrong_is_said_and_the_status_tells_arguments_from_failures() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("broken");
    std::fs::create_dir(&model).unwrap();
    let manifest = "task = \"detect\"\nlabels = [\"a\"]\ninput = {}\noutput.decoder = \"yolo\"\n";
    std::fs::write(model.join("model.toml"), manifest).unwrap();
    std::fs::write(model.join("model.onnx"), "no graph").unwrap();
    let broken = model.to_str().unwrap();
    let notes = folder.path().join("notes.mp4");
    std::fs::write(&notes, "no video, only words\n".repeat(50)).unwrap();
    let notes = notes.to_str().unwrap();
    for (arguments, status, words) in [
        (vec!["lane", "gone.mp4"], 1, vec!["gone.mp4"]),
        (vec!["streams", "gone.mp4"], 1, vec!["gone.mp4"]),
        (vec!["lane", notes], 1, vec!["notes.mp4"]),
        (vec!["lane", "rtsp://joe:s3cret@camera/main"], 1, vec!["rtsp://", "video file"]),
        (vec!["lane", "scene://nowhere"], 1, vec!["nowhere", "people"]),
        (vec!["streams", SCENE, "--model", "nobody"], 1, vec!["nobody", "model.toml", "looked in"]),
        (vec!["lane", SCENE, "--model", broken], 1, vec!["broken", "model.onnx"]),
        (vec!["streams", SCENE, "--seconds", "1", "--plugin", "nobody"], 1, vec!["nobody", "tracker"]),
        (vec!["lane", "--seconds", "0"], 2, vec!["--seconds", "0.1 to 3600"]),
        (vec!["lane", "--sample", "often"], 2, vec!["--sample", "every:N"]),
        (vec!["streams", "--backend", "abacus"], 2, vec!["abacus", "cuda"]),
        (vec!["streams", "--most", "0"], 2, vec!["--most"]),
    ] {
        let output = bench(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say {word}: {said}");
        }
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_backend_that_is_wanted_and_absent_is_an_error_with_the_reason() {
    let all = report(&["lane", SCENE, "--seconds", "0.1", "--frames", "8", "--json"]);
    let cuda = &all["backends"][1];
    let wanted = bench(&["lane", SCENE, "--backend", "cuda", "--seconds", "0.1", "--frames", "8"]);
    let said = String::from_utf8_lossy(&wanted.stderr);
    assert_eq!(wanted.status.success(), cuda["present"] == true, "{said}");
    assert!(wanted.status.success() || said.contains(cuda["about"].as_str().unwrap()), "{said}");
}

/// A long search whose standard error says that it has come so far.
fn started(temporary: &Path, line: &str) -> Child {
    let mut child = command(&["streams", SCENE, "--seconds", "3", "--most", "2"], temporary)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|said| said.contains(line)), "it ended without saying {line}");
    child.stderr = None;
    // Whatever it still says goes nowhere.
    let rest = std::thread::Builder::new().name("bench log".into()).spawn(move || said.count()).unwrap();
    assert!(!left(temporary).is_empty());
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let until = Instant::now() + LONG;
    while !rest.is_finished() {
        assert!(Instant::now() < until, "it does not stop");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    rest.join().unwrap();
    child
}

#[test]
fn ctrl_c_ends_it_wherever_it_is_and_leaves_nothing() {
    for line in ["rendering", "1 stream: "] {
        let temporary = tempfile::tempdir().unwrap();
        let output = started(temporary.path(), line).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "after {line}");
        assert!(output.stdout.is_empty());
        assert_eq!(left(temporary.path()), Vec::<String>::new(), "after {line}");
    }
}
