//! Adopting: which libraries are taken from where, what is missing, and what is noticed later.

use std::path::{Path, PathBuf};

use e2e::wheels::{library, onnxruntime};

use super::support::{Box_, names};

/// A Python environment's packages as ONNX Runtime for GPUs and NVIDIA's wheels lay them out, with ONNX Runtime's real
/// library for the CPU.
fn environment(folder: &Path) -> PathBuf {
    let packages = folder.join("lib/python3.11/site-packages");
    let capi = packages.join("onnxruntime/capi");
    let cuda = packages.join("nvidia/cu13/lib");
    let cudnn = packages.join("nvidia/cudnn/lib");
    for folder in [&capi, &cuda, &cudnn] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::copy(onnxruntime(), capi.join("libonnxruntime.so.1.31.1")).unwrap();
    library(&cuda, "libcudart.so.13", &[]);
    library(&cuda, "libcublasLt.so.13", &[]);
    library(&cuda, "libcublas.so.13", &["libcublasLt.so.13"]);
    library(&cuda, "libnpp.so.13", &[]);
    library(&cudnn, "libcudnn.so.9", &[]);
    library(&cudnn, "libcudnn_ops.so.9", &[]);
    library(&capi, "libonnxruntime_providers_shared.so", &[]);
    let needs = [
        "../../nvidia/cu13/lib/libcublas.so.13",
        "../../nvidia/cu13/lib/libcudart.so.13",
        "../../nvidia/cudnn/lib/libcudnn.so.9",
    ];
    library(&capi, "libonnxruntime_providers_cuda.so", &needs);
    let tensorrt = folder.join("tensorrt");
    std::fs::create_dir_all(&tensorrt).unwrap();
    library(&tensorrt, "libnvinfer.so.10", &[]);
    library(&tensorrt, "libnvinfer_builder_resource.so.10.9.0", &[]);
    let needs = [needs[0], needs[1], needs[2], "../../../../../tensorrt/libnvinfer.so.10"];
    library(&capi, "libonnxruntime_providers_tensorrt.so", &needs);
    packages
}

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
