//! A shard: one copy of the graph with its own state, run by one thread.
//!
//! A step is a logical time, not a barrier: a node runs step `n` as soon as its inputs for `n` are there from all shards, and nodes
//! further up may be a few steps ahead (the coordinator bounds how many). Of the nodes that are ready the one furthest down runs
//! first, so that what is in flight leaves before more comes in. Rows from other shards are taken in the order of shards, so a step gives the
//! same rows in the same order whoever was faster.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{BinaryArray, BooleanArray, StringArray, TimestampMillisecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, Select, Sender, TryRecvError};

use super::output::SinkMessage;
use super::{Clock, Event};
use crate::checkpoint::SavedOperator;
use crate::checkpoint::writer::{AnsweredNode, Part};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::graph::{Graph, NodeKind, Route, errors_schema, late_input, late_schema};
use crate::hash::{ByOwner, hash_columns};
use crate::metrics::Metrics;
use crate::operator::{
    BadRows, Input, LateRows, Operator, Output, PORT_MAIN, PORT_SIDE, Progress, SaveKind, StateWriter, StepWave, Ticket,
};
use crate::time::Watermarks;

/// What the coordinator decided for one step; a shard's part of it.
pub(crate) struct StepInput {
    pub context: StepContext,
    /// For each source node, in graph order.
    pub sources: Vec<SourceInput>,
    /// For each node of the graph.
    pub watermarks: Arc<[Watermarks]>,
    pub checkpoint: Option<Arc<CheckpointRequest>>,
    /// In a replay: what tables outside answered in this step.
    pub answers: Option<Arc<Answers>>,
    /// Monotonic nanoseconds when the step was cut.
    pub cut_ns: u64,
    /// How long the oldest of the step's rows had waited by then since a reader handed it over.
    pub waited_ns: u64,
}

/// What tables outside answered in one step, by node.
pub(crate) type Answers = BTreeMap<usize, Vec<RecordBatch>>;

#[derive(Default, Clone)]
pub(crate) struct SourceInput {
    pub rows: Vec<Delta>,
    pub errors: Vec<Delta>,
}

/// Every operator saves after its run of this step.
pub(crate) struct CheckpointRequest {
    pub checkpoint: u64,
    /// Nodes that hand over everything.
    pub full: Vec<usize>,
}

pub(crate) enum Message {
    Step(Box<StepInput>),
    /// Rows for input port `port` of `node` in `step`, from another shard.
    Packet {
        node: usize,
        port: usize,
        step: u64,
        from: usize,
        deltas: Vec<Delta>,
    },
    /// Steps are over.
    End,
    /// The pipeline has failed: nothing more comes of the steps that are not complete.
    Abandon,
}

enum Waited {
    Message(Message),
    Redeemed,
    Closed,
}

pub(crate) struct Shard {
    index: usize,
    shards: usize,
    nodes: Vec<ShardNode>,
    inputs: VecDeque<StepInput>,
    /// The last step that all nodes have run.
    done: u64,
    links: Links,
    saved: Vec<SavedOperator>,
    /// What tables outside answered since the last checkpoint.
    answers: Vec<AnsweredNode>,
    hashes: Vec<u64>,
    /// What operators have for the device in the step that they all are in; sent when none of them has more.
    wave: StepWave,
    /// The earliest step of what is in the wave; `u64::MAX`: there is nothing.
    wave_step: u64,
}

/// Everything that a shard talks to.
pub(crate) struct Links {
    /// Inboxes of all shards (the own one is not used).
    pub peers: Vec<Sender<Message>>,
    pub sinks: Vec<Sender<SinkMessage>>,
    pub events: Sender<Event>,
    pub parts: Option<Sender<Part>>,
    /// Whether what tables outside answer is written down with the steps.
    pub logs_answers: bool,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

struct ShardNode {
    kind: ShardNodeKind,
    name: String,
    statement: String,
    ports: Vec<Port>,
    /// By output port.
    consumers: [Vec<Consumer>; 2],
    /// The next step to run.
    next: u64,
    pending: Option<(Ticket, Output)>,
}

enum ShardNodeKind {
    Source(usize),
    Operator(Box<dyn Operator>),
    /// Its inputs may be narrower: a column that is never null in one of them may be in another.
    Union(SchemaRef),
    Sink(usize),
}

struct Consumer {
    node: usize,
    port: usize,
    /// `Some`: to the owner of the hash of these columns.
    hash: Option<Vec<usize>>,
}

struct Port {
    /// How many producers there are: all shards behind an exchange, else one.
    producers: usize,
    /// The step of the first entry: the consumer's next one, or, while it is pending, the one after.
    first: u64,
    /// One entry a step.
    steps: VecDeque<PortStep>,
}

#[derive(Default)]
struct PortStep {
    arrived: usize,
    by_producer: Vec<Vec<Delta>>,
}

impl Shard {
    /// Builds a shard with the operators given for the graph's operator nodes, in graph order. `done`: the step of the checkpoint.
    pub(crate) fn new(
        graph: &Graph,
        index: usize,
        shards: usize,
        operators: Vec<Box<dyn Operator>>,
        done: u64,
        links: Links,
    ) -> Self {
        let mut operators = operators.into_iter();
        let (mut sources, mut sinks) = (0.., 0..);
        let mut nodes: Vec<ShardNode> = Vec::with_capacity(graph.nodes.len());
        for (position, node) in graph.nodes.iter().enumerate() {
            let kind = match &node.kind {
                NodeKind::Source(_) => ShardNodeKind::Source(sources.next().expect("endless")),
                NodeKind::Operator(_) => {
                    ShardNodeKind::Operator(operators.next().expect("one operator for each operator node"))
                }
                NodeKind::Union => ShardNodeKind::Union(Arc::clone(&node.output.schema)),
                NodeKind::Sink(_) => ShardNodeKind::Sink(sinks.next().expect("endless")),
            };
            let mut ports = Vec::with_capacity(node.inputs.len());
            for (port, edge) in node.inputs.iter().enumerate() {
                let hash = match &edge.route {
                    Route::Hash(columns) if shards > 1 => Some(columns.clone()),
                    _ => None,
                };
                ports.push(Port {
                    producers: if hash.is_some() { shards } else { 1 },
                    first: done + 1,
                    steps: VecDeque::new(),
                });
                nodes[edge.from].consumers[edge.port as usize].push(Consumer { node: position, port, hash });
            }
            nodes.push(ShardNode {
                kind,
                name: node.name().to_owned(),
                statement: node.statement.clone(),
                ports,
                consumers: [Vec::new(), Vec::new()],
                next: done + 1,
                pending: None,
            });
        }
        for node in &mut nodes {
            if let ShardNodeKind::Operator(operator) = &mut node.kind
                && let [Consumer { hash: Some(columns), .. }] = node.consumers[PORT_MAIN as usize].as_slice()
            {
                operator.exchanged(columns, shards);
            }
        }
        Self {
            index,
            shards,
            nodes,
            inputs: VecDeque::new(),
            done,
            links,
            saved: Vec::new(),
            answers: Vec::new(),
            hashes: Vec::new(),
            wave: StepWave::gathering(),
            wave_step: u64::MAX,
        }
    }

    /// Runs on a thread of its own until the inbox says so; a failure is an event.
    pub(crate) fn run(mut self, inbox: Receiver<Message>) {
        let mut ending = false;
        loop {
            match self.advance() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    let _ = self.links.events.send(Event::Failed(error));
                    return;
                }
            }
            if ending && self.inputs.is_empty() {
                return;
            }
            self.send_wave();
            let message = match self.wait(&inbox) {
                Waited::Message(message) => message,
                Waited::Redeemed => continue,
                Waited::Closed => return,
            };
            match message {
                Message::Step(input) => self.inputs.push_back(*input),
                Message::Packet { node, port, step, from, deltas } => self.arrive(node, port, step, from, deltas),
                Message::End => ending = true,
                Message::Abandon => return,
            }
        }
    }

    /// Runs one step to its end on the caller's thread (the only shard).
    pub(crate) fn run_step(&mut self, input: StepInput) -> Result<()> {
        self.inputs.push_back(input);
        while !self.inputs.is_empty() {
            if self.advance()? {
                continue;
            }
            self.send_wave();
            let Some((ticket, _)) = self.nodes.iter().find_map(|node| node.pending.as_ref()) else {
                return Err(EngineError::bug("a step is not complete and no operator is pending"));
            };
            // Redeeming and dropping the redeemer both end the wait.
            let _ = ticket.receiver().recv();
        }
        Ok(())
    }

    /// Sends what operators have left for the device.
    fn send_wave(&mut self) {
        if let Some(batches) = self.wave.send() {
            self.links.metrics.device_waves.add(1);
            self.links.metrics.device_batches.add(batches.into());
        }
        self.wave_step = u64::MAX;
    }

    /// Waits for the next message, or until a pending operator can go on.
    fn wait(&self, inbox: &Receiver<Message>) -> Waited {
        let tickets: Vec<_> = self.nodes.iter().filter_map(|node| Some(node.pending.as_ref()?.0.receiver())).collect();
        let mut select = Select::new();
        let inbox_index = select.recv(inbox);
        for ticket in &tickets {
            select.recv(ticket);
        }
        if tickets.is_empty() {
            return inbox.recv().map_or(Waited::Closed, Waited::Message);
        }
        if select.ready() != inbox_index {
            return Waited::Redeemed;
        }
        // It may say so without there being a message; waiting for one then would be waiting for ever, as a redeemed ticket sends none.
        match inbox.try_recv() {
            Ok(message) => Waited::Message(message),
            Err(TryRecvError::Empty) => Waited::Redeemed,
            Err(TryRecvError::Disconnected) => Waited::Closed,
        }
    }

    fn arrive(&mut self, node: usize, port: usize, step: u64, from: usize, deltas: Vec<Delta>) {
        let port = &mut self.nodes[node].ports[port];
        let slot = (step - port.first) as usize;
        while port.steps.len() <= slot {
            port.steps.push_back(PortStep::default());
        }
        let entry = &mut port.steps[slot];
        entry.arrived += 1;
        if port.producers == 1 {
            entry.by_producer.push(deltas);
        } else {
            entry.by_producer.resize_with(port.producers, Vec::new);
            entry.by_producer[from] = deltas;
        }
    }

    /// Runs the ready node furthest down; `false`: none is ready.
    fn advance(&mut self) -> Result<bool> {
        if self.nodes.is_empty() && !self.inputs.is_empty() {
            self.complete();
            return Ok(true);
        }
        let newest = self.done + self.inputs.len() as u64;
        for index in (0..self.nodes.len()).rev() {
            let node = &self.nodes[index];
            let ready = match &node.pending {
                Some((ticket, _)) => ticket.is_redeemed(),
                None => {
                    node.next <= newest
                        && node
                            .ports
                            .iter()
                            .all(|port| port.steps.front().is_some_and(|step| step.arrived == port.producers))
                }
            };
            if ready {
                // Work of a later step does not hold up what this one has for the device.
                if node.next > self.wave_step {
                    self.send_wave();
                }
                self.run_node(index)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn run_node(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        let step = node.next;
        let input = &mut self.inputs[(step - self.done - 1) as usize];
        let counters = self.links.metrics.node(self.index, index);
        let watermarks = input.watermarks[index];
        let resumed = node.pending.take();
        let ports: Vec<Vec<Delta>> = if resumed.is_some() {
            node.ports.iter().map(|_| Vec::new()).collect()
        } else {
            let take = |port: &mut Port| {
                let step = port.steps.pop_front().expect("a ready port has its step");
                port.first += 1;
                let mut producers = step.by_producer.into_iter();
                let mut deltas = producers.next().unwrap_or_default();
                producers.for_each(|more| deltas.extend(more));
                deltas
            };
            node.ports.iter_mut().map(take).collect()
        };
        let rows_in: usize = ports.iter().flatten().map(Delta::rows).sum();
        counters.rows_in.add(rows_in as u64);
        let is_resumed = resumed.is_some();
        let fresh = || Output { records_answers: self.links.logs_answers, ..Output::default() };
        let mut out = resumed.map_or_else(fresh, |(_, out)| out);
        let (cut_ns, waited_ns) = (input.cut_ns, input.waited_ns);
        let mut side = Vec::new();
        match &mut node.kind {
            ShardNodeKind::Source(source) => {
                let rows = std::mem::take(&mut input.sources[*source]);
                counters.rows_in.add(rows.rows.iter().map(|delta| delta.rows() as u64).sum());
                counters.rows_bad.add(rows.errors.iter().map(|delta| delta.rows() as u64).sum());
                out.deltas = rows.rows;
                side = rows.errors;
            }
            ShardNodeKind::Union(schema) => {
                for delta in ports.into_iter().flatten() {
                    let batch = batch_of(schema, delta.batch.columns().to_vec(), delta.rows())?;
                    out.deltas.push(delta.with_batch(batch));
                }
            }
            ShardNodeKind::Operator(operator) => {
                let started = self.links.clock.monotonic_ns();
                if let Some(answers) = input.answers.as_ref().filter(|_| !is_resumed) {
                    operator.recall(answers.get(&index).map_or(&[][..], Vec::as_slice))?;
                }
                let waited = started.saturating_sub(cut_ns).saturating_add(waited_ns);
                out.wave = std::mem::take(&mut self.wave).waiting_for(waited);
                let progress = operator.step(Input { ports, context: &input.context, watermarks }, &mut out);
                let progress = progress.map_err(|error| error.in_statement(&node.statement))?;
                self.wave = std::mem::take(&mut out.wave);
                if self.wave.is_waiting() {
                    self.wave_step = self.wave_step.min(step);
                }
                counters.busy_ns.add(self.links.clock.monotonic_ns() - started);
                if let Progress::Pending(ticket) = progress {
                    node.pending = Some((ticket, out));
                    return Ok(());
                }
                let answers = std::mem::take(&mut out.answers).into_iter();
                self.answers.extend(answers.map(|rows| AnsweredNode { step, node: index, rows }));
                counters.state_bytes.set(operator.state_bytes() as u64);
                counters.state_rows.set(operator.state_rows() as u64);
                counters.keys.set(operator.keys() as u64);
                let placements = operator.placements();
                if !placements.is_empty() {
                    counters.set_placements(placements);
                }
                let incidents = operator.incidents();
                if !incidents.is_empty() {
                    counters.set_incidents(incidents);
                }
                let late: usize = out.late.iter().map(|late| late.rows.num_rows()).sum();
                counters.rows_late.add(late as u64);
                if !node.consumers[PORT_SIDE as usize].is_empty() {
                    for late in std::mem::take(&mut out.late) {
                        Delta::insert(late_batch(late, &node.name, &node.statement)?).split(&mut side);
                    }
                }
                for bad in std::mem::take(&mut out.bad) {
                    counters.rows_bad.add(bad.rows.num_rows() as u64);
                    if !node.consumers[PORT_SIDE as usize].is_empty() {
                        Delta::insert(bad_batch(&bad)?).split(&mut side);
                    }
                }
                if let Some(request) = &input.checkpoint {
                    let started = self.links.clock.monotonic_ns();
                    let full = request.full.contains(&index);
                    let kind = if full { SaveKind::Full } else { SaveKind::Changes };
                    let mut state = StateWriter::default();
                    operator.save(kind, &mut state)?;
                    self.saved.push(SavedOperator {
                        node: index,
                        kind,
                        state,
                        live_rows: operator.state_rows() as u64,
                    });
                    let took = self.links.clock.monotonic_ns() - started;
                    self.links.metrics.checkpoint_save_ns.add(took);
                    self.links.metrics.checkpoint_save_ns_max.raise(took);
                }
            }
            ShardNodeKind::Sink(sink) => {
                let deltas: Vec<Delta> = ports.into_iter().flatten().collect();
                let checkpoint = input.checkpoint.as_ref().map(|request| request.checkpoint);
                // With one shard an empty step need not be told; with several the sink waits for all of them.
                if !deltas.is_empty() || checkpoint.is_some() || self.shards > 1 {
                    let message = SinkMessage::Step { step, shard: self.index, deltas, checkpoint };
                    // A closed sink has failed and told the coordinator so.
                    let _ = self.links.sinks[*sink].send(message);
                }
            }
        }
        self.links.metrics.set_watermark(index, watermarks.after);
        let owned = out.owned.iter().map(|(_, delta)| delta);
        counters.rows_out.add(out.deltas.iter().chain(owned).map(|delta| delta.rows() as u64).sum());
        self.nodes[index].next = step + 1;
        self.deliver(index, PORT_MAIN, step, out.deltas, out.owned)?;
        self.deliver(index, PORT_SIDE, step, side, Vec::new())?;
        self.complete();
        Ok(())
    }

    /// Hands the rows of an output port to all its consumers. `owned`: rows that the operator has divided among shards itself, for the only one.
    fn deliver(
        &mut self,
        index: usize,
        out_port: u8,
        step: u64,
        mut deltas: Vec<Delta>,
        mut owned: Vec<(usize, Delta)>,
    ) -> Result<()> {
        let count = self.nodes[index].consumers[out_port as usize].len();
        for position in 0..count {
            let consumer = &self.nodes[index].consumers[out_port as usize][position];
            let (node, port) = (consumer.node, consumer.port);
            let deltas = if position + 1 == count { std::mem::take(&mut deltas) } else { deltas.clone() };
            let Some(columns) = &consumer.hash else {
                self.arrive(node, port, step, 0, deltas);
                continue;
            };
            let mut by_shard = scatter(deltas, columns, self.shards, &mut self.hashes)?;
            owned.drain(..).for_each(|(shard, delta)| by_shard[shard].push(delta));
            for (shard, deltas) in by_shard.drain(..).enumerate() {
                if shard == self.index {
                    self.arrive(node, port, step, shard, deltas);
                } else {
                    let packet = Message::Packet { node, port, step, from: self.index, deltas };
                    // A closed inbox belongs to a shard that has failed and told the coordinator so.
                    let _ = self.links.peers[shard].send(packet);
                }
            }
        }
        Ok(())
    }

    /// Notes the steps that all nodes have run.
    fn complete(&mut self) {
        while self.inputs.front().is_some_and(|_| self.nodes.iter().all(|node| node.next > self.done + 1)) {
            let input = self.inputs.pop_front().expect("it was just looked at");
            self.done += 1;
            if let Some(request) = input.checkpoint
                && let Some(parts) = &self.links.parts
            {
                let operators = std::mem::take(&mut self.saved);
                // Nodes may be ahead of the step that is complete; what they were answered belongs to the next checkpoint.
                let (answers, ahead) = self.answers.drain(..).partition(|answer| answer.step <= self.done);
                self.answers = ahead;
                let part = Part::Shard { checkpoint: request.checkpoint, shard: self.index, operators, answers };
                let _ = parts.send(part);
            }
            let _ = self.links.events.send(Event::StepDone { step: self.done, cut_ns: input.cut_ns });
        }
    }
}

/// Divides rows among shards by the hash of `columns`; rows of one shard keep their order.
fn scatter(deltas: Vec<Delta>, columns: &[usize], shards: usize, hashes: &mut Vec<u64>) -> Result<Vec<Vec<Delta>>> {
    let mut by_shard: Vec<Vec<Delta>> = (0..shards).map(|_| Vec::new()).collect();
    for delta in deltas {
        if columns.is_empty() {
            by_shard[0].push(delta);
            continue;
        }
        let keys: Vec<_> = columns.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
        hash_columns(&keys, delta.rows(), hashes)?;
        let by_owner = ByOwner::new(hashes, shards);
        for (shard, deltas) in by_shard.iter_mut().enumerate() {
            let rows = by_owner.rows_of(shard);
            if rows.len() == delta.rows() {
                deltas.push(delta.clone());
            } else if !rows.is_empty() {
                deltas.push(delta.take(&UInt32Array::from(rows.to_vec()))?);
            }
        }
    }
    Ok(by_shard)
}

/// Rows that an operator refused as rows of `<table>.errors`: no place outside is known of them, so they are named by their arrival
/// numbers.
fn bad_batch(bad: &BadRows) -> Result<RecordBatch> {
    let rows = bad.rows.num_rows();
    let raw = super::rows_as_json(&bad.rows)?;
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(StringArray::from(vec![bad.origin.as_ref(); rows])),
        Arc::new(UInt64Array::from(bad.ordinals.clone())),
        Arc::new(StringArray::from(vec![bad.reason.as_ref(); rows])),
        Arc::new(BinaryArray::from_iter_values(raw.iter().map(String::as_bytes))),
    ];
    Ok(RecordBatch::try_new(errors_schema(), columns)?)
}

/// Late rows as rows of `<table>.late`.
fn late_batch(late: LateRows, operator: &str, statement: &str) -> Result<RecordBatch> {
    let rows = late.rows.num_rows();
    let times =
        late.event_times.iter().map(|time| (*time != i64::MIN).then_some(*time)).collect::<TimestampMillisecondArray>();
    // No watermark yet is no time: a row without an event time can come before any.
    let watermark = (late.watermark != i64::MIN).then_some(late.watermark);
    let watermarks = TimestampMillisecondArray::from(vec![watermark; rows]);
    let weight = |row: usize| late.weights.as_ref().map_or(1, |weights| weights.value(row));
    let retracted: BooleanArray = (0..rows).map(|row| Some(weight(row) < 0)).collect();
    let side = late.input.map(|input| format!("{operator}{}", late_input(input)));
    let operator = side.as_deref().unwrap_or(operator);
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(StringArray::from(vec![statement; rows])),
        Arc::new(StringArray::from(vec![operator; rows])),
        Arc::new(times),
        Arc::new(watermarks),
        Arc::new(UInt32Array::from(late.windows_missed)),
        Arc::new(StringArray::from(super::rows_as_json(&late.rows)?)),
        Arc::new(retracted),
    ];
    Ok(RecordBatch::try_new(late_schema(), columns)?)
}
