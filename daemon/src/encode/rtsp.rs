//! The RTSP server inside the daemon: outputs that viewers pull.
//!
//! In: an address, which may change; mounts of outputs. Out: RTSP over TCP and UDP. The app owns the [`RtspServer`];
//! outputs hold [`RtspHandle`]s, whether it listens or not: their mounts are served wherever it listens next. Each
//! viewer is served by a thread of its own (GStreamer's pool), so that one that waits or stalls delays no other; one that
//! does not read is dropped by the server after some seconds. An address that cannot be listened on is an error of
//! [`RtspServer::listen`], after which it listens where it did before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp::{RTSPLowerTrans, RTSPStatusCode};
use gstreamer_rtsp_server as server;
use gstreamer_rtsp_server::prelude::*;

use super::EncodeError;
use super::listener::Listener;
use super::mount::Mount;
use super::spec::VideoCodec;

/// What a viewer's media is made of; the source is filled by the mount. Old units go first where a media does
/// not take them, as between DESCRIBE and PLAY.
fn launch(codec: VideoCodec) -> String {
    let payloader = codec.payloader();
    format!(
        "( appsrc name=feed is-live=true format=time max-time=1000000000 max-bytes=0 leaky-type=downstream \
         ! {payloader} name=pay0 pt=96 config-interval=-1 aggregate-mode=zero-latency )"
    )
}

/// What is served, by path.
#[derive(Default)]
pub(super) struct Mounts(Mutex<HashMap<String, (Arc<Mount>, VideoCodec)>>);

#[derive(Default)]
struct Shared {
    mounts: Arc<Mounts>,
    place: Mutex<Place>,
}

/// Where it listens. Locked before the mounts, never while they are.
#[derive(Default)]
struct Place {
    listener: Option<Listener>,
    /// Why it does not listen.
    problem: Option<String>,
}

/// The server; stops when dropped.
#[derive(Default)]
pub struct RtspServer {
    shared: Arc<Shared>,
}

/// A way to the server for outputs; cheap to clone.
#[derive(Clone)]
pub struct RtspHandle(Arc<Shared>);

impl RtspServer {
    /// One that does not listen yet.
    #[must_use]
    pub fn idle() -> Self {
        Self::default()
    }

    /// Listens on an address; port 0 takes a free one, see [`RtspServer::port`].
    ///
    /// # Errors
    /// Where GStreamer does not start, or the address cannot be listened on.
    pub fn start(address: &str, port: u16) -> Result<Self, EncodeError> {
        let server = Self::idle();
        server.listen(address, port)?;
        Ok(server)
    }

    /// Listens on this address from now on, and no longer where it did: viewers there are sent away, mounts stay.
    ///
    /// # Errors
    /// Where GStreamer does not start, or the address cannot be listened on: then it listens where it did before.
    pub fn listen(&self, address: &str, port: u16) -> Result<(), EncodeError> {
        let mut place = self.shared.place();
        if place.listener.as_ref().is_some_and(|old| old.is(address, port)) {
            return Ok(());
        }
        let mounts = &self.shared.mounts;
        let next = match Listener::start(address, port, mounts) {
            // The old address may be a part of the new one, and in its way.
            Err(EncodeError::Listen { .. })
                if place.listener.as_ref().is_some_and(|old| old.port() == port) =>
            {
                let old = place.listener.take().map(|old| old.end(mounts));
                Listener::start(address, port, mounts).map_err(|error| (error, old))
            }
            other => other.map_err(|error| (error, None)),
        };
        match next {
            Ok(next) => {
                if let Some(old) = place.listener.take() {
                    old.end(mounts);
                }
                // Only now: what is watched on the old one was cut.
                next.serve(mounts);
                (place.listener, place.problem) = (Some(next), None);
                Ok(())
            }
            Err((error, old)) => {
                if let Some(Ok(back)) = old.map(|(address, port)| Listener::start(&address, port, mounts)) {
                    back.serve(mounts);
                    place.listener = Some(back);
                }
                if place.listener.is_none() {
                    place.problem = Some(error.to_string());
                }
                Err(error)
            }
        }
    }

    /// Listens nowhere: viewers are sent away, mounts stay. `problem`: what outputs say then.
    pub fn silence(&self, problem: Option<String>) {
        let mut place = self.shared.place();
        if let Some(old) = place.listener.take() {
            old.end(&self.shared.mounts);
        }
        place.problem = problem;
    }

    /// Whether it listens.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.shared.place().listener.is_some()
    }

    /// The port it listens on; 0 where it does not.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.place().listener.as_ref().map_or(0, Listener::port)
    }

    /// A way to it, for [`super::Target::Rtsp`].
    #[must_use]
    pub fn handle(&self) -> RtspHandle {
        RtspHandle(Arc::clone(&self.shared))
    }

    /// Sends all viewers away, stops listening and joins the thread.
    pub fn stop(self) {
        self.end();
    }

    fn end(&self) {
        self.silence(None);
        self.shared.mounts.lock().clear();
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.end();
    }
}

impl RtspHandle {
    /// The address of a mount, for viewers on this box or, with a wildcard address, by its loopback name; only its path
    /// where the server does not listen.
    #[must_use]
    pub fn url(&self, mount: &str) -> String {
        let place = self.0.place();
        let Some(listener) = &place.listener else { return format!("/{mount}") };
        let address = match listener.address() {
            "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
            other if other.contains(':') => format!("[{other}]"),
            other => other.to_owned(),
        };
        format!("rtsp://{address}:{}/{mount}", listener.port())
    }

    /// Why nobody can watch.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.0.place().problem.clone()
    }

    /// Serves a mount under `/path`; false where the path is taken.
    pub(super) fn add(&self, path: &str, mount: &Arc<Mount>, codec: VideoCodec) -> bool {
        let place = self.0.place();
        let mut mounts = self.0.mounts.lock();
        if mounts.contains_key(path) {
            return false;
        }
        mounts.insert(path.into(), (Arc::clone(mount), codec));
        drop(mounts);
        if let Some(listener) = &place.listener {
            listener.add(path, factory(mount, codec));
        }
        true
    }

    /// Stops serving a mount; its viewers are sent away.
    pub(super) fn remove(&self, path: &str) {
        let place = self.0.place();
        let Some((mount, _)) = self.0.mounts.lock().remove(path) else { return };
        if let Some(listener) = &place.listener {
            listener.remove(path);
        }
        mount.close();
        if let Some(listener) = &place.listener {
            listener.send_away(&mount.viewers());
        }
    }
}

impl Shared {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Arc<Mount>, VideoCodec)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What makes the medias of each, by path.
    pub(super) fn factories(&self) -> Vec<(String, server::RTSPMediaFactory)> {
        self.lock().iter().map(|(path, (mount, codec))| (path.clone(), factory(mount, *codec))).collect()
    }

    /// Ends what is watched of each; the next viewer starts anew.
    pub(super) fn cut(&self) {
        for (mount, _) in self.lock().values() {
            mount.cut();
        }
    }

    /// A client has gone.
    fn left(&self, client: &server::RTSPClient) {
        for (mount, _) in self.lock().values() {
            mount.leave(identity(client));
        }
    }

    /// The mount that a request is about.
    fn requested(&self, context: &server::RTSPContext) -> Option<Arc<Mount>> {
        let url = context.uri()?.request_uri();
        let path = url.split_once("://")?.1.split_once('/')?.1;
        let path = path.split('?').next()?.trim_end_matches('/');
        self.lock().get(path).map(|(mount, _)| Arc::clone(mount))
    }

    /// Follows what a new client does.
    pub(super) fn connected(self: &Arc<Self>, client: &server::RTSPClient) {
        let weak = Arc::downgrade(self);
        client.connect_pre_describe_request(move |_, context| {
            let mount = weak.upgrade().and_then(|mounts| mounts.requested(context));
            // A source that is down would keep the viewer waiting for its first frame.
            if mount.is_some_and(|mount| !mount.is_fresh()) {
                return RTSPStatusCode::ServiceUnavailable;
            }
            RTSPStatusCode::Ok
        });
        let weak = Arc::downgrade(self);
        client.connect_play_request(move |client, context| {
            if let Some(mount) = weak.upgrade().and_then(|mounts| mounts.requested(context)) {
                mount.join(identity(client));
            }
        });
        let weak = Arc::downgrade(self);
        client.connect_teardown_request(move |client, context| {
            if let Some(mount) = weak.upgrade().and_then(|mounts| mounts.requested(context)) {
                mount.leave(identity(client));
            }
        });
        let weak = Arc::downgrade(self);
        client.connect_closed(move |client| {
            if let Some(mounts) = weak.upgrade() {
                mounts.left(client);
            }
        });
    }
}

/// What makes a mount's medias.
fn factory(mount: &Arc<Mount>, codec: VideoCodec) -> server::RTSPMediaFactory {
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
    factory
}

/// Tells clients apart while they live.
pub(super) fn identity(client: &server::RTSPClient) -> usize {
    client.as_ptr() as usize
}
