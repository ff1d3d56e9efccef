//! What the alert logic promises, on made-up and random scores.

use watchpost_plugin::{Rect, testing::Rng};

use crate::{Alert, Alerts, Config, Person, Reason, Score, Severity, Step, baseline::SingleThreshold};

/// Feeds scores of windows of 2 s, one each 0.5 s, arriving `late` seconds after their end, at 25 frames/s.
fn play(config: &Config, values: &[f32], late: f64) -> Vec<(f64, Alert)> {
    let mut alerts = Alerts::default();
    let mut told = Vec::new();
    let mut id = 0;
    let mut fed = 0;
    for frame in 0..(values.len() * 25 / 2 + 25 * 10) {
        let now = frame as f64 / 25.0;
        let mut scores = Vec::new();
        while fed < values.len() && 0.5 * fed as f64 + late <= now {
            let end = 0.5 * fed as f64;
            scores.push(Score { value: values[fed], begin: end - 2.0, end, region: None });
            fed += 1;
        }
        let people = [
            Person { track: 7, bounds: Rect::new(100.0 + 5.0 * (frame % 3) as f32, 50.0, 40.0, 100.0) },
            Person { track: 8, bounds: Rect::new(135.0 - 4.0 * (frame % 2) as f32, 52.0, 40.0, 100.0) },
        ];
        let mut out = Vec::new();
        let mut new_id = || {
            id += 1;
            id
        };
        alerts.frame(now, &people, &scores, config, &mut new_id, &mut out);
        told.extend(out.into_iter().map(|alert| (now, alert)));
    }
    told
}

fn begins(told: &[(f64, Alert)]) -> Vec<f64> {
    told.iter().filter(|(_, alert)| alert.step == Step::Begin).map(|(at, _)| *at).collect()
}

/// Begin, any updates, one end, each incident after the other; severity never falls; updates not too often.
fn check_order(told: &[(f64, Alert)], config: &Config) {
    let mut open: Option<(u64, Severity, f64)> = None;
    let mut last = 0;
    for (at, alert) in told {
        match (alert.step, open) {
            (Step::Begin, None) => assert!(alert.incident > last, "an id came back"),
            (Step::Update, Some((id, severity, before))) => {
                assert_eq!(alert.incident, id);
                assert!(alert.severity >= severity);
                assert!(at - before >= f64::from(config.update_every) - 1e-6, "updates too close");
            }
            (Step::End(_), Some((id, ..))) => assert_eq!(alert.incident, id),
            (step, open) => panic!("{step:?} while {open:?}"),
        }
        last = alert.incident;
        let over = matches!(alert.step, Step::End(_));
        open = (!over).then_some((alert.incident, alert.severity, *at));
    }
}

#[test]
fn scores_that_rise_with_a_setback_begin_an_alert_and_two_far_apart_do_not() {
    let config = Config::default();
    let mut values = vec![0.05; 40];
    values[10..14].copy_from_slice(&[0.72, 0.55, 0.63, 0.86]);
    // The score of 6.5 s comes with the frame at 6.52 s.
    assert_eq!(begins(&play(&config, &values, 0.0)), [6.52], "two of the last four, one of them sure");
    let mut apart = vec![0.05; 40];
    (apart[10], apart[14]) = (0.72, 0.86);
    assert_eq!(begins(&play(&config, &apart, 0.0)), [0.0; 0]);
}

#[test]
fn a_fight_is_one_alert_in_time() {
    let config = Config::default();
    // The fight starts at 10 s; windows cover 2 s, so scores rise from the one that ends at 11 s.
    let mut values = vec![0.05; 60];
    values[21] = 0.5;
    values[22..40].fill(0.95);
    let told = play(&config, &values, 0.2);
    check_order(&told, &config);
    let begins = begins(&told);
    assert_eq!(begins.len(), 1);
    assert!(begins[0] >= 10.5 && begins[0] <= 12.0, "{begins:?}");
    let (at, end) = told.last().unwrap();
    assert_eq!(end.step, Step::End(Reason::Calm));
    assert!(*at > 20.0 && *at < 28.0, "{at}");
    assert_eq!(told[0].1.involved.tracks, [7, 8]);
    assert!((end.peak - 0.95).abs() < 1e-6 && end.duration >= 8.0);
}

#[test]
fn a_lull_shorter_than_the_cooldown_is_the_same_fight() {
    let config = Config::default();
    let mut values = vec![0.05; 80];
    values[20..30].fill(0.9);
    values[37..50].fill(0.9);
    let told = play(&config, &values, 0.0);
    check_order(&told, &config);
    assert_eq!(begins(&told).len(), 1, "{told:?}");
    // And one much later is another.
    let mut values = vec![0.05; 120];
    values[20..30].fill(0.9);
    values[70..80].fill(0.9);
    assert_eq!(begins(&play(&config, &values, 0.0)).len(), 2);
}

#[test]
fn one_wild_score_is_no_fight() {
    let config = Config::default();
    let mut values = vec![0.1; 60];
    values[20] = 0.99;
    values[40] = 0.92;
    assert!(play(&config, &values, 0.0).is_empty());
}

#[test]
fn a_score_that_hovers_is_no_fight_and_a_single_threshold_alerts_over_and_over() {
    let config = Config::default();
    let mut naive = 0;
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut drift = 0.0_f32;
        let values: Vec<f32> = (0..240)
            .map(|_| {
                drift = 0.7 * drift + 0.02 * rng.normal();
                (config.enter + (drift + 0.03 * rng.normal()).clamp(-0.12, 0.12)).clamp(0.0, 1.0)
            })
            .collect();
        let told = play(&config, &values, 0.1);
        let sustained = values.windows(11).any(|w| w.iter().all(|v| *v >= config.enter));
        assert!(told.is_empty() || sustained, "seed {seed}: {told:?}");
        let mut single = SingleThreshold::default();
        for value in &values {
            let score = Score { value: *value, begin: 0.0, end: 0.0, region: None };
            naive += usize::from(single.score(&score, config.enter) == Some(true));
        }
    }
    assert!(naive > 200 * 20, "the single threshold should flap: {naive}");
}

#[test]
fn random_walks_never_break_the_order_nor_flap() {
    let config = Config::default();
    for seed in 0..300 {
        let mut rng = Rng::new(1000 + seed);
        let mut value = rng.unit();
        let values: Vec<f32> = (0..400)
            .map(|_| {
                value = (value + 0.15 * rng.normal()).clamp(0.0, 1.0);
                value
            })
            .collect();
        let told = play(&config, &values, 0.3 * f64::from(rng.unit()));
        check_order(&told, &config);
        for pair in begins(&told).windows(2) {
            let least = f64::from(config.cooldown + config.hold);
            assert!(pair[1] - pair[0] >= least, "seed {seed}: two alerts {pair:?}");
        }
    }
}

#[test]
fn a_sustained_score_below_sure_alerts_after_a_while() {
    let told = play(&Config::default(), &[0.78; 40], 0.0);
    let begins = begins(&told);
    assert_eq!(begins.len(), 1);
    assert!(begins[0] >= 5.0 && begins[0] < 6.0, "{begins:?}");
}

#[test]
fn severity_rises_with_time_by_update() {
    let mut values = vec![0.05; 80];
    values[10..60].fill(0.9);
    let told = play(&Config::default(), &values, 0.0);
    let severities: Vec<Severity> = told.iter().map(|(_, alert)| alert.severity).collect();
    assert_eq!(severities.first(), Some(&Severity::Medium));
    assert_eq!(severities.last(), Some(&Severity::High));
    assert!(told.iter().any(|(_, alert)| alert.step == Step::Update && alert.severity == Severity::High));
}

#[test]
fn ends_with_the_source_with_scores_and_with_gaps() {
    let config = Config::default();
    let mut id = 0;
    let mut new_id = || {
        id += 1;
        id
    };
    let mut fight = || {
        let mut alerts = Alerts::default();
        let mut told = Vec::new();
        for step in 0..6 {
            let end = f64::from(step) * 0.5;
            let score = Score { value: 0.95, begin: end - 2.0, end, region: None };
            alerts.frame(end, &[], &[score], &config, &mut new_id, &mut told);
        }
        assert_eq!(told.iter().filter(|alert| alert.step == Step::Begin).count(), 1);
        alerts
    };
    let reasons = |told: &[Alert]| told.iter().map(|alert| alert.step).collect::<Vec<_>>();
    let mut told = Vec::new();
    fight().end(Reason::SourceLost, &mut told);
    assert_eq!(reasons(&told), [Step::End(Reason::SourceLost)]);
    told.clear();
    let mut alerts = fight();
    alerts.gap(2.0, &config, &mut told);
    assert!(told.is_empty(), "a short gap ends nothing");
    alerts.gap(60.0, &config, &mut told);
    assert_eq!(reasons(&told), [Step::End(Reason::Gap)]);
    told.clear();
    let mut alerts = fight();
    alerts.tick(9.0, &config, &mut told);
    assert!(told.is_empty());
    alerts.tick(12.0, &config, &mut told);
    assert_eq!(reasons(&told), [Step::End(Reason::NoScores)]);
    assert_eq!(alerts.open().count(), 0);
}

#[test]
fn two_places_are_two_incidents_and_one_place_is_one() {
    let config = Config::default();
    let mut alerts = Alerts::default();
    let mut told = Vec::new();
    let mut id = 0;
    let mut new_id = || {
        id += 1;
        id
    };
    let left = Rect::new(0.0, 0.0, 300.0, 300.0);
    let right = Rect::new(340.0, 0.0, 300.0, 300.0);
    for step in 0..20 {
        let end = f64::from(step) * 0.5;
        let at = |mut region: Rect| {
            region.x += step as f32;
            Score { value: 0.95, begin: end - 2.0, end, region: Some(region) }
        };
        alerts.frame(end, &[], &[at(left), at(right)], &config, &mut new_id, &mut told);
    }
    assert_eq!(told.iter().filter(|alert| alert.step == Step::Begin).count(), 2);
    assert_eq!(alerts.open().count(), 2);
}

#[test]
fn a_snapshot_carries_the_open_incident_on() {
    let config = Config::default();
    let mut alerts = Alerts::default();
    let mut told = Vec::new();
    let mut new_id = || 5;
    for step in 0..6 {
        let end = f64::from(step) * 0.5;
        let score = Score { value: 0.95, begin: end - 2.0, end, region: None };
        alerts.frame(end, &[], &[score], &config, &mut new_id, &mut told);
    }
    let bytes = serde_json::to_vec(&alerts).unwrap();
    let mut restored: Alerts = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(restored, alerts);
    told.clear();
    restored.end(Reason::StreamEnd, &mut told);
    assert_eq!((told[0].incident, told[0].step), (5, Step::End(Reason::StreamEnd)));
}
