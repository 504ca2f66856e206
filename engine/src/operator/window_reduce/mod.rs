//! `WindowReduce`: the local half of a windowed aggregation through the kernel of that name, where floats may be approximate.
//!
//! It stands where [`PartialAggregate`](super::partial_aggregate) stands otherwise, and gives the same partial rows: all behind it is as
//! it was. A cell of the kernel's state is one (key, pane); a step's rows, of all panes that are open, go through the kernel at once, on
//! the CPU or on a device, as its placer says ([`Placement`]). All columns share one wave, with
//! other operators of the step, and the operator is pending until it is answered.
//!
//! # What is exact
//! Counts, sums of integers and decimals, and all minima and maxima: floats are compared as integers of the same order. Sums of floats
//! and of squares are made in 32-bit floats, of what values are beyond the first value of their cell, by a fixed tree; a cell takes at
//! most [`CELL_ROWS_MAX`](column) rows, in at most [`CELL_STEPS_MAX`](column) steps, and cells are added in doubles. So a sum of floats is off by at most some 2^-14, as a rule by less than 2^-20, of the
//! sum of all distances from that first value, and a sum of squared distances by as much of itself. How rows are cut into steps shows
//! within that. Rows with a float that is not finite, or farther than 2^50 from the first of its cell, are aggregated beside the kernel,
//! as they are without it.
//!
//! # State
//! Rows of a key may be on several shards, so that what a checkpoint takes has to be merged, not replaced: it takes all cells as partial
//! rows, which are kept beside as they are, and their keys begin new cells. Cells are numbered in ascending order; when most are not in use
//! any more the rest is sealed too, and the kernel's state begins anew.
//!
//! Where a cell ends shows in the last digits of floats. So that a replay has them too, the step log says before which steps cells were
//! sealed, and a replay, which makes no checkpoints, seals them there and nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use eagre_kernels::placed::Placement;
use eagre_kernels::placer::Switch;
use eagre_kernels::rows::GroupedRows;

use self::calls::CallPlan;
use self::cells::{CellNumbers, Pane};
use self::column::Column;
use super::partial_aggregate::{PaneCut, PaneEmit};
use super::window::WindowSpec;
use super::{
    Input, Operator, OperatorFactory, Output, Placed, Progress, SaveKind, StateReader, StateWriter, StepWave, Ticket,
    moves,
};
use crate::aggregate::partial::{check_chunk, keep_owned, merge_from, newest_time, split_by_pane};
use crate::aggregate::table::{GroupTable, StateLayout, state_fields, types_of};
use crate::aggregate::{Accumulators, AggregateCall, Count, RowInfo};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::HashGroups;
use crate::time::{EventTimeMs, WATERMARK_MIN};
use crate::wall_clock::WallClock;

mod calls;
mod cells;
mod column;
#[cfg(test)]
mod tests;

const NAME: &str = "WindowReduce";
/// The table of a checkpoint.
const PARTIALS: &str = "partials";
const WATERMARK: &str = "watermark";
/// So many cells that are not in use any more are not worth taking back: they fit into one page of the kernel's state.
const IDLE_CELLS: usize = 1 << 16;

/// What a [`WindowReduceFactory`]'s operators do.
#[derive(Debug, Clone)]
pub struct WindowReduceSpec {
    /// The rows, which are only inserted.
    pub input: SchemaRef,
    /// The columns that rows are grouped by.
    pub keys: Vec<usize>,
    /// The aggregates.
    pub calls: Vec<AggregateCall>,
    /// The windows.
    pub windows: WindowSpec,
    /// The column of the input that is the event time.
    pub time_column: usize,
    /// When partial rows leave.
    pub emit: PaneEmit,
    /// How long after its end a window still takes rows.
    pub lateness_ms: i64,
    /// Windows are cut by what this shows.
    pub clock: WallClock,
    /// Where the kernel may run.
    pub placement: Arc<Placement>,
}

/// Makes the operators of a [`WindowReduceSpec`].
pub struct WindowReduceFactory {
    plan: Arc<Plan>,
}

struct Plan {
    keys: Vec<usize>,
    key_types: Vec<DataType>,
    calls: Vec<AggregateCall>,
    reduced: CallPlan,
    layout: StateLayout,
    cut: PaneCut,
    emit: PaneEmit,
    clock: WallClock,
    placement: Arc<Placement>,
    /// What figures call each column.
    titles: Vec<String>,
    output: SchemaRef,
}

/// Whether the kernel can do `calls` over rows of `input`.
///
/// # Errors
/// Why it cannot, as a clause for `EXPLAIN`.
pub fn check_calls(input: &Schema, calls: &[AggregateCall]) -> Result<(), String> {
    CallPlan::new(input, calls).map(|_| ())
}

impl WindowReduceFactory {
    /// Reduces the columns of `spec`.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared; calls that [`check_calls`] refuses; a device that is asked for and not there.
    pub fn new(spec: WindowReduceSpec) -> Result<Self> {
        if let Err(reason) = spec.placement.check() {
            return Err(EngineError::Device { reason });
        }
        let WindowReduceSpec { input, keys, calls, windows, time_column, emit, lateness_ms, clock, placement } = spec;
        let reduced = CallPlan::new(&input, &calls).map_err(EngineError::bug)?;
        let mut fields = vec![Field::new("pane", DataType::Int64, false)];
        fields.extend(keys.iter().map(|index| input.field(*index).clone()));
        fields.extend(state_fields(&calls));
        let output = Arc::new(Schema::new(fields));
        let key_types = types_of(&output, 1, keys.len());
        GroupTable::new(&key_types, &calls)?;
        let title = |spec| Column::new(spec, &Arc::default());
        let titles = reduced.columns.iter().map(|spec| title(spec.clone()).title(input.field(spec.column).name()));
        let plan = Plan {
            titles: titles.collect(),
            layout: StateLayout::new(&calls),
            cut: PaneCut { spec: windows, time_column, lateness_ms },
            keys,
            key_types,
            calls,
            reduced,
            emit,
            clock,
            placement,
            output,
        };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// `pane, keys.., states..`, as those of a partial aggregate.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl OperatorFactory for WindowReduceFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let plan = Arc::clone(&self.plan);
        Ok(Box::new(WindowReduce {
            columns: plan.reduced.columns.iter().map(|spec| Column::new(spec.clone(), &plan.placement)).collect(),
            counts: plan.reduced.counts.iter().map(|_| Count::default()).collect(),
            numbers: CellNumbers::default(),
            cells: Vec::new(),
            slots: Vec::new(),
            panes: BTreeMap::new(),
            watermark: WATERMARK_MIN,
            working: None,
            owned: HashGroups::ALL,
            sealed: false,
            replays: false,
            plan,
        }))
    }

    fn runs_on(&self) -> &'static str {
        moves::runs_on(&self.plan.placement)
    }
}

/// See the [module](self).
struct WindowReduce {
    plan: Arc<Plan>,
    columns: Vec<Column>,
    /// What is counted beside the kernel, by cell.
    counts: Vec<Count>,
    numbers: CellNumbers,
    /// The cells of the step's rows.
    cells: Vec<u32>,
    slots: Vec<u32>,
    panes: BTreeMap<i64, Pane>,
    /// The watermark at the end of the last step.
    watermark: EventTimeMs,
    /// Rows that are being reduced.
    working: Option<Arc<GroupedRows>>,
    /// The hash groups of this shard, by which the step log knows it.
    owned: HashGroups,
    /// Whether cells were sealed since the last step.
    sealed: bool,
    /// Whether the step log says when cells are sealed.
    replays: bool,
}

impl WindowReduce {
    /// Takes rows of one pane into the step's batch.
    fn take_in(&mut self, number: i64, delta: &Delta) -> Result<()> {
        let Self { plan, columns, numbers, slots, panes, .. } = self;
        let pane = panes.entry(number).or_default();
        let mut values = columns.iter().map(|column| column.numbers(delta)).collect::<Result<Vec<_>>>()?;
        let mut cells = pane.cells_of(plan, delta, numbers, slots)?;
        let mut beyond = vec![false; delta.rows()];
        for (column, values) in columns.iter_mut().zip(&values) {
            column.grow(numbers.count());
            column.mark_beyond(values, &cells, &mut beyond);
        }
        let mut rest = None;
        if beyond.contains(&true) {
            let beyond = BooleanArray::from(beyond);
            pane.take_beside(plan, &delta.filter(&beyond)?)?;
            let kept = delta.filter(&arrow::compute::not(&beyond)?)?;
            values = columns.iter().map(|column| column.numbers(&kept)).collect::<Result<_>>()?;
            let mut mask = beyond.values().iter();
            cells.retain(|_| mask.next() == Some(false));
            rest = Some(kept);
        }
        let delta = rest.as_ref().unwrap_or(delta);
        for (column, values) in columns.iter_mut().zip(&values) {
            column.push(values, &cells);
        }
        for (count, call) in self.counts.iter_mut().zip(&plan.reduced.counts) {
            let args: Vec<_> = call.args.iter().map(|arg| Arc::clone(delta.batch.column(*arg))).collect();
            let filter = call.filter.map(|index| delta.batch.column(index).as_boolean());
            count.resize(numbers.count());
            count.update(&cells, &args, RowInfo { filter, ..RowInfo::default() })?;
        }
        self.cells.append(&mut cells);
        Ok(())
    }

    /// Starts to reduce the step's rows. A ticket: the device has to answer first.
    fn start(&mut self, wave: &mut StepWave) -> Result<Option<Ticket>> {
        if self.cells.is_empty() {
            return Ok(None);
        }
        let grouped = Arc::new(GroupedRows::group(&self.cells, self.numbers.count()));
        self.cells.clear();
        self.numbers.note_step(grouped.slots());
        let ticket = wave.start(self.columns.len(), |group| {
            self.columns.iter_mut().for_each(|column| column.start(&grouped, group));
            Ok(())
        })?;
        self.working = Some(grouped);
        Ok(ticket)
    }

    /// Takes in what the kernel answers.
    fn finish(&mut self, out: &mut Output) -> Result<()> {
        let Some(grouped) = self.working.take() else { return Ok(()) };
        let mut moved: Vec<(u32, Switch)> = Vec::new();
        for (call, column) in (0..).zip(&mut self.columns) {
            column.finish(&grouped);
            moved.extend(column.runner_mut().take_switches().into_iter().map(|switch| (call, switch)));
        }
        moves::record(self.owned, &moved, out)
    }

    /// Emits the panes that are over, in local time.
    fn emit_until(&mut self, passed: EventTimeMs, out: &mut Output) -> Result<()> {
        while let Some(entry) = self.panes.first_entry() {
            if self.plan.emit == PaneEmit::OnClose && self.plan.cut.spec.pane_end(*entry.key()) > passed {
                break;
            }
            let (number, mut pane) = entry.remove_entry();
            let Self { plan, columns, counts, numbers, .. } = self;
            pane.seal(plan, number, columns, counts, numbers)?;
            pane.into_sealed().into_iter().for_each(|batch| out.emit(Delta::insert(batch)));
        }
        self.take_back_cells()
    }

    /// Where most cells are not in use any more: seals the others and begins anew.
    fn take_back_cells(&mut self) -> Result<()> {
        let used = self.numbers.used();
        match self.numbers.count() - used > IDLE_CELLS.max(used) && !self.replays {
            true => self.seal(),
            false => Ok(()),
        }
    }

    /// Seals all cells.
    fn seal(&mut self) -> Result<()> {
        let Self { plan, columns, counts, numbers, panes, .. } = self;
        for (number, pane) in panes {
            pane.seal(plan, *number, columns, counts, numbers)?;
            pane.compact(plan, *number, merge_from)?;
        }
        self.begin_anew();
        Ok(())
    }

    /// After all cells were sealed: numbers them anew if there were many.
    fn begin_anew(&mut self) {
        self.sealed = true;
        if self.numbers.count() > IDLE_CELLS {
            self.numbers.clear();
            self.columns.iter_mut().for_each(Column::clear);
            self.counts.iter_mut().for_each(|count| *count = Count::default());
        }
    }
}

impl Operator for WindowReduce {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let watermarks = input.watermarks;
        if self.working.is_none() {
            if std::mem::take(&mut self.sealed) {
                moves::record_note(self.owned, out)?;
            }
            let plan = Arc::clone(&self.plan);
            for delta in input.single().into_iter().filter(|delta| !delta.is_empty()) {
                plan.cut
                    .each_pane(delta, &plan.clock, watermarks.before, out, |pane, delta| self.take_in(pane, delta))?;
            }
            if let Some(ticket) = self.start(&mut out.wave)? {
                return Ok(Progress::Pending(ticket));
            }
        }
        self.finish(out)?;
        self.watermark = watermarks.after;
        self.emit_until(self.plan.clock.passed(watermarks.after), out)?;
        Ok(Progress::Done)
    }

    fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        self.replays = true;
        if moves::has_note(self.owned, answers) {
            self.seal()?;
        }
        let next: Vec<u64> = self.columns.iter().map(|column| column.runner().place().0).collect();
        let moved = moves::recorded(NAME, self.owned, answers, &next)?;
        self.columns.iter_mut().zip(moved).for_each(|(column, moved)| column.runner_mut().recall(&moved));
        Ok(())
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        moves::put_places(self.owned, self.columns.iter().map(|column| column.runner().place()), &mut state.meta);
        let Self { plan, columns, counts, numbers, panes, .. } = self;
        for (number, pane) in panes {
            let fresh = pane.seal(plan, *number, columns, counts, numbers)?;
            match kind {
                SaveKind::Changes => {
                    fresh.iter().for_each(|batch| state.put(PARTIALS, batch.clone()));
                    pane.compact(plan, *number, merge_from)?;
                }
                SaveKind::Full => {
                    pane.compact(plan, *number, |sealed| (sealed.len() > 1).then_some(0))?;
                    pane.sealed().iter().for_each(|batch| state.put(PARTIALS, batch.clone()));
                }
            }
        }
        self.begin_anew();
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.owned = state.owned;
        self.sealed = !state.metas.is_empty();
        for (column, place) in self.columns.iter_mut().zip(moves::places_of(self.owned, state.metas)) {
            if let Some((batches, side)) = place {
                column.runner_mut().resume(batches, side);
            }
        }
        self.watermark = newest_time(state.metas, WATERMARK);
        let passed = self.plan.clock.passed(self.watermark);
        for chunk in state.chunks {
            if chunk.table != PARTIALS {
                return Err(EngineError::Checkpoint {
                    message: format!("{NAME} knows no state `{}`; start over with `--fresh`", chunk.table),
                });
            }
            check_chunk(NAME, chunk, &self.plan.output)?;
            let rows = keep_owned(&chunk.rows, 1, self.plan.keys.len(), state.owned)?;
            for (number, rows) in split_by_pane(&rows)? {
                if rows.num_rows() > 0 && self.plan.cut.spec.pane_end(number) > passed {
                    let rows = batch_of(&self.plan.output, rows.columns().to_vec(), rows.num_rows())?;
                    self.panes.entry(number).or_default().restore(rows);
                }
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(Column::bytes).sum();
        let counts: usize = self.counts.iter().map(|count| count.state_bytes()).sum();
        let panes: usize = self.panes.values().map(Pane::bytes).sum();
        columns + counts + panes + self.numbers.bytes() + (self.slots.capacity() + self.cells.capacity()) * 4
    }

    fn state_rows(&self) -> usize {
        self.panes.values().map(Pane::rows).sum()
    }

    fn placements(&self) -> Vec<Placed> {
        let decided = self.columns.iter().zip(&self.plan.titles).filter_map(|(column, title)| {
            let decision = column.runner().decision()?.clone();
            let (fall_backs, replayed_batches) = column.runner().fall_backs();
            Some(Placed { what: title.clone(), decision, fall_backs, replayed_batches })
        });
        decided.collect()
    }
}
