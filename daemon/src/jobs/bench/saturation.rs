//! What is full: which part of the box, or of the daemon, had nothing more to give.
//!
//! In: a [`Load`], and what an encoder said where it was refused. Out: the parts that are full, that which the others wait
//! for first; where none is, the fullest, which says so. Pure.

use serde::Serialize;

use super::machine::Load;

/// A part that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its name, for people and programs.
    pub what: String,
    /// How much of it was in use, 0 to 1.
    pub share: f64,
    /// From here on it counts as full.
    pub bound: f64,
    /// Whether it is.
    pub full: bool,
}

/// What is full.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Saturated {
    /// The part to which the box's limit is put down.
    #[serde(flatten)]
    pub first: Part,
    /// Others that are full too.
    pub also: Vec<Part>,
}

/// Processors, decoders and the like: a scheduler never quite fills them.
const BUSY: f64 = 0.9;
/// One thread that must do everything in turn: while it is busy for so long, its queue grows.
const THREAD: f64 = 0.95;
/// Memory: with less left the system begins to kill.
pub(super) const MEMORY: f64 = 0.95;

/// What is full. In this order, since a full part makes those after it look full too: a refusal, memory, processors, the
/// GPU's parts, then single threads.
pub(super) fn saturated(load: &Load, refused: Option<&str>) -> Saturated {
    let mut parts = Vec::new();
    let mut look = |what: &str, share: f64, bound: f64| {
        parts.push(Part { what: what.to_owned(), share, bound, full: share >= bound });
    };
    if let Some(refusal) = refused {
        look(&format!("encoder sessions ({refusal})"), 1.0, 1.0);
    }
    look("memory", load.memory, MEMORY);
    for gpu in &load.gpus {
        look(&format!("memory of GPU {}", gpu.index), gpu.memory.unwrap_or(0.0), MEMORY);
    }
    // What others take is not there for the streams.
    look("CPU cores", (load.busy_cores + load.others_cores) / load.cores.max(1.0), BUSY);
    for gpu in &load.gpus {
        let index = gpu.index;
        look(&format!("decoder of GPU {index}"), gpu.decoder.unwrap_or(0.0), BUSY);
        look(&format!("encoder of GPU {index}"), gpu.encoder.unwrap_or(0.0), BUSY);
        look(&format!("cores of GPU {index}"), gpu.sm.unwrap_or(0.0), BUSY);
    }
    look("model thread", load.model, BUSY);
    let busiest = |kind: &str| load.threads.get(kind).map_or(0.0, |threads| threads.busiest);
    look("decoder thread of a stream", busiest("decode"), THREAD);
    look("worker thread of a stream", busiest("worker"), THREAD);
    look("encoder thread of a stream", busiest("encode"), THREAD);

    let full = parts.iter().position(|part| part.full);
    let nearest = parts
        .iter()
        .enumerate()
        .max_by(|(_, a), (_, b)| (a.share / a.bound).total_cmp(&(b.share / b.bound)))
        .map_or(0, |(index, _)| index);
    let first = parts.remove(full.unwrap_or(nearest));
    Saturated { first, also: parts.into_iter().filter(|part| part.full).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::bench::machine::{GpuLoad, Threads};

    fn load() -> Load {
        Load { cores: 4.0, busy_cores: 1.0, memory: 0.3, model: 0.4, ..Load::default() }
    }

    fn threads(kind: &'static str, busiest: f64) -> Load {
        let threads = [(kind, Threads { cores: busiest, busiest })].into();
        Load { threads, ..load() }
    }

    #[test]
    fn each_part_is_named_where_it_alone_is_full() {
        let gpu = |gpu: GpuLoad| Load { gpus: vec![GpuLoad { index: 1, ..gpu }], ..load() };
        let half = GpuLoad { sm: Some(0.5), decoder: Some(0.5), encoder: Some(0.5), ..GpuLoad::default() };
        for (load, expected) in [
            (Load { busy_cores: 3.8, ..load() }, "CPU cores"),
            (Load { others_cores: 2.8, ..load() }, "CPU cores"),
            (Load { memory: 0.96, ..load() }, "memory"),
            (Load { model: 0.97, ..load() }, "model thread"),
            (threads("decode", 0.98), "decoder thread of a stream"),
            (threads("worker", 0.98), "worker thread of a stream"),
            (threads("encode", 0.98), "encoder thread of a stream"),
            (gpu(GpuLoad { decoder: Some(0.99), ..half.clone() }), "decoder of GPU 1"),
            (gpu(GpuLoad { encoder: Some(0.99), ..half.clone() }), "encoder of GPU 1"),
            (gpu(GpuLoad { sm: Some(0.99), ..half.clone() }), "cores of GPU 1"),
            (gpu(GpuLoad { memory: Some(0.99), ..half }), "memory of GPU 1"),
        ] {
            let found = saturated(&load, None);
            assert_eq!(found.first.what, expected, "{load:?}");
            assert!(found.first.full && found.also.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn what_the_others_wait_for_comes_first() {
        let found = saturated(&Load { busy_cores: 3.9, model: 0.97, ..load() }, None);
        assert_eq!((found.first.what.as_str(), found.also[0].what.as_str()), ("CPU cores", "model thread"));
        let found = saturated(&load(), Some("out of memory (10)"));
        assert!(found.first.what.contains("sessions") && found.first.what.contains("(10)"), "{found:?}");
    }

    #[test]
    fn where_nothing_is_full_the_fullest_is_named_and_said_not_to_be() {
        let found = saturated(&load(), None);
        assert_eq!(found.first.what, "model thread");
        assert!(!found.first.full && found.also.is_empty());
    }
}
