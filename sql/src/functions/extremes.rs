//! `GREATEST` and `LEAST` of arrays, rows and intervals go by the order in which these are sorted: a null within is the greatest
//! ([`order_key`](super::order_key)), and intervals have lengths ([`interval`](super::interval)). (For DataFusion a null within is neither, and intervals go by their
//! months first.) What is null itself does not count.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::functions_nested::make_array::make_array_udf;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};

use super::definition::{Call, Definition, Param};
use super::interval::lengths_of;
use super::order_key::{self, has_no_key, is_nested};

static GREATEST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| function("__greatest_of", |call| extreme(call, true)));
static LEAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| function("__least_of", |call| extreme(call, false)));

fn function(name: &'static str, invoke: fn(&Call) -> Result<ArrayRef>) -> Arc<ScalarUDF> {
    Definition::new(name, &[Param::Any], |types| element_of(&types[0]), invoke).udf()
}

fn element_of(list: &DataType) -> DataType {
    match list {
        DataType::List(element) => element.data_type().clone(),
        other => other.clone(),
    }
}

/// The call in our order; `None`: DataFusion has the same, or the arguments are of several types.
pub(super) fn in_our_order(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let function = match call.func.name() {
        "greatest" => &GREATEST,
        "least" => &LEAST,
        _ => return None,
    };
    let types = call.args.iter().map(|arg| arg.get_type(schema).ok()).collect::<Option<Vec<_>>>()?;
    let known: Vec<&DataType> = types.iter().filter(|data_type| !data_type.is_null()).collect();
    let first = *known.first()?;
    let is_ours = is_nested(first) && !has_no_key(first) || matches!(first, DataType::Interval(_));
    (is_ours && known.iter().all(|other| *other == first))
        .then(|| function.call(vec![make_array_udf().call(call.args.clone())]))
}

/// The greatest or least element of each array; of equal ones the first.
fn extreme(call: &Call, greatest: bool) -> Result<ArrayRef> {
    let lists = call.array(0)?;
    let lists = lists.as_list::<i32>();
    let values = lists.values();
    let keys = match values.data_type() {
        DataType::Interval(_) => lengths_of(values)?,
        _ => order_key::keys(values)?,
    };
    let compare = make_comparator(&keys, &keys, SortOptions::default())?;
    let best = lists.offsets().windows(2).map(|ends| {
        let known = (ends[0] as usize..ends[1] as usize).filter(|place| values.is_valid(*place));
        let best = known.reduce(|best, place| {
            let order = compare(place, best);
            let beats = if greatest { order.is_gt() } else { order.is_lt() };
            if beats { place } else { best }
        });
        best.map(|place| place as u32)
    });
    Ok(take(values, &best.collect::<UInt32Array>(), None)?)
}
