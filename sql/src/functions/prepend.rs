//! `ARRAY_PREPEND` with its arguments in Flink's order, `(array, element)`, beside DataFusion's, `(element, array)`: the array is the one whose
//! type has more levels.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::functions_nested::concat::array_prepend_udf;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ArrayPrepend {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl ArrayPrepend {
    pub(super) fn new() -> Self {
        Self { function: array_prepend_udf(), signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn levels(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            1 + levels(element.data_type())
        }
        _ => 0,
    }
}

/// Whether the array comes first.
fn is_array_first(types: &[DataType]) -> bool {
    matches!(types, [first, second] if levels(first) > levels(second))
}

impl ScalarUDFImpl for ArrayPrepend {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let is_array_first = is_array_first(given);
        let mut fields: Vec<FieldRef> =
            given.iter().map(|data_type| Arc::new(Field::new("", data_type.clone(), true))).collect();
        if is_array_first {
            fields.reverse();
        }
        let mut coerced = fields_with_udf(&fields, self.function.as_ref())?;
        if is_array_first {
            coerced.reverse();
        }
        Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of an array depends on whether its elements may be null")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        if !is_array_first(&types) {
            return self.function.return_field_from_args(args);
        }
        let (mut fields, mut constants) = (args.arg_fields.to_vec(), args.scalar_arguments.to_vec());
        fields.reverse();
        constants.reverse();
        self.function.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &constants })
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        if is_array_first(&types) {
            args.args.reverse();
            args.arg_fields.reverse();
        }
        self.function.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }
}
