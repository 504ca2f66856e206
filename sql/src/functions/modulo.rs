//! `MOD(a, b)`: another way to write `a % b`, and planned as one.

use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility, binary_expr,
};

use crate::types::sql_name;

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Modulo {
    signature: Signature,
}

impl Modulo {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Modulo {
    fn name(&self) -> &str {
        "mod"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = arg_types else { return plan_err!("MOD is written MOD(a, b)") };
        let numeric = |data_type: &DataType| data_type.is_numeric() || *data_type == DataType::Null;
        if !numeric(left) || !numeric(right) {
            return plan_err!("MOD takes numbers, not a {} and a {}", sql_name(left), sql_name(right));
        }
        let (left, right) = BinaryTypeCoercer::new(left, &Operator::Modulo, right).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [left, right] = take_function_args(self.name(), arg_types)?;
        BinaryTypeCoercer::new(left, &Operator::Modulo, right).get_result_type()
    }

    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [left, right] = take_function_args(self.name(), args)?;
        Ok(ExprSimplifyResult::Simplified(binary_expr(left, Operator::Modulo, right)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Only where nobody simplified the plan.
        let rows = args.number_rows;
        let [left, right] = take_function_args(self.name(), args.args)?;
        Ok(ColumnarValue::Array(arrow::compute::kernels::numeric::rem(
            &left.into_array(rows)?,
            &right.into_array(rows)?,
        )?))
    }
}
