//! Partial rows: `[pane], keys.., states..`, the form in which aggregates travel between operators and into checkpoints.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;

use crate::delta::take_batch;
use crate::error::{EngineError, Result};
use crate::hash::{HashGroups, hash_columns};

/// Rows by the value of `of`, in ascending order of it. Rows of one value that lie together are recognised, so near-sorted input
/// costs one comparison a row.
pub(crate) fn rows_by(rows: usize, of: impl Fn(usize) -> i64) -> BTreeMap<i64, Vec<u32>> {
    let mut groups = BTreeMap::<i64, Vec<u32>>::new();
    let mut row = 0;
    while row < rows {
        let value = of(row);
        let start = row;
        while row < rows && of(row) == value {
            row += 1;
        }
        groups.entry(value).or_default().extend(start as u32..row as u32);
    }
    groups
}

/// `Some((first, count))` where ascending `rows` lie together.
pub(crate) fn as_range(rows: &[u32]) -> Option<(usize, usize)> {
    let (first, last) = (*rows.first()? as usize, *rows.last()? as usize);
    (last - first + 1 == rows.len()).then_some((first, rows.len()))
}

/// The rows of each pane (column 0), by ascending pane; buffers are shared where a pane's rows lie together.
pub(crate) fn split_by_pane(batch: &RecordBatch) -> Result<Vec<(i64, RecordBatch)>> {
    let panes = batch
        .column(0)
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| EngineError::bug("the first column of partial rows is not the pane"))?
        .values();
    let Some(first) = panes.first() else {
        return Ok(Vec::new());
    };
    if panes.last() == Some(first) && panes.iter().all(|pane| pane == first) {
        return Ok(vec![(*first, batch.clone())]);
    }
    rows_by(panes.len(), |row| panes[row])
        .into_iter()
        .map(|(pane, rows)| match as_range(&rows) {
            Some((first, count)) => Ok((pane, batch.slice(first, count))),
            None => Ok((pane, take_batch(batch, &UInt32Array::from(rows))?)),
        })
        .collect()
}

/// The rows whose key (columns `[first, first + count)`) the hash groups own.
pub(crate) fn keep_owned(batch: &RecordBatch, first: usize, count: usize, owned: HashGroups) -> Result<RecordBatch> {
    let mut hashes = Vec::new();
    hash_columns(&batch.columns()[first..first + count], batch.num_rows(), &mut hashes)?;
    let mask: BooleanArray = hashes.iter().map(|hash| Some(owned.owns(*hash))).collect();
    if mask.true_count() == mask.len() {
        return Ok(batch.clone());
    }
    Ok(filter_record_batch(batch, &mask)?)
}

/// A list with more batches has some of them merged.
const BATCHES_MAX: usize = 8;

/// Which batches to merge into one, from the first of them to the end, so that a list stays short: sizes then fall by half from one to
/// the next, and a row is merged no more often than the logarithm of their number. `None`: the list is short enough.
pub(crate) fn merge_from(batches: &[RecordBatch]) -> Option<usize> {
    merge_from_rows(batches.len(), |index| batches[index].num_rows())
}

/// The same of a list of `count` things that have so many rows.
pub(crate) fn merge_from_rows(count: usize, rows: impl Fn(usize) -> usize) -> Option<usize> {
    if count <= BATCHES_MAX {
        return None;
    }
    let mut after: usize = (0..count).map(&rows).sum();
    (0..count).position(|index| {
        after -= rows(index);
        rows(index) <= after
    })
}

/// The greatest `name` in the metas, which all shards wrote at the same step.
pub(crate) fn newest_time(metas: &[serde_json::Map<String, serde_json::Value>], name: &str) -> i64 {
    metas.iter().filter_map(|meta| meta.get(name)?.as_i64()).max().unwrap_or(crate::time::WATERMARK_MIN)
}

/// Refuses a chunk that does not have the columns of `schema`: it was saved by another query or version.
pub(crate) fn check_chunk(
    operator: &str,
    chunk: &crate::operator::StateChunk,
    schema: &arrow::datatypes::SchemaRef,
) -> Result<()> {
    let types = |schema: &arrow::datatypes::SchemaRef| {
        schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>()
    };
    let (found, wanted) = (types(&chunk.rows.schema()), types(schema));
    if found == wanted {
        return Ok(());
    }
    Err(EngineError::Checkpoint {
        message: format!(
            "the state `{}` of {operator} has columns {found:?}, not {wanted:?}: it was saved by another query or version; start \
             over with `--fresh`",
            chunk.table
        ),
    })
}
