//! The settings of video that leaves: where it goes, what it shows, how it is coded.
//!
//! In: configuration. Out: plain data with defaults, as everything in [`super`]. What types cannot say is checked in
//! `validate`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::flow::Size;

/// Video that leaves a stream. Exactly one of `serve`, `to` and `file`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VideoOutput {
    /// `rtsp`: pulled by viewers from `rtsp://box:8554/STREAM/OUTPUT`.
    pub serve: Option<String>,
    /// Pushed to `rtmp://`.
    pub to: Option<String>,
    /// Written to a file (`.mp4`).
    pub file: Option<PathBuf>,
    /// `PLUGIN/CAMERA`: a virtual camera; default: the whole frame.
    pub view: Option<String>,
    /// Size of the picture; default: the source's, or 1280x720 for a view.
    pub size: Option<Size>,
    /// `h264`, `h265` or `av1`; what is not H.264 needs a GPU with NVENC.
    pub codec: VideoCodec,
    /// Bits a second, such as `4M` or `800k`.
    pub bitrate: Option<Bitrate>,
    /// Seconds between key frames.
    pub keyframe_seconds: Option<f64>,
    /// Draw boxes, ids, shapes and alert banners.
    pub overlay: bool,
}

/// How video that leaves is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// H.264: by NVENC or x264.
    #[default]
    H264,
    /// H.265: by NVENC.
    H265,
    /// AV1: by NVENC.
    Av1,
}

impl std::fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Av1 => "AV1",
        })
    }
}

/// Bits a second; written as a number, or with `k` or `M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bitrate(pub u32);

impl std::str::FromStr for Bitrate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("\"{text}\" is no bitrate; expected bits a second, such as 800k or 4M");
        let (number, factor) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
            Some(b'M') => (&text[..text.len() - 1], 1e6),
            _ => (text, 1.0),
        };
        let bits = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
        if (1e4..=1e9).contains(&bits) { Ok(Self(bits as u32)) } else { Err(wrong()) }
    }
}

impl Serialize for Bitrate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl<'de> Deserialize<'de> for Bitrate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
