//! What libraries need, and loading it first, with libraries that are compiled here: none of them does anything, but
//! they name each other as ONNX Runtime's, CUDA's and cuDNN's do.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::infer::libraries::{Library, Needs, Shelf};
use crate::infer::provider::prepare;
use crate::infer::runtime::cuda_of;
use crate::infer::version::tensorrt;
use crate::infer::{Provider, Readiness, Runtime, loads, readiness};

/// A library of that name in the folder, which needs others of the folder by their names.
fn compile(folder: &Path, name: &str, code: &str, needs: &[&str]) -> PathBuf {
    let file = folder.join(name);
    let source = folder.join("source.c");
    std::fs::write(&source, code).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-o"]).arg(&file).arg(&source);
    gcc.arg(format!("-Wl,-soname,{name}"));
    for needed in needs {
        gcc.arg(folder.join(needed));
    }
    let done = gcc.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::remove_file(source).unwrap();
    file
}

fn empty(folder: &Path, name: &str, needs: &[&str]) -> PathBuf {
    compile(folder, name, "", needs)
}

/// A folder as a GPU runtime has it.
fn runtime(folder: &Path) {
    empty(folder, "libcudart.so.13", &[]);
    empty(folder, "libcublasLt.so.13", &[]);
    empty(folder, "libcublas.so.13", &["libcublasLt.so.13"]);
    empty(folder, "libcudnn.so.9", &[]);
    empty(folder, "libnvrtc.so.13", &[]);
    empty(folder, "libnvrtc.so.12", &[]);
    empty(folder, "libnvrtc-builtins.so.13.0", &[]);
    empty(folder, "libcudnn_graph.so.9", &["libnvrtc.so.13"]);
    empty(folder, "libcudnn_ops.so.9", &["libcudnn_graph.so.9"]);
    // A second name of one of them, as development packages have: nobody asks for it.
    std::os::unix::fs::symlink("libcudnn_ops.so.9", folder.join("libcudnn_ops.so")).unwrap();
    empty(folder, "libonnxruntime_providers_shared.so", &[]);
    let needs = ["libonnxruntime_providers_shared.so", "libcudnn.so.9", "libcublas.so.13", "libcudart.so.13"];
    empty(folder, "libonnxruntime_providers_cuda.so", &needs);
}

fn names(needs: &Needs) -> Vec<&str> {
    needs.found.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_library_says_what_it_needs_and_where() {
    let folder = tempfile::tempdir().unwrap();
    empty(folder.path(), "libb.so.1", &[]);
    let file = empty(folder.path(), "liba.so.2", &["libb.so.1"]);
    let found = Library::read(&file).unwrap();
    assert_eq!(found.soname.as_deref(), Some("liba.so.2"));
    assert!(found.needed.contains(&"libb.so.1".to_owned()), "{found:?}");
    // Read by another program.
    let said = Command::new("readelf").arg("-d").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for needed in &found.needed {
        assert!(said.contains(&format!("[{needed}]")), "{needed} is not in\n{said}");
    }
    assert_eq!(said.matches("(NEEDED)").count(), found.needed.len(), "{said}");
    for (name, content) in
        [("libno.so", "no library".as_bytes()), ("libcut.so", &std::fs::read(&file).unwrap()[..200])]
    {
        std::fs::write(folder.path().join(name), content).unwrap();
        assert_eq!(Library::read(&folder.path().join(name)), None, "{name}");
    }
}

#[test]
fn needs_come_before_those_that_need_them_and_what_is_opened_later_after() {
    let folder = tempfile::tempdir().unwrap();
    runtime(folder.path());
    let shelf = Shelf::new(&[folder.path().to_path_buf()], 0);
    let needs = Needs::of(&[folder.path().join("libonnxruntime_providers_cuda.so")], &shelf);
    assert_eq!(
        names(&needs),
        [
            "libonnxruntime_providers_shared.so",
            "libcudnn.so.9",
            "libcublasLt.so.13",
            "libcublas.so.13",
            "libcudart.so.13",
            "libnvrtc.so.13",
            "libcudnn_graph.so.9",
            "libcudnn_ops.so.9",
            "libnvrtc-builtins.so.13.0",
        ]
    );
    // The system's, whatever the compiler adds.
    assert!(needs.elsewhere.iter().all(|name| loads(name).is_ok()), "{needs:?}");
}

#[test]
fn a_folder_that_comes_first_wins_and_stubs_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a/lib/stubs"), folder.path().join("b"));
    std::fs::create_dir_all(&a).unwrap();
    std::fs::create_dir_all(&b).unwrap();
    empty(&a, "libx.so.1", &[]);
    empty(&b, "libx.so.1", &[]);
    let both = [folder.path().join("a"), b.clone()];
    assert_eq!(Shelf::new(&both, 3).find("libx.so.1").unwrap().0, b.join("libx.so.1"));
    empty(&folder.path().join("a/lib"), "libx.so.1", &[]);
    assert_eq!(Shelf::new(&both, 3).find("libx.so.1").unwrap().0, folder.path().join("a/lib/libx.so.1"));
    assert_eq!(Shelf::new(&both, 0).find("libx.so.1").unwrap().0, b.join("libx.so.1"));
    // Of another machine: passed over.
    std::fs::write(folder.path().join("a/lib/libx.so.1"), b"\x7fELF\x01\x01").unwrap();
    assert_eq!(Shelf::new(&both, 3).find("libx.so.1").unwrap().0, b.join("libx.so.1"));
}

#[test]
fn a_needed_library_is_also_found_where_the_one_that_needs_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("capi"), folder.path().join("nvidia/lib"));
    std::fs::create_dir_all(&a).unwrap();
    std::fs::create_dir_all(&b).unwrap();
    let needed = empty(&b, "libwpfar.so.1", &[]);
    let source = a.join("source.c");
    std::fs::write(&source, "").unwrap();
    let file = a.join("libwpnear.so");
    let gcc = Command::new("gcc")
        .args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN/../nvidia/lib", "-o"])
        .args([&file, &source, &needed])
        .status();
    assert!(gcc.unwrap().success());
    let needs = Needs::of(&[file], &Shelf::new(std::slice::from_ref(&a), 0));
    assert_eq!(needs.found, [("libwpfar.so.1".to_owned(), a.join("../nvidia/lib/libwpfar.so.1"))]);
}

#[test]
fn what_a_provider_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    runtime(folder.path());
    let state = |provider| readiness(provider, folder.path(), &Shelf::new(&[folder.path().to_path_buf()], 0));
    assert_eq!(state(Provider::Cuda), Readiness::Ready);
    assert_eq!(state(Provider::Cpu), Readiness::Ready);
    let lacks = vec!["libonnxruntime_providers_tensorrt.so".to_owned()];
    assert_eq!(state(Provider::TensorRt), Readiness::Absent(lacks));
    std::fs::remove_file(folder.path().join("libcublasLt.so.13")).unwrap();
    assert_eq!(state(Provider::Cuda), Readiness::Missing(vec!["libcublasLt.so.13".to_owned()]));
}

/// From 1.28 on the CUDA provider opens cuDNN by name.
#[test]
fn cudnn_is_needed_also_where_it_is_opened_later() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    runtime(at);
    let provider = empty(at, "libonnxruntime_providers_cuda.so", &["libcublas.so.13"]);
    assert!(!Library::read(&provider).unwrap().needed.iter().any(|name| name.contains("cudnn")));
    let shelf = || Shelf::new(&[at.to_path_buf()], 0);
    let needs = Needs::of(&[provider], &shelf());
    let expected =
        ["libcublasLt.so.13", "libcublas.so.13", "libcudnn.so.9", "libnvrtc.so.13", "libcudnn_graph.so.9"];
    assert_eq!(names(&needs)[..5], expected);
    assert_eq!(readiness(Provider::Cuda, at, &shelf()), Readiness::Ready);
    std::fs::remove_file(at.join("libcudnn.so.9")).unwrap();
    if loads("libcudnn.so.9").is_err() {
        assert_eq!(
            readiness(Provider::Cuda, at, &shelf()),
            Readiness::Missing(vec!["libcudnn.so.9".to_owned()])
        );
    }
}

#[test]
fn a_provider_finds_what_was_loaded_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    compile(at, "libwpdeep.so.3", "int deep(void) { return 3; }", &[]);
    compile(
        at,
        "libwpmiddle.so.2",
        "int deep(void); int middle(void) { return deep(); }",
        &["libwpdeep.so.3"],
    );
    empty(at, "libonnxruntime_providers_shared.so", &[]);
    let code = "int middle(void); int provider(void) { return middle(); }";
    let provider = compile(at, "libonnxruntime_providers_cuda.so", code, &["libwpmiddle.so.2"]);
    // No search path names the folder: the loader alone does not find it.
    let error = loads(provider.to_str().unwrap()).unwrap_err();
    assert!(error.contains("libwpmiddle.so.2"), "{error}");
    let loaded = prepare(Provider::Cuda, at).unwrap();
    assert_eq!(loaded, [at.join("libwpdeep.so.3"), at.join("libwpmiddle.so.2")]);
    loads(provider.to_str().unwrap()).unwrap();
    assert_eq!(prepare(Provider::Cuda, at).unwrap(), loaded, "again");
    assert_eq!(prepare(Provider::Cpu, at).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn each_library_that_does_not_load_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    compile(at, "libwpbroken.so.1", "int nowhere(void); int broken(void) { return nowhere(); }", &[]);
    empty(at, "libwpfine.so.1", &[]);
    empty(at, "libonnxruntime_providers_shared.so", &[]);
    empty(at, "libonnxruntime_providers_cuda.so", &["libwpbroken.so.1", "libwpfine.so.1"]);
    let error = prepare(Provider::Cuda, at).unwrap_err().to_string();
    assert!(error.contains("CUDA cannot be used") && error.contains("libwpbroken.so.1"), "{error}");
    assert!(error.contains("nowhere") && !error.contains("libwpfine"), "{error}");
}

/// What engines are kept by: a folder that promises another version changes nothing.
#[test]
fn versions_are_those_of_what_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let name = "libwpinfer.so.10";
    for (folder, number) in [(&a, 101_303), (&b, 100_900)] {
        std::fs::create_dir(folder).unwrap();
        compile(folder, name, &format!("int getInferLibVersion(void) {{ return {number}; }}"), &[]);
    }
    assert_eq!(tensorrt(Path::new(name)), None, "it is not loaded to be asked");
    loads(a.join(name).to_str().unwrap()).unwrap();
    assert_eq!(tensorrt(Path::new(name)).as_deref(), Some("101303"));
    assert_eq!(tensorrt(&b.join(name)), None);

    assert_eq!(cuda_of(&a), None);
    runtime(&a);
    assert_eq!(cuda_of(&a).as_deref(), Some("13"));
    empty(&b, "libcublas.so.12", &[]);
    empty(&b, "libonnxruntime_providers_cuda.so", &["libcublas.so.12"]);
    assert_eq!(cuda_of(&b).as_deref(), Some("12"));

    let runtime = Runtime::load(None).unwrap();
    assert_eq!(Some(runtime.home()), runtime.named().parent(), "providers are looked for beside it");
    let build = match cuda_of(runtime.home()) {
        Some(cuda) => format!("{} for CUDA {cuda}", runtime.version()),
        None => runtime.version().to_owned(),
    };
    assert_eq!(runtime.build(), build);
}
