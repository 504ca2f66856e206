//! The source `datagen`, with Flink's options.
//!
//! Value `n` of a field is a hash of (seed, field, n): seekable, and the same on every machine. Random times lie up to `max-past`
//! before the row's own time, which is the time of the first start plus what the rate says; the first start is part of the position,
//! so that a restart makes the same times again.
//!
//! What is in a collection or a row is a field of its own, named as Flink names it (`fields.tags.element.length`,
//! `fields.scores.value.max`, `fields.place.city.length`). Row `n` has the elements `n * length` and on of the field below, so they are
//! seekable too.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use eagre_engine::EngineError;
use eagre_engine::delta::batch_of;
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Pacer;
use crate::error::{Result, nearest};
use crate::format::scalar::{parse_decimal, type_name};
use crate::table::{Clock, Environment, TableDefinition};

/// Flink's default.
const ROWS_PER_SECOND: u64 = 10_000;
const TEXT_LENGTH: u64 = 100;
const COLLECTION_LENGTH: u64 = 3;
/// More than anybody wants to look at.
const LENGTH_MAX: u64 = 1 << 20;

#[derive(Debug, Clone)]
enum Kind {
    Sequence {
        start: i64,
    },
    Int {
        min: i128,
        max: i128,
    },
    Float {
        min: f64,
        max: f64,
    },
    Bool,
    /// `varies`: of any length from 1 to this.
    Text {
        length: usize,
        varies: bool,
    },
    Time {
        max_past_ms: u64,
    },
    List {
        length: u64,
        element: Box<FieldPlan>,
    },
    Map {
        length: u64,
        key: Box<FieldPlan>,
        value: Box<FieldPlan>,
    },
    Row {
        fields: Vec<FieldPlan>,
    },
}

#[derive(Debug, Clone)]
struct FieldPlan {
    field: Field,
    kind: Kind,
    null_rate: f64,
    seed: u64,
}

/// The source `datagen`.
pub(crate) struct DatagenSource {
    table: String,
    schema: SchemaRef,
    fields: Vec<FieldPlan>,
    rows_per_second: u64,
    rows: Option<u64>,
    clock: Clock,
    /// What the rows depend on.
    described: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct DatagenPosition {
    row: u64,
    /// When the source was first started, in ms since 1970.
    started_ms: i64,
}

impl DatagenSource {
    pub(crate) fn new(table: &TableDefinition, environment: &Environment) -> Result<Self> {
        let options = table.reader();
        table.check_metadata(&[])?;
        let seed = options.u64("seed")?.unwrap_or(0);
        let mut planner = FieldPlanner { table, seed, rows: options.u64("number-of-rows")?, names: Vec::new() };
        let fields = table.schema.fields().iter().map(|field| planner.field(field, field.name().clone()));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        planner.check_names()?;
        let rows = planner.rows;
        let rows_per_second = options.u64("rows-per-second")?.unwrap_or(ROWS_PER_SECOND);
        if rows_per_second == 0 {
            return Err(options.bad("rows-per-second", "use at least 1"));
        }
        // How fast rows come is no matter of what they are, except of their times.
        let paced = fields.iter().any(FieldPlan::tells_time);
        let matters = |key: &str| key.starts_with("fields.") || matches!(key, "seed" | "number-of-rows");
        let mut described: Vec<String> = table
            .options
            .iter()
            .filter(|(key, _)| matters(key))
            .map(|(key, value)| format!("{key}={}", value.trim()))
            .chain(paced.then(|| format!("rows-per-second={rows_per_second}")))
            .collect();
        described.sort();
        Ok(Self {
            table: table.name.clone(),
            schema: Arc::clone(&table.schema),
            fields,
            rows_per_second,
            rows,
            clock: Arc::clone(&environment.clock),
            described: described.join(", "),
        })
    }
}

/// Reads what the options say of the fields.
struct FieldPlanner<'a> {
    table: &'a TableDefinition,
    seed: u64,
    /// After how many rows the table ends.
    rows: Option<u64>,
    /// The names of all fields, as options have them.
    names: Vec<String>,
}

impl FieldPlanner<'_> {
    /// `name`: the column's, with what leads from it to the field below.
    fn field(&mut self, field: &Field, name: String) -> Result<FieldPlan> {
        let options = self.table.reader();
        let key = |option: &str| format!("fields.{name}.{option}");
        let data_type = field.data_type();
        let null_rate = options.f64(&key("null-rate"))?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(options.bad(&key("null-rate"), "use a number from 0 to 1"));
        }
        let sequence = options.one_of(&key("kind"), &["random", "sequence"])? == Some(1);
        let kind = if sequence {
            if !(data_type.is_integer() || data_type.is_floating() || is_text(data_type)) || name != *field.name() {
                let message = "a sequence counts numbers or texts, each of a column of its own; use 'random'";
                return Err(options.bad(&key("kind"), message));
            }
            let need = |option: &str| {
                options.i64(&key(option))?.ok_or_else(|| crate::ConnectorError::MissingOption {
                    table: self.table.name.clone(),
                    option: key(option),
                    meaning: "a sequence has a start and an end".into(),
                    example: "1000".into(),
                })
            };
            let (start, end) = (need("start")?, need("end")?);
            if end < start {
                return Err(options.bad(&key("end"), "it must not be before the start"));
            }
            // A sequence that ends, ends the table.
            let length = end.abs_diff(start).saturating_add(1);
            self.rows = Some(self.rows.map_or(length, |rows| rows.min(length)));
            Kind::Sequence { start }
        } else {
            self.nested(data_type, &name)?.map_or_else(|| random_kind(self.table, field, &name, &key), Ok)?
        };
        let seed = xxh3_64_with_seed(name.as_bytes(), self.seed);
        self.names.push(name);
        Ok(FieldPlan { field: field.clone(), kind, null_rate, seed })
    }

    /// Collections and rows.
    fn nested(&mut self, data_type: &DataType, name: &str) -> Result<Option<Kind>> {
        let options = self.table.reader();
        let length = || -> Result<u64> {
            Ok(options.u64(&format!("fields.{name}.length"))?.unwrap_or(COLLECTION_LENGTH).min(LENGTH_MAX))
        };
        Ok(Some(match data_type {
            DataType::List(element) => {
                let (length, element) = (length()?, self.field(element, format!("{name}.element"))?);
                Kind::List { length, element: Box::new(element) }
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(entries) = entries.data_type() else { return Ok(None) };
                let [key, value] = entries.iter().as_slice() else { return Ok(None) };
                let length = length()?;
                let key = self.field(key, format!("{name}.key"))?;
                let value = self.field(value, format!("{name}.value"))?;
                Kind::Map { length, key: Box::new(key), value: Box::new(value) }
            }
            DataType::Struct(fields) => {
                let fields = fields.iter().map(|field| self.field(field, format!("{name}.{}", field.name())));
                Kind::Row { fields: fields.collect::<Result<_>>()? }
            }
            _ => return Ok(None),
        }))
    }

    /// An option of a field that is not there changes nothing, which nobody wants.
    fn check_names(&self) -> Result<()> {
        for (key, _) in self.table.options.iter() {
            let Some((name, option)) = key.strip_prefix("fields.").and_then(|rest| rest.rsplit_once('.')) else {
                continue;
            };
            if !self.names.iter().any(|known| known == name) {
                let near = nearest(name, self.names.iter().map(String::as_str));
                return Err(crate::ConnectorError::UnknownOption {
                    table: self.table.name.clone(),
                    connector: "datagen".into(),
                    option: key.to_owned(),
                    nearest: format!("fields.{near}.{option}"),
                });
            }
        }
        Ok(())
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn integer_range(data_type: &DataType) -> (i128, i128) {
    match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, i64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

fn random_kind(table: &TableDefinition, field: &Field, name: &str, key: &impl Fn(&str) -> String) -> Result<Kind> {
    let options = table.reader();
    let data_type = field.data_type();
    let (min, max) = (key("min"), key("max"));
    let ordered = |ordered: bool| match ordered {
        true => Ok(()),
        false => Err(options.bad(&max, "it must not be less than the minimum")),
    };
    Ok(match data_type {
        DataType::Boolean => Kind::Bool,
        DataType::Float32 | DataType::Float64 => {
            let (low, high) = (options.f64(&min)?.unwrap_or(0.0), options.f64(&max)?.unwrap_or(1.0));
            ordered(low <= high)?;
            Kind::Float { min: low, max: high }
        }
        &DataType::Decimal128(precision, scale) => {
            let bound = 10i128.pow(u32::from(precision)) - 1;
            let digits = |key: &str, default: i128| match options.text(key) {
                None => Ok(default),
                Some(text) => parse_decimal(text.trim().as_bytes(), precision, scale)
                    .ok_or_else(|| options.bad(key, format!("use a number that fits {}", type_name(data_type)))),
            };
            let (low, high) = (digits(&min, 0)?, digits(&max, bound)?);
            ordered(low <= high)?;
            Kind::Int { min: low, max: high }
        }
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) => {
            let past = options.duration(&key("max-past"))?.unwrap_or_default();
            Kind::Time { max_past_ms: past.as_millis() as u64 }
        }
        data_type if data_type.is_integer() => {
            let (low, high) = integer_range(data_type);
            let low = options.i64(&min)?.map_or(low, i128::from);
            let high = options.i64(&max)?.map_or(high, i128::from);
            ordered(low <= high)?;
            Kind::Int { min: low, max: high }
        }
        data_type if is_text(data_type) || matches!(data_type, DataType::Binary) => {
            let length = options.u64(&key("length"))?.unwrap_or(TEXT_LENGTH).min(LENGTH_MAX) as usize;
            Kind::Text { length, varies: options.bool(&key("var-len"), false)? }
        }
        other => {
            let kind = type_name(other);
            return Err(table.schema_error(format!(
                "column `{name}`: datagen makes no {kind}; use plain columns and build it in the query"
            )));
        }
    })
}

fn random(seed: u64, row: u64) -> u64 {
    xxh3_64_with_seed(&row.to_le_bytes(), seed)
}

/// From 0 to 1, without 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

impl FieldPlan {
    /// Whether its values depend on when rows come.
    fn tells_time(&self) -> bool {
        match &self.kind {
            Kind::Time { .. } => true,
            Kind::List { element, .. } => element.tells_time(),
            Kind::Map { key, value, .. } => key.tells_time() || value.tells_time(),
            Kind::Row { fields } => fields.iter().any(Self::tells_time),
            _ => false,
        }
    }

    fn column(
        &self,
        rows: std::ops::Range<u64>,
        rows_per_second: u64,
        started_ms: i64,
    ) -> Result<ArrayRef, arrow::error::ArrowError> {
        let count = (rows.end - rows.start) as usize;
        let bits = |row: u64| random(self.seed, row);
        let made: ArrayRef = match &self.kind {
            Kind::Sequence { start } => {
                Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| start.wrapping_add(row as i64))))
            }
            Kind::Int { min, max } => {
                let span = (max - min) as u128 + 1;
                let value = |row: u64| {
                    let wide = (u128::from(bits(row)) << 64) | u128::from(random(!self.seed, row));
                    let offset = match u64::try_from(span) {
                        // The high half of a product: even to within one in 2^64.
                        Ok(span) => (u128::from(bits(row)) * u128::from(span)) >> 64,
                        Err(_) => wide % span,
                    };
                    min + offset as i128
                };
                match self.field.data_type() {
                    DataType::Decimal128(_, _) => Arc::new(
                        Decimal128Array::from_iter_values(rows.clone().map(value))
                            .with_data_type(self.field.data_type().clone()),
                    ),
                    _ => Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| value(row) as i64))),
                }
            }
            Kind::Float { min, max } => {
                Arc::new(Float64Array::from_iter_values(rows.clone().map(|row| min + (max - min) * unit(bits(row)))))
            }
            Kind::Bool => Arc::new(BooleanArray::from_iter(rows.clone().map(|row| Some(bits(row) & 1 == 1)))),
            Kind::Text { length, varies } => {
                // Hexadecimal digits, as Flink makes.
                let mut builder = StringViewBuilder::with_capacity(count);
                let mut text = String::with_capacity(length + 16);
                for row in rows.clone() {
                    text.clear();
                    let mut word = 0u64;
                    let length = match *varies && *length > 0 {
                        true => 1 + (random(!self.seed, row) % *length as u64) as usize,
                        false => *length,
                    };
                    while text.len() < length {
                        use std::fmt::Write as _;
                        // Writing to a String does not fail.
                        let _ = write!(text, "{:016x}", random(self.seed.wrapping_add(word), row));
                        word += 1;
                    }
                    text.truncate(length);
                    builder.append_value(&text);
                }
                Arc::new(builder.finish())
            }
            Kind::Time { max_past_ms } => {
                let time = |row: u64| {
                    let own = started_ms + (u128::from(row) * 1_000 / u128::from(rows_per_second)) as i64;
                    let past = (u128::from(bits(row)) * (u128::from(*max_past_ms) + 1)) >> 64;
                    own - past as i64
                };
                let times = TimestampMillisecondArray::from_iter_values(rows.clone().map(time));
                match self.field.data_type() {
                    DataType::Timestamp(TimeUnit::Millisecond, zone) => Arc::new(times.with_timezone_opt(zone.clone())),
                    _ => Arc::new(times),
                }
            }
            Kind::List { length, element } => {
                let DataType::List(field) = self.field.data_type() else { return Err(not_made(&self.field)) };
                let values = element.column(below(&rows, *length), below_rate(rows_per_second, *length), started_ms)?;
                let offsets = OffsetBuffer::from_repeated_length(*length as usize, count);
                Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, None)?)
            }
            Kind::Map { length, key, value } => {
                let DataType::Map(field, sorted) = self.field.data_type() else { return Err(not_made(&self.field)) };
                let DataType::Struct(entries) = field.data_type() else { return Err(not_made(&self.field)) };
                let (within, rate) = (below(&rows, *length), below_rate(rows_per_second, *length));
                let keys = key.column(within.clone(), rate, started_ms)?;
                let values = value.column(within, rate, started_ms)?;
                let (kept, sizes) = distinct_keys(&keys, *length as usize, count)?;
                let columns = vec![take(&keys, &kept, None)?, take(&values, &kept, None)?];
                let entries = StructArray::try_new(entries.clone(), columns, None)?;
                let offsets = OffsetBuffer::from_lengths(sizes);
                Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, None, *sorted)?)
            }
            Kind::Row { fields } => {
                let DataType::Struct(schema) = self.field.data_type() else { return Err(not_made(&self.field)) };
                let columns = fields.iter().map(|field| field.column(rows.clone(), rows_per_second, started_ms));
                let columns = columns.collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(schema.clone(), columns, None, count)?)
            }
        };
        let made = match made.data_type() == self.field.data_type() {
            true => made,
            false => cast(&made, self.field.data_type())?,
        };
        if self.null_rate == 0.0 || !self.field.is_nullable() {
            return Ok(made);
        }
        let valid = rows.map(|row| unit(random(self.seed ^ 0x5bd1_e995, row)) >= self.null_rate);
        let nulls = NullBuffer::from(valid.collect::<Vec<_>>());
        Ok(make_array(made.to_data().into_builder().nulls(Some(nulls)).build()?))
    }
}

/// The elements of these rows, of `length` each.
fn below(rows: &std::ops::Range<u64>, length: u64) -> std::ops::Range<u64> {
    rows.start.saturating_mul(length)..rows.end.saturating_mul(length)
}

/// So many elements come in a second.
fn below_rate(rows_per_second: u64, length: u64) -> u64 {
    rows_per_second.saturating_mul(length).max(1)
}

/// Of `count` maps of `length` keys each: the places of keys that are the first of their kind in their map, and how many each map has.
fn distinct_keys(keys: &ArrayRef, length: usize, count: usize) -> Result<(UInt64Array, Vec<usize>), ArrowError> {
    let compare = make_comparator(keys.as_ref(), keys.as_ref(), SortOptions::default())?;
    let (mut kept, mut sizes) = (Vec::with_capacity(keys.len()), Vec::with_capacity(count));
    for map in 0..count {
        let before = kept.len();
        for key in map * length..(map + 1) * length {
            if !kept[before..].iter().any(|other| compare(*other as usize, key).is_eq()) {
                kept.push(key as u64);
            }
        }
        sizes.push(kept.len() - before);
    }
    Ok((UInt64Array::from(kept), sizes))
}

fn not_made(field: &Field) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("a generator does not fit column `{}`", field.name()))
}

impl Source for DatagenSource {
    fn describe(&self) -> String {
        format!("datagen({})", self.described)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        self.rows.is_some()
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(
        &self,
        projection: &[usize],
        places: &Places,
        stop: StopFlag,
    ) -> eagre_engine::Result<Box<dyn SourceReader>> {
        let position = match places.get(PARTITION) {
            Some(place) => serde_json::from_value(place.position.clone()).map_err(|error| EngineError::Checkpoint {
                message: format!("table `{}`: its position cannot be read: {error}", self.table),
            })?,
            None => DatagenPosition { row: 0, started_ms: (self.clock)() },
        };
        Ok(Box::new(DatagenReader {
            schema: Arc::new(self.schema.project(projection)?),
            fields: projection.iter().map(|&index| self.fields[index].clone()).collect(),
            partition: Arc::from(PARTITION),
            rows: self.rows.unwrap_or(u64::MAX),
            rows_per_second: self.rows_per_second,
            pacer: Pacer::new(Some(self.rows_per_second)),
            position,
            stop,
            announced: false,
            ended: false,
        }))
    }
}

const PARTITION: &str = "datagen";

struct DatagenReader {
    schema: SchemaRef,
    fields: Vec<FieldPlan>,
    partition: PartitionId,
    rows: u64,
    rows_per_second: u64,
    pacer: Pacer,
    position: DatagenPosition,
    stop: StopFlag,
    announced: bool,
    ended: bool,
}

impl SourceReader for DatagenReader {
    fn next(&mut self) -> eagre_engine::Result<SourceEvent> {
        if self.stop.is_stopped() || self.ended {
            return Ok(SourceEvent::End);
        }
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        if self.position.row >= self.rows {
            self.ended = true;
            return Ok(SourceEvent::PartitionEnd(Arc::clone(&self.partition)));
        }
        if !self.pacer.is_due() {
            return Ok(SourceEvent::Waiting);
        }
        let first = self.position.row;
        let end = first.saturating_add(self.pacer.batch_rows()).min(self.rows);
        let column = |field: &FieldPlan| field.column(first..end, self.rows_per_second, self.position.started_ms);
        let columns = self.fields.iter().map(column).collect::<Result<_, _>>()?;
        let batch = batch_of(&self.schema, columns, (end - first) as usize)?;
        let value = |position: &DatagenPosition| serde_json::to_value(position).map_err(EngineError::bug);
        let start = value(&self.position)?;
        self.position.row = end;
        self.pacer.made(end - first);
        let (partition, end) = (Arc::clone(&self.partition), value(&self.position)?);
        Ok(SourceEvent::Batch(SourceBatch { partition, start, end, batch, weights: None, bad_rows: Vec::new() }))
    }
}
