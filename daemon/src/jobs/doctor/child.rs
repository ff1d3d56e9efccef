//! Trying things that may take the process along: the side of the doctor.
//!
//! In: which part to try. Out: what was found, and of what crashed or hung that it did. Each part runs in a process of its
//! own (this binary with a hidden command), since a broken driver crashes or hangs whoever asks it. The doctor owns the
//! process: it is killed when it says nothing for too long, and waited for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::process::{Resource, Rlimit, Signal};

use super::finding::Finding;
use super::tries::{Line, Try, died};

/// How long one thing may usually take: a large model on a small processor is the slowest.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a process that was killed may take to go. One that hangs in the kernel does not.
const GOING: Duration = Duration::from_secs(3);
/// Most of its last words that are repeated.
const WORDS: usize = 200;

/// The hidden command: tries one part.
#[derive(Debug, Clone, Args)]
pub struct PartArgs {
    /// What to try.
    pub part: Part,
    /// The configuration.
    #[arg(long)]
    pub config: PathBuf,
    /// Which stream's source.
    #[arg(long, default_value = "")]
    pub stream: String,
    /// There is a GPU driver.
    #[arg(long)]
    pub driver: bool,
    /// The daemon runs, and uses the GPU.
    #[arg(long)]
    pub busy: bool,
    /// Passes over so many tries.
    #[arg(long, default_value_t = 0)]
    pub from: usize,
}

/// What runs in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The driver and its GPUs.
    Gpu,
    /// GStreamer, decoders and encoders.
    Video,
    /// ONNX Runtime, providers and models.
    Models,
    /// The source of one stream.
    Source,
}

/// How the parts are started.
pub(super) struct Children<'a> {
    pub(super) program: PathBuf,
    pub(super) config: &'a Path,
    pub(super) driver: bool,
    pub(super) busy: bool,
    /// How long one thing may take.
    pub(super) patience: Duration,
}

/// How a process ended.
enum End {
    Finished,
    Died(String),
}

impl Children<'_> {
    /// Tries one part, with variables added to its environment.
    pub(super) fn run(&self, part: Part, stream: &str, environment: &[(&str, &Path)]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut from = 0;
        loop {
            let mut trying = None;
            let end = match self.start(part, stream, environment, from) {
                Ok(running) => running.follow(self.patience, &mut findings, &mut trying),
                Err(error) => End::Died(format!("does not start: {error}")),
            };
            let End::Died(how) = end else { return findings };
            let Some(tried) = trying else {
                let found = format!("the process that tries it {how}");
                findings.push(Finding::untried(name(part), found));
                return findings;
            };
            findings.push(died(&tried, &how, advice(part)));
            if tried.vital {
                return findings;
            }
            from = tried.number + 1;
        }
    }

    fn start(
        &self,
        part: Part,
        stream: &str,
        environment: &[(&str, &Path)],
        from: usize,
    ) -> std::io::Result<Running> {
        let words = tempfile::tempfile()?;
        let mut command = Command::new(&self.program);
        let part_name = part.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        command.arg(super::PART_COMMAND).arg(part_name).arg("--config").arg(self.config);
        command.args(["--stream", stream, "--from", &from.to_string()]);
        command.args(self.driver.then_some("--driver")).args(self.busy.then_some("--busy"));
        let mut child = command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(words.try_clone()?))
            .spawn()?;
        let (sender, lines) = channel();
        let out = child.stdout.take();
        let reader = std::thread::Builder::new().name("doctor".into()).spawn(move || {
            // What libraries print there themselves is no line of ours.
            let lines = out.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok);
            for line in lines.filter_map(|line| serde_json::from_str::<Line>(&line).ok()) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Running { child, lines, reader, words })
    }
}

/// A process that tries.
struct Running {
    child: Child,
    lines: Receiver<Line>,
    reader: JoinHandle<()>,
    words: File,
}

impl Running {
    /// Takes what it finds until it ends, and says what it was at when it died.
    fn follow(mut self, patience: Duration, findings: &mut Vec<Finding>, trying: &mut Option<Try>) -> End {
        let mut finished = false;
        loop {
            match self.lines.recv_timeout(if finished { GOING } else { patience }) {
                Ok(Line::Try(tried)) => *trying = Some(tried),
                Ok(Line::Found(finding)) => findings.push(finding),
                Ok(Line::End) => finished = true,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    let gone = self.gone();
                    if finished {
                        return End::Finished;
                    }
                    let after = if gone { "" } else { ", and cannot be killed" };
                    return End::Died(format!("did not answer within {} s{after}", patience.as_secs()));
                }
            }
        }
        let _ = self.reader.join();
        match self.child.wait() {
            _ if finished => End::Finished,
            Ok(status) => End::Died(format!("{}{}", ended(status), last_words(&mut self.words))),
            Err(error) => End::Died(format!("cannot be waited for: {error}")),
        }
    }

    /// Waits for a process that was killed. One that hangs in the kernel is left to it, and so is its reader.
    fn gone(&mut self) -> bool {
        loop {
            match self.lines.recv_timeout(GOING) {
                Ok(_) => {}
                // Its output is closed, so it is about to be gone.
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().is_ok(),
                Err(RecvTimeoutError::Timeout) => return matches!(self.child.try_wait(), Ok(Some(_))),
            }
        }
    }
}

fn ended(status: ExitStatus) -> String {
    let name = status.signal().map(|signal| match Signal::from_named_raw(signal) {
        Some(Signal::SEGV) => "crashed (SIGSEGV)".to_owned(),
        Some(Signal::ABORT) => "gave up (SIGABRT)".to_owned(),
        Some(Signal::BUS) => "crashed (SIGBUS)".to_owned(),
        Some(Signal::ILL) => "crashed (SIGILL): a library is built for another processor".to_owned(),
        Some(Signal::FPE) => "crashed (SIGFPE)".to_owned(),
        Some(Signal::KILL) => "was killed, perhaps for want of memory".to_owned(),
        _ => format!("was ended by signal {signal}"),
    });
    name.unwrap_or_else(|| format!("ended early ({status})"))
}

/// The last line that it, or a library in it, wrote to standard error.
fn last_words(words: &mut File) -> String {
    let mut bytes = Vec::new();
    if words.rewind().and_then(|()| words.read_to_end(&mut bytes)).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let short: String = last.chars().take(WORDS).collect();
    if short.is_empty() { short } else { format!(", saying: {short}") }
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Gpu => "GPU driver",
        Part::Video => "GStreamer",
        Part::Models => "ONNX Runtime",
        Part::Source => "source",
    }
}

fn advice(part: Part) -> &'static str {
    match part {
        Part::Gpu => "the driver is broken: reinstall it and reboot; until then set accel.lane = \"cpu\"",
        Part::Video => {
            "the driver or the GStreamer plugin is broken: reinstall it; until then set accel.lane = \"cpu\""
        }
        Part::Models => {
            "the model or a library is broken: `watchpost model check FOLDER`; reinstall ONNX Runtime"
        }
        Part::Source => {
            "the decoder is broken: update GStreamer's plugins, or use another codec in the camera"
        }
    }
}

/// The process's side: it leaves no core file, and ends with the doctor.
pub(super) fn settle_in() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Where either is refused nothing is lost but tidiness.
    let _ = rustix::process::setrlimit(Resource::Core, none);
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(script: &str) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("doctor");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let patience = Duration::from_secs(2);
        let children = Children { program, config: Path::new("x"), driver: false, busy: false, patience };
        children.run(Part::Gpu, "", &[])
    }

    fn line(number: usize, name: &str, stops: &[&str], vital: bool) -> String {
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let tried = Try { number, what: "GPU".into(), name: name.into(), stops, vital };
        format!("echo '{}'", serde_json::to_string(&Line::Try(tried)).unwrap())
    }

    fn found(text: &str) -> String {
        format!("echo '{}'", serde_json::to_string(&Line::Found(Finding::good("GPU", text))).unwrap())
    }

    #[test]
    fn a_crash_is_a_finding_and_what_comes_after_is_tried() {
        let script = format!(
            "from=$8\n[ $from = 0 ] && {{ {}; {}; echo 'a library talks'; {}; echo 'bad driver' >&2; kill -SEGV $$; }}\n\
             [ $from = 2 ] && {{ {}; {}; exit 3; }}\n{}; {}; kill -ABRT $$",
            line(0, "first", &[], false),
            found("the first works"),
            line(1, "second", &["yard"], false),
            line(2, "third", &[], false),
            found("half of the third"),
            found("the rest"),
            "echo '\"end\"'",
        );
        let findings = tried(&script);
        let texts: Vec<&str> = findings.iter().map(|finding| finding.found.as_str()).collect();
        assert_eq!(texts[0], "the first works");
        assert!(
            texts[1].starts_with("second: the process that tried it crashed (SIGSEGV), saying: bad driver"),
            "{texts:?}"
        );
        assert_eq!(findings[1].stops, ["yard"]);
        assert_eq!(texts[2], "half of the third");
        assert!(texts[3].starts_with("third: the process that tried it ended early"), "{texts:?}");
        // One that dies on its way out has tried everything.
        assert_eq!(texts[4..], ["the rest"]);
    }

    #[test]
    fn what_hangs_is_killed_and_what_comes_after_is_tried() {
        let script = format!(
            "[ $8 = 0 ] && {{ {}; exec tail -f /dev/null; }}\n{}; echo '\"end\"'",
            line(0, "driver", &[], false),
            found("the rest")
        );
        let findings = tried(&script);
        assert_eq!(findings[0].found, "driver: the process that tried it did not answer within 2 s");
        assert_eq!(findings[1].found, "the rest");
    }

    #[test]
    fn what_the_rest_needs_ends_the_part_and_one_that_never_began_is_untried() {
        let findings = tried(&format!("{}; kill -SEGV $$", line(0, "driver", &[], true)));
        assert_eq!(findings.len(), 1);
        let findings = tried("exit 1");
        assert!(findings.len() == 1 && findings[0].verdict == super::super::Verdict::Untried, "{findings:?}");
    }
}
