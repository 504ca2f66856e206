//! `anomaly_score(v, .., method => .., ..) OVER (PARTITION BY .. ORDER BY ..)`: how strange a row is beside the earlier ones of its
//! partition.
//!
//! A streaming query runs it as the engine's `Score`. The function here is what it means over finished tables: it checks types, and
//! evaluates whole partitions with the same kernel. Its options arrive as one text of JSON, into which
//! [`fold_options`] has put what was written by name.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Expr, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::sql::sqlparser::ast::{
    self, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, UnaryOperator, Value,
};
use eagre_engine::operator::score::score_partition;
use eagre_engine::score::{Method, MethodError};
use serde_json::Map;

use crate::error::{Location, SqlError};
use crate::types::sql_name;

/// The function's name.
pub(crate) const NAME: &str = "anomaly_score";

/// See the [module](self).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AnomalyScore {
    signature: Signature,
}

impl AnomalyScore {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The method that a call names, and its features.
///
/// # Errors
/// A method or option that cannot be; another number of features than the method takes.
pub(crate) fn method_of(args: &[Expr]) -> Result<(Method, &[Expr])> {
    let (options, features) = match args.split_last() {
        Some((Expr::Literal(ScalarValue::Utf8(Some(text)), _), features)) => (text.as_str(), features),
        _ => ("{}", args),
    };
    let method = parse(options)?;
    method.scorer(features.len(), &Arc::default()).map_err(told)?;
    Ok((method, features))
}

fn parse(options: &str) -> Result<Method> {
    let options: Map<String, serde_json::Value> =
        serde_json::from_str(options).map_err(|_| DataFusionError::Plan(USAGE.to_string()))?;
    Method::parse(&options).map_err(told)
}

const USAGE: &str =
    "`anomaly_score` takes numbers and then options by name: `anomaly_score(v, method => 'ewma', half_life => 50)`";

fn told(error: MethodError) -> DataFusionError {
    DataFusionError::Plan(format!("`{NAME}`: {error}"))
}

impl WindowUDFImpl for AnomalyScore {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        // Without a value all that is left is the text of the options.
        if arg_types.is_empty() || arg_types == [DataType::Utf8] {
            return plan_err!("{USAGE}");
        }
        let coerced = arg_types.iter().enumerate().map(|(place, data_type)| match data_type {
            DataType::Utf8 if place > 0 && place + 1 == arg_types.len() => Ok(DataType::Utf8),
            number if number.is_numeric() || *number == DataType::Null => Ok(DataType::Float64),
            other => plan_err!("`{NAME}` scores numbers, not a {}", sql_name(other)),
        });
        coerced.collect()
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Float64, true)))
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let exprs = args.input_exprs();
        let options = exprs.last().and_then(text_of);
        let features = exprs.len() - usize::from(options.is_some());
        let method = parse(options.as_deref().unwrap_or("{}"))?;
        method.scorer(features, &Arc::default()).map_err(told)?;
        Ok(Box::new(Evaluator { method, features }))
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

fn text_of(expr: &Arc<dyn PhysicalExpr>) -> Option<String> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Utf8(text) => text.clone(),
        _ => None,
    }
}

#[derive(Debug)]
struct Evaluator {
    method: Method,
    features: usize,
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let scores = score_partition(&self.method, &values[..self.features], rows);
        Ok(Arc::new(scores.map_err(|error| DataFusionError::External(Box::new(error)))?))
    }
}

/// Writes the options of a call, which are given by name, as one text; `ARRAY[a, b]` as `a, b`.
///
/// # Errors
/// An option that is no constant, or is given twice; a method or option that cannot be.
pub(crate) fn fold_options(function: &mut Function) -> Result<(), SqlError> {
    if !function.name.to_string().eq_ignore_ascii_case(NAME) {
        return Ok(());
    }
    let location = Location::of(function.span());
    if function.over.is_none() {
        return Err(SqlError::plan(
            format!("`{NAME}` compares a row with earlier ones: add `OVER (PARTITION BY .. ORDER BY <event time>)`"),
            location,
        ));
    }
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    let modifier = match (&list.duplicate_treatment, list.clauses.first(), function.null_treatment) {
        (Some(treatment), ..) => Some(treatment.to_string()),
        (_, Some(clause), _) => Some(clause.to_string()),
        (.., Some(treatment)) => Some(treatment.to_string()),
        _ => function.filter.as_ref().map(|_| "FILTER".to_string()),
    };
    if let Some(modifier) = modifier {
        return Err(SqlError::plan(format!("`{NAME}` scores every row and takes no {modifier}"), location));
    }
    let mut options = Map::new();
    let mut args = vec![];
    for arg in std::mem::take(&mut list.args) {
        let (name, value) = match arg {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (name, value),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Array(array))) => {
                args.extend(array.elem.into_iter().map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value))));
                continue;
            }
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) if options.is_empty() => {
                args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(value)));
                continue;
            }
            other => return Err(SqlError::plan(format!("{USAGE}; not `{other}`"), location)),
        };
        let at = Location::of(name.span).or(location);
        let constant = constant(&value).ok_or_else(|| {
            SqlError::plan(
                format!("option `{}` of `{NAME}` is a number or text as such, not `{value}`", name.value),
                at,
            )
        })?;
        let key = name.value.to_lowercase();
        if options.insert(key.clone(), constant).is_some() {
            return Err(SqlError::plan(format!("option `{key}` of `{NAME}` is given twice"), at));
        }
        check(&options, &key, at)?;
    }
    // The method may come after its options.
    Method::parse(&options).map_err(|error| at_fault(error, location))?;
    if !options.is_empty() {
        let text = Value::SingleQuotedString(serde_json::Value::Object(options).to_string());
        args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Value(text.into()))));
    }
    list.args = args;
    Ok(())
}

/// Refuses an option at its own place, where the method is known by then.
fn check(options: &Map<String, serde_json::Value>, key: &str, at: Option<Location>) -> Result<(), SqlError> {
    if !options.contains_key("method") {
        return Ok(());
    }
    match Method::parse(options) {
        Err(error @ MethodError::UnknownMethod { .. }) => Err(at_fault(error, at)),
        Err(MethodError::UnknownOption { given, .. }) if given != key => Ok(()),
        Err(MethodError::Value { option, .. }) if option != key => Ok(()),
        Err(error) => Err(at_fault(error, at)),
        Ok(_) => Ok(()),
    }
}

fn at_fault(error: MethodError, location: Option<Location>) -> SqlError {
    match error {
        MethodError::UnknownOption { method, given } => {
            let options = Method::named(method).map(|method| method.options).unwrap_or_default();
            match crate::error::nearest(&given, options.iter().map(|option| option.name)) {
                Some(nearest) => SqlError::UnknownOption {
                    owner: format!("`{NAME}`, method '{method}'"),
                    nearest: Some(nearest),
                    option: given,
                    location,
                },
                // Its message lists them.
                None => SqlError::plan(format!("`{NAME}`: {}", MethodError::UnknownOption { method, given }), location),
            }
        }
        other => SqlError::plan(format!("`{NAME}`: {other}"), location),
    }
}

fn constant(expr: &ast::Expr) -> Option<serde_json::Value> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            Value::Number(number, _) => serde_json::from_str(number).ok(),
            Value::SingleQuotedString(text) => Some(text.as_str().into()),
            Value::Boolean(value) => Some((*value).into()),
            _ => None,
        },
        ast::Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match constant(expr)? {
            serde_json::Value::Number(number) => number.as_f64().map(|number| (-number).into()),
            _ => None,
        },
        ast::Expr::Nested(expr) => constant(expr),
        _ => None,
    }
}
