//! Results of a top-level `SELECT`: a bounded queue between the pipeline and whoever reads it, and the table that changes add up to.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::row::{OwnedRow, RowConverter, SortField};
use eagre_engine::checkpoint::CheckpointStore;
use eagre_engine::delta::batch_of;
use eagre_engine::keys::{canonical_values, with_types};
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::{Delta, EngineError, Result};
use tokio::sync::mpsc;

/// How many batches may wait for a reader.
const QUEUE_BATCHES: usize = 64;

/// Rows of a result that changed in one step.
#[derive(Debug, Clone)]
pub struct Change {
    /// The step. After a crash the steps since the last checkpoint come again.
    pub step: u64,
    /// The rows.
    pub batch: RecordBatch,
    /// One weight a row: positive inserts, negative takes back; `None`: all inserted once.
    pub weights: Option<Int64Array>,
}

/// Rows as they are shown: instants are labelled by the zone of the session.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    schema: SchemaRef,
}

impl Shown {
    /// Of rows with the columns of `schema`.
    pub(crate) fn new(schema: &SchemaRef, zone: &str) -> Self {
        fn shown(data_type: &DataType, zone: &str) -> DataType {
            let field =
                |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(shown(field.data_type(), zone)));
            match data_type {
                DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some(zone.into())),
                DataType::List(element) => DataType::List(field(element)),
                DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
                DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
                other => other.clone(),
            }
        }
        let fields = schema.fields().iter().map(|field| {
            let data_type = shown(field.data_type(), zone);
            field.as_ref().clone().with_data_type(data_type)
        });
        Self { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())) }
    }

    /// The columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows.
    pub(crate) fn show(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            match column.data_type() == field.data_type() {
                true => Ok(Arc::clone(column)),
                false => cast(column, field.data_type()),
            }
        });
        batch_of(&self.schema, columns.collect::<Result<Vec<_>, _>>()?, batch.num_rows())
    }
}

/// Sends each step's output to a [`ResultStream`].
#[derive(Clone)]
pub struct ResultSink {
    sender: mpsc::Sender<Change>,
    durable: Option<Durable>,
    /// How the rows are shown, where that differs from those of the pipeline.
    shown: Option<Shown>,
    /// What a restart found and has not sent yet.
    recovered: Vec<Change>,
}

/// Keeps what was sent beside the checkpoints, so that a reader after a restart gets the whole result and not its end.
#[derive(Clone)]
struct Durable {
    store: Arc<dyn CheckpointStore>,
    prefix: String,
    run: String,
    /// Sent since the last checkpoint.
    fresh: Vec<Change>,
    /// The objects of the checkpoints before.
    objects: Vec<String>,
}

/// Objects of kept results start with this.
pub(crate) const RESULTS_PREFIX: &str = "results/";
const STEP_COLUMN: &str = "__step";
const WEIGHT_COLUMN: &str = "__weight";

/// The changes of a result, as they come.
#[derive(Debug)]
pub struct ResultStream {
    receiver: mpsc::Receiver<Change>,
}

/// A sink and the stream that it feeds.
pub fn result_channel() -> (ResultSink, ResultStream) {
    let (sender, receiver) = mpsc::channel(QUEUE_BATCHES);
    (ResultSink { sender, durable: None, shown: None, recovered: Vec::new() }, ResultStream { receiver })
}

impl ResultStream {
    /// The next change; `None`: the pipeline has ended.
    pub async fn next(&mut self) -> Option<Change> {
        self.receiver.recv().await
    }

    /// As [`next`](Self::next), for threads outside of an async runtime.
    pub fn blocking_next(&mut self) -> Option<Change> {
        self.receiver.blocking_recv()
    }
}

impl futures::Stream for ResultStream {
    type Item = Change;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Change>> {
        self.receiver.poll_recv(context)
    }
}

impl SinkFactory for ResultSink {
    fn describe(&self) -> String {
        "results".to_owned()
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

impl ResultSink {
    /// The same sink, with its output kept in `store` under a name of its own; for results that have an end.
    pub(crate) fn durable(mut self, store: Arc<dyn CheckpointStore>, name: &str, run: &str) -> Self {
        let prefix = format!("{RESULTS_PREFIX}{name}/");
        self.durable = Some(Durable { store, prefix, run: run.to_owned(), fresh: Vec::new(), objects: Vec::new() });
        self
    }

    /// The same sink, with its rows as they are shown.
    pub(crate) fn shown_as(self, shown: Shown) -> Self {
        Self { shown: Some(shown), ..self }
    }

    fn shown(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let fits = |shown: &Shown| {
            let types = shown.schema.fields().iter().map(|field| field.data_type());
            batch.columns().iter().map(|column| column.data_type()).eq(types)
        };
        match self.shown.as_ref().filter(|shown| !fits(shown)) {
            Some(shown) => shown.show(batch),
            None => Ok(batch.clone()),
        }
    }

    /// Passes a change on; `false`: nobody reads.
    pub(crate) fn pass(&self, change: Change) -> bool {
        self.sender.blocking_send(change).is_ok()
    }

    fn send(&self, change: Change) {
        // Nobody reads on: the rows have nowhere to go, and the pipeline is stopped by whoever dropped the stream.
        let _ = self.sender.blocking_send(change);
    }

    fn send_recovered(&mut self) {
        for change in std::mem::take(&mut self.recovered) {
            self.send(change);
        }
    }
}

impl Sink for ResultSink {
    fn write(&mut self, step: u64, deltas: &[Delta]) -> Result<()> {
        self.send_recovered();
        for delta in deltas {
            let change = Change { step, batch: self.shown(&delta.batch)?, weights: delta.weights.clone() };
            if let Some(durable) = &mut self.durable {
                durable.fresh.push(change.clone());
            }
            self.send(change);
        }
        Ok(())
    }

    fn prepare(&mut self, step: u64) -> Result<Option<serde_json::Value>> {
        self.send_recovered();
        let Some(durable) = &mut self.durable else {
            return Ok(None);
        };
        if !durable.fresh.is_empty() {
            let name = format!("{}{step:020}-{}", durable.prefix, durable.run);
            durable.store.put_if_absent(&name, &encode_changes(&std::mem::take(&mut durable.fresh))?)?;
            durable.objects.push(name);
        }
        Ok(Some(serde_json::json!({ "objects": durable.objects })))
    }

    fn commit(&mut self, _transaction: &serde_json::Value) -> Result<()> {
        Ok(())
    }

    fn recover(&mut self, transaction: Option<&serde_json::Value>) -> Result<()> {
        let (Some(durable), Some(transaction)) = (&mut self.durable, transaction) else {
            return Ok(());
        };
        let objects = transaction["objects"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        durable.objects = objects.map(str::to_owned).collect();
        for name in &durable.objects {
            let missing =
                || EngineError::Checkpoint { message: format!("`{name}` in {} is missing", durable.store.describe()) };
            let bytes = durable.store.get(name)?.ok_or_else(missing)?;
            self.recovered.extend(decode_changes(&bytes)?);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.send_recovered();
        Ok(())
    }
}

/// Changes as one Arrow stream; step and weight are its last columns.
fn encode_changes(changes: &[Change]) -> Result<Vec<u8>> {
    let Some(first) = changes.first() else {
        return Ok(Vec::new());
    };
    let mut fields: Vec<_> = first.batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(STEP_COLUMN, DataType::UInt64, false)));
    fields.push(Arc::new(Field::new(WEIGHT_COLUMN, DataType::Int64, true)));
    let schema = Arc::new(Schema::new(fields));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    for change in changes {
        let rows = change.batch.num_rows();
        let mut columns = change.batch.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from(vec![change.step; rows])));
        columns.push(Arc::new(change.weights.clone().unwrap_or_else(|| Int64Array::new_null(rows))));
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    Ok(writer.into_inner()?)
}

fn decode_changes(bytes: &[u8]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    if bytes.is_empty() {
        return Ok(changes);
    }
    for batch in StreamReader::try_new(std::io::Cursor::new(bytes), None)? {
        let mut batch = batch?;
        let weights = batch.remove_column(batch.num_columns() - 1).as_primitive::<Int64Type>().clone();
        let steps = batch.remove_column(batch.num_columns() - 1).as_primitive::<UInt64Type>().clone();
        let weights = (weights.null_count() == 0).then_some(weights);
        changes.push(Change { step: steps.values().first().copied().unwrap_or(0), batch, weights });
    }
    Ok(changes)
}

/// The table that changes add up to: rows in the order in which they first came, each as often as its weights say.
pub struct Materialized {
    schema: SchemaRef,
    /// Insert-only batches, kept as they are while nothing was taken back.
    batches: Vec<RecordBatch>,
    counted: Option<Counted>,
}

struct Counted {
    converter: RowConverter,
    /// Position in `rows` of each distinct row: rows that are equal as SQL compares, 0.0 and -0.0, are one.
    index: std::collections::HashMap<OwnedRow, usize>,
    /// A row as it is shown, and how often.
    rows: Vec<(OwnedRow, i64)>,
}

impl Materialized {
    /// An empty table.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: Vec::new(), counted: None }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Applies a change.
    pub fn apply(&mut self, batch: &RecordBatch, weights: Option<&Int64Array>) -> Result<()> {
        let only_inserts = weights.is_none_or(|weights| weights.values().iter().all(|weight| *weight == 1));
        if self.counted.is_none() && only_inserts {
            self.batches.push(batch.clone());
            return Ok(());
        }
        if self.counted.is_none() {
            let fields = self.schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
            let counted = Counted {
                converter: RowConverter::new(fields)?,
                index: std::collections::HashMap::new(),
                rows: Vec::new(),
            };
            self.counted = Some(counted);
            for earlier in std::mem::take(&mut self.batches) {
                self.count(&earlier, None)?;
            }
        }
        self.count(batch, weights)
    }

    fn count(&mut self, batch: &RecordBatch, weights: Option<&Int64Array>) -> Result<()> {
        let counted =
            self.counted.as_mut().ok_or_else(|| EngineError::bug("rows are counted before there is a counter"))?;
        let rows = counted.converter.convert_columns(batch.columns())?;
        let columns: Vec<ArrayRef> = batch.columns().iter().map(canonical_values).collect();
        // Most columns have one form only.
        let as_shown = columns.iter().zip(batch.columns()).all(|(key, shown)| Arc::ptr_eq(key, shown));
        let other = (!as_shown).then(|| counted.converter.convert_columns(&columns)).transpose()?;
        let keys = other.as_ref().unwrap_or(&rows);
        for row in 0..batch.num_rows() {
            let weight = weights.map_or(1, |weights| weights.value(row));
            let key = keys.row(row).owned();
            match counted.index.get(&key) {
                Some(position) => {
                    let (shown, count) = &mut counted.rows[*position];
                    if *count <= 0 && weight > 0 {
                        *shown = rows.row(row).owned();
                    }
                    *count += weight;
                }
                None => {
                    counted.index.insert(key, counted.rows.len());
                    counted.rows.push((rows.row(row).owned(), weight));
                }
            }
        }
        counted.forget_gone();
        Ok(())
    }

    /// The rows, in batches of the schema.
    ///
    /// # Errors
    /// A row was taken back more often than it came: by a table whose changes are not checked, or by a bug in an operator.
    pub fn finish(self) -> Result<Vec<RecordBatch>> {
        let Some(counted) = self.counted else {
            return Ok(self.batches);
        };
        let mut kept = Vec::new();
        for (row, weight) in &counted.rows {
            if *weight < 0 {
                return Err(EngineError::Sink {
                    table: "result".to_owned(),
                    message: "a row was taken back more often than it came, as it can be where a table has 'changelog.check' = 'false' \
                              and takes back what was never there: without that option such rows are in `<table>.errors`; if no \
                              table has it, this is a bug in eagre, please report it"
                        .to_owned(),
                });
            }
            kept.extend(std::iter::repeat_n(row.row(), *weight as usize));
        }
        let types = self.schema.fields().iter().map(|field| field.data_type());
        let columns = with_types(counted.converter.convert_rows(kept)?, types)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        Ok(vec![batch?])
    }
}

impl Counted {
    fn forget_gone(&mut self) {
        let gone = self.rows.iter().filter(|(_, weight)| *weight == 0).count();
        if gone > 1_024 && gone * 2 > self.rows.len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut kept = 0;
        let places: Vec<Option<usize>> = self
            .rows
            .iter()
            .map(|(_, weight)| {
                let place = (*weight != 0).then_some(kept);
                kept += usize::from(place.is_some());
                place
            })
            .collect();
        self.rows.retain(|(_, weight)| *weight != 0);
        self.index.retain(|_, position| match places[*position] {
            Some(place) => {
                *position = place;
                true
            }
            None => false,
        });
    }
}

/// The words of a changelog for rows with weights: `+I`, `-D`, and `-U`/`+U` where a row of the same key goes and comes in one
/// change. A weight of more than one repeats the row. Returns the words and the rows they belong to.
pub fn changelog(
    batch: &RecordBatch,
    weights: Option<&Int64Array>,
    key: Option<&[usize]>,
) -> Result<(Vec<&'static str>, RecordBatch)> {
    let Some(weights) = weights else {
        return Ok((vec!["+I"; batch.num_rows()], batch.clone()));
    };
    let mut keys = None;
    if let Some(columns) = key.filter(|columns| !columns.is_empty()) {
        let columns: Vec<ArrayRef> = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_values).collect();
        keys = Some(RowConverter::new(fields)?.convert_columns(&columns)?);
    }
    let (mut came, mut went) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    if let Some(keys) = &keys {
        for (row, weight) in weights.values().iter().enumerate() {
            if *weight > 0 {
                came.insert(keys.row(row))
            } else {
                went.insert(keys.row(row))
            };
        }
    }
    let global = key.is_some_and(<[usize]>::is_empty);
    let updates = |row: usize| match &keys {
        Some(keys) => came.contains(&keys.row(row)) && went.contains(&keys.row(row)),
        // A key of no columns: there is one row at most.
        None => {
            global
                && weights.values().iter().any(|weight| *weight > 0)
                && weights.values().iter().any(|weight| *weight < 0)
        }
    };
    let mut words = Vec::with_capacity(batch.num_rows());
    let mut rows = Vec::with_capacity(batch.num_rows());
    for (row, weight) in weights.values().iter().enumerate() {
        let word = match (*weight > 0, updates(row)) {
            (true, true) => "+U",
            (true, false) => "+I",
            (false, true) => "-U",
            (false, false) => "-D",
        };
        for _ in 0..weight.unsigned_abs() {
            words.push(word);
            rows.push(row as u32);
        }
    }
    let rows = UInt32Array::from(rows);
    let columns = batch.columns().iter().map(|column| take(column, &rows, None)).collect::<Result<Vec<_>, _>>()?;
    Ok((words, RecordBatch::try_new(batch.schema(), columns)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    fn rows(keys: Vec<&str>, counts: Vec<i64>) -> RecordBatch {
        let columns: [(&str, ArrayRef); 2] =
            [("key", Arc::new(StringArray::from(keys))), ("count", Arc::new(Int64Array::from(counts)))];
        RecordBatch::try_from_iter(columns).expect("two columns of one length")
    }

    /// A reader of the final result must not see rows that were taken back.
    #[test]
    fn changes_add_up() {
        let first = rows(vec!["a", "b"], vec![1, 1]);
        let mut table = Materialized::new(first.schema());
        table.apply(&first, None).expect("inserts");
        let second = rows(vec!["a", "a"], vec![1, 2]);
        table.apply(&second, Some(&Int64Array::from(vec![-1, 1]))).expect("an update");
        let result = table.finish().expect("no negative rows");
        assert_eq!(result[0].column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(result[0].column(1).as_primitive::<Int64Type>().values(), &[1, 2]);
    }

    /// Rows are equal as SQL compares them, and shown as they came; also once what is gone has been forgotten.
    #[test]
    fn both_zeros_are_one_row() {
        let batch = |values: Vec<f64>| {
            RecordBatch::try_from_iter([("f", Arc::new(Float64Array::from(values)) as ArrayRef)]).expect("one column")
        };
        let mut table = Materialized::new(batch(vec![]).schema());
        table.apply(&batch(vec![0.0, 7.0]), None).expect("inserts");
        table.apply(&batch(vec![-0.0]), Some(&Int64Array::from(vec![-1]))).expect("takes back");
        table.apply(&batch(vec![-0.0]), None).expect("inserts");
        let many: Vec<f64> = (0..2_000).map(|value| f64::from(value) + 0.5).collect();
        table.apply(&batch(many.clone()), None).expect("inserts");
        table.apply(&batch(many), Some(&Int64Array::from(vec![-1; 2_000]))).expect("takes back");
        table.apply(&batch(vec![7.0]), Some(&Int64Array::from(vec![-1]))).expect("takes back");
        let result = table.finish().expect("no negative rows");
        let left = result[0].column(0).as_primitive::<Float64Type>().values();
        assert_eq!(left.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), [(-0.0_f64).to_bits()]);
    }

    #[test]
    fn a_row_that_goes_and_comes_is_an_update() {
        let batch = rows(vec!["a", "a", "b", "c"], vec![1, 2, 3, 4]);
        let weights = Int64Array::from(vec![-1, 1, 2, -1]);
        let (words, repeated) = changelog(&batch, Some(&weights), Some(&[0])).expect("words");
        assert_eq!(words, ["-U", "+U", "+I", "+I", "-D"]);
        assert_eq!(repeated.num_rows(), 5);
    }
}
