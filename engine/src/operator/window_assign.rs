//! Windows as columns: a row comes out once for each window that it belongs to. For queries that need more of a window than an
//! aggregate over its rows (`SELECT * FROM TABLE(HOP(..))`, windows as keys beside others, joins of windows).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::is_not_null;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};

use super::partial_aggregate::refuse_null_times;
use super::window::WindowSpec;
use super::{Input, LateRows, Operator, OperatorFactory, Output, Progress};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::time::{WATERMARK_MIN, event_times_from_ms, event_times_ms};
use crate::type_name::sql_name;
use crate::wall_clock::WallClock;

/// Makes [`WindowAssign`]s.
pub struct WindowAssignFactory {
    spec: WindowSpec,
    clock: WallClock,
    time_column: usize,
    time_type: DataType,
    judge: Option<i64>,
    output: SchemaRef,
}

impl WindowAssignFactory {
    /// Windows over the event time in column `time_column` of `input`. `judge` is the allowed lateness in milliseconds: windows that
    /// were closed longer than that when the step began are left out, and the row is reported late. Without it every window counts.
    /// Rows without an event time belong to no window and are refused as late with no window missed.
    ///
    /// # Errors
    /// A time column that is not a timestamp or date.
    pub fn new(spec: WindowSpec, time_column: usize, input: SchemaRef, judge: Option<i64>) -> Result<Self> {
        let time = input.field(time_column);
        check_time_type(time.name(), time.data_type())?;
        let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
        fields.extend(window_fields(time.data_type(), Some(time)).map(Arc::new));
        let output = Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()));
        let time_type = time.data_type().clone();
        Ok(Self { spec, clock: WallClock::default(), time_column, time_type, judge, output })
    }

    /// Windows that are cut by what `clock` shows.
    pub fn with_clock(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// The input's columns, then `window_start`, `window_end`, `window_time`.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }
}

pub(crate) fn check_time_type(name: &str, data_type: &DataType) -> Result<()> {
    if matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
        return Ok(());
    }
    Err(EngineError::Plan {
        message: format!(
            "windows need an event time, but `{name}` has type {}; cast it to TIMESTAMP(3)",
            sql_name(data_type)
        ),
    })
}

/// The type of `window_start` and `window_end` of windows over times of a type: windows over instants are cut in local time.
pub fn local_type(time_type: &DataType) -> DataType {
    match time_type {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, None),
        other => other.clone(),
    }
}

/// `window_start`, `window_end` and `window_time`; the last one is an event time as `time` is.
pub(crate) fn window_fields(time_type: &DataType, time: Option<&Field>) -> [Field; 3] {
    let field = |name: &str| Field::new(name, local_type(time_type), false);
    let metadata = time.map(|time| time.metadata().clone()).unwrap_or_default();
    let window_time = Field::new("window_time", time_type.clone(), false).with_metadata(metadata);
    [field("window_start"), field("window_end"), window_time]
}

/// The three columns for windows `(start, end)` in local time. The time of a window is its last instant.
pub(crate) fn window_columns(
    starts: Vec<i64>,
    ends: Vec<i64>,
    time_type: &DataType,
    clock: &WallClock,
) -> Result<[ArrayRef; 3]> {
    let times: Int64Array = ends.iter().map(|end| Some(clock.last_instant(end.saturating_sub(1)))).collect();
    let [starts, ends] = local_columns(starts, ends, time_type)?;
    Ok([starts, ends, event_times_from_ms(times, time_type)?])
}

/// Starts and ends in local time.
pub(crate) fn local_columns(starts: Vec<i64>, ends: Vec<i64>, time_type: &DataType) -> Result<[ArrayRef; 2]> {
    let local_type = local_type(time_type);
    Ok([
        event_times_from_ms(Int64Array::from(starts), &local_type)?,
        event_times_from_ms(Int64Array::from(ends), &local_type)?,
    ])
}

impl OperatorFactory for WindowAssignFactory {
    fn name(&self) -> &'static str {
        "WindowAssign"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(WindowAssign {
            spec: self.spec,
            clock: self.clock.clone(),
            time_column: self.time_column,
            time_type: self.time_type.clone(),
            judge: self.judge,
            output: Arc::clone(&self.output),
        }))
    }
}

/// Adds the window to each row, once for each window.
pub struct WindowAssign {
    spec: WindowSpec,
    clock: WallClock,
    time_column: usize,
    time_type: DataType,
    judge: Option<i64>,
    output: SchemaRef,
}

impl WindowAssign {
    fn assign(&self, mut delta: Delta, watermark: i64, out: &mut Output) -> Result<()> {
        if delta.batch.column(self.time_column).null_count() > 0 {
            refuse_null_times(&delta, self.time_column, watermark, out)?;
            delta = delta.filter(&is_not_null(delta.batch.column(self.time_column))?)?;
        }
        let times = event_times_ms(delta.batch.column(self.time_column))?;
        let locals = self.clock.local_times(&times);
        let closed = self.judge.map_or(WATERMARK_MIN, |lateness| watermark.saturating_sub(lateness));
        let closed = self.clock.passed(closed);
        let mut expansion = Expansion::default();
        let (mut late, mut late_times, mut windows_missed) = (Vec::new(), Vec::new(), Vec::new());
        // Rows of one pane mostly come together; finding it takes several divisions.
        let (mut pane, mut open, mut missed) = (0..0, self.spec.windows_of_pane(0), 0);
        for (row, (time, local)) in times.values().iter().zip(locals.values()).enumerate() {
            if !pane.contains(local) {
                let number = self.spec.pane_of(*local);
                let windows = self.spec.windows_of_pane(number);
                pane = self.spec.pane_start(number)..self.spec.pane_end(number);
                open = if self.judge.is_some() { windows.ending_after(closed) } else { windows };
                missed = windows.count_left() - open.count_left();
            }
            if missed > 0 {
                late.push(row as u32);
                late_times.push(*time);
                windows_missed.push(missed as u32);
            }
            open.for_each(|window| expansion.push(row, window));
        }
        if !late.is_empty() {
            let Delta { batch: rows, weights, .. } = delta.take(&UInt32Array::from(late))?;
            out.late(LateRows { input: None, rows, weights, event_times: late_times, windows_missed, watermark });
        }
        let Expansion { rows, starts, ends } = expansion;
        let delta = take_rows(delta, rows)?;
        let mut columns = delta.batch.columns().to_vec();
        columns.extend(window_columns(starts, ends, &self.time_type, &self.clock)?);
        out.emit(delta.with_batch(batch_of(&self.output, columns, delta.rows())?));
        Ok(())
    }
}

/// Pairs of row and window.
#[derive(Default)]
struct Expansion {
    rows: Vec<u32>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Expansion {
    #[inline]
    fn push(&mut self, row: usize, (start, end): (i64, i64)) {
        self.rows.push(row as u32);
        self.starts.push(start);
        self.ends.push(end);
    }
}

/// The rows at ascending `rows`, as they are where that is all of them once.
fn take_rows(delta: Delta, rows: Vec<u32>) -> Result<Delta> {
    if rows.len() == delta.rows() && rows.iter().enumerate().all(|(index, row)| index == *row as usize) {
        return Ok(delta);
    }
    delta.take(&UInt32Array::from(rows))
}

impl Operator for WindowAssign {
    fn name(&self) -> &'static str {
        "WindowAssign"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        for delta in input.single() {
            if !delta.is_empty() {
                self.assign(delta, input.watermarks.before, out)?;
            }
        }
        Ok(Progress::Done)
    }

    keeps_nothing!();
}

/// Makes [`PaneWindows`].
pub struct PaneWindowsFactory {
    spec: WindowSpec,
    clock: WallClock,
    time_type: DataType,
    lateness_ms: i64,
    output: SchemaRef,
}

impl PaneWindowsFactory {
    /// Turns the panes of partial rows (column 0 of `input`) into the windows that cover them and are not closed for longer than
    /// `lateness_ms`; window columns have `time_type`.
    ///
    /// # Errors
    /// A `time_type` that is no event time, or an input without a pane.
    pub fn new(spec: WindowSpec, time_type: DataType, input: SchemaRef, lateness_ms: i64) -> Result<Self> {
        check_time_type("window_time", &time_type)?;
        if input.fields().first().map(|field| field.data_type()) != Some(&DataType::Int64) {
            return Err(EngineError::bug("the first column of partial rows is not the pane"));
        }
        let [start, end, _] = window_fields(&time_type, None);
        let mut fields = vec![Arc::new(start), Arc::new(end)];
        fields.extend(input.fields().iter().skip(1).cloned());
        let (clock, output) = (WallClock::default(), Arc::new(Schema::new(fields)));
        Ok(Self { spec, clock, time_type, lateness_ms, output })
    }

    /// Panes that are cut by what `clock` shows.
    pub fn with_clock(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// `window_start`, `window_end`, then the input without the pane.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }
}

impl OperatorFactory for PaneWindowsFactory {
    fn name(&self) -> &'static str {
        "PaneWindows"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(PaneWindows {
            spec: self.spec,
            clock: self.clock.clone(),
            time_type: self.time_type.clone(),
            lateness_ms: self.lateness_ms,
            output: Arc::clone(&self.output),
        }))
    }
}

/// Replaces the pane of partial rows by the open windows that cover it, one row each.
pub struct PaneWindows {
    spec: WindowSpec,
    clock: WallClock,
    time_type: DataType,
    lateness_ms: i64,
    output: SchemaRef,
}

impl Operator for PaneWindows {
    fn name(&self) -> &'static str {
        "PaneWindows"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let closed = self.clock.passed(input.watermarks.before.saturating_sub(self.lateness_ms));
        for delta in input.single() {
            let mut expansion = Expansion::default();
            for (row, pane) in delta.batch.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
                self.spec.windows_of_pane(*pane).ending_after(closed).for_each(|window| expansion.push(row, window));
            }
            let Expansion { rows, starts, ends } = expansion;
            let [start, end] = local_columns(starts, ends, &self.time_type)?;
            let kept: Vec<usize> = (1..delta.batch.num_columns()).collect();
            let states: RecordBatch = delta.batch.project(&kept)?;
            let delta = take_rows(delta.with_batch(states), rows)?;
            let mut columns = vec![start, end];
            columns.extend(delta.batch.columns().iter().cloned());
            out.emit(delta.with_batch(batch_of(&self.output, columns, delta.rows())?));
        }
        Ok(Progress::Done)
    }

    keeps_nothing!();
}
