//! DataFusion's window functions and aggregates behind the engine's trait, for those that the engine has none of its own for.
//!
//! They are evaluated partition by partition and, where they look at a frame, row by row: general, and slower than the engine's own. An
//! aggregate over a frame that begins at the partition's start only ever takes rows in. Over any other frame rows have to leave: an
//! accumulator that can take rows back does so, unless it computes with floating-point numbers, where each row that leaves would leave
//! a rounding error behind; else the frame is aggregated anew for each row.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{SortOptions, cast, concat, filter};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::function::{ExpressionArgs, PartitionEvaluatorArgs};
use datafusion::logical_expr::window_state::WindowFrameContext;
use datafusion::logical_expr::{AggregateUDF, WindowFrame, WindowFrameBound, WindowUDF};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use eagre_engine::operator::over::{Bound, Frame, Ordered, OverFunction, Reach, Segment};
use eagre_engine::{EngineError, Result};

use super::super::accumulators::Arg;
use super::super::aggregate::ORDERED_FUNCTIONS;
use crate::error::Result as SqlResult;
use crate::parser::frame_exclusion::FrameExclusion;

/// What both kinds have in common.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) args: Vec<Arg>,
    /// The columns that the call reads.
    pub(super) columns: Vec<FieldRef>,
    pub(super) field: FieldRef,
    pub(super) frame: Frames,
    pub(super) lookback: Reach,
    pub(super) lookahead: Reach,
    pub(super) ignore_nulls: bool,
}

/// Who finds the frame of a row.
#[derive(Debug)]
pub(super) enum Frames {
    /// The engine.
    Engine(Frame),
    /// DataFusion, where the offset is none that the engine knows (months).
    DataFusion(Arc<WindowFrame>, Vec<SortOptions>),
}

impl Frames {
    fn compares_keys(&self) -> bool {
        matches!(self, Self::Engine(frame) if frame.compares_keys())
    }

    /// Whether no row ever leaves a frame. (How far a frame looks back may be unknown, and then is all of the partition too.)
    fn begins_with_partition(&self) -> bool {
        match self {
            Self::Engine(frame) => frame.start == Bound::UnboundedPreceding,
            Self::DataFusion(frame, _) => {
                matches!(&frame.start_bound, WindowFrameBound::Preceding(value) if value.is_null())
            }
        }
    }

    fn each(
        &self,
        rows: &Ordered<'_>,
        segment: &Segment,
        mut each: impl FnMut(Range<usize>) -> DataFusionResult<()>,
    ) -> DataFusionResult<()> {
        match self {
            Self::Engine(frame) => {
                let mut result = Ok(());
                let found = rows.frames(frame, segment, |_, start, end| {
                    if result.is_ok() {
                        result = each(start..end.max(start));
                    }
                });
                found.map_err(|error| DataFusionError::External(Box::new(error)))?;
                result
            }
            Self::DataFusion(frame, options) => {
                let (start, length) = (segment.rows.start, segment.rows.len());
                let order: Vec<_> = rows.order.iter().map(|column| column.slice(start, length)).collect();
                let mut context = WindowFrameContext::new(Arc::clone(frame), options.clone());
                let mut last = 0..0;
                for row in segment.wanted.clone() {
                    last = context.calculate_range(&order, &last, length, row - start)?;
                    each(start + last.start..start + last.end.max(last.start))?;
                }
                Ok(())
            }
        }
    }
}

impl Call {
    fn schema(&self) -> SchemaRef {
        let named = |(index, field): (usize, &FieldRef)| field.as_ref().clone().with_name(format!("c{index}"));
        Arc::new(Schema::new(self.columns.iter().enumerate().map(named).collect::<Vec<Field>>()))
    }

    fn exprs(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let expr = |arg: &Arg| match arg {
            Arg::Column(index) => Arc::new(Column::new(&format!("c{index}"), *index)) as Arc<dyn PhysicalExpr>,
            Arg::Literal(value) => Arc::new(Literal::new(value.clone())),
        };
        self.args.iter().map(expr).collect()
    }

    fn failed(&self, error: impl fmt::Display) -> EngineError {
        EngineError::evaluate(self.name.clone(), error)
    }

    /// Expressions evaluated over all rows.
    fn arrays(&self, exprs: &[Arc<dyn PhysicalExpr>], args: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema(), args.to_vec(), &options)?;
        let array = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&batch)?.into_array(rows);
        exprs.iter().map(array).collect::<DataFusionResult<_>>().map_err(|error| self.failed(error.strip_backtrace()))
    }

    fn result(&self, values: Vec<ScalarValue>) -> Result<ArrayRef> {
        if values.is_empty() {
            return Ok(arrow::array::new_empty_array(self.field.data_type()));
        }
        self.typed(ScalarValue::iter_to_array(values).map_err(|error| self.failed(error))?)
    }

    fn typed(&self, array: ArrayRef) -> Result<ArrayRef> {
        match array.data_type() == self.field.data_type() {
            true => Ok(array),
            false => Ok(cast(&array, self.field.data_type())?),
        }
    }
}

/// A window function of DataFusion's.
#[derive(Debug)]
pub(super) struct ForeignWindow {
    call: Call,
    function: Arc<WindowUDF>,
}

impl ForeignWindow {
    pub(super) fn new(call: Call, function: Arc<WindowUDF>) -> SqlResult<Self> {
        let foreign = Self { call, function };
        // Fails now rather than in the first step.
        foreign.evaluator()?;
        Ok(foreign)
    }

    fn fields(&self) -> DataFusionResult<Vec<FieldRef>> {
        let schema = self.call.schema();
        self.call.exprs().iter().map(|expr| expr.return_field(&schema)).collect()
    }

    fn evaluator(&self) -> DataFusionResult<Box<dyn datafusion::logical_expr::PartitionEvaluator>> {
        let (exprs, fields) = (self.call.exprs(), self.fields()?);
        self.function.partition_evaluator_factory(PartitionEvaluatorArgs::new(
            &exprs,
            &fields,
            false,
            self.call.ignore_nulls,
        ))
    }

    fn segment(&self, values: &[ArrayRef], rows: &Ordered<'_>, segment: &Segment) -> DataFusionResult<ArrayRef> {
        let mut evaluator = self.evaluator()?;
        let (start, length) = (segment.rows.start, segment.rows.len());
        if evaluator.uses_window_frame() {
            let mut values = values.to_vec();
            values.extend(rows.order.iter().cloned());
            let mut results = Vec::with_capacity(segment.wanted.len());
            self.call.frame.each(rows, segment, |frame| {
                results.push(evaluator.evaluate(&values, &frame)?);
                Ok(())
            })?;
            return ScalarValue::iter_to_array(results);
        }
        let all = if evaluator.include_rank() {
            let mut groups: Vec<Range<usize>> = vec![];
            for row in 0..length {
                match groups.last_mut() {
                    Some(last) if !rows.new_peer[start + row] => last.end = row + 1,
                    _ => groups.push(row..row + 1),
                }
            }
            evaluator.evaluate_all_with_rank(length, &groups)?
        } else {
            let values: Vec<_> = values.iter().map(|column| column.slice(start, length)).collect();
            evaluator.evaluate_all(&values, length)?
        };
        Ok(all.slice(segment.wanted.start - start, segment.wanted.len()))
    }
}

impl OverFunction for ForeignWindow {
    fn name(&self) -> &str {
        &self.call.name
    }

    fn field(&self) -> FieldRef {
        Arc::clone(&self.call.field)
    }

    fn lookback(&self) -> Reach {
        self.call.lookback
    }

    fn lookahead(&self) -> Reach {
        self.call.lookahead
    }

    fn compares_keys(&self) -> bool {
        self.call.frame.compares_keys()
    }

    fn evaluate(&self, args: &[ArrayRef], _filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let fields = self.fields().map_err(|error| self.call.failed(error))?;
        let exprs = self.call.exprs();
        let exprs = self.function.expressions(ExpressionArgs::new(&exprs, &fields));
        let values = self.call.arrays(&exprs, args, rows.new_peer.len())?;
        let parts = rows.segments.iter().filter(|segment| !segment.wanted.is_empty());
        let parts = parts.map(|segment| self.segment(&values, rows, segment));
        let parts = parts.collect::<DataFusionResult<Vec<_>>>();
        let parts = parts.map_err(|error| self.call.failed(error.strip_backtrace()))?;
        if parts.is_empty() {
            return self.call.result(vec![]);
        }
        self.call.typed(concat(&parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>())?)
    }
}

/// An aggregate of DataFusion's over frames.
pub(super) struct ForeignAggregate {
    call: Call,
    expr: AggregateFunctionExpr,
    /// How rows leave.
    leaving: Leaving,
    /// Rows of a frame that its row does not see.
    exclusion: Option<FrameExclusion>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// They never do.
    Never,
    /// They are taken back.
    TakenBack,
    /// The frame is aggregated anew.
    Anew,
}

impl ForeignAggregate {
    pub(super) fn new(call: Call, function: Arc<AggregateUDF>, distinct: bool) -> SqlResult<Self> {
        let name = function.name().to_owned();
        let expr = aggregate(function, call.exprs(), call.schema(), distinct, call.ignore_nulls)?;
        expr.create_accumulator()?;
        // DataFusion's `bit_xor` is 0 where all that is left is null.
        let exact = name != "bit_xor" && call.columns.iter().all(|field| !field.data_type().is_floating());
        let leaving = match call.frame.begins_with_partition() {
            true => Leaving::Never,
            false if exact && expr.create_sliding_accumulator().is_ok() => Leaving::TakenBack,
            false => Leaving::Anew,
        };
        Ok(Self { call, expr, leaving, exclusion: None })
    }

    /// The same without some rows of each frame.
    pub(super) fn excluding(self, exclusion: FrameExclusion) -> Self {
        Self { leaving: Leaving::Anew, exclusion: Some(exclusion), ..self }
    }

    fn segment(
        &self,
        values: &[ArrayRef],
        filter_rows: Option<&BooleanArray>,
        rows: &Ordered<'_>,
        segment: &Segment,
        results: &mut Vec<ScalarValue>,
    ) -> DataFusionResult<()> {
        let slice = |range: Range<usize>| -> DataFusionResult<Vec<ArrayRef>> {
            let part = values.iter().map(|column| column.slice(range.start, range.len()));
            match filter_rows.map(|mask| mask.slice(range.start, range.len())) {
                None => Ok(part.collect()),
                Some(mask) => Ok(part.map(|column| filter(&column, &mask)).collect::<Result<_, _>>()?),
            }
        };
        let fresh = || match self.leaving {
            Leaving::TakenBack => self.expr.create_sliding_accumulator(),
            _ => self.expr.create_accumulator(),
        };
        if let Some(exclusion) = self.exclusion {
            let mut current = segment.wanted.start;
            return self.call.frame.each(rows, segment, |frame| {
                let mut accumulator = self.expr.create_accumulator()?;
                let peers = || {
                    let start = (segment.rows.start..=current).rev().find(|row| rows.new_peer[*row]);
                    let end = (current + 1..segment.rows.end).find(|row| rows.new_peer[*row]);
                    start.unwrap_or(segment.rows.start)..end.unwrap_or(segment.rows.end)
                };
                for part in seen(exclusion, current, frame, peers) {
                    accumulator.update_batch(&slice(part)?)?;
                }
                results.push(accumulator.evaluate()?);
                current += 1;
                Ok(())
            });
        }
        let mut accumulator = fresh()?;
        let mut inside = segment.rows.start..segment.rows.start;
        let mut latest: Option<(Range<usize>, ScalarValue)> = None;
        self.call.frame.each(rows, segment, |frame| {
            // Peers have one frame.
            if let Some((known, value)) = &latest
                && *known == frame
            {
                results.push(value.clone());
                return Ok(());
            }
            let frame_is = frame.clone();
            let value = match self.leaving {
                Leaving::Anew => {
                    let mut accumulator = self.expr.create_accumulator()?;
                    if !frame.is_empty() {
                        accumulator.update_batch(&slice(frame)?)?;
                    }
                    accumulator.evaluate()?
                }
                _ => {
                    if frame.start >= inside.end && frame.start > inside.start {
                        accumulator = fresh()?;
                        inside = frame.start..frame.start;
                    }
                    if frame.end > inside.end {
                        accumulator.update_batch(&slice(inside.end..frame.end)?)?;
                        inside.end = frame.end;
                    }
                    if frame.start > inside.start {
                        accumulator.retract_batch(&slice(inside.start..frame.start)?)?;
                        inside.start = frame.start;
                    }
                    match inside.is_empty() {
                        true => fresh()?.evaluate()?,
                        false => accumulator.evaluate()?,
                    }
                }
            };
            latest = Some((frame_is, value.clone()));
            results.push(value);
            Ok(())
        })
    }
}

/// An aggregate of DataFusion's over the columns of `schema`.
pub(super) fn aggregate(
    function: Arc<AggregateUDF>,
    args: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    distinct: bool,
    ignore_nulls: bool,
) -> DataFusionResult<AggregateFunctionExpr> {
    let ordered = ORDERED_FUNCTIONS.contains(&function.name());
    let (name, first) = (function.name().to_owned(), args.first().map(Arc::clone));
    let builder = AggregateExprBuilder::new(function, args).schema(schema).alias(name).with_ignore_nulls(ignore_nulls);
    let builder = match (distinct, first) {
        (false, _) => builder,
        // A value comes from many rows, so its place is by value.
        (true, Some(by)) if ordered => {
            let ascending = SortOptions { descending: false, nulls_first: false };
            builder.distinct().order_by(vec![PhysicalSortExpr::new(by, ascending)])
        }
        (true, _) => builder.distinct(),
    };
    builder.build()
}

/// The parts of `frame` that row `current` sees, whose `peers` are asked for where that matters.
pub(super) fn seen(
    exclusion: FrameExclusion,
    current: usize,
    frame: Range<usize>,
    peers: impl FnOnce() -> Range<usize>,
) -> impl Iterator<Item = Range<usize>> {
    let peers = match exclusion {
        FrameExclusion::CurrentRow => current..current + 1,
        FrameExclusion::Group | FrameExclusion::Ties => peers(),
    };
    let own = match exclusion {
        FrameExclusion::Ties => current..current + 1,
        _ => current..current,
    };
    let parts = [
        frame.start..frame.end.min(peers.start),
        own.start.max(frame.start)..own.end.min(frame.end),
        frame.start.max(peers.end)..frame.end,
    ];
    parts.into_iter().filter(|part| !part.is_empty())
}

impl fmt::Debug for ForeignAggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.call.name, self.call.field.data_type())
    }
}

impl OverFunction for ForeignAggregate {
    fn name(&self) -> &str {
        &self.call.name
    }

    fn field(&self) -> FieldRef {
        Arc::clone(&self.call.field)
    }

    fn lookback(&self) -> Reach {
        self.call.lookback
    }

    fn lookahead(&self) -> Reach {
        self.call.lookahead
    }

    fn compares_keys(&self) -> bool {
        self.call.frame.compares_keys()
    }

    fn evaluate(&self, args: &[ArrayRef], filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let values = self.call.arrays(&self.call.exprs(), args, rows.new_peer.len())?;
        // A filter that is null keeps nothing.
        let mask = match filter {
            Some(filter) if filter.null_count() > 0 => Some(arrow::compute::prep_null_mask_filter(filter)),
            other => other.cloned(),
        };
        let mut results = Vec::with_capacity(rows.wanted());
        for segment in rows.segments {
            self.segment(&values, mask.as_ref(), rows, segment, &mut results)
                .map_err(|error| self.call.failed(error.strip_backtrace()))?;
        }
        self.call.result(results)
    }
}
