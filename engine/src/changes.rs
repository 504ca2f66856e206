//! The changes of a step in the words of a changelog.
//!
//! Inside, a change is a row with a weight, and deltas of a step come in any order. A reader outside wants words and an order in
//! which they can be applied: what goes before what comes, and with a key, one change per key. A row that goes and comes again
//! unchanged (a filter or a projection may leave nothing else of an update) is no change. Rows of one key that go and come are paired
//! to updates; where a key has more of one than of the other, because the key that was declared is none, the rest are deletions and
//! insertions, so that the words still add up to the rows. A reader that only replaces by key gets the last row to come: by arrival
//! where rows are numbered, else the greatest, so that shards do not show.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use arrow_row::{RowConverter, Rows, SortField};

use crate::delta::{Delta, take_batch};
use crate::error::Result;
use crate::keys::GroupKeys;

/// What happens to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeOp {
    /// `+I`: it comes.
    Insert,
    /// `-U`: it goes, and the row of its key that comes next stands in its place.
    UpdateBefore,
    /// `+U`: it comes in the place of a row of its key.
    UpdateAfter,
    /// `-D`: it goes.
    Delete,
}

impl ChangeOp {
    /// The word as changelogs write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// The operation of a word; `None`: there is no such word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "+I" => Some(Self::Insert),
            "-U" => Some(Self::UpdateBefore),
            "+U" => Some(Self::UpdateAfter),
            "-D" => Some(Self::Delete),
            _ => None,
        }
    }

    /// 1 for a row that comes, -1 for one that goes.
    pub fn weight(self) -> i64 {
        match self {
            Self::Insert | Self::UpdateAfter => 1,
            Self::UpdateBefore | Self::Delete => -1,
        }
    }
}

/// Rows and what happens to each, in the order in which they are to be applied.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The rows.
    pub rows: RecordBatch,
    /// One for each row.
    pub ops: Vec<ChangeOp>,
}

/// What a step does to one key.
#[derive(Default, Clone)]
struct KeyChanges {
    going: Vec<u32>,
    coming: Vec<u32>,
}

impl Changes {
    /// The changes that the deltas of a step make.
    ///
    /// Without `key` (indices of columns), rows that go come first, each as often as its weight says. With a key (of no columns: there is
    /// one row at most) there is one change per key, in the order in which the keys are first seen: an insertion, an old and a new row, or a deletion. `upsert`: the old row is
    /// left out, because the new one replaces it by key.
    pub fn of_step(deltas: &[Delta], key: Option<&[usize]>, upsert: bool) -> Result<Self> {
        let rows = match deltas {
            [] => return Ok(Self { rows: RecordBatch::new_empty(Arc::new(Schema::empty())), ops: Vec::new() }),
            [only] => only.batch.clone(),
            [first, ..] => concat_batches(&first.batch.schema(), deltas.iter().map(|delta| &delta.batch))?,
        };
        let weights: Option<Vec<i64>> = deltas.iter().any(|delta| delta.weights.is_some()).then(|| {
            let each = deltas.iter().flat_map(|delta| (0..delta.rows()).map(|row| delta.weight(row)));
            each.collect()
        });
        let (indices, ops) = match (&weights, key, upsert) {
            (None, None, _) | (None, _, false) => {
                return Ok(Self { ops: vec![ChangeOp::Insert; rows.num_rows()], rows });
            }
            (Some(weights), None, _) => without_key(&rows, weights)?,
            (weights, Some(key), _) => by_key(deltas, &rows, weights.as_deref(), key, upsert)?,
        };
        if indices.len() == rows.num_rows() && indices.iter().enumerate().all(|(place, row)| place == *row as usize) {
            return Ok(Self { rows, ops });
        }
        Ok(Self { rows: take_batch(&rows, &UInt32Array::from(indices))?, ops })
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

fn without_key(rows: &RecordBatch, weights: &[i64]) -> Result<(Vec<u32>, Vec<ChangeOp>)> {
    let net = net_weights(rows, Some(weights))?;
    let (mut indices, mut ops) = (Vec::new(), Vec::new());
    for (sign, op) in [(-1, ChangeOp::Delete), (1, ChangeOp::Insert)] {
        for (row, weight) in net.iter().filter(|(_, weight)| weight.signum() == sign) {
            for _ in 0..weight.unsigned_abs() {
                indices.push(*row);
                ops.push(op);
            }
        }
    }
    Ok((indices, ops))
}

fn by_key(
    deltas: &[Delta],
    rows: &RecordBatch,
    weights: Option<&[i64]>,
    key: &[usize],
    upsert: bool,
) -> Result<(Vec<u32>, Vec<ChangeOp>)> {
    let columns: Vec<ArrayRef> = key.iter().map(|column| Arc::clone(rows.column(*column))).collect();
    let types = columns.iter().map(|column| column.data_type().clone()).collect();
    let mut keys = GroupKeys::new(types)?;
    let mut slots = Vec::new();
    keys.intern(&columns, rows.num_rows(), &mut slots)?;
    let mut changes = vec![KeyChanges::default(); keys.slot_count()];
    for (row, weight) in net_weights(rows, weights)? {
        let change = &mut changes[slots[row as usize] as usize];
        let side = if weight > 0 { &mut change.coming } else { &mut change.going };
        side.extend(std::iter::repeat_n(row, weight.unsigned_abs() as usize));
    }
    let ordinals: Option<Vec<u64>> = deltas.iter().all(|delta| delta.ordinals.is_some()).then(|| {
        deltas.iter().flat_map(|delta| delta.ordinals.iter().flat_map(|o| o.values().iter().copied())).collect()
    });
    let mut order = LastRow { rows, ordinals, encoded: None };
    let (mut indices, mut ops) = (Vec::with_capacity(rows.num_rows()), Vec::with_capacity(rows.num_rows()));
    let mut push = |row: u32, op: ChangeOp| {
        indices.push(row);
        ops.push(op);
    };
    for KeyChanges { going, coming } in &changes {
        if upsert {
            match (order.last(coming)?, going.last()) {
                (Some(row), None) => push(row, ChangeOp::Insert),
                (Some(row), Some(_)) => push(row, ChangeOp::UpdateAfter),
                (None, Some(row)) => push(*row, ChangeOp::Delete),
                (None, None) => {}
            }
            continue;
        }
        let pairs = going.len().min(coming.len());
        going[pairs..].iter().for_each(|row| push(*row, ChangeOp::Delete));
        for (old, new) in going.iter().zip(coming) {
            push(*old, ChangeOp::UpdateBefore);
            push(*new, ChangeOp::UpdateAfter);
        }
        coming[pairs..].iter().for_each(|row| push(*row, ChangeOp::Insert));
    }
    Ok((indices, ops))
}

/// The rows whose weights do not cancel out, each distinct row once where something goes; in the order of their last appearance.
fn net_weights(rows: &RecordBatch, weights: Option<&[i64]>) -> Result<Vec<(u32, i64)>> {
    let Some(weights) = weights else {
        return Ok((0..rows.num_rows() as u32).map(|row| (row, 1)).collect());
    };
    let each = || weights.iter().enumerate().map(|(row, weight)| (row as u32, *weight)).collect();
    if weights.iter().all(|weight| *weight > 0) {
        return Ok(each());
    }
    let types = rows.columns().iter().map(|column| column.data_type().clone()).collect();
    // Values that cannot be compared (maps) are taken to differ.
    let Ok(mut distinct) = GroupKeys::new(types) else {
        return Ok(each());
    };
    let mut slots = Vec::new();
    distinct.intern(rows.columns(), rows.num_rows(), &mut slots)?;
    let mut net = vec![(0, 0_i64); distinct.slot_count()];
    for (row, slot) in slots.iter().enumerate() {
        let entry = &mut net[*slot as usize];
        *entry = (row as u32, entry.1 + weights[row]);
    }
    net.retain(|(_, weight)| *weight != 0);
    net.sort_unstable_by_key(|(row, _)| *row);
    Ok(net)
}

/// Which of several rows of a key came last.
struct LastRow<'a> {
    rows: &'a RecordBatch,
    ordinals: Option<Vec<u64>>,
    /// All rows in a form that can be compared; made when first needed.
    encoded: Option<Rows>,
}

impl LastRow<'_> {
    fn last(&mut self, rows: &[u32]) -> Result<Option<u32>> {
        if rows.len() <= 1 {
            return Ok(rows.first().copied());
        }
        if let Some(ordinals) = &self.ordinals {
            return Ok(rows.iter().copied().max_by_key(|row| ordinals[*row as usize]));
        }
        if self.encoded.is_none() {
            let types = self.rows.columns().iter().map(|column| SortField::new(column.data_type().clone()));
            let types: Vec<SortField> = types.collect();
            if !RowConverter::supports_fields(&types) {
                return Ok(rows.last().copied());
            }
            self.encoded = Some(RowConverter::new(types)?.convert_columns(self.rows.columns())?);
        }
        let encoded = self.encoded.as_ref().expect("it was just made");
        Ok(rows.iter().copied().max_by(|a, b| encoded.row(*a as usize).cmp(&encoded.row(*b as usize))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
    use proptest::prelude::*;

    use super::*;

    fn schema() -> SchemaRef {
        let field = |name| Field::new(name, DataType::Int64, false);
        Arc::new(Schema::new(vec![field("key"), field("value")]))
    }

    fn delta(rows: &[(i64, i64, i64)]) -> Delta {
        let column = |of: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
        };
        let batch = RecordBatch::try_new(schema(), vec![column(|row| row.0), column(|row| row.1)]).expect("a batch");
        Delta::weighted(batch, Int64Array::from_iter_values(rows.iter().map(|row| row.2)))
    }

    fn words(rows: &[(i64, i64, i64)], key: Option<&[usize]>, upsert: bool) -> Vec<String> {
        let changes = Changes::of_step(&[delta(rows)], key, upsert).expect("changes");
        shown(&changes).into_iter().map(|(op, key, value)| format!("{}({key},{value})", op.word())).collect()
    }

    fn shown(changes: &Changes) -> Vec<(ChangeOp, i64, i64)> {
        let column = |index: usize| changes.rows.column(index).as_primitive::<Int64Type>().values().to_vec();
        let (keys, values) = (column(0), column(1));
        changes.ops.iter().zip(keys.into_iter().zip(values)).map(|(op, (key, value))| (*op, key, value)).collect()
    }

    /// A sink with a primary key shows one change per key and step, whatever the deltas are made of.
    #[test]
    fn one_change_per_key() {
        let rows = [(1, 11, 1), (2, 20, -1), (1, 10, -1), (3, 30, 1), (4, 40, -1), (4, 40, 1)];
        assert_eq!(words(&rows, Some(&[0]), false), ["-U(1,10)", "+U(1,11)", "-D(2,20)", "+I(3,30)"]);
        assert_eq!(words(&rows, Some(&[0]), true), ["+U(1,11)", "-D(2,20)", "+I(3,30)"]);
        assert_eq!(words(&[(1, 5, -1), (1, 6, 2)], None, false), ["-D(1,5)", "+I(1,6)", "+I(1,6)"]);
        assert_eq!(words(&[(1, 5, -1), (1, 6, 1)], Some(&[]), false), ["-U(1,5)", "+U(1,6)"]);
    }

    /// A primary key that does not hold: the words still add up in retract mode, and the greatest row stands in upsert mode.
    #[test]
    fn a_key_that_is_none() {
        let rows = [(1, 11, 1), (1, 12, 1), (1, 10, -1)];
        assert_eq!(words(&rows, Some(&[0]), false), ["-U(1,10)", "+U(1,11)", "+I(1,12)"]);
        assert_eq!(words(&rows, Some(&[0]), true), ["+U(1,12)"]);
    }

    /// Appended rows of one key in one step: the last to arrive stands, whichever shard brought it first.
    #[test]
    fn the_last_to_arrive_stands() {
        let mut first = Delta::insert(delta(&[(1, 7, 1), (2, 1, 1)]).batch);
        first.ordinals = Some(vec![5, 6].into());
        let mut second = Delta::insert(delta(&[(1, 9, 1)]).batch);
        second.ordinals = Some(vec![4].into());
        let changes = Changes::of_step(&[first, second], Some(&[0]), true).expect("changes");
        assert_eq!(shown(&changes), [(ChangeOp::Insert, 1, 7), (ChangeOp::Insert, 2, 1)]);
    }

    proptest! {
        /// The words of a step add up to what its weights add up to.
        #[test]
        fn words_add_up(rows in proptest::collection::vec((0_i64..4, 0_i64..4, -2_i64..3), 0..40), keyed in any::<bool>()) {
            let rows: Vec<_> = rows.into_iter().filter(|row| row.2 != 0).collect();
            let key: Option<&[usize]> = keyed.then_some(&[0]);
            let changes = Changes::of_step(&[delta(&rows)], key, false).expect("changes");
            let mut sums = BTreeMap::<(i64, i64), i64>::new();
            for (key, value, weight) in rows {
                *sums.entry((key, value)).or_default() += weight;
            }
            for (op, key, value) in shown(&changes) {
                *sums.entry((key, value)).or_default() -= op.weight();
            }
            prop_assert!(sums.values().all(|sum| *sum == 0));
        }
    }
}
