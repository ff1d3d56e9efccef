//! The system calls that the service's filter would refuse, seen by having the kernel log them instead.
//!
//! In: the box, whose unit gets a drop-in. Out: an assertion that there is none but those that are known, each with its
//! reason. The shipped filter is in force again afterwards.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use e2e::appliance::Appliance;

const DROPIN: &str = "/etc/systemd/system/watchpost.service.d/zz-audit.conf";
/// Programs and system calls (x86-64's numbers) that are refused, and do without.
const KNOWN: [(&str, u32); 2] = [
    // set_mempolicy: a library that a GStreamer plugin links, asking where memory should lie.
    ("gst-plugin-scan", 238),
    // setpriority: whoever compiles a plugin, in a process and on one thread of its own, would rather stand back.
    ("watchpost", 141),
];

/// A time in which refusals are logged.
pub struct Audit {
    since: f64,
}

impl Audit {
    /// Turns the filter into a log.
    pub fn start(appliance: &Appliance) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        // The complement of what systemd/watchpost.service allows.
        appliance.write(
            DROPIN,
            "[Service]\nSystemCallFilter=\nSystemCallLog=~@system-service\nSystemCallLog=@privileged @resources\n",
        );
        let _ = appliance.run("systemctl daemon-reload && systemctl restart watchpost").ok();
        Self { since }
    }

    /// Looks at the log, and puts the shipped filter back in force.
    pub fn end(self, appliance: &Appliance) {
        let log = Command::new("dmesg").output().unwrap();
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        let known: BTreeSet<_> = KNOWN.iter().map(|(program, call)| ((*program).to_owned(), *call)).collect();
        let seen: BTreeSet<_> = log.lines().filter_map(|line| refused(line, self.since)).collect();
        println!("system calls outside the filter: {seen:?}");
        let unexpected: Vec<_> = seen.difference(&known).collect();
        assert!(unexpected.is_empty(), "system calls that the unit refuses: {unexpected:?}");
        let _ = appliance
            .run(&format!("rm {DROPIN} && systemctl daemon-reload && systemctl restart watchpost"))
            .ok();
    }
}

/// Program and number of a system call that the kernel logged for a filter's sake.
fn refused(line: &str, since: f64) -> Option<(String, u32)> {
    let field = |name: &str| {
        let rest = &line[line.find(name)? + name.len()..];
        rest.split([' ', ':', ')']).next()
    };
    if !line.contains("type=1326") || field("audit(")?.parse::<f64>().ok()? < since {
        return None;
    }
    let program = field("comm=")?.trim_matches('"').to_owned();
    Some((program, field("syscall=")?.parse().ok()?))
}

#[test]
fn a_refused_call_is_read() {
    let line = "[63155.7] audit: type=1326 audit(1795325596.150:2): auid=4294967295 uid=0 pid=2075 comm=\"sync\" \
        exe=\"/usr/bin/sync\" sig=0 arch=c000003e syscall=162 compat=0 ip=0x7fca87d12ca7 code=0x7ffc0000";
    assert_eq!(refused(line, 1_795_325_596.0), Some(("sync".to_owned(), 162)));
    assert_eq!(refused(line, 1_795_325_597.0), None);
}
