//! The shared models as model folders: a manifest written into a temporary folder, the graph linked.
//!
//! In: the shared data's folder, a model's name. Out: a folder that `models.NAME.path` may name; whoever holds the
//! temporary folder owns it.

#[path = "../../daemon/src/infer/tests/onnx.rs"]
mod onnx;

use std::path::{Path, PathBuf};

use onnx::Message;

/// YOLOX-nano, COCO: BGR 0–255, letterbox in the top left corner.
const YOLOX_NANO: &str = r#"
task = "detect"
summary = "YOLOX-nano, 80 classes of COCO"
file = "yolox_nano_416.onnx"
labels = "coco.txt"
input = { channels = "bgr", fit = "letterbox-corner" }
output = { decoder = "yolox", threshold = 0.3, nms = 0.45 }
"#;

/// NanoDet-m, COCO: BGR normalised, centred letterbox padded with 114.
const NANODET: &str = r#"
task = "detect"
summary = "NanoDet-m, 80 classes of COCO"
file = "nanodet_m_416.onnx"
labels = "coco.txt"

[input]
channels = "bgr"
mean = [103.53, 116.28, 123.675]
std = [57.375, 57.12, 58.395]

[output]
decoder = "nanodet"
threshold = 0.3
nms = 0.45
"#;

/// SqueezeNet, ImageNet, in 16-bit floats: BGR minus the mean. Its labels are numbers here.
const SQUEEZENET: &str = r#"
task = "classify"
summary = "SqueezeNet 1.0 in 16-bit floats, 1000 classes of ImageNet"
file = "squeezenet_fp16.onnx"
labels = "numbers.txt"
input = { channels = "bgr", fit = "crop", mean = [104, 117, 123] }
output = { decoder = "classes", activation = "none" }
"#;

/// Writes the folder of a shared model (`yolox_nano_416`, `nanodet_m_416`, `squeezenet_fp16`) below `into`.
///
/// # Panics
/// Where there is no such model, or the folder cannot be written.
#[must_use]
pub fn shared_model(data: &Path, name: &str, into: &Path) -> PathBuf {
    let manifest = match name {
        "yolox_nano_416" => YOLOX_NANO,
        "nanodet_m_416" => NANODET,
        "squeezenet_fp16" => SQUEEZENET,
        other => panic!("no manifest for the shared model {other}"),
    };
    let folder = into.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("model.toml"), manifest.trim_start()).unwrap();
    let numbers: String = (0..1000).map(|class| format!("class {class}\n")).collect();
    std::fs::write(folder.join("numbers.txt"), numbers).unwrap();
    for file in ["coco.txt", &format!("{name}.onnx")] {
        let target = data.join("models").join(file).canonicalize().unwrap();
        let link = folder.join(file);
        if !link.exists() {
            std::os::unix::fs::symlink(target, link).unwrap();
        }
    }
    folder
}

/// SqueezeNet as the backbone of a clip model, 1000 features a frame.
const TWO_STAGE: &str = r#"
task = "clip"
summary = "SqueezeNet's features under a matrix: what it says means nothing"
file = "squeezenet_fp16.onnx"
labels = ["one", "other"]
input = { channels = "bgr", fit = "crop", mean = [104, 117, 123] }
output = { decoder = "classes", activation = "sigmoid" }
window = { frames = 8, fps = 8, hop = 2 }
head = { features = "pool10_1" }
"#;

/// Writes the folder of a two-stage clip model below `into`: the shared `squeezenet_fp16`, and a head whose scores depend
/// on every feature and on the order of the frames.
///
/// # Panics
/// Where the folder cannot be written.
#[must_use]
pub fn two_stage(data: &Path, into: &Path) -> PathBuf {
    let folder = shared_model(data, "squeezenet_fp16", into);
    std::fs::write(folder.join("model.toml"), TWO_STAGE.trim_start()).unwrap();
    // The features are no output of the graph. A protocol buffer's message may come in parts: one more output.
    let graph = folder.join("squeezenet_fp16.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let output = Message::default().message(12, &Message::default().text(1, "pool10_1"));
    bytes.extend(Message::default().message(7, &output).0);
    std::fs::remove_file(&graph).unwrap();
    std::fs::write(&graph, bytes).unwrap();
    std::fs::write(folder.join("head.onnx"), matrix(8, 1000, 2)).unwrap();
    folder
}

/// onnx.proto, opset 13: x (N, frames, features in 16-bit floats) → Cast → Flatten → MatMul → scores (N, classes).
fn matrix(frames: u64, features: u64, classes: u64) -> Vec<u8> {
    let value = |name: &str, element: u64, axes: &[u64]| {
        let any = Message::default().text(2, "any");
        let shape = axes.iter().fold(Message::default().message(1, &any), |shape, axis| {
            shape.message(1, &Message::default().number(1, *axis))
        });
        let tensor = Message::default().number(1, element).message(2, &shape);
        Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
    };
    let node = |op: &str, from: &[&str], to: &str| {
        from.iter().fold(Message::default(), |node, name| node.text(1, name)).text(2, to).text(4, op)
    };
    let whole = |name: &str, value: u64| Message::default().text(1, name).number(20, 2).number(3, value);
    let numbers = (0..frames * features * classes)
        .flat_map(|i| (((i * 2_654_435_761 % 1013) as f32 / 1013.0 - 0.5) / 40.0).to_le_bytes());
    let weights = Message::default()
        .number(1, frames * features)
        .number(1, classes)
        .number(2, 1)
        .text(8, "weights")
        .bytes(9, &numbers.collect::<Vec<u8>>());
    let graph = Message::default()
        .message(1, &node("Cast", &["x"], "floats").message(5, &whole("to", 1)))
        .message(1, &node("Flatten", &["floats"], "flat").message(5, &whole("axis", 1)))
        .message(1, &node("MatMul", &["flat", "weights"], "scores"))
        .text(2, "head")
        .message(5, &weights)
        .message(11, &value("x", 10, &[frames, features]))
        .message(12, &value("scores", 1, &[classes]));
    let opset = Message::default().text(1, "").number(2, 13);
    Message::default().number(1, 8).message(8, &opset).message(7, &graph).0
}
