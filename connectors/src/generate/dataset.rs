//! The sources `nexmark`, `payments`, `telemetry`, `webshop` and `anomalies`: the generators of `eagre-datasets` as tables.
//!
//! A table takes its columns by name from one table of the dataset (option `table`; by default the one that the table is named
//! after, or the only one). For Nexmark a table without it may also have the shape that the Flink benchmark uses: `event_type` and
//! one `ROW` for each kind of event, of which one is set.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StructArray, UInt32Array, new_null_array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use eagre_datasets::{Dataset, Generator};
use eagre_engine::EngineError;
use eagre_engine::delta::batch_of;
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use serde_json::{Map, Value, json};

use super::Pacer;
use crate::error::Result;
use crate::format::adapt::match_columns;
use crate::table::TableDefinition;

/// Options that are the connector's and not the generator's.
pub(crate) const OWN_OPTIONS: &[&str] = &["table", "rows-per-second", "number-of-rows"];

/// Options of the official Nexmark connector that can have one value here.
pub(crate) const NEXMARK_PROPORTIONS: &[(&str, &str)] =
    &[("person.proportion", "1"), ("auction.proportion", "3"), ("bid.proportion", "46")];

/// Where a column comes from.
#[derive(Debug, Clone)]
enum Origin {
    /// Column of the table's generator.
    Column(usize),
    /// The number of the event.
    Offset,
    /// Nexmark's combined table: 0 person, 1 auction, 2 bid.
    EventType,
    /// Nexmark's combined table: a row of the generator with this index, and its columns.
    Nested(usize, Vec<usize>),
    /// Nexmark's combined table: the time of whichever event it is.
    EventTime,
}

/// A generated table.
pub(crate) struct DatasetSource {
    table: String,
    generators: Vec<Arc<dyn Generator>>,
    schema: SchemaRef,
    origins: Vec<Origin>,
    rows_per_second: Option<u64>,
    rows: Option<u64>,
    /// What the rows depend on.
    described: String,
}

impl DatasetSource {
    pub(crate) fn new(dataset: &Dataset, table: &TableDefinition) -> Result<Self> {
        let options = table.reader();
        table.check_metadata(&["offset"])?;
        let combined = dataset.name == "nexmark" && options.text("table").is_none() && is_combined(&table.schema);
        let names: Vec<&str> = dataset.tables.iter().map(|table| table.name).collect();
        let chosen = match options.text("table") {
            _ if combined => names.clone(),
            Some(name) => vec![name],
            None => match names.iter().find(|name| name.eq_ignore_ascii_case(&table.name)) {
                Some(name) => vec![*name],
                None if names.len() == 1 => names.clone(),
                None => {
                    let meaning = format!("which table of the dataset it is; one of {}", names.join(", "));
                    options.required("table", &meaning, names[names.len() - 1])?;
                    Vec::new()
                }
            },
        };
        let mut settings = Map::new();
        for (key, value) in table.options.iter() {
            if OWN_OPTIONS.contains(&key) || crate::registry::is_common(key) {
                continue;
            }
            if let Some((_, fixed)) = NEXMARK_PROPORTIONS.iter().find(|(known, _)| *known == key) {
                if value.trim() != *fixed {
                    return Err(options.bad(key, format!("the proportions are the benchmark's, 1:3:46; use '{fixed}'")));
                }
                continue;
            }
            let mut key = key;
            if key == "next-event.rate" {
                // The official generator can change its rate on the way; this one keeps the first.
                key = "first-event.rate";
                if options.text(key).is_some_and(|first| first.trim() != value.trim()) {
                    return Err(
                        options.bad("next-event.rate", "the rate does not change: use the same as 'first-event.rate'")
                    );
                }
            }
            settings.insert(key.to_owned(), Value::String(value.to_owned()));
        }
        let rows = options.u64("number-of-rows")?;
        let mut given: Vec<String> = settings
            .iter()
            .map(|(key, value)| format!(", {key}={}", value.as_str().unwrap_or_default().trim()))
            .collect();
        given.extend(rows.map(|rows| format!(", number-of-rows={rows}")));
        given.sort();
        let described = format!("{}({}{})", dataset.name, chosen.join(" and "), given.concat());
        let open = |name: &&str| eagre_datasets::open(dataset.name, name, &settings);
        let generators = chosen
            .iter()
            .map(open)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| table.unsupported(error.to_string()))?;
        let mut origins = Vec::new();
        for (index, field) in table.schema.fields().iter().enumerate() {
            origins.push(match table.metadata_key(index) {
                Some(_) => Origin::Offset,
                None if combined => {
                    combined_origin(&names, &generators, field).map_err(|reason| table.schema_error(reason))?
                }
                None => {
                    let what = format!("table `{}` of `{}`", chosen.first().unwrap_or(&""), dataset.name);
                    let found = match_columns(generators[0].schema(), &[field.as_ref().clone()], &what);
                    Origin::Column(found.map_err(|reason| table.schema_error(reason))?[0])
                }
            });
        }
        Ok(Self {
            table: table.name.clone(),
            generators,
            schema: Arc::clone(&table.schema),
            origins,
            rows_per_second: options.u64("rows-per-second")?,
            rows,
            described,
        })
    }

    /// The columns of a dataset's table, for tables that are created without.
    pub(crate) fn infer(dataset: &Dataset, table: &str, wanted: Option<&str>) -> Result<SchemaRef, String> {
        let names: Vec<&str> = dataset.tables.iter().map(|table| table.name).collect();
        let wanted = wanted.unwrap_or(if names.len() == 1 { names[0] } else { table });
        let found = dataset.tables.iter().find(|table| table.name.eq_ignore_ascii_case(wanted));
        match found {
            Some(table) => Ok(Arc::clone(&table.schema)),
            None => Err(format!("set 'table' to one of '{}', or name the columns", names.join("', '"))),
        }
    }
}

/// Nexmark's combined table has rows of kinds.
fn is_combined(schema: &Schema) -> bool {
    let nested = |field: &Arc<Field>| matches!(field.data_type(), DataType::Struct(_));
    schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case("event_type"))
        || schema.fields().iter().any(nested)
}

fn combined_origin(names: &[&str], generators: &[Arc<dyn Generator>], field: &Field) -> Result<Origin, String> {
    if field.name().eq_ignore_ascii_case("event_type") {
        return Ok(Origin::EventType);
    }
    if field.name().eq_ignore_ascii_case("dateTime") {
        return Ok(Origin::EventTime);
    }
    let kind = names.iter().position(|name| name.eq_ignore_ascii_case(field.name()));
    match (kind, field.data_type()) {
        (Some(kind), DataType::Struct(fields)) => {
            let wanted: Vec<Field> = fields.iter().map(|field| field.as_ref().clone()).collect();
            let what = format!("`{}`", names[kind]);
            Ok(Origin::Nested(kind, match_columns(generators[kind].schema(), &wanted, &what)?))
        }
        _ => Err(format!(
            "column `{}`: the combined table has `event_type`, `dateTime` and the rows `{}`; or set 'table' to one of them",
            field.name(),
            names.join("`, `")
        )),
    }
}

impl Source for DatasetSource {
    fn describe(&self) -> String {
        self.described.clone()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        self.rows.is_some() || self.generators[0].event_count().is_some()
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
        let (mut event, mut rows_made) = (0, 0);
        if let Some(place) = places.get(PARTITION) {
            let number = |key: &str| place.position.get(key).and_then(Value::as_u64);
            match (number("event"), number("row")) {
                (Some(at), Some(made)) => (event, rows_made) = (at, made),
                _ => {
                    return Err(EngineError::Checkpoint {
                        message: format!("table `{}`: its position {} cannot be read", self.table, place.position),
                    });
                }
            }
        }
        Ok(Box::new(DatasetReader {
            generators: self.generators.clone(),
            schema: Arc::new(self.schema.project(projection)?),
            origins: projection.iter().map(|&index| self.origins[index].clone()).collect(),
            partition: Arc::from(PARTITION),
            rows: self.rows.unwrap_or(u64::MAX),
            pacer: Pacer::new(self.rows_per_second),
            event,
            rows_made,
            stop,
            announced: false,
            ended: false,
        }))
    }
}

const PARTITION: &str = "events";

struct DatasetReader {
    generators: Vec<Arc<dyn Generator>>,
    schema: SchemaRef,
    origins: Vec<Origin>,
    partition: PartitionId,
    rows: u64,
    pacer: Pacer,
    /// Number of the next event.
    event: u64,
    /// Rows made so far.
    rows_made: u64,
    stop: StopFlag,
    announced: bool,
    ended: bool,
}

impl DatasetReader {
    fn position(&self) -> Value {
        json!({ "event": self.event, "row": self.rows_made })
    }

    fn next_events(&self) -> std::ops::Range<u64> {
        let wanted = self.pacer.batch_rows().min(self.rows - self.rows_made);
        match &self.generators[..] {
            [single] => single.events_for_rows(self.event, wanted),
            // Each event is a row of the combined table.
            [first, ..] => {
                let end = first.event_count().unwrap_or(eagre_datasets::EVENT_COUNT_MAX);
                self.event..(self.event + wanted).min(end).max(self.event)
            }
            [] => self.event..self.event,
        }
    }

    /// For each event: which table it is of.
    fn kinds(&self, events: std::ops::Range<u64>) -> Vec<usize> {
        let has = |generator: &Arc<dyn Generator>, event: u64| generator.row_count(event..event + 1) > 0;
        events
            .map(|event| self.generators.iter().position(|generator| has(generator, event)).unwrap_or_default())
            .collect()
    }

    fn batch(&self, events: std::ops::Range<u64>) -> eagre_engine::Result<arrow::array::RecordBatch> {
        let failed = EngineError::bug;
        if let [single] = &self.generators[..] {
            let mut wanted: Vec<usize> = Vec::new();
            for origin in &self.origins {
                if let Origin::Column(index) = origin {
                    wanted.push(*index);
                }
            }
            let made = single.batch(events.clone(), Some(&wanted)).map_err(failed)?;
            let rows = made.num_rows();
            let mut made = made.columns().iter();
            let mut columns = Vec::with_capacity(self.origins.len());
            for (index, origin) in self.origins.iter().enumerate() {
                let data_type = self.schema.field(index).data_type();
                let column = match origin {
                    Origin::Column(_) => made.next().cloned(),
                    _ => Some(self.offsets(events.clone(), rows)),
                };
                let column = column.unwrap_or_else(|| new_null_array(data_type, rows));
                columns.push(if column.data_type() == data_type { column } else { cast(&column, data_type)? });
            }
            return batch_of(&self.schema, columns, rows);
        }
        let kinds = self.kinds(events.clone());
        let column = |(index, origin): (usize, &Origin)| -> eagre_engine::Result<ArrayRef> {
            let field = self.schema.field(index);
            let made: ArrayRef = match origin {
                Origin::EventType => Arc::new(Int32Array::from_iter_values(kinds.iter().map(|kind| *kind as i32))),
                Origin::Offset => self.offsets(events.clone(), kinds.len()),
                Origin::EventTime => {
                    let mut parts = Vec::new();
                    for generator in &self.generators {
                        let time = generator.schema().index_of("dateTime")?;
                        let batch = generator.batch(events.clone(), Some(&[time])).map_err(failed)?;
                        parts.push(Arc::clone(batch.column(0)));
                    }
                    let mut taken = vec![0; parts.len()];
                    let places: Vec<(usize, usize)> = kinds
                        .iter()
                        .map(|&kind| {
                            taken[kind] += 1;
                            (kind, taken[kind] - 1)
                        })
                        .collect();
                    let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
                    arrow::compute::interleave(&parts, &places)?
                }
                Origin::Nested(kind, wanted) => self.nested(*kind, wanted, field, &kinds, events.clone())?,
                Origin::Column(_) => return Err(EngineError::bug("a plain column in the combined table")),
            };
            Ok(if made.data_type() == field.data_type() { made } else { cast(&made, field.data_type())? })
        };
        let columns = self.origins.iter().enumerate().map(column).collect::<eagre_engine::Result<Vec<_>>>()?;
        batch_of(&self.schema, columns, kinds.len())
    }

    /// The rows of one kind, null where the event is of another.
    fn nested(
        &self,
        kind: usize,
        wanted: &[usize],
        field: &Field,
        kinds: &[usize],
        events: std::ops::Range<u64>,
    ) -> eagre_engine::Result<ArrayRef> {
        let batch = self.generators[kind].batch(events, Some(wanted)).map_err(EngineError::bug)?;
        let mut next = 0;
        let indices: UInt32Array = kinds
            .iter()
            .map(|&other| {
                (other == kind).then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let DataType::Struct(fields) = field.data_type() else {
            return Err(EngineError::bug("a row of the combined table is a ROW"));
        };
        let child = |(column, field): (&ArrayRef, &Arc<Field>)| -> Result<ArrayRef, ArrowError> {
            let column = if column.data_type() == field.data_type() {
                Arc::clone(column)
            } else {
                cast(column, field.data_type())?
            };
            take(&column, &indices, None)
        };
        let children = batch.columns().iter().zip(fields.iter()).map(child).collect::<Result<Vec<_>, _>>()?;
        let valid = kinds.iter().map(|other| *other == kind).collect::<Vec<_>>();
        Ok(Arc::new(StructArray::try_new(fields.clone(), children, Some(valid.into()))?))
    }

    /// The numbers of the events that are rows.
    fn offsets(&self, events: std::ops::Range<u64>, rows: usize) -> ArrayRef {
        let numbers: Vec<i64> = match &self.generators[..] {
            [single] if (events.end - events.start) as usize != rows => {
                events.filter(|&event| single.row_count(event..event + 1) > 0).map(|event| event as i64).collect()
            }
            _ => events.map(|event| event as i64).collect(),
        };
        Arc::new(arrow::array::Int64Array::from(numbers))
    }
}

impl SourceReader for DatasetReader {
    fn next(&mut self) -> eagre_engine::Result<SourceEvent> {
        if self.stop.is_stopped() || self.ended {
            return Ok(SourceEvent::End);
        }
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        if !self.pacer.is_due() {
            return Ok(SourceEvent::Waiting);
        }
        let events = self.next_events();
        if events.is_empty() {
            self.ended = true;
            return Ok(SourceEvent::PartitionEnd(Arc::clone(&self.partition)));
        }
        let batch = self.batch(events.clone())?;
        let start = self.position();
        self.event = events.end;
        self.rows_made += batch.num_rows() as u64;
        self.pacer.made(batch.num_rows() as u64);
        let (partition, end) = (Arc::clone(&self.partition), self.position());
        Ok(SourceEvent::Batch(SourceBatch { partition, start, end, batch, weights: None, bad_rows: Vec::new() }))
    }
}
