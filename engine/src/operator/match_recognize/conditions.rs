//! Conditions of rows, worked out for all rows of a step at once: one bitmap for each variable.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};

use super::rows::{Places, RowAt, View, scatter, take_or_null};
use super::{MatchSpec, RowCondition, Shifted};
use crate::delta::batch_of;
use crate::error::Result;
use crate::expr::{ExprRef, StepContext};

/// Rows whose conditions are to be worked out.
pub(super) struct Fresh {
    pub(super) rows: Vec<RowAt>,
    /// For each distance at which conditions look, the row there of each of `rows`.
    pub(super) shifted: Vec<Vec<Option<RowAt>>>,
}

impl Fresh {
    /// None yet, with room for about as many.
    pub(super) fn new(distinct: &Distinct, rows: usize) -> Self {
        let shifted = distinct.shifts.iter().map(|_| Vec::with_capacity(rows)).collect();
        Self { rows: Vec::with_capacity(rows), shifted }
    }

    /// Rows of partitions, each partition's by their positions, one partition after the other.
    pub(super) fn of<'a>(distinct: &Distinct, rows: impl Iterator<Item = (View<'a>, Range<u64>)>) -> Self {
        let mut fresh = Self::new(distinct, rows.size_hint().0);
        for (view, positions) in rows {
            fresh.add(distinct, view, positions);
        }
        fresh
    }

    /// Adds the rows of one partition.
    #[inline]
    pub(super) fn add(&mut self, distinct: &Distinct, view: View<'_>, positions: Range<u64>) {
        self.rows.extend(positions.clone().filter_map(|position| view.at(position)));
        for (by, shifted) in distinct.shifts.iter().zip(&mut self.shifted) {
            let at = |position: u64| position.checked_add_signed(*by).and_then(|position| view.at(position));
            shifted.extend(positions.clone().map(at));
        }
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
    /// What is evaluated: the conditions that are no conjunctions, and the parts of those that are.
    parts: Vec<RowCondition>,
    /// Those parts of which several together are a condition.
    conjunctions: Vec<Vec<usize>>,
    /// For each pattern and variable, the place of its condition among the parts and, behind them, the conjunctions; `None`: any row.
    of: Vec<Vec<Option<usize>>>,
    /// The distances at which conditions look, ascending.
    pub(super) shifts: Vec<i64>,
}

impl Distinct {
    pub(super) fn new<'a>(specs: impl Iterator<Item = &'a MatchSpec>) -> Self {
        let mut distinct = Self::default();
        // Conditions are the same where they are built the same.
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let mut conjunctions: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let mut of: Vec<Vec<Vec<usize>>> = Vec::new();
        for spec in specs {
            distinct.shifts.extend(shifts_of(spec));
            let parts = spec.conditions.iter().map(|condition| {
                let Some(row) = &condition.row else { return Vec::new() };
                let exprs = row.expr.conjuncts();
                let exprs = if exprs.is_empty() { vec![Arc::clone(&row.expr)] } else { exprs };
                let place = |expr: ExprRef| {
                    let parts = &mut distinct.parts;
                    *known.entry(format!("{:?} {expr:?}", row.shifted)).or_insert_with(|| {
                        parts.push(RowCondition { expr, ..row.clone() });
                        parts.len() - 1
                    })
                };
                let mut places: Vec<usize> = exprs.into_iter().map(place).collect();
                places.sort_unstable();
                places.dedup();
                places
            });
            of.push(parts.collect());
        }
        let parts = distinct.parts.len();
        let mut place = |of: Vec<usize>| match of[..] {
            [] => None,
            [part] => Some(part),
            _ => Some(*conjunctions.entry(of).or_insert_with_key(|of| {
                distinct.conjunctions.push(of.clone());
                parts + distinct.conjunctions.len() - 1
            })),
        };
        distinct.of = of.into_iter().map(|of| of.into_iter().map(&mut place).collect()).collect();
        distinct.shifts.sort_unstable();
        distinct.shifts.dedup();
        distinct
    }

    /// Where the condition of each of a pattern's variables is among all of them; `None`: any row.
    pub(super) fn places(&self, pattern: usize) -> &[Option<usize>] {
        &self.of[pattern]
    }

    /// The bitmaps of a pattern's variables among those of all conditions; `any` is true for every row.
    pub(super) fn of<'a>(&self, pattern: usize, bitmaps: &'a [Vec<u64>], any: &'a [u64]) -> Vec<&'a [u64]> {
        self.of[pattern].iter().map(|place| place.map_or(any, |place| bitmaps[place].as_slice())).collect()
    }
}

/// One bitmap for each part of a condition and for each conjunction of them: bit `i % 64` of word `i / 64` is row `i` of `fresh`.
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
    let mut bitmaps = Vec::with_capacity(distinct.parts.len() + distinct.conjunctions.len());
    for RowCondition { shifted, schema, expr } in &distinct.parts {
        let mut columns = batch.columns().to_vec();
        for shifted in shifted {
            let name = shifted.value.to_string();
            let known = values.iter().find(|(by, known, _)| *by == shifted.by && *known == name);
            let value = match known {
                Some((.., value)) => Arc::clone(value),
                None => {
                    let place = distinct.shifts.iter().position(|by| *by == shifted.by).expect("it is one of them");
                    let value = shift(shifted, &fresh.shifted[place], places, context)?;
                    values.push((shifted.by, name, Arc::clone(&value)));
                    value
                }
            };
            columns.push(value);
        }
        let holds = expr.evaluate(&batch_of(schema, columns, rows)?, context, None)?;
        bitmaps.push(words_of(holds.as_boolean()));
    }
    // A conjunction is true where all of its parts are, whatever is null elsewhere.
    for parts in &distinct.conjunctions {
        let mut all = bitmaps[parts[0]].clone();
        for part in &parts[1..] {
            all.iter_mut().zip(&bitmaps[*part]).for_each(|(all, part)| *all &= part);
        }
        bitmaps.push(all);
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
