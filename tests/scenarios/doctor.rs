//! `watchpost doctor`: tries what the box has and what is configured, and says what to do about the rest.

mod codecs;
mod engines;
mod runtime;
mod streams;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::cuda::Soft;
use e2e::daemon::{Daemon, binary, dist};
use e2e::data::root;
use e2e::mosquitto::{Mosquitto, Options};
use e2e::rtsp::RtspServer;
use serde_json::Value;

const PASSWORD: &str = "correct horse";

fn doctor(config: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(binary());
    command.args(["doctor", "--config"]).arg(config).args(arguments).env("NO_COLOR", "1");
    command.envs(environment.iter().copied()).output().unwrap()
}

/// The JSON report, after a look at what holds for every one.
fn report(config: &Path, environment: &[(&str, &Path)]) -> (Option<i32>, Value) {
    let (code, report, _) = report_and_errors(config, environment);
    (code, report)
}

/// That and what was said on standard error.
fn report_and_errors(config: &Path, environment: &[(&str, &Path)]) -> (Option<i32>, Value, String) {
    let output = doctor(config, &["--json"], environment);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    assert!(!errors.contains("panicked"), "{errors}");
    agrees_with_its_document(&report);
    for finding in report["findings"].as_array().unwrap() {
        let untroubled = finding["verdict"] == "good" || finding["verdict"] == "untried";
        assert!(untroubled || finding["fix"].is_string(), "what is not good has a fix: {finding}");
        assert!(!finding["found"].as_str().unwrap().contains('\n'), "one line: {finding}");
    }
    assert_eq!(report["can_run"], output.status.success(), "{report}");
    (output.status.code(), report, errors)
}

/// Forbids what is not written down. Programs are to expect that there may be more one day.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(parts) => {
            parts.values_mut().for_each(strict);
            if parts.get("type").is_some_and(|kind| kind == "object") && parts.contains_key("properties") {
                parts.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
        }
        Value::Array(parts) => parts.iter_mut().for_each(strict),
        _ => {}
    }
}

/// What programs read is written down: the form as a schema, the names of what is looked at in a table.
fn agrees_with_its_document(report: &Value) {
    let read = |name: &str| std::fs::read_to_string(root().join("docs").join(name)).unwrap();
    let mut schema: Value = serde_json::from_str(&read("doctor.schema.json")).unwrap();
    strict(&mut schema);
    assert_eq!(report["schema"], schema["title"]);
    let validator = jsonschema::options().build(&schema).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    let document = read("doctor.md");
    for finding in report["findings"].as_array().unwrap() {
        let what = finding["what"].as_str().unwrap();
        assert!(document.contains(&format!("\n| `{what}` |")), "docs/doctor.md has no line for {what}");
    }
}

/// Verdict and text of all findings about one thing.
fn findings(report: &Value, what: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = report["findings"].as_array().unwrap().iter().filter(|finding| finding["what"] == what);
    all.map(|finding| (text(&finding["verdict"]), text(&finding["found"]))).collect()
}

fn only(report: &Value, what: &str) -> (String, String) {
    let mut found = findings(report, what);
    assert_eq!(found.len(), 1, "{what}: {found:?}");
    found.remove(0)
}

/// A configuration with one stream, `yard`; `lane` is `accel.lane`, `plugins` further lines of the stream.
fn write(folder: &Path, mqtt: &str, source: &str, lane: &str, plugins: &str) -> PathBuf {
    let file = folder.join("watchpost.toml");
    let dist = dist();
    let (here, dist) = (folder.display(), dist.display());
    let text = format!(
        "accel.lane = \"{lane}\"\nbox.name = \"gate\"\nmqtt = {{ {mqtt} }}\n\
         paths = {{ state = \"{here}/state\", cache = \"{here}/cache\", run = \"{here}/run\", \
         plugins = [\"{dist}/plugins\"], models = [\"{dist}/models\"] }}\n\
         models.people.path = \"people\"\n[streams.yard]\nsource = \"{source}\"\nmodels.people = {{}}\n{plugins}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// A video of one second.
fn clip(folder: &Path) -> PathBuf {
    let file = folder.join("clip.mp4");
    let arguments =
        "-loglevel error -y -f lavfi -i testsrc2=s=320x240:r=10 -t 1 -pix_fmt yuv420p -c:v libx264";
    let status = Command::new("ffmpeg").args(arguments.split(' ')).arg(&file).status().unwrap();
    assert!(status.success());
    file
}

/// Whether the system's loader knows a library.
fn has(library: &str) -> bool {
    let listed = Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
    String::from_utf8_lossy(&listed.stdout).contains(library)
}

#[test]
fn a_box_that_has_nothing_configured_yet_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("none.toml");
    let (_, seen) = report(&nowhere, &[]);
    for what in ["processor", "disk", "clock", "GPU driver", "NVDEC", "NVENC", "broker", "lane", "daemon"] {
        assert!(!findings(&seen, what).is_empty(), "nothing said of {what}");
    }
    assert_eq!(only(&seen, "configuration").0, "limited");
    assert_eq!(only(&seen, "GStreamer").0, "good", "make setup installs what streams need");
    assert_eq!(only(&seen, "ONNX Runtime").0, "good");
    assert_eq!(only(&seen, "encoding").0, "good");
    let decoded = findings(&seen, "decoding");
    assert!(decoded.len() == 8 && decoded.iter().all(|(verdict, _)| verdict == "good"), "{decoded:?}");
    let providers = findings(&seen, "provider");
    assert!(
        providers[0].1.starts_with("TensorRT: ") && providers[1].1.starts_with("CUDA: "),
        "{providers:?}"
    );
    if !has("libcuda.so.1") {
        let (verdict, found) = only(&seen, "GPU driver");
        assert!(verdict == "limited" && found.contains("no libcuda.so.1"), "{found}");
    }

    let text = String::from_utf8(doctor(&nowhere, &[], &[]).stdout).unwrap();
    assert_eq!(text.lines().count(), seen["findings"].as_array().unwrap().len(), "one line each:\n{text}");
    assert!(text.contains("not there yet  -> write one"), "{text}");
}

#[test]
fn what_is_configured_is_tried_and_what_cannot_run_is_said_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let broker = Mosquitto::with(Options { user: Some(("gate", PASSWORD)), ..Options::default() });
    let password = here.join("password");
    let mqtt = format!(
        "url = \"{}\", username = \"gate\", password_file = \"{}\"",
        broker.url(),
        password.display()
    );
    std::fs::write(&password, PASSWORD).unwrap();
    let clip = clip(here);

    let entries = "plugins.tracker = { order = 1 }\nplugins.none = { order = 2 }\n";
    let file = write(here, &mqtt, clip.to_str().unwrap(), "auto", entries);
    let (code, seen) = report(&file, &[]);
    assert_eq!(code, Some(0), "{seen}");
    assert_eq!(only(&seen, "broker").0, "good");
    let (verdict, found) = only(&seen, "source");
    assert!(
        verdict == "good" && found.contains("video/x-h264 320x240, first frame by avdec_h264"),
        "{found}"
    );
    let (verdict, found) = only(&seen, "model");
    assert!(verdict == "good" && found.starts_with("people: "), "{found}");
    let plugins = findings(&seen, "plugin");
    assert!(plugins[0].0 == "good" && plugins[0].1.starts_with("tracker "), "{plugins:?}");
    assert!(
        plugins[1].0 == "limited" && plugins[1].1.contains("yard/none: no plugin \"none\""),
        "{plugins:?}"
    );
    assert_eq!(seen["streams"]["yard"]["can_run"], true);
    assert!(!here.join("state").exists() && !here.join("cache").exists(), "the doctor leaves nothing behind");

    std::fs::write(&password, "wrong guess").unwrap();
    let file = write(here, &mqtt, "rtsp://someone:hunter2secret@127.0.0.1:1/main", "auto", "");
    let output = doctor(&file, &["--json"], &[]);
    let said = String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap();
    assert!(output.status.success(), "a camera and a broker that are away are waited for: {said}");
    assert!(!said.contains("hunter2secret") && !said.contains("wrong guess"), "{said}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (verdict, found) = only(&seen, "broker");
    let refused = found.contains("NotAuthorized") || found.contains("BadUserNamePassword");
    assert!(verdict == "limited" && refused, "{found}");
    let (verdict, found) = only(&seen, "source");
    assert!(verdict == "limited" && found.contains("yard: rtsp://***@127.0.0.1:1/main"), "{found}");

    // A camera is opened as the stream would open it: reachable is not enough.
    let builder = || RtspServer::builder().mount("/main", &clip);
    let camera = builder().credentials("gate", "s3same").start();
    let port = camera.port();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let serve = format!(
        "outputs.wide = {{ serve = \"rtsp\" }}\n[rtsp]\nport = {}\n",
        taken.local_addr().unwrap().port()
    );
    let file = write(here, &mqtt, &format!("rtsp://gate:wrong1@127.0.0.1:{port}/main"), "auto", &serve);
    let (code, seen) = report(&file, &[]);
    let (verdict, found) = only(&seen, "source");
    assert!(code == Some(0) && verdict == "limited" && found.contains("Unauthorized"), "{found}");
    let (verdict, found) = only(&seen, "RTSP server");
    assert!(verdict == "limited" && found.contains("cannot listen on 127.0.0.1:"), "{found}");
    drop(taken);
    let file = write(here, &mqtt, &format!("rtsp://gate:s3same@127.0.0.1:{port}/main"), "auto", &serve);
    let (_, seen) = report(&file, &[]);
    let (verdict, found) = only(&seen, "source");
    assert!(
        verdict == "good" && found.contains("***@") && found.contains("320x240, first frame by"),
        "{found}"
    );
    assert_eq!(only(&seen, "RTSP server").0, "good");

    let file = write(here, &mqtt, "/nowhere/clip.mp4", "auto", "");
    let text =
        std::fs::read_to_string(&file).unwrap().replace("path = \"people\"", "path = \"/nowhere/people\"");
    std::fs::write(&file, text).unwrap();
    let (code, seen) = report(&file, &[]);
    assert_eq!(code, Some(1));
    for (what, name) in [("source", "/nowhere/clip.mp4"), ("model", "/nowhere/people")] {
        let (verdict, found) = only(&seen, what);
        assert!(verdict == "wrong" && found.contains(name), "{found}");
    }
    assert_eq!(seen["streams"]["yard"]["stopped_by"], serde_json::json!(["model", "source"]));
    let text = String::from_utf8(doctor(&file, &[], &[]).stdout).unwrap();
    assert!(text.contains("WRONG    stream         yard: cannot run"), "{text}");

    std::fs::write(&file, "[streams.yard]\nsorce = \"a.mp4\"\n").unwrap();
    let wrong = doctor(&file, &[], &[]);
    assert_eq!(wrong.status.code(), Some(78), "as every command says that the configuration is wrong");
    let text = String::from_utf8_lossy(&wrong.stdout);
    assert!(text.contains("WRONG    configuration") && text.contains("sorce"), "{text}");
}

#[test]
fn what_the_running_daemon_has_open_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(
        folder.path(),
        "mqtt.url = \"off\"\nmodels.people.path = \"people\"\n[streams.yard]\nsource = \"scene://people?seed=1\"\n",
    );
    daemon.wait_ready();
    let (code, seen) = report(&daemon.config(), &[]);
    assert_eq!(code, Some(0), "{seen}");
    assert!(only(&seen, "daemon").1.starts_with("runs since "));
    assert!(only(&seen, "source").1.contains("open in the daemon, "), "{seen}");
    assert!(daemon.stop().success());
}

#[test]
fn under_the_software_driver_the_gpu_is_named_and_tried() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("none.toml");
    let look = |more: &[(&str, &str)]| {
        let soft = more.iter().fold(Soft::new(folder.path()), |soft, (name, value)| soft.with(name, value));
        report(&nowhere, &soft.environment()).1
    };

    let seen = look(&[("WATCHPOST_SOFT_DEVICES", "2"), ("WATCHPOST_SOFT_NVML_PROCESSES", "1=3000000000")]);
    let (verdict, found) = only(&seen, "GPU driver");
    assert!(verdict == "good" && found.ends_with("CUDA 12.8"), "{found}");
    let gpus = findings(&seen, "GPU");
    assert_eq!(gpus.len(), 2);
    for (index, (verdict, found)) in gpus.iter().enumerate() {
        let name = format!("{index}: Software GPU {index}, compute capability 7.5, 2.1 GB");
        assert!(verdict == "good" && found.starts_with(&name), "{found}");
        assert!(found.ends_with("context, kernels and memory work"), "{found}");
    }
    let loads = findings(&seen, "GPU load");
    assert!(
        loads.len() == 2 && loads[0].1.contains("40 °C") && loads[0].1.ends_with("(1) 3.0 GB"),
        "{loads:?}"
    );
    assert!(only(&seen, "lane").1.starts_with("cuda: auto: GPU 0 is Software GPU 0"), "{seen}");
    // Its library of decoders has none, and it has no library of encoders.
    let nvdec = findings(&seen, "NVDEC");
    assert!(nvdec.len() == 2 && nvdec[1].1.starts_with("1: none: "), "{nvdec:?}");
    assert!(only(&seen, "NVENC").1.starts_with("none: libnvidia-encode.so.1: "), "{seen}");

    for (setting, what, expected) in [
        (("WATCHPOST_SOFT_VERSION", "11020"), "GPU driver", "for CUDA 11.2; at least 11.4 is needed"),
        (("WATCHPOST_SOFT_DEVICES", "0"), "GPU driver", "CUDA_ERROR_NO_DEVICE (100)"),
        (("WATCHPOST_SOFT_FAIL", "cuInit:*=999"), "GPU driver", "CUDA_ERROR_UNKNOWN (999)"),
        (("WATCHPOST_SOFT_CAPABILITY", "52"), "GPU", "compute capability 5.2"),
        (("WATCHPOST_SOFT_FAIL", "cuDevicePrimaryCtxRetain:*=2"), "GPU", "CUDA_ERROR_OUT_OF_MEMORY (2)"),
        (
            ("WATCHPOST_SOFT_FAIL", "cuModuleLoadData:*=222"),
            "GPU",
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)",
        ),
        (("WATCHPOST_SOFT_FAIL", "cuMemAlloc:*=2"), "GPU", "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2)"),
        (("WATCHPOST_SOFT_NVML_FAIL", "nvmlInit_v2:*=18"), "GPU load", "driver/library version mismatch"),
        (("WATCHPOST_SOFT_NVML_THROTTLE", "32"), "GPU load", "held back by: thermal"),
    ] {
        let seen = look(&[setting]);
        let (verdict, found) = only(&seen, what);
        assert!(verdict == "limited" && found.contains(expected), "{setting:?}: {found}");
        if what == "GPU driver" {
            assert!(
                findings(&seen, "GPU").is_empty() && only(&seen, "NVDEC").1.starts_with("none"),
                "{seen}"
            );
            assert!(only(&seen, "lane").1.starts_with("cpu: auto: "), "{seen}");
        }
    }
}

/// GStreamer keeps a list of its plugins; made before the driver was installed, it has nothing of the GPU's.
#[test]
fn a_list_of_plugins_that_is_older_than_the_driver_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let (nowhere, registry) = (folder.path().join("none.toml"), folder.path().join("registry"));
    report(&nowhere, &[("GST_REGISTRY", &registry)]);
    let (_, seen) = report(&nowhere, &Soft::new(folder.path()).environment());
    let stale = findings(&seen, "GStreamer").into_iter().find(|(verdict, _)| verdict == "limited");
    assert!(stale.unwrap().1.contains("is older than the driver"), "{seen}");
    assert!(
        only(&seen, "NVDEC").1.contains("no codec"),
        "what the box could do is said all the same: {seen}"
    );
}

#[test]
fn a_driver_that_crashes_is_a_finding_and_stops_only_who_would_use_it() {
    let folder = tempfile::tempdir().unwrap();
    // The software driver gives up where it cannot read what to do.
    let broken =
        Soft::new(folder.path()).with("WATCHPOST_SOFT_FAIL", "nonsense").with("GST_REGISTRY_FORK", "yes");
    let file = write(folder.path(), "url = \"off\"", "scene://people?seed=1", "auto", "");
    let (code, seen) = report(&file, &broken.environment());
    let (verdict, found) = only(&seen, "GPU driver");
    assert!(verdict == "wrong" && found.contains("the process that tried it gave up (SIGABRT)"), "{found}");
    assert!(code == Some(1) && seen["streams"]["yard"]["stopped_by"][0] == "GPU driver", "{seen}");
    assert_eq!(only(&seen, "ONNX Runtime").0, "good", "the rest is tried");

    let file = write(folder.path(), "url = \"off\"", "scene://people?seed=1", "cpu", "");
    let (code, seen) = report(&file, &broken.environment());
    assert!(code == Some(0) && only(&seen, "GPU driver").0 == "limited", "{seen}");
}
