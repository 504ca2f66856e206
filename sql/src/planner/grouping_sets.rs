//! `ROLLUP`, `CUBE` and `GROUPING SETS` with an empty set: that one is a group of all rows, and there also where there are none (SQL:2016, 7.13).
//!
//! DataFusion makes of it a group like the others, which comes with its first row. So it is taken out, and becomes an aggregation without keys, which always
//! has its row, beside that of the other sets. Both read the same rows.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::utils::{enumerate_grouping_sets, grouping_set_to_exprlist};
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, cast, lit};

use super::context::default_functions;
use super::expr::strip_alias;
use crate::error::SqlError;

/// Takes empty sets out of all aggregations of an analysed plan.
pub(super) fn expand(plan: LogicalPlan) -> Result<LogicalPlan> {
    let expanded = plan.transform_up_with_subqueries(|plan| match &plan {
        LogicalPlan::Aggregate(aggregate) => match without_empty_sets(aggregate)? {
            Some(expanded) => Ok(Transformed::yes(expanded)),
            None => Ok(Transformed::no(plan)),
        },
        _ => Ok(Transformed::no(plan)),
    })?;
    Ok(expanded.data)
}

fn without_empty_sets(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let combined = enumerate_grouping_sets(aggregate.group_expr.clone())?;
    let [Expr::GroupingSet(set)] = combined.as_slice() else { return Ok(None) };
    let keys: Vec<Expr> = grouping_set_to_exprlist(&combined)?.into_iter().cloned().collect();
    let plain: Vec<Expr> = keys.iter().map(|key| strip_alias(key).clone()).collect();
    let patterns = patterns_of(set, &plain);
    let is_empty = |pattern: &[bool]| pattern.iter().all(|present| !present);
    if !patterns.iter().any(|pattern| is_empty(pattern)) {
        return Ok(None);
    }
    let ids = grouping_ids(&patterns);
    let id_type = aggregate.schema.field(keys.len()).data_type().clone();
    let mut parts = vec![];
    let kept: Vec<Vec<Expr>> = patterns
        .iter()
        .filter(|pattern| !is_empty(pattern))
        .map(|pattern| keys.iter().zip(pattern).filter(|(_, present)| **present).map(|(key, _)| key.clone()).collect())
        .collect();
    if !kept.is_empty() {
        let group = vec![Expr::GroupingSet(GroupingSet::GroupingSets(kept))];
        let grouped = Aggregate::try_new(Arc::clone(&aggregate.input), group, aggregate.aggr_expr.clone())?;
        // The type of the id is that of the number of sets.
        let mut columns: Vec<Expr> = grouped.schema.columns().into_iter().map(Expr::Column).collect();
        let id = columns[keys.len()].clone();
        columns[keys.len()] = cast(id, id_type.clone());
        parts.push((LogicalPlan::Aggregate(grouped), columns));
    }
    for (_, id) in patterns.iter().zip(&ids).filter(|(pattern, _)| is_empty(pattern)) {
        let mut calls = aggregate.aggr_expr.clone();
        if calls.is_empty() {
            let count = default_functions().aggregate.get("count").cloned();
            let count = count.ok_or_else(|| SqlError::internal("`count` is missing"))?;
            calls.push(count.call(vec![lit(1i64)]));
        }
        let all = Aggregate::try_new(Arc::clone(&aggregate.input), vec![], calls)?;
        let mut columns = vec![];
        for index in 0..keys.len() {
            columns.push(lit(ScalarValue::try_from(aggregate.schema.field(index).data_type())?));
        }
        columns.push(cast(lit(*id), id_type.clone()));
        columns.extend(all.schema.columns().into_iter().take(aggregate.aggr_expr.len()).map(Expr::Column));
        parts.push((LogicalPlan::Aggregate(all), columns));
    }
    let mut united: Option<LogicalPlanBuilder> = None;
    for (plan, columns) in parts {
        let named = columns.into_iter().enumerate().map(|(index, column)| column.alias(format!("__of_sets_{index}")));
        let part = LogicalPlanBuilder::from(plan).project(named)?;
        united = Some(match united {
            None => part,
            Some(before) => before.union(part.build()?)?,
        });
    }
    let united = united.ok_or_else(|| SqlError::internal("grouping sets without a set"))?.build()?;
    let columns = united.schema().columns().into_iter().zip(aggregate.schema.iter());
    let named = columns
        .map(|(column, (qualifier, field))| Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
    let named: Vec<Expr> = named.collect();
    Ok(Some(LogicalPlanBuilder::from(united).project(named)?.build()?))
}

/// Each grouping set as the list of its expressions.
pub(super) fn sets_of(set: &GroupingSet) -> Vec<Vec<Expr>> {
    match set {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).map(|count| exprs[..count].to_vec()).collect(),
        GroupingSet::Cube(exprs) => (0..1u64 << exprs.len().min(20))
            .map(|mask| {
                let present = exprs.iter().enumerate().filter(|(index, _)| mask >> index & 1 == 1);
                present.map(|(_, expr)| expr.clone()).collect()
            })
            .collect(),
    }
}

/// For each grouping set, which of the group's expressions are in it.
pub(super) fn patterns_of(set: &GroupingSet, group: &[Expr]) -> Vec<Vec<bool>> {
    let is_in = |expr: &Expr, set: &[Expr]| set.iter().any(|other| strip_alias(other) == expr);
    sets_of(set).iter().map(|set| group.iter().map(|expr| is_in(expr, set)).collect()).collect()
}

/// DataFusion's grouping ids: a bit for each expression that is *not* in the set, the last one lowest, and above them the number of
/// times that the same set came before.
pub(super) fn grouping_ids(sets: &[Vec<bool>]) -> Vec<u64> {
    let mut ids = vec![];
    for (index, set) in sets.iter().enumerate() {
        let bits = set.iter().fold(0u64, |bits, present| (bits << 1) | u64::from(!present));
        let before = sets[..index].iter().filter(|other| *other == set).count() as u64;
        ids.push(bits | before << set.len());
    }
    ids
}
