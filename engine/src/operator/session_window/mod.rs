//! Session windows: stretches of rows of one key with no pause longer than the gap between them.
//!
//! A session is `[start, end)` with `end` = its last event time + gap. Two rows whose distance is the gap exactly are in one session, so a
//! session is final only when the watermark is *past* its end: while it stands there, a row at that very time may still come and
//! join. (Closing at the end itself would make the answer depend on how the input was cut into steps.) What leaves then has a
//! `window_time` one millisecond before the end and so up to a millisecond behind the watermark, which is why the output's watermark is held
//! back by one ([`OutputWatermark`]).
//!
//! Order does not matter: a row joins whatever lies within the gap of it, and may so make one session of two. Rows are judged at the
//! end of the step's rows, so that their order within a step does not show either: those that open or extend a session on their own right
//! come first, then the others, latest first, and what finds no open session is late.
//!
//! Starts, ends and pauses are in local time ([`WallClock`]), watermarks and what is compared with them are instants.
//!
//! [`aggregate`] keeps accumulators for each session and no rows; [`assign`] keeps rows until their session is final, for
//! queries that need the rows themselves, for input whose rows can be taken back (a retraction may split a session), and for groups finer
//! than the sessions.

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;

use super::OutputWatermark;
use super::group_aggregate::GroupEmit;
use super::window_assign::local_columns;
use crate::delta::Delta;
use crate::error::Result;
use crate::time::{EventTimeMs, WATERMARK_MAX, event_times_from_ms, event_times_ms};
use crate::wall_clock::WallClock;

pub mod aggregate;
pub mod assign;
#[cfg(test)]
mod tests;

/// Which sessions, and when they speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSpec {
    /// The column of the input that is the event time.
    pub time_column: usize,
    /// The longest pause within a session, in milliseconds, at least 1.
    pub gap_ms: i64,
    /// When results leave.
    pub emit: GroupEmit,
    /// How long after its end a session can still be corrected.
    pub lateness_ms: i64,
    /// In whose time pauses are measured.
    pub clock: WallClock,
}

impl SessionSpec {
    /// Whether results are taken back: output then has weights.
    pub fn corrects(&self) -> bool {
        self.emit == GroupEmit::EveryStep || self.lateness_ms > 0
    }

    /// The times of rows, which have one, by the clock.
    fn local_times(&self, delta: &Delta) -> Result<Int64Array> {
        Ok(self.clock.local_times(&event_times_ms(delta.batch.column(self.time_column))?))
    }

    /// The end of a session whose last event is at `last`.
    fn end(&self, last: EventTimeMs) -> EventTimeMs {
        last.saturating_add(self.gap_ms)
    }

    /// The last instant at which a row can join the session on time.
    fn open_until(&self, last: EventTimeMs) -> EventTimeMs {
        self.clock.last_instant(self.end(last))
    }

    /// Whether no row on time can join any more.
    fn is_closed(&self, last: EventTimeMs, watermark: EventTimeMs) -> bool {
        is_past(self.open_until(last), watermark)
    }

    /// The time that the watermark passes when nothing can be corrected any more.
    fn over_at(&self, last: EventTimeMs) -> EventTimeMs {
        self.open_until(last).saturating_add(self.lateness_ms)
    }

    /// Whether the session of one row at `time` was closed longer than the lateness ago.
    fn is_late(&self, time: EventTimeMs, watermark: EventTimeMs) -> bool {
        self.over_at(time) <= watermark
    }

    /// The time that the watermark passes when something happens to a session next.
    fn due(&self, last: EventTimeMs, watermark: EventTimeMs) -> EventTimeMs {
        let due = match self.emit == GroupEmit::EveryStep || self.is_closed(last, watermark) {
            true => self.over_at(last),
            false => self.open_until(last),
        };
        due.min(WATERMARK_MAX - 1)
    }

    /// `window_start`, `window_end` and `window_time` of sessions. The time is that of the last millisecond, and never more than a millisecond
    /// behind the watermark that closes the session.
    fn window_columns(
        &self,
        starts: Vec<EventTimeMs>,
        lasts: &[EventTimeMs],
        time_type: &DataType,
    ) -> Result<[ArrayRef; 3]> {
        let ends: Vec<EventTimeMs> = lasts.iter().map(|last| self.end(*last)).collect();
        let times = lasts.iter().zip(&ends).map(|(last, end)| {
            let shown = self.clock.last_instant(end.saturating_sub(1));
            Some(shown.max(self.open_until(*last).saturating_sub(1)))
        });
        let times = event_times_from_ms(times.collect::<Int64Array>(), time_type)?;
        let [starts, ends] = local_columns(starts, ends, time_type)?;
        Ok([starts, ends, times])
    }

    /// How far what leaves may lie behind the watermark.
    const OUTPUT_WATERMARK: OutputWatermark = OutputWatermark::Behind(1);
}

/// Whether the watermark has gone past `time`; at the end of the input it has passed everything.
fn is_past(time: EventTimeMs, watermark: EventTimeMs) -> bool {
    time.min(WATERMARK_MAX - 1) < watermark
}
