//! `ROLLUP`, `CUBE` and `GROUPING SETS` with an empty set: that one is a group of all rows, and there also where there are none (SQL:2016, 7.13).
//!
//! DataFusion makes of it a group like the others, which comes with its first row. So it is taken out, and becomes an aggregation without keys, which always
//! has its row, beside that of the other sets. Both read the same rows.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::utils::{enumerate_grouping_sets, grouping_set_to_exprlist};
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, cast, lit};

use super::aggregate::{grouping_ids, sets_of};
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
    let patterns = sets_of(set, &plain);
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
