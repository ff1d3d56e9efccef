//! Two-stage clip models: a backbone and a head that fit, and the words where they do not.

use super::onnx::Message;
use super::{FLOAT, FLOAT16, file, value};
use crate::flow::{Lent, Tensor, TensorData};
use crate::infer::{Head, InferError, ModelDir, Runtime, Session, SessionOptions, WindowBuilder};

/// Frames of a window of the models here.
const FRAMES: i64 = 6;

/// A node with lists of whole numbers as attributes, and whole numbers.
fn node(op: &str, inputs: &[&str], output: &str, lists: &[(&str, &[u64])], one: &[(&str, u64)]) -> Message {
    let mut node = inputs.iter().fold(Message::default(), |node, name| node.text(1, name)).text(2, output);
    node = node.text(4, op);
    for (name, values) in lists {
        let list = Message::default().text(1, name).number(20, 7);
        node = node.message(5, &values.iter().fold(list, |list, value| list.number(8, *value)));
    }
    for (name, value) in one {
        node = node.message(5, &Message::default().text(1, name).number(20, 2).number(3, *value));
    }
    node
}

/// Scores of three classes that depend on the order of the frames: the weights of a matrix.
fn weights() -> Message {
    let rows = FRAMES as usize * 3;
    let values =
        (0..rows * 3).flat_map(|i| (((i / 3 * 7 + i % 3 * 4) % 11) as f32 / 50.0 - 0.1).to_le_bytes());
    Message::default()
        .number(1, rows as u64)
        .number(1, 3)
        .number(2, FLOAT)
        .text(8, "weights")
        .bytes(9, &values.collect::<Vec<u8>>())
}

fn graph(input: Message, nodes: &[Message], outputs: &[Message]) -> Vec<u8> {
    let graph = nodes.iter().fold(Message::default(), |graph, node| graph.message(1, node)).text(2, "graph");
    let graph = graph.message(5, &weights()).message(11, &input);
    file(&outputs.iter().fold(graph, |graph, output| graph.message(12, output))).0
}

/// The mean of each channel; with two outputs the frame's input comes first.
fn backbone(side: i64, outputs: usize) -> Vec<u8> {
    let mean = node("ReduceMean", &["images"], "features", &[("axes", &[2, 3])], &[]);
    let same = node("Identity", &["images"], "same", &[], &[]);
    let all = [value("same", FLOAT, &[-1, 3, side, side]), value("features", FLOAT, &[-1, 3, 1, 1])];
    graph(value("images", FLOAT, &[-1, 3, side, side]), &[mean, same], &all[2 - outputs..])
}

fn scores(from: &'static str) -> [Message; 2] {
    [
        node("Flatten", &[from], "flat", &[], &[("axis", 1)]),
        node("MatMul", &["flat", "weights"], "scores", &[], &[]),
    ]
}

fn head(layout: &str, element: u64, axes: &[i64]) -> Vec<u8> {
    let mut nodes = Vec::new();
    let turned = if layout == "nft" {
        nodes.push(node("Transpose", &["x"], "turned", &[("perm", &[0, 2, 1])], &[]));
        "turned"
    } else {
        "x"
    };
    nodes.push(node("Cast", &[turned], "floats", &[], &[("to", FLOAT)]));
    nodes.extend(scores("floats"));
    graph(value("x", element, axes), &nodes, &[value("scores", FLOAT, &[-1, 3])])
}

/// A head of any length: the mean over time.
fn mean(element: u64, axes: &[i64]) -> Vec<u8> {
    let cast = node("Cast", &["x"], "floats", &[], &[("to", FLOAT)]);
    let mean = node("ReduceMean", &["floats"], "scores", &[("axes", &[1])], &[("keepdims", 0)]);
    graph(value("x", element, axes), &[cast, mean], &[value("scores", FLOAT, &[-1, axes[2]])])
}

/// The same model in one graph.
fn whole(side: i64) -> Vec<u8> {
    let means = node("ReduceMean", &["images"], "means", &[("axes", &[3, 4])], &[("keepdims", 0)]);
    let [flat, product] = scores("means");
    let input = value("images", FLOAT, &[-1, FRAMES, 3, side, side]);
    graph(input, &[means, flat, product], &[value("scores", FLOAT, &[-1, 3])])
}

const COMMON: &str = "task = \"clip\"\nlabels = [\"a\", \"b\", \"c\"]\n\
                      output = { decoder = \"classes\", activation = \"sigmoid\" }\n\
                      window = { frames = 6, fps = 8, hop = 2 }\n";

/// Folders of one model: as one graph, with a head over N T F, with one over N F T.
pub(crate) fn folders(side: u32) -> [tempfile::TempDir; 3] {
    let side = i64::from(side);
    let one = tempfile::tempdir().unwrap();
    std::fs::write(
        one.path().join("model.toml"),
        format!("{COMMON}input = {{ layout = \"ntchw\", scale = 0.01 }}\n"),
    )
    .unwrap();
    std::fs::write(one.path().join("model.onnx"), whole(side)).unwrap();
    let two = |layout, axes: &[i64]| {
        folder(&format!("layout = \"{layout}\""), &backbone(side, 1), &head(layout, FLOAT, axes))
    };
    [one, two("ntf", &[-1, FRAMES, 3]), two("nft", &[-1, 3, FRAMES])]
}

fn folder(head_keys: &str, backbone: &[u8], head: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!("{COMMON}input = {{ scale = 0.01 }}\nhead = {{ {head_keys} }}\n");
    std::fs::write(folder.path().join("model.toml"), manifest).unwrap();
    std::fs::write(folder.path().join("model.onnx"), backbone).unwrap();
    std::fs::write(folder.path().join("head.onnx"), head).unwrap();
    folder
}

fn open(folder: &tempfile::TempDir) -> Result<(Session, Head<Tensor>), InferError> {
    let (runtime, model) = (Runtime::load(None)?, ModelDir::open(folder.path())?);
    let options = SessionOptions { threads: 1, batch: 2 };
    let session = Session::open(&runtime, &model, SessionOptions { batch: model.batch(1), ..options })?;
    let head = Head::open(&runtime, &model, &session, options)?.unwrap();
    Ok((session, head))
}

#[test]
fn windows_of_features_score_as_windows_of_frames_and_no_frame_is_seen_twice() {
    let [one, ntf, nft] = folders(4);
    let model = ModelDir::open(one.path()).unwrap();
    assert_eq!((model.batch(1), ModelDir::open(ntf.path()).unwrap().batch(1)), (1, 2), "a hop's frames");
    let mut expected =
        Session::open(&Runtime::load(None).unwrap(), &model, SessionOptions { threads: 1, batch: 1 })
            .unwrap();
    for folder in [ntf, nft] {
        let (mut backbone, mut head) = open(&folder).unwrap();
        assert_eq!((backbone.batch(), head.session().batch()), (2, 2));
        let mut builder = WindowBuilder::new(model.manifest.window.unwrap());
        let (mut seen, mut windows) = (0, 0);
        for index in 0..31_u64 {
            let values = (0..48).map(|i| ((i * 5 + index * 13) % 17) as f32).collect();
            let frame: Lent<Tensor> = Tensor::new(vec![1, 3, 4, 4], TensorData::F32(values)).into();
            let Some(window) = builder.push(index * 125_000_000, frame) else { continue };
            windows += 1;
            for frame in head.wanting([window.frames.as_slice()]) {
                seen += 1;
                let outputs = backbone.run(&frame).unwrap();
                head.keep(std::slice::from_ref(&frame), outputs).unwrap();
            }
            let mut together = Tensor::default();
            let frames = window.frames.iter().map(|frame| &***frame).collect();
            crate::infer::gather(&[frames], model.manifest.input.layout, &mut together);
            let expected = expected.run(&together).unwrap()[0].as_f32().unwrap().to_vec();
            // The same window twice, as two streams' windows in one run.
            let found = head.run(&[&window.frames, &window.frames]).unwrap()[0].as_f32().unwrap();
            for (found, expected) in found.iter().zip(expected.iter().chain(&expected)) {
                assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
            }
            assert_eq!(found.len(), 6);
        }
        assert_eq!((windows, seen), (13, 30), "not 13 × 6");
    }
}

#[test]
fn heads_that_do_not_fit_are_refused_by_name() {
    let fits = head("ntf", FLOAT, &[-1, FRAMES, 3]);
    for (keys, backbone, head, expected) in [
        (
            "",
            backbone(4, 2),
            fits.clone(),
            "the outputs `same`, `features`; name the one that the head takes",
        ),
        (
            "features = \"pool\"",
            backbone(4, 1),
            fits.clone(),
            "`head.features` is `pool`; the graph has the outputs",
        ),
        ("input = \"y\"", backbone(4, 1), fits.clone(), "`head.input` is `y`; the graph has `x`"),
        (
            "features = \"same\"",
            backbone(4, 2),
            fits,
            "`same` is [3, 4, 4] of a frame; the head's input `x` is [6, 3]",
        ),
        (
            "",
            backbone(4, 1),
            mean(FLOAT, &[-1, 4, 3]),
            "4 frames as N T F; the manifest's `window.frames` is 6",
        ),
        ("", backbone(4, 1), mean(FLOAT, &[-1, 6, -1]), "only batch and time may be of any length"),
        (
            "",
            backbone(4, 1),
            mean(FLOAT16, &[-1, 6, 3]),
            "`features` gives F32 elements; the head's input `x`",
        ),
        ("", backbone(4, 1), b"<html>".to_vec(), "head.onnx"),
    ] {
        let error = open(&folder(keys, &backbone, &head)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
    let missing = folder("file = \"top.onnx\"", &backbone(4, 1), b"");
    let error = open(&missing).unwrap_err().to_string();
    assert!(error.contains("top.onnx"), "{error}");
}
