//! What can go wrong with a series: the kinds of anomalies, where they fit, and what they do to the rows.
//!
//! Every anomaly is over at some point and the series goes on as if nothing had been: so a label is exactly the rows that are
//! other than they would have been, which a permanent shift could not give. How far an anomaly goes is drawn between *plain to
//! see* and *barely out of the noise*, because a test set that every method solves tells nothing.

use std::ops::Range;

use super::base::{Base, Course, DAY_ROWS};
use crate::math::sine_of_turn;
use crate::random::{Draws, below, gaussian, high, low, unit};

/// A kind of anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnomalyKind {
    /// One to three rows far above.
    Spike,
    /// One to three rows far below.
    Dip,
    /// Two spikes, a few rows apart.
    DoubleSpike,
    /// All rows higher, or all lower, for a while.
    LevelShift,
    /// The noise grows to a multiple.
    VarianceRise,
    /// The noise nearly goes away.
    VarianceDrop,
    /// Cycles run faster or slower.
    FrequencyChange,
    /// A cycle that does not take place.
    MissingCycle,
    /// A cycle that runs backwards.
    ReversedCycle,
    /// A cycle upside down.
    MirroredCycle,
    /// Cycles that go too far.
    AmplitudeRise,
    /// Cycles that do not go far enough.
    AmplitudeDrop,
    /// An error that grows row by row and is then put right at once.
    Drift,
    /// An error that comes slowly and goes slowly.
    GradualRamp,
    /// One value, again and again.
    StuckSensor,
    /// Noise of another kind on top.
    NoiseBurst,
    /// Cycles that come too late or too early.
    TimeShift,
    /// Two parts of a cycle in each other's place; of a week, a working day and a weekend's.
    SwappedCycle,
    /// Values that are normal at another time of the cycle.
    Contextual,
    /// A cycle of the right size and length with another shape.
    PatternSwap,
    /// Values cut off at a limit.
    CutOff,
    /// A line that goes another way.
    TrendChange,
    /// Nothing: all rows are 0.
    Outage,
    /// A sensor that only shows coarse steps.
    CoarseSteps,
}

impl AnomalyKind {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Spike,
        Self::Dip,
        Self::DoubleSpike,
        Self::LevelShift,
        Self::VarianceRise,
        Self::VarianceDrop,
        Self::FrequencyChange,
        Self::MissingCycle,
        Self::ReversedCycle,
        Self::MirroredCycle,
        Self::AmplitudeRise,
        Self::AmplitudeDrop,
        Self::Drift,
        Self::GradualRamp,
        Self::StuckSensor,
        Self::NoiseBurst,
        Self::TimeShift,
        Self::SwappedCycle,
        Self::Contextual,
        Self::PatternSwap,
        Self::CutOff,
        Self::TrendChange,
        Self::Outage,
        Self::CoarseSteps,
    ];

    /// The text in the column `anomaly_kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Dip => "dip",
            Self::DoubleSpike => "double_spike",
            Self::LevelShift => "level_shift",
            Self::VarianceRise => "variance_rise",
            Self::VarianceDrop => "variance_drop",
            Self::FrequencyChange => "frequency_change",
            Self::MissingCycle => "missing_cycle",
            Self::ReversedCycle => "reversed_cycle",
            Self::MirroredCycle => "mirrored_cycle",
            Self::AmplitudeRise => "amplitude_rise",
            Self::AmplitudeDrop => "amplitude_drop",
            Self::Drift => "drift",
            Self::GradualRamp => "gradual_ramp",
            Self::StuckSensor => "stuck_sensor",
            Self::NoiseBurst => "noise_burst",
            Self::TimeShift => "time_shift",
            Self::SwappedCycle => "swapped_cycle",
            Self::Contextual => "contextual",
            Self::PatternSwap => "pattern_swap",
            Self::CutOff => "cut_off",
            Self::TrendChange => "trend_change",
            Self::Outage => "outage",
            Self::CoarseSteps => "coarse_steps",
        }
    }

    /// Whether it is over within three rows or so, and found by value; others are found by the shape of many rows.
    pub fn is_point(self) -> bool {
        matches!(self, Self::Spike | Self::Dip | Self::DoubleSpike)
    }

    /// Whether it can be told from what the base does by itself: there is no missing cycle without cycles, and no drift in a walk.
    pub fn fits(self, base: Base) -> bool {
        match self {
            Self::Spike | Self::Dip | Self::DoubleSpike | Self::LevelShift | Self::NoiseBurst => true,
            Self::StuckSensor | Self::Outage => true,
            // A walk in coarse steps has long runs of one value, and so has a count.
            Self::CoarseSteps => base != Base::Bursts,
            Self::VarianceRise => base != Base::RandomWalk,
            // Where the noise is most of what there is to see.
            Self::VarianceDrop => {
                matches!(base, Base::Noise | Base::Autoregressive | Base::Trend | Base::Daily | Base::Weekly)
            }
            Self::Drift | Self::GradualRamp => base != Base::RandomWalk,
            // Where the top is reached again and again: that noise does not go far is seen late if at all.
            Self::CutOff => base == Base::Bursts || base.is_cyclic() && !base.has_trend(),
            Self::TrendChange => base.has_trend(),
            Self::FrequencyChange
            | Self::MissingCycle
            | Self::ReversedCycle
            | Self::MirroredCycle
            | Self::AmplitudeRise
            | Self::AmplitudeDrop
            | Self::TimeShift
            | Self::SwappedCycle
            | Self::Contextual
            | Self::PatternSwap => base.is_cyclic(),
        }
    }

    /// How many rows one lasts.
    pub(super) fn rows(self, base: Base, course: &Course, bits: u32) -> usize {
        let between = |least: usize, most: usize| least + below(bits, (most - least + 1) as u32) as usize;
        let period = course.period;
        match self {
            Self::Spike | Self::Dip => between(1, 3),
            Self::DoubleSpike => between(4, 12),
            Self::NoiseBurst => between(12, 60),
            Self::MissingCycle | Self::ReversedCycle | Self::MirroredCycle | Self::PatternSwap => period,
            // Friday and Saturday, which change places.
            Self::SwappedCycle if base == Base::Weekly => 2 * DAY_ROWS,
            Self::SwappedCycle => period,
            Self::Contextual => between(period / 6, period / 3),
            Self::FrequencyChange | Self::AmplitudeRise | Self::AmplitudeDrop | Self::TimeShift => {
                period * between(1, 3)
            }
            // Long enough to reach the top at least once.
            Self::CutOff if base.is_cyclic() => period * between(1, 3),
            Self::CutOff => between(60, 200),
            Self::Drift | Self::GradualRamp | Self::TrendChange => between(80, 240),
            Self::StuckSensor | Self::Outage if base.is_cyclic() => between(period / 3, period),
            Self::StuckSensor | Self::Outage => between(12, 60),
            Self::LevelShift | Self::VarianceRise | Self::VarianceDrop | Self::CoarseSteps => between(40, 160),
        }
    }

    /// At which row of a cycle one begins; `None` where that is up to chance.
    pub(super) fn start_in_cycle(self, base: Base, course: &Course) -> Option<(usize, usize)> {
        match self {
            Self::SwappedCycle if base == Base::Weekly => Some((4 * DAY_ROWS, 7 * DAY_ROWS)),
            Self::MissingCycle | Self::ReversedCycle | Self::MirroredCycle | Self::PatternSwap | Self::SwappedCycle => {
                Some((0, course.period))
            }
            _ => None,
        }
    }

    /// The values, before [`Course::finish`], that the rows have instead.
    pub(super) fn apply(self, base: Base, course: &Course, at: Range<usize>, draws: Draws) -> Vec<f64> {
        let share = |n: u64| unit(high(draws.at(n)));
        let sign = if low(draws.at(100)) & 1 == 0 { 1.0 } else { -1.0 };
        let (start, rows) = (at.start, at.len());
        let (shape, noise) = (&course.shape, &course.noise);
        // From what the noise alone never does to half a swing beyond it.
        let far = course.noise_sd * (5.0 + 4.0 * share(0)) + course.swing * (0.1 + 0.5 * share(1));
        let progress = |row: usize| (row - start + 1) as f64 / rows as f64;
        let plus = |error: &dyn Fn(usize) -> f64| at.clone().map(|row| shape[row] + noise[row] + error(row)).collect();
        let shaped = |other: &dyn Fn(usize) -> f64| at.clone().map(|row| other(row) + noise[row]).collect();
        // The shape at a place between rows, without its straight line, of which each row has its own part.
        let shape_at = |place: f64, row: usize| {
            let place = place.clamp(0.0, (shape.len() - 1) as f64);
            let (whole, part) = (place as usize, place - (place as usize) as f64);
            let next = (whole + 1).min(shape.len() - 1);
            shape[whole] * (1.0 - part) + shape[next] * part + course.slope * (row as f64 - place)
        };
        // The line that a cycle swings around: halfway between its ends in value.
        let middle = || {
            let (bottom, top) = at.clone().fold((f64::MAX, f64::MIN), |(bottom, top), row| {
                let level = shape[row] - course.slope * (row - start) as f64;
                (bottom.min(level), top.max(level))
            });
            (bottom, top)
        };
        match self {
            Self::Spike => plus(&|_| far),
            Self::Dip => plus(&|_| -far),
            Self::DoubleSpike => plus(&|row| if row == start || row + 1 == at.end { far } else { 0.0 }),
            Self::LevelShift => plus(&|_| sign * far),
            Self::VarianceRise => {
                let factor = 2.5 + 2.5 * share(2);
                plus(&|row| noise[row] * (factor - 1.0))
            }
            Self::VarianceDrop => {
                let factor = 0.05 + 0.15 * share(2);
                plus(&|row| noise[row] * (factor - 1.0))
            }
            Self::FrequencyChange => {
                let factor = if sign > 0.0 { 1.5 + share(2) } else { 0.4 + 0.25 * share(2) };
                shaped(&|row| shape_at(start as f64 + (row - start) as f64 * factor, row))
            }
            Self::MissingCycle => {
                let (bottom, _) = middle();
                shaped(&|row| bottom + course.slope * (row - start) as f64)
            }
            Self::ReversedCycle => shaped(&|row| shape_at((at.end - 1 - (row - start)) as f64, row)),
            Self::MirroredCycle => {
                let (bottom, top) = middle();
                shaped(&|row| top + bottom - shape[row] + 2.0 * course.slope * (row - start) as f64)
            }
            Self::AmplitudeRise | Self::AmplitudeDrop => {
                let factor = if self == Self::AmplitudeRise { 1.4 + 0.8 * share(2) } else { 0.2 + 0.4 * share(2) };
                let (bottom, top) = middle();
                let line = |row: usize| 0.5 * (bottom + top) + course.slope * (row - start) as f64;
                shaped(&|row| line(row) + factor * (shape[row] - line(row)))
            }
            Self::Drift => plus(&|row| sign * far * 1.2 * progress(row)),
            Self::GradualRamp => plus(&|row| {
                let progress = progress(row);
                sign * far * 1.2 * (1.0 - (2.0 * progress - 1.0).abs())
            }),
            Self::StuckSensor => {
                let stuck = shape[start - 1] + noise[start - 1];
                at.map(|_| stuck).collect()
            }
            Self::NoiseBurst => {
                let sd = far * (0.5 + 0.5 * share(2));
                let burst = draws.of(1);
                plus(&|row| sd * gaussian(burst.at(row as u64)))
            }
            Self::TimeShift => {
                let shift = sign * course.period as f64 * (0.2 + 0.3 * share(2));
                shaped(&|row| shape_at(row as f64 + shift, row))
            }
            Self::SwappedCycle => {
                let half = rows / 2;
                let other = |row: usize| if row - start < half { row + (rows - half) } else { row - half };
                shaped(&|row| shape_at(other(row) as f64, row))
            }
            Self::Contextual => {
                // Half a cycle away; of a week, also half of the week.
                let away = course.period / 2 + if base == Base::Weekly { 3 * DAY_ROWS } else { 0 };
                shaped(&|row| shape_at((row - away) as f64, row))
            }
            Self::PatternSwap => {
                let (bottom, top) = middle();
                let cycle = |row: usize| {
                    let phase = (row - start) as f64 / rows as f64;
                    match base {
                        // Two smooth humps where edges are usual, an edge where smooth humps are.
                        Base::Sawtooth | Base::Square | Base::Heartbeat => 0.5 - 0.5 * sine_of_turn(2.0 * phase + 0.25),
                        _ if (0.25..0.75).contains(&phase) => 1.0,
                        _ => 0.0,
                    }
                };
                shaped(&|row| bottom + (top - bottom) * cycle(row) + course.slope * (row - start) as f64)
            }
            Self::CutOff => {
                // Half to four fifths of the way up from where the rows before usually are at the lowest to the highest.
                let mut earlier: Vec<f64> = (0..start).map(|row| shape[row] + noise[row]).collect();
                earlier.sort_unstable_by(f64::total_cmp);
                let (low, high) = (earlier[start / 10], earlier[start - 1 - start / 200]);
                let limit = low + (0.5 + 0.3 * share(2)) * (high - low);
                at.map(|row| (shape[row] + noise[row]).min(limit)).collect()
            }
            Self::TrendChange => {
                // The error at the end is as far as a drift's, whichever way the line goes.
                let turn = -course.slope.signum() * far * 1.2 / rows as f64 - course.slope;
                plus(&|row| turn * (row - start + 1) as f64)
            }
            Self::Outage => at.map(|_| course.zero()).collect(),
            Self::CoarseSteps => {
                let step = course.noise_sd * 2.0 + course.swing * (0.1 + 0.2 * share(2));
                at.map(|row| ((shape[row] + noise[row]) / step).round() * step).collect()
            }
        }
    }
}
