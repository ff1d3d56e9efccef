//! `watchpost demo`: the whole daemon on a scene that it renders itself.
//!
//! In: a few options. Out: a running daemon with a broker, an RTSP server and a status page of its own; alerts are printed as a
//! subscriber of the broker gets them, so what is seen has gone the whole way. Folders are the user's own and
//! temporary; ports that are taken are stepped over.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::config::Settings;

/// The configuration of the demo, without its folders and ports.
pub const CONFIG: &str = include_str!("demo.toml");

/// Options of `watchpost demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Seed of the scene.
    #[arg(long)]
    pub seed: Option<u64>,
    /// What to watch in place of the square: `scene://ball`, an rtsp:// address, a file. The shipped models know only
    /// rendered scenes.
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Stop after so many seconds.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// First port to try for the broker.
    #[arg(long, default_value_t = 1883)]
    pub mqtt_port: u16,
    /// First port to try for the RTSP server.
    #[arg(long, default_value_t = 8554)]
    pub rtsp_port: u16,
    /// First port to try for the status page.
    #[arg(long, default_value_t = 8590)]
    pub http_port: u16,
}

/// The demo's settings: free ports, folders below `folder`, plugins and models from `share`.
///
/// # Errors
/// Where no port is free, or the source is wrong.
pub fn settings(arguments: &DemoArgs, folder: &Path, share: &Path) -> anyhow::Result<Settings> {
    let mut settings =
        crate::config::merge(&[(Path::new("demo.toml"), CONFIG.to_owned())], &Default::default())?;
    settings.mqtt.listen = format!("127.0.0.1:{}", free_port(arguments.mqtt_port)?);
    settings.rtsp.port = free_port(arguments.rtsp_port)?;
    settings.http.listen = format!("127.0.0.1:{}", free_port(arguments.http_port)?);
    settings.paths.state = folder.join("state");
    settings.paths.cache = folder.join("cache");
    settings.paths.run = folder.join("run");
    settings.paths.plugins = vec![share.join("plugins"), folder.join("plugins")];
    settings.paths.models = vec![share.join("models")];
    let stream = settings.streams.get_mut("square").context("the demo has a stream called square")?;
    if let Some(source) = &arguments.source {
        stream.source.clone_from(source);
        stream.loop_ = true;
        stream.realtime = true;
        if source.starts_with("scene://ball")
            && let Some(follow) = stream.plugins.get_mut("follow")
        {
            follow.config.insert("mode".into(), "ball".into());
        }
    }
    if let Some(seed) = arguments.seed {
        anyhow::ensure!(
            stream.source.starts_with("scene:"),
            "--seed is for scenes; {} is none",
            stream.source
        );
        let (scene, query) = stream.source.split_once('?').unwrap_or((&stream.source, "size=640x360&fps=25"));
        let others = query.split('&').filter(|key| !key.is_empty() && !key.starts_with("seed="));
        let query: Vec<String> =
            std::iter::once(format!("seed={seed}")).chain(others.map(str::to_owned)).collect();
        stream.source = format!("{scene}?{}", query.join("&"));
    }
    Ok(settings)
}

/// Where the demo keeps its files: of this user alone, and the same the next time, so that compiled plugins are found.
#[must_use]
pub fn folder() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map_or_else(
            || std::env::temp_dir().join(format!("watchpost-demo-{user}")),
            |cache| cache.join("watchpost-demo"),
        )
}

/// The first free port from `first` on.
fn free_port(first: u16) -> anyhow::Result<u16> {
    (first..first.saturating_add(100))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .with_context(|| format!("no free port between {first} and {}", first.saturating_add(100)))
}

/// What to look at, printed once the demo runs.
#[must_use]
pub fn banner(settings: &Settings) -> String {
    let broker = &settings.mqtt.listen;
    let port = broker.rsplit(':').next().unwrap_or("1883");
    let (prefix, box_) = (&settings.mqtt.prefix, &settings.box_.name);
    let rtsp = format!("rtsp://127.0.0.1:{}", settings.rtsp.port);
    format!(
        "
Watchpost demo: a rendered square with people who walk, meet, dance, hug, and now and then fight.

  page        {page}
  alerts      printed below as they arrive at the broker, mqtt://{broker}
  subscribe   mosquitto_sub -h 127.0.0.1 -p {port} -v -t '{prefix}/{box_}/streams/+/events/#'
  everything  mosquitto_sub -h 127.0.0.1 -p {port} -v -t '{prefix}/#'
  framed      {rtsp}/square/framed   (a virtual camera that follows the people)
  wide        {rtsp}/square/wide     (the whole scene with boxes and ids)
  watch       ffplay -rtsp_transport tcp {rtsp}/square/framed      or vlc, mpv
  plugins     drop a .wasm into {plugins}
  stop        Ctrl-C
",
        page = settings.http.url().unwrap_or_default(),
        plugins =
            settings.paths.plugins.last().map(|folder| folder.display().to_string()).unwrap_or_default(),
    )
}

/// One line for an event as it came from the broker; `None` for what is no event.
#[must_use]
pub fn alert_line(payload: &[u8]) -> Option<String> {
    let event: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    if text("schema") != "watchpost.event/1" {
        return None;
    }
    let time = text("captured").get(11..19).unwrap_or_default();
    let tracks: Vec<&str> = event["tracks"].as_array()?.iter().filter_map(|track| track.as_str()).collect();
    let reason = event["reason"].as_str().or_else(|| event["data"]["reason"].as_str());
    let change = match text("change") {
        "begin" => "BEGINS",
        "end" => "ends",
        _ => "goes on",
    };
    Some(format!(
        "{time}  {:<10} {:<8} {change:<8} score {:.2}  severity {:<8} tracks {:<12} incident {}{}",
        text("stream"),
        text("kind"),
        event["score"].as_f64().unwrap_or_default(),
        text("severity"),
        tracks.join(","),
        text("incident"),
        reason.map(|reason| format!("  ({reason})")).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> DemoArgs {
        DemoArgs {
            seed: None,
            source: None,
            seconds: None,
            mqtt_port: 21883,
            rtsp_port: 28554,
            http_port: 28590,
        }
    }

    #[test]
    fn ports_that_are_taken_are_stepped_over() {
        let taken = TcpListener::bind("127.0.0.1:21883");
        let settings = settings(&arguments(), Path::new("/tmp/x"), Path::new("/tmp/y")).unwrap();
        if taken.is_ok() {
            assert_ne!(settings.mqtt.listen, "127.0.0.1:21883");
        }
        let text = banner(&settings);
        assert!(text.contains(&settings.http.url().unwrap()), "{text}");
        assert!(text.contains(&format!("-p {}", settings.mqtt.listen.rsplit(':').next().unwrap())), "{text}");
    }

    #[test]
    fn a_seed_and_a_source_change_the_scene() {
        let seeded = DemoArgs { seed: Some(5), ..arguments() };
        let settings_ = settings(&seeded, Path::new("/tmp/x"), Path::new("/tmp/y")).unwrap();
        assert_eq!(settings_.streams["square"].source, "scene://people?seed=5&size=640x360&fps=25&fights=2");
        let ball = DemoArgs { source: Some("scene://ball".into()), ..arguments() };
        let settings_ = settings(&ball, Path::new("/tmp/x"), Path::new("/tmp/y")).unwrap();
        assert_eq!(settings_.streams["square"].plugins["follow"].config["mode"], "ball");
    }

    #[test]
    fn an_event_is_one_line() {
        let payload = br#"{"schema":"watchpost.event/1","stream":"square","kind":"violence","change":"begin",
            "severity":"high","score":0.91,"tracks":["4","7"],"incident":"77","captured":"2026-11-21T08:30:12.481Z","data":{}}"#;
        let line = alert_line(payload).unwrap();
        assert!(line.contains("08:30:12") && line.contains("BEGINS") && line.contains("4,7"), "{line}");
        assert!(alert_line(b"{}").is_none());
    }
}
