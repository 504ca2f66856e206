//! `IF(condition, then, else)`: another way to write `CASE`, and planned as one, so that only the branch that is taken is computed.

use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::types::sql_name;

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct If {
    signature: Signature,
}

impl If {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for If {
    fn name(&self) -> &str {
        "if"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [condition, then, otherwise] = arg_types else {
            return plan_err!("IF is written IF(condition, then, else)");
        };
        if !matches!(condition, DataType::Boolean | DataType::Null) {
            return plan_err!("the condition of IF is a {}; it must be a BOOLEAN", sql_name(condition));
        }
        match type_union_resolution(&[then.clone(), otherwise.clone()]) {
            Some(common) => Ok(vec![DataType::Boolean, common.clone(), common]),
            None => {
                plan_err!("the branches of IF are a {} and a {}; cast one of them", sql_name(then), sql_name(otherwise))
            }
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [_, then, _] = take_function_args(self.name(), arg_types)?;
        Ok(then.clone())
    }

    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [condition, then, otherwise] = take_function_args(self.name(), args)?;
        let when_then = vec![(Box::new(condition), Box::new(then))];
        Ok(ExprSimplifyResult::Simplified(Expr::Case(Case::new(None, when_then, Some(Box::new(otherwise))))))
    }

    fn short_circuits(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Only where nobody simplified the plan.
        let rows = args.number_rows;
        let [condition, then, otherwise] = take_function_args(self.name(), args.args)?;
        let condition = condition.into_array(rows)?;
        let Some(condition) = condition.as_any().downcast_ref::<arrow::array::BooleanArray>() else {
            return internal_err!("the condition of IF is no BOOLEAN");
        };
        let condition = match condition.null_count() {
            0 => condition.clone(),
            _ => arrow::compute::prep_null_mask_filter(condition),
        };
        let (then, otherwise) = (then.into_array(rows)?, otherwise.into_array(rows)?);
        Ok(ColumnarValue::Array(arrow::compute::kernels::zip::zip(&condition, &then, &otherwise)?))
    }
}
