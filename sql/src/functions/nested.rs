//! What `UNNEST(..) AS u(a, b)` is made of: the elements of an array or the entries of a map, the fields of a row by their place,
//! and the elements of arrays of arrays.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err, plan_err};
use datafusion::functions_nested::flatten::flatten_udf;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, GetFieldAccess, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use super::definition::{Call, Definition, Param};
use crate::types::sql_name;

/// `__elements(x)`: an array as it is; a map as the array of its entries.
pub(crate) const ELEMENTS: &str = "__elements";
/// `__of_recursion(x)` is `x`, as the recursive part of a query gives it: what DataFusion makes of its type stands around it.
pub(crate) const OF_RECURSION: &str = "__of_recursion";
/// `__field(x, n)`: field `n` of a row, from 1.
pub(crate) const FIELD: &str = "__field";
/// `__inner(x)`: the elements of the arrays in an array, for `unnest(unnest(x))`.
pub(crate) const INNER: &str = "__inner";

pub(crate) fn definitions() -> Vec<Definition> {
    let same = |types: &[DataType]| types[0].clone();
    vec![
        Definition { name: ELEMENTS, params: &[Param::Any], optional: 0, returns: elements_type, invoke: elements },
        Definition {
            name: OF_RECURSION,
            params: &[Param::Any],
            optional: 0,
            returns: same,
            invoke: |call| call.array(0),
        },
    ]
}

fn elements_type(types: &[DataType]) -> DataType {
    match &types[0] {
        DataType::Map(entries, _) => DataType::List(Arc::clone(entries)),
        other => other.clone(),
    }
}

fn elements(call: &Call) -> Result<ArrayRef> {
    let array = &call.array(0)?;
    let DataType::Map(entries, _) = array.data_type() else { return Ok(Arc::clone(array)) };
    let map = array.as_map();
    let rows = Arc::new(map.entries().clone());
    Ok(Arc::new(ListArray::try_new(Arc::clone(entries), map.offsets().clone(), rows, map.nulls().cloned())?))
}

/// See [`FIELD`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FieldOfRow {
    signature: Signature,
}

impl FieldOfRow {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

/// The function [`FIELD`], without a catalog.
pub(crate) fn field_of_row() -> &'static ScalarUDF {
    static FUNCTION: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::new_from_impl(FieldOfRow::new()));
    &FUNCTION
}

/// Plans `x[2]` of a row, its second field, as Flink has it.
#[derive(Debug)]
pub(crate) struct FieldsByPlace;

impl ExprPlanner for FieldsByPlace {
    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let GetFieldAccess::ListIndex { key } = &expr.field_access else { return Ok(PlannerResult::Original(expr)) };
        let DataType::Struct(fields) = expr.expr.get_type(schema)? else { return Ok(PlannerResult::Original(expr)) };
        let place = match key.as_ref() {
            Expr::Literal(ScalarValue::Int64(Some(place)), _) => *place,
            _ => return plan_err!("a field of a ROW is named by a number or a name, not by `{key}`"),
        };
        if usize::try_from(place).map_or(true, |place| place == 0 || place > fields.len()) {
            let first = fields.first().map_or("a", |field| field.name());
            let count = fields.len();
            return plan_err!(
                "a ROW of {count} fields has none at `[{place}]`; they are counted from 1, or named: `x.{first}`"
            );
        }
        Ok(PlannerResult::Planned(field_of_row().call(vec![expr.expr, key.as_ref().clone()])))
    }
}

fn place(argument: Option<&ScalarValue>) -> Result<usize> {
    match argument {
        Some(ScalarValue::Int64(Some(place))) if *place > 0 => Ok(*place as usize - 1),
        other => internal_err!("the place of a field is {other:?}"),
    }
}

impl ScalarUDFImpl for FieldOfRow {
    fn name(&self) -> &str {
        FIELD
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of a field follows from its place")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let place = place(args.scalar_arguments.get(1).copied().flatten())?;
        match args.arg_fields[0].data_type() {
            DataType::Struct(fields) if place < fields.len() => {
                Ok(Arc::new(Field::new(self.name(), fields[place].data_type().clone(), true)))
            }
            DataType::Struct(fields) => {
                let names = fields.iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
                plan_err!(
                    "UNNEST gives rows of {} fields ({names}), and is named {} columns or more",
                    fields.len(),
                    place + 1
                )
            }
            other => plan_err!(
                "UNNEST gives values of type {}, which is one column, and is named several; name one: `AS u(x)`",
                sql_name(other)
            ),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let result = args.return_field.data_type().clone();
        let [row, number] = take_function_args(self.name(), args.args)?;
        let ColumnarValue::Scalar(number) = number else { return internal_err!("the place of a field is a column") };
        let row = row.into_array(rows)?;
        let Some(row) = row.as_struct_opt() else { return internal_err!("a field of {}", row.data_type()) };
        let field = row.column(place(Some(&number))?);
        // Where the row is null, so is its field.
        let nulls = arrow::buffer::NullBuffer::union(row.nulls(), field.logical_nulls().as_ref());
        let field = match nulls {
            Some(nulls) => arrow::compute::nullif(field, &arrow::array::BooleanArray::new(!nulls.inner(), None))?,
            None => Arc::clone(field),
        };
        Ok(ColumnarValue::Array(cast(&field, &result)?))
    }
}

/// See [`INNER`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct InnerElements {
    signature: Signature,
}

impl InnerElements {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for InnerElements {
    fn name(&self) -> &str {
        INNER
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match &arg_types[0] {
            DataType::List(item) if matches!(item.data_type(), DataType::List(_)) => Ok(item.data_type().clone()),
            other => plan_err!("UNNEST(UNNEST(x)) takes an array of arrays, and x is {}", sql_name(other)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        flatten_udf().invoke_with_args(args)
    }
}
