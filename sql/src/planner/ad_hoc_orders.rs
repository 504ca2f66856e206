//! Orders of which DataFusion's executor has another idea, in queries that are answered at once.
//!
//! - Arrays and rows are put in order by their keys ([`order_key`](crate::functions::order_key)): where a few of them are wanted (`LIMIT`),
//!   DataFusion compares them by `<` as well, for which a null in them is the least and not the greatest, and so it is for its `MIN` and `MAX`.
//! - `MIN` and `MAX` of floats in groups know infinities and NaN. (DataFusion's, of many groups at once, begin with the greatest number, and pass
//!   over a NaN or not by chance.)
//! - The values of `ARRAY_AGG(DISTINCT g)` without an order come in theirs, as in a stream.
//! - Of `ARRAY_AGG(DISTINCT g ORDER BY g)` and one with `ORDER BY g DESC` beside it each has its own order. DataFusion turns the order of one
//!   about, so that rows are sorted once, and not its answer; but a call with `DISTINCT` sorts its values itself.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, merge_schema};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, LogicalPlan, ReversedUDAF, Signature,
};

use super::expr::strip_alias;
use super::one_way::first_in_order;
use crate::error::Result;
use crate::functions::extreme_by::by_key;
use crate::functions::order_key::{ORDER_KEY, has_no_key, is_array, is_nested};

/// Has sorts and aggregates keep to the orders that are asked for.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Sort(mut sort) => {
            let mut changed = false;
            for by in &mut sort.expr {
                if has_key(&by.expr, sort.input.schema())? {
                    by.expr = ORDER_KEY.call(vec![by.expr.clone()]);
                    changed = true;
                }
            }
            Ok(Transformed::new_transformed(LogicalPlan::Sort(sort), changed))
        }
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
            let (names, schema) = (NamePreserver::new(&plan), merge_schema(&plan.inputs()));
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let call = match strip_alias(&expr) {
                    Expr::AggregateFunction(call) => aggregate(call, &schema)?.map(Expr::AggregateFunction),
                    Expr::WindowFunction(call) => {
                        let is_keyed = call.params.args.first().map_or(Ok(false), |value| has_key(value, &schema))?;
                        by_key(call, |value| is_keyed.then(|| ORDER_KEY.call(vec![value.clone()]))).map(Expr::from)
                    }
                    _ => None,
                };
                Ok(match call {
                    Some(call) => Transformed::yes(name.restore(call)),
                    None => Transformed::no(expr),
                })
            })
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

fn has_key(expr: &Expr, schema: &DFSchema) -> DataFusionResult<bool> {
    let data_type = expr.get_type(schema)?;
    Ok(is_nested(&data_type) && !has_no_key(&data_type))
}

/// A call that keeps to its order; `None`: it does.
fn aggregate(call: &AggregateFunction, schema: &DFSchema) -> DataFusionResult<Option<AggregateFunction>> {
    let params = &call.params;
    match (call.func.name(), params.args.as_slice()) {
        ("min" | "max", [value]) if has_key(value, schema)? => {
            Ok(Some(first_in_order(call, ORDER_KEY.call(vec![value.clone()]))))
        }
        ("min" | "max", [value]) if value.get_type(schema)?.is_floating() => Ok(Some(by_itself(call))),
        ("array_agg" | "string_agg", [value, ..]) if params.distinct => {
            let mut call = by_itself(call);
            let data_type = value.get_type(schema)?;
            let has_order = !is_array(&data_type) && !matches!(data_type, DataType::Union(..) | DataType::Map(..));
            if call.params.order_by.is_empty() && has_order {
                call.params.order_by = vec![value.clone().sort(true, true)];
            }
            Ok(Some(call))
        }
        _ => Ok(None),
    }
}

fn by_itself(call: &AggregateFunction) -> AggregateFunction {
    let by_itself = AggregateUDF::new_from_impl(ByItself { inner: Arc::clone(&call.func) });
    AggregateFunction { func: Arc::new(by_itself), params: call.params.clone() }
}

/// A function with an accumulator for each group, which asks for no order of the rows: it sorts its values, or needs none.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ByItself {
    inner: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for ByItself {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> DataFusionResult<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> DataFusionResult<FieldRef> {
        self.inner.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DataFusionResult<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }
}
