//! Server and client on a real socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::*;

struct Echo;

impl Handler for Echo {
    fn handle(&self, request: ControlRequest) -> Answer<'_> {
        Box::pin(async move {
            match request.command.as_str() {
                "echo" => Ok(request.arguments),
                "hang" => std::future::pending().await,
                "reload" => Err(Refusal { text: "x.toml:3: wrong".into(), configuration: true }),
                other => Err(format!("no command {other}").into()),
            }
        })
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn requests_are_answered_in_order_on_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket(&folder.path().join("run"));
    let runtime = runtime();
    let server = Server::start(&path, Arc::new(Echo), runtime.handle()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut client = Client::connect(&path).unwrap();
    let large = json!({ "text": "x".repeat(300_000) });
    assert_eq!(client.call("echo", large.clone(), LONG).unwrap(), large);
    assert_eq!(client.call("echo", Value::Null, LONG).unwrap(), Value::Null);
    let error = client.call("fly", Value::Null, LONG).unwrap_err();
    assert_eq!(error.to_string(), "no command fly");
    let error = client.call("reload", Value::Null, LONG).unwrap_err();
    assert!(matches!(error, Error::Configuration(text) if text == "x.toml:3: wrong"));

    let mut raw = std::os::unix::net::UnixStream::connect(&path).unwrap();
    raw.write_all(b"status\n").unwrap();
    let mut answer = [0; 64];
    let count = raw.read(&mut answer).unwrap();
    assert!(answer[..count].starts_with(b"{\"ok\":false,\"error\":\"the request cannot be read"));

    runtime.block_on(server.stop());
    assert!(!path.exists());
    assert!(matches!(client.call("echo", Value::Null, LONG), Err(Error::Broken { .. })));
    assert!(matches!(Client::connect(&path), Err(Error::NotRunning(_))));
}

#[test]
fn a_handler_that_hangs_is_given_up_on_and_does_not_hold_up_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket(folder.path());
    let runtime = runtime();
    let server = Server::start(&path, Arc::new(Echo), runtime.handle()).unwrap();
    let mut client = Client::connect(&path).unwrap();
    let error = client.call("hang", Value::Null, Duration::from_millis(30)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    runtime.block_on(server.stop());
}

#[test]
fn a_second_daemon_is_refused_and_a_stale_socket_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket(folder.path());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left as a killed daemon leaves it");
    assert!(Client::connect(&path).unwrap_err().to_string().contains("systemctl status watchpost"));
    let runtime = runtime();
    let server = Server::start(&path, Arc::new(Echo), runtime.handle()).unwrap();
    let second = Server::start(&path, Arc::new(Echo), runtime.handle());
    assert!(matches!(second, Err(Error::AlreadyRunning(_))));
    assert_eq!(Client::connect(&path).unwrap().call("echo", json!(1), LONG).unwrap(), json!(1));
    drop(server);
    let again = Server::start(&path, Arc::new(Echo), runtime.handle()).unwrap();
    runtime.block_on(again.stop());
}
