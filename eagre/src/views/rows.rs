//! The rows that a view holds, as a source: a new view over it is filled from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use eagre_engine::Result;
use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::{Node, NodeKind, SourceNode};
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use serde_json::json;

/// How long a reader that has nothing more to give sleeps between two looks at the stop flag.
const SILENCE: Duration = Duration::from_millis(5);

/// Rows that are handed over once, and then nothing.
struct RowsSource {
    view: String,
    schema: SchemaRef,
    rows: Vec<RecordBatch>,
    /// How many sources of the run have more to give.
    busy: Arc<AtomicUsize>,
}

/// A node that gives the `rows` of a view in the place of the one that made them.
pub(super) fn node(made_by: &Node, view: &str, rows: Vec<RecordBatch>, busy: &Arc<AtomicUsize>) -> Node {
    busy.fetch_add(1, Ordering::SeqCst);
    let schema = Arc::clone(&made_by.output.schema);
    let column = |(index, field): (usize, &FieldRef)| Arc::new(PlainColumn::new(index, Arc::clone(field))) as ExprRef;
    let source = SourceNode {
        table: view.to_owned(),
        projection: (0..schema.fields().len()).collect(),
        columns: schema.fields().iter().enumerate().map(column).collect(),
        watermark: None,
        idle_timeout_ms: None,
        ordinals: made_by.output.ordinals,
        positions: false,
        fail_on_bad_rows: false,
        source: Arc::new(RowsSource { view: view.to_owned(), schema, rows, busy: Arc::clone(busy) }),
    };
    Node { kind: NodeKind::Source(source), inputs: Vec::new(), ..made_by.clone() }
}

impl Source for RowsSource {
    fn describe(&self) -> String {
        format!("rows of view {}", self.view)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        false
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(&self, _projection: &[usize], _places: &Places, stop: StopFlag) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(RowsReader {
            rows: self.rows.clone().into_iter().enumerate().collect::<Vec<_>>().into_iter(),
            partition: Arc::from("view"),
            announced: false,
            busy: Some(Arc::clone(&self.busy)),
            stop,
        }))
    }
}

struct RowsReader {
    rows: std::vec::IntoIter<(usize, RecordBatch)>,
    partition: PartitionId,
    announced: bool,
    busy: Option<Arc<AtomicUsize>>,
    stop: StopFlag,
}

impl SourceReader for RowsReader {
    fn next(&mut self) -> Result<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        if let Some((index, batch)) = self.rows.next() {
            return Ok(SourceEvent::Batch(SourceBatch {
                partition: Arc::clone(&self.partition),
                start: json!(index),
                end: json!(index + 1),
                batch,
                weights: None,
                bad_rows: Vec::new(),
            }));
        }
        // All was handed over, for more is asked for.
        if let Some(busy) = self.busy.take() {
            busy.fetch_sub(1, Ordering::SeqCst);
        }
        if self.stop.is_stopped() {
            return Ok(SourceEvent::End);
        }
        std::thread::sleep(SILENCE);
        Ok(SourceEvent::Waiting)
    }
}
