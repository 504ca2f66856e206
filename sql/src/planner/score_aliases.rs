//! Names that others have for the same: Flink's on Confluent and those of Azure's streams, written as `detect_anomalies`.
//!
//! What they say of a row comes back in the fields that it has there. Their models are not ours: options that tune those change nothing, which a
//! notice says, and what those say of themselves is null.

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType as SqlType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArguments, Ident, ObjectName, OrderByExpr, OrderByOptions, Select, Spanned, TableFactor, Value, WindowType,
};

use super::random_cut_forest::timed_table;
use super::window;
use crate::catalog::Catalog;
use crate::error::{Location, SqlError, nearest};
use crate::functions::score::{LEARN_WHEN, PASSED_OVER, ScoreFunction};

const FLINK: &str = "ML_DETECT_ANOMALIES";
const SPIKES: &str = "AnomalyDetection_SpikeAndDip";
const CHANGES: &str = "AnomalyDetection_ChangePoint";
/// Options of Confluent's ARIMA.
const OF_ARIMA: [&str; 9] =
    ["p", "q", "d", "m", "maxTrainingSize", "enableStl", "evalWindowSize", "updateInterval", "horizon"];

/// The event time of the one table that a `SELECT` reads, if it is that.
pub(super) fn event_time(catalog: &Catalog, select: &Select) -> Option<Ident> {
    let [from] = select.from.as_slice() else { return None };
    let TableFactor::Table { name, args: None, .. } = &from.relation else { return None };
    // A name that nothing has is told where names are resolved.
    let (_, time) = timed_table(catalog, name, None).ok().flatten().filter(|_| from.joins.is_empty())?;
    Some(Ident::with_quote('"', time))
}

/// A call under another name, as what it is here; `None`: it is none. What is returned has its options still by name. `time` is the event time of
/// what the call's `SELECT` reads, where that is one table with a watermark.
///
/// # Errors
/// A call that is written wrongly; an option that has no meaning here.
pub(super) fn alias(function: &Function, time: Option<&Ident>) -> Result<Option<Expr>, SqlError> {
    let name = function.name.to_string();
    let call = |name| Call { name, function, location: Location::of(function.span()) };
    match [FLINK, SPIKES, CHANGES].into_iter().find(|alias| alias.eq_ignore_ascii_case(&name)) {
        Some(FLINK) => call(FLINK).flink().map(Some),
        Some(SPIKES) => call(SPIKES).azure(true, time).map(Some),
        Some(name) => call(name).azure(false, time).map(Some),
        None => Ok(None),
    }
}

struct Call<'a> {
    name: &'static str,
    function: &'a Function,
    location: Option<Location>,
}

impl Call<'_> {
    fn wrong(&self, what: &str) -> SqlError {
        SqlError::plan(format!("`{}` {what}", self.name), self.location)
    }

    fn args(&self) -> Result<Vec<&Expr>, SqlError> {
        let FunctionArguments::List(list) = &self.function.args else { return Ok(vec![]) };
        let plain = list.args.iter().filter(|arg| self.when(arg).is_none()).map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
            other => Err(self.wrong(&format!("takes no `{other}`"))),
        });
        plain.collect()
    }

    /// The condition of a `WHEN` in the `OVER` of Azure's functions, which the parser has made an argument by name.
    fn when<'b>(&self, arg: &'b FunctionArg) -> Option<&'b Expr> {
        match arg {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(condition), .. }
                if name.value.eq_ignore_ascii_case(LEARN_WHEN) =>
            {
                Some(condition)
            }
            _ => None,
        }
    }

    /// `detect_anomalies(value, time, options) OVER (..)` with the `OVER` of the call.
    fn detect(&self, value: &Expr, time: &Expr, options: Vec<(&str, Expr)>) -> Expr {
        let mut function = self.function.clone();
        function.name = ObjectName::from(vec![Ident::new(ScoreFunction::Detect.name())]);
        let named = |(name, value): (&str, Expr)| FunctionArg::Named {
            name: Ident::new(name),
            arg: FunctionArgExpr::Expr(value),
            operator: FunctionArgOperator::RightArrow,
        };
        let plain = [value, time].map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone())));
        if let FunctionArguments::List(list) = &mut function.args {
            let when = list.args.iter().find_map(|arg| self.when(arg)).map(|when| (LEARN_WHEN, when.clone()));
            list.args = plain.into_iter().chain(options.into_iter().chain(when).map(named)).collect();
        }
        Expr::Function(function)
    }

    /// `ML_DETECT_ANOMALIES(value, time [, JSON_OBJECT('option' VALUE value, ..)])`.
    fn flink(&self) -> Result<Expr, SqlError> {
        let args = self.args()?;
        if self.function.over.is_none() {
            return Err(
                self.wrong("compares a row with earlier ones: add `OVER (PARTITION BY .. ORDER BY <event time>)`")
            );
        }
        let (value, time, given) = match args.as_slice() {
            [value, time] => (*value, *time, vec![]),
            [value, time, options] => (*value, *time, self.json_object(options)?),
            _ => {
                return Err(
                    self.wrong("takes a value, its time, and options as `JSON_OBJECT('minTrainingSize' VALUE 100)`")
                );
            }
        };
        // A row's alarm is its own there, and is that it is outside of its bounds.
        let mut options = vec![("rest", number(0.0)), ("alarm", text("bounds"))];
        let (mut confidence, mut passed_over) = (99.0, vec![]);
        for (option, value) in given {
            match option.as_str() {
                "minTrainingSize" => {
                    if number_of(&value).is_none_or(|rows| rows.fract() != 0.0 || rows < 0.0) {
                        return Err(self.wrong(&format!("takes a `minTrainingSize` in whole rows, not `{value}`")));
                    }
                    options.push(("min_training", value));
                }
                "confidencePercentage" => confidence = self.percent(&value)?,
                other if OF_ARIMA.contains(&other) => passed_over.push(format!("`{other}`")),
                other => {
                    let known = OF_ARIMA.into_iter().chain(["minTrainingSize", "confidencePercentage"]);
                    return Err(SqlError::UnknownOption {
                        owner: format!("`{FLINK}`, which runs no ARIMA but the methods of `detect_anomalies`"),
                        option: other.to_owned(),
                        nearest: nearest(other, known),
                        location: self.location,
                    });
                }
            }
        }
        options.push(("max_false_alarm_rate", rate(confidence)));
        if !passed_over.is_empty() {
            options.push((PASSED_OVER, text(&passed_over.join(", "))));
        }
        let found = self.detect(value, time, options);
        let double = cast(value.clone(), SqlType::Double(ast::ExactNumberInfo::None));
        Ok(row(vec![
            ("timestamp", time.clone()),
            ("actual_value", double),
            ("forecast_value", field(&found, "expected")),
            ("lower_bound", field(&found, "lower")),
            ("upper_bound", field(&found, "upper")),
            ("is_anomaly", field(&found, "is_anomaly")),
            ("rmse", null_double()),
            ("aic", null_double()),
        ]))
    }

    /// `(value, confidence, history [, mode])`. Rows come in the order of event time, whether its `OVER` says so or not.
    fn azure(&self, spikes: bool, event_time: Option<&Ident>) -> Result<Expr, SqlError> {
        let args = self.args()?;
        let (value, confidence, history, mode) =
            match (spikes, args.as_slice()) {
                (true, [value, confidence, history, mode]) => (*value, *confidence, *history, Some(*mode)),
                (false, [value, confidence, history]) => (*value, *confidence, *history, None),
                (true, _) => return Err(self.wrong(
                    "takes a value, a confidence in percent, a number of rows, and 'spikes', 'dips' or 'spikesanddips'",
                )),
                (false, _) => return Err(self.wrong("takes a value, a confidence in percent, and a number of rows")),
            };
        let time = match &self.function.over {
            Some(WindowType::WindowSpec(over)) => over.order_by.first().map(|order| order.expr.clone()),
            _ => None,
        };
        let known = event_time.filter(|_| self.function.over.is_some()).map(|time| Expr::Identifier(time.clone()));
        let Some(time) = time.or(known) else {
            return Err(self.wrong(
                "needs to know when rows happened: read one table with a `WATERMARK`, or write `OVER (PARTITION BY k ORDER BY <event time>)`",
            ));
        };
        let rows = number_of(history).filter(|rows| rows.fract() == 0.0 && *rows >= 1.0);
        let rows =
            rows.ok_or_else(|| self.wrong(&format!("looks back over a number of rows, not over `{history}`")))?;
        let method = if spikes { "ewma" } else { "changepoint" };
        let options = vec![
            ("method", text(method)),
            ("half_life", history.clone()),
            // As many rows as it looks back over are enough to judge the next.
            ("min_training", number(rows.min(100.0))),
            ("max_false_alarm_rate", rate(self.percent(confidence)?)),
            ("rest", number(0.0)),
        ];
        let mut ordered = self.function.clone();
        if let Some(WindowType::WindowSpec(over)) = &mut ordered.over
            && over.order_by.is_empty()
        {
            let options = OrderByOptions { asc: None, nulls_first: None };
            over.order_by.push(OrderByExpr { expr: time.clone(), options, with_fill: None });
        }
        let found = Call { function: &ordered, ..*self }.detect(value, &time, options);
        let alarm = field(&found, "is_anomaly");
        let direction = match mode {
            None => None,
            Some(mode) => match text_of(mode).map(|mode| mode.to_lowercase()).as_deref() {
                Some("spikesanddips") => None,
                Some("spikes") => Some("up"),
                Some("dips") => Some("down"),
                _ => return Err(self.wrong(&format!("finds 'spikes', 'dips' or 'spikesanddips', not {mode}"))),
            },
        };
        let alarm = match direction {
            None => alarm,
            Some(direction) => Expr::BinaryOp {
                left: Box::new(alarm),
                op: BinaryOperator::And,
                right: Box::new(Expr::BinaryOp {
                    left: Box::new(field(&found, "direction")),
                    op: BinaryOperator::Eq,
                    right: Box::new(text(direction)),
                }),
            },
        };
        Ok(row(vec![
            ("Score", field(&found, "p_value")),
            ("IsAnomaly", cast(Expr::IsTrue(Box::new(Expr::Nested(Box::new(alarm)))), SqlType::BigInt(None))),
        ]))
    }

    /// The options of a `JSON_OBJECT('a' VALUE 1, ..)`.
    fn json_object(&self, expr: &Expr) -> Result<Vec<(String, Expr)>, SqlError> {
        let wrong =
            || self.wrong(&format!("takes its options as `JSON_OBJECT('minTrainingSize' VALUE 100)`, not as `{expr}`"));
        let Expr::Function(function) = expr else { return Err(wrong()) };
        let FunctionArguments::List(list) = &function.args else { return Err(wrong()) };
        if !function.name.to_string().eq_ignore_ascii_case("json_object") {
            return Err(wrong());
        }
        // The parser has made a key and its value two arguments of each pair.
        let plain = list.args.iter().map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
            _ => Err(wrong()),
        });
        let plain = plain.collect::<Result<Vec<_>, _>>()?;
        let options = plain.chunks(2).map(|pair| match pair {
            [name, value] => Ok((text_of(name).ok_or_else(wrong)?, (*value).clone())),
            _ => Err(wrong()),
        });
        options.collect()
    }

    fn percent(&self, expr: &Expr) -> Result<f64, SqlError> {
        // Below, every other row were an alarm.
        let number = number_of(expr).filter(|number| (50.0..=100.0).contains(number));
        number.ok_or_else(|| self.wrong(&format!("takes a confidence between 50 and 100 percent, not `{expr}`")))
    }
}

/// Confidence in percent as a rate of false alarms, as near as one can be.
fn rate(confidence: f64) -> Expr {
    // The twelfth digit keeps 99.9 percent from being a rate of 0.000999...
    number((((100.0 - confidence) * 1e10).round() / 1e12).clamp(1e-9, 0.5))
}

fn number(number: f64) -> Expr {
    Expr::Value(Value::Number(number.to_string(), false).into())
}

fn number_of(expr: &Expr) -> Option<f64> {
    let Expr::Value(value) = expr else { return None };
    let Value::Number(number, _) = &value.value else { return None };
    number.parse().ok()
}

fn text(text: &str) -> Expr {
    window::string(text)
}

fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn field(of: &Expr, name: &str) -> Expr {
    window::call("get_field", vec![of.clone(), text(name)])
}

fn row(fields: Vec<(&str, Expr)>) -> Expr {
    window::call("named_struct", fields.into_iter().flat_map(|(name, value)| [text(name), value]).collect())
}

fn null_double() -> Expr {
    cast(Expr::Value(Value::Null.into()), SqlType::Double(ast::ExactNumberInfo::None))
}

fn cast(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}
