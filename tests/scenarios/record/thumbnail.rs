//! A running stream shows itself to whoever asks: masked, with what its plugins say of it drawn over it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use e2e::daemon::{binary, dist};
use e2e::mosquitto::until;
use watchpost::config::Settings;
use watchpost::encode::RtspServer;
use watchpost::flow::{Size, Thumbnail};
use watchpost::pipeline::Supervisor;
use watchpost::plugins::{Compiler, Host, HostOptions};
use watchpost::publish::{PublishSettings, Publisher};
use watchpost::service::crash::Crashes;
use watchpost::telemetry::Registry;

use super::picture::Decoded;

const CONFIG: &str = r#"
box.name = "b"
mqtt.url = "off"
accel.lane = "cpu"
models.people.path = "people"
[streams.entrance]
source = "scene://people?seed=11&size=1280x720&fps=25&people=6"
models.people = { sample = "fps:10" }
plugins.tracker = { order = 1 }
plugins.follow = { order = 2, use = "camera-framing", mode = "group" }
masks.neighbour = { polygon = [[0, 0], [320, 0], [320, 200], [0, 200]] }
"#;

fn settings(folder: &Path) -> Settings {
    let file = (Path::new("test.toml"), CONFIG.to_owned());
    let mut settings = watchpost::config::merge(&[file], &HashMap::new()).unwrap();
    settings.paths.state = folder.join("state");
    settings.paths.cache = folder.join("cache");
    settings.paths.run = folder.join("run");
    settings.paths.plugins = vec![dist().join("plugins")];
    settings.paths.models = vec![dist().join("models")];
    settings
}

/// The streams of a daemon, without the rest of it.
struct Streams {
    supervisor: Supervisor,
    publisher: Option<Publisher>,
    runtime: tokio::runtime::Runtime,
}

impl Streams {
    fn start(settings: &Settings) -> Self {
        let registry = Registry::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let publishing = PublishSettings::new(&settings.mqtt, "b", &settings.paths.state).unwrap();
        let publisher = Publisher::start(publishing, &registry, runtime.handle()).unwrap();
        let host = Host::new(HostOptions {
            paths: settings.paths.clone(),
            limits: settings.limits.clone(),
            compiler: Compiler::of(binary()),
            metrics: registry.clone(),
            on_notice: None,
        });
        let crashes = Crashes::without_handler(&settings.paths.state.join("crashes")).unwrap();
        let supervisor = Supervisor::new(
            settings,
            Arc::new(host.unwrap()),
            publisher.handle(),
            RtspServer::idle().handle(),
            registry,
            Arc::new(crashes),
            watchpost::record::RecordHandle::off(),
        );
        supervisor.apply(settings);
        Self { supervisor, publisher: Some(publisher), runtime }
    }

    fn edges(&self) -> Vec<String> {
        self.supervisor.report()["entrance"].status.edges.iter().map(|edge| edge.name.clone()).collect()
    }

    fn shown(&self) -> Option<(Thumbnail, Decoded)> {
        let thumbnail = self.supervisor.thumbnail("entrance").ok()?;
        let picture = Decoded::of(&thumbnail.jpeg);
        Some((thumbnail, picture))
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.supervisor.stop();
        if let Some(publisher) = self.publisher.take() {
            self.runtime.block_on(publisher.stop(std::time::Duration::from_secs(1)));
        }
    }
}

#[test]
fn a_stream_shows_itself_with_boxes_cameras_and_masks() {
    let folder = tempfile::tempdir().unwrap();
    let streams = Streams::start(&settings(folder.path()));
    let error = streams.supervisor.thumbnail("exit").unwrap_err();
    assert!(error.contains("no stream \"exit\"; there are: entrance"), "{error}");
    let edge = "encode thumbnail".to_owned();
    assert!(!streams.edges().contains(&edge), "nobody has asked yet");
    let mut last = None;
    // The colour of a virtual camera's outline: it is there once people were found.
    until("a camera is drawn", || {
        last = streams.shown().or(last.take());
        last.as_ref().is_some_and(|(_, picture)| picture.count(0x00FF_D800) > 200)
    });
    let (thumbnail, picture) = last.unwrap();
    assert_eq!((thumbnail.width, thumbnail.height, picture.size), (640, 360, Size::new(640, 360)));
    // But for the camera, which may be drawn over it.
    assert!(picture.is_black((12, 12), (148, 16)) || picture.is_black((12, 80), (148, 90)), "the mask");
    assert!(!picture.is_black((200, 100), (600, 300)), "the rest is to be seen");
    until("the edge is named", || streams.edges().contains(&edge) || streams.shown().is_none());

    // Those who ask together get the same, and that is a later frame.
    let together: Vec<_> = std::thread::scope(|scope| {
        let askers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| streams.supervisor.thumbnail("entrance").unwrap())).collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    assert!(together.iter().all(|one| one.frame >= thumbnail.frame));
    assert!(together.windows(2).filter(|pair| pair[0] == pair[1]).count() >= 2, "pictures are shared");
    until("nobody asks, and nothing is left for it", || !streams.edges().contains(&edge));

    let started = Instant::now();
    streams.supervisor.set_enabled("entrance", false).unwrap();
    let error = streams.supervisor.thumbnail("entrance").unwrap_err();
    assert_eq!(error, "stream entrance is disabled");
    assert!(started.elapsed().as_secs() < 20);
}
