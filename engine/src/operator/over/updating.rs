//! `OVER` in any order: every row is kept in its place with its values, and a step emits the rows whose values it changed.
//!
//! A row that comes or goes touches those that look at it: a neighbourhood where frames are bounded, all after it where they begin at the
//! partition's start. Only these are evaluated again, and of these only rows whose values differ are emitted: the old row with weight
//! -1, the new one with weight 1.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};

use super::Plan;
use super::frame::{Distance, RangeKeys, Reach};
use super::shelf::{Edit, Shelf, Work};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::operator::group_aggregate::same_rows;
use crate::operator::{Input, Operator, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::rows::Rows;

/// The values of a row that has not been shown.
const NOT_SHOWN: u32 = u32::MAX;
/// So many rows at first, and at most, are asked at once whether they are linked.
const LINKS_MIN: usize = 8;
const LINKS_MAX: usize = 1_024;

/// A row in its place.
#[derive(Debug, Clone, Copy)]
struct Entry {
    arrival: u64,
    id: u32,
    /// Its values, as shown.
    result: u32,
}

/// See the [module](self).
pub(super) struct Updating {
    plan: Arc<Plan>,
    shelf: Shelf,
    /// By slot, in order.
    parts: Vec<Vec<Entry>>,
    /// The values of all rows.
    results: Rows,
}

/// What a step does to one partition.
struct Touched {
    slot: u32,
    /// Rows to be evaluated again, as ranges of places, ascending.
    ranges: Vec<std::ops::Range<usize>>,
}

impl Updating {
    pub(super) fn new(plan: &Arc<Plan>) -> Result<Self> {
        let width = plan.spec.input.fields().len();
        let results: SchemaRef = Arc::new(Schema::new(plan.output.fields()[width..].to_vec()));
        Ok(Self {
            shelf: Shelf::new(plan)?,
            plan: Arc::clone(plan),
            parts: Vec::new(),
            results: Rows::new(&results, false)?,
        })
    }

    /// Puts rows in their places and takes out those that went, which are added to `gone`.
    fn apply(&mut self, edits: &mut [Edit], gone: &mut Vec<Entry>) -> Result<Vec<Touched>> {
        self.parts.resize_with(self.shelf.partitions.slot_count().max(self.parts.len()), Vec::new);
        let order = &self.shelf.order;
        edits.sort_by(|a, b| {
            let keys = || order.get(a.id).cmp(order.get(b.id));
            a.slot.cmp(&b.slot).then_with(keys).then(a.arrival.cmp(&b.arrival)).then(b.added.cmp(&a.added))
        });
        let mut touched = Vec::new();
        for edits in edits.chunk_by(|a, b| a.slot == b.slot) {
            let slot = edits[0].slot;
            let part = &mut self.parts[slot as usize];
            let before = |entry: &Entry, edit: &Edit| {
                order.get(entry.id).cmp(order.get(edit.id)).then(entry.arrival.cmp(&edit.arrival)).is_lt()
            };
            // What lies before the first edit stays where it is.
            let first = part.partition_point(|entry| before(entry, &edits[0]));
            let mut rest = part.split_off(first).into_iter().peekable();
            let mut places = Vec::with_capacity(edits.len());
            for edit in edits {
                while let Some(entry) = rest.next_if(|entry| before(entry, edit)) {
                    part.push(entry);
                }
                if edit.added {
                    places.push((part.len(), edit.id));
                    part.push(Entry { arrival: edit.arrival, id: edit.id, result: NOT_SHOWN });
                    continue;
                }
                // It is there, or came in this step and was put last.
                match part.last() {
                    Some(last) if last.arrival == edit.arrival && last.id == edit.id => {
                        part.pop();
                    }
                    _ => {
                        if let Some(entry) = rest.next_if(|entry| entry.arrival == edit.arrival) {
                            gone.push(entry);
                        }
                    }
                }
                places.push((part.len(), edit.id));
            }
            part.extend(rest);
            touched.push((slot, places));
        }
        touched.into_iter().map(|(slot, places)| self.reach(slot, &places)).collect()
    }

    /// The places whose values depend on changes at `places`, each with the row that came or went there.
    fn reach(&self, slot: u32, places: &[(usize, u32)]) -> Result<Touched> {
        let part = &self.parts[slot as usize];
        let calls = &self.plan.spec.calls;
        let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
        for (place, id) in places {
            // What is covered already up to the end needs no second look.
            if ranges.last().is_some_and(|last| last.end == part.len() && last.start <= *place) {
                continue;
            }
            let (mut start, mut end) = (*place, (*place + 1).min(part.len()));
            for call in calls {
                start = start.min(self.back_from(part, *place, *id, call.function.lookahead())?);
                end = end.max(self.forth_from(part, *place, *id, call.function.lookback())?);
            }
            match ranges.last_mut() {
                Some(last) if start <= last.end => {
                    last.end = last.end.max(end);
                    last.start = last.start.min(start);
                }
                _ => ranges.push(start..end),
            }
            // Later changes may reach further back than earlier ones did.
            while let [.., a, b] = ranges.as_mut_slice()
                && b.start <= a.end
            {
                *a = a.start.min(b.start)..a.end.max(b.end);
                ranges.pop();
            }
        }
        ranges.retain(|range| !range.is_empty());
        Ok(Touched { slot, ranges })
    }

    fn same_group(&self, part: &[Entry], a: usize, b: usize) -> bool {
        self.shelf.order.peers(part[a].id) == self.shelf.order.peers(part[b].id)
    }

    /// The first place before `place` that looks ahead at it.
    fn back_from(&self, part: &[Entry], place: usize, id: u32, reach: Reach) -> Result<usize> {
        Ok(match reach {
            Reach::Unbounded => 0,
            Reach::Rows(count) => place.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX)),
            Reach::Groups(count) => self.groups_back(part, place, count.saturating_add(1)),
            Reach::Range(distance) => {
                let mut start = self.groups_back(part, place, 1);
                while let Some(other) = start.checked_sub(1)
                    && self.in_reach(part[other].id, id, distance)?
                {
                    start = other;
                }
                start
            }
            Reach::Session(gap) => self.session_back(part, place, id, gap)?,
        })
    }

    /// One past the last place from `place` on that looks back at it.
    fn forth_from(&self, part: &[Entry], place: usize, id: u32, reach: Reach) -> Result<usize> {
        Ok(match reach {
            Reach::Unbounded => part.len(),
            Reach::Rows(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                place.saturating_add(count).saturating_add(1).min(part.len())
            }
            Reach::Groups(count) => self.groups_forth(part, place, count.saturating_add(2)),
            Reach::Range(distance) => {
                let mut end = self.groups_forth(part, place, 2);
                while end < part.len() && self.in_reach(part[end].id, id, distance)? {
                    end += 1;
                }
                end
            }
            Reach::Session(gap) => self.session_forth(part, place, id, gap)?,
        })
    }

    /// The first of the rows before `place` that are linked to row `id`.
    fn session_back(&self, part: &[Entry], place: usize, id: u32, gap: Distance) -> Result<usize> {
        let (mut start, mut next, mut count) = (place.min(part.len()), id, LINKS_MIN);
        loop {
            let from = start.saturating_sub(count);
            let ids: Vec<u32> = part[from..start].iter().map(|entry| entry.id).chain([next]).collect();
            let keys = self.range_keys(&ids)?;
            while start > from && keys.in_reach(start - 1 - from, start - from, gap) {
                start -= 1;
            }
            if start > from || from == 0 {
                return Ok(start);
            }
            (next, count) = (part[start].id, (2 * count).min(LINKS_MAX));
        }
    }

    /// One past the last of the rows from `place` on that are linked to row `id`.
    fn session_forth(&self, part: &[Entry], place: usize, id: u32, gap: Distance) -> Result<usize> {
        let (mut end, mut last, mut count) = (place.min(part.len()), id, LINKS_MIN);
        loop {
            let (from, until) = (end, (end + count).min(part.len()));
            let ids: Vec<u32> = [last].into_iter().chain(part[from..until].iter().map(|entry| entry.id)).collect();
            let keys = self.range_keys(&ids)?;
            while end < until && keys.in_reach(end - from, end + 1 - from, gap) {
                end += 1;
            }
            if end < until || until == part.len() {
                return Ok(end);
            }
            (last, count) = (part[end - 1].id, (2 * count).min(LINKS_MAX));
        }
    }

    /// The start of the group at `place`, and of `count` groups before it.
    fn groups_back(&self, part: &[Entry], place: usize, count: u64) -> usize {
        let mut start = place.min(part.len());
        let mut groups = 0;
        while start > 0 {
            if start == part.len() || !self.same_group(part, start, start - 1) {
                if groups == count {
                    break;
                }
                groups += 1;
            }
            start -= 1;
        }
        start
    }

    /// The end of the group at `place`, and of the groups after it until there are `count`.
    fn groups_forth(&self, part: &[Entry], place: usize, count: u64) -> usize {
        let mut end = place.min(part.len());
        let mut groups = 0;
        while end < part.len() {
            if end == place || !self.same_group(part, end, end - 1) {
                if groups == count {
                    break;
                }
                groups += 1;
            }
            end += 1;
        }
        end
    }

    fn in_reach(&self, a: u32, b: u32, distance: Distance) -> Result<bool> {
        Ok(self.range_keys(&[a, b])?.in_reach(0, 1, distance))
    }

    fn range_keys(&self, ids: &[u32]) -> Result<RangeKeys> {
        let key = self.plan.spec.order[0];
        let columns = self.shelf.rows.take(ids, &[key.column])?;
        RangeKeys::of(&columns[0], key.options)
    }

    /// The first place whose row matters to the value at `place`.
    fn context_start(&self, part: &[Entry], place: usize) -> Result<usize> {
        let mut start = place;
        for call in &self.plan.spec.calls {
            let reached = match call.function.context() {
                Reach::Groups(count) => self.groups_back(part, place, count),
                reach => self.back_from(part, place, part[place].id, reach)?,
            };
            start = start.min(reached);
        }
        Ok(start)
    }

    /// One past the last place whose row matters to the value at `place`.
    fn context_end(&self, part: &[Entry], place: usize) -> Result<usize> {
        let mut end = place + 1;
        for call in &self.plan.spec.calls {
            end = end.max(self.forth_from(part, place, part[place].id, call.function.lookahead())?);
        }
        Ok(end)
    }

    /// Evaluates what was touched, and emits what differs from what was shown.
    fn refresh(&mut self, touched: &[Touched], gone: &[Entry], emit: Option<&mut Output>) -> Result<()> {
        let mut work = Work::default();
        let mut places: Vec<(u32, u32)> = Vec::new();
        for Touched { slot, ranges } in touched {
            let part = &self.parts[*slot as usize];
            for range in ranges {
                let start = self.context_start(part, range.start)?;
                let end = self.context_end(part, range.end - 1)?;
                let ids = part[start..end].iter().map(|entry| entry.id);
                work.push(ids, range.start - start..range.end - start, start as u64);
                places.extend(range.clone().map(|place| (*slot, place as u32)));
            }
        }
        let values = match places.is_empty() {
            true => self.empty_results(),
            false => self.shelf.evaluate(&work)?,
        };
        // Where a row was shown: whether its values are the same.
        let entry = |(slot, place): &(u32, u32)| self.parts[*slot as usize][*place as usize];
        let shown: Vec<u32> =
            (0..places.len() as u32).filter(|row| entry(&places[*row as usize]).result != NOT_SHOWN).collect();
        let old_ids: Vec<u32> = shown.iter().map(|row| entry(&places[*row as usize]).result).collect();
        let all: Vec<usize> = (0..values.len()).collect();
        let old = self.results.take(&old_ids, &all)?;
        let new = taken(&values, &shown)?;
        let same = same_rows(&old, &new, shown.len())?;
        let mut unchanged = vec![false; places.len()];
        shown.iter().zip(&same).for_each(|(row, same)| unchanged[*row as usize] = *same);
        let changed: Vec<u32> = (0..places.len() as u32).filter(|row| !unchanged[*row as usize]).collect();
        // Rows to take back: those that went, and the old form of those that changed.
        let mut retracted: Vec<(u32, u32)> =
            gone.iter().filter(|entry| entry.result != NOT_SHOWN).map(|entry| (entry.id, entry.result)).collect();
        for row in &changed {
            let entry = entry(&places[*row as usize]);
            if entry.result != NOT_SHOWN {
                retracted.push((entry.id, entry.result));
            }
        }
        let inserted: Vec<u32> = changed.iter().map(|row| entry(&places[*row as usize]).id).collect();
        let values = taken(&values, &changed)?;
        if let Some(out) = emit {
            let (ids, results): (Vec<u32>, Vec<u32>) = retracted.iter().copied().unzip();
            self.emit(&ids, self.results.take(&results, &all)?, -1, out)?;
            self.emit(&inserted, values.clone(), 1, out)?;
        }
        self.results.remove(&retracted.iter().map(|(_, result)| *result).collect::<Vec<_>>())?;
        let mut told = Vec::with_capacity(changed.len());
        if !changed.is_empty() {
            let schema = Arc::clone(self.results.schema());
            self.results.apply(&Delta::insert(batch_of(&schema, values, changed.len())?), &mut told)?;
        }
        for (row, change) in changed.iter().zip(told) {
            let (slot, place) = places[*row as usize];
            self.parts[slot as usize][place as usize].result = change.id;
        }
        Ok(())
    }

    fn empty_results(&self) -> Vec<ArrayRef> {
        let fields = self.results.schema().fields().iter();
        fields.map(|field| arrow::array::new_empty_array(field.data_type())).collect()
    }

    fn emit(&self, ids: &[u32], mut results: Vec<ArrayRef>, weight: i64, out: &mut Output) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let all: Vec<usize> = (0..self.plan.spec.input.fields().len()).collect();
        let mut columns = self.shelf.rows.take(ids, &all)?;
        columns.append(&mut results);
        let batch = batch_of(&self.plan.output, columns, ids.len())?;
        out.emit(Delta::weighted(batch, Int64Array::from_value(weight, ids.len())));
        Ok(())
    }

    /// Forgets partitions of which nothing is left.
    fn free(&mut self, slots: impl Iterator<Item = u32>) {
        let mut freed: Vec<u32> = slots.chain(std::mem::take(&mut self.shelf.made)).collect();
        freed.sort_unstable();
        freed.dedup();
        freed.retain(|slot| self.parts.get(*slot as usize).is_none_or(Vec::is_empty));
        for slot in &freed {
            if let Some(part) = self.parts.get_mut(*slot as usize) {
                *part = Vec::new();
            }
        }
        self.shelf.partitions.remove(&freed);
    }

    fn take_in(&mut self, edits: &mut [Edit], emit: Option<&mut Output>) -> Result<()> {
        let mut gone = Vec::new();
        let touched = self.apply(edits, &mut gone)?;
        self.refresh(&touched, &gone, emit)?;
        self.shelf.sweep()?;
        self.free(touched.iter().map(|touched| touched.slot));
        Ok(())
    }
}

fn taken(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows.to_vec());
    Ok(columns.iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?)
}

impl Operator for Updating {
    fn name(&self) -> &'static str {
        "Over"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let deltas: Vec<Delta> = input.single().into_iter().filter(|delta| !delta.is_empty()).collect();
        if !deltas.is_empty() {
            let mut edits = Vec::new();
            self.shelf.take_in(deltas, &mut edits)?;
            self.take_in(&mut edits, Some(out))?;
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let parts = &self.parts;
        let all = || parts.iter().flatten().map(|entry| (entry.arrival, entry.id)).collect();
        self.shelf.save(kind, state, all)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let mut edits = Vec::new();
        self.shelf.restore(state, &mut edits)?;
        self.take_in(&mut edits, None)
    }

    fn state_bytes(&self) -> usize {
        let entries = self.shelf.rows.len() * size_of::<Entry>() + self.parts.len() * size_of::<Vec<Entry>>();
        self.shelf.bytes() + self.results.bytes() + entries
    }

    fn state_rows(&self) -> usize {
        self.shelf.rows.len()
    }
}
