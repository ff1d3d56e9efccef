//! The plugin around [`Camera`]: labels become people and balls, shots become views and the state `subject`.
//!
//! In and out: the SDK's types. A configuration that makes no sense is refused before the first frame.

use std::collections::HashSet;

use watchpost_plugin::{
    Context, Descriptor, Frame, Objects, Out, Plugin, Run, Score, Signal, host,
    serde_json::{self, Value, json},
};

use crate::{Camera, Config, Mode, Shot, Thing};

/// Layout of the snapshot.
const VERSION: u32 = 2;

/// The plugin `camera-framing`.
pub struct CameraFraming {
    config: Config,
    ratio: f32,
    people: HashSet<(u32, u32)>,
    balls: HashSet<(u32, u32)>,
    camera: Camera,
    told: Option<(Mode, Vec<u64>)>,
    people_now: Vec<Thing>,
    balls_now: Vec<Thing>,
}

impl CameraFraming {
    fn tell(&mut self, shot: &Shot, out: &mut Out) {
        let same =
            self.told.as_ref().is_some_and(|(mode, tracks)| *mode == shot.mode && *tracks == shot.tracks);
        if !same {
            let tracks: Vec<String> = shot.tracks.iter().map(u64::to_string).collect();
            out.state("subject", &json!({ "mode": shot.mode, "tracks": tracks }));
            self.told = Some((shot.mode, shot.tracks.clone()));
        }
    }
}

impl Plugin for CameraFraming {
    type Config = Config;

    fn describe() -> Descriptor {
        let summary = "Points a smooth virtual camera at a group, a track or a ball.";
        Descriptor::new("camera-framing", env!("CARGO_PKG_VERSION"), summary)
            .state("subject")
            .camera("main", 0)
            .command("follow")
    }

    fn new(context: &Context, config: Config) -> Result<Self, String> {
        config.check()?;
        let ratio = config.ratio()?;
        let (people, balls) = (context.classes_of(&config.people), context.classes_of(&config.ball));
        if !context.models.is_empty() {
            let (key, missing) = match config.mode {
                Mode::Ball => ("ball", balls.is_empty()),
                Mode::Group | Mode::Track => ("people", people.is_empty()),
            };
            if missing {
                let wanted = if key == "ball" { &config.ball } else { &config.people };
                return Err(format!("{key} = {wanted:?}: no model of this stream has such a label"));
            }
        }
        Ok(Self {
            config,
            ratio,
            people,
            balls,
            camera: Camera::default(),
            told: None,
            people_now: Vec::new(),
            balls_now: Vec::new(),
        })
    }

    fn process(
        &mut self,
        frame: &Frame,
        _runs: &[Run],
        objects: &mut Objects,
        _scores: &[Score],
        out: &mut Out,
    ) -> Result<(), String> {
        let now = frame.seconds();
        if frame.cut {
            self.camera.cut(now);
        }
        self.people_now.clear();
        self.balls_now.clear();
        for object in objects.iter().filter(|object| object.score >= self.config.min_score) {
            let thing = Thing { track: object.track, score: object.score, bounds: object.bounds };
            if self.people.contains(&(object.model, object.class)) {
                self.people_now.push(thing);
            } else if self.balls.contains(&(object.model, object.class)) {
                self.balls_now.push(thing);
            }
        }
        let size = (frame.width.max(2) as f32, frame.height.max(2) as f32);
        let with = (&self.config, self.ratio);
        let shot = self.camera.frame(now, size, &self.people_now, &self.balls_now, with);
        out.view("main", frame.index, shot.view);
        self.tell(&shot, out);
        Ok(())
    }

    fn signal(&mut self, signal: Signal, _out: &mut Out) -> Result<(), String> {
        // After seconds without a picture nobody expects the camera to glide on from where it was.
        if let Signal::Gap(missing) = signal
            && missing > 2_000_000_000
        {
            self.camera.cut(host::now() as f64 * 1e-9);
        }
        Ok(())
    }

    fn snapshot(&self) -> Option<(u32, Vec<u8>)> {
        Some((VERSION, serde_json::to_vec(&self.camera).ok()?))
    }

    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<(), String> {
        if version != VERSION {
            return Err(format!("snapshot of version {version}, expected {VERSION}"));
        }
        self.camera = serde_json::from_slice(bytes).map_err(|error| format!("snapshot: {error}"))?;
        Ok(())
    }

    fn command(&mut self, name: &str, arguments: &Value) -> Result<Value, String> {
        if name != "follow" {
            return Err(format!("no command \"{name}\"; there is \"follow\""));
        }
        let wrong = || {
            format!(
                "follow {arguments}: expected {{\"track\": \"7\"}}, or {{\"track\": null}} to choose by itself"
            )
        };
        let track = match arguments.get("track") {
            Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.parse().map_err(|_| wrong())?),
            Some(Value::Number(number)) => Some(number.as_u64().ok_or_else(wrong)?),
            _ => return Err(wrong()),
        };
        if track == Some(0) {
            return Err(wrong());
        }
        self.camera.follow(track);
        Ok(json!({ "track": track.map(|track: u64| track.to_string()) }))
    }
}

watchpost_plugin::export!(CameraFraming);

#[cfg(test)]
mod tests {
    use super::*;
    use watchpost_plugin::{Model, Object, Rect, testing::Runner};

    fn context() -> Context {
        let labels = vec!["person".to_owned(), "ball".to_owned()];
        let people = Model { name: "people".to_owned(), labels, ..Model::default() };
        Context { models: vec![people], width: 640, height: 360, ..Context::default() }
    }

    fn frame(index: u64) -> Frame {
        Frame { index, pts: index * 40_000_000, width: 640, height: 360, ..Frame::default() }
    }

    fn person(track: u64, x: f32) -> Object {
        Object { model: 0, class: 0, score: 0.9, bounds: Rect::new(x, 150.0, 40.0, 100.0), track }
    }

    #[test]
    fn a_view_for_every_frame_and_the_subject_once() {
        let mut runner = Runner::<CameraFraming>::new(&context(), &json!({})).unwrap();
        let mut states = Vec::new();
        for index in 0..100 {
            let objects = vec![person(7, 100.0 + index as f32), person(8, 300.0)];
            let (after, out) = runner.process(&frame(index), &[], objects.clone(), &[]).unwrap();
            assert_eq!(after, objects);
            assert_eq!((out.views.len(), out.views[0].frame), (1, index));
            states.extend(out.states);
        }
        let last = states.last().unwrap();
        assert_eq!(
            (last.name.as_str(), last.value.as_str()),
            ("subject", r#"{"mode":"group","tracks":["7","8"]}"#)
        );
        assert_eq!(states.len(), 2, "{states:?}");
    }

    #[test]
    fn follow_takes_text_numbers_and_null() {
        let mut runner = Runner::<CameraFraming>::new(&context(), &json!({})).unwrap();
        runner.process(&frame(0), &[], vec![person(7, 100.0), person(8, 500.0)], &[]).unwrap();
        assert_eq!(runner.plugin.command("follow", &json!({"track": "8"})).unwrap(), json!({"track": "8"}));
        let (_, out) = runner.process(&frame(1), &[], vec![person(7, 100.0), person(8, 500.0)], &[]).unwrap();
        assert_eq!(out.states[0].value, r#"{"mode":"track","tracks":["8"]}"#);
        runner.plugin.command("follow", &json!({"track": 7})).unwrap();
        runner.plugin.command("follow", &json!({"track": null})).unwrap();
        for wrong in [json!({}), json!({"track": -1}), json!({"track": 0}), json!({"track": "x"})] {
            assert!(runner.plugin.command("follow", &wrong).is_err(), "{wrong}");
        }
        assert!(runner.plugin.command("zoom", &json!({})).is_err());
    }

    #[test]
    fn a_swap_does_not_move_the_picture() {
        let mut runner = Runner::<CameraFraming>::new(&context(), &json!({})).unwrap();
        let mut view = None;
        for index in 0..60 {
            let (_, out) = runner.process(&frame(index), &[], vec![person(7, 100.0)], &[]).unwrap();
            view = out.views.first().map(|view| view.bounds);
        }
        runner.swap(&context(), &json!({})).unwrap();
        let (_, out) = runner.process(&frame(60), &[], vec![person(7, 100.0)], &[]).unwrap();
        let (before, after) = (view.unwrap(), out.views[0].bounds);
        assert!((before.x - after.x).abs() < 0.5 && (before.width - after.width).abs() < 0.5);
        // Layout 1 called the size of a box w and h: it is refused by its number, not by what it lacks.
        let error = runner.plugin.restore(1, b"{}").unwrap_err();
        assert_eq!(error, "snapshot of version 1, expected 2");
    }

    #[test]
    fn configuration_is_checked_against_the_models() {
        let error = |config: Value| Runner::<CameraFraming>::new(&context(), &config).err().unwrap();
        assert!(error(json!({"mode": "ball", "ball": ["puck"]})).contains("puck"));
        assert!(error(json!({"aspect": "wide"})).contains("aspect"));
        assert!(error(json!({"zoom": 3})).contains("zoom"));
    }
}
