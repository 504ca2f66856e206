//! The forest as the paper tells it: row by row, tree by tree, node by node, with masses in all nodes and logarithms in `f64`.
//!
//! What the twin must agree with, up to the units of its logarithms, and what it is measured against.

use std::collections::HashMap;

use super::{
    ForestParameters, HalfSpaceForest, KEEP_ABOVE, KEEP_BELOW, KEEP_SPAN, PARTS, REBASE_SPANS, SPAN_MIN, SPAN_RELATIVE,
};
use crate::features::{Features, Scores, centred};

/// A forest with its models, by slot.
#[derive(Debug)]
pub struct NaiveForest {
    forest: HalfSpaceForest,
    keys: HashMap<u32, Key>,
}

#[derive(Debug, Default)]
struct Key {
    base: Vec<(f32, f32)>,
    windows: usize,
    /// The rows of the window so far.
    seen: Vec<Vec<f32>>,
    /// Lower end and scale, by feature.
    range: Vec<(f32, f32)>,
    reference_range: Vec<(f32, f32)>,
    /// `[tree][node of the heap]`
    latest: Vec<Vec<u32>>,
    reference: Vec<Vec<u32>>,
}

impl NaiveForest {
    /// The same forest.
    pub fn new(forest: HalfSpaceForest) -> Self {
        NaiveForest { forest, keys: HashMap::new() }
    }

    /// Scores and learns a batch.
    pub fn run(&mut self, batch: &Features) -> Scores {
        let parameters = self.forest.parameters().clone();
        let features = parameters.features as usize;
        let mut score = vec![0.0; batch.kept_count()];
        let mut attribution = vec![vec![0.0; batch.kept_count()]; if parameters.attribution { features } else { 0 }];
        for (slot, rows) in batch.groups() {
            let key = self.keys.entry(slot).or_default();
            for row in rows {
                let values: Vec<(f32, f32)> =
                    (0..features).map(|feature| (batch.high(feature)[row], batch.low(feature)[row])).collect();
                let learns = batch.learns().is_none_or(|learns| learns[row]);
                let (total, by_feature) = key.step(&self.forest, &values, learns);
                score[row] = total as f32;
                for (column, credit) in attribution.iter_mut().zip(by_feature) {
                    column[row] = credit as f32;
                }
            }
        }
        Scores {
            score: batch.spread(score),
            attribution: attribution.into_iter().map(|column| batch.spread(column)).collect(),
        }
    }

    /// The latest masses of the leaves of a key, `[tree][leaf]`.
    pub fn leaf_masses(&self, slot: u32) -> Vec<Vec<u32>> {
        let leaf_count = self.forest.parameters().leaf_count();
        self.keys
            .get(&slot)
            .map_or(Vec::new(), |key| key.latest.iter().map(|tree| tree[leaf_count..].to_vec()).collect())
    }
}

impl Key {
    fn step(&mut self, forest: &HalfSpaceForest, values: &[(f32, f32)], learns: bool) -> (f64, Vec<f64>) {
        let parameters = forest.parameters();
        if self.base.is_empty() && !learns {
            return (0.0, vec![0.0; values.len()]);
        }
        if self.base.is_empty() {
            self.base = values.to_vec();
            let masses = vec![vec![0; 2 * parameters.leaf_count()]; parameters.trees as usize];
            (self.latest, self.reference) = (masses.clone(), masses);
        }
        let row: Vec<f32> =
            values.iter().zip(&self.base).map(|(value, base)| centred(value.0, value.1, base.0, base.1)).collect();
        let mut scored = (0.0, vec![0.0; values.len()]);
        if self.windows > 1 {
            scored = self.score(forest, &row);
        }
        if !learns {
            return scored;
        }
        if self.windows > 0 {
            for tree in 0..parameters.trees as usize {
                path(forest, tree, &row, &self.range).for_each(|(node, _)| self.latest[tree][node] += 1);
                self.latest[tree][1] += 1;
            }
        }
        self.seen.push(row);
        let window = if self.windows == 0 { parameters.calibration_rows() } else { parameters.window };
        if self.seen.len() == window as usize {
            self.end_window(values);
        }
        scored
    }

    fn score(&self, forest: &HalfSpaceForest, row: &[f32]) -> (f64, Vec<f64>) {
        let ForestParameters { trees, depth, window, .. } = *forest.parameters();
        let log = |mass: u32| f64::from(mass).max(0.5).log2();
        let (mut total, mut by_feature) = (0.0, vec![0.0; row.len()]);
        for tree in 0..trees as usize {
            let (mut level, mut mass) = (0, window);
            for (node, feature) in path(forest, tree, row, &self.reference_range) {
                let child = self.reference[tree][node];
                by_feature[feature] += log(mass) - log(child);
                (level, mass) = (level + 1, child);
                if mass <= forest.parameters().node_mass_min() || level == depth {
                    by_feature[feature] += f64::from(depth - level);
                    break;
                }
            }
            total += f64::from(depth - level) + f64::from(window).log2() - log(mass);
        }
        by_feature.iter_mut().for_each(|credit| *credit /= f64::from(trees));
        (total / f64::from(trees), by_feature)
    }

    fn end_window(&mut self, newest: &[(f32, f32)]) {
        let part = self.seen.len().div_ceil(PARTS as usize);
        self.reference_range = self.range.clone();
        self.range.resize(self.base.len(), (0.0, 0.0));
        for feature in 0..self.base.len() {
            let column: Vec<f32> = self.seen.iter().map(|row| row[feature]).collect();
            let mut minima: Vec<f32> =
                column.chunks(part).map(|part| part.iter().copied().fold(f32::INFINITY, f32::min)).collect();
            let mut maxima: Vec<f32> =
                column.chunks(part).map(|part| part.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
            minima.sort_by(f32::total_cmp);
            maxima.sort_by(f32::total_cmp);
            let (least, greatest) = (minima[1], maxima[maxima.len() - 2]);
            let (low, scale) = self.range[feature];
            let fits = (least - low) * scale >= KEEP_BELOW && (greatest - low) * scale <= KEEP_ABOVE;
            if self.windows > 0 && fits && (greatest - least) * scale >= KEEP_SPAN {
                continue;
            }
            let span = (greatest - least).max(least.abs().max(greatest.abs()) * SPAN_RELATIVE).max(SPAN_MIN);
            let moved = column[column.len() - 1];
            let moved = if moved.abs() > REBASE_SPANS * span { moved } else { 0.0 };
            if moved != 0.0 {
                self.base[feature] = newest[feature];
                if let Some(reference) = self.reference_range.get_mut(feature) {
                    reference.0 -= moved;
                }
            }
            self.range[feature] = (least - moved, 2f32.powi(13 - span.log2().floor() as i32));
        }
        if self.windows > 0 {
            let empty = self.latest.iter().map(|tree| vec![0; tree.len()]).collect();
            self.reference = std::mem::replace(&mut self.latest, empty);
        }
        self.seen.clear();
        self.windows += 1;
    }
}

/// The nodes of a tree below the root that a row passes, each with the feature whose split led there.
fn path<'a>(
    forest: &'a HalfSpaceForest,
    tree: usize,
    row: &'a [f32],
    range: &'a [(f32, f32)],
) -> impl Iterator<Item = (usize, usize)> + 'a {
    // The work range of each feature is halved again and again.
    let mut halves: Vec<(i32, i32)> = vec![(0, 1 << 15); row.len()];
    let mut node = 1;
    forest.levels_of(tree).iter().map(move |split| {
        let feature = split.feature as usize;
        let units = ((row[feature] - range[feature].0) * range[feature].1).clamp(-32_768.0, 32_767.0);
        let place = ((units + 32_768.0).floor() as i32 - 32_768 + i32::from(split.offset)).clamp(0, (1 << 15) - 1);
        let half = &mut halves[feature];
        let middle = half.0.midpoint(half.1);
        let upper = place >= middle;
        *half = if upper { (middle, half.1) } else { (half.0, middle) };
        node = 2 * node + usize::from(upper);
        (node, feature)
    })
}
