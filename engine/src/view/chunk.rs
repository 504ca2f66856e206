//! Rows that came together, and when each of them went.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use crate::error::Result;

/// The step in which a row goes that has not gone.
const NEVER: u64 = u64::MAX;

/// Immutable rows with the step in which they came; a row that goes is marked with the step in which it does.
#[derive(Debug)]
pub struct Chunk {
    pub(super) born: u64,
    pub(super) rows: RecordBatch,
    /// By row, the hash of its key; empty where the view has no index.
    pub(super) hashes: Vec<u64>,
    /// By row; not there while no row has gone.
    died: OnceLock<Box<[AtomicU64]>>,
    /// How many have gone.
    dead: AtomicUsize,
    pub(super) bytes: usize,
}

impl Chunk {
    pub(super) fn new(born: u64, rows: RecordBatch, hashes: Vec<u64>) -> Self {
        let slice_bytes = |column: &arrow::array::ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
        let bytes = rows.columns().iter().map(slice_bytes).sum::<usize>() + hashes.len() * 8;
        Self { born, rows, hashes, died: OnceLock::new(), dead: AtomicUsize::new(0), bytes }
    }

    /// As [`new`](Self::new), of rows of which some have gone.
    pub(super) fn with_deaths(born: u64, rows: RecordBatch, hashes: Vec<u64>, deaths: &[u64]) -> Self {
        let chunk = Self::new(born, rows, hashes);
        for (row, step) in deaths.iter().enumerate().filter(|(_, step)| **step != NEVER) {
            chunk.kill(row, *step);
        }
        chunk
    }

    /// A row goes in `step`, which no reader has come to.
    pub(super) fn kill(&self, row: usize, step: u64) {
        let alive = || (0..self.rows.num_rows()).map(|_| AtomicU64::new(NEVER)).collect();
        self.died.get_or_init(alive)[row].store(step, Ordering::Relaxed);
        self.dead.fetch_add(1, Ordering::Relaxed);
    }

    /// The step in which a row goes.
    pub(super) fn death(&self, row: usize) -> u64 {
        self.died.get().map_or(NEVER, |died| died[row].load(Ordering::Relaxed))
    }

    pub(super) fn is_alive(&self, row: usize) -> bool {
        self.death(row) == NEVER
    }

    pub(super) fn is_visible(&self, row: usize, step: u64) -> bool {
        self.born <= step && self.death(row) > step
    }

    pub(super) fn dead(&self) -> usize {
        self.dead.load(Ordering::Relaxed)
    }

    /// How many rows had gone by `step`.
    pub(super) fn dead_at(&self, step: u64) -> usize {
        match self.dead() {
            0 => 0,
            _ => (0..self.rows.num_rows()).filter(|row| self.death(*row) <= step).count(),
        }
    }

    /// Bytes of the rows that have gone, about.
    pub(super) fn dead_bytes(&self) -> u64 {
        match self.rows.num_rows() {
            0 => 0,
            rows => (self.bytes as u64) * self.dead() as u64 / rows as u64,
        }
    }

    /// The rows as they are after `step`; `None`: there are none.
    ///
    /// # Errors
    /// A kernel of arrow refuses.
    pub fn at(&self, step: u64) -> Result<Option<RecordBatch>> {
        if self.born > step {
            return Ok(None);
        }
        if self.dead() == 0 {
            return Ok(Some(self.rows.clone()));
        }
        let alive: BooleanArray = (0..self.rows.num_rows()).map(|row| Some(self.death(row) > step)).collect();
        if alive.true_count() == alive.len() {
            return Ok(Some(self.rows.clone()));
        }
        let rows = filter_record_batch(&self.rows, &alive)?;
        Ok((rows.num_rows() > 0).then_some(rows))
    }
}
