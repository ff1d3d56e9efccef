//! Manifests that are right, and the words for each way in which one can be wrong.

use std::path::Path;

use super::{Channels, Decoder, Filter, Fit, HeadLayout, Labels, Layout, Manifest, Task, Window};

const DETECTOR: &str = r#"
task = "detect"
labels = "coco.txt"

[input]
channels = "bgr"
fit = "letterbox-corner"

[output]
decoder = "yolox"
threshold = 0.3
"#;

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(text, Path::new("people/model.toml")).map_err(|error| error.to_string())
}

fn wrong(from: &str, to: &str) -> String {
    assert!(DETECTOR.contains(from), "{from}");
    parse(&DETECTOR.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn defaults_are_filled_in() {
    let manifest = parse(DETECTOR).unwrap();
    assert_eq!(manifest.task, Task::Detect);
    assert_eq!(manifest.file, "model.onnx");
    assert_eq!(manifest.labels, Some(Labels::File("coco.txt".into())));
    assert_eq!(manifest.input.channels, Channels::Bgr);
    assert_eq!(manifest.input.fit, Fit::LetterboxCorner);
    assert_eq!((manifest.input.layout, manifest.input.filter), (Layout::Nchw, Filter::Bilinear));
    assert_eq!((manifest.input.pad, manifest.input.scale), (114.0, 1.0));
    let strides = vec![8, 16, 32];
    assert_eq!(manifest.output, Decoder::Yolox { threshold: 0.3, nms: 0.5, strides });
}

#[test]
fn a_clip_model_has_a_window() {
    let text = r#"
task = "clip"
labels = ["no fight", "fight"]
input = { layout = "ntchw", channels = "gray", scale = 0.00392156862745098 }
output = { decoder = "classes", activation = "sigmoid" }
window = { frames = 16, fps = 8, hop = 4 }
"#;
    assert_eq!(parse(text).unwrap().window, Some(Window { frames: 16, fps: 8.0, hop: 4 }));
    let without = parse(&text.replace("window =", "#")).unwrap_err();
    assert_eq!(
        without,
        "people/model.toml:1: `window`: missing; expected frames, fps and hop of a clip model"
    );
    let hop = parse(&text.replace("hop = 4", "hop = 17")).unwrap_err();
    assert_eq!(hop, "people/model.toml:6: `window.hop`: 17 given; expected 1 to 16");
    let layout = parse(&text.replace("ntchw", "nchw")).unwrap_err();
    assert!(layout.contains(":4: `input.layout`: a clip model's input has a time axis"), "{layout}");
}

#[test]
fn a_two_stage_clip_model_has_a_backbone_of_one_frame_and_a_head() {
    let text = "task = \"clip\"\nlabels = [\"calm\", \"fight\"]\ninput.layout = \"nchw\"\n\
                output.decoder = \"classes\"\nwindow = { frames = 16, fps = 8, hop = 2 }\n\
                head = { file = \"lstm.onnx\", features = \"pool\", layout = \"nft\" }\n";
    let head = parse(text).unwrap().head.unwrap();
    assert_eq!((head.file.as_str(), head.features.as_deref(), head.input), ("lstm.onnx", Some("pool"), None));
    assert_eq!(head.layout, HeadLayout::Nft);
    let plain = text.replace("file = \"lstm.onnx\", features = \"pool\", layout = \"nft\"", "");
    let head = parse(&plain).unwrap().head.unwrap();
    assert_eq!((head.file.as_str(), head.layout), ("head.onnx", HeadLayout::Ntf));
    for (from, to, expected) in [
        (
            "\"nchw\"",
            "\"ntchw\"",
            ":3: `input.layout`: the backbone of a two-stage clip model sees one frame",
        ),
        ("lstm.onnx", "model.onnx", ":6: `head.file`: expected the name of another file"),
        ("\"nft\"", "\"tnf\"", ":6: `head.layout`: unknown variant `tnf`, expected `ntf` or `nft`"),
        ("features", "feature", ":6: `head.feature`: unknown field"),
        (
            "labels = [\"calm\", \"fight\"]\n",
            "",
            "`labels`: missing; a two-stage clip model has its class names",
        ),
        ("\"clip\"", "\"classify\"", "`head`: only clip models have a head"),
    ] {
        let error = parse(&text.replace(from, to)).unwrap_err();
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}

#[test]
fn errors_name_file_line_and_key() {
    for (from, to, expected) in [
        ("task = \"detect\"", "task = ", ":2: "),
        ("task = \"detect\"", "task = \"detcet\"", ":2: `task`: unknown variant `detcet`, expected"),
        ("labels", "label", ":3: `label`: unknown field `label`"),
        ("fit =", "fitt =", ":7: `input.fitt`: unknown field `fitt`"),
        ("channels = \"bgr\"", "mean = [1, 2]", ":6: `input.mean`: 2 numbers given; expected 1 or 3"),
        ("channels = \"bgr\"", "std = [1, 0, 1]", ":6: `input.std`: expected numbers above 0"),
        ("channels = \"bgr\"", "scale = 0", ":6: `input.scale`: 0 given; expected a number above 0"),
        ("channels = \"bgr\"", "pad = 300", ":6: `input.pad`: 300 given; expected 0 to 255"),
        (
            "channels = \"bgr\"",
            "size = \"416\"",
            ":6: `input.size`: \"416\" is no size; expected WIDTHxHEIGHT",
        ),
        ("channels = \"bgr\"", "layout = \"ntchw\"", ":6: `input.layout`: only clip models have a time axis"),
        ("threshold = 0.3", "threshold = 1.3", ":11: `output.threshold`: 1.3 given; expected 0 to 1"),
        (
            "threshold = 0.3",
            "threshold = \"low\"",
            ":11: `output.threshold`: string given; expected a number",
        ),
        ("threshold = 0.3", "strides = [0]", ":11: `output.strides`: expected at least one, each from 1"),
        (
            "threshold = 0.3",
            "treshold = 0.3",
            ":11: `output.treshold`: unknown key; decoder yolox knows threshold",
        ),
        (
            "\"yolox\"",
            "\"yolo9000\"",
            ":10: `output.decoder`: \"yolo9000\" is unknown; expected one of yolox, yolo",
        ),
        ("decoder = \"yolox\"", "", ":9: `output.decoder`: missing; expected one of yolox, yolo"),
        ("[output]\ndecoder = \"yolox\"\nthreshold = 0.3", "", ":1: `output`: missing; expected a table"),
        ("\"coco.txt\"", "[]", ":3: `labels`: expected at least one name"),
        ("\"coco.txt\"", "[\"a\"]\nkeep = [\"b\"]", ":4: `keep`: \"b\" is none of the 1 labels"),
        (
            "task = \"detect\"",
            "task = \"classify\"",
            ":10: `output.decoder`: classify and clip need the decoder",
        ),
        ("labels", "window = { frames = 1, fps = 1, hop = 1 }\nlabels", ":3: `window`: only clip models"),
    ] {
        let message = wrong(from, to);
        assert!(message.starts_with(&format!("people/model.toml{expected}")), "{to}: {message}");
    }
}
