//! The same joins for a batch engine: all pairs that the condition allows, of which each left row keeps the best.

use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, UserDefinedLogicalNodeCore, lit, when,
};

use super::{NearestJoin, NearestKind};
use crate::error::SqlError;
use crate::planner::context::column;

/// Numbers of the left rows, of the right rows in the order in which they came, and of the pairs of a left row.
const LEFT: &str = "__left_row";
const RIGHT: &str = "__right_row";
const RANK: &str = "__rank";

/// The rows of the join as a plan of ordinary nodes.
pub(in crate::planner) fn expand(join: &NearestJoin) -> DataFusionResult<LogicalPlan> {
    let (best, on, rest) = match join.kind {
        // Over finished tables what is there now is all there is.
        NearestKind::Lookup => {
            let kind = if join.outer { JoinType::Left } else { JoinType::Inner };
            return LogicalPlanBuilder::from(join.left.clone())
                .join_on(join.right.clone(), kind, join.on.clone())?
                .build();
        }
        NearestKind::Asof => {
            let condition = join.asof_condition()?;
            let ascending = matches!(condition.by.1, Operator::Lt | Operator::LtEq);
            (condition.by.2.sort(ascending, false), join.on.clone(), None)
        }
        NearestKind::Temporal => {
            let [time, begin] = join.times.as_slice() else {
                return Err(SqlError::internal("a version without a time").into());
            };
            let (keys, rest) = join.on.split_at(join.keys);
            let on = keys.iter().cloned().chain([begin.clone().lt_eq(time.clone())]).collect();
            (begin.clone().sort(join.only_first, false), on, conjunction(rest.to_vec()))
        }
    };
    let latest = !join.only_first;
    let left = numbered(join.left.clone(), LEFT)?;
    let right = numbered(join.right.clone(), RIGHT)?;
    // The left rows are counted once: counted again they could come in another order.
    let pairs = LogicalPlanBuilder::from(left).join_on(right, JoinType::Left, on)?;
    let mut order = vec![best];
    order.extend(join.ties.iter().map(|tie| tie.clone().sort(true, false)));
    order.push(column(RIGHT).sort(!latest, false));
    let rank = row_number().partition_by(vec![column(LEFT)]).order_by(order).build()?;
    let best = pairs.window(vec![rank.alias(RANK)])?.filter(column(RANK).eq(lit(1u64)))?;
    let mut columns: Vec<Expr> = join.schema().columns().into_iter().map(Expr::Column).collect();
    if !join.outer {
        let met = std::iter::once(column(RIGHT).is_not_null()).chain(rest);
        let met = met.reduce(Expr::and).ok_or_else(|| SqlError::internal("a join without a condition"))?;
        return best.filter(met)?.project(columns)?.build();
    }
    if let Some(rest) = rest {
        // A version that does not meet the rest is none.
        let width = join.left.schema().fields().len();
        for (expr, (qualifier, field)) in columns.iter_mut().zip(join.schema().iter()).skip(width) {
            let met = when(rest.clone(), expr.clone()).end()?;
            *expr = met.alias_qualified(qualifier.cloned(), field.name());
        }
    }
    best.project(columns)?.build()
}

/// The rows with a column that counts them, as they come.
fn numbered(plan: LogicalPlan, name: &str) -> DataFusionResult<LogicalPlan> {
    let own: Vec<Column> = plan.schema().columns();
    let counted = LogicalPlanBuilder::from(plan).window(vec![row_number().alias("__number")])?;
    let exprs = own.into_iter().map(Expr::Column).chain([column("__number").alias(name)]);
    counted.project(exprs)?.build()
}
