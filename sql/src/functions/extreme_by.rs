//! `MIN` and `MAX` over a window of values whose order is not DataFusion's: intervals go by their length, arrays and rows have nulls within as the greatest.
//!
//! Each is the value whose key ([`length_of`](super::interval::length_of), [`ORDER_KEY`](super::order_key::ORDER_KEY)) is the least or the greatest; of equal ones it
//! is the first. What is null does not count. (Of groups they are `FIRST_VALUE(v ORDER BY key)`, which a window does not have.)

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, make_comparator};
use arrow::compute::{SortOptions, concat};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility, WindowFunctionDefinition,
};

static LEAST: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| function("__least_by", Ordering::Less));
static GREATEST: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| function("__greatest_by", Ordering::Greater));

fn function(name: &'static str, wanted: Ordering) -> Arc<AggregateUDF> {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(ExtremeBy { name, wanted, signature }))
}

/// A call of `MIN` or `MAX` by the key that `key_of` has for its value; `None`: it is another call, or there is no such key.
pub(crate) fn by_key(function: &WindowFunction, key_of: impl Fn(&Expr) -> Option<Expr>) -> Option<WindowFunction> {
    let WindowFunctionDefinition::AggregateUDF(udf) = &function.fun else { return None };
    let ours = match udf.name() {
        "min" => &LEAST,
        "max" => &GREATEST,
        _ => return None,
    };
    let [value] = function.params.args.as_slice() else { return None };
    let mut by_key = function.clone();
    by_key.params.args.push(key_of(value)?);
    by_key.params.distinct = false;
    by_key.fun = WindowFunctionDefinition::AggregateUDF(Arc::clone(ours));
    Some(by_key)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExtremeBy {
    name: &'static str,
    wanted: Ordering,
    signature: Signature,
}

impl AggregateUDFImpl for ExtremeBy {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part: &str, of: &FieldRef| {
            Arc::new(Field::new(format_state_name(args.name, part), of.data_type().clone(), true))
        };
        Ok(vec![field("value", &args.input_fields[0]), field("key", &args.input_fields[1])])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let nothing = |place: usize| ScalarValue::try_from(args.expr_fields[place].data_type());
        Ok(Box::new(Best { wanted: self.wanted, value: nothing(0)?, key: nothing(1)? }))
    }
}

/// The value with the best key so far, and that key; null: there was none.
#[derive(Debug)]
struct Best {
    wanted: Ordering,
    value: ScalarValue,
    key: ScalarValue,
}

impl Accumulator for Best {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, keys] = values else { return Ok(()) };
        // The best one so far stands before the others.
        let keys = concat(&[&self.key.to_array()?, keys.as_ref()])?;
        let compare = make_comparator(&keys, &keys, SortOptions::default())?;
        let known = (0..keys.len()).filter(|place| keys.is_valid(*place));
        let best = known.reduce(|best, place| if compare(place, best) == self.wanted { place } else { best });
        if let Some(row) = best.and_then(|best| best.checked_sub(1)) {
            self.value = ScalarValue::try_from_array(values, row)?;
            self.key = ScalarValue::try_from_array(&keys, row + 1)?;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), self.key.clone()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        self.value.size() + self.key.size()
    }
}
