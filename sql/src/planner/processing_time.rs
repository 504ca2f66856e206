//! Windows, `OVER` and patterns in processing time: over a column that is `PROCTIME()`, of the table or of a query over it.
//!
//! Such a column has the recorded clock of the step in which it is computed. Traced through projections, filters and aliases down to
//! the call it is a time attribute, as in Flink; behind anything that holds rows back it is an ordinary timestamp.

use datafusion::common::Column;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use eagre_engine::graph::{ChangelogMode, NodeIndex, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::processing_time::ProcessingTimeFactory;
use eagre_engine::operator::window::WindowKind;

use super::context::CatalogTable;
use super::expr::strip_alias;
use super::lower::{Lowering, Stream};
use super::nearest::{NearestJoin, NearestKind};
use super::window::{WindowShape, WindowTableFunction};
use crate::catalog::{ColumnKind, Relation};
use crate::error::Result;

/// When something can close in processing time.
pub(super) struct Ticks {
    grain_ms: i64,
    offset_ms: i64,
    /// The column of the input.
    column: usize,
}

/// Sessions end at any time: they are looked at this many times a gap, and not more often than each 10 ms.
const TICKS_PER_GAP: i64 = 50;
const SESSION_TICK_MS_MIN: i64 = 10;
/// So long, at most, rows wait that are taken in the order of processing time: until the clock shows a later time than theirs.
const ORDER_TICK_MS: i64 = 10;

impl Lowering<'_> {
    /// Whether a window is in processing time, and when it can close.
    pub(super) fn processing_time(&self, window: &WindowTableFunction) -> Result<Option<Ticks>> {
        let column = window.input.schema().index_of_column(&window.time)?;
        if !self.is_processing_time(&window.input, column)? {
            return Ok(None);
        }
        let (grain_ms, offset_ms) = match window.cut.spec {
            WindowShape::Session { gap_ms } => ((gap_ms / TICKS_PER_GAP).max(SESSION_TICK_MS_MIN), 0),
            WindowShape::Aligned(spec) => {
                let grain_ms = match spec.kind {
                    WindowKind::Tumble { size_ms } => size_ms,
                    WindowKind::Hop { slide_ms, size_ms } => greatest_divisor(slide_ms, size_ms),
                    WindowKind::Cumulate { step_ms, .. } => step_ms,
                };
                // Whatever the clock shows, each end of a window is one of the ticks.
                let offsets = window.cut.clock.offsets_since(0);
                let grain_ms = offsets.iter().fold(grain_ms, |grain, offset| greatest_divisor(grain, offset.abs()));
                (grain_ms.max(1), spec.offset_ms)
            }
        };
        Ok(Some(Ticks { grain_ms, offset_ms, column }))
    }

    pub(super) fn is_processing_time(&self, plan: &LogicalPlan, column: usize) -> Result<bool> {
        let of = |input: &LogicalPlan, column: &Column| -> Result<bool> {
            self.is_processing_time(input, input.schema().index_of_column(column)?)
        };
        match plan {
            LogicalPlan::Projection(projection) => match strip_alias(&projection.expr[column]) {
                LogicalExpr::Column(column) => of(&projection.input, column),
                expr => Ok(is_clock(expr)),
            },
            LogicalPlan::Filter(filter) => self.is_processing_time(&filter.input, column),
            LogicalPlan::SubqueryAlias(alias) => self.is_processing_time(&alias.input, column),
            LogicalPlan::Union(union) => {
                for input in &union.inputs {
                    if !self.is_processing_time(input, column)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            // A lookup answers a row in the step in which it came.
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<NearestJoin>() {
                Some(join) if join.kind == NearestKind::Lookup && column < join.left.schema().fields().len() => {
                    self.is_processing_time(&join.left, column)
                }
                _ => Ok(false),
            },
            LogicalPlan::TableScan(scan) => {
                let Some(Relation::Table(table)) =
                    scan.source.downcast_ref::<CatalogTable>().map(|table| &table.relation)
                else {
                    return Ok(false);
                };
                let index = scan.projection.as_ref().map_or(column, |projection| projection[column]);
                match &table.definition.columns[index].kind {
                    ColumnKind::Computed(text) => {
                        let expr = self.context.plan_expr(text, &table.definition.computing_schema())?;
                        Ok(is_clock(strip_alias(&expr)))
                    }
                    _ => Ok(false),
                }
            }
            _ => Ok(false),
        }
    }

    /// Where an order begins with processing time, ascending, the clock is the watermark: rows are in order as they come, and final as
    /// soon as it has gone on.
    pub(super) fn order_in_processing_time(
        &mut self,
        stream: Stream,
        plan: &LogicalPlan,
        column: &Column,
    ) -> Result<Stream> {
        let column = plan.schema().index_of_column(column)?;
        let is_known = stream.columns.get(column).is_none_or(|column| column.rowtime);
        if is_known || stream.changelog != ChangelogMode::AppendOnly || !self.is_processing_time(plan, column)? {
            return Ok(stream);
        }
        Ok(self.start_processing_time(stream, plan, Ticks { grain_ms: ORDER_TICK_MS, offset_ms: 0, column }))
    }

    /// From here on the clock is the watermark, and speaks of that column alone.
    pub(super) fn start_processing_time(&mut self, mut stream: Stream, plan: &LogicalPlan, ticks: Ticks) -> Stream {
        let from = self.flush(&mut stream, plan);
        for column in &mut stream.columns {
            (column.rowtime, column.role) = (false, None);
        }
        stream.columns[ticks.column].rowtime = true;
        stream.lateness_ms = 0;
        let factory = ProcessingTimeFactory::new(ticks.grain_ms, ticks.offset_ms);
        let id = self.id("processing time", plan, &stream.tables);
        let output = stream.output_info();
        let detail = format!("time={}", plan.schema().field(ticks.column).name());
        let node: NodeIndex = self.push_operator(id, factory, from, Route::Forward, output, detail, "");
        stream.leave((node, PORT_MAIN));
        stream
    }
}

/// Whether an expression is the step's clock as a point in time.
pub(super) fn is_clock(expr: &LogicalExpr) -> bool {
    matches!(expr, LogicalExpr::ScalarFunction(call) if call.func.name() == "now")
}

fn greatest_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}
