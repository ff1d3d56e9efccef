//! In which numbers TensorRT calculates: 32-bit or 16-bit floats, or 8-bit integers too.
//!
//! In: what the configuration asks for (`models.NAME.precision`), a model's folder with or without a calibration table, a
//! graph that is quantized itself or not. Out: [`Numbers`], as TensorRT is told them; they are part of what an engine is
//! kept by. Nobody owns anything here. 8-bit integers without the ranges of the values are an error that says what is
//! missing, and so is a table that TensorRT cannot read.

use std::path::{Path, PathBuf};

use crate::config::settings::Precision;
use crate::infer::{InferError, ModelDir};

/// A table of value ranges in a model's folder, by which TensorRT calculates in 8-bit integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calibration {
    pub(super) file: PathBuf,
    /// Its name in the folder of the engine, where TensorRT looks for it.
    pub(super) name: &'static str,
    /// Written by TensorRT's own calibrator.
    native: bool,
}

impl Calibration {
    const FLATBUFFERS: &'static str = "calibration.flatbuffers";
    const NATIVE: &'static str = "calibration.cache";

    /// The table in a model's folder, where floats alone are not asked for.
    pub(super) fn wanted(folder: &Path, precision: Option<Precision>) -> Result<Option<Self>, InferError> {
        match precision {
            None | Some(Precision::Int8) => Self::find(folder),
            Some(Precision::Fp32 | Precision::Fp16) => Ok(None),
        }
    }

    fn find(folder: &Path) -> Result<Option<Self>, InferError> {
        let file = folder.join(Self::FLATBUFFERS);
        if file.is_file() {
            return Ok(Some(Self { file, name: Self::FLATBUFFERS, native: false }));
        }
        let file = folder.join(Self::NATIVE);
        match std::fs::read(&file) {
            Ok(bytes) if bytes.starts_with(b"TRT-") => {
                Ok(Some(Self { file, name: Self::NATIVE, native: true }))
            }
            Ok(_) => Err(InferError::Calibration { file }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(InferError::read(&file)(error)),
        }
    }
}

/// The numbers of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbers {
    half: bool,
    integers: bool,
    table: Option<Calibration>,
}

impl Numbers {
    /// What is asked for; else 16-bit floats, and 8-bit integers where their ranges are known.
    pub(super) fn of(model: &ModelDir) -> Result<Self, InferError> {
        let table = Calibration::wanted(&model.path, model.precision)?;
        let known = table.is_some() || model.quantized;
        let integers = match model.precision {
            None => known,
            Some(Precision::Int8) if !known => {
                return Err(InferError::Uncalibrated { folder: model.path.clone() });
            }
            Some(Precision::Int8) => true,
            // A quantized graph cannot be built without them.
            Some(Precision::Fp32 | Precision::Fp16) => model.quantized,
        };
        Ok(Self { half: model.precision != Some(Precision::Fp32), integers, table })
    }

    /// The calibration table, where one is used.
    pub(super) fn table(&self) -> Option<&Calibration> {
        self.table.as_ref()
    }

    /// As ONNX Runtime's provider for TensorRT takes them.
    pub(super) fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = vec![("trt_fp16_enable", u8::from(self.half).to_string())];
        if self.integers {
            options.push(("trt_int8_enable", "1".to_owned()));
        }
        if let Some(table) = &self.table {
            options.extend([
                ("trt_int8_calibration_table_name", table.name.to_owned()),
                ("trt_int8_use_native_calibration_table", u8::from(table.native).to_string()),
            ]);
        }
        options
    }
}

/// Whether TensorRT could calculate in what is asked for.
pub(in crate::infer) fn check(model: &ModelDir) -> Result<(), InferError> {
    Numbers::of(model).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "task = \"detect\"\nlabels = [\"a\"]\ninput = {}\noutput.decoder = \"yolo\"\n";

    fn folder(graph: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.toml"), MANIFEST).unwrap();
        std::fs::write(folder.path().join("model.onnx"), graph).unwrap();
        folder
    }

    fn told(folder: &Path, precision: Option<Precision>) -> Vec<String> {
        let model = ModelDir::open(folder).unwrap().in_numbers(precision).unwrap();
        let options = Numbers::of(&model).unwrap().options();
        options.into_iter().map(|(name, value)| format!("{}={value}", &name["trt_".len()..])).collect()
    }

    #[test]
    fn integers_need_ranges_which_a_table_gives() {
        let folder = folder(b"graph");
        let path = folder.path();
        assert_eq!(told(path, None), ["fp16_enable=1"]);
        assert_eq!(told(path, Some(Precision::Fp16)), ["fp16_enable=1"]);
        assert_eq!(told(path, Some(Precision::Fp32)), ["fp16_enable=0"]);
        let refused =
            ModelDir::open(path).unwrap().in_numbers(Some(Precision::Int8)).unwrap_err().to_string();
        for expected in [&path.display().to_string(), "calibration.flatbuffers", "calibration.cache", "fp16"]
        {
            assert!(refused.contains(expected), "{refused}");
        }

        std::fs::write(path.join("calibration.cache"), "conv1 2.5\n").unwrap();
        let wrong = Numbers::of(&ModelDir::open(path).unwrap()).unwrap_err().to_string();
        assert!(wrong.contains("calibration.cache"), "{wrong}");
        std::fs::write(path.join("calibration.cache"), "TRT-101303-EntropyCalibration2\n").unwrap();
        let native = [
            "fp16_enable=1",
            "int8_enable=1",
            "int8_calibration_table_name=calibration.cache",
            "int8_use_native_calibration_table=1",
        ];
        assert_eq!(told(path, None), native);
        assert_eq!(told(path, Some(Precision::Int8)), native);
        std::fs::write(path.join("calibration.flatbuffers"), "any").unwrap();
        let other = [
            "fp16_enable=1",
            "int8_enable=1",
            "int8_calibration_table_name=calibration.flatbuffers",
            "int8_use_native_calibration_table=0",
        ];
        assert_eq!(told(path, None), other);
        // Who asks for floats gets floats, whatever lies there.
        assert_eq!(told(path, Some(Precision::Fp16)), ["fp16_enable=1"]);
    }

    #[test]
    fn a_quantized_graph_has_its_ranges_in_itself() {
        let folder = folder(b"\x22\x0eQuantizeLinear");
        for precision in [None, Some(Precision::Int8), Some(Precision::Fp16)] {
            assert_eq!(told(folder.path(), precision), ["fp16_enable=1", "int8_enable=1"]);
        }
        assert_eq!(told(folder.path(), Some(Precision::Fp32)), ["fp16_enable=0", "int8_enable=1"]);
    }
}
