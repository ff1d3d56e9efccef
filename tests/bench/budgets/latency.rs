//! How long a frame takes from the decoder to a subscriber, beyond inference.
//!
//! In: a rendered video, played by the daemon at its own pace of 30 frames a second through the shipped people model
//! and the tracker, every frame's objects published; a broker, and a subscriber in this process. Out: one line, the
//! 99th percentile, and how it is made up.
//!
//! A frame of a file is decoded a little ahead, and let go when its time has come: the first frame at once, every
//! further one later by its stream time. So the moments are known exactly from the first message, whose `captured`
//! is in whole milliseconds: the figures are too large by what was cut off there, less than one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use e2e::daemon::Daemon;
use e2e::mosquitto::Mosquitto;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use watchpost::jobs::scene::{ExportOptions, export};
use watchpost::scene::SceneSpec;

use crate::figures::{line, quantile};

const SECONDS: u64 = 30;
const DAY: f64 = 86_400.0;
const LONG: Duration = Duration::from_secs(20);

/// A frame's objects as they came.
struct Arrival {
    frame: u64,
    /// Seconds of the day, UTC.
    received: f64,
    captured: f64,
    pts: f64,
}

/// Measures and prints.
pub fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let quiet = ExportOptions { progress: false, ..ExportOptions::default() };
    let scene = format!("scene://people?seed=1&size=640x360&fps=30&seconds={SECONDS}");
    let video = export(&SceneSpec::parse(&scene)?, &folder.path().join("scene"), &quiet)?.video;
    let broker = Mosquitto::start();
    // The connection ends with its client, so that is kept.
    let (_client, mut inbox) = subscribe(broker.port())?;
    let config = format!(
        "box.name = \"bench\"\nmqtt = {{ url = \"{}\", objects_rate = 1000.0, telemetry_interval = 1 }}\n\
         models.people.path = \"people\"\n[streams.yard]\nsource = \"{}\"\nrealtime = true\n\
         models.people = {{}}\nplugins.tracker = {{}}\n",
        broker.url(),
        video.display()
    );
    let daemon = Daemon::start(folder.path(), &config);
    let (arrivals, metrics) = collect(&mut inbox).with_context(|| daemon.log())?;
    ensure!(daemon.stop().success(), "the daemon did not stop cleanly");

    let first = arrivals
        .iter()
        .find(|arrival| arrival.frame == 0)
        .context("the first frame's objects did not come")?;
    let all: Vec<f64> = arrivals
        .iter()
        // The first second warms up.
        .filter(|arrival| arrival.pts > 1.0)
        .map(|arrival| {
            // A frame whose decoding was late was let go when that was done.
            let due = (first.captured + arrival.pts - first.pts).max(arrival.captured);
            // Midnight may lie between.
            ((arrival.received - due + DAY / 2.0).rem_euclid(DAY) - DAY / 2.0) * 1e3
        })
        .collect();
    ensure!(all.len() as u64 > SECONDS * 20, "objects of {} frames only", all.len());
    let metric = |name: &str, field: &str| metrics.get(name).and_then(|it| it[field].as_f64()).unwrap_or(0.0);
    let inference = metric("infer_seconds", "sum") / metric("infer_seconds", "count").max(1.0) * 1e3;
    ensure!(inference > 0.0, "the daemon said nothing of its inference");
    let beyond: Vec<f64> = all.iter().map(|time| time - inference).collect();
    let ms = |name: &str, field: &str| metric(name, field) * 1e3;
    let split = format!(
        "decoder to subscriber p50 {:.2} ms, p99 {:.2}; inference mean {inference:.2}, p99 {:.2}; preprocess p50 {:.2}, \
         p99 {:.2}; plugins p50 {:.2}, p99 {:.2} ms",
        quantile(&all, 0.5),
        quantile(&all, 0.99),
        ms("infer_seconds", "p99"),
        ms("stream_preprocess_seconds", "p50"),
        ms("stream_preprocess_seconds", "p99"),
        ms("stream_plugins_seconds", "p50"),
        ms("stream_plugins_seconds", "p99"),
    );
    line("decode to MQTT beyond inference, p99 at 30 fps", quantile(&beyond, 0.99), 5.0, "ms", || {
        let spread = ms("infer_seconds", "p99") - inference;
        format!(
            "inference's mean is taken off each frame, and its p99 is {spread:.2} ms above that mean, on a machine \
             that is busy or small; the rest is below"
        )
    });
    println!("    p50 {:.2} ms over {} frames; {split}", quantile(&beyond, 0.5), beyond.len());
    Ok(())
}

/// A connection that is subscribed to all the daemon says.
fn subscribe(port: u16) -> anyhow::Result<(Client, Connection)> {
    let mut options = MqttOptions::new("bench", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(16 << 20, 16 << 20);
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("watchpost/#", QoS::AtMostOnce)?;
    while let Ok(event) = connection.recv_timeout(LONG).ok().context("the broker does not answer")? {
        if matches!(event, Event::Incoming(Packet::SubAck(_))) {
            return Ok((client, connection));
        }
    }
    anyhow::bail!("the broker refuses")
}

/// Everything until the stream has ended and the metrics after it have come.
fn collect(inbox: &mut Connection) -> anyhow::Result<(Vec<Arrival>, BTreeMap<String, Value>)> {
    let (mut arrivals, mut ended) = (Vec::new(), false);
    let until = Instant::now() + Duration::from_secs(SECONDS) + LONG;
    while Instant::now() < until {
        let event = inbox
            .recv_timeout(LONG)
            .ok()
            .context("the broker says nothing more")?
            .context("the broker went away")?;
        let received = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() % DAY;
        let Event::Incoming(Packet::Publish(publish)) = event else { continue };
        let Ok(json) = serde_json::from_slice::<Value>(&publish.payload) else { continue };
        if publish.topic.ends_with("/objects") {
            let frame = json["frame"].as_str().and_then(|text| text.parse().ok());
            let captured = json["captured"].as_str().and_then(time_of_day);
            let (frame, captured) =
                frame.zip(captured).context("an objects message without frame or time")?;
            arrivals.push(Arrival { frame, received, captured, pts: json["pts"].as_f64().unwrap_or(0.0) });
        } else if publish.topic.ends_with("/yard/status") {
            ended |= json["state"] == "ended";
        } else if ended && publish.topic.ends_with("/telemetry") {
            let metrics = json["metrics"].as_array().cloned().unwrap_or_default();
            let named = metrics.into_iter().filter_map(|it| Some((it["name"].as_str()?.to_owned(), it)));
            return Ok((arrivals, named.collect()));
        }
    }
    anyhow::bail!("the video does not end")
}

/// Seconds of the day of a time such as `2026-11-21T08:30:12.481Z`.
fn time_of_day(text: &str) -> Option<f64> {
    let mut parts = text.split_once('T')?.1.trim_end_matches('Z').splitn(3, ':');
    let mut part = || parts.next()?.parse::<f64>().ok();
    Some(part()? * 3600.0 + part()? * 60.0 + part()?)
}
