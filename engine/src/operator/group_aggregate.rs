//! The global half of an aggregation that keeps its groups: partial rows in, changes of results out.
//!
//! Without a window a group lives as long as it has rows, and each step emits for each key that it touched the old result with weight
//! -1 and the new one with weight 1, once, and nothing where they are equal. With a window among the keys the groups are freed when
//! the watermark passes the window's end and the allowed lateness; they speak each step, or first when the window closes.
//!
//! Old results are evaluated when a step first touches a group, so no second copy of the results is kept. A checkpoint takes the
//! groups that changed since the last one and the keys that vanished, and is applied in order: a row replaces what an older one says
//! of its key. Of the distinct values of a group that an older checkpoint has, it takes those that changed. Groups freed by time leave no trace in it, because the watermark beside it says that they are gone, or the clock and
//! the time at which they were last touched ([`super::ttl`]).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{concat, filter_record_batch, take};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};

use super::ttl::{KeyTtl, touched_field, touched_of};
use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::aggregate::table::{GroupTable, StateLayout, result_fields, types_of};
use crate::aggregate::{AggregateCall, Slots};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::{Words, by_native, native_values};
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms};
use crate::wall_clock::WallClock;

/// When the groups of a window speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupEmit {
    /// Changes each step.
    EveryStep,
    /// First when the window closes, then corrections.
    OnWindowClose,
}

/// The window among the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupWindow {
    /// Which of the keys is the window's end. A group where it is null is never freed before the end of the input.
    pub end_key: usize,
    /// When results leave.
    pub emit: GroupEmit,
    /// How long after its end a window still takes rows.
    pub lateness_ms: i64,
}

/// Makes [`GroupAggregate`]s.
pub struct GroupAggregateFactory {
    plan: Arc<Plan>,
}

struct Plan {
    key_count: usize,
    key_types: Vec<DataType>,
    calls: Vec<AggregateCall>,
    layout: StateLayout,
    row_count_call: Option<usize>,
    window: Option<GroupWindow>,
    clock: WallClock,
    /// A group that was not touched for so long is forgotten.
    ttl_ms: Option<i64>,
    input: SchemaRef,
    /// Saved groups: partial rows, and when they were touched.
    saved: SchemaRef,
    removed: SchemaRef,
    output: SchemaRef,
    /// The output has weights.
    updating: bool,
}

impl Plan {
    /// Whether groups are first shown when their window closes.
    fn on_close(&self) -> bool {
        self.window.is_some_and(|window| window.emit == GroupEmit::OnWindowClose)
    }
}

impl GroupAggregateFactory {
    /// Merges partial rows `input` (`keys.., states..`) into results for each key. A group whose `row_count_call` gives 0 disappears.
    /// Without keys and window there is one group from the first step on, on the shard that owns hash 0.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared, or an input that is not the output of a partial aggregate.
    pub fn new(
        input: SchemaRef,
        key_count: usize,
        calls: Vec<AggregateCall>,
        row_count_call: Option<usize>,
        window: Option<GroupWindow>,
    ) -> Result<Self> {
        let layout = StateLayout::new(&calls);
        if input.fields().len() != key_count + layout.columns() {
            return Err(EngineError::bug(format!(
                "partial rows have {} columns, not {key_count} keys and {} states",
                input.fields().len(),
                layout.columns()
            )));
        }
        let key_types = types_of(&input, 0, key_count);
        GroupTable::new(&key_types, &calls)?;
        let keys = input.fields()[..key_count].to_vec();
        let mut fields = keys.clone();
        fields.extend(result_fields(&calls).into_iter().map(Arc::new));
        let append_only = match window {
            Some(window) => {
                window.emit == GroupEmit::OnWindowClose && window.lateness_ms == 0
                    || calls.is_empty() && row_count_call.is_none()
            }
            None => calls.is_empty() && row_count_call.is_none(),
        };
        let plan = Plan {
            key_count,
            key_types,
            calls,
            layout,
            // Without keys and window the one group stays, over no rows too.
            row_count_call: row_count_call.filter(|_| key_count > 0 || window.is_some()),
            window,
            clock: WallClock::default(),
            ttl_ms: None,
            saved: Arc::clone(&input),
            input,
            removed: Arc::new(Schema::new(keys)),
            output: Arc::new(Schema::new(fields)),
            updating: !append_only,
        };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// The window's end is what `clock` shows.
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        Arc::get_mut(&mut self.plan).expect("no operator was made yet").clock = clock;
        self
    }

    /// Forgets groups that were not touched for `ttl_ms` of processing time; partial rows then tell what is taken back
    /// [apart](super::partial_aggregate::PartialAggregateFactory::with_retractions_apart). Groups with a window are freed by the watermark, and the one
    /// group of an aggregation without keys stays.
    pub fn with_ttl(mut self, ttl_ms: Option<i64>) -> Self {
        let plan = Arc::get_mut(&mut self.plan).expect("no operator was made yet");
        plan.ttl_ms = ttl_ms.filter(|_| plan.window.is_none() && plan.key_count > 0);
        if plan.ttl_ms.is_some() {
            let fields = plan.input.fields().iter().cloned().chain([touched_field()]);
            plan.saved = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        }
        self
    }

    /// `keys.., results..`.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }

    /// Whether output rows carry weights, because results are replaced.
    pub fn is_updating(&self) -> bool {
        self.plan.updating
    }
}

impl OperatorFactory for GroupAggregateFactory {
    fn name(&self) -> &'static str {
        "GroupAggregate"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(GroupAggregate {
            table: GroupTable::new(&self.plan.key_types, &self.plan.calls)?,
            groups: Vec::new(),
            touched: Vec::new(),
            created: Vec::new(),
            before: Vec::new(),
            ends: BTreeMap::new(),
            ttl: self.plan.ttl_ms.map(KeyTtl::new),
            dirty: Vec::new(),
            removed: Vec::new(),
            has_saved: false,
            owns_unit: true,
            fired_until: WATERMARK_MIN,
            plan: Arc::clone(&self.plan),
        }))
    }
}

/// A table of groups.
pub struct GroupAggregate {
    plan: Arc<Plan>,
    table: GroupTable,
    /// By slot.
    groups: Vec<Group>,
    /// The slots that this step touched and whose results were shown before.
    touched: Vec<u32>,
    /// The slots that this step made or touched, and that have not been shown.
    created: Vec<u32>,
    /// The results of `touched` before this step, in pieces.
    before: Vec<Vec<ArrayRef>>,
    /// The slots of each window, by the watermark that closes it.
    ends: BTreeMap<EventTimeMs, Vec<u32>>,
    ttl: Option<KeyTtl>,
    /// The slots that changed since the last save, each once.
    dirty: Vec<u32>,
    /// The keys that vanished since the last save.
    removed: Vec<RecordBatch>,
    /// Whether some store knows of our keys, so that one that vanishes must be named.
    has_saved: bool,
    /// Whether the one group of an aggregation without keys is ours.
    owns_unit: bool,
    /// The watermark at the end of the last step.
    fired_until: EventTimeMs,
}

#[derive(Clone, Copy, Default)]
struct Group {
    /// The watermark that closes its window, where there are windows.
    end: EventTimeMs,
    live: bool,
    /// In `touched` or `created`.
    in_step: bool,
    /// In `dirty`.
    dirty: bool,
    /// What the next checkpoint says of it replaces what older ones say.
    whole: bool,
}

/// Old and new results of up to this many rows share a delta: a step of few rows should not cost those who follow two batches.
const TOGETHER_ROWS_MAX: usize = 1_024;
/// The tables of a checkpoint.
const GROUPS: &str = "groups";
/// As `groups`, with only such distinct values as changed.
const CHANGED: &str = "changed";
const REMOVED: &str = "removed";
const WATERMARK: &str = "watermark";

impl GroupAggregate {
    fn is_unit(&self) -> bool {
        self.plan.key_count == 0 && self.plan.window.is_none()
    }

    /// Finds or makes the groups of rows; new ones are listed in `created`.
    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        self.table.intern(keys, rows)?;
        if self.table.keys.fresh().is_empty() {
            return Ok(());
        }
        self.groups.resize(self.table.keys.slot_count(), Group::default());
        let fresh = self.table.keys.fresh();
        for slot in fresh {
            let group = &mut self.groups[*slot as usize];
            *group = Group { live: true, in_step: true, dirty: group.dirty, whole: true, end: WATERMARK_MAX };
            self.created.push(*slot);
        }
        if let Some(window) = self.plan.window {
            let ends = self.table.keys.columns(Slots::Some(fresh))?;
            let ends = event_times_ms(&ends[window.end_key])?;
            for (row, slot) in fresh.iter().enumerate() {
                let end = if ends.is_valid(row) { self.plan.clock.closes_at(ends.value(row)) } else { WATERMARK_MAX };
                self.groups[*slot as usize].end = end;
                self.ends.entry(end).or_default().push(*slot);
            }
        }
        Ok(())
    }

    fn take_in(&mut self, batch: &RecordBatch) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let columns = batch.columns();
        self.intern(&columns[..plan.key_count], batch.num_rows())?;
        let known = self.touched.len();
        for slot in &self.table.slots {
            let group = &mut self.groups[*slot as usize];
            if !group.in_step {
                group.in_step = true;
                // A window that is still open has shown nothing that could change.
                let shown = !plan.on_close() || group.end <= self.fired_until;
                if shown { self.touched.push(*slot) } else { self.created.push(*slot) }
            }
        }
        if self.touched.len() > known && plan.updating {
            let results = self.table.results(Slots::Some(&self.touched[known..]))?;
            self.before.push(results);
        }
        self.table.merge_states(&columns[plan.key_count..], &plan.layout)
    }

    /// Where more was taken back than there is, because it was forgotten, nothing is left: what comes then begins the group anew.
    fn empty_groups(&mut self) -> Result<()> {
        let slots: Vec<u32> = self.touched.iter().chain(&self.created).copied().collect();
        let counts = self.row_counts(&slots)?;
        let empty: Vec<u32> =
            slots.iter().zip(counts).filter(|(_, count)| *count <= 0).map(|(slot, _)| *slot).collect();
        self.table.accumulators.clear(Slots::Some(&empty));
        empty.iter().for_each(|slot| self.groups[*slot as usize].whole = true);
        Ok(())
    }

    /// Emits what the step changed, and forgets the groups that have no rows left.
    fn emit_changes(&mut self, watermark: EventTimeMs, out: &mut Output) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let touched = std::mem::take(&mut self.touched);
        let mut created = std::mem::take(&mut self.created);
        let before = std::mem::take(&mut self.before);
        for slot in touched.iter().chain(&created) {
            let group = &mut self.groups[*slot as usize];
            group.in_step = false;
            if !group.dirty {
                group.dirty = true;
                self.dirty.push(*slot);
            }
        }
        let mut vanished = Vec::new();
        if plan.updating && !touched.is_empty() {
            self.emit_replaced(&touched, &concat_columns(&before)?, &mut vanished, out)?;
        }
        if plan.on_close() {
            // Windows that were closed before this step show a new group at once; the others below, or later.
            let (groups, fired_until) = (&self.groups, self.fired_until);
            let (shown, silent): (Vec<u32>, Vec<u32>) =
                created.iter().partition(|slot| groups[**slot as usize].end <= fired_until);
            let counts = self.row_counts(&silent)?;
            vanished.extend(silent.iter().zip(counts).filter(|(_, count)| *count == 0).map(|(slot, _)| *slot));
            created = shown;
        }
        self.emit_created(&created, &mut vanished, out)?;
        self.remove(&vanished)?;
        if plan.on_close() {
            let closing = (Bound::Excluded(self.fired_until), Bound::Included(watermark.max(self.fired_until)));
            let mut slots = Vec::new();
            for (end, listed) in self.ends.range(closing) {
                let first = slots.len();
                slots.extend(listed.iter().copied().filter(|slot| self.holds(*slot, *end)));
                // A slot that was freed and given out again for the same window is listed twice.
                slots[first..].sort_unstable();
            }
            slots.dedup();
            self.emit_created(&slots, &mut Vec::new(), out)?;
        }
        Ok(())
    }

    fn holds(&self, slot: u32, end: EventTimeMs) -> bool {
        let group = self.groups[slot as usize];
        group.live && group.end == end
    }

    /// How many rows the groups of `slots` have; all ones where nobody counts.
    fn row_counts(&mut self, slots: &[u32]) -> Result<Vec<i64>> {
        match self.plan.row_count_call {
            None => Ok(vec![1; slots.len()]),
            Some(call) => {
                let counts = self.table.accumulators.result(call, Slots::Some(slots))?;
                Ok(counts.as_primitive::<Int64Type>().values().to_vec())
            }
        }
    }

    /// Old and new results of groups that were there before, where they differ.
    fn emit_replaced(
        &mut self,
        slots: &[u32],
        old: &[ArrayRef],
        vanished: &mut Vec<u32>,
        out: &mut Output,
    ) -> Result<()> {
        let new = self.table.results(Slots::Some(slots))?;
        let keys = self.table.keys.columns(Slots::Some(slots))?;
        let same = same_rows(old, &new, slots.len())?;
        let counts = self.plan.row_count_call.map(|call| new[call].as_primitive::<Int64Type>().values().as_ref());
        let (mut retracted, mut inserted) = (Vec::new(), Vec::new());
        for (row, slot) in slots.iter().enumerate() {
            if counts.is_some_and(|counts| counts[row] == 0) {
                vanished.push(*slot);
                retracted.push(row as u32);
            } else if !same[row] {
                retracted.push(row as u32);
                inserted.push(row as u32);
            }
        }
        let olds = rows_at(keys.iter().chain(old), &retracted, slots.len())?;
        let news = rows_at(keys.iter().chain(&new), &inserted, slots.len())?;
        let schema = &self.plan.output;
        if retracted.len() + inserted.len() > TOGETHER_ROWS_MAX {
            let delta = |columns, rows: usize, weight| -> Result<Delta> {
                Ok(Delta::weighted(batch_of(schema, columns, rows)?, Int64Array::from_value(weight, rows)))
            };
            out.emit(delta(olds, retracted.len(), -1)?);
            out.emit(delta(news, inserted.len(), 1)?);
            return Ok(());
        }
        let columns = match inserted.is_empty() {
            true => olds,
            false => concat_columns(&[olds, news])?,
        };
        let rows = retracted.len() + inserted.len();
        let weights = (0..rows).map(|row| if row < retracted.len() { -1 } else { 1 }).collect::<Vec<i64>>();
        out.emit(Delta::weighted(batch_of(schema, columns, rows)?, Int64Array::from(weights)));
        Ok(())
    }

    /// Results of groups that had none.
    fn emit_created(&mut self, slots: &[u32], vanished: &mut Vec<u32>, out: &mut Output) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let results = self.table.results(Slots::Some(slots))?;
        let mut columns = self.table.keys.columns(Slots::Some(slots))?;
        let mut rows = slots.len();
        let alive = self.plan.row_count_call.and_then(|call| {
            let counts = results[call].as_primitive::<Int64Type>().values();
            let alive: BooleanArray = counts.iter().map(|count| Some(*count != 0)).collect();
            (alive.true_count() < rows).then_some(alive)
        });
        columns.extend(results);
        if let Some(alive) = alive {
            vanished.extend(slots.iter().zip(alive.values()).filter(|(_, alive)| !alive).map(|(slot, _)| *slot));
            rows = alive.true_count();
            for column in &mut columns {
                *column = arrow::compute::filter(column, &alive)?;
            }
        }
        let batch = batch_of(&self.plan.output, columns, rows)?;
        out.emit(if self.plan.updating {
            Delta::weighted(batch, Int64Array::from_value(1, rows))
        } else {
            Delta::insert(batch)
        });
        Ok(())
    }

    /// Forgets groups that have no rows left, and remembers to say so in the next checkpoint.
    fn remove(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        if self.has_saved {
            let keys = self.table.keys.columns(Slots::Some(slots))?;
            self.removed.push(batch_of(&self.plan.removed, keys, slots.len())?);
        }
        self.free(slots);
        Ok(())
    }

    fn free(&mut self, slots: &[u32]) {
        if let Some(ttl) = &mut self.ttl {
            ttl.forget(slots);
        }
        self.table.keys.remove(slots);
        self.table.accumulators.clear(Slots::Some(slots));
        slots.iter().for_each(|slot| self.groups[*slot as usize].live = false);
    }

    /// Frees the groups whose window no longer takes rows.
    fn free_closed(&mut self, watermark: EventTimeMs, lateness_ms: i64) {
        let closed = watermark.saturating_sub(if watermark == WATERMARK_MAX { 0 } else { lateness_ms });
        while let Some(entry) = self.ends.first_entry() {
            if *entry.key() > closed {
                break;
            }
            let (end, mut slots) = entry.remove_entry();
            slots.retain(|slot| {
                let group = &mut self.groups[*slot as usize];
                // Listed twice, it is freed once.
                let holds = group.live && group.end == end;
                group.live &= !holds;
                holds
            });
            self.free(&slots);
        }
    }

    /// Hands over groups: `whole` ones, and of others what `changed`.
    fn put_groups(&mut self, whole: &[u32], changed: &[u32], state: &mut StateWriter) -> Result<()> {
        if whole.is_empty() && changed.is_empty() {
            return Ok(());
        }
        let states = self.table.accumulators.save(whole, changed)?;
        for ((table, slots), states) in [(GROUPS, whole), (CHANGED, changed)].into_iter().zip(states) {
            if slots.is_empty() {
                continue;
            }
            state.entries += self.plan.layout.list_entries(&states);
            let mut columns = self.table.keys.columns(Slots::Some(slots))?;
            columns.extend(states);
            columns.extend(self.ttl.as_ref().map(|ttl| ttl.touched(slots)));
            state.put(table, batch_of(&self.plan.saved, columns, slots.len())?);
        }
        Ok(())
    }
}

/// The rows at ascending `rows` of columns that have `count`; the columns themselves where that is all of them.
pub(crate) fn rows_at<'a>(
    columns: impl Iterator<Item = &'a ArrayRef>,
    rows: &[u32],
    count: usize,
) -> Result<Vec<ArrayRef>> {
    if rows.len() == count {
        return Ok(columns.cloned().collect());
    }
    let rows = UInt32Array::from(rows.to_vec());
    columns.map(|column| Ok(take(column, &rows, None)?)).collect()
}

pub(crate) fn concat_columns(pieces: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>> {
    match pieces {
        [] => Ok(Vec::new()),
        [one] => Ok(one.clone()),
        [first, ..] => (0..first.len())
            .map(|column| {
                let parts: Vec<&dyn Array> = pieces.iter().map(|piece| piece[column].as_ref()).collect();
                Ok(concat(&parts)?)
            })
            .collect(),
    }
}

/// Which rows are equal in all columns; nulls are equal. Values that cannot be compared (maps) are taken to differ.
pub(crate) fn same_rows(left: &[ArrayRef], right: &[ArrayRef], rows: usize) -> Result<Vec<bool>> {
    let mut same = vec![true; rows];
    for (left, right) in left.iter().zip(right) {
        macro_rules! natives {
            ($native:ty) => {{
                let (left, right) = (native_values::<$native>(left), native_values::<$native>(right));
                let pairs = left.iter().zip(right.iter());
                same.iter_mut().zip(pairs).for_each(|(same, (left, right))| {
                    let (left, right) = (left.to_words(), right.to_words());
                    let differ =
                        (0..<$native as Words>::COUNT).fold(0, |differ, word| differ | (left[word] ^ right[word]));
                    *same &= differ == 0;
                });
            }};
        }
        if left.null_count() == 0 && right.null_count() == 0 && left.data_type().is_primitive() {
            by_native!(left.data_type() => natives, other => unreachable!("{other} is not primitive"));
        } else if left.data_type().is_nested() {
            let field = SortField::new(left.data_type().clone());
            if !RowConverter::supports_fields(std::slice::from_ref(&field)) {
                same.fill(false);
                continue;
            }
            let converter = RowConverter::new(vec![field])?;
            let (left, right) =
                (converter.convert_columns(&[Arc::clone(left)])?, converter.convert_columns(&[Arc::clone(right)])?);
            same.iter_mut().enumerate().for_each(|(row, same)| *same &= left.row(row) == right.row(row));
        } else {
            let equal = not_distinct(left, right)?;
            same.iter_mut().zip(equal.values()).for_each(|(same, equal)| *same &= equal);
        }
    }
    Ok(same)
}

impl Operator for GroupAggregate {
    fn name(&self) -> &'static str {
        "GroupAggregate"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (watermark, clock_ms) = (input.watermarks.after, input.context.clock_ms);
        if let Some(idle) = self.ttl.as_mut().map(|ttl| ttl.due(clock_ms)) {
            self.free(&idle);
        }
        if self.is_unit() && self.owns_unit && self.table.len() == 0 {
            self.intern(&[], 1)?;
        }
        let retracts =
            |delta: &Delta| delta.weights.as_ref().is_some_and(|weights| weights.values().first() < Some(&0));
        let (gone, come): (Vec<Delta>, Vec<Delta>) =
            input.single().into_iter().filter(|delta| !delta.is_empty()).partition(retracts);
        if !gone.is_empty() {
            gone.iter().try_for_each(|delta| self.take_in(&delta.batch))?;
            self.empty_groups()?;
        }
        come.iter().try_for_each(|delta| self.take_in(&delta.batch))?;
        if let Some(ttl) = &mut self.ttl {
            ttl.touch(&self.touched, clock_ms);
            ttl.touch(&self.created, clock_ms);
        }
        self.emit_changes(watermark, out)?;
        self.fired_until = self.fired_until.max(watermark);
        if let Some(window) = self.plan.window {
            self.free_closed(watermark, window.lateness_ms);
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.fired_until.into());
        let removed = std::mem::take(&mut self.removed);
        let mut slots = std::mem::take(&mut self.dirty);
        slots.iter().for_each(|slot| self.groups[*slot as usize].dirty = false);
        let mut changed = Vec::new();
        match kind {
            SaveKind::Full => slots = self.table.keys.live_slots(),
            SaveKind::Changes => {
                // First what vanished: a key that came back since is among the groups.
                removed.into_iter().for_each(|rows| state.put(REMOVED, rows));
                slots.retain(|slot| self.groups[*slot as usize].live);
                if self.table.accumulators.has_values() {
                    (slots, changed) = slots.into_iter().partition(|slot| self.groups[*slot as usize].whole);
                }
            }
        }
        self.has_saved = true;
        slots.iter().for_each(|slot| self.groups[*slot as usize].whole = false);
        self.put_groups(&slots, &changed, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.owns_unit = state.owned.owns(0);
        self.fired_until = newest_time(state.metas, WATERMARK);
        let plan = Arc::clone(&self.plan);
        for chunk in state.chunks {
            let schema = match chunk.table.as_str() {
                GROUPS | CHANGED => &plan.saved,
                REMOVED => &plan.removed,
                other => {
                    return Err(EngineError::Checkpoint {
                        message: format!("GroupAggregate knows no state `{other}`; start over with `--fresh`"),
                    });
                }
            };
            check_chunk("GroupAggregate", chunk, schema)?;
            let mut rows = keep_owned(&chunk.rows, 0, plan.key_count, state.owned)?;
            if let Some(window) = plan.window {
                let closed = self.fired_until.saturating_sub(window.lateness_ms);
                let ends = event_times_ms(rows.column(window.end_key))?;
                let open: BooleanArray = (0..ends.len())
                    .map(|row| Some(ends.is_null(row) || plan.clock.closes_at(ends.value(row)) > closed))
                    .collect();
                rows = filter_record_batch(&rows, &open)?;
            }
            if rows.num_rows() == 0 {
                continue;
            }
            let columns = rows.columns();
            self.intern(&columns[..plan.key_count], rows.num_rows())?;
            let slots = self.table.slots.clone();
            let states = &columns[plan.key_count..];
            match chunk.table.as_str() {
                REMOVED => {
                    self.free(&slots);
                    continue;
                }
                CHANGED => self.table.accumulators.apply(&slots, states, &plan.layout)?,
                _ => {
                    self.table.accumulators.clear(Slots::Some(&slots));
                    self.table.accumulators.merge(&slots, states, &plan.layout)?;
                }
            }
            if let Some(ttl) = &mut self.ttl {
                ttl.restore(&slots, touched_of(&rows));
            }
        }
        for group in &mut self.groups {
            (group.in_step, group.whole) = (false, false);
        }
        self.created.clear();
        self.has_saved = !state.chunks.is_empty();
        if self.has_saved {
            self.table.accumulators.restored();
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let lists = self.groups.capacity() * size_of::<Group>()
            + (self.touched.capacity() + self.created.capacity() + self.dirty.capacity()) * 4;
        self.table.bytes() + lists + self.ttl.as_ref().map_or(0, KeyTtl::bytes)
    }

    fn state_rows(&self) -> usize {
        self.table.len() + self.table.accumulators.value_count()
    }
}

#[cfg(test)]
mod distinct_tests;
#[cfg(test)]
mod tests;
