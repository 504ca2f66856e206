//! `PERCENTILE_CONT(p) WITHIN GROUP (ORDER BY x)`: the value at place `p * (n - 1)` of `n` values in order, between two of them if need be.
//!
//! DataFusion's rounds the share between two values to millionths. Here it is computed in doubles, as PostgreSQL and DuckDB have it:
//! `lower + (upper - lower) * (place - floor(place))`. Nulls do not count; NaN is greater than all numbers, as in `ORDER BY`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::ordered_set::fraction;
use crate::types::sql_name;

pub(crate) fn function() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(PercentileCont {
        signature: Signature::user_defined(Volatility::Immutable),
        aliases: ["quantile_cont".to_owned()],
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PercentileCont {
    signature: Signature,
    aliases: [String; 1],
}

impl AggregateUDFImpl for PercentileCont {
    fn name(&self) -> &str {
        "percentile_cont"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let number = |data_type: &DataType| data_type.is_numeric() || data_type.is_null();
        match arg_types {
            [value, fraction] if number(value) && fraction.is_numeric() => {
                let value = if value.is_floating() { value.clone() } else { DataType::Float64 };
                Ok(vec![value, DataType::Float64])
            }
            [value, fraction] if fraction.is_numeric() => plan_err!(
                "PERCENTILE_CONT is between two numbers, and this is a {}; PERCENTILE_DISC gives one of the values",
                sql_name(value)
            ),
            _ => plan_err!("PERCENTILE_CONT is written `PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY value)`"),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(DataType::Float64, true);
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, self.name()), DataType::List(Arc::new(item)), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Values {
            data_type: args.expr_fields[0].data_type().clone(),
            values: vec![],
            descending: args.order_bys.first().is_some_and(|sort| sort.options.descending),
            fraction: fraction(&args, "PERCENTILE_CONT")?,
            distinct: args.is_distinct,
        }))
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

/// All values of a group.
#[derive(Debug)]
struct Values {
    data_type: DataType,
    values: Vec<f64>,
    descending: bool,
    fraction: f64,
    distinct: bool,
}

impl Values {
    fn take_in(&mut self, array: &ArrayRef) -> Result<()> {
        let doubles = cast(array, &DataType::Float64)?;
        self.values.extend(doubles.as_primitive::<Float64Type>().iter().flatten().map(canonical));
        Ok(())
    }
}

/// One form for both zeros and for all NaNs, which is greater than all numbers.
fn canonical(value: f64) -> f64 {
    match value {
        0.0 => 0.0,
        value if value.is_nan() => f64::NAN,
        value => value,
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take_in(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.take_in(&values))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: ArrayRef = Arc::new(Float64Array::from(self.values.clone()));
        let item = Field::new_list_field(DataType::Float64, true);
        let lengths = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
        let list = arrow::array::ListArray::try_new(Arc::new(item), lengths, values, None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.values.sort_by(f64::total_cmp);
        if self.descending {
            self.values.reverse();
        }
        let found = match self.distinct {
            true => {
                let mut distinct = self.values.clone();
                distinct.dedup_by(|a, b| a.total_cmp(b).is_eq());
                percentile(&distinct, self.fraction)
            }
            false => percentile(&self.values, self.fraction),
        };
        ScalarValue::Float64(found).cast_to(&self.data_type)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.capacity() * size_of::<f64>()
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let doubles = cast(&values[0], &DataType::Float64)?;
        for gone in doubles.as_primitive::<Float64Type>().iter().flatten().map(canonical) {
            match self.values.iter().position(|value| value.total_cmp(&gone).is_eq()) {
                Some(place) => drop(self.values.swap_remove(place)),
                None => return exec_err!("a value that was never there is taken back"),
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        !self.distinct
    }
}

/// The value at this share of the way from the first of `sorted` to the last; none where there are none.
fn percentile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let place = fraction * sorted.len().checked_sub(1)? as f64;
    let (lower, upper) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    let share = place - place.floor();
    // Of two infinities, or at a value, there is nothing between.
    if share == 0.0 || lower == upper {
        return Some(lower);
    }
    let distance = upper - lower;
    Some(match distance.is_infinite() && lower.is_finite() && upper.is_finite() {
        true => lower * (1.0 - share) + upper * share,
        false => lower + distance * share,
    })
}

#[cfg(test)]
mod tests {
    use super::{canonical, percentile};

    #[test]
    fn it_lies_between_two_values() {
        let sorted = [-3.75, -3.75, 0.5, 2.0, 10.5];
        let at = |fraction| percentile(&sorted, fraction).expect("has values");
        assert!((at(0.3) + 2.9).abs() < 1e-15);
        assert_eq!([at(0.0), at(0.25), at(0.5), at(1.0)], [-3.75, -3.75, 0.5, 10.5]);
        let mut forms = [-f64::NAN, 1.0, -0.0, f64::NEG_INFINITY].map(canonical);
        forms.sort_by(f64::total_cmp);
        assert!(forms[3].is_nan() && forms[1].is_sign_positive(), "{forms:?}");
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[f64::MIN, f64::MAX], 0.5), Some(0.0));
        assert_eq!(percentile(&[f64::INFINITY, f64::INFINITY], 0.5), Some(f64::INFINITY));
        assert!(percentile(&[1.0, f64::NAN], 0.5).expect("has values").is_nan());
    }
}
