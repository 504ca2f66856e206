//! What a checkpoint takes: the rows that wait, the rows that stay, and a few numbers for each partition.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt64Type;

use super::Settled;
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::operator::match_recognize::NAME;
use crate::operator::match_recognize::busy::{Active, Busy, Part};
use crate::operator::{SaveKind, StateReader, StateWriter};
use crate::time::WATERMARK_MAX;

/// The tables of a checkpoint, and its meta.
const PARTITIONS: &str = "partitions";
pub(super) const HELD: &str = "held";
const WATERMARK: &str = "watermark";
const ARRIVALS: &str = "arrivals";
const HELD_ARRIVALS: &str = "held_arrivals";

/// A partition in a checkpoint.
#[derive(Clone)]
struct Saved {
    position: u64,
    /// When the first of its rows that stay came, and its position.
    first_held: u64,
    held_from: u64,
    /// [`Settled::encode`] and [`Settled::packed`].
    active: Vec<u8>,
    packed: u64,
}

impl Settled {
    /// The columns of partitions in a checkpoint; those that are not there have no matches under way.
    pub(super) fn states(&self, slots: &[u32], there: bool) -> Result<RecordBatch> {
        let mut columns = self.partitions.columns(Slots::Some(slots))?;
        let numbers = |of: &dyn Fn(u32) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| of(*slot))))
        };
        let parts = &self.parts;
        let position = |slot| parts.part(slot).position;
        let held = |slot| parts.held(slot).and_then(|(_, ids)| ids.first().copied());
        columns.push(numbers(&position));
        columns.push(numbers(&|slot| held(slot).map_or(self.kept.next_arrival, |id| self.kept.arrival(id))));
        columns.push(numbers(&|slot| parts.held(slot).map_or(position(slot), |(first, _)| first)));
        let active = slots.iter().map(|slot| there.then(|| self.encode(*slot)));
        columns.push(Arc::new(active.collect::<BinaryArray>()));
        columns.push(numbers(&|slot| self.packed(slot)));
        batch_of(&self.state_schema, columns, slots.len())
    }

    /// What is under way in a partition, as bytes: for each pattern its place, where it starts, how many matches it had, up to where rows
    /// are in matches, and up to where beginnings of matches were told.
    fn encode(&self, slot: u32) -> Vec<u8> {
        let number = self.parts.number(slot);
        let of_one = |start: u64| [0, start, number, 0, 0];
        let busy = self.parts.busy(slot);
        let begun = self.parts.begun(slot).map(|_| of_one(self.parts.part(slot).position - 1));
        let active = busy.into_iter().flat_map(Busy::active).map(|active| {
            let key = &active.key;
            [u64::from(active.pattern), key.start(), key.number(), key.matched_until(), key.told_until()]
        });
        let mut states: Vec<[u64; 5]> = begun.into_iter().chain(active).collect();
        if number > 0 && states.is_empty() {
            states.push(of_one(u64::MAX));
        }
        let numbers = busy.map_or(&[][..], Busy::numbers).iter();
        let idle =
            numbers.filter(|(of, _)| busy.into_iter().flat_map(Busy::active).all(|active| active.pattern != *of));
        states.extend(idle.map(|(pattern, number)| [u64::from(*pattern), u64::MAX, *number, 0, 0]));
        states.into_iter().flatten().flat_map(u64::to_le_bytes).collect()
    }

    /// [`Matcher::packed`](eagre_patterns::Matcher::packed) of a partition's match under way, where there is one pattern.
    fn packed(&self, slot: u32) -> u64 {
        let of_key = |busy: &Busy| busy.one.as_ref().map(|active| self.plans.plans[0].matcher.packed(&active.key));
        self.parts.begun(slot).or_else(|| self.parts.busy(slot).and_then(of_key)).unwrap_or(0)
    }

    pub(super) fn save_state(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        state.meta.insert(ARRIVALS.into(), self.buffer.kept.next_arrival.into());
        state.meta.insert(HELD_ARRIVALS.into(), self.kept.next_arrival.into());
        self.ahead.save(&mut state.meta);
        self.buffer.save(kind, state)?;
        let unsaved = self.kept.take_unsaved();
        let rows = if kind == SaveKind::Full { self.kept.all() } else { unsaved };
        if !rows.is_empty() {
            let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
            let rows = Delta {
                batch: self.kept.rows.take_batch(&ids)?,
                weights: None,
                ordinals: Some(UInt64Array::from_iter_values(rows.iter().map(|(arrival, _)| *arrival))),
            };
            self.log.save(SaveKind::Full, state, || Ok(vec![rows]))?;
        }
        self.forget_idle()?;
        let forgotten = std::mem::take(&mut self.forgotten);
        let mut slots = std::mem::take(&mut self.dirty_slots);
        slots.iter().for_each(|slot| self.parts.part_mut(*slot).dirty = false);
        let live = self.partitions.live_slots();
        match kind {
            SaveKind::Full => slots = live,
            SaveKind::Changes => {
                forgotten.into_iter().for_each(|rows| state.put(PARTITIONS, rows));
                let mut is_live = vec![false; self.parts.len()];
                live.iter().for_each(|slot| is_live[*slot as usize] = true);
                slots.retain(|slot| is_live[*slot as usize]);
            }
        }
        self.saves = true;
        if !slots.is_empty() {
            state.put(PARTITIONS, self.states(&slots, true)?);
        }
        Ok(())
    }

    pub(super) fn restore_state(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        self.ended = self.watermark == WATERMARK_MAX;
        self.ahead.restore(state.owned, state.metas);
        let number = |name: &str| state.metas.iter().filter_map(|meta| meta.get(name)?.as_u64()).max().unwrap_or(0);
        let (arrivals, held_arrivals) = (number(ARRIVALS), number(HELD_ARRIVALS));
        let plans = Arc::clone(&self.plans);
        let spec = plans.spec();
        let width = spec.partition.len();
        self.buffer.restore(state, &spec.partition, plans.time(), self.watermark)?;
        self.buffer.kept.take_unsaved();
        self.buffer.kept.next_arrival = arrivals.max(self.buffer.kept.next_arrival);
        self.saves = !state.metas.is_empty();
        // The newest state of each partition; `None`: it was forgotten.
        let mut newest: Vec<Option<Saved>> = Vec::new();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == PARTITIONS) {
            check_chunk(NAME, chunk, &self.state_schema)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut slots = Vec::new();
            self.partitions.intern(&rows.columns()[..width], rows.num_rows(), &mut slots)?;
            newest.resize(self.partitions.slot_count().max(newest.len()), None);
            let active = rows.column(width + 3).as_binary::<i32>();
            for (row, slot) in slots.iter().enumerate() {
                let number = |column: usize| rows.column(width + column).as_primitive::<UInt64Type>().value(row);
                let there = active.is_valid(row);
                newest[*slot as usize] = there.then(|| Saved {
                    position: number(0),
                    first_held: number(1),
                    held_from: number(2),
                    active: active.value(row).to_vec(),
                    packed: number(4),
                });
            }
        }
        // Rows, each for its partition, in order.
        let mut held: Vec<Vec<(u64, u32)>> = vec![Vec::new(); newest.len()];
        for delta in self.log.restore(NAME, state, &spec.partition)? {
            let keys: Vec<ArrayRef> =
                spec.partition.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
            let mut slots = Vec::new();
            self.partitions.intern(&keys, delta.rows(), &mut slots)?;
            newest.resize(self.partitions.slot_count().max(newest.len()), None);
            held.resize(newest.len(), Vec::new());
            let is_held = |row: usize| {
                let first_held = newest[slots[row] as usize].as_ref().map(|saved| saved.first_held);
                first_held.is_some_and(|first_held| delta.ordinal(row) >= first_held)
            };
            let mask: Vec<bool> = (0..delta.rows()).map(is_held).collect();
            let rows = filter_record_batch(&delta.batch, &BooleanArray::from(mask.clone()))?;
            let kept = || (0..delta.rows()).filter(|row| mask[*row]);
            let arrivals: Vec<u64> = kept().map(|row| delta.ordinal(row)).collect();
            let mut ids = Vec::new();
            self.kept.append_again(&rows, &arrivals, &mut ids)?;
            for ((row, arrival), id) in kept().zip(&arrivals).zip(&ids) {
                held[slots[row] as usize].push((*arrival, *id));
            }
        }
        self.kept.next_arrival = held_arrivals.max(self.kept.next_arrival);
        let mut gone = Vec::new();
        for (slot, (state, mut rows)) in newest.into_iter().zip(held).enumerate() {
            let Some(Saved { position, held_from, active, packed, .. }) = state else {
                gone.push(slot as u32);
                self.parts.push(Part::default(), None);
                continue;
            };
            let slot = slot as u32;
            rows.sort_unstable();
            let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
            let (mut busy, mut number_of_one) = (Busy::new(held_from), 0);
            busy.held.push(&ids);
            for [pattern, start, number, matched_until, told_until] in decode(&active) {
                let Some(plan) = plans.plans.get(pattern as usize) else {
                    return Err(EngineError::bug("a checkpoint has more patterns than the query"));
                };
                let is_one = plans.plans.len() == 1;
                if plan.counts && number > 0 {
                    match is_one {
                        true => number_of_one = number,
                        false => busy.set_number(pattern as u32, number),
                    }
                }
                if start != u64::MAX {
                    let key = match packed {
                        0 => plan.matcher.resume_after_partial(start, number, matched_until, told_until),
                        packed => plan
                            .matcher
                            .resume_packed(start, number, matched_until, packed)
                            .ok_or_else(|| EngineError::bug("a checkpoint has rows of another pattern"))?,
                    };
                    let active = Active { pattern: pattern as u32, key };
                    match is_one {
                        true => busy.one = Some(active),
                        false => busy.put_active(active),
                    }
                }
            }
            if !ids.is_empty() {
                self.asleep.push(slot);
            }
            self.parts.push(Part::at(position), Some(busy));
            if number_of_one > 0 {
                self.parts.set_number(slot, number_of_one);
            }
            self.parts.settle(slot, plans.of_last_rows());
        }
        self.partitions.remove(&gone);
        Ok(())
    }
}

/// What [`Settled::encode`] gave.
fn decode(bytes: &[u8]) -> Vec<[u64; 5]> {
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
    words.chunks_exact(5).map(|words| words.try_into().expect("five words")).collect()
}
