//! The exit status: whether the configured streams can run. What is away is waited for; what is missing is not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use e2e::cuda::Soft;
use e2e::daemon::dist;
use serde_json::{Value, json};

use super::{doctor, findings, only, report, report_and_errors};

/// A configuration with these streams, and whatever else is in `top`.
fn configuration(folder: &Path, top: &str, streams: &str) -> PathBuf {
    let file = folder.join("watchpost.toml");
    let (here, dist) = (folder.display(), dist());
    let dist = dist.display();
    let text = format!(
        "box.name = \"gate\"\n{top}\npaths = {{ state = \"{here}/state\", cache = \"{here}/cache\", run = \"{here}/run\", \
         plugins = [\"{dist}/plugins\"], models = [\"{dist}/models\"] }}\nmodels.people.path = \"people\"\n{streams}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn stopped_by<'a>(report: &'a Value, stream: &str) -> &'a Value {
    let stream = &report["streams"][stream];
    assert_eq!(stream["can_run"], stream["stopped_by"] == json!([]), "{report}");
    &stream["stopped_by"]
}

#[test]
fn a_stream_that_asks_for_a_gpu_by_name_cannot_run_without_one() {
    let folder = tempfile::tempdir().unwrap();
    // A driver that sees no GPU, on any machine.
    let none = Soft::new(folder.path()).with("WATCHPOST_SOFT_DEVICES", "0");
    let write = |accel: &str, yard: &str| {
        let streams = format!(
            "[streams.gate]\nsource = \"scene://people?seed=1\"\n\
             [streams.yard]\nsource = \"scene://people?seed=2\"\nlane = \"{yard}\"\n"
        );
        configuration(folder.path(), &format!("mqtt.url = \"off\"\naccel.lane = \"{accel}\""), &streams)
    };
    let (code, seen, errors) = report_and_errors(&write("auto", "cuda"), &none.environment());
    assert_eq!(code, Some(1));
    assert!(errors.contains("cannot run: yard;"), "{errors}");
    assert_eq!((stopped_by(&seen, "yard"), stopped_by(&seen, "gate")), (&json!(["lane"]), &json!([])));
    let lanes = findings(&seen, "lane");
    assert!(lanes[0].1.starts_with("cpu: auto: "), "{lanes:?}");
    assert!(
        lanes[1].0 == "wrong" && lanes[1].1.starts_with("yard: lane \"cuda\" cannot start: "),
        "{lanes:?}"
    );

    for accel in ["auto", "cpu"] {
        let (code, seen) = report(&write(accel, accel), &none.environment());
        assert_eq!(code, Some(0), "{seen}");
        assert!(only(&seen, "lane").1.starts_with("cpu: "), "{seen}");
    }
    // What the whole box asks for, no stream can do without.
    let (code, seen, errors) = report_and_errors(&write("cuda", "cuda"), &none.environment());
    assert!(code == Some(1) && errors.contains("cannot run: gate, yard;"), "{errors}");
    assert_eq!(only(&seen, "lane").0, "wrong");

    let one = Soft::new(folder.path());
    let (code, seen) = report(&write("auto", "cuda"), &one.environment());
    assert_eq!(code, Some(0), "{seen}");
    assert!(findings(&seen, "lane").iter().all(|(_, found)| found.contains("cuda: ")), "{seen}");
}

#[test]
fn what_is_away_is_waited_for_and_what_is_missing_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let away = "[streams.away]\nsource = \"rtsp://no-such-camera.invalid/main\"\n\
                [streams.yard]\nsource = \"scene://people?seed=1\"\nplugins.none = { order = 1 }\n";
    // Nobody listens there.
    let top = "mqtt.url = \"mqtt://127.0.0.1:1\"\nmodels.absent.path = \"/nowhere/absent\"";
    let (code, seen, errors) = report_and_errors(&configuration(folder.path(), top, away), &[]);
    assert_eq!(code, Some(0), "{errors}: {seen}");
    for (what, found) in [
        ("source", "no-such-camera.invalid"),
        ("plugin", "yard/none: no plugin \"none\" in the folders; the stream runs without it"),
        ("broker", "127.0.0.1:1"),
        // No stream uses it.
        ("model", "/nowhere/absent"),
    ] {
        let limited = findings(&seen, what).into_iter().find(|(verdict, _)| verdict == "limited");
        let limited = limited.unwrap_or_else(|| panic!("{what}: {seen}"));
        assert!(limited.1.contains(found), "{limited:?}");
    }
    let (_, found) = findings(&seen, "source").into_iter().find(|(_, found)| found.contains("away")).unwrap();
    assert!(found.contains("the name no-such-camera.invalid does not resolve: "), "{found}");

    let missing = "[streams.blind]\nsource = \"scene://people?seed=1\"\nmodels.absent = {}\n\
                   [streams.gone]\nsource = \"/nowhere/clip.mp4\"\n\
                   [streams.off]\nsource = \"/nowhere/other.mp4\"\nenabled = false\n";
    let file = configuration(folder.path(), top, &format!("{away}{missing}"));
    let (code, seen, errors) = report_and_errors(&file, &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("cannot run: blind, gone;"), "{errors}");
    assert_eq!(
        (stopped_by(&seen, "blind"), stopped_by(&seen, "gone")),
        (&json!(["model"]), &json!(["source"]))
    );
    assert_eq!((stopped_by(&seen, "away"), stopped_by(&seen, "yard")), (&json!([]), &json!([])));
    assert_eq!(seen["streams"].as_object().unwrap().len(), 4, "what is not enabled is not judged: {seen}");
    let text = String::from_utf8(doctor(&file, &[], &[]).stdout).unwrap();
    for line in ["WRONG    stream         blind: cannot run", "ok       stream         yard: can run"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_clock_that_nobody_sets_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("timedatectl");
    let path = PathBuf::from(format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()));
    for (script, verdict, found) in [
        ("echo yes", "good", "set by NTP"),
        ("echo no", "limited", "not set by NTP"),
        ("echo 'Failed to connect to bus' >&2; exit 1", "untried", "looks right; without systemd"),
    ] {
        // It is asked for one property by name.
        let text = format!(
            "#!/bin/sh\n[ \"$*\" = 'show --property=NTPSynchronized --value' ] || exit 9\n{script}\n"
        );
        std::fs::write(&tool, text).unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (_, seen) = report(&folder.path().join("none.toml"), &[("PATH", &path)]);
        let (seen_verdict, seen_found) = only(&seen, "clock");
        assert!(seen_verdict == verdict && seen_found.starts_with(found), "{seen_verdict}: {seen_found}");
    }
}
