//! `anomaly_score(v, .., method => .., ..) OVER (PARTITION BY .. ORDER BY ..)`: how strange a row is beside the earlier ones of its
//! partition; and `detect_anomalies(v, ts, ..) OVER (..)`: that, how rare it is, whether it is worth an alarm, and what was expected.
//!
//! A streaming query runs them as the engine's `Score`. The functions here are what they mean over finished tables: they check types, and
//! evaluate whole partitions with the same kernel. Options arrive as one text of JSON behind the other arguments, into which
//! [`fold_options`] has put what was written by name.

mod options;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Expr, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use eagre_engine::arrays::{array_type, item_of};
use eagre_engine::operator::score::{ScoreAnswer, detections_type, score_partition};
use eagre_engine::score::{DetectorOptions, MethodError};
use serde_json::Map;

use self::options::{IS_LEARNT, OF, WIDTH, message};
pub(crate) use self::options::{LEARN_WHEN, PASSED_OVER, fold_options, season_word};
use crate::types::sql_name;

/// The functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ScoreFunction {
    Score,
    Detect,
}

impl ScoreFunction {
    pub(crate) const ALL: [ScoreFunction; 2] = [ScoreFunction::Score, ScoreFunction::Detect];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Score => "anomaly_score",
            Self::Detect => "detect_anomalies",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name().eq_ignore_ascii_case(name))
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Score => {
                "`anomaly_score` takes numbers (or an ARRAY of numbers) and then options by name: \
                 `anomaly_score(v, method => 'ewma', half_life => 50)`"
            }
            Self::Detect => {
                "`detect_anomalies` takes a number (or an ARRAY of numbers), the time of its ORDER BY, and then options by name: \
                 `detect_anomalies(v, ts, max_false_alarm_rate => 1e-4) OVER (PARTITION BY k ORDER BY ts)`"
            }
        }
    }

    fn told(self, error: &MethodError) -> DataFusionError {
        DataFusionError::Plan(format!("`{}`: {}", self.name(), message(error)))
    }

    /// What was written by name, checked.
    fn answer(self, options: &Map<String, serde_json::Value>) -> Result<ScoreAnswer, MethodError> {
        Ok(match self {
            Self::Score => {
                let method = DetectorOptions::parse_method(options)?;
                if method.has_period_in_time() {
                    return Err(MethodError::Value {
                        method: method.description().name,
                        option: "seasonality".to_string(),
                        expected: "'auto' or 'none' in `anomaly_score`, which is not told times; \
                                   `detect_anomalies(v, ts, ..)` takes an interval"
                            .to_string(),
                        given: options.get("seasonality").map(ToString::to_string).unwrap_or_default(),
                    });
                }
                ScoreAnswer::Score(method)
            }
            Self::Detect => ScoreAnswer::Detections(DetectorOptions::parse(options)?),
        })
    }
}

/// What a call says of rows, and the places of its arguments.
#[derive(Debug, Clone)]
pub(crate) struct ScoreArgs {
    pub(crate) answer: ScoreAnswer,
    /// How many of the first arguments are features.
    pub(crate) features: usize,
    /// How many numbers the one feature has, which is an array.
    pub(crate) width: Option<usize>,
    pub(crate) time: Option<usize>,
    pub(crate) learn: Option<usize>,
    /// Options that change nothing, if there are any.
    pub(crate) passed_over: Option<String>,
}

impl ScoreArgs {
    /// Of a call in a plan.
    ///
    /// # Errors
    /// A method or option that cannot be; another number of features than the method takes.
    pub(crate) fn of(function: ScoreFunction, args: &[Expr]) -> Result<Self> {
        let options = match args.last() {
            Some(Expr::Literal(ScalarValue::Utf8(Some(text)), _)) => Some(text.as_str()),
            _ => None,
        };
        Self::new(function, args.len(), options)
    }

    fn new(function: ScoreFunction, args: usize, options: Option<&str>) -> Result<Self> {
        let usage = || DataFusionError::Plan(function.usage().to_string());
        let mut given: Map<String, serde_json::Value> =
            options.map_or(Ok(Map::new()), serde_json::from_str).map_err(|_| usage())?;
        given.remove(OF);
        let width = given.remove(WIDTH).and_then(|width| width.as_u64()).map(|width| width as usize);
        let passed_over = given.remove(PASSED_OVER).and_then(|names| Some(names.as_str()?.to_owned()));
        let mut rest = args - usize::from(options.is_some());
        let mut take = |is_there: bool| -> Result<Option<usize>> {
            match is_there {
                true => {
                    rest = rest.checked_sub(1).ok_or_else(usage)?;
                    Ok(Some(rest))
                }
                false => Ok(None),
            }
        };
        let learn = take(given.remove(IS_LEARNT).is_some())?;
        let time = take(function == ScoreFunction::Detect)?;
        let answer = function.answer(&given).map_err(|error| function.told(&error))?;
        let values = match width {
            Some(_) if rest != 1 => {
                return plan_err!(
                    "`{}`: `width` says how many numbers an ARRAY has that stands alone, and here are {rest} values; leave it out",
                    function.name()
                );
            }
            Some(width) => width,
            None => rest,
        };
        answer.method().scorer(values, &Arc::default()).map_err(|error| function.told(&error))?;
        Ok(Self { answer, features: rest, width, time, learn, passed_over })
    }

    /// Refuses an array of which nobody says how long it is, and a length of what is none; `feature` is the type of the first feature.
    ///
    /// # Errors
    /// Either.
    pub(crate) fn check_width(&self, function: ScoreFunction, feature: &DataType, text: &str) -> Result<()> {
        let name = function.name();
        match (self.width, feature) {
            (None, DataType::List(_)) => plan_err!(
                "`{name}`: `{text}` is an ARRAY, and a model has a place for so many numbers as are said: add `width => 3`, if it has 3"
            ),
            (Some(_), DataType::List(_)) | (None, _) => Ok(()),
            (Some(_), other) => plan_err!(
                "`{name}`: `width` says how many numbers an ARRAY has, and `{text}` is a {}; leave it out",
                sql_name(other)
            ),
        }
    }
}

/// See the [module](self).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScoreUdwf {
    function: ScoreFunction,
    signature: Signature,
}

impl ScoreUdwf {
    pub(crate) fn new(function: ScoreFunction) -> Self {
        Self { function, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl WindowUDFImpl for ScoreUdwf {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (name, usage) = (self.name(), self.function.usage());
        let mut coerced = arg_types.to_vec();
        let mut rest = coerced.as_mut_slice();
        // From behind: the text of the options, what is learnt, the time.
        if let [before @ .., DataType::Utf8] = rest {
            rest = before;
            if let [before @ .., DataType::Boolean] = rest {
                rest = before;
            }
        }
        if self.function == ScoreFunction::Detect {
            let [before @ .., time] = rest else { return plan_err!("{usage}") };
            if !matches!(time, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
                return plan_err!(
                    "`{name}`: what follows the numbers is the time of the ORDER BY, not a {}",
                    sql_name(time)
                );
            }
            rest = before;
        }
        if rest.is_empty() {
            return plan_err!("{usage}");
        }
        if let [only] = rest
            && let Some(item) = item_of(only)
            && (item.data_type().is_numeric() || *item.data_type() == DataType::Null)
        {
            *only = array_type();
            return Ok(coerced);
        }
        let is_alone = rest.len() == 1;
        for feature in rest {
            if feature.is_list() && !is_alone {
                return plan_err!("`{name}`: an ARRAY of numbers stands alone, with nothing beside it that is scored");
            }
            if !(feature.is_numeric() || *feature == DataType::Null) {
                return plan_err!("`{name}` scores numbers, not a {}", sql_name(feature));
            }
            *feature = DataType::Float64;
        }
        Ok(coerced)
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let data_type = match self.function {
            ScoreFunction::Score => DataType::Float64,
            ScoreFunction::Detect => detections_type(),
        };
        Ok(Arc::new(Field::new(args.name(), data_type, true)))
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let exprs = args.input_exprs();
        let options = exprs.last().and_then(text_of);
        Ok(Box::new(Evaluator(ScoreArgs::new(self.function, exprs.len(), options.as_deref())?)))
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
struct Evaluator(ScoreArgs);

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let ScoreArgs { answer, features, width, time, learn, .. } = &self.0;
        let at = |place: &Option<usize>| place.map(|place| &values[place]);
        let answers = score_partition(answer, &values[..*features], *width, at(time), at(learn), rows);
        answers.map_err(|error| DataFusionError::External(Box::new(error)))
    }
}
