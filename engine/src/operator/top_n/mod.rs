//! The first rows of each partition by a rank: top-N, deduplication (keep first, keep last), `LIMIT`.
//!
//! Rows are stored once, by id ([`crate::rows`]); what is ordered are sort keys of fixed width with an id ([`key`]). Two structures do
//! the work: over rows that are only inserted, with a plain row number and a short result, only the rows that can still be shown are
//! kept ([`few`]); all else keeps the rows of a partition in a sorted list in pieces ([`full`]). Both tell after each step what is
//! shown now and was not before, and the reverse: only rows that differ. Where rows are only ever replaced by ones that come no later in the
//! order ([`TopNFactory::with_rising`]), such as counts from the greatest down, those behind the last shown are forgotten there too.
//!
//! Rows that the sort columns do not tell apart go by arrival where the edge has arrival numbers, and else by a hash of the row: the order
//! in which rows leave an aggregate or a join depends on how steps were cut, and that must not show.
//!
//! With a window among the partition columns results leave when the watermark passes the window's end, once, and the partition is freed;
//! the conventions are those of [`super::group_aggregate`]. Without one, a TTL forgets partitions that did not change for so long ([`aging`]).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use self::few::{FEW_MAX, Few};
use self::full::Full;
use self::key::{ByteKey, Encoder, SortKey};
pub use self::local::LocalTopNFactory;
use super::group_aggregate::{GroupEmit, GroupWindow};
use super::ttl::KeyTtl;
use super::{Input, LateRows, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::Slots;
use crate::aggregate::partial::newest_time;
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::hash_columns;
use crate::keys::GroupKeys;
use crate::rows::{RowLog, Rows};
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms};

mod aging;
mod few;
mod full;
mod key;
mod local;
mod ordered;
#[cfg(test)]
mod tests;

/// One column of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortColumn {
    /// The column of the input.
    pub column: usize,
    /// From the greatest down.
    pub descending: bool,
    /// Nulls before all others.
    pub nulls_first: bool,
}

/// How rows are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankFunction {
    /// Each row has a number of its own.
    RowNumber,
    /// Rows with equal sort columns share the number of the first of them.
    Rank,
    /// Rows with equal sort columns share a number, and the next one has the number after it.
    DenseRank,
}

/// What a [`TopN`] shows.
#[derive(Clone, Debug)]
pub struct TopNSpec {
    /// The partition columns; none: all rows are one partition.
    pub partition: Vec<usize>,
    /// The order within a partition, first the most significant.
    pub order: Vec<SortColumn>,
    /// How rows are numbered.
    pub function: RankFunction,
    /// The first number shown, at least 1.
    pub first: u64,
    /// The last number shown; `u64::MAX`: all from the first on.
    pub last: u64,
    /// `Some(name)`: the number is added as a column. A row whose number changes is retracted and inserted again.
    pub rank_column: Option<String>,
    /// The window among the partition columns; `end_key` is a place in [`partition`](Self::partition).
    pub window: Option<GroupWindow>,
    /// Rows of the input can be taken back.
    pub retracting: bool,
    /// What decides between rows with equal sort columns.
    pub ties: Ties,
}

/// What decides between rows with equal sort columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// The rows themselves, in an order that is the same everywhere: the input has no arrival numbers.
    ByRow,
    /// The first to arrive comes first.
    FirstToArrive,
    /// The last to arrive comes first.
    LastToArrive,
}

impl Ties {
    /// Whether the input carries arrival numbers.
    pub fn by_arrival(self) -> bool {
        self != Self::ByRow
    }

    /// The tie of an arrival number, and the other way round.
    fn turned(self, ordinal: u64) -> u64 {
        if self == Self::LastToArrive { !ordinal } else { ordinal }
    }
}

/// The numbers that are shown.
#[derive(Clone, Copy)]
struct Ranks {
    function: RankFunction,
    first: u64,
    last: u64,
    /// As a column.
    told: bool,
}

impl Ranks {
    #[inline]
    fn shows(&self, rank: u64) -> bool {
        self.first <= rank && rank <= self.last
    }
}

/// A stored row that is shown from now on, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    id: u32,
    /// Where numbers are told.
    rank: u64,
    weight: i64,
}

/// Calls a function for the kind of key that takes so many words.
macro_rules! by_words {
    ($words:expr => $self:ident.$function:ident($($argument:expr),*)) => {
        match $words {
            Some(1) => $self.$function::<[u64; 1]>($($argument),*),
            Some(2) => $self.$function::<[u64; 2]>($($argument),*),
            Some(3) => $self.$function::<[u64; 3]>($($argument),*),
            Some(4) => $self.$function::<[u64; 4]>($($argument),*),
            Some(5) => $self.$function::<[u64; 5]>($($argument),*),
            _ => $self.$function::<ByteKey>($($argument),*),
        }
    };
}
use by_words;

/// Makes [`TopN`]s.
pub struct TopNFactory {
    plan: Arc<Plan>,
}

struct Plan {
    spec: TopNSpec,
    ranks: Ranks,
    input: SchemaRef,
    output: SchemaRef,
    key_types: Vec<DataType>,
    /// A partition that did not change for so long is forgotten.
    ttl_ms: Option<i64>,
    /// The columns that stay while a row is replaced by one that comes no later.
    rising: Option<Vec<usize>>,
    /// The rows of a checkpoint.
    logged: SchemaRef,
    /// The output has weights.
    updating: bool,
}

impl Plan {
    fn on_close(&self) -> bool {
        self.spec.window.is_some_and(|window| window.emit == GroupEmit::OnWindowClose)
    }

    /// Whether the few rows that can be shown are all that is kept.
    fn few(&self) -> bool {
        !self.spec.retracting && self.spec.function == RankFunction::RowNumber && self.spec.last <= FEW_MAX
    }

    /// What decides between rows with equal sort columns, into `ties`.
    fn ties(&self, delta: &Delta, ties: &mut Vec<u64>) -> Result<()> {
        if let Some(key) = &self.rising {
            let key: Vec<ArrayRef> = key.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
            return hash_columns(&key, delta.rows(), ties);
        }
        if !self.spec.ties.by_arrival() {
            return hash_columns(delta.batch.columns(), delta.rows(), ties);
        }
        let ordinals = delta.ordinals.as_ref();
        let ordinals = ordinals.ok_or_else(|| EngineError::bug("rows came without their arrival numbers"))?;
        ties.clear();
        ties.extend(ordinals.values().iter().map(|ordinal| self.spec.ties.turned(*ordinal)));
        Ok(())
    }

    fn sort_columns(&self, delta: &Delta) -> Vec<ArrayRef> {
        self.spec.order.iter().map(|sort| Arc::clone(delta.batch.column(sort.column))).collect()
    }

    fn encoder(&self) -> Result<Encoder> {
        Encoder::new(&self.input, &self.spec.order)
    }

    fn name(&self) -> &'static str {
        if self.spec.window.is_some() { "WindowTopN" } else { "TopN" }
    }
}

impl TopNFactory {
    /// Shows rows of `input` by `spec`.
    ///
    /// # Errors
    /// Partition columns that cannot be compared, sort columns without an order, retracted rows that cannot be compared.
    pub fn new(spec: TopNSpec, input: SchemaRef) -> Result<Self> {
        if spec.first == 0 || spec.last < spec.first {
            return Err(EngineError::Plan {
                message: format!("rows with numbers from {} to {}: there are none", spec.first, spec.last),
            });
        }
        let key_types: Vec<DataType> =
            spec.partition.iter().map(|column| input.field(*column).data_type().clone()).collect();
        GroupKeys::new(key_types.clone())?;
        Rows::new(&input, spec.retracting)?;
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        if let Some(name) = &spec.rank_column {
            fields.push(Arc::new(Field::new(name, DataType::Int64, false)));
        }
        let closes_once =
            spec.window.is_some_and(|window| window.emit == GroupEmit::OnWindowClose && window.lateness_ms == 0);
        // Who came first stays first.
        let keeps_first = !spec.retracting
            && spec.ties == Ties::FirstToArrive
            && spec.order.is_empty()
            && spec.function == RankFunction::RowNumber;
        let ranks =
            Ranks { function: spec.function, first: spec.first, last: spec.last, told: spec.rank_column.is_some() };
        let plan = Plan {
            ranks,
            output: Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())),
            ttl_ms: None,
            rising: None,
            logged: Arc::clone(&input),
            input,
            key_types,
            updating: !closes_once && !keeps_first,
            spec,
        };
        plan.encoder()?;
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Forgets partitions that did not change for `ttl_ms` of processing time. Those of a window are freed by the watermark; and where all
    /// rows are one partition, it stays.
    pub fn with_ttl(mut self, ttl_ms: Option<i64>) -> Self {
        let plan = Arc::get_mut(&mut self.plan).expect("no operator was made yet");
        plan.ttl_ms = ttl_ms.filter(|_| plan.spec.window.is_none() && !plan.spec.partition.is_empty());
        if plan.ttl_ms.is_some() {
            plan.logged = aging::logged_schema(&plan.input);
        }
        self
    }

    /// Over rows that can be taken back, of which `key` says that each is only ever replaced, in the same step, by one with the same values
    /// in these columns that comes no later in the order, and that none goes for good; the partition columns are among them. Then only
    /// the rows that can be shown are kept, and rows that the sort columns do not tell apart go by a hash of the key.
    ///
    /// Of [`RankFunction::DenseRank`], of ties by arrival, of windows and with a TTL this means nothing: rows behind can come to be shown
    /// when two before them become alike, or those are freed.
    pub fn with_rising(mut self, key: Option<Vec<usize>>) -> Self {
        let plan = Arc::get_mut(&mut self.plan).expect("no operator was made yet");
        let spec = &plan.spec;
        let fits = spec.retracting
            && spec.function != RankFunction::DenseRank
            && !spec.ties.by_arrival()
            && spec.window.is_none()
            && spec.last < u64::MAX
            && plan.ttl_ms.is_none();
        plan.rising = key.filter(|key| fits && spec.partition.iter().all(|column| key.contains(column)));
        self
    }

    /// Whether only the rows that can be shown are kept, although rows can be taken back.
    pub fn is_rising(&self) -> bool {
        self.plan.rising.is_some()
    }

    /// Lets only those rows through to the exchange that are among the first of their own shard: for results without partitions, whose
    /// rows all go to one shard. `None` where that is not worth it.
    pub fn local(&self) -> Option<LocalTopNFactory> {
        let spec = &self.plan.spec;
        let fits = self.plan.few() && spec.partition.is_empty();
        fits.then(|| LocalTopNFactory { plan: Arc::clone(&self.plan) })
    }

    /// The input's columns, then the number where it is asked for.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }

    /// Whether output rows carry weights, because rows are replaced.
    pub fn is_updating(&self) -> bool {
        self.plan.updating
    }

    fn create_with<K: SortKey>(&self, encoder: Encoder) -> Result<Box<dyn Operator>> {
        let plan = Arc::clone(&self.plan);
        let spec = &plan.spec;
        Ok(Box::new(TopN::<K> {
            keys: GroupKeys::new(plan.key_types.clone())?,
            groups: Vec::new(),
            ends: BTreeMap::new(),
            rows: Rows::new(&plan.input, spec.retracting)?,
            log: RowLog::new(ROWS, &plan.logged),
            ttl: plan.ttl_ms.map(KeyTtl::new),
            core: if plan.few() {
                Core::Few(Few::new(plan.ranks))
            } else {
                Core::Full(Full::new(plan.ranks, spec.retracting, plan.rising.is_some()))
            },
            encoder,
            fired_until: WATERMARK_MIN,
            slots: Vec::new(),
            ties: Vec::new(),
            sort_keys: Vec::new(),
            plan,
        }))
    }
}

impl OperatorFactory for TopNFactory {
    fn name(&self) -> &'static str {
        self.plan.name()
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let encoder = self.plan.encoder()?;
        by_words!(encoder.words() => self.create_with(encoder))
    }
}

/// The first rows of each partition.
struct TopN<K> {
    plan: Arc<Plan>,
    /// The partitions.
    keys: GroupKeys,
    /// By slot.
    groups: Vec<Group>,
    /// The slots of each window end.
    ends: BTreeMap<EventTimeMs, Vec<u32>>,
    rows: Rows,
    log: RowLog,
    ttl: Option<KeyTtl>,
    core: Core<K>,
    encoder: Encoder,
    /// The watermark at the end of the last step.
    fired_until: EventTimeMs,
    /// Of the delta at hand: slot, tie and key of each row.
    slots: Vec<u32>,
    ties: Vec<u64>,
    sort_keys: Vec<K>,
}

#[derive(Clone, Copy, Default)]
struct Group {
    /// The window's end, where there are windows.
    end: EventTimeMs,
    live: bool,
}

enum Core<K> {
    Few(Few<K>),
    Full(Full<K>),
}

/// Changes of up to this many rows are taken together: a step of few rows should not cost those who follow two batches.
const TOGETHER_ROWS_MAX: usize = 1_024;
/// The table of a checkpoint, and its meta.
const ROWS: &str = "rows";
const WATERMARK: &str = "watermark";

impl<K: SortKey> TopN<K> {
    /// Finds or makes the partitions of rows.
    fn intern(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns: Vec<ArrayRef> =
            self.plan.spec.partition.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        self.keys.intern(&columns, batch.num_rows(), &mut self.slots)?;
        if self.keys.fresh().is_empty() {
            return Ok(());
        }
        let count = self.keys.slot_count();
        self.groups.resize(count, Group::default());
        match &mut self.core {
            Core::Few(few) => few.resize(count),
            Core::Full(full) => full.resize(count),
        }
        let fresh = self.keys.fresh();
        for slot in fresh {
            self.groups[*slot as usize] = Group { live: true, end: WATERMARK_MAX };
        }
        if let Some(window) = self.plan.spec.window {
            let ends = self.keys.columns(Slots::Some(fresh))?;
            let ends = event_times_ms(&ends[window.end_key])?;
            for (row, slot) in fresh.iter().enumerate() {
                let end = if ends.is_valid(row) { ends.value(row) } else { WATERMARK_MAX };
                self.groups[*slot as usize].end = end;
                self.ends.entry(end).or_default().push(*slot);
            }
        }
        Ok(())
    }

    /// Takes in the rows of a step, none of which is late. Those that are kept come back where they are new in their partition.
    fn take_in(&mut self, deltas: &[Delta], log: bool) -> Result<Option<Delta>> {
        for (number, delta) in deltas.iter().enumerate() {
            self.intern(&delta.batch)?;
            match &mut self.core {
                Core::Few(few) => {
                    few.keys(&self.plan, &self.encoder, delta, &self.slots, &mut self.ties, &mut self.sort_keys)?;
                    few.take_in(number as u32, &self.slots, &self.sort_keys);
                }
                Core::Full(full) => {
                    self.plan.ties(delta, &mut self.ties)?;
                    K::encode(&self.encoder, &self.plan.sort_columns(delta), &self.ties, &mut self.sort_keys)?;
                    let of_rows = !self.plan.spec.ties.by_arrival() && self.plan.rising.is_none();
                    let hashes = of_rows.then_some(self.ties.as_slice());
                    let kept = full.take_in(delta, &self.slots, &self.sort_keys, &self.ties, hashes, &mut self.rows)?;
                    if let Some(kept) = kept.filter(|_| log && self.ttl.is_none()) {
                        let taken = full.taken();
                        let ids: Vec<u32> = taken.iter().map(|change| change.id).collect();
                        self.log.push_rows(&kept, &ids, |row| taken[row].before == 0)?;
                    }
                }
            }
        }
        let Core::Few(few) = &mut self.core else { return Ok(None) };
        let Some((kept, ids)) = few.settle(deltas, &mut self.rows)? else { return Ok(None) };
        if log && self.ttl.is_none() {
            self.log.push_rows(&kept, &ids, |_| true)?;
        }
        Ok(Some(kept))
    }

    /// Refuses the rows of windows that were closed before this step; the others come back.
    fn refuse_late(
        &self,
        delta: Delta,
        window: GroupWindow,
        watermark: EventTimeMs,
        out: &mut Output,
    ) -> Result<Delta> {
        let closed = watermark.saturating_sub(window.lateness_ms);
        let ends = event_times_ms(delta.batch.column(self.plan.spec.partition[window.end_key]))?;
        let is_late = |row: usize| ends.is_valid(row) && ends.value(row) <= closed;
        if closed == WATERMARK_MIN || !(0..ends.len()).any(is_late) {
            return Ok(delta);
        }
        let mask: BooleanArray = (0..ends.len()).map(|row| Some(is_late(row))).collect();
        let Delta { batch: rows, weights, .. } = delta.filter(&mask)?;
        let event_times: Vec<EventTimeMs> =
            (0..ends.len()).filter(|row| mask.value(*row)).map(|row| ends.value(row).saturating_sub(1)).collect();
        let windows_missed = vec![1; event_times.len()];
        out.late(LateRows { input: None, rows, weights, event_times, windows_missed, watermark });
        delta.filter(&arrow::compute::not(&mask)?)
    }

    /// What the rows taken in change. `dead`: rows that are not needed once the changes are emitted.
    fn changes(&mut self, inserts: bool, changes: &mut Vec<Change>, dead: &mut Vec<u32>) {
        let (on_close, groups, fired_until) = (self.plan.on_close(), &self.groups, self.fired_until);
        let shown = |slot: u32| !on_close || groups[slot as usize].end <= fired_until;
        let mut empty = Vec::new();
        match &mut self.core {
            Core::Few(few) => few.changes(shown, inserts, changes, dead),
            Core::Full(full) => full.changes(shown, changes, dead, &mut empty),
        }
        self.remove(&empty);
    }

    /// The rows of windows that the watermark closes now.
    fn close(&mut self, watermark: EventTimeMs, changes: &mut Vec<Change>) {
        let closing = (Bound::Excluded(self.fired_until), Bound::Included(watermark.max(self.fired_until)));
        for (end, listed) in self.ends.range(closing) {
            let mut slots: Vec<u32> = listed.iter().copied().filter(|slot| self.holds(*slot, *end)).collect();
            // A slot that was freed and given out again for the same window is listed twice.
            slots.sort_unstable();
            slots.dedup();
            for slot in slots {
                match &mut self.core {
                    Core::Few(few) => few.shown(slot, changes),
                    Core::Full(full) => full.shown(slot, changes),
                }
            }
        }
    }

    fn holds(&self, slot: u32, end: EventTimeMs) -> bool {
        let group = self.groups[slot as usize];
        group.live && group.end == end
    }

    /// Frees the partitions whose window no longer takes rows.
    fn free_closed(&mut self, watermark: EventTimeMs, lateness_ms: i64, dead: &mut Vec<u32>) {
        let closed = watermark.saturating_sub(if watermark == WATERMARK_MAX { 0 } else { lateness_ms });
        while let Some(entry) = self.ends.first_entry() {
            if *entry.key() > closed {
                break;
            }
            let (end, slots) = entry.remove_entry();
            for slot in slots {
                if self.holds(slot, end) {
                    match &mut self.core {
                        Core::Few(few) => few.free(slot, dead),
                        Core::Full(full) => full.free(slot, dead),
                    }
                    self.remove(&[slot]);
                }
            }
        }
    }

    /// Forgets partitions without rows.
    fn remove(&mut self, slots: &[u32]) {
        if let Some(ttl) = &mut self.ttl {
            ttl.forget(slots);
        }
        self.keys.remove(slots);
        slots.iter().for_each(|slot| self.groups[*slot as usize].live = false);
    }

    fn emit(&self, changes: &[Change], out: &mut Output) -> Result<()> {
        for changes in changes.chunks(DELTA_ROWS_MAX) {
            let ids: Vec<u32> = changes.iter().map(|change| change.id).collect();
            let mut columns = self.rows.take_batch(&ids)?.columns().to_vec();
            if self.plan.ranks.told {
                columns.push(Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.rank as i64))));
            }
            let batch = batch_of(&self.plan.output, columns, changes.len())?;
            out.emit(match self.plan.updating || changes.iter().any(|change| change.weight != 1) {
                true => Delta::weighted(batch, changes.iter().map(|change| change.weight).collect()),
                false => Delta::insert(batch),
            });
        }
        Ok(())
    }

    fn forget(&mut self, mut dead: Vec<u32>) -> Result<()> {
        // Rows that can be taken back are named once, and lie in a table that knows no order.
        if !self.plan.spec.retracting {
            dead.sort_unstable();
            dead.dedup();
        }
        self.log.remove(&dead)?;
        self.rows.remove(&dead)
    }

    /// All rows, with weights and arrival numbers as they were taken in: partition by partition in their order, or as they lie.
    fn all(&mut self) -> Result<Vec<Delta>> {
        if !self.plan.spec.retracting && self.ttl.is_none() {
            return self.all_as_they_lie();
        }
        let mut stored: Vec<(u32, u64)> = Vec::with_capacity(self.rows.len());
        let mut slots = Vec::new();
        for slot in self.keys.live_slots() {
            match &mut self.core {
                Core::Few(few) => stored.extend(few.stored(slot)),
                Core::Full(full) => stored.extend(full.stored(slot)),
            }
            if self.ttl.is_some() {
                slots.resize(stored.len(), slot);
            }
        }
        if self.plan.spec.retracting {
            // Rows that were taken back before they came stand in no order yet.
            stored.extend(self.rows.live_ids().into_iter().filter(|id| self.rows.weight(*id) < 0).map(|id| (id, 0)));
        }
        let mut deltas = Vec::new();
        for (chunk, stored) in stored.chunks(DELTA_ROWS_MAX).enumerate() {
            let ids: Vec<u32> = stored.iter().map(|(id, _)| *id).collect();
            let mut delta = Delta::insert(self.rows.take_batch(&ids)?);
            if self.plan.spec.retracting {
                delta.weights = Some(ids.iter().map(|id| self.rows.weight(*id)).collect());
            }
            if self.plan.spec.ties.by_arrival() {
                let ordinals = stored.iter().map(|(_, tie)| self.plan.spec.ties.turned(*tie));
                delta.ordinals = Some(UInt64Array::from_iter_values(ordinals));
            }
            if let Some(ttl) = &self.ttl {
                let slots = &slots[chunk * DELTA_ROWS_MAX..][..stored.len()];
                delta = aging::with_touched(delta, ttl.touched(slots), &self.plan.logged)?;
            }
            deltas.push(delta);
        }
        Ok(deltas)
    }

    /// Rows that are only inserted, which are then mostly shared and not copied.
    fn all_as_they_lie(&mut self) -> Result<Vec<Delta>> {
        let mut ties = Vec::new();
        if self.plan.spec.ties.by_arrival() {
            ties.resize(self.rows.id_bound(), 0_u64);
            let mut note = |(id, tie): (u32, u64)| ties[id as usize] = tie;
            for slot in self.keys.live_slots() {
                match &mut self.core {
                    Core::Few(few) => few.stored(slot).for_each(&mut note),
                    Core::Full(full) => full.stored(slot).for_each(&mut note),
                }
            }
        }
        let delta = |ids: &Vec<u32>| -> Result<Delta> {
            let mut delta = Delta::insert(self.rows.take_batch(ids)?);
            if self.plan.spec.ties.by_arrival() {
                let ordinals = ids.iter().map(|id| self.plan.spec.ties.turned(ties[*id as usize]));
                delta.ordinals = Some(UInt64Array::from_iter_values(ordinals));
            }
            Ok(delta)
        };
        self.rows.live_pieces().iter().map(delta).collect()
    }
}

impl<K: SortKey> Operator for TopN<K> {
    fn name(&self) -> &'static str {
        self.plan.name()
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let watermarks = input.watermarks;
        let clock_ms = input.context.clock_ms;
        self.forget_idle(clock_ms)?;
        let mut deltas = Vec::new();
        for mut delta in input.single() {
            if let Some(window) = self.plan.spec.window {
                delta = self.refuse_late(delta, window, watermarks.before, out)?;
            }
            if !delta.is_empty() {
                deltas.push(delta);
            }
        }
        let kept = self.take_in(&deltas, true)?;
        self.touch(kept.as_ref(), clock_ms)?;
        drop(deltas);
        let (mut changes, mut dead) = (Vec::new(), Vec::new());
        // Rows that are new and all shown need not be looked up again.
        let plain = !self.plan.ranks.told && self.plan.ranks.first == 1 && self.plan.spec.window.is_none();
        let kept = kept.filter(|kept| plain && kept.rows() > TOGETHER_ROWS_MAX);
        self.changes(kept.is_none(), &mut changes, &mut dead);
        // What goes before what comes.
        changes.sort_by_key(|change| change.weight > 0);
        if self.plan.on_close() {
            self.close(watermarks.after, &mut changes);
        }
        self.emit(&changes, out)?;
        if let Some(kept) = kept {
            let rows = kept.rows();
            let batch = batch_of(&self.plan.output, kept.batch.columns().to_vec(), rows)?;
            out.emit(match self.plan.updating {
                true => Delta::weighted(batch, Int64Array::from_value(1, rows)),
                false => Delta::insert(batch),
            });
        }
        self.fired_until = self.fired_until.max(watermarks.after);
        if let Some(window) = self.plan.spec.window {
            self.free_closed(watermarks.after, window.lateness_ms, &mut dead);
        }
        self.forget(dead)?;
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.fired_until.into());
        let mut log = std::mem::replace(&mut self.log, RowLog::new(ROWS, &self.plan.logged));
        let saved = log.save(kind, state, || self.all());
        self.log = log;
        saved
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.fired_until = newest_time(state.metas, WATERMARK);
        let plan = Arc::clone(&self.plan);
        let mut deltas = self.log.restore(plan.name(), state, &plan.spec.partition)?;
        if let Some(window) = plan.spec.window {
            let closed = self.fired_until.saturating_sub(window.lateness_ms);
            for delta in &mut deltas {
                let ends = event_times_ms(delta.batch.column(plan.spec.partition[window.end_key]))?;
                let open: BooleanArray =
                    (0..ends.len()).map(|row| Some(ends.is_null(row) || ends.value(row) > closed)).collect();
                *delta = delta.filter(&open)?;
            }
        }
        deltas.retain(|delta| !delta.is_empty());
        if self.ttl.is_some() {
            return deltas.iter().try_for_each(|delta| self.restore_aging(delta));
        }
        self.take_in(&deltas, false)?;
        let mut dead = Vec::new();
        self.changes(false, &mut Vec::new(), &mut dead);
        self.forget(dead)
    }

    fn state_bytes(&self) -> usize {
        let core = match &self.core {
            Core::Few(few) => few.bytes(),
            Core::Full(full) => full.bytes(),
        };
        let ttl = self.ttl.as_ref().map_or(0, KeyTtl::bytes);
        core + self.keys.bytes()
            + self.rows.bytes()
            + self.log.bytes()
            + self.groups.capacity() * size_of::<Group>()
            + ttl
    }

    fn state_rows(&self) -> usize {
        self.rows.len()
    }
}
