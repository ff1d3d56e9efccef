//! GPUs: what their parts did, as means of samples.
//!
//! In: NVML. Out: a [`GpuLoad`] for each GPU. Owns NVML's handle. Without NVML, or where no GPU is part of what is
//! measured, there are none.

use serde::Serialize;

use crate::gpu::Nvml;

/// What a GPU did: means of the samples, 0 to 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct GpuLoad {
    /// Index, as NVML counts.
    pub index: u32,
    /// Share of the time in which a kernel ran.
    pub sm: Option<f64>,
    /// Of the video decoder.
    pub decoder: Option<f64>,
    /// Of the video encoder.
    pub encoder: Option<f64>,
    /// Share of the video memory in use, at most.
    pub memory: Option<f64>,
}

/// Looks at GPUs now and then.
pub struct Gpus {
    nvml: Option<Nvml>,
    samples: Vec<Vec<crate::gpu::Load>>,
}

impl Gpus {
    /// `wanted`: a GPU is part of what is measured.
    pub fn new(wanted: bool) -> Self {
        Self { nvml: wanted.then(Nvml::start).and_then(Result::ok), samples: Vec::new() }
    }

    /// One sample.
    pub fn sample(&mut self) {
        if let Some(nvml) = &self.nvml {
            self.samples.push(nvml.loads().unwrap_or_default());
        }
    }

    /// What the samples say; none is left.
    pub fn take(&mut self) -> Vec<GpuLoad> {
        let samples = std::mem::take(&mut self.samples);
        let count = samples.iter().map(Vec::len).max().unwrap_or(0);
        (0..count).map(|at| mean(samples.iter().filter_map(|sample| sample.get(at)))).collect()
    }
}

fn mean<'a>(samples: impl Iterator<Item = &'a crate::gpu::Load> + Clone) -> GpuLoad {
    let part = |of: fn(&crate::gpu::Load) -> Option<u32>| {
        let values: Vec<f64> =
            samples.clone().filter_map(of).map(|percent| f64::from(percent) / 100.0).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let memory = samples.clone().filter_map(|it| Some(it.memory_used? as f64 / it.memory_total? as f64));
    GpuLoad {
        index: samples.clone().next().map_or(0, |sample| sample.index),
        sm: part(|it| it.sm),
        decoder: part(|it| it.decoder),
        encoder: part(|it| it.encoder),
        memory: memory.reduce(f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_means_and_memory_its_most() {
        let sample = |sm, used| crate::gpu::Load {
            index: 2,
            sm: Some(sm),
            encoder: None,
            memory_used: Some(used),
            memory_total: Some(1000),
            ..crate::gpu::Load::default()
        };
        let mut gpus = Gpus { nvml: None, samples: vec![vec![sample(20, 300)], vec![sample(60, 200)]] };
        let expected = GpuLoad { index: 2, sm: Some(0.4), decoder: None, encoder: None, memory: Some(0.3) };
        assert_eq!(gpus.take(), [expected]);
        assert_eq!(gpus.take(), []);
    }
}
