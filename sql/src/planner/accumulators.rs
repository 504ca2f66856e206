//! DataFusion's aggregate functions behind the engine's trait, for those that the engine has none of its own for.
//!
//! DataFusion gives one accumulator for one group. Its `state` and, for some functions, `evaluate` consume what they read, while ours
//! must not; so both read from the state and build the accumulator anew from it. Functions whose result depends on the order of rows
//! get an ordering that is total: what the user wrote, then the arrival number; a batch is put in order and merged as a state of its
//! own, so neither batching nor sharding shows in the result. Where rows have no arrival number the value itself takes its place.
//!
//! Rows cannot be taken back from these accumulators: states travel between a local and a global phase, and a state that had rows taken
//! out which it never had means nothing. Where rows can be taken back the planner has them kept ([`super::kept`]).

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunctionParams, Sort};
use datafusion::logical_expr::{Accumulator, AggregateUDF, Expr as LogicalExpr};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use eagre_engine::aggregate::{Accumulators, AggregateFunction, RowInfo, Slots};
use eagre_engine::keys::canonical_values;
use eagre_engine::{EngineError, Result};

use super::aggregate::ORDERED_FUNCTIONS;
use super::expr::strip_alias;
use crate::error::Result as SqlResult;
use crate::words::own_words;

/// Where an argument of the function comes from.
#[derive(Debug, Clone)]
pub(super) enum Arg {
    /// This column among those that the call reads.
    Column(usize),
    /// A constant: some functions need to see that it is one.
    Literal(ScalarValue),
}

/// One key of an aggregate's order.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// The column among those that the call reads.
    pub(super) column: usize,
    pub(super) options: SortOptions,
}

/// The order in which a call takes its values. One that takes each of them once and does not go by their order has none: DataFusion's would take the
/// keys of the order for values.
pub(super) fn order_of<'a>(function: &AggregateUDF, params: &'a AggregateFunctionParams) -> &'a [Sort] {
    let goes_by_it = ORDERED_FUNCTIONS.contains(&function.name()) || function.supports_within_group_clause();
    if params.distinct && !goes_by_it { &[] } else { &params.order_by }
}

/// Where the arguments of a call and the keys of its order come from; `add` gives an expression its column among those that the call reads.
///
/// # Errors
/// Those of `add`.
pub(super) fn args_and_order(
    function: &AggregateUDF,
    params: &AggregateFunctionParams,
    mut add: impl FnMut(&LogicalExpr) -> SqlResult<usize>,
) -> SqlResult<(Vec<Arg>, Vec<Order>)> {
    let mut args = vec![];
    for arg in &params.args {
        args.push(match strip_alias(arg) {
            LogicalExpr::Literal(value, _) => Arg::Literal(value.clone()),
            arg => Arg::Column(add(arg)?),
        });
    }
    let mut order = vec![];
    for sort in order_of(function, params) {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        let argument = params.args.iter().zip(&args).find_map(|(arg, place)| match place {
            Arg::Column(place) if arg == &sort.expr => Some(*place),
            _ => None,
        });
        let column = match argument {
            Some(place) => place,
            None => add(&sort.expr)?,
        };
        order.push(Order { column, options });
    }
    Ok((args, order))
}

/// What is wrapped.
pub(super) struct ForeignSpec {
    pub(super) function: Arc<AggregateUDF>,
    pub(super) args: Vec<Arg>,
    /// The columns that the call reads: arguments, then keys of the order.
    pub(super) columns: Vec<FieldRef>,
    pub(super) order: Vec<Order>,
    /// Whether the arrival number is the last key of the order.
    pub(super) by_arrival: bool,
    pub(super) distinct: bool,
    pub(super) ignore_nulls: bool,
}

/// A function of DataFusion's.
pub(super) struct Foreign {
    name: String,
    expr: Arc<AggregateFunctionExpr>,
    spec: Arc<ForeignSpec>,
    state_fields: Vec<Field>,
}

impl Foreign {
    pub(super) fn new(spec: ForeignSpec) -> SqlResult<Self> {
        let mut fields: Vec<Field> = spec.columns.iter().map(|field| field.as_ref().clone()).collect();
        // Names are told apart by their place.
        for (index, field) in fields.iter_mut().enumerate() {
            field.set_name(format!("c{index}"));
        }
        let ordinal = fields.len();
        if spec.by_arrival {
            fields.push(Field::new("ordinal", DataType::UInt64, false));
        }
        let column = |index: usize| Arc::new(Column::new(fields[index].name(), index)) as Arc<dyn PhysicalExpr>;
        let args = spec.args.iter().map(|arg| match arg {
            Arg::Column(index) => column(*index),
            Arg::Literal(value) => Arc::new(Literal::new(value.clone())) as Arc<dyn PhysicalExpr>,
        });
        let args: Vec<_> = args.collect();
        let mut order: Vec<_> =
            spec.order.iter().map(|key| PhysicalSortExpr { expr: column(key.column), options: key.options }).collect();
        if spec.by_arrival {
            order.push(PhysicalSortExpr { expr: column(ordinal), options: arrow::compute::SortOptions::default() });
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields.clone()));
        let expr = AggregateExprBuilder::new(Arc::clone(&spec.function), args)
            .schema(schema)
            .order_by(order)
            .alias(spec.function.name())
            .with_distinct(spec.distinct)
            .with_ignore_nulls(spec.ignore_nulls)
            .build()?;
        let mut state_fields: Vec<_> = expr.state_fields()?.iter().map(|field| field.as_ref().clone()).collect();
        for (index, field) in state_fields.iter_mut().enumerate() {
            *field = Field::new(format!("state{index}"), field.data_type().clone(), true);
        }
        // Fails now rather than in the first step.
        expr.create_accumulator()?;
        let distinct = if spec.distinct { "(DISTINCT)" } else { "" };
        let name = format!("{}{distinct}", spec.function.name());
        Ok(Self { name, expr: Arc::new(expr), spec: Arc::new(spec), state_fields })
    }
}

impl Foreign {
    /// The function as DataFusion builds it, and what was asked for.
    pub(super) fn into_parts(self) -> (Arc<AggregateFunctionExpr>, Arc<ForeignSpec>) {
        (self.expr, self.spec)
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.name, self.expr.field().data_type())
    }
}

impl AggregateFunction for Foreign {
    fn name(&self) -> &str {
        &self.name
    }

    fn create(&self) -> Result<Box<dyn Accumulators>> {
        Ok(Box::new(ForeignAccumulators {
            expr: Arc::clone(&self.expr),
            spec: Arc::clone(&self.spec),
            slots: vec![],
            bytes: 0,
        }))
    }

    fn state_fields(&self) -> Vec<Field> {
        self.state_fields.clone()
    }

    fn return_field(&self) -> FieldRef {
        Arc::new(self.expr.field().as_ref().clone().with_nullable(true))
    }

    fn supports_retraction(&self) -> bool {
        false
    }
}

/// One boxed accumulator a slot; `None`: empty.
struct ForeignAccumulators {
    expr: Arc<AggregateFunctionExpr>,
    spec: Arc<ForeignSpec>,
    slots: Vec<Option<Box<dyn Accumulator>>>,
    bytes: usize,
}

impl ForeignAccumulators {
    fn failed(&self, error: impl fmt::Display) -> EngineError {
        EngineError::evaluate(self.expr.name(), own_words(&error.to_string()))
    }

    fn fresh(&self) -> Result<Box<dyn Accumulator>> {
        self.expr.create_accumulator().map_err(|error| self.failed(error))
    }

    /// The state of an accumulator as arrays of one row.
    fn state_of(&self, accumulator: &mut Box<dyn Accumulator>) -> Result<Vec<ScalarValue>> {
        accumulator.state().map_err(|error| self.failed(error))
    }

    fn rebuilt(&self, state: &[ScalarValue]) -> Result<Box<dyn Accumulator>> {
        let mut accumulator = self.fresh()?;
        let arrays = state.iter().map(ScalarValue::to_array).collect::<datafusion::common::Result<Vec<_>>>();
        let arrays = arrays.map_err(|error| self.failed(error))?;
        accumulator.merge_batch(&arrays).map_err(|error| self.failed(error))?;
        Ok(accumulator)
    }

    /// The state of a slot, which stays as it is; `None` for an empty slot.
    fn keep_state(&mut self, slot: usize) -> Result<Option<Vec<ScalarValue>>> {
        let Some(mut accumulator) = self.slots.get_mut(slot).and_then(Option::take) else {
            return Ok(None);
        };
        let state = self.state_of(&mut accumulator)?;
        self.slots[slot] = Some(self.rebuilt(&state)?);
        Ok(Some(state))
    }

    /// Hands `columns` to the slots that their rows belong to.
    fn scatter(
        &mut self,
        slots: &[u32],
        rows: &UInt32Array,
        columns: &[ArrayRef],
        mut apply: impl FnMut(&Self, &mut Box<dyn Accumulator>, &[ArrayRef]) -> Result<()>,
    ) -> Result<()> {
        let columns = columns.iter().map(|column| take(column, rows, None)).collect::<Result<Vec<_>, _>>()?;
        let mut start = 0;
        while start < rows.len() {
            let slot = slots[rows.value(start) as usize];
            let mut end = start + 1;
            while end < rows.len() && slots[rows.value(end) as usize] == slot {
                end += 1;
            }
            let part: Vec<_> = columns.iter().map(|column| column.slice(start, end - start)).collect();
            let mut accumulator = match self.slots[slot as usize].take() {
                Some(accumulator) => {
                    self.bytes = self.bytes.saturating_sub(accumulator.size());
                    accumulator
                }
                None => self.fresh()?,
            };
            apply(self, &mut accumulator, &part)?;
            self.bytes += accumulator.size();
            self.slots[slot as usize] = Some(accumulator);
            start = end;
        }
        Ok(())
    }
}

impl Accumulators for ForeignAccumulators {
    fn resize(&mut self, count: usize) {
        if count > self.slots.len() {
            self.slots.resize_with(count, || None);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        if rows.weights.is_some_and(|weights| weights.values().iter().any(|weight| *weight != 1)) {
            return Err(EngineError::bug(format!("rows with weights reached `{}`", self.expr.name())));
        }
        let count = slots.len();
        let mut columns = vec![];
        for arg in &self.spec.args {
            columns.push(match arg {
                // Values are told apart as groups are.
                Arg::Column(index) if self.spec.distinct => canonical_values(&args[*index]),
                Arg::Column(index) => Arc::clone(&args[*index]),
                Arg::Literal(value) => value.to_array_of_size(count).map_err(|error| self.failed(error))?,
            });
        }
        let order_start = columns.len();
        let mut order: Vec<_> =
            self.spec.order.iter().map(|key| (canonical_values(&args[key.column]), key.options)).collect();
        if self.spec.by_arrival {
            let ordinals =
                rows.ordinals.ok_or_else(|| EngineError::bug("an ordered aggregate without arrival numbers"))?;
            order.push((Arc::new(ordinals.clone()), arrow::compute::SortOptions::default()));
        }
        columns.extend(order.iter().map(|(column, _)| Arc::clone(column)));
        // In the order of slots, and within a slot in the aggregate's order.
        let slot_column: ArrayRef = Arc::new(UInt32Array::from(slots.to_vec()));
        let mut sort = vec![SortColumn { values: slot_column, options: None }];
        sort.extend(
            order.iter().map(|(values, options)| SortColumn { values: Arc::clone(values), options: Some(*options) }),
        );
        let indices = lexsort_to_indices(&sort, None)?;
        let indices = match rows.filter {
            Some(filter) => {
                let kept = indices.values().iter().copied();
                let kept = kept.filter(|row| filter.is_valid(*row as usize) && filter.value(*row as usize));
                UInt32Array::from_iter_values(kept)
            }
            None => indices,
        };
        let ordered = columns.len() > order_start;
        self.scatter(slots, &indices, &columns, |this, accumulator, part| {
            if !ordered {
                return accumulator.update_batch(part).map_err(|error| this.failed(error));
            }
            let mut fresh = this.fresh()?;
            fresh.update_batch(part).map_err(|error| this.failed(error))?;
            let state = this.state_of(&mut fresh)?;
            let state = state.iter().map(ScalarValue::to_array).collect::<datafusion::common::Result<Vec<_>>>();
            let state = state.map_err(|error| this.failed(error))?;
            accumulator.merge_batch(&state).map_err(|error| this.failed(error))
        })
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        // A stable order, so that equal input merges equally. A group whose rows were all filtered out brings nothing.
        let mut indices: Vec<u32> =
            (0..slots.len() as u32).filter(|row| state.iter().any(|column| !column.is_null(*row as usize))).collect();
        indices.sort_by_key(|row| slots[*row as usize]);
        self.scatter(slots, &UInt32Array::from(indices), state, |this, accumulator, part| {
            accumulator.merge_batch(part).map_err(|error| this.failed(error))
        })
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let fields = self.expr.state_fields().map_err(|error| self.failed(error))?;
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(slots.count()); fields.len()];
        for slot in slots.iter() {
            match self.keep_state(slot)? {
                Some(state) => columns.iter_mut().zip(state).for_each(|(column, value)| column.push(value)),
                None => {
                    for (column, field) in columns.iter_mut().zip(&fields) {
                        let null = ScalarValue::try_from(field.data_type()).map_err(|error| self.failed(error))?;
                        column.push(null);
                    }
                }
            }
        }
        let arrays = columns.into_iter().zip(&fields).map(|(column, field)| self.to_array(column, field.data_type()));
        arrays.collect()
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let mut results = Vec::with_capacity(slots.count());
        for slot in slots.iter() {
            let mut accumulator = match self.keep_state(slot)? {
                Some(state) => self.rebuilt(&state)?,
                None => self.fresh()?,
            };
            results.push(accumulator.evaluate().map_err(|error| self.failed(error))?);
        }
        let data_type = self.expr.field().data_type().clone();
        self.to_array(results, &data_type)
    }

    fn clear(&mut self, slots: Slots<'_>) {
        for slot in slots.iter() {
            if let Some(accumulator) = self.slots.get_mut(slot).and_then(Option::take) {
                self.bytes = self.bytes.saturating_sub(accumulator.size());
            }
        }
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.slots.len() * size_of::<Option<Box<dyn Accumulator>>>()
    }
}

impl ForeignAccumulators {
    fn to_array(&self, values: Vec<ScalarValue>, data_type: &DataType) -> Result<ArrayRef> {
        if values.is_empty() {
            return Ok(arrow::array::new_empty_array(data_type));
        }
        let array = ScalarValue::iter_to_array(values).map_err(|error| self.failed(error))?;
        match array.data_type() == data_type {
            true => Ok(array),
            false => Ok(arrow::compute::cast(&array, data_type)?),
        }
    }
}
