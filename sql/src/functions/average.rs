//! `AVG(interval)`: DataFusion's, and of intervals, which its own does not take.
//!
//! What is left of a month goes on as days, thirty to the month, and what is left of a day as time, as where an interval is divided ([`super::interval`]). Sums are
//! exact, so that values can be taken out of them again as a window slides.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int64Type, IntervalMonthDayNano, IntervalUnit,
};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, Signature,
    TypeSignature, TypeSignatureClass, Volatility,
};
use datafusion::logical_expr_common::signature::Coercion;

use super::interval::{NANOS_OF_DAY, intervals};

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
/// More nanoseconds than any sum of intervals has.
const NANOSECONDS: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

pub(crate) fn function() -> Arc<AggregateUDF> {
    let within = avg_udaf();
    let interval = TypeSignature::Coercible(vec![Coercion::new_exact(TypeSignatureClass::Interval)]);
    let kinds = vec![within.signature().type_signature.clone(), interval];
    let signature = Signature::one_of(kinds, Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(Average { within, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    within: Arc<AggregateUDF>,
    signature: Signature,
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        self.within.name()
    }

    fn aliases(&self) -> &[String] {
        self.within.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [value] = take_function_args(self.name(), arg_types)?;
        if is_interval(value) { Ok(INTERVAL) } else { self.within.return_type(arg_types) }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !is_interval(args.expr_fields[0].data_type()) {
            return self.within.accumulator(args);
        }
        if args.is_distinct {
            return plan_err!("AVG(DISTINCT ..) takes no intervals; average the rows of a `SELECT DISTINCT`");
        }
        Ok(Box::<Sums>::default())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_interval(args.input_fields[0].data_type()) {
            return self.within.state_fields(args);
        }
        let parts =
            [("months", DataType::Int64), ("days", DataType::Int64), ("time", NANOSECONDS), ("count", DataType::Int64)];
        let field = |(part, data_type)| Arc::new(Field::new(format_state_name(args.name, part), data_type, true));
        Ok(parts.map(field).into())
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !is_interval(args.expr_fields[0].data_type()) && self.within.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.within.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_interval(args.expr_fields[0].data_type()) {
            true => self.accumulator(args),
            false => self.within.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.within.documentation()
    }
}

/// Exact sums of the parts, and how many intervals they are of.
#[derive(Debug, Default)]
struct Sums {
    months: i64,
    days: i64,
    nanoseconds: i128,
    count: i64,
}

impl Sums {
    fn add(&mut self, values: &ArrayRef, sign: i64) -> Result<()> {
        for interval in intervals(values)?.iter().flatten() {
            self.months += sign * i64::from(interval.months);
            self.days += sign * i64::from(interval.days);
            self.nanoseconds += i128::from(sign) * i128::from(interval.nanoseconds);
            self.count += sign;
        }
        Ok(())
    }

    /// None where there is nothing; what is left of a nanosecond is rounded.
    fn average(&self) -> Option<IntervalMonthDayNano> {
        let count = i128::from(self.count);
        let months = i128::from(self.months).checked_div(count)?;
        // What is left of months and of days, each by itself, as PostgreSQL has it; days that these make together are carried.
        let (of_months, of_days) = (i128::from(self.months) % count * 30, i128::from(self.days));
        let days_left = of_months % count + of_days % count;
        let days = of_months / count + of_days / count + days_left / count;
        let time = self.nanoseconds + days_left % count * i128::from(NANOS_OF_DAY);
        let half = if time < 0 { -count / 2 } else { count / 2 };
        // No average is longer than what it is of.
        let fit = |part: i128| i32::try_from(part).ok();
        let nanoseconds = i64::try_from((time + half) / count).ok()?;
        Some(IntervalMonthDayNano::new(fit(months)?, fit(days)?, nanoseconds))
    }
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [months, days, time, count] = take_function_args("avg", states)?;
        let sum = |parts: &ArrayRef| parts.as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        self.months += sum(months);
        self.days += sum(days);
        self.nanoseconds += time.as_primitive::<Decimal128Type>().iter().flatten().sum::<i128>();
        self.count += sum(count);
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let time = ScalarValue::Decimal128(Some(self.nanoseconds), DECIMAL128_MAX_PRECISION, 0);
        Ok(vec![self.months.into(), self.days.into(), time, self.count.into()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let average = self.average();
        if average.is_none() && self.count > 0 {
            return exec_err!("the average of these intervals is longer than an INTERVAL can be");
        }
        Ok(ScalarValue::IntervalMonthDayNano(average))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn average(months: i64, days: i64, nanoseconds: i128, count: i64) -> Option<(i32, i32, i64)> {
        let average = Sums { months, days, nanoseconds, count }.average();
        average.map(|interval| (interval.months, interval.days, interval.nanoseconds))
    }

    /// What is left of months and days goes on to what is shorter.
    #[test]
    fn parts_go_on() {
        let half_day = NANOS_OF_DAY / 2;
        assert_eq!(average(0, 0, 0, 0), None);
        assert_eq!(average(3, 1, 0, 2), Some((1, 15, half_day)));
        assert_eq!(average(-3, -1, 0, 2), Some((-1, -15, -half_day)));
        assert_eq!(average(1, -30, 0, 2), Some((0, 0, 0)));
        assert_eq!(average(-1, 2, 0, 3), Some((0, -10, 2 * NANOS_OF_DAY / 3)));
        assert_eq!(average(1, 1, 0, 31), Some((0, 1, 0)));
        assert_eq!(average(0, 0, 5, 3), Some((0, 0, 2)));
        assert_eq!(average(0, 0, -5, 3), Some((0, 0, -2)));
        assert_eq!(average(0, 0, i128::from(i64::MAX) * 4, 4), Some((0, 0, i64::MAX)));
    }
}
