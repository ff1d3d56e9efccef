//! What the camera promises, on made-up and random movement.

use watchpost_plugin::{Rect, testing::Rng};

use crate::{Camera, Config, Mode, Shot, Thing};

const SIZE: (f32, f32) = (1280.0, 720.0);

fn thing(track: u64, x: f32, y: f32, w: f32, h: f32) -> Thing {
    Thing { track, score: 0.9, bounds: Rect::new(x, y, w, h) }
}

fn config(mode: Mode) -> Config {
    Config { mode, ..Config::default() }
}

fn shoot(camera: &mut Camera, now: f64, people: &[Thing], balls: &[Thing], config: &Config) -> Shot {
    camera.frame(now, SIZE, people, balls, (config, config.ratio().unwrap()))
}

/// Aspect exact, inside the frame, zoom in range; and against the view before: limits of speed.
fn check(view: &Rect, before: Option<(&Rect, f32)>, config: &Config, size: (f32, f32)) {
    let ratio = config.ratio().unwrap();
    assert!((view.width / view.height / ratio - 1.0).abs() < 1e-4, "aspect {view:?}");
    let frame = Rect::new(0.0, 0.0, size.0, size.1);
    assert!(frame.contains_rect(view, 0.01), "outside {view:?}");
    let whole = size.0.min(size.1 * ratio);
    assert!(view.width <= whole * 1.0001 && view.width >= whole / config.max_zoom * 0.9999, "zoom {view:?}");
    if let Some((before, dt)) = before {
        let zoom = (view.width / before.width).ln().abs();
        assert!(zoom <= config.max_zoom_speed * dt * 1.01 + 1e-4, "zoom {before:?} {view:?}");
        let shift = (view.center().0 - before.center().0).abs();
        // Pan proper, and what zooming towards a side adds to it.
        let most = config.max_speed * size.0 * dt + 0.5 * (view.width - before.width).abs();
        assert!(shift <= most * 1.01 + 0.05, "shift {shift} of {most}: {before:?} {view:?}");
    }
}

#[test]
fn box_noise_in_the_dead_zone_moves_nothing() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let config = config(Mode::Group);
        let mut camera = Camera::default();
        let mut views = Vec::new();
        for frame in 0..400 {
            let mut noise = || (rng.unit() * 4.0 - 2.0).round();
            let people = [
                thing(1, 500.0 + noise(), 300.0 + noise(), 60.0 + noise(), 150.0 + noise()),
                thing(2, 640.0 + noise(), 310.0 + noise(), 60.0 + noise(), 150.0 + noise()),
            ];
            let shot = shoot(&mut camera, f64::from(frame) * 0.04, &people, &[], &config);
            check(&shot.view, None, &config, SIZE);
            if frame > 150 {
                views.push(shot.view);
            }
        }
        for view in &views {
            let still = (view.x - views[0].x).abs() < 0.5 && (view.width - views[0].width).abs() < 0.5;
            assert!(still && (view.y - views[0].y).abs() < 0.5, "{:?} {view:?}", views[0]);
        }
    }
}

/// People who walk, stop, turn, come and go; boxes with noise, frames at uneven spacing.
#[test]
fn a_moving_group_stays_in_a_smooth_view() {
    let config = config(Mode::Group);
    let (mut shown, mut all) = (0, 0);
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let mut camera = Camera::default();
        let mut people: Vec<(u64, f32, f32, f32)> =
            (0..4).map(|i| (i + 1, 300.0 + 500.0 * rng.unit(), 250.0 + 150.0 * rng.unit(), 0.0)).collect();
        let (mut now, mut last) = (0.0, None::<Rect>);
        let mut speed = (0.0_f32, 0.0_f32);
        for frame in 0..1500 {
            let dt = if rng.unit() < 0.1 { 0.12 } else { 0.04 };
            now += f64::from(dt);
            if frame % 100 == 0 {
                speed = (60.0 * rng.normal(), 0.0);
            }
            for person in &mut people {
                if rng.unit() < 0.01 {
                    person.3 = 80.0 * rng.normal();
                }
                person.1 = (person.1 + (speed.0 + person.3) * dt).clamp(0.0, 1220.0);
            }
            let boxes: Vec<Thing> = people
                .iter()
                .map(|p| thing(p.0, (p.1 + rng.normal()).clamp(0.0, 1220.0), p.2 + rng.normal(), 60.0, 150.0))
                .collect();
            let shot = shoot(&mut camera, now, &boxes, &[], &config);
            check(&shot.view, last.as_ref().map(|v| (v, dt)), &config, SIZE);
            last = Some(shot.view);
            for person in boxes.iter().filter(|p| shot.tracks.contains(&p.track)) {
                all += 1;
                shown += usize::from(shot.view.contains_rect(&person.bounds, 0.0));
            }
        }
    }
    let share = f64::from(shown as u32) / f64::from(all as u32);
    assert!(share >= 0.995, "{share}");
}

#[test]
fn who_comes_in_is_shown_soon() {
    let late = |urgency: f32| {
        let config = Config { urgency, ..config(Mode::Group) };
        let mut camera = Camera::default();
        let group = [thing(1, 500.0, 300.0, 60.0, 150.0), thing(2, 600.0, 300.0, 60.0, 150.0)];
        let mut missed = 0;
        for frame in 0..150 {
            let mut all = group.to_vec();
            if frame >= 100 {
                all.push(thing(3, 1220.0, 300.0, 60.0, 150.0));
            }
            let shot = shoot(&mut camera, f64::from(frame) * 0.04, &all, &[], &config);
            missed += u32::from(all.iter().any(|person| !shot.view.contains_rect(&person.bounds, 3.0)));
        }
        missed
    };
    let (ours, calm) = (late(Config::default().urgency), late(1.0));
    println!("frames until a newcomer is shown: {ours}, without urgency {calm}");
    assert!(ours <= 20 && ours < calm, "{ours} frames, without urgency {calm}");
}

#[test]
fn acceleration_is_limited() {
    let config = config(Mode::Track);
    let mut camera = Camera::default();
    let (dt, mut views) = (0.04, Vec::new());
    for frame in 0..500 {
        let x = if (frame / 100) % 2 == 0 { 100.0 } else { 1000.0 };
        let shot =
            shoot(&mut camera, f64::from(frame) * dt, &[thing(1, x, 300.0, 60.0, 150.0)], &[], &config);
        views.push(shot.view);
    }
    for three in views.windows(3).skip(1) {
        let second =
            (three[2].center().0 - 2.0 * three[1].center().0 + three[0].center().0).abs() / (dt * dt) as f32;
        assert!(second <= config.urgency * config.max_acceleration * SIZE.0 * 1.1, "{second}");
    }
    // It gets there, too.
    assert!(views[99].contains_rect(&Rect::new(100.0, 300.0, 60.0, 150.0), 0.0));
    assert!(views[199].contains_rect(&Rect::new(1000.0, 300.0, 60.0, 150.0), 0.0));
}

#[test]
fn a_lost_subject_is_waited_for_then_the_view_widens() {
    let config = config(Mode::Track);
    let mut camera = Camera::default();
    let person = [thing(4, 200.0, 300.0, 60.0, 150.0)];
    let mut view = Rect::default();
    for frame in 0..50 {
        view = shoot(&mut camera, f64::from(frame) * 0.04, &person, &[], &config).view;
    }
    for frame in 50..100 {
        let shot = shoot(&mut camera, f64::from(frame) * 0.04, &[], &[], &config);
        if frame < 85 {
            assert!((shot.view.center().0 - view.center().0).abs() < 1.0, "held still");
        }
    }
    for frame in 100..300 {
        view = shoot(&mut camera, f64::from(frame) * 0.04, &[], &[], &config).view;
    }
    assert!(view.width > 1270.0, "widened: {view:?}");
}

#[test]
fn a_cut_jumps() {
    let config = config(Mode::Group);
    let mut camera = Camera::default();
    for frame in 0..100 {
        shoot(&mut camera, f64::from(frame) * 0.04, &[thing(1, 100.0, 300.0, 60.0, 150.0)], &[], &config);
    }
    camera.cut(4.0);
    let there = thing(0, 1100.0, 300.0, 60.0, 150.0);
    let shot = shoot(&mut camera, 4.0, &[there], &[], &config);
    assert!(shot.view.contains_rect(&there.bounds, 0.0) && shot.view.width < 640.0, "{:?}", shot.view);
}

#[test]
fn follow_names_the_track() {
    let config = config(Mode::Track);
    let mut camera = Camera::default();
    let people = [thing(1, 100.0, 200.0, 120.0, 300.0), thing(2, 1000.0, 300.0, 60.0, 150.0)];
    assert_eq!(shoot(&mut camera, 0.0, &people, &[], &config).tracks, [1]);
    camera.follow(Some(2));
    for frame in 1..120 {
        let shot = shoot(&mut camera, f64::from(frame) * 0.04, &people, &[], &config);
        assert_eq!(shot.tracks, [2]);
        if frame == 119 {
            assert!(shot.view.contains_rect(&people[1].bounds, 0.0));
        }
    }
}

#[test]
fn the_ball_is_led_and_a_false_one_ignored() {
    let config = config(Mode::Ball);
    let mut camera = Camera::default();
    let players = [thing(1, 200.0, 300.0, 60.0, 150.0), thing(2, 900.0, 300.0, 60.0, 150.0)];
    let (mut shown, mut ahead) = (0, 0);
    for frame in 0..125 {
        let x = 150.0 + 6.0 * frame as f32;
        let mut balls = vec![thing(9, x, 400.0, 14.0, 14.0)];
        if frame % 20 == 10 {
            balls.push(Thing { score: 0.99, ..thing(0, 1200.0, 100.0, 14.0, 14.0) });
        }
        if frame % 7 == 3 {
            balls.remove(0);
        }
        let shot = shoot(&mut camera, frame as f64 * 0.04, &players, &balls, &config);
        check(&shot.view, None, &config, SIZE);
        shown += usize::from(shot.view.contains_rect(&Rect::new(x, 400.0, 14.0, 14.0), 0.0));
        ahead += usize::from(shot.view.center().0 > x);
    }
    assert!(shown >= 123, "{shown}");
    assert!(ahead > 60, "{ahead}");
    // Without the ball it holds, then shows the players.
    let mut shot = None;
    for frame in 125..300 {
        shot = Some(shoot(&mut camera, f64::from(frame) * 0.04, &players, &[], &config));
    }
    let shot = shot.unwrap();
    assert_eq!((shot.mode, shot.tracks), (Mode::Group, vec![1, 2]));
    assert!(
        shot.view.contains_rect(&players[0].bounds, 0.0) && shot.view.contains_rect(&players[1].bounds, 0.0)
    );
}

#[test]
fn an_outlier_is_left_out_only_when_asked() {
    let mut people: Vec<Thing> =
        (0..5).map(|i| thing(i + 1, 200.0 + 50.0 * i as f32, 300.0, 40.0, 100.0)).collect();
    people.push(thing(6, 1200.0, 300.0, 40.0, 100.0));
    for (outliers, expected) in [(0.0, 6), (3.0, 5)] {
        let config = Config { outliers, ..config(Mode::Group) };
        let mut camera = Camera::default();
        let mut shot = shoot(&mut camera, 0.0, &people, &[], &config);
        for frame in 1..60 {
            shot = shoot(&mut camera, f64::from(frame) * 0.04, &people, &[], &config);
        }
        assert_eq!(shot.tracks.len(), expected);
    }
}

#[test]
fn any_size_any_aspect_any_nonsense_stays_inside() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let size = (64.0 + (2000.0 * rng.unit()).round(), 64.0 + (1200.0 * rng.unit()).round());
        let aspect = ["16:9", "9:16", "1:1", "4:3", "21:9"][(seed % 5) as usize];
        let mode = [Mode::Group, Mode::Track, Mode::Ball][(seed % 3) as usize];
        let config = Config { aspect: aspect.to_owned(), mode, ..Config::default() };
        let ratio = config.ratio().unwrap();
        let mut camera = Camera::default();
        let mut now = 0.0;
        for _ in 0..400 {
            now += f64::from(rng.unit() * 0.2);
            let mut any = |track: u64| {
                let (x, y) = ((rng.unit() * 1.6 - 0.3) * size.0, (rng.unit() * 1.6 - 0.3) * size.1);
                thing(track, x, y, rng.unit() * size.0, rng.unit() * size.1)
            };
            let things = [any(1), any(2), any(0)];
            let shot = camera.frame(now, size, &things[..2], &things[2..], (&config, ratio));
            check(&shot.view, None, &config, size);
        }
    }
}

#[test]
fn a_snapshot_goes_on_where_it_was() {
    let config = config(Mode::Group);
    let mut camera = Camera::default();
    let people = |frame: i32| [thing(1, 100.0 + 3.0 * frame as f32, 300.0, 60.0, 150.0)];
    for frame in 0..60 {
        shoot(&mut camera, f64::from(frame) * 0.04, &people(frame), &[], &config);
    }
    let bytes = serde_json::to_vec(&camera).unwrap();
    let mut restored: Camera = serde_json::from_slice(&bytes).unwrap();
    for frame in 60..90 {
        let now = f64::from(frame) * 0.04;
        let a = shoot(&mut camera, now, &people(frame), &[], &config);
        let b = shoot(&mut restored, now, &people(frame), &[], &config);
        assert_eq!(a, b);
    }
}
