//! The rows of one side: stored, found by key, counted, and let go.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;

use super::emit::{Columns, Emitter};
use super::index::{Chains, KeyIndex, NONE};
use super::record::{Record, RowState, Stored};
use super::spec::{Plan, SidePlan};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::operator::expiry::Expiry;
use crate::operator::{SaveKind, StateWriter};
use crate::rows::{RowChange, Rows};
use crate::time::EventTimeMs;

/// In `touched_at`: a row that this step brought, of a side that only inserts.
const FRESH: u32 = u32::MAX - 1;

/// Rows on their way in: the stored columns.
pub(super) struct Incoming {
    pub(super) batch: RecordBatch,
    pub(super) weights: Option<Int64Array>,
    pub(super) expires: Option<Int64Array>,
    /// How many matches the rows had, where they come from a checkpoint that says so.
    pub(super) matches: Option<Int64Array>,
}

/// Rows that a step changed, each once.
pub(super) struct Arrived {
    /// The stored columns.
    pub(super) batch: RecordBatch,
    pub(super) ids: Vec<u32>,
    /// The slots of their keys.
    pub(super) slots: Vec<u32>,
    /// By how much their weight changed; `None`: each came once.
    pub(super) weights: Option<Vec<i64>>,
    /// Which of them were not there before; `None`: all.
    pub(super) fresh: Option<Vec<bool>>,
}

/// A row whose weight or matches this step changed, as it was before.
struct Touched {
    id: u32,
    weight: i64,
    matches: i64,
    expires: EventTimeMs,
    /// How often it came in this step.
    inserted: i64,
    /// Its weight was changed, and not only its matches.
    applied: bool,
}

/// The rows of one side.
pub(super) struct Side {
    plan: Arc<Plan>,
    at: usize,
    pub(super) rows: Rows,
    pub(super) chains: Chains,
    /// By row id, where matches are counted: the sum of the weights of the rows that it meets (or 1, where they only come).
    matches: Vec<i64>,
    touched: Vec<Touched>,
    /// By row id: its place in `touched`.
    touched_at: Vec<u32>,
    expiry: Option<Expiry>,
    record: Record,
    /// Rows that leave at the end of the step, and those of them that never were in a list.
    leaving: Vec<u32>,
    passing: Vec<u32>,
    /// Matches from a checkpoint.
    remembered: Vec<(u32, i64)>,
}

impl Side {
    pub(super) fn new(plan: &Arc<Plan>, at: usize) -> Result<Self> {
        let side = &plan.sides[at];
        Ok(Self {
            rows: Rows::new(&side.stored, side.retracting)?,
            chains: Chains::new(at, side.shrinks),
            matches: Vec::new(),
            touched: Vec::new(),
            touched_at: Vec::new(),
            expiry: side.expires().then(Expiry::default),
            record: Record::new(at, side),
            leaving: Vec::new(),
            passing: Vec::new(),
            remembered: Vec::new(),
            plan: Arc::clone(plan),
            at,
        })
    }

    pub(super) fn plan(&self) -> &SidePlan {
        &self.plan.sides[self.at]
    }

    /// Stores a step's rows and tells what that changed.
    pub(super) fn take_in(
        &mut self,
        incoming: Vec<Incoming>,
        index: &mut KeyIndex,
        restoring: bool,
    ) -> Result<Vec<Arrived>> {
        let arrived = match self.plan().retracting {
            false => incoming
                .into_iter()
                .map(|incoming| self.append(incoming, index, restoring))
                .collect::<Result<Vec<_>>>()?,
            true => self.apply(incoming, index, restoring)?,
        };
        Ok(arrived)
    }

    fn grow(&mut self, bound: usize) {
        self.chains.grow(bound);
        let side = &self.plan.sides[self.at];
        if side.role.counts() && self.matches.len() < bound {
            self.matches.resize(bound, 0);
        }
        if (side.role.counts() || side.retracting) && self.touched_at.len() < bound {
            self.touched_at.resize(bound, NONE);
        }
    }

    fn keys(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.plan().keys.iter().map(|key| Arc::clone(batch.column(*key))).collect()
    }

    /// Rows of a side that only inserts.
    fn append(&mut self, incoming: Incoming, index: &mut KeyIndex, restoring: bool) -> Result<Arrived> {
        let Incoming { mut batch, expires, matches, .. } = incoming;
        let mut slots = index.intern(&self.keys(&batch), batch.num_rows())?;
        if self.plan().first_of_key {
            let rows = self.first_of_keys(&slots, index);
            slots = rows.iter().map(|row| slots[*row as usize]).collect();
            (batch, _) = select(batch, None, rows)?;
        }
        let mut ids = Vec::with_capacity(batch.num_rows());
        self.rows.append(&batch, &mut ids)?;
        self.grow(ids.iter().max().map_or(0, |id| *id as usize + 1));
        self.chains.link(index, &slots, &ids);
        if self.plan().role.counts() {
            for id in &ids {
                self.matches[*id as usize] = 0;
                self.touched_at[*id as usize] = FRESH;
            }
        }
        if let (Some(expiry), Some(expires)) = (&mut self.expiry, &expires) {
            expiry.insert(&ids, expires.values());
        }
        if let Some(matches) = matches {
            self.remembered.extend(ids.iter().copied().zip(matches.values().iter().copied()));
        }
        if !restoring && !self.plan().logs_rows {
            self.record.inserted(&batch, &ids, |_| true, expires, None)?;
        }
        Ok(Arrived { batch, ids, slots, weights: None, fresh: None })
    }

    /// The rows that are the first of their key.
    fn first_of_keys(&self, slots: &[u32], index: &KeyIndex) -> Vec<u32> {
        let is_new = |(_, slot): &(u32, u32)| index.head(*slot, self.at) == NONE;
        let mut new: Vec<(u32, u32)> = (0..).zip(slots.iter().copied()).filter(is_new).collect();
        // Stable: the first of equal ones stays.
        new.sort_by_key(|(_, slot)| *slot);
        new.dedup_by_key(|(_, slot)| *slot);
        let mut rows: Vec<u32> = new.into_iter().map(|(row, _)| row).collect();
        rows.sort_unstable();
        rows
    }

    /// Rows of a side that may take back: all of the step together, so that what comes and goes within it does not show.
    fn apply(&mut self, incoming: Vec<Incoming>, index: &mut KeyIndex, restoring: bool) -> Result<Vec<Arrived>> {
        let mut changes: Vec<RowChange> = Vec::new();
        // Of each delta, the rows that were the first to touch a stored row.
        let mut firsts: Vec<(Vec<u32>, Vec<u32>)> = Vec::with_capacity(incoming.len());
        for incoming in &incoming {
            changes.clear();
            let delta = Delta { batch: incoming.batch.clone(), weights: incoming.weights.clone(), ordinals: None };
            self.rows.apply(&delta, &mut changes)?;
            self.grow(self.rows.id_bound());
            let (mut rows, mut ids) = (Vec::with_capacity(changes.len()), Vec::with_capacity(changes.len()));
            for (row, change) in changes.iter().enumerate() {
                if self.touched_at[change.id as usize] == NONE {
                    if change.before == 0 && self.plan.sides[self.at].role.counts() {
                        self.matches[change.id as usize] = 0;
                    }
                    self.note(change.id, change.before);
                }
                let place = self.touched_at[change.id as usize];
                let touched = &mut self.touched[place as usize];
                touched.inserted += (change.after - change.before).max(0);
                if !std::mem::replace(&mut touched.applied, true) {
                    rows.push(row as u32);
                    ids.push(change.id);
                }
            }
            if let Some(matches) = &incoming.matches {
                let ids = changes.iter().map(|change| change.id);
                self.remembered.extend(ids.zip(matches.values().iter().copied()));
            }
            firsts.push((rows, ids));
        }
        let forgets = self.plan().ttl_ms.is_some();
        let mut arrived = Vec::with_capacity(incoming.len());
        for (incoming, (mut rows, mut ids)) in incoming.into_iter().zip(firsts) {
            let (mut weights, mut fresh) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
            let mut kept = 0;
            for place in 0..ids.len() {
                let id = ids[place];
                let Touched { weight: before, inserted, .. } = self.touched[self.touched_at[id as usize] as usize];
                if forgets && self.rows.weight(id) < inserted {
                    // More is taken back than was there, because it was forgotten: what came is there.
                    self.rows.set_weight(id, inserted);
                }
                let change = self.rows.weight(id) - before;
                if change != 0 {
                    weights.push(change);
                    fresh.push(before == 0);
                    (rows[kept], ids[kept]) = (rows[place], id);
                    kept += 1;
                }
            }
            rows.truncate(kept);
            ids.truncate(kept);
            if kept == 0 {
                continue;
            }
            let (batch, expires) = select(incoming.batch, incoming.expires, rows)?;
            let slots = index.intern(&self.keys(&batch), kept)?;
            let new_of = |values: &[u32]| -> Vec<u32> {
                values.iter().zip(&fresh).filter(|(_, fresh)| **fresh).map(|(value, _)| *value).collect()
            };
            let (new_slots, new_ids) = (new_of(&slots), new_of(&ids));
            self.chains.link(index, &new_slots, &new_ids);
            if let (Some(expiry), Some(expires), true) = (&mut self.expiry, &expires, forgets) {
                expiry.renew(&ids, expires.values());
            } else if let (Some(expiry), Some(expires)) = (&mut self.expiry, &expires) {
                let new: Vec<i64> =
                    expires.values().iter().zip(&fresh).filter(|(_, fresh)| **fresh).map(|(at, _)| *at).collect();
                expiry.insert(&new_ids, &new);
            }
            if !restoring && !self.plan().logs_rows {
                self.record.inserted(&batch, &ids, |row| fresh[row], None, Some(Int64Array::from(weights.clone())))?;
            }
            arrived.push(Arrived { batch, ids, slots, weights: Some(weights), fresh: Some(fresh) });
        }
        Ok(arrived)
    }

    fn note(&mut self, id: u32, weight: i64) {
        self.touched_at[id as usize] = self.touched.len() as u32;
        let matches = self.matches_of(id);
        let expires = self.expiry.as_ref().map_or(0, |expiry| expiry.at(id));
        self.touched.push(Touched { id, weight, matches, expires, inserted: 0, applied: false });
    }

    /// How many matches a row has; 0 where nobody counts.
    #[inline]
    pub(super) fn matches_of(&self, id: u32) -> i64 {
        self.matches.get(id as usize).copied().unwrap_or(0)
    }

    /// Counts a match of a row that was there before, or came in this step.
    #[inline]
    pub(super) fn count(&mut self, id: u32, weight: i64) {
        let saturates = self.plan.sides[self.at].saturates;
        if saturates && self.matches[id as usize] > 0 {
            return;
        }
        if self.touched_at[id as usize] == NONE {
            self.note(id, self.rows.weight(id));
        }
        let matches = &mut self.matches[id as usize];
        *matches = if saturates { 1 } else { *matches + weight };
    }

    /// Puts back the matches that a checkpoint told.
    pub(super) fn remember(&mut self) {
        for (id, matches) in std::mem::take(&mut self.remembered) {
            self.matches[id as usize] = matches;
        }
    }

    /// Ends a step: what it changed of the rows themselves comes out, and rows that are no more leave.
    pub(super) fn settle(&mut self, arrived: &[Arrived], restoring: bool, emitter: &mut Emitter<'_>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let side = &plan.sides[self.at];
        if side.role.counts() && !side.retracting {
            for arrived in arrived {
                self.settle_fresh(arrived, restoring, emitter)?;
            }
        }
        let at_once = side.role.shows_unmatched() && !plan.on_expiry;
        let (mut matched, mut unmatched) = (Changes::default(), Changes::default());
        let recording = !restoring && side.logs_rows;
        for touched in std::mem::take(&mut self.touched) {
            let Touched { id, weight: old_weight, matches: old_matches, expires: old_expires, .. } = touched;
            self.touched_at[id as usize] = NONE;
            let (weight, matches) = (self.rows.weight(id), self.matches_of(id));
            let part = |weight: i64, shown: bool| if shown { weight } else { 0 };
            if side.role.shows_matched() {
                matched.push(id, part(weight, matches > 0) - part(old_weight, old_matches > 0));
            }
            if at_once {
                unmatched.push(id, part(weight, matches <= 0) - part(old_weight, old_matches <= 0));
            }
            let leaves = weight == 0 || side.settles && matches > 0;
            if leaves {
                if old_weight == 0 { self.passing.push(id) } else { self.leaving.push(id) }
            }
            if recording {
                let expires = self.expiry.as_ref().map_or(0, |expiry| expiry.at(id));
                let new = RowState { weight, matches, expires };
                let old = RowState { weight: old_weight, matches: old_matches, expires: old_expires };
                self.record.touched(id, old, (!leaves).then_some(new));
            }
        }
        self.emit(matched, true, emitter)?;
        self.emit(unmatched, false, emitter)?;
        if recording {
            self.record.put_removed(side, &self.rows)?;
        }
        if let Some(expiry) = &mut self.expiry {
            self.leaving.iter().for_each(|id| expiry.forget(*id));
        }
        Ok(())
    }

    /// Rows of this step of a side that only inserts.
    fn settle_fresh(&mut self, arrived: &Arrived, restoring: bool, emitter: &mut Emitter<'_>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let side = &plan.sides[self.at];
        let (mut matched, mut unmatched) = (Vec::new(), Vec::new());
        for (row, id) in arrived.ids.iter().enumerate() {
            self.touched_at[*id as usize] = NONE;
            if self.matches[*id as usize] > 0 { matched.push(row as u32) } else { unmatched.push(row as u32) }
        }
        if !restoring && side.logs_rows && self.record.is_active() {
            let settled = side.settles && !matched.is_empty();
            let rows = if settled { unmatched.clone() } else { (0..arrived.ids.len() as u32).collect() };
            let ids: Vec<u32> = rows.iter().map(|row| arrived.ids[*row as usize]).collect();
            let expires = self.expiry.as_ref().map(|expiry| ids.iter().map(|id| expiry.at(*id)).collect());
            let matches: Int64Array = ids.iter().map(|id| self.matches[*id as usize]).collect::<Vec<_>>().into();
            let (batch, _) = select(arrived.batch.clone(), None, rows)?;
            self.record.counted(&batch, &ids, expires, matches)?;
        }
        if side.settles {
            self.leaving.extend(matched.iter().map(|row| arrived.ids[*row as usize]));
        }
        if emitter.is_silent() {
            return Ok(());
        }
        for (rows, mark, shown) in [
            (matched, true, side.role.shows_matched()),
            (unmatched, false, side.role.shows_unmatched() && !plan.on_expiry),
        ] {
            if shown && !rows.is_empty() {
                let count = rows.len();
                let columns = columns_at(&arrived.batch, &side.output, rows)?;
                emitter.rows(self.at, &columns, count, None, mark)?;
            }
        }
        Ok(())
    }

    fn emit(&self, changes: Changes, mark: bool, emitter: &mut Emitter<'_>) -> Result<()> {
        if changes.ids.is_empty() || emitter.is_silent() {
            return Ok(());
        }
        let columns = self.gather(&changes.ids, &self.plan().output)?;
        emitter.rows(self.at, &columns, changes.ids.len(), Some(changes.weights), mark)
    }

    /// Forgets the rows that were not touched for the TTL.
    pub(super) fn forget_idle(&mut self, clock_ms: i64, index: &mut KeyIndex) -> Result<()> {
        let Some(expiry) = self.expiry.as_mut().filter(|_| self.plan.sides[self.at].ttl_ms.is_some()) else {
            return Ok(());
        };
        let idle = expiry.due(clock_ms);
        idle.iter().for_each(|id| self.record.forget(*id));
        self.leaving.extend(idle);
        self.remove_leaving(index)?;
        self.record.tidy(&self.plan.sides[self.at], self.rows.len(), clock_ms)
    }

    /// Frees what the watermark has passed; where rows without a match come out when they expire, those come out.
    pub(super) fn expire(&mut self, watermark: EventTimeMs, emitter: &mut Emitter<'_>) -> Result<()> {
        let Some(expiry) = self.expiry.as_mut().filter(|_| self.plan.sides[self.at].expires_at.is_some()) else {
            return Ok(());
        };
        let due = expiry.due(watermark);
        if self.plan.on_expiry && self.plan().role.shows_unmatched() {
            let mut unmatched = Changes::default();
            for id in due.iter().filter(|id| self.matches[**id as usize] <= 0) {
                unmatched.push(*id, self.rows.weight(*id));
            }
            self.emit(unmatched, false, emitter)?;
        }
        due.iter().for_each(|id| self.record.forget(*id));
        self.leaving.extend(due);
        self.record.tidy(&self.plan.sides[self.at], self.rows.len(), watermark)
    }

    /// Forgets the rows that leave.
    pub(super) fn remove_leaving(&mut self, index: &mut KeyIndex) -> Result<()> {
        let mut leaving = std::mem::take(&mut self.leaving);
        // Neighbours in memory leave together. They came together, too, as a rule: a stable sort finds such runs.
        leaving.sort();
        leaving.iter().for_each(|id| self.chains.unlink(index, *id));
        leaving.append(&mut self.passing);
        self.record.removed(&leaving)?;
        self.rows.remove(&leaving)?;
        leaving.clear();
        self.leaving = leaving;
        Ok(())
    }

    /// These stored columns of stored rows.
    pub(super) fn gather(&self, ids: &[u32], columns: &[usize]) -> Result<Columns> {
        let mut gathered = vec![None; self.plan().stored.fields().len()];
        for (column, taken) in columns.iter().zip(self.rows.take(ids, columns)?) {
            gathered[*column] = Some(taken);
        }
        Ok(gathered)
    }

    pub(super) fn save(&mut self, kind: SaveKind, now: EventTimeMs, state: &mut StateWriter) -> Result<()> {
        let side = &self.plan.sides[self.at];
        let stored = Stored { rows: &self.rows, expiry: self.expiry.as_ref(), matches: &self.matches };
        self.record.save(kind, now, state, side, stored)
    }

    pub(super) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes()
            + self.chains.bytes()
            + self.matches.capacity() * 8
            + self.touched_at.capacity() * 4
            + self.expiry.as_ref().map_or(0, Expiry::bytes)
            + self.record.bytes()
    }
}

/// Rows with changes of what is shown of them.
#[derive(Default)]
struct Changes {
    ids: Vec<u32>,
    weights: Vec<i64>,
}

impl Changes {
    fn push(&mut self, id: u32, weight: i64) {
        if weight != 0 {
            self.ids.push(id);
            self.weights.push(weight);
        }
    }
}

/// These columns of the rows at ascending `rows` of a batch, shared where that is all of them.
pub(super) fn columns_at(batch: &RecordBatch, columns: &[usize], rows: Vec<u32>) -> Result<Columns> {
    let mut taken = vec![None; batch.num_columns()];
    if rows.len() == batch.num_rows() {
        columns.iter().for_each(|column| taken[*column] = Some(Arc::clone(batch.column(*column))));
        return Ok(taken);
    }
    let rows = UInt32Array::from(rows);
    for column in columns {
        taken[*column] = Some(take(batch.column(*column), &rows, None)?);
    }
    Ok(taken)
}

/// The rows at ascending `rows`.
fn select(
    batch: RecordBatch,
    expires: Option<Int64Array>,
    rows: Vec<u32>,
) -> Result<(RecordBatch, Option<Int64Array>)> {
    if rows.len() == batch.num_rows() {
        return Ok((batch, expires));
    }
    let count = rows.len();
    let rows = UInt32Array::from(rows);
    let columns = batch.columns().iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<_>>()?;
    let expires =
        expires.map(|expires| rows.values().iter().map(|row| expires.value(*row as usize)).collect::<Vec<_>>());
    Ok((batch_of(&batch.schema(), columns, count)?, expires.map(Int64Array::from)))
}
