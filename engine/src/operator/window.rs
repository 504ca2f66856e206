//! Windows in event time, and the panes that they share.
//!
//! A *pane* is a stretch of time that every window covers whole or not at all. A row is aggregated into its one pane; a window's answer
//! is the merge of its panes, so the cost of a row does not grow with size / slide. Panes are cut where windows start (the slide) and
//! where they end (the slide shifted by size mod slide): at most two panes a slide, never a gcd of a millisecond.
//! After Krishnamurthy et al., "On-the-fly sharing for streamed aggregation" (SIGMOD 2006), paired windows.
//!
//! Panes are numbered along time, so that the panes of a window are a range of numbers. Arithmetic saturates at the ends of time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};

/// The three kinds of windows, as Flink has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowKind {
    /// One after the other.
    Tumble {
        /// The length of a window.
        size_ms: i64,
    },
    /// A window of `size_ms` starts every `slide_ms`. A slide above the size leaves gaps, whose rows belong to no window.
    Hop {
        /// From start to start.
        slide_ms: i64,
        /// The length of a window.
        size_ms: i64,
    },
    /// Windows that share a start and grow by `step_ms` up to `size_ms`, then start anew.
    Cumulate {
        /// From end to end.
        step_ms: i64,
        /// The longest window, a multiple of the step.
        size_ms: i64,
    },
}

/// Windows, and where they lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// What they are.
    pub kind: WindowKind,
    /// Where some window starts, counted from 1970-01-01T00:00:00Z.
    pub offset_ms: i64,
}

impl WindowSpec {
    /// Windows of `kind`, shifted by `offset_ms`.
    ///
    /// # Errors
    /// Lengths that are not positive, or a cumulate size that is not a multiple of the step.
    pub fn new(kind: WindowKind, offset_ms: i64) -> Result<Self> {
        let positive = |what: &str, value: i64| {
            if value > 0 {
                return Ok(());
            }
            Err(EngineError::Plan {
                message: format!("the {what} of a window is {}; it must be at least 1 ms", Millis(value)),
            })
        };
        match kind {
            WindowKind::Tumble { size_ms } => positive("size", size_ms)?,
            WindowKind::Hop { slide_ms, size_ms } => {
                positive("slide", slide_ms)?;
                positive("size", size_ms)?;
            }
            WindowKind::Cumulate { step_ms, size_ms } => {
                positive("step", step_ms)?;
                positive("size", size_ms)?;
                if size_ms % step_ms != 0 {
                    return Err(EngineError::Plan {
                        message: format!(
                            "CUMULATE with a size of {} and a step of {}: the size must be a multiple of the step",
                            Millis(size_ms),
                            Millis(step_ms)
                        ),
                    });
                }
            }
        }
        Ok(Self { kind, offset_ms })
    }

    /// Whether a pane can lie in several windows.
    pub fn overlaps(&self) -> bool {
        match self.kind {
            WindowKind::Tumble { .. } => false,
            WindowKind::Hop { slide_ms, size_ms } => slide_ms < size_ms,
            WindowKind::Cumulate { step_ms, size_ms } => step_ms < size_ms,
        }
    }

    /// The period at which the pattern of panes repeats, and where in it the second pane begins (the period itself: there is none).
    fn period(&self) -> (i64, i64) {
        match self.kind {
            WindowKind::Tumble { size_ms } => (size_ms, size_ms),
            WindowKind::Cumulate { step_ms, .. } => (step_ms, step_ms),
            WindowKind::Hop { slide_ms, size_ms } => match size_ms % slide_ms {
                0 => (slide_ms, slide_ms),
                rest => (slide_ms, rest),
            },
        }
    }

    /// The pane of an event time.
    #[inline]
    pub fn pane_of(&self, time_ms: i64) -> i64 {
        let (period, cut) = self.period();
        let time = time_ms.saturating_sub(self.offset_ms);
        let turn = time.div_euclid(period);
        if cut == period { turn } else { turn.saturating_mul(2) + i64::from(time.rem_euclid(period) >= cut) }
    }

    /// Where a pane begins.
    pub fn pane_start(&self, pane: i64) -> i64 {
        let (period, cut) = self.period();
        if cut == period {
            pane.saturating_mul(period).saturating_add(self.offset_ms)
        } else {
            let turn = pane.div_euclid(2).saturating_mul(period).saturating_add(self.offset_ms);
            turn.saturating_add(if pane.rem_euclid(2) == 1 { cut } else { 0 })
        }
    }

    /// Where a pane ends, exclusive.
    pub fn pane_end(&self, pane: i64) -> i64 {
        self.pane_start(pane.saturating_add(1))
    }

    /// The windows that cover a pane, as `(start, end)`, by ascending end.
    pub fn windows_of_pane(&self, pane: i64) -> Windows {
        let (start, end) = (self.pane_start(pane), self.pane_end(pane));
        match self.kind {
            WindowKind::Tumble { .. } => Windows { start, end, step_start: 0, step_end: 0, count: 1 },
            WindowKind::Hop { slide_ms, size_ms } => {
                // The last window that starts at or before the pane, and back from it while windows still reach the pane's end.
                let turn = start.saturating_sub(self.offset_ms).div_euclid(slide_ms);
                let last = turn.saturating_mul(slide_ms).saturating_add(self.offset_ms);
                let spare = last.saturating_add(size_ms).saturating_sub(end);
                let count = if spare < 0 { 0 } else { spare / slide_ms + 1 };
                let first = last.saturating_sub(slide_ms.saturating_mul(count - 1));
                Windows {
                    start: first,
                    end: first.saturating_add(size_ms),
                    step_start: slide_ms,
                    step_end: slide_ms,
                    count,
                }
            }
            WindowKind::Cumulate { step_ms, size_ms } => {
                let turn = start.saturating_sub(self.offset_ms).div_euclid(size_ms);
                let base = turn.saturating_mul(size_ms).saturating_add(self.offset_ms);
                let last = base.saturating_add(size_ms);
                Windows {
                    start: base,
                    end,
                    step_start: 0,
                    step_end: step_ms,
                    count: last.saturating_sub(end) / step_ms + 1,
                }
            }
        }
    }

    /// The windows that an event time belongs to, as `(start, end)`, by ascending end.
    pub fn windows_of(&self, time_ms: i64) -> Windows {
        self.windows_of_pane(self.pane_of(time_ms))
    }

    /// The end of the first window that covers a pane; `None` in a gap.
    pub fn first_window_end(&self, pane: i64) -> Option<i64> {
        let windows = self.windows_of_pane(pane);
        (windows.count > 0).then_some(windows.end)
    }

    /// The end of the last window that covers a pane; `None` in a gap.
    pub fn last_window_end(&self, pane: i64) -> Option<i64> {
        self.windows_of_pane(pane).last().map(|(_, end)| end)
    }

    /// The panes `[first, last]` of the window `[start, end)`.
    pub fn panes_of_window(&self, start: i64, end: i64) -> (i64, i64) {
        (self.pane_of(start), self.pane_of(end.saturating_sub(1)))
    }
}

/// Windows by ascending end.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    start: i64,
    end: i64,
    step_start: i64,
    step_end: i64,
    count: i64,
}

impl Windows {
    /// The windows whose end is above `end_ms`, skipping the others at no cost.
    pub fn ending_after(mut self, end_ms: i64) -> Self {
        if self.count > 0 && self.end <= end_ms {
            let skip = match self.step_end {
                0 => self.count,
                step => (end_ms.saturating_sub(self.end) / step).saturating_add(1).min(self.count),
            };
            self.advance(skip);
        }
        self
    }

    fn advance(&mut self, count: i64) {
        self.start = self.start.saturating_add(self.step_start.saturating_mul(count));
        self.end = self.end.saturating_add(self.step_end.saturating_mul(count));
        self.count -= count;
    }

    /// How many are left.
    pub fn count_left(&self) -> usize {
        self.count as usize
    }
}

impl Iterator for Windows {
    type Item = (i64, i64);

    #[inline]
    fn next(&mut self) -> Option<(i64, i64)> {
        if self.count == 0 {
            return None;
        }
        let window = (self.start, self.end);
        self.advance(1);
        Some(window)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count as usize, Some(self.count as usize))
    }

    fn last(mut self) -> Option<(i64, i64)> {
        if self.count == 0 {
            return None;
        }
        self.advance(self.count - 1);
        self.next()
    }
}

impl ExactSizeIterator for Windows {}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            WindowKind::Tumble { size_ms } => write!(f, "tumble(size={}", Millis(size_ms))?,
            WindowKind::Hop { slide_ms, size_ms } => {
                write!(f, "hop(slide={}, size={}", Millis(slide_ms), Millis(size_ms))?;
            }
            WindowKind::Cumulate { step_ms, size_ms } => {
                write!(f, "cumulate(step={}, size={}", Millis(step_ms), Millis(size_ms))?;
            }
        }
        if self.offset_ms != 0 {
            write!(f, ", offset={}", Millis(self.offset_ms))?;
        }
        f.write_str(")")
    }
}

/// A length of time in milliseconds, shown in its largest whole unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub i64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
        match UNITS.into_iter().find(|(unit, _)| self.0 != 0 && self.0 % unit == 0) {
            Some((unit, name)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} ms", self.0),
        }
    }
}
