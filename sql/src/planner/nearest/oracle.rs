//! The same joins for a batch engine: all pairs that the condition allows, of which each left row keeps the best.

use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, UserDefinedLogicalNodeCore, lit,
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
    let pairs = LogicalPlanBuilder::from(left.clone()).join_on(right, JoinType::Inner, on)?;
    let mut order = vec![best];
    order.extend(join.ties.iter().map(|tie| tie.clone().sort(true, false)));
    order.push(column(RIGHT).sort(!latest, false));
    let rank = row_number().partition_by(vec![column(LEFT)]).order_by(order).build()?;
    let ranked = pairs.window(vec![rank.alias(RANK)])?.filter(column(RANK).eq(lit(1u64)))?;
    let ranked = match rest {
        Some(rest) => ranked.filter(rest)?,
        None => ranked,
    };
    let kept: Vec<Expr> = join.right.schema().columns().into_iter().map(Expr::Column).collect();
    let matched = "__matched";
    let found = ranked.project(kept.into_iter().chain([column(LEFT).alias(matched)]))?.build()?;
    let kind = if join.outer { JoinType::Left } else { JoinType::Inner };
    let all = LogicalPlanBuilder::from(left).join_on(found, kind, [column(LEFT).eq(column(matched))])?;
    all.project(join.schema().columns().into_iter().map(Expr::Column))?.build()
}

/// The rows with a column that counts them, as they come.
fn numbered(plan: LogicalPlan, name: &str) -> DataFusionResult<LogicalPlan> {
    let own: Vec<Column> = plan.schema().columns();
    let counted = LogicalPlanBuilder::from(plan).window(vec![row_number().alias("__number")])?;
    let exprs = own.into_iter().map(Expr::Column).chain([column("__number").alias(name)]);
    counted.project(exprs)?.build()
}
