//! A model's folder: the manifest, the labels, and the graph's file with its hash.
//!
//! In: a path. Out: a [`ModelDir`]. Errors name the file and what is wrong with it. The graph itself is read by
//! [`super::Session`].

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::InferError;
use crate::config::Manifest;
use crate::config::manifest::Labels;
use crate::config::settings::Precision;

/// A model's folder, read and checked.
#[derive(Debug, Clone)]
pub struct ModelDir {
    /// The folder.
    pub path: PathBuf,
    /// What `model.toml` says.
    pub manifest: Manifest,
    /// Class names; empty where the manifest leaves them to the graph's metadata.
    pub labels: Vec<String>,
    /// The graph's file.
    pub onnx: PathBuf,
    /// SHA-256 of the graph's file, 64 hexadecimal digits.
    pub hash: String,
    /// Whether the graph itself says where it calculates in 8-bit integers (`QuantizeLinear`).
    pub quantized: bool,
    /// The numbers that TensorRT is to calculate in (`models.NAME.precision`); see [`Self::in_numbers`].
    pub precision: Option<Precision>,
    /// What the graph takes.
    pub stage: Stage,
}

/// What a graph of a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Pictures.
    Pictures,
    /// What the first graph gave of the pictures of a window: the head of a two-stage clip model.
    Features,
}

impl ModelDir {
    /// Reads a folder with `model.toml`.
    ///
    /// # Errors
    /// Where a file cannot be read, the manifest is wrong, or there are no labels in the file it names.
    pub fn open(path: &Path) -> Result<Self, InferError> {
        let file = path.join("model.toml");
        let text = std::fs::read_to_string(&file).map_err(InferError::read(&file))?;
        let manifest = Manifest::parse(&text, &file)?;
        let labels = match &manifest.labels {
            None => Vec::new(),
            Some(Labels::List(list)) => list.clone(),
            Some(Labels::File(name)) => read_labels(&path.join(name))?,
        };
        if let Some(unknown) = manifest.keep.iter().find(|keep| !labels.is_empty() && !labels.contains(keep))
        {
            return Err(InferError::Keep { file, label: unknown.clone(), labels: labels.len() });
        }
        let onnx = path.join(&manifest.file);
        let (hash, quantized) = hash(&onnx).map_err(InferError::read(&onnx))?;
        let (path, stage) = (path.to_path_buf(), Stage::Pictures);
        Ok(Self { path, manifest, labels, onnx, hash, quantized, precision: None, stage })
    }

    /// With the numbers that the configuration asks for.
    ///
    /// # Errors
    /// 8-bit integers for a model of which nobody knows the ranges of its values.
    pub fn in_numbers(self, precision: Option<Precision>) -> Result<Self, InferError> {
        let model = Self { precision, ..self };
        super::cuda::check_precision(&model).map(|()| model)
    }

    /// The head of a two-stage clip model, to be opened beside this one, its backbone; `None` where it has none.
    ///
    /// # Errors
    /// Where the head's file cannot be read.
    pub fn head(&self) -> Result<Option<Self>, InferError> {
        let Some(head) = self.manifest.head.as_ref().filter(|_| self.stage == Stage::Pictures) else {
            return Ok(None);
        };
        let onnx = self.path.join(&head.file);
        let (hash, quantized) = hash(&onnx).map_err(InferError::read(&onnx))?;
        Ok(Some(Self { onnx, hash, quantized, stage: Stage::Features, ..self.clone() }))
    }

    /// Entries in one run of the graph, where `wanted` frames or windows of so many streams may share one: a backbone
    /// also takes what a stream brings from one window to the next.
    #[must_use]
    pub fn batch(&self, wanted: usize) -> usize {
        match (&self.manifest.head, self.manifest.window, self.stage) {
            (Some(_), Some(window), Stage::Pictures) => wanted.max(window.hop),
            _ => wanted,
        }
    }

    /// Name of the folder, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// One name a line; blank lines at the end do not count.
fn read_labels(file: &Path) -> Result<Vec<String>, InferError> {
    let text = std::fs::read_to_string(file).map_err(InferError::read(file))?;
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if let Some(line) = labels.iter().position(String::is_empty) {
        return Err(InferError::Labels { file: file.to_path_buf(), line: line + 1 });
    }
    if labels.is_empty() {
        return Err(InferError::Labels { file: file.to_path_buf(), line: 1 });
    }
    Ok(labels)
}

/// A node's operator in an ONNX file: field 4, 14 bytes long.
const QUANTIZE: &[u8] = b"\x22\x0eQuantizeLinear";

/// SHA-256 of a graph's file, and whether it has an operator that makes 8-bit integers.
fn hash(file: &Path) -> std::io::Result<(String, bool)> {
    let mut file = File::open(file)?;
    let mut hasher = Sha256::new();
    let (mut buffer, mut kept, mut quantized) = (vec![0; 1 << 16], 0, false);
    loop {
        let read = file.read(&mut buffer[kept..])?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[kept..kept + read]);
        let filled = kept + read;
        quantized = quantized || buffer[..filled].windows(QUANTIZE.len()).any(|bytes| bytes == QUANTIZE);
        // The name may begin in one piece and end in the next.
        kept = filled.min(QUANTIZE.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
    Ok((hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), quantized))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(manifest: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.toml"), manifest).unwrap();
        std::fs::write(folder.path().join("model.onnx"), b"abc").unwrap();
        std::fs::write(folder.path().join("labels.txt"), "person\nball\n\n").unwrap();
        folder
    }

    const MANIFEST: &str =
        "task = \"detect\"\nlabels = \"labels.txt\"\ninput = {}\noutput.decoder = \"yolo\"\n";

    #[test]
    fn reads_manifest_labels_and_hash() {
        let folder = folder(MANIFEST);
        let model = ModelDir::open(folder.path()).unwrap();
        assert_eq!(model.labels, ["person", "ball"]);
        assert_eq!(model.hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(!model.quantized);
    }

    #[test]
    fn a_quantized_graph_is_told_wherever_its_operator_lies() {
        let folder = folder(MANIFEST);
        let quantized = |before: usize, name: &str| {
            let node = [vec![0; before], vec![0x22, name.len() as u8], name.into(), vec![7; 9]].concat();
            std::fs::write(folder.path().join("model.onnx"), node).unwrap();
            ModelDir::open(folder.path()).unwrap().quantized
        };
        for before in [0, (1 << 16) - 20, (1 << 16) - 16, (1 << 16) - 8, (1 << 16) - 1, (1 << 17) - 25] {
            assert!(quantized(before, "QuantizeLinear"), "after {before} bytes");
        }
        // These give no ranges for a whole graph.
        assert!(!quantized(100, "DynamicQuantizeLinear") && !quantized(100, "DequantizeLinear"));
    }

    #[test]
    fn says_which_file_is_missing_or_empty() {
        let folder = folder(MANIFEST);
        let open = || ModelDir::open(folder.path()).unwrap_err().to_string();
        std::fs::write(folder.path().join("labels.txt"), "person\n\nball\n").unwrap();
        assert!(open().contains("labels.txt:2"), "{}", open());
        std::fs::remove_file(folder.path().join("labels.txt")).unwrap();
        assert!(open().contains("labels.txt"), "{}", open());
        std::fs::write(folder.path().join("labels.txt"), "person\n").unwrap();
        std::fs::remove_file(folder.path().join("model.onnx")).unwrap();
        assert!(open().contains("model.onnx"), "{}", open());
        std::fs::remove_file(folder.path().join("model.toml")).unwrap();
        assert!(open().contains("model.toml"), "{}", open());
    }

    #[test]
    fn refuses_to_keep_a_label_that_is_not_there() {
        let folder = folder(&format!("keep = [\"dog\"]\n{MANIFEST}"));
        let message = ModelDir::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("\"dog\"") && message.contains("keep"), "{message}");
    }
}
