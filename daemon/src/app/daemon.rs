//! The running daemon: builds every room that runs, serves, and drains them in reverse.
//!
//! In: validated settings. Out: nothing until it is told to stop. Owned by `app::main`; every task and thread below is
//! stopped and joined before [`serve`] returns. A stream, plugin, broker or output that is in trouble is no reason to
//! end; a state folder that cannot be used is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;

use super::duties::Duties;
use super::handler::Handler;
use super::reload::Reloading;
use super::rtsp::Rtsp;
use super::web::{Pulse, Web, show_events};
use crate::config::Settings;
use crate::config::settings::LaneChoice;
use crate::control::Server;
use crate::gpu::{Watch, probe};
use crate::http::{Page, Server as PageServer};
use crate::pipeline::Supervisor;
use crate::plugins::{Compiler, Host, HostOptions};
use crate::publish::messages::Timestamp;
use crate::publish::{PublishHandle, PublishSettings, Publisher};
use crate::record::{RecordHandle, Recorder};
use crate::service::crash::Crashes;
use crate::service::logging::Logging;
use crate::service::{Notifier, Signal, Signals, Vitals, Watchdog};
use crate::telemetry::Registry;
use crate::telemetry::progress::{Progress, Who, Work};

/// How long stopping may wait for the broker to take what is left.
const FLUSH: Duration = Duration::from_secs(5);
/// How long streams on the CPU go on after a GPU was lost, while those on it say so.
const LOST: Duration = Duration::from_secs(2);
/// How often duties such as statuses and the watchdog are seen to.
const DUTY: Duration = Duration::from_millis(250);

/// What parts of the daemon share while it runs.
pub(super) struct Core {
    pub(super) settings: Mutex<Settings>,
    /// The main file, where there is one to read again.
    pub(super) config: Option<PathBuf>,
    /// Changes what is logged, where the daemon set that up.
    pub(super) logging: Option<Logging>,
    pub(super) publish: PublishHandle,
    /// Taken at the end, to be stopped.
    pub(super) publisher: tokio::sync::Mutex<Option<Publisher>>,
    pub(super) host: Arc<Host>,
    pub(super) rtsp: Rtsp,
    pub(super) supervisor: Supervisor,
    pub(super) crashes: Arc<Crashes>,
    pub(super) gpus: RwLock<Watch>,
    pub(super) registry: Registry,
    pub(super) notifier: Notifier,
    pub(super) record: RecordHandle,
    pub(super) page: Page,
    pub(super) pulse: Pulse,
    pub(super) vitals: Arc<Vitals>,
    pub(super) since: Timestamp,
    /// Who has what in hand.
    pub(super) progress: Progress,
    pub(super) reloading: Reloading,
}

impl Core {
    /// The settings in force.
    pub(super) fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is seen of the GPUs.
    pub(super) fn gpus(&self) -> RwLockReadGuard<'_, Watch> {
        self.gpus.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the daemon until a signal, or until `until` is done. `ready` is called once, when every stream is up or known
/// not to be. `from`: the file that the settings came from, and what is logged as they say; both can be changed by a
/// reload.
///
/// # Errors
/// Where a folder, the outbox or the plugin engine cannot be used, or crashes cannot be remembered.
pub(super) async fn serve(
    settings: Settings,
    from: Option<(PathBuf, Logging)>,
    until: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("signals cannot be handled")?;
    prepare(&settings)?;
    let registry = Registry::new();
    let progress = registry.progress().clone();
    let notifier = Notifier::new();
    // Until the end: stopping, too, is watched.
    let _watchdog =
        Watchdog::start(notifier.clone(), progress.clone()).context("no thread for the watchdog")?;
    let turns = progress.worker(Who::named("the control loop"));
    turns.begin(Work::Open);
    // Before the plugin engine: its handlers of traps must come first, and they do when they are installed last.
    let (crashes, before) = Crashes::start(&settings.paths.state.join("crashes"))?;
    let crashes = Arc::new(crashes);
    crate::pipeline::announce(&before);
    let mut publisher =
        Publisher::start(publishing(&settings)?, &registry, &tokio::runtime::Handle::current())?;
    let page = Page::new(&settings.http, &settings.paths.state, &registry);
    show_events(&publisher.handle(), &page);
    let host = start_host(&settings, &registry, &publisher.handle()).await?;
    super::plugin_keys::say(&settings, &host);
    let rtsp = Rtsp::start(&settings);
    let recorder = start_recorder(&settings, &registry, publisher.handle())?;
    let supervisor = Supervisor::new(
        &settings,
        Arc::clone(&host),
        publisher.handle(),
        rtsp.handle(),
        registry.clone(),
        Arc::clone(&crashes),
        recorder.handle(),
    );
    let lane = supervisor.lane(&settings).map_err(|why| anyhow::anyhow!("accel.lane: {why}"))?;
    let gpus = watch_gpus(&settings, &registry)?;
    let requests = publisher.requests();
    let (config, logging) = from.unzip();
    let core = Arc::new(Core {
        settings: Mutex::new(settings.clone()),
        config,
        logging,
        publish: publisher.handle(),
        publisher: tokio::sync::Mutex::new(Some(publisher)),
        host,
        rtsp,
        supervisor,
        crashes,
        gpus: RwLock::new(gpus),
        notifier,
        record: recorder.handle(),
        page: page.clone(),
        pulse: Pulse::new(),
        vitals: Arc::new(Vitals::new(&registry, settings.paths.state.clone())),
        registry,
        since: Timestamp::now(),
        progress,
        reloading: Reloading::new(lane),
    });
    let handler = Arc::new(Handler(Arc::clone(&core)));
    let control = Server::start(
        &crate::control::socket(&settings.paths.run),
        handler,
        &tokio::runtime::Handle::current(),
    )?;
    super::reload::begin(&core);
    // Not before there are streams: a box without any would be taken for one that is ready.
    let web = PageServer::start(&page, Arc::new(Web(Arc::clone(&core))), &tokio::runtime::Handle::current());

    let duties = Duties::new(Arc::clone(&core), core.notifier.clone(), turns.clone(), ready);
    let lost = work(&core, duties, requests, &mut signals, until).await;

    // In reverse: nothing new is asked for, streams end and finalise, then what they spoke through.
    core.notifier.stopping();
    // It waits for the others now, each of which is watched for itself.
    turns.end();
    tracing::info!("stopping");
    control.stop().await;
    web.stop().await;
    let stopping = Arc::clone(&core);
    let stopped = tokio::task::spawn_blocking(move || {
        stopping.supervisor.stop();
        // What the streams left is finished before the broker is left.
        recorder.stop();
        stopping.rtsp.stop();
        stopping.gpus().stop();
    });
    // A second signal does not wait for outputs that hang.
    tokio::select! {
        stopped = stopped => stopped.context("stopping the streams")?,
        () = again(&mut signals) => tracing::warn!("told again to stop: not waiting for streams any longer"),
    }
    if let Some(publisher) = core.publisher.lock().await.take() {
        publisher.stop(FLUSH).await;
    }
    // With the ends that the streams' stopping brought.
    let _ = tokio::time::timeout(FLUSH, tokio::task::spawn_blocking(move || page.remember())).await;
    tracing::info!("stopped");
    match lost {
        // The service manager starts a new process, which can use the GPU again.
        Some(error) => Err(anyhow::anyhow!("{error}; only a new start helps")),
        None => Ok(()),
    }
}

/// What the publisher needs of the settings.
///
/// # Errors
/// Where they cannot be used.
pub(super) fn publishing(settings: &Settings) -> Result<PublishSettings, crate::publish::Error> {
    PublishSettings::new(&settings.mqtt, &settings.box_.name, &settings.paths.state)
}

/// Waits for a second signal to stop.
async fn again(signals: &mut Signals) {
    while signals.next().await != Signal::StopNow {}
}

/// Works until it is told to stop, or a GPU is lost: then gives back how.
async fn work<R: FnOnce()>(
    core: &Arc<Core>,
    mut duties: Duties<R>,
    mut requests: Option<mpsc::Receiver<crate::publish::Request>>,
    signals: &mut Signals,
    until: impl Future<Output = ()>,
) -> Option<String> {
    let mut lost = LostGpu::default();
    let mut duty = tokio::time::interval(DUTY);
    tokio::pin!(until);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop | Signal::StopNow => return None,
                Signal::Reload => {
                    let core = Arc::clone(core);
                    // What went wrong is in the log.
                    duties.spawn(move || drop(super::reload::apply(&core)));
                }
            },
            () = &mut until => return None,
            _ = duty.tick() => {
                duties.see_to();
                core.rtsp.see_to();
                if let Some(error) = lost.look(&core.supervisor) {
                    return Some(error);
                }
            }
            request = receive(&mut requests), if duties.have_room() => {
                let core = Arc::clone(core);
                // Commands wait for their stream; the loop does not.
                duties.spawn(move || super::handler::answer(&core, request));
            }
        }
    }
}

/// Watches for a lost GPU.
#[derive(Default)]
struct LostGpu(Option<(Instant, String)>);

impl LostGpu {
    /// The error, once its streams had the time to say it; those on the CPU go on till then.
    fn look(&mut self, supervisor: &Supervisor) -> Option<String> {
        if self.0.is_none() {
            let error = supervisor.lost_gpu()?;
            tracing::error!(error, "a GPU is lost: the daemon ends, to be started again");
            self.0 = Some((Instant::now(), error));
        }
        let (since, error) = self.0.as_ref()?;
        (since.elapsed() > LOST).then(|| error.clone())
    }
}

async fn receive(requests: &mut Option<mpsc::Receiver<crate::publish::Request>>) -> crate::publish::Request {
    if let Some(receiver) = requests
        && let Some(request) = receiver.recv().await
    {
        return request;
    }
    *requests = None;
    std::future::pending().await
}

/// Makes the folders, and says clearly which one cannot be used; a newer daemon's state is refused.
fn prepare(settings: &Settings) -> anyhow::Result<()> {
    let paths = &settings.paths;
    for (key, folder) in [("state", &paths.state), ("cache", &paths.cache), ("run", &paths.run)] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("paths.{key} = {}: the folder cannot be made", folder.display()))?;
    }
    Ok(crate::service::state::claim(&paths.state)?)
}

/// Whether the configuration leaves the GPU alone.
pub(super) fn without_gpu(settings: &Settings) -> bool {
    let own = settings.streams.values().filter_map(|stream| stream.lane);
    own.chain([settings.accel.lane]).all(|lane| lane == LaneChoice::Cpu)
}

/// The GPUs' figures for telemetry and status; not where the configuration leaves the GPU alone.
pub(super) fn watch_gpus(settings: &Settings, registry: &Registry) -> anyhow::Result<Watch> {
    if without_gpu(settings) {
        return Ok(Watch::off("accel.lane = \"cpu\": the GPU is left alone"));
    }
    // As CUDA counts them, which is what the configuration's indices mean.
    let gpus = probe().map(|driver| driver.gpus).unwrap_or_default();
    Watch::start(registry.clone(), gpus).context("no thread for the GPUs' figures")
}

async fn start_host(
    settings: &Settings,
    registry: &Registry,
    publish: &PublishHandle,
) -> anyhow::Result<Arc<Host>> {
    let mut host = Host::new(HostOptions {
        paths: settings.paths.clone(),
        limits: settings.limits.clone(),
        compiler: Compiler::own().context("the own binary cannot be found")?,
        metrics: registry.clone(),
        on_notice: None,
    })?;
    // What a crash left open ends now, before any stream begins something new.
    for orphan in host.orphans() {
        tracing::warn!(stream = %orphan.stream, incident = orphan.end.event.incident, "an incident was open when the daemon went away: it ends");
        publish.event(crate::pipeline::record(&orphan.stream, &orphan.end, 0, 0, Timestamp::now().0));
    }
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let until = Instant::now() + Duration::from_secs(5);
    while !publish.events_settled() && Instant::now() < until {
        look.tick().await;
    }
    host.settle_orphans()?;
    Ok(Arc::new(host))
}

/// Records incidents; the newest snapshots go to the broker too.
fn start_recorder(
    settings: &Settings,
    registry: &Registry,
    publish: PublishHandle,
) -> anyhow::Result<Recorder> {
    let show = Box::new(move |stream: &str, jpeg: &[u8]| publish.snapshot(stream, jpeg));
    Recorder::start(settings, registry, show).context("no thread to record with")
}
