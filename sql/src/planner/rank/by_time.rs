//! The first rows in event time, of a query that waits for the watermark (`EMIT ON WINDOW CLOSE`): once it has passed a row, none comes before that any
//! more, so a row that is among the first by then stays there. They are the rows that an `OVER` numbers, which waits for the watermark as well and
//! takes nothing back.

use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, SortExpr, WindowFrame, lit};
use eagre_engine::operator::top_n::RankFunction;

use super::TopN;
use crate::error::{Result, SqlError};
use crate::parser::EmitKind;
use crate::planner::ROWTIME_METADATA;
use crate::planner::context::default_functions;
use crate::planner::expr::strip_alias;
use crate::planner::lower::Lowering;
use crate::planner::window::WINDOW_COLUMNS;

impl Lowering<'_> {
    /// Ranks by event time as numbers and a filter of them; `None`: the query does not wait, or the rank is by something else, or within a window, which
    /// closes.
    pub(super) fn ranked_by_time(&self, node: &TopN) -> Result<Option<LogicalPlan>> {
        let schema = node.input.schema();
        let is_time = |expr: &Expr| match strip_alias(expr) {
            Expr::Column(column) => schema
                .index_of_column(column)
                .is_ok_and(|index| schema.field(index).metadata().contains_key(ROWTIME_METADATA)),
            _ => false,
        };
        let is_of_window = |expr: &Expr| match strip_alias(expr) {
            Expr::Column(column) => WINDOW_COLUMNS.contains(&column.name.as_str()),
            _ => false,
        };
        // `DISTINCT ON (k) .. ORDER BY k, ts`.
        let order: Vec<SortExpr> =
            node.order.iter().filter(|sort| !node.partition.contains(&sort.expr)).cloned().collect();
        let by_time = order.first().is_some_and(|sort| sort.asc && is_time(&sort.expr));
        if self.emit != Some(EmitKind::OnWindowClose) || !by_time || node.partition.iter().any(is_of_window) {
            return Ok(None);
        }
        let name = match node.function {
            RankFunction::RowNumber => "row_number",
            RankFunction::Rank => "rank",
            RankFunction::DenseRank => "dense_rank",
        };
        let function = default_functions().window.get(name).cloned();
        let function = function.ok_or_else(|| SqlError::internal(format!("no function `{name}`")))?;
        let call = Expr::from(WindowFunction::new(function, vec![]));
        let call = call.partition_by(node.partition.clone()).order_by(order);
        let call = call.window_frame(WindowFrame::new(Some(false))).build()?;
        let (call, rank) = match &node.rank {
            Some((qualifier, field)) => {
                (call.alias_qualified(qualifier.clone(), field.name()), Expr::from((qualifier.as_ref(), field)))
            }
            None => (call.alias(RANK), datafusion::logical_expr::col(RANK)),
        };
        let number = |place: u64| lit(i64::try_from(place).unwrap_or(i64::MAX));
        let bounds = rank.clone().gt_eq(number(node.first)).and(rank.clone().lt_eq(number(node.last)));
        let mut columns: Vec<Expr> = schema.iter().map(Expr::from).collect();
        columns.extend(node.rank.is_some().then_some(rank));
        let numbered = LogicalPlanBuilder::from(node.input.clone()).window([call])?;
        Ok(Some(numbered.filter(bounds)?.project(columns)?.build()?))
    }
}

/// The number of a row that nothing else asks for.
const RANK: &str = "__rank_in_time";
