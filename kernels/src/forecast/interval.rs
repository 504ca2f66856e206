//! How far forecasts are off: errors by size, and levels that are moved until they hold.
//!
//! Errors of a group of horizons are counted in bins whose edges are powers of the square root of two, on both sides of zero: the same
//! relative precision for any magnitude, and a change of unit by a power of two moves bins and rounds nothing. Old errors weigh less.
//!
//! How errors are spread about their mean magnitude is much the same a few steps ahead and many, and a short series has few of each. So
//! groups of horizons but the first share one table: each counts its errors as if it were as far off as all of them are in the mean.
//!
//! A quantile of past errors holds for the next one only while they are alike. So each of some levels is itself moved: down when what
//! came lay above it, up when below, until as many lie below as it says (adaptive conformal inference; Gibbs & Candès, "Adaptive
//! conformal inference under distribution shift", 2021). That holds the rate under any drift; levels between are interpolated. Errors of
//! forecasts that overlap follow each other, and steps that follow each other add up: levels of far horizons move as much more slowly.

/// Bins of one sign.
const SIDE: usize = 16;
/// Both signs, and zero.
pub(super) const BINS: usize = 2 * SIDE + 1;
/// The levels that are moved.
pub(super) const LEVELS: [f32; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
/// By so much is a level moved at most by errors that say something new.
const RATE: f32 = 0.004;
/// Errors of a row weigh so much more than those of the row before: twice as much after 250.
pub(super) const GROWTH: f32 = 1.002_776_4;
/// The same where levels have to follow errors that a plain method makes for long: twice as much after 500.
pub(super) const GROWTH_PLAIN: f32 = 1.001_387_3;
/// Errors of forecasts that overlap say little that is new: of those of one forecast, this share.
const OVERLAP: f32 = 0.5;
/// How many errors are the first ones.
const FIRST: f32 = 32.0;
/// Weights grow to this before all are divided by it.
const GAIN_MAX: f32 = 1e6;
/// A top bin that has less than this share of the errors makes room at the bottom.
const RARE: f32 = 1e-3;

/// `2^(k / 2)`, without a library's function: the same on each machine.
fn half_power(k: i32) -> f32 {
    let power = k.div_euclid(2);
    let even = match power {
        -1022..=1023 => f64::from_bits(((power + 1023) as u64) << 52),
        ..-1022 => 0.0,
        _ => f64::MAX,
    };
    (if k.rem_euclid(2) == 1 { even * std::f64::consts::SQRT_2 } else { even }) as f32
}

/// The greatest `k` with `2^(k / 2) <= |error|`: the exponent of its square.
fn half_exponent(error: f32) -> i32 {
    let square = f64::from(error) * f64::from(error);
    ((square.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// Words of a table of errors,
pub(super) const TABLE: usize = BINS + 3;

/// The errors of one group: words of its state, and of those that the table is of.
pub(super) struct Errors<'a> {
    /// From the most negative to the most positive.
    bins: &'a mut [f32],
    /// The exponent of the lowest edge, in half powers of two.
    offset: &'a mut f32,
    /// What the next error weighs.
    gain: &'a mut f32,
    /// Sum of all bins.
    total: &'a mut f32,
    levels: &'a mut [f32],
    /// How many groups count in the table.
    sharing: f32,
}

impl<'a> Errors<'a> {
    /// [`TABLE`] words, in which so many groups count, and a group's own, as many as there are levels; zeros are a start.
    pub(super) fn new(table: &'a mut [f32], levels: &'a mut [f32], sharing: usize) -> Self {
        let (bins, words) = table.split_at_mut(BINS);
        let [offset, gain, total] = words else { unreachable!("there are three more words") };
        Errors { bins, offset, gain, total, levels, sharing: sharing as f32 }
    }

    /// How many errors of today's weight they amount to, of each of those groups.
    pub(super) fn weight(&self) -> f32 {
        if *self.gain > 0.0 { *self.total / *self.gain / self.sharing } else { 0.0 }
    }

    /// The unit has become `2^shift` times as large.
    pub(super) fn rescale(&mut self, shift: i32) {
        *self.offset -= 2.0 * shift as f32;
    }

    fn edge(&self, index: usize) -> f32 {
        half_power(*self.offset as i32 + index as i32)
    }

    /// Where the errors of a bin lie.
    fn bounds(&self, bin: usize) -> (f32, f32) {
        let side =
            |index: usize| if index == 0 { (0.0, self.edge(0)) } else { (self.edge(index - 1), self.edge(index)) };
        match bin {
            SIDE => (0.0, 0.0),
            bin if bin < SIDE => {
                let (near, far) = side(SIDE - 1 - bin);
                (-far, -near)
            }
            bin => side(bin - SIDE - 1),
        }
    }

    /// The bin of an error, after the bins have moved to where it has one.
    fn bin(&mut self, error: f32) -> usize {
        if error == 0.0 {
            return SIDE;
        }
        let exponent = (half_exponent(error) + 1) as f32;
        let any = self.bins.iter().enumerate().any(|(bin, weight)| bin != SIDE && *weight > 0.0);
        if !any {
            *self.offset = exponent - 10.0;
        }
        let above = exponent - *self.offset - (SIDE - 1) as f32;
        if above > 0.0 {
            self.raise(above as usize);
        }
        let index = (exponent - *self.offset).max(0.0) as usize;
        if error < 0.0 { SIDE - 1 - index } else { SIDE + 1 + index }
    }

    /// Moves the range up by so many bins.
    fn raise(&mut self, by: usize) {
        let (low, high) = self.bins.split_at_mut(SIDE);
        let mut sides = [[0f32; SIDE]; 2];
        for index in 0..SIDE {
            let to = index.saturating_sub(by);
            sides[0][to] += low[SIDE - 1 - index];
            sides[1][to] += high[1 + index];
        }
        for index in 0..SIDE {
            low[SIDE - 1 - index] = sides[0][index];
            high[1 + index] = sides[1][index];
        }
        *self.offset += by as f32;
    }

    /// Moves the range down by one bin: what lay in the lowest one is taken to be even in it.
    fn lower(&mut self) {
        let (low, high) = self.bins.split_at_mut(SIDE);
        let high = &mut high[1..];
        low.reverse();
        for side in [&mut *low, high] {
            let (top, lowest) = (side[SIDE - 1], side[0]);
            side.copy_within(0..SIDE - 1, 1);
            side[SIDE - 1] += top;
            side[0] = lowest * std::f32::consts::FRAC_1_SQRT_2;
            side[1] = lowest - side[0];
        }
        low.reverse();
        *self.offset -= 1.0;
    }

    /// The share of errors below this one; those equal to it, as far as bins tell, count by `even`, evenly drawn from 0 to 1.
    fn share_below(&self, error: f32, bin: usize, even: f32) -> f32 {
        if *self.total <= 0.0 {
            return 0.5;
        }
        let below: f32 = self.bins[..bin].iter().sum();
        let (from, to) = self.bounds(bin);
        // The bins next to zero have all that is smaller, mostly one and the same value: where in them does not tell.
        let near = (SIDE - 1..=SIDE + 1).contains(&bin);
        let within = if near { even } else { ((error - from) / (to - from)).clamp(0.0, 1.0) };
        (below + within * self.bins[bin]) / *self.total
    }

    /// Moves levels by an error that has come, of a forecast of so many steps, then counts it. `even` is evenly drawn from 0 to 1.
    pub(super) fn learn(&mut self, error: f32, span: usize, even: f32) {
        if *self.gain <= 0.0 {
            *self.gain = 1.0;
        }
        if self.levels[0] <= 0.0 {
            self.levels.copy_from_slice(&LEVELS);
        }
        let bin = self.bin(error);
        if self.weight() >= 16.0 {
            let share = self.share_below(error, bin, even);
            let rate = RATE / (OVERLAP * span as f32).max(1.0);
            for (moved, level) in self.levels.iter_mut().zip(LEVELS) {
                let below = if share < *moved { 1.0 } else { 0.0 };
                *moved = (*moved + rate * (level - below)).clamp(level * 0.2, 1.0 - (1.0 - level) * 0.2);
            }
        }
        self.bins[bin] += *self.gain;
        *self.total += *self.gain;
    }

    /// Lets what has been counted so far weigh less: once in a row, the `count`-th one of the table.
    pub(super) fn age(&mut self, count: f32, growth: f32) {
        if *self.gain <= 0.0 {
            return;
        }
        // The first ones are those of a forecaster that knows nothing yet: at first each weighs by how many there are.
        *self.gain *= if count < FIRST { 1.0 + 1.0 / count } else { growth };
        if *self.gain > GAIN_MAX {
            self.bins.iter_mut().for_each(|weight| *weight /= GAIN_MAX);
            *self.total /= GAIN_MAX;
            *self.gain /= GAIN_MAX;
        }
        let top = self.bins[0] + self.bins[1] + self.bins[BINS - 2] + self.bins[BINS - 1];
        if top < RARE * *self.total && self.bins[SIDE - 1] + self.bins[SIDE + 1] > 0.1 * *self.total {
            self.lower();
        }
    }

    /// The level that is to be asked for, so that `level` holds.
    fn moved(&self, level: f32) -> f32 {
        if self.levels[0] <= 0.0 {
            return level;
        }
        let (mut before, mut moved_before) = (0.0, 0.0);
        for (next, moved) in LEVELS.into_iter().zip(self.levels.iter().copied()).chain([(1.0, 1.0)]) {
            let moved = f32::max(moved, moved_before);
            if level <= next {
                return moved_before + (moved - moved_before) * (level - before) / (next - before);
            }
            (before, moved_before) = (next, moved);
        }
        1.0
    }

    /// The quantile of errors at a level. With few errors it lies further out: the next one may be beyond all.
    pub(super) fn quantile(&self, level: f32, span: usize) -> f32 {
        if *self.total <= 0.0 {
            return 0.0;
        }
        let level = self.moved(level);
        let count = (self.weight() / (OVERLAP * span as f32).max(1.0)).max(1.0);
        let level = (0.5 + (level - 0.5) * (1.0 + 1.0 / count)).clamp(0.0, 1.0);
        let wanted = level * *self.total;
        let mut below = 0.0;
        let mut last = 0.0;
        for bin in 0..BINS {
            let weight = self.bins[bin];
            if weight <= 0.0 {
                continue;
            }
            let (from, to) = self.bounds(bin);
            if below + weight >= wanted {
                return from + (to - from) * ((wanted - below) / weight).clamp(0.0, 1.0);
            }
            below += weight;
            last = to;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::forecaster::mix;
    use proptest::prelude::*;

    fn words() -> [Vec<f32>; 2] {
        [vec![0.0; TABLE], vec![0.0; LEVELS.len()]]
    }

    /// Takes in an error of one step ahead, one of many.
    fn learn(errors: &mut Errors<'_>, error: f32, even: f32) {
        errors.learn(error, 1, even);
        errors.age(1e6, GROWTH);
    }

    proptest! {
        /// A bin is no wider than a factor of the square root of two, so a quantile is no further off than that.
        #[test]
        fn quantiles_are_those_of_the_errors(salt in 0u32..1000, exponent in -30i32..30, count in 100usize..400) {
            let error = |row: usize| {
                let even = mix(row as u32, salt) as f32 / u32::MAX as f32 - 0.4;
                even * even.abs() * half_power(2 * exponent)
            };
            let [mut table, mut levels] = words();
            let mut errors = Errors::new(&mut table, &mut levels, 1);
            (0..count).for_each(|row| learn(&mut errors, error(row), 0.5));
            errors.levels.copy_from_slice(&LEVELS);
            let mut sorted: Vec<f32> = (0..count).map(error).collect();
            sorted.sort_by(f32::total_cmp);
            for level in [0.1, 0.25, 0.75, 0.9] {
                let found = errors.quantile(level, 1);
                // Old errors weigh less, and the level lies further out by one over the count.
                let rank = |by: f32| sorted[(((level + by) * count as f32) as usize).min(count - 1)];
                let (low, high) = (rank(-0.06), rank(0.06));
                let factor = std::f32::consts::SQRT_2;
                let (low, high) = (low.min(low / factor).min(low * factor), high.max(high / factor).max(high * factor));
                prop_assert!(low <= found && found <= high, "{} at {}: not from {} to {}", found, level, low, high);
            }
        }

        /// A change of unit by a power of two is no change.
        #[test]
        fn units_do_not_show(salt in 0u32..1000, shift in -40i32..40) {
            let error = |row: usize| mix(row as u32, salt) as f32 / u32::MAX as f32 - 0.5;
            let ([mut table, mut levels], [mut other, mut others]) = (words(), words());
            let mut one = Errors::new(&mut table, &mut levels, 1);
            let mut two = Errors::new(&mut other, &mut others, 1);
            for row in 0..100 {
                learn(&mut one, error(row), 0.5);
                learn(&mut two, error(row), 0.5);
            }
            two.rescale(shift);
            for row in 100..200 {
                learn(&mut one, error(row), 0.5);
                learn(&mut two, error(row) * half_power(-2 * shift), 0.5);
            }
            for level in [0.05, 0.5, 0.95] {
                prop_assert_eq!(one.quantile(level, 1), two.quantile(level, 1) * half_power(2 * shift));
            }
        }
    }

    /// After the spread has fallen or grown by much, quantiles are again as fine as before: each where errors are remembered for long, and in
    /// the mean where they are fewer.
    #[test]
    fn bins_follow_the_spread() {
        let even = |row: usize| mix(row as u32, 7) as f32 / u32::MAX as f32 - 0.5;
        for growth in [GROWTH_PLAIN, GROWTH] {
            let [mut table, mut levels] = words();
            let mut errors = Errors::new(&mut table, &mut levels, 1);
            for scale in [1.0, 1e-4, 1e4] {
                let mut mean = 0.0;
                for row in 0..20_000 {
                    errors.learn(scale * even(row), 1, mix(row as u32, 8) as f32 / u32::MAX as f32);
                    errors.age(1e6, growth);
                    if row >= 10_000 {
                        mean += errors.quantile(0.9, 1) / scale / 10_000.0;
                    }
                }
                assert!((mean - 0.4).abs() < 0.01, "{mean} at {scale}");
                let last = errors.quantile(0.9, 1) / scale;
                assert!(growth == GROWTH || (last - 0.4).abs() < 0.03, "{last} at {scale}");
            }
        }
    }

    /// Groups that share a table ask it as if it were their own: as many errors of each are as good as one table of that many, and a level
    /// moves by what its own group's errors do.
    #[test]
    fn a_shared_table_is_as_good_as_one() {
        let ([mut table, mut levels], [mut shared, mut near]) = (words(), words());
        let mut far = vec![0.0; LEVELS.len()];
        let error = |row: usize| mix(row as u32, 9) as f32 / u32::MAX as f32 - 0.5;
        for row in 0..300 {
            learn(&mut Errors::new(&mut table, &mut levels, 1), error(row), 0.5);
            Errors::new(&mut shared, &mut near, 2).learn(error(row), 1, 0.5);
            let mut errors = Errors::new(&mut shared, &mut far, 2);
            errors.learn(error(row), 1, 0.5);
            errors.age(1e6, GROWTH);
        }
        let (one, two) = (Errors::new(&mut table, &mut levels, 1), Errors::new(&mut shared, &mut near, 2));
        assert!((one.weight() / two.weight() - 1.0).abs() < 1e-4, "{} and {}", one.weight(), two.weight());
        for level in [0.1, 0.5, 0.9] {
            let (one, two) = (one.quantile(level, 4), two.quantile(level, 4));
            assert!((one - two).abs() < 0.02, "{one} and {two} at {level}");
        }
    }

    /// Errors of forecasts that overlap come in runs: levels of far horizons do not run after them.
    #[test]
    fn levels_of_far_horizons_move_slowly() {
        let moved = |span: usize| {
            let [mut table, mut levels] = words();
            let mut errors = Errors::new(&mut table, &mut levels, 1);
            for row in 0..100 {
                errors.learn(mix(row, 10) as f32 / u32::MAX as f32 - 0.5, span, 0.5);
                errors.age(1e6, GROWTH);
            }
            let before = errors.moved(0.9);
            for nth in 0..12 {
                errors.learn(half_power(2 * nth), span, 0.5);
                errors.age(1e6, GROWTH);
            }
            errors.moved(0.9) - before
        };
        let (near, far) = (moved(1), moved(24));
        assert!(near > 0.03 && (far * 12.0 - near).abs() < 0.1 * near, "{near} and {far}");
    }
}
