//! The video of a benchmark: what it is, found out by reading its beginning as the daemon would.
//!
//! In: a path. Out: a [`Video`] with its size, rate, decoder, number of frames and a few of its pictures. Reads once;
//! owns only copies of those pictures. A file that cannot be read, or is too short, is an error that names it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use super::interrupt::Stop;
use crate::flow::{Decoded, Picture, Size};
use crate::ingest::{Location, Next, Source, SourceSpec};

/// How long one look at a source may take; the delay with which a stop is noticed.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// Fewer frames are no video to measure on.
const LEAST: u64 = 8;
/// Bytes of pictures that are kept at most, and how many.
const KEEP_BYTES: u64 = 96 << 20;
const KEEP: u64 = 48;

/// A video, and what is known of it.
#[derive(Serialize)]
pub struct Video {
    /// As it was asked for.
    pub source: String,
    /// The file.
    #[serde(skip)]
    pub path: PathBuf,
    /// Size of its frames.
    #[serde(serialize_with = "as_text")]
    pub size: Size,
    /// Frames a second.
    pub rate: f64,
    /// Its codec.
    pub codec: Option<String>,
    /// The element that decodes it on the CPU.
    pub decoder: String,
    /// Frames that a pass reads at most.
    pub frames: u64,
    /// Its first pictures, as the decoder laid them out.
    #[serde(skip)]
    pub pictures: Vec<Picture>,
}

fn as_text<S: serde::Serializer>(size: &Size, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(size)
}

/// The path of a file that is named as a source may be.
pub(super) fn file(text: &str) -> anyhow::Result<PathBuf> {
    match Location::parse(text)? {
        Location::File(path) => Ok(path),
        other => bail!("{other}: a live source has a pace of its own; expected a video file or scene://"),
    }
}

/// Reads the beginning of a file: as many frames as `needed` says for its rate.
pub(super) fn look(
    shown: &str,
    path: PathBuf,
    needed: impl Fn(f64) -> u64,
    stop: &Stop,
) -> anyhow::Result<Video> {
    let uri = path.to_str().context("a path that is no text")?;
    let mut source = Source::start(SourceSpec::new("bench", uri))?;
    let (mut info, mut pictures, mut times) = (None, Vec::new(), Vec::new());
    // The rate is known from the second frame on.
    while times.len() < 2 || (times.len() as u64) < needed(rate(&times)) {
        stop.check()?;
        match source.next(LOOK) {
            Next::Started(started) => info = Some(started),
            Next::Frame(frame) => {
                times.push(frame.meta.pts);
                // Only a source that was given a GPU decodes into video memory.
                if let Decoded::Host(picture) = &frame.pixels
                    && (pictures.len() as u64) < kept(picture.size)
                {
                    pictures.push(copy(picture));
                }
            }
            Next::Ended => break,
            Next::Failed(error) => return Err(error.into()),
            Next::Resized(size) => bail!("{shown}: its frames become {size}; expected one size"),
            Next::Timeout | Next::Lost(..) | Next::Back(_) => {}
        }
    }
    source.stop();
    let info = info.with_context(|| format!("{shown}: no frame"))?;
    let frames = times.len() as u64;
    ensure!(frames >= LEAST, "{shown}: {frames} frames; expected at least {LEAST}");
    let decoder = info.decoder.split(' ').next().unwrap_or_default().to_owned();
    let codec = info.codec.map(|codec| codec.0.to_string());
    let rate = rate(&times);
    ensure!(rate.is_finite() && rate > 0.0, "{shown}: its frames have no times");
    Ok(Video { source: shown.to_owned(), path, size: info.size, rate, codec, decoder, frames, pictures })
}

/// Frames a second: the mean, since not every video keeps to what it says.
fn rate(times: &[u64]) -> f64 {
    match times {
        [first, .., last] => (times.len() - 1) as f64 * 1e9 / last.saturating_sub(*first) as f64,
        _ => 0.0,
    }
}

/// How many pictures of this size are kept.
fn kept(size: Size) -> u64 {
    let bytes = u64::from(size.width) * u64::from(size.height) * 3 / 2;
    (KEEP_BYTES / bytes.max(1)).clamp(4, KEEP)
}

/// A copy with memory of its own: a decoder gets back what it lent.
fn copy(picture: &Picture) -> Picture {
    let planes: Vec<Vec<u8>> =
        (0..picture.format.planes()).map(|index| picture.plane(index).to_vec()).collect();
    Picture::new(picture.format, picture.size, picture.strides, picture.color, Arc::new(planes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_mean_of_all_frames() {
        assert_eq!(rate(&[0, 40_000_000, 80_000_000]), 25.0);
        assert_eq!(rate(&[5, 10_000_005, 100_000_005]), 20.0);
        assert!(!rate(&[7, 7]).is_finite());
    }

    #[test]
    fn large_pictures_are_kept_in_small_numbers() {
        assert_eq!(kept(Size::new(640, 360)), 48);
        assert_eq!(kept(Size::new(1920, 1080)), 32);
        assert_eq!(kept(Size::new(7680, 4320)), 4);
    }

    #[test]
    fn what_is_no_file_is_said_so() {
        let error = file("rtsp://joe:s3cret@camera/main").unwrap_err().to_string();
        assert!(
            error.contains("scene://") && error.contains("camera") && !error.contains("s3cret"),
            "{error}"
        );
        let gone = look("gone.mp4", "/nowhere/gone.mp4".into(), |_| 10, &Stop::default());
        assert!(gone.err().unwrap().to_string().contains("/nowhere/gone.mp4"));
    }
}
