//! What every metric means: the one list of names, for `/metrics`, for docs/http.md and for tests.
//!
//! In: a metric's name. Out: its kind and one sentence. Plain data; a name that is not here has no sentence, which a test
//! of the sources finds.

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A metric's name and meaning.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Name in the registry.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// One sentence, without a full stop.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Described {
    Described { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Described {
    Described { name, kind: Kind::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Described {
    Described { name, kind: Kind::Histogram, help }
}

/// Every metric, sorted by name.
pub const CATALOGUE: &[Described] = &[
    gauge("box_cpu_ratio", "Share of all cores that was busy lately, 0 to 1"),
    gauge("box_disk_free_bytes", "Room that is left where paths.state is"),
    gauge("box_disk_size_bytes", "Size of the file system where paths.state is"),
    gauge("box_memory_size_bytes", "Memory of the box"),
    gauge("box_memory_used_bytes", "Memory that is in use and cannot be had without writing to disk"),
    gauge("build_info", "Always 1; the label says which version of Watchpost runs"),
    gauge("daemon_cpu_ratio", "Cores that the daemon kept busy lately; 1 is one whole core"),
    gauge("daemon_memory_bytes", "Memory of the daemon's process (resident set)"),
    gauge("daemon_open_files", "File descriptors that the daemon has open"),
    gauge("daemon_start_time_seconds", "When the daemon started, seconds since 1970"),
    gauge("daemon_threads", "Threads of the daemon"),
    counter("gpu_copied_bytes_total", "Bytes copied between host and GPU, by the edge that copies"),
    counter("gpu_copies_total", "Copies between host and GPU, by the edge that copies"),
    gauge("gpu_decoder_ratio", "Share of the last sample in which NVDEC was at work, 0 to 1"),
    gauge("gpu_encoder_ratio", "Share of the last sample in which NVENC was at work, 0 to 1"),
    gauge("gpu_encoder_sessions", "NVENC sessions that are open, of all programs"),
    gauge("gpu_held_back", "1 while that holds the GPU's clocks back"),
    gauge("gpu_memory_total_bytes", "Video memory"),
    gauge("gpu_memory_used_bytes", "Video memory in use, by all programs"),
    gauge("gpu_power_watts", "Power that the GPU draws"),
    gauge("gpu_present", "1; 0 once the GPU is lost"),
    gauge("gpu_process_memory_bytes", "Video memory of the daemon and its helpers, and of all others"),
    gauge("gpu_sm_ratio", "Share of the last sample in which a kernel was at work, 0 to 1"),
    gauge("gpu_temperature_celsius", "Temperature of the GPU"),
    gauge("http_connections", "Connections to the HTTP server that are open"),
    counter("http_connections_refused_total", "Connections that were closed since there were too many"),
    counter("http_logins_refused_total", "Logins and requests with a wrong token"),
    histogram("http_request_seconds", "Time until an answer was ready to be sent"),
    counter("http_requests_total", "Requests that were answered"),
    gauge("infer_engine", "1 for the state of the model's TensorRT engine, else 0"),
    gauge("infer_engine_build_expected_seconds", "How long the last build of the model's engine took"),
    gauge("infer_engine_build_seconds", "How long the build of the model's engine takes so far, or took"),
    counter("infer_failures_total", "Runs of the model that failed"),
    counter("infer_frames_total", "Frames or windows that the model ran on"),
    gauge("infer_queue_jobs", "Frames or windows that wait for the model"),
    counter("infer_runs_total", "Runs of the model; a run is one batch"),
    histogram("infer_seconds", "Time of one run of the model"),
    counter("output_bytes_total", "Bytes of encoded video"),
    counter("output_frames_dropped_total", "Pictures dropped because the output was away or too slow"),
    counter("output_frames_total", "Pictures that the output encoded"),
    gauge("output_queue_pictures", "Pictures that wait for the output's encoder"),
    gauge("output_viewers", "Viewers of an output that is served"),
    histogram("plugin_call_seconds", "Time of one call of the plugin"),
    counter("plugin_dropped_total", "Events, views, states and shapes of the plugin that the host dropped"),
    counter("plugin_errors_total", "Calls that the plugin itself answered with an error"),
    counter("plugin_failures_total", "Times that the host had to end the plugin's instance"),
    gauge("plugin_memory_bytes", "Linear memory of the plugin's instance"),
    gauge("plugin_open_incidents", "Incidents of the plugin that are open"),
    gauge("publish_connected", "1 while the broker is connected and has taken the login"),
    counter("publish_connections_total", "Connections to the broker that were made"),
    counter("publish_events_acknowledged_total", "Events that the broker has acknowledged"),
    counter("publish_events_dropped_total", "Events dropped since the outbox was full"),
    counter("publish_events_durable_total", "Events that were written to disk"),
    counter("publish_messages_dropped_total", "Messages other than events that were dropped"),
    gauge("publish_outbox_bytes", "Bytes of the outbox on disk"),
    counter("publish_outbox_corrupt_total", "Damaged records skipped when the outbox was opened"),
    gauge("publish_outbox_pending", "Events that the broker has not acknowledged yet"),
    histogram("publish_outbox_sync_seconds", "Time of one sync of the outbox to disk"),
    gauge("publish_queue_messages", "Messages other than events that wait for the connection"),
    gauge("record_bytes", "Bytes of all recordings on disk"),
    counter("record_dropped_total", "Snapshots and clips that were to be recorded and were not"),
    gauge("record_files", "Recordings on disk"),
    counter("record_removed_total", "Recordings removed because they were the oldest"),
    gauge("record_stopped", "1 while nothing is recorded since the disk is full or refuses"),
    counter("record_written_total", "Snapshots and clips that were written, by kind"),
    counter("stream_frames_dropped_total", "Frames that came and were let go before the worker saw them"),
    counter("stream_frames_left_out_total", "Frames of a rendered scene that were never rendered"),
    counter("stream_frames_total", "Frames that left the stream's worker"),
    gauge("stream_in_flight_frames", "Frames between the source and the plugins"),
    counter("stream_inference_skipped_total", "Times that a model was to see a frame and did not"),
    gauge("stream_lane", "1 for the lane that the stream's frames take, else 0"),
    histogram("stream_latency_seconds", "Time from a frame's capture to its leaving"),
    counter("stream_model_failures_total", "Frames on which a model failed"),
    histogram("stream_outputs_seconds", "Time that a frame took to be rendered for the outputs"),
    histogram("stream_plugins_seconds", "Time that a frame took in the row of plugins"),
    histogram("stream_preprocess_seconds", "Time that a frame took to become tensors"),
    gauge("stream_quarantined", "1 while the stream is quarantined since its source crashed the decoder"),
    gauge("stream_up", "1 while frames come, else 0"),
];

/// What is known of a metric; `None` for a name that is not in the list.
#[must_use]
pub fn describe(name: &str) -> Option<&'static Described> {
    let at = CATALOGUE.binary_search_by_key(&name, |described| described.name).ok()?;
    CATALOGUE.get(at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_sorted_and_follow_the_rules() {
        for pair in CATALOGUE.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} after {}", pair[1].name, pair[0].name);
        }
        for Described { name, kind, help } in CATALOGUE {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(
                *kind == Kind::Counter,
                name.ends_with("_total"),
                "{name}: only counters end in _total"
            );
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}: times are in seconds");
            for unit in
                ["_ms", "_millis", "_micros", "_percent", "_kb", "_mb", "_kib", "_mib", "_count", "_sum"]
            {
                assert!(!name.ends_with(unit), "{name}: not a base unit, or a name that is taken");
            }
            assert!(help.len() > 10 && !help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
            assert_eq!(describe(name).map(|found| found.name), Some(*name));
        }
        assert!(describe("no_such").is_none());
    }

    #[test]
    fn every_metric_is_documented_and_every_documented_one_exists() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md");
        let text = std::fs::read_to_string(file).unwrap();
        let documented: Vec<&str> = text.lines().filter(|line| line.starts_with("| `watchpost_")).collect();
        let known: Vec<String> = CATALOGUE
            .iter()
            .map(|it| {
                format!(
                    "| `watchpost_{}` | {} | {} |",
                    it.name,
                    format!("{:?}", it.kind).to_lowercase(),
                    it.help
                )
            })
            .collect();
        assert_eq!(documented, known);
    }

    /// Every name that is handed to a registry anywhere in the sources is in the list, as that kind.
    #[test]
    fn every_metric_of_the_sources_is_described() {
        let mut found = 0;
        let mut wrong = Vec::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                // Tests make up names.
                if path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry")) {
                    continue;
                }
                let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
                let squeezed: String = text.split_whitespace().collect();
                for (call, kind) in [
                    (".counter(\"", Kind::Counter),
                    (".gauge(\"", Kind::Gauge),
                    (".histogram(\"", Kind::Histogram),
                    ("set(\"gpu_", Kind::Gauge),
                ] {
                    // The GPUs' watch has a closure of its own for this.
                    if call.ends_with("gpu_") && !path.ends_with("gpu/watch.rs") {
                        continue;
                    }
                    for rest in squeezed.split(call).skip(1) {
                        let name = rest.split('"').next().unwrap_or_default();
                        let name =
                            if call.ends_with("gpu_") { format!("gpu_{name}") } else { name.to_owned() };
                        found += 1;
                        if describe(&name).is_none_or(|described| described.kind != kind) {
                            wrong.push(format!("{}: {name} as {kind:?}", path.display()));
                        }
                    }
                }
            }
        }
        assert!(found > 50, "only {found} calls found");
        assert!(wrong.is_empty(), "not in telemetry/catalogue.rs: {wrong:#?}");
    }
}
