//! Series in which nothing is wrong, for counting false alarms: whatever fires on these rows is one.
//!
//! The kinds differ in what a scorer may wrongly rely on: normal tails, a fixed mean, independent rows, smooth values, a scale.

use super::base::{Base, Course, poisson};
use crate::math::exp;
use crate::random::{Draws, gaussian, high, unit};

/// A kind of series without anomalies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NormalKind {
    /// Independent standard normal values.
    Gaussian,
    /// Independent values of Student's t distribution with 3 degrees of freedom: a variance, but no kurtosis.
    StudentT3,
    /// Independent log-normal values of shape 1: skewed, all above 0.
    LogNormal,
    /// An autoregression of order one, coefficient 0.9, innovations of standard deviation 1.
    Autoregressive,
    /// A season of a day of [`super::DAY_ROWS`] rows, with noise.
    Daily,
    /// A random walk of standard normal steps.
    RandomWalk,
    /// Poisson counts of mean 6.
    Counts,
    /// 0 or 1, the 1 in a tenth of the rows.
    Binary,
}

impl NormalKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Gaussian,
        Self::StudentT3,
        Self::LogNormal,
        Self::Autoregressive,
        Self::Daily,
        Self::RandomWalk,
        Self::Counts,
        Self::Binary,
    ];

    /// A name in the manner of a column's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::StudentT3 => "student_t3",
            Self::LogNormal => "log_normal",
            Self::Autoregressive => "autoregressive",
            Self::Daily => "daily",
            Self::RandomWalk => "random_walk",
            Self::Counts => "counts",
            Self::Binary => "binary",
        }
    }

    /// The first `length` values of the series that belongs to the seed; a longer one begins with the same values.
    ///
    /// Takes 8 bytes a row, some 30 for [`Self::Daily`] while it is made.
    pub fn values(self, seed: u64, length: usize) -> Vec<f64> {
        let draws = Draws::new(seed, self.name());
        let rows = 0..length as u64;
        let independent = |value: &dyn Fn(u64) -> f64| rows.clone().map(value).collect();
        match self {
            Self::Gaussian => independent(&|row| gaussian(draws.at(row))),
            Self::StudentT3 => independent(&|row| {
                let normal = |n: u64| gaussian(draws.at(4 * row + n));
                let square = |n: u64| normal(n) * normal(n);
                normal(0) / ((square(1) + square(2) + square(3)) / 3.0).sqrt()
            }),
            Self::LogNormal => independent(&|row| exp(gaussian(draws.at(row)))),
            Self::Autoregressive => {
                let mut value = 0.0;
                rows.map(|row| {
                    value = 0.9 * value + gaussian(draws.at(row));
                    value
                })
                .collect()
            }
            Self::Daily => Course::new(Base::Daily, seed, length).values(),
            Self::RandomWalk => {
                let mut value = 0.0;
                rows.map(|row| {
                    value += gaussian(draws.at(row));
                    value
                })
                .collect()
            }
            Self::Counts => independent(&|row| poisson(6.0, draws.at(row))),
            Self::Binary => independent(&|row| f64::from(u8::from(unit(high(draws.at(row))) < 0.1))),
        }
    }
}
