//! systemd's credentials: where they are missing that is said with the line to add, and no secret shows up anywhere.

use std::path::Path;
use std::time::Duration;

use e2e::daemon::{Daemon, free_port};
use e2e::mosquitto::{Mosquitto, Options, until};

use super::{Systemd, command, said};

/// A camera's password, a token, a stream key, the broker's password.
const SECRETS: [(&str, &str); 4] = [
    ("cam3", "w0nderful/camera@word"),
    ("token", "t0ken-of-the-yard"),
    ("live-key", "sk_live_9f8e7d6c"),
    ("mqtt-password", "correct-horse-battery"),
];

/// As they stand in an address.
const ENCODED: [&str; 1] = ["w0nderful%2Fcamera%40word"];

fn config(broker: &str, missing: bool) -> String {
    let (one, two, three) = (free_port(), free_port(), free_port());
    let camera = if missing { "cam4" } else { "cam3" };
    format!(
        "box.name = \"gate\"\naccel.lane = \"cpu\"\nlog.level = \"trace\"\n\
         mqtt.url = \"{broker}\"\nmqtt.username = \"box\"\nmqtt.password_file = \"credential:mqtt-password\"\n\
         [streams.door]\nsource = \"rtsp://viewer:${{credential:{camera}}}@127.0.0.1:{one}/main\"\n\
         [streams.yard]\nsource = \"rtsp://127.0.0.1:{two}/main?token=${{credential:token}}\"\n\
         [streams.hall]\nsource = \"scene://people?seed=1&size=160x90&fps=10\"\n\
         outputs.live = {{ to = \"rtmp://127.0.0.1:{three}/app/${{credential:live-key}}\", size = \"160x90\" }}\n\
         [streams.plain]\nsource = \"rtsp://viewer:plain-passw0rd@127.0.0.1:{one}/main\"\n"
    )
}

#[test]
fn secrets_show_up_nowhere_and_missing_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    for (name, secret) in SECRETS {
        std::fs::write(credentials.join(name), format!("{secret}\n")).unwrap();
    }
    let broker = Mosquitto::with(Options { user: Some(("box", SECRETS[3].1)), ..Options::default() });
    let subscriber = broker.subscribe("#");
    let systemd = Systemd::new(folder.path());
    let environment =
        [("NOTIFY_SOCKET", systemd.path.as_path()), ("CREDENTIALS_DIRECTORY", credentials.as_path())];
    let daemon = Daemon::start_with(folder.path(), &config(&broker.url(), false), &environment);
    let told = systemd.wait("that it is ready", |line| line == "READY=1");
    daemon.wait_for("connected to the MQTT broker", Duration::from_secs(30));
    daemon.wait_for("output is away", Duration::from_secs(60));
    for name in ["door", "yard", "plain"] {
        until(&format!("{name} is down"), || {
            let messages = subscriber.messages();
            let mut of_stream = messages.iter().filter(|it| it.topic.ends_with(&format!("{name}/status")));
            of_stream.any(|it| it.json()["state"] == "down")
        });
    }

    let mut all = vec![("systemd", told.join("\n"))];
    for arguments in [&["status"][..], &["status", "--json"], &["check"], &["plugin", "list"], &["reload"]] {
        all.push((arguments[0], said(&daemon.command(arguments))));
    }
    let messages = subscriber.messages();
    assert!(messages.len() > 5);
    all.extend(
        messages.iter().map(|it| ("MQTT", format!("{} {}", it.topic, String::from_utf8_lossy(&it.payload)))),
    );
    let (status, log) = daemon.stop_with_log();
    assert!(status.success() && log.lines().count() > 50, "the log was to be a long one: {log}");
    all.push(("log", log));
    let secrets = SECRETS.iter().map(|(_, secret)| *secret).chain(ENCODED).chain(["plain-passw0rd"]);
    for secret in secrets {
        for (place, text) in &all {
            if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                panic!("{place} shows {secret}: {line}");
            }
        }
    }

    // A command that is no service has no credentials; it says so, and does without.
    let output = command(folder.path(), &["check"], &[]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("streams.door.source: credential \"cam3\" is not here: only the service"),
        "{text}"
    );
}

#[test]
fn a_credential_that_is_missing_is_named_with_file_line_key_and_what_to_add() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    for (name, secret) in SECRETS {
        std::fs::write(credentials.join(name), secret).unwrap();
    }
    let daemon = Daemon::start_with(
        folder.path(),
        &config("mqtt://127.0.0.1:1", true),
        &[("CREDENTIALS_DIRECTORY", credentials.as_path())],
    );
    let (status, log) = daemon.end(Duration::from_secs(30));
    assert_eq!(status.code(), Some(78), "{log}");
    let place = format!("{}:8: streams.door.source: ", folder.path().join("watchpost.toml").display());
    assert!(log.contains(&place) && log.contains("LoadCredential=cam4:/"), "{log}");
    // Nor does the service start without any.
    let output = command(folder.path(), &["run"], &[("NO_COLOR", Path::new("1"))]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(
        text.contains("LoadCredential=mqtt-password:/") && text.contains("LoadCredential=cam4:/"),
        "{text}"
    );
}
