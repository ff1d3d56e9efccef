//! The tracker on MOT17's public detections: what it makes of them, in the benchmark's own format.
//!
//! In: `mot/` of the shared data, each sequence's `seqinfo.ini` and `det/det.txt`. Out: `target/mot/SEQUENCE.txt`, rows
//! frame, id, left, top, width, height, 1, -1, -1, -1, which `tools/mot_score.py` beside the data scores (HOTA, MOTA,
//! IDF1). Predicted boxes of people out of sight for a moment are part of what the plugin says, so they are written too.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use e2e::data::{data, root};
use tracker::{Bounds, Config, Detection, Tracker, Tuning};

/// Writes the tracks of every sequence.
pub fn measure() -> anyhow::Result<()> {
    let Some(folder) = data("mot") else { return Ok(()) };
    let out = root().join("target/mot");
    std::fs::create_dir_all(&out)?;
    let sequences = folder.join("mot");
    for entry in std::fs::read_dir(&sequences).with_context(|| sequences.display().to_string())? {
        let sequence = entry?.path();
        let name = sequence.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (text, ids) = track(&sequence).with_context(|| name.clone())?;
        let file = out.join(format!("{name}.txt"));
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        println!("{name:16} {ids:5} ids");
    }
    println!("scored by: mot_score.py {}", out.display());
    Ok(())
}

/// The rows of one sequence, and how many ids there are.
fn track(sequence: &Path) -> anyhow::Result<(String, u64)> {
    let (rate, length) = info(&sequence.join("seqinfo.ini"))?;
    let frames = detections(&sequence.join("det/det.txt"), length)?;
    let mut tracker = Tracker::new(Config::default(), Tuning::default());
    let (mut next, mut ids, mut coasting, mut text) = (0, Vec::new(), Vec::new(), String::new());
    for (number, found) in (1_u32..).zip(&frames) {
        let mut new_id = || {
            next += 1;
            next
        };
        tracker.step(f64::from(number) / rate, &[0], found, &mut new_id, &mut ids, &mut coasting);
        let seen = ids.iter().zip(found).filter(|(id, _)| **id != 0).map(|(id, d)| (*id, d.bounds));
        for (id, b) in seen.chain(coasting.iter().map(|c| (c.id, c.bounds))) {
            writeln!(text, "{number},{id},{:.2},{:.2},{:.2},{:.2},1,-1,-1,-1", b.x, b.y, b.w, b.h)?;
        }
    }
    Ok((text, next))
}

/// Frames a second and frames of a sequence.
fn info(file: &Path) -> anyhow::Result<(f64, usize)> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(str::trim).with_context(|| format!("{}: no {key}", file.display()))
    };
    Ok((value("frameRate")?.parse()?, value("seqLength")?.parse()?))
}

fn detections(file: &Path, length: usize) -> anyhow::Result<Vec<Vec<Detection>>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut frames = vec![Vec::new(); length];
    for (number, line) in text.lines().enumerate() {
        let wrong = || format!("{}:{}: expected frame,-1,x,y,w,h,score", file.display(), number + 1);
        let row: Vec<f32> = line.split(',').map_while(|field| field.trim().parse().ok()).collect();
        let [frame, _, x, y, w, h, score, ..] = row[..] else { anyhow::bail!(wrong()) };
        let place = frames.get_mut((frame as usize).wrapping_sub(1)).with_context(wrong)?;
        let bounds = Bounds::new(x, y, w, h);
        place.push(Detection { model: 0, class: 0, kind: 0, score: score.clamp(0.0, 1.0), bounds });
    }
    Ok(frames)
}
