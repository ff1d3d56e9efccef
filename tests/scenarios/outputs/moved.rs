//! The RTSP server goes elsewhere while outputs are served: they are served there, by the encoders that they have.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use watchpost::encode::{OutputState, RtspServer, VideoOut};

use super::pattern::{Pump, check};
use super::{close, readers, rtsp, until};

fn refuses(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

#[test]
fn a_server_that_moves_takes_its_outputs_along() {
    let server = RtspServer::idle();
    let output = Arc::new(VideoOut::open(rtsp(&server, "yard/wide")).unwrap());
    let pump = Pump::start(Arc::clone(&output));
    until("pictures are pushed", || pump.pushed() > 10);
    assert_eq!((output.status().state, output.wanted()), (OutputState::Idle, false), "nobody can watch");

    let first = e2e::daemon::free_port();
    server.listen("127.0.0.1", first).unwrap();
    let url = server.handle().url("yard/wide");
    assert_eq!(output.status().location, url);
    check(&readers::ffmpeg(&["-rtsp_transport", "tcp", "-i", &url], 25), 25, "at the first address");

    // Somebody watches when it moves.
    let watching = std::thread::spawn({
        let url = url.clone();
        move || readers::ffmpeg(&["-rtsp_transport", "tcp", "-i", &url], 0)
    });
    until("a viewer watches", || output.status().clients == 1 && output.status().frames > 40);
    let second = e2e::daemon::free_port();
    server.listen("127.0.0.1", second).unwrap();
    check(&watching.join().unwrap(), 1, "what the viewer saw until it was sent away");
    assert!(refuses(first), "nobody listens there any longer");
    until("nobody watches", || output.status().clients == 0 && output.status().state == OutputState::Idle);
    let url = server.handle().url("yard/wide");
    assert!(url.contains(&second.to_string()) && output.status().location == url);
    check(&readers::ffmpeg(&["-rtsp_transport", "tcp", "-i", &url], 25), 25, "at the second address");

    // One that is taken is refused, and it stays where it is; a wider address on the same port is not in its own way.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = server.listen("127.0.0.1", taken.local_addr().unwrap().port()).unwrap_err().to_string();
    assert!(error.contains("cannot listen") && error.contains("in use"), "{error}");
    assert_eq!((server.port(), output.status().error), (second, None));
    server.listen("0.0.0.0", second).unwrap();
    check(&readers::ffmpeg(&["-rtsp_transport", "tcp", "-i", &url], 25), 25, "at every address");

    server.silence(Some("no port".into()));
    assert!(refuses(second));
    let status = output.status();
    assert_eq!((status.state, status.error.as_deref()), (OutputState::Retrying, Some("no port")));
    drop(pump);
    assert_eq!(close(output).state, OutputState::Stopped);
    server.stop();
}
