//! Copies between host and GPU, as the lane counts them: by edge, a frame.
//!
//! In: a registry of metrics that CUDA lanes count in. Out: how often each edge copied, or how often a frame between two
//! looks. `upload` and `download` are frames; `tables` are what kernels are told, `candidates` what models found. On the
//! CPU there are none. Pure.

use std::collections::BTreeMap;

use crate::telemetry::{Registry, Value};

/// Copies a frame, by edge.
pub type Copies = BTreeMap<String, f64>;

/// What has been counted so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counted(BTreeMap<String, u64>);

impl Counted {
    /// Of all streams.
    pub(super) fn now(registry: &Registry) -> Self {
        let mut all = BTreeMap::new();
        for sample in registry.snapshot() {
            if let (Value::Counter(count), Some(edge)) = (sample.value, sample.labels.get("edge"))
                && sample.name == "gpu_copies_total"
            {
                *all.entry(edge.clone()).or_default() += count;
            }
        }
        Self(all)
    }

    /// Copies a frame since an earlier look.
    pub(super) fn since(&self, earlier: &Self, frames: u64) -> Copies {
        let before = |edge| earlier.0.get(edge).copied().unwrap_or(0);
        let each = self.0.iter().map(|(edge, count)| (edge, count.saturating_sub(before(edge))));
        each.map(|(edge, count)| (edge.clone(), count as f64 / frames.max(1) as f64)).collect()
    }
}

/// In words: "upload 1.00, download 1.00"; the edges that copied nothing are left out.
pub(super) fn words(copies: &Copies) -> String {
    let some = copies.iter().filter(|(_, count)| **count > 0.0);
    let each: Vec<String> = some.map(|(edge, count)| format!("{edge} {count:.2}")).collect();
    if each.is_empty() { "none".into() } else { each.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_counted_by_edge_over_all_streams_and_a_frame() {
        let registry = Registry::new();
        let counter =
            |edge, stream| registry.counter("gpu_copies_total", &[("edge", edge), ("stream", stream)]);
        counter("upload", "a").add(7);
        let before = Counted::now(&registry);
        counter("upload", "a").add(6);
        counter("upload", "b").add(4);
        counter("download", "b").add(0);
        registry.counter("gpu_copied_bytes_total", &[("edge", "upload")]).add(1000);
        let copies = Counted::now(&registry).since(&before, 10);
        assert_eq!(copies, Copies::from([("upload".into(), 1.0), ("download".into(), 0.0)]));
        assert_eq!(words(&copies), "upload 1.00");
        assert_eq!(words(&Copies::new()), "none");
    }
}
