//! `[OFFSET m ROWS] FETCH FIRST n ROWS WITH TIES`: the rows of rank `m + n` at most, but for the first `m`.
//!
//! The planner knows limits without ties only, so the syntax tree says it by a function around the number ([`WITH_TIES`]), and the first thing
//! that is done with the plan is to make a filter of a rank of it ([`expand`]), which is recognised as any other is ([`super::rank`]).

use std::sync::{Arc, OnceLock};

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprFunctionExt, Limit, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Volatility, create_udf,
    lit,
};

use super::context::default_functions;
use super::rank::{below, project_again};
use crate::error::{Result, SqlError};

/// The function that says in a `LIMIT` that rows equal to the last one are shown too.
pub(super) const WITH_TIES: &str = "__eagre_with_ties";

/// [`WITH_TIES`], by its name.
pub(super) fn function(name: &str) -> Option<Arc<ScalarUDF>> {
    static FUNCTION: OnceLock<Arc<ScalarUDF>> = OnceLock::new();
    let make = || {
        let never = |_: &[ColumnarValue]| Err(SqlError::internal("`WITH TIES` was not made a rank").into());
        Arc::new(create_udf(WITH_TIES, vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(never)))
    };
    (name == WITH_TIES).then(|| Arc::clone(FUNCTION.get_or_init(make)))
}

/// `FETCH FIRST n ROWS WITH TIES` as the rows of rank `n` at most, in the order that it has.
pub(super) fn expand(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::Limit(limit) => match limit.fetch.as_deref().and_then(ties_of) {
            Some(rows) => Ok(Transformed::yes(ranked(limit, rows)?)),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

/// `n` of `WITH_TIES(n)`.
fn ties_of(fetch: &Expr) -> Option<&Expr> {
    match fetch {
        Expr::ScalarFunction(function) if function.func.name() == WITH_TIES => function.args.first(),
        Expr::Cast(to) => ties_of(&to.expr),
        _ => None,
    }
}

fn of_expression() -> DataFusionError {
    SqlError::unsupported("`FETCH .. WITH TIES` with an expression", "write a number", None).into()
}

fn ranked(limit: &Limit, rows: &Expr) -> DataFusionResult<LogicalPlan> {
    let number = |rows: &Expr| match rows {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(count)) if count >= 0 => Ok(count),
            _ => Err(of_expression()),
        },
        _ => Err(of_expression()),
    };
    let count = number(rows)?;
    let skip = limit.skip.as_deref().map_or(Ok(0), number)?;
    let (above, input) = below(&limit.input);
    let LogicalPlan::Sort(sort) = input else {
        return Err(SqlError::internal("`WITH TIES` lost its order").into());
    };
    let rank = default_functions().window.get("rank").cloned();
    let rank = rank.ok_or_else(|| SqlError::internal("`rank` is missing"))?;
    let rank = Expr::from(WindowFunction::new(rank, vec![])).order_by(sort.expr.clone()).build()?.alias("__ties");
    let columns: Vec<Expr> = sort.input.schema().columns().into_iter().map(Expr::Column).collect();
    let ranked = LogicalPlanBuilder::from(sort.input.as_ref().clone()).window(vec![rank])?;
    let rank = ranked.schema().columns().pop().ok_or_else(|| SqlError::internal("a window without columns"))?;
    // A row is at most of the rank `n` of the last one, or equal to it, where fewer than `n` rows come before it.
    let last = if count == 0 { 0 } else { count.saturating_add(skip) };
    let first = ranked.filter(Expr::Column(rank).lt_eq(lit(last)))?.project(columns)?.sort(sort.expr.clone())?;
    let first = if skip == 0 { first } else { first.limit(skip as usize, None)? };
    project_again(first.build()?, above)
}
