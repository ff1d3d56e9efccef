//! Adopting: which libraries are taken from where, what is missing, and what is noticed later.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::daemon::{binary, dist};
use e2e::wheels::{environment, library, onnxruntime, unloadable};

use super::support::{Box_, end, names};

const CUDA: [&str; 10] = [
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudart.so.13",
    "libcudnn.so.9",
    "libcudnn_ops.so.9",
    "libonnxruntime.so",
    "libonnxruntime_providers_cuda.so",
    "libonnxruntime_providers_shared.so",
    "libonnxruntime_providers_tensorrt.so",
    "runtime.json",
];

#[test]
fn what_providers_need_is_found_in_an_environment_and_what_is_missing_is_named() {
    let box_ = Box_::new();
    let packages = environment(box_.folder.path());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let adopted = box_.run(&["runtime", "adopt", &text(&packages)]).fine();
    assert!(adopted.out.contains("CUDA: all libraries are there"), "{adopted:?}");
    assert!(adopted.out.contains("TensorRT: missing libnvinfer.so.10 (TensorRT: install it"), "{adopted:?}");
    let folder = box_.runtimes().join("1.31.1-adopted");
    assert_eq!(names(&folder), CUDA);
    let linked = folder.join("libcublas.so.13").read_link().unwrap();
    assert_eq!(linked, packages.join("nvidia/cu13/lib/libcublas.so.13").canonicalize().unwrap());

    // That runtime and TensorRT make another; the first is needed from then on.
    let tensorrt = box_.folder.path().join("tensorrt");
    let more = ["runtime", "adopt", &text(&folder), &text(&tensorrt), "--name", "with-tensorrt", "--use"];
    let adopted = box_.run(&more).fine();
    assert!(adopted.out.contains("TensorRT: all libraries are there"), "{adopted:?}");
    let both = box_.runtimes().join("with-tensorrt");
    assert!(both.join("libnvinfer_builder_resource.so.10.9.0").is_file());
    let list = box_.list();
    assert_eq!(list["current"], "with-tensorrt");
    assert_eq!(list["installed"].as_array().unwrap().len(), 2);
    assert_eq!(list["installed"][0]["kind"], "linked");

    // An update of what it links to is noticed, and so is its end.
    box_.run(&["runtime", "verify"]).fine();
    std::fs::write(tensorrt.join("libnvinfer.so.10"), "another version").unwrap();
    let wrong = box_.run(&["runtime", "verify"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.out.contains("ok     1.31.1-adopted"), "{wrong:?}");
    assert!(wrong.out.contains("WRONG  with-tensorrt: libnvinfer.so.10 has"), "{wrong:?}");
    std::fs::remove_file(tensorrt.join("libnvinfer.so.10")).unwrap();
    let wrong = box_.run(&["runtime", "verify", "with-tensorrt"]);
    assert!(wrong.out.contains("libnvinfer.so.10 is gone"), "{wrong:?}");
    // ONNX Runtime itself gone: it cannot be chosen, and says why.
    std::fs::remove_file(packages.join("onnxruntime/capi/libonnxruntime.so.1.31.1")).unwrap();
    box_.run(&["runtime", "use", "1.31.1-adopted"]).refused(&[
        "cannot be used",
        "libonnxruntime.so",
        "verify",
    ]);
    assert_eq!(box_.list()["current"], "with-tensorrt");
}

/// The process that builds TensorRT's engines is given the library by the path that the daemon has it by, and loads what
/// lies beside it before the provider: else libraries that are links to elsewhere would not be found.
#[test]
fn what_builds_engines_has_the_runtime_that_is_in_use() {
    let box_ = Box_::new();
    let packages = environment(box_.folder.path());
    let tensorrt = box_.folder.path().join("tensorrt");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    box_.run(&["runtime", "adopt", &text(&packages), &text(&tensorrt), "--name", "both"]).fine();
    let runtime = box_.runtimes().join("both");
    let build = || {
        let engine = tempfile::tempdir_in(box_.folder.path()).unwrap();
        let order = serde_json::json!({
            "model": dist().join("models/people"),
            "library": runtime.join("libonnxruntime.so"),
            "device_index": 0,
            "batch": 1,
        });
        let mut command = Command::new(binary());
        command.arg("__build-engine").arg(engine.path()).env_remove("ORT_DYLIB_PATH");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
        let said = end(child);
        assert_ne!(said.code, 0, "no provider here is a real one: {said:?}");
        said.out
    };
    let said = build();
    assert!(said.contains("cannot load on TensorRT"), "{said}");
    unloadable(&tensorrt, "libnvinfer.so.10");
    let said = build();
    let file = runtime.join("libnvinfer.so.10");
    let expected = format!("TensorRT cannot be used; these do not load: {}: ", file.display());
    assert!(said.contains(&expected) && said.contains("undefined symbol: nowhere"), "{said}");
}

#[test]
fn a_runtime_that_another_one_links_to_is_kept() {
    let box_ = Box_::new();
    let packages = environment(box_.folder.path());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    box_.run(&["runtime", "adopt", &text(&packages), "--copy", "--name", "copies"]).fine();
    let folder = box_.runtimes().join("copies");
    assert!(folder.join("libcudnn.so.9").symlink_metadata().unwrap().is_file());
    box_.run(&["runtime", "adopt", &text(&folder), "--name", "leaning"]).fine();
    box_.run(&["runtime", "remove", "copies"]).refused(&["leaning links to files of copies"]);
    // It does not lean on the environment.
    std::fs::remove_dir_all(&packages).unwrap();
    box_.run(&["runtime", "verify"]).fine();
    box_.run(&["runtime", "adopt", &text(&folder), "--name", "copies", "--replace"])
        .refused(&["is a file of runtime copies itself"]);
    box_.run(&["runtime", "remove", "leaning"]).fine();
    box_.run(&["runtime", "remove", "copies"]).fine();
    assert_eq!(box_.names(), [".lock"]);
}

#[test]
fn folders_that_have_nothing_to_adopt_are_said() {
    let box_ = Box_::new();
    let folder = box_.folder.path().join("libraries");
    std::fs::create_dir(&folder).unwrap();
    let adopt = |more: &[&str]| {
        let mut arguments = vec!["runtime", "adopt", folder.to_str().unwrap()];
        arguments.extend(more);
        box_.run(&arguments)
    };
    box_.run(&["runtime", "adopt", "/no/such/folder"]).refused(&["/no/such/folder"]);
    adopt(&[]).refused(&["no libonnxruntime.so", "onnxruntime/capi"]);
    // A library of that name that is none.
    library(&folder, "libonnxruntime.so", &[]);
    adopt(&[]).refused(&["libonnxruntime.so is no ONNX Runtime"]);
    std::fs::copy(onnxruntime(), folder.join("libonnxruntime.so")).unwrap();
    adopt(&["--name", "system"]).refused(&["is no name for a runtime"]);
    let adopted = adopt(&["--name", "cpu"]).fine();
    assert!(adopted.out.contains("CUDA: not in this ONNX Runtime"), "{adopted:?}");
    adopt(&["--name", "cpu"]).refused(&["there is a runtime cpu already", "--replace"]);
    adopt(&["--name", "cpu", "--replace"]).fine();
    assert_eq!(box_.names(), [".lock", "cpu"]);
    assert_eq!(box_.run(&["runtime", "adopt"]).code, 2);
}
