//! GStreamer, its decoders and encoders: each codec is decoded or encoded, on the CPU and on the GPU.
//!
//! In: GStreamer's registry, the driver. Out: findings. Runs in a process of its own: what GStreamer loads may crash it.

use gstreamer as gst;

use super::codec::{self, Codec};
use super::finding::Finding;
use super::nvenc;
use super::tries::{Tries, Went};
use crate::gpu::{Device, loads, probe};
use crate::ingest::CudaDecoding;

/// Says that GStreamer's plugin for the GPU has nothing to offer; the doctor then looks whether its registry is stale.
pub(super) const NO_ELEMENTS: &str = "nvcodec";

/// Elements that sources and outputs are made of: name, what for, Debian's package.
const NEEDED: [(&str, &str, &str); 12] = [
    ("filesrc", "files", "libgstreamer1.0-0"),
    ("parsebin", "files and RTSP", "gstreamer1.0-plugins-base"),
    ("videoconvert", "decoded video", "gstreamer1.0-plugins-base"),
    ("qtdemux", "MP4 files", "gstreamer1.0-plugins-good"),
    ("matroskademux", "MKV files", "gstreamer1.0-plugins-good"),
    ("tsdemux", "MPEG-TS files", "gstreamer1.0-plugins-bad"),
    ("rtspsrc", "RTSP sources", "gstreamer1.0-plugins-good"),
    ("h264parse", "H.264", "gstreamer1.0-plugins-bad"),
    ("h265parse", "H.265", "gstreamer1.0-plugins-bad"),
    ("rtph264pay", "RTSP outputs", "gstreamer1.0-plugins-good"),
    ("rtmp2sink", "RTMP outputs", "gstreamer1.0-plugins-bad"),
    ("mp4mux", "MP4 outputs", "gstreamer1.0-plugins-good"),
];

/// `streams`: those that use GStreamer. `busy`: the daemon runs.
pub(super) fn look(tries: &mut Tries, streams: &[String], driver: bool, busy: bool) {
    tries.vital("GStreamer", "GStreamer's own start", streams, || gstreamer(streams));
    if gst::init().is_err() {
        return;
    }
    for codec in codec::ALL {
        let name = format!("decoding {} on the CPU", codec.name);
        tries.one("decoding", &name, streams, || vec![decoding(&codec)]);
    }
    tries.one("encoding", "encoding H.264 on the CPU", &[], || vec![encoding()]);
    if !driver {
        let none = |what| Finding::limited(what, "none without a GPU driver", "see GPU driver, above");
        tries.one("NVDEC", "NVDEC", &[], || vec![none("NVDEC"), none("NVENC")]);
        return;
    }
    let listed = ["cudaupload", "cudadownload"].iter().all(|name| codec::is_there(name));
    tries.one("NVDEC", "libnvcuvid.so.1", &[], || nvdec_library(listed));
    let gpus = probe().map(|driver| driver.gpus).unwrap_or_default();
    for gpu in gpus.iter().filter(|_| listed) {
        nvdec(tries, gpu.index);
    }
    let mut encodes = listed;
    tries.one("NVENC", "libnvidia-encode.so.1", &[], || {
        let missing = nvenc::library();
        encodes &= missing.is_none();
        Vec::from_iter(missing)
    });
    for gpu in gpus.iter().filter(|_| encodes) {
        nvenc::look(tries, gpu.index, busy);
    }
}

fn gstreamer(streams: &[String]) -> Vec<Finding> {
    if let Err(error) = gst::init() {
        let fix = "apt install libgstreamer1.0-0 gstreamer1.0-plugins-base";
        return vec![Finding::needed("GStreamer", format!("does not start: {error}"), fix, streams)];
    }
    let mut findings: Vec<Finding> = NEEDED
        .iter()
        .filter(|(name, ..)| !codec::is_there(name))
        .map(|(name, what, package)| {
            // Whether a stream needs it is found out by opening its source.
            let found = format!("no element {name}: no {what}");
            Finding::limited("GStreamer", found, format!("apt install {package}"))
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::good("GStreamer", format!("{}, nothing missing", gst::version_string())));
    } else {
        findings.insert(0, Finding::good("GStreamer", gst::version_string()));
    }
    findings
}

fn decoding(codec: &Codec) -> Finding {
    let (mut why, mut tried) = (String::new(), 0);
    for name in codec.cpu.iter().filter(|name| codec::is_there(name)) {
        tried += 1;
        match codec.decode(name) {
            Ok(()) => return Finding::good("decoding", format!("{}: {name} decoded a frame", codec.name)),
            Err(error) => why = format!("{name}: {error}"),
        }
    }
    if tried == 0 {
        why = format!("no element {}", codec.cpu.join(" nor "));
    }
    let fix = "streams of this codec cannot be decoded on the CPU: apt install gstreamer1.0-libav gstreamer1.0-plugins-good gstreamer1.0-plugins-bad";
    Finding::limited("decoding", format!("{}: {why}", codec.name), fix)
}

fn encoding() -> Finding {
    match codec::encode("x264enc") {
        Ok(()) => Finding::good("encoding", "H.264: x264enc encoded frames"),
        Err(why) => {
            let fix = "outputs need it where there is no NVENC: apt install gstreamer1.0-plugins-ugly";
            Finding::limited("encoding", format!("H.264: x264enc: {why}"), fix)
        }
    }
}

/// What stands before all of NVDEC.
fn nvdec_library(listed: bool) -> Vec<Finding> {
    if let Err(why) = loads("libnvcuvid.so.1") {
        let fix = nvenc::libraries("apt install libnvcuvid1");
        return vec![Finding::limited("NVDEC", format!("none: {why}"), fix)];
    }
    if listed {
        return Vec::new();
    }
    let found =
        "none: the driver and its libraries load, and GStreamer's plugin nvcodec is missing or lists nothing";
    vec![Finding::limited(NO_ELEMENTS, found, "apt install gstreamer1.0-plugins-bad")]
}

/// The decoders of one GPU: those that the lane would take, by what they say that they can do, each decoding a frame.
fn nvdec(tries: &mut Tries, gpu: u32) {
    let mut asked = None;
    let went = tries.one("NVDEC", &format!("the decoders of GPU {gpu}"), &[], || {
        asked = Some(decoders(gpu));
        Vec::new()
    });
    if went == Went::Badly {
        return;
    }
    let decoders = asked.unwrap_or_else(|| decoders(gpu));
    let fix = "streams are decoded on the CPU and uploaded";
    let none = match &decoders {
        Ok(found) if !found.is_empty() => None,
        Ok(_) => Some("GStreamer's nvcodec lists no codec that it decodes".to_owned()),
        Err(why) => Some(why.clone()),
    };
    if let Some(why) = none {
        let found = format!("{gpu}: none: {why}");
        tries.one("NVDEC", "NVDEC", &[], || vec![Finding::limited("NVDEC", found, fix)]);
    }
    for (codec, name) in decoders.unwrap_or_default() {
        let what = format!("{gpu}: {}: {name}", codec.name);
        tries.one("NVDEC", &what.clone(), &[], || {
            vec![match codec.decode(&name) {
                Ok(()) => Finding::good("NVDEC", format!("{what} decoded a frame")),
                Err(why) => Finding::limited("NVDEC", format!("{what}: {why}"), fix),
            }]
        });
    }
}

/// Codecs and elements, as the lane chooses them.
fn decoders(gpu: u32) -> Result<Vec<(Codec, String)>, String> {
    let device = Device::open(gpu).map_err(|error| error.to_string())?;
    let context = device.gstreamer().map_err(|error| error.to_string())?;
    let found = CudaDecoding::new(context, 1).codecs();
    let element = |codec: &Codec| {
        let known = found.iter().find(|(media, _)| *media == codec.media)?;
        known.1.as_ref().ok().cloned()
    };
    Ok(codec::ALL.into_iter().filter_map(|codec| Some((codec, element(&codec)?))).collect())
}
