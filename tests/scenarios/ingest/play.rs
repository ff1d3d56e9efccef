//! Helpers of the ingest scenarios: play a source to its end, wait for what it says, with a deadline.

use std::path::Path;
use std::time::{Duration, Instant};

use watchpost::flow::{Decoded, FrameMeta, Picture, Size, StreamInfo};
use watchpost::ingest::{IngestError, Next, Source, SourceSpec};

/// Longer than anything here may take on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// All that a source gave up to its end.
#[derive(Debug, Default)]
pub struct Played {
    pub frames: Vec<FrameMeta>,
    pub info: Option<StreamInfo>,
    pub sizes: Vec<Size>,
    pub failed: Option<IngestError>,
}

/// Plays a file that ends by itself.
pub fn play(source: &mut Source) -> Played {
    let mut played = Played::default();
    let deadline = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < deadline, "{source:?} does not end: {played:?}");
        match source.next(Duration::from_secs(1)) {
            Next::Frame(frame) => {
                let picture = host(&frame.pixels);
                assert_eq!((frame.meta.width, frame.meta.height), (picture.size.width, picture.size.height));
                touch(picture);
                played.frames.push(frame.meta);
            }
            Next::Started(info) => {
                assert!(played.frames.is_empty() && played.info.is_none(), "Started comes once, and first");
                played.info = Some(info);
            }
            Next::Resized(size) => played.sizes.push(size),
            Next::Ended => break,
            Next::Failed(error) => {
                played.failed = Some(error);
                break;
            }
            Next::Timeout => {}
            other @ (Next::Lost(..) | Next::Back(_)) => panic!("a file says {other:?}"),
        }
    }
    played.check_order();
    played
}

/// A picture of a source that decodes on the CPU.
pub fn host(decoded: &Decoded) -> &Picture {
    match decoded {
        Decoded::Host(picture) => picture,
        Decoded::Device(frame) => panic!("{frame:?} is in video memory"),
    }
}

/// Reads the corners of all planes: a picture whose rows lie outside its buffer does not survive this.
fn touch(picture: &Picture) {
    let chroma = picture.chroma_size();
    for plane in 0..picture.format.planes() {
        let size = if plane == 0 { picture.size } else { chroma };
        let bytes = picture.plane(plane);
        let last = picture.strides[plane] * (size.height as usize - 1) + size.width as usize - 1;
        assert!(bytes.len() > last, "plane {plane} of {picture:?} has {} bytes, not {last}", bytes.len());
    }
}

impl Played {
    fn check_order(&self) {
        for (index, frame) in self.frames.iter().enumerate() {
            assert_eq!(frame.index, index as u64, "indexes have no holes");
        }
        for pair in self.frames.windows(2) {
            assert!(pair[1].pts > pair[0].pts, "stream time goes on: {pair:?}");
            assert!(pair[1].captured >= pair[0].captured, "the wall clock goes on: {pair:?}");
        }
    }
}

/// Starts a source of a file with the defaults.
pub fn open(path: &Path) -> Source {
    Source::start(SourceSpec::new("test", path.to_str().unwrap())).unwrap()
}
