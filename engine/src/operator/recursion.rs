//! `WITH RECURSIVE`: rows that are made from rows that were made, until none is new.
//!
//! The recursive part is a graph of its own inside this operator ([`Term`]): its first source stands for the rows of the iteration before, the
//! others for the inputs that the part reads. Its operators are the incremental ones of every pipeline, so an iteration is a step of
//! that graph that gives only what the rows of the iteration before add (semi-naive evaluation). What comes in a later step of the pipeline
//! starts from there: new rows of an input meet all rows made so far. That holds while the part only grows by what it reads; where rows
//! may be taken back, or a row is made because another one is *not* there, all is evaluated once, when the input has ended.
//!
//! All runs on one shard: rows that are made need no partition of their own. A checkpoint holds the rows of the inputs, and a restore makes the
//! others again.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::graph::{Edge, Graph, NodeIndex, NodeKind};
use crate::hash::HashGroups;
use crate::keys::GroupKeys;
use crate::rows::{RowLog, Rows};
use crate::time::{WATERMARK_MAX, Watermarks};

#[cfg(test)]
mod tests;

/// What a [`Recursion`] does.
pub struct RecursionSpec {
    /// The query's name, for errors.
    pub name: String,
    /// The columns of each input port. Port 0 brings the rows that the recursion starts with; they have the columns that come out.
    pub inputs: Vec<SchemaRef>,
    /// Whether rows of a port can be taken back.
    pub retracting: Vec<bool>,
    /// `UNION`: a row that was there makes nothing. Else `UNION ALL`.
    pub distinct: bool,
    /// Evaluate when the input has ended, not in each step.
    pub at_end: bool,
    /// The recursive part; sources are placeholders.
    pub term: Graph,
    /// For each input port its source in the part; for port 0 that of the rows of the iteration before.
    pub sources: Vec<NodeIndex>,
    /// The node whose rows the part gives, on its main port, with the columns of port 0.
    pub result: NodeIndex,
    /// The most iterations of a step (`eagre.sql.recursion_max`).
    pub iterations_max: u64,
    /// The most rows that a step makes (`eagre.sql.recursion_rows_max`).
    pub rows_max: u64,
}

/// Makes [`Recursion`]s.
pub struct RecursionFactory {
    spec: Arc<RecursionSpec>,
}

/// The tables of a checkpoint, by port.
const TABLES: [&str; 16] = [
    "start", "input1", "input2", "input3", "input4", "input5", "input6", "input7", "input8", "input9", "input10",
    "input11", "input12", "input13", "input14", "input15",
];
const DONE: &str = "done";
const NAME: &str = "Recursion";

impl RecursionFactory {
    /// All inputs come to the shard that owns hash 0.
    ///
    /// # Errors
    /// Rows that cannot be compared where they have to be; more inputs than have names.
    pub fn new(spec: RecursionSpec) -> Result<Self> {
        if spec.inputs.len() > TABLES.len() {
            return Err(EngineError::Plan {
                message: format!(
                    "the recursive part of `{}` reads {} tables or subqueries, at most {} are possible; join some of them before",
                    spec.name,
                    spec.inputs.len() - 1,
                    TABLES.len() - 1
                ),
            });
        }
        let spec = Arc::new(spec);
        Recursion::new(&spec)?;
        Ok(Self { spec })
    }
}

impl OperatorFactory for RecursionFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Recursion::new(&self.spec)?))
    }
}

/// Rows made from rows.
struct Recursion {
    spec: Arc<RecursionSpec>,
    term: Term,
    /// With `UNION`: all rows that are there, each once.
    seen: Option<GroupKeys>,
    inputs: Vec<KeptInput>,
    /// What came at the end is evaluated.
    done: bool,
}

/// The rows of one port.
struct KeptInput {
    rows: Rows,
    log: RowLog,
}

impl Recursion {
    fn new(spec: &Arc<RecursionSpec>) -> Result<Self> {
        let start = &spec.inputs[0];
        let types = || start.fields().iter().map(|field| field.data_type().clone()).collect();
        let input = |(port, schema): (usize, &SchemaRef)| -> Result<KeptInput> {
            Ok(KeptInput { rows: Rows::new(schema, spec.retracting[port])?, log: RowLog::new(TABLES[port], schema) })
        };
        Ok(Self {
            term: Term::new(spec)?,
            seen: spec.distinct.then(|| GroupKeys::new(types())).transpose()?,
            inputs: spec.inputs.iter().enumerate().map(input).collect::<Result<_>>()?,
            done: false,
            spec: Arc::clone(spec),
        })
    }

    /// Makes rows until none is new: `ports` are the rows that came, those that come out are handed to `made`. `bounded`: the limits of a
    /// step hold, and not what many steps have made.
    fn iterate(
        &mut self,
        mut ports: Vec<Vec<Delta>>,
        context: &StepContext,
        bounded: bool,
        made: &mut dyn FnMut(Delta),
    ) -> Result<()> {
        let mut work = std::mem::take(&mut ports[0]);
        let (mut iterations, mut rows) = (0, 0);
        loop {
            work = self.new_rows(work)?;
            rows += work.iter().map(|delta| delta.rows() as u64).sum::<u64>();
            work.iter().for_each(|delta| made(delta.clone()));
            if work.is_empty() && ports.iter().all(Vec::is_empty) {
                return Ok(());
            }
            if bounded && (iterations == self.spec.iterations_max || rows > self.spec.rows_max) {
                return Err(self.runaway(iterations, rows));
            }
            iterations += 1;
            ports[0] = work;
            work = self.term.run(std::mem::replace(&mut ports, vec![Vec::new(); self.spec.inputs.len()]), context)?;
        }
    }

    fn runaway(&self, iterations: u64, rows: u64) -> EngineError {
        let (bound, setting) = match rows > self.spec.rows_max {
            true => (format!("made {rows} rows"), "eagre.sql.recursion_rows_max"),
            false => (format!("was not at its end after {iterations} iterations"), "eagre.sql.recursion_max"),
        };
        let way = match self.spec.distinct {
            true => "let a condition end it",
            false => "let a condition end it, or write `UNION`, which makes nothing of a row that was there",
        };
        EngineError::limit(format!(
            "the recursive query `{}` {bound} in one step; {way}, or raise `{setting}`",
            self.spec.name
        ))
    }

    /// What is new among rows of the part or of the start, as rows that come once each.
    fn new_rows(&mut self, deltas: Vec<Delta>) -> Result<Vec<Delta>> {
        let schema = &self.spec.inputs[0];
        let mut new = Vec::with_capacity(deltas.len());
        for delta in deltas.into_iter().filter(|delta| !delta.is_empty()) {
            let columns = delta.batch.columns().to_vec();
            let batch = batch_of(schema, columns, delta.rows())?;
            let places: Option<Vec<u32>> = match &mut self.seen {
                Some(seen) => Some(first_seen(seen, batch.columns(), delta.rows())?),
                None => delta.weights.as_ref().map(repeated).transpose()?,
            };
            let delta = Delta::insert(batch);
            match places {
                None => new.push(delta),
                Some(places) => {
                    for places in places.chunks(DELTA_ROWS_MAX) {
                        new.push(delta.take(&UInt32Array::from(places.to_vec()))?);
                    }
                }
            }
        }
        Ok(new)
    }

    /// Keeps what came.
    fn keep(&mut self, ports: &[Vec<Delta>], logs: bool) -> Result<()> {
        for (input, deltas) in self.inputs.iter_mut().zip(ports) {
            let mut changes = Vec::new();
            for delta in deltas.iter().filter(|delta| !delta.is_empty()) {
                if logs {
                    input.log.push(delta)?;
                }
                input.rows.apply(delta, &mut changes)?;
            }
            let mut gone: Vec<u32> = changes.iter().map(|change| change.id).collect();
            gone.sort_unstable();
            gone.dedup();
            gone.retain(|id| input.rows.weight(*id) == 0);
            input.rows.remove(&gone)?;
        }
        Ok(())
    }

    /// All rows of the inputs, as rows that come once each.
    fn all(&self) -> Result<Vec<Vec<Delta>>> {
        let of_input = |input: &KeptInput| -> Result<Vec<Delta>> {
            let ids: Vec<u32> = input.rows.live_ids();
            let copies = |id: &u32| std::iter::repeat_n(*id, input.rows.weight(*id).max(0) as usize);
            let ids: Vec<u32> = ids.iter().flat_map(copies).collect();
            ids.chunks(DELTA_ROWS_MAX).map(|ids| Ok(Delta::insert(input.rows.take_batch(ids)?))).collect()
        };
        self.inputs.iter().map(of_input).collect()
    }
}

/// The rows that `seen` sees for the first time; it knows them from then on.
fn first_seen(seen: &mut GroupKeys, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
    // Nothing is ever forgotten, so slots are given out in order.
    let mut next = seen.slot_count() as u32;
    let mut slots = Vec::with_capacity(rows);
    seen.intern(columns, rows, &mut slots)?;
    let mut first = Vec::new();
    for (row, slot) in slots.iter().enumerate() {
        if *slot == next {
            first.push(row as u32);
            next += 1;
        }
    }
    Ok(first)
}

/// Rows as often as they come.
fn repeated(weights: &Int64Array) -> Result<Vec<u32>> {
    let mut places = Vec::with_capacity(weights.len());
    for (row, weight) in weights.values().iter().enumerate() {
        if *weight < 0 {
            return Err(EngineError::bug("a recursive part takes rows back"));
        }
        places.extend(std::iter::repeat_n(row as u32, *weight as usize));
    }
    Ok(places)
}

impl Operator for Recursion {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let mut ports = input.ports;
        ports.iter_mut().for_each(|deltas| deltas.retain(|delta| !delta.is_empty()));
        self.keep(&ports, true)?;
        if self.spec.at_end {
            if self.done || input.watermarks.after != WATERMARK_MAX {
                return Ok(Progress::Done);
            }
            self.done = true;
            ports = self.all()?;
        }
        if ports.iter().any(|deltas| !deltas.is_empty()) {
            self.iterate(ports, input.context, true, &mut |delta| out.emit(delta))?;
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(DONE.into(), self.done.into());
        for (port, input) in self.inputs.iter_mut().enumerate() {
            let (rows, retracting) = (&input.rows, self.spec.retracting[port]);
            input.log.save(kind, state, || {
                let delta = |ids: &Vec<u32>| -> Result<Delta> {
                    let mut delta = Delta::insert(rows.take_batch(ids)?);
                    delta.weights = retracting.then(|| ids.iter().map(|id| rows.weight(*id)).collect());
                    Ok(delta)
                };
                rows.live_pieces().iter().map(delta).collect()
            })?;
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.done = state.metas.iter().any(|meta| meta.get(DONE).and_then(serde_json::Value::as_bool) == Some(true));
        let restored = |input: &mut KeptInput| input.log.restore(NAME, state, &[]);
        let ports = self.inputs.iter_mut().map(restored).collect::<Result<Vec<_>>>()?;
        self.keep(&ports, false)?;
        let all = self.all()?;
        if !self.spec.at_end && all.iter().any(|deltas| !deltas.is_empty()) {
            // Nothing that is computed here depends on the step, so any will do.
            self.iterate(all, &StepContext { step: 0, clock_ms: 0, seed: 0 }, false, &mut |_| {})?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let kept: usize = self.inputs.iter().map(|input| input.rows.bytes() + input.log.bytes()).sum();
        kept + self.seen.as_ref().map_or(0, GroupKeys::bytes) + self.term.state_bytes()
    }

    fn state_rows(&self) -> usize {
        self.inputs.iter().map(|input| input.rows.len()).sum()
    }
}

/// A graph that is run to its end in one call, on one thread.
struct Term {
    nodes: Vec<TermNode>,
    sources: Vec<NodeIndex>,
    result: NodeIndex,
}

struct TermNode {
    kind: TermKind,
    inputs: Vec<Edge>,
}

enum TermKind {
    /// The rows of this port.
    Source(usize),
    Operator(Box<dyn Operator>),
    Union(SchemaRef),
}

impl Term {
    fn new(spec: &RecursionSpec) -> Result<Self> {
        let mut nodes = Vec::with_capacity(spec.term.nodes.len());
        for (index, node) in spec.term.nodes.iter().enumerate() {
            let kind = match &node.kind {
                NodeKind::Source(_) => {
                    let port = spec.sources.iter().position(|source| *source == index);
                    TermKind::Source(port.ok_or_else(|| EngineError::bug("a recursive part has a source of its own"))?)
                }
                NodeKind::Operator(factory) => {
                    let mut operator = factory.create()?;
                    operator.restore(&StateReader { chunks: &[], metas: &[], owned: HashGroups::of_shard(0, 1) })?;
                    TermKind::Operator(operator)
                }
                NodeKind::Union => TermKind::Union(Arc::clone(&node.output.schema)),
                NodeKind::Sink(_) => return Err(EngineError::bug("a recursive part has a sink")),
            };
            nodes.push(TermNode { kind, inputs: node.inputs.clone() });
        }
        Ok(Self { nodes, sources: spec.sources.clone(), result: spec.result })
    }

    /// What the rows of the ports add to the result.
    fn run(&mut self, mut ports: Vec<Vec<Delta>>, context: &StepContext) -> Result<Vec<Delta>> {
        debug_assert_eq!(ports.len(), self.sources.len());
        let mut outputs: Vec<Vec<Delta>> = Vec::with_capacity(self.nodes.len());
        for node in &mut self.nodes {
            let inputs: Vec<Vec<Delta>> = node.inputs.iter().map(|edge| outputs[edge.from].clone()).collect();
            outputs.push(match &mut node.kind {
                TermKind::Source(port) => std::mem::take(&mut ports[*port]),
                TermKind::Union(schema) => {
                    let renamed = |delta: Delta| -> Result<Delta> {
                        let batch = batch_of(schema, delta.batch.columns().to_vec(), delta.rows())?;
                        Ok(delta.with_batch(batch))
                    };
                    inputs.into_iter().flatten().map(renamed).collect::<Result<_>>()?
                }
                TermKind::Operator(operator) => {
                    let mut out = Output::default();
                    let input = Input { ports: inputs, context, watermarks: Watermarks::NONE };
                    match operator.step(input, &mut out)? {
                        Progress::Done => out.deltas,
                        Progress::Pending(_) => return Err(EngineError::bug("a recursive part waits for something")),
                    }
                }
            });
        }
        Ok(outputs.swap_remove(self.result))
    }

    fn state_bytes(&self) -> usize {
        let bytes = |node: &TermNode| match &node.kind {
            TermKind::Operator(operator) => operator.state_bytes(),
            _ => 0,
        };
        self.nodes.iter().map(bytes).sum()
    }
}
