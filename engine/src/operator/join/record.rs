//! What one side writes into checkpoints.
//!
//! The rows it took in, and, after a restore, its matches are counted again. Where the other side's rows are freed by time that cannot
//! be done, because a row that is still there may owe its match to one that is not; then the record is a Z-set of rows *with their
//! matches*: a row whose matches changed is taken back as it was in the last checkpoint and put in as it is, once a checkpoint however
//! often it changed. So it is where a TTL gives a row that is touched another time to leave.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::Int64Type;

use super::index::NONE;
use super::side::Incoming;
use super::spec::SidePlan;
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::Result;
use crate::operator::expiry::Expiry;
use crate::operator::{SaveKind, StateReader, StateWriter};
use crate::rows::{RowLog, Rows};
use crate::time::{EventTimeMs, WATERMARK_MAX};

/// So many noted rows that are gone are no burden.
const GONE_MAX: usize = 65_536;

/// The tables of a checkpoint.
const TABLES: [&str; 2] = ["left", "right"];

/// What one side writes into checkpoints.
pub(super) struct Record {
    log: RowLog,
    /// Rows that changed since the last checkpoint, as that has them.
    notes: Vec<Note>,
    /// By row id: its place in `notes`.
    note_of: Vec<u32>,
    removed: Vec<Note>,
    /// When so many rows are noted, those that are gone are looked for.
    tidy_at: usize,
}

/// What a checkpoint says of a row besides its columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RowState {
    pub(super) weight: i64,
    pub(super) matches: i64,
    /// When it expires, where it does.
    pub(super) expires: EventTimeMs,
}

/// The rows that are there, with what is known of each by its id.
pub(super) struct Stored<'a> {
    pub(super) rows: &'a Rows,
    pub(super) expiry: Option<&'a Expiry>,
    pub(super) matches: &'a [i64],
}

#[derive(Clone, Copy)]
struct Note {
    id: u32,
    /// In the last checkpoint.
    state: RowState,
}

impl Record {
    pub(super) fn new(at: usize, side: &SidePlan) -> Self {
        Self {
            log: RowLog::new(TABLES[at], &side.logged),
            notes: Vec::new(),
            note_of: Vec::new(),
            removed: Vec::new(),
            tidy_at: GONE_MAX,
        }
    }

    /// Whether changes are noted.
    pub(super) fn is_active(&self) -> bool {
        self.log.is_active()
    }

    /// Notes rows that were taken in, where matches are not told. `batch` has the stored columns; `is_new`: which of the rows were not there
    /// before.
    pub(super) fn inserted(
        &mut self,
        batch: &RecordBatch,
        ids: &[u32],
        is_new: impl Fn(usize) -> bool,
        expires: Option<Int64Array>,
        weights: Option<Int64Array>,
    ) -> Result<()> {
        let mut columns = batch.columns().to_vec();
        columns.extend(expires.map(|expires| Arc::new(expires) as ArrayRef));
        if !self.is_active() {
            return Ok(());
        }
        let batch = batch_of(self.log.schema(), columns, batch.num_rows())?;
        self.log.push_rows(&Delta { batch, weights, ordinals: None }, ids, is_new)
    }

    /// Notes new rows of a side that only inserts, with their matches.
    pub(super) fn counted(
        &mut self,
        batch: &RecordBatch,
        ids: &[u32],
        expires: Option<Vec<i64>>,
        matches: Int64Array,
    ) -> Result<()> {
        let mut columns = batch.columns().to_vec();
        columns.extend(expires.map(|expires| Arc::new(Int64Array::from(expires)) as ArrayRef));
        columns.push(Arc::new(matches));
        let batch = batch_of(self.log.schema(), columns, batch.num_rows())?;
        self.log.push_rows(&Delta::insert(batch), ids, |_| true)
    }

    fn push(&mut self, columns: Vec<ArrayRef>, rows: usize, weights: Option<Int64Array>) -> Result<()> {
        let batch = batch_of(self.log.schema(), columns, rows)?;
        self.log.push(&Delta { batch, weights, ordinals: None })
    }

    /// Rows leave, whether taken back, settled or freed by time.
    pub(super) fn removed(&mut self, ids: &[u32]) -> Result<()> {
        self.log.remove(ids)
    }

    /// Notes that a row was `old` before this step and is `new` now; `None`: it leaves.
    pub(super) fn touched(&mut self, id: u32, old: RowState, new: Option<RowState>) {
        if !self.is_active() {
            return;
        }
        let noted = self.note_of.get(id as usize).copied().unwrap_or(NONE);
        let note = match noted {
            // A row that came since the last checkpoint is not in it.
            NONE if self.log.withdraw(id) => Note { id, state: RowState { weight: 0, ..old } },
            NONE => Note { id, state: old },
            place => self.notes[place as usize],
        };
        match new {
            None => {
                self.forget(id);
                if note.state.weight != 0 {
                    self.removed.push(note);
                }
            }
            Some(new) if noted == NONE && new != note.state => {
                if self.note_of.len() <= id as usize {
                    self.note_of.resize(id as usize + 1, NONE);
                }
                self.note_of[id as usize] = self.notes.len() as u32;
                self.notes.push(note);
            }
            Some(_) => {}
        }
    }

    /// Takes back the rows that leave, while they can be read.
    pub(super) fn put_removed(&mut self, side: &SidePlan, rows: &Rows) -> Result<()> {
        let removed = std::mem::take(&mut self.removed);
        self.take_back(&removed, side, rows)
    }

    fn take_back(&mut self, notes: &[Note], side: &SidePlan, rows: &Rows) -> Result<()> {
        if notes.is_empty() {
            return Ok(());
        }
        let ids: Vec<u32> = notes.iter().map(|note| note.id).collect();
        let matches = notes.iter().map(|note| note.state.matches).collect();
        let expires = notes.iter().map(|note| note.state.expires).collect();
        let weights: Vec<i64> = notes.iter().map(|note| -note.state.weight).collect();
        let columns = logged_columns(&ids, side, rows, || expires, || matches)?;
        self.push(columns, ids.len(), Some(weights.into()))
    }

    /// A row was freed by time: its record needs no word more.
    pub(super) fn forget(&mut self, id: u32) {
        if let Some(place) = self.note_of.get_mut(id as usize) {
            let place = std::mem::replace(place, NONE);
            if place != NONE {
                self.notes[place as usize].id = NONE;
            }
        }
    }

    /// Forgets notes of rows that time has freed, once they are most of what is noted: between two checkpoints many more may
    /// pass through than are ever there at once.
    pub(super) fn tidy(&mut self, side: &SidePlan, live: usize, now: EventTimeMs) -> Result<()> {
        if self.log.pending_rows() < self.tidy_at.max(2 * live) {
            return Ok(());
        }
        self.retain_alive(side, now)?;
        self.tidy_at = GONE_MAX.max(2 * self.log.pending_rows());
        Ok(())
    }

    fn retain_alive(&mut self, side: &SidePlan, now: EventTimeMs) -> Result<()> {
        match side.expires() {
            true => self.log.retain(|chunk| alive(chunk, side, now)),
            false => Ok(()),
        }
    }

    pub(super) fn save(
        &mut self,
        kind: SaveKind,
        now: EventTimeMs,
        state: &mut StateWriter,
        side: &SidePlan,
        stored: Stored<'_>,
    ) -> Result<()> {
        let Stored { rows, expiry, matches } = stored;
        let mut notes = std::mem::take(&mut self.notes);
        notes.retain(|note| note.id != NONE);
        notes.iter().for_each(|note| self.note_of[note.id as usize] = NONE);
        let matches_of = |ids: &[u32]| ids.iter().map(|id| matches[*id as usize]).collect::<Vec<_>>();
        let expires_of = |ids: &[u32]| {
            let at = |id: &u32| expiry.map_or(0, |expiry| expiry.at(*id));
            ids.iter().map(at).collect::<Vec<_>>()
        };
        if kind == SaveKind::Changes && !notes.is_empty() {
            let known: Vec<Note> = notes.iter().copied().filter(|note| note.state.weight != 0).collect();
            self.take_back(&known, side, rows)?;
            let ids: Vec<u32> = notes.iter().map(|note| note.id).collect();
            let weights: Vec<i64> = ids.iter().map(|id| rows.weight(*id)).collect();
            let columns = logged_columns(&ids, side, rows, || expires_of(&ids), || matches_of(&ids))?;
            self.push(columns, ids.len(), Some(weights.into()))?;
        }
        self.retain_alive(side, now)?;
        let schema = Arc::clone(self.log.schema());
        self.log.save(kind, state, || {
            let delta = |ids: &Vec<u32>| -> Result<Delta> {
                let columns = logged_columns(ids, side, rows, || expires_of(ids), || matches_of(ids))?;
                let weights = || Int64Array::from_iter_values(ids.iter().map(|id| rows.weight(*id)));
                let batch = batch_of(&schema, columns, ids.len())?;
                Ok(Delta { batch, weights: side.retracting.then(weights), ordinals: None })
            };
            rows.live_pieces().iter().map(delta).collect()
        })
    }

    /// The rows that are still there at `now`, the watermark or, with a TTL, the clock.
    pub(super) fn restore(
        &mut self,
        state: &StateReader<'_>,
        side: &SidePlan,
        now: EventTimeMs,
    ) -> Result<Vec<Incoming>> {
        let mut deltas = self.log.restore("Join", state, &side.keys)?;
        let weighted = deltas.iter().any(|delta| delta.weights.is_some());
        if side.retracting || weighted {
            deltas = consolidated(&deltas, self.log.schema())?;
        }
        let mut incoming = Vec::with_capacity(deltas.len());
        for mut delta in deltas {
            if side.expires() {
                delta = delta.filter(&alive(&delta.batch, side, now))?;
            }
            if let Some(weights) = delta.weights.take_if(|_| !side.retracting) {
                // Equal rows of a side that only inserts are rows of their own.
                let copies = |(row, weight): (usize, &i64)| std::iter::repeat_n(row as u32, (*weight).max(0) as usize);
                let rows = UInt32Array::from_iter_values(weights.values().iter().enumerate().flat_map(copies));
                delta = delta.take(&rows)?;
            }
            if delta.is_empty() {
                continue;
            }
            let column = |index: usize| delta.batch.column(index).as_primitive::<Int64Type>().clone();
            let expires = side.expires().then(|| column(side.kept()));
            let matches = side.logs_matches.then(|| column(delta.batch.num_columns() - 1));
            let stored = delta.batch.columns()[..side.stored.fields().len()].to_vec();
            let batch = batch_of(&side.stored, stored, delta.rows())?;
            incoming.push(Incoming { batch, weights: delta.weights, expires, matches });
        }
        Ok(incoming)
    }

    pub(super) fn bytes(&self) -> usize {
        self.log.bytes() + self.notes.capacity() * size_of::<Note>() + self.note_of.capacity() * 4
    }
}

/// Which of the rows, with the columns of a checkpoint, are still there at `now`, the watermark or, with a TTL, the clock.
fn alive(rows: &RecordBatch, side: &SidePlan, now: EventTimeMs) -> BooleanArray {
    let expires = rows.column(side.kept()).as_primitive::<Int64Type>();
    expires.values().iter().map(|at| Some(now != WATERMARK_MAX && now <= *at)).collect()
}

/// The columns of a checkpoint for stored rows.
fn logged_columns(
    ids: &[u32],
    side: &SidePlan,
    rows: &Rows,
    expires: impl FnOnce() -> Vec<i64>,
    matches: impl FnOnce() -> Vec<i64>,
) -> Result<Vec<ArrayRef>> {
    let stored: Vec<usize> = (0..side.stored.fields().len()).collect();
    let mut columns = rows.take(ids, &stored)?;
    if side.expires_apart() {
        columns.push(Arc::new(Int64Array::from(expires())));
    }
    if side.logs_matches {
        columns.push(Arc::new(Int64Array::from(matches())));
    }
    Ok(columns)
}

/// Each row once, with the sum of its weights.
fn consolidated(deltas: &[Delta], schema: &arrow::datatypes::SchemaRef) -> Result<Vec<Delta>> {
    let mut rows = Rows::new(schema, true)?;
    for delta in deltas {
        rows.apply(delta, &mut Vec::new())?;
    }
    let mut ids = rows.live_ids();
    ids.retain(|id| rows.weight(*id) != 0);
    let delta = |ids: &[u32]| {
        let weights = ids.iter().map(|id| rows.weight(*id)).collect::<Vec<_>>();
        Ok(Delta::weighted(rows.take_batch(ids)?, weights.into()))
    };
    ids.chunks(DELTA_ROWS_MAX).map(delta).collect()
}
