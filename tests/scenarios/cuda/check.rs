//! `watchpost gpu check`, on the software driver: every kernel and the whole lane agree with the CPU's; what does not is
//! named and is the exit status.

use std::process::{Command, Output};

use e2e::cuda::Soft;
use e2e::daemon::{binary, dist};
use e2e::data::root;
use serde_json::Value;

use super::scene;

fn check(soft: &Soft, arguments: &[&str]) -> (Output, Value) {
    let output = Command::new(binary())
        .args(["gpu", "check", "--json"])
        .args(arguments)
        .envs(soft.environment())
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, report)
}

/// Outcome and text of each part.
fn parts(report: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let parts = report["parts"].as_array().unwrap_or_else(|| panic!("{report}"));
    parts.iter().map(|part| (text(&part["part"]), text(&part["outcome"]), text(&part["found"]))).collect()
}

#[test]
fn kernels_and_lanes_agree_and_untried_edges_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let video = scene(folder.path(), "scene://people?seed=2006&seconds=2&size=320x180");
    let model = dist().join("models/people");
    let soft = Soft::new(folder.path());
    let (video, model) = (video.to_str().unwrap(), model.to_str().unwrap());
    let arguments =
        ["--video", video, "--model", model, "--rounds", "8", "--streams", "2", "--seconds", "0.5"];
    let (output, report) = check(&soft, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{report}");
    let parts = parts(&report);
    let kernels = parts.iter().filter(|(part, ..)| {
        ["tensor ", "view ", "mask ", "thumbnail "].iter().any(|kind| part.starts_with(kind))
    });
    assert_eq!(
        kernels
            .filter(|(_, outcome, found)| outcome == "good" && found.contains(" 0 elements differ"))
            .count(),
        18
    );
    let of = |name: &str| {
        parts.iter().find(|(part, ..)| part.starts_with(name)).unwrap_or_else(|| panic!("{parts:?}"))
    };
    assert!(of("lanes on").2.contains("50 equal"), "{parts:?}");
    assert_eq!(of("8 starts and stops").1, "good");
    assert_eq!(of("one context").1, "good");
    let order = of("order of kernels and CPU");
    assert!(order.1 == "good" && order.2.contains(" 0 are not as on the CPU lane"), "{order:?}");
    // No NVDEC, no NVENC, no GPU provider here.
    for name in [
        "decode on",
        "encode view on",
        "infer it on",
        "NVENC H.264",
        "bound memory on CUDA",
        "two slots on TensorRT",
    ] {
        assert_eq!(of(name).1, "untried", "{name}");
    }
    for name in ["1 stream at", "2 streams at"] {
        let (_, outcome, found) = of(name);
        assert!(outcome == "good" && found.contains("CPU ms a frame") && found.contains("upload"), "{found}");
    }
}

/// With the elements that stand for NVDEC and NVENC: frames never leave video memory but for the CPU's inference.
#[test]
fn native_edges_are_good_and_copy_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let video = scene(folder.path(), "scene://people?seed=2007&seconds=2&size=320x180");
    let model = dist().join("models/people");
    let codecs = root().join("target/cuda/codecs");
    let soft = Soft::new(folder.path()).with("GST_PLUGIN_PATH", codecs.to_str().unwrap());
    let (video, model) = (video.to_str().unwrap(), model.to_str().unwrap());
    let arguments =
        ["--video", video, "--model", model, "--rounds", "6", "--streams", "1", "--seconds", "0.5"];
    let (output, report) = check(&soft, &arguments);
    assert!(output.status.success(), "{}\n{report}", String::from_utf8_lossy(&output.stderr));
    let parts = parts(&report);
    let of = |name: &str| {
        parts.iter().find(|(part, ..)| part.starts_with(name)).unwrap_or_else(|| panic!("{parts:?}"))
    };
    for name in ["NVENC H.264", "decode on", "encode view on", "lanes on"] {
        assert_eq!(of(name).1, "good", "{name}: {parts:?}");
    }
    assert!(!parts.iter().any(|(part, ..)| part == "throughput against NVDEC alone"), "{parts:?}");
    let found = &of("1 stream at").2;
    assert!(found.contains("nvh264dec alone") && !found.contains("upload 1"), "{found}");
}

#[test]
fn a_kernel_that_does_not_run_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let soft = Soft::new(folder.path()).with("WATCHPOST_SOFT_FAIL", "cuLaunchKernel:9=1");
    let (output, report) = check(&soft, &[]);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let wrong: Vec<_> = parts(&report).into_iter().filter(|(_, outcome, _)| outcome == "wrong").collect();
    assert!(wrong.len() == 1 && wrong[0].2.contains("cuLaunchKernel"), "{wrong:?}");
    let bare = Command::new(binary()).args(["gpu", "check"]).output().unwrap();
    assert_eq!(bare.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bare.stderr).contains("no libcuda.so.1"), "{bare:?}");
}
