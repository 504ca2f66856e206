//! `SELECT unnest(a) AS x .. GROUP BY x`: DataFusion has the columns that the unnesting needs in an order that no two plannings share. Operators know
//! their state by their plan, so here it is the order of their names.

use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, Unnest};

use crate::error::Result;

/// Orders the columns below each unnesting that is aggregated.
pub(super) fn in_order(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= aggregated_unnest(node).is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !found {
        return Ok(plan);
    }
    let ordered = plan.transform_up_with_subqueries(|node| {
        let Some(aggregate) = aggregated_unnest(&node) else { return Ok(Transformed::no(node)) };
        let input = Arc::new(ordered(&aggregate.input)?);
        let (groups, calls) = (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
        Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, groups, calls)?)))
    })?;
    Ok(ordered.data)
}

fn aggregated_unnest(plan: &LogicalPlan) -> Option<&Aggregate> {
    match plan {
        LogicalPlan::Aggregate(aggregate) if matches!(&*aggregate.input, LogicalPlan::Unnest(_)) => Some(aggregate),
        _ => None,
    }
}

/// Unnestings and projections from the top down, the columns of the latter in order.
fn ordered(plan: &LogicalPlan) -> DataFusionResult<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Unnest(unnest) => {
            let input = Arc::new(ordered(&unnest.input)?);
            LogicalPlan::Unnest(Unnest::try_new(input, unnest.exec_columns.clone(), unnest.options.clone())?)
        }
        LogicalPlan::Projection(projection) if matches!(&*projection.input, LogicalPlan::Unnest(_)) => {
            let input = Arc::new(ordered(&projection.input)?);
            LogicalPlan::Projection(Projection::try_new(by_name(projection), input)?)
        }
        LogicalPlan::Projection(projection) => {
            LogicalPlan::Projection(Projection::try_new(by_name(projection), Arc::clone(&projection.input))?)
        }
        other => other.clone(),
    })
}

fn by_name(projection: &Projection) -> Vec<Expr> {
    let mut exprs = projection.expr.clone();
    exprs.sort_by_cached_key(|expr| expr.schema_name().to_string());
    exprs
}
