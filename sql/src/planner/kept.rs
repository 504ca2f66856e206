//! Any aggregate function over rows that can be taken back: the rows of each group are kept, counted, and aggregated anew when asked.
//!
//! DataFusion's accumulators cannot give back a row in general, and their states cannot be subtracted. What can be subtracted is the
//! *multiset* of rows: rows of weight -1 that reach a local phase before the row that they take back just stand there with a negative
//! count until the global phase adds them up. The key is the row in arrow's row format, what the aggregate orders by first, so that
//! the rows of a group come out in that order. The price is that an answer costs the rows of the group; functions that can do better are
//! among the engine's own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Builder, ListArray, ListBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use eagre_engine::aggregate::{Accumulators, AggregateFunction, RowInfo, Slots};
use eagre_engine::keys::canonical_values;
use eagre_engine::{EngineError, Result};

use super::accumulators::{Arg, Foreign, ForeignSpec};
use crate::error::{Result as SqlResult, SqlError};
use crate::words::own_words;

/// A function of DataFusion's over rows that can be taken back.
pub(super) struct Kept {
    name: String,
    expr: Arc<AggregateFunctionExpr>,
    spec: Arc<ForeignSpec>,
}

impl Kept {
    /// `spec` must not order by arrival: a row that is taken back has no arrival number.
    pub(super) fn new(spec: ForeignSpec) -> SqlResult<Self> {
        debug_assert!(!spec.by_arrival);
        let foreign = Foreign::new(spec)?;
        let (expr, spec) = foreign.into_parts();
        let kept = Self { name: spec.function.name().to_string(), expr, spec };
        kept.converter().map_err(|error| {
            SqlError::unsupported(
                format!("`{}` over rows that can be taken back", kept.name),
                format!("its arguments cannot be compared: {error}"),
                None,
            )
        })?;
        Ok(kept)
    }

    fn converter(&self) -> Result<RowConverter> {
        let ordered = self
            .spec
            .order
            .iter()
            .map(|key| SortField::new_with_options(self.spec.columns[key.column].data_type().clone(), key.options));
        let columns = self.spec.columns.iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(RowConverter::new(ordered.chain(columns).collect())?)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of kept rows -> {}", self.name, self.expr.field().data_type())
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Binary, false))
}

fn count() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Int64, false))
}

impl AggregateFunction for Kept {
    fn name(&self) -> &str {
        &self.name
    }

    fn create(&self) -> Result<Box<dyn Accumulators>> {
        Ok(Box::new(KeptRows {
            expr: Arc::clone(&self.expr),
            spec: Arc::clone(&self.spec),
            converter: self.converter()?,
            slots: vec![],
            bytes: 0,
        }))
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("rows", DataType::List(item()), false), Field::new("weights", DataType::List(count()), false)]
    }

    fn return_field(&self) -> FieldRef {
        Arc::new(self.expr.field().as_ref().clone().with_nullable(true))
    }

    fn supports_retraction(&self) -> bool {
        true
    }
}

/// The rows of each slot with their weights, none of which is zero.
struct KeptRows {
    expr: Arc<AggregateFunctionExpr>,
    spec: Arc<ForeignSpec>,
    converter: RowConverter,
    slots: Vec<BTreeMap<Box<[u8]>, i64>>,
    /// What the rows hold, about.
    bytes: usize,
}

/// What an entry costs besides its bytes, about.
const ENTRY_BYTES: usize = 40;

impl KeptRows {
    fn failed(&self, error: impl fmt::Display) -> EngineError {
        EngineError::evaluate(self.expr.name(), own_words(&error.to_string()))
    }

    fn add(&mut self, slot: u32, row: &[u8], weight: i64) {
        let rows = &mut self.slots[slot as usize];
        match rows.get_mut(row) {
            Some(known) if *known + weight == 0 => {
                rows.remove(row);
                self.bytes -= row.len() + ENTRY_BYTES;
            }
            Some(known) => *known += weight,
            None => {
                rows.insert(row.into(), weight);
                self.bytes += row.len() + ENTRY_BYTES;
            }
        }
    }

    fn result_of(&self, slot: usize) -> Result<ScalarValue> {
        let mut accumulator = self.expr.create_accumulator().map_err(|error| self.failed(error))?;
        let rows = self.slots.get(slot).into_iter().flatten().filter(|(_, weight)| **weight > 0);
        let parser = self.converter.parser();
        let repeated = rows.flat_map(|(row, weight)| std::iter::repeat_n(row, *weight as usize));
        let columns = self.converter.convert_rows(repeated.map(|row| parser.parse(row)))?;
        let columns = &columns[self.spec.order.len()..];
        let count = columns.first().map_or(0, |column| column.len());
        if count > 0 {
            let mut args = vec![];
            for arg in &self.spec.args {
                args.push(match arg {
                    Arg::Column(index) => Arc::clone(&columns[*index]),
                    Arg::Literal(value) => value.to_array_of_size(count).map_err(|error| self.failed(error))?,
                });
            }
            args.extend(self.spec.order.iter().map(|key| Arc::clone(&columns[key.column])));
            accumulator.update_batch(&args).map_err(|error| self.failed(error))?;
        }
        accumulator.evaluate().map_err(|error| self.failed(error))
    }
}

impl Accumulators for KeptRows {
    fn resize(&mut self, count: usize) {
        if count > self.slots.len() {
            self.slots.resize_with(count, BTreeMap::new);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let ordered = self.spec.order.iter().map(|key| canonical_values(&args[key.column]));
        let columns: Vec<ArrayRef> = ordered.chain(args.iter().cloned()).collect();
        let encoded = self.converter.convert_columns(&columns)?;
        for (row, slot) in slots.iter().enumerate() {
            if rows.filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                continue;
            }
            let weight = rows.weights.map_or(1, |weights| weights.value(row));
            self.add(*slot, encoded.row(row).as_ref(), weight);
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let list = |column: &ArrayRef| column.as_list_opt::<i32>().cloned();
        let (Some(rows), Some(weights)) = (list(&state[0]), list(&state[1])) else {
            return Err(EngineError::bug("the state of kept rows is no list"));
        };
        for (index, slot) in slots.iter().enumerate() {
            if rows.is_null(index) {
                continue;
            }
            let (rows, weights) = (rows.value(index), weights.value(index));
            let weights = weights.as_primitive::<Int64Type>();
            for (row, weight) in rows.as_binary::<i32>().iter().zip(weights.values()) {
                self.add(*slot, row.unwrap_or_default(), *weight);
            }
        }
        Ok(())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let mut rows = ListBuilder::new(BinaryBuilder::new()).with_field(item());
        let mut weights = ListBuilder::new(Int64Builder::new()).with_field(count());
        for slot in slots.iter() {
            for (row, weight) in self.slots.get(slot).into_iter().flatten() {
                rows.values().append_value(row);
                weights.values().append_value(*weight);
            }
            rows.append(true);
            weights.append(true);
        }
        let (rows, weights): (ListArray, ListArray) = (rows.finish(), weights.finish());
        Ok(vec![Arc::new(rows), Arc::new(weights)])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let results = slots.iter().map(|slot| self.result_of(slot)).collect::<Result<Vec<_>>>()?;
        let data_type = self.expr.field().data_type().clone();
        if results.is_empty() {
            return Ok(arrow::array::new_empty_array(&data_type));
        }
        let array = ScalarValue::iter_to_array(results).map_err(|error| self.failed(error))?;
        match *array.data_type() == data_type {
            true => Ok(array),
            false => Ok(arrow::compute::cast(&array, &data_type)?),
        }
    }

    fn clear(&mut self, slots: Slots<'_>) {
        for slot in slots.iter() {
            if let Some(rows) = self.slots.get_mut(slot) {
                self.bytes -= rows.keys().map(|row| row.len() + ENTRY_BYTES).sum::<usize>();
                rows.clear();
            }
        }
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.slots.len() * size_of::<BTreeMap<Box<[u8]>, i64>>()
    }
}
