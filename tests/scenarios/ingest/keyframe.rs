//! A camera joined in the middle of a group of pictures without end: it is asked for a key frame.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gstreamer::{self as gst, glib};
use gstreamer_rtsp_server as server;
use gstreamer_rtsp_server::gst_rtsp::RTSPProfile;
use gstreamer_rtsp_server::prelude::*;
use watchpost::ingest::{Next, Source, SourceSpec};

use super::play::LONG;

/// A camera that makes a key frame for its first viewer, and then only when it is asked for one.
struct Camera {
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
    url: String,
}

impl Camera {
    /// `feedback`: whether it offers RTCP feedback (RFC 4585).
    fn start(feedback: bool) -> Self {
        gst::init().unwrap();
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let (ready, started) = mpsc::channel();
        let running = main_loop.clone();
        let thread = std::thread::spawn(move || {
            let server = server::RTSPServer::new();
            server.set_address("127.0.0.1");
            server.set_service("0");
            if let Some(pool) = server.thread_pool() {
                pool.set_max_threads(0);
            }
            let factory = server::RTSPMediaFactory::new();
            let offer = if feedback { ",rtcp-fb-nack-pli=(boolean)true" } else { "" };
            factory.set_launch(&format!(
                "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 \
                 ! x264enc tune=zerolatency key-int-max=100000 ! rtph264pay pt=96 config-interval=-1 \
                 ! capsfilter name=pay0 caps=\"application/x-rtp{offer}\" )"
            ));
            factory.set_shared(true);
            factory.set_profiles(if feedback { RTSPProfile::AVPF } else { RTSPProfile::AVP });
            server.mount_points().unwrap().add_factory("/main", factory);
            let id = server.attach(Some(&context)).unwrap();
            ready.send(server.bound_port()).unwrap();
            running.run();
            if let Some(source) = context.find_source_by_id(&id) {
                source.destroy();
            }
            server.client_filter(Some(&mut |_, _| server::RTSPFilterResult::Remove));
            drop(server);
            while context.iteration(false) {}
        });
        let port = started.recv_timeout(LONG).unwrap();
        Self { main_loop, thread: Some(thread), url: format!("rtsp://127.0.0.1:{port}/main") }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.main_loop.quit();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn open(camera: &Camera) -> Source {
    let spec = SourceSpec { latency: Duration::from_millis(200), ..SourceSpec::new("camera", &camera.url) };
    Source::start(spec).unwrap()
}

/// Takes frames until there are so many, or the time is over; gives how many.
fn frames(source: &mut Source, wanted: usize, within: Duration) -> usize {
    let deadline = Instant::now() + within;
    let mut count = 0;
    while count < wanted && Instant::now() < deadline {
        match source.next(Duration::from_millis(100)) {
            Next::Frame(_) => count += 1,
            Next::Lost(error, _) => panic!("lost: {error}"),
            _ => {}
        }
    }
    count
}

#[test]
fn a_late_viewer_asks_for_a_key_frame() {
    let camera = Camera::start(true);
    let mut first = open(&camera);
    assert_eq!(frames(&mut first, 30, LONG), 30);
    let mut late = open(&camera);
    assert_eq!(frames(&mut late, 30, LONG), 30, "{:?}", late.stats());
    assert!(frames(&mut first, 30, LONG) == 30, "the first goes on");
}

/// A camera without feedback does not hear of it, and is not harmed.
#[test]
fn a_camera_without_feedback_is_left_in_peace() {
    let camera = Camera::start(false);
    let mut first = open(&camera);
    assert_eq!(frames(&mut first, 30, LONG), 30);
    let mut late = open(&camera);
    let deadline = Instant::now() + LONG;
    while late.stats().packets < 50 {
        assert!(Instant::now() < deadline, "{:?}", late.stats());
        assert_eq!(frames(&mut late, 1, Duration::from_millis(200)), 0, "nothing can be decoded yet");
    }
    assert_eq!(frames(&mut first, 50, LONG), 50, "the first goes on");
}
