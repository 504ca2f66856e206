//! A kernel that learns some of the rows only, on the CPU.
//!
//! A row that is not to be learnt is scored by what was learnt before it, and a model of rows is the same after it. A model of windows needs
//! it all the same, to know the windows that come: the row is in them, and each window that holds it is scored and not learnt, neither by
//! the model nor by the calibration of its scores. How many windows to come hold one is a word of the key.
//!
//! Shaders take rows side by side as if each were learnt, so these calls do not run on a device.

use std::sync::Arc;

use crate::features::has_values;
use crate::placed::WaveGroup;
use crate::placer::Side;
use crate::rows::GroupedRows;
use crate::score::detector::RowContext;
use crate::score::scorer::{ScoreKernel, Scorer};
use crate::state::{Layout, StatePages, StateShape};

/// See the [module](self). The words of a key are those of the kernel, and how many windows to come hold a row that is not learnt.
pub(super) struct SelectiveScorer<K> {
    kernel: K,
    state: StatePages,
    held: StatePages,
    shape: StateShape,
    scores: Vec<f32>,
    learns: Vec<bool>,
    batches: u64,
}

impl<K: ScoreKernel> SelectiveScorer<K> {
    pub(super) fn new(kernel: K) -> Self {
        let of_kernel = kernel.state_shape();
        let words = of_kernel.initial().iter().copied().chain([0]).collect();
        SelectiveScorer {
            shape: StateShape::new(words, of_kernel.layout()),
            state: StatePages::new(of_kernel),
            held: StatePages::new(StateShape::new(vec![0], Layout::SlotMajor)),
            kernel,
            scores: Vec::new(),
            learns: Vec::new(),
            batches: 0,
        }
    }

    /// Which grouped rows end a window without a row that is not to be learnt.
    fn windows_to_learn(&mut self, rows: &GroupedRows, columns: &[&[f64]], learn: Option<&[bool]>) -> Vec<bool> {
        let window = self.kernel.window();
        let mut learns = vec![false; rows.row_count()];
        for (slot, range) in rows.groups() {
            let mut held = self.held.slot(slot)[0];
            for row in range {
                let arrived = rows.order()[row] as usize;
                // A row without values is in no window.
                if !has_values(columns, arrived) {
                    continue;
                }
                if learn.is_some_and(|learn| !learn[arrived]) {
                    held = window;
                }
                learns[row] = held == 0;
                held = held.saturating_sub(1);
            }
            self.held.set_slot(slot, &[held]);
        }
        learns
    }
}

impl<K: ScoreKernel> Scorer for SelectiveScorer<K> {
    fn state_shape(&self) -> &StateShape {
        &self.shape
    }

    fn start(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]], context: RowContext<'_>, _: &mut WaveGroup) {
        self.batches += 1;
        let batch = self.kernel.batch(rows, columns);
        let slots = self.kernel.slot_count(&batch);
        self.state.grow(slots);
        self.held.grow(slots);
        self.learns = self.windows_to_learn(rows, columns, context.learn);
        self.scores = K::scores(self.kernel.run_twin(&K::learning(batch, &self.learns), &mut self.state));
    }

    fn finish(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.scores)
    }

    fn take_learns(&mut self) -> Option<Vec<bool>> {
        Some(std::mem::take(&mut self.learns))
    }

    fn sync(&mut self) {}

    fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        words.extend(self.state.slot(slot));
        words.extend(self.held.slot(slot));
    }

    fn load(&mut self, slots: &[u32], words: &[u32]) {
        let count = slots.iter().max().map_or(0, |last| *last as usize + 1);
        self.state.grow(count);
        self.held.grow(count);
        for (slot, words) in slots.iter().zip(words.chunks_exact(self.shape.words_per_slot())) {
            let (of_kernel, held) = words.split_at(words.len() - 1);
            self.state.set_slot(*slot, of_kernel);
            self.held.set_slot(*slot, held);
        }
    }

    fn bytes(&self) -> usize {
        self.state.bytes() + self.held.bytes()
    }

    fn place(&self) -> (u64, Side) {
        (self.batches, Side::Cpu)
    }

    fn resume(&mut self, steps: u64, _: Side) {
        self.batches = steps;
    }
}

#[cfg(test)]
mod tests;
