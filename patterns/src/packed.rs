//! Few rows under way, in one or two pieces of memory.
//!
//! Where there are many partitions, each of them comes from far away in memory, and what it costs is how many pieces it is in. Most have
//! some rows under way. While rows are taken they are unpacked into vectors that serve all partitions one after the other.

use crate::attempt::{Attempt, Thread, ThreadRows};
use crate::conditions::TrailNode;
use crate::few::Few;

/// Copying more for each call costs more than what it saves.
const WORDS_MAX: usize = 128;

/// What was not packed is packed when it has become so small.
const WORDS_AGAIN_MAX: usize = 32;

/// No match.
const NONE: u16 = u16::MAX;

/// [`ThreadRows`] with few rows and threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed {
    pub(crate) start: u64,
    pub(crate) told_until: u64,
    deadline: Option<i64>,
    begun: bool,
    timed: bool,
    waits_for_end: bool,
    taken: u16,
    /// Node and count of rows.
    best: (u32, u16),
    longest: (u32, u16),
    threads: u16,
    registers: u16,
    nodes: u16,
    rows: u16,
    times: u16,
    /// So many of each, one after the other.
    words: Few<u64, 12>,
}

impl Packed {
    pub(crate) fn deadline(&self) -> Option<i64> {
        self.deadline.filter(|_| !self.waits_for_end)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words.bytes()
    }

    /// Whether it is little enough, in a key that has had it packed before or not.
    pub(crate) fn fits(rows: &ThreadRows, before: bool) -> bool {
        let attempt = &rows.attempt;
        let words =
            attempt.threads.len() + attempt.registers.len() + attempt.nodes.len() + rows.rows.len() + rows.times.len();
        let known = rows.failed.is_empty() && attempt.lived.is_empty();
        known && words <= if before { WORDS_MAX } else { WORDS_AGAIN_MAX }
    }

    /// Takes the place of what was packed; it fits.
    pub(crate) fn pack(&mut self, from: &ThreadRows) {
        let attempt = &from.attempt;
        // There are fewer of everything than words.
        let short = |count: usize| count as u16;
        self.start = from.start;
        self.told_until = from.told_until;
        self.deadline = attempt.deadline;
        self.begun = attempt.begun;
        self.timed = attempt.timed;
        self.waits_for_end = attempt.waits_for_end;
        self.taken = short(attempt.taken);
        self.best = attempt.best.map_or((0, NONE), |(node, rows)| (node, short(rows)));
        self.longest = (attempt.longest.0, short(attempt.longest.1));
        self.threads = short(attempt.threads.len());
        self.registers = short(attempt.registers.len());
        self.nodes = short(attempt.nodes.len());
        self.rows = short(from.rows.len());
        self.times = short(from.times.len());
        let count = self.threads + self.registers + self.nodes + self.rows + self.times;
        self.words.resize(count.into());
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let threads = attempt.threads.iter().map(|thread| pair(thread.state, thread.node));
        let nodes = attempt.nodes.iter().map(|node| pair(node.before, node.state));
        let times = from.times.iter().map(|time| *time as u64);
        let mut words = self.words.as_mut_slice();
        put(&mut words, threads);
        put(&mut words, attempt.registers.iter().copied());
        put(&mut words, nodes);
        put(&mut words, from.rows.iter().copied());
        put(&mut words, times);
    }

    /// Into what is empty but for its capacity. `nodes_max`: see [`Attempt`].
    pub(crate) fn unpack(&self, into: &mut ThreadRows, nodes_max: usize) {
        let mut words = self.words.as_slice();
        let mut take = |count: u16| {
            let (now, then) = words.split_at(count.into());
            words = then;
            now.iter().copied()
        };
        let halves = |word: u64| ((word >> 32) as u32, word as u32);
        let Attempt { threads, registers, nodes, .. } = &mut into.attempt;
        threads.extend(take(self.threads).map(|word| {
            let (state, node) = halves(word);
            Thread { state, node }
        }));
        registers.extend(take(self.registers));
        nodes.extend(take(self.nodes).map(|word| {
            let (before, state) = halves(word);
            TrailNode { before, state }
        }));
        into.rows.extend(take(self.rows));
        into.times.extend(take(self.times).map(|word| word as i64));
        into.attempt.begun = self.begun;
        into.attempt.timed = self.timed;
        into.attempt.waits_for_end = self.waits_for_end;
        into.attempt.taken = self.taken.into();
        into.attempt.best = (self.best.1 != NONE).then(|| (self.best.0, self.best.1.into()));
        into.attempt.longest = (self.longest.0, self.longest.1.into());
        into.attempt.deadline = self.deadline;
        into.attempt.nodes_max = nodes_max;
        (into.start, into.told_until) = (self.start, self.told_until);
    }
}

/// Fills the next places.
fn put(places: &mut &mut [u64], values: impl ExactSizeIterator<Item = u64>) {
    let (now, then) = std::mem::take(places).split_at_mut(values.len());
    now.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    *places = then;
}
