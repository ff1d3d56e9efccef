//! How fast many streams are together, beside as many decoders alone and beside inference alone.
//!
//! In: a GPU, a model, a video, the most streams to try. Out: a part for 1, 2, 4, ... streams, with its figures; what the
//! floors could not be measured on (no NVDEC, no GPU provider) as untried. Nothing is asserted of the figures.

use std::path::Path;

use super::{Outcome, Part};
use crate::jobs::bench::throughput::{Floors, Order, Row, Throughput};

/// Measures.
pub(super) fn measure(order: &Order<'_>, most: usize, add: &mut impl FnMut(Part)) {
    let throughput = match Throughput::open(order) {
        Ok(throughput) => throughput,
        Err(error) => return add(Part::new("throughput", Outcome::Wrong, format!("{error:#}"))),
    };
    floors(&throughput.floors, order.video, add);
    let mut streams = 1;
    while streams <= most {
        let name = format!("{streams} stream{} at full speed", if streams == 1 { "" } else { "s" });
        match throughput.measure(streams) {
            Ok(row) => {
                let found = words(&row, &throughput.floors);
                let figures = serde_json::to_value(&row).ok();
                add(Part { figures, ..Part::new(name, Outcome::Good, found) });
            }
            Err(error) => add(Part::new(name, Outcome::Wrong, format!("{error:#}"))),
        }
        streams *= 2;
    }
}

fn floors(floors: &Floors, video: &Path, add: &mut impl FnMut(Part)) {
    let found = format!("{:.0} frames/s by {}", floors.infer_fps, floors.provider);
    let figures = serde_json::to_value(floors).ok();
    add(Part { figures, ..Part::new("inference alone", Outcome::Good, found) });
    if !floors.decodes_on_gpu {
        let video = video.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let found = format!("{} decodes {video} here", floors.decoder);
        add(Part::new("throughput against NVDEC alone", Outcome::Untried, found));
    }
    if !floors.infers_on_gpu {
        let found = format!("it is run by: {}", floors.provider);
        add(Part::new("throughput against inference on the GPU", Outcome::Untried, found));
    }
}

fn words(row: &Row, floors: &Floors) -> String {
    let copies: Vec<String> = row.copies.iter().map(|(edge, count)| format!("{edge} {count:.2}")).collect();
    format!(
        "{:.0} frames/s, {:.2} of the slower floor ({} alone {:.0}, inference alone {:.0}); {:.2} CPU ms a frame \
         (decoding alone {:.2}); copies a frame: {}",
        row.fps,
        row.over_floor,
        floors.decoder,
        row.decode_fps,
        floors.infer_fps,
        row.cpu_ms,
        row.decode_cpu_ms,
        copies.join(", ")
    )
}
