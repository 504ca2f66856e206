//! Frames without some of their rows (`EXCLUDE ..`) in a query that is answered at once, and those that slide under an aggregate from which
//! DataFusion can take no row back (`bool_or(b) OVER (ORDER BY id ROWS 1 PRECEDING)`, sums of floats): it has neither, so the aggregate becomes a window function
//! that aggregates what each row sees anew.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::{filter, partition};
use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    AggregateUDF, Expr as LogicalExpr, ExprSchemable, PartitionEvaluator, Signature, Volatility,
    WindowFunctionDefinition, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};

use super::foreign::{aggregate, seen};
use super::frame::{aggregate_of, exclusion_of};
use crate::parser::frame_exclusion::FrameExclusion;
use crate::planner::expr::strip_alias;

/// A call as one of a function that sees the rows of its frame anew for each row; `None`: DataFusion has it as it is.
pub(super) fn of_all_rows(function: &WindowFunction, input: &DFSchema) -> DataFusionResult<Option<LogicalExpr>> {
    let exclusion = exclusion_of(function);
    if exclusion.is_none() && !cannot_slide(function, input)? {
        return Ok(None);
    }
    let mut function = function.clone();
    let params = &mut function.params;
    let is_mark = |expr: &LogicalExpr| matches!(expr, LogicalExpr::Literal(value, _) if value.try_as_str().flatten().is_some_and(|text| FrameExclusion::of_mark(text).is_some()));
    params.partition_by.retain(|expr| !is_mark(strip_alias(expr)));
    let distinct = std::mem::take(&mut params.distinct);
    let condition = params.filter.take();
    let filtered = condition.is_some();
    params.args.extend(condition.map(|condition| *condition));
    let Some(aggregate) = aggregate_of(&function) else { return Ok(None) };
    // Calls that differ in nothing else have names of their own.
    let said = [(distinct, " distinct"), (filtered, " filtered")].into_iter().filter(|(is_so, _)| *is_so);
    let excluded = exclusion.map_or("anew", FrameExclusion::sql);
    let name = said.fold(format!("{} {excluded}", aggregate.name()), |name, (_, said)| name + said);
    let signature = Signature::variadic_any(Volatility::Immutable);
    let anew = Anew { name, aggregate, exclusion, distinct, filtered, signature };
    function.fun = WindowFunctionDefinition::WindowUDF(Arc::new(WindowUDF::new_from_impl(anew)));
    Ok(Some(LogicalExpr::from(function)))
}

/// Whether the frame of an aggregate loses rows, and DataFusion's accumulator cannot take them back, or not exactly.
fn cannot_slide(function: &WindowFunction, input: &DFSchema) -> DataFusionResult<bool> {
    let WindowFunctionDefinition::AggregateUDF(udf) = &function.fun else { return Ok(false) };
    let params = &function.params;
    if params.window_frame.start_bound.is_unbounded() {
        return Ok(false);
    }
    let (mut exprs, mut fields) = (vec![], vec![]);
    for (place, arg) in params.args.iter().enumerate() {
        let name = format!("c{place}");
        exprs.push(match strip_alias(arg) {
            LogicalExpr::Literal(value, _) => Arc::new(Literal::new(value.clone())) as Arc<dyn PhysicalExpr>,
            _ => Arc::new(Column::new(&name, place)),
        });
        fields.push(arg.to_field(input)?.1.as_ref().clone().with_name(name));
    }
    let schema = Arc::new(Schema::new(fields));
    let ignores_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    let aggregate = aggregate(Arc::clone(udf), exprs, Arc::clone(&schema), params.distinct, ignores_nulls)?;
    // What is added to a sum of floats and taken off again leaves something behind: a rest, or all of it after an infinity.
    let is_exact = matches!(udf.name(), "min" | "max" | "count")
        || matches!(udf.name(), "sum" | "avg") && !schema.fields().iter().any(|field| field.data_type().is_floating());
    let sums_floats = aggregate.field().data_type().is_floating() && !is_exact;
    Ok(sums_floats || aggregate.create_sliding_accumulator().is_err())
}

/// An aggregate over frames whose rows it sees anew for each row, without those that are excluded. Its arguments are those of the aggregate and, last, the condition of a `FILTER`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Anew {
    name: String,
    aggregate: Arc<AggregateUDF>,
    exclusion: Option<FrameExclusion>,
    distinct: bool,
    filtered: bool,
    signature: Signature,
}

impl Anew {
    /// How many of so many arguments are the aggregate's.
    fn width(&self, args: usize) -> usize {
        args - usize::from(self.filtered)
    }
}

impl WindowUDFImpl for Anew {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DataFusionResult<FieldRef> {
        let fields = args.input_fields();
        let field = self.aggregate.return_field(&fields[..self.width(fields.len())])?;
        Ok(Arc::new(field.as_ref().clone().with_name(args.name())))
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> DataFusionResult<Box<dyn PartitionEvaluator>> {
        let width = self.width(args.input_exprs().len());
        let named = |(place, field): (usize, &FieldRef)| field.as_ref().clone().with_name(format!("c{place}"));
        let schema = Schema::new(args.input_fields()[..width].iter().enumerate().map(named).collect::<Vec<Field>>());
        let exprs = args.input_exprs()[..width].iter().enumerate().map(|(place, expr)| match expr.is::<Literal>() {
            true => Arc::clone(expr),
            false => Arc::new(Column::new(&format!("c{place}"), place)) as Arc<dyn PhysicalExpr>,
        });
        let function = Arc::clone(&self.aggregate);
        let aggregate = aggregate(function, exprs.collect(), Arc::new(schema), self.distinct, args.ignore_nulls())?;
        let (exclusion, filtered) = (self.exclusion, self.filtered);
        Ok(Box::new(Evaluator { aggregate, exclusion, width, filtered, row: 0, peers: None }))
    }
}

/// The rows of one partition, one after the other.
#[derive(Debug)]
struct Evaluator {
    aggregate: AggregateFunctionExpr,
    exclusion: Option<FrameExclusion>,
    width: usize,
    filtered: bool,
    /// The row that is next.
    row: usize,
    /// Groups of rows that the order does not tell apart.
    peers: Option<Vec<Range<usize>>>,
}

impl Evaluator {
    /// The peers of the row, by the columns that the partition is ordered by.
    fn peers(&mut self, order: &[ArrayRef], rows: usize) -> DataFusionResult<Range<usize>> {
        let groups = match self.peers.take() {
            Some(groups) => groups,
            None if order.is_empty() => std::iter::once(0..rows).collect(),
            None => partition(order)?.ranges(),
        };
        let place = groups.partition_point(|group| group.end <= self.row);
        Ok(self.peers.insert(groups)[place].clone())
    }
}

impl PartitionEvaluator for Evaluator {
    /// `values`: the arguments, and what the partition is ordered by.
    fn evaluate(&mut self, values: &[ArrayRef], frame: &Range<usize>) -> DataFusionResult<ScalarValue> {
        let (args, order) = values.split_at(self.width + usize::from(self.filtered));
        let parts: Vec<Range<usize>> = match self.exclusion {
            None => std::iter::once(frame.start..frame.end.max(frame.start)).collect(),
            Some(exclusion) => {
                let peers = self.peers(order, args[0].len())?;
                seen(exclusion, self.row, frame.clone(), || peers).collect()
            }
        };
        let mut accumulator = self.aggregate.create_accumulator()?;
        for part in parts {
            let slice = |column: &ArrayRef| column.slice(part.start, part.len());
            let columns = args[..self.width].iter().map(slice);
            let columns = match args.get(self.width) {
                None => columns.collect(),
                Some(mask) => {
                    let mask = slice(mask);
                    columns.map(|column| filter(&column, mask.as_boolean())).collect::<Result<Vec<_>, _>>()?
                }
            };
            accumulator.update_batch(&columns)?;
        }
        self.row += 1;
        accumulator.evaluate()
    }

    fn uses_window_frame(&self) -> bool {
        true
    }
}
