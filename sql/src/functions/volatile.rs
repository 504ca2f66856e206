//! Time, chance and identity as functions of the step.
//!
//! A replayed step must give the same rows, so `now()` may read no clock and `random()` no generator: what they say is a pure function
//! of a [`StepContext`] that the caller sets around the evaluation ([`with_context`]) and that the step log records. They carry
//! DataFusion's names, so they take the place of its own, which are folded into the plan when it is made; ours are `Volatile`, which no
//! rule folds. Called outside of a context they fail: a default would be a wrong answer that nobody notices.
//!
//! - The clock (`now`, `current_date`, ...) stands still during a step.
//! - `random()` of row *i* of a batch is a hash of (seed, salt, `ordinal_base` + *i*). The ordinal is the row's own, so how rows were cut
//!   into batches does not show. Two calls in one query differ by their salt, which [`number_call_sites`] writes into the plan as an
//!   argument; a seed that the user gives (`RAND(7)`) takes its place.
//! - `CURRENT_WATERMARK(ts)` is the watermark by which the rows of the step are late or not. How far it has come by then depends on how rows
//!   were cut into steps, which the step log records.
//! - Inside a branch of `CASE` only some rows of a batch are evaluated, so their index is not their ordinal. There the planner hands in the
//!   ordinals as a second argument: `random(salt, ordinal)`.

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, StringViewBuilder, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, UInt64Type};
use chrono::{DateTime, NaiveDateTime, TimeZone, Timelike};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use eagre_engine::time::WATERMARK_MIN;

use super::definition::time_zone;
use crate::types::UTC;

/// What volatile functions depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepContext {
    /// The processing time of the step, in milliseconds since 1970.
    pub processing_time_ms: i64,
    /// The seed of the step.
    pub seed: u64,
    /// The ordinal of the batch's first row.
    pub ordinal_base: u64,
    /// The watermark of the rows at the start of the step, in milliseconds since 1970; [`WATERMARK_MIN`] before there is one. None where nobody knows
    /// it.
    pub watermark_ms: Option<i64>,
}

thread_local! {
    static CONTEXT: Cell<Option<StepContext>> = const { Cell::new(None) };
}

/// Evaluates `body` with `context` on this thread. The context before it is back afterwards, also when `body` panics.
pub fn with_context<T>(context: StepContext, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<StepContext>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CONTEXT.set(self.0);
        }
    }
    let _restore = Restore(CONTEXT.replace(Some(context)));
    body()
}

/// The context of this thread, if one is set.
pub fn context() -> Option<StepContext> {
    CONTEXT.get()
}

/// The functions, with the names that they answer to.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    KINDS
        .iter()
        .map(|(kind, aliases)| Arc::new(ScalarUDF::new_from_impl(VolatileFunction::new(*kind, aliases))))
        .collect()
}

const KINDS: &[(Kind, &[&str])] = &[
    (Kind::Now, &["current_timestamp", "current_row_timestamp", "proctime"]),
    (Kind::LocalTimestamp, &[]),
    (Kind::CurrentDate, &["today"]),
    (Kind::CurrentTime, &["localtime"]),
    (Kind::Random, &["rand"]),
    // The second one for `RAND_INTEGER(seed, bound)`, which has its arguments the other way round.
    (Kind::RandomInteger, &["__rand_integer"]),
    (Kind::Uuid, &["gen_random_uuid"]),
    (Kind::CurrentWatermark, &[]),
];

/// The function that tells how far event time has come.
pub(crate) const CURRENT_WATERMARK: &str = "current_watermark";

/// Whether a function of this name, ignoring case, is one of ours that differs from step to step.
pub fn is_volatile(name: &str) -> bool {
    let name = name.to_lowercase();
    KINDS.iter().any(|(kind, aliases)| kind.name() == name || aliases.contains(&name.as_str()))
}

/// Gives each call of `random()`, `uuid()` and their like a salt of its own, so that two calls in one plan give different values. Names of
/// columns stay as they were. To be called once, on the analysed plan.
pub fn number_call_sites(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut next = 0i64;
    let numbered = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let numbered = expr.transform_up(|expr| Ok(number_call(expr, &mut next)))?;
            Ok(numbered.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(numbered.data)
}

fn number_call(expr: Expr, next: &mut i64) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, mut args }) if salted_args(&func) == Some(args.len()) => {
            args.push(lit(*next));
            *next += 1;
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
        other => Transformed::no(other),
    }
}

/// For functions of chance, how many arguments they have before the salt.
fn salted_args(func: &ScalarUDF) -> Option<usize> {
    match func.name() {
        "random" | "uuid" => Some(0),
        "rand_integer" => Some(1),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Now,
    LocalTimestamp,
    CurrentDate,
    CurrentTime,
    Random,
    RandomInteger,
    Uuid,
    CurrentWatermark,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::LocalTimestamp => "localtimestamp",
            Self::CurrentDate => "current_date",
            Self::CurrentTime => "current_time",
            Self::Random => "random",
            Self::RandomInteger => "rand_integer",
            Self::Uuid => "uuid",
            Self::CurrentWatermark => CURRENT_WATERMARK,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct VolatileFunction {
    kind: Kind,
    aliases: Vec<String>,
    signature: Signature,
}

impl VolatileFunction {
    fn new(kind: Kind, aliases: &[&str]) -> Self {
        let aliases = aliases.iter().map(ToString::to_string).collect();
        Self { kind, aliases, signature: Signature::user_defined(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for VolatileFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if self.kind == Kind::CurrentWatermark {
            return match given {
                [DataType::Timestamp(..)] => Ok(given.to_vec()),
                _ => plan_err!("CURRENT_WATERMARK is written CURRENT_WATERMARK(ts), of the event time of a table"),
            };
        }
        let (usage, counts) = match self.kind {
            Kind::Random => ("RANDOM() or RANDOM(seed)", 0..=2),
            Kind::RandomInteger => ("RAND_INTEGER(bound) or RAND_INTEGER(seed, bound)", 1..=3),
            Kind::Uuid => ("UUID()", 0..=2),
            // Flink's CURRENT_TIMESTAMP(3).
            _ => ("without arguments", 0..=1),
        };
        if !counts.contains(&given.len()) || given.iter().any(|given| !given.is_integer()) {
            return plan_err!("{} is written {usage}", self.name().to_uppercase());
        }
        let ordinal = if self.kind == Kind::RandomInteger { 2 } else { 1 };
        let types = (0..given.len()).map(|index| if index == ordinal { DataType::UInt64 } else { DataType::Int64 });
        Ok(types.collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::CurrentWatermark => match arg_types {
                [DataType::Timestamp(_, zone)] => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
                _ => return internal_err!("the type of a watermark follows from its event time"),
            },
            Kind::Now => DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            Kind::LocalTimestamp => DataType::Timestamp(TimeUnit::Millisecond, None),
            Kind::CurrentDate => DataType::Date32,
            Kind::CurrentTime => DataType::Time32(TimeUnit::Millisecond),
            Kind::Random => DataType::Float64,
            Kind::RandomInteger => DataType::Int32,
            Kind::Uuid => DataType::Utf8View,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(context) = context() else {
            return exec_err!("{}() has a value only inside of a step", self.name());
        };
        let now_ms = context.processing_time_ms;
        let scalar = match self.kind {
            Kind::Now => ScalarValue::TimestampMillisecond(Some(now_ms), Some(UTC.into())),
            Kind::LocalTimestamp => {
                let local = local_time(now_ms, &args.config_options)?.and_utc().timestamp_millis();
                ScalarValue::TimestampMillisecond(Some(local), None)
            }
            Kind::CurrentDate => {
                let days =
                    local_time(now_ms, &args.config_options)?.and_utc().timestamp_millis().div_euclid(86_400_000);
                ScalarValue::Date32(Some(days as i32))
            }
            Kind::CurrentTime => {
                let time = local_time(now_ms, &args.config_options)?.time();
                let time_ms = time.num_seconds_from_midnight() * 1000 + time.nanosecond() / 1_000_000;
                ScalarValue::Time32Millisecond(Some(time_ms as i32))
            }
            Kind::Random => {
                let hashes = hashes(&context, &args, 0)?;
                return Ok(array(hashes.iter().map(|hash| unit_interval(*hash)).collect::<Float64Array>()));
            }
            Kind::RandomInteger => {
                let hashes = hashes(&context, &args, 1)?;
                let bounds = cast(&args.args[0].to_array(args.number_rows)?, &DataType::Int64)?;
                let bounds = bounds.as_primitive::<arrow::datatypes::Int64Type>();
                let rows = hashes.iter().zip(bounds.iter()).map(|(hash, bound)| {
                    bound.filter(|bound| *bound > 0).map(|bound| ((u128::from(*hash) * bound as u128) >> 64) as i32)
                });
                return Ok(array(rows.collect::<Int32Array>()));
            }
            Kind::Uuid => {
                let mut out = StringViewBuilder::with_capacity(args.number_rows);
                for hash in hashes(&context, &args, 0)? {
                    out.append_value(uuid(hash));
                }
                return Ok(array(out.finish()));
            }
            Kind::CurrentWatermark => {
                let DataType::Timestamp(_, zone) = args.return_field.data_type() else {
                    return internal_err!("a watermark is a {}", args.return_field.data_type());
                };
                match context.watermark_ms {
                    Some(watermark) => {
                        let reached = (watermark > WATERMARK_MIN).then_some(watermark);
                        ScalarValue::TimestampMillisecond(reached, zone.clone())
                    }
                    None => {
                        return exec_err!(
                            "CURRENT_WATERMARK has a value only in `SELECT` and `WHERE`; compute it in the query that is read here"
                        );
                    }
                }
            }
        };
        Ok(ColumnarValue::Scalar(scalar))
    }
}

fn array(array: impl arrow::array::Array + 'static) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(array) as ArrayRef)
}

/// What a wall clock in the session's time zone shows.
fn local_time(now_ms: i64, config: &ConfigOptions) -> Result<NaiveDateTime> {
    let zone: Tz = time_zone(config).parse()?;
    match DateTime::from_timestamp_millis(now_ms) {
        Some(time) => Ok(zone.from_utc_datetime(&time.naive_utc()).naive_local()),
        None => exec_err!("the processing time {now_ms} ms is out of range"),
    }
}

/// One hash per row; `salt` is the index of the salt among the arguments, and the ordinals, if given, come after it.
fn hashes(context: &StepContext, args: &ScalarFunctionArgs, salt: usize) -> Result<Vec<u64>> {
    let salt_value = match args.args.get(salt) {
        Some(ColumnarValue::Scalar(ScalarValue::Int64(salt))) => salt.unwrap_or_default() as u64,
        None => 0,
        Some(_) => return exec_err!("the seed of a random function must be a constant"),
    };
    let key = mix(context.seed ^ mix(salt_value));
    let ordinals = match args.args.get(salt + 1) {
        Some(ordinals) => {
            let ordinals = cast(&ordinals.to_array(args.number_rows)?, &DataType::UInt64)?;
            ordinals.as_primitive::<UInt64Type>().clone()
        }
        None => UInt64Array::from_iter_values(
            (0..args.number_rows as u64).map(|row| context.ordinal_base.wrapping_add(row)),
        ),
    };
    Ok(ordinals.values().iter().map(|ordinal| mix(key ^ mix(*ordinal))).collect())
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): a bijection in which each bit
/// of the input changes half of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The upper 53 bits as a number in [0, 1).
fn unit_interval(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// A UUID of version 4 from a hash.
fn uuid(hash: u64) -> String {
    let bits = (u128::from(hash) << 64) | u128::from(mix(!hash));
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let text = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
