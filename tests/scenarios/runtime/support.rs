//! A box with a state folder, and `watchpost runtime` on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::daemon::binary;
use e2e::wheels;
use serde_json::Value;

/// Name of the made-up runtime.
pub const NAME: &str = "1.31.1-test";

/// A box.
pub struct Box_ {
    pub folder: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn new(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It worked.
    pub fn fine(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// It failed, and said all of this.
    pub fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, 1, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "\"{word}\" is not in {}", self.err);
        }
        self
    }
}

impl Box_ {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        std::fs::create_dir(here.join("state")).unwrap();
        let text = format!("box.name = \"gate\"\npaths.state = \"{}/state\"\n", here.display());
        std::fs::write(here.join("watchpost.toml"), text).unwrap();
        Self { folder }
    }

    /// The folder with the runtimes.
    pub fn runtimes(&self) -> PathBuf {
        self.folder.path().join("state/runtime")
    }

    /// `watchpost ARGUMENTS --config …`, without this test's own ONNX Runtime and proxies.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(self.folder.path().join("watchpost.toml"));
        clean(&mut command);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::new(&self.command(arguments).output().unwrap())
    }

    /// `watchpost runtime fetch` of a manifest.
    pub fn fetch(&self, manifest: &Path, from: &str, more: &[&str]) -> Said {
        Said::new(&self.fetching(manifest, from, more).output().unwrap())
    }

    /// The command of the same.
    pub fn fetching(&self, manifest: &Path, from: &str, more: &[&str]) -> Command {
        let mut command = self.command(&["runtime", "fetch", "--from", from]);
        command
            .arg("--manifest")
            .arg(manifest)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn list(&self) -> Value {
        serde_json::from_str(&self.run(&["runtime", "list", "--json"]).fine().out).unwrap()
    }

    /// Names in the folder with the runtimes.
    pub fn names(&self) -> Vec<String> {
        names(&self.runtimes())
    }

    /// Waits until a file of an unfinished runtime has so many bytes.
    pub fn wait_for_part(&self, name: &str, file: &str, bytes: u64) {
        let part = self.runtimes().join(format!(".partial-{name}/{file}.part"));
        wait(&format!("{bytes} bytes of {file}"), || part.metadata().is_ok_and(|found| found.len() >= bytes));
    }
}

/// What a command that runs already says in the end.
pub fn end(child: std::process::Child) -> Said {
    Said::new(&child.wait_with_output().unwrap())
}

pub fn said(output: &Output) -> Said {
    Said::new(output)
}

fn clean(command: &mut Command) {
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    for name in ["ORT_DYLIB_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
}

/// Names in a folder, sorted; none where it is not there.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until something is so.
pub fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A file of so many bytes that does not get smaller in a wheel.
pub fn noise(path: &Path, bytes: usize) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = (0..bytes / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    std::fs::write(path, words.collect::<Vec<u8>>()).unwrap();
}

/// Wheels in a folder: ONNX Runtime's, which here is noise, and one of a library it needs. Gives the manifest.
pub fn small_wheels(folder: &Path, bytes: usize) -> PathBuf {
    let files = tempfile::tempdir().unwrap();
    noise(&files.path().join("big"), bytes);
    std::fs::write(files.path().join("small"), "small").unwrap();
    let (big, small) = (files.path().join("big"), files.path().join("small"));
    wheels::wheel(
        &folder.join("onnxruntime_test-1.31.1-py3-none-any.whl"),
        &[("onnxruntime/capi/libonnxruntime.so.1.31.1", &big), ("onnxruntime/__init__.py", &small)],
    );
    wheels::wheel(
        &folder.join("nvidia_test-13.0-py3-none-any.whl"),
        &[("nvidia/lib/libtest.so.13", &small), ("nvidia/lib/libtest_ops.so.13", &big)],
    );
    manifest(folder)
}

/// The manifest of [`small_wheels`], with whatever is in the folder now.
pub fn manifest(folder: &Path) -> PathBuf {
    let text = wheels::manifest(
        NAME,
        folder,
        &[
            (
                "nvidia_test-13.0-py3-none-any.whl",
                &["nvidia/lib/libtest.so.13", "nvidia/lib/libtest_*.so.13"],
            ),
            ("onnxruntime_test-1.31.1-py3-none-any.whl", &["onnxruntime/capi/libonnxruntime.so.1.31.1"]),
        ],
    );
    let file = folder.join("manifest.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// What a whole runtime of [`small_wheels`] has in its folder.
pub const WHOLE: [&str; 5] =
    ["libonnxruntime.so", "libonnxruntime.so.1.31.1", "libtest.so.13", "libtest_ops.so.13", "runtime.json"];
