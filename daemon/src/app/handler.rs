//! What the daemon answers: on the control socket, and over MQTT.
//!
//! In: requests. Out: answers as JSON, or what went wrong, for a person to read. Owned by the control server and the
//! daemon's loop; each request runs on a thread where it may wait.

use std::sync::Arc;

use serde_json::{Value, json};

use super::daemon::Core;
use super::reload::apply;
use crate::control::{Answer, ControlRequest, Refusal};
use crate::publish::messages::Timestamp;
use crate::publish::{Action, Request, Target};
use crate::telemetry::progress::{Who, Work};
use crate::telemetry::secrets;

/// Answers requests on the control socket.
pub(super) struct Handler(pub(super) Arc<Core>);

impl crate::control::Handler for Handler {
    fn handle(&self, request: ControlRequest) -> Answer<'_> {
        let core = Arc::clone(&self.0);
        Box::pin(async move {
            // Streams may take a while to stop; the control runtime must not wait for them.
            let pulse = core.progress.worker(Who::named("an answer on the control socket"));
            pulse.begin(Work::Answer);
            let answered = tokio::task::spawn_blocking(move || {
                let _until_done = pulse;
                answer_control(&core, &request)
                    .map_err(|no| Refusal { text: secrets::scrub(&no.text).into_owned(), ..no })
            });
            answered.await.map_err(|error| Refusal::from(format!("internal error: {error}")))?
        })
    }
}

fn answer_control(core: &Core, request: &ControlRequest) -> Result<Value, Refusal> {
    let text = |key: &str| {
        request.arguments[key]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("the request has no \"{key}\""))
    };
    match request.command.as_str() {
        "status" => Ok(status_of(core)),
        "reload" => apply(core)
            .map(|applied| json!(applied))
            .map_err(|refused| Refusal { text: refused.text, configuration: refused.wrong }),
        // How the command line finds the daemon whose configuration has moved its socket.
        "config" => Ok(json!({ "file": core.config.as_ref().and_then(|file| file.canonicalize().ok()) })),
        "plugins" => Ok(super::plugin_list::of_daemon(&core.settings(), &core.host)),
        "command" => Ok(core.supervisor.command(
            &text("stream")?,
            &text("entry")?,
            &text("name")?,
            request.arguments["arguments"].clone(),
        )?),
        "enable" | "disable" if request.arguments.get("plugin").is_some() => {
            core.host.set_enabled(&text("plugin")?, request.command == "enable")?;
            Ok(Value::Null)
        }
        "enable" | "disable" => {
            core.supervisor.set_enabled(&text("stream")?, request.command == "enable")?;
            Ok(Value::Null)
        }
        other => Err(format!(
            "unknown command \"{other}\"; known: status, reload, config, plugins, command, enable, disable"
        )
        .into()),
    }
}

pub(super) fn status_of(core: &Core) -> Value {
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
        // Why the configuration on disk is not the one in force.
        "refused": core.refused(),
        "mqtt": core.publish.status(),
        "http": core.page.status(),
        "gpu": core.gpus().seen(),
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
        (Target::Plugin(plugin), Action::Enable(enabled)) => {
            core.host.set_enabled(&plugin, enabled).map(|()| json!({ "enabled": enabled }))
        }
        (Target::Plugin(plugin), Action::Command { command, arguments, .. }) => {
            every_instance(core, &plugin, &command, &arguments)
        }
        (Target::Box, Action::Command { command, .. }) if command == "reload" => {
            apply(core).map(|applied| json!(applied)).map_err(|refused| refused.text)
        }
        (Target::Box, Action::Command { command, .. }) if command == "status" => Ok(status_of(core)),
        (Target::Box, Action::Command { command, .. }) => {
            Err(format!("the box knows no command \"{command}\"; it knows reload and status"))
        }
        (Target::Box, Action::Enable(_)) => {
            Err("the box cannot be turned on or off; a stream or a plugin can".into())
        }
    };
    match result {
        Ok(value) => request.reply.ok(value),
        Err(error) => request.reply.error(secrets::scrub(&error)),
    }
}

/// A command for every instance of a plugin: the answers by stream and entry. One that fails does not keep the others
/// from it; where all fail, so does the command.
fn every_instance(core: &Core, plugin: &str, command: &str, arguments: &Value) -> Result<Value, String> {
    let entries: Vec<_> = core.host.status().into_iter().filter(|entry| entry.plugin == plugin).collect();
    if entries.is_empty() {
        return Err(format!("no stream runs a plugin \"{plugin}\""));
    }
    let (mut values, mut errors) = (serde_json::Map::new(), Vec::new());
    for entry in entries {
        let name = format!("{}/{}", entry.stream, entry.entry);
        match core.supervisor.command(&entry.stream, &entry.entry, command, arguments.clone()) {
            Ok(value) => _ = values.insert(name, json!({ "ok": true, "value": value })),
            Err(error) => {
                errors.push(format!("{name}: {error}"));
                values.insert(name, json!({ "ok": false, "error": error }));
            }
        }
    }
    if errors.len() == values.len() { Err(errors.join("; ")) } else { Ok(values.into()) }
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
