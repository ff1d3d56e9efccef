//! Bound sessions beside plain ones on the shared models; engines built by the real binary.
//!
//! The input is written through its raw address, as a kernel on the GPU writes it. Outputs must be equal to the last bit:
//! the same provider runs the same graph on the same numbers.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::mpsc::channel;

use e2e::daemon::binary;
use e2e::data::data;
use e2e::models::shared_model;
use watchpost::flow::{ElementType, Tensor, TensorData};
use watchpost::infer::{
    BoundOptions, BoundSession, Build, EngineBuild, EngineBuilder, EngineOrder, EngineState, Engines,
    ModelDir, Provider, Runtime, Session, SessionOptions, Slot, Stamp,
};

/// Numbers as pixels have them, other ones for each seed.
fn noise(element: ElementType, shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 56) as u8
    };
    let mut tensor = Tensor::zeros(element, shape);
    match &mut tensor.data {
        TensorData::F32(data) => data.iter_mut().for_each(|value| *value = next().into()),
        TensorData::F16(data) => data.iter_mut().for_each(|value| *value = next().into()),
        TensorData::U8(data) => data.iter_mut().for_each(|value| *value = next()),
    }
    tensor
}

fn write(slot: &Slot, tensor: &Tensor) {
    let (from, bytes) = match &tensor.data {
        TensorData::F32(data) => (data.as_ptr().cast::<u8>(), size_of_val(data.as_slice())),
        TensorData::F16(data) => (data.as_ptr().cast(), size_of_val(data.as_slice())),
        TensorData::U8(data) => (data.as_ptr(), data.len()),
    };
    assert_eq!(bytes, slot.bytes());
    // SAFETY: the CPU's provider has its input in host memory, which the slot keeps and which is so many bytes long.
    unsafe { std::ptr::copy_nonoverlapping(from, slot.address() as *mut u8, bytes) };
}

#[test]
fn bound_sessions_give_what_plain_ones_give() {
    let Some(data) = data("bound sessions on the shared models") else { return };
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::load(None).unwrap();
    for name in ["yolox_nano_416", "nanodet_m_416", "squeezenet_fp16"] {
        let model = ModelDir::open(&shared_model(&data, name, folder.path())).unwrap();
        let mut plain = Session::open(&runtime, &model, SessionOptions { threads: 2, batch: 1 }).unwrap();
        let options = BoundOptions { threads: 2, ..BoundOptions::default() };
        let mut bound = BoundSession::open(&runtime, &model, options).unwrap();
        assert_eq!(bound.input(), plain.input(), "{name}");
        assert_eq!((bound.labels(), bound.output_names()), (plain.labels(), plain.output_names()), "{name}");
        let entries = bound.batch();
        let shape = bound.input().shape(entries);
        let (mut one, mut two) = (bound.slot(entries).unwrap(), bound.slot(entries).unwrap());
        for round in 0..3 {
            // Both are filled before either is run.
            let tensors = [0, 1].map(|slot| noise(bound.input().element, &shape, 1 + round * 2 + slot));
            write(&one, &tensors[0]);
            write(&two, &tensors[1]);
            bound.run(&mut two).unwrap();
            bound.run(&mut one).unwrap();
            for (slot, tensor) in [&one, &two].into_iter().zip(&tensors) {
                let expected = plain.run(tensor).unwrap();
                assert!(
                    expected.iter().all(|output| output.as_f32().is_some_and(|values| !values.is_empty()))
                );
                assert_eq!(bound.host_outputs(slot).unwrap(), expected, "{name}, round {round}");
            }
        }
        for (output, trial) in bound.outputs(&one).unwrap().iter().zip(bound.trial()) {
            assert_eq!(output.shape, trial.shape, "{name}");
            assert!(output.address != 0, "{name}");
        }
    }
}

/// ONNX Runtime without TensorRT, as here: the real process says so, and the cache stays empty.
#[test]
fn the_binary_builds_engines_or_says_why_not() {
    let Some(data) = data("an engine built by the binary") else { return };
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::load(None).unwrap();
    let Err(missing) = runtime.try_provider(Provider::TensorRt) else {
        eprintln!("SKIPPED: here is TensorRT, which the GPU's tests try");
        return;
    };
    let path = shared_model(&data, "nanodet_m_416", folder.path());
    let model = ModelDir::open(&path).unwrap();
    let stamp = Stamp {
        model: "people".into(),
        graph: model.hash,
        input: String::new(),
        batch: 1,
        calibration: None,
        gpu: "none".into(),
        compute: (0, 0),
        driver: "none".into(),
        runtime: runtime.version().into(),
        tensorrt: "none".into(),
        options: BTreeMap::new(),
    };
    let engines = Engines::new(folder.path());
    let library = runtime.library().to_owned();
    let build = |order: &EngineOrder| {
        let (tell, told) = channel();
        let build = EngineBuild::start(
            &EngineBuilder::of(binary()),
            &engines,
            &stamp,
            order,
            move |build: &Build| {
                let _ = tell.send(build.clone());
            },
        );
        let build = build.unwrap();
        let end = told.iter().find(|build| !matches!(build, Build::Building { .. })).unwrap();
        assert_eq!(build.poll(), end);
        assert_eq!(engines.state(&stamp), EngineState::Missing);
        match end {
            Build::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    };
    let order =
        EngineOrder { model: path, library: library.clone(), device_index: 0, batch: 1, precision: None };
    let why = build(&order);
    assert!(why.contains("cannot load on TensorRT") && why.contains(&missing), "{why}");
    let why = build(&EngineOrder { model: folder.path().join("nowhere"), ..order.clone() });
    assert!(why.contains("nowhere/model.toml"), "{why}");
    let why = build(&EngineOrder { library: folder.path().join("libonnxruntime.so"), ..order });
    assert!(why.contains("cannot load ONNX Runtime"), "{why}");
}
