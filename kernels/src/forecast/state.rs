//! What a key's state holds, and where: a fixed number of 32-bit words, whatever has come.
//!
//! ```text
//! head | ring: the last values | origins: what forecasts begin from | phases: spread by phase | groups: one block for each
//!      | tables: errors by size
//! ```
//!
//! Values are kept as `f32`, as `(value - origin) * 2^-exponent`: `origin` is a value of the series and `exponent` the magnitude of its
//! first change, so that a level of 1e9 with a noise of 1 keeps its digits, and 1e200 is no overflow. When a series leaves the range
//! that was chosen, its whole state is moved to another ([`Key::rebase`]): powers of two, so that nothing is rounded.

use super::flair::WINDOW;
use super::forecaster::ERRORS_MIN;
use super::interval::{Errors, LEVELS, TABLE};
use super::ridge::{FEATURES, NORMAL};

/// Words of [`Head`].
const HEAD: usize = 20;
/// Words of one entry of the ring of origins, see [`Origin`].
const ORIGIN: usize = 7;
/// As many origins are remembered at most; with a longer horizon only each so-manieth row is one.
const ORIGINS_MAX: usize = 32;
/// Into so many parts a season is cut for how far errors spread.
pub(super) const PHASES: usize = 12;
/// Groups of horizons, at most.
const GROUPS_MAX: usize = 5;
/// Words of a group: normal equations, their solution, spread and count of errors, and the levels that hold.
const GROUP: usize = NORMAL + FEATURES + 2 + LEVELS.len();
/// Tables of errors, at most.
const TABLES_MAX: usize = 2;
/// Values beyond this many units move the state to another unit.
const UNITS_MAX: f32 = (1u32 << 20) as f32;

/// Where a key's words lie, which the parameters decide.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) ring: usize,
    pub(super) season_max: usize,
    pub(super) origins: usize,
    pub(super) stride: usize,
    /// First and last step ahead of each group of horizons, ascending, without gaps, from 1 on.
    pub(super) groups: Vec<(usize, usize)>,
    /// Words for the method's own use after the groups.
    pub(super) own: usize,
    /// Which of these are levels, and move with the origin: so many from the first on, so far apart.
    pub(super) own_levels: Option<(usize, usize)>,
    /// How many of them, the last ones, have no unit.
    pub(super) own_plain: usize,
    /// Tables of errors by size: the first groups have one each, and the last one is shared by those that are left.
    pub(super) tables: usize,
    /// Whether errors are counted in the key's unit.
    pub(super) errors_have_unit: bool,
    /// Rows between values of the same phase where no season has been found.
    pub(super) phase_period: usize,
    /// A longer period of the calendar, a multiple of that; 0 is none.
    pub(super) long_period: usize,
}

impl Shape {
    pub(super) fn new(horizon: usize, season_max: usize, own: usize, own_levels: Option<(usize, usize)>) -> Self {
        let stride = horizon.div_ceil(ORIGINS_MAX);
        let groups = groups(horizon);
        Shape {
            ring: 2 * season_max.max(WINDOW) + horizon + 1,
            origins: horizon / stride + 1,
            season_max,
            stride,
            tables: TABLES_MAX.min(groups.len()),
            groups,
            own,
            own_levels,
            own_plain: 0,
            errors_have_unit: true,
            phase_period: WINDOW,
            long_period: 0,
        }
    }

    pub(super) fn words(&self) -> usize {
        self.own_at() + self.own
    }

    fn origins_at(&self) -> usize {
        HEAD + self.ring
    }

    fn phases_at(&self) -> usize {
        self.origins_at() + (self.origins + 1) * ORIGIN
    }

    fn group_at(&self, group: usize) -> usize {
        self.phases_at() + PHASES + group * GROUP
    }

    fn table_at(&self, table: usize) -> usize {
        self.group_at(self.groups.len()) + table * TABLE
    }

    fn own_at(&self) -> usize {
        self.table_at(self.tables)
    }

    /// The table that a group's errors are counted in.
    pub(super) fn table_of(&self, group: usize) -> usize {
        group.min(self.tables - 1)
    }

    /// The groups that count in a table.
    pub(super) fn sharing(&self, table: usize) -> std::ops::Range<usize> {
        table..if table + 1 == self.tables { self.groups.len() } else { table + 1 }
    }

    /// The group of a step ahead.
    pub(super) fn group_of(&self, ahead: usize) -> usize {
        self.groups.iter().position(|(_, last)| ahead <= *last).unwrap_or(self.groups.len() - 1)
    }

    /// The group beside `group` on whose side a step ahead lies, and which share of the way from middle to middle that is; `None` where
    /// there is no group on that side.
    pub(super) fn beside(&self, group: usize, ahead: usize) -> Option<(usize, f32)> {
        let middle = |group: usize| {
            let (first, last) = self.groups[group];
            (first + last) as f32 / 2.0
        };
        let (here, ahead) = (middle(group), ahead as f32);
        let other = if ahead < here { group.checked_sub(1)? } else { group + 1 };
        let there = (ahead != here && other < self.groups.len()).then(|| middle(other))?;
        Some((other, (ahead - here) / (there - here)))
    }
}

/// The steps ahead 1, then spans that grow by the same factor: errors of near steps differ more than those of far ones.
fn groups(horizon: usize) -> Vec<(usize, usize)> {
    let mut groups = vec![(1, 1)];
    let mut count = 1;
    while count < GROUPS_MAX - 1 && 3usize.pow(count as u32) < horizon {
        count += 1;
    }
    let factor = (horizon as f64).powf(1.0 / count as f64);
    for index in 1..=count {
        let first = groups[groups.len() - 1].1 + 1;
        let last = if index == count { horizon } else { (factor.powi(index as i32).round() as usize).max(first) };
        if first <= last && last <= horizon {
            groups.push((first, last));
        }
    }
    groups
}

/// The numbers of a key of which there is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Head {
    /// Rows, missing ones included, from the first value on.
    pub(super) rows: u64,
    /// Rows with a value, as far as they are counted.
    pub(super) values: u32,
    /// Rows in a season; 0 is none.
    pub(super) season: u32,
    /// Rows in a longer season that is a multiple of it; 0 is none.
    pub(super) long: u32,
    /// The row from which on the season holds.
    pub(super) since: u64,
    /// The row at which seasons are looked for next.
    pub(super) check: u64,
    /// The unit is `2^exponent`; not known (0) before `unit_known`.
    pub(super) exponent: i32,
    pub(super) unit_known: u32,
    pub(super) origin: f64,
    /// Moving averages of the deseasonalised value and of the value.
    pub(super) fast: f32,
    pub(super) slow: f32,
    /// How far off the last forecasts were, beside the mean.
    pub(super) unrest: f32,
    /// The last row that was far off all that is usual, see `outlier.rs`.
    pub(super) far: Far,
}

/// A row that was far off.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Far {
    /// The row after it, its low word; 0 is none.
    pub(super) next: u32,
    /// What came, and how far that was from what had been forecast.
    pub(super) value: f32,
    pub(super) off: f32,
    /// How many rows after it stayed near it.
    pub(super) stayed: u32,
}

impl Head {
    fn read(words: &[u32]) -> Self {
        let long = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        Head {
            rows: long(0),
            since: long(2),
            check: long(4),
            origin: f64::from_bits(long(6)),
            values: words[8],
            season: words[9],
            long: words[10],
            exponent: words[11] as i32,
            unit_known: words[12],
            fast: f32::from_bits(words[13]),
            slow: f32::from_bits(words[14]),
            unrest: f32::from_bits(words[15]),
            far: Far {
                next: words[16],
                value: f32::from_bits(words[17]),
                off: f32::from_bits(words[18]),
                stayed: words[19],
            },
        }
    }

    fn write(&self, words: &mut [u32]) {
        let longs = [self.rows, self.since, self.check, self.origin.to_bits()];
        for (words, long) in words.chunks_exact_mut(2).zip(longs) {
            (words[0], words[1]) = (long as u32, (long >> 32) as u32);
        }
        words[8..HEAD].copy_from_slice(&[
            self.values,
            self.season,
            self.long,
            self.exponent as u32,
            self.unit_known,
            self.fast.to_bits(),
            self.slow.to_bits(),
            self.unrest.to_bits(),
            self.far.next,
            self.far.value.to_bits(),
            self.far.off.to_bits(),
            self.far.stayed,
        ]);
    }
}

/// What a key's values are kept in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    exponent: i32,
    origin: f64,
}

impl Unit {
    /// Back to what users have; never beyond the largest number.
    pub(super) fn unscaled(self, value: f64) -> f64 {
        let half = f64::from(self.exponent / 2);
        let rest = f64::from(self.exponent) - half;
        (value * half.exp2() * rest.exp2() + self.origin).clamp(-f64::MAX, f64::MAX)
    }
}

/// What forecasts from one row begin with: what is known once the row has come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Origin {
    /// Mean of the last cycle.
    pub(super) level: f32,
    /// The last value without season, less the level.
    pub(super) last: f32,
    /// Its moving average, less the level.
    pub(super) fast: f32,
    /// A slow moving average of values, less the level.
    pub(super) slow: f32,
    /// What the level has grown by: in a cycle, or without season from row to row.
    pub(super) trend: f32,
    /// Mean of the cycles that the shape is taken from.
    pub(super) base: f32,
    /// See [`Head::unrest`].
    pub(super) unrest: f32,
}

/// The state of one key, to be read and changed.
pub(super) struct Key<'a> {
    pub(super) shape: &'a Shape,
    pub(super) head: Head,
    words: &'a mut [u32],
}

/// Numbers in words.
fn floats(words: &[u32]) -> &[f32] {
    bytemuck::cast_slice(words)
}

fn floats_mut(words: &mut [u32]) -> &mut [f32] {
    bytemuck::cast_slice_mut(words)
}

/// The parts of a group's words.
pub(super) struct Group<'a> {
    /// Upper triangle of the features' products, then their products with what came.
    pub(super) normal: &'a mut [f32],
    /// What was last solved for.
    pub(super) weights: &'a mut [f32],
    /// Mean magnitude of errors, and how many there were.
    pub(super) spread: &'a mut f32,
    pub(super) count: &'a mut f32,
    pub(super) errors: Errors<'a>,
}

impl<'a> Key<'a> {
    pub(super) fn new(shape: &'a Shape, words: &'a mut [u32]) -> Self {
        Key { shape, head: Head::read(words), words }
    }

    /// Puts the head back; the rest is in its place already.
    pub(super) fn store(self) {
        self.head.write(self.words);
    }

    /// A value in the key's unit.
    pub(super) fn scaled(&self, value: f64) -> f32 {
        // In two steps: the factor alone may be beyond what a number can be.
        let half = f64::from(self.head.exponent / 2);
        let rest = f64::from(self.head.exponent) - half;
        ((value * 0.5 - self.head.origin * 0.5) * (1.0 - half).exp2() * (-rest).exp2()) as f32
    }

    /// Back to what users have; never beyond the largest number.
    pub(super) fn unscaled(&self, value: f64) -> f64 {
        self.unit().unscaled(value)
    }

    /// What its values are kept in.
    pub(super) fn unit(&self) -> Unit {
        Unit { exponent: self.head.exponent, origin: self.head.origin }
    }

    fn slot_of(&self, row: usize) -> usize {
        HEAD + row % self.shape.ring
    }

    /// The value of row `row`, one of the last `ring` ones.
    pub(super) fn value(&self, row: usize) -> f32 {
        f32::from_bits(self.words[self.slot_of(row)])
    }

    /// Appends the value of the row `head.rows`.
    pub(super) fn push(&mut self, value: f32) {
        let slot = self.slot_of(self.head.rows as usize);
        self.words[slot] = value.to_bits();
        self.head.rows += 1;
    }

    /// Puts another value in the place of the newest row's.
    pub(super) fn replace_newest(&mut self, value: f32) {
        let slot = self.slot_of(self.head.rows as usize - 1);
        self.words[slot] = value.to_bits();
    }

    /// How many rows the ring holds.
    pub(super) fn held(&self) -> usize {
        (self.head.rows as usize).min(self.shape.ring)
    }

    /// The values of the rows `[first, last)` as two runs, which the ring holds.
    pub(super) fn run(&self, first: usize, last: usize) -> (&[f32], &[f32]) {
        let ring = floats(&self.words[HEAD..HEAD + self.shape.ring]);
        let (from, count) = (first % self.shape.ring, last - first);
        let until = (from + count).min(self.shape.ring);
        (&ring[from..until], &ring[..count - (until - from)])
    }

    /// The least and the greatest of the values that the ring holds.
    pub(super) fn range(&self) -> (f32, f32) {
        let rows = self.head.rows as usize;
        let (one, two) = self.run(rows - self.held(), rows);
        let all = || one.iter().chain(two).copied();
        (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max))
    }

    /// The mean of the rows `[first, last)`.
    pub(super) fn mean(&self, first: usize, last: usize) -> f32 {
        let (one, two) = self.run(first, last);
        ((sum(one) + sum(two)) / (last - first) as f64) as f32
    }

    fn origin_at(&self, row: usize) -> usize {
        self.shape.origins_at() + row / self.shape.stride % self.shape.origins * ORIGIN
    }

    /// What was known after row `row`, a multiple of the stride and one of the last `horizon` ones.
    pub(super) fn origin(&self, row: usize) -> Origin {
        self.entry(self.origin_at(row))
    }

    pub(super) fn set_origin(&mut self, row: usize, origin: Origin) {
        self.set_entry(self.origin_at(row), origin);
    }

    /// What is known now.
    pub(super) fn newest_origin(&self) -> Origin {
        self.entry(self.shape.phases_at() - ORIGIN)
    }

    pub(super) fn set_newest_origin(&mut self, origin: Origin) {
        self.set_entry(self.shape.phases_at() - ORIGIN, origin);
    }

    fn entry(&self, at: usize) -> Origin {
        let [level, last, fast, slow, trend, base, unrest] =
            floats(&self.words[at..at + ORIGIN]).try_into().expect("an entry has as many words");
        Origin { level, last, fast, slow, trend, base, unrest }
    }

    fn set_entry(&mut self, at: usize, origin: Origin) {
        let Origin { level, last, fast, slow, trend, base, unrest } = origin;
        floats_mut(&mut self.words[at..at + ORIGIN]).copy_from_slice(&[level, last, fast, slow, trend, base, unrest]);
    }

    /// By part of the season: how far errors spread, as a multiple of the mean.
    pub(super) fn phases(&mut self) -> &mut [f32] {
        let at = self.shape.phases_at();
        floats_mut(&mut self.words[at..at + PHASES])
    }

    pub(super) fn group(&mut self, group: usize) -> Group<'_> {
        let at = self.shape.group_at(group);
        let table = self.shape.table_of(group);
        let table_at = self.shape.table_at(table);
        let (words, tables) = self.words.split_at_mut(table_at);
        let words = floats_mut(&mut words[at..at + GROUP]);
        let (normal, words) = words.split_at_mut(NORMAL);
        let (weights, words) = words.split_at_mut(FEATURES);
        let [spread, count, levels @ ..] = words else { unreachable!("a group has more words") };
        let errors = Errors::new(floats_mut(&mut tables[..TABLE]), levels, self.shape.sharing(table).len());
        Group { normal, weights, spread, count, errors }
    }

    /// The mean magnitude of a group's errors, and how many there were.
    pub(super) fn spread(&self, group: usize) -> (f32, f32) {
        let at = self.shape.group_at(group) + NORMAL + FEATURES;
        (f32::from_bits(self.words[at]), f32::from_bits(self.words[at + 1]))
    }

    /// How far off a group is beside all that count in its table, as far as that is known.
    pub(super) fn beside_table(&self, group: usize) -> f32 {
        let (mut sum, mut count) = (0.0, 0.0);
        for other in self.shape.sharing(self.shape.table_of(group)) {
            let (spread, errors) = self.spread(other);
            if errors >= ERRORS_MIN {
                sum += spread;
                count += 1.0;
            }
        }
        let spread = self.spread(group).0;
        if sum > 0.0 && spread > 0.0 { (spread * count / sum).clamp(0.1, 10.0) } else { 1.0 }
    }

    /// As [`Shape::beside`], once the group beside has seen some errors.
    pub(super) fn beside(&self, group: usize, ahead: usize) -> Option<(usize, f32)> {
        self.shape.beside(group, ahead).filter(|(other, _)| self.spread(*other).1 >= ERRORS_MIN)
    }

    /// The method's own words.
    pub(super) fn own(&mut self) -> &mut [f32] {
        let at = self.shape.own_at();
        floats_mut(&mut self.words[at..at + self.shape.own])
    }

    /// Finds a place and a unit for a value that is about to come: the first value is the origin, the first change the unit. Later, when
    /// the value is far beyond, or the level is far from the origin beside the steps between values, the state moves.
    pub(super) fn make_room(&mut self, value: f64) {
        if self.head.values == 0 {
            self.head.origin = value;
            return;
        }
        let difference = value * 0.5 - self.head.origin * 0.5;
        if difference == 0.0 {
            return;
        }
        if self.head.unit_known == 0 {
            self.head.unit_known = 1;
            let shift = exponent(difference) + 1;
            match self.head.far.off {
                0.0 => self.head.exponent = shift,
                // All that has come is the origin, but for what was far off.
                _ => self.rescale(shift),
            }
            return;
        }
        let far = self.scaled(value).abs() > UNITS_MAX;
        if far {
            let shift = exponent(difference) + 1 - self.head.exponent;
            self.rescale(shift);
        }
        if self.head.rows.is_multiple_of(64) {
            let rows = self.head.rows as usize;
            let first = rows - self.held().min(64);
            let (level, mut step) = (self.mean(first, rows), 0f32);
            for row in first + 1..rows {
                step += (self.value(row) - self.value(row - 1)).abs();
            }
            let step = step / (rows - first - 1).max(1) as f32;
            if step > 0.0 && level.abs() > 1024.0 * step {
                self.recentre(level);
            }
        }
    }

    /// Moves to a unit that is `2^shift` times as large.
    fn rescale(&mut self, shift: i32) {
        let factor = (-shift as f32).exp2().min(f32::MAX);
        self.head.exponent += shift;
        self.head.fast *= factor;
        self.head.slow *= factor;
        self.head.far.value *= factor;
        self.head.far.off *= factor;
        let (ring, phases) = (self.shape.origins_at(), self.shape.phases_at());
        floats_mut(&mut self.words[HEAD..ring]).iter_mut().for_each(|value| *value *= factor);
        for origin in floats_mut(&mut self.words[ring..phases]).chunks_exact_mut(ORIGIN) {
            // All but unrest, which has no unit.
            origin[..ORIGIN - 1].iter_mut().for_each(|value| *value *= factor);
        }
        let has_unit = self.shape.own - self.shape.own_plain;
        self.own()[..has_unit].iter_mut().for_each(|value| *value *= factor);
        for group in 0..self.shape.groups.len() {
            let group = self.group(group);
            group.normal.iter_mut().for_each(|value| *value = *value * factor * factor);
            *group.spread *= factor;
        }
        if self.shape.errors_have_unit {
            for table in 0..self.shape.tables {
                self.group(table).errors.rescale(shift);
            }
        }
    }

    /// Moves the origin by so many units.
    fn recentre(&mut self, by: f32) {
        let origin = self.unscaled(f64::from(by));
        // What was rounded away in the move of the origin.
        let by = self.scaled(origin);
        self.head.origin = origin;
        self.head.fast -= by;
        self.head.slow -= by;
        self.head.far.value -= by;
        let (ring, origins) = (HEAD, self.shape.origins_at());
        let phases = self.shape.phases_at();
        floats_mut(&mut self.words[ring..origins]).iter_mut().for_each(|value| *value -= by);
        for origin in floats_mut(&mut self.words[origins..phases]).chunks_exact_mut(ORIGIN) {
            origin[0] -= by;
            origin[5] -= by;
        }
        let levels = self.shape.own_levels;
        if let Some((count, apart)) = levels {
            self.own().iter_mut().step_by(apart).take(count).for_each(|level| *level -= by);
        }
    }
}

/// `e` with `2^e <= |value| < 2^(e + 1)`.
fn exponent(value: f64) -> i32 {
    (((value.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(-1000)
}

/// In lanes, so that the compiler adds several at once, and the same on each machine.
fn sum(values: &[f32]) -> f64 {
    let mut lanes = [0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    f64::from(lanes.iter().sum::<f32>() + rest)
}
