//! Tests of the configuration: merging, places of errors, validation.

use std::collections::HashMap;
use std::path::Path;

use super::{ConfigError, Settings, load_with, merge};

fn parse(text: &str) -> Result<Settings, ConfigError> {
    merge(&[(Path::new("watchpost.toml"), text.to_owned())], &HashMap::new())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const GOOD: &str = r#"
box.name   = "gate-7"
mqtt.url   = "mqtt://127.0.0.1:1883"
accel.lane = "auto"
models.people.path   = "people"
models.violence.path = "violence"

[streams.entrance]
source  = "rtsp://camera-3/main"
models.people     = { sample = "fps:10" }
models.violence   = {}
plugins.tracker   = { order = 1 }
plugins.fights    = { order = 2, use = "violence-alert", enter = 0.7 }
plugins.follow    = { order = 3, use = "camera-framing", mode = "group" }
masks.neighbour   = { polygon = [[0, 0], [320, 0], [320, 200]] }
outputs.wide      = { serve = "rtsp" }
outputs.live      = { to = "rtmp://live/x", view = "follow/main", size = "1280x720", bitrate = "4M" }
"#;

#[test]
fn the_design_s_example_parses() {
    let settings = parse(GOOD).unwrap();
    let stream = &settings.streams["entrance"];
    assert_eq!(settings.box_.name, "gate-7");
    assert_eq!(stream.plugins["fights"].config["enter"], 0.7);
    assert_eq!(stream.plugins["fights"].use_.as_deref(), Some("violence-alert"));
    assert_eq!(stream.outputs["live"].bitrate.unwrap().0, 4_000_000);
    assert_eq!(stream.outputs["live"].size.unwrap().to_string(), "1280x720");
    assert_eq!(stream.models["people"].sample.unwrap().to_string(), "fps:10");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = error("box.name = \"a\"\n[streams.x]\nsource = \"a.mp4\"\nsorce = 1\n");
    assert!(text.starts_with("watchpost.toml:4: streams.x.sorce: unknown key `sorce`"), "{text}");
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    let text = error("[streams.x]\nsource = \"a.mp4\"\nin_flight = \"many\"\n");
    assert!(text.starts_with("watchpost.toml:3: streams.x.in_flight: invalid type"), "{text}");
}

#[test]
fn a_syntax_error_is_named_with_its_line() {
    let text = error("box.name = \"a\"\nmqtt = = 1\n");
    assert!(text.starts_with("watchpost.toml:2:"), "{text}");
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = error(
        "[streams.x]\nsource = \"a.mp4\"\nmodels.dog = {}\noutputs.o = { serve = \"rtsp\", to = \"rtmp://x/y\" }\noutputs.p = { serve = \"rtsp\", view = \"follow/main\" }\n",
    );
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("watchpost.toml:3: streams.x.models.dog: no such model"), "{text}");
    assert!(lines[1].starts_with("watchpost.toml:4: streams.x.outputs.o: expected exactly one"), "{text}");
    assert!(
        lines[2].contains("streams.x.outputs.p.view: the stream has no plugin entry \"follow\""),
        "{text}"
    );
}

#[test]
fn codecs_that_cannot_work_are_named() {
    let stream = "[streams.x]\nsource = \"a.mp4\"\n";
    let text = error(&format!(
        "accel.lane = \"cpu\"\n{stream}outputs.a = {{ to = \"rtmp://h/x/y\", codec = \"h265\" }}\n\
         outputs.b = {{ serve = \"rtsp\", codec = \"av1\" }}\noutputs.c = {{ file = \"a.mp4\", codec = \"av1\" }}\n"
    ));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("streams.x.outputs.a.codec: RTMP carries H.264, not H.265"), "{text}");
    assert!(lines[1].contains("streams.x.outputs.b.codec: RTSP viewers take H.264 or H.265"), "{text}");
    assert!(lines[2].contains("streams.x.outputs.c.codec: AV1 needs a GPU with NVENC"), "{text}");
    assert!(
        error(&format!("{stream}outputs.a = {{ serve = \"rtsp\", codec = \"mpeg2\" }}")).contains("codec")
    );
    assert!(parse(&format!("{stream}outputs.a = {{ serve = \"rtsp\", codec = \"h265\" }}")).is_ok());
}

#[test]
fn drop_ins_win_in_the_order_of_their_names_and_variables_over_them() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("watchpost.toml");
    std::fs::write(&main, "box.name = \"a\"\nmqtt.prefix = \"p\"\n").unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    std::fs::write(
        folder.path().join("conf.d/20.toml"),
        "box.name = \"c\"\n[streams.two]\nsource = \"2.mp4\"\n",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("conf.d/10.toml"),
        "box.name = \"b\"\n[streams.one]\nsource = \"1.mp4\"\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("conf.d/30.toml.bak"), "nonsense").unwrap();
    let variables = HashMap::from([
        ("WATCHPOST_MQTT__URL".to_owned(), "off".to_owned()),
        ("WATCHPOST_TEST_DATA".to_owned(), "not a key".to_owned()),
    ]);
    let loaded = load_with(&main, &variables, None).unwrap();
    assert_eq!(loaded.settings.box_.name, "c");
    assert_eq!(loaded.settings.mqtt.prefix, "p");
    assert_eq!(loaded.settings.mqtt.url, "off");
    assert_eq!(loaded.settings.streams.len(), 2);
    assert_eq!(loaded.files.len(), 3);
}

#[test]
fn a_credential_that_is_missing_is_named_with_its_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("watchpost.toml");
    let text = "mqtt.url = \"off\"\n\n[streams.gate]\nsource = \"rtsp://u:${credential:cam3}@camera/\"\n";
    std::fs::write(&main, text).unwrap();
    let place = format!("{}:4: streams.gate.source: ", main.display());
    // In the service it is an error; elsewhere it is only not there.
    let error = load_with(&main, &HashMap::new(), Some(folder.path())).unwrap_err().to_string();
    assert!(error.starts_with(&place) && error.contains("LoadCredential=cam3:/"), "{error}");
    let loaded = load_with(&main, &HashMap::new(), None).unwrap();
    assert!(loaded.missing[0].to_string().starts_with(&place), "{:?}", loaded.missing);
    assert!(loaded.settings.streams["gate"].source.contains("${credential:cam3}"));
    std::fs::write(folder.path().join("cam3"), "open sesame\n").unwrap();
    let loaded = load_with(&main, &HashMap::new(), Some(folder.path())).unwrap();
    assert_eq!(loaded.settings.streams["gate"].source, "rtsp://u:open%20sesame@camera/");
    assert!(loaded.missing.is_empty());
}

#[test]
fn a_bad_variable_is_named() {
    let variables = HashMap::from([("WATCHPOST_MQTT__URL".to_owned(), "http://x".to_owned())]);
    let text = merge(&[(Path::new("w.toml"), String::new())], &variables).unwrap_err().to_string();
    assert!(
        text.starts_with("environment variable WATCHPOST_MQTT__URL: mqtt.url: expected mqtt://"),
        "{text}"
    );
}

#[test]
fn credentials_in_the_broker_s_address_are_refused() {
    assert!(error("mqtt.url = \"mqtt://u:p@host\"").contains("password_file"));
}

#[test]
fn an_empty_configuration_is_valid() {
    let settings = parse("").unwrap();
    assert!(!settings.box_.name.is_empty());
    assert!(settings.streams.is_empty());
}

#[test]
fn execution_providers_are_named_once_and_one_at_least() {
    use super::settings::Provider::{Cpu, Cuda, TensorRt};
    assert_eq!(parse("").unwrap().infer.providers, [TensorRt, Cuda, Cpu]);
    assert_eq!(parse("infer.providers = [\"cuda\"]\n").unwrap().infer.providers, [Cuda]);
    let text = error("box.name = \"a\"\ninfer.providers = []\n");
    assert!(text.starts_with("watchpost.toml:2: infer.providers: expected at least one"), "{text}");
    let text = error("infer.providers = [\"cuda\", \"cpu\", \"cuda\"]\n");
    assert!(text.contains("infer.providers: CUDA is named twice"), "{text}");
    let text = error("infer.providers = [\"openvino\"]\n");
    assert!(text.contains("infer.providers") && text.contains("tensorrt"), "{text}");
}

#[test]
fn what_is_said_of_a_plugin_holds_for_its_entries_unless_they_say_otherwise() {
    let text = r#"
        [plugins.tracker]
        enabled = false
        high = 0.5
        low = 0.1
        inner = { a = 1, b = 2 }
        [plugins.other]
        x = 1
        [streams.one]
        source = "a.mp4"
        plugins.tracker = { low = 0.2, inner = { b = 3 } }
        plugins.alert = { x = 5 }
        [streams.two]
        source = "b.mp4"
        plugins.ids = { use = "tracker", enabled = true }
    "#;
    let settings = parse(text).unwrap();
    let one = &settings.streams["one"].plugins["tracker"];
    assert!(!one.enabled);
    assert_eq!(
        serde_json::Value::Object(one.config.clone()),
        serde_json::json!({ "high": 0.5, "low": 0.2, "inner": { "a": 1, "b": 3 } })
    );
    let two = &settings.streams["two"].plugins["ids"];
    assert!(two.enabled && two.config["low"] == 0.1);
    assert_eq!(settings.streams["one"].plugins["alert"].config.len(), 1);
    // A key is where it was set.
    let place = |stream: &str, entry: &str, key: &str| {
        let (origin, key) = settings.plugin_key(stream, entry, key);
        format!("{}: {key}", origin.unwrap())
    };
    assert_eq!(place("one", "tracker", "high"), "watchpost.toml:4: plugins.tracker.high");
    assert_eq!(place("one", "tracker", "low"), "watchpost.toml:11: streams.one.plugins.tracker.low");
    assert_eq!(place("two", "ids", "inner.a"), "watchpost.toml:6: plugins.tracker.inner.a");
    assert_eq!(place("two", "ids", ""), "watchpost.toml:15: streams.two.plugins.ids");
    // A change of it is a change of each stream that it touches.
    let other = parse(&text.replace("high = 0.5", "high = 0.6")).unwrap();
    assert_ne!(settings.streams["one"], other.streams["one"]);
    assert_ne!(settings.streams["two"], other.streams["two"]);

    let wrong = error("[plugins.tracker]\nenabled = \"no\"\n");
    assert!(wrong.starts_with("watchpost.toml:2: plugins.tracker.enabled: invalid type"), "{wrong}");
    let wrong = error("[plugins.tracker]\norder = 3\n");
    assert!(
        wrong.starts_with("watchpost.toml:2: plugins.tracker.order: belongs to a stream's entry"),
        "{wrong}"
    );
}

#[test]
fn a_stream_is_recorded_by_its_own_key_or_by_the_folder() {
    let text = "trace.folder = \"/t\"\ntrace.files = 2\n[streams.one]\nsource = \"a\"\n[streams.two]\nsource = \"b\"\ntrace = \"/x\"\n";
    let file = |settings: &Settings, name: &str| {
        settings.streams[name].recording.as_ref().map(|recording| recording.file.display().to_string())
    };
    let mut settings = parse(text).unwrap();
    assert_eq!(file(&settings, "one").as_deref(), Some("/t/one.jsonl"));
    assert_eq!(file(&settings, "two").as_deref(), Some("/x"));
    assert_eq!(settings.streams["two"].recording.as_ref().unwrap().files, 2);
    settings.record_into(Path::new("/r"));
    assert_eq!(file(&settings, "one").as_deref(), Some("/r/one.jsonl"));
    assert_eq!(file(&settings, "two").as_deref(), Some("/x"));
    assert_eq!(file(&parse("[streams.one]\nsource = \"a\"\n").unwrap(), "one"), None);
    assert!(
        error("trace.max_bytes = 5\n").starts_with("watchpost.toml:1: trace.max_bytes: expected at least")
    );
}
