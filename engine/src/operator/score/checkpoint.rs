//! What a checkpoint and the step log hold of the operator: rows that wait, models, and where kernels ran.

use std::sync::Arc;

use arrow::array::{AsArray, FixedSizeBinaryArray, RecordBatch};

use super::{NAME, Score};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::batch_of;
use crate::error::{EngineError, Result};
use crate::operator::{SaveKind, StateReader, StateWriter, moves};

/// The tables of a checkpoint, and its meta.
const PARTITIONS: &str = "partitions";
const WATERMARK: &str = "watermark";
const ARRIVALS: &str = "arrivals";
const LAYOUTS: &str = "layouts";

impl Score {
    /// What the words of models mean.
    fn layouts(&self) -> String {
        self.spec.calls.iter().map(|call| call.answer.state_layout()).collect::<Vec<_>>().join(", ")
    }

    /// Kernels go on where they ran; at another number of shards, where those of some shard did.
    fn resume_places(&mut self, metas: &[serde_json::Map<String, serde_json::Value>]) {
        for (running, place) in self.running.iter_mut().zip(moves::places_of(self.owned, metas)) {
            if let Some((batches, side)) = place {
                running.scorer_mut().resume(batches, side);
            }
        }
    }

    fn put_states(&mut self, slots: &[u32], state: &mut StateWriter) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut columns = self.partitions.columns(Slots::Some(slots))?;
        let mut words = Vec::new();
        for running in &mut self.running {
            running.scorer_mut().sync();
            words.clear();
            slots.iter().for_each(|slot| running.read_slot(*slot, &mut words));
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let width = (running.state_shape().words_per_slot() * 4) as i32;
            columns.push(Arc::new(FixedSizeBinaryArray::try_new(width, bytes.into(), None)?));
        }
        state.put(PARTITIONS, batch_of(&self.state_schema, columns, slots.len())?);
        Ok(())
    }

    /// Repeats the moves of the step log.
    pub(super) fn recall_moves(&mut self, answers: &[RecordBatch]) -> Result<()> {
        let next: Vec<u64> = self.running.iter().map(|running| running.scorer().place().0).collect();
        let moves = moves::recorded(NAME, self.owned, answers, &next)?;
        self.running.iter_mut().zip(moves).for_each(|(running, moves)| running.scorer_mut().recall(&moves));
        Ok(())
    }

    pub(super) fn save_all(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        state.meta.insert(ARRIVALS.into(), self.buffer.kept.next_arrival.into());
        moves::put_places(self.owned, self.running.iter().map(|running| running.scorer().place()), &mut state.meta);
        state.meta.insert(LAYOUTS.into(), self.layouts().into());
        self.buffer.save(kind, state)?;
        let mut slots = std::mem::take(&mut self.dirty_slots);
        slots.iter().for_each(|slot| self.dirty[*slot as usize] = false);
        if kind == SaveKind::Full {
            slots = self.partitions.live_slots();
        }
        self.put_states(&slots, state)
    }

    pub(super) fn restore_all(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        let arrivals = state.metas.iter().filter_map(|meta| meta.get(ARRIVALS)?.as_u64()).max().unwrap_or(0);
        for meta in state.metas {
            let found = meta.get(LAYOUTS).and_then(serde_json::Value::as_str).unwrap_or_default();
            if found != self.layouts() {
                return Err(EngineError::Checkpoint {
                    message: format!(
                        "the models of `{NAME}` were saved as `{found}`, not `{}`: by another query or version; start over with `--fresh`",
                        self.layouts()
                    ),
                });
            }
        }
        self.owned = state.owned;
        self.resume_places(state.metas);
        let spec = Arc::clone(&self.spec);
        self.buffer.restore(state, &spec.partition, spec.time(), self.watermark)?;
        let width = spec.partition.len();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == PARTITIONS) {
            check_chunk(NAME, chunk, &self.state_schema)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut slots = Vec::new();
            self.partitions.intern(&rows.columns()[..width], rows.num_rows(), &mut slots)?;
            for (running, column) in self.running.iter_mut().zip(&rows.columns()[width..]) {
                let states = column.as_fixed_size_binary();
                let words: Vec<u32> = (0..slots.len())
                    .flat_map(|row| states.value(row).chunks_exact(4))
                    .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
                    .collect();
                running.load(&slots, &words);
            }
        }
        self.dirty.resize(self.partitions.slot_count(), false);
        // They are all in the store.
        self.buffer.kept.take_unsaved();
        // The rows of several shards, numbered anew, may be more than any of these had counted.
        let arrivals = arrivals.max(self.buffer.kept.next_arrival);
        self.buffer.kept.next_arrival = arrivals;
        Ok(())
    }
}
