//! One address that the RTSP server listens on, as long as it does.
//!
//! In: an address, the mounts. Out: viewers, who are served by GStreamer's threads. Owned by the [`super::RtspServer`],
//! which ends it; it owns a thread with a GLib main loop. An address that cannot be listened on is an error, in the
//! system's words.

use std::sync::Arc;
use std::thread::JoinHandle;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer_rtsp_server as server;
use gstreamer_rtsp_server::prelude::*;

use super::EncodeError;
use super::rtsp::{Mounts, identity};

/// Viewers at once, over all outputs.
const SESSIONS: u32 = 256;

/// Seconds between looks for viewers that have vanished.
const CLEANUP: u32 = 2;

/// See the module.
pub(super) struct Listener {
    server: server::RTSPServer,
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
    address: String,
    /// The port that was asked for, and the one that it got.
    asked: u16,
    port: u16,
}

impl Listener {
    /// Listens, and serves nothing yet; port 0 takes a free one.
    pub(super) fn start(address: &str, port: u16, mounts: &Arc<Mounts>) -> Result<Self, EncodeError> {
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
        let weak = Arc::downgrade(mounts);
        server.connect_client_connected(move |_, client| {
            if let Some(mounts) = weak.upgrade() {
                mounts.connected(client);
            }
        });
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        if server.attach(Some(&context)).is_err() {
            let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            let reason = reason(&address, port);
            return Err(EncodeError::Listen { address: format!("{address}:{port}"), reason });
        }
        let asked = port;
        let port = u16::try_from(server.bound_port()).unwrap_or(port);
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
        Ok(Self { server, main_loop, thread: Some(thread), address: address.into(), asked, port })
    }

    /// Serves the mounts that there are.
    pub(super) fn serve(&self, mounts: &Mounts) {
        for (path, factory) in mounts.factories() {
            self.add(&path, factory);
        }
    }

    /// Whether this is where it was asked to listen.
    pub(super) fn is(&self, address: &str, port: u16) -> bool {
        self.address == address && self.asked == port
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn add(&self, path: &str, factory: server::RTSPMediaFactory) {
        if let Some(points) = self.server.mount_points() {
            points.add_factory(&format!("/{path}"), factory);
        }
    }

    pub(super) fn remove(&self, path: &str) {
        if let Some(points) = self.server.mount_points() {
            points.remove_factory(&format!("/{path}"));
        }
    }

    /// Ends the connections of these viewers.
    pub(super) fn send_away(&self, viewers: &[usize]) {
        self.server.client_filter(Some(&mut |_, client| {
            if viewers.contains(&identity(client)) {
                server::RTSPFilterResult::Remove
            } else {
                server::RTSPFilterResult::Keep
            }
        }));
    }

    /// Sends all viewers away, stops listening and joins the thread; gives where it listened.
    pub(super) fn end(mut self, mounts: &Mounts) -> (String, u16) {
        if let Some(points) = self.server.mount_points() {
            for (path, _) in mounts.factories() {
                points.remove_factory(&format!("/{path}"));
            }
        }
        mounts.cut();
        self.stop();
        (std::mem::take(&mut self.address), self.asked)
    }

    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.server.client_filter(Some(&mut |_, _| server::RTSPFilterResult::Remove));
        // A loop that has not begun to run would not notice an earlier quit: quit from inside it.
        let quit = self.main_loop.clone();
        self.main_loop.context().invoke(move || quit.quit());
        if thread.join().is_err() {
            tracing::error!("the RTSP server's thread panicked");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why an address cannot be listened on, in the system's words.
fn reason(address: &str, port: u16) -> String {
    std::net::TcpListener::bind(format!("{address}:{port}"))
        .map_or_else(|error| error.to_string(), |_| "it is refused".into())
}
