//! The daemon's end of the control socket.
//!
//! In: connections of clients. Out: what [`Handler`] answers. `app` owns the [`Server`]; its task owns the
//! connections' tasks, and [`Server::stop`] ends and joins all of them and removes the socket. A client that
//! sends nonsense gets an error and no more; one that is silent is hung up on.

use std::fs::{File, Permissions, TryLockError};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::protocol::{ControlRequest, LONGEST, Refusal, Response};

/// Clients at one time.
const CLIENTS: usize = 32;
/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// The answer to a request: a result as JSON, or what went wrong, for a person to read.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Value, Refusal>> + Send + 'a>>;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Several may be under way at a time.
    fn handle(&self, request: ControlRequest) -> Answer<'_>;
}

/// The daemon's end of the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Held as long as the socket is ours; the kernel lets go of it when the daemon is killed.
    _lock: File,
}

impl Server {
    /// Listens on `path`, on the runtime of `handle`. A socket that a killed daemon left is replaced.
    ///
    /// # Errors
    /// Where another daemon has the socket, or it cannot be made.
    pub fn start(path: &Path, handler: Arc<dyn Handler>, handle: &Handle) -> Result<Self, Error> {
        let listen = |source| Error::Listen { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(listen)?;
        }
        let lock = File::create(path.with_extension("lock")).map_err(listen)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::AlreadyRunning(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(listen(source)),
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(listen(error)),
            _ => {}
        }
        let listener = {
            let _inside = handle.enter();
            UnixListener::bind(path).map_err(listen)?
        };
        std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(listen)?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn_on(accept(listener, handler, stop.clone()), handle);
        Ok(Self { path: path.to_owned(), tasks, stop, _lock: lock })
    }

    /// Hangs up on all clients, joins all tasks, removes the socket.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, handler: Arc<dyn Handler>, stop: CancellationToken) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = clients.join_next(), if !clients.is_empty() => {}
            accepted = listener.accept(), if clients.len() < CLIENTS => match accepted {
                Ok((stream, _)) => {
                    clients.spawn(serve(stream, Arc::clone(&handler)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the control socket could not be accepted");
                    // Out of file descriptors, most likely: give the others time to close theirs.
                    let _ = tokio::time::timeout(Duration::from_millis(100), stop.cancelled()).await;
                }
            },
        }
    }
    clients.shutdown().await;
}

async fn serve(stream: UnixStream, handler: Arc<dyn Handler>) {
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut input).take(LONGEST);
        let read = tokio::time::timeout(SILENCE, limited.read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(count)) if count > 0) {
            return;
        }
        let whole = line.ends_with(b"\n");
        let response: Response = match serde_json::from_slice::<ControlRequest>(&line) {
            Ok(request) if whole => handler.handle(request).await.into(),
            Ok(_) => return,
            Err(error) => {
                let expected = r#"expected {"command":"NAME","arguments":{...}} in one line"#;
                Err(format!("the request cannot be read: {error}; {expected}").into()).into()
            }
        };
        let mut bytes = serde_json::to_vec(&response).unwrap_or_default();
        bytes.push(b'\n');
        let written = tokio::time::timeout(SILENCE, output.write_all(&bytes)).await;
        if !whole || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}
