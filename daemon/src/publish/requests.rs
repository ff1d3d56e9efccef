//! Requests that come in: `.../set` and `.../command`.
//!
//! In: topic and payload from anybody who may publish. Out: a [`Request`] for `app`, with a [`Reply`] that
//! publishes the answer on `.../result`. A request that nobody can understand is answered here, with what was
//! expected. A reply that is dropped unanswered says so; no request goes without an answer.

use std::sync::Arc;

use serde_json::Value;

use super::current::Current;
use super::messages::{CommandPayload, ResultMessage, SetPayload, Timestamp};
use super::shared::Shared;
use super::topics::{Target, Verb};

/// What somebody asks for.
#[derive(Debug)]
pub struct Request {
    /// What it is about.
    pub target: Target,
    /// What shall be done.
    pub action: Action,
    /// Takes the answer.
    pub reply: Reply,
}

/// What shall be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Run, or do not.
    Enable(bool),
    /// A command.
    Command {
        /// Its name.
        command: String,
        /// The plugin's entry that shall have it.
        entry: Option<String>,
        /// Its arguments.
        arguments: Value,
    },
}

/// Takes the answer to one request.
#[derive(Debug)]
pub struct Reply(Option<Pending>);

#[derive(Debug)]
struct Pending {
    /// As it was asked: whoever asked listens there.
    shared: Arc<Shared>,
    current: Arc<Current>,
    target: Target,
    id: Option<String>,
    command: String,
}

impl Reply {
    /// It was done, and gave this back.
    pub fn ok(mut self, value: Value) {
        if let Some(pending) = self.0.take() {
            pending.send(Ok(value));
        }
    }

    /// It was not done, for this reason.
    pub fn error(mut self, error: impl std::fmt::Display) {
        if let Some(pending) = self.0.take() {
            pending.send(Err(error.to_string()));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(pending) = self.0.take() {
            pending.send(Err("nobody took the request; the daemon may be stopping".into()));
        }
    }
}

impl Pending {
    fn send(self, result: Result<Value, String>) {
        let topic = self.shared.settings.topics.result(&self.target);
        let (ok, value, error) = match result {
            Ok(value) => (true, Some(value), None),
            Err(error) => (false, None, Some(error)),
        };
        let message = ResultMessage {
            schema: "watchpost.result/1",
            box_: (&self.shared.settings.box_).into(),
            id: self.id,
            command: self.command,
            ok,
            value,
            error,
            time: Timestamp::now(),
        };
        self.current.now().live.answer(topic, super::shared::json(&message));
    }
}

/// Reads a request. What cannot be read is answered, and `None`.
pub(super) fn read(
    shared: &Arc<Shared>,
    current: &Arc<Current>,
    topic: &str,
    payload: &[u8],
    retained: bool,
) -> Option<Request> {
    let (target, verb) = shared.settings.topics.parse(topic)?;
    let understood = match verb {
        Verb::Set => set(payload),
        Verb::Command => command(payload),
    };
    let (id, understood) = understood;
    let command = match &understood {
        Ok(Action::Command { command, .. }) => command.clone(),
        _ if verb == Verb::Set => "set".into(),
        _ => String::new(),
    };
    let pending = Pending {
        shared: Arc::clone(shared),
        current: Arc::clone(current),
        target: target.clone(),
        id,
        command,
    };
    let reply = Reply(Some(pending));
    if retained {
        tracing::warn!(topic, "a retained request is refused");
        reply.error("the request was retained and would be carried out again at each connection; publish it without the retain flag, and clear the topic");
        return None;
    }
    match understood {
        Ok(action) => Some(Request { target, action, reply }),
        Err(error) => {
            tracing::warn!(topic, error, "a request cannot be read");
            reply.error(error);
            None
        }
    }
}

/// The request's id, also where the rest of it cannot be read.
fn id(payload: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    value.get("id")?.as_str().map(str::to_owned)
}

fn set(payload: &[u8]) -> (Option<String>, Result<Action, String>) {
    match payload.trim_ascii() {
        b"enable" => return (None, Ok(Action::Enable(true))),
        b"disable" => return (None, Ok(Action::Enable(false))),
        _ => {}
    }
    let read = serde_json::from_slice::<SetPayload>(payload);
    let expected = r#"expected {"enabled":true}, {"enabled":false}, enable or disable"#;
    (id(payload), read.map(|set| Action::Enable(set.enabled)).map_err(|error| format!("{error}; {expected}")))
}

fn command(payload: &[u8]) -> (Option<String>, Result<Action, String>) {
    let read = serde_json::from_slice::<CommandPayload>(payload);
    let expected = r#"expected {"command":"NAME","arguments":{...}}"#;
    let action = read.map_err(|error| format!("{error}; {expected}")).map(|request| Action::Command {
        command: request.command,
        entry: request.entry,
        arguments: request.arguments,
    });
    (id(payload), action)
}
