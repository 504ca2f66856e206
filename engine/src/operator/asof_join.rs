//! The `ASOF` join: each left row meets the nearest right row of its key, and keeps meeting it while both inputs change.
//!
//! Rows of both sides lie in the order of the compared column ([`OrderedIndex`]), and each left row remembers the right row that it was
//! shown with. A right row that comes or goes can only concern the left rows between it and the next right row of its key: those, and
//! the left rows of the step, are looked up again, and those whose match is another one are shown anew. So a step costs the logarithm of
//! the history for each of its rows and for each row that it changes, and after every step the changes add up to the join of all rows so
//! far.
//!
//! Of right rows with an equal value the one that arrived last wins; where rows have no arrival numbers, the one with the greatest
//! contents, so that the answer does not depend on shards. What null is compared with matches nothing: such right rows are not kept, such
//! left rows pass through an outer join at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array, UInt64Array};
use arrow::compute::{is_not_null, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::group_aggregate::same_rows;
use super::ordered::{Contents, Entry, OrderedIndex, Position, Positions};
use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::keys::GroupKeys;
use crate::rows::{RowChange, RowLog, Rows};

/// How the left value compares with the right value that it looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsofComparison {
    /// `left >= right`: the greatest right value that is not above.
    GreaterOrEqual,
    /// `left > right`: the greatest right value below.
    Greater,
    /// `left <= right`: the least right value that is not below.
    LessOrEqual,
    /// `left < right`: the least right value above.
    Less,
}

impl AsofComparison {
    /// Whether an equal value matches.
    pub fn is_inclusive(self) -> bool {
        matches!(self, Self::GreaterOrEqual | Self::LessOrEqual)
    }

    /// Whether it looks for right values above.
    pub fn is_upward(self) -> bool {
        matches!(self, Self::LessOrEqual | Self::Less)
    }

    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::LessOrEqual => "<=",
            Self::Less => "<",
        }
    }
}

/// One input of the join.
#[derive(Clone, Debug)]
pub struct AsofSide {
    /// The columns that come.
    pub schema: SchemaRef,
    /// The columns that must be equal to those of the other side, in the same order and of the same types.
    pub keys: Vec<usize>,
    /// The compared column.
    pub by: usize,
    /// The columns that leave.
    pub output: Vec<usize>,
    /// Whether rows have weights.
    pub retracts: bool,
}

/// What an `ASOF` join does.
#[derive(Clone, Debug)]
pub struct AsofJoinPlan {
    /// Port 0: each of its rows is shown once at most.
    pub left: AsofSide,
    /// Port 1.
    pub right: AsofSide,
    /// `left.by` against `right.by`.
    pub comparison: AsofComparison,
    /// Whether a left row without a match is shown, with nulls.
    pub outer: bool,
    /// Whether right rows carry arrival numbers.
    pub right_ordinals: bool,
    /// The columns of the right side's primary key, the least of which wins where several rows are as near; without them the row that arrived
    /// last does.
    pub right_key: Vec<usize>,
}

impl AsofJoinPlan {
    /// The left columns that leave, then the right ones; these are nullable in an outer join.
    pub fn output_schema(&self) -> SchemaRef {
        let left = self.left.output.iter().map(|column| self.left.schema.field(*column).clone());
        let right = self.right.output.iter().map(|column| {
            let field: Field = self.right.schema.field(*column).clone();
            let nullable = field.is_nullable() || self.outer;
            field.with_nullable(nullable)
        });
        Arc::new(Schema::new(left.chain(right).collect::<Vec<_>>()))
    }

    /// # Errors
    /// Columns that cannot be compared with each other.
    pub(super) fn check(&self) -> Result<()> {
        let types = |side: &AsofSide| -> Vec<DataType> {
            let columns = side.keys.iter().chain([&side.by]);
            columns.map(|column| side.schema.field(*column).data_type().clone()).collect()
        };
        match types(&self.left) == types(&self.right) {
            true => Ok(()),
            false => Err(EngineError::bug("an ASOF join compares columns of different types")),
        }
    }

    fn ties(&self) -> Ties<'_> {
        match self.right_ordinals {
            true => Ties::Arrival,
            false => Ties::Key(&self.right_key),
        }
    }

    pub(super) fn key_types(&self) -> Vec<DataType> {
        self.left.keys.iter().map(|column| self.left.schema.field(*column).data_type().clone()).collect()
    }
}

/// Makes [`AsofJoin`]s.
pub struct AsofJoinFactory {
    plan: Arc<AsofJoinPlan>,
}

impl AsofJoinFactory {
    /// # Errors
    /// Columns that cannot be compared with each other.
    pub fn new(plan: AsofJoinPlan) -> Result<Self> {
        plan.check()?;
        let factory = Self { plan: Arc::new(plan) };
        AsofJoin::new(&factory.plan)?;
        Ok(factory)
    }

    /// See [`AsofJoinPlan::output_schema`]. Rows that leave have weights.
    pub fn output_schema(&self) -> SchemaRef {
        self.plan.output_schema()
    }
}

impl OperatorFactory for AsofJoinFactory {
    fn name(&self) -> &'static str {
        "AsofJoin"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(AsofJoin::new(&self.plan)?))
    }
}

/// An `ASOF` join of two inputs that change.
pub struct AsofJoin {
    plan: Arc<AsofJoinPlan>,
    output: SchemaRef,
    keys: KeySlots,
    left: Side,
    right: Side,
    /// By left id: the right row that it was shown with.
    matched: Vec<u32>,
}

/// No right row.
const NONE: u32 = u32::MAX;
/// The tables of a checkpoint.
const LEFT: &str = "left";
const RIGHT: &str = "right";

/// The keys of both sides.
pub(super) struct KeySlots {
    pub(super) keys: GroupKeys,
    /// By slot: how many rows are in the indices.
    rows: Vec<u32>,
    /// The slots of the batch at hand.
    pub(super) slots: Vec<u32>,
    /// Slots that may have no rows left.
    suspects: Vec<u32>,
}

impl KeySlots {
    pub(super) fn new(types: Vec<DataType>) -> Result<Self> {
        Ok(Self { keys: GroupKeys::new(types)?, rows: Vec::new(), slots: Vec::new(), suspects: Vec::new() })
    }

    /// Finds or makes the slots of the rows of a batch.
    pub(super) fn intern(&mut self, delta: &Delta, columns: &[usize]) -> Result<()> {
        let columns: Vec<ArrayRef> = columns.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
        self.keys.intern(&columns, delta.rows(), &mut self.slots)?;
        self.rows.resize(self.keys.slot_count(), 0);
        for slot in self.keys.fresh() {
            self.rows[*slot as usize] = 0;
            self.suspects.push(*slot);
        }
        Ok(())
    }

    pub(super) fn add(&mut self, slot: u32) {
        self.rows[slot as usize] += 1;
    }

    pub(super) fn release(&mut self, slot: u32) {
        let rows = &mut self.rows[slot as usize];
        *rows -= 1;
        if *rows == 0 {
            self.suspects.push(slot);
        }
    }

    /// Forgets the keys without rows.
    pub(super) fn sweep(&mut self) {
        let mut empty = std::mem::take(&mut self.suspects);
        empty.retain(|slot| self.rows[*slot as usize] == 0);
        empty.sort_unstable();
        empty.dedup();
        self.keys.remove(&empty);
    }

    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + (self.rows.capacity() + self.slots.capacity()) * 4
    }
}

/// The rows of one input.
struct Side {
    rows: Rows,
    log: RowLog,
    index: OrderedIndex,
    positions: Positions,
    /// How ties are told apart where rows have no arrival numbers.
    contents: Option<Contents>,
    /// By id: when the row last arrived.
    arrivals: Vec<u64>,
    ordinals: bool,
    retracts: bool,
    /// The rows that the step concerns, each once.
    touched: Vec<Touched>,
    /// By id: whether it is in `touched`.
    in_step: Vec<bool>,
    changes: Vec<RowChange>,
}

/// Which of the rows of one value comes last.
enum Ties<'a> {
    /// The one that arrived last.
    Arrival,
    /// The one with the least key, of equals the greatest row.
    Key(&'a [usize]),
}

/// A row that the step concerns.
struct Touched {
    /// Its place before the step.
    entry: Entry,
    /// Its weight before the step.
    before: i64,
}

impl Side {
    fn new(side: &AsofSide, table: &'static str, reversed: bool, ties: Option<Ties<'_>>) -> Result<Self> {
        let schema = &side.schema;
        let (contents, ordinals) = match ties {
            None => (None, false),
            Some(Ties::Arrival) => (None, true),
            Some(Ties::Key(key)) => (Some(Contents::new(schema, key)?), false),
        };
        Ok(Self {
            rows: Rows::new(schema, side.retracts)?,
            log: RowLog::new(table, schema),
            index: OrderedIndex::default(),
            positions: Positions::new(schema.field(side.by).data_type(), reversed)?,
            contents,
            arrivals: Vec::new(),
            ordinals,
            retracts: side.retracts,
            touched: Vec::new(),
            in_step: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// Stores rows, all of which can be compared, and notes which stored rows they concern.
    fn take_in(&mut self, side: &AsofSide, keys: &mut KeySlots, delta: &Delta) -> Result<()> {
        keys.intern(delta, &side.keys)?;
        let places = self.positions.of(delta.batch.column(side.by))?;
        let mut ties = match &self.contents {
            Some(contents) => contents.of(&delta.batch)?.into_iter(),
            None => Vec::new().into_iter(),
        };
        let ordinals = match (self.ordinals, &delta.ordinals) {
            (true, None) => return Err(EngineError::bug("an ASOF join without the arrival numbers it was promised")),
            (true, ordinals) => ordinals.as_ref(),
            (false, _) => None,
        };
        self.changes.clear();
        self.rows.apply(delta, &mut self.changes)?;
        self.in_step.resize(self.rows.id_bound(), false);
        if self.ordinals {
            self.arrivals.resize(self.rows.id_bound(), 0);
        }
        for (row, (change, at)) in self.changes.iter().zip(places).enumerate() {
            let id = change.id as usize;
            let tie = ties.next();
            if !std::mem::replace(&mut self.in_step[id], true) {
                if self.ordinals && change.before <= 0 {
                    self.arrivals[id] = 0;
                }
                let arrival = self.arrivals.get(id).map_or(0, |arrival| *arrival as i64);
                let tie = tie.unwrap_or(Position::Word(arrival));
                let entry = Entry { slot: keys.slots[row], at, tie, id: change.id };
                self.touched.push(Touched { entry, before: change.before });
            }
            if let Some(ordinals) = ordinals
                && change.after > change.before
            {
                self.arrivals[id] = self.arrivals[id].max(ordinals.value(row));
            }
        }
        Ok(())
    }

    /// Brings the index up to the rows that the step concerns; those that came, went, or arrived again are told.
    fn settle(&mut self, keys: &mut KeySlots, mut changed: impl FnMut(&Entry)) {
        for touched in &self.touched {
            let (was, is) = (touched.before > 0, self.rows.weight(touched.entry.id) > 0);
            let mut after = touched.entry.clone();
            if self.ordinals {
                after.tie = Position::Word(self.arrivals[after.id as usize] as i64);
            }
            if was && is && after == touched.entry {
                continue;
            }
            if was {
                self.index.remove(&touched.entry);
                keys.release(touched.entry.slot);
            }
            if is {
                keys.add(after.slot);
                self.index.insert(after);
            }
            if was || is {
                changed(&touched.entry);
            }
        }
    }

    /// The step is over: rows without weight are forgotten.
    fn finish(&mut self) -> Result<()> {
        let mut gone = Vec::new();
        for touched in self.touched.drain(..) {
            let id = touched.entry.id;
            self.in_step[id as usize] = false;
            if self.retracts && self.rows.weight(id) == 0 {
                gone.push(id);
            }
        }
        self.rows.remove(&gone)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let (rows, arrivals, retracts, ordinals) = (&self.rows, &self.arrivals, self.retracts, self.ordinals);
        self.log.save(kind, state, || {
            let delta = |ids: &Vec<u32>| -> Result<Delta> {
                let mut delta = Delta::insert(rows.take_batch(ids)?);
                if retracts {
                    delta.weights = Some(Int64Array::from_iter_values(ids.iter().map(|id| rows.weight(*id))));
                }
                if ordinals {
                    delta.ordinals = Some(UInt64Array::from_iter_values(ids.iter().map(|id| arrivals[*id as usize])));
                }
                Ok(delta)
            };
            rows.live_pieces().iter().map(delta).collect()
        })
    }

    fn bytes(&self) -> usize {
        self.rows.bytes()
            + self.log.bytes()
            + self.index.bytes()
            + self.arrivals.capacity() * 8
            + self.in_step.capacity()
    }
}

/// The rows of a delta that can be compared, and the others.
pub(super) fn split_nulls(delta: Delta, side: &AsofSide) -> Result<(Delta, Option<Delta>)> {
    let mut mask: Option<BooleanArray> = None;
    for column in side.keys.iter().chain([&side.by]) {
        let column = delta.batch.column(*column);
        if column.logical_null_count() > 0 {
            let valid = is_not_null(column)?;
            mask = Some(match mask {
                Some(mask) => arrow::compute::and(&mask, &valid)?,
                None => valid,
            });
        }
    }
    let Some(mask) = mask else {
        return Ok((delta, None));
    };
    let others = delta.filter(&arrow::compute::not(&mask)?)?;
    Ok((delta.filter(&mask)?, Some(others)))
}

/// `columns` with a null for each row whose `ids` entry is [`NONE`]; they hold the other rows in order.
pub(super) fn spread(columns: Vec<ArrayRef>, ids: impl ExactSizeIterator<Item = bool>) -> Result<Vec<ArrayRef>> {
    let mut next = 0;
    let places: UInt32Array = ids
        .map(|present| {
            present.then(|| {
                next += 1;
                next - 1
            })
        })
        .collect();
    match places.null_count() {
        0 => Ok(columns),
        _ => columns.iter().map(|column| Ok(take(column, &places, None)?)).collect(),
    }
}

/// A left row and its match, with what changes about the pair.
#[derive(Default)]
struct Pairs {
    left: Vec<u32>,
    right: Vec<u32>,
    weights: Vec<i64>,
}

impl Pairs {
    fn push(&mut self, left: u32, right: u32, weight: i64) {
        self.left.push(left);
        self.right.push(right);
        self.weights.push(weight);
    }
}

/// A left row that meets another right row than before.
struct Moved {
    left: u32,
    old: u32,
    new: u32,
    before: i64,
    after: i64,
}

impl AsofJoin {
    fn new(plan: &Arc<AsofJoinPlan>) -> Result<Self> {
        let reversed = plan.comparison.is_upward();
        Ok(Self {
            output: plan.output_schema(),
            keys: KeySlots::new(plan.key_types())?,
            left: Side::new(&plan.left, LEFT, reversed, None)?,
            right: Side::new(&plan.right, RIGHT, reversed, Some(plan.ties()))?,
            matched: Vec::new(),
            plan: Arc::clone(plan),
        })
    }

    /// Looks up again what the step concerns; tells the pairs that change.
    fn meet(&mut self) -> Result<Pairs> {
        let inclusive = self.plan.comparison.is_inclusive();
        let mut places = Vec::new();
        self.right.settle(&mut self.keys, |entry| places.push((entry.slot, entry.at.clone())));
        places.sort_unstable();
        places.dedup();
        self.left.settle(&mut self.keys, |_| {});
        self.matched.resize(self.left.rows.id_bound(), NONE);
        for (slot, at) in &places {
            let next = self.right.index.next_value(*slot, at);
            for entry in self.left.index.reach(*slot, at, next, inclusive) {
                if !std::mem::replace(&mut self.left.in_step[entry.id as usize], true) {
                    let before = self.left.rows.weight(entry.id);
                    self.left.touched.push(Touched { entry: entry.clone(), before });
                }
            }
        }
        let mut pairs = Pairs::default();
        let mut moved = Vec::new();
        let outer = self.plan.outer;
        for Touched { entry, before } in &self.left.touched {
            let (before, after) = ((*before).max(0), self.left.rows.weight(entry.id).max(0));
            let found = match after > 0 {
                true => self.right.index.nearest(entry.slot, &entry.at, inclusive).map_or(NONE, |right| right.id),
                false => NONE,
            };
            let shown = std::mem::replace(&mut self.matched[entry.id as usize], found);
            let old = if before > 0 { shown } else { NONE };
            if before > 0 && after > 0 && old != NONE && found != NONE && old != found {
                moved.push(Moved { left: entry.id, old, new: found, before, after });
            } else if before > 0 && after > 0 && old == found {
                if before != after && (outer || old != NONE) {
                    pairs.push(entry.id, old, after - before);
                }
            } else {
                if before > 0 && (outer || old != NONE) {
                    pairs.push(entry.id, old, -before);
                }
                if after > 0 && (outer || found != NONE) {
                    pairs.push(entry.id, found, after);
                }
            }
        }
        // Another row may look the same from outside.
        let shown = |of: fn(&Moved) -> u32| -> Result<Vec<ArrayRef>> {
            let ids: Vec<u32> = moved.iter().map(of).collect();
            self.right.rows.take(&ids, &self.plan.right.output)
        };
        let same = same_rows(&shown(|moved| moved.old)?, &shown(|moved| moved.new)?, moved.len())?;
        for (moved, same) in moved.iter().zip(same) {
            if !same {
                pairs.push(moved.left, moved.old, -moved.before);
                pairs.push(moved.left, moved.new, moved.after);
            } else if moved.before != moved.after {
                pairs.push(moved.left, moved.new, moved.after - moved.before);
            }
        }
        Ok(pairs)
    }

    fn emit(&self, pairs: Pairs, out: &mut Output) -> Result<()> {
        let rows = pairs.left.len();
        if rows == 0 {
            return Ok(());
        }
        let mut columns = self.left.rows.take(&pairs.left, &self.plan.left.output)?;
        let present: Vec<u32> = pairs.right.iter().copied().filter(|id| *id != NONE).collect();
        let right = self.right.rows.take(&present, &self.plan.right.output)?;
        columns.extend(spread(right, pairs.right.iter().map(|id| *id != NONE))?);
        out.emit(Delta::weighted(batch_of(&self.output, columns, rows)?, Int64Array::from(pairs.weights)));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.left.finish()?;
        self.right.finish()?;
        self.keys.sweep();
        Ok(())
    }
}

/// Left rows that match nothing, with nulls for the right columns.
pub(super) fn alone(plan: &AsofJoinPlan, output: &SchemaRef, delta: &Delta) -> Result<Delta> {
    let mut columns: Vec<ArrayRef> =
        plan.left.output.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
    let types = output.fields()[columns.len()..].iter().map(|field| field.data_type());
    columns.extend(types.map(|data_type| arrow::array::new_null_array(data_type, delta.rows())));
    let mut alone = delta.with_batch(batch_of(output, columns, delta.rows())?);
    alone.ordinals = None;
    Ok(alone)
}

impl Operator for AsofJoin {
    fn name(&self) -> &'static str {
        "AsofJoin"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let plan = Arc::clone(&self.plan);
        for delta in std::mem::take(&mut input.ports[1]) {
            let (delta, _) = split_nulls(delta, &plan.right)?;
            if !delta.is_empty() {
                self.right.log.push(&delta)?;
                self.right.take_in(&plan.right, &mut self.keys, &delta)?;
            }
        }
        for delta in std::mem::take(&mut input.ports[0]) {
            let (delta, others) = split_nulls(delta, &plan.left)?;
            if let Some(others) = others.filter(|others| plan.outer && !others.is_empty()) {
                let mut alone = alone(&plan, &self.output, &others)?;
                let ones = || Int64Array::from_value(1, others.rows());
                alone.weights = Some(alone.weights.unwrap_or_else(ones));
                out.emit(alone);
            }
            if !delta.is_empty() {
                self.left.log.push(&delta)?;
                self.left.take_in(&plan.left, &mut self.keys, &delta)?;
            }
        }
        let pairs = self.meet()?;
        self.emit(pairs, out)?;
        self.finish()?;
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        self.left.save(kind, state)?;
        self.right.save(kind, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        for delta in self.right.log.restore("AsofJoin", state, &plan.right.keys)? {
            self.right.take_in(&plan.right, &mut self.keys, &delta)?;
        }
        for delta in self.left.log.restore("AsofJoin", state, &plan.left.keys)? {
            self.left.take_in(&plan.left, &mut self.keys, &delta)?;
        }
        self.meet()?;
        self.finish()
    }

    fn state_bytes(&self) -> usize {
        self.keys.bytes() + self.left.bytes() + self.right.bytes() + self.matched.capacity() * 4
    }

    fn state_rows(&self) -> usize {
        self.left.rows.len() + self.right.rows.len()
    }
}

#[cfg(test)]
pub(super) mod tests;
