//! The options of a call, which are given by name, as one text; and what is wrong with them, at its place.

use std::ops::ControlFlow;

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::sql::sqlparser::ast::{
    self, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, UnaryOperator, Value, visit_expressions,
};
use eagre_engine::score::{AlarmOptions, METHODS, Method, MethodError, methods_with};
use serde_json::Map;

use super::ScoreFunction;
use crate::error::{Location, SqlError, nearest};

/// Stands in the text of the options where the argument before it says whether a row is learnt.
pub(super) const IS_LEARNT: &str = "$is_learnt";
/// What is scored, where it has casts in it: they do not show in the name that a plan gives to a call, and calls need names of their own.
pub(super) const OF: &str = "$of";
/// Options that somebody's name of a function has and that change nothing, as a text.
pub(crate) const PASSED_OVER: &str = "$passed_over";
/// The option that is a condition on the row.
pub(crate) const LEARN_WHEN: &str = "learn_when";
/// How many numbers an array has, in the text of the options.
pub(super) const WIDTH: &str = "$width";
/// The option that says so, and the most that it says; methods take fewer.
const ARRAY_WIDTH: &str = "width";
const ARRAY_WIDTH_MAX: u64 = 1024;
/// The option that names the method.
const METHOD: &str = "method";

/// Writes the options of a call, which are given by name, as one text; `ARRAY[a, b]` as `a, b`.
///
/// # Errors
/// An option that is no constant, or is given twice; a method or option that cannot be.
pub(crate) fn fold_options(function: &mut Function) -> Result<(), SqlError> {
    let Some(which) = ScoreFunction::named(&function.name.to_string()) else { return Ok(()) };
    let name = which.name();
    let location = Location::of(function.span());
    let usage = |what: String| SqlError::plan(format!("{}{what}", which.usage()), location);
    if function.over.is_none() {
        return Err(SqlError::plan(
            format!("`{name}` compares a row with earlier ones: add `OVER (PARTITION BY .. ORDER BY <event time>)`"),
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
        return Err(SqlError::plan(format!("`{name}` scores every row and takes no {modifier}"), location));
    }
    let mut options = Options { function: which, given: Map::new(), width: None, location };
    let (mut args, mut learn, mut passed_over) = (vec![], None, None);
    for arg in std::mem::take(&mut list.args) {
        match arg {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                if name.value.eq_ignore_ascii_case(LEARN_WHEN) {
                    if learn.replace((Location::of(name.span).or(location), value)).is_some() {
                        return Err(options.twice(LEARN_WHEN, Location::of(name.span)));
                    }
                } else if name.value == PASSED_OVER {
                    passed_over = constant(&value);
                } else {
                    options.add(&name, &value)?;
                }
            }
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) if options.is_empty() && learn.is_none() => {
                match value {
                    ast::Expr::Array(array) => args.extend(array.elem),
                    value => args.push(value),
                }
            }
            other => return Err(usage(format!("; not `{other}`"))),
        }
    }
    if args.len() < 1 + usize::from(which == ScoreFunction::Detect) {
        return Err(usage(String::new()));
    }
    // The method may come after its options.
    which.answer(&options.given).map_err(|error| options.at_fault(&error, location))?;
    let Options { mut given, width, .. } = options;
    given.extend(width.map(|width| (WIDTH.to_owned(), width.into())));
    given.extend(passed_over.map(|names| (PASSED_OVER.to_owned(), names)));
    if args.iter().any(has_cast) {
        given.insert(OF.to_string(), args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ").into());
    }
    if let Some((at, condition)) = learn {
        check_condition(which, &condition, at)?;
        args.push(condition_of(condition));
        given.insert(IS_LEARNT.to_string(), true.into());
    }
    if !given.is_empty() {
        let text = Value::SingleQuotedString(serde_json::Value::Object(given).to_string());
        args.push(ast::Expr::Value(text.into()));
    }
    list.args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Ok(())
}

/// A condition, of whatever type its writer gave it, as a truth value.
fn condition_of(condition: ast::Expr) -> ast::Expr {
    ast::Expr::IsTrue(Box::new(ast::Expr::Nested(Box::new(condition))))
}

fn has_cast(expr: &ast::Expr) -> bool {
    let found = visit_expressions(expr, |expr| match expr {
        ast::Expr::Cast { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Refuses a number, a text or an interval where a condition is asked for.
fn check_condition(function: ScoreFunction, condition: &ast::Expr, at: Option<Location>) -> Result<(), SqlError> {
    match constant(condition) {
        None | Some(serde_json::Value::Bool(_)) => Ok(()),
        Some(_) => Err(SqlError::plan(
            format!(
                "`{}`: option `{LEARN_WHEN}` must be a condition on the row, such as `v > 0`, not {condition}",
                function.name()
            ),
            at,
        )),
    }
}

/// Options as they are collected.
struct Options {
    function: ScoreFunction,
    given: Map<String, serde_json::Value>,
    width: Option<u64>,
    location: Option<Location>,
}

impl Options {
    fn is_empty(&self) -> bool {
        self.given.is_empty() && self.width.is_none()
    }

    fn add(&mut self, name: &ast::Ident, value: &ast::Expr) -> Result<(), SqlError> {
        let at = Location::of(name.span).or(self.location);
        let constant = constant(value).or_else(|| of_season(name, value)).ok_or_else(|| {
            let function = self.function.name();
            let what = "a number, a text or an interval of constant length as such";
            let quoted = match value {
                ast::Expr::Identifier(word) => {
                    format!("; a text stands in quotes: `{} => '{}'`", name.value, word.value)
                }
                _ => String::new(),
            };
            SqlError::plan(format!("option `{}` of `{function}` is {what}, not `{value}`{quoted}", name.value), at)
        })?;
        let key = name.value.to_lowercase();
        if key == ARRAY_WIDTH {
            let width = constant.as_u64().filter(|width| (1..=ARRAY_WIDTH_MAX).contains(width)).ok_or_else(|| {
                let function = self.function.name();
                SqlError::plan(
                    format!("`{function}`: option `{ARRAY_WIDTH}` must be a whole number from 1 to {ARRAY_WIDTH_MAX}, how many numbers the ARRAY has, not {value}"),
                    at,
                )
            })?;
            return match self.width.replace(width) {
                Some(_) => Err(self.twice(&key, at)),
                None => Ok(()),
            };
        }
        if self.given.insert(key.clone(), constant).is_some() {
            return Err(self.twice(&key, at));
        }
        self.check(&key, at)
    }

    fn twice(&self, key: &str, at: Option<Location>) -> SqlError {
        SqlError::plan(format!("option `{key}` of `{}` is given twice", self.function.name()), at)
    }

    /// Refuses an option at its own place, where the method is known by then.
    fn check(&self, key: &str, at: Option<Location>) -> Result<(), SqlError> {
        if !self.given.contains_key(METHOD) {
            return Ok(());
        }
        match self.function.answer(&self.given) {
            Err(MethodError::UnknownOption { given, .. }) if given != key => Ok(()),
            Err(MethodError::Value { option, .. }) if option != key => Ok(()),
            Err(error) => Err(self.at_fault(&error, at)),
            Ok(_) => Ok(()),
        }
    }

    fn at_fault(&self, error: &MethodError, location: Option<Location>) -> SqlError {
        let name = self.function.name();
        // What another method has is no slip of the pen.
        if let MethodError::UnknownOption { method, given } = error
            && methods_with(given).is_empty()
        {
            let options = Method::named(method).map(|method| method.options).unwrap_or_default();
            let known = options.iter().map(|option| option.name).chain(AlarmOptions::NAMES).chain([
                METHOD,
                LEARN_WHEN,
                ARRAY_WIDTH,
            ]);
            if let Some(near) = nearest(given, known) {
                let owner = format!("`{name}`, method '{method}'");
                return SqlError::UnknownOption { owner, nearest: Some(near), option: given.clone(), location };
            }
        }
        SqlError::plan(format!("`{name}`: {}", message(error)), location)
    }
}

/// What is wrong, with the names that are near or there are.
pub(super) fn message(error: &MethodError) -> String {
    match error {
        MethodError::UnknownMethod { given } => {
            let names = || METHODS.iter().map(|method| method.name);
            let all = names().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
            match nearest(given, names()) {
                Some(near) => format!("method '{given}' is not known; did you mean '{near}'? The methods are {all}"),
                None => format!("method '{given}' is not known; the methods are {all}"),
            }
        }
        MethodError::UnknownOption { .. } => {
            let alarms: Vec<String> =
                AlarmOptions::NAMES.iter().chain([&LEARN_WHEN, &ARRAY_WIDTH]).map(|name| format!("`{name}`")).collect();
            format!("{error}; with any method there are {}", alarms.join(", "))
        }
        MethodError::Value { option, expected, given, .. } if AlarmOptions::NAMES.contains(&option.as_str()) => {
            format!("option `{option}` must be {expected}, not {}", as_written(given))
        }
        MethodError::Value { method, option, expected, given } => {
            MethodError::Value { method, option: option.clone(), expected: expected.clone(), given: as_written(given) }
                .to_string()
        }
        other => other.to_string(),
    }
}

/// A value of an option, as somebody would write it: [`constant`] makes an object of an interval.
fn as_written(given: &str) -> String {
    let ms = serde_json::from_str::<serde_json::Value>(given).ok().and_then(|given| given.get("ms")?.as_f64());
    ms.map_or_else(|| given.to_owned(), |ms| format!("INTERVAL '{}' SECOND", ms / 1000.0))
}

/// What a seasonality may be beside an interval: `auto` and `none` need no quotes.
pub(crate) fn season_word(value: &ast::Expr) -> Option<&'static str> {
    let ast::Expr::Identifier(word) = value else { return None };
    ["auto", "none"].into_iter().find(|known| known.eq_ignore_ascii_case(&word.value))
}

fn of_season(option: &ast::Ident, value: &ast::Expr) -> Option<serde_json::Value> {
    season_word(value).filter(|_| option.value.eq_ignore_ascii_case("seasonality")).map(Into::into)
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
        ast::Expr::Interval(interval) => Some(serde_json::json!({ "ms": interval_ms(interval)? })),
        ast::Expr::Nested(expr) => constant(expr),
        _ => None,
    }
}

/// An interval of constant length in milliseconds, down to whole ones.
pub(super) fn interval_ms(interval: &ast::Interval) -> Option<i64> {
    let ast::Interval { value, leading_field, last_field: None, .. } = interval else { return None };
    let amount = match &**value {
        ast::Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => text.clone(),
            _ => return None,
        },
        _ => return None,
    };
    let text = match leading_field {
        Some(unit) => format!("{amount} {unit}"),
        None => amount,
    };
    let length = parse_interval_month_day_nano(&text).ok()?;
    let days_ms = i64::from(length.days) * 86_400_000;
    (length.months == 0).then(|| days_ms + length.nanoseconds.div_euclid(1_000_000))
}
