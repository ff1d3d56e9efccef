//! A classifier's row of values, one a class.
//!
//! Further axes of length 1 (N, classes, 1, 1, as pooled convolutions leave them) are fine.

use super::ModelInfo;
use crate::config::manifest::Activation;

/// The decoder of one classifier.
#[derive(Debug)]
pub(super) struct Classes {
    activation: Activation,
}

impl Classes {
    pub(super) fn new(model: &ModelInfo<'_>, activation: Activation) -> Result<Self, String> {
        let [output] = model.outputs else {
            return Err(format!("expected 1 output, there are {}", model.outputs.len()));
        };
        let labels = model.labels.len();
        let values: usize = output.shape.iter().skip(1).product();
        let long = output.shape.iter().skip(1).filter(|axis| **axis != 1).count();
        if output.shape.len() < 2 || long > 1 || values != labels {
            return Err(format!("expected an output N × {labels}, one value for each of {labels} labels"));
        }
        Ok(Self { activation })
    }

    pub(super) fn probabilities(&self, outputs: &[&[f32]]) -> Vec<f32> {
        let values = outputs[0];
        match self.activation {
            Activation::None => values.iter().map(|value| value.clamp(0.0, 1.0)).collect(),
            Activation::Sigmoid => values.iter().map(|value| 1.0 / (1.0 + (-value).exp())).collect(),
            Activation::Softmax => {
                let most = values.iter().copied().fold(f32::MIN, f32::max);
                let weights: Vec<f32> = values.iter().map(|value| (value - most).exp()).collect();
                let total: f32 = weights.iter().sum();
                weights.into_iter().map(|weight| weight / total).collect()
            }
        }
    }
}
