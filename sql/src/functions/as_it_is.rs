//! A value as it is: what stands around it in a query is not moved into it.
//!
//! DataFusion's rules take an expression apart where that makes it cheaper, also where it does not mean the same ([`crate::planner`]'s `misread`). They do not look
//! into calls of a function.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::utils::take_function_args;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `expr` as it is.
pub(crate) fn as_it_is(expr: Expr) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        Arc::new(ScalarUDF::new_from_impl(AsItIs { signature: Signature::any(1, Volatility::Immutable) }))
    });
    FUNCTION.call(vec![expr])
}

/// What is kept as it is, or stands there in another form of the same value, for people to read; none of any other call.
pub(crate) fn kept(call: &ScalarFunction) -> Option<&Expr> {
    match call.args.as_slice() {
        [value] if [NAME, KEY_FORM, LENGTH].contains(&call.func.name()) => Some(value),
        _ => None,
    }
}

const NAME: &str = "__as_it_is";
/// The name of [`in_key_form`](super::in_key_form).
pub(super) const KEY_FORM: &str = "__key_form";
/// The name of [`length_of`](super::interval::length_of).
pub(super) const LENGTH: &str = "__interval_length";

#[derive(Debug, PartialEq, Eq, Hash)]
struct AsItIs {
    signature: Signature,
}

impl ScalarUDFImpl for AsItIs {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [value] = take_function_args(self.name(), arg_types)?;
        Ok(value.clone())
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        let [value] = take_function_args(self.name(), inputs)?;
        Ok((*value).clone())
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let [value] = take_function_args(self.name(), inputs)?;
        Ok(value.sort_properties)
    }

    fn preserves_lex_ordering(&self, _inputs: &[ExprProperties]) -> Result<bool> {
        Ok(true)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args(self.name(), args.args)?;
        Ok(value)
    }
}
