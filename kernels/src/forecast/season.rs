//! Which season a series has: by an information criterion, among periods that a calendar suggests and those that the series itself does.
//!
//! A period is judged on as many whole cycles as are remembered. Without a season each cycle has a level of its own; with one, a shape as
//! well: a few harmonics, or one number for each phase. What a shape explains is weighed against what it costs in parameters (Schwarz,
//! "Estimating the dimension of a model", 1978), on as many rows as the errors that are left are worth: where those follow one another,
//! as in a random walk, a wave can be laid through any two cycles. And a cycle must be foretold by the others: leaving each out in turn,
//! the error must shrink.

/// Harmonics of a shape that are tried.
const HARMONICS: usize = 6;
/// As many periods are taken from the autocorrelation.
const PEAKS: usize = 4;
/// An autocorrelation below is none.
const PEAK_MIN: f32 = 0.2;
/// Left out in turn, cycles must be foretold this much better than without shape.
const LEFT_OUT_MAX: f64 = 0.9;
/// A season that is there already may be so much worse.
const KEPT_MAX: f64 = 1.0;

/// What is worked with, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) values: Vec<f32>,
    /// Of whom medians are asked for.
    pub(super) ordered: Vec<i32>,
    autocorrelation: Vec<f32>,
    shape: Vec<f64>,
}

/// The best period of `scratch.values` (oldest first) and 0 if there is none. `current` is kept unless another is clearly better.
pub(super) fn find(scratch: &mut Scratch, calendar: &[u32], season_max: usize, current: u32) -> u32 {
    winsorize(&mut scratch.values, &mut scratch.autocorrelation);
    if !straighten(&mut scratch.values) {
        return 0;
    }
    let count = scratch.values.len();
    let longest = season_max.min(count / 2);
    let mut best = (0.0, 0u32);
    let now = if current > 1 && current as usize <= longest { gain(scratch, current as usize, KEPT_MAX) } else { 0.0 };
    let mut consider = |scratch: &mut Scratch, period: usize| {
        let gain = gain(scratch, period, LEFT_OUT_MAX);
        if gain > best.0 {
            best = (gain, period as u32);
        }
    };
    for period in calendar.iter().map(|period| *period as usize).filter(|period| (2..=longest).contains(period)) {
        consider(scratch, period);
    }
    for period in peaks(scratch, longest.min(count * 2 / 5)) {
        consider(scratch, period);
    }
    let lead = 2.0 * (count as f64).ln();
    if now > 0.0 && best.0 < now + lead { current } else { best.1 }
}

/// A few rows that are far off do not make a season, nor hide one: beyond three times what three quarters of the rows keep within, from
/// the median, they are cut.
fn winsorize(values: &mut [f32], sorted: &mut Vec<f32>) {
    let count = values.len();
    if count == 0 {
        return;
    }
    sorted.clear();
    sorted.extend_from_slice(values);
    let (_, median, _) = sorted.select_nth_unstable_by(count / 2, f32::total_cmp);
    let median = *median;
    sorted.iter_mut().for_each(|value| *value = (*value - median).abs());
    let (_, within, _) = sorted.select_nth_unstable_by(count * 3 / 4, f32::total_cmp);
    let limit = if *within > 0.0 { 3.0 * *within } else { f32::INFINITY };
    values.iter_mut().for_each(|value| *value = (*value - median).clamp(-limit, limit));
}

/// Takes the line out of the values: it would be a shape of any period. False if nothing is left.
fn straighten(values: &mut [f32]) -> bool {
    let count = values.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let (mut slope, mut square, mut before, mut after) = (0.0, 0.0, 0.0, 0.0);
    for (index, value) in values.iter().enumerate() {
        slope += (index as f64 - middle) * f64::from(*value);
        square += (index as f64 - middle).powi(2);
        before += (f64::from(*value) - mean).powi(2);
    }
    let slope = slope / square;
    for (index, value) in values.iter_mut().enumerate() {
        let left = f64::from(*value) - mean - slope * (index as f64 - middle);
        after += left * left;
        *value = left as f32;
    }
    after > 1e-9 * before
}

/// Lags at which the series is like itself: the highest local maxima.
fn peaks(scratch: &mut Scratch, longest: usize) -> Vec<usize> {
    let values = &scratch.values;
    let count = values.len();
    if longest < 3 {
        return Vec::new();
    }
    let product = |lag: usize| {
        let mut lanes = [0f32; 8];
        let (one, two) = (&values[lag..], &values[..count - lag]);
        let (chunks, others) = (one.chunks_exact(8), two.chunks_exact(8));
        let rest: f32 = chunks.remainder().iter().zip(others.remainder()).map(|(one, two)| one * two).sum();
        for (chunk, other) in chunks.zip(others) {
            for lane in 0..8 {
                lanes[lane] += chunk[lane] * other[lane];
            }
        }
        (lanes.iter().sum::<f32>() + rest) / (count - lag) as f32
    };
    let variance = product(0);
    if variance <= 0.0 {
        return Vec::new();
    }
    let autocorrelation = &mut scratch.autocorrelation;
    autocorrelation.clear();
    autocorrelation.extend((1..=longest + 1).map(|lag| product(lag) / variance));
    // Index 0 is lag 1.
    let mut peaks: Vec<usize> = (1..longest)
        .filter(|at| autocorrelation[*at] > PEAK_MIN)
        .filter(|at| autocorrelation[*at] >= autocorrelation[at - 1] && autocorrelation[*at] > autocorrelation[at + 1])
        .collect();
    peaks.sort_by(|one, two| autocorrelation[*two].total_cmp(&autocorrelation[*one]));
    peaks.truncate(PEAKS);
    peaks.into_iter().map(|at| at + 1).collect()
}

/// By how much the criterion falls when there is a season of this period, 0 or less if it is better to have none.
fn gain(scratch: &mut Scratch, period: usize, left_out_max: f64) -> f64 {
    let cycles = scratch.values.len() / period;
    if cycles < 2 {
        return 0.0;
    }
    let values = &scratch.values[scratch.values.len() - cycles * period..];
    let shape = &mut scratch.shape;
    shape.clear();
    shape.resize(period, 0.0);
    let (mut without, mut squares) = (0.0, 0.0);
    let mut levels = Vec::with_capacity(cycles);
    for cycle in values.chunks_exact(period) {
        let level = cycle.iter().map(|value| f64::from(*value)).sum::<f64>() / period as f64;
        levels.push(level);
        for (sum, value) in shape.iter_mut().zip(cycle) {
            let value = f64::from(*value) - level;
            *sum += value / cycles as f64;
            without += value * value;
        }
    }
    let (mut follows, mut before) = (0.0, 0.0);
    for (cycle, level) in values.chunks_exact(period).zip(&levels) {
        for (mean, value) in shape.iter().zip(cycle) {
            let error = f64::from(*value) - level - mean;
            squares += error * error;
            follows += error * before;
            before = error;
        }
    }
    let rows = values.len() as f64;
    let left_out = squares * (cycles as f64 / (cycles as f64 - 1.0)).powi(2);
    if without <= 0.0 || left_out > left_out_max * (1.0 - 1.0 / cycles as f64) * without {
        return 0.0;
    }
    let floor = without * 1e-9;
    let follows = (follows / squares.max(floor)).clamp(0.0, 0.99);
    let worth = rows * (1.0 - follows) / (1.0 + follows);
    let criterion = |squares: f64, parameters: usize| {
        let parameters = parameters as f64;
        // So few rows cannot tell of so many.
        if worth < parameters + 4.0 {
            return 0.0;
        }
        worth * (without / squares.max(floor)).ln() - parameters * worth.ln()
    };
    let mut best = criterion(squares, period - 1);
    let mut left = without;
    for harmonic in 1..=HARMONICS.min((period - 1) / 2) {
        let (step_sine, step_cosine) = (std::f64::consts::TAU * harmonic as f64 / period as f64).sin_cos();
        // The wave by turning: a sine for each phase would cost more than all the rest.
        let (mut wave_sine, mut wave_cosine) = (0.0, 1.0);
        let (mut cosine, mut sine) = (0.0, 0.0);
        for value in shape.iter() {
            cosine += value * wave_cosine;
            sine += value * wave_sine;
            (wave_sine, wave_cosine) =
                (wave_sine * step_cosine + wave_cosine * step_sine, wave_cosine * step_cosine - wave_sine * step_sine);
        }
        // Each cycle has this part of the shape's sum of squares.
        left -= cycles as f64 * 2.0 / period as f64 * (cosine * cosine + sine * sine);
        best = best.max(criterion(left, 2 * harmonic));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: impl Iterator<Item = f32>, calendar: &[u32]) -> u32 {
        let mut scratch = Scratch { values: values.collect(), ..Scratch::default() };
        find(&mut scratch, calendar, 168, 0)
    }

    fn noise(row: usize) -> f32 {
        super::super::forecaster::mix(row as u32, 1) as f32 / (1u32 << 31) as f32 - 1.0
    }

    #[test]
    fn a_wave_in_noise_is_found_with_and_without_calendar() {
        let wave = |row: usize| (row as f32 * std::f32::consts::TAU / 24.0).sin() + noise(row);
        assert_eq!(found((0..336).map(wave), &[24, 168]), 24);
        assert!((23..=25).contains(&found((0..336).map(wave), &[])));
        let odd = |row: usize| if row % 37 < 5 { 10.0 } else { 1.0 } + noise(row);
        assert_eq!(found((0..336).map(odd), &[24, 168]), 37);
    }

    #[test]
    fn noise_lines_and_walks_have_no_season() {
        assert_eq!(found((0..336).map(noise), &[24, 168]), 0);
        assert_eq!(found((0..336).map(|row| row as f32), &[24, 168]), 0);
        assert_eq!(found((0..336).map(|_| 3.0), &[24, 168]), 0);
        let mut level = 0.0;
        let walk: Vec<f32> = (0..336)
            .map(|row| {
                level += noise(row);
                level
            })
            .collect();
        assert_eq!(found(walk.into_iter(), &[24, 168]), 0);
    }
}
