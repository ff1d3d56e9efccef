//! What the daemon talks to and listens on: the broker, the ports of the RTSP server and the status page.
//!
//! In: the configuration. Out: findings. Logs in under a name of its own, so that a running daemon keeps its
//! connection. A broker that is away is waited for by the daemon; settings that make no sense keep it from starting.

use std::net::TcpListener;
use std::time::Duration;

use super::finding::Finding;
use crate::config::Settings;
use crate::publish::{Destination, PublishSettings};

/// How long the broker may take to answer.
const SOON: Duration = Duration::from_secs(5);

/// `daemon`: it may run, and then has what it listens on.
pub(super) fn look(settings: &Settings, daemon: bool) -> Vec<Finding> {
    let served = settings.streams.values().filter(|stream| stream.enabled);
    let served = served.flat_map(|stream| stream.outputs.values()).any(|output| output.serve.is_some());
    let mut findings = vec![broker(settings, daemon)];
    findings.extend((served && !daemon).then(|| rtsp(settings)));
    findings.push(page(settings, daemon));
    findings
}

/// Nobody needs the page; whoever looks for it should learn where it is.
fn page(settings: &Settings, daemon: bool) -> Finding {
    let what = "status page";
    let (Some(address), Some(url)) = (settings.http.address(), settings.http.url()) else {
        return Finding::good(what, "none: http.listen is off");
    };
    if let Err(error) = crate::http::check(&settings.http) {
        return Finding::limited(
            what,
            error,
            "write the token into the file, and let the daemon's user read it",
        );
    }
    if daemon {
        return Finding::good(what, format!("of the running daemon, at {url}"));
    }
    match TcpListener::bind(address) {
        Ok(_) => Finding::good(what, format!("can be served at {url}")),
        Err(error) => {
            let found = format!("cannot listen on {address}: {error}; page and metrics are not served");
            Finding::limited(what, found, "stop what has the port, or choose another http.listen")
        }
    }
}

/// Outputs that viewers pull need the port; a stream runs without.
fn rtsp(settings: &Settings) -> Finding {
    let (address, port) = (settings.rtsp.address.as_str(), settings.rtsp.port);
    match TcpListener::bind((address, port)) {
        Ok(_) => Finding::good("RTSP server", format!("can listen on {address}:{port}")),
        Err(error) => {
            let found =
                format!("cannot listen on {address}:{port}: {error}; outputs with serve = \"rtsp\" fail");
            Finding::limited("RTSP server", found, "stop what has the port, or choose another rtsp.port")
        }
    }
}

fn broker(settings: &Settings, daemon: bool) -> Finding {
    let publish = match PublishSettings::new(&settings.mqtt, &settings.box_.name, &settings.paths.state) {
        Ok(publish) => publish,
        Err(error) => return Finding::wrong("broker", error.to_string(), "mend the [mqtt] table", &[]),
    };
    match publish.destination {
        Destination::Off => Finding::good("broker", "none: mqtt.url is off"),
        Destination::Embedded(listen) if daemon => {
            Finding::good("broker", format!("inside the running daemon, on {listen}"))
        }
        Destination::Embedded(listen) => match TcpListener::bind(listen) {
            Ok(_) => Finding::good("broker", format!("inside the daemon, which can listen on {listen}")),
            Err(error) => {
                let found = format!("inside the daemon, which cannot listen on {listen}: {error}");
                Finding::wrong("broker", found, "stop what has the port, or choose another mqtt.listen", &[])
            }
        },
        Destination::Broker { .. } => match publish.try_login(SOON) {
            Ok(()) => Finding::good("broker", format!("{}: logged in", publish.address())),
            Err(why) => {
                let fix = "events wait in the outbox until it answers; mend mqtt.url, or username and password_file";
                Finding::limited("broker", format!("{}: {why}", publish.address()), fix)
            }
        },
    }
}
