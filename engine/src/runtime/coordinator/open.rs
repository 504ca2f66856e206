//! Setting a pipeline up: the state of its operators, then sinks, checkpointer, readers and shards, each with its threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::super::input::{Input, Reading, run_reader};
use super::super::output::{SinkMessage, SinkThread};
use super::super::shard::{Links, Shard};
use super::super::watermarks::NodeWatermarks;
use super::super::{Clock, Event, EventReceiver, Mode, PipelineConfig, Start, Stopwatch, spawn_watched};
use super::{Coordinator, Shards};
use crate::checkpoint::writer::{Checkpointer, Part, Publish};
use crate::checkpoint::{CheckpointStore, Compression, Manifest, Meta, read_chunks};
use crate::error::Result;
use crate::graph::{Graph, NodeKind, OperatorId};
use crate::hash::HashGroups;
use crate::metrics::Metrics;
use crate::operator::{Operator, StateChunk, StateReader};
use crate::source::StopFlag;
use crate::thread::{Threads, spawn};
use crate::time::WATERMARK_MIN;

/// How many steps may wait for a sink. Enough that small steps do not wait for its thread to wake up each time.
const SINK_QUEUE_STEPS: usize = 64;

/// A checkpoint to go on from.
type Restore = (Manifest, Arc<dyn CheckpointStore>);

/// How each sink publishes what it staged, once the checkpoint is written.
type Publishers = Vec<(OperatorId, Publish)>;

/// What all threads of a pipeline are made with.
struct Opening<'a> {
    graph: &'a Graph,
    config: &'a PipelineConfig,
    clock: &'a Arc<dyn Clock>,
    metrics: &'a Arc<Metrics>,
    control: &'a Sender<Event>,
    manifest: Option<&'a Manifest>,
    store: Option<&'a Arc<dyn CheckpointStore>>,
    threads: Threads,
}

impl Coordinator {
    /// Sets a pipeline up and starts all its threads but the coordinator's own.
    ///
    /// # Errors
    /// A checkpoint of another query or one that cannot be read; a source, sink or thread that cannot be opened.
    pub(in crate::runtime) fn open(
        start: Start,
        metrics: Arc<Metrics>,
        control: Sender<Event>,
        events: EventReceiver,
    ) -> Result<Self> {
        let Start { graph, mut config, clock, store, restore, mode, observer } = start;
        config.shards = config.shards.clamp(1, crate::hash::HASH_GROUP_COUNT as usize);
        if let Some((manifest, _)) = &restore {
            // Where the last view was dropped a first one begins.
            if !manifest.holds_nothing() {
                manifest.check_same_query(&graph)?;
            }
            config.seed = manifest.seed;
        }
        let manifest = restore.as_ref().map(|(manifest, _)| manifest);
        let now_ms = clock.now_ms();
        let done = manifest.map_or(0, |manifest| manifest.step);

        // State first: a checkpoint that cannot be used must be told before any source is touched.
        let operators = restore_operators(&graph, config.shards, restore.as_ref())?;
        let mut opening = Opening {
            graph: &graph,
            config: &config,
            clock: &clock,
            metrics: &metrics,
            control: &control,
            manifest,
            store: store.as_ref(),
            threads: Threads::default(),
        };
        let (parts, part_receiver) = unbounded();
        let parts = store.as_ref().map(|_| parts);
        let (sinks, publishers) = opening.sinks(parts.as_ref())?;
        let checkpoint = match (&store, manifest) {
            (_, Some(manifest)) => manifest.checkpoint,
            (Some(store), None) => crate::checkpoint::list(store.as_ref())?.last().copied().unwrap_or(0),
            (None, None) => 0,
        };
        if let Some(store) = &store {
            opening.checkpointer(store, publishers, part_receiver)?;
        }
        let stop_readers = StopFlag::new();
        let inputs = opening.readers(&stop_readers, now_ms)?;
        let shards = opening.shards(operators, done, &sinks, parts.as_ref())?;
        let threads = opening.threads;

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
            clock_ms: manifest.map_or(now_ms, |manifest| manifest.clock_ms),
            watermarks: NodeWatermarks::new(&graph, watermarks),
            config,
            clock,
            metrics,
            observer,
            events,
            inputs,
            ancestors,
            node_ids,
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
}

impl Opening<'_> {
    /// A thread for each sink, and how a checkpoint that is written has each publish what it staged.
    fn sinks(&mut self, parts: Option<&Sender<Part>>) -> Result<(Vec<Sender<SinkMessage>>, Publishers)> {
        let mut sinks: Vec<Sender<SinkMessage>> = Vec::new();
        let mut publishers = Publishers::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let NodeKind::Sink(sink_node) = &node.kind else { continue };
            let mut sink = sink_node.factory.create()?;
            if self.store.is_some() {
                sink.recover(self.manifest.and_then(|manifest| manifest.sink_transaction(&node.id.to_string())))?;
            }
            // A full queue holds the steps back: the sink decides the pace.
            let (sender, inbox) = bounded(SINK_QUEUE_STEPS * self.config.shards);
            let thread = SinkThread {
                sink,
                index: sinks.len(),
                shards: self.config.shards,
                parts: parts.cloned(),
                events: self.control.clone(),
                busy: Stopwatch::new(self.clock, self.metrics, index),
            };
            self.threads.push(spawn_watched("eagre-sink", self.control, move || thread.run(inbox))?);
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
        Ok((sinks, publishers))
    }

    /// The thread that writes checkpoints, and one that passes on what it says.
    fn checkpointer(
        &mut self,
        store: &Arc<dyn CheckpointStore>,
        sinks: Publishers,
        parts: Receiver<Part>,
    ) -> Result<()> {
        let operators = self.graph.nodes.iter().enumerate().filter_map(|(index, node)| match &node.kind {
            NodeKind::Operator(_) => Some((index, (node.id, node.name().to_owned()))),
            _ => None,
        });
        let checkpointer = Checkpointer {
            store: Arc::clone(store),
            shards: self.config.shards,
            seed: self.config.seed,
            run: self.config.run.clone(),
            retain: self.config.checkpoint_retain,
            operators: operators.collect(),
            sinks,
            last: self.manifest.cloned(),
            metrics: Arc::clone(self.metrics),
            compression: self.config.checkpoint_compression.unwrap_or(match store.is_near() {
                true => Compression::None,
                false => Compression::Zstd,
            }),
            buffer: Vec::new(),
        };
        let (written, written_receiver) = unbounded();
        let thread = spawn_watched("eagre-checkpoint", self.control, move || checkpointer.run(parts, written))?;
        self.threads.push(thread);
        let events = self.control.clone();
        self.threads.push(spawn("eagre-checkpoint-events", move || {
            written_receiver.iter().for_each(|result| {
                let _ = events.send(Event::Written(result));
            });
        })?);
        Ok(())
    }

    /// A reader for each source, opened where the checkpoint has it.
    fn readers(&mut self, stop: &StopFlag, now_ms: i64) -> Result<Vec<Input>> {
        let mut inputs = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let NodeKind::Source(source) = &node.kind else { continue };
            let saved = self.manifest.and_then(|manifest| manifest.sources.get(&node.id.to_string()));
            let (sender, messages) = bounded(self.config.queue_batches.max(1));
            let volatile = source.columns.iter().any(|column| column.is_volatile());
            let schema = Input::computed_schema(source, &node.output.schema)?;
            let columns = (!volatile).then(|| (source.columns.clone(), Arc::clone(&schema)));
            let reader = source.source.open(&source.projection, &Input::places(saved), stop.clone())?;
            let reader_stop = stop.clone();
            let busy = Stopwatch::new(self.clock, self.metrics, index);
            self.threads.push(spawn_watched("eagre-source", self.control, move || {
                run_reader(reader, columns, &reader_stop, &sender, &busy)
            })?);
            let reading = Reading { messages, stop: stop.clone() };
            inputs.push(Input::new(source.clone(), schema, inputs.len(), reading, volatile, saved, now_ms));
        }
        Ok(inputs)
    }

    /// The shards; where there are several, on threads of their own. `done`: the step of the checkpoint.
    fn shards(
        &mut self,
        operators: Vec<Vec<Box<dyn Operator>>>,
        done: u64,
        sinks: &[Sender<SinkMessage>],
        parts: Option<&Sender<Part>>,
    ) -> Result<Shards> {
        let count = self.config.shards;
        let (peers, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded()).unzip();
        let mut shards = Vec::with_capacity(count);
        for (index, operators) in operators.into_iter().enumerate() {
            let links = Links {
                peers: peers.clone(),
                sinks: sinks.to_vec(),
                events: self.control.clone(),
                parts: parts.cloned(),
                logs_answers: parts.is_some() && self.config.log_steps,
                clock: Arc::clone(self.clock),
                metrics: Arc::clone(self.metrics),
            };
            shards.push(Shard::new(self.graph, index, count, operators, done, links));
        }
        if count == 1 {
            return Ok(Shards::One(Box::new(shards.pop().expect("there is one"))));
        }
        for (shard, inbox) in shards.into_iter().zip(inboxes) {
            self.threads.push(spawn_watched("eagre-shard", self.control, move || shard.run(inbox))?);
        }
        Ok(Shards::Many(peers))
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
