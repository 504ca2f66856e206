//! The same forecasts worked out from the whole history in `f64`, each sum anew: what the words of [`Forecaster`](super::Forecaster) are
//! held against. Only the method `flair`; which season there is, both are told.

use super::forecaster::mix;

const FEATURES: usize = 7;
const WINDOW: usize = 24;
const CYCLES: usize = 7;
const FAST: f64 = 0.25;
const PENALTY: f64 = 8.0;
const EXPERTS: usize = 8;

#[derive(Clone)]
struct Group {
    first: usize,
    last: usize,
    examples: Vec<([f64; FEATURES], f64, f64)>,
    errors: Vec<f64>,
    spread: f64,
    weights: [f64; FEATURES],
    /// What each expert was off by, without what is far beyond, and with it; and whether that was a surprise.
    off: Vec<[f64; EXPERTS]>,
    off_by: Vec<([f64; EXPERTS], bool)>,
}

/// One key's series and all that follows from it.
pub(super) struct Naive {
    season: usize,
    season_max: usize,
    values: Vec<f64>,
    groups: Vec<Group>,
    /// The row from which on the season holds.
    since: Option<usize>,
    /// The fast moving average, by row.
    fast: Vec<f64>,
    slow: Vec<f64>,
}

impl Naive {
    pub(super) fn new(season: usize, season_max: usize, groups: &[(usize, usize)]) -> Self {
        let group = |&(first, last): &(usize, usize)| Group {
            first,
            last,
            examples: Vec::new(),
            errors: Vec::new(),
            spread: 0.0,
            weights: [0.0; FEATURES],
            off: Vec::new(),
            off_by: Vec::new(),
        };
        let groups = groups.iter().map(group).collect();
        Naive { season, season_max, values: Vec::new(), groups, since: None, fast: Vec::new(), slow: Vec::new() }
    }

    fn period(&self) -> usize {
        if self.has_season() { self.season } else { WINDOW }
    }

    fn has_season(&self) -> bool {
        self.since.is_some() && self.season > 0
    }

    fn cycles(&self, rows: usize) -> usize {
        (rows.min(2 * self.season_max) / self.period()).clamp(1, CYCLES)
    }

    fn mean(&self, first: usize, last: usize) -> f64 {
        self.values[first..last].iter().sum::<f64>() / (last - first) as f64
    }

    fn width(&self, rows: usize) -> usize {
        if self.has_season() { self.season.min(rows) } else { WINDOW.min(rows / 2).max(1) }
    }

    fn level(&self, newest: usize) -> f64 {
        let rows = newest + 1;
        self.mean(rows - self.width(rows), rows)
    }

    fn base(&self, newest: usize) -> f64 {
        let rows = newest + 1;
        match self.has_season() {
            true => self.mean(rows - (self.cycles(rows) * self.width(rows)).min(rows), rows),
            false => self.level(newest),
        }
    }

    fn shape(&self, newest: usize, target: usize, base: f64) -> f64 {
        if !self.has_season() {
            return 0.0;
        }
        let first = (target - newest).div_ceil(self.season);
        let phases = (first..first + self.cycles(newest + 1)).filter_map(|back| target.checked_sub(back * self.season));
        let mut values: Vec<f64> = phases.map(|row| self.values[row]).collect();
        values.sort_by(f64::total_cmp);
        if values.is_empty() {
            return 0.0;
        }
        let kept = if values.len() > 3 { &values[1..values.len() - 1] } else { &values };
        kept.iter().sum::<f64>() / kept.len() as f64 - base
    }

    fn flat(&self, row: usize) -> f64 {
        let season = if row > 0 { self.shape(row - 1, row, self.base(row)) } else { 0.0 };
        self.values[row] - season
    }

    fn features(&self, newest: usize, target: usize) -> (f64, [f64; FEATURES]) {
        let (level, base, rows, width) = (self.level(newest), self.base(newest), newest + 1, self.width(newest + 1));
        let season = self.shape(newest, target, base);
        let trend = if rows >= 2 * width { level - self.mean(rows - 2 * width, rows - width) } else { 0.0 };
        let ahead = target - newest;
        let (near, trend) = if self.has_season() {
            let row = target.checked_sub(ahead.div_ceil(self.season) * self.season);
            ([row.map_or(0.0, |row| self.values[row] - base - season), 0.0], trend)
        } else {
            let back = |by: usize| newest.checked_sub(by).map_or(0.0, |row| self.values[row] - level);
            ([back(1), back(2)], trend * ahead as f64 / width as f64)
        };
        let last = self.flat(newest) - level;
        (level + season, [last, self.fast[newest] - level, self.slow[newest] - level, trend, near[0], near[1], season])
    }

    /// The regression, the last value, the medians of the last five, of the phase, and of all, the moved value of a cycle ago; there is no
    /// longer cycle. Then the last value, moved by the median of the last seven steps.
    fn experts(&self, newest: usize, target: usize, regression: f64) -> [f64; EXPERTS] {
        let horizon = self.groups[self.groups.len() - 1].last;
        let ring = 2 * self.season_max.max(WINDOW) + horizon + 1;
        let all = newest / 8 * 8 + 1;
        let period = self.period();
        let first = (target - newest).div_ceil(period);
        let count = ((newest + 1).min(2 * self.season_max) / period).clamp(1, CYCLES);
        let phases = (first..first + count).filter_map(|back| target.checked_sub(back * period));
        let beside = phases.flat_map(|row| [row.saturating_sub(1), row, (row + 1).min(newest)]);
        let phase: Vec<f64> = beside.map(|row| self.values[row]).collect();
        [
            regression,
            self.values[newest],
            median(&self.values[(newest + 1).saturating_sub(5)..=newest]),
            if phase.is_empty() { regression } else { median(&phase) },
            median(&self.values[all.saturating_sub(ring.min(336))..all]),
            match (newest + 1).checked_sub(first * period + 8) {
                Some(before) if target - before <= ring => {
                    self.values[target - first * period] + self.mean(newest - 7, newest + 1)
                        - self.mean(before, before + 8)
                }
                _ => f64::NAN,
            },
            f64::NAN,
            self.values[newest] + self.step(newest) * (target - newest).min(7) as f64,
        ]
    }

    fn step(&self, newest: usize) -> f64 {
        let steps: Vec<f64> =
            (newest.saturating_sub(6).max(1)..=newest).map(|row| self.values[row] - self.values[row - 1]).collect();
        if steps.is_empty() { 0.0 } else { median(&steps) }
    }

    /// What was learnt at a group, or between it and the one beside, where that has seen some errors.
    fn between(&self, index: usize, ahead: usize, of: impl Fn(&Group) -> f64) -> f64 {
        let middle = |group: &Group| (group.first + group.last) as f64 / 2.0;
        let group = &self.groups[index];
        let (here, ahead) = (middle(group), ahead as f64);
        let other = if ahead < here { index.checked_sub(1) } else { Some(index + 1) };
        let other = other.and_then(|other| self.groups.get(other)).filter(|other| other.errors.len() >= 6);
        match other {
            Some(other) => of(group) + (ahead - here) / (middle(other) - here) * (of(other) - of(group)),
            None => of(group),
        }
    }

    fn regression(&self, index: usize, newest: usize, target: usize) -> f64 {
        let (base, features) = self.features(newest, target);
        self.between(index, target - newest, |group| base + dot(&group.weights, &features))
    }

    /// The experts' mean, weighed by what each was off by, and by whether that is much more of late than it usually is.
    fn weighed(&self, index: usize, newest: usize, ahead: usize, said: &[f64; EXPERTS]) -> f64 {
        let near = &self.groups[0].off_by;
        let rate = 1.0 / (10.0 / 3.0 + (self.groups[index].last - 1) as f64 * 2.0 / 3.0);
        let late = |expert: usize| near.iter().fold(0.0, |late, (off, _)| late + rate * (off[expert] - late));
        let after = |expert: usize| {
            let mut loss = 0.0;
            for (count, pair) in near.windows(2).filter(|pair| pair[0].1).enumerate() {
                loss += 0.2f64.max(1.0 / (count + 1) as f64) * (pair[1].0[expert] - loss);
            }
            loss
        };
        let surprised = near.last().is_some_and(|(_, surprise)| *surprise);
        let distrust = |expert: usize| {
            let usual = usual(&self.groups[0], expert);
            let off = match surprised {
                true if index == 0 && newest + 1 == self.values.len() => after(expert),
                true => 0.0,
                false => late(expert),
            };
            if usual > 0.0 { f64::max(off / (4.0 * usual), 1.0) } else { 1.0 }
        };
        let spoken = (0..EXPERTS).filter(|expert| !said[*expert].is_nan());
        let losses: Vec<(f64, f64)> = spoken
            .map(|expert| (said[expert], distrust(expert) * self.between(index, ahead, |group| usual(group, expert))))
            .collect();
        if let Some((said, _)) = losses.iter().find(|(_, loss)| *loss <= 0.0) {
            return *said;
        }
        let weights = losses.iter().map(|(said, loss)| (said, loss.powi(-8)));
        let (sum, total) =
            weights.fold((0.0, 0.0), |(sum, total), (said, weight)| (sum + said * weight, total + weight));
        sum / total
    }

    /// Takes in the next value.
    pub(super) fn push(&mut self, value: f64) {
        let target = self.values.len();
        let mut one_step = None;
        for index in 0..self.groups.len() {
            let (first, last) = (self.groups[index].first, self.groups[index].last);
            let ahead = first + mix(target as u32, index as u32) as usize % (last - first + 1);
            let Some(newest) = target.checked_sub(ahead).filter(|newest| *newest >= self.since.unwrap_or(0)) else {
                continue;
            };
            let (base, features) = self.features(newest, target);
            let regression = self.regression(index, newest, target);
            let said = self.experts(newest, target, regression);
            let error = value - self.weighed(index, newest, ahead, &said);
            let group = &mut self.groups[index];
            group.errors.push(error);
            let count = group.errors.len() as f64;
            let limited =
                if count > 16.0 && group.spread > 0.0 { error.abs().min(20.0 * group.spread) } else { error.abs() };
            group.spread += 0.01f64.max(2.0 / (count + 1.0)) * (limited - group.spread);
            let most = if count > 16.0 && group.spread > 0.0 { 20.0 * group.spread } else { f64::MAX };
            let off = said.map(|said| (value - if said.is_nan() { regression } else { said }).abs());
            group.off.push(off.map(|off| off.min(most)));
            if index == 0 {
                one_step = Some(off);
            }
            let error = value - regression;
            let weight =
                if error.abs() > group.spread && group.spread > 0.0 { group.spread / error.abs() } else { 1.0 };
            group.examples.push((features, value - base, weight));
        }
        if let Some(off) = one_step {
            let surprise = (0..EXPERTS).all(|expert| off[expert] > 4.0 * usual(&self.groups[0], expert));
            self.groups[0].off_by.push((off, surprise));
        }
        for (index, group) in self.groups.iter_mut().enumerate() {
            if target % group.last == index % group.last {
                group.weights = solve(group);
            }
        }
        self.values.push(value);
        let rows = target + 1;
        if self.since.is_none() && self.season > 0 && rows >= self.season {
            self.since = Some(target);
            for group in &mut self.groups {
                group.examples.iter_mut().for_each(|example| example.2 *= 0.25);
            }
            self.fast.pop();
            self.fast.push(self.mean(rows - self.season, rows));
        }
        let before = |averages: &[f64]| averages.last().copied().unwrap_or(0.0);
        let gain = 1.0 / rows as f64;
        let fast = before(&self.fast) + FAST.max(gain) * (self.flat(target) - before(&self.fast));
        let slow = before(&self.slow) + (1.0 / (4 * self.period()) as f64).max(gain) * (value - before(&self.slow));
        self.fast.resize(target, 0.0);
        self.fast.push(fast);
        self.slow.push(slow);
    }

    /// The forecast of each step, before what errors say of it.
    pub(super) fn points(&self) -> Vec<f64> {
        let newest = self.values.len() - 1;
        let step = |ahead: usize| {
            let index = self.groups.iter().position(|group| ahead <= group.last).expect("groups reach to the horizon");
            let regression = self.regression(index, newest, newest + ahead);
            self.weighed(index, newest, ahead, &self.experts(newest, newest + ahead, regression))
        };
        (1..=self.groups[self.groups.len() - 1].last).map(step).collect()
    }
}

/// The greater one of the middle, where there are two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What an expert was off by, the last ones counting most.
fn usual(group: &Group, expert: usize) -> f64 {
    let mut loss = 0.0;
    for (index, off) in group.off.iter().enumerate() {
        loss += 0.01f64.max(2.0 / (index + 2) as f64) * (off[expert] - loss);
    }
    loss
}

fn dot(weights: &[f64; FEATURES], features: &[f64; FEATURES]) -> f64 {
    weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum()
}

/// Least squares by Gauss's elimination, with ridge.
fn solve(group: &Group) -> [f64; FEATURES] {
    let mut rows = [[0.0; FEATURES + 1]; FEATURES];
    let count = group.examples.len();
    for (index, (features, target, weight)) in group.examples.iter().enumerate() {
        let kept = (index + 2..=count).map(|count| 1.0 - (1.0 / 1024.0f64).max(1.0 / count as f64));
        let weight = weight * kept.product::<f64>();
        for (row, feature) in rows.iter_mut().zip(features) {
            for (cell, other) in row.iter_mut().zip(features.iter().chain([target])) {
                *cell += weight * feature * other;
            }
        }
    }
    for (index, row) in rows.iter_mut().enumerate() {
        row[index] += PENALTY * group.spread * group.spread;
    }
    for column in 0..FEATURES {
        let pivot = (column..FEATURES).max_by(|one, two| rows[*one][column].abs().total_cmp(&rows[*two][column].abs()));
        rows.swap(column, pivot.expect("there are rows left"));
        let top = rows[column];
        if top[column].abs() < 1e-12 {
            return [0.0; FEATURES];
        }
        for (_, row) in rows.iter_mut().enumerate().filter(|(index, _)| *index != column) {
            let factor = row[column] / top[column];
            row.iter_mut().zip(top).for_each(|(cell, above)| *cell -= factor * above);
        }
    }
    std::array::from_fn(|index| rows[index][FEATURES] / rows[index][index])
}
