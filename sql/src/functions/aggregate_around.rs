//! Markers of aggregates that belong to a query around, while a query is planned. Nobody writes or calls them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::planner::context::default_functions;

/// `__aggregate_around(number, name, argument, ..)`, in a subquery: of the type of the aggregate.
pub(crate) const AGGREGATE_AROUND: &str = "__aggregate_around";
/// `__with_aggregates(subquery, number, aggregate, ..)`, in the query that they belong to: of the type of the subquery.
pub(crate) const WITH_AGGREGATES: &str = "__with_aggregates";

pub(super) fn functions() -> [Arc<ScalarUDF>; 2] {
    [AGGREGATE_AROUND, WITH_AGGREGATES].map(|name| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Marker { name, signature }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of an aggregate follows from its arguments")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let data_type = match (self.name, args.arg_fields) {
            (WITH_AGGREGATES, [subquery, ..]) => subquery.data_type().clone(),
            (_, [_, _, arguments @ ..]) => {
                let name = args.scalar_arguments.get(1).copied().flatten().and_then(ScalarValue::try_as_str).flatten();
                let known = default_functions();
                let Some(function) = name.and_then(|name| known.aggregate.get(name)) else {
                    return internal_err!("the aggregate {name:?} of a query around is not known");
                };
                function.return_field(&fields_with_udf(arguments, function.as_ref())?)?.data_type().clone()
            }
            _ => return internal_err!("an aggregate of a query around without its number"),
        };
        Ok(Arc::new(Field::new(self.name, data_type, true)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("an aggregate of a query around was left in a plan")
    }
}
