//! Series of many kinds to learn forecasting from: random mixtures of trend, seasons, walks, shifts, spikes and noise.
//!
//! A forecaster that has seen a thousand random kinds of series has seen what a new one is made of. So each series here is drawn from a
//! family that is wide rather than true to any one source: what its parts are, how strong each is beside the others, and how they are put
//! together (added, multiplied, counted, cut off, switched on and off) are all drawn by its number. As everything here, a series is a pure
//! function of (seed, number), and a longer one begins with the same rows.

use crate::math::{exp, sine_of_turn};
use crate::random::{Draws, below, gaussian, high, low, unit};

/// Periods that calendars give: hours of a day, days of a week, five or ten minutes of an hour or a day, and so on.
const CALENDAR: [u32; 14] = [7, 12, 24, 24, 24, 48, 60, 96, 144, 168, 288, 288, 288, 52];
/// The longest season of a series, in rows.
pub const SEASON_MAX: u32 = 336;

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// Its values, at a fixed distance.
    pub values: Vec<f32>,
    /// The rows of its season; 0 if it has none.
    pub season: u32,
    /// The rows of a longer season, a multiple of it; 0 if it has none.
    pub long_season: u32,
}

/// The series of a seed with this number.
pub fn series(seed: u64, number: u64, rows: usize) -> Mixture {
    let draws = Draws::new(seed, "mixtures").of(number);
    let character = Character::new(draws.of(0));
    character.series(draws, rows)
}

/// A share of cases.
fn happens(draws: Draws, n: u64, share: f64) -> bool {
    unit(high(draws.at(n))) < share
}

/// Evenly from `low` to `high`.
fn between(draws: Draws, n: u64, from: f64, to: f64) -> f64 {
    from + (to - from) * unit(low(draws.at(n)))
}

/// From `low` to `high`, each order of magnitude as often as another.
fn magnitude(draws: Draws, n: u64, from: f64, to: f64) -> f64 {
    from * exp(between(draws, n, 0.0, 1.0) * crate::math::ln(to / from))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Noise {
    Normal,
    /// Tails like those of Student's t with few degrees of freedom.
    Heavy,
    /// Only upwards, like waiting times.
    Exponential,
    /// As strong as the season is at the time.
    Seasonal,
}

/// How the parts become a value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Sum,
    /// The exponential of the sum.
    Product,
    /// Never below zero, in whole numbers.
    Count,
    /// Mostly zero.
    Intermittent,
    /// Cut off at a floor and a ceiling.
    Clamped,
    /// One of two states, with noise.
    Switched,
    /// Changed only now and then.
    Held,
}

/// What is drawn once for a series.
#[derive(Debug)]
struct Character {
    season: u32,
    long_season: u32,
    /// One cycle, of mean about 0 and a size of about 1.
    cycle: Vec<f64>,
    amplitude: f64,
    /// What the season is multiplied by on the last two sevenths of the long season.
    weekend: f64,
    /// How much cycles differ in strength.
    restless: f64,
    noise: Noise,
    noise_sd: f64,
    /// Of the noise: what stays from row to row.
    memory: f64,
    walk_sd: f64,
    slope: f64,
    /// Rows between changes of the slope, on average; 0: never.
    bends: f64,
    /// Rows between shifts of the level, on average; 0: never.
    shifts: f64,
    shift_sd: f64,
    /// Rows between spikes, on average; 0: never.
    spikes: f64,
    spike_size: f64,
    form: Form,
    level: f64,
    /// The form's own number, from 0 to 1.
    share: f64,
}

impl Character {
    fn new(draws: Draws) -> Self {
        let (season, long_season) = seasons(draws);
        let noise = match below(high(draws.at(10)), 10) {
            0..=5 => Noise::Normal,
            6 | 7 => Noise::Heavy,
            8 => Noise::Exponential,
            _ => Noise::Seasonal,
        };
        let form = match below(high(draws.at(11)), 40) {
            0..=21 => Form::Sum,
            22..=26 => Form::Product,
            27..=29 => Form::Count,
            30 | 31 => Form::Intermittent,
            32..=34 => Form::Clamped,
            35 | 36 => Form::Switched,
            _ => Form::Held,
        };
        let some = |n: u64, share: f64, from: f64, to: f64| {
            if happens(draws, n, share) { magnitude(draws, n, from, to) } else { 0.0 }
        };
        Character {
            season,
            long_season,
            cycle: cycle(draws.of(1), season as usize),
            amplitude: magnitude(draws, 12, 0.3, 6.0),
            weekend: between(draws, 13, -0.2, 0.9),
            restless: some(14, 0.5, 0.02, 0.3),
            noise,
            noise_sd: magnitude(draws, 15, 0.02, 1.5),
            memory: if happens(draws, 16, 0.5) { between(draws, 16, 0.2, 0.99) } else { 0.0 },
            walk_sd: some(17, 0.45, 0.003, 1.0),
            slope: some(18, 0.4, 0.0003, 0.05) * if happens(draws, 19, 0.5) { 1.0 } else { -1.0 },
            bends: some(20, 0.3, 50.0, 1000.0),
            shifts: some(21, 0.3, 60.0, 2000.0),
            shift_sd: magnitude(draws, 22, 0.5, 8.0),
            spikes: some(23, 0.3, 15.0, 500.0),
            spike_size: magnitude(draws, 24, 2.0, 30.0),
            form,
            level: between(draws, 25, -3.0, 3.0),
            share: between(draws, 26, 0.0, 1.0),
        }
    }

    fn series(&self, draws: Draws, rows: usize) -> Mixture {
        let (noise, walk, events, cycles) = (draws.of(2), draws.of(3), draws.of(4), draws.of(5));
        let (mut level, mut slope, mut kept, mut is_on) = (self.level, self.slope, 0.0, false);
        let mut held = f64::NAN;
        // Noise that stays keeps its strength.
        let fresh = (1.0 - self.memory * self.memory).sqrt();
        let mut values = Vec::with_capacity(rows);
        for row in 0..rows as u64 {
            let season = self.season_at(row, cycles);
            let event =
                |kind: u64, between: f64| between > 0.0 && unit(high(events.at(8 * row + kind))) * between < 1.0;
            let size = |kind: u64| gaussian(events.of(1).at(8 * row + kind));
            if event(0, self.bends) {
                slope = self.slope.abs().max(0.001) * 2.0 * size(0);
            }
            if event(1, self.shifts) {
                level += self.shift_sd * size(1);
            }
            level += slope + self.walk_sd * gaussian(walk.at(row));
            kept = self.memory * kept + fresh * self.noise_at(noise, row, season);
            let mut sum = level + season + self.noise_sd * kept;
            if event(2, self.spikes) {
                sum += self.spike_size * (1.0 + 0.3 * size(2)) * if self.share < 0.8 { 1.0 } else { -1.0 };
            }
            let value = match self.form {
                Form::Sum => sum,
                Form::Product => exp((0.5 * sum).clamp(-12.0, 12.0)),
                Form::Count => (2.0 + 20.0 * self.share * (sum - self.level + 1.0)).max(0.0).floor(),
                Form::Intermittent => {
                    let often = 0.03 + 0.5 * self.share;
                    if event(3, 1.0 / often) { (3.0 + sum.abs()).floor() } else { 0.0 }
                }
                Form::Clamped => sum.clamp(self.level - 3.0 * self.share, self.level + 4.0 * (1.0 - 0.5 * self.share)),
                Form::Switched => {
                    if event(4, 10.0 + 90.0 * self.share) {
                        is_on = !is_on;
                    }
                    (if is_on { 5.0 } else { 0.0 }) + 0.1 * sum
                }
                Form::Held => {
                    if held.is_nan() || event(5, 2.0 + 20.0 * self.share) {
                        held = (sum * 4.0).round() / 4.0;
                    }
                    held
                }
            };
            values.push(value as f32);
        }
        Mixture { values, season: self.season, long_season: self.long_season }
    }

    fn season_at(&self, row: u64, cycles: Draws) -> f64 {
        if self.season == 0 {
            return 0.0;
        }
        let period = u64::from(self.season);
        let strength = 1.0 + self.restless * gaussian(cycles.at(row / period));
        let long = u64::from(self.long_season);
        let week = if long > 0 && row % long * 7 >= long * 5 { self.weekend } else { 1.0 };
        self.amplitude * strength * week * self.cycle[(row % period) as usize]
    }

    fn noise_at(&self, noise: Draws, row: u64, season: f64) -> f64 {
        let normal = gaussian(noise.at(row));
        match self.noise {
            Noise::Normal => normal,
            Noise::Heavy => normal / (0.15 + unit(high(noise.of(1).at(row)))).sqrt(),
            Noise::Exponential => -crate::math::ln(unit(high(noise.at(row))) + 1e-9) - 1.0,
            Noise::Seasonal => normal * (0.3 + (season / self.amplitude).abs()),
        }
    }
}

/// The season and a longer one; 0 is none.
fn seasons(draws: Draws) -> (u32, u32) {
    if happens(draws, 0, 0.3) {
        return (0, 0);
    }
    let season = match happens(draws, 1, 0.6) {
        true => CALENDAR[below(high(draws.at(2)), CALENDAR.len() as u32) as usize],
        false => magnitude(draws, 3, 4.0, 168.0) as u32,
    };
    let long = if happens(draws, 4, 0.4) { 7 * season } else { 0 };
    (season, if long <= SEASON_MAX { long } else { 0 })
}

/// One cycle of `period` rows.
fn cycle(draws: Draws, period: usize) -> Vec<f64> {
    let turns = (0..period).map(|row| row as f64 / period as f64);
    let phase = between(draws, 0, 0.0, 1.0);
    let shape: Vec<f64> = match below(high(draws.at(1)), 10) {
        // Waves: the first and some of its multiples, weaker and weaker.
        0..=4 => {
            let count = 1 + below(high(draws.at(2)), 5) as u64;
            let wave = |turn: f64, index: u64| {
                let strength = between(draws, 10 + index, 0.3, 1.0) / (index as f64);
                strength * sine_of_turn(turn * index as f64 + between(draws, 20 + index, 0.0, 1.0))
            };
            turns.map(|turn| (1..=count).map(|index| wave(turn, index)).sum()).collect()
        }
        // A part of the cycle that is high, with soft or hard edges.
        5 | 6 => {
            let (duty, edge) = (between(draws, 3, 0.1, 0.7), magnitude(draws, 4, 0.005, 0.15));
            let step = |distance: f64| 1.0 / (1.0 + exp((-distance / edge).clamp(-30.0, 30.0)));
            turns
                .map(|turn| {
                    let turn = (turn + phase) % 1.0;
                    2.0 * step(turn - 0.15) * step(0.15 + duty - turn) - 1.0
                })
                .collect()
        }
        7 => turns.map(|turn| 2.0 * ((turn + phase) % 1.0) - 1.0).collect(),
        // A peak.
        8 => {
            let width = magnitude(draws, 5, 0.01, 0.1);
            turns
                .map(|turn| {
                    let distance = ((turn + phase) % 1.0 - 0.5) / width;
                    3.0 * exp((-distance * distance).max(-30.0)) - 0.3
                })
                .collect()
        }
        // Any value at each phase, smoothed or not.
        _ => {
            let smooth = between(draws, 6, 0.0, 0.95);
            let mut value = gaussian(draws.of(1).at(u64::MAX));
            (0..period as u64)
                .map(|row| {
                    value = smooth * value + (1.0 - smooth * smooth).sqrt() * gaussian(draws.of(1).at(row));
                    value
                })
                .collect()
        }
    };
    let mean = shape.iter().sum::<f64>() / shape.len().max(1) as f64;
    shape.into_iter().map(|value| value - mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is trained on can be had again, and a longer series is the same one.
    #[test]
    fn a_series_is_a_function_of_its_number() {
        for number in 0..200 {
            let short = series(1, number, 100);
            let long = series(1, number, 700);
            assert_eq!(short.values, long.values[..100]);
            assert!(long.values.iter().all(|value| value.is_finite() && value.abs() < 1e8), "{number}");
            assert!(long.season <= SEASON_MAX && long.long_season <= SEASON_MAX);
            assert!(long.long_season == 0 || long.long_season == 7 * long.season);
        }
        assert_ne!(series(1, 3, 50), series(2, 3, 50));
    }

    /// A forecaster that learns of seasons must be shown some: what repeats differs less from a cycle ago than from half of one.
    #[test]
    fn seasons_repeat() {
        let (mut better, mut seasonal, mut plain) = (0, 0, 0);
        for number in 0..1000 {
            let Mixture { values, season, .. } = series(7, number, 3 * SEASON_MAX as usize);
            if season == 0 {
                plain += 1;
                continue;
            }
            let differences = |back: usize| {
                let pairs = values.iter().zip(&values[back..]);
                pairs.map(|(before, now)| f64::from((now - before).abs())).sum::<f64>() / (values.len() - back) as f64
            };
            seasonal += 1;
            better += u32::from(differences(season as usize) <= differences((season / 2).max(1) as usize));
        }
        assert!((200..400).contains(&plain), "{plain} without season");
        assert!(f64::from(better) > 0.7 * f64::from(seasonal), "{better} of {seasonal}");
    }
}
