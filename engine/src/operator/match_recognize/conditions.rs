//! Conditions of rows, worked out for all rows of a step at once: one bitmap for each variable.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};

use super::rows::{Places, RowAt, View, scatter, take_or_null};
use super::{MatchSpec, RowCondition, Shifted};
use crate::delta::batch_of;
use crate::error::Result;
use crate::expr::StepContext;

/// Rows whose conditions are to be worked out.
pub(super) struct Fresh {
    pub(super) rows: Vec<RowAt>,
    /// For each distance at which conditions look, the row there of each of `rows`.
    pub(super) shifted: Vec<Vec<Option<RowAt>>>,
}

impl Fresh {
    /// Rows of partitions, each partition's by their positions, one partition after the other.
    pub(super) fn of<'a>(distinct: &Distinct, rows: impl Iterator<Item = (View<'a>, Range<u64>)>) -> Self {
        let mut fresh = Self { rows: Vec::new(), shifted: vec![Vec::new(); distinct.shifts.len()] };
        for (view, positions) in rows {
            fresh.rows.extend(positions.clone().filter_map(|position| view.at(position)));
            for (by, shifted) in distinct.shifts.iter().zip(&mut fresh.shifted) {
                let at = |position: u64| position.checked_add_signed(*by).and_then(|position| view.at(position));
                shifted.extend(positions.clone().map(at));
            }
        }
        fresh
    }
}

/// The distances at which conditions look.
fn shifts_of(spec: &MatchSpec) -> Vec<i64> {
    let conditions = spec.conditions.iter().filter_map(|condition| condition.row.as_ref());
    conditions.flat_map(|row| row.shifted.iter().map(|shifted| shifted.by)).collect()
}

/// The conditions of some patterns over one input, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Distinct {
    conditions: Vec<RowCondition>,
    /// For each pattern and variable, its condition; `None`: any row.
    of: Vec<Vec<Option<usize>>>,
    /// The distances at which conditions look, ascending.
    pub(super) shifts: Vec<i64>,
}

impl Distinct {
    pub(super) fn new<'a>(specs: impl Iterator<Item = &'a MatchSpec>) -> Self {
        let mut distinct = Self::default();
        // Conditions are the same where they are built the same.
        let mut known: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        for spec in specs {
            distinct.shifts.extend(shifts_of(spec));
            let of = spec.conditions.iter().map(|condition| {
                let row = condition.row.as_ref()?;
                let place =
                    *known.entry(format!("{:?} {:?}", row.shifted, row.expr)).or_insert(distinct.conditions.len());
                if place == distinct.conditions.len() {
                    distinct.conditions.push(row.clone());
                }
                Some(place)
            });
            let of = of.collect();
            distinct.of.push(of);
        }
        distinct.shifts.sort_unstable();
        distinct.shifts.dedup();
        distinct
    }

    /// The bitmaps of a pattern's variables among those of all conditions; `any` is true for every row.
    pub(super) fn of<'a>(&self, pattern: usize, bitmaps: &'a [Vec<u64>], any: &'a [u64]) -> Vec<&'a [u64]> {
        self.of[pattern].iter().map(|place| place.map_or(any, |place| bitmaps[place].as_slice())).collect()
    }
}

/// One bitmap for each condition: bit `i % 64` of word `i / 64` is row `i` of `fresh`.
pub(super) fn bitmaps(
    distinct: &Distinct,
    fresh: &Fresh,
    places: Places<'_>,
    context: &StepContext,
) -> Result<Vec<Vec<u64>>> {
    let rows = fresh.rows.len();
    let batch = places.take_batch(&fresh.rows)?;
    // A value that several conditions look at is fetched once.
    let mut values: Vec<(i64, String, ArrayRef)> = Vec::new();
    let mut bitmaps = Vec::with_capacity(distinct.conditions.len());
    for RowCondition { shifted, schema, expr } in &distinct.conditions {
        let mut columns = batch.columns().to_vec();
        for shifted in shifted {
            let name = shifted.value.to_string();
            let known = values.iter().find(|(by, known, _)| *by == shifted.by && *known == name);
            let value = match known {
                Some((.., value)) => std::sync::Arc::clone(value),
                None => {
                    let place = distinct.shifts.iter().position(|by| *by == shifted.by).expect("it is one of them");
                    let value = shift(shifted, &fresh.shifted[place], places, context)?;
                    values.push((shifted.by, name, std::sync::Arc::clone(&value)));
                    value
                }
            };
            columns.push(value);
        }
        let holds = expr.evaluate(&batch_of(schema, columns, rows)?, context, None)?;
        bitmaps.push(words_of(holds.as_boolean()));
    }
    Ok(bitmaps)
}

/// A value at other rows than the current one; null where there is none.
fn shift(shifted: &Shifted, targets: &[Option<RowAt>], places: Places<'_>, context: &StepContext) -> Result<ArrayRef> {
    match shifted.value.as_column() {
        Some(column) => take_or_null(targets, column, places),
        None => {
            let rows: Vec<RowAt> = targets.iter().copied().flatten().collect();
            scatter(shifted.value.evaluate(&places.take_batch(&rows)?, context, None)?, targets)
        }
    }
}

/// The rows where it is true, not false and not null.
fn words_of(holds: &BooleanArray) -> Vec<u64> {
    let bits = match holds.nulls() {
        Some(nulls) => holds.values() & nulls.inner(),
        None => holds.values().clone(),
    };
    let chunks = bits.bit_chunks();
    let mut words: Vec<u64> = chunks.iter().collect();
    if chunks.remainder_len() > 0 {
        words.push(chunks.remainder_bits());
    }
    words
}
