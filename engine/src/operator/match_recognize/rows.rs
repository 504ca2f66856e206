//! Rows of two places at once: those that the operator keeps, and those of the batch in work.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::compute::{interleave, take};

use crate::delta::batch_of;
use crate::error::Result;
use crate::hash::{buffer_column, values_buffer};
use crate::rows::Rows;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowAt {
    /// Kept, under an id.
    Kept(u32),
    /// In the batch in work.
    New(u32),
}

/// Both places.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) kept: &'a Rows,
    pub(super) batch: &'a RecordBatch,
}

impl Places<'_> {
    /// Some columns of rows, in the order asked for.
    pub(super) fn take(&self, rows: &[RowAt], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        if is_all(rows, self.batch.num_rows()) {
            return Ok(columns.iter().map(|column| std::sync::Arc::clone(self.batch.column(*column))).collect());
        }
        if columns.iter().all(|column| self.kept.reader(*column).is_some()) {
            let words = |column: &usize| take_words(rows.iter().map(|row| Some(*row)), *column, *self);
            return Ok(columns.iter().filter_map(words).collect());
        }
        let mut ids = Vec::new();
        let mut fresh = Vec::new();
        let mut order = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                RowAt::Kept(id) => {
                    order.push((0, ids.len()));
                    ids.push(*id);
                }
                RowAt::New(row) => {
                    order.push((1, *row as usize));
                    fresh.push(*row);
                }
            }
        }
        if ids.is_empty() {
            let fresh = UInt32Array::from(fresh);
            return columns.iter().map(|column| Ok(take(self.batch.column(*column), &fresh, None)?)).collect();
        }
        let kept = self.kept.take(&ids, columns)?;
        if fresh.is_empty() {
            return Ok(kept);
        }
        let both = kept.iter().zip(columns);
        both.map(|(kept, column)| Ok(interleave(&[kept.as_ref(), self.batch.column(*column).as_ref()], &order)?))
            .collect()
    }

    /// All columns of rows.
    pub(super) fn take_batch(&self, rows: &[RowAt]) -> Result<RecordBatch> {
        let columns: Vec<usize> = (0..self.batch.num_columns()).collect();
        batch_of(&self.batch.schema(), self.take(rows, &columns)?, rows.len())
    }
}

/// A column of rows, null where there is no row.
pub(super) fn take_or_null(targets: &[Option<RowAt>], column: usize, places: Places<'_>) -> Result<ArrayRef> {
    if let Some(values) = take_words(targets.iter().copied(), column, places) {
        return Ok(values);
    }
    let rows: Vec<RowAt> = targets.iter().copied().flatten().collect();
    let values = places.take(&rows, &[column])?.pop().expect("a column was asked for");
    scatter(values, targets)
}

/// The same in one pass, where values have eight bytes; `None`: they do not.
fn take_words(
    targets: impl ExactSizeIterator<Item = Option<RowAt>>,
    column: usize,
    places: Places<'_>,
) -> Option<ArrayRef> {
    let kept = places.kept.reader(column)?;
    let column = places.batch.column(column);
    let (new, nulls) = (ScalarBuffer::<u64>::from(values_buffer(column)), column.nulls());
    let count = targets.len();
    let mut values = Vec::with_capacity(count);
    let (mut valid, mut bits) = (Vec::with_capacity(count.div_ceil(64)), 0);
    for (index, target) in targets.enumerate() {
        let (value, there) = match target {
            Some(RowAt::Kept(id)) => kept.value(id),
            Some(RowAt::New(row)) => (new[row as usize], nulls.is_none_or(|nulls| nulls.is_valid(row as usize))),
            None => (0, false),
        };
        values.push(value);
        bits |= u64::from(there) << (index % 64);
        if index % 64 == 63 {
            valid.push(std::mem::take(&mut bits));
        }
    }
    valid.push(bits);
    let nulls = Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(valid), 0, count)));
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    Some(buffer_column(column.data_type(), Buffer::from_vec(values), nulls))
}

/// The values of those targets that there are, in order, with nulls for the others.
pub(super) fn scatter(values: ArrayRef, targets: &[Option<RowAt>]) -> Result<ArrayRef> {
    if values.len() == targets.len() {
        return Ok(values);
    }
    if values.is_empty() {
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

/// Whether rows are all of the batch, in its order.
fn is_all(rows: &[RowAt], count: usize) -> bool {
    rows.len() == count && rows.iter().zip(0..).all(|(row, place)| *row == RowAt::New(place))
}

/// Rows of a partition in the batch in work, which lie side by side.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NewRows {
    pub(super) first: u32,
    pub(super) count: u32,
}

/// The rows of one partition by their position in it: kept ones, then new ones.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// The position of the first row.
    pub(super) first: u64,
    pub(super) kept: &'a [u32],
    /// Those of the batch.
    pub(super) new: NewRows,
}

impl View<'_> {
    /// One past the position of the last row.
    pub(super) fn end(&self) -> u64 {
        self.first + self.kept.len() as u64 + u64::from(self.new.count)
    }

    /// The row at a position; `None`: there is none, or none any more.
    #[inline]
    pub(super) fn at(&self, position: u64) -> Option<RowAt> {
        let place = usize::try_from(position.checked_sub(self.first)?).ok()?;
        match self.kept.get(place) {
            Some(id) => Some(RowAt::Kept(*id)),
            None => {
                let place = place - self.kept.len();
                (place < self.new.count as usize).then(|| RowAt::New(self.new.first + place as u32))
            }
        }
    }
}
