//! Batches pushed from code: `CREATE TABLE t (..) WITH ('connector' = 'push')` and [`InputHandle`].
//!
//! A push waits while the pipeline is busy (that is the backpressure) and is done when the pipeline has the batch: in its queue, or, with a
//! state folder, in the journal on disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use eagre_engine::{EngineError, Result};
use serde_json::json;
use tokio::sync::oneshot;

use crate::error::Error;

/// How many pushed batches may wait.
const QUEUE_BATCHES: usize = 64;

struct Pushed {
    batch: RecordBatch,
    weights: Option<Int64Array>,
    taken: oneshot::Sender<()>,
}

/// The rows that code pushes into one table.
pub struct PushSource {
    table: String,
    schema: SchemaRef,
    replayable: bool,
    /// Not there while a reader has it.
    input: Arc<Mutex<Option<Receiver<Pushed>>>>,
    handle: Mutex<Option<Sender<Pushed>>>,
}

/// Pushes rows into a table. Clones push into the same table; the input ends when all are dropped or one is [closed](Self::close).
#[derive(Clone)]
pub struct InputHandle {
    table: String,
    schema: SchemaRef,
    sender: Sender<Pushed>,
}

impl PushSource {
    /// A table of `schema` that takes pushes.
    pub fn new(table: impl Into<String>, schema: SchemaRef) -> Self {
        let (sender, receiver) = bounded(QUEUE_BATCHES);
        Self {
            table: table.into(),
            schema,
            replayable: false,
            input: Arc::new(Mutex::new(Some(receiver))),
            handle: Mutex::new(Some(sender)),
        }
    }

    /// The handle of this table. The first call gives it away: when it and its clones are gone, the input has ended.
    ///
    /// # Errors
    /// It was given away before.
    pub fn handle(&self) -> Result<InputHandle, Error> {
        let sender = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sender = sender.ok_or_else(|| Error::Usage {
            message: format!("the input of table `{}` was already given out; clone the first handle", self.table),
        })?;
        Ok(InputHandle { table: self.table.clone(), schema: Arc::clone(&self.schema), sender })
    }
}

impl InputHandle {
    /// The columns that a pushed batch must have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Pushes rows; done when the pipeline has taken them in (with a state folder: when they are durable).
    ///
    /// # Errors
    /// The batch has other columns than the table, or the pipeline has ended.
    pub async fn push(&self, batch: RecordBatch) -> Result<(), Error> {
        self.push_changes(batch, None).await
    }

    /// Pushes rows with weights: positive inserts a row that many times, negative takes it back; never zero.
    ///
    /// # Errors
    /// As [`push`](Self::push), or a weight of zero.
    pub async fn push_changes(&self, batch: RecordBatch, weights: Option<Int64Array>) -> Result<(), Error> {
        let usage = |message: String| Err(Error::Usage { message });
        let same = batch.schema().fields().len() == self.schema.fields().len()
            && batch.schema().fields().iter().zip(self.schema.fields()).all(|(a, b)| a.data_type() == b.data_type());
        if !same {
            return usage(format!(
                "table `{}` takes batches of [{}], this one has [{}]",
                self.table,
                columns(&self.schema),
                columns(&batch.schema())
            ));
        }
        if let Some(weights) = &weights
            && (weights.len() != batch.num_rows() || weights.iter().any(|weight| weight.unwrap_or(0) == 0))
        {
            return usage(format!("table `{}`: every row needs a weight that is not zero", self.table));
        }
        // The types are the table's; names and metadata become so, and a null where none may be is told here.
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec()).map_err(EngineError::from)?;
        let (taken, done) = oneshot::channel();
        let sender = self.sender.clone();
        let ended = || Error::Usage { message: format!("the pipeline that reads table `{}` has ended", self.table) };
        let pushed = Pushed { batch, weights, taken };
        // A queue with room takes it at once; a full one is waited for on a thread that may block.
        if let Err(full) = sender.try_send(pushed) {
            let pushed = match full {
                crossbeam_channel::TrySendError::Full(pushed) => pushed,
                crossbeam_channel::TrySendError::Disconnected(_) => return Err(ended()),
            };
            let sent = tokio::task::spawn_blocking(move || sender.send(pushed).is_ok()).await;
            if !sent.unwrap_or(false) {
                return Err(ended());
            }
        }
        done.await.map_err(|_| ended())
    }

    /// Says that no more rows come from this handle.
    pub fn close(self) {}
}

fn columns(schema: &SchemaRef) -> String {
    let columns: Vec<String> =
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    columns.join(", ")
}

impl Source for PushSource {
    fn describe(&self) -> String {
        "push".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        // The code that pushes decides when it ends; until then results stream.
        false
    }

    fn replayable(&self) -> bool {
        self.replayable
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn open(&self, projection: &[usize], _places: &Places, stop: StopFlag) -> Result<Box<dyn SourceReader>> {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let input = input.ok_or_else(|| EngineError::Source {
            table: self.table.clone(),
            message: "another pipeline reads this table already; pushed rows go to one".to_owned(),
        })?;
        Ok(Box::new(PushReader {
            input: Some(input),
            home: Arc::clone(&self.input),
            stop,
            projection: projection.to_vec(),
            partition: Arc::from("push"),
            count: 0,
            announced: false,
            taken: None,
        }))
    }
}

struct PushReader {
    input: Option<Receiver<Pushed>>,
    /// Where the input goes back to, for the next reader.
    home: Arc<Mutex<Option<Receiver<Pushed>>>>,
    stop: StopFlag,
    projection: Vec<usize>,
    partition: PartitionId,
    count: u64,
    announced: bool,
    /// Of the batch that was handed over last: it is safe when the next one is asked for.
    taken: Option<oneshot::Sender<()>>,
}

impl SourceReader for PushReader {
    fn next(&mut self) -> Result<SourceEvent> {
        if let Some(taken) = self.taken.take() {
            // Who pushed may have stopped waiting.
            let _ = taken.send(());
        }
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        if self.stop.is_stopped() {
            return Ok(SourceEvent::End);
        }
        let Some(input) = &self.input else { return Ok(SourceEvent::End) };
        let pushed = match input.recv_timeout(Duration::from_millis(50)) {
            Ok(pushed) => pushed,
            Err(RecvTimeoutError::Timeout) => return Ok(SourceEvent::Waiting),
            Err(RecvTimeoutError::Disconnected) => return Ok(SourceEvent::End),
        };
        self.taken = Some(pushed.taken);
        self.count += 1;
        Ok(SourceEvent::Batch(SourceBatch {
            partition: Arc::clone(&self.partition),
            start: json!(self.count - 1),
            end: json!(self.count),
            batch: pushed.batch.project(&self.projection)?,
            weights: pushed.weights,
            bad_rows: Vec::new(),
        }))
    }

    fn close(&mut self) -> Result<()> {
        // The batch handed over last is in the pipeline's queue; those that were not taken yet wait for the next reader.
        if let Some(taken) = self.taken.take() {
            let _ = taken.send(());
        }
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = self.input.take();
        Ok(())
    }
}
