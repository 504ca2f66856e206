//! JSON values that are equal are one group, one row of a `DISTINCT`, one partition; and where rows are put in order by them, they are in one.
//!
//! `3` and `3.0` are equal, and so are two spellings of an object. Where rows are told apart by a JSON column, its values are first written in one way:
//! a number without a fraction as a whole number, an array or object in its shortest form. Where they are put in order, it is by a key
//! ([`order_key`](crate::functions::order_key)).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, SortExpr};

use super::expr::short_text;
use crate::functions::json_plain;
use crate::functions::order_key::{ORDER_KEY, has_no_key, is_nested};

/// Puts the one way of writing where it matters.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Distinct(Distinct::All(input)) if has_json(input.schema()) => {
            let columns = input.schema().iter().map(|(qualifier, field)| {
                let column = Expr::from((qualifier, field));
                match is_json(field.data_type()) {
                    true => plain(column).alias_qualified(qualifier.cloned(), field.name()),
                    false => column,
                }
            });
            let columns: Vec<Expr> = columns.collect();
            let input = LogicalPlanBuilder::from(input.as_ref().clone()).project(columns)?.build()?;
            Ok(Transformed::yes(LogicalPlanBuilder::from(input).distinct()?.build()?))
        }
        LogicalPlan::Sort(mut sort) => {
            let schema = Arc::clone(sort.input.schema());
            let changed = all_in_order(&mut sort.expr, &schema)?;
            Ok(Transformed::new_transformed(LogicalPlan::Sort(sort), changed))
        }
        LogicalPlan::Distinct(Distinct::On(mut on)) => {
            let schema = Arc::clone(on.input.schema());
            let (keys, of_keys) = all_plain(on.on_expr, &schema)?;
            on.on_expr = keys;
            let of_order = all_in_order(on.sort_expr.as_deref_mut().unwrap_or_default(), &schema)?;
            Ok(Transformed::new_transformed(LogicalPlan::Distinct(Distinct::On(on)), of_keys || of_order))
        }
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let of_group = matches!(plan, LogicalPlan::Aggregate(_));
            let group_count = match &plan {
                LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.len(),
                _ => 0,
            };
            let mut place = 0;
            let rewritten = plan.map_expressions(|expr| {
                let is_key = of_group && place < group_count;
                place += 1;
                let name = names.save(&expr);
                let rewritten = if is_key { key(expr, &schema)? } else { inside(expr, &schema)? };
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })?;
            match rewritten.transformed {
                true => Ok(Transformed::yes(rewritten.data.recompute_schema()?)),
                false => Ok(rewritten),
            }
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

pub(super) fn is_json(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Union(..))
}

fn has_json(schema: &DFSchema) -> bool {
    schema.fields().iter().any(|field| is_json(field.data_type()))
}

pub(super) fn plain(expr: Expr) -> Expr {
    json_plain().call(vec![expr])
}

/// A key by which rows are told apart, or a grouping set of them.
fn key(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::GroupingSet(_) => expr.map_children(|child| match child.get_type(schema) {
            Ok(data_type) if is_json(&data_type) => Ok(Transformed::yes(plain(child))),
            _ => Ok(Transformed::no(child)),
        }),
        expr if is_json(&expr.get_type(schema)?) => match expr {
            Expr::Alias(alias) => {
                let inner = plain(*alias.expr);
                Ok(Transformed::yes(inner.alias_qualified(alias.relation, alias.name)))
            }
            expr => Ok(Transformed::yes(plain(expr))),
        },
        expr => Ok(Transformed::no(expr)),
    }
}

/// What a call tells apart: the values of `DISTINCT`, the keys of `PARTITION BY`.
fn inside(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::AggregateFunction(function) if has_no_order(function.func.name(), &function.params.args, schema) => {
            no_order(function.func.name(), &function.params.args)
        }
        Expr::WindowFunction(function) if has_no_order(function.fun.name(), &function.params.args, schema) => {
            no_order(function.fun.name(), &function.params.args)
        }
        Expr::AggregateFunction(mut function) if !function.params.distinct && !function.params.order_by.is_empty() => {
            let mut changed = all_in_order(&mut function.params.order_by, schema)?;
            // By arrays and rows the aggregates that look for one value, and no others, would go by `<`.
            if matches!(function.func.name(), "first_value" | "last_value") {
                for by in &mut function.params.order_by {
                    if is_nested(&by.expr.get_type(schema)?) {
                        by.expr = ORDER_KEY.call(vec![by.expr.clone()]);
                        changed = true;
                    }
                }
            }
            let expr = Expr::AggregateFunction(function);
            Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
        }
        Expr::AggregateFunction(mut function) if function.params.distinct => {
            let args = std::mem::take(&mut function.params.args);
            let (args, changed) = all_plain(args, schema)?;
            function.params.args = args;
            let expr = Expr::AggregateFunction(function);
            Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
        }
        Expr::WindowFunction(mut function) => {
            let keys = std::mem::take(&mut function.params.partition_by);
            let (keys, mut changed) = all_plain(keys, schema)?;
            function.params.partition_by = keys;
            changed |= all_in_order(&mut function.params.order_by, schema)?;
            let expr = Expr::WindowFunction(function);
            Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
        }
        expr => Ok(Transformed::no(expr)),
    })
}

fn of_json(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| is_json(&data_type))
}

/// Has rows ordered by the keys of JSON values; whether there are any.
fn all_in_order(order: &mut [SortExpr], schema: &DFSchema) -> Result<bool> {
    let mut changed = false;
    for by in order {
        let data_type = by.expr.get_type(schema)?;
        if has_no_key(&data_type) {
            return plan_err!(
                "`ORDER BY {}`: arrays and rows of JSON or of MAPs have no order; order by what is taken out of them",
                short_text(&by.expr)
            );
        }
        if is_json(&data_type) {
            by.expr = ORDER_KEY.call(vec![by.expr.clone()]);
            changed = true;
        }
    }
    Ok(changed)
}

fn has_no_order(name: &str, args: &[Expr], schema: &DFSchema) -> bool {
    matches!(name, "min" | "max") && args.first().is_some_and(|arg| of_json(arg, schema))
}

fn no_order<T>(name: &str, args: &[Expr]) -> Result<T> {
    let arg = args.first().map(short_text).unwrap_or_default();
    plan_err!(
        "`{name}({arg})`: JSON values have no order; take numbers or texts out of them: `CAST(j -> 'a' AS BIGINT)`, `j ->> 'a'`"
    )
}

fn all_plain(exprs: Vec<Expr>, schema: &DFSchema) -> Result<(Vec<Expr>, bool)> {
    let mut changed = false;
    let mut out = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let rewritten = key(expr, schema)?;
        changed |= rewritten.transformed;
        out.push(rewritten.data);
    }
    Ok((out, changed))
}
