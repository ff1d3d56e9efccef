//! `make gpu-bundle` and the script in it, on the software driver: what a person with a GPU unpacks and runs. Everything in
//! its results is there, and what cannot be tried without a GPU is untried by name.

use std::process::Command;

use e2e::cuda::Soft;
use e2e::daemon::binary;
use e2e::data::root;
use serde_json::Value;

#[test]
fn the_bundle_runs_on_a_machine_with_a_driver_and_says_what_it_could_not_try() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("bundle.tar.zst");
    let script = root().join("tests/gpu/bundle");
    let made = Command::new(script)
        .arg(&archive)
        .env("BUNDLE_LEVEL", "9")
        .env("WATCHPOST", binary())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let unpacked =
        Command::new("tar").arg("-C").arg(folder.path()).arg("-xf").arg(&archive).status().unwrap();
    assert!(unpacked.success());
    let soft = Soft::new(folder.path());
    let out = folder.path().join("results");
    let bundle = folder.path().join("watchpost-gpu");
    let run = Command::new(bundle.join("run"))
        .current_dir(folder.path())
        .args(["--rounds", "6", "--streams", "2", "--seconds", "1.5", "--onnxruntime"])
        .arg(bundle.join("lib"))
        .arg("--out")
        .arg(&out)
        .envs(soft.environment())
        // The bundle's own elements and models, not those of this machine.
        .env_remove("WATCHPOST_SHARE")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));

    let text = std::fs::read_to_string(out.join("results.json")).unwrap();
    let results: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((&results["schema"], &results["wrong"]), (&"watchpost.gpu-run/2".into(), &0.into()));
    assert_eq!(results["doctor"]["schema"].as_str().map(|schema| schema.contains("doctor")), Some(true));
    let parts = results["check"]["parts"].as_array().unwrap();
    let outcome = |name: &str| {
        let found = parts.iter().find(|part| part["part"] == name);
        found.map_or("missing", |part| part["outcome"].as_str().unwrap())
    };
    for (name, expected) in [
        ("driver", "good"),
        ("tensor F32 from Nv12", "good"),
        ("mask on P010", "good"),
        ("one context with GStreamer", "good"),
        ("NVENC H.264", "untried"),
        ("bound memory on TensorRT", "untried"),
        ("bound memory on CUDA", "untried"),
        ("two slots on CUDA", "untried"),
        ("order of kernels and CUDA", "untried"),
        ("order of kernels and CPU, pinned memory", "good"),
        ("lanes on h264.mp4", "good"),
        ("decode on h264.mp4", "untried"),
        ("infer it on h264.mp4", "untried"),
        ("encode view on h264.mp4", "untried"),
        ("lanes on h265.mp4", "good"),
        ("6 starts and stops", "good"),
        ("video memory of 6 starts and stops", "good"),
        ("inference alone", "good"),
        ("throughput against NVDEC alone", "untried"),
        ("throughput against inference on the GPU", "untried"),
        ("1 stream at full speed", "good"),
        ("2 streams at full speed", "good"),
    ] {
        assert_eq!(outcome(name), expected, "{name}\n{said}");
        assert!(said.contains(name), "the table has no {name}:\n{said}");
    }
    let two = parts.iter().find(|part| part["part"] == "2 streams at full speed").unwrap();
    for figure in ["fps", "cpu_ms", "decode_fps", "over_floor"] {
        assert!(two["figures"][figure].as_f64().unwrap() > 0.0, "{two}");
    }
    let uploads = two["figures"]["copies"]["upload"].as_f64().unwrap();
    assert!((0.5..1.5).contains(&uploads), "{two}");
    let measured = |file: &str| results[file]["backends"].as_array().unwrap()[1].clone();
    assert_eq!((&measured("lane")["name"], &measured("lane")["present"]), (&"cuda".into(), &true.into()));
    assert!(measured("streams")["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
}
