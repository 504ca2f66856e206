//! The checkpointer: a thread that collects the parts of a checkpoint from shards, coordinator and sinks, writes files and manifest, has
//! the sinks publish, and removes what is no longer needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender};

use super::codec::FILE_BYTES;
use super::{
    CheckpointStore, Compression, FORMAT_VERSION, Manifest, OperatorState, SavedOperator, SourceState, StateFile,
    checksum, encode_chunks, manifest_name,
};
use crate::error::{EngineError, Result};
use crate::graph::OperatorId;
use crate::hash::HASH_VERSION;
use crate::log::{Answer, StepRecord, encode_segment, segment_name};
use crate::metrics::Metrics;
use crate::operator::SaveKind;
use crate::time::EventTimeMs;

/// What the parts of a checkpoint come in.
pub(crate) enum Part {
    /// From the coordinator, when the checkpoint's step is cut.
    Begin(Box<Begin>),
    /// From each shard, when its operators have saved.
    Shard { checkpoint: u64, shard: usize, operators: Vec<SavedOperator>, answers: Vec<AnsweredNode> },
    /// From each sink, when it has staged.
    Sink { checkpoint: u64, sink: usize, transaction: Option<serde_json::Value> },
}

/// What a table outside answered to an operator.
pub(crate) struct AnsweredNode {
    pub step: u64,
    pub node: usize,
    pub rows: RecordBatch,
}

/// The coordinator's part.
pub(crate) struct Begin {
    pub checkpoint: u64,
    pub step: u64,
    pub clock_ms: i64,
    pub next_ordinal: u64,
    pub finished: bool,
    pub sources: BTreeMap<String, SourceState>,
    pub watermarks: BTreeMap<String, EventTimeMs>,
    pub records: Vec<StepRecord>,
}

/// What the checkpointer tells the coordinator.
pub(crate) struct Written {
    /// Operators (by node) whose next save should be full.
    pub full_next: Vec<usize>,
    /// How far the sources had been read at the oldest checkpoint that is kept, where it is known.
    pub oldest_sources: BTreeMap<String, SourceState>,
}

/// A way to tell a sink to publish.
pub(crate) type Publish = Box<dyn Fn(serde_json::Value) + Send>;

pub(crate) struct Checkpointer {
    pub store: Arc<dyn CheckpointStore>,
    pub shards: usize,
    pub seed: u64,
    /// Names this process among all that ever wrote here.
    pub run: String,
    pub retain: usize,
    /// `(id, name)` of each node that is an operator.
    pub operators: BTreeMap<usize, (OperatorId, String)>,
    /// Id and publisher of each sink.
    pub sinks: Vec<(OperatorId, Publish)>,
    /// The manifest that the pipeline started from.
    pub last: Option<Manifest>,
    pub metrics: Arc<Metrics>,
    pub compression: Compression,
    /// What a file is encoded in, used again.
    pub buffer: Vec<u8>,
}

#[derive(Default)]
struct Gathering {
    begin: Option<Box<Begin>>,
    shards: Vec<(usize, Vec<SavedOperator>)>,
    sinks: Vec<(usize, Option<serde_json::Value>)>,
    answers: Vec<AnsweredNode>,
}

impl Checkpointer {
    /// Runs until all senders are gone.
    pub(crate) fn run(mut self, parts: Receiver<Part>, written: Sender<Result<Written>>) {
        let mut gathering: BTreeMap<u64, Gathering> = BTreeMap::new();
        let mut retained = VecDeque::new();
        let found = super::list(self.store.as_ref()).and_then(|list| {
            retained.extend(list);
            self.remove_orphans(&retained)
        });
        if let Err(error) = found {
            let _ = written.send(Err(error));
            return;
        }
        for part in parts {
            let checkpoint = match part {
                Part::Begin(begin) => {
                    let checkpoint = begin.checkpoint;
                    gathering.entry(checkpoint).or_default().begin = Some(begin);
                    checkpoint
                }
                Part::Shard { checkpoint, shard, operators, answers } => {
                    let gathering = gathering.entry(checkpoint).or_default();
                    gathering.shards.push((shard, operators));
                    gathering.answers.extend(answers);
                    checkpoint
                }
                Part::Sink { checkpoint, sink, transaction } => {
                    gathering.entry(checkpoint).or_default().sinks.push((sink, transaction));
                    checkpoint
                }
            };
            let complete = gathering.get(&checkpoint).is_some_and(|g| {
                g.begin.is_some() && g.shards.len() == self.shards && g.sinks.len() == self.sinks.len()
            });
            if !complete {
                continue;
            }
            let gathered = gathering.remove(&checkpoint).expect("it was just looked up");
            let result = self.write(checkpoint, gathered, &mut retained);
            let failed = result.is_err();
            if written.send(result).is_err() || failed {
                return;
            }
        }
    }

    fn write(&mut self, checkpoint: u64, mut gathered: Gathering, retained: &mut VecDeque<u64>) -> Result<Written> {
        let mut begin = gathered.begin.take().expect("a complete checkpoint has a beginning");
        self.note_answers(&mut begin.records, std::mem::take(&mut gathered.answers))?;
        gathered.shards.sort_by_key(|(shard, _)| *shard);
        let mut operators: BTreeMap<String, OperatorState> = BTreeMap::new();
        let mut bytes_written = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        for (node, (id, name)) in &self.operators {
            let saved: Vec<_> = gathered
                .shards
                .iter_mut()
                .filter_map(|(shard, list)| Some((*shard, list.iter_mut().find(|saved| saved.node == *node)?)))
                .collect();
            let key = id.to_string();
            let mut state = OperatorState { name: name.clone(), ..Default::default() };
            if saved.iter().all(|(_, saved)| saved.kind == SaveKind::Changes)
                && let Some(before) = self.last.as_ref().and_then(|last| last.operators.get(&key))
            {
                state.files = before.files.clone();
            }
            for (shard, saved) in saved {
                state.live_rows += saved.live_rows;
                state.metas.push(std::mem::take(&mut saved.state.meta));
                let chunks = std::mem::take(&mut saved.state.chunks);
                if chunks.is_empty() {
                    continue;
                }
                let mut rest = chunks.as_slice();
                for part in 0.. {
                    let (name, run) = (super::STATE_PREFIX, &self.run);
                    let name = format!("{name}{key}/{checkpoint:020}-{shard:04}-{part:04}-{run}.arrow");
                    let done = encode_chunks(rest, self.compression, &mut buffer)?;
                    self.put(&name, &buffer)?;
                    let rows: u64 = rest[..done].iter().map(|chunk| chunk.row_count() as u64).sum();
                    let rows = rows + std::mem::take(&mut saved.state.entries);
                    let bytes = buffer.len() as u64;
                    bytes_written += bytes;
                    state.files.push(StateFile { name, bytes, rows, checksum: checksum(&buffer) });
                    rest = &rest[done..];
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            operators.insert(key, state);
        }
        self.buffer = buffer;
        let previous = self.last.as_ref().and_then(|last| last.log.clone());
        let segment = encode_segment(previous, &begin.records)?;
        let log = segment_name(checkpoint, &self.run);
        self.put(&log, &segment)?;
        let sinks: BTreeMap<_, _> = gathered
            .sinks
            .into_iter()
            .map(|(sink, transaction)| (self.sinks[sink].0.to_string(), transaction.unwrap_or_default()))
            .collect();
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            hash_version: HASH_VERSION,
            checkpoint,
            step: begin.step,
            clock_ms: begin.clock_ms,
            seed: self.seed,
            next_ordinal: begin.next_ordinal,
            shards: self.shards,
            finished: begin.finished,
            log: Some(log),
            sources: begin.sources,
            watermarks: begin.watermarks,
            operators,
            sinks,
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(EngineError::bug)?;
        self.put(&manifest_name(checkpoint), &text)?;
        bytes_written += (text.len() + segment.len()) as u64;
        for (id, publish) in &self.sinks {
            if let Some(transaction) = manifest.sink_transaction(&id.to_string()) {
                publish(transaction.clone());
            }
        }
        retained.push_back(checkpoint);
        while retained.len() > self.retain.max(1) {
            let oldest = retained.pop_front().expect("there is more than one");
            super::drop_checkpoint(self.store.as_ref(), oldest)?;
        }
        let full_next = self
            .operators
            .iter()
            .filter(|(_, (id, _))| {
                let state = &manifest.operators[&id.to_string()];
                let listed: u64 = state.files.iter().map(|file| file.rows).sum();
                let small = state.files.iter().filter(|file| file.bytes < FILE_BYTES as u64).count();
                listed > 2 * state.live_rows + 1_000 || small > FILES_MAX.max(8 * self.shards)
            })
            .map(|(node, _)| *node)
            .collect();
        self.metrics.checkpoints.add(1);
        self.metrics.checkpoint_bytes.add(bytes_written);
        let oldest_sources = match retained.front() {
            Some(oldest) if *oldest == checkpoint => manifest.sources.clone(),
            Some(oldest) => super::read_manifest(self.store.as_ref(), *oldest)?.sources,
            None => BTreeMap::new(),
        };
        self.last = Some(manifest);
        Ok(Written { full_next, oldest_sources })
    }

    /// Writes what tables outside answered into the records of their steps.
    fn note_answers(&self, records: &mut [StepRecord], answers: Vec<AnsweredNode>) -> Result<()> {
        for AnsweredNode { step, node, rows } in answers {
            let record = records.binary_search_by_key(&step, |record| record.step);
            let record = record.map_err(|_| EngineError::bug(format!("step {step} has an answer and no record")))?;
            let (id, _) = &self.operators[&node];
            records[record].answers.push(Answer::new(id.to_string(), rows)?);
        }
        Ok(())
    }

    /// Writes an object. Names of files carry the run's own name, so only a manifest can meet another process's.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if self.store.put_if_absent(name, bytes)? {
            return Ok(());
        }
        Err(EngineError::Checkpoint {
            message: format!(
                "`{name}` in {} was written by another process: this pipeline runs twice on one state folder; stop one of them, or \
                 give each its own --state",
                self.store.describe()
            ),
        })
    }

    /// Removes state files that no manifest lists: what a crash left behind. Files of checkpoints that are still to come (of a process
    /// that runs beside this one, by mistake) are left alone.
    fn remove_orphans(&self, retained: &VecDeque<u64>) -> Result<()> {
        let Some(newest) = retained.back() else { return Ok(()) };
        let mut listed = BTreeSet::new();
        for checkpoint in retained {
            listed.extend(super::read_manifest(self.store.as_ref(), *checkpoint)?.file_names());
        }
        for name in self.store.list(super::STATE_PREFIX)? {
            let number = name.rsplit('/').next().and_then(|file| file.split('-').next()?.parse::<u64>().ok());
            if !listed.contains(&name) && number.is_some_and(|number| number <= *newest) {
                self.store.delete(&name)?;
            }
        }
        Ok(())
    }
}

/// The most files that are not full listed for one operator before it is saved in full, so that a restart need not open thousands. Each shard writes
/// its own, so with many shards it is those of eight checkpoints.
const FILES_MAX: usize = 64;

#[cfg(test)]
mod tests;
