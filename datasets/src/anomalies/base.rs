//! What the series are like where nothing is wrong.
//!
//! A course is kept in two parts, the regular shape and the noise on it, because anomalies treat them apart: a cycle that runs
//! twice as fast still has the noise of before, and a noisier sensor still follows the shape. For courses without a regular
//! shape (a walk, an autoregression) the path stands where an anomaly should find it: see [`Course::new`].

use crate::math::{exp, sine_of_turn};
use crate::random::{Draws, below, gaussian, high, low, unit};

/// Rows per day of event time, for courses that follow the day: one row each half hour.
pub const DAY_ROWS: usize = 48;

/// The course of a series without anomalies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Base {
    /// Independent normal values around a level.
    Noise,
    /// An autoregression of order one, coefficient 0.8.
    Autoregressive,
    /// A random walk.
    RandomWalk,
    /// A season of a day with two humps.
    Daily,
    /// A season of a day, with less at the weekend.
    Weekly,
    /// Cycles that rise in a straight line and fall at once.
    Sawtooth,
    /// Cycles that switch between two levels.
    Square,
    /// Cycles like an electrocardiogram's: flat, with a sharp peak and waves around it.
    Heartbeat,
    /// Counts that come in bursts.
    Bursts,
    /// A straight line with noise.
    Trend,
    /// A season of a day on a straight line.
    DailyTrend,
}

impl Base {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Noise,
        Self::Autoregressive,
        Self::RandomWalk,
        Self::Daily,
        Self::Weekly,
        Self::Sawtooth,
        Self::Square,
        Self::Heartbeat,
        Self::Bursts,
        Self::Trend,
        Self::DailyTrend,
    ];

    /// The text in the column `base`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Autoregressive => "autoregressive",
            Self::RandomWalk => "random_walk",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Sawtooth => "sawtooth",
            Self::Square => "square",
            Self::Heartbeat => "heartbeat",
            Self::Bursts => "bursts",
            Self::Trend => "trend",
            Self::DailyTrend => "daily_trend",
        }
    }

    /// Whether it repeats a shape, so that there are cycles to miss, to turn round or to shift.
    pub fn is_cyclic(self) -> bool {
        matches!(self, Self::Daily | Self::Weekly | Self::Sawtooth | Self::Square | Self::Heartbeat | Self::DailyTrend)
    }

    /// Whether it goes somewhere, so that the direction can change.
    pub fn has_trend(self) -> bool {
        matches!(self, Self::Trend | Self::DailyTrend)
    }
}

/// A course, row by row, before it is scaled.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) shape: Vec<f64>,
    pub(super) noise: Vec<f64>,
    /// Rows per cycle of the shape; 0 where there is none. A week counts as its days.
    pub(super) period: usize,
    /// How far the noise goes, as a standard deviation; of a walk, how far one step goes.
    pub(super) noise_sd: f64,
    /// From the bottom to the top of a cycle; 0 without cycles.
    pub(super) swing: f64,
    /// What is taken away with every row, of a straight line.
    pub(super) slope: f64,
    scale: f64,
    level: f64,
    /// Values are whole numbers from 0 on.
    is_count: bool,
}

impl Course {
    /// The course of `length` rows that belongs to the seed; a longer one begins with the same rows.
    pub(super) fn new(base: Base, seed: u64, length: usize) -> Self {
        let draws = Draws::new(seed, base.name());
        let character = draws.of(0);
        let noise = draws.of(1);
        let share = |n: u64| unit(high(character.at(n)));
        let mut course = Self {
            shape: vec![0.0; length],
            noise: (0..length as u64).map(|row| gaussian(noise.at(row))).collect(),
            period: 0,
            noise_sd: 1.0,
            swing: 0.0,
            slope: 0.0,
            scale: exp(6.0 * share(0) - 2.0),
            level: 0.0,
            is_count: false,
        };
        // Well above zero, so that zero is out of the ordinary.
        let mut level = 8.0 + 12.0 * share(1);
        match base {
            Base::Noise => {}
            Base::Autoregressive => {
                const COEFFICIENT: f64 = 0.8;
                let mut value = 0.0;
                for noise in &mut course.noise {
                    // Innovations of standard deviation 0.6 give the course one of 1.
                    value = COEFFICIENT * value + 0.6 * *noise;
                    *noise = value;
                }
            }
            Base::RandomWalk => {
                let mut value = 0.0;
                for (shape, noise) in course.shape.iter_mut().zip(&mut course.noise) {
                    value += *noise;
                    *shape = value;
                    *noise *= 0.1;
                }
                level = 60.0 + 60.0 * share(1);
            }
            Base::Daily | Base::Weekly | Base::DailyTrend => {
                course.seasons(base, character);
                level = 1.0 + 2.0 * share(1);
            }
            Base::Sawtooth | Base::Square | Base::Heartbeat => {
                course.cycles(base, character);
                level = 1.0 + 2.0 * share(1);
            }
            Base::Bursts => {
                course.bursts(character, noise);
                course.scale = 1.0;
                level = 0.0;
            }
            Base::Trend => {
                // Over 2,000 rows the line goes 10 to 40 times as far as the noise.
                course.slope = (0.005 + 0.015 * share(2)) * if share(3) < 0.5 { -1.0 } else { 1.0 };
                course.incline();
                level = 450.0;
            }
        }
        course.level = level;
        course
    }

    /// What the series shows for a shape and a noise.
    pub(super) fn finish(&self, value: f64) -> f64 {
        let value = (value + self.level) * self.scale;
        if self.is_count { value.round().max(0.0) } else { value }
    }

    /// The value, before [`Self::finish`], that the series shows as 0.
    pub(super) fn zero(&self) -> f64 {
        -self.level
    }

    /// The values of the rows that nothing has happened to.
    pub(super) fn values(&self) -> Vec<f64> {
        self.shape.iter().zip(&self.noise).map(|(shape, noise)| self.finish(shape + noise)).collect()
    }

    fn incline(&mut self) {
        for (row, shape) in self.shape.iter_mut().enumerate() {
            *shape += self.slope * row as f64;
        }
    }

    fn seasons(&mut self, base: Base, character: Draws) {
        let share = |n: u64| unit(low(character.at(n)));
        let (second, third) = (0.2 + 0.4 * share(0), 0.25 * share(1));
        let (phase, second_phase, third_phase) = (share(2), share(3), share(4));
        let weekend = 0.25 + 0.35 * share(5);
        let curve = |turn: f64| {
            sine_of_turn(turn + phase)
                + second * sine_of_turn(2.0 * turn + second_phase)
                + third * sine_of_turn(3.0 * turn + third_phase)
        };
        let day: Vec<f64> = (0..DAY_ROWS).map(|row| curve(row as f64 / DAY_ROWS as f64)).collect();
        let (bottom, top) = day.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        let days = character.of(1);
        for (row, shape) in self.shape.iter_mut().enumerate() {
            let (number, place) = (row / DAY_ROWS, row % DAY_ROWS);
            // No day is quite as busy as the next one; the stream begins on a Monday.
            let busy = 1.0 + 0.03 * gaussian(days.at(number as u64));
            let workday = if base == Base::Weekly && number % 7 >= 5 { weekend } else { 1.0 };
            *shape = (day[place] - bottom) / (top - bottom) * busy * workday;
        }
        self.set_noise(0.02 + 0.08 * share(6));
        self.period = DAY_ROWS;
        self.swing = 1.0;
        if base == Base::DailyTrend {
            // A tenth to a third of a day's swing per week.
            self.slope = (0.1 + 0.23 * share(7)) / (7.0 * DAY_ROWS as f64);
            self.incline();
        }
    }

    fn cycles(&mut self, base: Base, character: Draws) {
        let share = |n: u64| unit(low(character.at(n)));
        let period = match base {
            Base::Heartbeat => 60 + below(high(character.at(10)), 61),
            _ => 24 + below(high(character.at(10)), 77),
        } as usize;
        let duty = 0.3 + 0.4 * share(0);
        let cycle: Vec<f64> = (0..period)
            .map(|row| {
                let phase = row as f64 / period as f64;
                match base {
                    Base::Sawtooth => phase,
                    Base::Square => f64::from(u8::from(phase < duty)),
                    _ => heartbeat(phase),
                }
            })
            .collect();
        let beats = character.of(1);
        for (row, shape) in self.shape.iter_mut().enumerate() {
            let strength = 1.0 + 0.02 * gaussian(beats.at((row / period) as u64));
            *shape = cycle[row % period] * strength;
        }
        self.set_noise(0.01 + 0.05 * share(1));
        self.period = period;
        self.swing = 1.0;
    }

    fn bursts(&mut self, character: Draws, noise: Draws) {
        const ROWS_BETWEEN_BURSTS: u32 = 80;
        let share = |n: u64| unit(low(character.at(n)));
        let rate = 8.0 + 22.0 * share(0);
        let bursts = character.of(1);
        let (mut rows_left, mut strength) = (0, 1.0);
        let mut squares = 0.0;
        for row in 0..self.shape.len() {
            let bits = bursts.at(row as u64);
            if rows_left == 0 && below(high(bits), ROWS_BETWEEN_BURSTS) == 0 {
                rows_left = 3 + below(low(bits), 10);
                strength = 2.0 + 3.0 * unit(low(bits.rotate_left(13)));
            }
            let mean = if rows_left > 0 { rate * strength } else { rate };
            rows_left = rows_left.saturating_sub(1);
            self.shape[row] = mean;
            self.noise[row] = poisson(mean, noise.at(row as u64)) - mean;
            squares += self.noise[row] * self.noise[row];
        }
        self.noise_sd = (squares / self.shape.len().max(1) as f64).sqrt();
        // As far as a burst goes: what is beyond is no burst.
        self.swing = 4.0 * rate;
        self.is_count = true;
    }

    fn set_noise(&mut self, sd: f64) {
        self.noise.iter_mut().for_each(|noise| *noise *= sd);
        self.noise_sd = sd;
    }
}

/// One beat at `phase` of the cycle: the waves P, Q, R, S and T as bumps.
fn heartbeat(phase: f64) -> f64 {
    const WAVES: [(f64, f64, f64); 5] =
        [(0.12, 0.2, 0.035), (-0.15, 0.36, 0.015), (1.0, 0.4, 0.018), (-0.25, 0.44, 0.018), (0.3, 0.65, 0.06)];
    WAVES
        .iter()
        .map(|(height, centre, width)| {
            let distance = (phase - centre) / width;
            let square = distance * distance;
            if square > 30.0 { 0.0 } else { height * exp(-square) }
        })
        .sum()
}

/// A count of mean `mean`, from one draw.
pub(super) fn poisson(mean: f64, bits: u64) -> f64 {
    const BY_INVERSION_MAX: f64 = 30.0;
    if mean > BY_INVERSION_MAX {
        // The square root of a count is nearly normal with variance 1/4 (Anscombe 1948).
        let root = (mean - 0.125).max(0.0).sqrt() + 0.5 * gaussian(bits);
        return (root.max(0.0) * root.max(0.0)).round();
    }
    let target = unit(high(bits)) + unit(low(bits)) / 4_294_967_296.0;
    let (mut count, mut probability) = (0.0, exp(-mean));
    let mut sum = probability;
    // Ends at the latest where the sum cannot grow any more.
    while sum < target && probability > 1e-18 {
        count += 1.0;
        probability *= mean / count;
        sum += probability;
    }
    count
}
