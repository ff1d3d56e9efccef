//! The plugin around [`Alerts`]: labels become scores and people, alerts become events and the state `active`.
//!
//! In and out: the SDK's types. A configuration that makes no sense is refused before the first frame.

use std::collections::HashSet;

use watchpost_plugin::{
    Change, Context, Descriptor, Event, Frame, Objects, Out, Plugin, Rect, Run, Signal, host,
    serde_json::{self, Value, json},
};

use crate::{Alert, Alerts, Config, Person, Reason, Score, Severity, Step};

/// Layout of the snapshot.
const VERSION: u32 = 2;
/// Kind of the events.
const KIND: &str = "violence";

/// The plugin `violence-alert`.
pub struct ViolenceAlert {
    config: Config,
    /// Classes that mean violence, by (model, class).
    violent: HashSet<(u32, u32)>,
    /// Models with such a class, and how many labels they have.
    models: Vec<(u32, usize)>,
    people: HashSet<(u32, u32)>,
    alerts: Alerts,
    size: (f32, f32),
    told: Option<Vec<u64>>,
    people_now: Vec<Person>,
    scores_now: Vec<Score>,
}

impl ViolenceAlert {
    /// One score for each window and place: the highest of the violent classes. A model that ran and names
    /// only other classes says how unlikely violence is.
    fn collect(&mut self, runs: &[Run], objects: &Objects, scores: &[watchpost_plugin::Score]) {
        self.scores_now.clear();
        for &(model, labels) in &self.models {
            let mine = || scores.iter().filter(|score| score.model == model);
            for score in mine() {
                let object =
                    score.object.and_then(|index| objects.get(index as usize)).map(|object| object.bounds);
                let region = score.region.or(object);
                let (begin, end) = (score.begin as f64 * 1e-9, score.end as f64 * 1e-9);
                let value = if self.violent.contains(&(model, score.class)) {
                    score.value
                } else if labels == 2 {
                    1.0 - score.value
                } else {
                    0.0
                };
                let value = value.clamp(0.0, 1.0);
                let same =
                    |other: &&mut Score| other.begin == begin && other.end == end && other.region == region;
                if let Some(other) = self.scores_now.iter_mut().find(same) {
                    other.value = other.value.max(value);
                } else {
                    self.scores_now.push(Score { value, begin, end, region });
                }
            }
            for run in runs.iter().filter(|run| run.model == model && mine().next().is_none()) {
                let (begin, end) = (run.begin as f64 * 1e-9, run.end as f64 * 1e-9);
                self.scores_now.push(Score { value: 0.0, begin, end, region: None });
            }
        }
        self.scores_now.sort_by(|a, b| a.end.total_cmp(&b.end));
    }

    fn publish(&mut self, alerts: &[Alert], out: &mut Out) {
        for alert in alerts {
            out.event(self.event(alert));
        }
        let open: Vec<u64> = self.alerts.open().collect();
        if self.told.as_ref() != Some(&open) {
            let incidents: Vec<String> = open.iter().map(u64::to_string).collect();
            out.state("active", &json!({ "active": !open.is_empty(), "incidents": incidents }));
            self.told = Some(open);
        }
    }

    fn event(&self, alert: &Alert) -> Event {
        let (change, reason) = match alert.step {
            Step::Begin => (Change::Begin, None),
            Step::Update => (Change::Update, None),
            Step::End(reason) => (Change::End, Some(reason)),
        };
        let severity = match alert.severity {
            Severity::Low => watchpost_plugin::Severity::Low,
            Severity::Medium => watchpost_plugin::Severity::Medium,
            Severity::High => watchpost_plugin::Severity::High,
            Severity::Critical => watchpost_plugin::Severity::Critical,
        };
        let round = |value: f32| (f64::from(value) * 1000.0).round() / 1000.0;
        let mut data = json!({
            "trace": alert.trace.iter().map(|value| round(*value)).collect::<Vec<_>>(),
            "peak": round(alert.peak),
            "duration": round(alert.duration),
            "people": alert.involved.tracks.len(),
        });
        if let (Some(reason), Some(data)) = (reason, data.as_object_mut()) {
            data.insert("reason".to_owned(), json!(reason));
        }
        let mut event = Event::new(alert.incident, KIND, change, severity)
            .tracks(alert.involved.tracks.iter().copied())
            .score(alert.score.clamp(0.0, 1.0))
            .data(data);
        let frame = Rect::new(0.0, 0.0, self.size.0, self.size.1);
        if let Some(region) = alert.involved.region {
            let inside = region.intersect(&frame);
            if inside.area() > 0.0 {
                event = event.region(inside);
            }
        }
        event
    }
}

impl Plugin for ViolenceAlert {
    type Config = Config;

    fn describe() -> Descriptor {
        let summary = "Turns the scores of a clip model into one alert for each fight.";
        Descriptor::new("violence-alert", env!("CARGO_PKG_VERSION"), summary).event(KIND).state("active")
    }

    fn new(context: &Context, config: Config) -> Result<Self, String> {
        config.check()?;
        let violent = context.classes_of(&config.labels);
        if violent.is_empty() && !context.models.is_empty() {
            let labels: Vec<&str> =
                context.models.iter().flat_map(|model| &model.labels).take(12).map(String::as_str).collect();
            return Err(format!(
                "labels = {:?}: no model of this stream has such a label; its labels begin with {labels:?}",
                config.labels
            ));
        }
        let mut models: Vec<(u32, usize)> = Vec::new();
        for (index, model) in (0u32..).zip(&context.models) {
            if violent.iter().any(|(m, _)| *m == index) {
                models.push((index, model.labels.len()));
            }
        }
        let people = context.classes_of(&config.people);
        Ok(Self {
            config,
            violent,
            models,
            people,
            alerts: Alerts::default(),
            size: (context.width as f32, context.height as f32),
            told: None,
            people_now: Vec::new(),
            scores_now: Vec::new(),
        })
    }

    fn process(
        &mut self,
        frame: &Frame,
        runs: &[Run],
        objects: &mut Objects,
        scores: &[watchpost_plugin::Score],
        out: &mut Out,
    ) -> Result<(), String> {
        self.size = (frame.width as f32, frame.height as f32);
        self.people_now.clear();
        for object in objects.iter() {
            if object.track != 0 && self.people.contains(&(object.model, object.class)) {
                self.people_now.push(Person { track: object.track, bounds: object.bounds });
            }
        }
        self.collect(runs, objects, scores);
        let mut alerts = Vec::new();
        self.alerts.frame(
            frame.seconds(),
            &self.people_now,
            &self.scores_now,
            &self.config,
            &mut host::new_id,
            &mut alerts,
        );
        self.publish(&alerts, out);
        Ok(())
    }

    fn signal(&mut self, signal: Signal, out: &mut Out) -> Result<(), String> {
        let mut alerts = Vec::new();
        match signal {
            Signal::Tick => self.alerts.tick(host::now() as f64 * 1e-9, &self.config, &mut alerts),
            Signal::Gap(missing) => self.alerts.gap(missing as f64 * 1e-9, &self.config, &mut alerts),
            Signal::SourceLost => self.alerts.end(Reason::SourceLost, &mut alerts),
            Signal::End => self.alerts.end(Reason::StreamEnd, &mut alerts),
            Signal::SourceBack | Signal::Resized(..) => {}
        }
        self.publish(&alerts, out);
        Ok(())
    }

    fn snapshot(&self) -> Option<(u32, Vec<u8>)> {
        Some((VERSION, serde_json::to_vec(&self.alerts).ok()?))
    }

    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<(), String> {
        if version != VERSION {
            return Err(format!("snapshot of version {version}, expected {VERSION}"));
        }
        self.alerts = serde_json::from_slice(bytes).map_err(|error| format!("snapshot: {error}"))?;
        Ok(())
    }

    fn command(&mut self, name: &str, _arguments: &Value) -> Result<Value, String> {
        Err(format!("no command \"{name}\": violence-alert has none"))
    }
}

watchpost_plugin::export!(ViolenceAlert);

#[cfg(test)]
mod tests {
    use super::*;
    use watchpost_plugin::{Model, Object, testing::Runner};

    fn context() -> Context {
        let model = |name: &str, labels: &[&str]| Model {
            name: name.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            ..Model::default()
        };
        let models = vec![model("people", &["person", "ball"]), model("violence", &["no fight", "Fight"])];
        Context { models, width: 640, height: 360, ..Context::default() }
    }

    fn frame(pts: u64) -> Frame {
        Frame { index: pts / 40_000_000, pts, width: 640, height: 360, ..Frame::default() }
    }

    fn score(class: u32, value: f32, end: u64) -> watchpost_plugin::Score {
        let begin = end.saturating_sub(2_000_000_000);
        watchpost_plugin::Score { model: 1, class, value, begin, end, object: None, region: None }
    }

    /// Two people who struggle; a score of `value` each half second until `until`.
    fn fight(runner: &mut Runner<ViolenceAlert>, value: f32, until: u64) -> Vec<Out> {
        let mut outs = Vec::new();
        for index in 0..until / 40_000_000 {
            let pts = index * 40_000_000;
            let person = |track, x: f32| Object {
                score: 0.9,
                bounds: Rect::new(x + 9.0 * (index % 3) as f32, 100.0, 40.0, 100.0),
                track,
                ..Object::default()
            };
            let mut scores = Vec::new();
            if pts % 500_000_000 < 40_000_000 {
                scores = vec![score(0, 1.0 - value, pts), score(1, value, pts)];
            }
            let objects = vec![person(5, 10.0), person(6, 45.0)];
            let (after, out) = runner.process(&frame(pts), &[], objects.clone(), &scores).unwrap();
            assert_eq!(after, objects);
            outs.push(out);
        }
        outs
    }

    #[test]
    fn an_event_begins_names_who_and_ends_with_the_source() {
        let mut runner = Runner::<ViolenceAlert>::new(&context(), &json!({})).unwrap();
        let outs = fight(&mut runner, 0.93, 4_000_000_000);
        let events: Vec<&Event> = outs.iter().flat_map(|out| &out.events).collect();
        assert_eq!((events[0].change, events[0].kind.as_str()), (Change::Begin, "violence"));
        assert_eq!(events[0].tracks, [5, 6]);
        assert!(events[0].region.unwrap().x >= 0.0, "clipped to the frame");
        let states: Vec<&str> = outs.iter().flat_map(|out| &out.states).map(|s| s.value.as_str()).collect();
        assert_eq!(states.len(), 2, "{states:?}");
        assert_eq!(states[0], r#"{"active":false,"incidents":[]}"#);
        let end = runner.signal(5_000_000_000, Signal::SourceLost).unwrap();
        assert_eq!((end.events[0].change, end.events[0].incident), (Change::End, events[0].incident));
        assert_eq!(end.events[0].data["reason"], "source-lost");
        assert!(runner.signal(6_000_000_000, Signal::End).unwrap().events.is_empty(), "ended once");
    }

    #[test]
    fn a_model_that_names_only_the_winner_is_understood() {
        let mut runner = Runner::<ViolenceAlert>::new(&context(), &json!({})).unwrap();
        let mut begun = 0;
        for step in 0..10 {
            let pts = step * 500_000_000;
            let (_, out) = runner.process(&frame(pts), &[], vec![], &[score(0, 0.05, pts)]).unwrap();
            begun += out.events.iter().filter(|event| event.change == Change::Begin).count();
        }
        assert_eq!(begun, 1);
    }

    #[test]
    fn a_swap_carries_the_incident_on() {
        let mut runner = Runner::<ViolenceAlert>::new(&context(), &json!({})).unwrap();
        let outs = fight(&mut runner, 0.93, 3_000_000_000);
        let begun = outs.iter().flat_map(|out| &out.events).next().unwrap().incident;
        runner.swap(&context(), &json!({})).unwrap();
        let end = runner.signal(3_100_000_000, Signal::End).unwrap();
        assert_eq!(end.events[0].incident, begun);
        // Layout 1 called the size of a box w and h: it is refused by its number, not by what it lacks.
        let error = runner.plugin.restore(1, b"{}").unwrap_err();
        assert_eq!(error, "snapshot of version 1, expected 2");
        assert!(runner.plugin.restore(9, b"{}").is_err() && runner.plugin.restore(VERSION, b"{").is_err());
    }

    #[test]
    fn configuration_is_checked_against_the_models() {
        let error = |config: Value| Runner::<ViolenceAlert>::new(&context(), &config).err().unwrap();
        assert!(error(json!({"labels": ["riot"]})).contains("riot"));
        assert!(error(json!({"exit": 0.9})).contains("exit"));
        assert!(error(json!({"enterr": 0.9})).contains("enterr"));
    }
}
