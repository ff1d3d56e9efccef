//! Recordings: snapshots and clips of incidents, from `paths.state`/clips.
//!
//! In: a stream's name and a file's, as they are in the address. Out: the file, or the part of it that was asked for. Only
//! the names that recordings have are looked for, so no address leads out of the folder; links are not followed.

use std::io::SeekFrom;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use hyper::{HeaderMap, StatusCode, header};
use tokio::io::AsyncSeekExt;

use super::answer::{self, Answer, Body};

/// What a request wants of a file.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// From this byte, so many.
    Range(u64, u64),
    /// None of what is asked for is there.
    Outside,
}

/// Sends a recording. `file`: `INCIDENT.jpg` or `INCIDENT.mp4`.
pub(super) async fn send(clips: &Path, stream: &str, file: &str, headers: &HeaderMap) -> Answer {
    let gone = || answer::error(StatusCode::NOT_FOUND, "no such recording");
    let Some(kind) = kind(stream, file) else { return gone() };
    let path = clips.join(stream).join(file);
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let Ok(mut file) = tokio::fs::OpenOptions::from(options).open(&path).await else { return gone() };
    let Ok(known) = file.metadata().await else { return gone() };
    if !known.is_file() {
        return gone();
    }
    let length = known.len();
    let written =
        known.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let tag = format!("\"{length:x}-{:x}\"", written.as_micros());
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if text(header::IF_NONE_MATCH) == Some(&tag) {
        return dressed(answer::empty(StatusCode::NOT_MODIFIED), &tag);
    }
    // A part of another version of the file would fit nothing.
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|version| version == tag));
    let answer = match range.map_or(Part::Whole, |range| part(range, length)) {
        Part::Whole => answer::with(StatusCode::OK, kind, Body::file(file, length)),
        Part::Range(from, count) => {
            if file.seek(SeekFrom::Start(from)).await.is_err() {
                return gone();
            }
            let mut answer = answer::with(StatusCode::PARTIAL_CONTENT, kind, Body::file(file, count));
            let range = format!("bytes {from}-{}/{length}", from + count - 1);
            answer::set(&mut answer, header::CONTENT_RANGE, &range);
            answer
        }
        Part::Outside => {
            let mut answer = answer::error(StatusCode::RANGE_NOT_SATISFIABLE, "outside the file");
            answer::set(&mut answer, header::CONTENT_RANGE, &format!("bytes */{length}"));
            answer
        }
    };
    dressed(answer, &tag)
}

fn dressed(mut answer: Answer, tag: &str) -> Answer {
    answer::set(&mut answer, header::ETAG, tag);
    answer::set(&mut answer, header::ACCEPT_RANGES, "bytes");
    answer::set(&mut answer, header::CACHE_CONTROL, "private, no-cache");
    answer
}

/// What a recording of this name holds; `None`: no recording has such a name.
fn kind(stream: &str, file: &str) -> Option<&'static str> {
    let (incident, ending) = file.split_once('.')?;
    let number =
        !incident.is_empty() && incident.len() <= 20 && incident.bytes().all(|byte| byte.is_ascii_digit());
    match ending {
        _ if !number || !is_name(stream) => None,
        "jpg" => Some("image/jpeg"),
        "mp4" => Some("video/mp4"),
        _ => None,
    }
}

/// Whether a stream may have this name; the configuration knows the same rule.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// What a `Range` header asks of a file of this length. One that is not understood, or asks for several parts, is as good
/// as none.
fn part(range: &str, length: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let (from, to) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.min(length.saturating_sub(1))),
        (Ok(from), Err(_)) if last.is_empty() => (from, length.saturating_sub(1)),
        (Err(_), Ok(count)) if first.is_empty() => {
            if count == 0 {
                return Part::Outside;
            }
            (length.saturating_sub(count), length.saturating_sub(1))
        }
        _ => return Part::Whole,
    };
    if from >= length { Part::Outside } else { Part::Range(from, to - from + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_recordings_are_looked_for() {
        assert_eq!(kind("gate-7", "77012.jpg"), Some("image/jpeg"));
        assert_eq!(kind("gate.7", "0.mp4"), Some("video/mp4"));
        for (stream, file) in [
            ("..", "7.jpg"),
            ("", "7.jpg"),
            (".hidden", "7.jpg"),
            ("a/b", "7.jpg"),
            ("%2e%2e", "7.jpg"),
            ("gate", "../7.jpg"),
            ("gate", "7.jpg.tmp"),
            ("gate", "7"),
            ("gate", ".jpg"),
            ("gate", "x.jpg"),
            ("gate", "7.toml"),
            ("gate", "123456789012345678901.jpg"),
        ] {
            assert_eq!(kind(stream, file), None, "{stream} {file}");
        }
    }

    #[test]
    fn ranges_are_parts_of_the_file() {
        for (range, wanted) in [
            ("bytes=0-99", Part::Range(0, 100)),
            ("bytes=100-", Part::Range(100, 900)),
            ("bytes=-100", Part::Range(900, 100)),
            ("bytes=-5000", Part::Range(0, 1000)),
            ("bytes=990-5000", Part::Range(990, 10)),
            ("bytes=999-999", Part::Range(999, 1)),
            ("bytes=1000-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=9-3", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=18446744073709551615-", Part::Outside),
        ] {
            assert_eq!(part(range, 1000), wanted, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Outside);
    }

    #[tokio::test]
    async fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let clips = folder.path().join("clips");
        std::fs::create_dir_all(clips.join("gate")).unwrap();
        std::fs::write(folder.path().join("secret"), b"secret").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), clips.join("gate/1.jpg")).unwrap();
        std::fs::write(clips.join("gate/2.jpg"), b"picture").unwrap();
        let status = async |file: &str| send(&clips, "gate", file, &HeaderMap::new()).await.status();
        assert_eq!(status("1.jpg").await, StatusCode::NOT_FOUND);
        assert_eq!(status("2.jpg").await, StatusCode::OK);
        assert_eq!(status("3.jpg").await, StatusCode::NOT_FOUND);
    }
}
