//! `watchpost gpu check`, on the software driver: every kernel and the whole lane agree with the CPU's; what does not is
//! named and is the exit status.

use std::process::{Command, Output};

use e2e::cuda::Soft;
use e2e::daemon::{binary, dist};
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
    let arguments = ["--video", video.to_str().unwrap(), "--model", model.to_str().unwrap(), "--rounds", "8"];
    let (output, report) = check(&soft, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{report}");
    let parts = parts(&report);
    let kernels = parts.iter().filter(|(part, ..)| {
        part.starts_with("tensor ") || part.starts_with("view ") || part.starts_with("mask ")
    });
    assert_eq!(
        kernels
            .filter(|(_, outcome, found)| outcome == "good" && found.contains(" 0 elements differ"))
            .count(),
        15
    );
    let of = |name: &str| {
        parts.iter().find(|(part, ..)| part.starts_with(name)).unwrap_or_else(|| panic!("{parts:?}"))
    };
    assert!(of("lanes on").2.contains("50 equal"), "{parts:?}");
    assert_eq!(of("8 starts and stops").1, "good");
    // No NVDEC, no GPU provider here.
    assert_eq!((of("decode on").1.as_str(), of("infer it on").1.as_str()), ("untried", "untried"));
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
