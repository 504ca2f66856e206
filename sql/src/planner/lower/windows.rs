//! Window functions: pending columns, until something but an aggregate by the window looks at them; then rows with their windows.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::LogicalPlan;
use eagre_engine::expr::{Expr, StepContext};
use eagre_engine::graph::{ChangelogMode, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::window_assign::{WindowAssignFactory, local_type};
use eagre_engine::time::{event_times_from_ms, event_times_ms};
use eagre_engine::wall_clock::WallClock;

use super::stream::{PendingWindow, Slot, Stream, StreamColumn, WindowInfo, WindowPart};
use super::{Lowering, engine};
use crate::error::{Result, SqlError};
use crate::parser::EmitKind;
use crate::planner::ROWTIME_METADATA;
use crate::planner::match_recognize::time_of_match;
use crate::planner::window::{WindowCut, WindowShape, WindowTableFunction};

impl Lowering<'_> {
    pub(super) fn lower_window(&mut self, window: &WindowTableFunction) -> Result<Stream> {
        let input = &window.input;
        let judges = std::mem::take(&mut self.judges_sessions);
        let mut stream = self.lower(input)?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, input)?;
        }
        if let Some(clock) = self.processing_time(window)? {
            stream = self.start_processing_time(stream, input, clock);
        }
        let place = |stream: &Stream, column: &datafusion::common::Column| -> Result<(usize, bool)> {
            let column = &stream.columns[input.schema().index_of_column(column)?];
            match column.slot {
                Slot::Physical(place) => Ok((place, column.rowtime)),
                Slot::Window(_) => Err(SqlError::internal("a column without a place")),
            }
        };
        let (time, watermark) = place(&stream, &window.time)?;
        let partition = window.partition.iter().map(|key| Ok(place(&stream, key)?.0)).collect::<Result<Vec<_>>>()?;
        if !watermark && (window.emit == Some(EmitKind::OnWindowClose) || !stream.bounded) {
            let name = &window.time.name;
            let add = format!("add `WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND`");
            let timeless = self.without_watermark(&self.behind(&stream));
            let (of_table, way_out, to_table) = match (time_of_match(input, &window.time), timeless) {
                (Some(way_out), _) => (":".to_owned(), way_out, String::new()),
                (None, Some(table)) => (format!(" on `{table}`;"), add, format!(" to `{table}`")),
                (None, None) => (":".to_owned(), behind_the_watermark(name), String::new()),
            };
            if window.emit == Some(EmitKind::OnWindowClose) {
                let message = format!("EMIT ON WINDOW CLOSE needs a watermark{of_table} {way_out}");
                return Err(SqlError::plan(message, window.location));
            }
            self.notice(format!(
                "no watermark speaks of `{name}`, so its windows never close and their state is never freed; {way_out}{to_table}"
            ));
        }
        let WindowCut { spec, clock } = window.cut.clone();
        let time_type = stream.physical.field(time).data_type().clone();
        let judged = judges && watermark && stream.changelog != ChangelogMode::AppendOnly;
        let info = WindowInfo { spec, clock, time_type, watermark, emit: window.emit, judged };
        for part in WindowPart::ALL {
            stream.columns.push(StreamColumn {
                slot: Slot::Window(part),
                role: Some((info.clone(), part)),
                rowtime: watermark && part == WindowPart::Time,
                ..StreamColumn::plain(0)
            });
        }
        stream.pending = Some(PendingWindow { info, time, partition });
        Ok(stream)
    }

    /// Gives each row its windows: as many rows as windows.
    pub(in crate::planner) fn assign_windows(&mut self, mut stream: Stream, plan: &LogicalPlan) -> Result<Stream> {
        self.narrow(&mut stream);
        let Some(pending) = stream.pending.take() else {
            return Ok(stream);
        };
        let spec = match pending.info.spec {
            WindowShape::Aligned(spec) => spec,
            WindowShape::Session { gap_ms } => return self.assign_sessions(stream, &pending, gap_ms, plan),
        };
        let from = self.flush(&mut stream, plan);
        let width = stream.physical.fields().len();
        // Rows are judged where they are aggregated; until then a late row is a row like any other.
        let factory =
            WindowAssignFactory::new(spec, pending.time, Arc::clone(&stream.physical), None).map_err(engine)?;
        let factory = factory.with_clock(pending.info.clock.clone());
        let schema = factory.output_schema();
        for column in &mut stream.columns {
            if let Slot::Window(part) = column.slot {
                column.slot = Slot::Physical(width + part as usize);
            }
        }
        stream.physical = Arc::clone(&schema);
        if stream.changelog == ChangelogMode::Upsert {
            // A row of a key is in many windows.
            stream.key = stream.key.map(|key| key.into_iter().chain([width, width + 1]).collect());
        }
        let detail = format!("{}, time={}", pending.info.cut(), schema.field(pending.time).name());
        let id = self.id("window assign", plan, &stream.tables);
        let mut output = stream.edge_info();
        output.ordinals = stream.needs_ordinals;
        let node = self.push_operator(id, factory, from, Route::Forward, output, detail, "");
        self.may_refuse(node, &stream.tables);
        stream.from = (node, PORT_MAIN);
        Ok(stream)
    }
}

/// `window_time`, or when a window closes, from another column of the window.
#[derive(Debug)]
pub(in crate::planner) struct ShiftedTime {
    index: usize,
    shift_ms: i64,
    clock: WallClock,
    then_ms: i64,
    field: FieldRef,
}

impl ShiftedTime {
    /// `window_time` of the window whose end is in column `index`.
    pub(in crate::planner) fn window_time(index: usize, info: &WindowInfo, field: FieldRef) -> Self {
        Self { index, shift_ms: -1, clock: info.clock.clone(), then_ms: 0, field }
    }

    /// The watermark that closes the window of which column `index` is the `part`; `None`: that does not follow from it.
    pub(in crate::planner) fn closing(index: usize, info: &WindowInfo, part: WindowPart) -> Option<Self> {
        let to_end_ms = info.to_end_ms(part)?;
        let field = Arc::new(Field::new("window_end", info.time_type.clone(), false));
        Some(match part {
            WindowPart::Time => Self { index, shift_ms: to_end_ms, clock: WallClock::default(), then_ms: 0, field },
            _ => Self { index, shift_ms: to_end_ms - 1, clock: info.clock.clone(), then_ms: 1, field },
        })
    }
}

impl fmt::Display for ShiftedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name())
    }
}

impl Expr for ShiftedTime {
    fn evaluate(
        &self,
        batch: &RecordBatch,
        _context: &StepContext,
        _ordinals: Option<&UInt64Array>,
    ) -> eagre_engine::Result<ArrayRef> {
        let times = event_times_ms(batch.column(self.index))?;
        let shifted =
            |time: i64| self.clock.last_instant(time.saturating_add(self.shift_ms)).saturating_add(self.then_ms);
        event_times_from_ms(times.unary(shifted), self.field.data_type())
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }
}

/// The field of a window's column; `window_time` is a time attribute where a watermark speaks of it.
pub(in crate::planner) fn window_field(part: WindowPart, time_type: &DataType, watermark: bool) -> FieldRef {
    let field = match part {
        WindowPart::Start => Field::new("window_start", local_type(time_type), false),
        WindowPart::End => Field::new("window_end", local_type(time_type), false),
        WindowPart::Time => Field::new("window_time", time_type.clone(), false),
    };
    Arc::new(match watermark && part == WindowPart::Time {
        true => field.with_metadata([(ROWTIME_METADATA.to_string(), String::new())].into()),
        false => field,
    })
}

/// Why no watermark speaks of a column of tables that have one each.
fn behind_the_watermark(time: &str) -> String {
    format!(
        "`{time}` is not the column of `WATERMARK FOR`, or its rows come behind the watermark, as those of `LEAD`, of results that are corrected, \
         and of joins without a bound in time do; take the window of that column, before them"
    )
}
