//! JSON values that are equal are one group, one row of a `DISTINCT`, one partition; and where rows are put in order by them, they are in one.
//!
//! `3` and `3.0` are equal, and so are two spellings of an object. Where rows are told apart by a JSON column, its values are first written in one way:
//! a number without a fraction as a whole number, an array or object in its shortest form. Where they are put in order, it is by a key
//! ([`order_key`](crate::functions::order_key)).

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, SortExpr};

use super::expr::short_text;
use super::one_way::{OneWay, Place};
use crate::functions::json_plain;
use crate::functions::order_key::{ORDER_KEY, has_no_key, is_nested};

/// Puts the one way of writing where it matters.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    OneWay { key: is_json, written: plain, order: in_order, check }.rewrite(plan)
}

pub(super) fn is_json(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Union(..))
}

pub(super) fn plain(expr: Expr) -> Expr {
    json_plain().call(vec![expr])
}

/// Has rows ordered by the keys of JSON values; whether it is by one.
fn in_order(by: &mut SortExpr, place: Place, schema: &DFSchema) -> Result<bool> {
    let data_type = by.expr.get_type(schema)?;
    if has_no_key(&data_type) {
        return plan_err!(
            "`ORDER BY {}`: arrays and rows of JSON or of MAPs have no order; order by what is taken out of them",
            short_text(&by.expr)
        );
    }
    // By arrays and rows aggregates would go by `<`. Others put nulls in them where those of the whole value are, which is behind what is there
    // unless something else is asked for.
    let nulls_within_are_least = by.asc == by.nulls_first;
    let has_key = is_json(&data_type)
        || matches!(data_type, DataType::Map(..))
        || is_nested(&data_type) && (place == Place::Values || nulls_within_are_least);
    if has_key {
        by.expr = ORDER_KEY.call(vec![by.expr.clone()]);
    }
    Ok(has_key)
}

/// `MIN` and `MAX` need an order, which JSON values do not have, and are not there for maps.
fn check(expr: &Expr, schema: &DFSchema) -> Result<()> {
    let (name, args) = match expr {
        Expr::AggregateFunction(function) => (function.func.name(), &function.params.args),
        Expr::WindowFunction(function) => (function.fun.name(), &function.params.args),
        _ => return Ok(()),
    };
    let Some((arg, data_type)) = args.first().and_then(|arg| Some((arg, arg.get_type(schema).ok()?))) else {
        return Ok(());
    };
    match data_type {
        _ if !matches!(name, "min" | "max") => Ok(()),
        data_type if is_json(&data_type) => plan_err!(
            "`{name}({})`: JSON values have no order; take numbers or texts out of them: `CAST(j -> 'a' AS BIGINT)`, `j ->> 'a'`",
            short_text(arg)
        ),
        DataType::Map(..) => plan_err!(
            "`{name}({})`: a MAP has no extremes; take a value out of it, or the first one in order: `FIRST_VALUE(m ORDER BY m)`",
            short_text(arg)
        ),
        _ => Ok(()),
    }
}
