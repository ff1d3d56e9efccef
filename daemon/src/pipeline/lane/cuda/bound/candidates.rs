//! The choice of candidates: a kernel reads a detector's dense outputs where they lie, and only what it chose comes back.
//!
//! In: a run's outputs in video memory. Out: for each batch entry how many boxes passed the threshold, and their records.
//! Owned by the model's engine, which knows how they are decoded. Fails where video memory runs out or the GPU is lost.

use super::super::CudaShared;
use super::Error;
use crate::flow::ElementType;
use crate::gpu::params::Sink;
use crate::gpu::{Buffer, Pinned, Rows, Stream, argument};
use crate::infer::{BoundSession, DeviceTensor};
use crate::postprocess::{Boxes, Decoder, Layout as Outputs};

/// Records that come back with the counters, for each batch entry; where there are more, the rest is fetched.
const FIRST: usize = 512;

/// What the kernel chose.
pub(super) struct Candidates {
    pub(super) boxes: Boxes,
    kept: Buffer,
    counters: Buffer,
    records: Buffer,
    /// Counters first, then each entry's first records.
    host: Pinned,
    /// Candidates of each entry of the last run, and their records.
    pub(super) found: Vec<(i32, Vec<u32>)>,
}

impl Candidates {
    /// `None` where no kernel decodes the outputs.
    pub(super) fn new(
        session: &mut BoundSession,
        decoder: &Decoder,
        shared: &CudaShared,
        stream: &Stream,
    ) -> Result<Option<Self>, Error> {
        let batch = session.batch();
        let trial = session.slot(batch).and_then(|mut slot| {
            session.run_and_wait(&mut slot)?;
            session.outputs(&slot).map(<[DeviceTensor]>::to_vec)
        })?;
        let floats = trial.iter().all(|output| output.element == Some(ElementType::F32));
        let addresses: Vec<u64> = trial.iter().map(|output| output.address).collect();
        let Some(boxes) = decoder.boxes(&addresses).filter(|_| floats) else { return Ok(None) };
        let (device, classes) = (&shared.device, decoder.kept());
        let kept = Buffer::new(device, classes.len())?;
        let to = Rows { address: kept.address(), pitch: classes.len() };
        stream.upload(&shared.tables, to, &classes, classes.len(), classes.len(), 1)?;
        shared.tables.copies.inc();
        stream.synchronize()?;
        let first = boxes.anchors.min(FIRST) * boxes.record();
        Ok(Some(Self {
            counters: Buffer::new(device, batch * size_of::<i32>())?,
            records: Buffer::new(device, boxes.words(batch) * size_of::<u32>())?,
            host: Pinned::new(device, batch * (1 + first) * size_of::<u32>())?,
            found: Vec::new(),
            boxes,
            kept,
        }))
    }

    /// Launches the kernel on a run's outputs, and fetches what it found.
    pub(super) fn choose(
        &mut self,
        decoder: &Decoder,
        outputs: &[DeviceTensor],
        entries: usize,
        shared: &CudaShared,
        stream: &Stream,
    ) -> Result<(), Error> {
        let addresses: Vec<u64> = outputs.iter().map(|output| output.address).collect();
        self.boxes = decoder.boxes(&addresses).ok_or("the outputs are not those of the trial run")?;
        let boxes = &self.boxes;
        stream.clear(self.counters.address(), entries * size_of::<i32>())?;
        let sink = Sink {
            counters: self.counters.address(),
            records: self.records.address(),
            kept: self.kept.address(),
            ..boxes.sink
        };
        let (threads, count) = ([boxes.anchors as u32, entries as u32, 1], entries as i32);
        let launch = |layout| {
            stream.launch(boxes.layout.kernel(), threads, &[layout, argument(&sink), argument(&count)])
        };
        match &boxes.layout {
            Outputs::Rows(rows) | Outputs::Corners(rows) => launch(argument(rows)),
            Outputs::Columns(columns) => launch(argument(columns)),
            Outputs::Grids(grids) => launch(argument(&**grids)),
        }?;
        let (word, record) = (size_of::<u32>(), boxes.record());
        let first = boxes.anchors.min(FIRST) * record;
        let all = boxes.anchors * record * word;
        let (counters, records) = self.host.bytes_mut().split_at_mut(entries * word);
        let from = Rows { address: self.counters.address(), pitch: counters.len() };
        let meter = &shared.candidates;
        stream.download(meter, counters, entries * word, from, entries * word, 1)?;
        let from = Rows { address: self.records.address(), pitch: all };
        stream.download(meter, records, first * word, from, first * word, entries)?;
        stream.synchronize()?;
        meter.copies.inc();
        let words: &[u32] = self.host.values(entries * (1 + first));
        let (counters, records) = words.split_at(entries);
        self.found.clear();
        for (index, (counter, records)) in counters.iter().zip(records.chunks_exact(first)).enumerate() {
            let found = (counter.cast_signed().max(0) as usize).min(boxes.anchors);
            let mut words = records[..(found * record).min(first)].to_vec();
            if found * record > first {
                // Rare: a threshold near zero, or a picture full of objects.
                let mut rest = Pinned::new(&shared.device, found * record * word)?;
                let len = rest.len();
                let from = Rows { address: self.records.address() + (index * all) as u64, pitch: len };
                stream.download(meter, rest.bytes_mut(), len, from, len, 1)?;
                stream.synchronize()?;
                words = rest.values(found * record).to_vec();
            }
            self.found.push((counter.cast_signed(), words));
        }
        Ok(())
    }
}
