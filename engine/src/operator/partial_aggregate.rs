//! The local half of an aggregation: rows in, one partial row for each key (and pane) out, before the exchange.
//!
//! Aggregating first where the rows are means that an exchange moves keys, not rows, and that a skewed key costs its shard nothing.
//! Batches mostly lie within one pane, because event time is nearly sorted: the pane is found from the least and greatest time of the
//! batch and the batch is then aggregated as it is; only a batch across a border is cut.
//!
//! With [`PaneEmit::OnClose`] a pane's table is kept until the watermark passes the pane's end. What a checkpoint takes of it is
//! drained and *sealed*: a frozen batch of partial rows that is handed over and later emitted as it is, because whoever comes after
//! merges anyway. So the state has merge semantics: after a restart any shard may take any row, and panes that were emitted are
//! recognised by the watermark. All other forms keep nothing between steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, filter_record_batch, is_not_null, is_null};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};

use super::window::WindowSpec;
use super::{Input, LateRows, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::partial::{as_range, check_chunk, keep_owned, merge_from, newest_time, rows_by, split_by_pane};
use crate::aggregate::table::{GroupTable, StateLayout, state_fields};
use crate::aggregate::{AggregateCall, Slots};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::{ByOwner, hash_columns};
use crate::time::{EventTimeMs, WATERMARK_MIN, event_times_ms};
use crate::wall_clock::WallClock;

/// What windows have to do with the partial rows.
#[derive(Clone, Copy, Debug)]
pub enum PartialWindows {
    /// Nothing: a partial row for each key, each step.
    None,
    /// A partial row for each pane and key.
    Panes {
        /// The windows.
        spec: WindowSpec,
        /// The column of the input that is the event time.
        time_column: usize,
        /// When partial rows leave.
        emit: PaneEmit,
        /// How long after its end a window still takes rows.
        lateness_ms: i64,
    },
    /// The keys hold the window: rows of closed windows are late.
    Attached {
        /// Which of the keys is the window's end.
        end_key: usize,
        /// How long after its end a window still takes rows.
        lateness_ms: i64,
    },
}

/// When the partial rows of a pane leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaneEmit {
    /// When the watermark passes the pane's end.
    OnClose,
    /// Each step, what the step brought.
    EveryStep,
}

/// Rows that were repeated before, once for each grouping set. One that is late is told once, with the columns that it had.
#[derive(Clone, Copy, Debug)]
pub struct Repeated {
    /// How many columns it had.
    pub columns: usize,
    /// The column that says for which set it is there.
    pub id_column: usize,
    /// Of the set that is told.
    pub id: u64,
}

impl Repeated {
    /// Leaves of late rows one of each.
    fn once(self, late: &mut [LateRows]) -> Result<()> {
        for rows in late {
            let ids = cast(rows.rows.column(self.id_column), &DataType::UInt64)?;
            let told: BooleanArray =
                ids.as_primitive::<UInt64Type>().iter().map(|id| Some(id == Some(self.id))).collect();
            fn kept<T: Copy>(values: &[T], told: &BooleanArray) -> Vec<T> {
                values.iter().zip(told.values()).filter(|(_, told)| *told).map(|(value, _)| *value).collect()
            }
            let batch = filter_record_batch(&rows.rows, &told)?;
            if let Some(weights) = &rows.weights {
                let weights: Vec<i64> = kept(weights.values(), &told);
                rows.weights = Some(weights.into());
            }
            rows.rows = batch.project(&(0..self.columns).collect::<Vec<_>>())?;
            rows.event_times = kept(&rows.event_times, &told);
            rows.windows_missed = kept(&rows.windows_missed, &told);
        }
        Ok(())
    }
}

/// Makes [`PartialAggregate`]s.
pub struct PartialAggregateFactory {
    plan: Arc<Plan>,
}

struct Plan {
    keys: Vec<usize>,
    calls: Vec<AggregateCall>,
    windows: PartialWindows,
    clock: WallClock,
    /// Partial rows of what is taken back leave apart.
    apart: bool,
    repeated: Option<Repeated>,
    key_types: Vec<DataType>,
    layout: StateLayout,
    output: SchemaRef,
}

impl PartialAggregateFactory {
    /// Aggregates rows of `input` by the columns `keys`.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared.
    pub fn new(input: SchemaRef, keys: Vec<usize>, calls: Vec<AggregateCall>, windows: PartialWindows) -> Result<Self> {
        let mut fields = Vec::new();
        if matches!(windows, PartialWindows::Panes { .. }) {
            fields.push(Field::new("pane", DataType::Int64, false));
        }
        fields.extend(keys.iter().map(|index| input.field(*index).clone()));
        fields.extend(state_fields(&calls));
        let key_types: Vec<DataType> = keys.iter().map(|index| input.field(*index).data_type().clone()).collect();
        GroupTable::new(&key_types, &calls)?;
        let plan = Plan {
            layout: StateLayout::new(&calls),
            output: Arc::new(Schema::new(fields)),
            keys,
            calls,
            windows,
            clock: WallClock::default(),
            apart: false,
            repeated: None,
            key_types,
        };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Windows, or ends among the keys, that are cut by what `clock` shows.
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        Arc::get_mut(&mut self.plan).expect("no operator was made yet").clock = clock;
        self
    }

    /// Without windows: aggregates what is taken back apart from what comes, into partial rows with weight -1. An operator that forgets
    /// groups must know of the one whether it has the group, and takes the other in any case.
    pub fn with_retractions_apart(mut self, apart: bool) -> Self {
        Arc::get_mut(&mut self.plan).expect("no operator was made yet").apart = apart;
        self
    }

    /// Rows that were repeated for grouping sets.
    pub fn with_repeated(mut self, repeated: Option<Repeated>) -> Self {
        Arc::get_mut(&mut self.plan).expect("no operator was made yet").repeated = repeated;
        self
    }

    /// `[pane], keys.., states..`.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl OperatorFactory for PartialAggregateFactory {
    fn name(&self) -> &'static str {
        "PartialAggregate"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(PartialAggregate {
            plan: Arc::clone(&self.plan),
            panes: BTreeMap::new(),
            pool: Vec::new(),
            bytes: 0,
            watermark: WATERMARK_MIN,
            exchange: None,
            hashes: Vec::new(),
        }))
    }
}

/// Aggregates rows by key, and by pane where there are windows.
pub struct PartialAggregate {
    plan: Arc<Plan>,
    /// Without panes all rows are in pane 0, or in [`RETRACTED`].
    panes: BTreeMap<i64, Pane>,
    /// Empty tables whose memory is used again.
    pool: Vec<GroupTable>,
    /// What panes and pool hold.
    bytes: usize,
    /// The watermark at the end of the last step.
    watermark: EventTimeMs,
    /// Where partial rows go: the places of columns among the keys, and the number of shards.
    exchange: Option<(Vec<usize>, usize)>,
    hashes: Vec<u64>,
}

#[derive(Default)]
struct Pane {
    table: Option<GroupTable>,
    /// Partial rows that a checkpoint has taken, or that came out of one.
    sealed: Vec<RecordBatch>,
    /// What the sealed batches hold.
    sealed_bytes: usize,
    /// What table and sealed batches hold.
    bytes: usize,
}

/// A table with fewer rows is emitted as one batch, which is divided behind it.
const APART_ROWS_MIN: usize = if cfg!(test) { 3 } else { 256 };
/// How many empty tables are kept.
const POOL_MAX: usize = 8;
/// Where there are no panes: the one of what is taken back, where that is kept apart.
const RETRACTED: i64 = -1;
/// The table of a checkpoint.
const PARTIALS: &str = "partials";
const WATERMARK: &str = "watermark";

impl PartialAggregate {
    fn has_panes(&self) -> bool {
        matches!(self.plan.windows, PartialWindows::Panes { .. })
    }

    fn update(&mut self, pane: i64, delta: &Delta) -> Result<()> {
        let Self { plan, panes, pool, bytes, .. } = self;
        let pane = panes.entry(pane).or_default();
        let table = match &mut pane.table {
            Some(table) => table,
            empty => empty.insert(match pool.pop() {
                Some(table) => {
                    *bytes -= table.bytes();
                    table
                }
                None => GroupTable::new(&plan.key_types, &plan.calls)?,
            }),
        };
        table.update(delta, &plan.keys, &plan.calls)?;
        pane.recount(bytes);
        Ok(())
    }

    /// Rows without a window.
    fn take_in(&mut self, delta: Delta) -> Result<()> {
        let Some(weights) = delta.weights.as_ref().filter(|_| self.plan.apart) else {
            return self.update(0, &delta);
        };
        let retracted: BooleanArray = weights.values().iter().map(|weight| Some(*weight < 0)).collect();
        match retracted.true_count() {
            0 => self.update(0, &delta),
            all if all == delta.rows() => self.update(RETRACTED, &delta),
            _ => {
                self.update(RETRACTED, &delta.filter(&retracted)?)?;
                self.update(0, &delta.filter(&arrow::compute::not(&retracted)?)?)
            }
        }
    }

    /// The partial rows of a table, which is empty afterwards.
    fn drain(&self, pane: i64, table: &mut GroupTable) -> Result<RecordBatch> {
        let batch = self.rows_of(pane, table, Slots::First(table.keys.slot_count()))?;
        table.clear();
        Ok(batch)
    }

    /// The partial rows of these slots of a table.
    fn rows_of(&self, pane: i64, table: &mut GroupTable, slots: Slots<'_>) -> Result<RecordBatch> {
        let rows = slots.count();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.plan.output.fields().len());
        if self.has_panes() {
            columns.push(Arc::new(Int64Array::from_value(pane, rows)));
        }
        columns.extend(table.keys.columns(slots)?);
        columns.extend(table.states(slots)?);
        batch_of(&self.plan.output, columns, rows)
    }

    /// Emits the partial rows of a table, which is empty afterwards: those of each shard by themselves where they are many.
    fn emit_table(&mut self, number: i64, table: &mut GroupTable, out: &mut Output) -> Result<()> {
        let retracted = !self.has_panes() && number == RETRACTED;
        let delta = |batch: RecordBatch| match retracted {
            true => Delta::weighted(batch.clone(), Int64Array::from_value(-1, batch.num_rows())),
            false => Delta::insert(batch),
        };
        let rows = table.keys.slot_count();
        let Some((keys, shards)) = self.exchange.as_ref().filter(|_| rows >= APART_ROWS_MIN) else {
            out.emit(delta(self.drain(number, table)?));
            return Ok(());
        };
        let all = table.keys.columns(Slots::First(rows))?;
        let keys: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(&all[*key])).collect();
        hash_columns(&keys, rows, &mut self.hashes)?;
        let by_owner = ByOwner::new(&self.hashes, *shards);
        for shard in 0..*shards {
            let slots = by_owner.rows_of(shard);
            if !slots.is_empty() {
                out.emit_to(shard, delta(self.rows_of(number, table, Slots::Some(slots))?));
            }
        }
        table.clear();
        Ok(())
    }

    fn recycle(&mut self, table: GroupTable) {
        if self.pool.len() < POOL_MAX {
            self.bytes += table.bytes();
            self.pool.push(table);
        }
    }

    /// Emits and forgets a pane.
    fn emit(&mut self, number: i64, mut pane: Pane, out: &mut Output) -> Result<()> {
        self.bytes -= pane.bytes;
        pane.sealed.drain(..).for_each(|batch| out.emit(Delta::insert(batch)));
        if let Some(mut table) = pane.table.take() {
            self.emit_table(number, &mut table, out)?;
            self.recycle(table);
        }
        Ok(())
    }

    /// Merges the sealed batches of a pane, from the one at `first` on, into one.
    fn compact(&mut self, number: i64, sealed: &mut Vec<RecordBatch>, first: usize) -> Result<()> {
        let mut table = match self.pool.pop() {
            Some(table) => {
                self.bytes -= table.bytes();
                table
            }
            None => GroupTable::new(&self.plan.key_types, &self.plan.calls)?,
        };
        for batch in sealed.drain(first..) {
            table.merge(&batch, 1, self.plan.keys.len(), &self.plan.layout)?;
        }
        sealed.push(self.drain(number, &mut table)?);
        self.recycle(table);
        Ok(())
    }

    /// Sorts rows into the panes that they belong to.
    fn sort_into_panes(
        &self,
        delta: Delta,
        cut: PaneCut,
        watermark: EventTimeMs,
        out: &mut Output,
        parts: &mut BTreeMap<i64, Vec<Delta>>,
    ) -> Result<()> {
        cut.each_pane(delta, &self.plan.clock, watermark, out, |pane, delta| {
            parts.entry(pane).or_default().push(delta.clone());
            Ok(())
        })
    }

    /// Emits the panes that the watermark has passed, or all, as [`PaneEmit`] has it; with `before` only those before that pane.
    fn emit_passed(&mut self, passed: EventTimeMs, before: Option<i64>, out: &mut Output) -> Result<()> {
        let comes_first = |pane: i64| before.is_none_or(|before| pane < before);
        while let Some(entry) = self.panes.first_entry().filter(|entry| comes_first(*entry.key())) {
            if let PartialWindows::Panes { spec, emit: PaneEmit::OnClose, .. } = self.plan.windows
                && spec.pane_end(*entry.key()) > passed
            {
                break;
            }
            let (number, pane) = entry.remove_entry();
            self.emit(number, pane, out)?;
        }
        Ok(())
    }

    fn take_in_attached(
        &mut self,
        delta: Delta,
        end_column: usize,
        lateness_ms: i64,
        watermark: EventTimeMs,
        out: &mut Output,
    ) -> Result<()> {
        let closed = watermark.saturating_sub(lateness_ms);
        let ends = event_times_ms(delta.batch.column(end_column))?;
        let closes_at = |row: usize| self.plan.clock.closes_at(ends.value(row));
        let is_late = |row: usize| ends.is_valid(row) && closes_at(row) <= closed;
        if closed == WATERMARK_MIN || !(0..ends.len()).any(is_late) {
            return self.update(0, &delta);
        }
        let mask: BooleanArray = (0..ends.len()).map(|row| Some(is_late(row))).collect();
        let Delta { batch: rows, weights, .. } = delta.filter(&mask)?;
        let event_times: Vec<EventTimeMs> =
            (0..ends.len()).filter(|row| mask.value(*row)).map(|row| closes_at(row).saturating_sub(1)).collect();
        let windows_missed = vec![1; event_times.len()];
        out.late(LateRows { input: None, rows, weights, event_times, windows_missed, watermark });
        let on_time = delta.filter(&arrow::compute::not(&mask)?)?;
        if on_time.is_empty() { Ok(()) } else { self.update(0, &on_time) }
    }
}

impl Pane {
    /// Brings `total` up to date with what the pane holds now, where its table changed.
    fn recount(&mut self, total: &mut usize) {
        *total -= self.bytes;
        self.bytes = self.sealed_bytes + self.table.as_ref().map_or(0, GroupTable::bytes);
        *total += self.bytes;
    }

    /// The same where its sealed batches changed.
    fn recount_sealed(&mut self, total: &mut usize) {
        self.sealed_bytes = self.sealed.iter().map(RecordBatch::get_array_memory_size).sum();
        self.recount(total);
    }
}

/// How rows are cut into panes.
#[derive(Clone, Copy, Debug)]
pub(super) struct PaneCut {
    pub(super) spec: WindowSpec,
    /// The column of the rows that is the event time.
    pub(super) time_column: usize,
    /// How long after its end a window still takes rows.
    pub(super) lateness_ms: i64,
}

impl PaneCut {
    /// Gives `each` the rows of each pane, apart from those that are too late for some window, of which they are told, or for all.
    pub(super) fn each_pane(
        self,
        mut delta: Delta,
        clock: &WallClock,
        watermark: EventTimeMs,
        out: &mut Output,
        mut each: impl FnMut(i64, &Delta) -> Result<()>,
    ) -> Result<()> {
        let Self { spec, time_column, lateness_ms } = self;
        if delta.batch.column(time_column).null_count() > 0 {
            refuse_null_times(&delta, time_column, watermark, out)?;
            delta = delta.filter(&is_not_null(delta.batch.column(time_column))?)?;
        }
        let times = event_times_ms(delta.batch.column(time_column))?;
        let locals = clock.local_times(&times);
        let (times, locals) = (times.values().as_ref(), locals.values().as_ref());
        let Some((least, greatest)) = bounds(locals) else {
            return Ok(());
        };
        // A window takes rows while its end is above this.
        let closed = clock.passed(watermark.saturating_sub(lateness_ms));
        let (first, last) = (spec.pane_of(least), spec.pane_of(greatest));
        let all_windows_open = |pane: i64| spec.first_window_end(pane).is_some_and(|end| end > closed);
        if first == last && all_windows_open(first) {
            return each(first, &delta);
        }
        let (mut late_rows, mut missed_counts) = (Vec::new(), Vec::new());
        for (pane, rows) in rows_by(locals.len(), |row| spec.pane_of(locals[row])) {
            let windows = spec.windows_of_pane(pane);
            let open = windows.ending_after(closed).count_left();
            let missed = windows.count_left() - open;
            if missed > 0 {
                late_rows.extend_from_slice(&rows);
                missed_counts.resize(late_rows.len(), missed as u32);
            }
            if open > 0 {
                let part = match as_range(&rows) {
                    Some((first, count)) => delta.slice(first, count),
                    None => delta.take(&UInt32Array::from(rows))?,
                };
                each(pane, &part)?;
            }
        }
        if !late_rows.is_empty() {
            let event_times = late_rows.iter().map(|row| times[*row as usize]).collect();
            let Delta { batch: rows, weights, .. } = delta.take(&UInt32Array::from(late_rows))?;
            out.late(LateRows { input: None, rows, weights, event_times, windows_missed: missed_counts, watermark });
        }
        Ok(())
    }
}

/// Rows without an event time belong to no window. They are refused as late rows with no window missed and the least event time there
/// is: nothing is dropped in silence.
pub(crate) fn refuse_null_times(
    delta: &Delta,
    time_column: usize,
    watermark: EventTimeMs,
    out: &mut Output,
) -> Result<()> {
    let Delta { batch: rows, weights, .. } = delta.filter(&is_null(delta.batch.column(time_column))?)?;
    let count = rows.num_rows();
    out.late(LateRows {
        input: None,
        rows,
        weights,
        event_times: vec![WATERMARK_MIN; count],
        windows_missed: vec![0; count],
        watermark,
    });
    Ok(())
}

/// The least and the greatest of some times.
fn bounds(times: &[i64]) -> Option<(i64, i64)> {
    let first = *times.first()?;
    Some(times.iter().fold((first, first), |(least, greatest), time| (least.min(*time), greatest.max(*time))))
}

impl Operator for PartialAggregate {
    fn name(&self) -> &'static str {
        "PartialAggregate"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let watermarks = input.watermarks;
        let passed = self.plan.clock.passed(watermarks.after);
        let mut parts = BTreeMap::new();
        for delta in input.single() {
            if delta.is_empty() {
                continue;
            }
            match self.plan.windows {
                PartialWindows::None => self.take_in(delta)?,
                PartialWindows::Panes { spec, time_column, lateness_ms, .. } => {
                    let cut = PaneCut { spec, time_column, lateness_ms };
                    self.sort_into_panes(delta, cut, watermarks.before, out, &mut parts)?;
                }
                PartialWindows::Attached { end_key, lateness_ms } => {
                    let column = self.plan.keys[end_key];
                    self.take_in_attached(delta, column, lateness_ms, watermarks.before, out)?;
                }
            }
        }
        if let Some(repeated) = self.plan.repeated {
            repeated.once(&mut out.late)?;
            out.late.retain(|late| late.rows.num_rows() > 0);
        }
        // Pane by pane: the table of one that leaves is still near, and has the keys of the next one.
        for (pane, deltas) in parts {
            self.emit_passed(passed, Some(pane), out)?;
            deltas.iter().try_for_each(|delta| self.update(pane, delta))?;
        }
        self.watermark = watermarks.after;
        self.emit_passed(passed, None, out)?;
        Ok(Progress::Done)
    }

    fn exchanged(&mut self, columns: &[usize], shards: usize) {
        // What is taken back comes before the rest, whichever way rows leave.
        if self.plan.apart {
            return;
        }
        let first = usize::from(self.has_panes());
        let key = |column: &usize| column.checked_sub(first).filter(|key| *key < self.plan.keys.len());
        let keys: Option<Vec<usize>> = columns.iter().map(key).collect();
        self.exchange = keys.filter(|keys| !keys.is_empty()).map(|keys| (keys, shards));
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        for (number, mut pane) in std::mem::take(&mut self.panes) {
            if let Some(mut table) = pane.table.take() {
                let batch = self.drain(number, &mut table)?;
                self.recycle(table);
                if kind == SaveKind::Changes {
                    state.put(PARTIALS, batch.clone());
                }
                pane.sealed.push(batch);
            }
            let first =
                if kind == SaveKind::Full { (pane.sealed.len() > 1).then_some(0) } else { merge_from(&pane.sealed) };
            if let Some(first) = first {
                self.compact(number, &mut pane.sealed, first)?;
            }
            if kind == SaveKind::Full {
                pane.sealed.iter().for_each(|batch| state.put(PARTIALS, batch.clone()));
            }
            pane.recount_sealed(&mut self.bytes);
            self.panes.insert(number, pane);
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let PartialWindows::Panes { spec, .. } = self.plan.windows else {
            return Ok(());
        };
        self.watermark = newest_time(state.metas, WATERMARK);
        let passed = self.plan.clock.passed(self.watermark);
        for chunk in state.chunks {
            if chunk.table != PARTIALS {
                return Err(EngineError::Checkpoint {
                    message: format!("PartialAggregate knows no state `{}`; start over with `--fresh`", chunk.table),
                });
            }
            check_chunk("PartialAggregate", chunk, &self.plan.output)?;
            let rows = keep_owned(&chunk.rows, 1, self.plan.keys.len(), state.owned)?;
            for (number, rows) in split_by_pane(&rows)? {
                if spec.pane_end(number) > passed {
                    let pane = self.panes.entry(number).or_default();
                    pane.sealed.push(batch_of(&self.plan.output, rows.columns().to_vec(), rows.num_rows())?);
                    pane.recount_sealed(&mut self.bytes);
                }
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn state_rows(&self) -> usize {
        let rows = |pane: &Pane| {
            let sealed: usize = pane.sealed.iter().map(RecordBatch::num_rows).sum();
            sealed + pane.table.as_ref().map_or(0, GroupTable::len)
        };
        self.panes.values().map(rows).sum()
    }
}
