//! The command line as others use it: in a pipe whose reader has seen enough.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use e2e::daemon::{binary, dist};

#[test]
fn a_command_whose_reader_is_gone_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("watchpost.toml");
    let (here, dist) = (folder.path().display(), dist());
    let text = format!(
        "mqtt.url = \"off\"\npaths = {{ state = \"{here}/state\", cache = \"{here}/cache\", run = \"{here}/run\", \
         plugins = [\"{}/plugins\"] }}\n",
        dist.display()
    );
    std::fs::write(&file, text).unwrap();
    // A signal ends those that only print; the doctor, which also talks with a network, sees it by itself.
    for (arguments, signal) in [
        (&["plugin", "list"][..], Some(13)),
        (&["plugin", "list", "--json"], Some(13)),
        (&["check"], Some(13)),
        (&["doctor"], None),
        (&["doctor", "--json"], None),
    ] {
        let mut child = Command::new(binary())
            .args(arguments)
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Nobody reads, from the first line on.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert_eq!(output.status.signal(), signal, "{arguments:?}: {:?}: {said}", output.status);
        assert!(signal.is_some() || output.status.success(), "{arguments:?}: {said}");
    }
}
