//! Slots: filled through their addresses, run, read; against what [`Session`] gives for the same tensors.

use crate::flow::{ElementType, Tensor, TensorData};
use crate::infer::cuda::raw::{PAGE, peek, poke};
use crate::infer::cuda::{BoundOptions, BoundSession, Graphs, Placement, Slot};
use crate::infer::tests::onnx::Message;
use crate::infer::tests::{
    CLASSIFIER, FLOAT, FLOAT16, Graph, UINT8, file, folder, labelled, open, steps, value,
};
use crate::infer::{InferError, ModelDir, Provider, Runtime};

const INT64: u64 = 7;

fn bound(graph: &Graph, options: BoundOptions) -> Result<BoundSession, InferError> {
    let folder = folder(&labelled(CLASSIFIER), graph);
    let model = ModelDir::open(folder.path())?;
    BoundSession::open(&Runtime::load(None)?, &model, BoundOptions { threads: 1, ..options })
}

fn batch(batch: usize) -> BoundOptions {
    BoundOptions { batch, ..BoundOptions::default() }
}

fn fill(slot: &Slot, tensor: &Tensor) {
    let bytes: Vec<u8> = match &tensor.data {
        TensorData::F32(data) => data.iter().flat_map(|value| value.to_ne_bytes()).collect(),
        TensorData::F16(data) => data.iter().flat_map(|value| value.to_ne_bytes()).collect(),
        TensorData::U8(data) => data.clone(),
    };
    poke(slot, &bytes);
}

/// Entries of [`steps`], each value one number larger.
fn shifted(entries: usize, by: f32) -> Tensor {
    let mut tensor = steps(ElementType::F32, entries);
    if let TensorData::F32(data) = &mut tensor.data {
        data.iter_mut().for_each(|value| *value += by);
    }
    tensor
}

#[test]
fn what_is_written_at_the_address_is_what_is_run() {
    for (element, kind) in [(FLOAT, ElementType::F32), (FLOAT16, ElementType::F16), (UINT8, ElementType::U8)]
    {
        let graph = Graph::new(element, &[1, 3, 2, 4]);
        let mut plain = open(&labelled(CLASSIFIER), &graph, 1).unwrap();
        let mut session = bound(&graph, batch(1)).unwrap();
        assert_eq!((session.input(), session.labels()), (plain.input(), plain.labels()));
        assert_eq!((session.output_names(), session.batch()), (plain.output_names(), 1));
        assert_eq!(session.trial()[0].shape, plain.outputs()[0].shape);
        assert_eq!((session.provider(), session.graphs()), (Provider::Cpu, &Graphs::Off));
        let mut slot = session.slot(1).unwrap();
        let address = slot.address();
        for round in 0..3_u8 {
            let mut tensor = steps(kind, 1);
            match &mut tensor.data {
                TensorData::F32(data) => data[0] += f32::from(round),
                TensorData::F16(data) => data[0] += half::f16::from(round),
                TensorData::U8(data) => data[0] += round,
            }
            fill(&slot, &tensor);
            session.run(&mut slot).unwrap();
            assert_eq!(session.host_outputs(&slot).unwrap(), plain.run(&tensor).unwrap(), "{kind:?} {round}");
            assert_eq!(slot.address(), address);
        }
    }
}

#[test]
fn outputs_lie_where_they_are_said_to_lie() {
    let mut session = bound(&Graph::new(FLOAT, &[-1, 3, 2, 4]), batch(2)).unwrap();
    let mut slot = session.slot(2).unwrap();
    fill(&slot, &steps(ElementType::F32, 2));
    session.run(&mut slot).unwrap();
    let outputs = session.outputs(&slot).unwrap().to_vec();
    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0].shape, [2, 3, 1, 1]);
    assert_eq!(peek(&outputs[0]), [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]);
    // Bound once: the next run of the slot leaves them at the same address.
    fill(&slot, &shifted(2, 1.0));
    session.run(&mut slot).unwrap();
    assert_eq!(session.outputs(&slot).unwrap(), outputs);
    assert_eq!(peek(&outputs[0]), [1.0, 2.0, 3.0, 2.0, 3.0, 4.0]);
}

#[test]
fn every_batch_size_up_to_the_most_is_run_as_it_is() {
    let graph = Graph::new(FLOAT, &[-1, 3, 2, 4]);
    let mut plain = open(&labelled(CLASSIFIER), &graph, 3).unwrap();
    let mut session = bound(&graph, batch(3)).unwrap();
    assert_eq!((session.batch(), session.input().batch), (3, None));
    for entries in [1, 2, 3, 2, 1, 3] {
        let mut slot = session.slot(entries).unwrap();
        assert_eq!((slot.entries(), slot.bytes()), (entries, entries * 96));
        let tensor = shifted(entries, entries as f32);
        fill(&slot, &tensor);
        session.run(&mut slot).unwrap();
        assert_eq!(session.host_outputs(&slot).unwrap(), plain.run(&tensor).unwrap(), "{entries} entries");
    }
    for entries in [0, 4] {
        let error = session.slot(entries).unwrap_err().to_string();
        assert_eq!(error, format!("{entries} entries asked for; a run takes 1 to 3"));
    }
    // A fixed batch takes fewer, and reads all.
    let mut four = bound(&Graph::new(UINT8, &[4, 3, 2, 4]), batch(1)).unwrap();
    let mut slot = four.slot(2).unwrap();
    assert_eq!((four.batch(), slot.bytes()), (4, 96));
    fill(&slot, &steps(ElementType::U8, 2));
    four.run(&mut slot).unwrap();
    let outputs = four.host_outputs(&slot).unwrap();
    assert_eq!(outputs[0].shape, [4, 3, 1, 1]);
    assert_eq!(outputs[0].as_f32().unwrap()[..6], [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]);
}

#[test]
fn slots_do_not_disturb_each_other() {
    let mut session = bound(&Graph::new(FLOAT, &[-1, 3, 2, 4]), batch(2)).unwrap();
    let (base, bytes) = session.memory();
    assert!(base.is_multiple_of(PAGE as u64) && bytes.is_multiple_of(PAGE));
    let (mut one, mut two) = (session.slot(2).unwrap(), session.slot(1).unwrap());
    for slot in [&one, &two] {
        assert!(slot.address() >= base && slot.address() + slot.bytes() as u64 <= base + bytes as u64);
    }
    assert!(one.address().abs_diff(two.address()) >= 192);
    let error = session.slot(1).unwrap_err().to_string();
    assert!(error.contains("all 2 slots are out"), "{error}");

    fill(&one, &steps(ElementType::F32, 2));
    fill(&two, &shifted(1, 10.0));
    session.run(&mut two).unwrap();
    session.run(&mut one).unwrap();
    assert_eq!(peek(&session.outputs(&two).unwrap()[0]), [10.0, 11.0, 12.0]);
    assert_eq!(peek(&session.outputs(&one).unwrap()[0]), [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]);
    // While one's results are read, the other is filled and run again.
    fill(&two, &shifted(1, 20.0));
    session.run(&mut two).unwrap();
    assert_eq!(peek(&session.outputs(&one).unwrap()[0]), [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]);
    assert_eq!(session.host_outputs(&two).unwrap()[0].as_f32().unwrap(), [20.0, 21.0, 22.0]);

    // The ring goes on; whoever comes next gets the one that is free.
    let address = one.address();
    drop(one);
    assert_eq!(session.slot(1).unwrap().address(), address);
    let other = two.address();
    drop(two);
    let taken: Vec<u64> = (0..4).map(|_| session.slot(1).unwrap().address()).collect();
    assert_eq!(taken, [other, address, other, address]);
}

#[test]
fn calls_out_of_their_order_are_errors_and_change_nothing() {
    let graph = Graph::new(FLOAT, &[1, 3, 2, 4]);
    let mut session = bound(&graph, batch(1)).unwrap();
    let mut other = bound(&graph, batch(1)).unwrap();
    let mut slot = session.slot(1).unwrap();
    for error in [session.outputs(&slot).unwrap_err(), session.host_outputs(&slot).unwrap_err()] {
        assert!(error.to_string().contains("was not run"), "{error}");
    }
    let error = other.run(&mut slot).unwrap_err().to_string();
    assert!(error.contains("another session's"), "{error}");
    let error = session.place(Placement::Host).unwrap_err().to_string();
    assert!(error.contains("while a slot is out"), "{error}");
    fill(&slot, &steps(ElementType::F32, 1));
    session.run(&mut slot).unwrap();
    let error = other.outputs(&slot).unwrap_err().to_string();
    assert!(error.contains("another session's"), "{error}");
    session.run_and_wait(&mut slot).unwrap();
    assert_eq!(session.host_outputs(&slot).unwrap()[0].as_f32().unwrap(), [0.0, 1.0, 2.0]);
    // A slot keeps its memory, whatever becomes of the session.
    drop(session);
    fill(&slot, &steps(ElementType::F32, 1));
}

#[test]
fn outputs_may_be_placed_on_the_host_after_the_trial() {
    let mut session = bound(&Graph::new(FLOAT, &[-1, 3, 2, 4]), batch(2)).unwrap();
    assert_eq!(session.placement(), Placement::Device);
    session.place(Placement::Host).unwrap();
    assert_eq!(session.placement(), Placement::Host);
    let mut slot = session.slot(2).unwrap();
    fill(&slot, &steps(ElementType::F32, 2));
    session.run(&mut slot).unwrap();
    let outputs = session.host_outputs(&slot).unwrap();
    assert_eq!(outputs[0].as_f32().unwrap(), [0.0, 1.0, 2.0, 1.0, 2.0, 3.0]);
}

/// The graph does not say how large its output is: ONNX Runtime allocates it in each run.
#[test]
fn outputs_of_any_size_are_found_after_each_run() {
    let graph = Graph { over: vec![1], ..Graph::new(FLOAT, &[-1, 3, -1, -1]) };
    let manifest = CLASSIFIER.replace("input = {}", "input.size = \"4x2\"");
    let folder = folder(&labelled(&manifest), &graph);
    let model = ModelDir::open(folder.path()).unwrap();
    let options = BoundOptions { threads: 1, ..batch(2) };
    let mut session = BoundSession::open(&Runtime::load(None).unwrap(), &model, options).unwrap();
    assert_eq!(session.trial()[0].shape, [2, 1, 2, 4]);
    let (mut one, mut two) = (session.slot(2).unwrap(), session.slot(1).unwrap());
    fill(&one, &steps(ElementType::F32, 2));
    fill(&two, &shifted(1, 5.0));
    for _ in 0..2 {
        session.run(&mut one).unwrap();
        session.run(&mut two).unwrap();
        let outputs = session.outputs(&one).unwrap();
        assert_eq!(outputs[0].shape, [2, 1, 2, 4]);
        assert_eq!(peek(&outputs[0]), [[1.0; 8], [2.0; 8]].concat());
        assert_eq!(session.host_outputs(&two).unwrap()[0].as_f32().unwrap(), [6.0; 8]);
    }
}

/// The graph says something else of its output than is true (here: how many of its values are not zero).
#[test]
fn a_graph_that_is_wrong_of_its_output_is_not_believed() {
    let node = Message::default().text(1, "images").text(2, "found").text(4, "NonZero");
    let graph = Message::default().message(1, &node).text(2, "graph");
    let graph = graph.message(11, &value("images", FLOAT, &[4, 3, 2, 4]));
    let graph = graph.message(12, &value("found", INT64, &[4, 7]));
    let folder = folder(&labelled(CLASSIFIER), &Graph::new(FLOAT, &[4, 3, 2, 4]));
    std::fs::write(folder.path().join("model.onnx"), file(&graph).0).unwrap();
    let model = ModelDir::open(folder.path()).unwrap();
    let options = BoundOptions { threads: 1, ..batch(1) };
    let mut session = BoundSession::open(&Runtime::load(None).unwrap(), &model, options).unwrap();
    assert_eq!(session.trial()[0].shape, [4, 0]);
    let mut slot = session.slot(4).unwrap();
    for ones in [2, 5, 1] {
        let mut tensor = Tensor::zeros(ElementType::F32, &[4, 3, 2, 4]);
        if let TensorData::F32(data) = &mut tensor.data {
            data[..ones].fill(1.0);
        }
        fill(&slot, &tensor);
        session.run(&mut slot).unwrap();
        assert_eq!(session.outputs(&slot).unwrap()[0].element, None, "of integers");
        assert_eq!(session.host_outputs(&slot).unwrap()[0].shape, [4, ones]);
    }
}

#[test]
fn what_cannot_be_run_is_refused_when_it_is_opened() {
    let two = Graph { over: vec![0, 2, 3], ..Graph::new(FLOAT, &[2, 3, 2, 4]) };
    let error = bound(&two, batch(1)).unwrap_err().to_string();
    assert!(error.contains("model.onnx: output `mean` is [1, 3, 1, 1] for 2 entries"), "{error}");
    let error = bound(&Graph::new(FLOAT, &[3, 2, 4]), batch(1)).unwrap_err().to_string();
    assert!(error.contains("`images` has 3 axes"), "{error}");
    let graph = Graph::new(FLOAT, &[1, 3, 2, 4]);
    let tensorrt = BoundOptions { provider: Provider::TensorRt, ..BoundOptions::default() };
    let error = bound(&graph, tensorrt.clone()).unwrap_err().to_string();
    assert!(error.contains("TensorRT needs a folder for its engine"), "{error}");
    let runtime = Runtime::load(None).unwrap();
    for provider in [Provider::TensorRt, Provider::Cuda] {
        // Where there is one, it is the GPU's tests that try it.
        let Err(why) = runtime.try_provider(provider) else { continue };
        let options = BoundOptions { provider, engine: Some("/tmp".into()), ..BoundOptions::default() };
        let error = bound(&graph, options).unwrap_err().to_string();
        assert!(error.contains(&format!("cannot load on {provider}")) && error.contains(&why), "{error}");
    }
}
