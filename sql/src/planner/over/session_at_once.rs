//! `SESSION WITH GAP` frames of a query that is answered at once: DataFusion has none, so a row gets the number of its session first, and the
//! frame becomes all rows of that partition and number.
//!
//! A row begins a session where the row before it, in the order of the frame, is further away than the gap; sessions are numbered by a running
//! sum of these beginnings, in which rows with equal keys are peers. Rows without a key are one session.

use arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::lag;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{
    Expr as LogicalExpr, ExprFunctionExt, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Window, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, cast, lit, when,
};
use eagre_engine::operator::over::{Bound, Distance};

use super::frame::session_of;
use crate::error::SqlError;
use crate::parser::session_frame;
use crate::planner::context::column;
use crate::planner::expr::strip_alias;

/// How rows are parted by sessions.
#[derive(PartialEq)]
pub(in crate::planner) struct Sessions {
    /// Rows with other ones are in other sessions.
    pub(in crate::planner) keys: Vec<LogicalExpr>,
    /// What is measured.
    pub(in crate::planner) order: Sort,
    /// How far rows of a session may be apart.
    pub(in crate::planner) gap: Distance,
}

impl Sessions {
    /// Those of a call, and the type of what is measured.
    pub(super) fn of(function: &WindowFunction, window: &Window) -> DataFusionResult<(Self, DataType)> {
        let params = &function.params;
        let order = params.order_by.first().ok_or_else(|| SqlError::internal("a session without an order"))?.clone();
        let data_type = order.expr.get_type(window.input.schema())?;
        let gap = match session_of(&params.window_frame, Some(&data_type))?.end {
            Bound::Following(gap) => gap,
            _ => return Err(SqlError::internal("a session without a gap").into()),
        };
        let is_mark = |expr: &LogicalExpr| matches!(expr, LogicalExpr::Literal(value, _) if value.try_as_str().flatten().is_some_and(session_frame::is_mark));
        let keys = params.partition_by.iter().filter(|expr| !is_mark(strip_alias(expr))).cloned().collect();
        Ok((Self { keys, order, gap }, data_type))
    }

    /// Where a row lies, as a number of which differences can be taken, and the gap as one.
    fn measured(&self, data_type: &DataType) -> (LogicalExpr, LogicalExpr) {
        // Wide enough that no difference of two integers of 64 bits leaves it.
        const WIDE: DataType = DataType::Decimal128(38, 0);
        let order = self.order.expr.clone();
        match self.gap {
            Distance::Float(gap) => (cast(order, DataType::Float64), lit(gap)),
            Distance::Count(gap) => {
                let whole = match data_type {
                    DataType::Date32 => cast(cast(order, DataType::Int32), DataType::Int64),
                    DataType::Timestamp(..) => cast(order, DataType::Int64),
                    _ => order,
                };
                (cast(whole, WIDE), cast(lit(gap), WIDE))
            }
        }
    }

    fn in_order(&self, function: LogicalExpr) -> DataFusionResult<LogicalExpr> {
        let running = WindowFrame::new(Some(false));
        function.partition_by(self.keys.clone()).order_by(vec![self.order.clone()]).window_frame(running).build()
    }

    /// The rows of a plan with the number of their session as a column `number` more; `data_type` is that of what is measured.
    pub(in crate::planner) fn numbered(
        &self,
        plan: LogicalPlan,
        data_type: &DataType,
        number: &str,
    ) -> DataFusionResult<LogicalPlan> {
        let columns: Vec<LogicalExpr> = plan.schema().columns().into_iter().map(LogicalExpr::Column).collect();
        let with = |more: LogicalExpr| columns.iter().cloned().chain([more]).collect::<Vec<_>>();
        let (at, before, begins) = (column("__at"), column("__before"), column("__begins"));
        let (measured, gap) = self.measured(data_type);
        let distance = match self.order.asc {
            true => at.clone() - before.clone(),
            false => before.clone() - at.clone(),
        };
        // What is equal is no distance apart, also where it is no number.
        let goes_on = at
            .clone()
            .is_null()
            .and(before.clone().is_null())
            .or(at.clone().eq(before.clone()))
            .or(distance.lt_eq(gap));
        let is_first = when(goes_on, lit(0i64)).otherwise(lit(1i64))?;
        let sum = WindowFunction::new(WindowFunctionDefinition::AggregateUDF(sum_udaf()), vec![begins.clone()]);
        LogicalPlanBuilder::from(plan)
            .project(with(measured.alias("__at")))?
            .window(vec![self.in_order(lag(at, Some(1), None))?.alias("__before")])?
            .project(with(is_first.alias("__begins")))?
            .window(vec![self.in_order(LogicalExpr::from(sum))?.alias(number)])?
            .project(with(column(number)))?
            .build()
    }

    /// A call over the rows of its partition with the same number.
    pub(super) fn over(&self, function: &WindowFunction, number: &str) -> LogicalExpr {
        let mut function = function.clone();
        function.params.partition_by = self.keys.iter().cloned().chain([column(number)]).collect();
        function.params.window_frame = WindowFrame::new_bounds(
            WindowFrameUnits::Rows,
            WindowFrameBound::Preceding(datafusion::common::ScalarValue::UInt64(None)),
            WindowFrameBound::Following(datafusion::common::ScalarValue::UInt64(None)),
        );
        LogicalExpr::from(function)
    }
}
