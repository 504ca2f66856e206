//! The types in which columns meet where rows of several queries or of `VALUES` become those of one.
//!
//! - A DOUBLE and a DECIMAL meet as DOUBLEs. DataFusion makes decimals of 15 digits after the point of both: 1e-20 were 0, and 1e30 an error.
//! - A DATE and a TIMESTAMP meet in the precision of the latter. DataFusion counts nanoseconds, which years before 1678 and after 2261 do not have.
//!
//! What operators compare is in [`crate::functions`]; this runs before types are made to fit, too.

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
    let met = kinds(left, column).with(kinds(right, column)).met();
    let coerced =
        || type_union_coercion(left.schema().field(column).data_type(), right.schema().field(column).data_type());
    met.or_else(coerced)
}

/// What the values of a column are.
#[derive(Debug, Clone, Default)]
struct Kinds {
    /// DOUBLEs that are not written in the query: beside a DECIMAL those are exact.
    doubles: bool,
    decimals: bool,
    dates: bool,
    /// The types of its timestamps.
    times: Vec<DataType>,
    /// There are other values, which leave the type to DataFusion.
    others: bool,
}

impl Kinds {
    fn with(mut self, other: Self) -> Self {
        self.times.extend(other.times);
        Self {
            doubles: self.doubles || other.doubles,
            decimals: self.decimals || other.decimals,
            dates: self.dates || other.dates,
            times: self.times,
            others: self.others || other.others,
        }
    }

    /// The type in which they meet, where that is not DataFusion's.
    fn met(&self) -> Option<DataType> {
        if self.doubles && self.decimals {
            return Some(DataType::Float64);
        }
        let time = self.times.first().filter(|time| self.times.iter().all(|other| other == *time))?;
        (self.dates && !self.others).then(|| time.clone())
    }
}

fn is_date(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Date64)
}

/// Those of a query's column; of a union, whose columns have no common type yet, those of all its inputs.
fn kinds(plan: &LogicalPlan, column: usize) -> Kinds {
    if let LogicalPlan::Union(union) = plan {
        return union.inputs.iter().map(|input| kinds(input, column)).fold(Kinds::default(), Kinds::with);
    }
    let data_type = plan.schema().field(column).data_type();
    let is_time = matches!(data_type, DataType::Timestamp(..));
    Kinds {
        doubles: data_type.is_floating() && !is_written(plan, column),
        decimals: data_type.is_decimal(),
        dates: is_date(data_type),
        times: if is_time { vec![data_type.clone()] } else { vec![] },
        others: !is_time && !is_date(data_type) && !data_type.is_null(),
    }
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

/// Gives columns of unions and of `VALUES` the types in which their values meet.
#[derive(Debug)]
pub(super) struct MeetInOneType;

impl AnalyzerRule for MeetInOneType {
    fn name(&self) -> &str {
        "columns_of_several_queries_meet_in_one_type"
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
            let met: Vec<Option<DataType>> =
                (0..union.schema.fields().len()).map(|column| kinds(&whole, column).met()).collect();
            // Its columns have the types of its first input, which may have changed.
            let first = union.inputs[0].schema();
            let is_stale = (0..)
                .zip(union.schema.fields())
                .any(|(column, field)| field.data_type() != first.field(column).data_type());
            if met.iter().all(Option::is_none) && !is_stale {
                return Ok(Transformed::no(LogicalPlan::Union(union)));
            }
            Ok(Transformed::yes(as_types(&whole, &met)?))
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

/// A query's rows with the decimals and dates among the columns that have a type here in that type, named as they were.
fn as_types(plan: &LogicalPlan, types: &[Option<DataType>]) -> Result<LogicalPlan> {
    if let LogicalPlan::Union(union) = plan {
        let inputs = union.inputs.iter().map(|input| as_types(input, types).map(Arc::new));
        return Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?)?));
    }
    let target = |column: usize| {
        let data_type = plan.schema().field(column).data_type();
        types[column].as_ref().filter(|_| data_type.is_decimal() || is_date(data_type))
    };
    if (0..types.len()).all(|column| target(column).is_none()) {
        return Ok(plan.clone());
    }
    let exprs = plan.schema().iter().enumerate().map(|(column, (qualifier, field))| {
        let expr = Expr::from((qualifier, field));
        match target(column) {
            // Without its table, as columns of unions are: a filter is taken below a union by these names.
            Some(data_type) => cast(expr, data_type.clone()).alias(field.name()),
            None => expr,
        }
    });
    LogicalPlanBuilder::from(plan.clone()).project(exprs.collect::<Vec<_>>())?.build()
}
