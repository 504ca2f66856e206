//! A season: what is usual at each phase of a period.
//!
//! A period is cut into bins; each has the mean of the values that fell into it, which forgets over some cycles. How much of the
//! variance a season explains is told by its errors *before* a value is learnt, so a season that is none explains nothing.

const ERROR: usize = 0; // mean square of what is left
const HEADER: usize = 1;

/// Cycles after which half of a value's weight in its bin is gone.
const CYCLES_HALF_LIFE: f32 = 10.0;
/// `1 - 2^(-1 / CYCLES_HALF_LIFE)`.
const BIN_GAIN: f32 = 0.066_967_01;

/// The words of a season with so many bins: a mean and a count for each.
pub(super) const fn words(bins: usize) -> usize {
    HEADER + 2 * bins
}

/// The mean square of what a season leaves of values.
pub(super) fn error(season: &[f32]) -> f32 {
    season[ERROR]
}

/// What is expected at a phase of `0..bins`; `otherwise` where no value has been.
pub(super) fn expected(season: &[f32], bin: usize, otherwise: f32) -> f32 {
    let bins = (season.len() - HEADER) / 2;
    if season[HEADER + bins + bin] > 0.0 { season[HEADER + bin] } else { otherwise }
}

/// Learns a value, of which `rest` was not expected; `gain` is that of the error's mean.
pub(super) fn learn(season: &mut [f32], bin: usize, value: f32, rest: f32, gain: f32) {
    let bins = (season.len() - HEADER) / 2;
    season[ERROR] += gain * (rest * rest - season[ERROR]);
    let count = (season[HEADER + bins + bin] + 1.0).min(2.0 * CYCLES_HALF_LIFE);
    season[HEADER + bins + bin] = count;
    let mean = &mut season[HEADER + bin];
    *mean += (1.0 / count).max(BIN_GAIN) * (value - *mean);
}

/// Forgets all.
pub(super) fn clear(season: &mut [f32], error: f32) {
    season.fill(0.0);
    season[ERROR] = error;
}

/// The bin of a time in a period, both in milliseconds.
pub(super) fn bin_of_time(time_ms: i64, period_ms: i64, bins: usize) -> usize {
    let phase = time_ms.rem_euclid(period_ms);
    (i128::from(phase) * bins as i128 / i128::from(period_ms)) as usize
}

/// The period of a series in rows, from its last values: the lag of the greatest correlation with itself, if there is one.
///
/// The first lag that is as good as the best is taken, as each multiple of a period is a period. Lags up to a third of the values, so
/// that a period has been there three times.
pub(super) fn period_of(values: &[f32]) -> Option<usize> {
    const CORRELATION_MIN: f32 = 0.5;
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let centred: Vec<f32> = values.iter().map(|value| value - mean).collect();
    let energy: f32 = dot(&centred, &centred);
    if energy <= f32::MIN_POSITIVE {
        return None;
    }
    let longest = values.len() / 3;
    let correlations: Vec<f32> = (0..=longest + 1)
        .map(|lag| {
            let overlap = values.len() - lag;
            dot(&centred[lag..], &centred[..overlap]) / energy * (values.len() as f32 / overlap as f32)
        })
        .collect();
    // What follows the first descent below half is no longer the neighbourhood of lag 0.
    let start = correlations.iter().position(|correlation| *correlation < CORRELATION_MIN)?;
    let peaks = (start.max(1)..=longest).filter(|&lag| {
        let here = correlations[lag];
        here >= CORRELATION_MIN && here >= correlations[lag - 1] && here >= correlations[lag + 1]
    });
    let peaks: Vec<usize> = peaks.collect();
    let best = peaks.iter().map(|&lag| correlations[lag]).fold(0.0, f32::max);
    peaks.into_iter().find(|&lag| correlations[lag] >= 0.9 * best)
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut lanes = [0.0f32; LANES];
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest: f32 = ones.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (one, other) in ones.zip(others) {
        for lane in 0..LANES {
            lanes[lane] += one[lane] * other[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_found_and_none_is_made_up() {
        for period in [5usize, 12, 24, 37, 60, 80] {
            let values: Vec<f32> = (0..256)
                .map(|row| {
                    let phase = (row % period) as f32 / period as f32;
                    if phase < 0.3 { 10.0 * phase } else { 1.0 + ((row * 7919) % 13) as f32 * 0.05 }
                })
                .collect();
            assert_eq!(period_of(&values), Some(period));
        }
        let noise: Vec<f32> = (0..256u64).map(|row| (crate::series::testing::unit(row) - 0.5) as f32).collect();
        assert_eq!(period_of(&noise), None);
        assert_eq!(period_of(&[3.0; 256]), None);
        let ramp: Vec<f32> = (0..256u16).map(f32::from).collect();
        assert_eq!(period_of(&ramp), None);
    }

    #[test]
    fn times_before_1970_have_a_phase() {
        assert_eq!(bin_of_time(-1, 86_400_000, 48), 47);
        assert_eq!(bin_of_time(i64::MIN, 1_000, 10), bin_of_time(i64::MIN.rem_euclid(1_000), 1_000, 10));
    }
}
