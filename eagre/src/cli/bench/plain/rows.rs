//! Nexmark's tables as rows, and answers as columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, NullArray, RecordBatch, StringArray, StringViewArray,
    TimestampMillisecondArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};
use eagre_engine::EngineError;

use crate::error::{Error, Result};

/// Someone who sells or bids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person<'a> {
    pub id: i64,
    pub name: &'a str,
    pub city: &'a str,
    pub state: &'a str,
    pub time: i64,
}

/// An item under the hammer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Auction<'a> {
    pub id: i64,
    pub item_name: &'a str,
    pub description: &'a str,
    pub initial_bid: i64,
    pub reserve: i64,
    pub time: i64,
    pub expires: i64,
    pub seller: i64,
    pub category: i64,
    pub extra: &'a str,
}

/// An offer for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bid<'a> {
    /// Which row of the table it is.
    pub arrival: usize,
    pub auction: i64,
    pub bidder: i64,
    pub price: i64,
    pub channel: &'a str,
    pub url: &'a str,
    pub time: i64,
    pub extra: &'a str,
}

/// The columns of one table.
pub(super) struct Columns {
    rows: usize,
    integers: HashMap<String, Int64Array>,
    texts: HashMap<String, StringViewArray>,
}

impl Columns {
    /// All rows of the table `name`; none where there is no such table.
    pub(super) fn of(name: &str, tables: &HashMap<String, Vec<RecordBatch>>) -> Result<Self> {
        let batches = tables.get(name).map_or(&[][..], Vec::as_slice);
        let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let whole = concat_batches(&schema, batches).map_err(EngineError::from)?;
        let mut columns = Self { rows: whole.num_rows(), integers: HashMap::new(), texts: HashMap::new() };
        for (field, column) in schema.fields().iter().zip(whole.columns()) {
            let name = field.name().to_lowercase();
            let to = |column: &ArrayRef, data_type| cast(column, &data_type).map_err(EngineError::from);
            match column.data_type() {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                    columns.texts.insert(name, to(column, DataType::Utf8View)?.as_string_view().clone());
                }
                DataType::Timestamp(..) => {
                    let ms = to(column, DataType::Timestamp(TimeUnit::Millisecond, None))?;
                    columns.integers.insert(name, to(&ms, DataType::Int64)?.as_primitive::<Int64Type>().clone());
                }
                _ => {
                    columns.integers.insert(name, to(column, DataType::Int64)?.as_primitive::<Int64Type>().clone());
                }
            }
        }
        Ok(columns)
    }

    fn int(&self, name: &str) -> Result<&[i64]> {
        match self.integers.get(&name.to_lowercase()) {
            Some(column) => Ok(column.values()),
            None if self.rows == 0 => Ok(&[]),
            None => Err(missing(name)),
        }
    }

    fn text(&self, name: &str) -> Result<Vec<&str>> {
        match self.texts.get(&name.to_lowercase()) {
            Some(column) => Ok(column.iter().map(Option::unwrap_or_default).collect()),
            None if self.rows == 0 => Ok(Vec::new()),
            None => Err(missing(name)),
        }
    }

    pub(super) fn persons(&self) -> Result<Vec<Person<'_>>> {
        let (id, time) = (self.int("id")?, self.int("dateTime")?);
        let (name, city, state) = (self.text("name")?, self.text("city")?, self.text("state")?);
        let person =
            |row: usize| Person { id: id[row], name: name[row], city: city[row], state: state[row], time: time[row] };
        Ok((0..self.rows).map(person).collect())
    }

    pub(super) fn auctions(&self) -> Result<Vec<Auction<'_>>> {
        let (id, initial_bid, reserve) = (self.int("id")?, self.int("initialBid")?, self.int("reserve")?);
        let (time, expires) = (self.int("dateTime")?, self.int("expires")?);
        let (seller, category) = (self.int("seller")?, self.int("category")?);
        let (item_name, description, extra) = (self.text("itemName")?, self.text("description")?, self.text("extra")?);
        let auction = |row: usize| Auction {
            id: id[row],
            item_name: item_name[row],
            description: description[row],
            initial_bid: initial_bid[row],
            reserve: reserve[row],
            time: time[row],
            expires: expires[row],
            seller: seller[row],
            category: category[row],
            extra: extra[row],
        };
        Ok((0..self.rows).map(auction).collect())
    }

    pub(super) fn bids(&self) -> Result<Vec<Bid<'_>>> {
        let (auction, bidder, price) = (self.int("auction")?, self.int("bidder")?, self.int("price")?);
        let (channel, url, extra) = (self.text("channel")?, self.text("url")?, self.text("extra")?);
        let time = self.int("dateTime")?;
        let bid = |row: usize| Bid {
            arrival: row,
            auction: auction[row],
            bidder: bidder[row],
            price: price[row],
            channel: channel[row],
            url: url[row],
            time: time[row],
            extra: extra[row],
        };
        Ok((0..self.rows).map(bid).collect())
    }
}

fn missing(column: &str) -> Error {
    Error::usage(format!("a table of Nexmark has no column `{column}`"))
}

/// An answer, filled value by value, row after row.
#[derive(Debug)]
pub(in crate::cli::bench) struct Table {
    width: usize,
    values: Vec<Value>,
}

#[derive(Debug)]
enum Value {
    Int(i64),
    Time(i64),
    Double(f64),
    Text(String),
}

impl Table {
    /// An empty one with so many columns.
    pub(in crate::cli::bench) fn of(width: usize) -> Self {
        Self { width, values: Vec::new() }
    }

    pub(in crate::cli::bench) fn int(&mut self, value: i64) -> &mut Self {
        self.values.push(Value::Int(value));
        self
    }

    /// Milliseconds since 1970.
    pub(in crate::cli::bench) fn time(&mut self, value: i64) -> &mut Self {
        self.values.push(Value::Time(value));
        self
    }

    pub(in crate::cli::bench) fn double(&mut self, value: f64) -> &mut Self {
        self.values.push(Value::Double(value));
        self
    }

    pub(in crate::cli::bench) fn text(&mut self, value: &str) -> &mut Self {
        self.values.push(Value::Text(value.to_owned()));
        self
    }

    /// The columns, named by their place.
    pub(in crate::cli::bench) fn into_batch(self) -> Result<RecordBatch> {
        let column = |index: usize| -> ArrayRef {
            let values = || self.values.iter().skip(index).step_by(self.width);
            match self.values.get(index) {
                Some(Value::Int(_)) => Arc::new(Int64Array::from_iter(values().map(|value| match value {
                    Value::Int(value) => Some(*value),
                    _ => None,
                }))),
                Some(Value::Time(_)) => {
                    Arc::new(TimestampMillisecondArray::from_iter(values().map(|value| match value {
                        Value::Time(value) => Some(*value),
                        _ => None,
                    })))
                }
                Some(Value::Double(_)) => Arc::new(Float64Array::from_iter(values().map(|value| match value {
                    Value::Double(value) => Some(*value),
                    _ => None,
                }))),
                Some(Value::Text(_)) => Arc::new(StringArray::from_iter(values().map(|value| match value {
                    Value::Text(value) => Some(value.as_str()),
                    _ => None,
                }))),
                None => Arc::new(NullArray::new(0)),
            }
        };
        let columns = (0..self.width).map(|index| (format!("column{index}"), column(index), true));
        Ok(RecordBatch::try_from_iter_with_nullable(columns).map_err(EngineError::from)?)
    }
}
