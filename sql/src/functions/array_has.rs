//! `array_has_all(a, b)` and `array_has_any(a, b)` of an array that is null are null.
//!
//! DataFusion 55 answers at once where no array of a batch has elements, or a constant one has none, and gives true or false for nulls too: what a
//! row got depended on the rows beside it.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::functions_nested::array_has::{array_has_all_udf, array_has_any_udf};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::arrays;

static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 2]> = LazyLock::new(|| {
    [array_has_all_udf(), array_has_any_udf()]
        .map(|function| Arc::new(ScalarUDF::new_from_impl(NullsOfArrays { function })))
});

/// Puts [`NullsOfArrays`], and what looks for arrays and rows among elements ([`arrays::within`]), in the place of DataFusion's functions, which its planner of
/// operators calls too.
#[derive(Debug)]
pub(super) struct ArrayHas;

impl FunctionRewrite for ArrayHas {
    fn name(&self) -> &str {
        "arrays within arrays"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        if let Expr::ScalarFunction(call) = &expr
            && let Some(ours) = arrays::within(call, schema)
        {
            return Ok(Transformed::yes(ours));
        }
        let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return Ok(Transformed::no(expr)) };
        let ours = [array_has_all_udf(), array_has_any_udf()].iter().position(|theirs| *theirs == func);
        let rewritten = ours.is_some();
        let func = ours.map_or(func, |place| Arc::clone(&FUNCTIONS[place]));
        let call = Expr::ScalarFunction(ScalarFunction { func, args });
        Ok(if rewritten { Transformed::yes(call) } else { Transformed::no(call) })
    }
}

/// A function of two arrays, null where one of them is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NullsOfArrays {
    function: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for NullsOfArrays {
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
        self.function.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut nulls: Option<NullBuffer> = None;
        for arg in &args.args {
            let of_arg = match arg {
                ColumnarValue::Array(array) => array.logical_nulls(),
                ColumnarValue::Scalar(value) => value.is_null().then(|| NullBuffer::new_null(rows)),
            };
            nulls = NullBuffer::union(nulls.as_ref(), of_arg.as_ref());
        }
        let result = self.function.invoke_with_args(args)?;
        let Some(nulls) = nulls else { return Ok(result) };
        let result = result.into_array(rows)?;
        let result = result.as_boolean();
        let nulls = NullBuffer::union(result.nulls(), Some(&nulls));
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(result.values().clone(), nulls))))
    }
}
