//! The broker inside: rumqttd, in a process of its own, since its threads cannot be stopped.
//!
//! In: an address. Out: a broker that listens there, and whether it does. The publisher owns
//! [`supervise`]: it starts this program again as `watchpost __broker`, starts it anew with a growing pause
//! when it ends, and stops it by closing its standard input, then by force. The broker ends when that input
//! closes, so that it does not outlive a daemon that was killed.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::current::Current;

/// The hidden subcommand that `main` answers with [`broker_main`].
pub const BROKER_COMMAND: &str = "__broker";
/// What the broker says on its standard output once it listens.
const LISTENING: &str = "listening";
/// How long it may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// The broker's process: listens until standard input closes.
///
/// # Errors
/// Where the address cannot be listened on, or the broker's own threads end.
pub fn broker_main(listen: SocketAddr) -> Result<(), Error> {
    // rumqttd logs this and sleeps; found out first, it can be said.
    drop(TcpListener::bind(listen).map_err(|source| Error::BrokerListen { listen, source })?);
    let mut broker = rumqttd::Broker::new(config(listen));
    let server = std::thread::Builder::new()
        .name("broker".into())
        .spawn(move || broker.start().map_err(|error| error.to_string()));
    let server = server.map_err(Error::Thread)?;
    while std::net::TcpStream::connect(listen).is_err() {
        if server.is_finished() {
            return Err(Error::Broker(listen));
        }
        std::thread::yield_now();
    }
    // The daemon may be gone already; then standard input is closed, too.
    let _ = writeln!(std::io::stdout(), "{LISTENING} {listen}");
    let mut ignored = [0; 64];
    while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
    Ok(())
}

fn config(listen: SocketAddr) -> rumqttd::Config {
    let connections = rumqttd::ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: 65 << 20,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = rumqttd::ServerSettings {
        name: "broker".into(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let router = rumqttd::RouterConfig {
        max_connections: 1000,
        max_outgoing_packet_count: 200,
        max_segment_size: 8 << 20,
        max_segment_count: 4,
        ..rumqttd::RouterConfig::default()
    };
    rumqttd::Config {
        router,
        v4: Some(HashMap::from([("1".to_owned(), server)])),
        ..rumqttd::Config::default()
    }
}

/// An address like `listen` with a port that is free now, where `listen` has port 0.
pub(super) fn settle(listen: SocketAddr) -> std::io::Result<SocketAddr> {
    if listen.port() == 0 { TcpListener::bind(listen)?.local_addr() } else { Ok(listen) }
}

/// Keeps the broker's process running until `stop`.
pub(super) async fn supervise(current: Arc<Current>, listen: SocketAddr, stop: CancellationToken) {
    let (mut pause, longest) = current.now().settings.backoff;
    while !stop.is_cancelled() {
        let error = match run(&current, listen, &stop).await {
            Ok(None) => return,
            Ok(Some(status)) => format!("the embedded broker ended with {status}"),
            Err(error) => format!("the embedded broker cannot be started: {error}"),
        };
        let said = current.now().broker_problem(Some(error.clone()));
        if said {
            tracing::error!(listen = %listen, error, "the embedded broker is down; it is started again");
        }
        if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
            return;
        }
        pause = (pause * 2).min(longest);
    }
}

/// One life of the broker: `None` where it was stopped.
async fn run(
    current: &Current,
    listen: SocketAddr,
    stop: &CancellationToken,
) -> std::io::Result<Option<ExitStatus>> {
    let program: PathBuf = match &current.now().settings.broker_program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?,
    };
    let mut child = Command::new(program)
        .args([BROKER_COMMAND, "--listen", &listen.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A group of its own: Ctrl-C in a terminal is the daemon's to answer, which ends its broker last.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    // Taken, since `wait` would close it, and closing it is what ends the broker.
    let stdin = child.stdin.take();
    let mut lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
    loop {
        tokio::select! {
            () = stop.cancelled() => return end(child, stdin).await.map(|()| None),
            status = child.wait() => return status.map(Some),
            line = next_line(&mut lines) => match line {
                Some(line) if line.contains(LISTENING) => {
                    tracing::info!(%listen, "the embedded broker listens");
                    current.now().broker_problem(None);
                }
                Some(_) => {}
                None => lines = None,
            },
        }
    }
}

type Lines = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

/// Never ends once there are no more lines.
async fn next_line(lines: &mut Option<Lines>) -> Option<String> {
    match lines {
        Some(lines) => lines.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

async fn end(mut child: Child, stdin: Option<ChildStdin>) -> std::io::Result<()> {
    drop(stdin);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}
