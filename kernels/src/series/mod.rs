//! Scores of single series whose models are many small parts: what `auto`, `novelty` and `seasonal` are made of.
//!
//! Each row passes a few searches and means that depend on the row before, for its key alone: nothing for a device to do side by side
//! but keys, and branches all the way. So these methods run on the CPU alone, and their state is plain `f32` words in slots.
//!
//! A value is the difference from the first value of its key (see [`features`](crate::features)), and so is whatever is kept of it.

mod auto;
mod changepoint;
mod history;
mod lapse;
mod level;
mod novelty;
mod novelty_score;
mod outlier;
mod random_cut;
mod season;
mod seasonal;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use auto::Auto;
pub(crate) use changepoint::ChangePoint;
pub(crate) use level::gain_of;
pub(crate) use novelty_score::NoveltyScore;
pub(crate) use random_cut::RandomCutForest;
pub(crate) use seasonal::{SeasonalScore, Seasonality};

use crate::features::{Features, centred};
use crate::placed::WaveGroup;
use crate::placer::Side;
use crate::rows::GroupedRows;
use crate::score::{Expectations, RowContext, Scorer};
use crate::state::{Layout, StatePages, StateShape};

/// Words before those of a model: the first values of the key, high and low word of each, and whether there were any.
const BASE_WORDS: usize = 2;
/// A page holds this much, or one key.
const PAGE_BYTES: usize = 16 << 20;

/// What a model says of a row, before it learns it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Scored {
    /// Greater is stranger, from 0 on.
    pub(crate) score: f32,
    /// What the calibration judges and learns, where that is not the score.
    pub(crate) surprise: Option<f32>,
    /// The value that was expected, as a difference from the key's first.
    pub(crate) expected: f32,
    /// How far values usually are from it: a standard deviation.
    pub(crate) deviation: f32,
}

/// A row of a series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    /// The values, one for most models, as differences from the key's first.
    pub(crate) values: &'a [f32],
    /// Event time in milliseconds, if it is known.
    pub(crate) time_ms: Option<i64>,
    /// Whether it is to be learnt.
    pub(crate) learn: bool,
}

impl Row<'_> {
    /// The first value.
    pub(crate) fn value(&self) -> f32 {
        self.values[0]
    }
}

/// A model of one series: all that it knows is in words, zeros before the first row.
pub(crate) trait SeriesModel: Send + Sync + 'static {
    /// How many words.
    fn words(&self) -> usize;

    /// Scores a row and learns it, if it is to be learnt.
    fn row(&self, state: &mut [f32], row: Row<'_>) -> Scored;
}

/// The series of all keys.
pub(crate) struct SeriesScorer<M> {
    model: M,
    /// Values of a row.
    features: usize,
    state: StatePages,
    scores: Vec<f32>,
    /// Of the batch at hand; empty where they are the scores.
    surprises: Vec<f32>,
    expectations: Expectations,
    batches: u64,
}

impl<M: SeriesModel> SeriesScorer<M> {
    /// For rows of one value.
    pub(crate) fn new(model: M) -> Self {
        Self::of_several(model, 1)
    }

    /// For rows of so many values.
    pub(crate) fn of_several(model: M, features: usize) -> Self {
        let words = vec![0; features * BASE_WORDS + 1 + model.words()];
        let state = StatePages::new(StateShape::new(words, Layout::SlotMajor).with_page_bytes(PAGE_BYTES));
        SeriesScorer {
            model,
            features,
            state,
            scores: Vec::new(),
            surprises: Vec::new(),
            expectations: Expectations::default(),
            batches: 0,
        }
    }
}

impl<M: SeriesModel> Scorer for SeriesScorer<M> {
    fn state_shape(&self) -> &StateShape {
        self.state.shape()
    }

    fn start(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]], context: RowContext<'_>, _: &mut WaveGroup) {
        let features = Features::new(Arc::clone(rows), columns);
        self.state.grow(features.slot_count());
        self.batches += 1;
        let kept = features.kept_count();
        let (mut scores, mut surprises) = (vec![0.0; kept], Vec::new());
        let (mut expected, mut deviation) = (vec![f64::NAN; kept], vec![f32::NAN; kept]);
        let columns: Vec<_> = (0..self.features).map(|index| (features.high(index), features.low(index))).collect();
        let mut values = vec![0.0f32; self.features];
        let slots_per_page = self.state.shape().slots_per_page();
        for (slot, rows_of_key) in features.groups() {
            let start = self.state.shape().index(slot as usize % slots_per_page, 0);
            let words = self.state.shape().words_per_slot();
            let page = self.state.page_mut(slot as usize / slots_per_page);
            let state: &mut [f32] = bytemuck::cast_slice_mut(&mut page[start..start + words]);
            for row in rows_of_key {
                // Where the row was before grouping.
                let grouped = features.kept().map_or(row, |kept| kept[row] as usize);
                let arrived = rows.order()[grouped] as usize;
                let (header, state) = state.split_at_mut(self.features * BASE_WORDS + 1);
                let (bases, begun) = header.split_at_mut(self.features * BASE_WORDS);
                let first = begun[0] == 0.0;
                let learn = context.learn.is_none_or(|learn| learn[arrived]);
                for ((value, (high, low)), base) in
                    values.iter_mut().zip(&columns).zip(bases.chunks_exact_mut(BASE_WORDS))
                {
                    // Until a row has been learnt each is beside itself.
                    let own = if first { (high[row], low[row]) } else { (base[0], base[1]) };
                    *value = centred(high[row], low[row], own.0, own.1);
                    if learn {
                        (base[0], base[1]) = own;
                    }
                }
                if learn {
                    begun[0] = 1.0;
                }
                let base = (bases[0], bases[1]);
                let scored = self
                    .model
                    .row(state, Row { values: &values, time_ms: context.time_ms.map(|times| times[arrived]), learn });
                scores[row] = scored.score;
                if let Some(surprise) = scored.surprise {
                    surprises.resize(kept, 0.0);
                    surprises[row] = surprise;
                }
                // Of the first value nothing was expected: that it is the base must not look like foresight.
                if !first {
                    expected[row] = f64::from(base.0) + f64::from(base.1) + f64::from(scored.expected);
                    deviation[row] = scored.deviation;
                }
            }
        }
        self.scores = features.spread(scores);
        self.surprises = if surprises.is_empty() { surprises } else { features.spread(surprises) };
        self.expectations = match features.kept() {
            None => Expectations { expected, deviation },
            Some(kept) => {
                let count = rows.row_count();
                let mut all = Expectations { expected: vec![f64::NAN; count], deviation: vec![f32::NAN; count] };
                for (place, row) in kept.iter().enumerate() {
                    all.expected[*row as usize] = expected[place];
                    all.deviation[*row as usize] = deviation[place];
                }
                all
            }
        };
    }

    fn finish(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.scores)
    }

    fn take_surprises(&mut self) -> Option<Vec<f32>> {
        Some(std::mem::take(&mut self.surprises)).filter(|surprises| !surprises.is_empty())
    }

    fn take_expectations(&mut self) -> Option<Expectations> {
        Some(std::mem::take(&mut self.expectations))
    }

    fn sync(&mut self) {}

    fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        words.extend(self.state.slot(slot));
    }

    fn load(&mut self, slots: &[u32], words: &[u32]) {
        self.state.grow(slots.iter().max().map_or(0, |last| *last as usize + 1));
        for (slot, words) in slots.iter().zip(words.chunks_exact(self.state.shape().words_per_slot())) {
            self.state.set_slot(*slot, words);
        }
    }

    fn bytes(&self) -> usize {
        self.state.bytes()
    }

    fn place(&self) -> (u64, Side) {
        (self.batches, Side::Cpu)
    }

    fn resume(&mut self, steps: u64, _: Side) {
        self.batches = steps;
    }
}

/// Gives each part of a model its words, in order.
pub(crate) struct Parts<'a>(&'a mut [f32]);

impl<'a> Parts<'a> {
    pub(crate) fn take(&mut self, words: usize) -> &'a mut [f32] {
        let (part, rest) = std::mem::take(&mut self.0).split_at_mut(words);
        self.0 = rest;
        part
    }
}

/// `ln(1 + ratio)`: strangeness in octaves, so that parts of a model add up and none drowns the others.
fn strangeness(ratio: f32) -> f32 {
    ratio.ln_1p()
}
