//! What an inner join asks of the rows around its query, or by a subquery, is asked of its rows.
//!
//! That is the same, and DataFusion's rules read it rightly there. In the condition of a join they leave it until other rules have moved it: below the alias
//! of a table, where `t2.id > t.id`, of a row `t` outside, has become `t.id > t.id`; to the side of another table, whose columns have the same names.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, JoinType, LogicalPlan};

use super::{has_subquery, looks_out};
use crate::error::Result;

/// Puts such conditions above their joins, also in subqueries.
pub(in crate::planner) fn ask_above(plan: LogicalPlan) -> Result<LogicalPlan> {
    let asked = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Join(mut join) = node else { return Ok(Transformed::no(node)) };
        if join.join_type != JoinType::Inner || !join.filter.iter().any(|filter| looks_out(filter) || has_subquery(filter)) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let conjuncts = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
        let (above, within): (Vec<Expr>, Vec<Expr>) = conjuncts.into_iter().partition(|conjunct| looks_out(conjunct) || has_subquery(conjunct));
        join.filter = conjunction(within);
        let joined = Arc::new(LogicalPlan::Join(join));
        Ok(match conjunction(above) {
            Some(condition) => Transformed::yes(LogicalPlan::Filter(Filter::try_new(condition, joined)?)),
            None => Transformed::no(Arc::unwrap_or_clone(joined)),
        })
    })?;
    Ok(asked.data)
}
