//! The panes that are open: which cells of the kernel's state are theirs, and what of them is no longer, or never was, on it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::Plan;
use super::column::{CELL_ROWS_MAX, CELL_STEPS_MAX, Column};
use crate::aggregate::table::GroupTable;
use crate::aggregate::{Count, Slots};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::keys::GroupKeys;

/// A key that has no cell to take more rows.
const NO_CELL: u32 = u32::MAX;

/// Gives out cells, which are slots of the kernel's state, in ascending order. They are taken back all at once, when none is in use.
#[derive(Default)]
pub(super) struct CellNumbers {
    /// How many rows each has; one past the last is the next to be given out.
    rows: Vec<u32>,
    /// How many steps each has had rows in.
    steps: Vec<u32>,
    /// How many are in use.
    used: usize,
}

impl CellNumbers {
    fn give(&mut self) -> u32 {
        self.rows.push(0);
        self.steps.push(0);
        self.used += 1;
        u32::try_from(self.rows.len() - 1).expect("they are taken back long before")
    }

    /// Whether a cell takes no more rows, because each rounds.
    fn is_full(&self, cell: u32) -> bool {
        self.rows[cell as usize] == CELL_ROWS_MAX || self.steps[cell as usize] == CELL_STEPS_MAX
    }

    /// The step has rows of these cells.
    pub(super) fn note_step(&mut self, cells: &[u32]) {
        cells.iter().for_each(|cell| self.steps[*cell as usize] += 1);
    }

    /// One past the last.
    pub(super) fn count(&self) -> usize {
        self.rows.len()
    }

    /// How many are in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn bytes(&self) -> usize {
        (self.rows.capacity() + self.steps.capacity()) * 4
    }
}

/// The keys of a pane and their cells.
struct PaneCells {
    keys: GroupKeys,
    /// By slot of a key: the cell that takes its rows.
    current: Vec<u32>,
    /// All cells, and the slots of their keys.
    cells: Vec<u32>,
    slots: Vec<u32>,
}

/// A pane. Its rows are the sum of all three.
#[derive(Default)]
pub(super) struct Pane {
    cells: Option<PaneCells>,
    /// Rows with values that the kernel does not take.
    beside: Option<GroupTable>,
    /// Partial rows that a checkpoint has taken, or that came out of one.
    sealed: Vec<RecordBatch>,
    sealed_bytes: usize,
}

impl Pane {
    /// The cells of rows, by their keys.
    pub(super) fn cells_of(
        &mut self,
        plan: &Plan,
        delta: &Delta,
        numbers: &mut CellNumbers,
        slots: &mut Vec<u32>,
    ) -> Result<Vec<u32>> {
        let PaneCells { keys, current, cells, slots: slots_of_cells } = match &mut self.cells {
            Some(cells) => cells,
            empty => empty.insert(PaneCells {
                keys: GroupKeys::new(plan.key_types.clone())?,
                current: Vec::new(),
                cells: Vec::new(),
                slots: Vec::new(),
            }),
        };
        let columns: Vec<ArrayRef> = plan.keys.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
        keys.intern(&columns, delta.rows(), slots)?;
        current.resize(keys.slot_count(), NO_CELL);
        let cell_of = |slot: &u32| {
            let cell = &mut current[*slot as usize];
            if *cell == NO_CELL || numbers.is_full(*cell) {
                *cell = numbers.give();
                cells.push(*cell);
                slots_of_cells.push(*slot);
            }
            numbers.rows[*cell as usize] += 1;
            *cell
        };
        Ok(slots.iter().map(cell_of).collect())
    }

    /// Aggregates rows that the kernel does not take.
    pub(super) fn take_beside(&mut self, plan: &Plan, delta: &Delta) -> Result<()> {
        let table = match &mut self.beside {
            Some(table) => table,
            empty => empty.insert(GroupTable::new(&plan.key_types, &plan.calls)?),
        };
        table.update(delta, &plan.keys, &plan.calls)
    }

    /// Moves what is in cells and beside them into partial rows, and gives those that are new.
    pub(super) fn seal(
        &mut self,
        plan: &Plan,
        number: i64,
        columns: &[Column],
        counts: &mut [Count],
        numbers: &mut CellNumbers,
    ) -> Result<&[RecordBatch]> {
        let before = self.sealed.len();
        if let Some(cells) = self.cells.take() {
            let PaneCells { keys, cells, slots, .. } = cells;
            numbers.used -= cells.len();
            let mut rows: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(number, cells.len()))];
            rows.extend(keys.columns(Slots::Some(&slots))?);
            rows.extend(plan.reduced.states(&cells, columns, counts)?);
            self.sealed.push(batch_of(&plan.output, rows, cells.len())?);
        }
        if let Some(mut table) = self.beside.take() {
            self.sealed.push(rows_of(plan, number, &mut table)?);
        }
        self.recount();
        Ok(&self.sealed[before..])
    }

    /// Takes in partial rows out of a checkpoint.
    pub(super) fn restore(&mut self, rows: RecordBatch) {
        self.sealed.push(rows);
        self.recount();
    }

    /// Merges the partial rows from the one on that `first` says.
    pub(super) fn compact(
        &mut self,
        plan: &Plan,
        number: i64,
        first: impl Fn(&[RecordBatch]) -> Option<usize>,
    ) -> Result<()> {
        if let Some(first) = first(&self.sealed) {
            let mut table = GroupTable::new(&plan.key_types, &plan.calls)?;
            for batch in self.sealed.drain(first..) {
                table.merge(&batch, 1, plan.keys.len(), &plan.layout)?;
            }
            self.sealed.push(rows_of(plan, number, &mut table)?);
            self.recount();
        }
        Ok(())
    }

    /// The partial rows.
    pub(super) fn sealed(&self) -> &[RecordBatch] {
        &self.sealed
    }

    /// The same, where the pane is over.
    pub(super) fn into_sealed(self) -> Vec<RecordBatch> {
        self.sealed
    }

    fn recount(&mut self) {
        self.sealed_bytes = self.sealed.iter().map(RecordBatch::get_array_memory_size).sum();
    }

    pub(super) fn bytes(&self) -> usize {
        let cells = self.cells.as_ref().map_or(0, |cells| {
            cells.keys.bytes() + (cells.current.capacity() + cells.cells.capacity() + cells.slots.capacity()) * 4
        });
        cells + self.beside.as_ref().map_or(0, GroupTable::bytes) + self.sealed_bytes
    }

    pub(super) fn rows(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(RecordBatch::num_rows).sum();
        let cells = self.cells.as_ref().map_or(0, |cells| cells.cells.len());
        sealed + cells + self.beside.as_ref().map_or(0, GroupTable::len)
    }
}

/// The partial rows of a table, which is worth nothing afterwards.
fn rows_of(plan: &Plan, number: i64, table: &mut GroupTable) -> Result<RecordBatch> {
    let rows = table.keys.slot_count();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(number, rows))];
    let states = table.states(Slots::First(rows))?;
    columns.extend(table.keys.take_all()?);
    columns.extend(states);
    batch_of(&plan.output, columns, rows)
}
