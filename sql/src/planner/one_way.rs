//! Values that are equal and written in several ways, where rows are told apart or put in order by them.
//!
//! A group, a row of a `DISTINCT`, a partition, a value of `COUNT(DISTINCT v)`: each takes its key in one way of writing. Which values have
//! several, and what is done about them, is the caller's: [`json_plain`](super::json_plain) for JSON, [`interval_keys`](super::interval_keys) for intervals,
//! [`ad_hoc_keys`](super::ad_hoc_keys) for what DataFusion's executor tells apart and the engine does not.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, SortExpr};

/// Where rows, or values, are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// By `ORDER BY` of a query or of a window.
    Rows,
    /// By `ORDER BY` of an aggregate.
    Values,
}

/// What is done about values that are written in several ways.
pub(super) struct OneWay {
    /// Whether values of a type are written in several ways.
    pub(super) key: fn(&DataType) -> bool,
    /// A value in the one way.
    pub(super) written: fn(Expr) -> Expr,
    /// Has rows ordered by the one way; whether that changes anything.
    pub(super) order: fn(&mut SortExpr, Place, &DFSchema) -> Result<bool>,
    /// What is wrong with a call.
    pub(super) check: fn(&Expr, &DFSchema) -> Result<()>,
}

/// `MIN` or `MAX` of one argument as the first value in the order of `key`, by which values are put in order.
pub(super) fn first_in_order(call: &AggregateFunction, key: Expr) -> AggregateFunction {
    let args = call.params.args.clone();
    let known = call.params.filter.iter().map(|filter| filter.as_ref().clone());
    let known = known.chain(args.iter().map(|value| value.clone().is_not_null())).reduce(Expr::and).map(Box::new);
    let by = key.sort(call.func.name() == "min", false);
    AggregateFunction::new_udf(first_value_udaf(), args, false, known, vec![by], None)
}

impl OneWay {
    /// The plan, with all keys in the one way.
    ///
    /// # Errors
    /// Those of `order` and `check`, and a key whose type cannot be told.
    pub(super) fn rewrite(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|plan| self.node(plan))?.data)
    }

    fn node(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Distinct(Distinct::All(input)) if self.any(input.schema()) => {
                let columns = input.schema().iter().map(|(qualifier, field)| {
                    let column = Expr::from((qualifier, field));
                    match (self.key)(field.data_type()) {
                        true => (self.written)(column).alias_qualified(qualifier.cloned(), field.name()),
                        false => column,
                    }
                });
                let columns: Vec<Expr> = columns.collect();
                let input = LogicalPlanBuilder::from(input.as_ref().clone()).project(columns)?.build()?;
                Ok(Transformed::yes(LogicalPlanBuilder::from(input).distinct()?.build()?))
            }
            LogicalPlan::Sort(mut sort) => {
                let schema = Arc::clone(sort.input.schema());
                let changed = self.all_in_order(&mut sort.expr, Place::Rows, &schema)?;
                Ok(Transformed::new_transformed(LogicalPlan::Sort(sort), changed))
            }
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
                let schema = merge_schema(&plan.inputs());
                let names = NamePreserver::new(&plan);
                let key_count = match &plan {
                    LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.len(),
                    _ => 0,
                };
                let mut place = 0;
                let rewritten = plan.map_expressions(|expr| {
                    let is_key = place < key_count;
                    place += 1;
                    let name = names.save(&expr);
                    let rewritten = if is_key { self.in_one_way(expr, &schema)? } else { self.inside(expr, &schema)? };
                    Ok(rewritten.update_data(|expr| name.restore(expr)))
                })?;
                match rewritten.transformed {
                    true => Ok(Transformed::yes(rewritten.data.recompute_schema()?)),
                    false => Ok(rewritten),
                }
            }
            other => Ok(Transformed::no(other)),
        }
    }

    fn any(&self, schema: &DFSchema) -> bool {
        schema.fields().iter().any(|field| (self.key)(field.data_type()))
    }

    /// A key by which rows are told apart, or a grouping set of them.
    fn in_one_way(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        match expr {
            // Whoever saves the name of a set knows nothing of those of its parts.
            Expr::GroupingSet(_) => expr.map_children(|part| {
                let (qualifier, name) = part.qualified_name();
                let rewritten = self.in_one_way(part, schema)?;
                Ok(match rewritten.transformed {
                    true => rewritten.update_data(|part| part.alias_qualified(qualifier, name)),
                    false => rewritten,
                })
            }),
            expr if (self.key)(&expr.get_type(schema)?) => match expr {
                Expr::Alias(alias) => {
                    let inner = (self.written)(*alias.expr);
                    Ok(Transformed::yes(inner.alias_qualified(alias.relation, alias.name)))
                }
                expr => Ok(Transformed::yes((self.written)(expr))),
            },
            expr => Ok(Transformed::no(expr)),
        }
    }

    /// What a call tells apart: the values of `DISTINCT`, the keys of `PARTITION BY`; and what it puts in order.
    fn inside(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|mut expr| {
            (self.check)(&expr, schema)?;
            let changed = match &mut expr {
                Expr::AggregateFunction(function) if function.params.distinct => {
                    let before = function.params.args.clone();
                    let changed = self.all(&mut function.params.args, schema)?;
                    // Their order is one of the values.
                    for by in &mut function.params.order_by {
                        if let Some(place) = before.iter().position(|arg| *arg == by.expr) {
                            by.expr = function.params.args[place].clone();
                        }
                    }
                    changed
                }
                Expr::AggregateFunction(function) => {
                    self.all_in_order(&mut function.params.order_by, Place::Values, schema)?
                }
                Expr::WindowFunction(function) => {
                    let of_keys = self.all(&mut function.params.partition_by, schema)?;
                    self.all_in_order(&mut function.params.order_by, Place::Rows, schema)? || of_keys
                }
                _ => false,
            };
            Ok(Transformed::new_transformed(expr, changed))
        })
    }

    /// Has all keys in the one way; whether there is one that was not.
    fn all(&self, keys: &mut [Expr], schema: &DFSchema) -> Result<bool> {
        let mut changed = false;
        for key in keys {
            let rewritten = self.in_one_way(std::mem::take(key), schema)?;
            changed |= rewritten.transformed;
            *key = rewritten.data;
        }
        Ok(changed)
    }

    fn all_in_order(&self, order: &mut [SortExpr], place: Place, schema: &DFSchema) -> Result<bool> {
        let mut changed = false;
        for by in order {
            changed |= (self.order)(by, place, schema)?;
        }
        Ok(changed)
    }
}
