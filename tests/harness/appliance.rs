//! A Debian box that boots its own systemd in namespaces, where the package is installed as a user would.
//!
//! In: the package; what `tests/appliance/root` has made. Out: an [`Appliance`], whose commands run inside. It is off, and
//! what it wrote is gone, when it is dropped. Needs root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::data::root;

/// What a command inside finds in its environment.
const ENVIRONMENT: [&str; 6] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "TERM=dumb",
    "DEBIAN_FRONTEND=noninteractive",
    "SYSTEMD_PAGER=",
];
/// How long the box may take to boot or to go off.
const BOOT: Duration = Duration::from_secs(90);

/// A box.
#[derive(Debug)]
pub struct Appliance {
    cache: PathBuf,
    folder: tempfile::TempDir,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// `unshare`, which ends when the box is off, and takes it along when it is killed.
    child: Child,
    /// The box's first process, as this machine counts.
    init: u32,
}

/// What a command inside said.
#[derive(Debug)]
pub struct Said {
    /// The command.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    fn of(command: &str, output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            command: command.to_owned(),
            status: output.status,
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Its standard output, where it succeeded.
    ///
    /// # Panics
    /// Where it failed.
    #[must_use]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self:#?}");
        self.out
    }

    /// All that it said, where it failed.
    ///
    /// # Panics
    /// Where it succeeded.
    #[must_use]
    pub fn failed(self) -> String {
        assert!(!self.status.success(), "{self:#?}");
        self.out + &self.err
    }
}

impl Appliance {
    /// Boots a fresh box.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn boot() -> Self {
        let cache = root().join("target/appliance");
        // Beside the root it lies over: a folder for temporary files may be on a file system that cannot hold an overlay.
        let folder = tempfile::tempdir_in(&cache).expect("tests/appliance/root was run");
        let mut appliance = Self { cache, folder, running: None };
        appliance.start();
        appliance
    }

    fn start(&mut self) {
        let mut child = Command::new(root().join("tests/appliance/boot"))
            .args([&self.cache, self.folder.path()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("tests/appliance/boot runs");
        let begun = Instant::now();
        let init = loop {
            assert!(child.try_wait().unwrap().is_none(), "the box does not boot");
            assert!(begun.elapsed() < BOOT, "the box does not boot within {BOOT:?}");
            if let Some(init) = first_process(child.id()) {
                break init;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        };
        self.running = Some(Running { child, init });
        let state = |said: &Said| said.out.trim().to_owned();
        loop {
            // systemd's own socket is there a moment after its process.
            let said = self.run("systemctl is-system-running --wait");
            if ["running", "degraded"].contains(&state(&said).as_str()) {
                break;
            }
            assert!(begun.elapsed() < BOOT, "the box is not up: {said:#?}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Runs a shell command inside, as root.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn run(&self, command: &str) -> Said {
        Said::of(command, self.inside(command).output().expect("nsenter runs"))
    }

    /// A shell command inside, to be started.
    #[must_use]
    pub fn inside(&self, command: &str) -> Command {
        let init = self.running.as_ref().expect("the box is on").init.to_string();
        let mut inside = Command::new("nsenter");
        inside
            .args(["-t", &init, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]);
        inside.args(["env", "-i"]).args(ENVIRONMENT).args(["sh", "-c", command]).stdin(Stdio::null());
        inside
    }

    /// Waits until a command inside succeeds and its output is as wished; gives that output.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn until(&self, within: Duration, command: &str, wish: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let said = self.run(command);
            if said.status.success() && wish(&said.out) {
                return said.out;
            }
            if begun.elapsed() >= within {
                let journal = self.run("journalctl -u watchpost -n 60 --no-pager -o cat");
                panic!("waited {within:?} in vain: {said:#?}\nthe journal's end:\n{}", journal.out);
            }
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// What `watchpost status --json` says.
    ///
    /// # Panics
    /// Where it says nothing of the kind.
    #[must_use]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run("watchpost status --json").ok()).expect("a status is JSON")
    }

    /// A file of the box, as seen from outside.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        let init = self.running.as_ref().expect("the box is on").init;
        Path::new("/proc").join(init.to_string()).join("root").join(inside.trim_start_matches('/'))
    }

    /// Writes a file of the box.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, inside: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(inside), bytes).unwrap_or_else(|error| panic!("{inside}: {error}"));
    }

    /// Copies a file into the box.
    ///
    /// # Panics
    /// Where it cannot be copied.
    pub fn copy(&self, from: &Path, inside: &str) {
        self.write(inside, std::fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())));
    }

    /// Reboots the box, as `systemctl reboot` does.
    ///
    /// # Panics
    /// Where it does not go off, or does not come up again.
    pub fn reboot(&mut self) {
        let _ = self.run("systemctl reboot");
        let mut running = self.running.take().expect("the box is on");
        let begun = Instant::now();
        while running.child.try_wait().unwrap().is_none() {
            if begun.elapsed() > BOOT {
                let _ = running.child.kill();
                panic!("the box does not go off within {BOOT:?}");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.start();
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// The one child of `unshare`, which is the box's first process.
fn first_process(unshare: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
    let init: u32 = children.split_whitespace().next()?.parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
    (name.trim() == "init" || name.trim() == "systemd").then_some(init)
}
