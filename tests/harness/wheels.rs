//! Made-up wheels and the manifest that pins them, as `watchpost runtime fetch` takes them; made-up libraries.
//!
//! In: names and contents. Out: files in the test's folders. Made by Python, gcc and sha256sum, so that what reads them
//! is not what wrote them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::data::root;

/// ONNX Runtime's library that the daemon is tested with.
///
/// # Panics
/// Where there is none: `make setup` gets it.
#[must_use]
pub fn onnxruntime() -> PathBuf {
    let named = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|file| file.is_file());
    let file = named.unwrap_or_else(|| root().join("target/onnxruntime/libonnxruntime.so"));
    file.canonicalize().expect("target/onnxruntime/libonnxruntime.so is missing: run `make setup`")
}

/// A wheel of members and the files they are copies of.
///
/// # Panics
/// Where it cannot be written.
pub fn wheel(path: &Path, members: &[(&str, &Path)]) {
    let code = "import sys, zipfile\n\
                z = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED, compresslevel=1)\n\
                for name, file in zip(sys.argv[2::2], sys.argv[3::2]): z.write(file, name)\n\
                z.close()";
    let mut python = Command::new("python3");
    python.args(["-c", code]).arg(path);
    for (name, file) in members {
        python.arg(name).arg(file);
    }
    let done = python.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// SHA-256 of a file.
///
/// # Panics
/// Where it cannot be read.
#[must_use]
pub fn sha256(file: &Path) -> String {
    let done = Command::new("sha256sum").arg(file).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.split(' ').next().filter(|sum| sum.len() == 64).expect("sha256sum").to_owned()
}

/// A shared library that does nothing and needs others of its folder, or of those that `needs` name by path.
///
/// # Panics
/// Where gcc fails.
pub fn library(folder: &Path, name: &str, needs: &[&str]) {
    let code = format!("int {}(void) {{ return 1; }}", name.replace(['.', '-'], "_"));
    compile(folder, name, &code, needs);
}

/// A shared library that no loader takes: it calls a function, `nowhere`, that nobody has.
///
/// # Panics
/// Where gcc fails.
pub fn unloadable(folder: &Path, name: &str) {
    compile(folder, name, "int nowhere(void); int somewhere(void) { return nowhere(); }", &[]);
}

fn compile(folder: &Path, name: &str, code: &str, needs: &[&str]) {
    let source = folder.join("source.c");
    std::fs::write(&source, code).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-o"]).arg(folder.join(name)).arg(&source);
    gcc.arg(format!("-Wl,-soname,{name}"));
    for needed in needs {
        gcc.arg(folder.join(needed));
    }
    let done = gcc.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::remove_file(source).unwrap();
}

/// A Python environment's packages as ONNX Runtime for GPUs and NVIDIA's wheels lay them out, with ONNX Runtime's real
/// library for the CPU. TensorRT lies in `tensorrt` beside them. Gives the folder of the packages.
///
/// # Panics
/// Where gcc fails, or there is no such library.
#[must_use]
pub fn environment(folder: &Path) -> PathBuf {
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

/// The text of a manifest with one runtime, `name`, of the wheels in `folder`: file names and their wanted members.
///
/// # Panics
/// Where a wheel cannot be read.
#[must_use]
pub fn manifest(name: &str, folder: &Path, wheels: &[(&str, &[&str])]) -> String {
    let mut text = format!(
        "default = \"{name}\"\n[runtimes.\"{name}\"]\nsummary = \"made up\"\nonnxruntime = \"1.31.1\"\nmachine = \"{}\"\n\
         archives = {:?}\n",
        std::env::consts::ARCH,
        wheels.iter().map(|(file, _)| *file).collect::<Vec<_>>()
    );
    for (file, members) in wheels {
        let path = folder.join(file);
        let size = path.metadata().unwrap().len();
        write!(
            text,
            "[archives.\"{file}\"]\nfile = \"{file}\"\nsha256 = \"{}\"\nsize = {size}\nunpacked = {}\nmembers = {members:?}\n",
            sha256(&path),
            size * 3
        )
        .unwrap();
    }
    text
}
