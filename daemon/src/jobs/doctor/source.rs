//! The source of one stream: opened as the stream would, until its first frame.
//!
//! In: the stream's settings. Out: a finding. Runs in a process of its own: a decoder that crashes on this source crashes
//! only that. A live source that is away is no reason not to run: the stream waits for it.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::finding::Finding;
use super::tries::Tries;
use crate::config::Settings;
use crate::config::settings::{LaneChoice, Stream};
use crate::gpu::{Device, probe};
use crate::ingest::{CudaDecoding, IngestError, Location, Next, Source, SourceSpec};
use crate::scene::SceneSpec;

/// How long the first frame may take: a camera's next key frame may be far.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a camera that did not answer may take to take a connection.
const CONNECTION: Duration = Duration::from_secs(3);
/// Pictures held at once: the first.
const FRAMES: u32 = 1;

/// `driver`: there is one, so the GPU decodes for a stream that would take the CUDA lane.
pub(super) fn look(tries: &mut Tries, settings: &Settings, name: &str, driver: bool) {
    let Some(stream) = settings.streams.get(name) else { return };
    let stops = [name.to_owned()];
    let fix = format!("mend streams.{name}.source");
    let shown = shown(&stream.source);
    tries.one("source", &format!("{name}: {shown}"), &stops, || {
        if stream.source.starts_with("scene:") {
            return vec![match SceneSpec::parse(&stream.source) {
                Ok(spec) => Finding::good("source", format!("{name}: {spec}, rendered here")),
                Err(error) => Finding::wrong("source", format!("{name}: {error}"), fix, &stops),
            }];
        }
        // Packets need not be kept, and where a file begins again is of no interest.
        let gpu = driver.then(|| decoding(settings, stream)).flatten();
        let kept = Duration::ZERO;
        let spec = SourceSpec { ring: kept, loop_: false, gpu, ..SourceSpec::from_settings(name, stream) };
        let found = match Source::start(spec) {
            Ok(source) => first_frame(source),
            Err(error) => Err(error),
        };
        vec![match found {
            Ok(Some(found)) => Finding::good("source", format!("{name}: {shown}: {found}")),
            Ok(None) => {
                let found = format!("{name}: {shown}: no frame within {} s", PATIENCE.as_secs());
                Finding::limited(
                    "source",
                    found,
                    "the stream waits for it; see whether the camera sends video",
                )
            }
            // A file's troubles do not go away by waiting.
            Err(error) if Location::parse(&stream.source).is_ok_and(|location| !location.is_live()) => {
                Finding::wrong("source", format!("{name}: {error}"), fix, &stops)
            }
            Err(error) => trouble(name, &stream.source, &error, &fix, &stops),
        }]
    });
}

/// Decoding on the stream's GPU, where it would take it; why it would not is said under `lane`.
fn decoding(settings: &Settings, stream: &Stream) -> Option<Arc<CudaDecoding>> {
    if stream.lane.unwrap_or(settings.accel.lane) == LaneChoice::Cpu {
        return None;
    }
    probe().ok()?;
    let context = Device::open(stream.gpu.unwrap_or(settings.accel.gpu)).ok()?.gstreamer().ok()?;
    Some(Arc::new(CudaDecoding::new(context, FRAMES)))
}

fn trouble(name: &str, source: &str, error: &IngestError, fix: &str, stops: &[String]) -> Finding {
    let found = format!("{name}: {error}");
    match error {
        // These do not go away by waiting; their texts say what to install or to do.
        IngestError::Missing { .. } | IngestError::NoDecoder { .. } | IngestError::Start { .. } => {
            Finding::wrong(
                "source",
                found,
                "install what is missing: see GStreamer and decoding, above",
                stops,
            )
        }
        IngestError::Element { .. } | IngestError::Stalled { .. } | IngestError::EndedByServer { .. } => {
            let location = Location::parse(source).ok();
            match location.as_ref().and_then(Location::host).and_then(|(host, port)| out_of_reach(host, port))
            {
                Some((why, fix)) => Finding::limited("source", format!("{found}; {why}"), fix),
                None => {
                    let fix = "the stream waits and tries again; see the camera, its address and credentials, the network";
                    Finding::limited("source", found, fix)
                }
            }
        }
        _ => Finding::wrong("source", found, fix, stops),
    }
}

/// Why a host cannot be talked to at all, and what to do about it: GStreamer says "failed to connect" of everything.
fn out_of_reach(host: &str, port: u16) -> Option<(String, &'static str)> {
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            let fix =
                "the stream waits and tries again; see the name and the box's DNS: `resolvectl query NAME`";
            return Some((format!("the name {host} does not resolve: {error}"), fix));
        }
    };
    let mut why = format!("the name {host} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECTION) {
            Ok(_) => return None,
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    let fix =
        "the stream waits and tries again; see whether the camera is on, its address and port, the network";
    Some((why, fix))
}

/// Waits for a frame; `None` where none came in time.
fn first_frame(mut source: Source) -> Result<Option<String>, IngestError> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match source.next(PATIENCE.saturating_sub(begun.elapsed())) {
            Next::Frame(frame) => {
                let stats = source.stats();
                let (width, height) = (frame.meta.width, frame.meta.height);
                let codec = stats.codec.map_or_else(|| "video".to_owned(), |codec| codec.0.to_string());
                let by = stats.decoder.unwrap_or_else(|| "a decoder".to_owned());
                let after = begun.elapsed().as_secs_f64();
                return Ok(Some(format!("{codec} {width}x{height}, first frame by {by} after {after:.1} s")));
            }
            Next::Lost(error, _) => return Err(error),
            Next::Failed(error) => return Err(error),
            Next::Ended => {
                let (source_, detail) = (source.location().to_string(), "it is over".to_owned());
                return Err(IngestError::NoFrames { source_, detail });
            }
            Next::Started(_) | Next::Back(_) | Next::Resized(_) | Next::Timeout => {}
        }
    }
    Ok(None)
}

/// The address without credentials.
pub(super) fn shown(source: &str) -> String {
    if source.starts_with("scene:") {
        return source.to_owned();
    }
    Location::parse(source).map_or_else(|_| "(no address)".to_owned(), |location| location.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_host_is_out_of_reach_by_name_or_by_port() {
        let (why, fix) = out_of_reach("no-such-camera.invalid", 554).unwrap();
        assert!(why.starts_with("the name no-such-camera.invalid does not resolve: "), "{why}");
        assert!(fix.contains("DNS"), "{fix}");
        let (why, _) = out_of_reach("127.0.0.1", 1).unwrap();
        assert!(why.starts_with("127.0.0.1:1: Connection refused"), "{why}");
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(out_of_reach("127.0.0.1", open.local_addr().unwrap().port()), None);
    }
}
