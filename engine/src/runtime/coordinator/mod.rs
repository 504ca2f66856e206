//! The coordinator: decides what each step takes, writes it down, and keeps shards, sinks and checkpoints going.

mod checkpoint;
mod events;
mod open;
mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::input::{Cut, Input, Stamp, coalesce};
use super::output::SinkMessage;
use super::shard::{Answers, CheckpointRequest, Message, Shard, SourceInput, StepInput};
use super::watermarks::NodeWatermarks;
use super::{Clock, EventReceiver, PipelineConfig, StepObserver, Summary};
use crate::checkpoint::writer::Part;
use crate::delta::Delta;
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::log::{SourceTime, StepRecord};
use crate::metrics::Metrics;
use crate::source::StopFlag;
use crate::thread::Threads;
use crate::time::Watermarks;

/// Where operators pay for each key that a step has rows of, a step has so many rows for each of their keys, if so many wait.
const ROWS_A_KEY: usize = 8;

pub(super) struct Coordinator {
    config: PipelineConfig,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    observer: Option<Arc<dyn StepObserver>>,
    events: EventReceiver,
    inputs: Vec<Input>,
    /// For each node, which inputs its rows come from.
    ancestors: Vec<Vec<usize>>,
    node_ids: Vec<String>,
    watermarks: NodeWatermarks,
    /// The processing time of the last step.
    clock_ms: i64,
    source_watermarks: Vec<SourceTime>,
    shards: Shards,
    sinks: Vec<Sender<SinkMessage>>,
    parts: Option<Sender<Part>>,
    replay: Option<Vec<StepRecord>>,
    /// In a replay: what tables outside answered in the step at hand.
    answers: Option<Arc<Answers>>,
    stop_readers: StopFlag,
    threads: Threads,
    step: u64,
    steps_done: u64,
    shard_done: BTreeMap<u64, usize>,
    next_ordinal: u64,
    next_shard: usize,
    checkpoint: u64,
    checkpoint_running: bool,
    checkpoint_wanted: bool,
    checkpoint_ms: i64,
    checkpoint_step: u64,
    full_next: Vec<usize>,
    records: Vec<StepRecord>,
    rows_read: u64,
    bad_rows: u64,
    stopping: bool,
    /// Readers were told to stop; the pipeline ends when all that they have handed over has been worked on.
    draining: bool,
}

enum Shards {
    One(Box<Shard>),
    Many(Vec<Sender<Message>>),
}

/// Why the loop ended.
enum End {
    Finished,
    Stopped,
    Aborted,
}

impl Coordinator {
    pub(super) fn run(mut self) -> Result<Summary> {
        let outcome = match self.replay.take() {
            Some(records) => self.replay(records),
            None => self.live(),
        };
        // A source that fails, or too much state, leaves whole steps behind it: they are worth a checkpoint. Anything else that fails does not.
        let outcome = match outcome {
            Err(error @ (EngineError::Source { .. } | EngineError::Memory { .. })) => self.close(false).and(Err(error)),
            Err(error) => Err(error),
            Ok(End::Finished) => self.close(true).map(|()| true),
            Ok(End::Stopped) => self.close(false).map(|()| false),
            Ok(End::Aborted) => Ok(false),
        };
        self.stop_readers.stop();
        if let Shards::Many(peers) = &self.shards {
            // After a failure a shard may wait for rows of one that has gone.
            let complete = outcome.is_ok();
            peers.iter().for_each(|peer| {
                let _ = peer.send(if complete { Message::End } else { Message::Abandon });
            });
        }
        let summary = Summary {
            steps: self.step,
            rows_read: self.rows_read,
            bad_rows: self.bad_rows,
            finished: *outcome.as_ref().unwrap_or(&false),
            checkpoint: (self.checkpoint > 0).then_some(self.checkpoint),
        };
        for sink in &self.sinks {
            let _ = sink.send(SinkMessage::Close);
        }
        // Dropping all senders ends the other threads; readers end at their next look at the flag or their next send.
        let threads = self.threads.take();
        let failed = outcome.is_err();
        drop(self);
        for thread in threads {
            let joined = super::join(thread);
            if !failed {
                joined?;
            }
        }
        outcome.map(|_| summary)
    }

    fn live(&mut self) -> Result<End> {
        if self.config.first_step && self.step == 0 {
            let now_ms = self.now_ms();
            self.cut(now_ms, false)?;
        }
        loop {
            if let Some(end) = self.drain_events()? {
                return Ok(end);
            }
            let now_ms = self.now_ms();
            let rows_max = self.rows_max();
            for input in &mut self.inputs {
                input.poll(rows_max, now_ms)?;
            }
            let has_rows = self.inputs.iter().any(Input::has_rows);
            let finished = self.inputs.iter().all(Input::exhausted);
            if finished || self.stopping {
                return Ok(if finished { End::Finished } else { End::Stopped });
            }
            if self.draining && self.inputs.iter().all(Input::drained) {
                return Ok(End::Stopped);
            }
            let checkpoint = self.checkpoint_due(now_ms);
            if !has_rows && !checkpoint {
                let moved = self.source_watermarks(now_ms) != self.source_watermarks;
                let ticks = self.watermarks.next_tick_ms(self.clock_ms).is_some_and(|tick_ms| tick_ms <= now_ms);
                if !moved && !ticks {
                    self.block(now_ms)?;
                    continue;
                }
            }
            self.cut(now_ms, checkpoint)?;
            if self.config.abort_after_step == Some(self.step) {
                self.wait_for_steps(self.step)?;
                return Ok(End::Aborted);
            }
            self.check_memory()?;
        }
    }

    /// Cuts a step from what waits.
    fn cut(&mut self, now_ms: i64, checkpoint: bool) -> Result<()> {
        let context = StepContext { step: self.step + 1, clock_ms: now_ms, seed: self.config.seed };
        let (mut rows, mut bytes) = (self.rows_max(), self.config.bytes_max.max(1));
        let held_back = self.held_back();
        let count = self.inputs.len();
        let mut cuts: Vec<Cut> = self.inputs.iter().map(|_| Cut::default()).collect();
        // Each step begins with another source and leaves room for the others, so that a fast one cannot starve them.
        let order: Vec<usize> = (0..count).map(|offset| (self.step as usize + offset) % count).collect();
        for (position, index) in order.iter().enumerate() {
            if held_back[*index] || rows == 0 {
                continue;
            }
            let hungry =
                order[position..].iter().filter(|other| self.inputs[**other].has_rows() && !held_back[**other]).count();
            let mut share = rows.div_ceil(hungry.max(1));
            let given = share;
            let mut stamp = Stamp { context: &context, next_ordinal: &mut self.next_ordinal };
            self.inputs[*index].take(&mut share, &mut bytes, &mut cuts[*index], &mut stamp)?;
            rows -= given - share;
        }
        let watermarks = self.source_watermarks(now_ms);
        self.dispatch(context, order, cuts, watermarks, checkpoint)
    }

    /// The most rows of the next step. What a key costs in a step it costs once, however many rows the step has of it, so with many keys
    /// larger steps cost less a row; with few keys they cost more, as their rows do not stay in the cache.
    fn rows_max(&self) -> usize {
        let by_keys = usize::try_from(self.metrics.keys_most()).unwrap_or(usize::MAX).saturating_mul(ROWS_A_KEY);
        by_keys.min(self.config.rows_max_by_keys).max(self.config.rows_max)
    }

    /// Sources that are too far ahead in event time of one that has rows.
    fn held_back(&self) -> Vec<bool> {
        let drift = self.config.max_drift_ms as i64;
        let slowest = self.inputs.iter().filter(|input| input.has_rows()).filter_map(Input::front).min();
        let is_ahead = |input: &Input| match (input.front(), slowest) {
            (Some(front), Some(slowest)) => drift > 0 && front.saturating_sub(slowest) > drift,
            _ => false,
        };
        self.inputs.iter().map(is_ahead).collect()
    }

    fn source_watermarks(&mut self, now_ms: i64) -> Vec<SourceTime> {
        self.inputs.iter_mut().map(|input| input.advance_watermark(now_ms)).collect()
    }

    fn dispatch(
        &mut self,
        context: StepContext,
        order: Vec<usize>,
        mut cuts: Vec<Cut>,
        watermarks: Vec<SourceTime>,
        checkpoint: bool,
    ) -> Result<()> {
        self.step = context.step;
        self.clock_ms = context.clock_ms;
        let cut_ns = self.clock.monotonic_ns();
        let node_watermarks = self.watermarks.advance(&watermarks, context.clock_ms);
        self.source_watermarks.clone_from(&watermarks);
        let waited_ms = cuts.iter().map(|cut| cut.waited_ms).max().unwrap_or(0);
        let waited_ns = u64::try_from(waited_ms).unwrap_or(0).saturating_mul(1_000_000);
        let mut by_shard: Vec<Vec<SourceInput>> =
            (0..self.config.shards).map(|_| vec![SourceInput::default(); cuts.len()]).collect();
        let mut record = StepRecord {
            step: context.step,
            clock_ms: context.clock_ms,
            watermarks,
            taken: Vec::new(),
            answers: Vec::new(),
        };
        // Which shard gets which batch depends on the step alone, so that a replay divides it the same way.
        self.next_shard = (context.step % self.config.shards as u64) as usize;
        for source in order {
            let cut = std::mem::take(&mut cuts[source]);
            record.taken.extend(cut.taken);
            self.rows_read += cut.row_count;
            self.bad_rows += cut.bad_row_count;
            self.metrics.rows_read.add(cut.row_count);
            for delta in coalesce(cut.rows)? {
                self.share_out(delta, source, &mut by_shard);
            }
            by_shard[0][source].errors = cut.errors;
        }
        if let Some(observer) = &self.observer {
            observer.cut(context.step, &record.taken);
        }
        let request = if checkpoint {
            Some(Arc::new(self.begin_checkpoint(&context, record, false)?))
        } else {
            if self.parts.is_some() && self.config.log_steps {
                self.records.push(record);
            }
            None
        };
        self.send_step(context, by_shard, node_watermarks, request, (cut_ns, waited_ns))
    }

    /// Gives a delta to the shards in turn.
    fn share_out(&mut self, delta: Delta, source: usize, by_shard: &mut [Vec<SourceInput>]) {
        by_shard[self.next_shard][source].rows.push(delta);
        self.next_shard = (self.next_shard + 1) % self.config.shards;
    }

    fn send_step(
        &mut self,
        context: StepContext,
        by_shard: Vec<Vec<SourceInput>>,
        watermarks: Arc<[Watermarks]>,
        checkpoint: Option<Arc<CheckpointRequest>>,
        (cut_ns, waited_ns): (u64, u64),
    ) -> Result<()> {
        let mut steps = by_shard.into_iter().map(|sources| StepInput {
            context,
            sources,
            watermarks: Arc::clone(&watermarks),
            checkpoint: checkpoint.clone(),
            answers: self.answers.clone(),
            cut_ns,
            waited_ns,
        });
        match &mut self.shards {
            Shards::One(shard) => shard.run_step(steps.next().expect("one shard, one input")),
            Shards::Many(peers) => {
                for (peer, step) in peers.iter().zip(steps) {
                    // A closed inbox belongs to a shard that has failed: its event says why.
                    let _ = peer.send(Message::Step(Box::new(step)));
                }
                self.wait_for_steps(self.step.saturating_sub(self.config.steps_in_flight.max(1)))
            }
        }
    }

    /// Processing time never goes back, whatever the clock does: rows of a step would be late where it is their event time.
    fn now_ms(&self) -> i64 {
        self.clock.now_ms().max(self.clock_ms)
    }

    fn check_memory(&self) -> Result<()> {
        let (held, max) = (self.metrics.state_bytes(), self.config.memory_max_bytes);
        if max == 0 || held <= max {
            return Ok(());
        }
        let snapshot = self.metrics.snapshot();
        let largest = snapshot.nodes.iter().max_by_key(|node| node.state_bytes);
        Err(EngineError::Memory {
            held,
            max,
            largest: largest
                .map_or_else(String::new, |node| format!(" ({} bytes of it in {})", node.state_bytes, node.label.name)),
        })
    }
}
