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

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use self::settled::Settled;
use self::shelf::SortKeys;
use self::updating::Updating;
use super::{Operator, OperatorFactory};
use crate::error::{EngineError, Result};
use crate::keys::GroupKeys;

mod aggregates;
mod frame;
mod functions;
mod settled;
mod shelf;
#[cfg(test)]
mod tests;
mod updating;

pub use self::frame::{Bound, Distance, Frame, FrameUnit, Ordered, RangeKeys, Reach, Segment};
pub use self::functions::{OverRequest, native};

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

    /// The values of the wanted rows of all segments, one after the other. `args` and `filter` (rows where it is false or null
    /// do not count) are columns over all rows.
    fn evaluate(&self, args: &[ArrayRef], filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef>;
}

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

/// What is computed: some calls over the same partitions in the same order.
#[derive(Debug, Clone)]
pub struct OverSpec {
    /// The rows.
    pub input: SchemaRef,
    /// Whether rows can be taken back.
    pub retracting: bool,
    /// `PARTITION BY`, as columns of the input.
    pub partition: Vec<usize>,
    /// `ORDER BY`; rows that are equal in it are in order of arrival.
    pub order: Vec<OrderKey>,
    /// The functions.
    pub calls: Vec<OverCall>,
}

/// Makes the operators of an `OVER`.
pub struct OverFactory {
    plan: Arc<Plan>,
    settled: bool,
}

/// A spec with what follows from it.
#[derive(Debug)]
struct Plan {
    spec: OverSpec,
    /// The columns that order keys and calls read.
    read: Vec<usize>,
    /// The input's columns, then a result a call.
    output: SchemaRef,
    compares_keys: bool,
    counts_rows: bool,
}

impl Plan {
    /// The place among the columns read of a column of the input.
    fn place(&self, column: usize) -> usize {
        self.read.iter().position(|read| *read == column).expect("it is read")
    }
}

impl OverFactory {
    /// Rows leave once, when the watermark makes their values final: the input's columns, then the results. The first order key is the
    /// event time, ascending. Late are rows before the watermark at the step's start, and those without an event time.
    ///
    /// # Errors
    /// Keys that cannot be compared; a call whose values are never final before the input ends is no error.
    pub fn settled(spec: OverSpec) -> Result<Self> {
        if spec.order.first().is_none_or(|key| key.options.descending) {
            return Err(EngineError::bug("rows become final in the order of their event time only"));
        }
        Self::new(spec, true)
    }

    /// Rows leave at once and are replaced when their values change: the input's columns, then the results, with weights.
    ///
    /// # Errors
    /// Keys that cannot be compared; where rows can be taken back, any column that cannot.
    pub fn updating(spec: OverSpec) -> Result<Self> {
        Self::new(spec, false)
    }

    fn new(spec: OverSpec, settled: bool) -> Result<Self> {
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
                let by_key = |reach| matches!(reach, Reach::Range(_));
                function.compares_keys() || by_key(function.lookback()) || by_key(function.lookahead())
            }),
            counts_rows: calls().any(|function| function.counts_rows()),
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
        Ok(Self { plan: Arc::new(plan), settled })
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

impl OperatorFactory for OverFactory {
    fn name(&self) -> &'static str {
        "Over"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(match self.settled {
            true => Box::new(Settled::new(&self.plan)?),
            false => Box::new(Updating::new(&self.plan)?),
        })
    }
}
