//! Backends: where the parts of a lane can run, which of them this box has, and what each must be able to measure.
//!
//! In: the machine. Out: a line for each backend, present or absent with the reason; a [`Backend`] for one that is
//! present. Owned by the job. A backend that is asked for by name and absent is an error.

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::copies::Copies;
use super::cost::Cost;
use super::cpu::CpuBackend;
use super::cuda::CudaBackend;
use super::interrupt::Stop;
use super::subject::Subject;
use crate::config::settings::LaneChoice;
use crate::gpu::{Device, probe};
use crate::preprocess::Isa;

/// Kinds of backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Everything in host memory
    Cpu,
    /// Everything in video memory
    Cuda,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Cuda];

    /// Name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The lane that runs on it.
    #[must_use]
    pub fn lane(self) -> LaneChoice {
        match self {
            Self::Cpu => LaneChoice::Cpu,
            Self::Cuda => LaneChoice::Cuda,
        }
    }

    /// What it is here. `gpu`: index of the GPU that the CUDA lane would use, which is opened for that.
    ///
    /// # Errors
    /// Why it cannot be used here, and what to do.
    pub fn look(self, gpu: u32) -> Result<String, String> {
        match self {
            Self::Cpu => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                Ok(format!("{cores} cores, {}", Isa::detect().name()))
            }
            Self::Cuda => {
                let driver = probe().map_err(|error| format!("{error}; {}", error.advice()))?;
                let found = driver.gpus.iter().find(|it| it.index == gpu).ok_or_else(|| {
                    format!("there is no GPU {gpu}; the driver has {}, counted from 0", driver.gpus.len())
                })?;
                Device::open(gpu)
                    .map_err(|error| format!("GPU {gpu}, {}: {error}; see `watchpost doctor`", found.name))?;
                let module = driver.module.as_deref().unwrap_or("unknown");
                let (major, minor) = (driver.cuda / 1000, driver.cuda % 1000 / 10);
                Ok(format!("GPU {gpu}, {}, driver {module}, CUDA {major}.{minor}", found.name))
            }
        }
    }
}

/// A part of the lane that can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Compressed packets to pictures.
    Decode,
    /// A picture to a tensor.
    Preprocess,
    /// A tensor to objects or scores.
    Infer,
    /// Pictures to compressed video.
    Encode,
}

impl Part {
    /// In the order of the lane.
    pub const ALL: [Self; 4] = [Self::Decode, Self::Preprocess, Self::Infer, Self::Encode];

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Preprocess => "preprocess",
            Self::Infer => "infer",
            Self::Encode => "encode",
        }
    }
}

/// Measures the parts of one lane, each alone.
pub trait Backend {
    /// A part as the lane does it, for about so long.
    ///
    /// # Errors
    /// Where it fails, or the user wants to stop.
    fn part(&mut self, part: Part, time: Duration) -> anyhow::Result<Cost>;

    /// The least that the part could cost with the same libraries, for about so long.
    ///
    /// # Errors
    /// Where it fails, or the user wants to stop.
    fn floor(&mut self, part: Part, time: Duration) -> anyhow::Result<Cost>;

    /// What does a part, in words.
    fn by(&self, part: Part) -> String;

    /// What a part's floor is, in words.
    fn floor_is(&self, part: Part) -> String;

    /// Copies between host and GPU that the part made so far, a frame; none on the CPU.
    fn copies(&self, _part: Part) -> Copies {
        Copies::new()
    }
}

/// What one backend is, or why it is not there.
pub type Found = (Kind, Result<String, String>);

/// The backends to measure: those that are wanted, or all.
///
/// # Errors
/// Where one that is wanted by name is absent.
pub fn find(wanted: &[Kind], gpu: u32) -> anyhow::Result<Vec<Found>> {
    let kinds = if wanted.is_empty() { &Kind::ALL } else { wanted };
    let found: Vec<Found> = kinds.iter().map(|kind| (*kind, kind.look(gpu))).collect();
    for (kind, state) in &found {
        if let (Err(why), false) = (state, wanted.is_empty()) {
            bail!("--backend {}: absent: {why}", kind.name());
        }
    }
    Ok(found)
}

/// Opens a backend that is present.
///
/// # Errors
/// Where the model or the video cannot be used with it.
pub fn open<'a>(kind: Kind, subject: &'a Subject, stop: &Stop) -> anyhow::Result<Box<dyn Backend + 'a>> {
    match kind {
        Kind::Cpu => Ok(Box::new(CpuBackend::open(subject, stop)?)),
        Kind::Cuda => Ok(Box::new(CudaBackend::open(subject, stop)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::soft::{child, fail};

    #[test]
    fn absent_backends_are_named_with_the_reason_and_only_fail_where_they_are_wanted() {
        let all = find(&[], 0).unwrap();
        assert_eq!(all.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), Kind::ALL);
        assert!(all[0].1.as_ref().unwrap().contains("cores"));
        for (kind, state) in all {
            match (find(&[kind], 0), state) {
                (Ok(found), Ok(_)) => assert_eq!(found.len(), 1),
                (Err(error), Err(why)) => assert!(error.to_string().contains(&why), "{error}"),
                (found, state) => panic!("{found:?} for {state:?}"),
            }
        }
    }

    #[test]
    fn a_gpu_that_is_there_is_named_with_its_driver_and_one_that_is_not_is_refused() {
        if child(
            module_path!(),
            "a_gpu_that_is_there_is_named_with_its_driver_and_one_that_is_not_is_refused",
            &[],
        ) {
            let found = Kind::Cuda.look(0).unwrap();
            assert!(found.contains("GPU 0, ") && found.contains("CUDA 12.8"), "{found}");
            let absent = Kind::Cuda.look(3).unwrap_err();
            assert!(absent.contains("no GPU 3") && absent.contains("has 1"), "{absent}");
            fail("cuModuleLoadData:1+=99");
            assert!(Kind::Cuda.look(0).unwrap_err().contains("cuModuleLoadData"));
        }
    }
}
