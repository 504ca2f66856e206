//! From readers to steps: reader threads, the rows that wait to be taken, and how far each partition has come.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{concat_batches, filter, filter_record_batch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::Stopwatch;
use crate::checkpoint::{PartitionState, SourceState};
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::{ExprRef, StepContext};
use crate::graph::{SourceNode, WatermarkStrategy, errors_schema, position_fields};
use crate::log::{SourceTime, Taken};
use crate::source::{BadRow, PartitionId, Place, Places, SourceBatch, SourceEvent, SourceReader, StopFlag};
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms, greatest_time};

/// What a reader thread sends.
#[expect(clippy::large_enum_variant, reason = "moves once for thousands of rows; a box each would cost more")]
pub(crate) enum ReaderMessage {
    Event(SourceEvent),
    Failed(EngineError),
}

/// Runs a reader until it ends, fails or nobody listens. Columns that depend on the rows alone are computed here, beside the steps.
pub(crate) fn run_reader(
    mut reader: Box<dyn SourceReader>,
    columns: Option<(Vec<ExprRef>, SchemaRef)>,
    stop: &StopFlag,
    messages: &Sender<ReaderMessage>,
    busy: &Stopwatch,
) {
    // No step is known here, and no column computed here asks for one.
    let context = StepContext { step: 0, clock_ms: 0, seed: 0 };
    loop {
        let started_ns = busy.now_ns();
        let event = if stop.is_stopped() { Ok(SourceEvent::End) } else { reader.next() };
        let event = match event {
            Ok(SourceEvent::End) if stop.is_draining() => reader.close().map(|()| SourceEvent::End),
            event => event,
        };
        let event = event.and_then(|event| match (event, &columns) {
            (SourceEvent::Batch(batch), Some((exprs, schema))) => {
                compute_columns(batch, exprs, schema, &context, None).map(SourceEvent::Batch)
            }
            (event, _) => Ok(event),
        });
        // Looking whether there is something is no work.
        if !matches!(event, Ok(SourceEvent::Waiting)) {
            busy.add_since(started_ns);
        }
        let (message, last) = match event {
            Ok(SourceEvent::Waiting) => continue,
            Ok(event) => {
                let last = matches!(event, SourceEvent::End);
                (ReaderMessage::Event(event), last)
            }
            Err(error) => (ReaderMessage::Failed(error), true),
        };
        if messages.send(message).is_err() || last {
            return;
        }
    }
}

/// The node's columns from what the source read. Rows on which an expression fails become bad rows.
fn compute_columns(
    batch: SourceBatch,
    exprs: &[ExprRef],
    schema: &SchemaRef,
    context: &StepContext,
    ordinals: Option<&UInt64Array>,
) -> Result<SourceBatch> {
    let evaluate = |rows: &RecordBatch, ordinals: Option<&UInt64Array>| -> Result<RecordBatch> {
        let columns = exprs
            .iter()
            .map(|expr| match expr.as_column() {
                Some(index) => Ok(Arc::clone(rows.column(index))),
                None => expr.evaluate(rows, context, ordinals),
            })
            .collect::<Result<Vec<_>>>()?;
        batch_of(schema, columns, rows.num_rows())
    };
    if let Ok(computed) = evaluate(&batch.batch, ordinals) {
        return Ok(SourceBatch { batch: computed, ..batch });
    }
    let rows = batch.batch.num_rows();
    let mut good = Vec::with_capacity(rows);
    let mut bad_rows = Vec::new();
    let mut known_bad = batch.bad_rows.into_iter().peekable();
    let mut good_count = 0;
    for row in 0..rows {
        while let Some(bad) = known_bad.next_if(|bad| bad.before_row <= row) {
            bad_rows.push(BadRow { before_row: good_count, ..bad });
        }
        let one = batch.batch.slice(row, 1);
        let ordinal = ordinals.map(|ordinals| ordinals.slice(row, 1));
        let evaluated = evaluate(&one, ordinal.as_ref());
        good.push(evaluated.is_ok());
        match evaluated {
            Ok(_) => good_count += 1,
            Err(error) => bad_rows.push(BadRow {
                before_row: good_count,
                origin: batch.partition.to_string(),
                offset: row as u64,
                reason: error.to_string(),
                raw: super::rows_as_json(&one)?.pop().unwrap_or_default().into_bytes(),
            }),
        }
    }
    bad_rows.extend(known_bad.map(|bad| BadRow { before_row: good_count, ..bad }));
    let mask = BooleanArray::from(good);
    let kept = filter_record_batch(&batch.batch, &mask)?;
    let kept_ordinals = ordinals.map(|ordinals| filter(ordinals, &mask)).transpose()?;
    let kept_ordinals = kept_ordinals.as_ref().and_then(|o| o.as_any().downcast_ref::<UInt64Array>());
    let weights = batch.weights.as_ref().map(|weights| filter(weights, &mask)).transpose()?;
    let weights = weights.and_then(|weights| weights.as_any().downcast_ref::<Int64Array>().cloned());
    Ok(SourceBatch { batch: evaluate(&kept, kept_ordinals)?, weights, bad_rows, ..batch })
}

/// A source as the coordinator sees it.
pub(crate) struct Input {
    pub node: SourceNode,
    /// Of what is computed from the source's columns.
    pub schema: SchemaRef,
    /// Of what leaves.
    output: SchemaRef,
    pub index: usize,
    pub messages: Receiver<ReaderMessage>,
    /// Columns are computed when rows are taken (they need the step), not by the reader.
    volatile: bool,
    queue: VecDeque<Queued>,
    queued_rows: usize,
    partitions: BTreeMap<PartitionId, Partition>,
    /// Whether the reader has said that it is over.
    pub ended: bool,
    /// Whether the reader was stopped before that.
    stopped: bool,
    stop: StopFlag,
    watermark: Option<EventTimeMs>,
}

struct Queued {
    batch: SourceBatch,
    rows_taken: usize,
    bad_rows_taken: usize,
    received_ms: i64,
}

impl Queued {
    /// Whether its next `rows` rows end between the two rows of an update.
    fn is_torn_after(&self, rows: usize) -> bool {
        let end = self.rows_taken.saturating_add(rows);
        let is_update = |weights: &Int64Array| {
            rows > 0 && end < weights.len() && weights.value(end - 1) < 0 && weights.value(end) > 0
        };
        self.batch.weights.as_ref().is_some_and(is_update)
    }
}

#[derive(Default)]
struct Partition {
    place: Option<Place>,
    /// Rows of the first batch that were taken before the restart.
    skip: u64,
    watermark: Option<EventTimeMs>,
    ended: bool,
    active_ms: i64,
    /// Rows and unreadable rows taken so far; `None`: from a checkpoint that does not say.
    records: Option<u64>,
}

/// An open reading.
pub(crate) struct Reading {
    pub messages: Receiver<ReaderMessage>,
    /// Tells it to stop.
    pub stop: StopFlag,
}

/// What a step takes from one source.
#[derive(Default)]
pub(crate) struct Cut {
    pub rows: Vec<Delta>,
    pub errors: Vec<Delta>,
    pub taken: Vec<Taken>,
    pub row_count: u64,
    pub bad_row_count: u64,
    /// How long the row that waited longest had been handed over.
    pub waited_ms: i64,
}

impl Input {
    /// The columns of a node's output that are computed from those of its source: all but its [positions](SourceNode::positions).
    pub(crate) fn computed_schema(node: &SourceNode, output: &SchemaRef) -> Result<SchemaRef> {
        match node.positions {
            true => Ok(Arc::new(output.project(&(0..node.columns.len()).collect::<Vec<_>>())?)),
            false => Ok(Arc::clone(output)),
        }
    }

    pub(crate) fn new(
        node: SourceNode,
        schema: SchemaRef,
        index: usize,
        reading: Reading,
        volatile: bool,
        saved: Option<&SourceState>,
        now_ms: i64,
    ) -> Self {
        let partitions = saved.into_iter().flat_map(|saved| &saved.partitions).map(|(name, partition)| {
            let skip = partition.place.as_ref().map_or(0, |place| place.rows);
            let state = Partition {
                place: partition.place.clone(),
                skip,
                watermark: partition.watermark,
                ended: partition.ended,
                active_ms: now_ms,
                records: partition.records,
            };
            (PartitionId::from(name.as_str()), state)
        });
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        fields.extend(node.positions.then(position_fields).into_iter().flatten());
        Self {
            partitions: partitions.collect(),
            watermark: saved.and_then(|saved| saved.watermark),
            output: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
            node,
            schema,
            index,
            messages: reading.messages,
            stop: reading.stop,
            volatile,
            queue: VecDeque::new(),
            queued_rows: 0,
            ended: false,
            stopped: false,
        }
    }

    /// The places to open a reader at.
    pub(crate) fn places(saved: Option<&SourceState>) -> Places {
        let partitions = saved.into_iter().flat_map(|saved| &saved.partitions);
        partitions.filter_map(|(name, partition)| Some((name.clone(), partition.place.clone()?))).collect()
    }

    /// Takes in what the reader has sent, until `rows_max` rows wait.
    pub(crate) fn poll(&mut self, rows_max: usize, now_ms: i64) -> Result<()> {
        while self.is_open() && self.queued_rows < rows_max {
            match self.messages.try_recv() {
                Ok(message) => self.receive(message, now_ms)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(EngineError::bug(format!(
                        "the reader of `{}` is gone without a word",
                        self.node.table
                    )));
                }
            }
        }
        Ok(())
    }

    /// Takes in one message.
    pub(crate) fn receive(&mut self, message: ReaderMessage, now_ms: i64) -> Result<()> {
        let fresh = || Partition { active_ms: now_ms, records: Some(0), ..Partition::default() };
        match message {
            ReaderMessage::Failed(error) => return Err(error),
            ReaderMessage::Event(SourceEvent::Partitions(ids)) => {
                for id in ids {
                    // One that had ended may have grown: its rows count for the watermark again.
                    self.partitions.entry(id).or_insert_with(fresh).ended = false;
                }
            }
            ReaderMessage::Event(SourceEvent::Batch(mut batch)) => {
                let partition = self.partitions.entry(Arc::clone(&batch.partition)).or_insert_with(fresh);
                let rows = batch.batch.num_rows();
                let skip = (partition.skip as usize).min(rows);
                let whole = partition.skip > 0 && skip == rows && partition.skip as usize >= rows;
                partition.skip -= skip as u64;
                if skip > 0 {
                    batch.bad_rows.retain(|bad| bad.before_row >= skip);
                }
                if whole && batch.bad_rows.is_empty() {
                    return Ok(());
                }
                self.queued_rows += rows - skip;
                self.queue.push_back(Queued { batch, rows_taken: skip, bad_rows_taken: 0, received_ms: now_ms });
            }
            ReaderMessage::Event(SourceEvent::PartitionEnd(id)) => {
                // Rows of the partition may still wait: it ends for the watermark when they are taken.
                let partition = self.partitions.entry(Arc::clone(&id)).or_insert_with(fresh);
                partition.ended = true;
            }
            // A reader that was told to stop has not come to the end of its rows.
            ReaderMessage::Event(SourceEvent::End) if self.stop.is_stopped() => self.stopped = true,
            ReaderMessage::Event(SourceEvent::End) => self.ended = true,
            ReaderMessage::Event(SourceEvent::Waiting) => {}
        }
        Ok(())
    }

    /// Whether rows (or bad rows) wait.
    pub(crate) fn has_rows(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the reader may have more to say.
    pub(crate) fn is_open(&self) -> bool {
        !self.ended && !self.stopped
    }

    /// Whether all that the reader has handed over was taken, and it hands over no more.
    pub(crate) fn drained(&self) -> bool {
        !self.is_open() && self.queue.is_empty()
    }

    /// Whether everything was read and taken.
    pub(crate) fn exhausted(&self) -> bool {
        self.ended && self.queue.is_empty()
    }

    /// Takes up to `budget` rows in order of arrival, or one more: what takes a row back and the row that comes in its place are an update,
    /// which is not torn, so that no step shows a state that its source never had.
    pub(crate) fn take(
        &mut self,
        budget: &mut usize,
        bytes: &mut u64,
        cut: &mut Cut,
        stamp: &mut Stamp<'_>,
    ) -> Result<()> {
        while *budget > 0 && *bytes > 0 && !self.queue.is_empty() {
            let rows_max = *budget + usize::from(self.queue[0].is_torn_after(*budget));
            let (rows, _) = self.take_from(0, rows_max as u64, u64::MAX, cut, stamp, bytes)?;
            // A batch of bad rows alone costs as much as a row, so that a file of nothing else cannot hold a step up for ever.
            *budget = budget.saturating_sub((rows as usize).max(1));
        }
        Ok(())
    }

    /// Takes what is `left` of what a step took of a partition before (replay), however batches are cut now. `false`: not all of it is there yet.
    pub(crate) fn take_again(&mut self, left: &mut Taken, cut: &mut Cut, stamp: &mut Stamp<'_>) -> Result<bool> {
        let mut bytes = u64::MAX;
        while left.rows > 0 || left.bad_rows_behind > 0 {
            let Some(position) = self.queue.iter().position(|queued| *queued.batch.partition == *left.partition) else {
                return Ok(false);
            };
            let queued = self.queue.len();
            let waiting = (self.queue[position].batch.batch.num_rows() - self.queue[position].rows_taken) as u64;
            // Unreadable rows before the next good one are none of those behind the last.
            let bad_rows_max = if waiting < left.rows { u64::MAX } else { left.bad_rows_behind };
            let (rows, bad_rows) = self.take_from(position, left.rows, bad_rows_max, cut, stamp, &mut bytes)?;
            left.rows -= rows;
            left.bad_rows_behind -= if bad_rows_max == u64::MAX { 0 } else { bad_rows };
            if rows == 0 && bad_rows == 0 && self.queue.len() == queued {
                return Err(EngineError::Source {
                    table: self.node.table.clone(),
                    message: format!(
                        "a row of `{}` that could not be read can be read now; a replay needs the input as it was",
                        left.partition
                    ),
                });
            }
        }
        Ok(true)
    }

    /// Takes up to `rows_max` rows of one waiting batch, the unreadable ones among them, and, where these are the last good ones of the batch, up
    /// to `bad_rows_max` unreadable ones behind. Returns how many good ones, and how many behind.
    fn take_from(
        &mut self,
        position: usize,
        rows_max: u64,
        bad_rows_max: u64,
        cut: &mut Cut,
        stamp: &mut Stamp<'_>,
        bytes: &mut u64,
    ) -> Result<(u64, u64)> {
        let queued = &mut self.queue[position];
        let total = queued.batch.batch.num_rows();
        let start = queued.rows_taken;
        let rows = ((total - start) as u64).min(rows_max) as usize;
        let end = start + rows;
        let waiting = &queued.batch.bad_rows[queued.bad_rows_taken..];
        let among = waiting.iter().take_while(|bad| bad.before_row < end).count();
        let behind = waiting[among..].iter().take_while(|bad| bad.before_row == end).count();
        // A batch that is left before its end begins again with what stands before its next good row.
        let behind =
            if end < total && bad_rows_max == u64::MAX { 0 } else { (behind as u64).min(bad_rows_max) as usize };
        let bad_rows: Vec<BadRow> = waiting[..among + behind]
            .iter()
            .map(|bad| BadRow { before_row: bad.before_row.saturating_sub(start), ..bad.clone() })
            .collect();
        queued.bad_rows_taken += bad_rows.len();
        let whole = end == total && queued.bad_rows_taken == queued.batch.bad_rows.len();
        let mut slice = SourceBatch {
            batch: queued.batch.batch.slice(start, rows),
            weights: queued.batch.weights.as_ref().map(|weights| weights.slice(start, rows)),
            bad_rows,
            partition: Arc::clone(&queued.batch.partition),
            start: serde_json::Value::Null,
            end: serde_json::Value::Null,
        };
        let name = Arc::clone(&queued.batch.partition);
        cut.waited_ms = cut.waited_ms.max(stamp.context.clock_ms.saturating_sub(queued.received_ms));
        queued.rows_taken = end;
        let place = if whole {
            Place { position: queued.batch.end.clone(), rows: 0 }
        } else {
            Place { position: queued.batch.start.clone(), rows: end as u64 }
        };
        if whole {
            self.queue.remove(position);
        }
        self.queued_rows -= rows;
        let ordinals = self.node.ordinals.then(|| stamp.ordinals(rows));
        let records = (rows + slice.bad_rows.len()) as u64;
        if self.volatile {
            let computed = compute_columns(slice, &self.node.columns, &self.schema, stamp.context, ordinals.as_ref())?;
            slice = computed;
        }
        if self.node.fail_on_bad_rows
            && let Some(bad) = slice.bad_rows.first()
        {
            return Err(EngineError::Source {
                table: self.node.table.clone(),
                message: format!(
                    "{} at offset {}: {} (the table has 'bad-rows' = 'fail'; without it the row goes to `{}.errors`)",
                    bad.origin, bad.offset, bad.reason, self.node.table
                ),
            });
        }
        let watermark = self.observe(&slice.batch, stamp.context)?;
        let partition = self.partitions.entry(Arc::clone(&name)).or_default();
        if self.node.positions {
            slice.batch = with_positions(&slice, partition.records, &self.output)?;
        }
        partition.records = partition.records.map(|before| before + records);
        partition.place = Some(place);
        partition.active_ms = stamp.context.clock_ms;
        partition.watermark = partition.watermark.max(watermark);
        cut.row_count += rows as u64;
        cut.bad_row_count += slice.bad_rows.len() as u64;
        match cut.taken.last_mut() {
            Some(last) if last.source == self.index && last.partition == *name => {
                last.rows += rows as u64;
                last.bad_rows_behind = behind as u64 + if rows == 0 { last.bad_rows_behind } else { 0 };
            }
            _ => cut.taken.push(Taken {
                source: self.index,
                partition: name.to_string(),
                rows: rows as u64,
                bad_rows_behind: behind as u64,
            }),
        }
        if !slice.bad_rows.is_empty() {
            Delta::insert(bad_rows_batch(&slice.bad_rows)?).split(&mut cut.errors);
        }
        if slice.batch.num_rows() > 0 {
            // The share of a slice in its buffers: slices of one batch count them once together.
            let share = rows as f64 / total.max(1) as f64;
            *bytes = bytes.saturating_sub((slice.batch.get_array_memory_size() as f64 * share) as u64);
            let ordinals = ordinals.filter(|ordinals| ordinals.len() == slice.batch.num_rows());
            Delta { batch: slice.batch, weights: slice.weights, ordinals }.split(&mut cut.rows);
        }
        Ok((rows as u64, behind as u64))
    }

    /// The watermark that these rows allow.
    fn observe(&self, rows: &RecordBatch, context: &StepContext) -> Result<Option<EventTimeMs>> {
        let Some(spec) = &self.node.watermark else { return Ok(None) };
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let greatest = |column| -> Result<Option<EventTimeMs>> { Ok(greatest_time(&event_times_ms(column)?)) };
        match &spec.strategy {
            WatermarkStrategy::BoundedOutOfOrderness { delay_ms } => {
                Ok(greatest(rows.column(spec.time_column))?.map(|time| time.saturating_sub(*delay_ms)))
            }
            WatermarkStrategy::Expression(expr) => greatest(&expr.evaluate(rows, context, None)?),
        }
    }

    /// Moves the source's watermark: to the least of the partitions that go on and are not idle. Where all of these are idle, none holds
    /// time back, and it is where the furthest partition has come, which may have ended.
    pub(crate) fn advance_watermark(&mut self, now_ms: i64) -> SourceTime {
        let active = |watermark| SourceTime { watermark, idle: false };
        if self.exhausted() {
            self.watermark = Some(WATERMARK_MAX);
            return active(WATERMARK_MAX);
        }
        if self.node.watermark.is_none() {
            return active(WATERMARK_MIN);
        }
        let waiting = |id: &PartitionId| self.queue.iter().any(|queued| queued.batch.partition == *id);
        let mut going_on = self.partitions.iter().filter(|(id, partition)| !partition.ended || waiting(id)).peekable();
        if going_on.peek().is_none() {
            // Nothing is known, or what is known has ended and more may come: time stands still.
            return active(self.watermark.unwrap_or(WATERMARK_MIN));
        }
        let timeout = self.node.idle_timeout_ms.filter(|timeout| *timeout > 0);
        let is_idle =
            |partition: &Partition| timeout.is_some_and(|timeout| now_ms - partition.active_ms >= timeout as i64);
        let awake = going_on.filter(|(_, partition)| !is_idle(partition));
        let least = awake.map(|(_, partition)| partition.watermark.unwrap_or(WATERMARK_MIN)).min();
        let idle = least.is_none();
        self.watermark = self.watermark.max(least.or_else(|| self.front()));
        SourceTime { watermark: self.watermark.unwrap_or(WATERMARK_MIN), idle }
    }

    /// When, in processing time, the next partition becomes idle.
    pub(crate) fn next_idle_ms(&self, now_ms: i64) -> Option<i64> {
        let timeout = self.node.idle_timeout_ms.filter(|timeout| *timeout > 0)? as i64;
        let live = self.partitions.values().filter(|partition| !partition.ended);
        live.map(|partition| partition.active_ms + timeout).filter(|at| *at > now_ms).min()
    }

    /// The greatest watermark of any partition, for holding back a source that is far ahead.
    pub(crate) fn front(&self) -> Option<EventTimeMs> {
        self.partitions.values().filter_map(|partition| partition.watermark).max()
    }

    /// For the checkpoint.
    pub(crate) fn state(&self) -> SourceState {
        let partitions = self.partitions.iter().map(|(id, partition)| {
            let waiting = self.queue.iter().any(|queued| queued.batch.partition == *id);
            let state = PartitionState {
                place: partition.place.clone(),
                watermark: partition.watermark,
                ended: partition.ended && !waiting,
                records: partition.records,
            };
            (id.to_string(), state)
        });
        SourceState {
            table: self.node.table.clone(),
            partitions: partitions.collect(),
            watermark: self.watermark,
            ended: self.exhausted(),
        }
    }
}

/// The rows of a slice with where they are in their source; `before`: how many records of the partition come before it.
fn with_positions(slice: &SourceBatch, before: Option<u64>, schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = slice.batch.num_rows();
    let mut bad = slice.bad_rows.iter().map(|bad| bad.before_row).peekable();
    let mut passed = 0;
    let offsets = (0..rows).map(|row| {
        while bad.next_if(|before_row| *before_row <= row).is_some() {
            passed += 1;
        }
        before.map(|before| (before + passed) as i64 + row as i64)
    });
    let offsets: Int64Array = offsets.collect();
    let mut columns = slice.batch.columns().to_vec();
    columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&*slice.partition, rows))));
    columns.push(Arc::new(offsets));
    batch_of(schema, columns, rows)
}

/// Gives rows their arrival numbers.
pub(crate) struct Stamp<'a> {
    pub context: &'a StepContext,
    pub next_ordinal: &'a mut u64,
}

impl Stamp<'_> {
    fn ordinals(&mut self, rows: usize) -> UInt64Array {
        let start = *self.next_ordinal;
        *self.next_ordinal += rows as u64;
        UInt64Array::from_iter_values(start..*self.next_ordinal)
    }
}

/// Joins neighbours that are small, so that a source of single rows does not make every operator pay for each.
pub(crate) fn coalesce(deltas: Vec<Delta>) -> Result<Vec<Delta>> {
    const SMALL: usize = DELTA_ROWS_MAX / 4;
    if deltas.len() < 2 || deltas.iter().all(|delta| delta.rows() >= SMALL) {
        return Ok(deltas);
    }
    let mut out: Vec<Delta> = Vec::new();
    let mut run: Vec<Delta> = Vec::new();
    let mut run_rows = 0;
    let flush = |run: &mut Vec<Delta>, out: &mut Vec<Delta>| -> Result<()> {
        match run.len() {
            0 => {}
            1 => out.append(run),
            _ => {
                out.push(concat(run)?);
                run.clear();
            }
        }
        Ok(())
    };
    for delta in deltas {
        let fits = run_rows + delta.rows() <= DELTA_ROWS_MAX && delta.rows() < SMALL;
        let alike = run.last().is_none_or(|last: &Delta| last.weights.is_some() == delta.weights.is_some());
        if !(fits && alike) {
            flush(&mut run, &mut out)?;
            run_rows = 0;
        }
        run_rows += delta.rows();
        run.push(delta);
    }
    flush(&mut run, &mut out)?;
    Ok(out)
}

fn concat(run: &[Delta]) -> Result<Delta> {
    let batch = concat_batches(&run[0].batch.schema(), run.iter().map(|delta| &delta.batch))?;
    let weights: Option<Vec<&dyn Array>> = run.iter().map(|d| d.weights.as_ref().map(|w| w as &dyn Array)).collect();
    let ordinals: Option<Vec<&dyn Array>> = run.iter().map(|d| d.ordinals.as_ref().map(|o| o as &dyn Array)).collect();
    let weights = weights.map(|weights| arrow::compute::concat(&weights)).transpose()?;
    let ordinals = ordinals.map(|ordinals| arrow::compute::concat(&ordinals)).transpose()?;
    Ok(Delta {
        batch,
        weights: weights.and_then(|weights| weights.as_any().downcast_ref::<Int64Array>().cloned()),
        ordinals: ordinals.and_then(|ordinals| ordinals.as_any().downcast_ref::<UInt64Array>().cloned()),
    })
}

fn bad_rows_batch(bad: &[BadRow]) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(
        errors_schema(),
        vec![
            Arc::new(StringArray::from_iter_values(bad.iter().map(|bad| &bad.origin))),
            Arc::new(UInt64Array::from_iter_values(bad.iter().map(|bad| bad.offset))),
            Arc::new(StringArray::from_iter_values(bad.iter().map(|bad| &bad.reason))),
            Arc::new(BinaryArray::from_iter_values(bad.iter().map(|bad| &bad.raw))),
        ],
    )?)
}

#[cfg(test)]
mod tests;
