//! One inference thread a model: takes jobs from all streams, batches what may be batched, answers each.
//!
//! In: [`Job`]s with a tensor of batch length 1. Out: each job's `done` is called with what was found, or with why
//! not. Owned by the model pool; stopping it answers what is queued and joins the thread. A failed run fails the
//! jobs of that batch and nothing else.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lane::Feed;
use crate::flow::{Lent, Letterbox, Objects, Run, Score, Tensor, TensorData};
use crate::infer::{ModelDir, Session};
use crate::postprocess::Decoder;
use crate::telemetry::{Counter, Histogram, Registry};

/// What a model found in one tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Objects in source pixels.
    Objects(Objects),
    /// Scores over the job's span, one for each class.
    Scores(Vec<Score>),
}

/// One tensor for a model.
pub struct Job {
    /// Batch length 1. Its memory goes back as soon as the model has run.
    pub tensor: Lent<Tensor>,
    /// How its pixels lie in the source.
    pub letterbox: Letterbox,
    /// What ran: index of the model in the stream's order and the span of stream time, written into the results.
    pub run: Run,
    /// Called once, on the inference thread: it must only hand the answer on.
    pub done: Box<dyn FnOnce(Result<Answer, String>) + Send>,
}

/// A model that is loaded, and its thread.
pub struct Model {
    /// Name in the configuration.
    pub name: String,
    /// Manifest, labels, file.
    pub dir: ModelDir,
    /// What it wants to be fed.
    pub feed: Feed,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// Jobs in one run at most; 1 where the model's batch axis is fixed.
    pub most: usize,
    /// How long the first job waits for others.
    pub wait: Duration,
}

impl Model {
    /// Starts the thread of an opened session.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        name: &str,
        dir: ModelDir,
        session: Session,
        decoder: Decoder,
        batching: Batching,
        registry: &Registry,
    ) -> std::io::Result<Self> {
        let feed = Feed {
            manifest: dir.manifest.clone(),
            size: session.input().size,
            element: session.input().element,
        };
        let (jobs, queue) = channel();
        let labels = [(crate::telemetry::fields::MODEL, name)];
        let worker = Worker {
            session,
            decoder,
            batching,
            batch: Tensor::default(),
            seconds: registry.histogram("infer_seconds", &labels),
            runs: registry.counter("infer_runs_total", &labels),
            frames: registry.counter("infer_frames_total", &labels),
            failures: registry.counter("infer_failures_total", &labels),
        };
        let thread =
            std::thread::Builder::new().name(format!("model {name}")).spawn(move || worker.run(&queue))?;
        Ok(Self {
            name: name.to_owned(),
            dir,
            feed,
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues a job. A job for a model that has stopped is answered at once with an error.
    pub fn submit(&self, job: Job) {
        let jobs = self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let refused = match jobs.as_ref() {
            Some(jobs) => jobs.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        drop(jobs);
        if let Some(job) = refused {
            (job.done)(Err(format!("model {} has stopped", self.name)));
        }
    }

    /// Answers what is queued, and joins the thread.
    pub fn stop(&self) {
        drop(self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(model = %self.name, "the inference thread panicked");
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    session: Session,
    decoder: Decoder,
    batching: Batching,
    /// Where the tensors of a batch are put side by side.
    batch: Tensor,
    seconds: Histogram,
    runs: Counter,
    frames: Counter,
    failures: Counter,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let jobs = self.gather(first, queue);
            let started = Instant::now();
            let outputs = self.session.run(stack(&jobs, &mut self.batch));
            self.seconds.record_duration(started.elapsed());
            self.runs.inc();
            self.frames.add(jobs.len() as u64);
            if outputs.is_err() {
                self.failures.inc();
            }
            for (index, Job { tensor, letterbox, run, done }) in jobs.into_iter().enumerate() {
                // Before the answer, which lets the next frame in.
                drop(tensor);
                done(match &outputs {
                    Ok(outputs) => Ok(answer(&mut self.decoder, outputs, index, &letterbox, run)),
                    Err(error) => Err(error.to_string()),
                });
            }
        }
    }

    fn gather(&self, first: Job, queue: &Receiver<Job>) -> Vec<Job> {
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

fn answer(
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

/// Tensors of batch length 1, and of one shape, as one batch, put together in `batch`. A single one is used as it is.
fn stack<'a>(jobs: &'a [Job], batch: &'a mut Tensor) -> &'a Tensor {
    if let [only] = jobs {
        return &only.tensor;
    }
    for (index, Job { tensor, .. }) in jobs.iter().enumerate() {
        let first = index == 0;
        match (&mut batch.data, &tensor.data) {
            (TensorData::F32(all), TensorData::F32(more)) => append(all, first, more),
            (TensorData::F16(all), TensorData::F16(more)) => append(all, first, more),
            (TensorData::U8(all), TensorData::U8(more)) => append(all, first, more),
            // The first batch of all: one model has one element type.
            (all, one) => all.clone_from(one),
        }
        batch.shape.clone_from(&tensor.shape);
    }
    if let Some(entries) = batch.shape.first_mut() {
        *entries = jobs.len();
    }
    batch
}

/// The first in place of what was there, the others behind it.
fn append<T: Copy>(all: &mut Vec<T>, first: bool, more: &[T]) {
    if first {
        all.clear();
    }
    all.extend_from_slice(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Rect;

    #[test]
    fn tensors_are_stacked_along_the_batch_axis() {
        let job = |value: f32| Job {
            tensor: Tensor::new(vec![1, 2], TensorData::F32(vec![value, value + 1.0])).into(),
            letterbox: Letterbox { source: Rect::default(), target: Rect::default() },
            run: Run { model: 0, begin: 0, end: 0 },
            done: Box::new(|_| {}),
        };
        let mut batch = Tensor::zeros(crate::flow::ElementType::U8, &[5]);
        // The second time the batch's memory is used again.
        for start in [1.0, 2.0] {
            let all = stack(&[job(start), job(3.0), job(5.0)], &mut batch).clone();
            assert_eq!(all.shape, [3, 2]);
            assert_eq!(all.as_f32().unwrap(), [start, start + 1.0, 3.0, 4.0, 5.0, 6.0]);
        }
        assert_eq!(stack(&[job(7.0)], &mut batch).as_f32().unwrap(), [7.0, 8.0]);
    }
}
