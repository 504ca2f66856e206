//! Which rows or keys time lets go: the watermark those of a join with bounds, the clock those that a TTL forgets ([`super::ttl`]).
//!
//! A calendar in two grains: rows wait in spans of about a second, and a span is sorted by millisecond when time enters it. So
//! taking a row in costs a push, freeing costs what is freed, and a row goes in exactly the step in which it has to, which shows
//! where rows without a match come out when they expire. A row that is given more time stays listed where it was, too; what is listed
//! once too often is passed over when its old time comes.

use std::collections::BTreeMap;

use crate::time::{EventTimeMs, WATERMARK_MAX};

/// Log2 of the milliseconds of a span.
const SPAN_BITS: u32 = 10;
/// Marks a row that is not there.
const GONE: i64 = i64::MIN;

/// Rows by the time at which they expire.
#[derive(Default)]
pub(crate) struct Expiry {
    /// By row id.
    expires: Vec<EventTimeMs>,
    /// Rows by span. A row that left earlier is still listed.
    spans: BTreeMap<i64, Vec<u32>>,
    /// Rows of the spans that the watermark has reached.
    exact: BTreeMap<EventTimeMs, Vec<u32>>,
    /// The span that the watermark has reached.
    reached: Option<i64>,
    listed: usize,
    /// How many of the listed rows have left.
    stale: usize,
}

impl Expiry {
    /// Takes in rows that expire when the watermark is beyond `expires`.
    pub(crate) fn insert(&mut self, ids: &[u32], expires: &[EventTimeMs]) {
        debug_assert_eq!(ids.len(), expires.len());
        self.listed += ids.len();
        let mut row = 0;
        while row < ids.len() {
            let start = row;
            let span = expires[row] >> SPAN_BITS;
            if self.reached.is_some_and(|reached| span <= reached) {
                // The watermark is at least where it was when the span was reached, so an early time does as well as a very early one.
                let at = expires[row].max(GONE + 1);
                while row < ids.len() && expires[row].max(GONE + 1) == at {
                    self.place(ids[row], at);
                    row += 1;
                }
                self.exact.entry(at).or_default().extend_from_slice(&ids[start..row]);
                continue;
            }
            while row < ids.len() && expires[row] >> SPAN_BITS == span {
                self.place(ids[row], expires[row].max(GONE + 1));
                row += 1;
            }
            self.spans.entry(span).or_default().extend_from_slice(&ids[start..row]);
        }
    }

    #[inline]
    fn place(&mut self, id: u32, at: EventTimeMs) {
        if self.expires.len() <= id as usize {
            self.expires.resize(id as usize + 1, GONE);
        }
        self.expires[id as usize] = at;
    }

    /// When a row expires.
    pub(crate) fn at(&self, id: u32) -> EventTimeMs {
        self.get(id).unwrap_or(GONE)
    }

    /// When a row expires; `None`: it is not there.
    pub(crate) fn get(&self, id: u32) -> Option<EventTimeMs> {
        self.expires.get(id as usize).copied().filter(|at| *at != GONE)
    }

    /// Takes in rows, or gives those that are there another time.
    pub(crate) fn renew(&mut self, ids: &[u32], expires: &[EventTimeMs]) {
        let (mut moved, mut moved_to) = (Vec::new(), Vec::new());
        for (id, at) in ids.iter().zip(expires) {
            let span = at >> SPAN_BITS;
            match self.get(*id) {
                Some(old) if old == *at => continue,
                // It is listed in the right span, which nobody has looked into yet.
                Some(old) if old >> SPAN_BITS == span && self.reached.is_none_or(|reached| span > reached) => {
                    self.place(*id, *at);
                    continue;
                }
                Some(_) => self.stale += 1,
                None => {}
            }
            moved.push(*id);
            moved_to.push(*at);
        }
        self.insert(&moved, &moved_to);
        self.tidy();
    }

    /// Says that a row has left for another reason.
    pub(crate) fn forget(&mut self, id: u32) {
        if self.get(id).is_some() {
            self.expires[id as usize] = GONE;
            self.stale += 1;
        }
    }

    /// Takes out the rows that the watermark has passed.
    pub(crate) fn due(&mut self, watermark: EventTimeMs) -> Vec<u32> {
        let mut due = Vec::new();
        let reached = watermark >> SPAN_BITS;
        while let Some(entry) = self.spans.first_entry().filter(|entry| *entry.key() <= reached) {
            let (span, ids) = entry.remove_entry();
            let whole = span < reached || watermark == WATERMARK_MAX;
            let mut later: Vec<(EventTimeMs, u32)> = Vec::new();
            for id in ids {
                let at = self.expires[id as usize];
                if at == GONE || at >> SPAN_BITS != span {
                    self.drop_stale();
                } else if whole || at < watermark {
                    self.take(id, &mut due);
                } else {
                    later.push((at, id));
                }
            }
            // Most came in the order of their times: a stable sort finds such runs.
            later.sort_by_key(|(at, _)| *at);
            for rows in later.chunk_by(|a, b| a.0 == b.0) {
                self.exact.entry(rows[0].0).or_default().extend(rows.iter().map(|(_, id)| *id));
            }
        }
        self.reached = self.reached.max(Some(reached));
        while let Some(entry) = self.exact.first_entry() {
            if *entry.key() >= watermark && watermark != WATERMARK_MAX {
                break;
            }
            let (at, ids) = entry.remove_entry();
            for id in ids {
                // A row that left, and one whose id was given out again for the same time, are listed once too often.
                if self.expires[id as usize] == at { self.take(id, &mut due) } else { self.drop_stale() }
            }
        }
        self.tidy();
        due
    }

    fn take(&mut self, id: u32, due: &mut Vec<u32>) {
        self.expires[id as usize] = GONE;
        self.listed -= 1;
        due.push(id);
    }

    fn drop_stale(&mut self) {
        self.listed -= 1;
        self.stale = self.stale.saturating_sub(1);
    }

    /// Lists rows anew where most of what is listed has left, so that rows that come and go long before their time leave no trace.
    fn tidy(&mut self) {
        if self.stale * 2 <= self.listed || self.stale < 1_024 + self.expires.len() / 8 {
            return;
        }
        self.spans.clear();
        self.exact.clear();
        self.stale = 0;
        self.listed = 0;
        let rows: Vec<(u32, i64)> =
            (0..).zip(&self.expires).filter(|(_, at)| **at != GONE).map(|(id, at)| (id, *at)).collect();
        let (ids, expires): (Vec<u32>, Vec<i64>) = rows.into_iter().unzip();
        self.insert(&ids, &expires);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.expires.capacity() * 8 + self.listed * 4 + (self.spans.len() + self.exact.len()) * 48
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Rows go as soon as the watermark has passed their time and not before, whatever time they were given and however far it goes,
        /// also those that leave earlier, are given another time, or come behind the watermark.
        #[test]
        fn rows_go_when_they_have_to(
            steps in proptest::collection::vec(
                (proptest::collection::vec((0_u32..60, -300_i64..4_000), 0..40), proptest::collection::vec(0_u32..60, 0..8), 0_i64..1_500),
                1..20,
            ),
        ) {
            let mut expiry = Expiry::default();
            let mut model = BTreeMap::<u32, i64>::new();
            let mut watermark = -2_000;
            for (rows, left, advance) in steps {
                let (renewed, new): (Vec<_>, Vec<_>) = rows
                    .into_iter()
                    .map(|(id, after)| (id, watermark + after))
                    .collect::<BTreeMap<u32, i64>>()
                    .into_iter()
                    .partition(|(id, _)| model.contains_key(id));
                let apart = |rows: &[(u32, i64)]| rows.iter().copied().unzip::<_, _, Vec<u32>, Vec<i64>>();
                let (ids, times) = apart(&new);
                expiry.insert(&ids, &times);
                let (ids, times) = apart(&renewed);
                expiry.renew(&ids, &times);
                model.extend(new.into_iter().chain(renewed));
                for id in left {
                    expiry.forget(id);
                    model.remove(&id);
                }
                watermark += advance;
                let mut due = expiry.due(watermark);
                due.sort_unstable();
                let expected: Vec<u32> = model.iter().filter(|(_, at)| **at < watermark).map(|(id, _)| *id).collect();
                prop_assert_eq!(due, expected);
                model.retain(|_, at| *at >= watermark);
                for id in 0..60 {
                    prop_assert_eq!(expiry.get(id), model.get(&id).copied());
                }
            }
            let mut rest = expiry.due(WATERMARK_MAX);
            rest.sort_unstable();
            prop_assert_eq!(rest, model.into_keys().collect::<Vec<_>>());
        }
    }
}
