//! The broker inside, with mosquitto's own clients.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::daemon::free_port;
use e2e::mosquitto::{Subscriber, until};
use watchpost::flow::State;
use watchpost::publish::{ConnectionState, PublishSettings};

use super::support::{Box, distinct, event, mqtt};

/// The broker's process, as the daemon's hidden subcommand runs it.
#[test]
#[ignore = "runs in a process of its own, started by the daemon under test"]
fn child() {
    watchpost::publish::broker_main(std::env::var("BROKER_LISTEN").unwrap().parse().unwrap()).unwrap();
}

/// A program that takes `__broker --listen ADDRESS` as the daemon's binary does.
pub fn program(folder: &Path) -> PathBuf {
    let path = folder.join("broker");
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2\" = '__broker --listen' ] || exit 9\n\
         BROKER_LISTEN=\"$3\" exec {} --exact mqtt::embedded::child --ignored --nocapture\n",
        this.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn start(folder: &Path, port: u16) -> Box {
    let mut mqtt = mqtt("embedded");
    mqtt.listen = format!("127.0.0.1:{port}");
    let mut settings = PublishSettings::new(&mqtt, "b", folder).unwrap();
    settings.backoff = (Duration::from_millis(10), Duration::from_millis(100));
    settings.broker_program = Some(program(folder));
    Box::with(settings)
}

/// What a mosquitto client prints.
fn mosquitto(program: &str, port: u16, arguments: &[&str]) -> String {
    let port = port.to_string();
    let output =
        Command::new(program).args(["-h", "127.0.0.1", "-p", &port]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_embedded_broker_serves_mosquittos_clients_and_ends_with_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut box_ = start(folder.path(), port);
    drop(box_.publisher.as_mut().unwrap().requests());
    box_.wait_connected();
    let subscriber = Subscriber::new(port, "watchpost/+/streams/#", None);
    let large = "x".repeat(200_000);
    for number in 0..20 {
        box_.handle.event(event(number, &large));
    }
    let got = subscriber.wait("20 events", |messages| distinct(messages).len() >= 20);
    assert_eq!(distinct(&got), (0..20).collect::<Vec<_>>());
    until("all are acknowledged", || box_.status().pending == 0);

    // Retained, by wildcard; and a request from the command line, answered.
    let state = State { name: "count".into(), value: 7.into() };
    box_.handle.state("entrance", "tracker", state);
    let count =
        mosquitto("mosquitto_sub", port, &["-t", "watchpost/+/streams/+/states/#", "-C", "1", "-W", "20"]);
    assert!(count.contains("\"value\":7"), "{count}");
    mosquitto(
        "mosquitto_pub",
        port,
        &["-q", "1", "-t", "watchpost/b/streams/hall/command", "-m", r#"{"command":"fly"}"#],
    );
    subscriber.wait_for("watchpost/b/streams/hall/result", |result| result["ok"] == false);

    // The last will of a client that is killed; the message shows that it is connected.
    mosquitto("mosquitto_pub", port, &["-q", "1", "-r", "-t", "probe", "-m", "here"]);
    let mut client = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "probe", "-W", "20"])
        .args(["--will-topic", "watchpost/c/streams/will", "--will-payload", "{\"gone\":1}", "--will-retain"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "here\n");
    client.kill().unwrap();
    client.wait().unwrap();
    subscriber.wait_for("watchpost/c/streams/will", |will| will["gone"] == 1);

    box_.stop();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the broker ended with the daemon");
}

#[test]
fn an_embedded_broker_that_dies_is_started_again_and_no_event_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let box_ = start(folder.path(), port);
    box_.wait_connected();
    let this = std::process::id().to_string();
    let child = Command::new("pgrep").args(["-P", &this, "-f", "mqtt::embedded::child"]).output().unwrap();
    let children = String::from_utf8(child.stdout).unwrap();
    // Another test of this process may have a broker, too; ours has the port in its environment.
    let ours = children.lines().find(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&format!("BROKER_LISTEN=127.0.0.1:{port}"))
    });
    let pid = rustix::process::Pid::from_raw(ours.unwrap().parse().unwrap()).unwrap();
    let connections = box_.counter("publish_connections_total");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("it is connected again", || box_.counter("publish_connections_total") > connections);
    let subscriber = Subscriber::new(port, "watchpost/b/#", None);
    box_.events(0..5);
    subscriber.wait("the events", |messages| distinct(messages).len() == 5);
    box_.stop();
}

#[test]
fn an_address_that_is_taken_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let box_ = start(folder.path(), taken.local_addr().unwrap().port());
    let said = || box_.status().error.is_some_and(|error| error.contains("embedded broker"));
    until("it is said that the embedded broker is down", said);
    assert_ne!(box_.status().state, ConnectionState::Connected);
    box_.stop();
}
