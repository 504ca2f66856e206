//! Partitions, and what is under way in them.
//!
//! A partition without rows under way is a few words, also where its last row stays because the next one is held against it, or because a
//! match may begin with it. What the others have lies in one vector, each in one piece as a rule: where there are many partitions each
//! piece comes from far away in memory, and how many of them there are is what a row costs.

use eagre_patterns::{Key, Matcher};

use super::held::Held;
use crate::keys::look_ahead;
use crate::rows::make_room;

/// Of fewer busy partitions all is near anyway.
const FAR: usize = if cfg!(test) { 4 } else { 2_048 };

/// What there is of a partition beside its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing.
    Nothing,
    /// Its last row, by its id.
    LastRow,
    /// Its last row, too, with which a match may begin: what [`Matcher::packed`] says of that one row.
    Begun(u8),
    /// What is under way, by its place.
    Busy,
}

/// A partition.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// How many of its rows were matched.
    pub(super) position: u64,
    /// See [`Rest`].
    id: u32,
    rest: Rest,
    /// It differs from what was saved.
    pub(super) dirty: bool,
    /// It is among those that were idle.
    pub(super) listed: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self { position: 0, id: 0, rest: Rest::Nothing, dirty: false, listed: false }
    }
}

impl Part {
    /// Rows were matched up to a position, and nothing is under way.
    pub(super) fn at(position: u64) -> Self {
        Self { position, ..Self::default() }
    }
}

/// What is under way in a partition: three lines of a cache, which [`Parts::look_ahead`] touches.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Busy {
    /// Its rows that stay.
    pub(super) held: Held,
    /// Of one pattern, its match under way.
    pub(super) one: Option<Active>,
    /// The bytes that it held elsewhere when they were counted last.
    counted: usize,
    /// What else there is.
    more: Option<Box<More>>,
}

/// What is under way of several patterns, and how many matches they had.
#[derive(Debug, Default)]
struct More {
    /// The patterns of which a match is under way, ascending.
    active: Vec<Active>,
    /// How many matches each had, where someone counts them.
    numbers: Vec<(u32, u64)>,
}

/// A pattern of which a match is under way.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) pattern: u32,
    pub(super) key: Key,
}

impl Busy {
    /// Nothing yet; the next row that stays is at `first`.
    pub(super) fn new(first: u64) -> Self {
        Self { held: Held::new(first), ..Self::default() }
    }

    /// The matches under way, by pattern.
    pub(super) fn active(&self) -> impl Iterator<Item = &Active> {
        self.one.iter().chain(self.more.iter().flat_map(|more| &more.active))
    }

    /// Those of several patterns are taken out.
    pub(super) fn take_active(&mut self) -> impl Iterator<Item = Active> {
        self.more.iter_mut().flat_map(|more| more.active.drain(..))
    }

    /// Puts one of several patterns back, behind those before it.
    pub(super) fn put_active(&mut self, active: Active) {
        self.more.get_or_insert_default().active.push(active);
    }

    /// How many matches each of several patterns had, as far as it is counted.
    pub(super) fn numbers(&self) -> &[(u32, u64)] {
        self.more.as_ref().map_or(&[], |more| &more.numbers)
    }

    pub(super) fn number(&self, pattern: u32) -> u64 {
        self.numbers().iter().find(|(of, _)| *of == pattern).map_or(0, |(_, number)| *number)
    }

    pub(super) fn set_number(&mut self, pattern: u32, number: u64) {
        let numbers = &mut self.more.get_or_insert_default().numbers;
        match numbers.iter_mut().find(|(of, _)| *of == pattern) {
            Some((_, known)) => *known = number,
            None => numbers.push((pattern, number)),
        }
    }

    fn is_idle(&self) -> bool {
        self.held.ids().is_empty() && self.one.is_none() && self.has_no_more()
    }

    fn has_no_more(&self) -> bool {
        self.more.as_ref().is_none_or(|more| more.active.is_empty() && more.numbers.is_empty())
    }

    /// The row before `position`, if that is all there is, with what may begin there. `matcher`: of the pattern of which that can be kept.
    fn last_row(&self, position: u64, matcher: Option<&Matcher>) -> Option<(u32, Rest)> {
        let [id] = self.held.ids() else { return None };
        if self.held.first + 1 != position || !self.has_no_more() {
            return None;
        }
        let rest = match (&self.one, matcher) {
            (None, _) => Rest::LastRow,
            (Some(active), Some(matcher)) => match matcher.packed(&active.key).to_le_bytes() {
                [1, class, ..] => Rest::Begun(class),
                _ => return None,
            },
            _ => return None,
        };
        Some((*id, rest))
    }

    /// Bytes held outside of the value itself.
    fn bytes(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| {
            size_of::<More>() + more.active.capacity() * size_of::<Active>() + more.numbers.capacity() * 16
        });
        self.held.bytes() + more + self.active().map(|active| active.key.bytes()).sum::<usize>()
    }
}

/// All partitions, by slot.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Part>,
    busy: Vec<Busy>,
    /// How many matches partitions had, where there is one pattern and someone counts them; those that are not there had none.
    numbers: Vec<u64>,
    /// Places of `busy` that are free.
    free: Vec<u32>,
    /// Bytes that what is busy holds elsewhere: counted where it changes, because all partitions are too many to ask after each step.
    busy_bytes: usize,
}

impl Parts {
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// How many have something under way.
    pub(super) fn busy_count(&self) -> usize {
        self.busy.len() - self.free.len()
    }

    /// Makes room for slots below `count`.
    pub(super) fn resize(&mut self, count: usize) {
        make_room(&mut self.parts, count);
        self.parts.resize_with(count.max(self.parts.len()), Part::default);
    }

    #[inline]
    pub(super) fn part(&self, slot: u32) -> &Part {
        &self.parts[slot as usize]
    }

    #[inline]
    pub(super) fn part_mut(&mut self, slot: u32) -> &mut Part {
        &mut self.parts[slot as usize]
    }

    /// The partition is as if it had never been; nothing is under way in it.
    pub(super) fn reset(&mut self, slot: u32) {
        if let Some(part) = self.parts.get_mut(slot as usize) {
            debug_assert_eq!(part.rest, Rest::Nothing, "what is forgotten is idle");
            *part = Part { dirty: part.dirty, ..Part::default() };
        }
        if let Some(number) = self.numbers.get_mut(slot as usize) {
            *number = 0;
        }
    }

    /// How many matches a partition had, where there is one pattern.
    #[inline]
    pub(super) fn number(&self, slot: u32) -> u64 {
        self.numbers.get(slot as usize).copied().unwrap_or(0)
    }

    /// The same, to be kept.
    pub(super) fn set_number(&mut self, slot: u32, number: u64) {
        if self.numbers.len() < self.parts.len() {
            make_room(&mut self.numbers, self.parts.len());
            self.numbers.resize(self.parts.len(), 0);
        }
        self.numbers[slot as usize] = number;
    }

    /// Adds a partition.
    pub(super) fn push(&mut self, part: Part, busy: Option<Busy>) {
        let slot = self.parts.len() as u32;
        self.parts.push(part);
        if let Some(busy) = busy {
            let counted = busy.bytes();
            self.busy_bytes += counted;
            *self.make_busy(slot, 0) = Busy { counted, ..busy };
        }
    }

    /// Loads what is under way in some partitions, so that it is near when one after the other is looked at: their misses overlap.
    ///
    /// Where a partition's rows are few and partitions many, this is most of what a row costs.
    pub(super) fn look_ahead(&self, slots: impl Iterator<Item = u32> + Clone) {
        if self.busy.len() < FAR {
            return;
        }
        let busy = || slots.clone().filter_map(|slot| self.busy(slot));
        // What is far away decides nothing here, so nothing waits for it.
        look_ahead(busy().map(|busy| busy.held.first ^ u64::from(busy.one.is_some()) ^ u64::from(busy.more.is_some())));
        let active = |busy: &Busy| busy.one.as_ref().map_or(0, |active| active.key.look_ahead());
        look_ahead(busy().map(|busy| active(busy) ^ busy.held.look_ahead()));
    }

    /// Whether there is nothing of a partition but how many rows it had.
    pub(super) fn is_idle(&self, slot: u32) -> bool {
        self.parts[slot as usize].rest == Rest::Nothing && self.number(slot) == 0
    }

    /// What is under way.
    #[inline]
    pub(super) fn busy(&self, slot: u32) -> Option<&Busy> {
        let part = &self.parts[slot as usize];
        if part.rest == Rest::Busy { self.busy.get(part.id as usize) } else { None }
    }

    /// The same. When all is changed, it has to be told: see [`settle`](Self::settle).
    #[inline]
    pub(super) fn busy_mut(&mut self, slot: u32) -> Option<&mut Busy> {
        let part = &self.parts[slot as usize];
        if part.rest == Rest::Busy { self.busy.get_mut(part.id as usize) } else { None }
    }

    /// The rows of a partition that stay, and the position of the first of them.
    pub(super) fn held(&self, slot: u32) -> Option<(u64, &[u32])> {
        let part = &self.parts[slot as usize];
        match part.rest {
            Rest::Nothing => None,
            Rest::LastRow | Rest::Begun(_) => Some((part.position - 1, std::slice::from_ref(&part.id))),
            Rest::Busy => self.busy(slot).map(|busy| (busy.held.first, busy.held.ids())),
        }
    }

    /// Where a partition's last row may begin a match: that row, as [`Matcher::packed`] has it.
    pub(super) fn begun(&self, slot: u32) -> Option<u64> {
        match self.parts[slot as usize].rest {
            Rest::Begun(class) => Some(u64::from_le_bytes([1, class, 0, 0, 0, 0, 0, 0])),
            _ => None,
        }
    }

    /// To be called before the rows of a partition are matched: a last row that stays is under way now. [`settle`](Self::settle) has to follow.
    #[inline]
    pub(super) fn wake(&mut self, slot: u32, matcher: &Matcher) -> Option<&Busy> {
        let part = &self.parts[slot as usize];
        if matches!(part.rest, Rest::LastRow | Rest::Begun(_)) {
            let (id, first) = (part.id, part.position - 1);
            let (number, begun) = (self.number(slot), self.begun(slot));
            self.parts[slot as usize].rest = Rest::Nothing;
            let busy = self.make_busy(slot, first);
            busy.held.push(&[id]);
            let key = begun.and_then(|packed| matcher.resume_packed(first, number, 0, packed));
            debug_assert_eq!(key.is_some(), begun.is_some(), "it is what was kept");
            busy.one = key.map(|key| Active { pattern: 0, key });
        }
        self.busy(slot)
    }

    /// What is under way in a partition, which begins now if there was nothing: the next row that stays is at `first` then.
    pub(super) fn make_busy(&mut self, slot: u32, first: u64) -> &mut Busy {
        let part = &mut self.parts[slot as usize];
        debug_assert!(matches!(part.rest, Rest::Nothing | Rest::Busy), "the partition was woken");
        if part.rest != Rest::Busy {
            part.rest = Rest::Busy;
            part.id = self.free.pop().unwrap_or_else(|| {
                let count = self.busy.len() + 1;
                make_room(&mut self.busy, count);
                self.busy.push(Busy::default());
                u32::try_from(self.busy.len() - 1).expect("there are no more than slots")
            });
            self.busy[part.id as usize] = Busy::new(first);
        }
        &mut self.busy[part.id as usize]
    }

    /// To be called when all of a step that changes a partition is done: counts its bytes, and gives its place back if it has become idle.
    /// Whether it is. `matcher`: as [`Busy::last_row`] has it.
    #[inline]
    pub(super) fn settle(&mut self, slot: u32, matcher: Option<&Matcher>) -> bool {
        let part = &mut self.parts[slot as usize];
        if part.rest != Rest::Busy {
            return self.is_idle(slot);
        }
        let busy = &mut self.busy[part.id as usize];
        let last_row = busy.last_row(part.position, matcher);
        let rests = last_row.is_some() || busy.is_idle();
        let bytes = if rests { 0 } else { busy.bytes() };
        self.busy_bytes = self.busy_bytes + bytes - busy.counted;
        busy.counted = bytes;
        if rests {
            *busy = Busy::default();
            self.free.push(part.id);
            (part.id, part.rest) = last_row.unwrap_or((0, Rest::Nothing));
        }
        self.is_idle(slot)
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        debug_assert_eq!(self.busy_bytes, self.busy.iter().map(Busy::bytes).sum::<usize>(), "no change was missed");
        self.parts.capacity() * size_of::<Part>()
            + self.busy.capacity() * size_of::<Busy>()
            + self.numbers.capacity() * 8
            + self.free.capacity() * 4
            + self.busy_bytes
    }
}

#[cfg(test)]
mod tests {
    use eagre_patterns::{BadSkip, Found, MatcherSpec, NoConditions, Overflow, Pattern, Skip, Symbols};

    use super::*;

    /// Of `A B`.
    fn matcher() -> Matcher {
        let spec = MatcherSpec {
            pattern: Pattern::Concatenation(vec![Pattern::Variable(0), Pattern::Variable(1)]),
            skip: Skip::PastLastRow,
            bad_skip: BadSkip::Error,
            within: None,
            asks: false,
            unmatched: false,
            partial: false,
            max_partial: 10,
            overflow: Overflow::Error,
        };
        Matcher::new(spec).expect("a small pattern")
    }

    /// Ten million keys in which nothing is under way have to fit a gigabyte, with the table that finds them.
    #[test]
    fn an_idle_partition_is_small() {
        assert!(size_of::<Part>() <= 16);
    }

    /// Each line that something under way is spread over comes from far away.
    #[test]
    fn what_is_under_way_is_three_lines() {
        assert_eq!(size_of::<Busy>(), 192);
    }

    /// What is under way has its place as long as it is there, and no longer.
    #[test]
    fn places_are_used_again() {
        let mut parts = Parts::default();
        parts.resize(3);
        for slot in 0..3 {
            parts.make_busy(slot, 7).held.push(&[slot]);
        }
        assert_eq!((parts.busy_count(), parts.busy(1).map(|busy| busy.held.ids())), (3, Some(&[1][..])));
        assert!(!parts.settle(1, None), "it holds a row");
        parts.busy_mut(1).expect("it is busy").held.release(8, &mut Vec::new());
        assert!(parts.settle(1, None) && parts.busy(1).is_none());
        assert_eq!(parts.make_busy(1, 9).held.end(), 9, "it begins anew");
        assert_eq!((parts.busy_count(), parts.busy.len()), (3, 3));
    }

    /// A partition whose last row alone stays is a few words, until its next row comes.
    #[test]
    fn a_last_row_needs_no_place() {
        let mut parts = Parts::default();
        parts.resize(1);
        parts.make_busy(0, 6).held.push(&[11, 12]);
        parts.part_mut(0).position = 8;
        assert!(!parts.settle(0, None), "it holds rows");
        assert_eq!((parts.busy_count(), parts.held(0)), (1, Some((6, &[11, 12][..]))));
        parts.busy_mut(0).expect("it is busy").held.release(7, &mut Vec::new());
        assert!(!parts.settle(0, None), "it holds a row");
        assert_eq!((parts.busy_count(), parts.held(0)), (0, Some((7, &[12][..]))));
        assert!(!parts.is_idle(0));
        assert_eq!(parts.wake(0, &matcher()).map(|busy| (busy.held.first, busy.held.ids())), Some((7, &[12][..])));
        // Nor does one with which a match may begin.
        let (matcher, mut symbols, mut found) = (matcher(), Symbols::default(), Found::default());
        matcher.symbols(&[&[1], &[0]], 1, &mut symbols);
        let mut key = matcher.resume(7, 0, 0);
        let fed = matcher.feed(&mut key, &symbols, 0..1, &[], false, &mut NoConditions, &mut found);
        fed.expect("nothing is asked");
        parts.busy_mut(0).expect("it was woken").one = Some(Active { pattern: 0, key });
        assert!(!parts.settle(0, Some(&matcher)) && parts.busy_count() == 0, "a match may begin with the row");
        assert_eq!((parts.held(0), parts.is_idle(0)), (Some((7, &[12][..])), false));
        parts.wake(0, &matcher);
        let key = &mut parts.busy_mut(0).expect("it was woken").one.as_mut().expect("it began a match").key;
        assert_eq!((key.start(), key.position()), (7, 8));
        matcher.symbols(&[&[0], &[1]], 1, &mut symbols);
        let fed = matcher.feed(key, &symbols, 0..1, &[], false, &mut NoConditions, &mut found);
        fed.expect("nothing is asked");
        assert_eq!((found.matches.len(), found.matches[0].first), (1, 7), "and the next row ends it");
        parts.busy_mut(0).expect("it is busy").one = None;
        // A row that waits for others is none that was matched.
        parts.part_mut(0).position = 7;
        assert!(!parts.settle(0, None) && parts.busy_count() == 1);
    }
}
