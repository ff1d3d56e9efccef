//! The RTSP server inside the daemon: outputs that viewers pull.
//!
//! In: an address; mounts of outputs. Out: RTSP over TCP and UDP. The app owns the [`RtspServer`], which owns a
//! thread with a GLib main loop; outputs hold [`RtspHandle`]s. Each viewer is served by a thread of its own
//! (GStreamer's pool), so that one that waits or stalls delays no other; one that does not read is dropped by
//! the server after some seconds. An address that cannot be listened on is an error at start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use gstreamer as gst;
use gstreamer::{glib, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_rtsp::{RTSPLowerTrans, RTSPStatusCode};
use gstreamer_rtsp_server as server;
use gstreamer_rtsp_server::prelude::*;

use super::EncodeError;
use super::mount::Mount;
use super::spec::VideoCodec;

/// Viewers at once, over all outputs.
const SESSIONS: u32 = 256;

/// Seconds between looks for viewers that have vanished.
const CLEANUP: u32 = 2;

/// What a viewer's media is made of; the source is filled by the mount. Old units go first where a media does
/// not take them, as between DESCRIBE and PLAY.
fn launch(codec: VideoCodec) -> String {
    let payloader = codec.payloader();
    format!(
        "( appsrc name=feed is-live=true format=time max-time=1000000000 max-bytes=0 leaky-type=downstream \
         ! {payloader} name=pay0 pt=96 config-interval=-1 aggregate-mode=zero-latency )"
    )
}

struct Shared {
    server: server::RTSPServer,
    mounts: Mutex<HashMap<String, Arc<Mount>>>,
    address: String,
    port: u16,
}

/// The running server; stops when dropped.
pub struct RtspServer {
    shared: Arc<Shared>,
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
}

/// A way to the server for outputs; cheap to clone.
#[derive(Clone)]
pub struct RtspHandle(Arc<Shared>);

impl RtspServer {
    /// Listens on an address; port 0 takes a free one, see [`RtspServer::port`].
    ///
    /// # Errors
    /// Where GStreamer does not start, or the address cannot be listened on.
    pub fn start(address: &str, port: u16) -> Result<Self, EncodeError> {
        gst::init()?;
        let server = server::RTSPServer::new();
        server.set_address(address);
        server.set_service(&port.to_string());
        let threads = server::RTSPThreadPool::new();
        threads.set_max_threads(-1);
        server.set_thread_pool(Some(&threads));
        let sessions = server::RTSPSessionPool::new();
        sessions.set_max_sessions(SESSIONS);
        server.set_session_pool(Some(&sessions));
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        if server.attach(Some(&context)).is_err() {
            return Err(EncodeError::Listen {
                address: format!("{address}:{port}"),
                reason: reason(address, port),
            });
        }
        let port = u16::try_from(server.bound_port()).unwrap_or(port);
        let shared = Arc::new(Shared { server, mounts: Mutex::default(), address: address.into(), port });
        let weak = Arc::downgrade(&shared);
        shared.server.connect_client_connected(move |_, client| {
            if let Some(shared) = weak.upgrade() {
                shared.connected(client);
            }
        });
        let cleanup = glib::timeout_source_new_seconds(CLEANUP, None, glib::Priority::LOW, move || {
            sessions.cleanup();
            glib::ControlFlow::Continue
        });
        cleanup.attach(Some(&context));
        let running = main_loop.clone();
        let thread = std::thread::Builder::new()
            .name("rtsp-server".into())
            .spawn(move || {
                // The context is this thread's own; nobody else acquires it.
                let _ = context.with_thread_default(|| running.run());
                cleanup.destroy();
            })
            .map_err(|reason| EncodeError::Thread { name: "the RTSP server".into(), reason })?;
        Ok(Self { shared, main_loop, thread: Some(thread) })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// A way to it, for [`super::Target::Rtsp`].
    #[must_use]
    pub fn handle(&self) -> RtspHandle {
        RtspHandle(Arc::clone(&self.shared))
    }

    /// Sends all viewers away, stops listening and joins the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let paths: Vec<_> = self.shared.lock().keys().cloned().collect();
        for path in paths {
            self.shared.remove(&path);
        }
        self.shared.server.client_filter(Some(&mut |_, _| server::RTSPFilterResult::Remove));
        // A loop that has not begun to run would not notice an earlier quit: quit from inside it.
        let quit = self.main_loop.clone();
        self.main_loop.context().invoke(move || quit.quit());
        if thread.join().is_err() {
            tracing::error!("the RTSP server's thread panicked");
        }
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.end();
    }
}

impl RtspHandle {
    /// The address of a mount, for viewers on this box or, with a wildcard address, by its loopback name.
    #[must_use]
    pub fn url(&self, mount: &str) -> String {
        let address = match self.0.address.as_str() {
            "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
            other if other.contains(':') => format!("[{other}]"),
            other => other.to_owned(),
        };
        format!("rtsp://{address}:{}/{mount}", self.0.port)
    }

    /// Serves a mount under `/path`; false where the path is taken.
    pub(super) fn add(&self, path: &str, mount: &Arc<Mount>, codec: VideoCodec) -> bool {
        let mut mounts = self.0.lock();
        if mounts.contains_key(path) {
            return false;
        }
        mounts.insert(path.into(), Arc::clone(mount));
        drop(mounts);
        let factory = server::RTSPMediaFactory::new();
        factory.set_launch(&launch(codec));
        factory.set_shared(true);
        factory.set_eos_shutdown(false);
        factory.set_protocols(RTSPLowerTrans::UDP | RTSPLowerTrans::TCP);
        let mount = Arc::downgrade(mount);
        factory.connect_media_configure(move |_, media| {
            let bin = media.element().downcast::<gst::Bin>().ok();
            let source =
                bin.and_then(|bin| bin.by_name("feed")).and_then(|it| it.downcast::<gst_app::AppSrc>().ok());
            let (Some(mount), Some(source)) = (mount.upgrade(), source) else { return };
            mount.add(source.clone());
            let mount = Arc::downgrade(&mount);
            let source = source.downgrade();
            media.connect_unprepared(move |_| {
                if let (Some(mount), Some(source)) = (mount.upgrade(), source.upgrade()) {
                    mount.remove(&source);
                }
            });
        });
        if let Some(points) = self.0.server.mount_points() {
            points.add_factory(&format!("/{path}"), factory);
        }
        true
    }

    /// Stops serving a mount; its viewers are sent away.
    pub(super) fn remove(&self, path: &str) {
        self.0.remove(path);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Mount>>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, path: &str) {
        let Some(mount) = self.lock().remove(path) else { return };
        if let Some(points) = self.server.mount_points() {
            points.remove_factory(&format!("/{path}"));
        }
        mount.close();
        let viewers = mount.viewers();
        self.server.client_filter(Some(&mut |_, client| {
            if viewers.contains(&identity(client)) {
                server::RTSPFilterResult::Remove
            } else {
                server::RTSPFilterResult::Keep
            }
        }));
    }

    /// The mount that a request is about.
    fn requested(&self, context: &server::RTSPContext) -> Option<Arc<Mount>> {
        let url = context.uri()?.request_uri();
        let path = url.split_once("://")?.1.split_once('/')?.1;
        let path = path.split('?').next()?.trim_end_matches('/');
        self.lock().get(path).cloned()
    }

    /// Follows what a new client does.
    fn connected(self: &Arc<Self>, client: &server::RTSPClient) {
        let weak = Arc::downgrade(self);
        client.connect_pre_describe_request(move |_, context| {
            let mount = weak.upgrade().and_then(|shared| shared.requested(context));
            // A source that is down would keep the viewer waiting for its first frame.
            if mount.is_some_and(|mount| !mount.is_fresh()) {
                return RTSPStatusCode::ServiceUnavailable;
            }
            RTSPStatusCode::Ok
        });
        let weak = Arc::downgrade(self);
        client.connect_play_request(move |client, context| {
            if let Some(mount) = weak.upgrade().and_then(|shared| shared.requested(context)) {
                mount.join(identity(client));
            }
        });
        let weak = Arc::downgrade(self);
        client.connect_teardown_request(move |client, context| {
            if let Some(mount) = weak.upgrade().and_then(|shared| shared.requested(context)) {
                mount.leave(identity(client));
            }
        });
        let weak = Arc::downgrade(self);
        client.connect_closed(move |client| {
            let Some(shared) = weak.upgrade() else { return };
            for mount in shared.lock().values() {
                mount.leave(identity(client));
            }
        });
    }
}

/// Tells clients apart while they live.
fn identity(client: &server::RTSPClient) -> usize {
    client.as_ptr() as usize
}

/// Why an address cannot be listened on, in the system's words.
fn reason(address: &str, port: u16) -> String {
    std::net::TcpListener::bind((address, port))
        .map_or_else(|error| error.to_string(), |_| "it is refused".into())
}
