//! Functions of arrays where Flink's meaning is not DataFusion's: `CARDINALITY` counts the elements and not what is within them,
//! `ARRAY_REMOVE` takes out all equal elements and not the first alone, `ARRAY_POSITION` is 0 where there is none. What counts elements is a BIGINT, with which
//! one can count on: DataFusion's have no sign.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array, UInt64Array, make_comparator,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, plan_err};
use datafusion::functions_nested::position::array_position_udf;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    self, ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use eagre_engine::keys::{canonical_values, has_other_forms};

use super::definition::{Call, Definition, Param};
use super::order_key::{has_no_key, is_nested};
use crate::types::sql_name;

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let position = array_position_udf();
    vec![
        Arc::new(ScalarUDF::new_from_impl(Cardinality { signature: Signature::any(1, Volatility::Immutable) })),
        Arc::new(ScalarUDF::new_from_impl(ArrayRemove {
            signature: Signature::array_and_element(Volatility::Immutable),
            aliases: ["list_remove".to_owned()],
        })),
        Arc::new(ScalarUDF::new_from_impl(ArrayPosition { signature: position.signature().clone(), within: position })),
    ]
}

/// A function of DataFusion's that counts, as BIGINT.
pub(super) fn counting(function: &Arc<ScalarUDF>) -> ScalarUDF {
    ScalarUDF::new_from_impl(Counting { function: Arc::clone(function) })
}

/// What DataFusion's functions promise.
fn without_sign(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(DataType::UInt64))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Counting {
    function: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Counting {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.return_type(arg_types).map(|_| DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let args = ScalarFunctionArgs { return_field: without_sign(&args.return_field), ..args };
        self.function.invoke_with_args(args)?.cast_to(&DataType::Int64, None)
    }
}

/// `CARDINALITY(a)`: how many elements an array has, or entries a map.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Cardinality {
    signature: Signature,
}

impl ScalarUDFImpl for Cardinality {
    fn name(&self) -> &str {
        "cardinality"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        use DataType::{FixedSizeList, LargeList, List, Map, Null};
        match &arg_types[0] {
            List(_) | LargeList(_) | FixedSizeList(..) | Map(..) | Null => Ok(DataType::Int64),
            other => plan_err!("CARDINALITY is of an array or a map, and this is a {}", sql_name(other)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [array] = take_function_args(self.name(), args.args)?;
        let array = array.into_array(rows)?;
        let lengths = |offsets: &[i32]| offsets.windows(2).map(|ends| i64::from(ends[1] - ends[0])).collect::<Vec<_>>();
        let counts = match array.data_type() {
            DataType::List(_) => lengths(array.as_list::<i32>().offsets()),
            DataType::Map(..) => lengths(array.as_map().offsets()),
            DataType::LargeList(_) => {
                array.as_list::<i64>().offsets().windows(2).map(|ends| ends[1] - ends[0]).collect()
            }
            DataType::FixedSizeList(_, size) => vec![i64::from(*size); array.len()],
            _ => return Ok(ColumnarValue::Array(Arc::new(Int64Array::new_null(array.len())))),
        };
        Ok(ColumnarValue::Array(Arc::new(Int64Array::new(counts.into(), array.nulls().cloned()))))
    }
}

/// `ARRAY_REMOVE(a, x)`: the elements that are not `x`, which may be null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayRemove {
    signature: Signature,
    aliases: [String; 1],
}

impl ScalarUDFImpl for ArrayRemove {
    fn name(&self) -> &str {
        "array_remove"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match &arg_types[0] {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                Ok(DataType::List(Arc::new(item.as_ref().clone().with_nullable(true))))
            }
            DataType::Null => Ok(DataType::Null),
            other => plan_err!("ARRAY_REMOVE takes an element out of an array, and this is a {}", sql_name(other)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let returned = args.return_field.data_type().clone();
        let [array, gone] = take_function_args(self.name(), args.args)?;
        let array = cast(&array.into_array(rows)?, &returned)?;
        let DataType::List(item) = &returned else { return Ok(ColumnarValue::Array(array)) };
        let gone = cast(&gone.into_array(rows)?, item.data_type())?;
        let lists = array.as_list::<i32>();
        let equal =
            make_comparator(&canonical_values(lists.values()), &canonical_values(&gone), SortOptions::default())?;
        let (mut kept, mut lengths) = (Vec::<u32>::new(), Vec::with_capacity(rows));
        for (row, ends) in lists.offsets().windows(2).enumerate() {
            let before = kept.len();
            if lists.is_valid(row) {
                let elements = ends[0] as usize..ends[1] as usize;
                kept.extend(elements.filter(|element| equal(*element, row).is_ne()).map(|element| element as u32));
            }
            lengths.push(kept.len() - before);
        }
        let values = take(lists.values(), &UInt32Array::from(kept), None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let left: ArrayRef = Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, lists.nulls().cloned())?);
        Ok(ColumnarValue::Array(left))
    }
}

/// `ARRAY_POSITION(a, x)`: the place of the first `x`, from 1, 0 where there is none, null for a null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayPosition {
    signature: Signature,
    /// DataFusion's, which finds nulls and has null for what is not there.
    within: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ArrayPosition {
    fn name(&self) -> &str {
        self.within.name()
    }

    fn aliases(&self) -> &[String] {
        self.within.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let nulls = args.args.iter().try_fold(None, |nulls, arg| {
            let nulls_of = arg.to_array(rows)?.logical_nulls();
            Ok::<_, datafusion::common::DataFusionError>(NullBuffer::union(nulls.as_ref(), nulls_of.as_ref()))
        })?;
        if let [array, wanted] = args.args.as_slice()
            && let (DataType::List(item), wanted_type) = (array.data_type(), wanted.data_type())
            && (is_nested(&wanted_type) || has_other_forms(&wanted_type))
            && *item.data_type() == wanted_type
        {
            let places = places_of(&array.to_array(rows)?, &wanted.to_array(rows)?)?;
            return Ok(ColumnarValue::Array(Arc::new(Int64Array::new(places.into(), nulls))));
        }
        let args = ScalarFunctionArgs { return_field: without_sign(&args.return_field), ..args };
        let places = self.within.invoke_with_args(args)?.into_array(rows)?;
        let places = cast(&places, &DataType::Int64)?;
        let places = places.as_primitive::<Int64Type>().iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
        Ok(ColumnarValue::Array(Arc::new(Int64Array::new(places.into(), nulls))))
    }
}

/// The place of the first element of each array that is the same array or row as what is wanted in its row, from 1; 0: there is none. Both are of one type.
fn places_of(array: &ArrayRef, wanted: &ArrayRef) -> Result<Vec<i64>> {
    let Some(lists) = array.as_list_opt::<i32>() else {
        return exec_err!("elements are looked for in a {}", sql_name(array.data_type()));
    };
    let (elements, wanted) = (canonical_values(lists.values()), canonical_values(wanted));
    let compare = make_comparator(&elements, &wanted, SortOptions::default())?;
    let place = |(row, ends): (usize, &[i32])| {
        let mut elements = (ends[0] as usize..ends[1] as usize).zip(1..);
        elements.find(|(element, _)| compare(*element, row).is_eq()).map_or(0, |(_, place)| place)
    };
    Ok(lists.offsets().windows(2).enumerate().map(place).collect())
}

/// DataFusion's `array_position(a, x, 1)` and `array_has(a, x)`, to which its planner turns `x = ANY(a)`, of arrays and rows in `a`, which its kernels do not
/// compare, and of values that are written in several ways, of which they know one: null where there is no such element, or where `a` or `x` is null.
static PLACE_WITHIN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Definition {
        name: "__place_within",
        params: &[Param::Any, Param::Any],
        optional: 0,
        returns: |_| DataType::UInt64,
        invoke: |call| {
            let places = places_of(&call.array(0)?, &call.array(1)?)?.into_iter();
            Ok(Arc::new(
                places.map(|place| u64::try_from(place).ok().filter(|place| *place > 0)).collect::<UInt64Array>(),
            ))
        },
    }
    .udf()
});
static HAS_WITHIN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| -> Result<ArrayRef> {
        let (array, wanted) = (call.array(0)?, call.array(1)?);
        let nulls = NullBuffer::union(array.logical_nulls().as_ref(), wanted.logical_nulls().as_ref());
        let has = places_of(&array, &wanted)?.into_iter().map(|place| place > 0).collect();
        Ok(Arc::new(BooleanArray::new(has, nulls)))
    };
    Definition::new("__has_within", &[Param::Any, Param::Any], |_| DataType::Boolean, invoke).udf()
});

/// What [`PLACE_WITHIN`] and [`HAS_WITHIN`] are of a call of DataFusion's; `None`: its own will do, or has to say what is wrong.
pub(super) fn within(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let [array, wanted, from @ ..] = call.args.as_slice() else { return None };
    let ours = match (call.func.name(), from) {
        ("array_position", [Expr::Literal(ScalarValue::Int64(Some(1)), _)]) if call.func == array_position_udf() => {
            &PLACE_WITHIN
        }
        ("array_has", []) => &HAS_WITHIN,
        _ => return None,
    };
    let (DataType::List(item), wanted_type) = (array.get_type(schema).ok()?, wanted.get_type(schema).ok()?) else {
        return None;
    };
    let element = item.data_type();
    if !is_nested(element) && !has_other_forms(element) || has_no_key(element) {
        return None;
    }
    let common = match wanted_type.is_null() || wanted_type == *element {
        true => element.clone(),
        false => comparison_coercion(element, &wanted_type)?,
    };
    let arrays = DataType::List(Arc::new(item.as_ref().clone().with_data_type(common.clone())));
    Some(ours.call(vec![logical_expr::cast(array.clone(), arrays), logical_expr::cast(wanted.clone(), common)]))
}
