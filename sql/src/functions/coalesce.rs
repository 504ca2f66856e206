//! `COALESCE(ts, '2026-01-01')`: DataFusion's, where a text beside dates and times is one of them, as it is where they are compared. (DataFusion has no
//! type for these arguments.)

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

use crate::types::sql_name;

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Coalesce {
    within: Arc<ScalarUDF>,
}

pub(super) fn function() -> ScalarUDF {
    ScalarUDF::new_from_impl(Coalesce { within: datafusion::functions::core::coalesce() })
}

/// A text that is computed is no time by itself, as a mistake in it would show row by row only.
pub(super) fn check(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    if call.func.name() != "coalesce" {
        return Ok(());
    }
    let types = call.args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>>>()?;
    let of_text = |(arg, data_type): (&Expr, &DataType)| data_type.is_string() && !matches!(arg, Expr::Literal(..));
    if types.iter().any(DataType::is_temporal) && call.args.iter().zip(&types).any(of_text) {
        let names: Vec<String> = types.iter().map(sql_name).collect();
        return plan_err!("the arguments of `coalesce` have one type, and these are {}; cast them", names.join(", "));
    }
    Ok(())
}

impl ScalarUDFImpl for Coalesce {
    fn name(&self) -> &str {
        self.within.name()
    }

    fn signature(&self) -> &Signature {
        self.within.signature()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let others: Vec<DataType> = arg_types.iter().filter(|data_type| !data_type.is_string()).cloned().collect();
        let beside_times = others.iter().any(DataType::is_temporal)
            && others.iter().all(|data_type| data_type.is_temporal() || data_type.is_null());
        if !beside_times {
            return self.within.coerce_types(arg_types);
        }
        let coerced = self.within.coerce_types(&others)?;
        let time = coerced.into_iter().find(|data_type| !data_type.is_null());
        Ok(vec![time.unwrap_or(DataType::Null); arg_types.len()])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.within.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.within.return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.within.simplify(args, info)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.within.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.within.short_circuits()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.within.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.within.documentation()
    }
}
