//! The global half of a windowed aggregation that speaks when a window closes: partial rows of panes in, results of windows out.
//!
//! A pane's partial rows are kept as they came, frozen: a checkpoint hands them over without a copy, and most panes are merged only
//! as often as windows cover them. When the watermark passes the end of a window, the panes of the window are merged in a scratch
//! table, evaluated and emitted; the output is append-only. Which window closes next follows from the panes that are present, so the
//! watermark may jump over any stretch of empty time. A pane is dropped whole when the last window over it has closed: there are no
//! tombstones and nothing to retract.
//!
//! Windows of many panes (a long hop with a short slide) would merge each pane over and over. So panes that are closed are merged
//! pairwise into a dyadic tree, lazily: node `i` of level `l` stands for panes `[i << l, (i + 1) << l)`, and a window is the merge of
//! O(log n) nodes. A pane that still gets rows (late, but within some open window) takes the nodes above it away again. Two stacks
//! (Tangwongsan et al., "In-order sliding-window aggregation in worst-case constant time", 2021) need fewer merges for one hop, but do
//! not survive changes in the middle, and cumulating windows have no left edge that moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};

use self::merger::{Merger, Part};
use super::window::WindowSpec;
use super::window_assign::{window_columns, window_fields};
use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::AggregateCall;
use crate::aggregate::partial::{check_chunk, keep_owned, merge_from_rows, newest_time, split_by_pane};
use crate::aggregate::table::{GroupTable, StateLayout, result_fields, types_of};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::time::{EventTimeMs, WATERMARK_MIN};
use crate::wall_clock::WallClock;

/// Makes [`WindowAggregate`]s.
pub struct WindowAggregateFactory {
    plan: Arc<Plan>,
}

struct Plan {
    spec: WindowSpec,
    clock: WallClock,
    time_type: DataType,
    input: SchemaRef,
    key_count: usize,
    key_types: Vec<DataType>,
    calls: Vec<AggregateCall>,
    layout: StateLayout,
    row_count_call: Option<usize>,
    output: SchemaRef,
}

impl WindowAggregateFactory {
    /// Merges partial rows `input` (`pane, keys.., states..`) into results for each window and key. Window columns have `time_type`.
    /// A group whose `row_count_call` gives 0 is not emitted (its rows were taken back).
    ///
    /// # Errors
    /// Keys of a type that cannot be compared, or an input that is not the output of a partial aggregate with panes.
    pub fn new(
        spec: WindowSpec,
        time_type: DataType,
        input: SchemaRef,
        key_count: usize,
        calls: Vec<AggregateCall>,
        row_count_call: Option<usize>,
    ) -> Result<Self> {
        let layout = StateLayout::new(&calls);
        if input.fields().len() != 1 + key_count + layout.columns() {
            return Err(EngineError::bug(format!(
                "partial rows have {} columns, not a pane, {key_count} keys and {} states",
                input.fields().len(),
                layout.columns()
            )));
        }
        let key_types = types_of(&input, 1, key_count);
        GroupTable::new(&key_types, &calls)?;
        let mut fields: Vec<_> = input.fields()[1..=key_count].to_vec();
        fields.extend(window_fields(&time_type, None).map(Arc::new));
        fields.extend(result_fields(&calls).into_iter().map(Arc::new));
        let output = Arc::new(Schema::new(fields));
        let clock = WallClock::default();
        let plan = Plan { spec, clock, time_type, input, key_count, key_types, calls, layout, row_count_call, output };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Windows that are cut by what `clock` shows.
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        Arc::get_mut(&mut self.plan).expect("no operator was made yet").clock = clock;
        self
    }

    /// `keys.., window_start, window_end, window_time, results..`.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl OperatorFactory for WindowAggregateFactory {
    fn name(&self) -> &'static str {
        "WindowAggregate"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(WindowAggregate {
            panes: BTreeMap::new(),
            levels: Vec::new(),
            merger: Merger::new(&self.plan)?,
            fired_until: WATERMARK_MIN,
            bytes: 0,
            plan: Arc::clone(&self.plan),
        }))
    }
}

/// Results of windows when they close.
pub struct WindowAggregate {
    plan: Arc<Plan>,
    panes: BTreeMap<i64, Pane>,
    /// Merged panes: level `l` is at index `l - 1`.
    levels: Vec<BTreeMap<i64, Part>>,
    merger: Merger,
    /// Every window up to this end, in local time, has fired.
    fired_until: EventTimeMs,
    /// What panes and levels hold.
    bytes: usize,
}

/// The partial rows of a pane. Those that a checkpoint has are kept apart from the rest, so that merging them keeps that distinction.
#[derive(Default)]
struct Pane {
    saved: Vec<Part>,
    unsaved: Vec<Part>,
}

impl Pane {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.saved.iter().chain(&self.unsaved)
    }

    /// The parts, for a merge that others will follow.
    fn looked_up(&mut self, merger: &mut Merger, bytes: &mut usize, parts: &mut Vec<Part>) -> Result<()> {
        for part in self.saved.iter_mut().chain(&mut self.unsaved) {
            *bytes += merger.look_up(part)?;
            parts.push(part.clone());
        }
        Ok(())
    }
}

/// As [`merge_from_rows`].
fn parts_to_merge(parts: &[Part]) -> Option<usize> {
    merge_from_rows(parts.len(), |index| parts[index].batch.num_rows())
}

/// All, if there are several.
fn all_parts(parts: &[Part]) -> Option<usize> {
    (parts.len() > 1).then_some(0)
}

/// A window with more panes is combined from the tree.
const DIRECT_PANES_MAX: usize = 8;
/// A pane that so many windows besides the one at hand will read is merged into one part, if that leaves fewer rows: those of several shards
/// mostly have the same keys.
const LATER_WINDOWS_MIN: usize = 2;
/// The table of a checkpoint.
const PARTIALS: &str = "partials";
const FIRED_UNTIL: &str = "fired_until";

impl WindowAggregate {
    fn take_in(&mut self, batch: &RecordBatch) -> Result<()> {
        for (number, rows) in split_by_pane(batch)? {
            self.invalidate(number);
            let part = Part::new(rows);
            self.bytes += part.bytes();
            let pane = self.panes.entry(number).or_default();
            pane.unsaved.push(part);
            if parts_to_merge(&pane.unsaved).is_some() {
                self.compact_pane(number, parts_to_merge)?;
            }
        }
        Ok(())
    }

    /// Merges parts of one pane, whose bytes are counted, into one.
    fn compact(&mut self, number: i64, parts: Vec<Part>) -> Result<Part> {
        self.bytes -= parts.iter().map(Part::bytes).sum::<usize>();
        let merged = self.merge(number, &parts)?;
        self.bytes += merged.bytes();
        Ok(merged)
    }

    /// One part from several.
    fn merge(&mut self, number: i64, parts: &[Part]) -> Result<Part> {
        parts.iter().try_for_each(|part| self.merger.add(part))?;
        self.merger.states(number)
    }

    /// Takes away the merged nodes above a pane.
    fn invalidate(&mut self, pane: i64) {
        for (index, level) in self.levels.iter_mut().enumerate() {
            if let Some(node) = level.remove(&(pane >> (index + 1))) {
                self.bytes -= node.bytes();
            }
        }
    }

    /// Fires all windows that end in `(fired_until, watermark]`, in local time, and hold data.
    fn fire_until(&mut self, watermark: EventTimeMs, out: &mut Output) -> Result<()> {
        // Ends of windows ascend with panes: the next window to close is the first open one over the first pane.
        while let Some(entry) = self.panes.first_entry() {
            let number = *entry.key();
            let next = self.plan.spec.windows_of_pane(number).ending_after(self.fired_until).next();
            match next {
                None => {
                    let pane = entry.remove();
                    self.bytes -= pane.parts().map(Part::bytes).sum::<usize>();
                    self.forget_nodes_until(number);
                }
                Some((start, end)) if end <= watermark => {
                    self.fire(start, end, out)?;
                    self.fired_until = end;
                }
                Some(_) => break,
            }
        }
        self.fired_until = self.fired_until.max(watermark);
        Ok(())
    }

    /// Drops the nodes that stand for no pane above `pane`.
    fn forget_nodes_until(&mut self, pane: i64) {
        for (index, level) in self.levels.iter_mut().enumerate() {
            while let Some(node) = level.first_entry() {
                let last = (*node.key() << (index + 1)) | ((1 << (index + 1)) - 1);
                if last > pane {
                    break;
                }
                self.bytes -= node.remove().bytes();
            }
        }
    }

    fn fire(&mut self, start: EventTimeMs, end: EventTimeMs, out: &mut Output) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let (first, last) = plan.spec.panes_of_window(start, end);
        for part in self.parts_of(first, last, end)? {
            self.merger.add(&part)?;
        }
        let rows = self.merger.rows();
        let (mut columns, results) = self.merger.results()?;
        columns.extend(window_columns(vec![start; rows], vec![end; rows], &plan.time_type, &plan.clock)?);
        columns.extend(results);
        let mut batch = batch_of(&plan.output, columns, rows)?;
        if let Some(call) = plan.row_count_call {
            let counts = batch.column(plan.key_count + 3 + call).as_primitive::<Int64Type>();
            if counts.values().contains(&0) {
                let alive: BooleanArray = counts.values().iter().map(|count| Some(*count != 0)).collect();
                batch = filter_record_batch(&batch, &alive)?;
            }
        }
        out.emit(Delta::insert(batch));
        Ok(())
    }

    /// Parts that together hold panes `[first, last]` of the window that ends at `end`; all of them are closed.
    fn parts_of(&mut self, first: i64, last: i64, end: EventTimeMs) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let direct = self.panes.range(first..=last).take(DIRECT_PANES_MAX + 1).count() <= DIRECT_PANES_MAX;
        if direct {
            let later = |pane: i64| self.plan.spec.windows_of_pane(pane).ending_after(end).count_left();
            let panes = self.panes.range(first..=last).filter(|(_, pane)| pane.saved.len().max(pane.unsaved.len()) > 1);
            let panes: Vec<i64> =
                panes.map(|(number, _)| *number).filter(|number| later(*number) >= LATER_WINDOWS_MIN).collect();
            for number in panes {
                if self.repeats_keys(number)? {
                    self.compact_pane(number, all_parts)?;
                }
            }
            let Self { panes, merger, bytes, .. } = self;
            for (_, pane) in panes.range_mut(first..=last) {
                pane.looked_up(merger, bytes, &mut parts)?;
            }
            return Ok(parts);
        }
        let mut next = first;
        loop {
            // The largest node that starts here and does not reach past the last pane.
            let length = last.saturating_sub(next).saturating_add(1);
            let level = next.trailing_zeros().min(length.ilog2());
            self.node(level, next >> level, &mut parts)?;
            match next.checked_add(1 << level) {
                Some(after) if after <= last => next = after,
                _ => return Ok(parts),
            }
        }
    }

    /// Whether the parts of a pane have so many keys in common that it is worth a merge.
    fn repeats_keys(&mut self, number: i64) -> Result<bool> {
        let Self { panes, merger, bytes, .. } = self;
        let Some(pane) = panes.get_mut(&number) else { return Ok(false) };
        let mut rows = 0;
        for part in pane.saved.iter_mut().chain(&mut pane.unsaved) {
            *bytes += merger.look_up(part)?;
            rows += part.batch.num_rows();
        }
        Ok(rows > merger.distinct(pane.parts()) * 5 / 4)
    }

    /// Adds the parts of node `index` of `level` to `parts`, merging it if that has not been done.
    fn node(&mut self, level: u32, index: i64, parts: &mut Vec<Part>) -> Result<()> {
        let (first, last) = (index << level, (index << level) | ((1 << level) - 1));
        let mut present = self.panes.range(first..=last);
        let Some((number, pane)) = present.next() else {
            return Ok(());
        };
        if level == 0 || present.next().is_none() {
            // One pane: nothing to merge but, once, its own parts.
            let number = *number;
            if pane.saved.len() + pane.unsaved.len() > 2 {
                self.compact_pane(number, all_parts)?;
            }
            let pane = self.panes.get_mut(&number).expect("it was just found");
            return pane.looked_up(&mut self.merger, &mut self.bytes, parts);
        }
        let slot = level as usize - 1;
        while self.levels.len() <= slot {
            self.levels.push(BTreeMap::new());
        }
        if let Some(node) = self.levels[slot].get_mut(&index) {
            self.bytes += self.merger.look_up(node)?;
            parts.push(node.clone());
            return Ok(());
        }
        let mut halves = Vec::new();
        self.node(level - 1, index * 2, &mut halves)?;
        self.node(level - 1, index * 2 + 1, &mut halves)?;
        let merged = self.merge(first, &halves)?;
        self.bytes += merged.bytes();
        self.levels[slot].insert(index, merged.clone());
        parts.push(merged);
        Ok(())
    }

    /// Merges the saved and the unsaved parts of a pane, each from the one on that `first` says.
    fn compact_pane(&mut self, number: i64, first: impl Fn(&[Part]) -> Option<usize>) -> Result<()> {
        let mut pane = self.panes.remove(&number).expect("the caller found it");
        for parts in [&mut pane.saved, &mut pane.unsaved] {
            if let Some(first) = first(parts) {
                let merged = self.compact(number, parts.split_off(first))?;
                parts.push(merged);
            }
        }
        self.panes.insert(number, pane);
        Ok(())
    }
}

impl Operator for WindowAggregate {
    fn name(&self) -> &'static str {
        "WindowAggregate"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        for delta in input.single() {
            if !delta.is_empty() {
                self.take_in(&delta.batch)?;
            }
        }
        self.fire_until(self.plan.clock.passed(input.watermarks.after), out)?;
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(FIRED_UNTIL.into(), self.fired_until.into());
        for number in self.panes.keys().copied().collect::<Vec<_>>() {
            let pane = self.panes.get_mut(&number).expect("just listed");
            if kind == SaveKind::Full {
                pane.saved.iter().for_each(|part| state.put(PARTIALS, part.batch.clone()));
            }
            pane.unsaved.iter().for_each(|part| state.put(PARTIALS, part.batch.clone()));
            let unsaved = std::mem::take(&mut pane.unsaved);
            pane.saved.extend(unsaved);
            if parts_to_merge(&pane.saved).is_some() {
                self.compact_pane(number, parts_to_merge)?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.fired_until = newest_time(state.metas, FIRED_UNTIL);
        for chunk in state.chunks {
            if chunk.table != PARTIALS {
                return Err(EngineError::Checkpoint {
                    message: format!("WindowAggregate knows no state `{}`; start over with `--fresh`", chunk.table),
                });
            }
            check_chunk("WindowAggregate", chunk, &self.plan.input)?;
            let rows = keep_owned(&chunk.rows, 1, self.plan.key_count, state.owned)?;
            for (number, rows) in split_by_pane(&rows)? {
                let last_end = self.plan.spec.last_window_end(number);
                if rows.num_rows() > 0 && last_end.is_some_and(|end| end > self.fired_until) {
                    let rows = batch_of(&self.plan.input, rows.columns().to_vec(), rows.num_rows())?;
                    let part = Part::new(rows);
                    self.bytes += part.bytes();
                    self.panes.entry(number).or_default().saved.push(part);
                }
            }
        }
        for number in self.panes.keys().copied().collect::<Vec<_>>() {
            self.compact_pane(number, parts_to_merge)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.merger.bytes()
    }

    fn state_rows(&self) -> usize {
        self.panes.values().flat_map(Pane::parts).map(|part| part.batch.num_rows()).sum()
    }
}

mod merger;
#[cfg(test)]
mod tests;
