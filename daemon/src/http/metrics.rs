//! `/metrics`: every metric in Prometheus' text format 0.0.4, or as OpenMetrics 1.0 for who asks for that.
//!
//! In: the registry. Out: text. Names get `watchpost_` before them; what they mean is in `telemetry::catalogue`.
//! Histograms have buckets two to a doubling, from a microsecond to half a minute. Cannot fail.

use std::fmt::Write;
use std::sync::LazyLock;

use crate::telemetry::catalogue::describe;
use crate::telemetry::{Histogram, Labels, Metric, Registry};

/// Upper bounds of the buckets, seconds: 2^-20, 1.5 × 2^-20, 2^-19, ... 2^5. Each is a border of the histogram's own
/// buckets too, so that the counts are exact.
static BOUNDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let mut bounds: Vec<f64> =
        (-20..5).flat_map(|exponent| [2f64.powi(exponent), 1.5 * 2f64.powi(exponent)]).collect();
    bounds.push(2f64.powi(5));
    bounds
});

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for.
    pub(super) fn wanted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics.
pub(super) fn text(registry: &Registry, format: Format) -> String {
    let mut text = String::with_capacity(64 << 10);
    let mut last = String::new();
    for (name, labels, metric) in registry.metrics() {
        let full = format!("watchpost_{name}");
        if last != name {
            head(&mut text, &full, &name, &metric, format);
            last = name;
        }
        match metric {
            Metric::Counter(counter) => line(&mut text, &full, &labels, None, &counter.get().to_string()),
            Metric::Gauge(gauge) => line(&mut text, &full, &labels, None, &number(gauge.get())),
            Metric::Histogram(histogram) => buckets(&mut text, &full, &labels, &histogram),
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn head(text: &mut String, full: &str, name: &str, metric: &Metric, format: Format) {
    let kind = match metric {
        Metric::Counter(_) => "counter",
        Metric::Gauge(_) => "gauge",
        Metric::Histogram(_) => "histogram",
    };
    // In OpenMetrics the family of a counter has the name without its ending.
    let family = match format {
        Format::OpenMetrics => full.strip_suffix("_total").unwrap_or(full),
        Format::Prometheus => full,
    };
    if let Some(described) = describe(name) {
        let _ = writeln!(text, "# HELP {family} {}.", described.help.replace('\\', "\\\\"));
    }
    let _ = writeln!(text, "# TYPE {family} {kind}");
    let units = ["seconds", "bytes", "ratio", "celsius", "watts"];
    if format == Format::OpenMetrics
        && let Some(unit) = units.iter().find(|unit| family.ends_with(&format!("_{unit}")))
    {
        let _ = writeln!(text, "# UNIT {family} {unit}");
    }
}

fn buckets(text: &mut String, full: &str, labels: &Labels, histogram: &Histogram) {
    // The sum first: a value that comes in between is in the counts, and the mean errs little.
    let sum = histogram.sum();
    let counts = histogram.counts();
    let total = counts.total().to_string();
    let name = format!("{full}_bucket");
    for (bound, below) in BOUNDS.iter().zip(counts.below(&BOUNDS)) {
        line(text, &name, labels, Some(&number(*bound)), &below.to_string());
    }
    line(text, &name, labels, Some("+Inf"), &total);
    line(text, &format!("{full}_sum"), labels, None, &number(sum));
    line(text, &format!("{full}_count"), labels, None, &total);
}

fn line(text: &mut String, name: &str, labels: &Labels, bound: Option<&str>, value: &str) {
    text.push_str(name);
    let pairs = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (index, (key, value)) in pairs.chain(bound.map(|bound| ("le", bound))).enumerate() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{}{key}=\"{value}\"", if index == 0 { '{' } else { ',' });
    }
    if !labels.is_empty() || bound.is_some() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

/// A number as both formats write it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        format!("{value:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        let registry = Registry::new();
        registry.counter("stream_frames_total", &[("stream", "a")]).add(7);
        registry.counter("stream_frames_total", &[("stream", "q\"\\\n")]).inc();
        registry.gauge("publish_connected", &[]).set(1.0);
        registry.gauge("gpu_power_watts", &[("gpu", "0")]).set(f64::NAN);
        let histogram = registry.histogram("infer_seconds", &[("model", "people")]);
        for value in [0.0001, 0.009, 0.011, 100.0] {
            histogram.record(value);
        }
        registry
    }

    #[test]
    fn every_kind_is_written() {
        let text = text(&registry(), Format::Prometheus);
        for line in [
            "# TYPE watchpost_stream_frames_total counter",
            "# HELP watchpost_stream_frames_total Frames that left the stream's worker.",
            "watchpost_stream_frames_total{stream=\"a\"} 7",
            "watchpost_stream_frames_total{stream=\"q\\\"\\\\\\n\"} 1",
            "watchpost_publish_connected 1.0",
            "watchpost_gpu_power_watts{gpu=\"0\"} NaN",
            "watchpost_infer_seconds_bucket{model=\"people\",le=\"0.0078125\"} 1",
            "watchpost_infer_seconds_bucket{model=\"people\",le=\"0.01171875\"} 3",
            "watchpost_infer_seconds_bucket{model=\"people\",le=\"32.0\"} 3",
            "watchpost_infer_seconds_bucket{model=\"people\",le=\"+Inf\"} 4",
            "watchpost_infer_seconds_count{model=\"people\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert_eq!(text.matches("# TYPE watchpost_stream_frames_total").count(), 1);
        assert!(text.ends_with('\n') && !text.contains("# EOF"));
    }

    #[test]
    fn openmetrics_names_families_and_units() {
        let text = text(&registry(), Format::OpenMetrics);
        for line in [
            "# TYPE watchpost_stream_frames counter",
            "watchpost_stream_frames_total{stream=\"a\"} 7",
            "# UNIT watchpost_infer_seconds seconds",
            "# UNIT watchpost_gpu_power_watts watts",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(Format::wanted("application/openmetrics-text;version=1.0.0,*/*"), Format::OpenMetrics);
        assert_eq!(Format::wanted("*/*"), Format::Prometheus);
    }

    #[test]
    fn buckets_only_grow() {
        let text = text(&registry(), Format::Prometheus);
        let counts: Vec<u64> = text
            .lines()
            .filter(|line| line.starts_with("watchpost_infer_seconds_bucket"))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(counts.len(), BOUNDS.len() + 1);
        assert!(counts.is_sorted());
        assert!(BOUNDS.is_sorted());
    }
}
