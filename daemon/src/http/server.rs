//! Listens, and gives each connection a task.
//!
//! In: the page's settings, also changed ones; connections. Out: answers. `app` owns the [`Server`]; its task owns the
//! connections' tasks, and [`Server::stop`] ends and joins all of them. A client has [`HEADER`] to say what it wants; where
//! there are too many connections, the one that has been silent longest is closed for the new one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::answer::Busy;
use super::routes::Context;
use super::series::STEP;
use super::slow::Slow;
use super::{HttpState, Page, Setup, Source, lock};

/// Connections at one time.
const CONNECTIONS: usize = 128;
/// How long a client may take to say what it wants, also between two requests.
const HEADER: Duration = Duration::from_secs(10);
/// Bytes of a request's head at most, and its headers.
const HEAD: usize = 16 << 10;
const HEADERS: usize = 64;
/// Between two tries to listen.
const AGAIN: Duration = Duration::from_secs(5);

/// The server and all that it runs.
#[derive(Debug)]
pub struct Server {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Server {
    /// Serves the page on the runtime of `handle`. Where it cannot listen it says so in log and status, and tries again.
    #[must_use]
    pub fn start(page: &Page, source: Arc<dyn Source>, handle: &Handle) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn_on(look(page.clone(), stop.clone()), handle);
        tasks.spawn_on(run(page.clone(), source, stop.clone()), handle);
        Self { tasks, stop }
    }

    /// Hangs up on all clients, and joins all tasks.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Keeps the last minutes of figures, and writes new alerts down.
async fn look(page: Page, stop: CancellationToken) {
    let mut tick = tokio::time::interval(STEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut written: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {
                lock(&page.0.series).look(&page.0.registry);
                // A disk that hangs holds up nothing here.
                if written.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                    let page = page.clone();
                    written = Some(tokio::task::spawn_blocking(move || page.remember()));
                }
            }
        }
    }
}

/// Serves by the settings of the day.
async fn run(page: Page, source: Arc<dyn Source>, stop: CancellationToken) {
    let mut changes = page.0.setup.subscribe();
    while !stop.is_cancelled() {
        let setup = changes.borrow_and_update().clone();
        let done = stop.child_token();
        let serving = serve(&page, &source, setup, done.clone());
        tokio::pin!(serving);
        tokio::select! {
            () = &mut serving => {}
            _ = changes.changed() => {
                done.cancel();
                serving.await;
            }
        }
    }
}

/// Serves until it is done.
async fn serve(page: &Page, source: &Arc<dyn Source>, setup: Setup, done: CancellationToken) {
    let Setup { http, clips } = setup;
    let Some(address) = http.address() else {
        page.set_status(HttpState::Off, &http, false, None);
        return done.cancelled().await;
    };
    let mut said = None;
    loop {
        let access = Access::read(http.token_file.as_deref(), address.port());
        let opened = match access {
            // Never without the token that is configured.
            Err(why) => Err(why),
            Ok(access) => match TcpListener::bind(address).await {
                Ok(listener) => Ok((access, listener)),
                Err(error) => Err(format!("cannot listen on {address} (http.listen): {error}")),
            },
        };
        let why = match opened {
            Ok((access, listener)) => {
                let token = access.has_token();
                page.set_status(HttpState::Listening, &http, token, None);
                let url = http.url().unwrap_or_default();
                tracing::info!(url, token, "the status page is served");
                let context = Context::new(page.clone(), Arc::clone(source), access, clips);
                return accept(&listener, Arc::new(context), page, done).await;
            }
            Err(why) => why,
        };
        if said.as_ref() != Some(&why) {
            tracing::error!(
                error = why,
                "the status page and the metrics are not served; the daemon runs on"
            );
        }
        page.set_status(HttpState::Failed, &http, http.token_file.is_some(), Some(why.clone()));
        said = Some(why);
        if tokio::time::timeout(AGAIN, done.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// A connection, as its owner knows it.
struct Client {
    task: AbortHandle,
    /// Requests that are being answered: 0 or 1.
    busy: Arc<AtomicUsize>,
    /// The lower the longer ago it came.
    number: u64,
}

async fn accept(listener: &TcpListener, context: Arc<Context>, page: &Page, done: CancellationToken) {
    let registry = &page.0.registry;
    let open = registry.gauge("http_connections", &[]);
    let refused = registry.counter("http_connections_refused_total", &[]);
    // There from the start, so that its first step can be seen.
    let _ = registry.counter("http_logins_refused_total", &[]);
    let mut tasks = JoinSet::new();
    let mut clients: HashMap<Id, Client> = HashMap::new();
    let mut number = 0;
    loop {
        open.set(clients.len() as f64);
        tokio::select! {
            () = done.cancelled() => break,
            Some(ended) = tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                clients.remove(&id);
            }
            accepted = listener.accept() => {
                let (stream, _) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a client of the status page could not be accepted");
                        // Out of file descriptors, most likely: give the others time to close theirs.
                        let _ = tokio::time::timeout(Duration::from_millis(100), done.cancelled()).await;
                        continue;
                    }
                };
                if clients.len() >= CONNECTIONS {
                    refused.inc();
                    // It is forgotten at once; that its task ends is not waited for here.
                    let Some(id) = silent(&clients) else { continue };
                    if let Some(client) = clients.remove(&id) {
                        client.task.abort();
                    }
                }
                let busy = Arc::new(AtomicUsize::new(0));
                let task = tasks.spawn(connection(stream, Arc::clone(&context), Arc::clone(&busy)));
                number += 1;
                clients.insert(task.id(), Client { task, busy, number });
            }
        }
    }
    tasks.shutdown().await;
    open.set(0.0);
}

/// The connection that may be closed for a new one: of those that ask for nothing now, the oldest.
fn silent(clients: &HashMap<Id, Client>) -> Option<Id> {
    let waiting = clients.iter().filter(|(_, client)| client.busy.load(Ordering::Relaxed) == 0);
    waiting.min_by_key(|(_, client)| client.number).map(|(id, _)| *id)
}

async fn connection(stream: TcpStream, context: Arc<Context>, busy: Arc<AtomicUsize>) {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let (context, busy) = (Arc::clone(&context), Busy::new(&busy));
        async move {
            let mut answer = context.answer(request).await;
            answer.body_mut().busy = Some(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Slow::new(stream)), service)
        .await;
    // A client that hung up, was too slow or sent nonsense is its own business.
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the status page ended");
    }
}
