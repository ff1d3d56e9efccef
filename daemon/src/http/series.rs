//! The last minutes of the figures that the page draws as lines.
//!
//! In: the registry, looked at every [`STEP`]. Out: JSON, one list a figure, as long for each, with null where there was
//! nothing to measure. Owned by the page. Cannot fail.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::telemetry::{Counts, Metric, Registry, fields};

/// Time between two looks.
pub(super) const STEP: Duration = Duration::from_secs(2);
/// Looks that are kept: five minutes.
const KEPT: usize = 150;

/// Figures by group (`streams`, `models`, `box`), thing and figure.
type Group = BTreeMap<String, BTreeMap<&'static str, VecDeque<Option<f64>>>>;

/// The last minutes.
#[derive(Debug, Default)]
pub(super) struct Series {
    looks: usize,
    /// When the last look was, milliseconds since 1970.
    time: u64,
    streams: Group,
    models: Group,
    box_: Group,
    before: Option<Before>,
}

/// What was seen at the last look.
#[derive(Debug)]
struct Before {
    at: Instant,
    counters: BTreeMap<(String, String), u64>,
    histograms: BTreeMap<(String, String), Counts>,
}

impl Series {
    /// Looks once.
    pub(super) fn look(&mut self, registry: &Registry) {
        let now = Instant::now();
        let mut seen = Before { at: now, counters: BTreeMap::new(), histograms: BTreeMap::new() };
        self.looks = (self.looks + 1).min(KEPT);
        self.time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let before = self.before.take();
        for (name, labels, metric) in registry.metrics() {
            let of = |label: &str| labels.get(label).cloned().unwrap_or_default();
            let (group, thing, figures) = match name.as_str() {
                "stream_frames_total" => (&mut self.streams, of(fields::STREAM), ["fps", ""]),
                "stream_inference_skipped_total" => (&mut self.streams, of(fields::STREAM), ["skipped", ""]),
                "stream_latency_seconds" => (&mut self.streams, of(fields::STREAM), ["p50_ms", "p99_ms"]),
                "infer_frames_total" => (&mut self.models, of(fields::MODEL), ["rate", ""]),
                "infer_seconds" => (&mut self.models, of(fields::MODEL), ["p50_ms", "p99_ms"]),
                "box_cpu_ratio" => (&mut self.box_, "box".into(), ["cpu", ""]),
                "box_memory_used_bytes" => (&mut self.box_, "box".into(), ["memory", ""]),
                "daemon_cpu_ratio" => (&mut self.box_, "box".into(), ["daemon_cpu", ""]),
                "publish_outbox_pending" => (&mut self.box_, "box".into(), ["outbox", ""]),
                "gpu_sm_ratio" => (&mut self.box_, format!("gpu{}", of("gpu")), ["sm", ""]),
                _ => continue,
            };
            let key = (name, thing.clone());
            let mut put = |figure: &'static str, value: Option<f64>| {
                let list = group.entry(thing.clone()).or_default().entry(figure).or_default();
                // What is new has nothing to show for the looks before, this one not counted.
                while list.len() + 1 < self.looks {
                    list.push_back(None);
                }
                list.push_back(value.filter(|value| value.is_finite()));
                while list.len() > KEPT {
                    list.pop_front();
                }
            };
            match metric {
                Metric::Gauge(gauge) => put(figures[0], Some(gauge.get())),
                Metric::Counter(counter) => {
                    let count = counter.get();
                    let rate = before.as_ref().and_then(|before| {
                        let passed = now.duration_since(before.at).as_secs_f64();
                        let came = count.checked_sub(*before.counters.get(&key)?)?;
                        (passed > 0.0).then(|| came as f64 / passed)
                    });
                    put(figures[0], rate);
                    seen.counters.insert(key, count);
                }
                Metric::Histogram(histogram) => {
                    let counts = histogram.counts();
                    let came =
                        before.as_ref().and_then(|before| Some(counts.since(before.histograms.get(&key)?)));
                    for (figure, q) in figures.into_iter().zip([0.5, 0.99]) {
                        put(figure, came.as_ref().and_then(|came| came.quantile(q)).map(|time| time * 1e3));
                    }
                    seen.histograms.insert(key, counts);
                }
            }
        }
        for group in [&mut self.streams, &mut self.models, &mut self.box_] {
            forget(group, self.looks);
        }
        self.before = Some(seen);
    }

    /// Everything that is known.
    pub(super) fn value(&self) -> Value {
        json!({
            "step": STEP.as_secs(),
            "time": self.time,
            "length": self.looks,
            "streams": shown(&self.streams),
            "models": shown(&self.models),
            "box": shown(&self.box_),
        })
    }
}

/// Things that were not seen at this look are gone: their lists are shorter than all others.
fn forget(group: &mut Group, looks: usize) {
    for figures in group.values_mut() {
        figures.retain(|_, list| list.len() >= looks);
    }
    group.retain(|_, figures| !figures.is_empty());
}

fn shown(group: &Group) -> Value {
    let round = |value: f64| (value * 100.0).round() / 100.0;
    let things = group.iter().map(|(thing, figures)| {
        let lists = figures.iter().map(|(figure, list)| {
            let list: Vec<Option<f64>> = list.iter().map(|value| value.map(round)).collect();
            ((*figure).to_owned(), json!(list))
        });
        (thing.clone(), Value::Object(lists.collect()))
    });
    Value::Object(things.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_latencies_are_of_the_time_between_two_looks() {
        let registry = Registry::new();
        let mut series = Series::default();
        let frames = registry.counter("stream_frames_total", &[("stream", "gate")]);
        let latency = registry.histogram("stream_latency_seconds", &[("stream", "gate")]);
        latency.record(10.0);
        series.look(&registry);
        frames.add(50);
        latency.record(0.02);
        series.look(&registry);
        let gate = &series.value()["streams"]["gate"];
        assert_eq!(gate["fps"].as_array().unwrap().len(), 2);
        assert!(gate["fps"][0].is_null() && gate["fps"][1].as_f64().unwrap() > 0.0, "{gate}");
        let p99 = gate["p99_ms"][1].as_f64().unwrap();
        assert!((p99 / 20.0 - 1.0).abs() < 0.07, "not the 10 s from before: {p99}");
        assert!(gate["p50_ms"][0].is_null());

        registry.gauge("box_cpu_ratio", &[]).set(0.25);
        registry.gauge("gpu_sm_ratio", &[("gpu", "0")]).set(f64::NAN);
        series.look(&registry);
        let value = series.value();
        assert_eq!(value["box"]["box"]["cpu"], json!([null, null, 0.25]), "new ones begin late");
        assert_eq!(value["box"]["gpu0"]["sm"], json!([null, null, null]));
        assert!(value["streams"]["gate"]["p50_ms"][2].is_null(), "no frame came");
        registry.forget("stream", "gate");
        series.look(&registry);
        assert!(series.value()["streams"].as_object().unwrap().is_empty());
    }

    #[test]
    fn only_the_last_minutes_are_kept() {
        let registry = Registry::new();
        registry.gauge("box_cpu_ratio", &[]).set(0.5);
        let mut series = Series::default();
        for _ in 0..KEPT + 10 {
            series.look(&registry);
        }
        let value = series.value();
        assert_eq!(value["length"], KEPT);
        assert_eq!(value["box"]["box"]["cpu"].as_array().unwrap().len(), KEPT);
    }
}
