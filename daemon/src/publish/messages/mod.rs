//! The payloads of every topic, as types: JSON, UTF-8, each with its `schema`.
//!
//! In: what the daemon knows. Out: bytes of one JSON object, and a JSON Schema for each (see
//! [`super::schemas`]). Plain data; nothing fails. A version in `schema` ("watchpost.event/1") only ever
//! gains optional fields; whatever else changes gets a new number. 64-bit ids are strings, since many JSON
//! readers keep numbers as doubles. Bounds are pixels of the source: x, y, width, height.

mod alert;
mod command;
mod common;
mod event;
mod model;
mod objects;
mod status;
mod telemetry;

pub use alert::{AlertMessage, AlertState};
pub use command::{CommandPayload, ResultMessage, SetPayload};
pub use common::{Id, Name, Timestamp};
pub use event::{EventMessage, EventRecord, StateMessage};
pub use model::{ModelEngine, ModelEngineState, ModelStatus};
pub use objects::{Labels, ObjectMessage, ObjectsMessage, ObjectsRecord};
pub use status::{
    BoxState, BoxStatus, BoxStatusMessage, Edge, InstanceState, OutboxReport, OutputState, OutputStatus,
    PluginInstance, PluginState, PluginStatus, PluginStatusMessage, RecordReport, RecordState, StreamState,
    StreamStatus, StreamStatusMessage,
};
pub use telemetry::{MetricMessage, TelemetryMessage};
