//! Subqueries in the conditions of joins that are no inner ones.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, lit};

use super::{Decorrelator, all_of, conditions, is_subquery, same};
use crate::error::{Result, SqlError};

/// The plan of the subquery that an expression is.
fn subquery_of(expr: &Expr) -> Option<&LogicalPlan> {
    match expr {
        Expr::ScalarSubquery(subquery)
        | Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. }) => Some(&subquery.subquery),
        _ => None,
    }
}

/// The columns that a subquery, and the value that is looked for in it, are functions of; those that subqueries in it have of each other are
/// among them.
fn looked_at(expr: &Expr) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = expr.column_refs().into_iter().cloned().collect();
    if let Some(plan) = subquery_of(expr) {
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    if let Expr::OuterReferenceColumn(_, column) = expr {
                        columns.push(column.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
    }
    Ok(columns)
}

fn has_any(side: &LogicalPlan, columns: &[Column]) -> bool {
    columns.iter().any(|column| side.schema().maybe_index_of_column(column).is_some())
}

impl Decorrelator {
    /// A join whose condition has subqueries: each is computed for the rows of the side that it looks at, before the join; where one looks at
    /// both, for their pairs.
    pub(super) fn condition(&mut self, join: Join) -> Result<LogicalPlan> {
        if Self::looks_at_both(&join)? {
            return self.by_pairs(&join);
        }
        let columns = join.schema.columns().into_iter().map(Expr::Column);
        let (mut left, mut right) = (join.left.as_ref().clone(), join.right.as_ref().clone());
        let condition = join.filter.ok_or_else(|| SqlError::internal("a subquery in the keys of a join"))?;
        let condition = condition.transform_up(|expr| {
            if subquery_of(&expr).is_none() {
                return Ok(Transformed::no(expr));
            }
            let side = if has_any(&right, &looked_at(&expr)?) { &mut right } else { &mut left };
            Ok(Transformed::yes(self.replace(side, expr)?))
        })?;
        let (left, right) = (Arc::new(left), Arc::new(right));
        let (constraint, nulls) = (join.join_constraint, join.null_equality);
        let joined = Join::try_new(
            left,
            right,
            join.on,
            Some(condition.data),
            join.join_type,
            constraint,
            nulls,
            join.null_aware,
        )?;
        Ok(LogicalPlanBuilder::from(LogicalPlan::Join(joined)).project(columns)?.build()?)
    }

    /// Whether a subquery of the condition looks at columns of both sides; or at others' values, which may be of another side than itself.
    fn looks_at_both(join: &Join) -> Result<bool> {
        let mut both = false;
        if let Some(condition) = &join.filter {
            condition.apply(|expr| {
                if subquery_of(expr).is_some() {
                    let columns = looked_at(expr)?;
                    both |= has_any(&join.left, &columns) && has_any(&join.right, &columns);
                }
                if let Expr::InSubquery(within) = expr {
                    both |= within.expr.exists(|part| Ok(is_subquery(part)))?;
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(both)
    }

    /// The same join by the pairs of which its condition holds: what no pair has is what it shows without a match, or leaves out.
    fn by_pairs(&mut self, join: &Join) -> Result<LogicalPlan> {
        let (left, right) = (join.left.as_ref(), join.right.as_ref());
        let condition = conditions(join).into_iter().reduce(Expr::and);
        let condition = condition.ok_or_else(|| SqlError::internal("a join without a condition"))?;
        let pairs = LogicalPlanBuilder::from(left.clone()).cross_join(right.clone())?.filter(condition)?.build()?;
        let pairs = self.node(pairs)?;
        let (of_left, of_right) = (all_of(left), all_of(right));
        let null_of = |side: &LogicalPlan| -> Result<Vec<Expr>> {
            let mut nulls = vec![];
            for (table, field) in side.schema().iter() {
                let null = lit(ScalarValue::try_from(field.data_type())?);
                nulls.push(null.alias_qualified(table.cloned(), field.name()));
            }
            Ok(nulls)
        };
        let mut parts = vec![];
        match join.join_type {
            JoinType::LeftSemi => return self.with_pair(left, &pairs, &of_left, JoinType::LeftSemi),
            JoinType::LeftAnti => return self.with_pair(left, &pairs, &of_left, JoinType::LeftAnti),
            JoinType::RightSemi => return self.with_pair(right, &pairs, &of_right, JoinType::LeftSemi),
            JoinType::RightAnti => return self.with_pair(right, &pairs, &of_right, JoinType::LeftAnti),
            JoinType::Left | JoinType::Right | JoinType::Full => {}
            other => return Err(SqlError::internal(format!("a subquery in a {other} join"))),
        }
        if join.join_type != JoinType::Right {
            let alone = self.with_pair(left, &pairs, &of_left, JoinType::LeftAnti)?;
            parts.push(
                LogicalPlanBuilder::from(alone).project(of_left.iter().cloned().chain(null_of(right)?))?.build()?,
            );
        }
        if join.join_type != JoinType::Left {
            let alone = self.with_pair(right, &pairs, &of_right, JoinType::LeftAnti)?;
            parts.push(
                LogicalPlanBuilder::from(alone)
                    .project(null_of(left)?.into_iter().chain(of_right.iter().cloned()))?
                    .build()?,
            );
        }
        let mut all = LogicalPlanBuilder::from(pairs);
        for part in parts {
            all = all.union(part)?;
        }
        // A union has names of its own.
        let all = all.build()?;
        let named = all_of(&all).into_iter().zip(join.schema.iter());
        let named: Vec<Expr> =
            named.map(|(column, (table, field))| column.alias_qualified(table.cloned(), field.name())).collect();
        Ok(LogicalPlanBuilder::from(all).project(named)?.build()?)
    }

    /// The rows of a side that are in a pair, or in none: nulls are equal.
    fn with_pair(
        &mut self,
        side: &LogicalPlan,
        pairs: &LogicalPlan,
        columns: &[Expr],
        kind: JoinType,
    ) -> Result<LogicalPlan> {
        let names: Vec<String> = columns.iter().map(|_| self.name("__pair")).collect();
        let named = columns.iter().zip(&names).map(|(column, name)| column.clone().alias(name));
        let matched = LogicalPlanBuilder::from(pairs.clone()).project(named)?.distinct()?.build()?;
        let conditions = columns
            .iter()
            .zip(names)
            .map(|(column, name)| same(column.clone(), Expr::Column(Column::new_unqualified(name))));
        Ok(LogicalPlanBuilder::from(side.clone()).join_on(matched, kind, conditions)?.build()?)
    }
}
