//! The journal: makes input replayable that is not (standard input, pushed batches), when there is a state folder.
//!
//! Rows are written to the store before the pipeline sees them, as immutable objects of Arrow IPC: whatever waits is written together
//! (group commit), so the cost of making it durable is shared under load. The position of a batch is the number of its object, so
//! a restart reads the journal from the checkpoint's place and goes on with what comes in. Objects older than every kept checkpoint
//! are removed.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use eagre_engine::checkpoint::CheckpointStore;
use eagre_engine::source::{BadRow, PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use eagre_engine::thread::start_detached;
use eagre_engine::{EngineError, Result};
use serde_json::json;

/// Journal objects start with this; then the table, then a number.
pub const JOURNAL_PREFIX: &str = "journal/";

/// The most batches of one object.
const GROUP_BATCHES_MAX: usize = 64;
/// How long a reading may wait before it looks at the stop flag.
const WAIT: Duration = Duration::from_millis(50);

const WEIGHT_COLUMN: &str = "__weight";

/// A source with a journal before it.
pub struct JournaledSource {
    table: String,
    inner: Arc<dyn Source>,
    store: Arc<dyn CheckpointStore>,
    live: bool,
}

impl JournaledSource {
    /// Journals what `inner` gives to `store`. Not `live`: gives what the journal holds and never opens `inner` (replay).
    pub fn new(table: impl Into<String>, inner: Arc<dyn Source>, store: Arc<dyn CheckpointStore>, live: bool) -> Self {
        Self { table: table.into(), inner, store, live }
    }

    fn prefix(&self) -> String {
        format!("{JOURNAL_PREFIX}{}/", self.table)
    }
}

impl Source for JournaledSource {
    fn describe(&self) -> String {
        format!("{}, journalled", self.inner.describe())
    }

    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn bounded(&self) -> bool {
        self.inner.bounded()
    }

    fn replayable(&self) -> bool {
        true
    }

    fn keeps_history(&self) -> bool {
        // Trimmed with the checkpoints.
        false
    }

    fn goes_on(&self) -> bool {
        self.inner.goes_on()
    }

    fn open(&self, projection: &[usize], places: &Places, stop: StopFlag) -> Result<Box<dyn SourceReader>> {
        let partition: PartitionId = Arc::from("journal");
        let resume = places.get(&*partition).and_then(|place| place.position.as_u64()).unwrap_or(0);
        let mut backlog = VecDeque::new();
        let mut next = resume;
        for name in self.store.list(&self.prefix())? {
            let Some(number) = name.rsplit('/').next().and_then(|number| number.parse::<u64>().ok()) else {
                continue;
            };
            if number >= resume {
                backlog.push_back((number, name));
            }
            next = next.max(number + 1);
        }
        let (sender, incoming) = bounded(GROUP_BATCHES_MAX);
        if self.live {
            let mut inner = self.inner.open(projection, &Places::new(), stop.clone())?;
            let read = move || {
                loop {
                    let event = match inner.next() {
                        Ok(SourceEvent::End) if stop.is_draining() => inner.close().map(|()| SourceEvent::End),
                        event => event,
                    };
                    let last = matches!(event, Ok(SourceEvent::End) | Err(_));
                    if sender.send(event).is_err() || last {
                        return;
                    }
                }
            };
            start_detached("eagre-journal", read)?;
        }
        Ok(Box::new(JournalReader {
            store: Arc::clone(&self.store),
            prefix: self.prefix(),
            partition,
            backlog,
            next,
            incoming,
            ready: VecDeque::new(),
            announced: false,
            ended: false,
        }))
    }

    fn committed(&self, oldest: &Places) {
        let Some(place) = oldest.get("journal") else { return };
        let keep_from = place.position.as_u64().unwrap_or(0);
        // What cannot be removed now is removed after a later checkpoint.
        for name in self.store.list(&self.prefix()).unwrap_or_default() {
            let number = name.rsplit('/').next().and_then(|number| number.parse::<u64>().ok());
            if number.is_some_and(|number| number < keep_from) {
                let _ = self.store.delete(&name);
            }
        }
    }
}

struct JournalReader {
    store: Arc<dyn CheckpointStore>,
    prefix: String,
    partition: PartitionId,
    /// Written before the restart.
    backlog: VecDeque<(u64, String)>,
    next: u64,
    incoming: Receiver<Result<SourceEvent>>,
    ready: VecDeque<SourceBatch>,
    announced: bool,
    ended: bool,
}

impl SourceReader for JournalReader {
    fn next(&mut self) -> Result<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        if let Some((number, name)) = self.backlog.pop_front() {
            let bytes =
                self.store.get(&name)?.ok_or_else(|| EngineError::Store { message: format!("`{name}` is missing") })?;
            return Ok(SourceEvent::Batch(self.decode(number, &bytes)?));
        }
        if let Some(batch) = self.ready.pop_front() {
            return Ok(SourceEvent::Batch(batch));
        }
        if self.ended {
            return Ok(SourceEvent::End);
        }
        let mut group = Vec::new();
        match self.incoming.recv_timeout(WAIT) {
            Ok(event) => self.collect(event?, &mut group),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.ended = true,
        }
        while !group.is_empty() && group.len() < GROUP_BATCHES_MAX && !self.ended {
            match self.incoming.try_recv() {
                Ok(event) => self.collect(event?, &mut group),
                Err(_) => break,
            }
        }
        if group.is_empty() {
            return Ok(SourceEvent::Waiting);
        }
        self.write(group)?;
        self.next()
    }

    /// What the source has handed over goes into the journal, where the next reader finds it.
    fn close(&mut self) -> Result<()> {
        while let Ok(event) = self.incoming.recv() {
            let mut group = Vec::new();
            self.collect(event?, &mut group);
            if !group.is_empty() {
                self.write(group)?;
            }
        }
        Ok(())
    }
}

impl JournalReader {
    fn collect(&mut self, event: SourceEvent, group: &mut Vec<SourceBatch>) {
        match event {
            SourceEvent::Batch(batch) => group.push(batch),
            SourceEvent::End => self.ended = true,
            SourceEvent::Partitions(_) | SourceEvent::PartitionEnd(_) | SourceEvent::Waiting => {}
        }
    }

    /// Makes a group durable as one object and one batch.
    fn write(&mut self, group: Vec<SourceBatch>) -> Result<()> {
        let schema = group[0].batch.schema();
        let mut bad_rows = Vec::new();
        let mut rows = 0;
        for batch in &group {
            bad_rows
                .extend(batch.bad_rows.iter().map(|bad| BadRow { before_row: rows + bad.before_row, ..bad.clone() }));
            rows += batch.batch.num_rows();
        }
        let merged = arrow::compute::concat_batches(&schema, group.iter().map(|batch| &batch.batch))?;
        let weights = group.iter().any(|batch| batch.weights.is_some()).then(|| {
            group
                .iter()
                .flat_map(|batch| match &batch.weights {
                    Some(weights) => weights.values().to_vec(),
                    None => vec![1; batch.batch.num_rows()],
                })
                .collect::<Int64Array>()
        });
        let batch = SourceBatch {
            partition: Arc::clone(&self.partition),
            start: json!(self.next),
            end: json!(self.next + 1),
            batch: merged,
            weights,
            bad_rows,
        };
        let name = format!("{}{:020}", self.prefix, self.next);
        if !self.store.put_if_absent(&name, &encode(&batch)?)? {
            return Err(EngineError::Store {
                message: format!("`{name}` in {} was written by another process", self.store.describe()),
            });
        }
        self.next += 1;
        self.ready.push_back(batch);
        Ok(())
    }

    fn decode(&self, number: u64, bytes: &[u8]) -> Result<SourceBatch> {
        let damaged =
            || EngineError::Checkpoint { message: format!("journal object {}{number:020} is damaged", self.prefix) };
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (rows, bad) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(damaged)?;
        let mut batches = StreamReader::try_new(Cursor::new(rows), None)?;
        let mut batch = batches.next().ok_or_else(damaged)??;
        let mut weights = None;
        if let Some(index) = batch.schema().fields().iter().position(|field| field.name() == WEIGHT_COLUMN) {
            weights = Some(batch.remove_column(index).as_primitive::<Int64Type>().clone());
        }
        let mut bad_rows = Vec::new();
        for bad in StreamReader::try_new(Cursor::new(bad), None)? {
            let bad = bad?;
            let number = |index: usize| bad.column(index).as_primitive::<UInt64Type>().clone();
            let text = |index: usize| bad.column(index).as_string::<i32>().clone();
            let (before, origin, offset, reason) = (number(0), text(1), number(2), text(3));
            let raw = bad.column(4).as_binary::<i32>();
            bad_rows.extend((0..bad.num_rows()).map(|row| BadRow {
                before_row: before.value(row) as usize,
                origin: origin.value(row).to_owned(),
                offset: offset.value(row),
                reason: reason.value(row).to_owned(),
                raw: raw.value(row).to_vec(),
            }));
        }
        Ok(SourceBatch {
            partition: Arc::clone(&self.partition),
            start: json!(number),
            end: json!(number + 1),
            batch,
            weights,
            bad_rows,
        })
    }
}

/// Length of the first stream, the rows (weights as a last column), then the bad rows.
fn encode(batch: &SourceBatch) -> Result<Vec<u8>> {
    let stream = |rows: &RecordBatch| -> Result<Vec<u8>> {
        let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
        writer.write(rows)?;
        Ok(writer.into_inner()?)
    };
    let mut rows = batch.batch.clone();
    if let Some(weights) = &batch.weights {
        let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(WEIGHT_COLUMN, DataType::Int64, false)));
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(weights.clone()) as ArrayRef);
        rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    }
    let bad = &batch.bad_rows;
    let bad = RecordBatch::try_from_iter([
        (
            "before_row",
            Arc::new(UInt64Array::from_iter_values(bad.iter().map(|bad| bad.before_row as u64))) as ArrayRef,
        ),
        ("origin", Arc::new(StringArray::from_iter_values(bad.iter().map(|bad| &bad.origin)))),
        ("offset", Arc::new(UInt64Array::from_iter_values(bad.iter().map(|bad| bad.offset)))),
        ("reason", Arc::new(StringArray::from_iter_values(bad.iter().map(|bad| &bad.reason)))),
        ("raw", Arc::new(BinaryArray::from_iter_values(bad.iter().map(|bad| &bad.raw)))),
    ])?;
    let rows = stream(&rows)?;
    let mut bytes = (rows.len() as u64).to_le_bytes().to_vec();
    bytes.extend(rows);
    bytes.extend(stream(&bad)?);
    Ok(bytes)
}
