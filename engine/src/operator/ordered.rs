//! Rows of a key in the order of one column, for operators that look for the nearest one.
//!
//! A value becomes a [`Position`], which compares as the value does: one word where the type fits it, else the bytes of arrow's row
//! format. All keys share one ordered set, whose entries begin with the key's slot: a key with few rows costs no tree of its own, and
//! the rows of a key are still a range. The other direction (the nearest row *above*) is the same search over reversed positions, so
//! there is one search and not two.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};
use arrow_row::{RowConverter, SortField};

use crate::error::Result;
use crate::keys::canonical_values;

/// A value in the order of its type. Positions of one column are of one variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Position {
    Word(i64),
    Bytes(Box<[u8]>),
    /// After all others.
    Last,
}

impl Position {
    /// Before all others, or the first of them.
    pub(crate) const FIRST: Self = Self::Word(i64::MIN);

    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// Turns the values of a column into positions.
pub(crate) struct Positions {
    form: Form,
    reversed: bool,
}

enum Form {
    /// Integers, times, booleans.
    Integer,
    Float,
    Encoded(RowConverter),
}

impl Positions {
    /// For values of this type, ascending or, `reversed`, descending. -0.0 is 0.0, and NaN is above all numbers.
    ///
    /// # Errors
    /// A type without an order.
    pub(crate) fn new(data_type: &DataType, reversed: bool) -> Result<Self> {
        let form = match data_type {
            DataType::UInt64 => Form::Encoded(converter(data_type, reversed)?),
            DataType::Boolean | DataType::Date32 | DataType::Date64 => Form::Integer,
            DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Duration(_) => {
                Form::Integer
            }
            integer if integer.is_integer() => Form::Integer,
            float if float.is_floating() => Form::Float,
            other => Form::Encoded(converter(other, reversed)?),
        };
        Ok(Self { form, reversed })
    }

    /// The positions of all values; those of nulls mean nothing.
    pub(crate) fn of(&self, column: &ArrayRef) -> Result<Vec<Position>> {
        let turn = |word: i64| Position::Word(if self.reversed { !word } else { word });
        Ok(match &self.form {
            Form::Integer => {
                let column = match column.data_type() {
                    DataType::Date32 => cast(column, &DataType::Int32)?,
                    _ => Arc::clone(column),
                };
                let words = cast(&column, &DataType::Int64)?;
                words.as_primitive::<Int64Type>().values().iter().map(|word| turn(*word)).collect()
            }
            Form::Float => {
                let floats = canonical_values(&cast(column, &DataType::Float64)?);
                let in_order = |value: &f64| {
                    let bits = value.to_bits() as i64;
                    if bits < 0 { bits ^ i64::MAX } else { bits }
                };
                floats.as_primitive::<Float64Type>().values().iter().map(|value| turn(in_order(value))).collect()
            }
            Form::Encoded(converter) => encoded(converter, [column])?,
        })
    }
}

/// An order of rows that depends on nothing but what is in them.
pub(crate) struct Contents {
    /// The columns of the key, then all.
    columns: Vec<usize>,
    converter: RowConverter,
}

impl Contents {
    /// For rows of this schema: those with a lesser key come later, and of one key the greater rows.
    ///
    /// # Errors
    /// A type without an order.
    pub(crate) fn new(schema: &Schema, key: &[usize]) -> Result<Self> {
        let columns: Vec<usize> = key.iter().copied().chain(0..schema.fields().len()).collect();
        let fields = columns.iter().enumerate().map(|(place, column)| {
            let options = SortOptions { descending: place < key.len(), nulls_first: true };
            SortField::new_with_options(schema.field(*column).data_type().clone(), options)
        });
        let converter = RowConverter::new(fields.collect())?;
        Ok(Self { columns, converter })
    }

    /// The positions of all rows.
    pub(crate) fn of(&self, batch: &RecordBatch) -> Result<Vec<Position>> {
        encoded(&self.converter, self.columns.iter().map(|column| batch.column(*column)))
    }
}

fn converter(data_type: &DataType, reversed: bool) -> Result<RowConverter> {
    let options = SortOptions { descending: reversed, nulls_first: true };
    Ok(RowConverter::new(vec![SortField::new_with_options(data_type.clone(), options)])?)
}

fn encoded<'a>(converter: &RowConverter, columns: impl IntoIterator<Item = &'a ArrayRef>) -> Result<Vec<Position>> {
    let columns: Vec<ArrayRef> = columns.into_iter().map(canonical_values).collect();
    let rows = converter.convert_columns(&columns)?;
    Ok(rows.iter().map(|row| Position::Bytes(row.as_ref().into())).collect())
}

/// A row's place among the rows of all keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) slot: u32,
    /// The value that rows are looked up by.
    pub(crate) at: Position,
    /// Which of those with an equal value comes last.
    pub(crate) tie: Position,
    /// The row.
    pub(crate) id: u32,
}

impl Entry {
    /// Before all rows of the key at this value.
    fn before(slot: u32, at: Position) -> Self {
        Self { slot, at, tie: Position::FIRST, id: 0 }
    }

    /// After all rows of the key at this value.
    fn after(slot: u32, at: Position) -> Self {
        Self { slot, at, tie: Position::Last, id: u32::MAX }
    }
}

/// The rows of all keys in order.
#[derive(Default)]
pub(crate) struct OrderedIndex {
    entries: BTreeSet<Entry>,
    /// Bytes of positions outside of their entries.
    bytes: usize,
}

impl OrderedIndex {
    pub(crate) fn insert(&mut self, entry: Entry) {
        self.bytes += entry.at.bytes() + entry.tie.bytes();
        self.entries.insert(entry);
    }

    /// Takes an entry out; whether it was there.
    pub(crate) fn remove(&mut self, entry: &Entry) -> bool {
        let removed = self.entries.remove(entry);
        if removed {
            self.bytes -= entry.at.bytes() + entry.tie.bytes();
        }
        removed
    }

    pub(crate) fn contains(&self, entry: &Entry) -> bool {
        self.entries.contains(entry)
    }

    /// The last row of the key that is not after `at` or, unless `inclusive`, before it.
    pub(crate) fn nearest(&self, slot: u32, at: &Position, inclusive: bool) -> Option<&Entry> {
        let first = Bound::Included(Entry::before(slot, Position::FIRST));
        let last = match inclusive {
            true => Bound::Included(Entry::after(slot, at.clone())),
            false => Bound::Excluded(Entry::before(slot, at.clone())),
        };
        self.entries.range((first, last)).next_back()
    }

    /// The first row of the key.
    pub(crate) fn first(&self, slot: u32) -> Option<&Entry> {
        let first = Bound::Included(Entry::before(slot, Position::FIRST));
        self.entries.range((first, Bound::Included(Entry::after(slot, Position::Last)))).next()
    }

    /// The next value of the key after `at`.
    pub(crate) fn next_value(&self, slot: u32, at: &Position) -> Option<&Position> {
        let first = Bound::Excluded(Entry::after(slot, at.clone()));
        let last = Bound::Included(Entry::after(slot, Position::Last));
        self.entries.range((first, last)).next().map(|entry| &entry.at)
    }

    /// The rows of the key for which [`nearest`](Self::nearest) in another index may give a row at `from`, where the next value of the key
    /// there is `to`.
    pub(crate) fn reach(
        &self,
        slot: u32,
        from: &Position,
        to: Option<&Position>,
        inclusive: bool,
    ) -> impl Iterator<Item = &Entry> {
        let (first, last) = match inclusive {
            true => (Bound::Included(Entry::before(slot, from.clone())), to.map(|to| Entry::before(slot, to.clone()))),
            false => (Bound::Excluded(Entry::after(slot, from.clone())), to.map(|to| Entry::after(slot, to.clone()))),
        };
        let last = match (last, inclusive) {
            (Some(last), true) => Bound::Excluded(last),
            (Some(last), false) => Bound::Included(last),
            (None, _) => Bound::Included(Entry::after(slot, Position::Last)),
        };
        self.entries.range((first, last))
    }

    /// The rows of the key before `entry`, the last one first.
    pub(crate) fn before(&self, entry: &Entry) -> impl Iterator<Item = &Entry> {
        let first = Entry::before(entry.slot, Position::FIRST);
        self.entries.range((Bound::Included(first), Bound::Excluded(entry.clone()))).rev()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        // Nodes of the tree are two thirds full.
        self.entries.len() * size_of::<Entry>() * 3 / 2 + self.bytes
    }
}
