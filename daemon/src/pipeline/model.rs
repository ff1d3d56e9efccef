//! One inference thread a model: takes jobs from all streams, batches what may be batched, answers each.
//!
//! In: [`Job`]s with an input of batch length 1. Out: each job's `done` is called with what was found, or with why
//! not. Owned by the model pool; stopping it answers what is queued and joins the thread. A failed run fails the
//! jobs of that batch and nothing else. What the inputs are, and what runs them, is the lane's.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lane::{Engine, Feed, Opened, Serving};
use crate::flow::{Lent, Letterbox, Objects, Recycle, Run, Score, Tensor};
use crate::infer::ModelDir;
use crate::postprocess::Decoder;
use crate::telemetry::progress::{Pulse, Who, Work};
use crate::telemetry::{Counter, Gauge, Histogram, Registry};

/// What a model found in one tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Objects in source pixels.
    Objects(Objects),
    /// Scores over the job's span, one for each class.
    Scores(Vec<Score>),
}

/// What a model looks at. Its memory goes back as soon as the model has run.
pub enum Input<T: Recycle> {
    /// One frame's tensor, batch length 1.
    Frame(Lent<T>),
    /// The tensors of a window's frames, the oldest first.
    Window(Vec<Arc<Lent<T>>>),
}

/// The frames of a window; of a frame, none.
pub(super) fn window<T: Recycle>(input: &Input<T>) -> &[Arc<Lent<T>>] {
    match input {
        Input::Frame(_) => &[],
        Input::Window(frames) => frames,
    }
}

/// One input for a model.
pub struct Job<T: Recycle> {
    /// Batch length 1.
    pub input: Input<T>,
    /// How its pixels lie in the source.
    pub letterbox: Letterbox,
    /// What ran: index of the model in the stream's order and the span of stream time, written into the results.
    pub run: Run,
    /// Called once, on the inference thread: it must only hand the answer on.
    pub done: Done,
}

/// Hands an answer on.
pub type Done = Box<dyn FnOnce(Result<Answer, String>) + Send>;

/// A model that is loaded, and its thread.
pub struct Model<T: Recycle> {
    /// Name in the configuration.
    pub name: String,
    /// Manifest, labels, file.
    pub dir: ModelDir,
    /// What it wants to be fed.
    pub feed: Feed,
    /// What runs it.
    pub serving: Serving,
    /// Jobs that wait for the thread.
    queued: Gauge,
    jobs: Mutex<Option<Sender<Job<T>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Recycle + Send + Sync + 'static> Model<T> {
    /// Starts the thread of an opened model.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        name: &str,
        dir: ModelDir,
        opened: Opened<T>,
        serving: Serving,
        wait: Duration,
        registry: &Registry,
    ) -> std::io::Result<Self> {
        let Opened { engine, feed, batch, .. } = opened;
        let (jobs, queue) = channel();
        let labels = [(crate::telemetry::fields::MODEL, name)];
        let queued = registry.gauge("infer_queue_jobs", &labels);
        let worker = Worker {
            engine,
            queued: queued.clone(),
            batching: Batching { most: batch, wait },
            seconds: registry.histogram("infer_seconds", &labels),
            runs: registry.counter("infer_runs_total", &labels),
            frames: registry.counter("infer_frames_total", &labels),
            failures: registry.counter("infer_failures_total", &labels),
            pulse: registry.progress().worker(Who::of_model(name)),
        };
        let thread =
            std::thread::Builder::new().name(format!("model {name}")).spawn(move || worker.run(&queue))?;
        Ok(Self {
            name: name.to_owned(),
            dir,
            feed,
            serving,
            queued,
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues a job. A job for a model that has stopped is answered at once with an error.
    pub fn submit(&self, job: Job<T>) {
        let jobs = self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.queued.add(1.0);
        let refused = match jobs.as_ref() {
            Some(jobs) => jobs.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        drop(jobs);
        if let Some(job) = refused {
            self.queued.add(-1.0);
            (job.done)(Err(format!("model {} has stopped", self.name)));
        }
    }

    /// Answers what is queued, and joins the thread.
    pub fn stop(&self) {
        stop(&self.name, &self.jobs, &self.thread);
    }
}

impl<T: Recycle> Drop for Model<T> {
    fn drop(&mut self) {
        stop(&self.name, &self.jobs, &self.thread);
    }
}

fn stop<J>(name: &str, jobs: &Mutex<Option<Sender<J>>>, thread: &Mutex<Option<JoinHandle<()>>>) {
    drop(jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    let thread = thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(thread) = thread
        && thread.join().is_err()
    {
        tracing::error!(model = %name, "the inference thread panicked");
    }
}

/// How batches are made.
#[derive(Debug, Clone, Copy)]
struct Batching {
    /// Jobs in one run at most; 1 where the model's batch axis is fixed.
    most: usize,
    /// How long the first job waits for others.
    wait: Duration,
}

struct Worker<T: Recycle> {
    engine: Box<dyn Engine<T>>,
    batching: Batching,
    queued: Gauge,
    seconds: Histogram,
    runs: Counter,
    frames: Counter,
    failures: Counter,
    pulse: Pulse,
}

impl<T: Recycle> Worker<T> {
    fn run(mut self, queue: &Receiver<Job<T>>) {
        let mut work = Work::FirstRun;
        while let Ok(first) = queue.recv() {
            let jobs = self.gather(first, queue);
            self.queued.add(-(jobs.len() as f64));
            self.pulse.begin(std::mem::replace(&mut work, Work::Run));
            let started = Instant::now();
            let (inputs, asked): (Vec<_>, Vec<_>) = jobs
                .into_iter()
                .map(|Job { input, letterbox, run, done }| (input, (letterbox, run, done)))
                .unzip();
            let outcome = self.engine.run(&inputs);
            self.seconds.record_duration(started.elapsed());
            self.runs.inc();
            self.frames.add(asked.len() as u64);
            if outcome.is_err() {
                self.failures.inc();
            }
            // Before the answers, which let the next frames in.
            drop(inputs);
            for (index, (letterbox, run, done)) in asked.into_iter().enumerate() {
                done(match &outcome {
                    Ok(()) => self.engine.answer(index, &letterbox, run),
                    Err(error) => Err(error.clone()),
                });
            }
            self.pulse.end();
        }
    }

    fn gather(&self, first: Job<T>, queue: &Receiver<Job<T>>) -> Vec<Job<T>> {
        let mut jobs = vec![first];
        let until = Instant::now() + self.batching.wait;
        while jobs.len() < self.batching.most {
            match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => jobs.push(job),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        jobs
    }
}

/// What a decoder makes of one batch entry of a model's outputs.
pub(super) fn answer(
    decoder: &mut Decoder,
    outputs: &[Tensor],
    entry: usize,
    letterbox: &Letterbox,
    run: Run,
) -> Answer {
    if decoder.gives_objects() {
        let mut objects = Objects::default();
        decoder.objects(outputs, entry, letterbox, run.model, &mut objects);
        return Answer::Objects(objects);
    }
    let mut scores = Vec::new();
    decoder.scores(outputs, entry, run.model, run.begin, run.end, &mut scores);
    Answer::Scores(scores)
}
