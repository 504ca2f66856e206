//! Subqueries in the conditions of joins that are no inner ones.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Subquery, lit};

use super::domain::outer_columns;
use super::{Decorrelator, conditions, same};
use crate::error::{Result, SqlError};

/// The subquery that an expression is, and the value that is looked for in it.
fn subquery_of(expr: &Expr) -> Option<(&Subquery, Option<&Expr>)> {
    match expr {
        Expr::ScalarSubquery(subquery) | Expr::Exists(Exists { subquery, .. }) => Some((subquery, None)),
        Expr::InSubquery(InSubquery { expr: value, subquery, .. }) => Some((subquery, Some(value))),
        _ => None,
    }
}

/// The columns that a subquery and the value that is looked for in it are functions of.
fn looked_at(subquery: &Subquery, value: Option<&Expr>) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = outer_columns(&subquery.subquery)?.into_iter().map(|(column, _)| column).collect();
    columns.extend(value.into_iter().flat_map(Expr::column_refs).cloned());
    Ok(columns)
}

fn has(side: &LogicalPlan, column: &Column) -> bool {
    side.schema().maybe_index_of_column(column).is_some()
}

impl Decorrelator {
    /// A join whose condition has subqueries: each is computed for the rows of the side that it looks at, before the join.
    pub(super) fn condition(&mut self, join: Join) -> Result<LogicalPlan> {
        if self.looks_at_both(&join)? {
            return self.by_pairs(&join);
        }
        let columns = join.schema.columns().into_iter().map(Expr::Column);
        let (mut left, mut right) = (join.left.as_ref().clone(), join.right.as_ref().clone());
        let condition = join.filter.ok_or_else(|| SqlError::internal("a subquery in the keys of a join"))?;
        let condition = condition.transform_up(|expr| {
            let (subquery, value) = match &expr {
                Expr::ScalarSubquery(subquery) | Expr::Exists(Exists { subquery, .. }) => (subquery, None),
                Expr::InSubquery(InSubquery { expr: value, subquery, .. }) => (subquery, Some(value)),
                _ => return Ok(Transformed::no(expr)),
            };
            let side = match looked_at(subquery, value.map(AsRef::as_ref))?.iter().any(|column| has(&right, column)) {
                true => &mut right,
                false => &mut left,
            };
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

    /// Whether a subquery of the condition looks at columns of both sides.
    fn looks_at_both(&self, join: &Join) -> Result<bool> {
        let mut both = false;
        if let Some(condition) = &join.filter {
            condition.apply(|expr| {
                if let Some((subquery, value)) = subquery_of(expr) {
                    let columns = looked_at(subquery, value)?;
                    both |= [&join.left, &join.right].iter().all(|side| columns.iter().any(|column| has(side, column)));
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
        let columns = |plan: &LogicalPlan| plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
        let (of_left, of_right) = (columns(left), columns(right));
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
        let named = columns(&all).into_iter().zip(join.schema.iter());
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
