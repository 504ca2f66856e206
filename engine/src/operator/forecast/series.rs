//! Where a key's series is in time, and its newest forecast.

use crate::time::EventTimeMs;

/// A key's series.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Series {
    /// The time of the first row: steps are counted from it.
    anchor: EventTimeMs,
    /// The step of the newest row.
    pub(super) index: i64,
    /// The time of the newest row.
    pub(super) last: EventTimeMs,
    /// How many rows were learnt.
    pub(super) count: u64,
    /// When the step of time ends that the newest row is in, if a forecast is to be made then.
    pub(super) closes: Option<EventTimeMs>,
    /// The newest forecast, where it is still needed.
    pub(super) made: Option<Box<Made>>,
}

/// A forecast.
#[derive(Debug, PartialEq)]
pub(super) struct Made {
    /// When it was made.
    pub(super) at: EventTimeMs,
    /// The step and the time of the newest row at that time.
    pub(super) index: i64,
    pub(super) last: EventTimeMs,
    /// For each step ahead one number a level.
    pub(super) quantiles: Vec<f64>,
}

impl Series {
    /// Goes on to a row, later than all before: how many steps had none in between; `None` if its step has one already.
    pub(super) fn advance(&mut self, time: EventTimeMs, step_ms: i64) -> Option<u64> {
        if self.count == 0 {
            (self.anchor, self.index) = (time, 0);
        }
        let index = time.saturating_sub(self.anchor).saturating_add(step_ms / 2).div_euclid(step_ms);
        if self.count > 0 && index <= self.index {
            return None;
        }
        let missing = if self.count == 0 { 0 } else { (index - self.index - 1) as u64 };
        (self.index, self.last) = (index, time);
        self.count += 1;
        Some(missing)
    }

    /// The end of the step of time, cut from the epoch as windows are, that `time` is in.
    pub(super) fn window_end(&self, time: EventTimeMs, step_ms: i64) -> EventTimeMs {
        time.div_euclid(step_ms).saturating_add(1).saturating_mul(step_ms)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut word = |word: i64| bytes.extend_from_slice(&word.to_le_bytes());
        word(self.anchor);
        word(self.index);
        word(self.last);
        word(self.count as i64);
        word(i64::from(self.closes.is_some()));
        word(self.closes.unwrap_or_default());
        if let Some(made) = &self.made {
            word(made.at);
            word(made.index);
            word(made.last);
            made.quantiles.iter().for_each(|quantile| word(quantile.to_bits() as i64));
        }
        bytes
    }

    /// What [`encode`](Self::encode) gave; `None` if it is something else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(8) {
            return None;
        }
        let words = bytes.chunks_exact(8).map(|word| word.try_into().map(i64::from_le_bytes));
        let words = words.collect::<Result<Vec<i64>, _>>().ok()?;
        let [anchor, index, last, count, closing, closes, made @ ..] = words.as_slice() else { return None };
        let made = match made {
            [] => None,
            [at, index, last, quantiles @ ..] => Some(Box::new(Made {
                at: *at,
                index: *index,
                last: *last,
                quantiles: quantiles.iter().map(|word| f64::from_bits(*word as u64)).collect(),
            })),
            _ => return None,
        };
        let closes = (*closing != 0).then_some(*closes);
        Some(Self { anchor: *anchor, index: *index, last: *last, count: *count as u64, closes, made })
    }
}

impl Made {
    /// How many steps ahead a step was, and the quantiles for it; `None` if it was beyond the horizon.
    pub(super) fn of(&self, index: i64, levels: usize) -> Option<(i64, &[f64])> {
        let ahead = index - self.index;
        let first = usize::try_from(ahead - 1).ok()?.checked_mul(levels)?;
        Some((ahead, self.quantiles.get(first..first + levels)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_belong_to_the_nearest_step() {
        let mut series = Series::default();
        let steps: Vec<Option<u64>> = [1000, 1011, 1019, 1020, 1055].map(|time| series.advance(time, 10)).to_vec();
        assert_eq!(steps, [Some(0), Some(0), Some(0), None, Some(3)]);
        assert_eq!((series.index, series.count, series.last), (6, 4, 1055));
        assert_eq!(
            (series.window_end(1055, 10), series.window_end(1060, 10), series.window_end(-1, 10)),
            (1060, 1070, 0)
        );
    }

    #[test]
    fn a_series_comes_back_as_it_was() {
        let made = Made { at: 7, index: 2, last: 6, quantiles: vec![1.5, -2.0, 3.0, 4.0] };
        assert_eq!(made.of(3, 2), Some((1, &[1.5, -2.0][..])));
        assert_eq!((made.of(4, 2).map(|of| of.0), made.of(5, 2), made.of(2, 2)), (Some(2), None, None));
        for made in [None, Some(Box::new(made))] {
            let series = Series { anchor: -5, index: 3, last: 9, count: 4, closes: made.as_ref().map(|_| 12), made };
            assert_eq!(Series::decode(&series.encode()), Some(series));
        }
        assert_eq!(Series::decode(&[1, 2, 3]), None);
    }
}
