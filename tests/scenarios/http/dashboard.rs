//! The Grafana dashboard against a real Prometheus that reads a daemon's metrics: every query parses and has data.

use std::process::Command;

use e2e::daemon::{Daemon, free_port};
use e2e::data::root;
use e2e::mosquitto::Mosquitto;
use e2e::prometheus::Prometheus;
use serde_json::Value;
use watchpost::telemetry::catalogue::describe;

/// Every query of a dashboard's panels, with the panel's title.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    };
    panels.iter().flat_map(of).collect()
}

/// Names of ours in an expression.
fn names(expression: &str) -> Vec<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter_map(|word| word.strip_prefix("watchpost_")).map(str::to_owned).collect()
}

/// Whether a metric is of the GPU, which a machine need not have.
fn of_gpu(name: &str) -> bool {
    name.starts_with("gpu_") || name.starts_with("infer_engine")
}

/// As Grafana fills in its variables, with everything chosen.
fn filled(expression: &str) -> String {
    expression.replace("$__rate_interval", "20s").replace("$instance", ".*").replace("$stream", ".*")
}

#[test]
fn every_query_of_the_dashboard_has_data() {
    let dashboard: Value = serde_json::from_str(
        &std::fs::read_to_string(root().join("packaging/grafana/watchpost.json")).unwrap(),
    )
    .unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 50, "{} queries", queries.len());
    for (title, expression) in &queries {
        let names = names(expression);
        assert!(!names.is_empty(), "{title}: {expression} asks for nothing of ours");
        for name in names {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(
                describe(&name).or(family.and_then(describe)).is_some(),
                "{title}: the daemon has no metric {name}: {expression}"
            );
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start();
    let port = free_port();
    let clip = folder.path().join("clip.mp4");
    let make = "-loglevel error -y -f lavfi -i testsrc2=s=320x240:r=10 -t 4 -pix_fmt yuv420p -c:v libx264";
    assert!(Command::new("ffmpeg").args(make.split(' ')).arg(&clip).status().unwrap().success());
    // A scene with all that a stream can have, and a file: the two lose frames under different names.
    let here = folder.path().display();
    let more = format!(
        "outputs.wide = {{ file = \"{here}/wide.mp4\", overlay = true }}\n\
         [streams.yard]\nsource = \"{here}/clip.mp4\"\nloop = true\nrealtime = true\n"
    );
    let daemon = Daemon::start(folder.path(), &(super::config(port, &broker.url()) + &more));
    super::served(&daemon);
    let prometheus = Prometheus::start(port);
    let right =
        |result: &[Value]| result.len() == 2 && result.iter().all(|one| Prometheus::number(one) > 0.5);
    prometheus.wait("rate(watchpost_stream_frames_total[20s])", right);
    let some = |result: &[Value]| result.iter().any(|one| Prometheus::number(one) > 0.0);
    for busy in [
        "rate(watchpost_infer_frames_total[20s])",
        "rate(watchpost_plugin_call_seconds_count[20s])",
        "rate(watchpost_output_bytes_total[20s])",
        "watchpost_publish_connected",
        "rate(watchpost_http_requests_total[20s])",
        "histogram_quantile(0.99, sum by (le) (rate(watchpost_stream_latency_seconds_bucket[20s])))",
    ] {
        prometheus.wait(busy, some);
    }
    let mut wrong = Vec::new();
    for (title, expression) in &queries {
        match prometheus.query(&filled(expression)) {
            Err(error) => wrong.push(format!("{title}: {expression}: {error}")),
            Ok(result) if result.is_empty() && !names(expression).iter().any(|name| of_gpu(name)) => {
                wrong.push(format!("{title}: {expression}: no data"));
            }
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let (metric, label) = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap()
            .rsplit_once(", ")
            .unwrap();
        let result = prometheus.query(&filled(metric)).unwrap();
        assert!(result.iter().any(|one| one["metric"][label].is_string()), "{query}: {result:?}");
    }
    // Its time of a run is the one that the daemon itself tells: the buckets are real.
    let of_prometheus = prometheus
        .query("sum(watchpost_infer_seconds_sum) / sum(watchpost_infer_seconds_count)")
        .map(|result| Prometheus::number(&result[0]))
        .unwrap();
    let median = prometheus
        .query("histogram_quantile(0.5, sum by (le) (watchpost_infer_seconds_bucket))")
        .map(|result| Prometheus::number(&result[0]))
        .unwrap();
    assert!(
        median > of_prometheus / 10.0 && median < of_prometheus * 10.0,
        "median {median}, mean {of_prometheus}"
    );
    assert!(daemon.stop().success());
}
