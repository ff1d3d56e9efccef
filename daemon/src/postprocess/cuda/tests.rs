//! The candidate kernels, compiled for the host, against the CPU lane: the same objects, in the same order, to the last
//! bit, whatever order the threads write in.

use super::*;
use crate::config::manifest::Decoder as Manifest;
use crate::flow::{Rect, Size, Tensor, TensorData};
use crate::gpu::host::{argument, launch};
use crate::postprocess::ModelInfo;

const INPUT: Size = Size::new(160, 96);
const ENTRIES: usize = 3;

/// Numbers as detectors give them: most scores next to nothing, many equal ones, and some that are none.
fn output(shape: [usize; 3], seed: u64, scale: f32) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 40
    };
    let value = |random: u64| match random % 97 {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => -0.0,
        3..20 => (random % 16) as f32 / 16.0,
        _ => (random % 1000) as f32 / 5000.0,
    };
    let data = (0..shape.iter().product()).map(|_| value(next()) * scale).collect();
    Tensor::new(shape.to_vec(), TensorData::F32(data))
}

/// Boxes where an output has them, at a scale that makes rectangles of them.
fn with_boxes(mut tensor: Tensor, boxes: impl Fn(usize) -> bool) -> Tensor {
    let TensorData::F32(data) = &mut tensor.data else { panic!() };
    data.iter_mut().enumerate().filter(|(index, _)| boxes(*index)).for_each(|(_, value)| *value *= 60.0);
    tensor
}

fn by_kernel(
    decoder: &mut Decoder,
    outputs: &[Tensor],
    letterbox: &Letterbox,
    reverse: bool,
) -> Vec<Objects> {
    let addresses: Vec<u64> = outputs.iter().map(|output| output.as_f32().unwrap().as_ptr() as u64).collect();
    let mut boxes = decoder.boxes(&addresses).unwrap();
    let kept = decoder.kept();
    let mut counters = vec![0i32; ENTRIES];
    let mut records = vec![0xdead_beef_u32; boxes.words(ENTRIES)];
    boxes.sink.counters = counters.as_mut_ptr() as u64;
    boxes.sink.records = records.as_mut_ptr() as u64;
    boxes.sink.kept = kept.as_ptr() as u64;
    let (entries, threads) = (ENTRIES as i32, [boxes.anchors, ENTRIES, 1]);
    let name = boxes.layout.kernel();
    let rest = [argument(&boxes.sink), argument(&entries)];
    match &boxes.layout {
        Layout::Rows(rows) | Layout::Corners(rows) => {
            launch(name, threads, &[argument(rows), rest[0], rest[1]])
        }
        Layout::Columns(columns) => launch(name, threads, &[argument(columns), rest[0], rest[1]]),
        Layout::Grids(grids) => launch(name, threads, &[argument(grids.as_ref()), rest[0], rest[1]]),
    }
    let entry = boxes.anchors * boxes.record();
    let mut all = Vec::new();
    for (counter, records) in counters.iter().zip(records.chunks_exact(entry)) {
        let mut records: Vec<Vec<u32>> =
            records.chunks_exact(boxes.record()).take(*counter as usize).map(<[u32]>::to_vec).collect();
        // On a GPU records come in any order.
        if reverse {
            records.reverse();
        }
        let mut objects = Objects::default();
        let count = decoder.found(&boxes, *counter, &records.concat(), letterbox, 3, &mut objects).unwrap();
        assert_eq!(count, objects.len());
        if *counter > 0 {
            let short = &records.concat()[boxes.record()..];
            let error = decoder.found(&boxes, *counter, short, letterbox, 3, &mut Objects::default());
            assert_eq!(
                error.unwrap_err(),
                Overflow { found: *counter as usize, records: *counter as usize - 1 }
            );
        }
        all.push(objects);
    }
    all
}

fn check(decoder: &Manifest, classes: usize, outputs: &[Tensor]) {
    let labels: Vec<String> = (0..classes).map(|class| format!("class {class}")).collect();
    let names: Vec<String> = (0..outputs.len()).map(|index| format!("out{index}")).collect();
    let source = Rect::new(10.0, 20.0, 320.0, 180.0);
    let letterbox = Letterbox { source, target: Rect::new(0.0, 3.0, 160.0, 90.0) };
    let mut some = 0;
    for keep in [&[][..], &["class 1".to_owned()], &["class 0".to_owned(), "class 2".to_owned()]] {
        for threshold in [0.05, 0.3, 0.75] {
            let model = ModelInfo {
                decoder,
                labels: &labels,
                keep,
                input: INPUT,
                names: &names,
                outputs,
                threshold: Some(threshold),
            };
            let mut decoder = Decoder::new(&model).unwrap();
            for reverse in [false, true] {
                let found = by_kernel(&mut decoder, outputs, &letterbox, reverse);
                for (entry, found) in found.iter().enumerate() {
                    let mut expected = Objects::default();
                    some += decoder.objects(outputs, entry, &letterbox, 3, &mut expected);
                    assert_eq!(*found, expected, "{} {keep:?} {threshold} entry {entry}", decoder.describe());
                }
            }
        }
    }
    assert!(some > 100, "nothing was compared");
}

#[test]
fn yolox_candidates_are_those_of_the_cpu_lane() {
    let anchors = 20 * 12 + 10 * 6 + 5 * 3;
    let decoder = Manifest::Yolox { threshold: 0.3, nms: 0.5, strides: vec![8, 16, 32] };
    check(&decoder, 4, &[output([ENTRIES, anchors, 9], 1, 1.0)]);
}

#[test]
fn yolo_candidates_are_those_of_the_cpu_lane() {
    let decoder = Manifest::Yolo { threshold: 0.3, nms: 0.5 };
    let five = with_boxes(output([ENTRIES, 945, 8], 2, 1.0), |index| index % 8 < 4);
    check(&decoder, 3, &[five, output([ENTRIES, 7, 5], 3, 1.0)]);
    let eight = with_boxes(output([ENTRIES, 9, 315], 4, 1.0), |index| index / 315 % 9 < 4);
    check(&decoder, 5, &[eight]);
    let mut end = with_boxes(output([ENTRIES, 100, 6], 5, 1.0), |index| index % 6 < 4);
    let TensorData::F32(data) = &mut end.data else { panic!() };
    for (index, object) in data.chunks_exact_mut(6).enumerate() {
        // Second corners beyond the first, and classes, some of which there are not.
        (object[2], object[3]) = (object[0] + object[2], object[1] + object[3]);
        object[5] = [0.0, 1.0, 2.0, 2.5, 3.0, -1.0, f32::NAN][index % 7];
        object[4] *= 3.0;
    }
    check(&decoder, 3, &[end]);
}

#[test]
fn nanodet_candidates_are_those_of_the_cpu_lane() {
    let decoder = Manifest::Nanodet { threshold: 0.3, nms: 0.5, strides: vec![8, 16] };
    let shapes = [(60, 32), (240, 3), (240, 32), (60, 3)];
    let parts: Vec<Tensor> = (6..)
        .zip(shapes)
        .map(|(seed, (anchors, values))| output([ENTRIES, anchors, values], seed, 1.0))
        .collect();
    check(&decoder, 3, &parts);
    check(&decoder, 3, &[output([ENTRIES, 300, 3 + 32], 11, 1.0)]);
}

#[test]
fn what_the_kernels_cannot_do_is_none() {
    let classes = Manifest::Classes { activation: crate::config::manifest::Activation::Softmax };
    let labels = vec!["a".to_owned(), "b".to_owned()];
    let outputs = [Tensor::new(vec![1, 2], TensorData::F32(vec![0.0; 2]))];
    let model = ModelInfo {
        decoder: &classes,
        labels: &labels,
        keep: &[],
        input: INPUT,
        names: &["scores".to_owned()],
        outputs: &outputs,
        threshold: None,
    };
    assert!(Decoder::new(&model).unwrap().boxes(&[0]).is_none());
}
