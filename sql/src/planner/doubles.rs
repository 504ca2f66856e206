//! A DOUBLE and a DECIMAL meet as DOUBLEs, also where rows of several queries or of `VALUES` become those of one.
//!
//! DataFusion makes decimals of 15 digits after the point of both: 1e-20 were 0, and 1e30 an error. What operators compare is in
//! [`crate::functions`]; this runs before types are made to fit, too.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Union, Values, cast};
use datafusion::optimizer::AnalyzerRule;

use super::expr::strip_alias;

/// The type of a column of two queries' rows; none where there is no such type.
pub(super) fn common_type(left: &LogicalPlan, right: &LogicalPlan, column: usize) -> Option<DataType> {
    match kinds(left, column).with(kinds(right, column)).are_mixed() {
        true => Some(DataType::Float64),
        false => type_union_coercion(left.schema().field(column).data_type(), right.schema().field(column).data_type()),
    }
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    /// DOUBLEs that are not written in the query: beside a DECIMAL those are exact.
    doubles: bool,
    decimals: bool,
}

impl Kinds {
    fn with(self, other: Self) -> Self {
        Self { doubles: self.doubles || other.doubles, decimals: self.decimals || other.decimals }
    }

    fn are_mixed(self) -> bool {
        self.doubles && self.decimals
    }
}

/// Those of a query's column; of a union, whose columns have no common type yet, those of all its inputs.
fn kinds(plan: &LogicalPlan, column: usize) -> Kinds {
    if let LogicalPlan::Union(union) = plan {
        return union.inputs.iter().map(|input| kinds(input, column)).fold(Kinds::default(), Kinds::with);
    }
    let data_type = plan.schema().field(column).data_type();
    Kinds { doubles: data_type.is_floating() && !is_written(plan, column), decimals: data_type.is_decimal() }
}

fn is_written(plan: &LogicalPlan, column: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => match strip_alias(&projection.expr[column]) {
            Expr::Negative(number) => matches!(number.as_ref(), Expr::Literal(..)),
            expr => matches!(expr, Expr::Literal(..)),
        },
        LogicalPlan::SubqueryAlias(alias) => is_written(&alias.input, column),
        _ => false,
    }
}

/// Columns of unions and of `VALUES` that are DOUBLEs for some rows and DECIMALs for others as DOUBLEs.
#[derive(Debug)]
pub(super) struct MeetAsDoubles;

impl AnalyzerRule for MeetAsDoubles {
    fn name(&self) -> &str {
        "doubles_and_decimals_meet_as_doubles"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let mut any = false;
        let plan = plan.transform_up_with_subqueries(|node| {
            // What is above has columns of other types.
            let node = if any { node.recompute_schema()? } else { node };
            let met = meet(node)?;
            any |= met.transformed;
            Ok(met)
        })?;
        Ok(plan.data)
    }
}

fn meet(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Union(union) => {
            let whole = LogicalPlan::Union(union.clone());
            let columns: Vec<usize> =
                (0..union.schema.fields().len()).filter(|column| kinds(&whole, *column).are_mixed()).collect();
            // Its columns have the types of its first input, which may have changed.
            let first = union.inputs[0].schema();
            let is_stale = (0..)
                .zip(union.schema.fields())
                .any(|(column, field)| field.data_type() != first.field(column).data_type());
            if columns.is_empty() && !is_stale {
                return Ok(Transformed::no(LogicalPlan::Union(union)));
            }
            Ok(Transformed::yes(as_doubles(&whole, &columns)?))
        }
        LogicalPlan::Values(Values { schema, mut values }) => {
            let mut mixed = false;
            for (column, field) in
                schema.fields().iter().enumerate().filter(|(_, field)| field.data_type().is_decimal())
            {
                // As they were written: DataFusion has cast them to decimals already.
                let written = values.iter().map(|row| match &row[column] {
                    Expr::Cast(cast) if cast.field.data_type() == field.data_type() => cast.expr.as_ref().clone(),
                    other => other.clone(),
                });
                let written: Vec<Expr> = written.collect();
                let types = written.iter().map(|expr| expr.get_type(&schema)).collect::<Result<Vec<_>>>()?;
                let computed = written.iter().zip(&types).filter(|(expr, _)| !matches!(expr, Expr::Literal(..)));
                if computed.clone().any(|(_, data_type)| data_type.is_floating()) {
                    mixed = true;
                    for (row, expr) in values.iter_mut().zip(written) {
                        row[column] = cast(expr, DataType::Float64);
                    }
                }
            }
            match mixed {
                true => Ok(Transformed::yes(LogicalPlanBuilder::values(values)?.build()?)),
                false => Ok(Transformed::no(LogicalPlan::Values(Values { schema, values }))),
            }
        }
        other => Ok(Transformed::no(other)),
    }
}

/// A query's rows with the decimals among these columns as doubles, named as they were.
fn as_doubles(plan: &LogicalPlan, columns: &[usize]) -> Result<LogicalPlan> {
    if let LogicalPlan::Union(union) = plan {
        let inputs = union.inputs.iter().map(|input| as_doubles(input, columns).map(Arc::new));
        return Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?)?));
    }
    let is_cast = |column: &usize| plan.schema().field(*column).data_type().is_decimal();
    if !columns.iter().any(is_cast) {
        return Ok(plan.clone());
    }
    let exprs = plan.schema().iter().enumerate().map(|(column, (qualifier, field))| {
        let expr = Expr::from((qualifier, field));
        match columns.contains(&column) && is_cast(&column) {
            // Without its table, as columns of unions are: a filter is taken below a union by these names.
            true => cast(expr, DataType::Float64).alias(field.name()),
            false => expr,
        }
    });
    LogicalPlanBuilder::from(plan.clone()).project(exprs.collect::<Vec<_>>())?.build()
}
