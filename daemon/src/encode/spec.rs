//! What an output is: where its video goes, and how it is encoded.
//!
//! In: the configuration of an output, resolved by the caller. Out: an [`OutputSpec`] with its defaults, and
//! text that may be shown: stream keys and passwords are taken out of addresses and error messages here.

use std::path::PathBuf;
use std::sync::Arc;

use crate::flow::Size;

use super::cuda::CudaEncoding;
use super::{EncodeError, RtspHandle};

pub use crate::config::settings::VideoCodec;

impl VideoCodec {
    /// GStreamer's media type.
    pub(super) fn media(self) -> &'static str {
        match self {
            Self::H264 => "video/x-h264",
            Self::H265 => "video/x-h265",
            Self::Av1 => "video/x-av1",
        }
    }

    /// The element that splits it into access units.
    pub(super) fn parser(self) -> &'static str {
        match self {
            Self::H264 => "h264parse",
            Self::H265 => "h265parse",
            Self::Av1 => "av1parse",
        }
    }

    /// The element that packs it into RTP, where it is served.
    pub(super) fn payloader(self) -> &'static str {
        match self {
            Self::H264 | Self::Av1 => "rtph264pay",
            Self::H265 => "rtph265pay",
        }
    }
}

/// Where video goes.
#[derive(Clone)]
pub enum Target {
    /// Pulled by viewers from the daemon's server, under `/mount` (`STREAM/OUTPUT`).
    Rtsp {
        /// The daemon's server.
        server: RtspHandle,
        /// Path without the leading slash.
        mount: String,
    },
    /// Pushed to an RTMP server: `rtmp://` or `rtmps://host[:port]/app/key`.
    Rtmp {
        /// Address; its last part is usually a secret.
        url: String,
    },
    /// Written to a fragmented MP4 file. A file that exists is never overwritten: `name-2.mp4` is written.
    Mp4 {
        /// Path; its folder is made.
        path: PathBuf,
    },
}

/// An output.
#[derive(Clone)]
pub struct OutputSpec {
    /// Name of the stream.
    pub stream: String,
    /// Name of the output.
    pub name: String,
    /// Where the video goes.
    pub target: Target,
    /// Size of the pictures. Odd sizes lose their last column or row: 4:2:0 video has none.
    pub size: Size,
    /// Frames a second, as a fraction; (0, 1) where unknown or variable.
    pub rate: (u32, u32),
    /// How it is coded. H.265 and AV1 need a GPU with NVENC; RTMP carries only H.264, RTSP no AV1.
    pub codec: VideoCodec,
    /// Bits a second; `None`: [`default_bitrate`].
    pub bitrate: Option<u32>,
    /// Seconds of stream time between key frames; `None`: 2.
    pub keyframe_seconds: Option<f64>,
    /// Pictures come at the pace of a clock: those that cannot be taken are dropped. Otherwise
    /// [`super::VideoOut::push`] waits, where the target is a file.
    pub realtime: bool,
    /// Encode pictures of this GPU's memory; without it, pictures come in host memory.
    pub gpu: Option<Arc<CudaEncoding>>,
}

impl OutputSpec {
    /// `STREAM/OUTPUT`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.stream, self.name)
    }

    /// The size that is encoded, and that of pictures in video memory.
    #[must_use]
    pub fn coded(&self) -> Size {
        Size::new(self.size.width & !1, self.size.height & !1)
    }

    /// Bits a second.
    pub(super) fn bits(&self) -> u32 {
        self.bitrate.unwrap_or_else(|| default_bitrate(self.size, self.rate))
    }

    /// Nanoseconds of stream time between key frames.
    pub(super) fn keyframe_ns(&self) -> u64 {
        (self.keyframe_seconds.unwrap_or(2.0) * 1e9) as u64
    }

    /// Whether it goes to a file: nobody watches it while it is coded.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.target, Target::Mp4 { .. })
    }

    /// Whether a picture that finds no room waits instead of being dropped.
    pub(super) fn waits(&self) -> bool {
        !self.realtime && self.is_file()
    }

    /// Where the video goes, fit to be shown.
    pub(super) fn shown(&self) -> String {
        match &self.target {
            Target::Rtsp { server, mount } => server.url(mount),
            Target::Rtmp { url } => redact(url),
            Target::Mp4 { path } => path.display().to_string(),
        }
    }

    /// A text of some library, with this output's secrets taken out.
    pub(super) fn scrub(&self, text: &str) -> String {
        let Target::Rtmp { url } = &self.target else { return text.into() };
        let mut clean = text.replace(url.as_str(), &redact(url));
        for secret in secrets(url) {
            clean = clean.replace(secret, "***");
        }
        clean
    }

    /// Has no line of the log show this output's secrets, whoever writes it.
    pub(super) fn hide_secrets(&self) {
        if let Target::Rtmp { url } = &self.target {
            // A short key is a word like any other, such as the stream's own name.
            let guards = |secret: &&&str| {
                secret.len() >= 8 && ![&self.stream, &self.name].contains(&&secret.to_string())
            };
            secrets(url).iter().filter(guards).for_each(|secret| crate::telemetry::secrets::add(secret));
        }
    }

    /// Whether it makes sense.
    pub(super) fn check(&self) -> Result<(), EncodeError> {
        let wrong = |reason: String| EncodeError::Spec { output: self.label(), reason };
        let Size { width, height } = self.size;
        if !(16..=8192).contains(&width) || !(16..=8192).contains(&height) {
            return Err(wrong(format!("size {} cannot be encoded; expected 16x16 to 8192x8192", self.size)));
        }
        let seconds = self.keyframe_seconds.unwrap_or(2.0);
        if !(0.04..=600.0).contains(&seconds) {
            return Err(wrong(format!("keyframe_seconds = {seconds}; expected 0.04 to 600")));
        }
        if self.rate.1 == 0 {
            return Err(wrong(format!("rate {}/{} is no fraction", self.rate.0, self.rate.1)));
        }
        match (&self.target, self.codec) {
            (_, VideoCodec::H264) | (Target::Mp4 { .. }, _) | (Target::Rtsp { .. }, VideoCodec::H265) => {}
            (Target::Rtmp { .. }, codec) => {
                return Err(wrong(format!("RTMP carries H.264, not {codec}; set codec = \"h264\"")));
            }
            (Target::Rtsp { .. }, codec) => {
                return Err(wrong(format!("RTSP viewers take H.264 or H.265, not {codec}")));
            }
        }
        if self.codec != VideoCodec::H264 {
            let Some(gpu) = &self.gpu else {
                let codec = self.codec;
                return Err(wrong(format!(
                    "{codec} needs NVENC, and this stream is on the CPU, which codes H.264"
                )));
            };
            gpu.may_encode(self.codec)
                .map_err(|reason| wrong(format!("{} needs NVENC: {reason}", self.codec)))?;
        }
        match &self.target {
            Target::Rtmp { url } => {
                let rest = url.strip_prefix("rtmp://").or_else(|| url.strip_prefix("rtmps://"));
                let parts = rest.map_or(0, |rest| rest.split('/').filter(|part| !part.is_empty()).count());
                if parts < 3 {
                    let shown = redact(url);
                    return Err(wrong(format!(
                        "\"{shown}\" is no RTMP address; expected rtmp://host/app/key"
                    )));
                }
            }
            Target::Mp4 { path } if path.file_name().is_none() => {
                return Err(wrong(format!("\"{}\" is no file name", path.display())));
            }
            Target::Rtsp { mount, .. } if mount.is_empty() || mount.starts_with('/') => {
                return Err(wrong(format!("\"{mount}\" is no mount; expected STREAM/OUTPUT")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Bits a second that look decent for a size: 3 Mbit/s at 1280 × 720 and 30 frames a second, larger pictures
/// needing somewhat less for each pixel, faster ones less for each frame.
#[must_use]
pub fn default_bitrate(size: Size, rate: (u32, u32)) -> u32 {
    let pixels = f64::from(size.width) * f64::from(size.height) / (1280.0 * 720.0);
    let rate = if rate.0 == 0 || rate.1 == 0 { 30.0 } else { f64::from(rate.0) / f64::from(rate.1) };
    let bits = 3e6 * pixels.powf(0.75) * (rate.clamp(1.0, 240.0) / 30.0).sqrt();
    (bits / 1e4).round().clamp(10.0, 10_000.0) as u32 * 10_000
}

/// An address without user, password, query and stream key: `rtmp://host/app/***`.
#[must_use]
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".into() };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let app = path.split(['/', '?']).next().unwrap_or("");
    if app.len() == path.len() {
        return format!("{scheme}://{host}/{app}");
    }
    format!("{scheme}://{host}/{app}/***")
}

/// The parts of an address that must not be shown, longest first.
fn secrets(url: &str) -> Vec<&str> {
    let Some((_, rest)) = url.split_once("://") else { return Vec::new() };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut found = Vec::new();
    if let Some((login, _)) = host.rsplit_once('@') {
        found.push(login);
        found.extend(login.split_once(':').map(|(_, password)| password));
    }
    if let Some(at) = path.find(['/', '?']) {
        let key = &path[at + 1..];
        found.push(key);
        found.extend(key.split(['/', '?', '&', '=']).filter(|part| part.len() >= 4));
    }
    found.retain(|secret| !secret.is_empty());
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtmp(url: &str) -> OutputSpec {
        OutputSpec {
            stream: "entrance".into(),
            name: "live".into(),
            target: Target::Rtmp { url: url.into() },
            size: Size::new(1280, 720),
            rate: (25, 1),
            codec: VideoCodec::H264,
            bitrate: None,
            keyframe_seconds: None,
            realtime: true,
            gpu: None,
        }
    }

    #[test]
    fn codecs_that_cannot_be_carried_or_coded_are_refused() {
        let refused = |spec: OutputSpec| spec.check().map_err(|error| error.to_string()).unwrap_err();
        let file = Target::Mp4 { path: "a.mp4".into() };
        for codec in [VideoCodec::H265, VideoCodec::Av1] {
            let pushed = refused(OutputSpec { codec, ..rtmp("rtmp://host/app/key") });
            assert!(pushed.contains("RTMP carries H.264") && !pushed.contains("key"), "{pushed}");
            let written = refused(OutputSpec { codec, target: file.clone(), ..rtmp("") });
            assert!(written.contains("needs NVENC") && written.contains("on the CPU"), "{written}");
        }
        assert!(OutputSpec { target: file, ..rtmp("") }.check().is_ok());
    }

    #[test]
    fn keys_and_passwords_are_not_shown() {
        let url = "rtmp://anna:hunter2@live.example/app/sk_live_1?token=abcd";
        assert_eq!(redact(url), "rtmp://live.example/app/***");
        assert_eq!(redact("rtmp://host:1935/app/key"), "rtmp://host:1935/app/***");
        assert_eq!(redact("no address"), "***");
        let spec = rtmp(url);
        for text in [
            format!("cannot reach {url}"),
            "publish of sk_live_1 refused".into(),
            "login anna:hunter2, token abcd".into(),
        ] {
            let clean = spec.scrub(&text);
            for secret in ["hunter2", "sk_live_1", "abcd"] {
                assert!(!clean.contains(secret), "{clean}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_and_the_message_has_no_key() {
        assert!(rtmp("rtmp://host/app/key").check().is_ok());
        let refused = rtmp("rtmp://host/secretkey").check().map_err(|error| error.to_string());
        assert!(refused.as_ref().is_err_and(|error| error.contains("entrance/live")), "{refused:?}");
        assert!(rtmp("http://host/app/key").check().is_err());
        let tiny = OutputSpec { size: Size::new(8, 8), ..rtmp("rtmp://host/app/key") };
        assert!(tiny.check().is_err());
        let still = OutputSpec { keyframe_seconds: Some(0.0), ..rtmp("rtmp://host/app/key") };
        assert!(still.check().is_err());
    }

    #[test]
    fn default_bitrates_grow_with_the_picture() {
        let at = |width, height| default_bitrate(Size::new(width, height), (30, 1));
        assert_eq!(at(1280, 720), 3_000_000);
        assert!((5_000_000..6_000_000).contains(&at(1920, 1080)));
        assert!((300_000..500_000).contains(&at(320, 180)));
        assert!(default_bitrate(Size::new(1280, 720), (10, 1)) < 2_000_000);
        assert_eq!(default_bitrate(Size::new(1280, 720), (0, 1)), 3_000_000);
    }
}
