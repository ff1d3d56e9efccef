//! What the daemon answers: on the control socket, and over MQTT.
//!
//! In: requests. Out: answers as JSON, or what went wrong, for a person to read. Owned by the control server and the
//! daemon's loop; each request runs on a thread where it may wait.

use std::sync::Arc;

use serde_json::{Value, json};

use super::daemon::Core;
use super::reload::apply;
use crate::control::{Answer, ControlRequest};
use crate::publish::messages::Timestamp;
use crate::publish::{Action, Request, Target};

/// Answers requests on the control socket.
pub(super) struct Handler(pub(super) Arc<Core>);

impl crate::control::Handler for Handler {
    fn handle(&self, request: ControlRequest) -> Answer<'_> {
        let core = Arc::clone(&self.0);
        Box::pin(async move {
            // Streams may take a while to stop; the control runtime must not wait for them.
            let answered = tokio::task::spawn_blocking(move || answer_control(&core, &request));
            answered.await.map_err(|error| format!("internal error: {error}"))?
        })
    }
}

fn answer_control(core: &Core, request: &ControlRequest) -> Result<Value, String> {
    let text = |key: &str| {
        request.arguments[key]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("the request has no \"{key}\""))
    };
    match request.command.as_str() {
        "status" => Ok(status_of(core)),
        "reload" => apply(core).map(|applied| json!(applied)),
        "plugins" => Ok(json!({ "plugins": core.host.plugins(), "entries": core.host.status() })),
        "command" => core.supervisor.command(
            &text("stream")?,
            &text("entry")?,
            &text("name")?,
            request.arguments["arguments"].clone(),
        ),
        "enable" | "disable" => {
            core.supervisor.set_enabled(&text("stream")?, request.command == "enable").map(|()| Value::Null)
        }
        other => Err(format!(
            "unknown command \"{other}\"; known: status, reload, plugins, command, enable, disable"
        )),
    }
}

fn status_of(core: &Core) -> Value {
    let now = Timestamp::now();
    let models = core.supervisor.models().into_iter().map(|model| {
        let mut value = json!(model);
        if let Some(progress) = model.progress(now) {
            value["progress"] = progress.into();
        }
        value
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "box": core.settings().box_.name,
        "since": core.since,
        "mqtt": core.publish.status(),
        "gpu": core.gpus.seen(),
        "record": core.record.status(),
        "models": models.collect::<Vec<_>>(),
        "streams": core.supervisor.report(),
        "plugins": core.host.plugins(),
    })
}

/// Answers a request that came over MQTT.
pub(super) fn answer(core: &Core, request: Request) {
    let result = match (request.target, request.action) {
        (Target::Stream(stream), Action::Enable(enabled)) => {
            core.supervisor.set_enabled(&stream, enabled).map(|()| json!({ "enabled": enabled }))
        }
        (Target::Stream(stream), Action::Command { command, entry, arguments }) => entry
            .map_or_else(|| entry_for(core, &stream, &command), Ok)
            .and_then(|entry| core.supervisor.command(&stream, &entry, &command, arguments)),
        (Target::Box, Action::Command { command, .. }) if command == "reload" => {
            apply(core).map(|applied| json!(applied))
        }
        (Target::Box, Action::Command { command, .. }) if command == "status" => Ok(status_of(core)),
        (target, Action::Command { command, .. }) => {
            Err(format!("{target} knows no command \"{command}\"; the box knows reload and status"))
        }
        (target, Action::Enable(_)) => Err(format!("{target} cannot be turned on or off; a stream can")),
    };
    match result {
        Ok(value) => request.reply.ok(value),
        Err(error) => request.reply.error(error),
    }
}

/// The one entry of a stream whose plugin knows a command.
fn entry_for(core: &Core, stream: &str, command: &str) -> Result<String, String> {
    let plugins = core.host.plugins();
    let knows = |plugin: &str| {
        plugins.iter().any(|info| info.name == plugin && info.commands.iter().any(|known| known == command))
    };
    let mut entries: Vec<String> = core
        .host
        .status()
        .into_iter()
        .filter(|entry| entry.stream == stream && knows(&entry.plugin))
        .map(|entry| entry.entry)
        .collect();
    match entries.len() {
        1 => Ok(entries.remove(0)),
        0 => Err(format!("no plugin of stream {stream} knows the command \"{command}\"")),
        _ => Err(format!(
            "several plugins of stream {stream} know \"{command}\"; name one: {}",
            entries.join(", ")
        )),
    }
}
