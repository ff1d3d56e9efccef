//! The week itself, day by day, on one box.
//!
//! In: the package. Out: nothing; what a user would notice is asserted, and the figures of lintian and systemd are printed.

use std::process::Command;
use std::time::Duration;

use e2e::appliance::Appliance;
use e2e::plugins::patched;
use serde_json::Value;

use super::audit::Audit;
use super::observer::Observer;
use super::{PATIENCE, package};

/// A rendered scene, with fights in it.
const SCENE: &str = "/usr/share/doc/watchpost/examples/conf.d/rendered-scene.toml";
/// Where a user's plugins go.
const PLUGINS: &str = "/var/lib/watchpost/plugins";
/// How long an alert may take to come: fights are seconds long and some seconds apart.
const ALERT: Duration = Duration::from_secs(90);

/// Its name, and what happens.
type Day = (&'static str, fn(&mut Appliance));

#[test]
#[ignore = "takes minutes, root, and what `make test-appliance` makes first"]
fn a_users_week() {
    let mut appliance = Appliance::boot();
    install(&appliance);
    let audit = Audit::start(&appliance);
    let observer = Observer::start(&appliance);
    first_stream(&appliance);
    let days: [Day; 5] = [
        ("plugins", |appliance| plugins(appliance)),
        ("wrong_configuration", |appliance| wrong_configuration(appliance)),
        ("killed", |appliance| killed(appliance)),
        ("hung", |appliance| hung(appliance)),
        ("full_disk", |appliance| full_disk(appliance)),
    ];
    run(&days, &mut appliance);
    audit.end(&appliance);
    drop(observer);
    let days: [Day; 4] = [
        ("reboot", reboot),
        ("upgrade", |appliance| upgrade(appliance)),
        ("downgrade", |appliance| downgrade(appliance)),
        ("removal", |appliance| removal(appliance)),
    ];
    run(&days, &mut appliance);
}

/// Day after day; with `WATCHPOST_WEEK="hung reboot"` only those, for who works on one of them.
fn run(days: &[Day], appliance: &mut Appliance) {
    let wanted = std::env::var("WATCHPOST_WEEK").ok();
    for (name, day) in days {
        if wanted.as_ref().is_none_or(|wanted| wanted.split_whitespace().any(|word| word == *name)) {
            let begun = std::time::Instant::now();
            day(appliance);
            println!("{name}: as it should be, {} s", begun.elapsed().as_secs());
        }
    }
}

/// What one stream does, as `watchpost status` says.
fn stream(appliance: &Appliance, name: &str) -> Value {
    appliance.status()["streams"][name].clone()
}

fn restarts(appliance: &Appliance) -> u32 {
    let text = appliance.run("systemctl show watchpost -p NRestarts --value").ok();
    text.trim().parse().unwrap()
}

/// Everything the service wrote that holds `text`, since it was installed.
fn journal(appliance: &Appliance, text: &str) -> String {
    appliance.run(&format!("journalctl -u watchpost --no-pager -o cat | grep -F -- '{text}'")).out
}

/// An alert that is newer than all so far.
fn alert(appliance: &Appliance) {
    let last = Observer::last(appliance);
    Observer::wait(appliance, last, ALERT, |event| event["kind"] == "violence" && event["change"] == "begin");
}

fn security(appliance: &Appliance) -> f64 {
    let said = appliance.run("systemd-analyze security watchpost --no-pager | tail -1").ok();
    println!("systemd-analyze security: {}", said.trim());
    said.split(": ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap().parse().unwrap()
}

fn install(appliance: &Appliance) {
    let lintian =
        Command::new("lintian").args(["--fail-on", "error,warning"]).arg(package()).output().unwrap();
    let said = String::from_utf8_lossy(&lintian.stdout).into_owned();
    assert!(lintian.status.success(), "lintian: {said}");
    println!("lintian: {} errors and warnings", said.lines().count());

    appliance.copy(&package(), "/srv/watchpost.deb");
    let _ = appliance.run("apt-get install -q -y /srv/watchpost.deb").ok();
    appliance.until(PATIENCE, "systemctl is-active watchpost", |_| true);
    let _ = appliance.run("systemctl is-enabled watchpost").ok();
    assert_eq!(restarts(appliance), 0);
    assert!(security(appliance) <= 1.3);
    // It waits for streams, and the broker that came along as a recommendation has it.
    appliance.until(PATIENCE, "watchpost status --json", |status| status.contains("\"connected\""));
    // What only root and the group may read, and what is there to be read.
    assert_eq!(appliance.run("stat -c '%U:%G %a' /etc/watchpost").ok().trim(), "root:watchpost 750");
    assert_eq!(appliance.run("stat -c '%U %a' /etc/watchpost/credentials").ok().trim(), "root 700");
    for file in [
        "/usr/share/man/man1/watchpost.1.gz",
        "/usr/share/man/man5/watchpost.toml.5.gz",
        "/usr/share/man/man7/watchpost-plugin.7.gz",
        "/usr/share/bash-completion/completions/watchpost",
        "/usr/share/zsh/vendor-completions/_watchpost",
        "/usr/share/fish/vendor_completions.d/watchpost.fish",
        "/usr/share/watchpost/schemas/event.1.json",
        "/usr/share/watchpost/grafana/watchpost.json",
        "/usr/share/doc/watchpost/copyright",
    ] {
        let _ = appliance.run(&format!("test -s {file}")).ok();
    }
    // A box without a GPU can be closed further.
    let dropin = "/etc/systemd/system/watchpost.service.d/cpu-only.conf";
    let example = "/usr/share/doc/watchpost/examples/systemd/cpu-only.conf";
    let _ = appliance.run(&format!("install -D -m 644 {example} {dropin} && systemctl daemon-reload")).ok();
    let _ = appliance.run("systemctl restart watchpost").ok();
    assert!(security(appliance) <= 1.1);
}

fn first_stream(appliance: &Appliance) {
    let _ = appliance
        .run(&format!("cp {SCENE} /etc/watchpost/conf.d/ && watchpost check && systemctl reload watchpost"))
        .ok();
    appliance.until(PATIENCE, "watchpost status", |said| said.contains("stream scene  running"));
    let _ = appliance.run("systemctl show watchpost -p StatusText").ok();
    alert(appliance);
    let _ = appliance.run("journalctl -q STREAM=scene --no-pager -o cat -n 1 | grep -q .").ok();
    let outputs = stream(appliance, "scene")["outputs"].clone();
    assert_eq!(outputs[0]["state"], "running", "an output that a reload brought is served: {outputs}");
}

/// Version and state of the entry `count` of the stream.
fn counter(appliance: &Appliance) -> (String, String) {
    let stream = stream(appliance, "scene");
    let entries = stream["plugins"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["entry"] == "count").cloned().unwrap_or_default();
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    (text("version"), text("state"))
}

fn plugins(appliance: &Appliance) {
    let version =
        |version: &str| patched("misbehave", "misbehave1.0.0Does", &format!("misbehave{version}Does"));
    let comes_to = |wished: &str, state: &str| {
        let begun = std::time::Instant::now();
        while counter(appliance) != (wished.to_owned(), state.to_owned()) {
            assert!(begun.elapsed() < PATIENCE, "{wished} {state} does not come: {:?}", counter(appliance));
            std::thread::park_timeout(Duration::from_millis(100));
        }
    };
    // Dropped in, then named by a stream; later a newer one over it, as `cp` does it. Nothing is restarted.
    appliance.write(&format!("{PLUGINS}/count.wasm"), version("1.0.1"));
    appliance.until(PATIENCE, "watchpost plugin list", |list| {
        list.contains("misbehave") && list.contains("ready")
    });
    appliance.write(
        "/etc/watchpost/conf.d/count.toml",
        "[streams.scene.plugins.count]\nuse = \"misbehave\"\norder = 9\n",
    );
    let _ = appliance.run("systemctl reload watchpost").ok();
    comes_to("1.0.1", "running");
    appliance.write(&format!("{PLUGINS}/count.wasm"), version("1.0.2"));
    comes_to("1.0.2", "running");
    // A broken one: said, and the good one goes on.
    appliance.write(&format!("{PLUGINS}/count.wasm"), b"rubbish");
    appliance.until(PATIENCE, "watchpost plugin list", |list| {
        list.contains("count.wasm") && list.contains("component")
    });
    assert_eq!(counter(appliance), ("1.0.2".to_owned(), "running".to_owned()));
    let _ = appliance.run(&format!("rm {PLUGINS}/count.wasm /etc/watchpost/conf.d/count.toml")).ok();
    comes_to("1.0.2", "waiting");
    let _ = appliance.run("systemctl reload watchpost").ok();
    comes_to("", "");
    assert_eq!(restarts(appliance), 0);
}

fn wrong_configuration(appliance: &Appliance) {
    let frames = |stream: &Value| stream["frames"].as_u64().unwrap();
    let goes_on = |before: &Value| {
        let begun = std::time::Instant::now();
        loop {
            let now = stream(appliance, "scene");
            assert_eq!((&now["state"], &now["since"]), (&before["state"], &before["since"]), "{now}");
            if frames(&now) > frames(before) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "no frames any more: {now}");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    };
    appliance.until(PATIENCE, "watchpost status", |said| said.contains("stream scene  running"));
    let before = stream(appliance, "scene");
    assert!(before["since"].is_string(), "{before}");
    appliance.write("/etc/watchpost/conf.d/wrong.toml", "[streams.scene]\nlatency_ms = \"soon\"\n");
    let _ = appliance.run("systemctl reload watchpost").failed();
    let wrong = journal(appliance, "wrong.toml:2");
    assert!(wrong.contains("streams.scene.latency_ms"), "{wrong}");
    let _ = appliance.run("systemctl is-active watchpost").ok();
    let said = appliance.run("systemctl status watchpost --no-pager").out;
    assert!(said.contains("wrong.toml:2"), "{said}");
    // The old one is in force, and frames were not lost over it.
    goes_on(&before);
    let _ = appliance.run("rm /etc/watchpost/conf.d/wrong.toml && systemctl reload watchpost").ok();
    goes_on(&before);
}

fn killed(appliance: &Appliance) {
    let (before, last) = (restarts(appliance), Observer::last(appliance));
    // In the midst of an incident: it has begun, and must end.
    let begun = Observer::wait(appliance, last, ALERT, |event| {
        event["change"] == "begin" && event["kind"] == "violence"
    });
    let _ = appliance.run("systemctl kill -s KILL watchpost").ok();
    let again = format!(
        "[ $(systemctl show watchpost -p NRestarts --value) -gt {before} ] && systemctl is-active watchpost"
    );
    appliance.until(PATIENCE, &again, |_| true);
    let incident = Observer::events(appliance)[&begun]["incident"].clone();
    Observer::wait(appliance, begun, PATIENCE, |event| {
        event["incident"] == incident && event["change"] == "end"
    });
    alert(appliance);
    assert_eq!(Observer::holes(appliance), []);
}

/// A worker that hangs: its stream's trace goes to a pipe that somebody opened and does not read.
fn hung(appliance: &Appliance) {
    let before = restarts(appliance);
    let pipe = "/var/lib/watchpost/pipe";
    let _ = appliance.run(&format!("runuser -u watchpost -- mkfifo {pipe}")).ok();
    let reader = format!("systemd-run --unit=reader sh -c 'exec sleep infinity 0<>{pipe}'");
    let _ = appliance.run(&reader).ok();
    appliance.write(
        "/etc/watchpost/conf.d/hung.toml",
        format!(
            "[streams.hung]\nsource = \"scene://people?seed=2&size=320x180&fps=25\"\ntrace = \"{pipe}\"\n"
        ),
    );
    let _ = appliance.run("systemctl reload watchpost").ok();
    let patience = Duration::from_secs(120);
    let again = format!("[ $(systemctl show watchpost -p NRestarts --value) -gt {before} ]");
    appliance.until(patience, &again, |_| true);
    let _ = appliance.run("rm /etc/watchpost/conf.d/hung.toml").ok();
    let said = journal(appliance, "hung");
    assert!(!said.is_empty(), "the journal names the stream");
    let _ = appliance.run("journalctl -u watchpost --no-pager -o cat | grep -q -i 'watchdog timeout'").ok();
    let _ = appliance.run("systemctl restart watchpost").ok();
    let _ = appliance.run(&format!("systemctl stop reader; rm {pipe}")).ok();
    alert(appliance);
}

/// The state's file system fills up: recording stops and says so, alerts go on; then there is room again.
fn full_disk(appliance: &Appliance) {
    let state = "/var/lib/watchpost";
    let mount = format!(
        "systemctl stop watchpost && cp -a {state} /srv/state && mount -t tmpfs -o size=400m state {state} && \
         cp -a /srv/state/. {state}/ && systemctl start watchpost"
    );
    let _ = appliance.run(&mount).ok();
    let count = format!("find {state}/clips -name '*.jpg' | wc -l");
    let pictures = |appliance: &Appliance| appliance.run(&count).ok().trim().parse::<u32>().unwrap();
    alert(appliance);
    appliance.until(PATIENCE, &count, |said| said.trim() != "0");
    appliance.until(PATIENCE, "watchpost status", |said| said.contains("record recording"));
    // Full to the last byte.
    let _ = appliance.run(&format!("cat /dev/zero > {state}/filler")).failed();
    appliance.until(PATIENCE, "watchpost status", |said| said.contains("record full"));
    let full = pictures(appliance);
    alert(appliance);
    assert!(pictures(appliance) <= full, "nothing is recorded on a full disk");
    let _ = appliance.run(&format!("rm {state}/filler")).ok();
    appliance.until(PATIENCE, "watchpost status", |said| said.contains("record recording"));
    alert(appliance);
    assert_eq!(Observer::holes(appliance), []);
    let unmount = format!(
        "systemctl stop watchpost && rm -rf /srv/state && cp -a {state} /srv/state && umount {state} && \
         cp -a /srv/state/. {state}/ && rm -rf /srv/state && systemctl start watchpost"
    );
    let _ = appliance.run(&unmount).ok();
}

fn reboot(appliance: &mut Appliance) {
    appliance.reboot();
    appliance.until(PATIENCE, "systemctl is-active watchpost", |_| true);
    let _observer = Observer::start(appliance);
    appliance.until(PATIENCE, "watchpost status", |said| said.contains("stream scene  running"));
    alert(appliance);
    assert_eq!(Observer::holes(appliance), []);
}

fn upgrade(appliance: &Appliance) {
    let folder = tempfile::tempdir().unwrap();
    let newer =
        super::package::newer(&package(), folder.path(), "99.0.0", |text| text + "\nlog.level = \"debug\"\n");
    appliance.copy(&newer, "/srv/newer.deb");
    let pid = |appliance: &Appliance| appliance.run("systemctl show watchpost -p MainPID --value").ok();
    let before = pid(appliance);
    let _ = appliance.run("apt-get install -q -y /srv/newer.deb").ok();
    appliance.until(PATIENCE, "systemctl is-active watchpost", |_| true);
    assert_ne!(pid(appliance), before, "the new one runs");
    // Nobody had changed the shipped file, so its new default holds; what the user added is there.
    let _ = appliance.run("grep -q debug /etc/watchpost/watchpost.toml").ok();
    appliance.until(PATIENCE, "watchpost status", |said| said.contains("stream scene  running"));
    // Changed by the user, it stays over the next upgrade.
    let _ = appliance.run("echo '# mine' >> /etc/watchpost/watchpost.toml").ok();
    let newest =
        super::package::newer(&package(), folder.path(), "99.0.1", |text| text + "\nlog.level = \"warn\"\n");
    appliance.copy(&newest, "/srv/newest.deb");
    let _ = appliance.run("apt-get install -q -y -o Dpkg::Options::=--force-confold /srv/newest.deb").ok();
    let _ = appliance.run("grep -q '# mine' /etc/watchpost/watchpost.toml").ok();
    appliance.until(PATIENCE, "systemctl is-active watchpost", |_| true);
}

/// State that a newer version has written is refused by an older one, which says so, and is left as it was.
fn downgrade(appliance: &Appliance) {
    let _ = appliance.run("systemctl stop watchpost && cp /var/lib/watchpost/version /srv/version && sed -i 's/[0-9][0-9]*/999/' /var/lib/watchpost/version").ok();
    let _ = appliance
        .run("apt-get install -q -y --allow-downgrades -o Dpkg::Options::=--force-confold /srv/watchpost.deb")
        .ok();
    let _ = appliance.run("systemctl start watchpost").failed();
    let said = journal(appliance, "newer");
    assert!(said.contains("/var/lib/watchpost"), "{said}");
    assert!(std::fs::read_to_string(appliance.path("/var/lib/watchpost/version")).unwrap().contains("999"));
    let _ = appliance.run("cp /srv/version /var/lib/watchpost/version && systemctl reset-failed watchpost && systemctl start watchpost").ok();
    appliance.until(PATIENCE, "watchpost status", |said| said.contains("stream scene  running"));
}

fn removal(appliance: &Appliance) {
    let _ = appliance.run("apt-get remove -q -y watchpost").ok();
    let _ = appliance.run("systemctl is-active watchpost").failed();
    let _ = appliance
        .run("test -d /var/lib/watchpost/outbox && test -f /etc/watchpost/conf.d/rendered-scene.toml")
        .ok();
    let _ = appliance.run("apt-get purge -q -y watchpost").ok();
    let places = "/etc /var/lib /var/cache /var/spool /run /usr /opt /home";
    // Left are what the administrator made (a drop-in of the unit), and apt's copy of the package.
    let left = appliance.run(&format!(
        "find {places} -xdev -iname '*watchpost*' -not -path '/var/cache/apt/*' -not -path '/etc/systemd/system/watchpost.service.d*'"
    ));
    assert_eq!(left.ok(), "");
    let _ = appliance.run("getent passwd watchpost").failed();
}
