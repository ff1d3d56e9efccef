//! The GPUs' figures: from NVML, through the daemon, into telemetry messages and the status.
//!
//! In: the software NVML (tests/cuda/nvml.c) in the place of the driver's. Out: what a subscriber of a real broker and
//! `watchpost status` see.

use std::path::Path;
use std::time::Duration;

use e2e::daemon::Daemon;
use e2e::data::root;
use e2e::mosquitto::Mosquitto;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

fn config(broker: &Mosquitto, more: &str) -> String {
    format!("{more}\nbox.name = \"gate\"\nmqtt = {{ url = \"{}\", telemetry_interval = 1 }}\n", broker.url())
}

/// Value of a gauge; `None` where there is none, null where it is not known.
fn gauge<'a>(message: &'a Value, name: &str, labels: &Value) -> Option<&'a Value> {
    let metrics = message["metrics"].as_array().unwrap();
    let found = metrics.iter().find(|metric| metric["name"] == name && metric["labels"] == *labels)?;
    assert_eq!(found["type"], "gauge");
    Some(&found["value"])
}

fn status(daemon: &Daemon) -> (Value, String) {
    let json = daemon.command(&["status", "--json"]).stdout;
    let text = daemon.command(&["status"]).stdout;
    (serde_json::from_slice(&json).unwrap(), String::from_utf8(text).unwrap())
}

/// A folder with nothing of the driver's but its NVML.
fn nvml() -> tempfile::TempDir {
    let library = root().join("target/cuda/libnvidia-ml.so.1");
    assert!(library.exists(), "not built: run `make soft-driver`");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(library, folder.path().join("libnvidia-ml.so.1")).unwrap();
    folder
}

#[test]
fn figures_come_with_the_telemetry_and_a_gpu_that_is_lost_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start();
    let telemetry = broker.subscribe("watchpost/gate/telemetry");
    let nvml = nvml();
    let daemon = Daemon::start_with(
        folder.path(),
        &config(&broker, ""),
        &[
            ("LD_LIBRARY_PATH", nvml.path()),
            ("WATCHPOST_SOFT_NVML_DEVICES", Path::new("2")),
            ("WATCHPOST_SOFT_NVML_SM", Path::new("12,34")),
            ("WATCHPOST_SOFT_NVML_DECODER", Path::new("56")),
            ("WATCHPOST_SOFT_NVML_ENCODER", Path::new("7")),
            ("WATCHPOST_SOFT_NVML_SESSIONS", Path::new("3")),
            ("WATCHPOST_SOFT_NVML_MEMORY_USED", Path::new("1500000000")),
            ("WATCHPOST_SOFT_NVML_MEMORY_TOTAL", Path::new("16000000000")),
            ("WATCHPOST_SOFT_NVML_TEMPERATURE", Path::new("61")),
            ("WATCHPOST_SOFT_NVML_POWER", Path::new("45500")),
            ("WATCHPOST_SOFT_NVML_THROTTLE", Path::new("36")),
            ("WATCHPOST_SOFT_NVML_PROCESSES", Path::new("self=400000000;1=7000000")),
            // From the third look on the first GPU is gone: each look asks twice.
            ("WATCHPOST_SOFT_NVML_FAIL", Path::new("nvmlDeviceGetPowerUsage:5+=15")),
        ],
    );
    daemon.wait_for("watching the GPUs", SOON);
    daemon.wait_ready();

    // The second look.
    let first = json!({ "gpu": "0" });
    let fits = |message: &Value| gauge(message, "gpu_sm_ratio", &first).is_some_and(|value| *value == 0.34);
    let message = telemetry.wait_for("watchpost/gate/telemetry", fits);
    for (name, value) in [
        ("gpu_present", 1.0),
        ("gpu_decoder_ratio", 0.56),
        ("gpu_encoder_ratio", 0.07),
        ("gpu_encoder_sessions", 3.0),
        ("gpu_memory_used_bytes", 1.5e9),
        ("gpu_memory_total_bytes", 16e9),
        ("gpu_temperature_celsius", 61.0),
        ("gpu_power_watts", 45.5),
    ] {
        assert_eq!(gauge(&message, name, &first), Some(&json!(value)), "{name}");
    }
    for (by, held) in [("power_cap", 1.0), ("thermal", 1.0), ("hardware", 0.0)] {
        let labels = json!({ "by": by, "gpu": "0" });
        assert_eq!(gauge(&message, "gpu_held_back", &labels), Some(&json!(held)), "{by}");
    }
    for (whose, bytes) in [("watchpost", 4e8), ("others", 7e6)] {
        let labels = json!({ "gpu": "0", "process": whose });
        assert_eq!(gauge(&message, "gpu_process_memory_bytes", &labels), Some(&json!(bytes)), "{whose}");
    }
    assert_eq!(gauge(&message, "gpu_temperature_celsius", &json!({ "gpu": "1" })), Some(&json!(62.0)));
    let (seen, text) = status(&daemon);
    assert_eq!(seen["gpu"]["driver"], "570.0.soft");
    assert_eq!(seen["gpu"]["gpus"][1]["name"], "Software GPU 1");
    assert!(text.contains("gpu 0  Software GPU 0  kernels 34 %  decoder 56 %"), "{text}");

    // What is not known any more is no number.
    let lost = |message: &Value| gauge(message, "gpu_present", &first).is_some_and(|value| *value == 0.0);
    let message = telemetry.wait_for("watchpost/gate/telemetry", lost);
    assert_eq!(gauge(&message, "gpu_power_watts", &first), Some(&Value::Null));
    daemon.wait_for("a GPU's figures are lost", SOON);
    let (_, text) = status(&daemon);
    assert!(text.contains("gpu 0  Software GPU 0  LOST: device fell off the bus"), "{text}");
    assert!(daemon.stop().success());
}

#[test]
fn no_library_one_that_is_broken_or_too_old_and_no_gpu_are_said_and_no_error() {
    let broker = Mosquitto::start();
    let telemetry = broker.subscribe("watchpost/gate/telemetry");
    let nvml = nvml();
    let (broken, ancient) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(broken.path().join("libnvidia-ml.so.1"), "no library").unwrap();
    // A library that loads and has none of the functions.
    std::fs::copy(root().join("target/cuda/libnvcuvid.so.1"), ancient.path().join("libnvidia-ml.so.1"))
        .unwrap();
    let none = Path::new("0");
    let mut cases = vec![
        (vec![("LD_LIBRARY_PATH", broken.path())], "", "libnvidia-ml.so.1 does not load: "),
        (vec![("LD_LIBRARY_PATH", ancient.path())], "", "libnvidia-ml.so.1 is too old: "),
        (
            vec![("LD_LIBRARY_PATH", nvml.path()), ("WATCHPOST_SOFT_NVML_DEVICES", none)],
            "",
            "NVML works and has no GPU",
        ),
        (vec![("LD_LIBRARY_PATH", nvml.path())], "accel.lane = \"cpu\"", "the GPU is left alone"),
    ];
    let listed = std::process::Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
    if !String::from_utf8_lossy(&listed.stdout).contains("libnvidia-ml.so.1") {
        cases.push((vec![], "", "no libnvidia-ml.so.1"));
    }
    for (environment, more, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::start_with(folder.path(), &config(&broker, more), &environment);
        daemon.wait_ready();
        if more.is_empty() {
            daemon.wait_for("no figures of GPUs: ", SOON);
            assert_eq!(daemon.log().matches("no figures of GPUs: ").count(), 1);
        }
        let (seen, text) = status(&daemon);
        assert!(seen["gpu"]["missing"].as_str().unwrap().contains(expected), "{expected}: {seen}");
        assert!(text.contains("gpu none: "), "{text}");
        telemetry.clear();
        let message = telemetry.wait_for("watchpost/gate/telemetry", |_| true);
        let metrics = message["metrics"].as_array().unwrap();
        let of_gpus = metrics.iter().filter(|metric| metric["name"].as_str().unwrap().starts_with("gpu_"));
        assert_eq!(of_gpus.count(), 0, "{message}");
        assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
        assert!(daemon.stop().success());
    }
}

#[test]
fn an_old_driver_gives_what_it_can_and_the_rest_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start();
    let telemetry = broker.subscribe("watchpost/gate/telemetry");
    let old = root().join("target/cuda/old");
    let daemon =
        Daemon::start_with(folder.path(), &config(&broker, ""), &[("LD_LIBRARY_PATH", old.as_path())]);
    daemon.wait_for("the driver is too old for some figures", SOON);
    daemon.wait_ready();
    assert!(daemon.log().contains("memory, processes"), "{}", daemon.log());
    let labels = json!({ "gpu": "0" });
    let message = telemetry.wait_for("watchpost/gate/telemetry", |message| {
        gauge(message, "gpu_temperature_celsius", &labels).is_some()
    });
    assert_eq!(gauge(&message, "gpu_memory_used_bytes", &labels), None);
    assert_eq!(status(&daemon).0["gpu"]["gpus"][0]["too_old_for"], json!(["memory", "processes"]));
    assert!(daemon.stop().success());
}
