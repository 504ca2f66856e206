//! Aggregate functions over many groups at once, in columns.
//!
//! Groups are dense slots (`u32`); an accumulator is a few vectors indexed by slot, so that updating a batch is one tight loop and a
//! checkpoint is a gather. State travels as Arrow columns: the same form feeds an exchange (local, then global aggregation), a
//! checkpoint and a merge of panes. What DataFusion knows and this room does not arrives behind the same trait from `sql`.
//!
//! Whatever can be is *linear*: counts, sums, averages, variances, booleans and bits keep sums over rows, so a row of weight -1 takes
//! back exactly what its row of weight 1 brought. What is not (minimum, maximum, first, last) keeps one value a group where rows are
//! only inserted, and a counted ordered multiset where they can be taken back. `DISTINCT` counts each value of each group and hands
//! on only those that come or go. [`builtin`] chooses.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt64Array};
use arrow::datatypes::{Field, FieldRef};

use crate::error::Result;

mod bits;
mod booleans;
mod builtin;
pub(crate) mod calls;
mod count;
mod distinct;
mod first_last;
mod float;
mod integer;
mod min_max;
mod multiset;
pub(crate) mod partial;
mod row_extremes;
pub(crate) mod select;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod total;

pub use builtin::{BuiltinRequest, builtin};
pub(crate) use count::Count;
pub use distinct::DistinctCall;
pub(crate) use float::{DoubleDouble, VarianceEntry, VarianceKind, sums_around};
pub(crate) use total::{Total, Weighted, sum_column};

/// What a batch brings to [`Accumulators::update`] besides the argument columns. All have as many values as there are rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowInfo<'a> {
    /// `FILTER (WHERE ..)`: rows where this is false or null do not count.
    pub filter: Option<&'a BooleanArray>,
    /// Weights of a retracting input.
    pub weights: Option<&'a Int64Array>,
    /// Arrival numbers, for functions that depend on order.
    pub ordinals: Option<&'a UInt64Array>,
}

/// Which slots to read.
#[derive(Debug, Clone, Copy)]
pub enum Slots<'a> {
    /// Slots `0..count`.
    First(usize),
    /// These slots, in this order.
    Some(&'a [u32]),
}

impl Slots<'_> {
    /// How many slots are meant.
    pub fn count(&self) -> usize {
        match self {
            Slots::First(count) => *count,
            Slots::Some(slots) => slots.len(),
        }
    }

    /// What `map` gives for each slot.
    pub fn map<U>(&self, map: impl Fn(usize) -> U) -> Vec<U> {
        match self {
            Slots::First(count) => (0..*count).map(map).collect(),
            Slots::Some(slots) => slots.iter().map(|slot| map(*slot as usize)).collect(),
        }
    }

    /// The value of each slot.
    pub fn gather<T: Copy, U>(&self, values: &[T], map: impl Fn(T) -> U) -> Vec<U> {
        match self {
            Slots::First(count) => values[..*count].iter().map(|value| map(*value)).collect(),
            Slots::Some(slots) => slots.iter().map(|slot| map(values[*slot as usize])).collect(),
        }
    }

    /// Sets each slot to `value`.
    pub fn fill<T: Copy>(&self, values: &mut [T], value: T) {
        match self {
            Slots::First(count) => values[..*count].fill(value),
            Slots::Some(slots) => slots.iter().for_each(|slot| values[*slot as usize] = value),
        }
    }

    /// The slots, one after the other.
    pub fn iter(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Slots::First(count) => Box::new(0..*count),
            Slots::Some(slots) => Box::new(slots.iter().map(|slot| *slot as usize)),
        }
    }
}

/// The accumulators of one aggregate function for all groups of an operator.
///
/// A slot that was never updated, or was cleared, is *empty*: it evaluates to what the function gives over no rows.
pub trait Accumulators: Send {
    /// Makes room for slots `0..count`; new ones are empty. Never shrinks.
    fn resize(&mut self, count: usize);

    /// Takes in rows: row `i` belongs to slot `slots[i]`. `args` are the argument columns.
    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()>;

    /// Takes in states: row `i` of the columns `state` (as [`state`](Self::state) gave them) is merged into `slots[i]`.
    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()>;

    /// The states of `slots` as columns, matching [`AggregateFunction::state_fields`]; the accumulators stay as they are.
    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>>;

    /// The results of `slots`; the accumulators stay as they are.
    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef>;

    /// Makes `slots` empty again.
    fn clear(&mut self, slots: Slots<'_>);

    /// Bytes held, about.
    fn state_bytes(&self) -> usize;
}

/// One aggregate function with its argument types fixed.
pub trait AggregateFunction: Send + Sync + fmt::Debug {
    /// As shown in `EXPLAIN`, for example `sum`.
    fn name(&self) -> &str;
    /// Fresh accumulators.
    fn create(&self) -> Result<Box<dyn Accumulators>>;
    /// The columns of a state; part of the checkpoint format.
    fn state_fields(&self) -> Vec<Field>;
    /// Name (ignored), type and nullability of the result.
    fn return_field(&self) -> FieldRef;
    /// Whether rows with negative weights are taken back exactly.
    fn supports_retraction(&self) -> bool;
    /// Whether its answer is the same, to the bit, however rows were cut into updates and however often it was asked for meanwhile.
    fn is_incremental(&self) -> bool {
        false
    }
    /// For `f(DISTINCT x)` whose values can be kept together with those of other calls over the same column: how. Its accumulators and its
    /// state are then made by whoever keeps them; by itself the function works all the same.
    fn distinct(&self) -> Option<&DistinctCall> {
        None
    }
}

/// A shared function.
pub type AggregateFunctionRef = Arc<dyn AggregateFunction>;

/// One aggregate of a query: a function and the input columns that it reads.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// The function.
    pub function: AggregateFunctionRef,
    /// Its arguments, as columns of the operator's input.
    pub args: Vec<usize>,
    /// `FILTER (WHERE ..)`, as a boolean column of the input.
    pub filter: Option<usize>,
}
