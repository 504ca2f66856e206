//! What an inner join asks of the rows around its query, or by a subquery, is asked of its rows.
//!
//! That is the same, and DataFusion's rules read it rightly there. In the condition of a join they leave it until other rules have moved it: below the alias
//! of a table, where `t2.id > t.id`, of a row `t` outside, has become `t.id > t.id`; to the side of another table, whose columns have the same names.
//!
//! What stands there then is one filter: of two, one on the other, the rules keep the columns that the second compares with the rows outside, and not those
//! of the first (`WHERE t.k = u.id` over `ON t.id >= u.k` leaves `t.id` to be looked for outside).

use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan};

use super::{has_subquery, looks_out};
use crate::error::Result;

/// Puts such conditions above their joins, also in subqueries.
pub(in crate::planner) fn ask_above(plan: LogicalPlan) -> Result<LogicalPlan> {
    let asked = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner && join.filter.iter().any(is_moved) => {
            Ok(Transformed::yes(above_join(join)?))
        }
        LogicalPlan::Filter(filter) => match filter.input.as_ref() {
            LogicalPlan::Filter(first) if is_moved(&first.predicate) => {
                let both = first.predicate.clone().and(filter.predicate);
                Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(both, Arc::clone(&first.input))?)))
            }
            _ => Ok(Transformed::no(LogicalPlan::Filter(filter))),
        },
        node => Ok(Transformed::no(node)),
    })?;
    Ok(asked.data)
}

fn is_moved(condition: &Expr) -> bool {
    looks_out(condition) || has_subquery(condition)
}

fn above_join(mut join: Join) -> DataFusionResult<LogicalPlan> {
    let conjuncts = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
    let (above, within): (Vec<Expr>, Vec<Expr>) = conjuncts.into_iter().partition(is_moved);
    join.filter = conjunction(within);
    let joined = LogicalPlan::Join(join);
    Ok(match conjunction(above) {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(joined))?),
        None => joined,
    })
}
