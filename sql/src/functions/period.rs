//! The end of a period `(begin, end)` whose second part may be an interval after the first one.

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::compute::kernels::numeric::add;
use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::Result;

use super::definition::{Call, Definition, Param};

/// `__period_end(begin, end)` is `end`, or `begin + end` where that is an interval.
pub(crate) const PERIOD_END: &str = "__period_end";

pub(super) fn definitions() -> Vec<Definition> {
    let returns = |types: &[DataType]| match types {
        [begin, DataType::Interval(_) | DataType::Duration(_)] => begin.clone(),
        [_, end] => end.clone(),
        _ => DataType::Null,
    };
    vec![Definition::new(PERIOD_END, &[Param::Any, Param::Any], returns, period_end)]
}

fn period_end(call: &Call) -> Result<ArrayRef> {
    let (begin, end) = (call.array(0)?, call.array(1)?);
    match (begin.data_type(), end.data_type()) {
        (DataType::Timestamp(unit, _), DataType::Duration(_)) => {
            Ok(add(&begin, &cast(&end, &DataType::Duration(*unit))?)?)
        }
        (_, DataType::Duration(_)) => {
            let interval = cast(&end, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            Ok(add(&begin, &interval)?)
        }
        (_, DataType::Interval(_)) => Ok(add(&begin, &end)?),
        _ => Ok(end),
    }
}
