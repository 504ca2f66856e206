//! Aggregates of a set in order: `MODE() WITHIN GROUP (ORDER BY x)` and `PERCENTILE_DISC(p) WITHIN GROUP (ORDER BY x)`, which give one of its values.
//!
//! Of values that are equally frequent the mode is the first in the order, so that no order of arrival shows. Nulls do not count.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, Volatility};
use eagre_engine::keys::canonical_values;

use crate::types::sql_name;

pub(crate) fn functions() -> Vec<Arc<AggregateUDF>> {
    let of = |kind| OrderedSet { kind, signature: Signature::user_defined(Volatility::Immutable) };
    [Kind::Mode, Kind::PercentileDisc].map(|kind| Arc::new(AggregateUDF::new_from_impl(of(kind)))).into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Mode,
    PercentileDisc,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderedSet {
    kind: Kind,
    signature: Signature,
}

impl AggregateUDFImpl for OrderedSet {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Mode => "mode",
            Kind::PercentileDisc => "percentile_disc",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (value, rest) = match (self.kind, arg_types) {
            (Kind::Mode, [value]) => (value, vec![]),
            (Kind::PercentileDisc, [value, fraction]) if fraction.is_numeric() => (value, vec![DataType::Float64]),
            (Kind::Mode, _) => {
                return plan_err!("MODE is written `MODE() WITHIN GROUP (ORDER BY value)`, or `MODE(value)`");
            }
            (Kind::PercentileDisc, _) => {
                return plan_err!("PERCENTILE_DISC is written `PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY value)`");
            }
        };
        if value.is_nested() || matches!(value, DataType::Union(..)) {
            return plan_err!("{} of {}, whose values have no order", self.name().to_uppercase(), sql_name(value));
        }
        Ok([vec![value.clone()], rest].concat())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, self.name()), DataType::List(Arc::new(item)), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let fraction = match self.kind {
            Kind::Mode => None,
            Kind::PercentileDisc => Some(fraction(&args, "PERCENTILE_DISC")?),
        };
        Ok(Box::new(Values {
            data_type: args.expr_fields[0].data_type().clone(),
            values: vec![],
            descending: args.order_bys.first().is_some_and(|sort| sort.options.descending),
            fraction,
            distinct: args.is_distinct,
        }))
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

/// The literal between 0 and 1 that the second argument of `name` is.
pub(super) fn fraction(args: &AccumulatorArgs, name: &str) -> Result<f64> {
    let no_rows = RecordBatch::new_empty(Arc::new(args.schema.clone()));
    let value = match args.exprs.get(1).map(|expr| expr.evaluate(&no_rows)) {
        Some(Ok(ColumnarValue::Scalar(value))) => value.cast_to(&DataType::Float64)?,
        _ => return plan_err!("the fraction of {name} must be a constant"),
    };
    match value {
        ScalarValue::Float64(Some(fraction)) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        other => plan_err!("the fraction of {name} is {other}; it must lie between 0 and 1"),
    }
}

/// All values of a group.
#[derive(Debug)]
struct Values {
    data_type: DataType,
    values: Vec<ScalarValue>,
    descending: bool,
    /// Of a percentile; none: the mode is asked for.
    fraction: Option<f64>,
    distinct: bool,
}

impl Values {
    fn take_in(&mut self, array: &ArrayRef) -> Result<()> {
        // Both zeros are one value, and all NaNs.
        let array = &canonical_values(array);
        for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
            self.values.push(ScalarValue::try_from_array(array, row)?);
        }
        Ok(())
    }

    fn sort(&mut self) {
        let descending = self.descending;
        self.values.sort_by(|a, b| {
            let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        });
        if self.distinct {
            self.values.dedup();
        }
    }

    fn most_frequent(&self) -> Option<&ScalarValue> {
        let runs = self.values.chunk_by(|a, b| a == b);
        // Of equal runs the first.
        runs.reduce(|best, run| if run.len() > best.len() { run } else { best }).and_then(|run| run.first())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take_in(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        lists.iter().flatten().try_for_each(|values| self.take_in(&values))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = ScalarValue::new_list_nullable(&self.values, &self.data_type);
        Ok(vec![ScalarValue::List(list)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.sort();
        let found = match self.fraction {
            None => self.most_frequent(),
            Some(fraction) => {
                // The first value whose share of those up to it reaches the fraction.
                let place = (fraction * self.values.len() as f64).ceil() as usize;
                self.values.get(place.saturating_sub(1))
            }
        };
        match found {
            Some(value) => Ok(value.clone()),
            None => ScalarValue::try_from(&self.data_type),
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.iter().map(ScalarValue::size).sum::<usize>()
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for row in (0..values[0].len()).filter(|row| values[0].is_valid(*row)) {
            let gone = ScalarValue::try_from_array(&values[0], row)?;
            match self.values.iter().position(|value| *value == gone) {
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
