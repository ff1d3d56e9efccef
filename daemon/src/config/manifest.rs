//! `model.toml`: what the ONNX file cannot say of a model.
//!
//! In: the text of a manifest. Out: a [`Manifest`]. Errors name the key and say what was expected.

mod parse;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use parse::ManifestError;

/// A model's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the model does.
    pub task: Task,
    /// One sentence, shown by `watchpost model check`.
    #[serde(default)]
    pub summary: String,
    /// Kind of picture it was trained on; `rendered` warns when another source uses it.
    #[serde(default)]
    pub domain: Domain,
    /// File name of the ONNX graph in the folder.
    #[serde(default = "model_file")]
    pub file: String,
    /// How a picture becomes the input tensor.
    pub input: Input,
    /// How output tensors become results.
    pub output: Decoder,
    /// Class names, or the name of a text file with one a line; default: what the exporter left in the graph's
    /// metadata (Ultralytics `names`).
    #[serde(default)]
    pub labels: Option<Labels>,
    /// Keep only these labels; empty: all.
    #[serde(default)]
    pub keep: Vec<String>,
    /// The window of a clip model.
    #[serde(default)]
    pub window: Option<Window>,
    /// The second graph of a two-stage clip model: `file` is then its backbone, which sees one frame.
    #[serde(default)]
    pub head: Option<Head>,
}

fn model_file() -> String {
    "model.onnx".into()
}

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Finds objects in a frame.
    Detect,
    /// Scores a frame.
    Classify,
    /// Scores a window of frames.
    Clip,
}

/// Kind of picture a model was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Real video.
    #[default]
    Real,
    /// Only scenes that Watchpost renders.
    Rendered,
}

/// Order of the colour channels in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma alone, one channel, range expanded to 0–255.
    Gray,
}

/// How the picture is fitted into the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Aspect kept, padded equally on both sides.
    #[default]
    Letterbox,
    /// Aspect kept, picture in the top left corner, padded right and below.
    LetterboxCorner,
    /// Aspect given up.
    Stretch,
    /// Aspect kept, filled, what stands over cut off equally.
    Crop,
}

/// Resize filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Bilinear at pixel centres, no smoothing when shrinking (OpenCV INTER_LINEAR).
    #[default]
    Bilinear,
    /// Mean over the covered area when shrinking (OpenCV INTER_AREA).
    Area,
    /// Nearest sample.
    Nearest,
}

/// Order of a tensor's axes. N batch, T time, C channels, H rows, W columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// N C H W.
    #[default]
    Nchw,
    /// N H W C.
    Nhwc,
    /// N T C H W, clip models.
    Ntchw,
    /// N C T H W, clip models.
    Ncthw,
}

/// How a picture becomes the input tensor: `value = (sample × scale − mean) / std`, sample 0–255.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the tensor; default: the graph's only input.
    #[serde(default)]
    pub name: Option<String>,
    /// Axes.
    #[serde(default)]
    pub layout: Layout,
    /// Colour order.
    #[serde(default)]
    pub channels: Channels,
    /// Width and height, needed where the graph's are dynamic.
    #[serde(default)]
    pub size: Option<crate::flow::Size>,
    /// Fit.
    #[serde(default)]
    pub fit: Fit,
    /// Filter.
    #[serde(default)]
    pub filter: Filter,
    /// Value of padding before scale, mean and std, 0–255.
    #[serde(default = "pad")]
    pub pad: f32,
    /// Factor on the 0–255 sample.
    #[serde(default = "unit")]
    pub scale: f32,
    /// Subtracted, by channel in tensor order; one number is for all.
    #[serde(default)]
    pub mean: Vec<f32>,
    /// Divided by, by channel in tensor order; one number is for all.
    #[serde(default)]
    pub std: Vec<f32>,
}

fn pad() -> f32 {
    114.0
}
fn unit() -> f32 {
    1.0
}

/// How output tensors become results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decoder", rename_all = "lowercase", deny_unknown_fields)]
pub enum Decoder {
    /// YOLOX: one tensor N, A, 5 + classes; grid offsets and exp sizes by stride, objectness × class.
    Yolox {
        /// Confidence from which objects are kept.
        #[serde(default = "threshold")]
        threshold: f32,
        /// IoU from which the weaker of two objects of a class is dropped.
        #[serde(default = "nms")]
        nms: f32,
        /// Strides of the grids, in the tensor's order.
        #[serde(default = "yolox_strides")]
        strides: Vec<u32>,
    },
    /// YOLO v5 (N, A, 5 + classes), v8–v12 (N, 4 + classes, A), end-to-end v10 (N, K, 6); told apart by shape.
    Yolo {
        /// Confidence from which objects are kept.
        #[serde(default = "threshold")]
        threshold: f32,
        /// IoU from which the weaker of two objects of a class is dropped.
        #[serde(default = "nms")]
        nms: f32,
    },
    /// NanoDet: per stride class scores N, A, classes and distances N, A, 4 × bins.
    Nanodet {
        /// Confidence from which objects are kept.
        #[serde(default = "threshold")]
        threshold: f32,
        /// IoU from which the weaker of two objects of a class is dropped.
        #[serde(default = "nms")]
        nms: f32,
        /// Strides of the grids.
        #[serde(default = "yolox_strides")]
        strides: Vec<u32>,
    },
    /// A classifier's N, classes.
    Classes {
        /// What turns the values into probabilities.
        #[serde(default)]
        activation: Activation,
    },
}

fn threshold() -> f32 {
    0.3
}
fn nms() -> f32 {
    0.5
}
fn yolox_strides() -> Vec<u32> {
    vec![8, 16, 32]
}

/// What turns a classifier's values into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// They are probabilities.
    None,
    /// Softmax over classes.
    #[default]
    Softmax,
    /// Each class for itself.
    Sigmoid,
}

/// Class names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Labels {
    /// In the manifest.
    List(Vec<String>),
    /// In a text file, one a line.
    File(String),
}

/// The window of a clip model, chosen by time: the stream's rate and drops do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Frames in a window.
    pub frames: usize,
    /// Frames a second of stream time.
    pub fps: f64,
    /// Frames from one window to the next.
    pub hop: usize,
}

/// The head of a two-stage clip model (as CNN and LSTM): it takes the features that the backbone computed of each frame of
/// a window, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// File name of its ONNX graph in the folder.
    #[serde(default = "head_file")]
    pub file: String,
    /// The backbone's output that it takes; default: the only one.
    #[serde(default)]
    pub features: Option<String>,
    /// Name of its input; default: the only one.
    #[serde(default)]
    pub input: Option<String>,
    /// Axes of its input.
    #[serde(default)]
    pub layout: HeadLayout,
}

fn head_file() -> String {
    "head.onnx".into()
}

/// Order of the axes of a head's input. N batch, T time, F the features of a frame, one axis or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadLayout {
    /// N T F, as recurrent layers and transformers take it.
    #[default]
    Ntf,
    /// N F T, as convolutions over time take it; of features with several axes, T is after the first.
    Nft,
}
