//! The rows that an `OVER` keeps: by id, each with its partition, its place in the order, and when it came.
//!
//! A row's order key is kept in arrow's row format, whose bytes compare as the query orders. Rows that are equal in it are in the order of the
//! tie column, where there is one, and of arrival: numbers of our own, given in the order of the input's ordinals where it has them. Where rows can be taken back, equal rows are one stored
//! row with a list of the arrivals of its copies; the youngest copy is taken back first.
//!
//! A checkpoint takes the rows that came since the last one and are still there, and the rows taken back that an older one holds;
//! what time or frames have freed leaves no trace, because whoever restores frees it again by the same rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::concat_batches;
use arrow_row::RowConverter;

use super::frame::{Ordered, RangeKeys, Segment};
use super::{OrderKey, OverSpec, Plan, row_converter};
use crate::delta::{Delta, take_batch};
use crate::error::Result;
use crate::hash::hash_columns;
use crate::keys::{GroupKeys, canonical_values};
use crate::operator::{SaveKind, StateReader, StateWriter};
use crate::rows::{RowLog, Rows};

/// The tables of a checkpoint, and its meta.
const ROWS: &str = "rows";
const DEBTS: &str = "debts";
const ARRIVALS: &str = "arrivals";
const SAVES: &str = "saves";

/// What arrow's row format takes for an unsigned 64-bit number: a byte that says whether it is null, and the number.
const TIE_BYTES: usize = 1 + size_of::<u64>();

/// The order keys of rows, by id.
pub(in crate::operator) struct SortKeys {
    /// `None`: there is no order but that of arrival.
    converter: Option<RowConverter>,
    /// The columns of the order, then that of ties.
    columns: Vec<usize>,
    /// How many bytes at a key's end are its tie.
    tie_bytes: usize,
    /// Bytes a key, where all have as many.
    stride: Option<usize>,
    fixed: Vec<u8>,
    varying: Vec<Box<[u8]>>,
}

impl SortKeys {
    pub(super) fn new(spec: &OverSpec) -> Result<Self> {
        let order = spec.total_order();
        let data_type = |key: &OrderKey| spec.input.field(key.column).data_type().clone();
        let fixed = order.iter().all(|key| {
            let data_type = data_type(key);
            data_type.is_primitive() || data_type == arrow::datatypes::DataType::Boolean
        });
        Ok(Self {
            converter: if order.is_empty() { None } else { Some(row_converter(&spec.input, &order)?) },
            columns: order.iter().map(|key| key.column).collect(),
            tie_bytes: if spec.tie.is_some() { TIE_BYTES } else { 0 },
            // Set by the first row.
            stride: fixed.then_some(0),
            fixed: Vec::new(),
            varying: Vec::new(),
        })
    }

    /// Notes the keys of a batch's rows, which are stored under `ids`.
    fn put(&mut self, batch: &RecordBatch, ids: &[u32]) -> Result<()> {
        let Some(converter) = &self.converter else {
            return Ok(());
        };
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|column| canonical_values(batch.column(*column))).collect();
        let rows = converter.convert_columns(&columns)?;
        let bound = ids.iter().max().map_or(0, |id| *id as usize + 1);
        if self.stride.is_some() && rows.num_rows() > 0 {
            let stride = rows.row(0).data().len();
            self.stride = Some(stride);
            if self.fixed.len() < bound * stride {
                self.fixed.resize(bound * stride, 0);
            }
            for (row, id) in rows.iter().zip(ids) {
                let start = *id as usize * stride;
                self.fixed[start..start + stride].copy_from_slice(row.data());
            }
        } else if self.stride.is_none() {
            if self.varying.len() < bound {
                self.varying.resize_with(bound, Box::default);
            }
            rows.iter().zip(ids).for_each(|(row, id)| self.varying[*id as usize] = row.data().into());
        }
        Ok(())
    }

    /// The key of a stored row.
    #[inline]
    pub(in crate::operator) fn get(&self, id: u32) -> &[u8] {
        match (&self.converter, self.stride) {
            (None, _) => &[],
            (_, Some(stride)) => &self.fixed[id as usize * stride..(id as usize + 1) * stride],
            (_, None) => &self.varying[id as usize],
        }
    }

    /// The part of a stored row's key that peers have in common.
    #[inline]
    pub(super) fn peers(&self, id: u32) -> &[u8] {
        let key = self.get(id);
        &key[..key.len() - self.tie_bytes]
    }

    fn bytes(&self) -> usize {
        let varying: usize = self.varying.first().map_or(0, |key| (key.len() + 16) * self.varying.len());
        self.fixed.capacity() + varying
    }
}

/// One row that came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator) struct Edit {
    /// Its partition.
    pub(in crate::operator) slot: u32,
    /// Where it is stored.
    pub(in crate::operator) id: u32,
    /// When it came: unique in its partition.
    pub(in crate::operator) arrival: u64,
    /// Whether it is there now.
    pub(in crate::operator) added: bool,
}

/// Segments of stored rows to be evaluated together.
#[derive(Default)]
pub(super) struct Work {
    /// The rows of all segments.
    pub(super) ids: Vec<u32>,
    pub(super) segments: Vec<Segment>,
}

impl Work {
    /// Adds rows of one partition, `wanted` of which (counted from the first of them) need values. `first` rows come before them.
    pub(super) fn push(&mut self, ids: impl Iterator<Item = u32>, wanted: std::ops::Range<usize>, first: u64) {
        let start = self.ids.len();
        self.ids.extend(ids);
        let wanted = start + wanted.start..start + wanted.end;
        self.segments.push(Segment { rows: start..self.ids.len(), wanted, first });
    }
}

/// Rows by id.
pub(in crate::operator) struct Shelf {
    plan: Arc<Plan>,
    pub(in crate::operator) partitions: GroupKeys,
    pub(in crate::operator) rows: Rows,
    pub(in crate::operator) order: SortKeys,
    /// By id, where rows are only inserted: when the row came; `u64::MAX` where there is none.
    arrivals: Vec<u64>,
    /// By id, where rows can be taken back: when the copies that are there came, ascending.
    copies: Vec<Vec<u64>>,
    /// Rows whose retractions outnumber them: they count when they come.
    debts: BTreeSet<u32>,
    /// Partitions that the step has made.
    pub(in crate::operator) made: Vec<u32>,
    /// Rows whose weight became zero in the step.
    zeroed: Vec<u32>,
    next_arrival: u64,
    /// Rows that came before this are in the store, if they were there at the last save.
    saved_until: u64,
    /// What came since.
    unsaved: Vec<(u64, u32)>,
    log: RowLog,
    debt_log: RowLog,
    saves: u64,
}

impl Shelf {
    /// For rows that are kept in order, and nothing else.
    pub(in crate::operator) fn of(spec: OverSpec) -> Result<Self> {
        debug_assert!(spec.calls.is_empty(), "calls are an `OVER`'s");
        Self::new(&super::OverFactory::updating(spec)?.plan)
    }

    pub(super) fn new(plan: &Arc<Plan>) -> Result<Self> {
        Ok(Self {
            plan: Arc::clone(plan),
            partitions: GroupKeys::new(plan.partition_types())?,
            rows: Rows::new(&plan.spec.input, plan.spec.retracting)?,
            order: SortKeys::new(&plan.spec)?,
            arrivals: Vec::new(),
            copies: Vec::new(),
            debts: BTreeSet::new(),
            made: Vec::new(),
            zeroed: Vec::new(),
            next_arrival: 0,
            saved_until: 0,
            unsaved: Vec::new(),
            log: RowLog::new(ROWS, &plan.spec.input),
            debt_log: RowLog::new(DEBTS, &plan.spec.input),
            saves: 0,
        })
    }

    /// Takes in the deltas of a step, in order of arrival; what came and went is added to `edits`.
    pub(in crate::operator) fn take_in(&mut self, deltas: Vec<Delta>, edits: &mut Vec<Edit>) -> Result<()> {
        for delta in in_order_of_arrival(deltas)? {
            self.take_in_one(&delta, None, edits)?;
        }
        Ok(())
    }

    fn take_in_one(&mut self, delta: &Delta, arrivals: Option<&[u64]>, edits: &mut Vec<Edit>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let keys: Vec<ArrayRef> =
            plan.spec.partition.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
        let mut slots = Vec::new();
        self.partitions.intern(&keys, delta.rows(), &mut slots)?;
        self.made.extend_from_slice(self.partitions.fresh());
        let mut changes = Vec::new();
        self.rows.apply(delta, &mut changes)?;
        let ids: Vec<u32> = changes.iter().map(|change| change.id).collect();
        self.order.put(&delta.batch, &ids)?;
        let bound = self.rows.id_bound();
        if plan.spec.retracting {
            self.copies.resize_with(bound.max(self.copies.len()), Vec::new);
        } else {
            self.arrivals.resize(bound.max(self.arrivals.len()), u64::MAX);
        }
        edits.reserve(slots.len());
        for (row, (slot, change)) in slots.iter().zip(&changes).enumerate() {
            let id = change.id;
            if !plan.spec.retracting {
                let arrival = self.arrive(arrivals.map(|arrivals| arrivals[row]), id);
                self.arrivals[id as usize] = arrival;
                edits.push(Edit { slot: *slot, id, arrival, added: true });
                continue;
            }
            let wanted = change.after.max(0) as usize;
            while self.copies[id as usize].len() < wanted {
                let arrival = self.arrive(arrivals.map(|arrivals| arrivals[row]), id);
                self.copies[id as usize].push(arrival);
                edits.push(Edit { slot: *slot, id, arrival, added: true });
            }
            while self.copies[id as usize].len() > wanted {
                let arrival = self.copies[id as usize].pop().expect("it has more than none");
                if arrival < self.saved_until {
                    self.log.push(&self.stored(&[(arrival, id)], Some(-1))?)?;
                }
                edits.push(Edit { slot: *slot, id, arrival, added: false });
            }
            if change.after == 0 {
                self.zeroed.push(id);
            }
            if change.after < 0 {
                self.debts.insert(id)
            } else {
                self.debts.remove(&id)
            };
        }
        Ok(())
    }

    fn arrive(&mut self, arrival: Option<u64>, id: u32) -> u64 {
        let arrival = arrival.unwrap_or(self.next_arrival);
        self.next_arrival = self.next_arrival.max(arrival + 1);
        if arrival >= self.saved_until {
            self.unsaved.push((arrival, id));
        }
        arrival
    }

    /// Stored rows as a delta that says when they came.
    fn stored(&self, rows: &[(u64, u32)], weight: Option<i64>) -> Result<Delta> {
        let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
        Ok(Delta {
            batch: self.rows.take_batch(&ids)?,
            weights: weight.map(|weight| Int64Array::from_value(weight, ids.len())),
            ordinals: Some(UInt64Array::from_iter_values(rows.iter().map(|(arrival, _)| *arrival))),
        })
    }

    fn holds(&self, arrival: u64, id: u32) -> bool {
        match self.plan.spec.retracting {
            false => self.arrivals.get(id as usize) == Some(&arrival),
            true => self.copies.get(id as usize).is_some_and(|copies| copies.binary_search(&arrival).is_ok()),
        }
    }

    /// Forgets rows that nobody looks at any more.
    pub(in crate::operator) fn release(&mut self, gone: &[(u64, u32)]) -> Result<()> {
        let mut ids = Vec::with_capacity(gone.len());
        for (arrival, id) in gone {
            if !self.plan.spec.retracting {
                self.arrivals[*id as usize] = u64::MAX;
                ids.push(*id);
                continue;
            }
            let copies = &mut self.copies[*id as usize];
            copies.retain(|copy| copy != arrival);
            if copies.is_empty() {
                ids.push(*id);
            }
        }
        self.rows.remove(&ids)?;
        if self.unsaved.len() > 2 * self.rows.len() + 4_096 {
            let mut unsaved = std::mem::take(&mut self.unsaved);
            unsaved.retain(|(arrival, id)| self.holds(*arrival, *id));
            self.unsaved = unsaved;
        }
        Ok(())
    }

    /// Forgets the rows that the step has taken back for good.
    pub(in crate::operator) fn sweep(&mut self) -> Result<()> {
        let mut gone = std::mem::take(&mut self.zeroed);
        gone.retain(|id| self.rows.weight(*id) == 0);
        gone.sort_unstable();
        gone.dedup();
        self.rows.remove(&gone)
    }

    /// The values of all calls for the wanted rows of `work`.
    pub(super) fn evaluate(&self, work: &Work) -> Result<Vec<ArrayRef>> {
        let plan = &self.plan;
        let columns = self.rows.take(&work.ids, &plan.read)?;
        let mut new_peer = vec![true; work.ids.len()];
        for segment in &work.segments {
            for row in segment.rows.clone().skip(1) {
                new_peer[row] = self.order.peers(work.ids[row]) != self.order.peers(work.ids[row - 1]);
            }
        }
        let order: Vec<ArrayRef> =
            plan.spec.order.iter().map(|key| Arc::clone(&columns[plan.place(key.column)])).collect();
        let range = match plan.compares_keys {
            true => Some(RangeKeys::of(&order[0], plan.spec.order[0].options)?),
            false => None,
        };
        let ordered = Ordered { order: &order, new_peer: &new_peer, range: range.as_ref(), segments: &work.segments };
        let calls = plan.spec.calls.iter().map(|call| {
            let args: Vec<ArrayRef> = call.args.iter().map(|arg| Arc::clone(&columns[plan.place(*arg)])).collect();
            let filter = call.filter.map(|filter| columns[plan.place(filter)].as_boolean());
            call.function.evaluate(&args, filter, &ordered)
        });
        calls.collect()
    }

    /// Saves rows; `all` are those that are there now.
    pub(in crate::operator) fn save(
        &mut self,
        kind: SaveKind,
        state: &mut StateWriter,
        all: impl FnOnce() -> Vec<(u64, u32)>,
    ) -> Result<()> {
        self.saves += 1;
        state.meta.insert(ARRIVALS.into(), self.next_arrival.into());
        state.meta.insert(SAVES.into(), self.saves.into());
        let unsaved = std::mem::take(&mut self.unsaved);
        let rows = match kind {
            SaveKind::Full => all(),
            SaveKind::Changes => unsaved.into_iter().filter(|(arrival, id)| self.holds(*arrival, *id)).collect(),
        };
        self.saved_until = self.next_arrival;
        let rows = match rows.is_empty() {
            true => Vec::new(),
            false => vec![self.stored(&rows, None)?],
        };
        if kind == SaveKind::Changes {
            rows.iter().try_for_each(|rows| self.log.push(rows))?;
        }
        self.log.save(kind, state, || Ok(rows))?;
        if !self.debts.is_empty() {
            // Few, if any: all of them each time, by the number of the save.
            let ids: Vec<u32> = self.debts.iter().copied().collect();
            let debts = Delta {
                batch: self.rows.take_batch(&ids)?,
                weights: Some(ids.iter().map(|id| Some(self.rows.weight(*id))).collect()),
                ordinals: Some(UInt64Array::from_value(self.saves, ids.len())),
            };
            self.debt_log.save(SaveKind::Full, state, || Ok(vec![debts]))?;
        }
        Ok(())
    }

    /// Takes in again what was saved; all rows that are there are added to `edits`, in order of arrival.
    pub(in crate::operator) fn restore(&mut self, state: &StateReader<'_>, edits: &mut Vec<Edit>) -> Result<()> {
        let number = |name: &str| state.metas.iter().filter_map(|meta| meta.get(name)?.as_u64()).max().unwrap_or(0);
        let plan = Arc::clone(&self.plan);
        self.saves = number(SAVES);
        let mut deltas = self.log.restore("Over", state, &plan.spec.partition)?;
        let mut gone = BTreeSet::new();
        for delta in deltas.iter().filter(|delta| delta.weights.is_some()) {
            gone.extend(self.names(delta)?);
        }
        deltas.retain(|delta| delta.weights.is_none());
        let mut rows: Vec<(u64, u32, u32)> = Vec::new();
        for (index, delta) in deltas.iter().enumerate() {
            for (row, name) in self.names(delta)?.into_iter().enumerate() {
                if gone.is_empty() || !gone.contains(&name) {
                    rows.push((name.0, index as u32, row as u32));
                }
            }
        }
        rows.sort_unstable();
        if !rows.is_empty() {
            let all = concat_batches(&plan.spec.input, deltas.iter().map(|delta| &delta.batch))?;
            let mut starts = vec![0u32];
            deltas.iter().for_each(|delta| starts.push(starts[starts.len() - 1] + delta.rows() as u32));
            let indices = rows.iter().map(|(_, index, row)| starts[*index as usize] + row);
            let batch = take_batch(&all, &UInt32Array::from_iter_values(indices))?;
            let arrivals: Vec<u64> = rows.iter().map(|(arrival, ..)| *arrival).collect();
            self.take_in_one(&Delta::insert(batch), Some(&arrivals), edits)?;
        }
        for delta in self.debt_log.restore("Over", state, &plan.spec.partition)? {
            if delta.ordinals.as_ref().is_some_and(|saves| saves.values().first() == Some(&self.saves)) {
                self.take_in_one(&delta, None, edits)?;
            }
        }
        self.next_arrival = self.next_arrival.max(number(ARRIVALS));
        self.saved_until = self.next_arrival;
        self.unsaved.clear();
        Ok(())
    }

    /// Arrival and partition of saved rows: together they name a row, also where shards counted arrivals each on its own.
    fn names(&self, delta: &Delta) -> Result<Vec<(u64, u64)>> {
        let keys: Vec<ArrayRef> =
            self.plan.spec.partition.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
        let mut hashes = Vec::new();
        hash_columns(&keys, delta.rows(), &mut hashes)?;
        let arrivals = delta.ordinals.as_ref().map_or(&[][..], |ordinals| ordinals.values());
        Ok(arrivals.iter().copied().zip(hashes).collect())
    }

    /// Bytes held, about.
    pub(in crate::operator) fn bytes(&self) -> usize {
        let copies = self.copies.len() * 32 + self.arrivals.capacity() * 8;
        self.partitions.bytes() + self.rows.bytes() + self.order.bytes() + copies + self.unsaved.capacity() * 16
    }
}

/// The deltas of a step so that ordinals, where there are any, ascend.
pub(in crate::operator) fn in_order_of_arrival(deltas: Vec<Delta>) -> Result<Vec<Delta>> {
    let mut last = 0;
    let mut ascending = true;
    for ordinals in deltas.iter().filter_map(|delta| delta.ordinals.as_ref()) {
        for ordinal in ordinals.values() {
            ascending &= last <= *ordinal;
            last = *ordinal;
        }
    }
    if ascending {
        return Ok(deltas);
    }
    let batch = concat_batches(&deltas[0].batch.schema(), deltas.iter().map(|delta| &delta.batch))?;
    let weights = deltas.iter().any(|delta| delta.weights.is_some()).then(|| {
        deltas.iter().flat_map(|delta| (0..delta.rows()).map(|row| Some(delta.weight(row)))).collect::<Int64Array>()
    });
    let ordinals: Vec<u64> = deltas
        .iter()
        .flat_map(|delta| (0..delta.rows()).map(|row| delta.ordinals.as_ref().map_or(u64::MAX, |all| all.value(row))))
        .collect();
    let mut indices: Vec<u32> = (0..ordinals.len() as u32).collect();
    indices.sort_by_key(|row| ordinals[*row as usize]);
    let all = Delta { batch, weights, ordinals: Some(UInt64Array::from(ordinals)) };
    Ok(vec![all.take(&UInt32Array::from(indices))?])
}
