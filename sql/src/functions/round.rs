//! `ROUND(x, digits)` of decimals keeps the type that it was planned with.
//!
//! DataFusion gives a decimal as many digits as a *literal* says, and as it has where the digits are anything else. What is a literal changes while a
//! query is planned: types are fitted by casts, which are folded later, and a constant may take a column's place; the types around the call are
//! settled by then. So constant digits are literals of the right type from the beginning, and all others never narrow the type.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::functions::math::round as datafusion_round;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, cast,
};

use crate::planner::constant;

/// Calls of `round` with what their digits are, once and for all.
#[derive(Debug)]
pub(crate) struct RoundDigits;

impl FunctionRewrite for RoundDigits {
    fn name(&self) -> &str {
        "digits of round"
    }

    fn rewrite(&self, expr: Expr, _schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr else { return Ok(Transformed::no(expr)) };
        let [value, digits] = args.as_slice() else { return Ok(Transformed::no(expr)) };
        if *func != datafusion_round()
            || matches!(digits, Expr::Literal(value, _) if value.data_type() == DataType::Int32)
        {
            return Ok(Transformed::no(expr));
        }
        let is_constant = digits.column_refs().is_empty() && !digits.is_volatile();
        let literal = match is_constant {
            true => constant(cast(digits.clone(), DataType::Int32)).ok(),
            false => None,
        };
        let call = match literal.filter(|literal| matches!(literal, Expr::Literal(..))) {
            Some(literal) => ScalarFunction { func: Arc::clone(func), args: vec![value.clone(), literal] },
            None => ScalarFunction { func: round_by(), args: args.clone() },
        };
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    }
}

/// `round` whose digits are not known when the query is planned.
fn round_by() -> Arc<ScalarUDF> {
    static FUNCTION: OnceLock<Arc<ScalarUDF>> = OnceLock::new();
    Arc::clone(FUNCTION.get_or_init(|| Arc::new(ScalarUDF::new_from_impl(RoundBy { round: datafusion_round() }))))
}

/// See [`round_by`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct RoundBy {
    round: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for RoundBy {
    fn name(&self) -> &str {
        self.round.name()
    }

    fn signature(&self) -> &Signature {
        self.round.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.round.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let unknown = vec![None; args.scalar_arguments.len()];
        self.round.return_field_from_args(ReturnFieldArgs { scalar_arguments: &unknown, ..args })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.round.invoke_with_args(args)
    }
}
