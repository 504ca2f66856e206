//! Aggregates over frames that leave rows out: `EXCLUDE CURRENT ROW`, `GROUP`, `TIES`.
//!
//! What a row sees of its frame is up to three runs of rows. Sliding from row to row does not serve, because what was left out comes back. Counts and sums of integers and decimals are
//! differences of the sums up to each row, which is exact. Doubles and extremes come from a tree over the segment's rows whose every node has the sum (with its rounding error), or the best row, of
//! two others: a run is put together of few nodes, and nothing is ever subtracted.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowNativeTypeOp, BooleanArray, Float64Array, Int64Array, UInt32Array, make_comparator};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, FieldRef};

use super::aggregates::{Kind, counting, kind_of, nulls};
use super::frame::{Frame, Ordered, Reach, Segment};
use super::{OverFunction, OverFunctionRef};
use crate::aggregate::{DoubleDouble, Total, Weighted, sum_column};
use crate::error::{EngineError, Result};
use crate::hash::{by_native, native_values};

/// Which rows of its frame a row does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    /// Itself.
    CurrentRow,
    /// Itself and its peers.
    Group,
    /// Its peers, but not itself.
    Ties,
}

/// The aggregate `name` over frames without some of their rows; `None`: there is none for these types.
pub fn excluding(
    name: &str,
    args: &[FieldRef],
    frame: Frame,
    exclusion: Exclusion,
    return_field: &FieldRef,
) -> Option<OverFunctionRef> {
    let kind = kind_of(name, args, return_field)?;
    Some(Arc::new(Excluding { kind, frame, exclusion, field: Arc::clone(return_field) }))
}

struct Excluding {
    kind: Kind,
    frame: Frame,
    exclusion: Exclusion,
    field: FieldRef,
}

impl fmt::Debug for Excluding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {:?} excluding {:?}", self.name(), self.frame, self.exclusion)
    }
}

impl Excluding {
    /// Calls `each` with the runs of rows that every wanted row of a segment sees, as places from the segment's first row on.
    fn runs(&self, rows: &Ordered<'_>, segment: &Segment, mut each: impl FnMut([Range<usize>; 3])) -> Result<()> {
        let first = segment.rows.start;
        let mut peers = first..first;
        rows.frames(&self.frame, segment, |row, start, end| {
            let left_out = match self.exclusion {
                Exclusion::CurrentRow => row..row + 1,
                Exclusion::Group | Exclusion::Ties => {
                    if row >= peers.end {
                        let begin = (first..=row).rev().find(|row| rows.new_peer[*row]);
                        let next = (row + 1..segment.rows.end).find(|row| rows.new_peer[*row]);
                        peers = begin.unwrap_or(first)..next.unwrap_or(segment.rows.end);
                    }
                    peers.clone()
                }
            };
            let own = match self.exclusion {
                Exclusion::Ties => row.max(start)..(row + 1).min(end),
                _ => row..row,
            };
            let runs = [start..end.min(left_out.start), own, start.max(left_out.end)..end];
            each(runs.map(|run| match run.start < run.end {
                true => run.start - first..run.end - first,
                false => 0..0,
            }));
        })
    }

    /// Of each wanted row the count of the rows that count and, of these, a sum.
    fn sums<N: Weighted>(
        &self,
        values: Option<&[N]>,
        valid: Option<&BooleanBuffer>,
        rows: &Ordered<'_>,
    ) -> Result<Vec<Total<N>>> {
        let mut totals = Vec::with_capacity(rows.wanted());
        let mut before: Vec<Total<N>> = vec![];
        for segment in rows.segments.iter().filter(|segment| !segment.wanted.is_empty()) {
            let mut total = Total::default();
            before.clear();
            for row in segment.rows.clone() {
                before.push(total);
                if valid.is_none_or(|valid| valid.value(row)) {
                    total.add(values.map_or(N::ZERO, |values| values[row]));
                }
            }
            before.push(total);
            self.runs(rows, segment, |runs| {
                let mut total = Total::default();
                for run in runs {
                    total.merge(before[run.end]);
                    total.unmerge(before[run.start]);
                }
                totals.push(total);
            })?;
        }
        Ok(totals)
    }

    fn whole<N: Weighted>(&self, values: &[N], valid: Option<&BooleanBuffer>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        sum_column(&self.sums(Some(values), valid, rows)?, self.field.data_type())
    }

    fn doubles(&self, values: &ArrayRef, valid: Option<&BooleanBuffer>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let values = native_values::<f64>(values);
        let mut results = Vec::with_capacity(rows.wanted());
        let mut tree = Tree::default();
        for segment in rows.segments.iter().filter(|segment| !segment.wanted.is_empty()) {
            let leaf = |row: usize| {
                let mut sum = DoubleDouble::default();
                let counts = valid.is_none_or(|valid| valid.value(row));
                if counts {
                    sum.add(values[row]);
                }
                (sum, u64::from(counts))
            };
            let merge = |(mut sum, count): (DoubleDouble, u64), (other, more): (DoubleDouble, u64)| {
                sum.merge(other);
                (sum, count + more)
            };
            tree.build(segment.rows.clone().map(leaf), merge);
            self.runs(rows, segment, |runs| {
                let none = (DoubleDouble::default(), 0);
                results.push(runs.into_iter().fold(none, |sum, run| tree.fold(run, sum, merge)));
            })?;
        }
        let full = nulls(results.iter().map(|(_, count)| *count > 0).collect());
        let average = self.kind == Kind::Average;
        let value = |(sum, count): (DoubleDouble, u64)| if average { sum.value() / count as f64 } else { sum.value() };
        Ok(Arc::new(Float64Array::new(results.into_iter().map(value).collect(), full)))
    }

    fn extremes(&self, values: &ArrayRef, valid: Option<&BooleanBuffer>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let max = self.kind == Kind::Max;
        macro_rules! primitive {
            ($native:ty) => {{
                let values = native_values::<$native>(values);
                match max {
                    true => self.best(valid, rows, |old, new| values[old].is_le(values[new]))?,
                    false => self.best(valid, rows, |old, new| values[old].is_ge(values[new]))?,
                }
            }};
        }
        let indices = by_native! {
            values.data_type() => primitive,
            _ => {
                // As `ORDER BY` has it, where a field is null too.
                let options = SortOptions { descending: false, nulls_first: false };
                let compare = make_comparator(values, values, options)?;
                match max {
                    true => self.best(valid, rows, |old, new| compare(old, new).is_le())?,
                    false => self.best(valid, rows, |old, new| compare(old, new).is_ge())?,
                }
            },
        };
        Ok(take(values, &UInt32Array::from(indices), None)?)
    }

    /// The best row of what each wanted row sees; `beaten` says whether the second row is at least as good as the first.
    fn best(
        &self,
        valid: Option<&BooleanBuffer>,
        rows: &Ordered<'_>,
        beaten: impl Fn(usize, usize) -> bool,
    ) -> Result<Vec<Option<u32>>> {
        let merge = |old: Option<u32>, new: Option<u32>| match (old, new) {
            (Some(old), Some(new)) => Some(if beaten(old as usize, new as usize) { new } else { old }),
            (old, new) => old.or(new),
        };
        let mut results = Vec::with_capacity(rows.wanted());
        let mut tree = Tree::default();
        for segment in rows.segments.iter().filter(|segment| !segment.wanted.is_empty()) {
            let leaf = |row: usize| valid.is_none_or(|valid| valid.value(row)).then_some(row as u32);
            tree.build(segment.rows.clone().map(leaf), merge);
            self.runs(rows, segment, |runs| {
                results.push(runs.into_iter().fold(None, |best, run| tree.fold(run, best, merge)));
            })?;
        }
        Ok(results)
    }
}

impl OverFunction for Excluding {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn field(&self) -> FieldRef {
        Arc::clone(&self.field)
    }

    fn lookback(&self) -> Reach {
        self.frame.lookback()
    }

    fn lookahead(&self) -> Reach {
        self.frame.lookahead()
    }

    fn compares_keys(&self) -> bool {
        self.frame.compares_keys()
    }

    fn evaluate(&self, args: &[ArrayRef], filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let valid = counting(args, filter);
        let valid = valid.as_ref();
        match (self.kind, self.field.data_type()) {
            (Kind::Count, _) => {
                let counts = self.sums::<i64>(None, valid, rows)?.into_iter().map(|total| total.count());
                Ok(Arc::new(Int64Array::from_iter_values(counts)))
            }
            (Kind::Sum | Kind::Average, DataType::Float64) => self.doubles(&args[0], valid, rows),
            (Kind::Sum, DataType::Int64) => self.whole::<i64>(&native_values(&args[0]), valid, rows),
            (Kind::Sum, DataType::UInt64) => self.whole::<u64>(&native_values(&args[0]), valid, rows),
            (Kind::Sum, DataType::Decimal128(..)) => self.whole::<i128>(&native_values(&args[0]), valid, rows),
            (Kind::Min | Kind::Max, _) => self.extremes(&args[0], valid, rows),
            (kind, other) => Err(EngineError::bug(format!("{kind:?} over {other}"))),
        }
    }
}

/// Values in order, and what runs of them come to: level by level, each node of the two below it.
#[derive(Debug)]
struct Tree<T> {
    /// The lowest level first.
    levels: Vec<Vec<T>>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<T: Copy> Tree<T> {
    fn build(&mut self, leaves: impl Iterator<Item = T>, merge: impl Fn(T, T) -> T) {
        self.levels.clear();
        self.levels.push(leaves.collect());
        while let Some(level) = self.levels.last().filter(|level| level.len() > 1) {
            // A node without a sibling is reached from its own level.
            let next = level.chunks_exact(2).map(|pair| merge(pair[0], pair[1])).collect();
            self.levels.push(next);
        }
    }

    /// `start` and all values of a run, in order.
    fn fold(&self, run: Range<usize>, start: T, merge: impl Fn(T, T) -> T) -> T {
        let (mut from, mut to) = (run.start, run.end);
        let mut value = start;
        let mut behind: Vec<T> = Vec::new();
        for level in &self.levels {
            if from >= to {
                break;
            }
            if from % 2 == 1 {
                value = merge(value, level[from]);
                from += 1;
            }
            if to % 2 == 1 && from < to {
                to -= 1;
                behind.push(level[to]);
            }
            (from, to) = (from / 2, to / 2);
        }
        behind.into_iter().rev().fold(value, merge)
    }
}

#[cfg(test)]
mod tests {
    use super::Tree;

    /// Every run comes to what its values come to one after the other, in their order.
    #[test]
    fn runs_are_in_order() {
        for count in 0..20_usize {
            let digits: Vec<[usize; 2]> = (0..count).map(|place| [place, place + 1]).collect();
            // Only neighbours merge; the empty run is at the place that the other begins or ends.
            let merge = |a: [usize; 2], b: [usize; 2]| {
                if a[0] == a[1] {
                    return b;
                }
                assert_eq!(a[1], b[0], "of {count}");
                [a[0], b[1]]
            };
            let mut tree = Tree::default();
            tree.build(digits.iter().copied(), merge);
            for start in 0..=count {
                for end in start..=count {
                    let found = tree.fold(start..end, [0, 0], merge);
                    let expected = if start == end { [0, 0] } else { [start, end] };
                    assert_eq!(found, expected, "{start}..{end} of {count}");
                }
            }
        }
    }
}
