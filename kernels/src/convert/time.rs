//! Timestamps (and any integers) as a base and `u32` deltas.

use super::{Column, check_room, gather_rows, map_rows, vectorised};

/// Half of what a `u32` spans: the room on either side of a first guess.
const HALF_SPAN: i64 = 1 << 31;

/// Values of one batch that lie 2^32 units or more apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "values from {min} to {max} do not fit into one batch of 32-bit deltas: 2^32 units lie between them, or the base {base:?} is not \
     just below; the first {rows_that_fit} rows fit, so cut the batch there, or count in a coarser unit"
)]
pub struct SpanTooLong {
    /// The base that the caller asked for, if any.
    pub base: Option<i64>,
    /// The least value.
    pub min: i64,
    /// The greatest value.
    pub max: i64,
    /// How many rows from the first on fit: at least one, unless the base is the caller's.
    pub rows_that_fit: usize,
}

impl Column<'_, i64> {
    /// Writes `value - base` of each row and returns the base, chosen so that all deltas fit; null rows give 0.
    ///
    /// One pass when all values lie within 2^31 of the first that is not null, which timestamps of a batch do; else a second that looks
    /// for the least value.
    ///
    /// # Errors
    /// [`SpanTooLong`] when 2^32 units or more lie between two rows; `out` holds anything then.
    ///
    /// # Panics
    /// When `out` does not have a word for each row.
    pub fn deltas(&self, out: &mut [u32]) -> Result<i64, SpanTooLong> {
        check_room(self.len(), 1, out);
        self.fitted(None, |base| deltas_fit(*self, base, out))
    }

    /// As [`deltas`](Self::deltas), for the rows that `order` names, in that order.
    ///
    /// # Errors
    /// As [`deltas`](Self::deltas); `rows_that_fit` counts rows in their own order, not in that of `order`.
    ///
    /// # Panics
    /// When `out` does not have a word for each entry of `order`, or `order` names a row that is not there.
    pub fn gather_deltas(&self, order: &[u32], out: &mut [u32]) -> Result<i64, SpanTooLong> {
        check_room(order.len(), 1, out);
        self.fitted(Some(order), |base| gather_deltas_fit(*self, order, base, out))
    }

    /// Writes `value - base` of each row, where the caller knows the base (a watermark, a window's start); null rows give 0.
    ///
    /// # Errors
    /// [`SpanTooLong`] when a value is before the base, or 2^32 units or more behind it; `out` holds anything then.
    ///
    /// # Panics
    /// When `out` does not have a word for each row.
    pub fn deltas_from(&self, base: i64, out: &mut [u32]) -> Result<(), SpanTooLong> {
        check_room(self.len(), 1, out);
        if deltas_fit(*self, base, out) { Ok(()) } else { Err(self.too_long(Some(base))) }
    }

    /// Cuts the rows into runs that each span less than 2^32 units, as long as they can be from the first row on.
    pub fn spans(&self) -> Vec<std::ops::Range<usize>> {
        let mut spans = Vec::new();
        let mut start = 0;
        while start < self.len() {
            let end = start + self.rows_that_fit(start, None);
            spans.push(start..end);
            start = end;
        }
        spans
    }

    /// Tries a base around the first value, then the least value. With an order, only its rows count.
    fn fitted(&self, order: Option<&[u32]>, mut fits: impl FnMut(i64) -> bool) -> Result<i64, SpanTooLong> {
        let first = match order {
            None => (0..self.len()).find_map(|row| self.get(row)),
            Some(order) => order.iter().find_map(|&row| self.get(row as usize)),
        };
        let Some(first) = first else {
            fits(0);
            return Ok(0);
        };
        let guess = first.saturating_sub(HALF_SPAN);
        if fits(guess) {
            return Ok(guess);
        }
        let least = match order {
            None => self.bounds().0,
            Some(order) => order.iter().filter_map(|&row| self.get(row as usize)).min().unwrap_or(first),
        };
        if fits(least) { Ok(least) } else { Err(self.too_long(None)) }
    }

    fn too_long(&self, base: Option<i64>) -> SpanTooLong {
        let (min, max) = self.bounds();
        SpanTooLong { base, min, max, rows_that_fit: self.rows_that_fit(0, base) }
    }

    /// The least and the greatest value; zeros when all rows are null.
    fn bounds(&self) -> (i64, i64) {
        let values = (0..self.len()).filter_map(|row| self.get(row));
        values
            .fold(None, |bounds: Option<(i64, i64)>, value| {
                let (min, max) = bounds.unwrap_or((value, value));
                Some((min.min(value), max.max(value)))
            })
            .unwrap_or((0, 0))
    }

    /// How many rows from `start` on lie within one span: from the base on, or from the least of them.
    fn rows_that_fit(&self, start: usize, base: Option<i64>) -> usize {
        let (mut min, mut max) = (base, base);
        for row in start..self.len() {
            let Some(value) = self.get(row) else { continue };
            let least = min.map_or(value, |min| if base.is_some() { min } else { min.min(value) });
            let greatest = max.map_or(value, |max| max.max(value));
            if value < least || greatest.abs_diff(least) > u64::from(u32::MAX) {
                return row - start;
            }
            (min, max) = (Some(least), Some(greatest));
        }
        self.len() - start
    }
}

/// Not zero when the delta does not fit. The comparison is needed because the difference itself may wrap around.
#[inline(always)]
fn excess(value: i64, base: i64) -> (u32, u64) {
    let delta = value.wrapping_sub(base) as u64;
    (delta as u32, delta >> 32 | u64::from(value < base))
}

vectorised! {
    /// Writes deltas; false when one of them does not fit.
    fn deltas_fit(column: Column<'_, i64>, base: i64, out: &mut [u32]) -> bool {
        let mut over = 0;
        map_rows(column, out, 0, |value| {
            let (delta, excess) = excess(value, base);
            over |= excess;
            delta
        });
        over == 0
    }

    fn gather_deltas_fit(column: Column<'_, i64>, order: &[u32], base: i64, out: &mut [u32]) -> bool {
        let mut over = 0;
        gather_rows(column, order, out, 0, |value| {
            let (delta, excess) = excess(value, base);
            over |= excess;
            delta
        });
        over == 0
    }
}
