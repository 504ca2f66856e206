//! Calls of aggregate functions, as the engine makes them: the engine's own where one fits, else DataFusion's behind the same trait.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, LogicalPlan, lit};
use eagre_engine::aggregate::{AggregateCall, AggregateFunctionRef, BuiltinRequest, builtin};
use eagre_engine::expr::ExprRef;

use super::ORDERED_FUNCTIONS;
use crate::error::{Result, SqlError};
use crate::planner::accumulators::{Arg, Foreign, ForeignSpec, Order, args_and_order};
use crate::planner::context::default_functions;
use crate::planner::expr::{Compiler, short_text, strip_alias};
use crate::planner::guarded;
use crate::planner::kept::Kept;
use crate::planner::lower::{Lowering, Stream};

/// A column of the rows that are aggregated.
pub(super) struct Input {
    pub(super) expr: ExprRef,
    logical: LogicalExpr,
}

/// The rows that are aggregated: keys, arguments, filters, each once.
#[derive(Default)]
pub(super) struct Inputs {
    pub(super) columns: Vec<Input>,
}

impl Inputs {
    /// The place of `expr`, compiled now unless it is there already.
    pub(super) fn add(
        &mut self,
        lowering: &mut Lowering<'_>,
        stream: &mut Stream,
        compiler: &Compiler,
        expr: &LogicalExpr,
    ) -> Result<usize> {
        let logical = strip_alias(expr).clone();
        if let Some(place) = self.columns.iter().position(|input| input.logical == logical && !logical.is_volatile()) {
            return Ok(place);
        }
        let name = match &logical {
            LogicalExpr::Column(column) => column.name.clone(),
            other => short_text(other),
        };
        let expr = lowering.compile(stream, compiler, &logical, &name)?;
        self.columns.push(Input { expr, logical });
        Ok(self.columns.len() - 1)
    }

    /// A column of the batches that no expression of the query names.
    pub(super) fn add_physical(&mut self, expr: ExprRef) -> usize {
        let same = |input: &Input| expr.as_column().is_some() && input.expr.as_column() == expr.as_column();
        if let Some(place) = self.columns.iter().position(same) {
            return place;
        }
        let logical = lit(ScalarValue::Utf8(Some(format!("__physical {}", self.columns.len()))));
        self.columns.push(Input { expr, logical });
        self.columns.len() - 1
    }
}

/// What an aggregate has to know of rows that are taken back.
#[derive(Clone, Copy)]
pub(super) struct TakenBack {
    /// There are some.
    pub(super) rows: bool,
    /// And its result is another one without them.
    pub(super) looks_back: bool,
}

impl Lowering<'_> {
    /// One aggregate call over the columns of `inputs`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn call(
        &mut self,
        function: &AggregateFunction,
        return_field: FieldRef,
        stream: &mut Stream,
        inputs: &mut Inputs,
        compiler: &Compiler,
        input_plan: &LogicalPlan,
        taken_back: TakenBack,
    ) -> Result<AggregateCall> {
        let TakenBack { rows: retracting, looks_back } = taken_back;
        let schema = input_plan.schema();
        let name = function.func.name();
        let params = &guarded::behind_filter(&function.params, schema)?;
        let filter = match &params.filter {
            Some(filter) => Some(inputs.add(self, stream, compiler, filter)?),
            None => None,
        };
        let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
        let order_matters = ORDERED_FUNCTIONS.contains(&name);
        let ours = default_functions().aggregate.get(name).is_some_and(|known| Arc::ptr_eq(known, &function.func));
        let counts_rows = name == "count"
            && !params.distinct
            && matches!(params.args.as_slice(), [LogicalExpr::Literal(value, _)] if !value.is_null());
        let builtin_fits = ours && !ignore_nulls && (!order_matters || (params.order_by.is_empty() && stream.ordered));
        if builtin_fits {
            let args: &[LogicalExpr] = if counts_rows { &[] } else { &params.args };
            let fields = args.iter().map(|arg| Ok(arg.to_field(schema.as_ref())?.1)).collect::<Result<Vec<_>>>()?;
            let request = BuiltinRequest {
                name,
                args: &fields,
                distinct: params.distinct,
                retracting: looks_back,
                return_field: Arc::clone(&return_field),
            };
            if let Some(builtin) = builtin(&request).filter(|builtin| !looks_back || builtin.supports_retraction()) {
                if order_matters {
                    stream.require_ordinals();
                }
                let args = args.iter().map(|arg| inputs.add(self, stream, compiler, arg)).collect::<Result<_>>()?;
                return Ok(AggregateCall { function: builtin, args, filter });
            }
        }
        // DataFusion's own.
        let mut columns: Vec<FieldRef> = vec![];
        let mut places = vec![];
        let (args, mut order) = args_and_order(&function.func, params, |expr| {
            places.push(inputs.add(self, stream, compiler, expr)?);
            columns.push(expr.to_field(schema.as_ref())?.1);
            Ok(columns.len() - 1)
        })?;
        // A total order, so that no accident shows: of arrival, or where nothing is known of that, of the values.
        let by_arrival = order_matters && !params.distinct && stream.ordered && !retracting;
        if by_arrival {
            stream.require_ordinals();
        } else if order_matters
            && order.is_empty()
            && let Some(Arg::Column(column)) = args.first()
        {
            order.push(Order { column: *column, options: SortOptions::default() });
        }
        let spec = ForeignSpec {
            function: Arc::clone(&function.func),
            args,
            columns,
            order,
            by_arrival,
            distinct: params.distinct,
            ignore_nulls,
        };
        let function: AggregateFunctionRef = match retracting {
            true => Arc::new(Kept::new(spec)?),
            false => Arc::new(Foreign::new(spec)?),
        };
        Ok(AggregateCall { function, args: places, filter })
    }
}

/// Whether an aggregate holds the values that it is made of, and not some numbers of them alone.
pub(super) fn keeps_values(function: &AggregateFunctionRef) -> bool {
    let lists = || function.state_fields().iter().any(|field| field.data_type().is_nested());
    function.distinct().is_some() || lists()
}

/// Whether an aggregate is one of the values that it is made of, by their order.
pub(super) fn is_extreme(function: &AggregateFunction) -> bool {
    matches!(function.func.name(), "min" | "max")
}

/// Counts the rows of a group, with their weights.
pub(super) fn row_count() -> Result<AggregateCall> {
    let request = BuiltinRequest {
        name: "count",
        args: &[],
        distinct: false,
        retracting: true,
        return_field: Arc::new(Field::new("rows", DataType::Int64, false)),
    };
    let function: AggregateFunctionRef =
        builtin(&request).ok_or_else(|| SqlError::internal("`count(*)` is missing"))?;
    Ok(AggregateCall { function, args: vec![], filter: None })
}
