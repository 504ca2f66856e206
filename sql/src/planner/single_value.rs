//! A subquery in the place of one value: that it gives one is checked while it runs.
//!
//! DataFusion makes a join of it, and rows beyond the first would multiply the rows around. What may give more than one row is put under
//! an aggregate that gives a value and how many there are (Flink's `SINGLE_VALUE`); what is computed of it is the only value, null where there is none, and an error where there are more:
//! over rows that can be taken back that is an error only if it is so at the end. One that looks at the rows around it has its value for each of them ([`of_each`]).

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, StructArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, UInt64Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as DataFusionResult, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, BinaryExpr, ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder,
    Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility,
};

use super::decorrelate::gives_one_row;
use crate::error::{Result, SqlError};

/// Puts the subqueries of a plan that stand for one value, look at nothing around them and may give several under a check; and those that may give none
/// although their column is said never to be null.
pub(super) fn check(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::ScalarSubquery(subquery) if needs_check(&subquery) => {
                    Ok(Transformed::yes(Expr::ScalarSubquery(checked(subquery)?)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(plan.data)
}

fn needs_check(subquery: &Subquery) -> bool {
    let plan = &subquery.subquery;
    match subquery.outer_ref_columns.is_empty() {
        true => !gives_one_row(plan) || is_null_in_secret(plan),
        // One that may give several rows is ours, which makes a value of those that are asked for, and of no others.
        false => is_null_in_secret(plan) && (gives_one_row(plan) || is_one_for_each(plan)),
    }
}

/// Whether a subquery groups by nothing but columns that are equal to ones of the rows around it, so that each of these has one group.
fn is_one_for_each(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_one_for_each(&projection.input),
        LogicalPlan::Filter(filter) => is_one_for_each(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => is_one_for_each(&alias.input),
        LogicalPlan::Aggregate(aggregate) => {
            let mut fixed = vec![];
            let mut input = aggregate.input.as_ref();
            while let LogicalPlan::Filter(filter) = input {
                for part in split_conjunction(&filter.predicate) {
                    if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part {
                        match (left.as_ref(), right.as_ref()) {
                            (Expr::Column(column), Expr::OuterReferenceColumn(..))
                            | (Expr::OuterReferenceColumn(..), Expr::Column(column)) => fixed.push(column),
                            _ => {}
                        }
                    }
                }
                input = &filter.input;
            }
            let is_fixed = |key: &Expr| matches!(key, Expr::Column(column) if fixed.contains(&column));
            aggregate.group_expr.iter().all(is_fixed)
        }
        _ => false,
    }
}

/// Whether a value is null where the subquery gives no row, and its column says that it is never null: DataFusion would believe that.
fn is_null_in_secret(subquery: &LogicalPlan) -> bool {
    !subquery.schema().field(0).is_nullable() && !always_has_a_row(subquery)
}

fn always_has_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(projection) => always_has_a_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => always_has_a_row(&alias.input),
        LogicalPlan::Sort(sort) => sort.fetch != Some(0) && always_has_a_row(&sort.input),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

fn checked(subquery: Subquery) -> DataFusionResult<Subquery> {
    let plan = Arc::unwrap_or_clone(subquery.subquery);
    let [column] = plan.schema().columns().try_into().or_else(|_| internal_err!("a value of several columns"))?;
    let name = column.name.clone();
    let value = AggregateFunction::new_udf(function(), vec![Expr::Column(column)], false, None, vec![], None);
    let value = Expr::AggregateFunction(value).alias(NAME);
    let none: [Expr; 0] = [];
    let plan = LogicalPlanBuilder::from(plan).aggregate(none, [value])?;
    let plan = plan.project([only().alias(name)])?.build()?;
    Ok(Subquery { subquery: Arc::new(plan), ..subquery })
}

/// The only value of `plan`, its first column, for each combination of its last `keys` columns: the error is that of a combination of which there are more.
/// The columns stay where they are.
pub(super) fn of_each(plan: LogicalPlan, keys: usize) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let [value, .., _] = columns.as_slice() else {
        return Err(SqlError::internal("a value without the columns that it is a function of"));
    };
    let keys: Vec<Expr> = columns[columns.len() - keys..].iter().cloned().map(Expr::Column).collect();
    let (table, name) = (value.relation.clone(), value.name.clone());
    let value = AggregateFunction::new_udf(function(), vec![Expr::Column(value.clone())], false, None, vec![], None);
    let value = Expr::AggregateFunction(value).alias(NAME);
    let plan = LogicalPlanBuilder::from(plan).aggregate(keys.clone(), [value])?;
    let columns = std::iter::once(only().alias_qualified(table, name)).chain(keys);
    Ok(plan.project(columns)?.build()?)
}

const NAME: &str = "single_value";
/// The function that makes the only value of what the aggregate gives.
pub(super) const ONLY: &str = "__only_value";

/// The only value, of the column of the aggregate.
fn only() -> Expr {
    static FUNCTION: OnceLock<Arc<ScalarUDF>> = OnceLock::new();
    let make = || Arc::new(ScalarUDF::new_from_impl(Only { signature: Signature::any(1, Volatility::Immutable) }));
    Arc::clone(FUNCTION.get_or_init(make)).call(vec![datafusion::logical_expr::col(NAME)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Only {
    signature: Signature,
}

impl ScalarUDFImpl for Only {
    fn name(&self) -> &str {
        ONLY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DataFusionResult<DataType> {
        match arg_types {
            [DataType::Struct(fields)] if fields.len() == 2 => Ok(fields[0].data_type().clone()),
            other => internal_err!("`{ONLY}` of {other:?}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [counted] = arrays.as_slice() else { return internal_err!("`{ONLY}` of {} arguments", arrays.len()) };
        let counted = counted.as_struct();
        match counted.column(1).as_primitive::<UInt64Type>().iter().flatten().find(|rows| *rows > 1) {
            Some(rows) => exec_err!(
                "a subquery that stands for one value gives {rows} rows; narrow it by a condition, aggregate it or add `LIMIT 1`"
            ),
            None => Ok(ColumnarValue::Array(Arc::clone(counted.column(0)))),
        }
    }
}

/// What the aggregate over values of a type gives: the first value, and how many there are.
fn counted(value: &DataType) -> Fields {
    vec![Field::new("value", value.clone(), true), Field::new("rows", DataType::UInt64, false)].into()
}

fn function() -> Arc<AggregateUDF> {
    static FUNCTION: OnceLock<Arc<AggregateUDF>> = OnceLock::new();
    let make =
        || Arc::new(AggregateUDF::new_from_impl(SingleValue { signature: Signature::any(1, Volatility::Immutable) }));
    Arc::clone(FUNCTION.get_or_init(make))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SingleValue {
    signature: Signature,
}

impl AggregateUDFImpl for SingleValue {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Struct(counted(&arg_types[0])))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DataFusionResult<Vec<FieldRef>> {
        let DataType::Struct(fields) = args.return_field.data_type() else {
            return internal_err!("`{NAME}` of {}", args.return_field.data_type());
        };
        let state = fields.iter().map(|field| {
            let name = format!("{}[{}]", args.name, field.name());
            Arc::new(Field::new(name, field.data_type().clone(), true))
        });
        Ok(state.collect())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        let DataType::Struct(fields) = args.return_field.data_type() else {
            return internal_err!("`{NAME}` of {}", args.return_field.data_type());
        };
        let value = ScalarValue::try_from(fields[0].data_type())?;
        Ok(Box::new(Single { fields: fields.clone(), value, rows: 0 }))
    }
}

/// The first value, and how many there are.
#[derive(Debug)]
struct Single {
    fields: Fields,
    value: ScalarValue,
    rows: u64,
}

impl Single {
    fn take(&mut self, values: &ArrayRef, row: usize, rows: u64) -> DataFusionResult<()> {
        if self.rows == 0 && rows > 0 {
            self.value = ScalarValue::try_from_array(values, row)?;
        }
        self.rows += rows;
        Ok(())
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        match values[0].len() {
            0 => Ok(()),
            rows => self.take(&values[0], 0, rows as u64),
        }
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let rows = states[1].as_primitive::<UInt64Type>();
        (0..rows.len()).try_for_each(|row| self.take(&states[0], row, rows.value(row)))
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let values: Vec<ArrayRef> = vec![self.value.to_array()?, Arc::new(UInt64Array::from(vec![self.rows]))];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(self.fields.clone(), values, None)?)))
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::UInt64(Some(self.rows))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size()
    }
}
