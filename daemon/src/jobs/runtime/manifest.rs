//! Which runtimes there are, and the archives they are made of, pinned.
//!
//! In: the manifest in this binary, or a file (`packaging/gpu-runtimes.toml` shows its form). Out: runtimes by name. A
//! manifest that is wrong in itself is refused as a whole, with the entry that is wrong.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

const BUILT_IN: &str = include_str!("../../../../packaging/gpu-runtimes.toml");

/// The runtimes that can be fetched.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The runtime that is fetched where none is named.
    pub default: String,
    /// Runtimes by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// Archives by name.
    pub archives: BTreeMap<String, Archive>,
}

/// A runtime: ONNX Runtime and the libraries that its providers need.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// What it is and which GPUs and drivers it is for.
    pub summary: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// The machines it runs on, as `uname -m` says it.
    pub machine: String,
    /// Names of its archives.
    pub archives: Vec<String>,
}

/// A wheel: a zip file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its file name.
    pub file: String,
    /// SHA-256 of it, hexadecimal.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// Bytes of the members that are taken out of it.
    pub unpacked: u64,
    /// What is taken out of it: paths in it; `*` stands for any part of a name.
    pub members: Vec<String>,
}

impl Manifest {
    /// Reads a manifest: the file, or the one in this binary.
    ///
    /// # Errors
    /// Where the file cannot be read or is wrong.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Self::parse(BUILT_IN).context("the built-in manifest") };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--manifest {}: cannot be read", file.display()))?;
        Self::parse(&text).with_context(|| format!("--manifest {}", file.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        for (name, archive) in &manifest.archives {
            archive.check().with_context(|| format!("archives.\"{name}\""))?;
        }
        for (name, runtime) in &manifest.runtimes {
            check_name(name).with_context(|| format!("runtimes.\"{name}\""))?;
            ensure!(!runtime.archives.is_empty(), "runtimes.\"{name}\": names no archive");
            for archive in &runtime.archives {
                ensure!(
                    manifest.archives.contains_key(archive),
                    "runtimes.\"{name}\": there is no archives.\"{archive}\""
                );
            }
        }
        ensure!(
            manifest.runtimes.contains_key(&manifest.default),
            "default: there is no runtimes.\"{}\"",
            manifest.default
        );
        Ok(manifest)
    }

    /// The runtime of that name, and its archives.
    ///
    /// # Errors
    /// Where there is none, or it is for other machines.
    pub fn get(&self, name: &str) -> anyhow::Result<(&Runtime, Vec<&Archive>)> {
        let Some(runtime) = self.runtimes.get(name) else {
            let known: Vec<&str> = self.runtimes.keys().map(String::as_str).collect();
            bail!("no runtime \"{name}\" is known; there are: {}", known.join(", "));
        };
        ensure!(
            runtime.machine == std::env::consts::ARCH,
            "runtime {name} is for {} machines; this one is {}. Name one for it by --manifest, or adopt installed \
             libraries (`watchpost runtime adopt`)",
            runtime.machine,
            std::env::consts::ARCH
        );
        Ok((runtime, runtime.archives.iter().filter_map(|name| self.archives.get(name)).collect()))
    }
}

impl Archive {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(plain(&self.file), "file = \"{}\" is no plain file name", self.file);
        ensure!(
            self.sha256.len() == 64
                && self.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
            "sha256: expected 64 digits 0 to f"
        );
        ensure!(self.size > 0, "size: expected the archive's bytes");
        ensure!(!self.members.is_empty(), "members: names nothing to take out");
        for member in &self.members {
            let name = member.rsplit('/').next().unwrap_or_default();
            ensure!(plain(&name.replace('*', "x")), "members: \"{member}\" does not end in a file name");
        }
        Ok(())
    }

    /// The project that publishes it, as package indexes name it: `nvidia-cublas` of `nvidia_cublas-13.1.0.3-…`.
    #[must_use]
    pub fn project(&self) -> String {
        let name = self.file.split('-').next().unwrap_or_default();
        name.to_ascii_lowercase().replace(['_', '.'], "-")
    }
}

/// Names of runtimes are names of folders.
///
/// # Errors
/// Where it is none, or means something else.
pub fn check_name(name: &str) -> anyhow::Result<()> {
    let good = plain(name) && name.len() <= 64 && !matches!(name, "current" | "system");
    ensure!(
        good,
        "\"{name}\" is no name for a runtime: letters, digits, '-', '_', '+' and '.', not \"current\" or \"system\""
    );
    Ok(())
}

/// One file name without surprises.
fn plain(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(fine)
}

/// Whether a path in an archive is one that `pattern` means; `*` stands for any part of a name.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(left) = path.strip_prefix(begin) else { return false };
    let name = left.find('/').unwrap_or(left.len());
    (0..=name).filter(|end| left.is_char_boundary(*end)).any(|end| matches(rest, &left[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifest_is_whole() {
        let manifest = Manifest::load(None).unwrap();
        for (name, runtime) in &manifest.runtimes {
            let archives: Vec<&Archive> =
                runtime.archives.iter().filter_map(|name| manifest.archives.get(name)).collect();
            let has = |library: &str| {
                let any = |member: &String| member.rsplit('/').next().is_some_and(|n| n.starts_with(library));
                archives.iter().any(|archive| archive.members.iter().any(any))
            };
            for library in [
                "libonnxruntime.so",
                "libonnxruntime_providers_shared.so",
                "libonnxruntime_providers_cuda.so",
                "libonnxruntime_providers_tensorrt.so",
                "libcudart.so",
                "libcublas.so",
                "libcublasLt.so",
                "libcurand.so",
                "libnvrtc.so",
                "libcudnn.so",
                "libcudnn_*.so",
            ] {
                assert!(has(library), "{name} has no {library}");
            }
        }
        let used = |name: &String| manifest.runtimes.values().any(|runtime| runtime.archives.contains(name));
        assert!(manifest.archives.keys().all(used), "an archive that no runtime has");
        let file = &manifest.archives["cublas-13"];
        assert_eq!(file.project(), "nvidia-cublas");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let archive = |changed: (&str, &str)| {
            let text = format!(
                "default = \"a\"\n[runtimes.a]\nsummary = \"\"\nonnxruntime = \"1.31.1\"\nmachine = \"x86_64\"\n\
                 archives = [\"x\"]\n[archives.x]\nfile = \"x-1.whl\"\nsha256 = \"{}\"\nsize = 1\nunpacked = 1\n\
                 members = [\"a/lib.so\"]\n",
                "0".repeat(64)
            );
            let text = text.replace(changed.0, changed.1);
            format!("{:#}", Manifest::parse(&text).unwrap_err())
        };
        for (change, expected) in [
            (("x-1.whl", "../x-1.whl"), "archives.\"x\": file = \"../x-1.whl\""),
            (("0000", "000Z"), "archives.\"x\": sha256"),
            (("size = 1", "size = 0"), "archives.\"x\": size"),
            (("a/lib.so", "a/.."), "members: \"a/..\""),
            (("[\"x\"]", "[\"y\"]"), "there is no archives.\"y\""),
            (("[runtimes.a]", "[runtimes.current]"), "\"current\" is no name"),
            (("default = \"a\"", "default = \"b\""), "there is no runtimes.\"b\""),
        ] {
            let error = archive(change);
            assert!(error.contains(expected), "{change:?}: {error}");
        }
    }

    #[test]
    fn a_star_stands_for_part_of_a_name_and_no_more() {
        assert!(matches("a/lib.so", "a/lib.so") && !matches("a/lib.so", "b/a/lib.so"));
        assert!(matches("a/libcudnn_*.so.9", "a/libcudnn_ops.so.9"));
        assert!(!matches("a/libcudnn_*.so.9", "a/libcudnn_ops.so.10"));
        assert!(!matches("a/*.so", "a/b/c.so") && matches("a/*", "a/c"));
        assert!(matches("*/x*y", "a/x1y") && !matches("*/x*y", "a/x1"));
    }
}
