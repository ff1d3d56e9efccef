//! What an engine is made for.
//!
//! In: a model, a GPU, the versions of what builds and runs engines. Out: a [`Stamp`], its key, and how two differ, in
//! words. Plain data; only a calibration table that cannot be read is an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TIMING;
use crate::gpu::{Driver, Gpu};
use crate::infer::cuda::precision::Numbers;
use crate::infer::{InferError, ModelDir, Runtime};

/// What an engine is made for: where anything here differs, it is another engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The model's name in the configuration.
    pub model: String,
    /// SHA-256 of the graph's file.
    pub graph: String,
    /// What of the manifest decides on the input's shape.
    pub input: String,
    /// Frames in one run at most.
    pub batch: usize,
    /// SHA-256 of the calibration table, where there is one.
    pub calibration: Option<String>,
    /// The GPU's name.
    pub gpu: String,
    /// Its compute capability.
    pub compute: (u32, u32),
    /// Version of the driver.
    pub driver: String,
    /// Version of the ONNX Runtime that is loaded, and the CUDA that it is for.
    pub runtime: String,
    /// Version that the loaded library of TensorRT gives.
    pub tensorrt: String,
    /// What TensorRT is told beside.
    pub options: BTreeMap<String, String>,
}

impl Stamp {
    /// The stamp of a model on a GPU. TensorRT's version is known once its provider was loaded ([`Runtime::try_provider`]).
    ///
    /// # Errors
    /// Where the model's calibration table cannot be read, or one is needed and missing.
    pub fn new(
        name: &str,
        model: &ModelDir,
        batch: usize,
        gpu: &Gpu,
        driver: &Driver,
        runtime: &Runtime,
    ) -> Result<Self, InferError> {
        let numbers = Numbers::of(model)?;
        let table = numbers.table().map(|table| {
            std::fs::read(&table.file).map(|bytes| hex(&bytes)).map_err(InferError::read(&table.file))
        });
        let input = serde_json::json!({
            "name": model.manifest.input.name,
            "layout": model.manifest.input.layout,
            "size": model.manifest.input.size,
            "frames": model.manifest.window.map(|window| window.frames),
        });
        let options = numbers.options();
        Ok(Self {
            model: name.to_owned(),
            graph: model.hash.clone(),
            input: input.to_string(),
            batch,
            calibration: table.transpose()?,
            gpu: gpu.name.clone(),
            compute: gpu.compute,
            driver: match &driver.module {
                Some(module) => module.clone(),
                None => format!("for CUDA {}.{}", driver.cuda / 1000, driver.cuda % 1000 / 10),
            },
            runtime: runtime.build(),
            tensorrt: runtime.tensorrt_version().unwrap_or_else(|| "unknown".to_owned()),
            options: options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        })
    }

    /// Name of the engine's folder: the SHA-256 of all of this, 64 hexadecimal digits.
    #[must_use]
    pub fn key(&self) -> String {
        hex(serde_json::json!(self).to_string().as_bytes())
    }

    /// Name of the folder with the timings of all models on such a GPU.
    pub(super) fn timing(&self) -> String {
        let parts =
            serde_json::json!([self.gpu, self.compute, self.driver, self.runtime, self.tensorrt]).to_string();
        format!("{TIMING}{}", &hex(parts.as_bytes())[..16])
    }

    /// Whether the other is an engine of the same model on such a GPU, be it older or newer.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.model == other.model && self.gpu == other.gpu && self.compute == other.compute
    }

    /// What an engine with this stamp would have to be made anew for, in words.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let compute = |stamp: &Self| format!("{}.{}", stamp.compute.0, stamp.compute.1);
        let calibration =
            |stamp: &Self| if stamp.calibration.is_some() { "a table" } else { "none" }.to_owned();
        let mut found = Vec::new();
        if self.graph != now.graph {
            found.push("the model's file has changed".to_owned());
        }
        if self.calibration != now.calibration && calibration(self) == calibration(now) {
            found.push("the calibration table has changed".to_owned());
        }
        for (what, was, is) in [
            ("GPU", self.gpu.clone(), now.gpu.clone()),
            ("compute capability", compute(self), compute(now)),
            ("driver", self.driver.clone(), now.driver.clone()),
            ("ONNX Runtime", self.runtime.clone(), now.runtime.clone()),
            ("TensorRT", self.tensorrt.clone(), now.tensorrt.clone()),
            ("batch", self.batch.to_string(), now.batch.to_string()),
            ("input", self.input.clone(), now.input.clone()),
            ("calibration", calibration(self), calibration(now)),
            ("options", format!("{:?}", self.options), format!("{:?}", now.options)),
        ] {
            // The options follow from the calibration.
            if was != is && !(what == "options" && self.calibration != now.calibration) {
                found.push(format!("made for {what} {was}, here is {is}"));
            }
        }
        found
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
