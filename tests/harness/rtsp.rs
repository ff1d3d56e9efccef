//! A real RTSP server that plays video files in a loop, and can be made to misbehave.
//!
//! In: files and mount paths. Out: addresses that any RTSP client can play, TCP or UDP, H.264 or H.265 with AAC
//! audio where the file has it. The server has a thread and a main context of its own; [`RtspServer::stop`] cuts
//! its clients and frees its port, [`RtspServer::restart`] opens the same port again, [`RtspServer::silence`]
//! keeps connections open and sends nothing. Dropping it joins its thread and waits for its media to be freed.

mod player;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer::{self as gst, glib};
use gstreamer_rtsp_server as gst_rtsp_server;
use gstreamer_rtsp_server::prelude::*;
use player::{Clip, Players};

/// Longer than a server may take to start or to stop.
const LONG: Duration = Duration::from_secs(20);

/// What a server shall serve; see [`RtspServer::builder`].
#[derive(Default)]
pub struct Builder {
    mounts: Vec<(String, PathBuf)>,
    shared: bool,
    credentials: Option<(String, String)>,
}

impl Builder {
    /// Serves a video file, in a loop, at a path such as `/main`.
    #[must_use]
    pub fn mount(mut self, path: &str, file: &Path) -> Self {
        self.mounts.push((path.into(), file.into()));
        self
    }

    /// All clients of a mount see the same moment, as with a camera, and a late one joins in the middle of a
    /// group of pictures. Without it each client sees the file from its beginning.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Asks for a user name and a password (basic authentication).
    #[must_use]
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// Where a file cannot be read or the server does not start.
    #[must_use]
    pub fn start(self) -> RtspServer {
        gst::init().unwrap();
        let clips =
            self.mounts.iter().map(|(path, file)| (path.clone(), Arc::new(Clip::load(file)))).collect();
        let setup = Arc::new(Setup {
            clips,
            shared: self.shared,
            credentials: self.credentials,
            players: Players::default(),
        });
        let (running, port) = Running::start(&setup, 0);
        RtspServer { setup, port, running: Some(running) }
    }
}

struct Setup {
    clips: Vec<(String, Arc<Clip>)>,
    shared: bool,
    credentials: Option<(String, String)>,
    players: Players,
}

/// A running server.
pub struct RtspServer {
    setup: Arc<Setup>,
    port: u16,
    running: Option<Running>,
}

impl RtspServer {
    /// A server to be described.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A server with one file at `/main`, each client from its beginning.
    #[must_use]
    pub fn serve(file: &Path) -> Self {
        Self::builder().mount("/main", file).start()
    }

    /// Its port; stays the same over [`Self::stop`] and [`Self::restart`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address of a mount, with the credentials where the server asks for some.
    #[must_use]
    pub fn url(&self, mount: &str) -> String {
        match &self.setup.credentials {
            Some((user, password)) => format!("rtsp://{user}:{password}@127.0.0.1:{}{mount}", self.port),
            None => format!("rtsp://127.0.0.1:{}{mount}", self.port),
        }
    }

    /// Connections stay open, and nothing is sent (true), or playing goes on (false).
    pub fn silence(&self, silent: bool) {
        self.setup.players.silence(silent);
    }

    /// Number of media that are being played to clients now.
    #[must_use]
    pub fn playing(&self) -> usize {
        self.setup.players.count()
    }

    /// Cuts all clients and closes the port.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            self.setup.players.wait_for_none(LONG);
        }
    }

    /// Opens the same port again after [`Self::stop`].
    ///
    /// # Panics
    /// Where somebody else took the port meanwhile.
    pub fn restart(&mut self) {
        if self.running.is_none() {
            self.running = Some(Running::start(&self.setup, self.port).0);
        }
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread that serves, and how to end it.
struct Running {
    main_loop: glib::MainLoop,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(setup: &Arc<Setup>, port: u16) -> (Self, u16) {
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("rtsp-server".into())
            .spawn({
                let (setup, main_loop) = (setup.clone(), main_loop.clone());
                move || serve(&setup, port, &context, &main_loop, ready)
            })
            .unwrap();
        let port = started.recv_timeout(LONG).expect("the RTSP server starts");
        (Self { main_loop, thread }, port)
    }

    fn stop(self) {
        self.main_loop.quit();
        assert!(self.thread.join().is_ok(), "the RTSP server's thread panicked");
    }
}

fn serve(
    setup: &Arc<Setup>,
    port: u16,
    context: &glib::MainContext,
    main_loop: &glib::MainLoop,
    ready: mpsc::Sender<u16>,
) {
    let server = gst_rtsp_server::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(&port.to_string());
    // Clients are served on this thread: no pool of threads outlives the server.
    if let Some(pool) = server.thread_pool() {
        pool.set_max_threads(0);
    }
    if let Some((user, password)) = &setup.credentials {
        let auth = gst_rtsp_server::RTSPAuth::new();
        let token = gst_rtsp_server::RTSPToken::builder()
            .field(gst_rtsp_server::RTSP_TOKEN_MEDIA_FACTORY_ROLE.as_str(), "viewer")
            .build();
        auth.add_basic(&gst_rtsp_server::RTSPAuth::make_basic(user, password), &token);
        server.set_auth(Some(&auth));
    }
    let mounts = server.mount_points().unwrap();
    for (path, clip) in &setup.clips {
        mounts.add_factory(path, factory(setup, clip));
    }
    let id = server.attach(Some(context)).expect("the RTSP server's port is free");
    // Said from inside the loop: a quit that comes before the loop runs would be lost.
    let port = u16::try_from(server.bound_port()).unwrap();
    let running = glib::source::idle_source_new(None, glib::Priority::DEFAULT, move || {
        let _ = ready.send(port);
        glib::ControlFlow::Break
    });
    running.attach(Some(context));
    main_loop.run();

    if let Some(source) = context.find_source_by_id(&id) {
        source.destroy();
    }
    server.client_filter(Some(&mut |_, _| gst_rtsp_server::RTSPFilterResult::Remove));
    if let Some(sessions) = server.session_pool() {
        sessions.filter(Some(&mut |_, _| gst_rtsp_server::RTSPFilterResult::Remove));
    }
    for (path, _) in &setup.clips {
        mounts.remove_factory(path);
    }
    drop((server, mounts));
    // What was closed is freed by sources that are still pending.
    while context.iteration(false) {}
}

fn factory(setup: &Arc<Setup>, clip: &Arc<Clip>) -> gst_rtsp_server::RTSPMediaFactory {
    let factory = gst_rtsp_server::RTSPMediaFactory::new();
    factory.set_launch(&clip.launch());
    factory.set_shared(setup.shared);
    if setup.credentials.is_some() {
        factory.add_role_from_structure(
            &gst::Structure::builder("viewer")
                .field(gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_ACCESS.as_str(), true)
                .field(gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT.as_str(), true)
                .build(),
        );
    }
    let (setup, clip) = (Arc::downgrade(setup), clip.clone());
    factory.connect_media_configure(move |_, media| {
        if let (Some(setup), Ok(bin)) = (setup.upgrade(), media.element().downcast::<gst::Bin>()) {
            setup.players.attach(&bin, &clip);
        }
    });
    factory
}
