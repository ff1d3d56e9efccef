//! A model of about a millisecond, written as ONNX by hand: one convolution, one mean.
//!
//! In: a folder. Out: `model.onnx`, `model.toml` in it, and how long one run takes, measured. The number of
//! channels is chosen so that this is near a millisecond on the machine at hand. Its results mean nothing.

#[path = "../../../daemon/src/infer/tests/onnx.rs"]
mod onnx;

use std::path::{Path, PathBuf};
use std::time::Duration;

use onnx::Message;
use watchpost::flow::{ElementType, Tensor};

use crate::inference::Inference;

/// Its input, both ways: what classifiers of about a millisecond usually take.
pub const SIDE: usize = 224;

/// Numbers of channels among which to choose, and how often each is tried: the quickest counts.
const CHANNELS: [usize; 8] = [64, 128, 192, 256, 320, 384, 448, 512];
const TRIES: usize = 3;
/// Width of the convolution's kernel, and its step.
const KERNEL: usize = 4;
const WANTED: f64 = 1e-3;

/// Writes the model; gives its graph and the CPU seconds of a run.
pub fn write(folder: &Path) -> anyhow::Result<(PathBuf, f64)> {
    let file = folder.join("model.onnx");
    let shape = [1, 3, SIDE, SIDE];
    let tensor = Tensor::zeros(ElementType::F32, &shape);
    let mut best: Option<(f64, usize)> = None;
    for channels in CHANNELS {
        std::fs::write(&file, graph(channels))?;
        let mut inference = Inference::open(&file)?;
        let mut seconds = f64::MAX;
        for _ in 0..TRIES {
            seconds = seconds.min(inference.seconds(&tensor, Duration::from_millis(100))?);
        }
        if best.is_none_or(|(other, _)| (seconds - WANTED).abs() < (other - WANTED).abs()) {
            best = Some((seconds, channels));
        }
    }
    let (seconds, channels) = best.unwrap_or_default();
    std::fs::write(&file, graph(channels))?;
    let labels: Vec<String> = (0..channels).map(|channel| format!("\"channel {channel}\"")).collect();
    let manifest = format!(
        "task = \"classify\"\nlabels = [{}]\ninput = {{ channels = \"bgr\", fit = \"letterbox-corner\" }}\n\
         output = {{ decoder = \"classes\", activation = \"none\" }}\n",
        labels.join(", ")
    );
    std::fs::write(folder.join("model.toml"), manifest)?;
    Ok((file, seconds))
}

/// onnx.proto, opset 13: images → Conv → GlobalAveragePool, one value a channel.
fn graph(channels: usize) -> Vec<u8> {
    let whole = |name: &str, values: [usize; 2]| {
        values
            .iter()
            .fold(Message::default().text(1, name).number(20, 7), |it, value| it.number(8, *value as u64))
    };
    let value = |name: &str, axes: [usize; 4]| {
        let shape = axes.iter().fold(Message::default(), |shape, axis| {
            shape.message(1, &Message::default().number(1, *axis as u64))
        });
        let tensor = Message::default().number(1, 1).message(2, &shape);
        Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
    };
    let conv = Message::default()
        .text(1, "images")
        .text(1, "weights")
        .text(2, "seen")
        .text(4, "Conv")
        .message(5, &whole("kernel_shape", [KERNEL, KERNEL]))
        .message(5, &whole("strides", [KERNEL, KERNEL]));
    let mean = Message::default().text(1, "seen").text(2, "mean").text(4, "GlobalAveragePool");
    let shape = [channels, 3, KERNEL, KERNEL];
    let count = shape.iter().product::<usize>();
    let weights: Vec<u8> = (0..count).flat_map(|n| (((n % 7) as f32 - 3.0) * 0.01).to_le_bytes()).collect();
    let weights = shape
        .iter()
        .fold(Message::default(), |it, axis| it.number(1, *axis as u64))
        .number(2, 1)
        .text(8, "weights")
        .bytes(9, &weights);
    let graph = Message::default()
        .message(1, &conv)
        .message(1, &mean)
        .text(2, "small")
        .message(5, &weights)
        .message(11, &value("images", [1, 3, SIDE, SIDE]))
        .message(12, &value("mean", [1, channels, 1, 1]));
    let opset = Message::default().text(1, "").number(2, 13);
    Message::default().number(1, 8).message(8, &opset).message(7, &graph).0
}
