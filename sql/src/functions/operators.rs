//! What operators mean for types of which DataFusion has another idea.
//!
//! - Rows are compared value by value, so that a null in them leaves open what it does. (DataFusion compares them as words, in which
//!   nulls are equal.)
//! - JSON values are compared as what they are: numbers by their amount, however they are written, and a JSON null as null.
//!   Equality goes by a text that is the same for equal values ([`super::json_order`]), so that it can be the key of a join.
//! - Arrays are compared as they are sorted, a null in them being the greatest ([`super::order_key`]). (DataFusion takes it for the least.)
//! - Intervals are compared by their length, a day being 24 hours and a month 30 days, as in PostgreSQL. (DataFusion compares months, then days, then what is
//!   shorter, so that 36 hours were less than a day.)
//! - Whether a text is an integer that is written (`user_id <> 123`) goes by the text, which is an answer for each (DataFusion makes numbers of all
//!   texts, and fails on those that are none).
//! - A text in hexadecimal digits beside bytes is those bytes, as where it is inserted.
//! - A DOUBLE and a DECIMAL meet as DOUBLEs, also in the branches of `CASE` and `COALESCE`, and in `IN (SELECT ..)`. (DataFusion makes decimals of 15 digits after the point:
//!   1e-20 were 0, and 1e30 an error.) A number that is written beside a DECIMAL stays exact.
//! - `CEIL` and `FLOOR` of a DECIMAL have room for the next whole number. (DataFusion's have the digits of the value.)
//! - A DATE and a TIMESTAMP meet in the precision of the latter, also in the branches of `CASE` and `COALESCE`. (DataFusion counts nanoseconds, which the
//!   years before 1678 and after 2261 do not have: 9999-12-31 were an error.) So does what `DATE_TRUNC` takes apart, of months and more.
//! - `CASE x WHEN y` and `NULLIF(x, y)` ask for `x = y` where that is not what DataFusion compares them by, and so does `x IN (SELECT y ..)` of intervals and JSON.
//! - `ROW(a, b) IS NULL` is so if all of its values are, and `IS NOT NULL` if none is.
//! - `x ~ '.*'` and `x # x` of a null are null; `LENGTH` of bytes counts bytes; `APPROX_DISTINCT` takes doubles.
//! - What is taken out of a difference of two times (`EXTRACT(HOUR FROM a - b)`) are its days, hours and minutes, as in PostgreSQL.
//! - Numbers without a sign that functions give (`CARDINALITY(a) / 2`) are counted on with a sign; with one on one side only, DataFusion
//!   makes decimals.
//!
//! This runs before types are made to fit, which would hide what they were.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Fields, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{
    AggregateFunction, AggregateFunctionParams, Between, Case, InList, InSubquery, ScalarFunction,
};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlanBuilder, Operator, Subquery, binary_expr, cast, lit,
};
use eagre_engine::keys::has_other_forms;

use super::as_it_is::as_it_is;
use super::interval::is_interval;
use super::interval_parts::HOURS_AS_DAYS;
use super::json_order::{JSON_KEY, JSON_ORDER, NUMBER_KEY};
use super::order_key::{ORDER_KEY, has_no_key, is_array};
use super::{byte_text, bytes, coalesce, extremes, interval, jsonb, maps, nested, round_time};
use crate::planner::strip_alias;

/// Rewrites one operator.
#[derive(Debug)]
pub(super) struct Operators;

impl FunctionRewrite for Operators {
    fn name(&self) -> &str {
        "operators"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let rewritten = match &expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                use Operator::{IsDistinctFrom, IsNotDistinctFrom, NotEq};
                match op {
                    Operator::BitwiseXor => taken_apart(left, right),
                    op if is_regex(*op) && is_any_text(right) => {
                        Some(binary_expr(left.as_ref().clone(), *op, lit(ANY_TEXT_IN_PARENTHESES)))
                    }
                    _ => match op.supports_propagation() || matches!(op, NotEq | IsDistinctFrom | IsNotDistinctFrom) {
                        true => compared(left, *op, right, schema)?,
                        false => counted(left, *op, right, schema),
                    },
                }
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let above = compared(expr, Operator::GtEq, low, schema)?;
                let below = compared(expr, Operator::LtEq, high, schema)?;
                let either = above.is_some() || below.is_some();
                either.then(|| {
                    let above = above.unwrap_or_else(|| binary_expr(*expr.clone(), Operator::GtEq, *low.clone()));
                    let below = below.unwrap_or_else(|| binary_expr(*expr.clone(), Operator::LtEq, *high.clone()));
                    negated_if(*negated, above.and(below))
                })
            }
            Expr::InList(InList { expr, list, negated }) => {
                let of = |other: &Expr| {
                    let equal = compared(expr, Operator::Eq, other, schema)?;
                    Ok((equal.is_some(), equal.unwrap_or_else(|| expr.as_ref().clone().eq(other.clone()))))
                };
                let equal = list.iter().map(of).collect::<Result<Vec<_>>>()?;
                let any = equal.iter().any(|(rewritten, _)| *rewritten);
                let equal = equal.into_iter().map(|(_, equal)| equal).reduce(Expr::or);
                equal.filter(|_| any).map(|equal| negated_if(*negated, equal))
            }
            Expr::InSubquery(within) => among(within, schema)?,
            Expr::IsNull(row) => row_is_null(row, Expr::is_null),
            Expr::IsNotNull(row) => row_is_null(row, Expr::is_not_null),
            Expr::Case(case) => {
                let searched = searched(case, schema)?;
                let case = searched.as_ref().unwrap_or(case);
                let branches = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
                let branches: Vec<&Expr> = branches.chain(case.else_expr.as_deref()).collect();
                let in_one_type = in_one_type(&branches, schema).map(|mut branches| {
                    let otherwise = case.else_expr.as_ref().and_then(|_| branches.pop()).map(Box::new);
                    let whens = case.when_then_expr.iter().map(|(when, _)| when.clone());
                    let branches = whens.zip(branches.into_iter().map(Box::new)).collect();
                    Expr::Case(Case::new(case.expr.clone(), branches, otherwise))
                });
                in_one_type.or(searched.map(Expr::Case))
            }
            Expr::AggregateFunction(call) if call.func.name() == "approx_distinct" => {
                texts_of_doubles(&call.params.args, schema).map(|args| {
                    let params = AggregateFunctionParams { args, ..call.params.clone() };
                    Expr::AggregateFunction(AggregateFunction { func: Arc::clone(&call.func), params })
                })
            }
            Expr::WindowFunction(call) if call.fun.name() == "approx_distinct" => {
                texts_of_doubles(&call.params.args, schema).map(|args| {
                    let mut counted = call.clone();
                    counted.params.args = args;
                    Expr::WindowFunction(counted)
                })
            }
            Expr::ScalarFunction(call) if ["date_part", "to_char"].contains(&call.func.name()) => {
                of_days_and_hours(call, schema)
            }
            Expr::ScalarFunction(call) if call.func.name() == "date_trunc" => truncated(call, schema),
            Expr::ScalarFunction(call) if ["ceil", "floor"].contains(&call.func.name()) => with_room(call, schema),
            Expr::ScalarFunction(call) if call.func.name() == "character_length" => match call.args.as_slice() {
                [array] if array.get_type(schema).is_ok_and(|data_type| is_array(&data_type)) => {
                    return plan_err!("`{array}` is an array and has no letters; `CARDINALITY` counts its elements");
                }
                [value] if value.get_type(schema).is_ok_and(|data_type| data_type.is_binary()) => {
                    let count = bytes::octet_length().call(call.args.clone());
                    Some(cast(count, expr.get_type(schema)?))
                }
                _ => None,
            },
            Expr::ScalarFunction(call)
                if call.func.name() == "regexp_like" && call.args.get(1).is_some_and(is_any_text) =>
            {
                let mut args = call.args.clone();
                args[1] = lit(ANY_TEXT_IN_PARENTHESES);
                Some(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&call.func), args }))
            }
            Expr::ScalarFunction(call) if OF_ONE_TYPE.contains(&call.func.name()) => {
                coalesce::check(call, schema)?;
                let null_if_equal = null_if_equal(call, schema)?;
                let args = || in_one_type(&call.args.iter().collect::<Vec<_>>(), schema);
                let of_args = |args| Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&call.func), args });
                null_if_equal.or_else(|| extremes::in_our_order(call, schema)).or_else(|| args().map(of_args))
            }
            _ => None,
        };
        Ok(match rewritten {
            Some(rewritten) => Transformed::yes(rewritten),
            None => Transformed::no(expr),
        })
    }
}

/// `x # x` and `x # (x # y)`, of which DataFusion makes 0 and `y`, also where `x` is null; none of others.
fn taken_apart(left: &Expr, right: &Expr) -> Option<Expr> {
    let takes = |expr: &Expr| matches!(expr, Expr::BinaryExpr(binary) if binary.op == Operator::BitwiseXor);
    let kept = |expr: &Expr| if takes(expr) { as_it_is(expr.clone()) } else { expr.clone() };
    match left == right {
        true => Some(binary_expr(as_it_is(left.clone()), Operator::BitwiseXor, right.clone())),
        false if takes(left) || takes(right) => Some(binary_expr(kept(left), Operator::BitwiseXor, kept(right))),
        false => None,
    }
}

/// `expr IN (SELECT ..)`, where DataFusion would compare the values otherwise.
fn among(within: &InSubquery, schema: &DFSchema) -> Result<Option<Expr>> {
    let found = &within.subquery.subquery;
    let column = found.schema().field(0);
    Ok(match (within.expr.get_type(schema)?, column.data_type()) {
        (left, right)
            if is_interval(&left)
                && is_interval(right)
                && (matches!(left, DataType::Interval(_)) || left != *right) =>
        {
            Some(among_values(within, interval::length_of)?)
        }
        (DataType::Struct(_), DataType::Struct(_)) => {
            return plan_err!(
                "`IN (SELECT ..)` of a column of rows would take nulls in them as equal; compare the fields: `(r.a, r.b) IN (SELECT s.a, s.b ..)`"
            );
        }
        (DataType::Union(..), _) | (_, DataType::Union(..)) => {
            return plan_err!(
                "`IN (SELECT ..)` of JSON values and others; take both as one type: `json_get_int(j, 'a')`, `j ->> 'a'`"
            );
        }
        (decimal, float) if decimal.is_decimal() && float.is_floating() => {
            let expr = Box::new(cast(within.expr.as_ref().clone(), DataType::Float64));
            Some(Expr::InSubquery(InSubquery { expr, ..within.clone() }))
        }
        _ if jsonb::operators::are_json_texts(&within.expr, schema, found.schema()) => {
            Some(among_values(within, jsonb::operators::key_of)?)
        }
        (DataType::Date32 | DataType::Date64, time @ DataType::Timestamp(..)) => {
            let expr = Box::new(cast(within.expr.as_ref().clone(), time.clone()));
            Some(Expr::InSubquery(InSubquery { expr, ..within.clone() }))
        }
        (float, decimal) if decimal.is_decimal() && is_computed_float(&within.expr, &float) => {
            Some(among_values_as(within, DataType::Float64)?)
        }
        (time @ DataType::Timestamp(..), DataType::Date32 | DataType::Date64) => Some(among_values_as(within, time)?),
        _ => None,
    })
}

/// `expr IN (SELECT ..)` with the values of the subquery in another type.
fn among_values_as(within: &InSubquery, data_type: DataType) -> Result<Expr> {
    Ok(Expr::InSubquery(InSubquery { subquery: values_as(within, |value| cast(value, data_type))?, ..within.clone() }))
}

/// `expr IN (SELECT ..)` of the keys of both.
fn among_values(within: &InSubquery, key: impl Fn(Expr) -> Expr) -> Result<Expr> {
    let subquery = values_as(within, &key)?;
    let expr = Box::new(key(within.expr.as_ref().clone()));
    Ok(Expr::InSubquery(InSubquery { expr, subquery, negated: within.negated }))
}

fn values_as(within: &InSubquery, made: impl FnOnce(Expr) -> Expr) -> Result<Subquery> {
    let found = &within.subquery.subquery;
    let (qualifier, field) = found.schema().qualified_field(0);
    let values = made(Expr::from((qualifier, field))).alias(field.name());
    let values = LogicalPlanBuilder::from(Arc::clone(found)).project([values])?.build()?;
    Ok(within.subquery.with_plan(Arc::new(values)))
}

/// `ROW(a, b) IS [NOT] NULL`: all of its values are null, or none of them is, as the standard has it. So it is of the row of a table that an outer join may not
/// have found.
fn row_is_null(row: &Expr, is_null: fn(Expr) -> Expr) -> Option<Expr> {
    // A function that is called by another name of its is shown by that.
    let row = strip_alias(row);
    let (row, found) = match row {
        Expr::Case(case) => match (&case.expr, case.when_then_expr.as_slice(), &case.else_expr) {
            (None, [(found, row)], None) => (strip_alias(row), Some(found.as_ref())),
            _ => return None,
        },
        row => (row, None),
    };
    let Expr::ScalarFunction(call) = row else { return None };
    let values: Vec<&Expr> = match call.func.name() {
        "named_struct" => call.args.iter().skip(1).step_by(2).collect(),
        "struct" => call.args.iter().collect(),
        _ => return None,
    };
    let is_found = || values.iter().map(|value| (*value).clone().is_not_null()).reduce(Expr::or);
    if found.is_some_and(|found| is_found().as_ref() != Some(found)) {
        return None;
    }
    values.into_iter().map(|value| is_null(value.clone())).reduce(Expr::and)
}

const ANY_TEXT_IN_PARENTHESES: &str = "(?:.*)";

/// Whether a pattern is `'.*'`, of which DataFusion makes `IS NOT NULL`: false of a null.
fn is_any_text(pattern: &Expr) -> bool {
    matches!(pattern, Expr::Literal(text, _) if text.try_as_str().flatten() == Some(".*"))
}

fn is_regex(op: Operator) -> bool {
    matches!(op, Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch)
}

/// `CASE x WHEN y THEN ..` as `CASE WHEN x = y THEN ..`, where DataFusion has another equality for it than for `=`.
fn searched(case: &Case, schema: &DFSchema) -> Result<Option<Case>> {
    let Some(operand) = case.expr.as_deref().filter(|operand| can_be_repeated(operand)) else { return Ok(None) };
    let mut any = false;
    let mut branches = Vec::with_capacity(case.when_then_expr.len());
    for (when, then) in &case.when_then_expr {
        let (equal, by_ours) = equal(operand, when, schema)?;
        any |= by_ours;
        branches.push((Box::new(equal), then.clone()));
    }
    Ok(any.then(|| Case::new(None, branches, case.else_expr.clone())))
}

/// Whether an expression may stand in several places. A subquery would be asked in each.
fn can_be_repeated(expr: &Expr) -> bool {
    let asks = expr.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))));
    !expr.is_volatile() && !asks.unwrap_or(true)
}

/// `left = right`, and whether that is not what DataFusion has for two values that it compares itself.
fn equal(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<(Expr, bool)> {
    let compared = compared(left, Operator::Eq, right, schema)?;
    let has_forms = |expr: &Expr| expr.get_type(schema).is_ok_and(|data_type| has_other_forms(&data_type));
    // Of rows it would not be known where nulls are in them.
    let is_row = left.get_type(schema).is_ok_and(|data_type| matches!(data_type, DataType::Struct(_)));
    let by_ours = !is_row && (compared.is_some() || has_forms(left) || has_forms(right));
    Ok((compared.unwrap_or_else(|| left.clone().eq(right.clone())), by_ours))
}

/// `NULLIF(x, y)` as `CASE WHEN x = y THEN NULL ELSE x END`, likewise.
fn null_if_equal(call: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
    let ("nullif", [left, right]) = (call.func.name(), call.args.as_slice()) else { return Ok(None) };
    let (equal, by_ours) = equal(left, right, schema)?;
    if !by_ours || !can_be_repeated(left) {
        return Ok(None);
    }
    let null = Box::new(lit(ScalarValue::try_from(left.get_type(schema)?)?));
    Ok(Some(Expr::Case(Case::new(None, vec![(Box::new(equal), null)], Some(Box::new(left.clone()))))))
}

/// The fields of a difference of two times as days, hours, minutes, as in PostgreSQL. (DataFusion takes all of it in hours.)
fn of_days_and_hours(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let is_difference = |arg: &Expr| matches!(arg.get_type(schema), Ok(DataType::Duration(_)));
    if !call.args.iter().any(is_difference) {
        return None;
    }
    let in_days = |arg: &Expr| if is_difference(arg) { HOURS_AS_DAYS.call(vec![arg.clone()]) } else { arg.clone() };
    let args = call.args.iter().map(in_days).collect();
    Some(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&call.func), args }))
}

/// The argument of `APPROX_DISTINCT` as a text where it is a DOUBLE, whose values DataFusion does not count; both zeros are one value.
fn texts_of_doubles(args: &[Expr], schema: &DFSchema) -> Option<Vec<Expr>> {
    let [value] = args else { return None };
    let data_type = value.get_type(schema).ok().filter(DataType::is_floating)?;
    let one_zero = binary_expr(value.clone(), Operator::Plus, cast(lit(0.0), data_type));
    Some(vec![cast(one_zero, DataType::Utf8)])
}

/// `DATE_TRUNC` of a date or a timestamp without a zone, whatever its year.
fn truncated(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let [unit, time] = call.args.as_slice() else { return None };
    let time = match time.get_type(schema).ok()? {
        DataType::Date32 | DataType::Date64 => cast(time.clone(), DataType::Timestamp(TimeUnit::Millisecond, None)),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => return None,
        DataType::Timestamp(_, None) => time.clone(),
        _ => return None,
    };
    let Expr::Literal(word, _) = unit else { return None };
    const LONG: [&str; 6] = ["month", "quarter", "year", "decade", "century", "millennium"];
    let is_long = LONG.contains(&word.try_as_str().flatten()?.to_lowercase().as_str());
    let func = if is_long { round_time::floor_to() } else { Arc::clone(&call.func) };
    let truncated = Expr::ScalarFunction(ScalarFunction { func, args: vec![unit.clone(), time] });
    (truncated != Expr::ScalarFunction(call.clone())).then_some(truncated)
}

/// `CEIL` or `FLOOR` of a DECIMAL with a digit more, which the next whole number may need: that of 99.99 is 100.
fn with_room(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let [value] = call.args.as_slice() else { return None };
    let DataType::Decimal128(precision, scale) = value.get_type(schema).ok()? else { return None };
    // As it is where this has run before.
    let has_room = match value {
        Expr::Cast(Cast { expr, .. }) => {
            matches!(expr.get_type(schema), Ok(DataType::Decimal128(before, same)) if same == scale && before < precision)
        }
        _ => false,
    };
    if has_room || scale <= 0 || precision == DECIMAL128_MAX_PRECISION {
        return None;
    }
    let roomy = DataType::Decimal128(precision + 1, scale);
    let args = vec![cast(value.clone(), roomy)];
    Some(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&call.func), args }))
}

/// Functions whose arguments are made to fit each other.
const OF_ONE_TYPE: &[&str] = &["coalesce", "nvl", "nullif", "greatest", "least", "make_array"];

/// The same expressions in the type in which they meet, where that is not the one that DataFusion has for them.
fn in_one_type(exprs: &[&Expr], schema: &DFSchema) -> Option<Vec<Expr>> {
    in_doubles(exprs, schema).or_else(|| in_timestamps(exprs, schema))
}

/// The same expressions with dates as timestamps of the kind of the others, where these are of one kind.
fn in_timestamps(exprs: &[&Expr], schema: &DFSchema) -> Option<Vec<Expr>> {
    let types = exprs.iter().map(|expr| expr.get_type(schema).ok()).collect::<Option<Vec<_>>>()?;
    let is_date = |data_type: &DataType| matches!(data_type, DataType::Date32 | DataType::Date64);
    let time = types.iter().find(|data_type| matches!(data_type, DataType::Timestamp(..)))?;
    let meet = types.iter().all(|data_type| data_type == time || is_date(data_type) || data_type.is_null());
    if !meet || !types.iter().any(is_date) {
        return None;
    }
    let as_time = |(expr, data_type): (&&Expr, &DataType)| match is_date(data_type) {
        true => cast((*expr).clone(), time.clone()),
        false => (*expr).clone(),
    };
    Some(exprs.iter().zip(&types).map(as_time).collect())
}

/// The same expressions with DECIMALs as DOUBLEs, where some are DOUBLEs that are not written there.
fn in_doubles(exprs: &[&Expr], schema: &DFSchema) -> Option<Vec<Expr>> {
    let types = exprs.iter().map(|expr| expr.get_type(schema).ok()).collect::<Option<Vec<_>>>()?;
    let any_double = exprs.iter().zip(&types).any(|(expr, data_type)| is_computed_float(expr, data_type));
    if !any_double || !types.iter().any(DataType::is_decimal) {
        return None;
    }
    let double = |(expr, data_type): (&&Expr, &DataType)| match data_type.is_decimal() {
        true => cast((*expr).clone(), DataType::Float64),
        false => (*expr).clone(),
    };
    Some(exprs.iter().zip(&types).map(double).collect())
}

/// A DOUBLE that is no number that is written, with digits that a DECIMAL has.
fn is_computed_float(expr: &Expr, data_type: &DataType) -> bool {
    data_type.is_floating() && !matches!(expr, Expr::Literal(value, _) if has_digits_of_decimals(value))
}

/// Whether a number that is written, or its absence, is none that is too large for the DECIMALs that DataFusion makes of DOUBLEs.
fn has_digits_of_decimals(value: &ScalarValue) -> bool {
    const TOO_LARGE: f64 = 1e15;
    match value {
        ScalarValue::Float64(Some(value)) => value.abs() < TOO_LARGE,
        ScalarValue::Float32(Some(value)) => f64::from(value.abs()) < TOO_LARGE,
        _ => true,
    }
}

fn negated_if(negated: bool, expr: Expr) -> Expr {
    if negated { Expr::Not(Box::new(expr)) } else { expr }
}

/// The bytes that a text in hexadecimal digits is (`'\\x61'`) where it is compared with bytes.
fn bytes_of(text: &Expr, other: &DataType) -> Option<Expr> {
    match (text, other) {
        (Expr::Literal(text, _), DataType::Binary | DataType::BinaryView | DataType::LargeBinary) => {
            let bytes = byte_text::in_digits(text.try_as_str().flatten()?)?;
            Some(lit(ScalarValue::Binary(Some(bytes))))
        }
        _ => None,
    }
}

/// `left op right`, where DataFusion would compare otherwise.
fn compared(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    if !matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom) {
        return Ok(None);
    }
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else { return Ok(None) };
    if let Some((left, right)) = interval::read_beside(left, &left_type, right, &right_type)? {
        return Ok(Some(compared(&left, op, &right, schema)?.unwrap_or_else(|| binary_expr(left, op, right))));
    }
    let equality = matches!(op, Eq | NotEq | IsDistinctFrom | IsNotDistinctFrom);
    if equality && let Some(compared) = jsonb::operators::compared(left, op, right, schema) {
        return Ok(Some(compared));
    }
    match (bytes_of(right, &left_type), bytes_of(left, &right_type)) {
        (Some(right), _) => return Ok(Some(binary_expr(left.clone(), op, right))),
        (_, Some(left)) => return Ok(Some(binary_expr(left, op, right.clone()))),
        (None, None) => {}
    }
    Ok(match (&left_type, &right_type) {
        // Nulls are values here, as in the words that DataFusion makes of rows.
        (DataType::Struct(_), DataType::Struct(_)) if matches!(op, IsDistinctFrom | IsNotDistinctFrom) => None,
        (DataType::Struct(left_fields), DataType::Struct(right_fields)) => {
            if left_fields.len() != right_fields.len() {
                return plan_err!(
                    "`{left} {op} {right}` compares rows of {} and of {} values",
                    left_fields.len(),
                    right_fields.len()
                );
            }
            rows_compared(left, op, right, left_fields, schema)?
        }
        (left_type, right_type)
            if equality
                && is_array(left_type)
                && is_array(right_type)
                && has_other_forms(left_type)
                && has_other_forms(right_type) =>
        {
            comparison_coercion(left_type, right_type).map(|common| {
                let form = |side: &Expr, data_type: &DataType| match *data_type == common {
                    true => maps::in_key_form(side.clone()),
                    false => maps::in_key_form(cast(side.clone(), common.clone())),
                };
                binary_expr(form(left, left_type), op, form(right, right_type))
            })
        }
        (left_type, right_type) if !equality && is_array(left_type) && is_array(right_type) => {
            if has_no_key(left_type) || has_no_key(right_type) {
                return plan_err!("arrays of JSON or of MAPs have no order; compare what is taken out of them");
            }
            comparison_coercion(left_type, right_type).map(|common| {
                let key = |side: &Expr| ORDER_KEY.call(vec![cast(side.clone(), common.clone())]);
                binary_expr(key(left), op, key(right))
            })
        }
        (DataType::Union(..), DataType::Union(..)) => Some(match equality {
            true => by_key(left, op, right),
            false => ordered(left, op, right),
        }),
        (DataType::Union(..), other) | (other, DataType::Union(..)) if other.is_numeric() => {
            let with_constant = [left, right].iter().any(|side| matches!(side, Expr::Literal(..)));
            Some(match op {
                // What is no number differs from a null.
                IsDistinctFrom | IsNotDistinctFrom => by_key(left, op, right),
                Eq | NotEq if !with_constant => {
                    binary_expr(NUMBER_KEY.call(vec![left.clone()]), op, NUMBER_KEY.call(vec![right.clone()]))
                }
                _ => ordered(left, op, right),
            })
        }
        (text, number) if equality && is_text(text) && number.is_integer() => {
            digits_of(right).map(|digits| binary_expr(left.clone(), op, digits))
        }
        (number, text) if equality && is_text(text) && number.is_integer() => {
            digits_of(left).map(|digits| binary_expr(digits, op, right.clone()))
        }
        (float, decimal) if decimal.is_decimal() && is_computed_float(left, float) => {
            Some(binary_expr(left.clone(), op, cast(right.clone(), DataType::Float64)))
        }
        (decimal, float) if decimal.is_decimal() && is_computed_float(right, float) => {
            Some(binary_expr(cast(left.clone(), DataType::Float64), op, right.clone()))
        }
        (DataType::Date32 | DataType::Date64, time @ DataType::Timestamp(..)) => {
            Some(binary_expr(cast(left.clone(), time.clone()), op, right.clone()))
        }
        (time @ DataType::Timestamp(..), DataType::Date32 | DataType::Date64) => {
            Some(binary_expr(left.clone(), op, cast(right.clone(), time.clone())))
        }
        (DataType::Interval(_) | DataType::Duration(_), DataType::Interval(_) | DataType::Duration(_)) => {
            interval::compared((left, &left_type), op, (right, &right_type))
        }
        _ => None,
    })
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The text of an integer that is written; none of any other expression.
fn digits_of(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(lit(value.to_string())),
        _ => None,
    }
}

fn by_key(left: &Expr, op: Operator, right: &Expr) -> Expr {
    binary_expr(JSON_KEY.call(vec![left.clone()]), op, JSON_KEY.call(vec![right.clone()]))
}

fn ordered(left: &Expr, op: Operator, right: &Expr) -> Expr {
    binary_expr(JSON_ORDER.call(vec![left.clone(), right.clone()]), op, lit(0i64))
}

/// Value by value, and by order after the first values that differ.
fn rows_compared(left: &Expr, op: Operator, right: &Expr, fields: &Fields, schema: &DFSchema) -> Result<Option<Expr>> {
    let field = |row: &Expr, place: usize| nested::field_of_row().call(vec![row.clone(), lit(place as i64 + 1)]);
    let strict = match op {
        Operator::LtEq => Operator::Lt,
        Operator::GtEq => Operator::Gt,
        other => other,
    };
    let mut all: Option<Expr> = None;
    for place in (0..fields.len()).rev() {
        let (left, right) = (field(left, place), field(right, place));
        let by = |op: Operator| -> Result<Expr> {
            let rewritten = compared(&left, op, &right, schema)?;
            Ok(rewritten.unwrap_or_else(|| binary_expr(left.clone(), op, right.clone())))
        };
        all = Some(match (all, op) {
            (None, _) => by(op)?,
            (Some(rest), Operator::Eq) => by(Operator::Eq)?.and(rest),
            (Some(rest), Operator::NotEq) => by(Operator::NotEq)?.or(rest),
            (Some(rest), _) => by(strict)?.or(by(Operator::Eq)?.and(rest)),
        });
    }
    Ok(all)
}

/// `left op right`, where one side is a count without a sign that an expression gives.
fn counted(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    if !matches!(op, Plus | Minus | Multiply | Divide | Modulo) {
        return None;
    }
    let (left_type, right_type) = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
    let is_count =
        |expr: &Expr, data_type: &DataType| *data_type == DataType::UInt64 && !matches!(expr, Expr::Column(_));
    let (left_counts, right_counts) = (is_count(left, &left_type), is_count(right, &right_type));
    let fits = |data_type: &DataType| data_type.is_signed_integer() || *data_type == DataType::UInt64;
    if !(left_counts || right_counts) || !fits(&left_type) || !fits(&right_type) {
        return None;
    }
    let signed = |expr: &Expr, counts: bool| if counts { cast(expr.clone(), DataType::Int64) } else { expr.clone() };
    Some(binary_expr(signed(left, left_counts), op, signed(right, right_counts)))
}
