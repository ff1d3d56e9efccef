//! Backends: where the parts of a lane can run, which of them this box has, and what each must be able to measure.
//!
//! In: the machine. Out: a line for each backend, present or absent with the reason; a [`Backend`] for one that is
//! present. Owned by the job. A backend that is asked for by name and absent is an error.

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::cost::Cost;
use super::cpu::CpuBackend;
use super::interrupt::Stop;
use super::subject::Subject;
use crate::config::settings::LaneChoice;
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

    /// What it is here.
    ///
    /// # Errors
    /// Why it cannot be used here, and what to do.
    pub fn look(self) -> Result<String, String> {
        match self {
            Self::Cpu => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                Ok(format!("{cores} cores, {}", Isa::detect().name()))
            }
            Self::Cuda => match crate::gpu::probe() {
                Err(error) => Err(format!("{error}; {}", error.advice())),
                Ok(driver) => {
                    let names: Vec<String> = driver.gpus.into_iter().map(|gpu| gpu.name).collect();
                    Err(format!("this version of Watchpost has no CUDA lane for {}", names.join(", ")))
                }
            },
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

    /// What a part's floor is, in words.
    fn floor_is(&self, part: Part) -> &'static str;
}

/// What one backend is, or why it is not there.
pub type Found = (Kind, Result<String, String>);

/// The backends to measure: those that are wanted, or all.
///
/// # Errors
/// Where one that is wanted by name is absent.
pub fn find(wanted: &[Kind]) -> anyhow::Result<Vec<Found>> {
    let kinds = if wanted.is_empty() { &Kind::ALL } else { wanted };
    let found: Vec<Found> = kinds.iter().map(|kind| (*kind, kind.look())).collect();
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
        Kind::Cuda => bail!("{}", kind.look().err().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_backends_are_named_with_the_reason_and_only_fail_where_they_are_wanted() {
        let all = find(&[]).unwrap();
        assert_eq!(all.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), Kind::ALL);
        assert!(all[0].1.as_ref().unwrap().contains("cores"));
        for (kind, state) in all {
            match (find(&[kind]), state) {
                (Ok(found), Ok(_)) => assert_eq!(found.len(), 1),
                (Err(error), Err(why)) => assert!(error.to_string().contains(&why), "{error}"),
                (found, state) => panic!("{found:?} for {state:?}"),
            }
        }
    }
}
