//! `min`, `max`, `first_value` and `last_value` where rows can be taken back: all values of a group in order, each with its weight.
//!
//! Values are kept in arrow's row format, whose bytes compare as the values do. First and last put the arrival number before the
//! value; so all four are "the first or the last entry with a positive weight". A partial state may hold negative weights: what was
//! inserted elsewhere is taken back here, and the merge brings them together. A row that is taken back comes with an arrival number
//! of its own: it stands for the first of the rows with its value, which is looked for once all parts are together, so that neither
//! batching nor sharding shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, UInt64Array, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use arrow_row::{RowConverter, SortField};

use super::first_last::decode_rows;
use super::row_extremes::ascending;
use super::select::Selection;
use super::{Accumulators, RowInfo, Slots};
use crate::error::{EngineError, Result};
use crate::keys::{canonical_values, with_types};

/// A counted ordered multiset for each slot.
pub(crate) struct Multisets {
    sets: Vec<BTreeMap<Box<[u8]>, i64>>,
    /// Whether a set has, or may have, negative weights.
    open: Vec<bool>,
    bytes: usize,
    converter: RowConverter,
    data_type: DataType,
    /// Ordered by arrival, else by value.
    by_arrival: bool,
    /// The last entry is the answer, else the first.
    last: bool,
}

impl Multisets {
    pub(crate) fn new(data_type: DataType, by_arrival: bool, last: bool) -> Result<Self> {
        let mut fields = vec![ascending(&data_type)];
        if by_arrival {
            fields.insert(0, SortField::new(DataType::UInt64));
        }
        Ok(Self {
            sets: Vec::new(),
            open: Vec::new(),
            bytes: 0,
            converter: RowConverter::new(fields)?,
            data_type,
            by_arrival,
            last,
        })
    }

    /// The type of the state column.
    pub(crate) fn state_type(data_type: &DataType, by_arrival: bool) -> DataType {
        DataType::List(state_item(data_type, by_arrival))
    }

    fn take_in(&mut self, slots: &[u32], columns: &[ArrayRef], selection: &Selection<'_>) -> Result<()> {
        let encoded = self.converter.convert_columns(columns)?;
        selection.each(slots.len(), |row, weight| {
            let slot = slots[row] as usize;
            let set = &mut self.sets[slot];
            self.open[slot] |= weight < 0;
            let key = encoded.row(row);
            match set.get_mut(key.data()) {
                Some(count) => {
                    *count += weight;
                    if *count == 0 {
                        set.remove(key.data());
                        self.bytes -= entry_bytes(key.data());
                    }
                }
                None => {
                    set.insert(key.data().into(), weight);
                    self.bytes += entry_bytes(key.data());
                }
            }
        });
        Ok(())
    }

    /// Lets each row that was taken back take the first with its value along. What came nowhere yet stays, with its negative weight.
    fn settle(&mut self, slot: usize) {
        if !std::mem::take(&mut self.open[slot]) {
            return;
        }
        let set = &mut self.sets[slot];
        let mut missing: BTreeMap<Box<[u8]>, i64> = BTreeMap::new();
        for (key, weight) in set.iter().filter(|(_, weight)| **weight < 0) {
            *missing.entry(key[ORDINAL_BYTES..].into()).or_default() -= weight;
        }
        if missing.is_empty() {
            return;
        }
        let mut given: BTreeMap<Box<[u8]>, i64> = BTreeMap::new();
        for (key, weight) in set.iter_mut().filter(|(_, weight)| **weight > 0) {
            let value = &key[ORDINAL_BYTES..];
            if let Some(open) = missing.get_mut(value).filter(|open| **open > 0) {
                let taken = (*weight).min(*open);
                *weight -= taken;
                *open -= taken;
                *given.entry(value.into()).or_default() += taken;
            }
        }
        for (key, weight) in set.iter_mut().filter(|(_, weight)| **weight < 0) {
            if let Some(rest) = given.get_mut(&key[ORDINAL_BYTES..]) {
                let paid = (-*weight).min(*rest);
                *weight += paid;
                *rest -= paid;
            }
        }
        let mut freed = 0;
        set.retain(|key, weight| {
            freed += if *weight == 0 { entry_bytes(key) } else { 0 };
            self.open[slot] |= *weight < 0;
            *weight != 0
        });
        self.bytes -= freed;
    }
}

/// What the arrival number before a value takes in the row format: a mark for nulls, and the number.
const ORDINAL_BYTES: usize = 1 + size_of::<u64>();

/// What an entry costs, about.
fn entry_bytes(key: &[u8]) -> usize {
    key.len() + 48
}

fn state_item(data_type: &DataType, by_arrival: bool) -> Arc<Field> {
    let mut fields = Vec::new();
    if by_arrival {
        fields.push(Field::new("ordinal", DataType::UInt64, false));
    }
    fields.push(Field::new("value", data_type.clone(), true));
    fields.push(Field::new("weight", DataType::Int64, false));
    Arc::new(Field::new("item", DataType::Struct(Fields::from(fields)), false))
}

impl Accumulators for Multisets {
    fn resize(&mut self, count: usize) {
        if count > self.sets.len() {
            self.sets.resize_with(count, BTreeMap::new);
            self.open.resize(count, false);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let value = if args[0].data_type() == &self.data_type {
            Arc::clone(&args[0])
        } else {
            cast(&args[0], &self.data_type)?
        };
        if self.by_arrival {
            let ordinals = rows
                .ordinals
                .ok_or_else(|| EngineError::bug("first_value and last_value need an edge with arrival numbers"))?;
            let ordinals: ArrayRef = Arc::new(UInt64Array::clone(ordinals));
            self.take_in(slots, &[ordinals, canonical_values(&value)], &Selection::of(&[], rows))
        } else {
            let selection = Selection::of(std::slice::from_ref(&value), rows);
            self.take_in(slots, &[canonical_values(&value)], &selection)
        }
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let (slots, entries) = flatten_lists(slots, &state[0]);
        let columns = &entries.columns()[..entries.num_columns() - 1];
        let weights = entries.columns()[entries.num_columns() - 1].as_primitive::<Int64Type>();
        let rows = RowInfo { weights: Some(weights), ..RowInfo::default() };
        self.take_in(&slots, columns, &Selection::of(&[], rows))
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let item = state_item(&self.data_type, self.by_arrival);
        let DataType::Struct(fields) = item.data_type() else { unreachable!("made as a struct above") };
        let lengths: Vec<usize> = slots.iter().map(|slot| self.sets[slot].len()).collect();
        let entries = || slots.iter().flat_map(|slot| self.sets[slot].iter());
        let parser = self.converter.parser();
        let mut columns = if lengths.iter().all(|length| *length == 0) {
            fields[..fields.len() - 1].iter().map(|field| new_empty_array(field.data_type())).collect()
        } else {
            let columns = self.converter.convert_rows(entries().map(|(key, _)| parser.parse(key)))?;
            with_types(columns, fields.iter().map(|field| field.data_type()))?
        };
        columns.push(Arc::new(Int64Array::from_iter_values(entries().map(|(_, weight)| *weight))));
        let values = Arc::new(StructArray::try_new(fields.clone(), columns, None)?);
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(vec![Arc::new(ListArray::try_new(item, offsets, values, None)?)])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        if self.by_arrival {
            slots.iter().for_each(|slot| self.settle(slot));
        }
        let answer = |slot: usize| {
            let set = &self.sets[slot];
            let mut present = set.iter().filter(|(_, weight)| **weight > 0).map(|(key, _)| key.as_ref());
            if self.last { present.next_back() } else { present.next() }
        };
        decode_rows(&self.converter, &self.data_type, slots.iter().map(answer), usize::from(self.by_arrival))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        for slot in slots.iter() {
            let set = std::mem::take(&mut self.sets[slot]);
            self.open[slot] = false;
            self.bytes -= set.keys().map(|key| entry_bytes(key)).sum::<usize>();
        }
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.sets.capacity() * (size_of::<BTreeMap<Box<[u8]>, i64>>() + 1)
    }
}

/// The entries of a column of lists, each with the slot of its list.
pub(crate) fn flatten_lists(slots: &[u32], lists: &ArrayRef) -> (Vec<u32>, StructArray) {
    let lists = lists.as_list::<i32>();
    let offsets = lists.offsets();
    let (start, end) = (offsets[0] as usize, offsets[lists.len()] as usize);
    let mut flat = Vec::with_capacity(end - start);
    for (slot, bounds) in slots.iter().zip(offsets.windows(2)) {
        flat.extend(std::iter::repeat_n(*slot, (bounds[1] - bounds[0]) as usize));
    }
    (flat, lists.values().as_struct().slice(start, end - start))
}
