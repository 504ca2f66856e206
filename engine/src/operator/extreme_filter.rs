//! Rows that may still be the greatest, or least, of their window: what a join with the window's own `MAX` or `MIN` has to keep.
//!
//! `SELECT b.* FROM bid b JOIN (SELECT MAX(price) m, window_end FROM TUMBLE(..bid..)) w ON b.price = w.m AND ..` asks for few rows of many. Which
//! they are is known when the window closes, so a join keeps all until then. But a row below the greatest that has come so far is not
//! among them, whatever comes: it is dropped here, before it is sent anywhere and kept. A join that is given what one of its inputs has
//! learnt is sideways information passing (Beeri and Ramakrishnan, "On the power of magic", PODS 1987); that it goes on while the
//! other side's answer is still being made is Ives and Taylor, "Sideways information passing for push-style query processing" (ICDE 2008).
//!
//! It is always right to let a row pass. So nothing of this is state that a checkpoint has to hold, a shard need not know what
//! others have seen, and rows that somebody else may have to judge, late ones and those without a time or value, pass.

use std::collections::VecDeque;
use std::ops::{Not, Range};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, SchemaRef};

use super::window::{WindowKind, WindowSpec};
use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::Delta;
use crate::error::{EngineError, Result};
use crate::time::{EventTimeMs, event_times_ms};

#[cfg(test)]
mod tests;

/// So many windows that one row may meet are looked through; a condition that lets it meet more gives up little by keeping all rows.
const WINDOWS_MAX: i64 = 4;

/// Which rows an [`ExtremeFilter`] keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtremeSpec {
    /// The column of which the other side has the greatest, or least.
    pub value: usize,
    /// Whether it has the greatest.
    pub greatest: bool,
    /// The event time by which the rows belong to their windows.
    pub time: usize,
    /// The length of the windows in milliseconds (tumbling ones), and where one begins.
    pub size_ms: i64,
    /// Where some window begins.
    pub offset_ms: i64,
    /// A row of time `t` is only joined with windows whose end is from `t + .0` to `t + .1`, in milliseconds.
    pub ends_ms: (i64, i64),
}

/// Makes [`ExtremeFilter`]s.
pub struct ExtremeFilterFactory {
    spec: ExtremeSpec,
    windows: WindowSpec,
    wide: bool,
}

impl ExtremeFilterFactory {
    /// A filter of rows of `input`; `None` where it would not pay or not be right: of values whose order is not that of one machine word
    /// (floats have zeros that are equal and not the same), or where a row may meet many windows.
    ///
    /// # Errors
    /// A window without a length.
    pub fn new(spec: ExtremeSpec, input: &SchemaRef) -> Result<Option<Self>> {
        let windows = WindowSpec::new(WindowKind::Tumble { size_ms: spec.size_ms }, spec.offset_ms)?;
        let wide = match input.field(spec.value).data_type() {
            DataType::Decimal128(..) => true,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => false,
            DataType::UInt64 => return Ok(None),
            other if other.is_integer() => false,
            _ => return Ok(None),
        };
        let (least, greatest) = spec.ends_ms;
        let met = greatest.saturating_sub(least).div_euclid(spec.size_ms);
        Ok((0..WINDOWS_MAX).contains(&met).then_some(Self { spec, windows, wide }))
    }
}

impl OperatorFactory for ExtremeFilterFactory {
    fn name(&self) -> &'static str {
        "ExtremeFilter"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let (spec, windows) = (self.spec.clone(), self.windows);
        Ok(match self.wide {
            true => Box::new(ExtremeFilter::<Decimal128Type>::new(spec, windows)),
            false => Box::new(ExtremeFilter::<Int64Type>::new(spec, windows)),
        })
    }
}

/// What a value has to reach so that its row may be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bar<N> {
    /// Nothing: of one of the windows that it meets no row has been seen.
    Open,
    /// This.
    At(N),
    /// The row meets no window.
    Shut,
}

impl<N: Ord> Bar<N> {
    fn is_reached_by(&self, value: N) -> bool {
        match self {
            Self::Open => true,
            Self::At(least) => value >= *least,
            Self::Shut => false,
        }
    }
}

/// Rows of one delta, and what is looked at of them.
struct Rows<P: ArrowPrimitiveType> {
    delta: Delta,
    times: Int64Array,
    /// As [`ExtremeFilter::values`] gives them.
    values: PrimitiveArray<P>,
    /// Which have both, where some have not.
    there: Option<NullBuffer>,
}

/// Lets rows pass that may be the greatest or least of a window that they are joined with.
struct ExtremeFilter<P: ArrowPrimitiveType> {
    spec: ExtremeSpec,
    windows: WindowSpec,
    /// The end of each window and the best value of its rows so far, by ascending end.
    best: VecDeque<(EventTimeMs, P::Native)>,
}

impl<P> ExtremeFilter<P>
where
    P: ArrowPrimitiveType,
    P::Native: Ord + Not<Output = P::Native>,
{
    fn new(spec: ExtremeSpec, windows: WindowSpec) -> Self {
        Self { spec, windows, best: VecDeque::new() }
    }

    /// The values, turned around where the least is asked for, so that greater is better: `!x` is `-x - 1`, of which every value has one.
    fn values(&self, column: &ArrayRef) -> Result<PrimitiveArray<P>> {
        let words = match column.data_type() {
            DataType::Decimal128(..) => Arc::clone(column),
            _ => cast(column, &DataType::Int64)?,
        };
        let words = words.as_primitive_opt::<P>();
        let words = words.ok_or_else(|| EngineError::bug(format!("an extreme of {}", column.data_type())))?;
        Ok(if self.spec.greatest { words.clone() } else { words.unary::<_, P>(|word| !word) })
    }

    fn window_of(&self, time: EventTimeMs) -> Range<EventTimeMs> {
        let pane = self.windows.pane_of(time);
        self.windows.pane_start(pane)..self.windows.pane_end(pane)
    }

    /// Notes the rows of windows that are open at watermark `before`.
    fn learn(&mut self, Rows { times, values, there, .. }: &Rows<P>, before: EventTimeMs) {
        // Rows of one window mostly come together.
        let (mut window, mut best): (Range<i64>, Option<P::Native>) = (0..0, None);
        for (row, (time, value)) in times.values().iter().zip(values.values()).enumerate() {
            if there.as_ref().is_some_and(|there| there.is_null(row)) {
                continue;
            }
            if !window.contains(time) {
                self.raise(window.end, best.take());
                window = self.window_of(*time);
            }
            // What its aggregate refuses as late does not count.
            if window.end > before {
                best = Some(best.map_or(*value, |best| best.max(*value)));
            }
        }
        self.raise(window.end, best);
    }

    fn raise(&mut self, end: EventTimeMs, value: Option<P::Native>) {
        let Some(value) = value else { return };
        match self.best.binary_search_by_key(&end, |(end, _)| *end) {
            Ok(place) => self.best[place].1 = self.best[place].1.max(value),
            Err(place) => self.best.insert(place, (end, value)),
        }
    }

    fn best_of(&self, end: EventTimeMs) -> Option<P::Native> {
        self.best.binary_search_by_key(&end, |(end, _)| *end).ok().map(|place| self.best[place].1)
    }

    /// What rows of time `time` have to reach, and all times of which the same is true.
    fn bar(&self, time: EventTimeMs) -> (Range<EventTimeMs>, Bar<P::Native>) {
        let (least, greatest) = self.spec.ends_ms;
        let size_ms = self.spec.size_ms;
        // The first end that is not before `time + least`, and the last that is not behind `time + greatest`.
        let first = self.window_of(time.saturating_add(least).saturating_sub(1)).end;
        let last = self.window_of(time.saturating_add(greatest)).start;
        let alike = (first.saturating_sub(size_ms).saturating_sub(least).saturating_add(1))
            .max(last.saturating_sub(greatest))
            ..(first.saturating_sub(least).saturating_add(1))
                .min(last.saturating_add(size_ms).saturating_sub(greatest));
        let mut bar: Bar<P::Native> = Bar::Shut;
        let mut end = first;
        while end <= last {
            bar = match (bar, self.best_of(end)) {
                (_, None) => return (alike, Bar::Open),
                (Bar::At(known), Some(best)) => Bar::At(known.min(best)),
                (_, Some(best)) => Bar::At(best),
            };
            end = end.saturating_add(size_ms);
        }
        (alike, bar)
    }

    fn keep(&self, Rows { delta, times, values, there }: Rows<P>, before: EventTimeMs) -> Result<Delta> {
        let (mut alike, mut bar) = (0..0, Bar::Open);
        let (times, values) = (times.values(), values.values());
        let mask = BooleanBuffer::collect_bool(delta.rows(), |row| {
            let time = times[row];
            if time < before || there.as_ref().is_some_and(|there| there.is_null(row)) {
                return true;
            }
            if !alike.contains(&time) {
                (alike, bar) = self.bar(time);
            }
            bar.is_reached_by(values[row])
        });
        if mask.count_set_bits() == delta.rows() { Ok(delta) } else { delta.filter(&BooleanArray::new(mask, None)) }
    }
}

impl<P> Operator for ExtremeFilter<P>
where
    P: ArrowPrimitiveType,
    P::Native: Ord + Not<Output = P::Native>,
{
    fn name(&self) -> &'static str {
        "ExtremeFilter"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let before = input.watermarks.before;
        let deltas = input.single().into_iter().filter(|delta| !delta.is_empty());
        let rows = deltas.map(|delta| {
            let times = event_times_ms(delta.batch.column(self.spec.time))?;
            let values = self.values(delta.batch.column(self.spec.value))?;
            let there = NullBuffer::union(times.nulls(), values.nulls()).filter(|there| there.null_count() > 0);
            Ok(Rows { delta, times, values, there })
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        // All rows of the step first: what is the greatest of them is known when the step is over.
        rows.iter().for_each(|rows| self.learn(rows, before));
        for rows in rows {
            out.emit(self.keep(rows, before)?);
        }
        // Rows that are not late from here on meet windows that end behind this.
        let met = input.watermarks.after.saturating_add(self.spec.ends_ms.0);
        while self.best.front().is_some_and(|(end, _)| *end < met) {
            self.best.pop_front();
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, _kind: SaveKind, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _state: &StateReader<'_>) -> Result<()> {
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.best.capacity() * size_of::<(EventTimeMs, P::Native)>()
    }

    fn state_rows(&self) -> usize {
        0
    }
}
