//! `CREATE FUNCTION f(a T, ..) RETURNS T AS 'expression'`: a function whose body is planned once and put in the place of each call.
//!
//! The call is an ordinary scalar function to DataFusion's planner, which coerces the arguments to the declared types; the simplifier
//! then asks it for its body. So the names in the body mean what they meant when the function was created, whatever a query's columns
//! are called.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DataFusionResult, internal_err, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};

use super::context::PlanContext;
use super::insert::assignable;
use crate::catalog::Catalog;
use crate::error::{Result, SqlError};
use crate::parser::CreateFunction;
use crate::types::sql_name;

/// A function with an SQL body.
#[derive(Debug, Clone)]
pub(crate) struct SqlFunction {
    name: String,
    /// The names that the body knows the arguments by.
    args: Vec<String>,
    arg_types: Vec<DataType>,
    returns: DataType,
    body: Expr,
    signature: Signature,
}

impl SqlFunction {
    /// Plans the body.
    pub(crate) fn plan(catalog: &Catalog, name: &str, create: &CreateFunction) -> Result<Self> {
        let fields = create.args.iter().map(|arg| Field::new(&arg.name.text, arg.data_type.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let context = PlanContext::new(catalog);
        let body = context.plan_expr(&create.body, &schema)?;
        let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
        let actual = body.get_type(&df_schema)?;
        let body = match actual == create.returns {
            true => body,
            false if arrow::compute::can_cast_types(&actual, &create.returns) => cast(body, create.returns.clone()),
            false => {
                return Err(SqlError::plan(
                    format!(
                        "function `{name}` returns {}, but its body is {}",
                        sql_name(&create.returns),
                        sql_name(&actual)
                    ),
                    create.body.location,
                ));
            }
        };
        let volatility = if body.is_volatile() { Volatility::Volatile } else { Volatility::Immutable };
        let arg_types: Vec<_> = create.args.iter().map(|arg| arg.data_type.clone()).collect();
        let signature = match arg_types.is_empty() {
            true => Signature::nullary(volatility),
            false => Signature::user_defined(volatility),
        };
        Ok(Self {
            name: name.to_string(),
            args: create.args.iter().map(|arg| arg.name.text.clone()).collect(),
            arg_types,
            returns: create.returns.clone(),
            body,
            signature,
        })
    }

    pub(crate) fn udf(&self) -> ScalarUDF {
        ScalarUDF::new_from_impl(self.clone())
    }

    pub(crate) fn body(&self) -> &Expr {
        &self.body
    }
}

impl PartialEq for SqlFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.arg_types == other.arg_types && self.body == other.body
    }
}

impl Eq for SqlFunction {}

impl Hash for SqlFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.body.hash(state);
    }
}

impl ScalarUDFImpl for SqlFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What may be inserted into a column of the declared type may be given to the function.
    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        let form = || {
            let args = self.args.iter().zip(&self.arg_types);
            let args: Vec<String> = args.map(|(name, data_type)| format!("{name} {}", sql_name(data_type))).collect();
            format!("{}({})", self.name, args.join(", "))
        };
        if given.len() != self.arg_types.len() {
            return plan_err!("`{}` is called with {} arguments; it is {}", self.name, given.len(), form());
        }
        for (index, (given, wanted)) in given.iter().zip(&self.arg_types).enumerate() {
            if !assignable(given, wanted, false) {
                let (number, given) = (index + 1, sql_name(given));
                return plan_err!(
                    "argument {number} of `{}` is {given}; cast it, the function is {}",
                    self.name,
                    form()
                );
            }
        }
        Ok(self.arg_types.clone())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.returns.clone())
    }

    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        let body = self.body.clone().transform_up(|expr| match &expr {
            Expr::Column(column) => match self.args.iter().position(|arg| *arg == column.name) {
                Some(index) => Ok(Transformed::yes(args[index].clone())),
                None => internal_err!("`{}` is no argument of `{}`", column.name, self.name),
            },
            _ => Ok(Transformed::no(expr)),
        })?;
        Ok(ExprSimplifyResult::Simplified(body.data))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        internal_err!("the body of `{}` was not put in the place of its call", self.name)
    }
}
