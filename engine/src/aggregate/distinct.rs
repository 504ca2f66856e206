//! `DISTINCT` for functions where it matters: each value of each group once.
//!
//! All `(slot, value)` pairs of an operator share one hash table; the pairs of a slot are chained. A wrapped function sees a value when it
//! comes to its group, and its retraction when no row has it any more: so `count(DISTINCT x)` is read off, not counted, and stays exact when
//! rows are taken back. Calls over the same argument share the table, whatever their `FILTER` and function: where rows are only inserted a
//! pair has one bit for each call, otherwise a weight for each. The state is a list of a group's values with what they are to each call,
//! already free of the batch's repetitions.
//!
//! A group may have millions of values, of which little changes from one checkpoint to the next. So once a checkpoint has the values of a
//! group, the pairs that change are noted, and the next one takes those alone. A pair that goes stays until it was said so, unless no
//! checkpoint knows of it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Fields, UInt32Type};

use super::multiset::flatten_lists;
use super::select::{Selection, as_counts};
use super::{Accumulators, RowInfo, Slots};
use crate::error::Result;
use crate::keys::GroupKeys;

/// The end of a chain.
const NONE: u32 = u32::MAX;
/// The pair changed since it was saved, and is listed.
const CHANGED: u32 = 1 << 31;
/// A checkpoint has the pair.
const SAVED: u32 = 1 << 30;
/// So many calls can share a table.
pub(crate) const CALLS_MAX: usize = 30;

/// `f(DISTINCT x)`, for those who keep the values of several calls in one place.
#[derive(Clone)]
pub struct DistinctCall {
    /// The type of the argument.
    pub(super) data_type: DataType,
    /// Whether rows can be taken back.
    pub(super) retracting: bool,
    /// Whether the function asks how many values there are, and not which.
    pub(super) counts: bool,
    /// Makes the accumulators of `f`.
    pub(super) inner: Arc<dyn Fn() -> Result<Box<dyn Accumulators>> + Send + Sync>,
}

impl DistinctCall {
    /// Whether the values of two calls over the same column can be kept together.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        self.data_type == other.data_type && self.retracting == other.retracting
    }
}

/// Distinct values, in front of the functions of one or more calls.
pub(crate) struct Distinct {
    /// Keys are `(slot, value)`; a key's own slot is an *entry*.
    pairs: GroupKeys,
    entries: Vec<Entry>,
    /// The weight of each entry for each call, one entry after the other; empty where rows are only inserted.
    weights: Vec<i64>,
    /// The first entry of each slot.
    heads: Vec<u32>,
    calls: Vec<Inner>,
    data_type: DataType,
    retracting: bool,
    /// Whether changes are noted, because a checkpoint has what was there before.
    tracking: bool,
    /// Entries that changed since they were saved; those that were forgotten since then are no longer marked as changed.
    changed: Vec<u32>,
    /// By slot, while a save puts changes in order; else [`NONE`].
    ranks: Vec<u32>,
    /// The entries of the batch at hand, one a row.
    touched: Vec<u32>,
}

struct Inner {
    accumulators: Box<dyn Accumulators>,
    counts: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    slot: u32,
    next: u32,
    previous: u32,
    /// Bit `c`: the value is there for call `c`. And [`CHANGED`], [`SAVED`].
    bits: u32,
}

const FREE: Entry = Entry { slot: NONE, next: NONE, previous: NONE, bits: 0 };

/// Which rows a call gains and loses.
#[derive(Default)]
struct Moves {
    /// `(row, bits of the calls)`.
    come: Vec<(u32, u32)>,
    gone: Vec<(u32, u32)>,
}

impl Distinct {
    /// For calls that [share](DistinctCall::shares_with) values, at most [`CALLS_MAX`].
    pub(crate) fn new(calls: &[DistinctCall]) -> Result<Self> {
        let DistinctCall { data_type, retracting, .. } = &calls[0];
        let inner = |call: &DistinctCall| Ok(Inner { accumulators: (call.inner)()?, counts: call.counts });
        Ok(Self {
            pairs: GroupKeys::new(vec![DataType::UInt32, data_type.clone()])?,
            entries: Vec::new(),
            weights: Vec::new(),
            heads: Vec::new(),
            calls: calls.iter().map(inner).collect::<Result<_>>()?,
            data_type: data_type.clone(),
            retracting: *retracting,
            tracking: false,
            changed: Vec::new(),
            ranks: Vec::new(),
            touched: Vec::new(),
        })
    }

    /// Whether values of the type can be told apart.
    pub(crate) fn supports(data_type: &DataType) -> bool {
        GroupKeys::new(vec![DataType::UInt32, data_type.clone()]).is_ok()
    }

    /// The type of the state column of so many calls.
    pub(crate) fn state_type(data_type: &DataType, retracting: bool, calls: usize) -> DataType {
        DataType::List(state_item(data_type, retracting, calls))
    }

    /// Takes in rows of slots and values; call `c` takes those that `filters[c]` keeps.
    pub(crate) fn update_all(
        &mut self,
        slots: &[u32],
        argument: &ArrayRef,
        filters: &[Option<&BooleanArray>],
        weights: Option<&Int64Array>,
    ) -> Result<()> {
        let values = match argument.data_type() == &self.data_type {
            true => Arc::clone(argument),
            false => cast(argument, &self.data_type)?,
        };
        let mut bits = vec![0_u32; slots.len()];
        for (call, filter) in filters.iter().enumerate() {
            let rows = RowInfo { filter: *filter, ..RowInfo::default() };
            Selection::of(std::slice::from_ref(&values), rows).each(slots.len(), |row, _| bits[row] |= 1 << call);
        }
        let weights = weights.map(|weights| weights.values().as_ref());
        if !bits.contains(&0) {
            return self.take_rows(slots, &values, &bits, weights);
        }
        let kept: Vec<u32> = (0..slots.len() as u32).filter(|row| bits[*row as usize] != 0).collect();
        let at = |values: &[u32]| kept.iter().map(|row| values[*row as usize]).collect::<Vec<u32>>();
        let kept_weights = weights.map(|weights| kept.iter().map(|row| weights[*row as usize]).collect::<Vec<i64>>());
        let (slots, bits) = (at(slots), at(&bits));
        let values = take(&values, &UInt32Array::from(kept), None)?;
        self.take_rows(&slots, &values, &bits, kept_weights.as_deref())
    }

    fn take_rows(&mut self, slots: &[u32], values: &ArrayRef, bits: &[u32], weights: Option<&[i64]>) -> Result<()> {
        match (self.retracting, weights) {
            (false, _) => self.insert(slots, values, bits),
            (true, None) => self.weigh(slots, values, bits, |_, _, _| 1),
            (true, Some(weights)) => self.weigh(slots, values, bits, |row, _, _| weights[row]),
        }
    }

    /// Finds or makes the entries of pairs, into `touched`; new ones are not in a chain yet.
    fn intern(&mut self, slots: &[u32], values: &ArrayRef) -> Result<Vec<u32>> {
        let pairs = [Arc::new(UInt32Array::from(slots.to_vec())) as ArrayRef, Arc::clone(values)];
        let mut touched = std::mem::take(&mut self.touched);
        self.pairs.intern(&pairs, slots.len(), &mut touched)?;
        self.entries.resize(self.pairs.slot_count(), FREE);
        self.pairs.fresh().iter().for_each(|entry| self.entries[*entry as usize] = FREE);
        if self.retracting {
            let calls = self.calls.len();
            self.weights.resize(self.entries.len() * calls, 0);
            self.pairs.fresh().iter().for_each(|entry| self.weights[*entry as usize * calls..][..calls].fill(0));
        }
        Ok(touched)
    }

    /// Where rows are only inserted: row `i` brings its pair to the calls in `bits[i]`. No value is null.
    fn insert(&mut self, slots: &[u32], values: &ArrayRef, bits: &[u32]) -> Result<()> {
        let touched = self.intern(slots, values)?;
        let mut moves = Moves::default();
        for (row, index) in touched.iter().enumerate() {
            if self.entries[*index as usize].slot == NONE {
                self.link(*index, slots[row]);
            }
            let entry = &mut self.entries[*index as usize];
            let new = bits[row] & !entry.bits;
            if new != 0 {
                entry.bits |= new;
                moves.come.push((row as u32, new));
                self.note(*index);
            }
        }
        self.touched = touched;
        self.tell(slots, values, &moves)
    }

    /// Where rows can be taken back: adds `weight(row, call, what it is)` to the pair of each row, for the calls in `bits[row]`.
    fn weigh(
        &mut self,
        slots: &[u32],
        values: &ArrayRef,
        bits: &[u32],
        weight: impl Fn(usize, usize, i64) -> i64,
    ) -> Result<()> {
        let touched = self.intern(slots, values)?;
        let calls = self.calls.len();
        let (mut moves, mut zeros) = (Moves::default(), Vec::new());
        for (row, index) in touched.iter().enumerate() {
            if self.entries[*index as usize].slot == NONE {
                self.link(*index, slots[row]);
            }
            let entry = &mut self.entries[*index as usize];
            let weights = &mut self.weights[*index as usize * calls..][..calls];
            let (before, mut any) = (entry.bits, false);
            for (call, held) in weights.iter_mut().enumerate().filter(|(call, _)| bits[row] & (1 << call) != 0) {
                let added = weight(row, call, *held);
                *held += added;
                any |= added != 0;
                match *held > 0 {
                    true => entry.bits |= 1 << call,
                    false => entry.bits &= !(1 << call),
                }
            }
            let (come, gone) = (entry.bits & !before, before & !entry.bits);
            if come != 0 {
                moves.come.push((row as u32, come));
            }
            if gone != 0 {
                moves.gone.push((row as u32, gone));
            }
            if weights.iter().all(|weight| *weight == 0) {
                zeros.push(*index);
            }
            if any {
                self.note(*index);
            }
        }
        self.touched = touched;
        self.tell(slots, values, &moves)?;
        zeros.sort_unstable();
        zeros.dedup();
        // What a checkpoint knows of stays until the next one has said that it is gone.
        zeros.retain(|entry| self.is_empty(*entry) && self.entries[*entry as usize].bits & SAVED == 0);
        self.forget(&zeros);
        Ok(())
    }

    /// Whether no row has the pair.
    fn is_empty(&self, entry: u32) -> bool {
        let calls = self.calls.len();
        self.retracting && self.weights[entry as usize * calls..][..calls].iter().all(|weight| *weight == 0)
    }

    /// Lists an entry for the next save.
    #[inline]
    fn note(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if self.tracking && entry.bits & CHANGED == 0 {
            entry.bits |= CHANGED;
            self.changed.push(index);
        }
    }

    /// Tells each function which values came and went.
    fn tell(&mut self, slots: &[u32], values: &ArrayRef, moves: &Moves) -> Result<()> {
        for (call, inner) in self.calls.iter_mut().enumerate() {
            let of_call = |moves: &[(u32, u32)], rows: &mut Vec<u32>| {
                rows.extend(moves.iter().filter(|(_, bits)| bits & (1 << call) != 0).map(|(row, _)| *row));
                rows.len()
            };
            let mut rows = Vec::with_capacity(moves.come.len());
            let come = of_call(&moves.come, &mut rows);
            let all = of_call(&moves.gone, &mut rows);
            if all == 0 {
                continue;
            }
            let slots: Vec<u32> = rows.iter().map(|row| slots[*row as usize]).collect();
            let weights: Option<Int64Array> =
                (come < all).then(|| (0..all).map(|row| Some(if row < come { 1 } else { -1 })).collect());
            let args = match inner.counts {
                true => vec![],
                false => vec![take(values, &UInt32Array::from(rows), None)?],
            };
            let info = RowInfo { weights: weights.as_ref(), ..RowInfo::default() };
            inner.accumulators.update(&slots, &args, info)?;
        }
        Ok(())
    }

    fn link(&mut self, entry: u32, slot: u32) {
        let head = std::mem::replace(&mut self.heads[slot as usize], entry);
        self.entries[entry as usize] = Entry { slot, next: head, previous: NONE, bits: 0 };
        if head != NONE {
            self.entries[head as usize].previous = entry;
        }
    }

    fn forget(&mut self, entries: &[u32]) {
        for entry in entries {
            let Entry { slot, next, previous, .. } = self.entries[*entry as usize];
            match previous {
                NONE => self.heads[slot as usize] = next,
                previous => self.entries[previous as usize].next = next,
            }
            if next != NONE {
                self.entries[next as usize].previous = previous;
            }
            self.entries[*entry as usize] = FREE;
        }
        self.pairs.remove(entries);
    }

    fn chain(&self, slot: usize) -> impl Iterator<Item = u32> + '_ {
        let some = |entry: u32| (entry != NONE).then_some(entry);
        std::iter::successors(some(self.heads[slot]), move |entry| some(self.entries[*entry as usize].next))
    }

    /// What entries are, with a row for each.
    fn state_columns(&self, entries: &[u32]) -> Result<StructArray> {
        let calls = self.calls.len();
        let mut columns = vec![self.pairs.column(1, Slots::Some(entries))?];
        if self.retracting {
            let of = |call| entries.iter().map(move |entry| self.weights[*entry as usize * calls + call]);
            columns.extend((0..calls).map(|call| Arc::new(Int64Array::from_iter_values(of(call))) as ArrayRef));
        } else if calls > 1 {
            let all = all_calls(calls);
            let bits = entries.iter().map(|entry| self.entries[*entry as usize].bits & all);
            columns.push(Arc::new(UInt32Array::from_iter_values(bits)));
        }
        self.state_struct(columns)
    }

    fn state_struct(&self, columns: Vec<ArrayRef>) -> Result<StructArray> {
        let item = state_item(&self.data_type, self.retracting, self.calls.len());
        let DataType::Struct(fields) = item.data_type() else { unreachable!("made as a struct above") };
        Ok(StructArray::try_new(fields.clone(), columns, None)?)
    }

    /// Takes in lists; with `replaces` they say what pairs are now, and not what is added to them.
    fn take_lists(&mut self, slots: &[u32], lists: &ArrayRef, replaces: bool) -> Result<()> {
        let (slots, entries) = flatten_lists(slots, lists);
        let (calls, values) = (self.calls.len(), entries.column(0));
        let all = all_calls(calls);
        if self.retracting {
            let weights: Vec<&[i64]> = entries.columns()[1..].iter().map(as_counts).collect();
            let added = |row: usize, call: usize, held| weights[call][row] - if replaces { held } else { 0 };
            return self.weigh(&slots, values, &vec![all; slots.len()], added);
        }
        match calls {
            1 => self.insert(&slots, values, &vec![all; slots.len()]),
            _ => {
                let bits = entries.column(1).as_primitive::<UInt32Type>();
                let bits: Vec<u32> = bits.values().iter().map(|bits| bits & all).collect();
                self.insert(&slots, values, &bits)
            }
        }
    }

    /// Takes in what [`save`](Self::save) gave as changes of slots.
    pub(crate) fn apply(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.take_lists(slots, &state[0], true)
    }

    /// For a checkpoint: the whole state of the slots `whole`, and of the slots `changed` the pairs that changed since they were saved. All
    /// slots with changes are among the two. From now on changes are noted.
    pub(crate) fn save(&mut self, whole: &[u32], changed: &[u32]) -> Result<[Vec<ArrayRef>; 2]> {
        let all = if self.tracking {
            let entries = whole.iter().flat_map(|slot| self.chain(*slot as usize));
            let (gone, there): (Vec<u32>, Vec<u32>) = entries.partition(|entry| self.is_empty(*entry));
            self.forget(&gone);
            there
        } else {
            // The first checkpoint takes all entries, and in the order in which they lie: chains lead to and fro.
            (0..self.entries.len() as u32).collect()
        };
        let (all, _) = self.save_entries(whole, all, 0)?;
        let noted = std::mem::take(&mut self.changed);
        let (changes, mut saved) = self.save_entries(changed, noted, CHANGED)?;
        if self.retracting {
            let gone: Vec<u32> = saved.iter().copied().filter(|entry| self.is_empty(*entry)).collect();
            self.forget(&gone);
        }
        // Its memory is there for what is noted next.
        saved.clear();
        saved.append(&mut self.changed);
        self.changed = saved;
        self.tracking = true;
        Ok([vec![all], vec![changes]])
    }

    /// A list of pairs for each of the slots, which all of the entries that have the bits `only` are of; and which entries those are. A
    /// checkpoint has them then.
    fn save_entries(&mut self, slots: &[u32], mut entries: Vec<u32>, only: u32) -> Result<(ArrayRef, Vec<u32>)> {
        self.ranks.resize(self.heads.len(), NONE);
        (0..).zip(slots).for_each(|(rank, slot)| self.ranks[*slot as usize] = rank);
        let mut lengths = vec![0_usize; slots.len()];
        entries.retain(|index| {
            let entry = &mut self.entries[*index as usize];
            if entry.bits & only != only {
                // It was forgotten, or has been listed twice because it was there again.
                return false;
            }
            let rank = self.ranks.get(entry.slot as usize).copied().unwrap_or(NONE);
            if rank == NONE {
                debug_assert_eq!(entry.slot, NONE, "a slot with changes is saved");
                if entry.slot != NONE {
                    entry.bits |= CHANGED;
                    self.changed.push(*index);
                }
                return false;
            }
            entry.bits = entry.bits & !CHANGED | SAVED;
            lengths[rank as usize] += 1;
            true
        });
        let mut places: Vec<usize> =
            lengths.iter().scan(0, |next, length| Some(std::mem::replace(next, *next + length))).collect();
        let place = |entry: &Entry| {
            let place = &mut places[self.ranks[entry.slot as usize] as usize];
            *place += 1;
            *place - 1
        };
        let values = self.in_order(&entries, place)?;
        slots.iter().for_each(|slot| self.ranks[*slot as usize] = NONE);
        Ok((lists(Arc::new(values), lengths)?, entries))
    }

    /// What entries are, each in the row that `place` gives it.
    ///
    /// Entries are read one after the other and put where they belong, and not fetched in the order of lists: those of one list lie far apart
    /// among all of an operator's, and those that changed one after the other lie together.
    fn in_order(&self, entries: &[u32], mut place: impl FnMut(&Entry) -> usize) -> Result<StructArray> {
        let Some(words) = self.pairs.words(1).filter(|_| !self.retracting) else {
            let mut order = vec![0_u32; entries.len()];
            for (row, index) in (0..).zip(entries) {
                order[place(&self.entries[*index as usize])] = row;
            }
            let values = take(&self.state_columns(entries)?, &UInt32Array::from(order), None)?;
            return Ok(values.as_struct().clone());
        };
        let all = all_calls(self.calls.len());
        let mut values = vec![0_u64; entries.len()];
        let mut bits = vec![0_u32; if self.calls.len() > 1 { entries.len() } else { 0 }];
        for index in entries {
            let entry = &self.entries[*index as usize];
            let place = place(entry);
            values[place] = words.of(*index);
            if let Some(bits) = bits.get_mut(place) {
                *bits = entry.bits & all;
            }
        }
        let mut columns = vec![words.column(values)];
        if self.calls.len() > 1 {
            columns.push(Arc::new(UInt32Array::from(bits)));
        }
        self.state_struct(columns)
    }

    /// After a checkpoint was read: it has all that is there.
    pub(crate) fn restored(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.bits = entry.bits & !CHANGED | SAVED);
        self.changed.clear();
        self.tracking = true;
    }

    /// How many pairs there are.
    pub(crate) fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// The results of one call.
    pub(crate) fn evaluate_call(&mut self, call: usize, slots: Slots<'_>) -> Result<ArrayRef> {
        self.calls[call].accumulators.evaluate(slots)
    }
}

/// Lists of the given lengths, one behind the other in `values`.
fn lists(values: ArrayRef, lengths: Vec<usize>) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", values.data_type().clone(), false));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, None)?))
}

/// The bits of so many calls.
fn all_calls(calls: usize) -> u32 {
    (1 << calls) - 1
}

fn state_item(data_type: &DataType, retracting: bool, calls: usize) -> Arc<Field> {
    let mut fields = vec![Field::new("value", data_type.clone(), true)];
    match (retracting, calls) {
        (true, 1) => fields.push(Field::new("weight", DataType::Int64, false)),
        (true, _) => {
            fields.extend((0..calls).map(|call| Field::new(format!("weight_{call}"), DataType::Int64, false)));
        }
        (false, 1) => {}
        (false, _) => fields.push(Field::new("calls", DataType::UInt32, false)),
    }
    Arc::new(Field::new("item", DataType::Struct(Fields::from(fields)), false))
}

impl Accumulators for Distinct {
    fn resize(&mut self, count: usize) {
        if count > self.heads.len() {
            self.heads.resize(count, NONE);
        }
        self.calls.iter_mut().for_each(|call| call.accumulators.resize(count));
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let filters = vec![rows.filter; self.calls.len()];
        self.update_all(slots, &args[0], &filters, rows.weights)
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.take_lists(slots, &state[0], false)
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let mut entries = Vec::new();
        let mut lengths = Vec::with_capacity(slots.count());
        for slot in slots.iter() {
            let before = entries.len();
            entries.extend(self.chain(slot).filter(|entry| !self.is_empty(*entry)));
            lengths.push(entries.len() - before);
        }
        Ok(vec![lists(Arc::new(self.state_columns(&entries)?), lengths)?])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        self.evaluate_call(0, slots)
    }

    fn clear(&mut self, slots: Slots<'_>) {
        self.calls.iter_mut().for_each(|call| call.accumulators.clear(slots));
        if let Slots::First(count) = slots
            && self.heads[count..].iter().all(|head| *head == NONE)
        {
            self.pairs.clear();
            self.entries.clear();
            self.weights.clear();
            self.changed.clear();
            self.heads[..count].fill(NONE);
            return;
        }
        let mut entries = Vec::new();
        slots.iter().for_each(|slot| entries.extend(self.chain(slot)));
        self.forget(&entries);
    }

    fn state_bytes(&self) -> usize {
        let lists = self.heads.capacity() + self.touched.capacity() + self.changed.capacity() + self.ranks.capacity();
        let own = self.entries.capacity() * size_of::<Entry>() + self.weights.capacity() * 8 + lists * 4;
        let calls: usize = self.calls.iter().map(|call| call.accumulators.state_bytes()).sum();
        self.pairs.bytes() + own + calls
    }
}
