//! Aggregates over frames that slide: a row comes in once and leaves once.
//!
//! Counts and sums of integers and decimals subtract what leaves, exactly. Sums of doubles never subtract: subtraction would keep the
//! rounding error of every row that ever was in the frame. The frame is held as two stacks instead (rows that will leave next, with the
//! sums of what is left after each; and the sum of all that came later), each sum with the error of its rounding, so a result is as exact
//! as if its frame had been added up alone; NaN and infinities leave with their rows. The least and the greatest value keep the rows
//! that may still become it, in order (a monotonic deque).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, BooleanArray, Float64Array, Int64Array, UInt32Array, make_comparator,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, FieldRef};

use super::frame::{Frame, Ordered, Reach};
use super::running::Running;
use super::running::functions::{From, RunningCounts, RunningDoubles, RunningExtremes, RunningSums};
use super::{OverFunction, OverFunctionRef, RunningForm};
use crate::aggregate::{DoubleDouble, Total, Weighted, sum_column};
use crate::error::{EngineError, Result};
use crate::hash::{by_native, native_values};
use crate::keys::canonical_values;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Count,
    Sum,
    Average,
    Min,
    Max,
}

/// The aggregate `name` over frames; `None`: DataFusion's has to serve.
pub(super) fn aggregate(
    name: &str,
    args: &[FieldRef],
    frame: Frame,
    return_field: &FieldRef,
) -> Option<OverFunctionRef> {
    let kind = kind_of(name, args, return_field)?;
    Some(Arc::new(Aggregate { kind, frame, field: Arc::clone(return_field) }))
}

/// What is computed of these types; `None`: nothing here.
pub(super) fn kind_of(name: &str, args: &[FieldRef], return_field: &FieldRef) -> Option<Kind> {
    use DataType::{Decimal128, Float64, Int64, Interval, List, Struct, UInt64};
    let result = return_field.data_type();
    let argument = args.first().map(|field| field.data_type());
    let one = || argument.filter(|_| args.len() == 1);
    match name {
        "count" if result == &Int64 => Some(Kind::Count),
        "sum" => match (one()?, result) {
            (Int64, Int64) | (UInt64, UInt64) | (Float64, Float64) => Some(Kind::Sum),
            (Decimal128(_, scale), Decimal128(_, wanted)) if scale == wanted => Some(Kind::Sum),
            _ => None,
        },
        "avg" | "mean" if one()? == &Float64 && result == &Float64 => Some(Kind::Average),
        "min" | "max"
            if one()? == result
                && !matches!(result, Interval(_))
                && (!result.is_nested() || matches!(result, Struct(_) | List(_))) =>
        {
            Some(if name == "min" { Kind::Min } else { Kind::Max })
        }
        _ => None,
    }
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Average => "avg",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

struct Aggregate {
    kind: Kind,
    frame: Frame,
    field: FieldRef,
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {:?}", self.name(), self.frame)
    }
}

/// The rows of a frame as they come and go.
trait Sliding {
    /// No rows.
    fn clear(&mut self);
    /// Row `row` comes in, after all that are there.
    fn push(&mut self, row: usize);
    /// Row `row` leaves: the first of those that are there, the last of which is `end - 1`.
    fn pop(&mut self, row: usize, end: usize);
    /// The value of the rows that are there goes to the results.
    fn emit(&mut self);
}

fn slide(rows: &Ordered<'_>, frame: &Frame, window: &mut impl Sliding) -> Result<()> {
    for segment in rows.segments {
        window.clear();
        let (mut first, mut last) = (segment.rows.start, segment.rows.start);
        rows.frames(frame, segment, |_, start, end| {
            let end = end.max(start);
            if start >= last && start > first {
                window.clear();
                (first, last) = (start, start);
            }
            while last < end {
                window.push(last);
                last += 1;
            }
            while first < start {
                window.pop(first, last);
                first += 1;
            }
            window.emit();
        })?;
    }
    Ok(())
}

/// The rows that count: where no argument is null and the filter is true. `None`: all.
pub(super) fn counting(args: &[ArrayRef], filter: Option<&BooleanArray>) -> Option<BooleanBuffer> {
    let mut valid = filter.map(|filter| match filter.nulls() {
        Some(nulls) => filter.values() & nulls.inner(),
        None => filter.values().clone(),
    });
    for arg in args {
        if let Some(nulls) = arg.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
            valid = Some(match valid {
                Some(valid) => &valid & nulls.inner(),
                None => nulls.into_inner(),
            });
        }
    }
    valid
}

struct Counts {
    valid: Option<BooleanBuffer>,
    count: i64,
    results: Vec<i64>,
}

impl Sliding for Counts {
    fn clear(&mut self) {
        self.count = 0;
    }

    #[inline]
    fn push(&mut self, row: usize) {
        self.count += self.valid.as_ref().map_or(1, |valid| i64::from(valid.value(row)));
    }

    #[inline]
    fn pop(&mut self, row: usize, _end: usize) {
        self.count -= self.valid.as_ref().map_or(1, |valid| i64::from(valid.value(row)));
    }

    #[inline]
    fn emit(&mut self) {
        self.results.push(self.count);
    }
}

struct Sums<'a, N> {
    values: &'a [N],
    valid: Option<BooleanBuffer>,
    total: Total<N>,
    totals: Vec<Total<N>>,
}

impl<N: Weighted> Sliding for Sums<'_, N> {
    fn clear(&mut self) {
        self.total = Total::default();
    }

    #[inline]
    fn push(&mut self, row: usize) {
        if self.valid.as_ref().is_none_or(|valid| valid.value(row)) {
            self.total.add(self.values[row]);
        }
    }

    #[inline]
    fn pop(&mut self, row: usize, _end: usize) {
        if self.valid.as_ref().is_none_or(|valid| valid.value(row)) {
            self.total.sub(self.values[row]);
        }
    }

    #[inline]
    fn emit(&mut self) {
        self.totals.push(self.total);
    }
}

struct Doubles<'a> {
    values: &'a [f64],
    valid: Option<BooleanBuffer>,
    /// Sums of the rows that leave next, the one of all of them last.
    leaving: Vec<DoubleDouble>,
    /// The sum of the rows that came after those.
    later: DoubleDouble,
    count: u64,
    average: bool,
    results: Vec<f64>,
    full: Vec<bool>,
}

impl Doubles<'_> {
    #[inline]
    fn counts(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid.value(row))
    }
}

impl Sliding for Doubles<'_> {
    fn clear(&mut self) {
        self.leaving.clear();
        (self.later, self.count) = (DoubleDouble::default(), 0);
    }

    #[inline]
    fn push(&mut self, row: usize) {
        if self.counts(row) {
            self.later.add(self.values[row]);
            self.count += 1;
        }
    }

    fn pop(&mut self, row: usize, end: usize) {
        if self.leaving.is_empty() {
            let mut sum = DoubleDouble::default();
            for row in (row..end).rev() {
                if self.counts(row) {
                    sum.add(self.values[row]);
                }
                self.leaving.push(sum);
            }
            self.later = DoubleDouble::default();
        }
        self.leaving.pop();
        self.count -= u64::from(self.counts(row));
    }

    #[inline]
    fn emit(&mut self) {
        let mut sum = self.later;
        if let Some(leaving) = self.leaving.last() {
            sum.merge(*leaving);
        }
        self.results.push(if self.average { sum.value() / self.count as f64 } else { sum.value() });
        self.full.push(self.count > 0);
    }
}

struct Extremes<F> {
    valid: Option<BooleanBuffer>,
    /// Whether the second row is at least as good as the first.
    beaten: F,
    /// Rows that are the best of all from them on.
    rows: VecDeque<u32>,
    results: Vec<Option<u32>>,
}

impl<F: Fn(usize, usize) -> bool> Sliding for Extremes<F> {
    fn clear(&mut self) {
        self.rows.clear();
    }

    #[inline]
    fn push(&mut self, row: usize) {
        if self.valid.as_ref().is_none_or(|valid| valid.value(row)) {
            while self.rows.back().is_some_and(|other| (self.beaten)(*other as usize, row)) {
                self.rows.pop_back();
            }
            self.rows.push_back(row as u32);
        }
    }

    #[inline]
    fn pop(&mut self, row: usize, _end: usize) {
        if self.rows.front() == Some(&(row as u32)) {
            self.rows.pop_front();
        }
    }

    #[inline]
    fn emit(&mut self) {
        self.results.push(self.rows.front().copied());
    }
}

impl Aggregate {
    fn sums<N: Weighted>(&self, values: &[N], valid: Option<BooleanBuffer>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let totals = Vec::with_capacity(rows.wanted());
        let mut window = Sums { values, valid, total: Total::default(), totals };
        slide(rows, &self.frame, &mut window)?;
        sum_column(&window.totals, self.field.data_type())
    }

    fn doubles(&self, values: &ArrayRef, valid: Option<BooleanBuffer>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let values = native_values::<f64>(values);
        let mut window = Doubles {
            values: &values,
            valid,
            leaving: Vec::new(),
            later: DoubleDouble::default(),
            count: 0,
            average: self.kind == Kind::Average,
            results: Vec::with_capacity(rows.wanted()),
            full: Vec::with_capacity(rows.wanted()),
        };
        slide(rows, &self.frame, &mut window)?;
        Ok(Arc::new(Float64Array::new(window.results.into(), nulls(window.full))))
    }

    fn extremes(&self, values: &ArrayRef, valid: Option<BooleanBuffer>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let max = self.kind == Kind::Max;
        let find = |beaten: &dyn Fn(usize, usize) -> bool| -> Result<Vec<Option<u32>>> {
            let results = Vec::with_capacity(rows.wanted());
            let mut window = Extremes { valid: valid.clone(), beaten, rows: VecDeque::new(), results };
            slide(rows, &self.frame, &mut window)?;
            Ok(window.results)
        };
        macro_rules! primitive {
            ($native:ty) => {{
                let values = native_values::<$native>(values);
                let results = Vec::with_capacity(rows.wanted());
                macro_rules! run {
                    ($beaten:expr) => {{
                        let mut window = Extremes { valid, beaten: $beaten, rows: VecDeque::new(), results };
                        slide(rows, &self.frame, &mut window)?;
                        window.results
                    }};
                }
                match max {
                    true => run!(|old: usize, new: usize| values[old].is_le(values[new])),
                    false => run!(|old: usize, new: usize| values[old].is_ge(values[new])),
                }
            }};
        }
        let indices = by_native! {
            values.data_type() => primitive,
            _ => {
                // As `ORDER BY` has it, where a field is null too.
                let options = SortOptions { descending: false, nulls_first: false };
                // Both zeros are one, as in groups.
                let keys = canonical_values(values);
                let compare = make_comparator(&keys, &keys, options)?;
                match max {
                    true => find(&|old, new| compare(old, new).is_le())?,
                    false => find(&|old, new| compare(old, new).is_ge())?,
                }
            },
        };
        Ok(take(values, &UInt32Array::from(indices), None)?)
    }
}

pub(super) fn nulls(full: Vec<bool>) -> Option<NullBuffer> {
    (!full.iter().all(|full| *full)).then(|| NullBuffer::from(full))
}

impl Aggregate {
    fn running(&self) -> Option<Box<dyn Running>> {
        let from = From::of(&self.frame)?;
        let field = || Arc::clone(&self.field);
        macro_rules! extremes {
            ($native:ty) => {
                Some(Box::new(RunningExtremes::<$native>::new(from, field(), self.kind == Kind::Max)))
            };
        }
        match (self.kind, self.field.data_type()) {
            (Kind::Count, _) => Some(Box::new(RunningCounts::new(from))),
            (Kind::Sum | Kind::Average, DataType::Float64) => {
                Some(Box::new(RunningDoubles::new(from, self.kind == Kind::Average)))
            }
            (Kind::Sum, DataType::Int64) => Some(Box::new(RunningSums::<i64>::new(from, field()))),
            (Kind::Sum, DataType::UInt64) => Some(Box::new(RunningSums::<u64>::new(from, field()))),
            (Kind::Sum, DataType::Decimal128(..)) => Some(Box::new(RunningSums::<i128>::new(from, field()))),
            (Kind::Min | Kind::Max, data_type) => by_native! {
                data_type => extremes,
                _ => None,
            },
            _ => None,
        }
    }
}

impl OverFunction for Aggregate {
    fn running(&self) -> Option<RunningForm> {
        self.running().map(RunningForm)
    }

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
        match (self.kind, self.field.data_type()) {
            (Kind::Count, _) => {
                let mut window = Counts { valid, count: 0, results: Vec::with_capacity(rows.wanted()) };
                slide(rows, &self.frame, &mut window)?;
                Ok(Arc::new(Int64Array::from(window.results)))
            }
            (Kind::Sum | Kind::Average, DataType::Float64) => self.doubles(&args[0], valid, rows),
            (Kind::Sum, DataType::Int64) => self.sums::<i64>(&native_values(&args[0]), valid, rows),
            (Kind::Sum, DataType::UInt64) => self.sums::<u64>(&native_values(&args[0]), valid, rows),
            (Kind::Sum, DataType::Decimal128(..)) => self.sums::<i128>(&native_values(&args[0]), valid, rows),
            (Kind::Min | Kind::Max, _) => self.extremes(&args[0], valid, rows),
            (kind, other) => Err(EngineError::bug(format!("{kind:?} over {other}"))),
        }
    }
}
