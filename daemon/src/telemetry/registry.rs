//! The list of all metrics of one daemon, by name and labels.
//!
//! In: [`Registry::counter`], [`Registry::gauge`], [`Registry::histogram`], which find or make a metric. Out:
//! [`Registry::snapshot`]. `app` owns it; rooms hold clones. Recording never takes its lock, only making a
//! handle and reading do. A clash of kinds is logged and answered with a handle that nobody reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::progress::Progress;
use super::{Counter, Distribution, Gauge, Histogram};

/// Labels, sorted by name.
pub type Labels = BTreeMap<String, String>;

/// A handle of any kind.
#[derive(Debug, Clone)]
pub enum Metric {
    /// A number that only grows.
    Counter(Counter),
    /// A number that goes up and down.
    Gauge(Gauge),
    /// A distribution.
    Histogram(Histogram),
}

/// All metrics of one daemon, and the progress of its workers. Clones are one registry.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<BTreeMap<(String, Labels), Metric>>>, Progress);

/// One metric's value at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name, in Prometheus' way: `publish_outbox_dropped_total`, `infer_seconds`.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Value.
    pub value: Value,
}

/// A metric's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram.
    Histogram(Distribution),
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the daemon's workers have in hand.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.1
    }

    /// The counter of this name and these labels; made where there is none.
    #[must_use]
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Counter {
        let made = Counter::new();
        match self.find_or_insert(name, labels, Metric::Counter(made.clone())) {
            Metric::Counter(found) => found,
            _ => clash(name, made),
        }
    }

    /// The gauge of this name and these labels; made where there is none.
    #[must_use]
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Gauge {
        let made = Gauge::new();
        match self.find_or_insert(name, labels, Metric::Gauge(made.clone())) {
            Metric::Gauge(found) => found,
            _ => clash(name, made),
        }
    }

    /// The histogram of this name and these labels; made where there is none.
    #[must_use]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        let made = Histogram::new();
        match self.find_or_insert(name, labels, Metric::Histogram(made.clone())) {
            Metric::Histogram(found) => found,
            _ => clash(name, made),
        }
    }

    /// Forgets every metric that has this label, such as those of a stream that was removed. Handles that
    /// are still held go on counting, unread.
    pub fn forget(&self, label: &str, value: &str) {
        self.lock().retain(|(_, labels), _| labels.get(label).is_none_or(|found| found != value));
    }

    /// The value of every metric, sorted by name and labels.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Sample> {
        let metrics = self.lock().clone();
        let sample = |((name, labels), metric)| Sample { name, labels, value: read(&metric) };
        metrics.into_iter().map(sample).collect()
    }

    /// A handle of every metric, sorted by name and labels: for who wants more of a histogram than a [`Sample`] has.
    #[must_use]
    pub fn metrics(&self) -> Vec<(String, Labels, Metric)> {
        let metrics = self.lock().clone();
        metrics.into_iter().map(|((name, labels), metric)| (name, labels, metric)).collect()
    }

    /// The value of one metric; `None` where there is none.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<Value> {
        self.lock().get(&key(name, labels)).map(read)
    }

    fn find_or_insert(&self, name: &str, labels: &[(&str, &str)], made: Metric) -> Metric {
        self.lock().entry(key(name, labels)).or_insert(made).clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Labels), Metric>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(name: &str, labels: &[(&str, &str)]) -> (String, Labels) {
    (name.to_owned(), labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

fn read(metric: &Metric) -> Value {
    match metric {
        Metric::Counter(counter) => Value::Counter(counter.get()),
        Metric::Gauge(gauge) => Value::Gauge(gauge.get()),
        Metric::Histogram(histogram) => Value::Histogram(histogram.distribution()),
    }
}

fn clash<T>(name: &str, unread: T) -> T {
    tracing::error!(metric = name, "a metric of this name and another kind exists; this one is not recorded");
    unread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_one_name_and_labels_are_one_metric() {
        let registry = Registry::new();
        registry.counter("frames_total", &[("stream", "a")]).add(2);
        registry.clone().counter("frames_total", &[("stream", "a")]).inc();
        registry.counter("frames_total", &[("stream", "b")]).inc();
        registry.gauge("depth", &[]).set(1.5);
        registry.gauge("depth", &[]).add(-1.0);
        registry.histogram("call_seconds", &[]).record(0.25);
        assert_eq!(registry.value("frames_total", &[("stream", "a")]), Some(Value::Counter(3)));
        let names: Vec<_> = registry.snapshot().into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["call_seconds", "depth", "frames_total", "frames_total"]);
        assert_eq!(registry.value("depth", &[]), Some(Value::Gauge(0.5)));
        registry.forget("stream", "a");
        assert_eq!(registry.value("frames_total", &[("stream", "a")]), None);
        assert_eq!(registry.value("frames_total", &[("stream", "b")]), Some(Value::Counter(1)));
    }

    #[test]
    fn a_clash_of_kinds_keeps_the_first() {
        let registry = Registry::new();
        registry.counter("x", &[]).add(7);
        registry.gauge("x", &[]).set(1.0);
        assert_eq!(registry.value("x", &[]), Some(Value::Counter(7)));
    }
}
