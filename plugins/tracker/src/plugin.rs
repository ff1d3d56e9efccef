//! The plugin around [`Tracker`]: labels become kinds, tracks go onto the objects, predictions beside them.
//!
//! In and out: the SDK's types. A configuration that makes no sense is refused before the first frame.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchpost_plugin::{
    Context, Descriptor, Frame, Object, Objects, Out, Plugin, Rect, Run, Score, Signal, host, serde_json,
};

use crate::{Bounds, Coasting, Config, Detection, Saved, Tracker, Tuning};

/// Layout of the snapshot.
const VERSION: u32 = 1;
/// Predicted boxes with less than this share inside the frame are not reported.
const INSIDE: f32 = 0.3;

/// The plugin `tracker`.
pub struct TrackerPlugin {
    context: Context,
    config: Config,
    /// Kind by model and class; `None`: not tracked.
    kinds: Vec<Vec<Option<u32>>>,
    tracker: Tracker,
    size: (u32, u32),
    captured: u64,
    /// A snapshot was taken over and its clock not yet compared with the stream's.
    restored: bool,
    counts: BTreeMap<String, u32>,
    told: Option<BTreeMap<String, u32>>,
    // Buffers, kept for their memory.
    found: Vec<Detection>,
    /// Index among the objects of each detection.
    places: Vec<u32>,
    ran: Vec<u32>,
    ids: Vec<u64>,
    coasting: Vec<Coasting>,
}

/// What survives a crash, a swap and a restart.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    saved: Saved,
    size: (u32, u32),
    captured: u64,
}

impl TrackerPlugin {
    /// The group of classes an object belongs to; unique over models. `None`: not to be tracked.
    fn kind(&self, object: &Object) -> Option<u32> {
        match self.kinds.get(object.model as usize).and_then(|kinds| kinds.get(object.class as usize)) {
            Some(kind) => *kind,
            // A class without a label can be asked for by no configuration, and is tracked where all are.
            None if self.config.classes.is_empty() => Some(kind(object.model, object.class)),
            None => None,
        }
    }

    /// After a restart stream time may have begun anew: the wall clock says how long the box was away.
    fn align(&mut self, frame: &Frame) {
        if !std::mem::take(&mut self.restored) {
            return;
        }
        let away = frame.captured.saturating_sub(self.captured) as f64 * 1e-6;
        let expected = self.tracker.saved().now + away;
        if away > f64::from(self.config.max_lost) {
            self.tracker.clear();
        }
        if (frame.seconds() - expected).abs() > 0.5 {
            self.tracker.shift(frame.seconds() - expected);
        }
    }

    fn count(&mut self, out: &mut Out) {
        self.counts.values_mut().for_each(|count| *count = 0);
        for track in self.tracker.present() {
            match self.context.label(track.model, track.class) {
                Some(label) => match self.counts.get_mut(label) {
                    Some(count) => *count += 1,
                    None => drop(self.counts.insert(label.to_owned(), 1)),
                },
                None => *self.counts.entry(format!("class {}", track.class)).or_default() += 1,
            }
        }
        if self.told.as_ref() != Some(&self.counts) {
            out.state("count", &self.counts);
            self.told = Some(self.counts.clone());
        }
    }
}

fn kind(model: u32, class: u32) -> u32 {
    (model << 16) | (class & 0xffff)
}

/// Kinds of all classes of all models.
fn kinds(context: &Context, config: &Config) -> Result<Vec<Vec<Option<u32>>>, String> {
    let known = |label: &String| context.models.iter().any(|model| model.labels.contains(label));
    for (key, labels) in
        std::iter::once(("classes", &config.classes)).chain(config.alike.iter().map(|group| ("alike", group)))
    {
        if let Some(label) = labels.iter().find(|label| !context.models.is_empty() && !known(label)) {
            return Err(format!("{key}: no model of this stream has the label \"{label}\""));
        }
    }
    let of = |model: u32, labels: &[String], class: u32, label: &String| {
        if !config.classes.is_empty() && !config.classes.contains(label) {
            return None;
        }
        let group = config.alike.iter().find(|group| group.contains(label));
        let first = group.and_then(|group| labels.iter().position(|label| group.contains(label)));
        Some(kind(model, first.map_or(class, |first| first as u32)))
    };
    let models = (0u32..).zip(&context.models);
    Ok(models
        .map(|(model, m)| {
            (0u32..).zip(&m.labels).map(|(class, label)| of(model, &m.labels, class, label)).collect()
        })
        .collect())
}

impl Plugin for TrackerPlugin {
    type Config = Config;

    fn describe() -> Descriptor {
        let summary = "Follows objects from frame to frame and gives each a track id.";
        Descriptor::new("tracker", env!("CARGO_PKG_VERSION"), summary).state("count")
    }

    fn new(context: &Context, config: Config) -> Result<Self, String> {
        config.check()?;
        Ok(Self {
            kinds: kinds(context, &config)?,
            context: context.clone(),
            tracker: Tracker::new(config.clone(), Tuning::default()),
            config,
            size: (0, 0),
            captured: 0,
            restored: false,
            counts: BTreeMap::new(),
            told: None,
            found: Vec::new(),
            places: Vec::new(),
            ran: Vec::new(),
            ids: Vec::new(),
            coasting: Vec::new(),
        })
    }

    fn process(
        &mut self,
        frame: &Frame,
        runs: &[Run],
        objects: &mut Objects,
        _scores: &[Score],
        out: &mut Out,
    ) -> Result<(), String> {
        self.align(frame);
        if frame.cut {
            self.tracker.clear();
        }
        let size = (frame.width.max(1), frame.height.max(1));
        if self.size != size && self.size.0 > 0 {
            let (across, down) = (size.0 as f32 / self.size.0 as f32, size.1 as f32 / self.size.1 as f32);
            self.tracker.rescale(across, down);
        }
        (self.size, self.captured) = (size, frame.captured);
        self.ran.clear();
        self.ran.extend(runs.iter().map(|run| run.model));
        self.found.clear();
        self.places.clear();
        for (index, object) in objects.iter().enumerate() {
            let Rect { x, y, width, height } = object.bounds;
            if let Some(kind) = self.kind(object) {
                let bounds = Bounds::new(x, y, width, height);
                let Object { model, class, score, .. } = *object;
                self.found.push(Detection { model, class, kind, score, bounds });
                self.places.push(index as u32);
            }
        }
        let now = frame.seconds();
        let (found, ids, coasting) = (&self.found, &mut self.ids, &mut self.coasting);
        self.tracker.step(now, &self.ran, found, &mut host::new_id, ids, coasting);
        if self.ids.iter().any(|id| *id != 0) || !self.coasting.is_empty() {
            let objects: &mut Vec<Object> = objects;
            for (place, id) in self.places.iter().zip(&self.ids) {
                objects[*place as usize].track = *id;
            }
            for coast in &self.coasting {
                let inside = coast.bounds.clipped(size.0 as f32, size.1 as f32);
                if let Some(b) = inside.filter(|b| b.area() >= INSIDE * coast.bounds.area()) {
                    let Coasting { id, model, class, score, .. } = *coast;
                    let bounds = Rect::new(b.x, b.y, b.w, b.h);
                    objects.push(Object { model, class, score, bounds, track: id });
                }
            }
        }
        self.count(out);
        Ok(())
    }

    fn signal(&mut self, signal: Signal, _out: &mut Out) -> Result<(), String> {
        if let Signal::Gap(missing) = signal
            && missing as f64 * 1e-9 > f64::from(self.config.max_lost)
        {
            self.tracker.clear();
        }
        Ok(())
    }

    fn snapshot(&self) -> Option<(u32, Vec<u8>)> {
        let saved = self.tracker.saved().clone();
        let snapshot = Snapshot { saved, size: self.size, captured: self.captured };
        Some((VERSION, serde_json::to_vec(&snapshot).ok()?))
    }

    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<(), String> {
        if version != VERSION {
            return Err(format!("snapshot of version {version}, expected {VERSION}"));
        }
        let snapshot: Snapshot =
            serde_json::from_slice(bytes).map_err(|error| format!("snapshot: {error}"))?;
        self.tracker.restore(snapshot.saved);
        (self.size, self.captured, self.restored) = (snapshot.size, snapshot.captured, true);
        Ok(())
    }
}

watchpost_plugin::export!(TrackerPlugin);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use watchpost_plugin::{Model, testing::Runner};

    fn context() -> Context {
        let labels = ["person", "car", "truck"].map(str::to_owned).to_vec();
        Context {
            models: vec![Model { name: "all".to_owned(), labels, ..Model::default() }],
            ..Context::default()
        }
    }

    fn frame(index: u64) -> Frame {
        let (pts, captured) = (index * 40_000_000, 1_000_000 + index * 40_000);
        Frame { index, pts, captured, width: 640, height: 360, ..Frame::default() }
    }

    fn object(class: u32, x: f32) -> Object {
        Object { class, score: 0.9, bounds: Rect::new(x, 100.0, 40.0, 90.0), ..Object::default() }
    }

    fn run(index: u64) -> Run {
        Run { model: 0, begin: index * 40_000_000, end: index * 40_000_000 }
    }

    /// Somebody walks across; the detector runs on every `every`th frame. Tracks by frame.
    fn walk(runner: &mut Runner<TrackerPlugin>, from: u64, to: u64, every: u64) -> Vec<Vec<Object>> {
        (from..to)
            .map(|index| {
                let ran = index % every == 0;
                let runs = if ran { vec![run(index)] } else { vec![] };
                let objects = if ran { vec![object(0, 50.0 + 2.0 * index as f32)] } else { vec![] };
                runner.process(&frame(index), &runs, objects, &[]).unwrap().0
            })
            .collect()
    }

    #[test]
    fn one_track_when_the_detector_runs_on_some_frames() {
        for every in [1, 3, 8] {
            let mut runner = Runner::<TrackerPlugin>::new(&context(), &json!({})).unwrap();
            let frames = walk(&mut runner, 0, 120, every);
            let id = frames.last().unwrap().first().unwrap().track;
            assert_ne!(id, 0);
            for (index, objects) in frames.iter().enumerate().skip(2 * every as usize) {
                assert_eq!(objects.len(), 1, "every {every}, frame {index}");
                assert_eq!(objects[0].track, id);
                let off = (objects[0].bounds.x - 50.0 - 2.0 * index as f32).abs();
                assert!(
                    index < 4 * every as usize || off < 4.0,
                    "every {every}, frame {index}: off by {off}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_asked_for_passes_untouched() {
        let config = json!({"classes": ["person"], "confirm": 1});
        let mut runner = Runner::<TrackerPlugin>::new(&context(), &config).unwrap();
        let objects = vec![object(1, 300.0), object(0, 50.0)];
        let (after, out) = runner.process(&frame(0), &[run(0)], objects.clone(), &[]).unwrap();
        assert_eq!(after[0], objects[0]);
        assert_ne!(after[1].track, 0);
        assert_eq!(out.states[0].value, r#"{"person":1}"#);
    }

    #[test]
    fn alike_labels_share_a_track_and_others_do_not() {
        for (alike, same) in [(json!([["car", "truck"]]), true), (json!([]), false)] {
            let config = json!({"alike": alike, "confirm": 1});
            let mut runner = Runner::<TrackerPlugin>::new(&context(), &config).unwrap();
            let mut at = |index, class| {
                runner.process(&frame(index), &[run(index)], vec![object(class, 50.0)], &[]).unwrap().0[0]
                    .track
            };
            assert_eq!(at(0, 1) == at(1, 2), same);
        }
    }

    #[test]
    fn a_swap_and_a_restart_keep_the_id() {
        let mut runner = Runner::<TrackerPlugin>::new(&context(), &json!({})).unwrap();
        let id = walk(&mut runner, 0, 50, 1).last().unwrap()[0].track;
        runner.swap(&context(), &json!({})).unwrap();
        assert_eq!(walk(&mut runner, 50, 60, 1)[0][0].track, id);
        // A restart half a second later: stream time begins anew, the wall clock goes on.
        runner.swap(&context(), &json!({})).unwrap();
        let again = Frame { pts: 0, captured: frame(72).captured, ..frame(0) };
        let objects = vec![object(0, 50.0 + 2.0 * 72.0)];
        assert_eq!(runner.process(&again, &[run(0)], objects.clone(), &[]).unwrap().0[0].track, id);
        // And an hour later: somebody else.
        runner.swap(&context(), &json!({"confirm": 1})).unwrap();
        let later = Frame { pts: 0, captured: 3_600_000_000, ..frame(0) };
        assert_ne!(runner.process(&later, &[run(0)], objects, &[]).unwrap().0[0].track, id);
        assert!(runner.plugin.restore(7, b"{}").is_err());
    }

    #[test]
    fn a_cut_and_a_long_gap_start_afresh_and_a_resize_does_not() {
        let mut runner = Runner::<TrackerPlugin>::new(&context(), &json!({"confirm": 1})).unwrap();
        let id = walk(&mut runner, 0, 20, 1).last().unwrap()[0].track;
        let half = |object: Object| {
            let b = object.bounds;
            Object { bounds: Rect::new(b.x / 2.0, b.y / 2.0, b.width / 2.0, b.height / 2.0), ..object }
        };
        let small = Frame { width: 320, height: 180, ..frame(20) };
        let objects = vec![half(object(0, 90.0))];
        assert_eq!(runner.process(&small, &[run(20)], objects, &[]).unwrap().0[0].track, id);
        let cut = Frame { cut: true, ..frame(21) };
        let after = runner.process(&cut, &[run(21)], vec![object(0, 92.0)], &[]).unwrap().0[0].track;
        assert_ne!(after, id);
        runner.signal(21 * 40_000_000, Signal::Gap(10_000_000_000)).unwrap();
        let later = runner.process(&frame(300), &[run(300)], vec![object(0, 92.0)], &[]).unwrap().0[0].track;
        assert_ne!(later, after);
    }

    #[test]
    fn configuration_is_checked_against_the_models() {
        let error = |config| Runner::<TrackerPlugin>::new(&context(), &config).err().unwrap();
        assert!(error(json!({"classes": ["dog"]})).contains("dog"));
        assert!(error(json!({"max_lost": -1})).contains("max_lost"));
        assert!(error(json!({"hihg": 1})).contains("hihg"));
    }
}
