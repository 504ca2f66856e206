//! PostgreSQL's forms of JSON, written as calls: operators of any key and path, casts to JSON, functions of many keys.
//!
//! `j -> 'a'` and `j -> 0` are left to DataFusion's JSON functions, which skip over what they do not need; with a key that is a column, a place from
//! the end, or a key that looks like a place (`j -> '0'`, which those functions take for one where they find an array), ours take the value apart.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, TypedString, UnaryOperator, Value,
};

use super::{macros, window};
use crate::functions::jsonb::{CAST_JSON, CAST_JSONB, JSON_AT, JSON_AT_PATH, TRY_JSON, TRY_JSONB};
use crate::types::is_variant;

/// The call that an operator or a cast is; none for others.
pub(super) fn written_out(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Cast { expr, data_type, array: false, format: None, .. } if is_variant(data_type) => {
            Some(window::call("to_jsonb", vec![(**expr).clone()]))
        }
        Expr::Cast {
            kind,
            expr,
            data_type: data_type @ (DataType::JSON | DataType::JSONB),
            array: false,
            format: None,
        } => Some(cast(kind, expr, data_type)),
        Expr::TypedString(TypedString { data_type: DataType::JSON, value, .. }) => {
            Some(window::call(CAST_JSON, vec![Expr::Value(value.clone())]))
        }
        Expr::TypedString(TypedString { data_type: DataType::JSONB, value, .. }) => {
            Some(window::call(CAST_JSONB, vec![Expr::Value(value.clone())]))
        }
        Expr::BinaryOp { left, op, right } => operator(left, op, right),
        _ => None,
    }
}

fn cast(kind: &CastKind, value: &Expr, data_type: &DataType) -> Expr {
    let name = match (kind, data_type) {
        (CastKind::Cast | CastKind::DoubleColon, DataType::JSON) => CAST_JSON,
        (CastKind::Cast | CastKind::DoubleColon, _) => CAST_JSONB,
        (CastKind::TryCast | CastKind::SafeCast, DataType::JSON) => TRY_JSON,
        (CastKind::TryCast | CastKind::SafeCast, _) => TRY_JSONB,
    };
    window::call(name, vec![value.clone()])
}

fn operator(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    let args = || vec![left.clone(), right.clone()];
    Some(match op {
        BinaryOperator::Arrow if !is_plain_key(right) => window::call(JSON_AT, args()),
        BinaryOperator::LongArrow if !is_plain_key(right) => as_text(window::call(JSON_AT, args())),
        BinaryOperator::Question => window::call("jsonb_exists", args()),
        BinaryOperator::QuestionPipe => window::call("jsonb_exists_any", args()),
        BinaryOperator::QuestionAnd => window::call("jsonb_exists_all", args()),
        BinaryOperator::HashMinus => window::call("jsonb_delete_path", args()),
        BinaryOperator::AtQuestion => window::call("json_exists", args()),
        _ => return None,
    })
}

/// A key or a place from the beginning that is written.
fn is_plain_key(key: &Expr) -> bool {
    match key {
        Expr::Nested(inner) => is_plain_key(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(key) => key.parse::<isize>().is_err(),
            value => matches!(value, Value::Number(..)),
        },
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => is_plain_key(expr),
        _ => false,
    }
}

/// `json #> path`, or `json #>> path`, of any path.
pub(super) fn at_path(json: &Expr, path: &Expr, is_text: bool) -> Expr {
    let found = window::call(JSON_AT_PATH, vec![json.clone(), path.clone()]);
    if is_text { as_text(found) } else { found }
}

/// A JSON value as `->>` gives it.
fn as_text(value: Expr) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(value), data_type: DataType::Text, array: false, format: None }
}

/// `jsonb_populate_record(NULL::type, j)`: a cast of the JSON to the type; none where there are values that it replaces.
fn populated(function: &Function) -> Option<Expr> {
    let [base, json] = macros::arguments(function)?.try_into().ok()?;
    let Expr::Cast { kind: _, expr, data_type, array: false, format: None } = base else { return None };
    let is_null = matches!(&*expr, Expr::Value(value) if value.value == Value::Null);
    is_null.then(|| Expr::Cast { kind: CastKind::Cast, expr: Box::new(json), data_type, array: false, format: None })
}

/// `jsonb_extract_path(j, 'a', 'b')`, `jsonb_extract_path_text` and `jsonb_populate_record`; none for other functions.
pub(super) fn extracted(function: &Function, name: &str) -> Option<Expr> {
    let is_text = match name {
        "json_extract_path" | "jsonb_extract_path" => false,
        "json_extract_path_text" | "jsonb_extract_path_text" => true,
        "json_populate_record" | "jsonb_populate_record" => return populated(function),
        _ => return None,
    };
    let mut args = macros::arguments(function)?;
    if args.len() < 2 {
        return None;
    }
    let keys = args.split_off(1);
    Some(at_path(&args[0], &window::call("make_array", keys), is_text))
}
