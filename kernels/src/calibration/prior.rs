//! What is known of a method's scores before a key has shown its own.

use super::excursions::Excursions;

/// How a method's scores are distributed over normal rows, roughly, and how many rows that is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    scale: Scale,
    rows: f32,
    /// Rows of a key until that holds. Of values in no order the one of row `n` is beyond all before it with a chance of `2 / n`, whatever
    /// their distribution (Rényi, "On outstanding values of a sequence of observations", 1962): what is new is so the more often the younger a
    /// key is.
    settled: f32,
    /// How much of the row itself counts among those above it (conformal): half makes the rank of a row among others right on average, more
    /// is careful. What a prior that is right says of scores never seen needs none of it.
    itself: f32,
    /// Whether rows are rare for the reason of the one before: a series goes on to where it never was, or stays for a while in a region where it
    /// seldom is. Then the first tells it for all of them.
    once: bool,
    /// Of scores that stay high for many rows after what they are about: how they do. These rows are one alarm, and not one each.
    lasts: Option<Excursions>,
}

/// The scale on which a score is `-ln` of its chance.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    /// `factor * score`: scores that are logarithms.
    Linear(f32),
    /// `factor * ln(1 + score / unit)`: scores with a heavy tail.
    Logarithmic { factor: f32, unit: f32 },
    /// Nothing is known, or excursions know better: only its rank says what a score means.
    Rank,
}

/// On this scale histograms end: a chance of `e^-24`.
pub(super) const SURPRISE_MAX: f32 = 24.0;

impl Prior {
    /// Sums of logarithms of ratios, as `auto` makes them. The factor is the slope of the tail over many kinds of series.
    pub const AUTO: Self =
        Prior { scale: Scale::Linear(1.5), rows: 24_000.0, settled: 1000.0, itself: 0.0, once: true, lasts: None };
    /// The sum of two such logarithms.
    pub const NOVELTY: Self =
        Prior { scale: Scale::Linear(2.0), rows: 24_000.0, settled: 1000.0, itself: 0.0, once: true, lasts: None };
    /// Distances in standard deviations, with tails as heavy as measured series have.
    pub const DEVIATIONS: Self = Prior {
        scale: Scale::Logarithmic { factor: 4.0, unit: 1.5 },
        rows: 300.0,
        settled: 0.0,
        itself: 0.0,
        once: false,
        lasts: None,
    };
    /// Bits: half as likely with each, roughly; how many bits usual rows have differs by key and by how many values they are.
    pub const BITS: Self = Prior {
        scale: Scale::Linear(std::f32::consts::LN_2),
        rows: 100.0,
        settled: 0.0,
        itself: 0.3,
        once: true,
        lasts: None,
    };
    /// Cumulative sums of standardised residuals, half a deviation less for each row: those of independent values are about as rare as
    /// `exp(-excess)` (Siegmund, "Sequential Analysis").
    pub const SUMS: Self = Prior {
        scale: Scale::Rank,
        rows: 300.0,
        settled: 0.0,
        itself: 0.0,
        once: true,
        lasts: Some(Excursions { beyond: 1.0, excess: 1.0, share: 0.4, length: 3.0, worth: 2.0 }),
    };
    /// Logarithms of how sure a model is: their excess would be 1 where the model is right, and is several times that over series that it is
    /// wrong about.
    pub const SURENESS: Self = Prior {
        scale: Scale::Rank,
        rows: 300.0,
        settled: 0.0,
        itself: 0.0,
        once: true,
        lasts: Some(Excursions { beyond: 1.0, excess: 4.0, share: 0.1, length: 3.0, worth: 8.0 }),
    };
    /// Scores of which nothing is known beforehand.
    pub const UNKNOWN: Self =
        Prior { scale: Scale::Rank, rows: 0.0, settled: 0.0, itself: 1.0, once: false, lasts: None };
    /// How many rows a row would displace: nothing is known of it either, but that a series which comes to where it seldom is stays there.
    pub const DISPLACEMENTS: Self = Prior { once: true, ..Self::UNKNOWN };

    /// Of scores that stay high for many rows after what they are about: how they do.
    pub(super) fn lasts(&self) -> Option<&Excursions> {
        self.lasts.as_ref()
    }

    /// Whether the first of some rare rows tells it for all.
    pub(super) fn tells_once(&self) -> bool {
        self.once
    }

    /// Whether scores are distances that one glitch makes as great as it is.
    pub(super) fn is_of_distances(&self) -> bool {
        self.lasts.is_none() && matches!(self.scale, Scale::Logarithmic { .. })
    }

    /// Whether only ranks say what a score means.
    pub(super) fn is_by_rank(&self) -> bool {
        self.scale == Scale::Rank
    }

    /// A score, 0 or more, as `-ln` of its chance, from 0 to [`SURPRISE_MAX`]; 0 where nothing is known.
    pub(super) fn surprise(&self, score: f32) -> f32 {
        let surprise = match self.scale {
            Scale::Linear(factor) => factor * score,
            Scale::Logarithmic { factor, unit } => factor * (score / unit).ln_1p(),
            Scale::Rank => 0.0,
        };
        surprise.clamp(0.0, SURPRISE_MAX)
    }

    /// The chance of a score that surprises so much, in a key of so many rows.
    pub(super) fn chance(&self, surprise: f32, age: u32) -> f32 {
        ((-surprise).exp() * (1.0 + self.settled / (age as f32 + 1.0))).min(1.0)
    }

    /// Own scores that a key must have before one is an alarm: none where the prior is trusted with scores never seen.
    pub(super) fn own_rows(&self) -> u32 {
        if self.itself > 0.0 { OWN_ROWS } else { 0 }
    }

    /// How many of the rows that the prior is worth have a score of that chance or less, and how many it is worth, to a key that
    /// [trusts](trust_in_prior) it so far.
    pub(super) fn rows_above(&self, trust: f32, chance: f32) -> (f32, f32) {
        let rows = self.rows * trust;
        (rows * chance + self.itself, rows + self.itself)
    }
}

/// Scores of its own that a key needs where the prior says too little: ranks among a handful are none.
const OWN_ROWS: u32 = 100;

/// After so many rows of a key the prior is worth half.
const FORGOTTEN_AFTER: f32 = 20_000.0;

/// What is left of the trust in what was known beforehand, from 1 to 0, when a key has learnt so many rows.
pub(super) fn trust_in_prior(age: u32) -> f32 {
    let share = age as f32 / FORGOTTEN_AFTER;
    1.0 / (1.0 + share * share)
}
