//! `telemetry`: every metric of the daemon, in one message.
//!
//! In: the registry's samples. Out: [`TelemetryMessage`]. Plain data; nothing fails.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::common::{Id, Name, Timestamp};
use crate::telemetry::{Labels, Sample, Value};

/// Every metric of the daemon at one time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "watchpost.telemetry/1")]
pub struct TelemetryMessage {
    /// Name and version of this payload.
    #[schemars(extend("const" = "watchpost.telemetry/1"))]
    pub schema: &'static str,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_: Name,
    /// Which start of the daemon this is.
    pub epoch: Id,
    /// Wall clock.
    pub time: Timestamp,
    /// The metrics, sorted by name and labels.
    pub metrics: Vec<MetricMessage>,
}

/// One metric.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MetricMessage {
    /// A number that only grows.
    Counter {
        /// Name.
        name: String,
        /// Labels.
        #[serde(skip_serializing_if = "Labels::is_empty")]
        labels: Labels,
        /// Value.
        value: u64,
    },
    /// A number that goes up and down.
    Gauge {
        /// Name.
        name: String,
        /// Labels.
        #[serde(skip_serializing_if = "Labels::is_empty")]
        labels: Labels,
        /// Value; null where it is no number.
        value: Option<f64>,
    },
    /// A distribution since the daemon's start.
    Histogram {
        /// Name.
        name: String,
        /// Labels.
        #[serde(skip_serializing_if = "Labels::is_empty")]
        labels: Labels,
        /// Values recorded.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Median.
        p50: f64,
        /// 99th percentile.
        p99: f64,
        /// Largest.
        max: f64,
    },
}

impl From<Sample> for MetricMessage {
    fn from(Sample { name, labels, value }: Sample) -> Self {
        match value {
            Value::Counter(value) => Self::Counter { name, labels, value },
            Value::Gauge(value) => Self::Gauge { name, labels, value: Some(value).filter(|v| v.is_finite()) },
            Value::Histogram(d) => Self::Histogram {
                name,
                labels,
                count: d.count,
                sum: d.sum,
                p50: d.p50,
                p99: d.p99,
                max: d.max,
            },
        }
    }
}

impl TelemetryMessage {
    /// The message for these samples, taken now.
    #[must_use]
    pub fn new(box_: &Arc<str>, epoch: u64, samples: Vec<Sample>) -> Self {
        Self {
            schema: "watchpost.telemetry/1",
            box_: box_.into(),
            epoch: Id(epoch),
            time: Timestamp::now(),
            metrics: samples.into_iter().map(MetricMessage::from).collect(),
        }
    }
}
