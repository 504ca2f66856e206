//! `FILTER (WHERE ..)` of aggregates, which is a condition as `WHERE` is.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::expr::{location_of, short_text};
use crate::error::{Location, SqlError};
use crate::types::sql_name;

/// Refuses a `FILTER` that is no condition.
///
/// Asked before types are made to fit: DataFusion would take a number for one.
pub(super) fn check(call: &Expr, schema: &DFSchema) -> Result<()> {
    let filter = match call {
        Expr::AggregateFunction(function) => &function.params.filter,
        Expr::WindowFunction(function) => &function.params.filter,
        _ => return Ok(()),
    };
    let Some((filter, data_type)) = filter.as_ref().and_then(|filter| Some((filter, filter.get_type(schema).ok()?)))
    else {
        return Ok(());
    };
    match data_type {
        DataType::Boolean | DataType::Null => Ok(()),
        other => Err(SqlError::plan(
            format!(
                "the condition `{}` of a `FILTER` is {} and not BOOLEAN; compare it with something",
                short_text(filter),
                sql_name(&other)
            ),
            location_of(filter).map(|(line, column)| Location { line, column }),
        )
        .into()),
    }
}
