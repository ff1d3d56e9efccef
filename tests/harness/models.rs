//! The shared models as model folders: a manifest written into a temporary folder, the graph linked.
//!
//! In: the shared data's folder, a model's name. Out: a folder that `models.NAME.path` may name; whoever holds the
//! temporary folder owns it.

use std::path::{Path, PathBuf};

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
