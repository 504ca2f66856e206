//! Between instants and what a wall clock somewhere shows, where its clocks are set back and forth.
//!
//! Windows over instants are cut in local time, as Flink has it: the day of a city is a day also when it has 23 or 25 hours, and an hour that
//! the clocks show twice is one hour of both. Event times, watermarks and lateness stay instants; an operator that cuts windows asks the clock
//! for the local time of a row, and for what a watermark means in local time: the least local time that any instant from there on
//! has. That is a monotone function, also where the clocks are not: it stands still while an hour is shown for the first time that will come
//! again, and jumps where they jump. So a window closes when nothing of it can come any more, and not later.

use std::fmt;
use std::sync::Arc;

use arrow::array::Int64Array;

use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN};

/// A wall clock; without changes and an offset it shows UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct WallClock(Option<Arc<Table>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Table {
    name: String,
    /// Where each stretch of one offset begins; the first one always.
    starts: Vec<EventTimeMs>,
    /// How far the clock is ahead of UTC in each.
    offsets: Vec<i64>,
    /// The least local time that is shown in each stretch or after it.
    least: Vec<i64>,
}

impl WallClock {
    /// The clock `name`, which was ahead of UTC by `offset_ms` and from each instant of `changes`, in their order, by another offset.
    pub fn new(name: &str, offset_ms: i64, changes: impl IntoIterator<Item = (EventTimeMs, i64)>) -> Self {
        let (mut starts, mut offsets) = (vec![WATERMARK_MIN], vec![offset_ms]);
        for (instant, offset) in changes {
            if offsets.last() != Some(&offset) {
                starts.push(instant);
                offsets.push(offset);
            }
        }
        if offsets == [0] {
            return Self::default();
        }
        let shown = starts.iter().zip(&offsets).map(|(start, offset)| shift(*start, *offset));
        let mut least: Vec<i64> = shown.collect();
        for index in (1..least.len()).rev() {
            least[index - 1] = least[index - 1].min(least[index]);
        }
        Self(Some(Arc::new(Table { name: name.to_string(), starts, offsets, least })))
    }

    /// Whether local time is UTC.
    pub fn is_utc(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the clock is ever set anew, so that local times are shown twice or never.
    pub fn changes(&self) -> bool {
        self.0.as_ref().is_some_and(|table| table.offsets.len() > 1)
    }

    /// How far the clock has been ahead of UTC since `since`, in milliseconds.
    pub fn offsets_since(&self, since: EventTimeMs) -> &[i64] {
        match &self.0 {
            Some(table) => &table.offsets[table.stretch(since)..],
            None => &[0],
        }
    }

    /// What the clock shows.
    pub fn local(&self, instant: EventTimeMs) -> i64 {
        match &self.0 {
            Some(table) => shift(instant, table.offsets[table.stretch(instant)]),
            None => instant,
        }
    }

    /// [`local`](Self::local) for all of a column.
    pub fn local_times(&self, instants: &Int64Array) -> Int64Array {
        let Some(table) = &self.0 else { return instants.clone() };
        // Rows of one batch seldom lie on two sides of a change.
        let (least, greatest) = (arrow::compute::min(instants), arrow::compute::max(instants));
        let stretch = least.map_or(0, |least| table.stretch(least));
        if greatest.is_none_or(|greatest| table.stretch(greatest) == stretch) {
            return instants.unary(|instant| shift(instant, table.offsets[stretch]));
        }
        instants.unary(|instant| self.local(instant))
    }

    /// The least local time of the instants from `watermark` on: what the watermark means to local times.
    pub fn passed(&self, watermark: EventTimeMs) -> i64 {
        let Some(table) = &self.0 else { return watermark };
        if watermark == WATERMARK_MIN || watermark == WATERMARK_MAX {
            return watermark;
        }
        let stretch = table.stretch(watermark);
        let now = shift(watermark, table.offsets[stretch]);
        table.least.get(stretch + 1).map_or(now, |later| now.min(*later))
    }

    /// The last instant at which the clock shows `local` or an earlier time: of two that show it the second, and where it is left
    /// out the one before the clock jumps.
    pub fn last_instant(&self, local: i64) -> EventTimeMs {
        let Some(table) = &self.0 else { return local };
        if local == WATERMARK_MAX {
            return local;
        }
        let stretch = table.least.partition_point(|least| *least <= local).max(1) - 1;
        let instant = local.saturating_sub(table.offsets[stretch]);
        table.starts.get(stretch + 1).map_or(instant, |next| instant.min(next - 1))
    }

    /// The watermark at which all local times before `end` have passed.
    pub fn closes_at(&self, end: i64) -> EventTimeMs {
        match self.is_utc() {
            true => end,
            false => self.last_instant(end.saturating_sub(1)).saturating_add(1),
        }
    }
}

impl Table {
    /// The stretch that an instant lies in.
    fn stretch(&self, instant: EventTimeMs) -> usize {
        self.starts.partition_point(|start| *start <= instant).max(1) - 1
    }
}

/// The ends of time stay where they are.
fn shift(time: i64, by: i64) -> i64 {
    if time == WATERMARK_MIN || time == WATERMARK_MAX { time } else { time.saturating_add(by) }
}

impl fmt::Display for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("UTC", |table| &table.name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An hour that is left out and one that comes twice, in small: forward by 10 at 100, back by 10 at 200.
    fn summer() -> WallClock {
        WallClock::new("summer", 10, [(100, 20), (200, 10)])
    }

    /// What a window waits for where the clocks jump: nothing where an hour is left out, both turns where it comes twice.
    #[test]
    fn a_watermark_in_local_time() {
        let clock = summer();
        let passed = |at: i64| clock.passed(at);
        assert_eq!([98, 99, 100, 101].map(passed), [108, 109, 120, 121]);
        // The clock shows 210 at 190 and again at 200, and then 211 for the last time.
        assert_eq!([188, 189, 190, 195, 199, 200, 201].map(passed), [208, 209, 210, 210, 210, 210, 211]);
        assert_eq!([WATERMARK_MIN, WATERMARK_MAX].map(passed), [WATERMARK_MIN, WATERMARK_MAX]);
        assert_eq!([109, 110, 115, 119, 120].map(|local| clock.last_instant(local)), [99, 99, 99, 99, 100]);
        assert_eq!([209, 210, 219, 220].map(|local| clock.last_instant(local)), [189, 200, 209, 210]);
        // A window that ends where nothing is shown closes at the jump; one that ends at 215 at its second turn.
        assert_eq!([115, 120, 121, 215].map(|end| clock.closes_at(end)), [100, 100, 101, 205]);
    }

    #[test]
    fn no_change_is_none() {
        assert!(WallClock::new("UTC", 0, [(5, 0)]).is_utc());
        let fixed = WallClock::new("+01:00", 60, [(5, 60)]);
        assert!(!fixed.changes() && !fixed.is_utc());
        assert_eq!((fixed.local(0), fixed.passed(0), fixed.last_instant(60), fixed.closes_at(60)), (60, 60, 0, 0));
    }

    fn clocks() -> impl Strategy<Value = WallClock> {
        let changes = prop::collection::vec((1_i64..40, -15_i64..15), 0..5);
        (-15_i64..15, changes).prop_map(|(first, changes)| {
            let mut at = 0;
            let changes = changes.into_iter().map(|(after, offset)| {
                at += after;
                (at, offset)
            });
            WallClock::new("any", first, changes.collect::<Vec<_>>())
        })
    }

    proptest! {
        /// All that operators rely on, by looking at each instant, however wildly the clocks are set.
        #[test]
        fn agrees_with_its_definition(clock in clocks(), at in -50_i64..250) {
            let all = -400_i64..600;
            prop_assert_eq!(clock.passed(at), all.clone().filter(|t| *t >= at).map(|t| clock.local(t)).min().unwrap_or(at));
            prop_assert_eq!(clock.last_instant(at), all.clone().filter(|t| clock.local(*t) <= at).max().unwrap_or(at));
            for watermark in all {
                prop_assert_eq!(clock.closes_at(at) <= watermark, at <= clock.passed(watermark));
            }
            let times: Int64Array = (at - 30..at + 30).collect();
            let expected: Int64Array = times.unary(|time| clock.local(time));
            prop_assert_eq!(clock.local_times(&times), expected);
        }
    }
}
