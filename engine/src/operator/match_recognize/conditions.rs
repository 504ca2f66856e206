//! Conditions of rows, worked out for all rows of a step at once: one bitmap for each variable.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::take;
use eagre_patterns::VARIABLES_MAX;

use super::rows::{Places, RowAt};
use super::{MatchSpec, RowCondition, Shifted};
use crate::delta::batch_of;
use crate::error::Result;
use crate::expr::StepContext;

/// Rows whose conditions are to be worked out.
pub(super) struct Fresh {
    pub(super) rows: Vec<RowAt>,
    /// For each distance in [`shifts_of`], the row there of each of `rows`.
    pub(super) shifted: Vec<Vec<Option<RowAt>>>,
}

/// The distances at which conditions look, each once.
pub(super) fn shifts_of(spec: &MatchSpec) -> Vec<i64> {
    let conditions = spec.conditions.iter().filter_map(|condition| condition.row.as_ref());
    let mut shifts: Vec<i64> = conditions.flat_map(|row| row.shifted.iter().map(|shifted| shifted.by)).collect();
    shifts.sort_unstable();
    shifts.dedup();
    shifts
}

/// One bitmap for each variable: bit `i % 64` of word `i / 64` is row `i` of `fresh`.
pub(super) fn bitmaps(
    spec: &MatchSpec,
    shifts: &[i64],
    fresh: &Fresh,
    places: Places<'_>,
    context: &StepContext,
) -> Result<Vec<Vec<u64>>> {
    let rows = fresh.rows.len();
    let words = rows.div_ceil(64);
    let batch = places.take_batch(&fresh.rows)?;
    // A value that several conditions look at is fetched once.
    let mut values: Vec<(i64, String, ArrayRef)> = Vec::new();
    let mut bitmaps = Vec::with_capacity(spec.variables.len());
    debug_assert!(spec.conditions.len() <= VARIABLES_MAX, "the planner has counted them");
    for condition in &spec.conditions {
        let Some(RowCondition { shifted, schema, expr }) = &condition.row else {
            bitmaps.push(vec![u64::MAX; words]);
            continue;
        };
        let mut columns = batch.columns().to_vec();
        for shifted in shifted {
            let name = shifted.value.to_string();
            let known = values.iter().find(|(by, known, _)| *by == shifted.by && *known == name);
            let value = match known {
                Some((.., value)) => std::sync::Arc::clone(value),
                None => {
                    let place = shifts.iter().position(|by| *by == shifted.by).expect("it is one of them");
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
    let rows: Vec<RowAt> = targets.iter().copied().flatten().collect();
    let values = match shifted.value.as_column() {
        Some(column) => places.take(&rows, &[column])?.pop().expect("a column was asked for"),
        None => shifted.value.evaluate(&places.take_batch(&rows)?, context, None)?,
    };
    if rows.len() == targets.len() {
        return Ok(values);
    }
    if rows.is_empty() {
        return Ok(new_null_array(values.data_type(), targets.len()));
    }
    let mut next = 0;
    let indices = targets.iter().map(|target| {
        target.map(|_| {
            next += 1;
            next - 1
        })
    });
    Ok(take(&values, &indices.collect::<UInt32Array>(), None)?)
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
