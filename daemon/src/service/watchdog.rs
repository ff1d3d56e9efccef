//! systemd's watchdog, fed by progress: as long as the control loop turns and no worker hangs.
//!
//! In: what workers have in hand ([`Progress`]). Out: `WATCHDOG=1` while all is well; where somebody hangs, nothing, and
//! one line in the log that says who, at what and since when: systemd then ends the process with SIGABRT and starts it
//! again. While the daemon starts or stops, systemd is asked to wait longer for what rightly takes long, such as outputs
//! that are finalised. A thread of its own, which nothing but its own clock can hold up; `app` owns it. Nothing fails.

use std::collections::HashSet;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::notify::{Notifier, Phase};
use crate::telemetry::progress::{Hanging, Progress, Work};

/// How long a piece of work may take where systemd does not say: only the log tells of it then.
const USUAL: Duration = Duration::from_secs(30);
/// The longest pause between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// How much longer systemd is asked to wait each time, and how often it is asked.
const EXTENSION: Duration = Duration::from_secs(30);
const ASKED: Duration = Duration::from_secs(5);

/// The watchdog's thread.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts to watch.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(notifier: Notifier, progress: Progress) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let interval = notifier.watchdog_interval();
        let mut watch = Watch::new(notifier, progress, interval);
        let pause = (watch.most / 4).min(LOOK);
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                watch.look(Instant::now());
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the watchdog's thread panicked");
        }
    }
}

struct Watch {
    notifier: Notifier,
    progress: Progress,
    /// Whether systemd wants to be told.
    asked_for: bool,
    /// How long a piece of work may take.
    most: Duration,
    looked: Instant,
    fed: Option<Instant>,
    extended: Option<Instant>,
    /// Who hung when it was looked last.
    known: HashSet<String>,
}

impl Watch {
    fn new(notifier: Notifier, progress: Progress, interval: Option<Duration>) -> Self {
        Self {
            notifier,
            progress,
            asked_for: interval.is_some(),
            most: interval.unwrap_or(USUAL),
            looked: Instant::now(),
            fed: None,
            extended: None,
            known: HashSet::new(),
        }
    }

    /// Looks at everybody once.
    fn look(&mut self, now: Instant) {
        // A process that was frozen, with all its workers, must not blame them for it: they get a while to go on.
        let frozen = now.duration_since(self.looked) > self.most / 2;
        self.looked = now;
        let hanging = if frozen { Vec::new() } else { self.progress.hanging(self.most) };
        let before = std::mem::take(&mut self.known);
        for hang in &hanging {
            if !before.contains(&hang.who.worker) {
                self.say(hang);
            }
            self.known.insert(hang.who.worker.clone());
        }
        for worker in before.iter().filter(|worker| !self.known.contains(*worker)) {
            tracing::warn!(worker, "{worker} goes on");
        }
        let due = |last: Option<Instant>, every: Duration| last.is_none_or(|last| now - last >= every);
        // Four times in an interval, so that one that is lost does no harm.
        if hanging.is_empty() && self.asked_for && due(self.fed, self.most / 4) {
            self.fed = Some(now);
            self.notifier.alive();
        }
        let long: &[Work] = match self.notifier.phase() {
            Phase::Starting => &[Work::Open, Work::Build, Work::SetUp, Work::FirstRun],
            Phase::Running => &[],
            Phase::Stopping => &[Work::Stop, Work::OpenOutput, Work::Finish, Work::Store],
        };
        if due(self.extended, ASKED.min(self.most)) && self.progress.takes_long(long) {
            self.extended = Some(now);
            self.notifier.extend(EXTENSION);
        }
    }

    fn say(&self, hang: &Hanging) {
        let (worker, doing) = (hang.who.worker.as_str(), hang.work.text());
        let (stream, model) = (hang.who.stream.as_deref(), hang.who.model.as_deref());
        let (seconds, since) = (hang.age.as_secs_f32(), clock(SystemTime::now() - hang.age));
        let then = match (self.asked_for, self.notifier.phase()) {
            (true, Phase::Running) => {
                "; the watchdog is not fed any more, and systemd starts the daemon again"
            }
            _ => "",
        };
        tracing::error!(
            stream,
            model,
            worker,
            doing,
            seconds,
            "{worker} hangs while {doing}, since {since}{then}"
        );
    }
}

/// The time of day.
fn clock(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::progress::{Who, Work};

    #[test]
    fn hangs_are_noticed_once_and_a_frozen_process_blames_nobody() {
        let progress = Progress::default();
        let most = Duration::from_millis(40);
        let mut watch = Watch::new(Notifier::new(), progress.clone(), Some(most));
        let worker = progress.worker(Who::named("worker"));
        watch.look(Instant::now());
        assert!(watch.fed.is_some());
        worker.begin(Work::Trace);
        let until = Instant::now() + most * 2;
        while Instant::now() < until {
            std::thread::yield_now();
        }
        let fed = watch.fed;
        // Nobody looked for so long: everybody may have stood still.
        watch.look(Instant::now());
        assert!(watch.known.is_empty() && watch.fed > fed);
        let fed = watch.fed;
        watch.look(Instant::now());
        assert_eq!(watch.known, HashSet::from(["worker".to_owned()]));
        assert_eq!(watch.fed, fed, "not fed while somebody hangs");
        worker.end();
        watch.look(Instant::now() + most / 3);
        assert!(watch.known.is_empty() && watch.fed > fed);
    }

    #[test]
    fn the_time_of_day_is_told() {
        assert_eq!(clock(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 3 + 3_723)), "01:02:03 UTC");
    }
}
