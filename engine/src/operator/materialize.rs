//! Keeps the rows of a materialized view, where readers find them.
//!
//! The rows are the operator's state, divided among shards by the hash of the view's key as any keyed state: they are saved with a
//! checkpoint, restored at another shard count, and counted with the memory. What readers see of them, and when, is told in [`crate::view`].

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::partial::check_chunk;
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::hash::hash_columns;
use crate::view::{Part, ViewStore};

/// Makes [`Materialize`]s.
pub struct MaterializeFactory {
    view: Arc<ViewStore>,
}

impl MaterializeFactory {
    /// Keeps the rows in `view`. The exchange before is by [`ViewStore::route`].
    pub fn new(view: Arc<ViewStore>) -> Self {
        Self { view }
    }
}

impl OperatorFactory for MaterializeFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn table(&self) -> Option<&str> {
        Some(&self.view.name)
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let mut fields: Vec<_> = self.view.schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("__weight", DataType::Int64, false)));
        Ok(Box::new(Materialize {
            part: self.view.new_part()?,
            view: Arc::clone(&self.view),
            saved: Arc::new(Schema::new(fields)),
            changed: Vec::new(),
            has_saved: false,
            version_bytes: 0,
        }))
    }
}

/// The operator's name.
pub const NAME: &str = "Materialize";
/// The table of a checkpoint: rows with weights, which add up to the view.
const ROWS: &str = "rows";

/// One shard's rows of a view.
pub struct Materialize {
    view: Arc<ViewStore>,
    part: Arc<Part>,
    saved: SchemaRef,
    /// Since the last save.
    changed: Vec<Delta>,
    /// Whether some store knows of our rows; before that, all of them are a change.
    has_saved: bool,
    /// Bytes of old versions, as the set of views knows them.
    version_bytes: u64,
}

impl Materialize {
    fn put(&self, rows: &RecordBatch, weights: Option<&Int64Array>, state: &mut StateWriter) -> Result<()> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.push(match weights {
            Some(weights) => Arc::new(weights.clone()),
            None => Arc::new(Int64Array::from_value(1, rows.num_rows())),
        });
        state.put(ROWS, batch_of(&self.saved, columns, rows.num_rows())?);
        Ok(())
    }
}

impl Operator for Materialize {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, _out: &mut Output) -> Result<Progress> {
        let deltas = input.single();
        let set = self.view.set();
        // Without a set nobody can read.
        let (horizon, merge) =
            set.as_ref().map_or((input.context.step, false), |set| (set.horizon(), set.is_over_budget()));
        let step = input.context.step;
        let changed = self.part.apply(step, &deltas, horizon.min(step), merge, &self.view.name)?;
        if horizon >= step {
            // Nobody reads, so nobody takes the changes.
            self.part.forget_changes();
        }
        if self.has_saved {
            self.changed.extend(changed);
        }
        if let Some(set) = set {
            let (_, version_bytes) = self.part.bytes();
            set.count_versions(std::mem::replace(&mut self.version_bytes, version_bytes), version_bytes);
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let changed = std::mem::take(&mut self.changed);
        if kind == SaveKind::Changes && self.has_saved {
            return changed.iter().try_for_each(|delta| self.put(&delta.batch, delta.weights.as_ref(), state));
        }
        self.has_saved = true;
        self.part.live()?.iter().try_for_each(|rows| self.put(rows, None, state))
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.part.own(state.owned);
        self.has_saved = !state.chunks.is_empty();
        let mut deltas = Vec::with_capacity(state.chunks.len());
        let mut hashes = Vec::new();
        for chunk in state.chunks {
            check_chunk(NAME, chunk, &self.saved)?;
            let keys: Vec<ArrayRef> =
                self.view.route.iter().map(|column| Arc::clone(chunk.rows.column(*column))).collect();
            hash_columns(&keys, chunk.rows.num_rows(), &mut hashes)?;
            let mine: BooleanArray = hashes.iter().map(|hash| Some(state.owned.owns(*hash))).collect();
            let mut rows = filter_record_batch(&chunk.rows, &mine)?;
            let weights = rows.remove_column(self.view.schema.fields().len()).as_primitive::<Int64Type>().clone();
            let plain = weights.values().iter().all(|weight| *weight == 1);
            deltas.push(if plain { Delta::insert(rows) } else { Delta::weighted(rows, weights) });
        }
        // They add up: what went is never seen.
        self.part.apply(0, &deltas, 0, false, &self.view.name)?;
        self.part.forget_changes();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.part.bytes().0
    }

    fn state_rows(&self) -> usize {
        self.part.live_rows()
    }
}
