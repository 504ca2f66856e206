//! `OVER`: a value for each row that is made of the rows around it.
//!
//! Two operators share the functions. Where the order begins with the event time of rows that are only inserted, a row's value is
//! final as soon as the watermark has passed the rows that it is made of: rows wait in order, leave once with their values
//! ([`OverFactory::settled`]), and are kept only as far back as some frame looks. Everywhere else a new row changes the values of rows
//! that are there already: the operator keeps every row in order with its values and emits those that a step changed
//! ([`OverFactory::updating`]).
//!
//! A function says how far it looks ([`Reach`]); that alone decides what is kept, what waits, and what a change touches. It is
//! evaluated over whole columns: segments of rows of many partitions at once ([`Ordered`]).

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};

use self::running::{Running, RunningOver};
use self::settled::Settled;
use self::shelf::SortKeys;
use self::updating::Updating;
use super::{LateRows, Operator, OperatorFactory, Output, OutputWatermark};
use crate::delta::{Delta, take_batch};
use crate::error::{EngineError, Result};
use crate::keys::{GroupKeys, canonical_values};
use crate::time::{EventTimeMs, event_times_ms};

mod aggregates;
mod excluding;
mod frame;
mod functions;
pub(in crate::operator) mod kept;
mod running;
mod settled;
mod shelf;
#[cfg(test)]
mod tests;
mod updating;

pub use self::excluding::{Exclusion, excluding};
pub use self::frame::{Bound, Distance, Frame, FrameUnit, Ordered, RangeKeys, Reach, Segment};
pub use self::functions::{OverRequest, accumulated, native};
pub(in crate::operator) use self::running::Buffer;
pub(in crate::operator) use self::shelf::{Edit, Shelf, in_order_of_arrival};

/// One function of an `OVER` expression, with its arguments' types and its frame fixed.
pub trait OverFunction: Send + Sync + fmt::Debug {
    /// As shown in `EXPLAIN`.
    fn name(&self) -> &str;

    /// Name (ignored), type and nullability of the result.
    fn field(&self) -> FieldRef;

    /// Which rows before a row its value depends on.
    fn lookback(&self) -> Reach;

    /// Which rows after a row its value depends on.
    fn lookahead(&self) -> Reach;

    /// Which rows before a row have to be *given* for its value: fewer than [`lookback`](Self::lookback) says where the number of rows
    /// before a segment is all that is asked of them.
    fn context(&self) -> Reach {
        self.lookback()
    }

    /// Whether [`Segment::first`] matters.
    fn counts_rows(&self) -> bool {
        false
    }

    /// Whether [`Ordered::range`] is needed.
    fn compares_keys(&self) -> bool {
        false
    }

    /// The function's form for rows that come in order, where it has one: then it looks at no row after its own and the peers of that.
    #[doc(hidden)]
    fn running(&self) -> Option<RunningForm> {
        None
    }

    /// The values of the wanted rows of all segments, one after the other. `args` and `filter` (rows where it is false or null
    /// do not count) are columns over all rows.
    fn evaluate(&self, args: &[ArrayRef], filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef>;
}

/// What the engine's own functions are for rows that come in order.
pub struct RunningForm(Box<dyn Running>);

/// A shared function.
pub type OverFunctionRef = Arc<dyn OverFunction>;

/// One `OVER` expression of a query: a function and the input columns that it reads.
#[derive(Debug, Clone)]
pub struct OverCall {
    /// What the result is called.
    pub name: String,
    /// The function.
    pub function: OverFunctionRef,
    /// Its arguments, as columns of the operator's input.
    pub args: Vec<usize>,
    /// `FILTER (WHERE ..)`, as a boolean column of the input.
    pub filter: Option<usize>,
}

/// One key of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderKey {
    /// The column of the input.
    pub column: usize,
    /// Its direction, and where nulls are.
    pub options: SortOptions,
}

impl OrderKey {
    /// A column whose least value comes first, and nulls last.
    pub fn ascending(column: usize) -> Self {
        Self { column, options: SortOptions { descending: false, nulls_first: false } }
    }
}

/// What is computed: some calls over the same partitions in the same order.
#[derive(Debug, Clone)]
pub struct OverSpec {
    /// The rows.
    pub input: SchemaRef,
    /// Whether rows can be taken back.
    pub retracting: bool,
    /// `PARTITION BY`, as columns of the input.
    pub partition: Vec<usize>,
    /// `ORDER BY`; rows that are equal in it are peers.
    pub order: Vec<OrderKey>,
    /// A column of unsigned 64-bit numbers by which peers stand one after the other; `None`: by arrival.
    pub tie: Option<usize>,
    /// The functions.
    pub calls: Vec<OverCall>,
}

/// What makes rows final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// The order begins with their event time, ascending: a row is final with the rows that it looks at.
    Order,
    /// Their partition is part of a window: all its rows are final when the watermark reaches the window's end, and then forgotten.
    Window {
        /// A column of the input that is an event time and the same for all rows of a window.
        column: usize,
        /// What has to be added to it to have the window's last millisecond.
        shift_ms: i64,
    },
}

/// Makes the operators of an `OVER`.
pub struct OverFactory {
    plan: Arc<Plan>,
}

/// A spec with what follows from it.
#[derive(Debug)]
struct Plan {
    spec: OverSpec,
    /// `None`: values are corrected.
    finality: Option<Finality>,
    /// The columns that order keys and calls read.
    read: Vec<usize>,
    /// The input's columns, then a result a call.
    output: SchemaRef,
    compares_keys: bool,
    counts_rows: bool,
}

impl Plan {
    /// The column that says when a row becomes final, and what to add to it.
    fn time(&self) -> (usize, i64) {
        match self.finality {
            Some(Finality::Window { column, shift_ms }) => (column, shift_ms),
            _ => (self.spec.order[0].column, 0),
        }
    }

    /// Whether partitions are final as a whole.
    fn by_window(&self) -> bool {
        matches!(self.finality, Some(Finality::Window { .. }))
    }

    /// The place among the columns read of a column of the input.
    fn place(&self, column: usize) -> usize {
        self.read.iter().position(|read| *read == column).expect("it is read")
    }
}

impl OverFactory {
    /// Rows leave once, when the watermark makes their values final: the input's columns, then the results. Late are rows whose time
    /// lies before the watermark at the step's start, and those without one.
    ///
    /// # Errors
    /// Keys that cannot be compared; a call whose values are never final before the input ends is no error.
    pub fn settled(spec: OverSpec, finality: Finality) -> Result<Self> {
        if finality == Finality::Order && spec.order.first().is_none_or(|key| key.options.descending) {
            return Err(EngineError::bug("rows become final in the order of their event time only"));
        }
        Self::new(spec, Some(finality))
    }

    /// Rows leave at once and are replaced when their values change: the input's columns, then the results, with weights.
    ///
    /// # Errors
    /// Keys that cannot be compared; where rows can be taken back, any column that cannot.
    pub fn updating(spec: OverSpec) -> Result<Self> {
        Self::new(spec, None)
    }

    fn new(spec: OverSpec, finality: Option<Finality>) -> Result<Self> {
        let mut read: Vec<usize> = spec.order.iter().map(|key| key.column).collect();
        for call in &spec.calls {
            read.extend(call.args.iter().chain(&call.filter));
        }
        read.sort_unstable();
        read.dedup();
        let mut fields: Vec<FieldRef> = spec.input.fields().iter().cloned().collect();
        for call in &spec.calls {
            fields.push(Arc::new(call.function.field().as_ref().clone().with_name(&call.name)));
        }
        let calls = || spec.calls.iter().map(|call| &call.function);
        let plan = Plan {
            read,
            output: Arc::new(Schema::new(fields)),
            compares_keys: calls().any(|function| {
                let by_key = |reach| matches!(reach, Reach::Range(_) | Reach::Session(_));
                function.compares_keys() || by_key(function.lookback()) || by_key(function.lookahead())
            }),
            counts_rows: calls().any(|function| function.counts_rows()),
            finality,
            spec,
        };
        GroupKeys::new(plan.partition_types())?;
        SortKeys::new(&plan.spec)?;
        if plan.compares_keys {
            let key = plan.spec.order.first().map(|key| plan.spec.input.field(key.column).data_type());
            if !key.is_some_and(RangeKeys::supports) {
                return Err(EngineError::bug(format!("a RANGE frame with an offset over {key:?}")));
            }
        }
        Ok(Self { plan: Arc::new(plan) })
    }

    /// How long after the watermark has passed its time a row leaves; `None`: rows to come may hold it back for as long as they like, or values
    /// are corrected.
    pub fn delay_ms(&self) -> Option<i64> {
        self.plan.finality.filter(|finality| *finality == Finality::Order)?;
        let delay = |call: &OverCall| match call.function.lookahead() {
            Reach::Rows(0) | Reach::Groups(0) => Some(0),
            Reach::Range(Distance::Count(units)) => i64::try_from(self.plan.milliseconds(units)).ok(),
            _ => None,
        };
        self.plan.spec.calls.iter().map(delay).try_fold(0, |most, delay| Some(delay?.max(most)))
    }

    /// Whether rows are kept only where a sliding frame holds them: all calls have a [running form](OverFunction::running).
    pub fn is_running(&self) -> bool {
        self.plan.finality.is_some() && RunningOver::new(&self.plan).is_ok_and(|running| running.is_some())
    }

    /// The input's columns, then one result a call.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl Plan {
    fn partition_types(&self) -> Vec<arrow::datatypes::DataType> {
        let of = |column: &usize| self.spec.input.field(*column).data_type().clone();
        self.spec.partition.iter().map(of).collect()
    }
}

impl Plan {
    /// By how much two times of the first order key may be further apart, or nearer, in milliseconds than they are: these are floored.
    fn floored_ms(&self) -> u64 {
        use arrow::datatypes::{DataType, TimeUnit};
        let data_type = self.spec.input.field(self.spec.order[0].column).data_type();
        u64::from(matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)))
    }

    /// Units of the first order key as milliseconds, rounded up.
    fn milliseconds(&self, units: u64) -> u64 {
        use arrow::datatypes::{DataType, TimeUnit};
        match self.spec.input.field(self.spec.order[0].column).data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => units.saturating_mul(1_000),
            DataType::Timestamp(TimeUnit::Microsecond, _) => units.div_ceil(1_000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => units.div_ceil(1_000_000),
            DataType::Date32 => units.saturating_mul(86_400_000),
            _ => units,
        }
    }
}

impl OverSpec {
    /// The order in which rows stand: that of the query, then that of ties.
    fn total_order(&self) -> Vec<OrderKey> {
        self.order.iter().copied().chain(self.tie.map(OrderKey::ascending)).collect()
    }
}

/// What makes rows of `schema` comparable by `order`.
///
/// # Errors
/// A type that has no order.
pub(in crate::operator) fn row_converter(schema: &Schema, order: &[OrderKey]) -> Result<RowConverter> {
    let field = |key: &OrderKey| SortField::new_with_options(schema.field(key.column).data_type().clone(), key.options);
    Ok(RowConverter::new(order.iter().map(field).collect())?)
}

/// Rows in the order of milliseconds and arrival, in that of the query, which `converter` compares.
pub(in crate::operator) fn in_order(
    batch: RecordBatch,
    order: &[OrderKey],
    converter: &RowConverter,
) -> Result<RecordBatch> {
    // Of no columns the converter makes no rows that could be compared.
    if order.is_empty() {
        return Ok(batch);
    }
    let columns: Vec<ArrayRef> = order.iter().map(|key| Arc::clone(batch.column(key.column))).collect();
    match order_of(&columns, converter)? {
        None => Ok(batch),
        Some(order) => Ok(take_batch(&batch, &UInt32Array::from(order))?),
    }
}

/// The rows of columns in the order that `converter` has; `None`: they are in it.
pub(in crate::operator) fn order_of(columns: &[ArrayRef], converter: &RowConverter) -> Result<Option<Vec<u32>>> {
    let columns: Vec<ArrayRef> = columns.iter().map(canonical_values).collect();
    let keys = converter.convert_columns(&columns)?;
    let mut order: Vec<u32> = (0..keys.num_rows() as u32).collect();
    if order.windows(2).all(|pair| keys.row(pair[0] as usize) <= keys.row(pair[1] as usize)) {
        return Ok(None);
    }
    order.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    Ok(Some(order))
}

/// The rows that are not late.
///
/// `column` holds the time by which they are judged, after adding `shift_ms`.
pub(in crate::operator) fn judge(
    (column, shift_ms): (usize, i64),
    deltas: Vec<Delta>,
    watermark: EventTimeMs,
    out: &mut Output,
) -> Result<Vec<Delta>> {
    let mut judged = Vec::with_capacity(deltas.len());
    for delta in deltas.into_iter().filter(|delta| !delta.is_empty()) {
        let times = event_times_ms(delta.batch.column(column))?;
        let is_late = |time: Option<i64>| time.is_none_or(|time| time + shift_ms < watermark);
        if !times.iter().any(is_late) {
            judged.push(delta);
            continue;
        }
        let late: BooleanArray = times.iter().map(|time| Some(is_late(time))).collect();
        let Delta { batch: rows, weights, .. } = delta.filter(&late)?;
        let event_times: Vec<i64> =
            times.iter().filter(|time| is_late(*time)).map(|time| time.unwrap_or(i64::MIN)).collect();
        let windows_missed = vec![1; event_times.len()];
        out.late(LateRows { input: None, rows, weights, event_times, windows_missed, watermark });
        let kept = delta.filter(&arrow::compute::not(&late)?)?;
        if !kept.is_empty() {
            judged.push(kept);
        }
    }
    Ok(judged)
}

impl OperatorFactory for OverFactory {
    fn name(&self) -> &'static str {
        "Over"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(match self.plan.finality {
            Some(_) => match RunningOver::new(&self.plan)? {
                Some(running) => Box::new(running),
                None => Box::new(Settled::new(&self.plan)?),
            },
            None => Box::new(Updating::new(&self.plan)?),
        })
    }

    fn output_watermark(&self) -> OutputWatermark {
        OutputWatermark::Behind(self.delay_ms().unwrap_or(0))
    }
}
