//! Maps that are made of texts, arrays and other maps, under Flink's names.
//!
//! A key that is given several times stands at its first place and has its last value, as in Flink, where such maps come about; a map
//! that is written out (`MAP['a', 1, 'a', 2]`) is refused by DataFusion. Keys are never null.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, MapArray, StringViewArray, StructArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err};
use datafusion::functions::regex::compile_and_cache_regex;
use datafusion::logical_expr::{Expr, ScalarUDF};
use eagre_engine::keys::canonical_values;

use super::as_it_is::KEY_FORM;
use super::definition::{Call, Definition, Param};
use crate::types::{map_of, sql_name};

/// `__map_union(a, b)`: the entries of both.
pub(crate) const MAP_UNION: &str = "__map_union";

/// The values as keys are compared: the entries of maps in the order of their keys.
pub(crate) fn in_key_form(expr: Expr) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let invoke = |call: &Call| Ok(canonical_values(&call.array(0)?));
        Definition { name: KEY_FORM, params: &[Param::Any], optional: 0, returns: |types| types[0].clone(), invoke }
            .udf()
    });
    FUNCTION.call(vec![expr])
}

pub(crate) fn definitions() -> Vec<Definition> {
    vec![
        Definition {
            name: "str_to_map",
            params: &[Param::Text, Param::Text, Param::Text],
            optional: 2,
            returns: |_| map_of(DataType::Utf8View, DataType::Utf8View),
            invoke: str_to_map,
        },
        Definition::new(
            "map_from_arrays",
            &[Param::Any, Param::Any],
            |types| map_of(element(&types[0]), element(&types[1])),
            from_arrays,
        ),
        Definition {
            name: "map_from_entries",
            params: &[Param::Any],
            optional: 0,
            returns: |types| match element(&types[0]) {
                DataType::Struct(fields) if fields.len() == 2 => {
                    map_of(fields[0].data_type().clone(), fields[1].data_type().clone())
                }
                _ => map_of(DataType::Null, DataType::Null),
            },
            invoke: from_entries,
        },
        Definition {
            name: MAP_UNION,
            params: &[Param::Any, Param::Any],
            optional: 0,
            returns: |types| match &types[0] {
                DataType::Null => types[1].clone(),
                first => first.clone(),
            },
            invoke: union,
        },
    ]
}

/// The type of an array's elements; that of NULL where it is none.
fn element(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            element.data_type().clone()
        }
        _ => DataType::Null,
    }
}

/// Maps row by row, from entries that are places among keys and among values.
struct Entries {
    keys: ArrayRef,
    values: ArrayRef,
    /// Keys that are equal have equal numbers.
    numbers: Vec<usize>,
    key_places: Vec<i64>,
    value_places: Vec<i64>,
    /// Where the keys of the map that is made stand in it.
    own: HashMap<usize, usize>,
    lengths: Vec<usize>,
    is_there: Vec<bool>,
}

impl Entries {
    fn new(keys: ArrayRef, values: ArrayRef) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
        let rows = converter.convert_columns(std::slice::from_ref(&keys))?;
        let mut known = HashMap::new();
        let numbers = rows.iter().map(|row| {
            let next = known.len();
            *known.entry(row.owned()).or_insert(next)
        });
        let numbers = numbers.collect();
        let (key_places, value_places) = (vec![], vec![]);
        Ok(Self {
            keys,
            values,
            numbers,
            key_places,
            value_places,
            own: HashMap::new(),
            lengths: vec![],
            is_there: vec![],
        })
    }

    /// One more entry of the map that is made; a key that it has gets this value.
    fn push(&mut self, key: usize, value: usize) {
        let end = self.key_places.len();
        let place = *self.own.entry(self.numbers[key]).or_insert(end);
        if place == end {
            self.key_places.push(key as i64);
            self.value_places.push(value as i64);
        } else {
            self.value_places[place] = value as i64;
        }
    }

    /// The map is done, or there is none in this row.
    fn end(&mut self, is_there: bool) {
        self.lengths.push(self.own.len());
        self.is_there.push(is_there);
        self.own.clear();
    }

    fn finish(self, data_type: &DataType, name: &str) -> Result<ArrayRef> {
        let DataType::Map(field, is_sorted) = data_type else {
            return exec_err!("{} makes a {}", name.to_uppercase(), sql_name(data_type));
        };
        let DataType::Struct(fields) = field.data_type() else {
            return exec_err!("{} makes a {}", name.to_uppercase(), sql_name(data_type));
        };
        let keys = take(&self.keys, &Int64Array::from(self.key_places), None)?;
        if keys.logical_null_count() > 0 {
            return exec_err!("{}: a key of a map is NULL", name.to_uppercase());
        }
        let values = take(&self.values, &Int64Array::from(self.value_places), None)?;
        let columns = vec![cast(&keys, fields[0].data_type())?, cast(&values, fields[1].data_type())?];
        let entries = StructArray::try_new(Fields::clone(fields), columns, None)?;
        let offsets = OffsetBuffer::from_lengths(self.lengths);
        let nulls = NullBuffer::from(self.is_there);
        Ok(Arc::new(MapArray::try_new(FieldRef::clone(field), offsets, entries, Some(nulls), *is_sorted)?))
    }
}

/// Both delimiters are regular expressions. A piece without the second one is a key without a value.
fn str_to_map(call: &Call) -> Result<ArrayRef> {
    let texts = call.text(0)?;
    let or = |index: usize, default: &'static str| match call.is_given(index) {
        true => call.text(index),
        false => Ok(std::iter::repeat_n(Some(default), call.rows).collect::<StringViewArray>()),
    };
    let (between, within) = (or(1, ",")?, or(2, "=")?);
    let mut compiled = HashMap::new();
    let (mut keys, mut values): (Vec<&str>, Vec<Option<&str>>) = (vec![], vec![]);
    let mut ends = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let is_there = texts.is_valid(row) && between.is_valid(row) && within.is_valid(row);
        if is_there && !texts.value(row).is_empty() {
            let between = compile_and_cache_regex(between.value(row), None, &mut compiled)?.clone();
            let within = compile_and_cache_regex(within.value(row), None, &mut compiled)?;
            let mut pieces: Vec<&str> = between.split(texts.value(row)).collect();
            // Java leaves out empty pieces at the end.
            while pieces.pop_if(|piece| piece.is_empty()).is_some() {}
            for piece in pieces {
                let mut parts = within.splitn(piece, 2);
                keys.push(parts.next().unwrap_or(piece));
                values.push(parts.next());
            }
        }
        ends.push((is_there, keys.len()));
    }
    let keys: ArrayRef = Arc::new(StringViewArray::from_iter_values(keys));
    let values: ArrayRef = Arc::new(values.into_iter().collect::<StringViewArray>());
    let mut entries = Entries::new(keys, values)?;
    let mut start = 0;
    for (is_there, end) in ends {
        (start..end).for_each(|place| entries.push(place, place));
        entries.end(is_there);
        start = end;
    }
    entries.finish(&call.return_type, call.name)
}

fn list(call: &Call, index: usize) -> Result<ListArray> {
    let array = call.array(index)?;
    match array.data_type() {
        DataType::List(_) => Ok(array.as_list::<i32>().clone()),
        DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            Ok(cast(&array, &DataType::List(Arc::clone(element)))?.as_list::<i32>().clone())
        }
        other => exec_err!(
            "argument {} of {} is a {}; it takes an ARRAY",
            index + 1,
            call.name.to_uppercase(),
            sql_name(other)
        ),
    }
}

/// Whether an argument is the constant NULL.
fn is_nothing(call: &Call, index: usize) -> Result<bool> {
    Ok(call.array(index)?.data_type() == &DataType::Null)
}

fn from_arrays(call: &Call) -> Result<ArrayRef> {
    if is_nothing(call, 0)? || is_nothing(call, 1)? {
        return Ok(new_null_array(&call.return_type, call.rows));
    }
    let (keys, values) = (list(call, 0)?, list(call, 1)?);
    let mut entries = Entries::new(Arc::clone(keys.values()), Arc::clone(values.values()))?;
    for row in 0..call.rows {
        let is_there = keys.is_valid(row) && values.is_valid(row);
        if is_there {
            let (key_count, value_count) = (keys.value_length(row), values.value_length(row));
            if key_count != value_count {
                return exec_err!(
                    "MAP_FROM_ARRAYS: {key_count} keys and {value_count} values; it takes as many of both"
                );
            }
            let (first_key, first_value) = (keys.value_offsets()[row] as usize, values.value_offsets()[row] as usize);
            (0..key_count as usize).for_each(|place| entries.push(first_key + place, first_value + place));
        }
        entries.end(is_there);
    }
    entries.finish(&call.return_type, call.name)
}

fn from_entries(call: &Call) -> Result<ArrayRef> {
    if is_nothing(call, 0)? {
        return Ok(new_null_array(&call.return_type, call.rows));
    }
    let rows = list(call, 0)?;
    let pairs = match rows.values().as_struct_opt() {
        Some(pairs) if pairs.num_columns() == 2 => pairs,
        _ => {
            return exec_err!(
                "MAP_FROM_ENTRIES takes an array of rows of a key and a value, and not {}",
                sql_name(rows.data_type())
            );
        }
    };
    let mut entries = Entries::new(Arc::clone(pairs.column(0)), Arc::clone(pairs.column(1)))?;
    for row in 0..call.rows {
        let offsets = rows.value_offsets();
        let places = offsets[row] as usize..offsets[row + 1] as usize;
        // A row that is null has no key.
        let is_there = rows.is_valid(row) && places.clone().all(|place| pairs.is_valid(place));
        if is_there {
            places.for_each(|place| entries.push(place, place));
        }
        entries.end(is_there);
    }
    entries.finish(&call.return_type, call.name)
}

fn union(call: &Call) -> Result<ArrayRef> {
    if is_nothing(call, 0)? || is_nothing(call, 1)? {
        return Ok(new_null_array(&call.return_type, call.rows));
    }
    let map = |index: usize| -> Result<MapArray> {
        let array = call.array(index)?;
        match array.data_type() {
            DataType::Map(..) => match cast(&array, &call.return_type) {
                Ok(array) => Ok(array.as_map().clone()),
                Err(_) => exec_err!(
                    "MAP_UNION: a {} and a {} are no maps of one type; cast one",
                    sql_name(&call.return_type),
                    sql_name(array.data_type())
                ),
            },
            other => exec_err!("MAP_UNION takes maps, and not {}", sql_name(other)),
        }
    };
    let (first, second) = (map(0)?, map(1)?);
    let keys = concat(&[first.keys().as_ref(), second.keys().as_ref()])?;
    let values = concat(&[first.values().as_ref(), second.values().as_ref()])?;
    let second_start = first.keys().len();
    let mut entries = Entries::new(keys, values)?;
    for row in 0..call.rows {
        let is_there = first.is_valid(row) && second.is_valid(row);
        if is_there {
            for (map, start) in [(&first, 0), (&second, second_start)] {
                let offsets = map.value_offsets();
                let places = offsets[row] as usize..offsets[row + 1] as usize;
                places.for_each(|place| entries.push(start + place, start + place));
            }
        }
        entries.end(is_there);
    }
    entries.finish(&call.return_type, "map_union")
}
