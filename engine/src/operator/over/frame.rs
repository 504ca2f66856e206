//! Frames: which rows around a row its value is made of.
//!
//! Rows come in segments, each a run of one partition's rows in order, so that one call serves many partitions. Both ends of a frame
//! only ever move forward with the row, so finding them costs a constant amount a row whatever the frame. A `RANGE` frame with an
//! offset compares numbers: the order key as an integer or a double, turned so that it ascends; nulls and NaN are peers of
//! their like and in reach of nothing else, as DataFusion and PostgreSQL have it.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::DataType;

use crate::error::{EngineError, Result};
use crate::hash::{by_native, native_values};

/// What the offsets of a frame count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameUnit {
    /// Rows.
    Rows,
    /// Distance of the order key.
    Range,
    /// Groups of peers.
    Groups,
    /// The distance of the order key from row to row: all rows of the current row's session, whose rows follow one another no further apart than
    /// the offset. Both bounds have the same one.
    Session,
}

/// How far a bound is from the current row; never negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distance {
    /// So many rows or groups of peers; with `RANGE`, so many units of an order key that is an integer, a decimal (by its digits), a
    /// time or a date.
    Count(u64),
    /// So far from a floating-point order key.
    Float(f64),
}

/// One end of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// The partition's first row.
    UnboundedPreceding,
    /// So far before the current row.
    Preceding(Distance),
    /// The current row; its peers too, unless the frame counts rows.
    CurrentRow,
    /// So far after the current row.
    Following(Distance),
    /// The partition's last row.
    UnboundedFollowing,
}

/// The rows that a value is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// What offsets count.
    pub unit: FrameUnit,
    /// The first row.
    pub start: Bound,
    /// The last row, included.
    pub end: Bound,
}

/// How far from a row others matter to its value. The row itself always does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reach {
    /// So many rows.
    Rows(u64),
    /// Its peers, and so many groups of peers beyond them.
    Groups(u64),
    /// Its peers, and rows whose order key is at most so far away.
    Range(Distance),
    /// Rows that it is linked to by others, of which each is at most so far from the next.
    Session(Distance),
    /// All of them.
    Unbounded,
}

impl Reach {
    /// Nothing but the row itself.
    pub const NONE: Self = Self::Rows(0);
}

impl Frame {
    /// All rows from the partition's start to the current one and its peers: the frame where a query names an order and no frame.
    pub const RUNNING: Self = Self { unit: FrameUnit::Range, start: Bound::UnboundedPreceding, end: Bound::CurrentRow };

    /// The rows of a session, which ends where the next row is further away than `gap`.
    pub fn session(gap: Distance) -> Self {
        Self { unit: FrameUnit::Session, start: Bound::Preceding(gap), end: Bound::Following(gap) }
    }

    fn reach(&self, bound: Bound, ahead: bool) -> Reach {
        let own = match self.unit {
            FrameUnit::Rows => Reach::NONE,
            FrameUnit::Range | FrameUnit::Groups | FrameUnit::Session => Reach::Groups(0),
        };
        match (bound, ahead) {
            (Bound::UnboundedPreceding, false) | (Bound::UnboundedFollowing, true) => Reach::Unbounded,
            (Bound::Preceding(distance), false) | (Bound::Following(distance), true) => match (self.unit, distance) {
                (FrameUnit::Rows, Distance::Count(count)) => Reach::Rows(count),
                (FrameUnit::Groups, Distance::Count(count)) => Reach::Groups(count),
                (FrameUnit::Session, distance) => Reach::Session(distance),
                (_, distance) => Reach::Range(distance),
            },
            _ => own,
        }
    }

    /// Which rows before a row are in its frame.
    pub fn lookback(&self) -> Reach {
        self.reach(self.start, false)
    }

    /// Which rows after a row are in its frame.
    pub fn lookahead(&self) -> Reach {
        self.reach(self.end, true)
    }

    /// Whether the frame's ends are found by the order key's value.
    pub fn compares_keys(&self) -> bool {
        let offset = |bound| matches!(bound, Bound::Preceding(_) | Bound::Following(_));
        matches!(self.unit, FrameUnit::Range | FrameUnit::Session) && (offset(self.start) || offset(self.end))
    }
}

/// A run of one partition's rows, in order, among the rows of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The rows that are given.
    pub rows: Range<usize>,
    /// Those of them whose values are asked for.
    pub wanted: Range<usize>,
    /// How many rows the partition has before `rows`.
    pub first: u64,
}

/// Rows of some partitions with what is known of their order.
#[derive(Debug)]
pub struct Ordered<'a> {
    /// The order keys.
    pub order: &'a [ArrayRef],
    /// Whether a row is no peer of the row before it (true for the first of a segment).
    pub new_peer: &'a [bool],
    /// The first order key as numbers, where some frame compares them.
    pub range: Option<&'a RangeKeys>,
    /// The rows, by partition.
    pub segments: &'a [Segment],
}

impl Ordered<'_> {
    /// How many values are asked for.
    pub fn wanted(&self) -> usize {
        self.segments.iter().map(|segment| segment.wanted.len()).sum()
    }

    /// Calls `each(row, start, end)` for every wanted row of `segment`: its frame is `[start, end)`, within the segment's rows; an empty
    /// frame has `start >= end`. Neither end ever moves back.
    pub fn frames(&self, frame: &Frame, segment: &Segment, each: impl FnMut(usize, usize, usize)) -> Result<()> {
        match frame.unit {
            FrameUnit::Rows => rows_frames(frame, segment, each),
            FrameUnit::Groups => self.groups_frames(frame, segment, each),
            FrameUnit::Range | FrameUnit::Session if frame.compares_keys() => {
                let keys = self.range.ok_or_else(|| EngineError::bug("a RANGE frame without its order key"))?;
                match (frame.unit, frame.end) {
                    (FrameUnit::Session, Bound::Following(gap)) => keys.sessions(gap, segment, each),
                    _ => keys.frames(frame, segment, each),
                }
                Ok(())
            }
            // Peers only.
            FrameUnit::Range | FrameUnit::Session => self.groups_frames(frame, segment, each),
        }
    }

    fn groups_frames(&self, frame: &Frame, segment: &Segment, mut each: impl FnMut(usize, usize, usize)) -> Result<()> {
        let rows = segment.rows.clone();
        let mut starts: Vec<usize> = rows.clone().filter(|row| self.new_peer[*row] || *row == rows.start).collect();
        let groups = starts.len();
        starts.push(rows.end);
        let mut group = starts.partition_point(|start| *start <= segment.wanted.start).saturating_sub(1);
        let at = |group: usize| starts[group.min(groups)];
        for row in segment.wanted.clone() {
            while group + 1 < groups && starts[group + 1] <= row {
                group += 1;
            }
            let start = match frame.start {
                Bound::UnboundedPreceding => rows.start,
                Bound::Preceding(distance) => at(group.saturating_sub(count_of(distance)?)),
                Bound::CurrentRow => at(group),
                Bound::Following(distance) => at(group.saturating_add(count_of(distance)?)),
                Bound::UnboundedFollowing => rows.end,
            };
            let end = match frame.end {
                Bound::UnboundedPreceding => rows.start,
                Bound::Preceding(distance) => (group + 1).checked_sub(count_of(distance)?).map_or(rows.start, at),
                Bound::CurrentRow => at(group + 1),
                Bound::Following(distance) => at(group.saturating_add(1).saturating_add(count_of(distance)?)),
                Bound::UnboundedFollowing => rows.end,
            };
            each(row, start, end);
        }
        Ok(())
    }
}

fn count_of(distance: Distance) -> Result<usize> {
    match distance {
        Distance::Count(count) => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
        Distance::Float(_) => Err(EngineError::bug("a frame of rows with a fractional offset")),
    }
}

fn rows_frames(frame: &Frame, segment: &Segment, mut each: impl FnMut(usize, usize, usize)) -> Result<()> {
    let rows = segment.rows.clone();
    let offset = |bound| match bound {
        Bound::Preceding(distance) | Bound::Following(distance) => count_of(distance),
        _ => Ok(0),
    };
    let (start_offset, end_offset) = (offset(frame.start)?, offset(frame.end)?);
    for row in segment.wanted.clone() {
        let start = match frame.start {
            Bound::UnboundedPreceding => rows.start,
            Bound::Preceding(_) => row.saturating_sub(start_offset).max(rows.start),
            Bound::CurrentRow => row,
            Bound::Following(_) => row.saturating_add(start_offset).min(rows.end),
            Bound::UnboundedFollowing => rows.end,
        };
        let end = match frame.end {
            Bound::UnboundedPreceding => rows.start,
            Bound::Preceding(_) => (row + 1).saturating_sub(end_offset).max(rows.start),
            Bound::CurrentRow => row + 1,
            Bound::Following(_) => row.saturating_add(1).saturating_add(end_offset).min(rows.end),
            Bound::UnboundedFollowing => rows.end,
        };
        each(row, start, end);
    }
    Ok(())
}

/// An order key as ascending numbers.
#[derive(Debug, Clone)]
pub struct RangeKeys {
    numbers: Numbers,
    /// Nulls, NaN and numbers lie apart, in the order of this.
    class: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Numbers {
    Integers(Vec<i64>),
    Floats(Vec<f64>),
}

const NULLS_FIRST: u8 = 0;
const NANS_FIRST: u8 = 1;
const NUMBERS: u8 = 2;
const NANS_LAST: u8 = 3;
const NULLS_LAST: u8 = 4;

impl RangeKeys {
    /// Whether a `RANGE` frame over an order key of this type can have offsets here: 64 bits are enough for it.
    pub fn supports(data_type: &DataType) -> bool {
        use DataType::{
            Date32, Date64, Decimal32, Decimal64, Duration, Float16, Float32, Float64, Time32, Time64, Timestamp,
        };
        data_type.is_integer()
            || matches!(
                data_type,
                Date32
                    | Date64
                    | Decimal32(..)
                    | Decimal64(..)
                    | Duration(_)
                    | Float16
                    | Float32
                    | Float64
                    | Time32(_)
                    | Time64(_)
            )
            || matches!(data_type, Timestamp(..))
    }

    /// The keys of a column that is ordered by `options`.
    ///
    /// # Errors
    /// A type that is not [supported](Self::supports): a bug of the planner.
    pub fn of(column: &ArrayRef, options: SortOptions) -> Result<Self> {
        let null_class = if options.nulls_first { NULLS_FIRST } else { NULLS_LAST };
        let mut class = vec![NUMBERS; column.len()];
        let numbers = match column.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let doubles = cast(column, &DataType::Float64)?;
                let mut doubles = native_values::<f64>(&doubles).to_vec();
                for (value, class) in doubles.iter_mut().zip(&mut class) {
                    if value.is_nan() {
                        *class = if options.descending { NANS_FIRST } else { NANS_LAST };
                    }
                    *value = if options.descending { -*value } else { *value };
                }
                Numbers::Floats(doubles)
            }
            DataType::UInt64 => {
                // Moved so that zero is the least: distances stay what they are.
                let values = native_values::<u64>(column);
                Numbers::Integers(values.iter().map(|value| (value ^ (1 << 63)) as i64).collect())
            }
            other => {
                macro_rules! integers {
                    (i64) => {
                        native_values::<i64>(column).to_vec()
                    };
                    (u64) => {
                        return Err(EngineError::bug("told apart above"))
                    };
                    (i8) => {
                        widened!(i8)
                    };
                    (i16) => {
                        widened!(i16)
                    };
                    (i32) => {
                        widened!(i32)
                    };
                    (u8) => {
                        widened!(u8)
                    };
                    (u16) => {
                        widened!(u16)
                    };
                    (u32) => {
                        widened!(u32)
                    };
                    ($native:ty) => {
                        return Err(EngineError::bug(format!("a RANGE frame over {other}")))
                    };
                }
                macro_rules! widened {
                    ($native:ty) => {
                        native_values::<$native>(column).iter().map(|value| i64::from(*value)).collect()
                    };
                }
                Numbers::Integers(by_native! {
                    other => integers,
                    _ => return Err(EngineError::bug(format!("a RANGE frame over {other}"))),
                })
            }
        };
        let numbers = match numbers {
            // Every bit turned: descending becomes ascending, and distances stay what they are.
            Numbers::Integers(values) if options.descending => {
                Numbers::Integers(values.into_iter().map(|value| !value).collect())
            }
            other => other,
        };
        if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
            class.iter_mut().zip(nulls.iter()).filter(|(_, valid)| !valid).for_each(|(class, _)| *class = null_class);
        }
        Ok(Self { numbers, class })
    }

    /// Whether row `other` is at most `distance` away from row `row`.
    pub fn in_reach(&self, row: usize, other: usize, distance: Distance) -> bool {
        if self.class[row] != self.class[other] {
            return false;
        }
        if self.class[row] != NUMBERS {
            return true;
        }
        match (&self.numbers, distance) {
            (Numbers::Integers(values), Distance::Count(count)) => values[row].abs_diff(values[other]) <= count,
            (Numbers::Integers(values), Distance::Float(distance)) => {
                values[row].abs_diff(values[other]) as f64 <= distance
            }
            (Numbers::Floats(values), distance) => {
                // As a bound would be computed, from either side: rounding may make them differ.
                let (low, high) = match values[row] <= values[other] {
                    true => (values[row], values[other]),
                    false => (values[other], values[row]),
                };
                let distance = distance.as_float();
                low >= high - distance || high <= low + distance
            }
        }
    }

    fn frames(&self, frame: &Frame, segment: &Segment, mut each: impl FnMut(usize, usize, usize)) {
        let rows = segment.rows.clone();
        let (mut start, mut end) = (rows.start, rows.start);
        for row in segment.wanted.clone() {
            match frame.start {
                Bound::UnboundedPreceding => {}
                Bound::UnboundedFollowing => start = rows.end,
                bound => {
                    while start < rows.end && self.is_before(start, row, bound) {
                        start += 1;
                    }
                }
            }
            match frame.end {
                Bound::UnboundedPreceding => {}
                Bound::UnboundedFollowing => end = rows.end,
                bound => {
                    while end < rows.end && !self.is_after(end, row, bound) {
                        end += 1;
                    }
                }
            }
            each(row, start, end);
        }
    }

    fn sessions(&self, gap: Distance, segment: &Segment, mut each: impl FnMut(usize, usize, usize)) {
        let rows = segment.rows.clone();
        let ends_after = |row: usize| row + 1 >= rows.end || !self.in_reach(row, row + 1, gap);
        let mut start = segment.wanted.start;
        while start > rows.start && !ends_after(start - 1) {
            start -= 1;
        }
        let mut end = start;
        for row in segment.wanted.clone() {
            if row >= end {
                start = if end == start { start } else { row };
                end = row + 1;
                while !ends_after(end - 1) {
                    end += 1;
                }
            }
            each(row, start, end);
        }
    }

    /// Whether `other` lies before the bound of `row`.
    #[inline]
    fn is_before(&self, other: usize, row: usize, bound: Bound) -> bool {
        self.compare(other, row, bound).is_lt()
    }

    /// Whether `other` lies after the bound of `row`.
    #[inline]
    fn is_after(&self, other: usize, row: usize, bound: Bound) -> bool {
        self.compare(other, row, bound).is_gt()
    }

    #[inline]
    fn compare(&self, other: usize, row: usize, bound: Bound) -> std::cmp::Ordering {
        let classes = self.class[other].cmp(&self.class[row]);
        if classes.is_ne() || self.class[row] != NUMBERS {
            return classes;
        }
        match &self.numbers {
            Numbers::Integers(values) => {
                let offset = match bound {
                    Bound::Preceding(distance) => -distance.as_integer(),
                    Bound::Following(distance) => distance.as_integer(),
                    _ => 0,
                };
                i128::from(values[other]).cmp(&(i128::from(values[row]) + offset))
            }
            Numbers::Floats(values) => {
                let target = match bound {
                    Bound::Preceding(distance) => values[row] - distance.as_float(),
                    Bound::Following(distance) => values[row] + distance.as_float(),
                    _ => values[row],
                };
                values[other].partial_cmp(&target).unwrap_or(std::cmp::Ordering::Equal)
            }
        }
    }
}

impl Distance {
    fn as_float(self) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::Float(distance) => distance,
        }
    }

    fn as_integer(self) -> i128 {
        match self {
            Self::Count(count) => i128::from(count),
            Self::Float(distance) => distance as i128,
        }
    }
}
