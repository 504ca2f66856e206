//! The coordinator: decides what each step takes, writes it down, and keeps shards, sinks and checkpoints going.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Select, Sender, bounded, unbounded};

use super::input::{Cut, Input, Reading, Stamp, coalesce, run_reader};
use super::output::{SinkMessage, SinkThread};
use super::shard::{Answers, CheckpointRequest, Links, Message, Shard, SourceInput, StepInput};
use super::watermarks::NodeWatermarks;
use super::{
    Clock, Event, EventReceiver, Mode, PipelineConfig, Start, StepObserver, Stopwatch, Summary, spawn, spawn_watched,
};
use crate::checkpoint::writer::{Begin, Checkpointer, Part, Publish};
use crate::checkpoint::{CheckpointStore, Compression, Manifest, Meta, read_chunks};
use crate::delta::Delta;
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::graph::{Graph, NodeKind};
use crate::hash::HashGroups;
use crate::log::{SourceTime, StepRecord};
use crate::metrics::Metrics;
use crate::operator::{Operator, StateChunk, StateReader};
use crate::source::StopFlag;
use crate::time::{WATERMARK_MIN, Watermarks};

/// How many steps may wait for a sink. Enough that small steps do not wait for its thread to wake up each time.
const SINK_QUEUE_STEPS: usize = 64;

/// The longest wait without looking around.
const WAIT_MS_MAX: i64 = 1_000;

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
    threads: Vec<JoinHandle<()>>,
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
    pub(super) fn open(
        start: Start,
        metrics: Arc<Metrics>,
        control: Sender<Event>,
        events: EventReceiver,
    ) -> Result<Self> {
        let Start { graph, mut config, clock, store, restore, mode, observer } = start;
        config.shards = config.shards.clamp(1, crate::hash::HASH_GROUP_COUNT as usize);
        if let Some((manifest, _)) = &restore {
            manifest.check_same_query(&graph)?;
            config.seed = manifest.seed;
        }
        let manifest = restore.as_ref().map(|(manifest, _)| manifest);
        let now_ms = clock.now_ms();
        let done = manifest.map_or(0, |manifest| manifest.step);
        let mut threads = Vec::new();

        // State first: a checkpoint that cannot be used must be told before any source is touched.
        let operators = restore_operators(&graph, config.shards, restore.as_ref())?;

        let (parts, part_receiver) = unbounded();
        let parts = store.as_ref().map(|_| parts);
        let mut sinks = Vec::new();
        let mut publishers: Vec<(crate::graph::OperatorId, Publish)> = Vec::new();
        for (index, node, sink_node) in graph.nodes.iter().enumerate().filter_map(|(index, node)| match &node.kind {
            NodeKind::Sink(sink) => Some((index, node, sink)),
            _ => None,
        }) {
            let mut sink = sink_node.factory.create()?;
            if store.is_some() {
                sink.recover(manifest.and_then(|manifest| manifest.sink_transaction(&node.id.to_string())))?;
            }
            // A full queue holds the steps back: the sink decides the pace.
            let (sender, inbox) = bounded(SINK_QUEUE_STEPS * config.shards);
            let thread = SinkThread {
                sink,
                index: sinks.len(),
                shards: config.shards,
                parts: parts.clone(),
                events: control.clone(),
                busy: Stopwatch::new(&clock, &metrics, index),
            };
            threads.push(spawn_watched("eagre-sink", &control, move || thread.run(inbox))?);
            let publisher = sender.clone();
            publishers.push((
                node.id,
                Box::new(move |transaction| {
                    // A closed sink has failed and told the coordinator so.
                    let _ = publisher.send(SinkMessage::Commit(transaction));
                }),
            ));
            sinks.push(sender);
        }

        let operator_names = graph.nodes.iter().enumerate().filter_map(|(index, node)| match &node.kind {
            NodeKind::Operator(_) => Some((index, (node.id, node.name().to_owned()))),
            _ => None,
        });
        let checkpoint = match (&store, manifest) {
            (_, Some(manifest)) => manifest.checkpoint,
            (Some(store), None) => crate::checkpoint::list(store.as_ref())?.last().copied().unwrap_or(0),
            (None, None) => 0,
        };
        if let Some(store) = &store {
            let checkpointer = Checkpointer {
                store: Arc::clone(store),
                shards: config.shards,
                seed: config.seed,
                run: config.run.clone(),
                retain: config.checkpoint_retain,
                operators: operator_names.collect(),
                sinks: publishers,
                last: manifest.cloned(),
                metrics: Arc::clone(&metrics),
                compression: config.checkpoint_compression.unwrap_or(match store.is_near() {
                    true => Compression::None,
                    false => Compression::Zstd,
                }),
                buffer: Vec::new(),
            };
            let (written, written_receiver) = unbounded();
            let events = control.clone();
            threads
                .push(spawn_watched("eagre-checkpoint", &control, move || checkpointer.run(part_receiver, written))?);
            threads.push(spawn("eagre-checkpoint-events", move || {
                written_receiver.iter().for_each(|result| {
                    let _ = events.send(Event::Written(result));
                });
            })?);
        }

        let stop_readers = StopFlag::new();
        let mut inputs = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let NodeKind::Source(source) = &node.kind else { continue };
            let saved = manifest.and_then(|manifest| manifest.sources.get(&node.id.to_string()));
            let (sender, messages) = bounded(config.queue_batches.max(1));
            let volatile = source.columns.iter().any(|column| column.is_volatile());
            let schema = Input::computed_schema(source, &node.output.schema)?;
            let columns = (!volatile).then(|| (source.columns.clone(), Arc::clone(&schema)));
            let reader = source.source.open(&source.projection, &Input::places(saved), stop_readers.clone())?;
            let stop = stop_readers.clone();
            let busy = Stopwatch::new(&clock, &metrics, index);
            threads.push(spawn_watched("eagre-source", &control, move || {
                run_reader(reader, columns, &stop, &sender, &busy)
            })?);
            let reading = Reading { messages, stop: stop_readers.clone() };
            inputs.push(Input::new(source.clone(), schema, inputs.len(), reading, volatile, saved, now_ms));
        }

        let mut peers = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..config.shards {
            let (sender, inbox) = unbounded();
            peers.push(sender);
            inboxes.push(inbox);
        }
        let mut shards = Vec::new();
        for (index, operators) in operators.into_iter().enumerate() {
            let links = Links {
                peers: peers.clone(),
                sinks: sinks.clone(),
                events: control.clone(),
                parts: parts.clone(),
                logs_answers: parts.is_some() && config.log_steps,
                clock: Arc::clone(&clock),
                metrics: Arc::clone(&metrics),
            };
            shards.push(Shard::new(&graph, index, config.shards, operators, done, links));
        }
        let shards = if config.shards == 1 {
            Shards::One(Box::new(shards.pop().expect("there is one")))
        } else {
            for (shard, inbox) in shards.into_iter().zip(inboxes) {
                threads.push(spawn_watched("eagre-shard", &control, move || shard.run(inbox))?);
            }
            Shards::Many(peers)
        };

        let ancestors = ancestors(&graph);
        let node_ids: Vec<String> = graph.nodes.iter().map(|node| node.id.to_string()).collect();
        let watermarks = node_ids
            .iter()
            .map(|id| manifest.and_then(|manifest| manifest.watermarks.get(id)).copied().unwrap_or(WATERMARK_MIN))
            .collect();
        Ok(Self {
            source_watermarks: Vec::new(),
            replay: match mode {
                Mode::Live => None,
                Mode::Replay(records) => Some(records),
            },
            answers: None,
            next_ordinal: manifest.map_or(0, |manifest| manifest.next_ordinal),
            checkpoint_ms: now_ms,
            checkpoint_step: done,
            step: done,
            steps_done: done,
            config,
            clock,
            metrics,
            observer,
            events,
            inputs,
            ancestors,
            node_ids,
            watermarks: NodeWatermarks::new(&graph, watermarks),
            clock_ms: manifest.map_or(now_ms, |manifest| manifest.clock_ms),
            shards,
            sinks,
            parts,
            stop_readers,
            threads,
            shard_done: BTreeMap::new(),
            next_shard: 0,
            checkpoint,
            checkpoint_running: false,
            checkpoint_wanted: false,
            full_next: Vec::new(),
            records: Vec::new(),
            rows_read: 0,
            bad_rows: 0,
            stopping: false,
            draining: false,
        })
    }

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
        let threads = std::mem::take(&mut self.threads);
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
            for input in &mut self.inputs {
                input.poll(self.config.rows_max, now_ms)?;
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

    /// Runs the steps of the log again.
    fn replay(&mut self, records: Vec<StepRecord>) -> Result<End> {
        for record in records {
            if let Some(end) = self.drain_events()? {
                return Ok(end);
            }
            let context = StepContext { step: record.step, clock_ms: record.clock_ms, seed: self.config.seed };
            let mut cuts: Vec<Cut> = self.inputs.iter().map(|_| Cut::default()).collect();
            for taken in &record.taken {
                let mut rows_left = taken.rows;
                loop {
                    let input = &mut self.inputs[taken.source];
                    let mut stamp = Stamp { context: &context, next_ordinal: &mut self.next_ordinal };
                    if input.take_again(taken, &mut rows_left, &mut cuts[taken.source], &mut stamp)? {
                        break;
                    }
                    if input.ended {
                        return Err(EngineError::Source {
                            table: input.node.table.clone(),
                            message: format!(
                                "step {} took {} rows of `{}` that are no longer there; a replay needs the input as it was",
                                record.step, taken.rows, taken.partition
                            ),
                        });
                    }
                    let message = input.messages.recv().map_err(|_| EngineError::bug("a reader is gone"))?;
                    input.receive(message, record.clock_ms)?;
                }
            }
            self.step = record.step - 1;
            self.answers = Some(Arc::new(self.answers_of(&record)?));
            let mut order: Vec<usize> = record.taken.iter().map(|taken| taken.source).collect();
            order.extend(0..self.inputs.len());
            let mut seen = vec![false; self.inputs.len()];
            order.retain(|source| !std::mem::replace(&mut seen[*source], true));
            self.dispatch(context, order, cuts, record.watermarks, false)?;
        }
        self.wait_for_steps(self.step)?;
        // Stopped, not finished: the steps end where the log does, and time is not closed behind them.
        Ok(End::Stopped)
    }

    /// What tables outside answered in a step, by node.
    fn answers_of(&self, record: &StepRecord) -> Result<Answers> {
        let mut answers = Answers::new();
        for answer in &record.answers {
            if let Some(node) = self.node_ids.iter().position(|id| *id == answer.operator) {
                answers.entry(node).or_default().extend(answer.rows()?);
            }
        }
        Ok(answers)
    }

    /// Cuts a step from what waits.
    fn cut(&mut self, now_ms: i64, checkpoint: bool) -> Result<()> {
        let context = StepContext { step: self.step + 1, clock_ms: now_ms, seed: self.config.seed };
        let (mut rows, mut bytes) = (self.config.rows_max, self.config.bytes_max.max(1));
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

    fn checkpoint_due(&self, now_ms: i64) -> bool {
        if self.parts.is_none()
            || self.checkpoint_running
            || (self.step == self.checkpoint_step && !self.checkpoint_wanted)
        {
            return false;
        }
        let by_steps =
            self.config.checkpoint_steps > 0 && self.step - self.checkpoint_step >= self.config.checkpoint_steps;
        let by_time = now_ms - self.checkpoint_ms >= self.config.checkpoint_interval_ms as i64;
        self.checkpoint_wanted || by_steps || by_time
    }

    fn begin_checkpoint(
        &mut self,
        context: &StepContext,
        record: StepRecord,
        finished: bool,
    ) -> Result<CheckpointRequest> {
        if self.config.log_steps {
            self.records.push(record);
        }
        self.checkpoint += 1;
        self.checkpoint_running = true;
        self.checkpoint_wanted = false;
        self.checkpoint_ms = context.clock_ms;
        self.checkpoint_step = context.step;
        let source_ids = self.node_ids.iter().zip(&self.ancestors).enumerate();
        let mut sources = BTreeMap::new();
        // A source node's only ancestor is itself, in order of the graph.
        let mut next_input = 0;
        for (index, (id, _)) in source_ids {
            if next_input < self.inputs.len() && self.source_node(next_input) == index {
                sources.insert(id.clone(), self.inputs[next_input].state());
                next_input += 1;
            }
        }
        let begin = Begin {
            checkpoint: self.checkpoint,
            step: context.step,
            clock_ms: context.clock_ms,
            next_ordinal: self.next_ordinal,
            finished,
            sources,
            watermarks: self.node_ids.iter().cloned().zip(self.watermarks.current().iter().copied()).collect(),
            records: std::mem::take(&mut self.records),
        };
        if let Some(parts) = &self.parts {
            let _ = parts.send(Part::Begin(Box::new(begin)));
        }
        Ok(CheckpointRequest { checkpoint: self.checkpoint, full: std::mem::take(&mut self.full_next) })
    }

    /// The graph node of an input.
    fn source_node(&self, input: usize) -> usize {
        self.ancestors.iter().position(|ancestors| ancestors.as_slice() == [input]).expect("an input belongs to a node")
    }

    /// Ends the steps in order: a last one that carries a checkpoint (where there is a store), then the sinks.
    fn close(&mut self, finished: bool) -> Result<()> {
        self.wait_for_steps(self.step)?;
        let now_ms = self.now_ms();
        let watermarks = self.source_watermarks(now_ms);
        let closes_time = finished && watermarks != self.source_watermarks;
        if self.parts.is_some() {
            while self.checkpoint_running {
                self.wait_event()?;
            }
            if finished || self.step != self.checkpoint_step {
                let context = StepContext { step: self.step + 1, clock_ms: now_ms, seed: self.config.seed };
                self.step = context.step;
                let cut_ns = self.clock.monotonic_ns();
                let node_watermarks = self.watermarks.advance(&watermarks, now_ms);
                let record = StepRecord {
                    step: context.step,
                    clock_ms: now_ms,
                    watermarks,
                    taken: Vec::new(),
                    answers: Vec::new(),
                };
                let request = Arc::new(self.begin_checkpoint(&context, record, finished)?);
                let nothing = vec![vec![SourceInput::default(); self.inputs.len()]; self.config.shards];
                self.send_step(context, nothing, node_watermarks, Some(request), (cut_ns, 0))?;
                self.wait_for_steps(self.step)?;
                while self.checkpoint_running {
                    self.wait_event()?;
                }
            }
        } else if closes_time {
            let context = StepContext { step: self.step + 1, clock_ms: now_ms, seed: self.config.seed };
            let nothing = self.inputs.iter().map(|_| Cut::default()).collect();
            self.dispatch(context, Vec::new(), nothing, watermarks, false)?;
            self.wait_for_steps(self.step)?;
        }
        for sink in &self.sinks {
            let _ = sink.send(SinkMessage::Finish);
        }
        let mut finished_sinks = 0;
        while finished_sinks < self.sinks.len() {
            match self.events.recv() {
                Ok(Event::SinkFinished) => finished_sinks += 1,
                Ok(Event::Abort) | Err(_) => return Ok(()),
                Ok(event) => {
                    self.handle(event)?;
                }
            }
        }
        Ok(())
    }

    fn wait_for_steps(&mut self, step: u64) -> Result<()> {
        if matches!(self.shards, Shards::One(_)) {
            // It ran them on this thread; what it said of them is there, and nothing more comes of a step that has failed.
            while let Ok(event) = self.events.try_recv() {
                self.take_event(event)?;
            }
            return Ok(());
        }
        while self.steps_done < step {
            self.wait_event()?;
        }
        Ok(())
    }

    fn wait_event(&mut self) -> Result<()> {
        let event = self.events.recv().map_err(|_| EngineError::bug("all threads of the pipeline are gone"))?;
        self.take_event(event)
    }

    fn take_event(&mut self, event: Event) -> Result<()> {
        match self.handle(event)? {
            Some(End::Aborted) => Err(EngineError::Limit { message: "the pipeline was aborted".to_owned() }),
            _ => Ok(()),
        }
    }

    fn drain_events(&mut self) -> Result<Option<End>> {
        while let Ok(event) = self.events.try_recv() {
            if let Some(end) = self.handle(event)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    fn handle(&mut self, event: Event) -> Result<Option<End>> {
        match event {
            Event::StepDone { step, cut_ns } => {
                let done = self.shard_done.entry(step).or_insert(0);
                *done += 1;
                if *done == self.config.shards {
                    self.shard_done.remove(&step);
                    self.steps_done = step;
                    self.metrics.steps.set(step);
                    self.metrics.step_took(self.clock.monotonic_ns().saturating_sub(cut_ns));
                    if let Some(observer) = &self.observer {
                        observer.done(step);
                    }
                }
            }
            Event::Failed(error) => return Err(error),
            Event::Written(written) => {
                let written = written?;
                self.full_next = written.full_next;
                self.checkpoint_running = false;
                for input in 0..self.inputs.len() {
                    let saved = written.oldest_sources.get(&self.node_ids[self.source_node(input)]);
                    self.inputs[input].node.source.committed(&Input::places(saved));
                }
            }
            Event::Stop => self.stopping = true,
            Event::Drain => {
                self.draining = true;
                self.stop_readers.drain();
            }
            Event::Abort => return Ok(Some(End::Aborted)),
            Event::Checkpoint => self.checkpoint_wanted = self.parts.is_some(),
            Event::SinkFinished => {}
        }
        Ok(None)
    }

    /// Waits until something happens or the time has come for something.
    fn block(&mut self, now_ms: i64) -> Result<()> {
        let mut wait_ms = WAIT_MS_MAX;
        if self.parts.is_some() && self.step != self.checkpoint_step && !self.checkpoint_running {
            wait_ms = wait_ms.min(self.checkpoint_ms + self.config.checkpoint_interval_ms as i64 - now_ms);
        }
        if let Some(idle_ms) = self.inputs.iter().filter_map(|input| input.next_idle_ms(now_ms)).min() {
            wait_ms = wait_ms.min(idle_ms - now_ms);
        }
        if let Some(tick_ms) = self.watermarks.next_tick_ms(self.clock_ms) {
            wait_ms = wait_ms.min(tick_ms - now_ms);
        }
        let mut select = Select::new();
        let receivers: Vec<_> =
            self.inputs.iter().filter(|input| input.is_open()).map(|input| input.messages.clone()).collect();
        select.recv(&self.events);
        for receiver in &receivers {
            select.recv(receiver);
        }
        // Whatever is ready is taken by the loop; only the wait ends here.
        let _ = select.ready_timeout(Duration::from_millis(wait_ms.max(1) as u64));
        Ok(())
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

/// For each node, the inputs that its rows come from, in order.
fn ancestors(graph: &Graph) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::with_capacity(graph.nodes.len());
    let mut inputs = 0;
    for node in &graph.nodes {
        let mut own: Vec<usize> = node.inputs.iter().flat_map(|edge| all[edge.from].iter().copied()).collect();
        if matches!(node.kind, NodeKind::Source(_)) {
            own.push(inputs);
            inputs += 1;
        }
        own.sort_unstable();
        own.dedup();
        all.push(own);
    }
    all
}

type Restore = (Manifest, Arc<dyn CheckpointStore>);

/// The operators of each shard, with their state.
fn restore_operators(graph: &Graph, shards: usize, restore: Option<&Restore>) -> Result<Vec<Vec<Box<dyn Operator>>>> {
    let mut all: Vec<Vec<Box<dyn Operator>>> = (0..shards).map(|_| Vec::new()).collect();
    for node in &graph.nodes {
        let NodeKind::Operator(factory) = &node.kind else { continue };
        let saved = match restore {
            Some((manifest, store)) => match manifest.operators.get(&node.id.to_string()) {
                Some(state) => Some((read_chunks(store.as_ref(), manifest, state)?, &state.metas)),
                None => None,
            },
            None => None,
        };
        for (shard, operators) in all.iter_mut().enumerate() {
            let mut operator = factory.create()?;
            let (chunks, metas): (&[StateChunk], &[Meta]) = match &saved {
                Some((chunks, metas)) => (chunks, metas),
                None => (&[], &[]),
            };
            operator.restore(&StateReader { chunks, metas, owned: HashGroups::of_shard(shard, shards) })?;
            operators.push(operator);
        }
    }
    Ok(all)
}
