//! Decoders against outputs made by hand, and the words for outputs that do not fit.

use super::{Candidate, Decoder, MAX_OBJECTS, ModelInfo, suppress};
use crate::config::manifest::{Activation, Decoder as Manifest};
use crate::flow::{ElementType, Letterbox, Objects, Rect, Size, Tensor, TensorData};

const INPUT: Size = Size::new(64, 32);

/// The input shows a source of twice its size.
fn letterbox() -> Letterbox {
    Letterbox { source: Rect::new(0.0, 0.0, 128.0, 64.0), target: Rect::new(0.0, 0.0, 64.0, 32.0) }
}

fn labels(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

fn make(decoder: &Manifest, labels: &[String], keep: &[&str], outputs: &[Tensor]) -> Result<Decoder, String> {
    let keep: Vec<String> = keep.iter().map(|&label| label.into()).collect();
    let names: Vec<String> = (0..outputs.len()).map(|index| format!("out{index}")).collect();
    Decoder::new(&ModelInfo {
        decoder,
        labels,
        keep: &keep,
        input: INPUT,
        names: &names,
        outputs,
        threshold: None,
    })
    .map_err(|error| error.to_string())
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(ElementType::F32, shape)
}

fn set(tensor: &mut Tensor, start: usize, values: &[f32]) {
    let TensorData::F32(data) = &mut tensor.data else { panic!() };
    data[start..start + values.len()].copy_from_slice(values);
}

fn objects(decoder: &mut Decoder, outputs: &[Tensor], entry: usize) -> Vec<(u32, f32, [f32; 4])> {
    let mut objects = Objects::default();
    let count = decoder.objects(outputs, entry, &letterbox(), 7, &mut objects);
    assert_eq!(count, objects.len());
    assert!(objects.models.iter().all(|model| *model == 7));
    (0..count)
        .map(|i| {
            let Rect { x, y, width, height } = objects.bounds[i];
            (objects.classes[i], objects.scores[i], [x, y, width, height])
        })
        .collect()
}

fn close(found: &[(u32, f32, [f32; 4])], expected: &[(u32, f32, [f32; 4])]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.0, expected.0, "{found:?}");
        assert!((found.1 - expected.1).abs() < 1e-4, "{found:?}, expected {expected:?}");
        for (a, b) in found.2.iter().zip(&expected.2) {
            assert!((a - b).abs() < 1e-3, "{found:?}, expected {expected:?}");
        }
    }
}

fn yolox() -> Manifest {
    Manifest::Yolox { threshold: 0.3, nms: 0.5, strides: vec![8, 16] }
}

// 64x32 with strides 8 and 16: 8 × 4 + 4 × 2 anchors.
const ANCHORS: usize = 40;

#[test]
fn yolox_reads_grids_sizes_and_scores() {
    let labels = labels(2);
    let mut output = zeros(&[2, ANCHORS, 7]);
    // Entry 1, stride 8, column 3, row 2: centre (3.5 × 8, 2.25 × 8), size (8·e, 8).
    set(&mut output, (ANCHORS + 2 * 8 + 3) * 7, &[0.5, 0.25, 1.0, 0.0, 0.8, 0.1, 0.9]);
    // Stride 16, column 1, row 1: too weak together, though not each alone.
    set(&mut output, (ANCHORS + 32 + 4 + 1) * 7, &[0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0]);
    // Entry 0, stride 16, column 0, row 0: reaches beyond the picture.
    set(&mut output, 32 * 7, &[0.0, 0.5, 0.0, 0.0, 1.0, 0.6, 0.2]);
    let outputs = [output];
    let mut decoder = make(&yolox(), &labels, &[], &outputs).unwrap();
    let width = 8.0 * std::f32::consts::E;
    let first = (1, 0.72, [(28.0 - width / 2.0) * 2.0, 28.0, width * 2.0, 16.0]);
    close(&objects(&mut decoder, &outputs, 1), &[first]);
    close(&objects(&mut decoder, &outputs, 0), &[(0, 0.6, [0.0, 0.0, 16.0, 32.0])]);
    let mut only = make(&yolox(), &labels, &["class 0"], &outputs).unwrap();
    close(&objects(&mut only, &outputs, 1), &[]);
    assert_eq!(objects(&mut decoder, &outputs, 2), []);
}

#[test]
fn yolox_says_what_does_not_fit() {
    let wrong = |shape: &[usize], labels_count| {
        make(&yolox(), &labels(labels_count), &[], &[zeros(shape)]).unwrap_err()
    };
    let anchors = wrong(&[1, 41, 7], 2);
    assert_eq!(
        anchors,
        "decoder yolox: 41 anchors; an input of 64x32 with strides [8, 16] makes 40; the graph's outputs are `out0` \
         [1, 41, 7]"
    );
    assert!(wrong(&[1, 40, 85], 2).contains("85 values an anchor; 2 labels make 7"));
    assert!(wrong(&[1, 40], 2).contains("3 axes"));
    let two = make(&yolox(), &labels(2), &[], &[zeros(&[1, 40, 7]), zeros(&[1, 40, 7])]).unwrap_err();
    assert!(two.contains("expected 1 output, there are 2"), "{two}");
}

const YOLO: Manifest = Manifest::Yolo { threshold: 0.3, nms: 0.5 };

#[test]
fn yolo_forms_are_told_apart_and_agree() {
    let labels = labels(3);
    let anchors = 8 * 4 + 4 * 2 + 2;
    let mut v5 = zeros(&[1, anchors, 8]);
    set(&mut v5, 5 * 8, &[32.0, 16.0, 20.0, 10.0, 0.9, 0.1, 0.2, 1.0]);
    let mut v8 = zeros(&[1, 7, anchors]);
    for (row, value) in [32.0, 16.0, 20.0, 10.0, 0.09, 0.18, 0.9].into_iter().enumerate() {
        set(&mut v8, row * anchors + 5, &[value]);
    }
    let mut end = zeros(&[1, 30, 6]);
    set(&mut end, 0, &[22.0, 11.0, 42.0, 21.0, 0.9, 2.0]);
    for (output, form) in [(v5, "v5"), (v8, "v8"), (end, "end-to-end")] {
        let outputs = [output];
        let mut decoder = make(&YOLO, &labels, &[], &outputs).unwrap();
        assert!(decoder.describe().contains(form), "{form}: {}", decoder.describe());
        close(&objects(&mut decoder, &outputs, 0), &[(2, 0.9, [44.0, 22.0, 40.0, 20.0])]);
    }
    // One class in v5 form has 6 values too, but as many anchors as the grids have cells.
    let one = make(&YOLO, &self::labels(1), &[], &[zeros(&[1, anchors * 3, 6])]).unwrap();
    assert!(one.describe().contains("v5"));
    let wrong = make(&YOLO, &labels, &[], &[zeros(&[1, 84, anchors])]).unwrap_err();
    assert!(wrong.contains("84 × 42 fits none of anchors × 8 (v5), 7 × anchors"), "{wrong}");
}

fn nanodet() -> Manifest {
    Manifest::Nanodet { threshold: 0.3, nms: 0.5, strides: vec![8, 16] }
}

#[test]
fn nanodet_outputs_are_found_in_any_order() {
    let labels = labels(2);
    // Distances of 4 bins; one value so large that the softmax picks its bin alone.
    let sides = |bins: [usize; 4]| {
        let mut values = [0.0; 16];
        for (side, bin) in bins.into_iter().enumerate() {
            values[side * 4 + bin] = 100.0;
        }
        values
    };
    let (mut scores8, mut sides8) = (zeros(&[1, 32, 2]), zeros(&[1, 32, 16]));
    let (scores16, sides16) = (zeros(&[1, 8, 2]), zeros(&[1, 8, 16]));
    set(&mut scores8, (8 + 2) * 2, &[0.2, 0.8]);
    set(&mut sides8, (8 + 2) * 16, &sides([1, 1, 2, 1]));
    // Column 2, row 1 of stride 8: the anchor is at (19.5, 11.5).
    let expected = (1, 0.8, [(19.5 - 8.0) * 2.0, (11.5 - 8.0) * 2.0, 24.0 * 2.0, 16.0 * 2.0]);
    let outputs = [sides16, scores8, sides8, scores16];
    let mut decoder = make(&nanodet(), &labels, &[], &outputs).unwrap();
    close(&objects(&mut decoder, &outputs, 0), &[expected]);
    let missing = make(&nanodet(), &labels, &[], &outputs[..3]).unwrap_err();
    let text = "no output has the class scores of stride 16 of an input of 64x32 (8 anchors) × 2 labels";
    assert!(missing.contains(text), "{missing}");

    let mut joined = zeros(&[1, 40, 18]);
    set(&mut joined, (8 + 2) * 18, &[0.2, 0.8]);
    set(&mut joined, (8 + 2) * 18 + 2, &sides([1, 1, 2, 1]));
    let outputs = [joined];
    let mut decoder = make(&nanodet(), &labels, &[], &outputs).unwrap();
    close(&objects(&mut decoder, &outputs, 0), &[(1, 0.8, [16.0, 0.0, 48.0, 32.0])]);
}

#[test]
fn classes_become_probabilities() {
    let labels = labels(3);
    let mut output = zeros(&[2, 3, 1, 1]);
    set(&mut output, 3, &[1.0, 2.0, 3.0]);
    let outputs = [output];
    let scores = |activation, keep: &[&str]| {
        let decoder = make(&Manifest::Classes { activation }, &labels, keep, &outputs).unwrap();
        assert!(!decoder.gives_objects());
        let mut scores = Vec::new();
        decoder.scores(&outputs, 1, 4, 100, 200, &mut scores);
        assert!(scores.iter().all(|s| (s.model, s.begin, s.end, s.object) == (4, 100, 200, None)));
        scores.into_iter().map(|score| (score.class, score.value)).collect::<Vec<_>>()
    };
    let near = |found: &[(u32, f32)], expected: &[(u32, f32)]| {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-4), "{found:?}");
    };
    near(&scores(Activation::Softmax, &[]), &[(0, 0.0900), (1, 0.2447), (2, 0.6652)]);
    near(&scores(Activation::Sigmoid, &["class 2"]), &[(2, 0.9526)]);
    near(&scores(Activation::None, &[]), &[(0, 1.0), (1, 1.0), (2, 1.0)]);
    let manifest = Manifest::Classes { activation: Activation::None };
    let wrong = make(&manifest, &labels, &[], &[zeros(&[1, 1000])]).unwrap_err();
    assert!(wrong.contains("N × 3") && wrong.contains("[1, 1000]"), "{wrong}");
}

#[test]
fn suppression_is_within_a_class_and_limited() {
    let candidate = |class, score, x| Candidate { class, score, bounds: Rect::new(x, 0.0, 10.0, 10.0) };
    let all =
        vec![candidate(0, 0.5, 1.0), candidate(0, 0.9, 0.0), candidate(1, 0.6, 0.0), candidate(0, 0.4, 8.0)];
    let scores = |iou, limit| {
        let mut kept = all.clone();
        suppress(&mut kept, iou, limit);
        kept.iter().map(|candidate| candidate.score).collect::<Vec<_>>()
    };
    assert_eq!(scores(Some(0.5), 10), [0.9, 0.6, 0.4]);
    assert_eq!(scores(Some(0.9), 10), [0.9, 0.6, 0.5, 0.4]);
    assert_eq!(scores(Some(0.5), 2), [0.9, 0.6]);
    assert_eq!(scores(None, 3), [0.9, 0.6, 0.5]);
}

#[test]
fn rubbish_gives_neither_panics_nor_rubbish() {
    let labels = labels(2);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 1.0] {
        let full = |shape: &[usize]| {
            let len = shape.iter().product();
            Tensor::new(shape.to_vec(), TensorData::F32(vec![value; len]))
        };
        let cases = [
            (yolox(), vec![full(&[1, 40, 7])]),
            (YOLO, vec![full(&[1, 100, 7])]),
            (YOLO, vec![full(&[1, 6, 100])]),
            (YOLO, vec![full(&[1, 20, 6])]),
            (nanodet(), vec![full(&[1, 40, 18])]),
        ];
        for (manifest, outputs) in cases {
            let mut decoder = make(&manifest, &labels, &[], &outputs).unwrap();
            let found = objects(&mut decoder, &outputs, 0);
            assert!(found.len() <= MAX_OBJECTS);
            for (class, score, [x, y, width, height]) in found {
                assert!(class < 2 && (0.0..=1.0).contains(&score));
                assert!(x >= 0.0 && y >= 0.0 && x + width <= 128.0 && y + height <= 64.0);
            }
            assert_eq!(objects(&mut decoder, &[], 0), []);
            assert_eq!(objects(&mut decoder, &[zeros(&[1, 3, 3])], 0), []);
        }
    }
}
