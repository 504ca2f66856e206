//! One labelled series: a course, and a kind of anomaly planted into it one to five times.

use std::ops::Range;

use super::base::{Base, Course};
use super::kind::AnomalyKind;
use super::{NAME, SERIES_LENGTH_MAX, SERIES_LENGTH_MIN};
use crate::config::validate_range;
use crate::error::{DatasetError, Result};
use crate::random::{Draws, below, high, low};

/// At most so many anomalies in one series.
pub(super) const ANOMALIES_MAX: u32 = 5;
/// There are so many rows between two anomalies at least, and a cycle if that is more.
const ROWS_BETWEEN: usize = 32;
/// A place at which an anomaly changes nothing (a limit that no row passes) is given up for another one so often.
const TRIES: u64 = 8;

/// Which series: all that its rows depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesSpec {
    /// The course.
    pub base: Base,
    /// What goes wrong with it; none for the course alone.
    pub anomaly: Option<AnomalyKind>,
    /// Another seed gives another series of the same kind.
    pub seed: u64,
    /// How many rows.
    pub length: usize,
}

/// A series with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledSeries {
    /// What it was made from.
    pub spec: SeriesSpec,
    /// Rows per cycle; 0 where the course has none. For [`Base::Weekly`] the rows of a day.
    pub period: usize,
    /// Value by row.
    pub values: Vec<f64>,
    /// The rows of each anomaly, ascending and apart: from the first that is other than it would have been to the last.
    pub windows: Vec<Range<usize>>,
}

impl LabelledSeries {
    /// Whether each row belongs to an anomaly.
    pub fn labels(&self) -> Vec<bool> {
        let mut labels = vec![false; self.values.len()];
        for window in &self.windows {
            labels[window.clone()].fill(true);
        }
        labels
    }
}

impl SeriesSpec {
    /// All pairs of a base and an anomaly that fits it; neighbours in the list differ in both.
    pub fn pairs() -> Vec<(Base, AnomalyKind)> {
        let (bases, kinds) = (Base::ALL.len(), AnomalyKind::ALL.len());
        // Diagonals of the table: as 11 and 24 share no factor, one walk over both meets each pair once.
        (0..bases * kinds)
            .map(|n| (Base::ALL[n % bases], AnomalyKind::ALL[n % kinds]))
            .filter(|(base, kind)| kind.fits(*base))
            .collect()
    }

    /// Series `number` of a set of any size: all pairs in turn, with 2,000 to 20,000 rows.
    pub fn numbered(seed: u64, number: u64) -> Self {
        let bits = Draws::new(seed, "anomalies.numbered").at(number);
        let length = 2_000 + below(low(bits), 18_001) as usize;
        Self::of_length(seed, number, length)
    }

    /// As [`Self::numbered`], of the given length.
    pub(super) fn of_length(seed: u64, number: u64, length: usize) -> Self {
        let pairs = Self::pairs();
        let (base, kind) = pairs[(number % pairs.len() as u64) as usize];
        Self { base, anomaly: Some(kind), seed: Draws::new(seed, "anomalies.series").at(number), length }
    }

    /// Makes the series. The rows outside of its windows are, to the bit, those of the same spec without an anomaly.
    ///
    /// Anomalies begin after the first third of the rows, which a scorer may learn from.
    ///
    /// Errors if the length is out of range or the anomaly does not fit the base ([`AnomalyKind::fits`]).
    pub fn make(&self) -> Result<LabelledSeries> {
        validate_range(NAME, "series-length", self.length as u64, SERIES_LENGTH_MIN..=SERIES_LENGTH_MAX)?;
        let course = Course::new(self.base, self.seed, self.length);
        let mut values = course.values();
        let mut windows = Vec::new();
        if let Some(kind) = self.anomaly {
            if !kind.fits(self.base) {
                return Err(self.unfit(kind));
            }
            let draws = Draws::new(self.seed, "anomalies.planted");
            for (number, (slot, rows)) in self.slots(kind, &course, draws).into_iter().enumerate() {
                windows.extend(self.plant(kind, &course, &mut values, slot, rows, draws.of(number as u64)));
            }
        }
        Ok(LabelledSeries { spec: *self, period: course.period, values, windows })
    }

    fn unfit(&self, kind: AnomalyKind) -> DatasetError {
        let fitting: Vec<&str> =
            AnomalyKind::ALL.iter().filter(|kind| kind.fits(self.base)).map(|kind| kind.name()).collect();
        DatasetError::OptionOutOfRange {
            dataset: NAME,
            option: "anomaly",
            value: kind.name().to_owned(),
            way_out: format!("with base `{}` use one of {}", self.base.name(), fitting.join(", ")),
        }
    }

    /// The places in which an anomaly may begin, one range of rows for each, and how many rows it has.
    fn slots(&self, kind: AnomalyKind, course: &Course, draws: Draws) -> Vec<(Range<usize>, usize)> {
        let first = self.length.div_ceil(3);
        let between = course.period.max(ROWS_BETWEEN);
        let alignment = kind.start_in_cycle(self.base, course);
        let wanted = 1 + below(high(draws.at(0)), ANOMALIES_MAX) as usize;
        // As many as have room.
        for count in (1..=wanted).rev() {
            let slot_rows = (self.length - first) / count;
            let slots: Vec<(Range<usize>, usize)> = (0..count)
                .filter_map(|slot| {
                    let rows = kind.rows(self.base, course, low(draws.at(1 + slot as u64))).max(1);
                    let start = first + slot * slot_rows + between;
                    let end = (first + (slot + 1) * slot_rows).checked_sub(between + rows)? + 1;
                    let has_place = match alignment {
                        Some((offset, period)) => next_aligned(start, offset, period) < end,
                        None => start < end,
                    };
                    has_place.then_some((start..end, rows))
                })
                .collect();
            if slots.len() == count {
                return slots;
            }
        }
        Vec::new()
    }

    /// Plants one anomaly and says which rows it has changed.
    fn plant(
        &self,
        kind: AnomalyKind,
        course: &Course,
        values: &mut [f64],
        slot: Range<usize>,
        rows: usize,
        draws: Draws,
    ) -> Option<Range<usize>> {
        (0..TRIES).find_map(|attempt| {
            let draws = draws.of(attempt);
            let chance = high(draws.at(99));
            let start = match kind.start_in_cycle(self.base, course) {
                Some((offset, period)) => {
                    let first = next_aligned(slot.start, offset, period);
                    first + period * below(chance, ((slot.end - 1 - first) / period + 1) as u32) as usize
                }
                None => slot.start + below(chance, slot.len() as u32) as usize,
            };
            let changed = kind.apply(self.base, course, start..start + rows, draws);
            let changed: Vec<f64> = changed.into_iter().map(|value| course.finish(value)).collect();
            let differs = |row: &usize| changed[*row] != values[start + *row];
            let (first, last) = ((0..rows).find(differs)?, (0..rows).rev().find(differs)?);
            values[start..start + rows].copy_from_slice(&changed);
            Some(start + first..start + last + 1)
        })
    }
}

/// The first row from `row` on that has the given place in its period.
fn next_aligned(row: usize, offset: usize, period: usize) -> usize {
    row + (offset + period - row % period) % period
}
