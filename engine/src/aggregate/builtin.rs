//! The choice of accumulators for a function of SQL: by name, types, `DISTINCT`, and whether rows can be taken back.
//!
//! Argument and result types are those of DataFusion's coercion, which the planner has done; what is not served here (intervals,
//! functions of several arguments) the planner runs through DataFusion's own accumulators.

use std::fmt;
use std::sync::Arc;

use arrow::array::downcast_integer;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef, i256};

use super::bits::{BitCounts, BitOperation, BitValues};
use super::booleans::Booleans;
use super::count::Count;
use super::distinct::{Distinct, DistinctCall};
use super::first_last::FirstLast;
use super::float::{FloatSums, VarianceKind, Variances};
use super::integer::{Finish, IntegerSums};
use super::min_max::{BooleanExtremes, ByteExtremes, PrimitiveExtremes};
use super::multiset::Multisets;
use super::row_extremes::RowExtremes;
use super::total::Weighted;
use super::{Accumulators, AggregateFunction, AggregateFunctionRef};
use crate::error::Result;
use crate::hash::by_native;
use crate::keys::is_bytes;

/// An aggregate call of a query, after type coercion.
#[derive(Debug, Clone)]
pub struct BuiltinRequest<'a> {
    /// As DataFusion spells it, for example `stddev_pop`; its aliases are known too.
    pub name: &'a str,
    /// The arguments after coercion; none for `count(*)`.
    pub args: &'a [FieldRef],
    /// `DISTINCT`.
    pub distinct: bool,
    /// Whether rows of the input can be taken back.
    pub retracting: bool,
    /// The result as DataFusion types it.
    pub return_field: FieldRef,
}

/// The engine's own implementation of a function; `None`: there is none for these types, and the planner wraps DataFusion's.
pub fn builtin(request: &BuiltinRequest<'_>) -> Option<AggregateFunctionRef> {
    let (name, recipe) = recipe(request)?;
    Some(Arc::new(Builtin {
        name: if request.distinct { format!("{name}(DISTINCT)") } else { name.to_owned() },
        recipe,
        return_field: Arc::clone(&request.return_field),
    }))
}

type Make = Box<dyn Fn() -> Result<Box<dyn Accumulators>> + Send + Sync>;

/// How accumulators are made, and what their state looks like.
struct Recipe {
    make: Make,
    state: Vec<Field>,
    retracts: bool,
    distinct: Option<DistinctCall>,
}

impl Recipe {
    fn new<A: Accumulators + 'static>(
        state: Vec<(&str, DataType, bool)>,
        retracts: bool,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Self {
        Self::fallible(state, retracts, move || Ok(make()))
    }

    fn fallible<A: Accumulators + 'static>(
        state: Vec<(&str, DataType, bool)>,
        retracts: bool,
        make: impl Fn() -> Result<A> + Send + Sync + 'static,
    ) -> Self {
        let state =
            state.into_iter().map(|(name, data_type, nullable)| Field::new(name, data_type, nullable)).collect();
        Self { make: Box::new(move || Ok(Box::new(make()?))), state, retracts, distinct: None }
    }
}

struct Builtin {
    name: String,
    recipe: Recipe,
    return_field: FieldRef,
}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.name, self.return_field.data_type())
    }
}

impl AggregateFunction for Builtin {
    fn name(&self) -> &str {
        &self.name
    }

    fn create(&self) -> Result<Box<dyn Accumulators>> {
        (self.recipe.make)()
    }

    fn state_fields(&self) -> Vec<Field> {
        self.recipe.state.clone()
    }

    fn return_field(&self) -> FieldRef {
        Arc::clone(&self.return_field)
    }

    fn supports_retraction(&self) -> bool {
        self.recipe.retracts
    }

    fn is_incremental(&self) -> bool {
        true
    }

    fn distinct(&self) -> Option<&DistinctCall> {
        self.recipe.distinct.as_ref()
    }
}

fn recipe(request: &BuiltinRequest<'_>) -> Option<(&'static str, Recipe)> {
    let argument = request.args.first().map(|field| field.data_type());
    let result = request.return_field.data_type();
    let one = || argument.filter(|_| request.args.len() == 1);
    let retracting = request.retracting;
    let (name, distinct_matters, plain) = match request.name {
        "count" => ("count", true, Recipe::new(vec![("count", DataType::Int64, false)], true, Count::default)),
        "sum" => ("sum", true, sum(one()?, result)?),
        "avg" | "mean" => ("avg", true, average(one()?, result)?),
        "min" => ("min", false, extreme(one()?, result, false, retracting)?),
        "max" => ("max", false, extreme(one()?, result, true, retracting)?),
        "first_value" => ("first_value", false, by_arrival(one()?, result, false, retracting)?),
        "last_value" => ("last_value", false, by_arrival(one()?, result, true, retracting)?),
        "var" | "var_sample" | "var_samp" => {
            ("var", true, variance(one()?, result, VarianceKind { sample: true, root: false })?)
        }
        "var_pop" | "var_population" => {
            ("var_pop", true, variance(one()?, result, VarianceKind { sample: false, root: false })?)
        }
        "stddev" | "stddev_samp" => {
            ("stddev", true, variance(one()?, result, VarianceKind { sample: true, root: true })?)
        }
        "stddev_pop" => ("stddev_pop", true, variance(one()?, result, VarianceKind { sample: false, root: true })?),
        "bool_and" => ("bool_and", false, booleans(one()?, true)?),
        "bool_or" => ("bool_or", false, booleans(one()?, false)?),
        "bit_and" => ("bit_and", false, bits(one()?, result, BitOperation::And, retracting)?),
        "bit_or" => ("bit_or", false, bits(one()?, result, BitOperation::Or, retracting)?),
        "bit_xor" => ("bit_xor", true, bits(one()?, result, BitOperation::Xor, retracting)?),
        _ => return None,
    };
    if request.distinct && distinct_matters {
        Some((name, distinct(one()?, retracting, name == "count", plain)?))
    } else {
        Some((name, plain))
    }
}

fn distinct(argument: &DataType, retracting: bool, counts: bool, inner: Recipe) -> Option<Recipe> {
    if !Distinct::supports(argument) {
        return None;
    }
    let state = vec![("values", Distinct::state_type(argument, retracting, 1), false)];
    let call = DistinctCall { data_type: argument.clone(), retracting, counts, inner: Arc::from(inner.make) };
    let alone = call.clone();
    let recipe = Recipe::fallible(state, retracting, move || Distinct::new(std::slice::from_ref(&alone)));
    Some(Recipe { distinct: Some(call), ..recipe })
}

fn integers<N: Weighted>(sum_type: DataType, return_type: &DataType, finish: Finish) -> Recipe {
    let state = vec![("sum", sum_type.clone(), false), ("count", DataType::Int64, false)];
    let return_type = return_type.clone();
    Recipe::new(state, true, move || IntegerSums::<N>::new(sum_type.clone(), return_type.clone(), finish.clone()))
}

fn float_state(sums: &[&'static str]) -> Vec<(&'static str, DataType, bool)> {
    let mut state: Vec<_> = sums.iter().map(|name| (*name, DataType::Float64, false)).collect();
    state.push(("count", DataType::Int64, false));
    state.push(("specials", DataType::Binary, true));
    state
}

fn sum(argument: &DataType, result: &DataType) -> Option<Recipe> {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256, Duration, Float64, Int64, UInt64};
    let plain = Finish::Sum;
    let same_scale = |scale: &i8| matches!(argument, Decimal32(_, s) | Decimal64(_, s) | Decimal128(_, s) | Decimal256(_, s) if s == scale);
    Some(match result {
        Int64 if argument.is_integer() => integers::<i64>(Int64, result, plain),
        UInt64 if argument.is_integer() => integers::<u64>(UInt64, result, plain),
        Float64 if argument.is_numeric() => {
            Recipe::new(float_state(&["sum", "sum_low"]), true, || FloatSums::new(false))
        }
        Decimal32(_, scale) if same_scale(scale) => integers::<i32>(result.clone(), result, plain),
        Decimal64(_, scale) if same_scale(scale) => integers::<i64>(result.clone(), result, plain),
        Decimal128(_, scale) if same_scale(scale) => integers::<i128>(result.clone(), result, plain),
        Decimal256(_, scale) if same_scale(scale) => integers::<i256>(result.clone(), result, plain),
        Duration(_) if argument == result => integers::<i64>(result.clone(), result, plain),
        _ => return None,
    })
}

fn average(argument: &DataType, result: &DataType) -> Option<Recipe> {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256, Duration, Float64};
    /// Digits that DataFusion reserves above the argument's precision: four for the result's scale, nine for the number of rows.
    const HEADROOM_DIGITS: u8 = 13;
    match (argument, result) {
        (argument, Float64) if argument.is_integer() || argument.is_floating() => {
            Some(Recipe::new(float_state(&["sum", "sum_low"]), true, || FloatSums::new(true)))
        }
        (Duration(_), Duration(_)) if argument == result => {
            let finish = Finish::Average { digits: 0, quotient: result.clone() };
            Some(integers::<i64>(result.clone(), result, finish))
        }
        (
            Decimal32(precision, scale)
            | Decimal64(precision, scale)
            | Decimal128(precision, scale)
            | Decimal256(precision, scale),
            Decimal32(_, result_scale)
            | Decimal64(_, result_scale)
            | Decimal128(_, result_scale)
            | Decimal256(_, result_scale),
        ) => {
            let digits = u32::try_from(result_scale - scale).ok()?;
            let wide = matches!(argument, Decimal256(..))
                || matches!(result, Decimal256(..))
                || precision.saturating_add(HEADROOM_DIGITS) > DECIMAL128_MAX_PRECISION;
            Some(if wide {
                let sum_type = Decimal256(DECIMAL256_MAX_PRECISION, *scale);
                let quotient = Decimal256(DECIMAL256_MAX_PRECISION, *result_scale);
                integers::<i256>(sum_type, result, Finish::Average { digits, quotient })
            } else {
                let sum_type = Decimal128(DECIMAL128_MAX_PRECISION, *scale);
                let quotient = Decimal128(DECIMAL128_MAX_PRECISION, *result_scale);
                integers::<i128>(sum_type, result, Finish::Average { digits, quotient })
            })
        }
        _ => None,
    }
}

fn variance(argument: &DataType, result: &DataType, kind: VarianceKind) -> Option<Recipe> {
    if !argument.is_numeric() || result != &DataType::Float64 {
        return None;
    }
    let state = float_state(&["sum", "sum_low", "squares", "squares_low"]);
    Some(Recipe::new(state, true, move || Variances::new(kind)))
}

fn booleans(argument: &DataType, and: bool) -> Option<Recipe> {
    let state = vec![("false", DataType::Int64, false), ("true", DataType::Int64, false)];
    (argument == &DataType::Boolean).then(|| Recipe::new(state, true, move || Booleans::new(and)))
}

fn bits(argument: &DataType, result: &DataType, operation: BitOperation, retracting: bool) -> Option<Recipe> {
    if argument != result {
        return None;
    }
    macro_rules! bits {
        ($type:ty) => {
            if retracting && operation != BitOperation::Xor {
                let state = vec![("ones", BitCounts::<$type>::state_type(), false), ("count", DataType::Int64, false)];
                Some(Recipe::new(state, true, move || BitCounts::<$type>::new(operation == BitOperation::And)))
            } else {
                let state = vec![("value", result.clone(), false), ("count", DataType::Int64, false)];
                let retracts = operation == BitOperation::Xor;
                Some(Recipe::new(state, retracts, move || BitValues::<$type>::new(operation)))
            }
        };
    }
    downcast_integer! {
        result => (bits),
        _ => None,
    }
}

fn multiset(result: &DataType, by_arrival: bool, last: bool) -> Option<Recipe> {
    if !FirstLast::supports(result) {
        return None;
    }
    let state = vec![("values", Multisets::state_type(result, by_arrival), false)];
    let result = result.clone();
    Some(Recipe::fallible(state, true, move || Multisets::new(result.clone(), by_arrival, last)))
}

fn extreme(argument: &DataType, result: &DataType, max: bool, retracting: bool) -> Option<Recipe> {
    use DataType::{Boolean, Interval, List, Struct};
    let same = argument == result || matches!(argument, DataType::Dictionary(_, value) if value.as_ref() == result);
    let nested = matches!(result, Struct(_) | List(_)) && FirstLast::supports(result);
    // Intervals have no agreed order, and maps none at all.
    if !same
        || matches!(result, Interval(_))
        || !(result.is_primitive() || result == &Boolean || is_bytes(result) || nested)
    {
        return None;
    }
    if retracting {
        return multiset(result, false, max);
    }
    let state = vec![("value", result.clone(), true)];
    let data_type = result.clone();
    if nested {
        return Some(Recipe::fallible(state, false, move || RowExtremes::new(data_type.clone(), max)));
    }
    macro_rules! primitive {
        ($native:ty) => {
            Some(Recipe::new(state, false, move || PrimitiveExtremes::<$native>::new(data_type.clone(), max)))
        };
    }
    by_native! {
        result => primitive,
        Boolean => Some(Recipe::new(state, false, move || BooleanExtremes::new(max))),
        _ => Some(Recipe::new(state, false, move || ByteExtremes::new(data_type.clone(), max))),
    }
}

fn by_arrival(argument: &DataType, result: &DataType, last: bool, retracting: bool) -> Option<Recipe> {
    if argument != result || !FirstLast::supports(result) {
        return None;
    }
    if retracting {
        return multiset(result, true, last);
    }
    let state = vec![("ordinal", DataType::UInt64, true), ("value", result.clone(), true)];
    let data_type = result.clone();
    Some(Recipe::fallible(state, false, move || FirstLast::new(data_type.clone(), last)))
}
