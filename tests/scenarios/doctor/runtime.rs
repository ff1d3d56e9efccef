//! Which ONNX Runtime and which libraries of a GPU runtime the doctor finds in use, and what it says of missing ones.
//!
//! ONNX Runtime is the real one for the CPU; its GPU providers and what they need are made up here, so no provider ever
//! works: what counts is which libraries are loaded by then, and what is said of the others.

use std::path::Path;
use std::process::Command;

use e2e::cuda::Soft;
use e2e::daemon::binary;
use e2e::wheels::{environment, onnxruntime, unloadable};
use serde_json::Value;

use super::{doctor, findings, only, report, write};

/// The findings about one thing.
fn whole<'a>(report: &'a Value, what: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["what"] == what).collect()
}

fn provider<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = whole(report, "provider");
    all.into_iter().find(|finding| finding["found"].as_str().unwrap().starts_with(name)).unwrap()
}

fn says(value: &Value, words: &str) -> bool {
    value.as_str().unwrap_or_default().contains(words)
}

fn adopt(config: &Path, arguments: &[&Path]) {
    let mut command = Command::new(binary());
    command.args(["runtime", "adopt", "--use", "--config"]).arg(config).args(arguments);
    let done = command.env_remove("ORT_DYLIB_PATH").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn what_is_in_use_and_where_it_is_from_is_said_and_what_is_missing_has_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().canonicalize().unwrap();
    std::fs::create_dir(here.join("state")).unwrap();
    let config = write(&here, "url = \"off\"", "scene://people?seed=1", "auto", "");
    let soft = Soft::new(&here).with("ORT_DYLIB_PATH", "");
    let look = || {
        let (code, seen) = report(&config, &soft.environment());
        assert_eq!(code, Some(0), "the CPU serves: {seen}");
        seen
    };

    // An ONNX Runtime for the CPU, named by a variable, which keeps every other from being used.
    let named = onnxruntime();
    let variable = Soft::new(&here).with("ORT_DYLIB_PATH", named.to_str().unwrap());
    let (_, seen) = report(&config, &variable.environment());
    let found = whole(&seen, "ONNX Runtime")[0];
    assert_eq!(found["found"], format!("1.31.1, by ORT_DYLIB_PATH: {}", named.display()));
    let details = serde_json::json!({ "version": "1.31.1", "from": "by ORT_DYLIB_PATH", "library": named });
    assert_eq!(found["details"], details);
    assert!(findings(&seen, "GPU runtime").is_empty(), "{seen}");
    for name in ["TensorRT", "CUDA"] {
        let found = provider(&seen, name);
        for words in ["watchpost runtime fetch", "adopt", "ORT_DYLIB_PATH, which names another, must go"] {
            assert!(says(&found["fix"], words), "{found}");
        }
        let missing = found["details"]["missing"].as_array().unwrap();
        assert!(missing.contains(&"libonnxruntime_providers_cuda.so".into()), "{found}");
    }

    // A GPU runtime without TensorRT.
    let packages = environment(&here);
    adopt(&config, &[&packages]);
    let seen = look();
    let (verdict, found) = only(&seen, "ONNX Runtime");
    let library = packages.join("onnxruntime/capi/libonnxruntime.so.1.31.1");
    let expected = format!("1.31.1 for CUDA 13, runtime 1.31.1-adopted: {}", library.display());
    assert!(verdict == "good" && found == expected, "{found}");
    let (cuda, cudnn) = (packages.join("nvidia/cu13/lib"), packages.join("nvidia/cudnn/lib"));
    let expected = [
        format!("CUDA: libcublas.so.13 and 2 more in {}", cuda.display()),
        format!("cuDNN: libcudnn.so.9 and 1 more in {}", cudnn.display()),
    ];
    let found: Vec<String> = findings(&seen, "GPU runtime").into_iter().map(|(_, found)| found).collect();
    assert_eq!(found, expected);
    assert_eq!(
        whole(&seen, "GPU runtime")[1]["details"]["files"][0],
        cudnn.join("libcudnn.so.9").to_str().unwrap()
    );
    let found = provider(&seen, "TensorRT");
    assert_eq!(found["details"]["missing"], serde_json::json!(["libnvinfer.so.10"]));
    assert!(
        says(&found["found"], "libnvinfer.so.10") && says(&found["fix"], "install TensorRT 10"),
        "{found}"
    );
    // All that it needs was loaded before it: nothing is amiss but that it is made up.
    let found = provider(&seen, "CUDA");
    assert!(says(&found["fix"], "watchpost runtime verify 1.31.1-adopted"), "{found}");
    let text = String::from_utf8(doctor(&config, &[], &soft.environment()).stdout).unwrap();
    assert!(text.contains(&format!("ok       GPU runtime    {}\n", expected[1])), "{text}");
    assert!(
        text.contains("  -> models run without it: install TensorRT 10, then watchpost runtime adopt"),
        "{text}"
    );

    // With TensorRT.
    adopt(
        &config,
        &[&here.join("state/runtime/1.31.1-adopted"), &here.join("tensorrt"), Path::new("--name=both")],
    );
    let seen = look();
    assert!(only(&seen, "ONNX Runtime").1.contains(", runtime both: "), "{seen}");
    let found = findings(&seen, "GPU runtime");
    let expected = format!("TensorRT: libnvinfer.so.10 and 1 more in {}", here.join("tensorrt").display());
    assert!(found.len() == 3 && found[2].1 == expected, "{found:?}");

    // A library that is there and does not load, and then is there no more.
    unloadable(&cuda, "libcublas.so.13");
    let seen = look();
    let found = provider(&seen, "CUDA");
    let file = here.join("state/runtime/both/libcublas.so.13");
    let expected = format!("CUDA cannot be used; these do not load: {}: ", file.display());
    assert!(
        says(&found["found"], &expected) && says(&found["found"], "undefined symbol: nowhere"),
        "{found}"
    );
    std::fs::remove_file(cuda.join("libcublas.so.13")).unwrap();
    let seen = look();
    let found = provider(&seen, "CUDA");
    assert_eq!(found["details"]["missing"], serde_json::json!(["libcublas.so.13"]));
    assert!(
        says(&found["found"], "libcublas.so.13") && says(&found["fix"], "watchpost runtime fetch"),
        "{found}"
    );
}
