//! What a type cannot say: names, references between tables, ranges.
//!
//! In: deserialized settings. Out: (dotted key, message) of every problem; empty when all is well.

use super::Settings;
use super::settings::{LaneChoice, Limits, Provider, Stream, VideoCodec, VideoOutput};

/// Every problem of the settings.
pub(super) fn validate(settings: &Settings) -> Vec<(String, String)> {
    let mut check = Check(Vec::new());
    check.name("box.name", &settings.box_.name);
    check.mqtt(settings);
    check.companions(settings);
    if settings.rtsp.address.parse::<std::net::IpAddr>().is_err() {
        check.bad("rtsp.address", format!("\"{}\" is no IP address", settings.rtsp.address));
    }
    if let Some(problem) = settings.http.problem() {
        check.bad("http.listen", problem);
    }
    check.limits(&settings.limits);
    check.0.extend(settings.record.problems().into_iter().map(|(key, problem)| (key.into(), problem.into())));
    if let Some(problem) = settings.runtime.problem() {
        check.bad("runtime.from", problem);
    }
    check.providers(&settings.infer.providers);
    check.plugins(settings);
    for (name, model) in &settings.models {
        let key = format!("models.{name}");
        check.name(&key, name);
        if model.batch == 0 || model.batch > 256 {
            check.bad(format!("{key}.batch"), "expected 1 to 256");
        }
        if model.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
            check.bad(format!("{key}.threshold"), "expected 0 to 1");
        }
    }
    for (name, stream) in &settings.streams {
        check.name(&format!("streams.{name}"), name);
        check.stream(name, stream, settings);
    }
    check.0
}

struct Check(Vec<(String, String)>);

impl Check {
    fn bad(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push((key.into(), message.into()));
    }

    /// Names become topic levels, file names and paths of the RTSP server.
    fn name(&mut self, key: &str, name: &str) {
        let fine = !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !name.starts_with('.');
        if !fine {
            self.bad(
                key,
                format!("\"{name}\" is no name; expected 1 to 64 letters, digits, '-', '_' or '.', not starting with '.'"),
            );
        }
    }

    fn mqtt(&mut self, settings: &Settings) {
        let mqtt = &settings.mqtt;
        let fine = matches!(mqtt.url.as_str(), "embedded" | "off")
            || mqtt
                .url
                .strip_prefix("mqtt://")
                .or(mqtt.url.strip_prefix("mqtts://"))
                .is_some_and(|rest| !rest.is_empty());
        if !fine {
            self.bad("mqtt.url", "expected mqtt://HOST[:PORT], mqtts://HOST[:PORT], \"embedded\" or \"off\"");
        }
        if mqtt.url.contains('@') {
            self.bad(
                "mqtt.url",
                "credentials do not belong in the address; use mqtt.username and mqtt.password_file",
            );
        }
        if mqtt.password_file.is_some() && mqtt.username.is_none() {
            self.bad(
                "mqtt.password_file",
                "a broker takes a password only with a name; set mqtt.username too",
            );
        }
        if mqtt.url == "embedded" && mqtt.listen.parse::<std::net::SocketAddr>().is_err() {
            self.bad("mqtt.listen", format!("\"{}\" is no address; expected IP:PORT", mqtt.listen));
        }
        if mqtt.prefix.is_empty() || mqtt.prefix.contains(['#', '+', '\0']) || mqtt.prefix.starts_with('/') {
            self.bad("mqtt.prefix", "expected a topic without '#' and '+', not starting with '/'");
        }
        if !(0.0..=1000.0).contains(&mqtt.objects_rate) {
            self.bad("mqtt.objects_rate", "expected 0 to 1000 messages a second");
        }
        if mqtt.keep_alive < 5 {
            self.bad("mqtt.keep_alive", "expected at least 5 seconds");
        }
        if mqtt.outbox_bytes < 64 << 10 {
            self.bad("mqtt.outbox_bytes", "expected at least 65536");
        }
    }

    fn companions(&mut self, settings: &Settings) {
        let homeassistant = &settings.homeassistant;
        for (key, topic) in [("prefix", &homeassistant.prefix), ("birth", &homeassistant.birth)] {
            if topic.is_empty() || topic.contains(['#', '+', '\0']) || topic.starts_with('/') {
                self.bad(
                    format!("homeassistant.{key}"),
                    "expected a topic without '#' and '+', not starting with '/'",
                );
            }
        }
        if !(0.0..=1000.0).contains(&settings.onvif.metadata_rate) {
            self.bad("onvif.metadata_rate", "expected 0 to 1000 messages a second");
        }
    }

    fn providers(&mut self, providers: &[Provider]) {
        let twice = (1..providers.len()).find(|index| providers[..*index].contains(&providers[*index]));
        if providers.is_empty() {
            self.bad("infer.providers", "expected at least one of \"tensorrt\", \"cuda\" and \"cpu\"");
        } else if let Some(twice) = twice {
            self.bad("infer.providers", format!("{} is named twice", providers[twice]));
        }
    }

    fn plugins(&mut self, settings: &Settings) {
        for (name, plugin) in &settings.plugins {
            let key = format!("plugins.{name}");
            self.name(&key, name);
            for word in ["order", "use"] {
                if plugin.config.contains_key(word) {
                    let message =
                        "belongs to a stream's entry; what stands here holds for the plugin in all streams";
                    self.bad(format!("{key}.{word}"), message);
                }
            }
        }
        let trace = &settings.trace;
        if trace.max_bytes < 1 << 20 {
            self.bad("trace.max_bytes", "expected at least 1048576");
        }
        if !(1..=1000).contains(&trace.files) {
            self.bad("trace.files", "expected 1 to 1000");
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let numbers = [
            ("call_ms", limits.call_ms),
            ("setup_ms", limits.setup_ms),
            ("memory_mib", limits.memory_mib),
            ("table_elements", limits.table_elements),
            ("result_mib", limits.result_mib),
            ("file_mib", limits.file_mib),
            ("compile_seconds", limits.compile_seconds),
            ("compile_mib", limits.compile_mib),
            ("snapshot_mib", limits.snapshot_mib),
            ("results", limits.results as u64),
            ("objects", limits.objects as u64),
            ("failures", u64::from(limits.failures)),
        ];
        for (name, value) in numbers {
            if value == 0 {
                self.bad(format!("limits.{name}"), "expected at least 1; a limit cannot be turned off");
            }
        }
    }

    fn stream(&mut self, name: &str, stream: &Stream, settings: &Settings) {
        let key = format!("streams.{name}");
        if stream.source.is_empty() {
            self.bad(format!("{key}.source"), "expected an address, such as rtsp://camera/main");
        }
        if !(1..=256).contains(&stream.in_flight) {
            self.bad(format!("{key}.in_flight"), "expected 1 to 256 frames");
        }
        if !(0.5..=3600.0).contains(&stream.stall_seconds) {
            self.bad(format!("{key}.stall_seconds"), "expected 0.5 to 3600");
        }
        if !(0.0..=600.0).contains(&stream.ring_seconds) {
            self.bad(format!("{key}.ring_seconds"), "expected 0 to 600");
        }
        for model in stream.models.keys() {
            if !settings.models.contains_key(model) {
                let known: Vec<_> = settings.models.keys().map(String::as_str).collect();
                self.bad(
                    format!("{key}.models.{model}"),
                    format!(
                        "no such model; add [models.{model}] with a path, or use one of: {}",
                        known.join(", ")
                    ),
                );
            }
        }
        for (list, polygons) in [("masks", &stream.masks), ("zones", &stream.zones)] {
            for (polygon, corners) in polygons {
                if corners.polygon.len() < 3
                    || corners.polygon.iter().flatten().any(|value| !value.is_finite())
                {
                    self.bad(format!("{key}.{list}.{polygon}"), "expected at least three [x, y] corners");
                }
            }
        }
        for plugin in stream.plugins.keys() {
            self.name(&format!("{key}.plugins.{plugin}"), plugin);
        }
        let lane = stream.lane.unwrap_or(settings.accel.lane);
        for (output, settings) in &stream.outputs {
            self.name(&format!("{key}.outputs.{output}"), output);
            self.output(&format!("{key}.outputs.{output}"), settings, stream);
            self.codec(&format!("{key}.outputs.{output}.codec"), settings, lane);
        }
    }

    fn codec(&mut self, key: &str, output: &VideoOutput, lane: LaneChoice) {
        match output.codec {
            VideoCodec::H264 => {}
            codec if output.to.is_some() => {
                self.bad(key, format!("RTMP carries H.264, not {codec}; expected \"h264\""));
            }
            VideoCodec::Av1 if output.serve.is_some() => {
                self.bad(key, "RTSP viewers take H.264 or H.265, not AV1; expected \"h264\" or \"h265\"");
            }
            codec if lane == LaneChoice::Cpu => {
                self.bad(
                    key,
                    format!("{codec} needs a GPU with NVENC, and the lane is \"cpu\"; expected \"h264\""),
                );
            }
            _ => {}
        }
    }

    fn output(&mut self, key: &str, output: &VideoOutput, stream: &Stream) {
        let targets = usize::from(output.serve.is_some())
            + usize::from(output.to.is_some())
            + usize::from(output.file.is_some());
        if targets != 1 {
            self.bad(key, "expected exactly one of serve, to and file");
        }
        if output.serve.as_deref().is_some_and(|serve| serve != "rtsp") {
            self.bad(format!("{key}.serve"), "expected \"rtsp\"");
        }
        if output.to.as_deref().is_some_and(|to| !to.starts_with("rtmp://") && !to.starts_with("rtmps://")) {
            self.bad(format!("{key}.to"), "expected rtmp://HOST/APP/KEY");
        }
        if output
            .file
            .as_ref()
            .is_some_and(|file| file.extension().is_none_or(|extension| extension != "mp4"))
        {
            self.bad(format!("{key}.file"), "expected a file name that ends in .mp4");
        }
        if output.size.is_some_and(|size| {
            size.width % 2 == 1 || size.height % 2 == 1 || size.width < 32 || size.height < 32
        }) {
            self.bad(format!("{key}.size"), "expected even numbers from 32x32");
        }
        if output.keyframe_seconds.is_some_and(|seconds| !(0.1..=60.0).contains(&seconds)) {
            self.bad(format!("{key}.keyframe_seconds"), "expected 0.1 to 60");
        }
        if let Some(view) = &output.view {
            let entry = view.split_once('/').map(|(entry, camera)| (entry, !camera.is_empty()));
            match entry {
                Some((entry, true)) if stream.plugins.contains_key(entry) => {}
                Some((entry, true)) => self.bad(
                    format!("{key}.view"),
                    format!("the stream has no plugin entry \"{entry}\"; it has: {}", keys(stream)),
                ),
                _ => self.bad(format!("{key}.view"), "expected PLUGIN/CAMERA, such as follow/main"),
            }
        }
    }
}

fn keys(stream: &Stream) -> String {
    stream.plugins.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}
