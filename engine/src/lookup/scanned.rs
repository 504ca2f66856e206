//! A table that can only be read from end to end, asked for keys: its rows are held in memory, found by key, until its data changes.
//!
//! Files have no index, so a request would read all of them. What they hold is the same as long as the source says so
//! ([`Source::revision`]); then a request costs a look at that and a probe for each key.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::SchemaRef;

use super::{LookupAnswer, LookupTable};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::graph::SourceNode;
use crate::keys::GroupKeys;
use crate::operator::chain::{ChainFactory, Stage, project};
use crate::operator::{Input, OperatorFactory, Output};
use crate::source::{BadRow, Places, SourceEvent, StopFlag};
use crate::time::Watermarks;

/// How often a table is read again that changes while it is read.
const READS_MAX: usize = 5;
/// No row.
const NONE: u32 = u32::MAX;

/// A bounded source with what is done to its rows, asked for keys.
pub struct ScannedTable {
    node: SourceNode,
    /// The columns that leave the node.
    source_schema: SchemaRef,
    stages: Vec<Stage>,
    schema: SchemaRef,
    keys: Vec<usize>,
    contents: Mutex<Option<Contents>>,
}

/// The rows of a table as it was at one moment.
struct Contents {
    revision: Option<String>,
    rows: RecordBatch,
    keys: GroupKeys,
    /// By slot of a key: its first row. By row: the next one of its key.
    first: Vec<u32>,
    next: Vec<u32>,
}

impl ScannedTable {
    /// The rows that leave `node`, with the columns `source_schema`, after `stages`, with the columns `schema`, of which `keys` are asked for.
    /// Nothing that is computed on the way may depend on the step.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared.
    pub fn new(
        node: SourceNode,
        source_schema: SchemaRef,
        stages: Vec<Stage>,
        schema: SchemaRef,
        keys: Vec<usize>,
    ) -> Result<Self> {
        let table = Self { node, source_schema, stages, schema, keys, contents: Mutex::new(None) };
        table.group_keys()?;
        Ok(table)
    }

    fn group_keys(&self) -> Result<GroupKeys> {
        GroupKeys::new(self.keys.iter().map(|key| self.schema.field(*key).data_type().clone()).collect())
    }

    fn error(&self, message: String) -> EngineError {
        EngineError::Lookup { table: self.node.table.clone(), message }
    }

    /// The table as it is now. One that changes while it is read is read again: a mix of old and new rows was never there.
    fn read(&self) -> Result<Contents> {
        for _ in 0..READS_MAX {
            let revision = self.node.source.revision()?;
            let rows = self.scan()?;
            if self.node.source.revision()? == revision {
                return self.index(revision, rows);
            }
        }
        Err(self.error(format!(
            "its data changed each of {READS_MAX} times while it was read; put a new file in the place of the old one by renaming it"
        )))
    }

    fn scan(&self) -> Result<RecordBatch> {
        let mut reader = self.node.source.open(&self.node.projection, &Places::new(), StopFlag::new())?;
        let mut chain = ChainFactory::new(self.stages.clone()).create()?;
        let context = StepContext { step: 0, clock_ms: 0, seed: 0 };
        let mut out = Output::default();
        loop {
            match reader.next()? {
                SourceEvent::End => break,
                SourceEvent::Batch(batch) => {
                    if let Some(bad) = batch.bad_rows.first() {
                        return Err(self.unreadable(bad));
                    }
                    let delta = Delta::insert(batch.batch);
                    let rows = project(&delta, &self.node.columns, &self.source_schema, &context)?;
                    let ports = vec![vec![Delta::insert(rows)]];
                    chain.step(Input { ports, context: &context, watermarks: Watermarks::NONE }, &mut out)?;
                }
                SourceEvent::Partitions(_) | SourceEvent::PartitionEnd(_) | SourceEvent::Waiting => {}
            }
        }
        Ok(concat_batches(&self.schema, out.deltas.iter().map(|delta| &delta.batch))?)
    }

    /// A table that is asked cannot say that a row is missing, so it does not answer without it.
    fn unreadable(&self, bad: &BadRow) -> EngineError {
        self.error(format!(
            "{} has a row at {} that cannot be read: {}; mend it, or name a file without it",
            bad.origin, bad.offset, bad.reason
        ))
    }

    fn index(&self, revision: Option<String>, rows: RecordBatch) -> Result<Contents> {
        if rows.num_rows() >= NONE as usize {
            return Err(self.error(format!("it has {} rows, too many to be looked up", rows.num_rows())));
        }
        let mut keys = self.group_keys()?;
        let mut slots = Vec::new();
        keys.intern(&columns_of(&rows, &self.keys), rows.num_rows(), &mut slots)?;
        let mut first = vec![NONE; keys.slot_count()];
        let mut next = vec![NONE; rows.num_rows()];
        // From the last to the first, so that the rows of a key come in their order.
        for (row, slot) in slots.iter().enumerate().rev() {
            next[row] = std::mem::replace(&mut first[*slot as usize], row as u32);
        }
        Ok(Contents { revision, rows, keys, first, next })
    }
}

fn columns_of(rows: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().map(|column| Arc::clone(rows.column(*column))).collect()
}

impl LookupTable for ScannedTable {
    fn describe(&self) -> String {
        self.node.source.describe()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn lookup(&self, keys: &[ArrayRef], count: usize) -> Result<LookupAnswer> {
        // Contents are replaced whole, so those that a panic left behind are good.
        let mut held = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = match held.as_ref() {
            Some(contents) => self.node.source.revision()? != contents.revision,
            None => true,
        };
        if is_new {
            *held = None;
            *held = Some(self.read()?);
        }
        let Some(contents) = held.as_mut() else {
            return Err(EngineError::bug("a table was read and has no contents"));
        };
        let mut slots = Vec::new();
        contents.keys.intern(keys, count, &mut slots)?;
        let (mut rows, mut of) = (Vec::new(), Vec::new());
        for (key, slot) in slots.iter().enumerate() {
            let mut row = contents.first.get(*slot as usize).copied().unwrap_or(NONE);
            while row != NONE {
                rows.push(row);
                of.push(key as u32);
                row = contents.next[row as usize];
            }
        }
        // Keys that the table does not have are not kept.
        let fresh = contents.keys.fresh().to_vec();
        contents.keys.remove(&fresh);
        let count = rows.len();
        let rows = UInt32Array::from(rows);
        let columns = contents.rows.columns().iter().map(|column| Ok(take(column, &rows, None)?));
        let rows = batch_of(&self.schema, columns.collect::<Result<_>>()?, count)?;
        Ok(LookupAnswer { rows, keys: of })
    }
}
