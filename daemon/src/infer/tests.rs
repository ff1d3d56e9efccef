//! Sessions on small graphs written here: element types, axes, batches, metadata, and the words for each mismatch.
//!
//! They need ONNX Runtime, as the daemon does; `make` puts it into the build folder.

mod libraries;
pub(super) mod onnx;
pub(crate) mod stages;

use std::path::Path;

use onnx::Message;

use super::{InferError, ModelDir, Runtime, Session, SessionOptions};
use crate::flow::{ElementType, Size, Tensor, TensorData};

pub(super) const FLOAT: u64 = 1;
pub(super) const UINT8: u64 = 2;
pub(super) const INT32: u64 = 6;
pub(super) const FLOAT16: u64 = 10;

/// An ONNX graph (onnx.proto, opset 13): the mean over some axes of an input, its axes kept.
pub(super) struct Graph {
    pub(super) element: u64,
    pub(super) axes: Vec<i64>,
    pub(super) over: Vec<u64>,
    pub(super) inputs: usize,
    pub(super) metadata: Vec<(&'static str, &'static str)>,
}

/// An input or output of a graph: its name, element type and axes, −1 where any length goes.
pub(super) fn value(name: &str, element: u64, axes: &[i64]) -> Message {
    let shape = axes.iter().fold(Message::default(), |shape, axis| {
        let dimension = match u64::try_from(*axis) {
            Ok(length) => Message::default().number(1, length),
            Err(_) => Message::default().text(2, "any"),
        };
        shape.message(1, &dimension)
    });
    let tensor = Message::default().number(1, element).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// A graph as a file.
pub(super) fn file(graph: &Message) -> Message {
    let opset = Message::default().text(1, "").number(2, 13);
    Message::default().number(1, 8).message(8, &opset).message(7, graph)
}

impl Graph {
    pub(super) fn new(element: u64, axes: &[i64]) -> Self {
        let over = vec![axes.len() as u64 - 2, axes.len() as u64 - 1];
        Self { element, axes: axes.to_vec(), over, inputs: 1, metadata: vec![] }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let result = if self.element == FLOAT16 { FLOAT16 } else { FLOAT };
        // Cast to floats where the input is none, and then the mean.
        let to = Message::default().text(1, "to").number(20, 2).number(3, result);
        let cast = Message::default().text(1, "images").text(2, "cast").text(4, "Cast").message(5, &to);
        let over =
            self.over.iter().fold(Message::default().text(1, "axes").number(20, 7), |attribute, axis| {
                attribute.number(8, *axis)
            });
        let mean = Message::default().text(1, "cast").text(2, "mean").text(4, "ReduceMean").message(5, &over);
        let mut graph = Message::default().message(1, &cast).message(1, &mean).text(2, "graph");
        graph = graph.message(11, &value("images", self.element, &self.axes));
        for index in 1..self.inputs {
            graph = graph.message(11, &value(&format!("more{index}"), FLOAT, &[1]));
        }
        let reduced = self
            .axes
            .iter()
            .enumerate()
            .map(|(index, axis)| if self.over.contains(&(index as u64)) { 1 } else { *axis });
        graph = graph.message(12, &value("mean", result, &reduced.collect::<Vec<_>>()));
        let mut model = file(&graph);
        for (key, value) in &self.metadata {
            model = model.message(14, &Message::default().text(1, key).text(2, value));
        }
        model.0
    }
}

pub(super) const CLASSIFIER: &str = "task = \"classify\"\ninput = {}\noutput.decoder = \"classes\"\n";

pub(super) fn folder(manifest: &str, graph: &Graph) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.toml"), manifest).unwrap();
    std::fs::write(folder.path().join("model.onnx"), graph.bytes()).unwrap();
    folder
}

pub(super) fn open(manifest: &str, graph: &Graph, batch: usize) -> Result<Session, InferError> {
    let folder = folder(manifest, graph);
    let model = ModelDir::open(folder.path())?;
    Session::open(&Runtime::load(None)?, &model, SessionOptions { threads: 1, batch })
}

pub(super) fn labelled(manifest: &str) -> String {
    format!("labels = [\"a\", \"b\", \"c\"]\n{manifest}")
}

fn refused(manifest: &str, graph: &Graph) -> String {
    let error = open(&labelled(manifest), graph, 1).unwrap_err().to_string();
    assert!(error.contains("model.onnx"), "{error}");
    error
}

/// Entry e, channel c holds e + c in every pixel of 4 × 2.
pub(super) fn steps(element: ElementType, entries: usize) -> Tensor {
    let mut tensor = Tensor::zeros(element, &[entries, 3, 2, 4]);
    let value = |index: usize| (index / 24 + index / 8 % 3) as u8;
    match &mut tensor.data {
        TensorData::F32(data) => data.iter_mut().enumerate().for_each(|(i, v)| *v = value(i).into()),
        TensorData::F16(data) => {
            data.iter_mut().enumerate().for_each(|(i, v)| *v = half::f16::from(value(i)))
        }
        TensorData::U8(data) => data.iter_mut().enumerate().for_each(|(i, v)| *v = value(i)),
    }
    tensor
}

#[test]
fn every_element_type_goes_in_and_floats_come_out() {
    for (element, kind) in [(FLOAT, ElementType::F32), (FLOAT16, ElementType::F16), (UINT8, ElementType::U8)]
    {
        let mut session = open(&labelled(CLASSIFIER), &Graph::new(element, &[1, 3, 2, 4]), 1).unwrap();
        assert_eq!((session.input().element, session.input().size), (kind, Size::new(4, 2)));
        assert_eq!((session.batch(), session.input().batch), (1, Some(1)));
        assert_eq!(session.output_names(), ["mean"]);
        assert_eq!(session.outputs()[0].shape, [1, 3, 1, 1]);
        for _ in 0..2 {
            let outputs = session.run(&steps(kind, 1)).unwrap();
            assert_eq!(outputs[0].shape, [1, 3, 1, 1]);
            assert_eq!(outputs[0].as_f32().unwrap(), [0.0, 1.0, 2.0], "{kind:?}");
        }
    }
}

#[test]
fn batches_are_as_large_as_graph_and_options_allow() {
    let mut any = open(&labelled(CLASSIFIER), &Graph::new(FLOAT, &[-1, 3, 2, 4]), 3).unwrap();
    assert_eq!((any.batch(), any.input().batch), (3, None));
    let outputs = any.run(&steps(ElementType::F32, 2)).unwrap();
    assert_eq!(outputs[0].as_f32().unwrap(), [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]);
    let error = any.run(&steps(ElementType::F32, 4)).unwrap_err().to_string();
    assert!(error.contains("`images` takes F32 [3, 3, 2, 4] with at most 3 entries"), "{error}");
    let error = any.run(&steps(ElementType::U8, 1)).unwrap_err().to_string();
    assert!(error.contains("a tensor of U8 [1, 3, 2, 4] was given"), "{error}");

    let mut four = open(&labelled(CLASSIFIER), &Graph::new(UINT8, &[4, 3, 2, 4]), 1).unwrap();
    assert_eq!((four.batch(), four.input().batch), (4, Some(4)));
    let outputs = four.run(&steps(ElementType::U8, 2)).unwrap();
    assert_eq!(outputs[0].as_f32().unwrap()[..6], [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]);
}

#[test]
fn exporters_metadata_fills_what_the_manifest_leaves_open() {
    let mut graph = Graph::new(FLOAT, &[-1, 3, -1, -1]);
    graph.metadata =
        vec![("names", "{0: 'cat', 1: 'dog', 2: 'bird'}"), ("imgsz", "[32, 64]"), ("task", "classify")];
    let session = open(CLASSIFIER, &graph, 1).unwrap();
    assert_eq!(session.labels(), ["cat", "dog", "bird"]);
    assert_eq!(session.input().size, Size::new(64, 32));
    let keep = open(&format!("keep = [\"cow\"]\n{CLASSIFIER}"), &graph, 1).unwrap_err().to_string();
    assert!(keep.contains("\"cow\" is none of the graph's 3 names"), "{keep}");
    graph.metadata[2].1 = "segment";
    let task = open(CLASSIFIER, &graph, 1).unwrap_err().to_string();
    assert!(task.contains("exported for the task segment; the manifest's `task` is classify"), "{task}");
    graph.metadata.clear();
    let labels = open(CLASSIFIER, &graph, 1).unwrap_err().to_string();
    assert!(labels.contains("`input.size`") || labels.contains("no `labels`"), "{labels}");
}

#[test]
fn mismatches_name_the_tensor() {
    let graph = Graph::new(FLOAT, &[1, 3, 2, 4]);
    let with = |input: &str| CLASSIFIER.replace("input = {}", &format!("input = {{ {input} }}"));
    for (manifest, graph, expected) in [
        (
            with("size = \"8x2\""),
            &graph,
            "input `images` is [1, 3, 2, 4]; the manifest's `input.size` is 8x2",
        ),
        (with("layout = \"nhwc\""), &graph, "4 channels as nhwc; the manifest's `input.channels` makes 3"),
        (with("channels = \"gray\""), &graph, "3 channels as nchw; the manifest's `input.channels` makes 1"),
        (with("name = \"data\""), &graph, "`input.name` is `data`; the graph has `images`"),
        (with(""), &Graph::new(FLOAT, &[1, 3, -1, -1]), "`images` is [1, 3, ?, ?], of any width and height"),
        (with(""), &Graph::new(FLOAT, &[3, 2, 4]), "`images` has 3 axes, [3, 2, 4]"),
        (with(""), &Graph::new(INT32, &[1, 3, 2, 4]), "`images` takes i32 elements; expected"),
        (with(""), &Graph { inputs: 2, ..Graph::new(FLOAT, &[1, 3, 2, 4]) }, "the inputs `images`, `more1`"),
        (
            with(""),
            &Graph { over: vec![0, 2, 3], ..Graph::new(FLOAT, &[2, 3, 2, 4]) },
            "output `mean` is [1, 3, 1, 1] for 2 entries",
        ),
    ] {
        let error = refused(&manifest, graph);
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}

#[test]
fn clip_models_have_their_frames_checked() {
    let manifest = "task = \"clip\"\ninput.layout = \"ntchw\"\noutput.decoder = \"classes\"\n\
                    window = { frames = 6, fps = 8, hop = 2 }\n";
    let session = open(&labelled(manifest), &Graph::new(FLOAT, &[1, 6, 3, 2, 4]), 1).unwrap();
    assert_eq!(session.input().shape(2), [2, 6, 3, 2, 4]);
    let error = refused(manifest, &Graph::new(FLOAT, &[1, 8, 3, 2, 4]));
    assert!(error.contains("8 frames; the manifest's `window.frames` is 6"), "{error}");
}

#[test]
fn a_file_that_is_no_graph_is_refused() {
    let folder = folder(&labelled(CLASSIFIER), &Graph::new(FLOAT, &[1, 3, 2, 4]));
    std::fs::write(folder.path().join("model.onnx"), b"<html>not found</html>").unwrap();
    let model = ModelDir::open(folder.path()).unwrap();
    let runtime = Runtime::load(None).unwrap();
    let error = Session::open(&runtime, &model, SessionOptions::default()).unwrap_err().to_string();
    assert!(error.contains("model.onnx") && error.contains("cannot load"), "{error}");
}

#[test]
fn the_runtime_is_one_and_says_what_it_is() {
    let runtime = Runtime::load(None).unwrap();
    assert!(runtime.version().starts_with("1."), "{}", runtime.version());
    let again = Runtime::load(Some(runtime.library())).unwrap();
    assert_eq!(again.library(), runtime.library());
    let error = Runtime::load(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err().to_string();
    assert!(error.contains("is loaded from") && error.contains("/nowhere/"), "{error}");
}
