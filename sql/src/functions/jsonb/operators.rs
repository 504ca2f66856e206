//! Operators of PostgreSQL between JSON values, casts of JSON to numbers, and its comparison.
//!
//! What an operator means goes by the types of its sides: `||` joins texts, arrays, or JSON. So DataFusion's planner asks here while it plans an expression
//! ([`JsonOperators`]), and before types are made to fit ([`JsonCasts`]).

use std::sync::{Arc, LazyLock};

use arrow::array::StringViewArray;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{
    Expr, ExprSchemable, GetFieldAccess, Operator, ScalarUDF, binary_expr, cast, lit, try_cast,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion_functions_json::udfs::{json_get_json_udf, json_get_udf};

use super::super::definition::{Definition, Param};
use super::super::json_build::documents;
use super::marks::{is_json, is_json_text, literal};
use super::numbers::WHOLE_TYPE;
use super::tree::Json;
use super::{function, is_text, numbers};

/// Plans the operators.
#[derive(Debug)]
pub(crate) struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let of_json = |expr: &Expr| is_json(expr, schema);
        let is_text_or_json = |expr: &Expr| {
            expr.get_type(schema).is_ok_and(|t| is_text(&t) || matches!(t, DataType::Union(..) | DataType::Null))
        };
        let (left, right) = (&expr.left, &expr.right);
        let name = match &expr.op {
            BinaryOperator::AtArrow if is_text_or_json(left) && is_text_or_json(right) => "jsonb_contains",
            BinaryOperator::ArrowAt if is_text_or_json(left) && is_text_or_json(right) => "jsonb_contained",
            BinaryOperator::StringConcat => {
                let is_constant = |expr: &Expr| literal(expr).is_some();
                let fits = |expr: &Expr| of_json(expr) || is_constant(expr);
                match (of_json(left) || of_json(right)) && fits(left) && fits(right) {
                    true => "jsonb_concat",
                    false => return Ok(PlannerResult::Original(expr)),
                }
            }
            BinaryOperator::Minus if of_json(left) => {
                let is_key = right.get_type(schema).is_ok_and(|data_type| {
                    is_text(&data_type) || data_type.is_integer() || matches!(data_type, DataType::List(_))
                });
                match is_key && !of_json(right) {
                    true => "jsonb_delete",
                    false => return Ok(PlannerResult::Original(expr)),
                }
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(PlannerResult::Planned(function(name).call(vec![expr.left, expr.right])))
    }

    /// `j['a']`, `j[0]`.
    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if !is_json(&expr.expr, schema) {
            return Ok(PlannerResult::Original(expr));
        }
        let RawFieldAccessExpr { expr: json, field_access } = expr;
        let key = match field_access {
            GetFieldAccess::NamedStructField { name } => lit(name),
            GetFieldAccess::ListIndex { key } => *key,
            field_access @ GetFieldAccess::ListRange { .. } => {
                return Ok(PlannerResult::Original(RawFieldAccessExpr { expr: json, field_access }));
            }
        };
        let is_plain = match &key {
            Expr::Literal(ScalarValue::Int64(Some(place)), _) => *place >= 0,
            Expr::Literal(value, _) => value.try_as_str().flatten().is_some(),
            _ => false,
        };
        let taken = if is_plain { json_get_udf() } else { Arc::clone(function(super::JSON_AT)) };
        Ok(PlannerResult::Planned(taken.call(vec![json, key])))
    }
}

/// Casts of JSON to numbers, times and arrays of them.
#[derive(Debug)]
pub(crate) struct JsonCasts;

impl FunctionRewrite for JsonCasts {
    fn name(&self) -> &str {
        "json casts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let (inner, field, lenient) = match &expr {
            Expr::Cast(Cast { expr, field }) => (expr, field, false),
            Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
            _ => return Ok(Transformed::no(expr)),
        };
        if !is_json(inner, schema) {
            return Ok(Transformed::no(expr));
        }
        if !field.data_type().is_numeric() {
            let is_value = matches!(inner.get_type(schema)?, DataType::Union(..));
            let text = if is_value { text_of(inner, field.data_type()) } else { None };
            // As with numbers: null where it is something else.
            return Ok(match text {
                Some(text) => {
                    Transformed::yes(Expr::TryCast(TryCast { expr: Box::new(text), field: Arc::clone(field) }))
                }
                None => Transformed::no(expr),
            });
        }
        let mut json = inner.as_ref();
        while let Expr::Alias(alias) = json {
            json = &alias.expr;
        }
        let json = match json {
            // As its JSON, so that no value of all types is made.
            Expr::ScalarFunction(call) if call.func.name() == "json_get" => json_get_json_udf().call(call.args.clone()),
            json => json.clone(),
        };
        // What is taken out of a value may be of any type, and is null where it is no number.
        let is_null = lenient || matches!(inner.get_type(schema)?, DataType::Union(..));
        let number = numbers::function(field.data_type().is_integer(), is_null).call(vec![json]);
        let (expr, field) = (Box::new(number), Arc::clone(field));
        Ok(Transformed::yes(match lenient {
            true => Expr::TryCast(TryCast { expr, field }),
            false => Expr::Cast(Cast { expr, field }),
        }))
    }
}

/// What a time, or an array of what is no array or row itself, is read from: the text of a value, or the texts of its elements; none for other
/// types.
fn text_of(json: &Expr, to: &DataType) -> Option<Expr> {
    match to {
        to if to.is_temporal() => Some(cast(json.clone(), DataType::Utf8View)),
        DataType::List(element) if !element.data_type().is_nested() => {
            let texts = function(super::JSON_ELEMENT_TEXTS).call(vec![json.clone()]);
            // `2.0` is a whole number.
            Some(match element.data_type().is_integer() {
                true => try_cast(texts, DataType::List(Arc::new(element.as_ref().clone().with_data_type(WHOLE_TYPE)))),
                false => texts,
            })
        }
        _ => None,
    }
}

/// A text that is the same for equal JSON values; a text that is no JSON is its own.
static KEY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Definition {
        name: "__jsonb_key",
        params: &[Param::Any],
        optional: 0,
        returns: |_| DataType::Utf8View,
        invoke: |call| {
            let keys = documents(&call.array(0)?)?.into_iter();
            let key = |text: String| match Json::parse(&text) {
                Some(json) => json.key(),
                None => text,
            };
            Ok(Arc::new(keys.map(|text| text.map(key)).collect::<StringViewArray>()))
        },
    }
    .udf()
});

/// `left op right` where one is JSON as a text, and the other is JSON or a constant that is: equal by what they say, and not by their letters.
pub(in crate::functions) fn compared(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let either = is_json_text(left, schema) || is_json_text(right, schema);
    let fits = |expr: &Expr| is_json(expr, schema) || literal(expr).is_some();
    (either && fits(left) && fits(right)).then(|| binary_expr(key_of(left.clone()), op, key_of(right.clone())))
}

/// A text that is the same for equal JSON values.
pub(in crate::functions) fn key_of(json: Expr) -> Expr {
    KEY.call(vec![json])
}

/// Whether a value and the first column of a subquery are both JSON as texts.
pub(in crate::functions) fn are_json_texts(value: &Expr, schema: &DFSchema, found: &DFSchema) -> bool {
    let column = Expr::from(found.qualified_field(0));
    is_json_text(value, schema) && is_json_text(&column, found)
}
