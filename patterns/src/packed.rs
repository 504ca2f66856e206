//! Few rows under way, in one or two pieces of memory.
//!
//! Where there are many partitions, each of them comes from far away in memory, and what it costs is how many pieces it is in. Most have
//! some rows under way. While rows are taken they are unpacked into vectors that serve all partitions one after the other. What is packed
//! is made of halves of words, because states, nodes and, as a rule, the bits of a row are small numbers: a row costs eight bytes.

use crate::attempt::{Attempt, Thread, ThreadRows};
use crate::automaton::StateId;
use crate::conditions::{NO_NODE, TrailNode};
use crate::few::Few;

/// Copying more for each call costs more than what it saves.
const HALVES_MAX: usize = 256;

/// What was not packed is packed when it has become so small.
const HALVES_AGAIN_MAX: usize = 64;

/// Automata with more states are not packed: a state has 16 bits, and the greatest number is [`StateId::MAX`]'s.
const STATES_MAX: usize = u16::MAX as usize;

/// Rows whose bits are greater than this have a word.
const NARROW_MAX: u64 = if cfg!(test) { 3 } else { u32::MAX as u64 };

/// No match.
const NONE: u16 = u16::MAX;

/// A row as it is packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedRow<'a> {
    pub(crate) bits: u64,
    pub(crate) values: &'a [u32],
    /// Where there is a bound in time.
    pub(crate) time: Option<i64>,
}

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
    values: u16,
    times: u16,
    /// Some row's bits need a whole word, so all rows have one.
    wide: bool,
    /// So many of each, one after the other.
    halves: Few<u32, 40>,
}

impl Packed {
    pub(crate) fn deadline(&self) -> Option<i64> {
        self.deadline.filter(|_| !self.waits_for_end)
    }

    /// Touches all of its lines.
    #[inline]
    pub(crate) fn look_ahead(&self) -> u64 {
        self.start ^ self.halves.look_ahead()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.halves.bytes()
    }

    /// Whether so many states have numbers that fit.
    #[inline]
    pub(crate) fn packs(states: usize) -> bool {
        states < STATES_MAX
    }

    /// An attempt that has no row yet, nor a partial match. `deadline`: see [`Attempt`].
    pub(crate) fn begin(start: u64, deadline: Option<i64>) -> Self {
        Self { start, deadline, begun: true, best: (0, NONE), longest: (NO_NODE, 0), ..Self::default() }
    }

    /// How many rows there are.
    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.rows.into()
    }

    /// The state of its partial match, if there is one alone that may take a further row, of this time, and has all those before.
    #[inline]
    pub(crate) fn lone(&self, time: Option<i64>) -> Option<StateId> {
        let in_time = self.deadline.zip(time).is_none_or(|(deadline, time)| time <= deadline);
        let alone = self.threads == 1 && self.taken == self.rows && !self.waits_for_end && !self.wide;
        (alone && in_time).then(|| number(self.halves.as_slice()[0] >> 16))
    }

    /// The registers of its one partial match.
    #[inline]
    pub(crate) fn lone_registers(&self, into: &mut [u64]) {
        let halves = &self.halves.as_slice()[usize::from(self.threads)..];
        into.iter_mut().zip(words(halves)).for_each(|(register, word)| *register = word);
    }

    /// The one partial match, or the first one, takes a row: it is in the first state then, with these registers and, if there is a second
    /// one, a match in that. False: it does not fit, and nothing is changed.
    pub(crate) fn push_lone(
        &mut self,
        (state, accepted): (StateId, Option<StateId>),
        registers: &[u64],
        row: PackedRow<'_>,
        nodes_max: usize,
    ) -> bool {
        let node_before = match self.threads {
            0 => NO_NODE,
            _ => number(self.halves.as_slice()[0] & 0xffff),
        };
        let nodes_before = usize::from(self.nodes);
        // What was the match until now, if it was more than the partial match: nobody needs its last row any more.
        let replaced = accepted.is_some() && self.best.1 != NONE && self.best.0 != node_before;
        let node = nodes_before - usize::from(replaced && self.best.0 as usize + 1 == nodes_before);
        let leaf = accepted.filter(|accepted| *accepted != state);
        let nodes = node + 1 + usize::from(leaf.is_some());
        let lens_before = [self.rows.into(), self.values.into(), 2 * usize::from(self.times)];
        let lens = [
            lens_before[0] + 1,
            lens_before[1] + row.values.len(),
            lens_before[2] + 2 * usize::from(row.time.is_some()),
        ];
        let nodes_at = 1 + 2 * registers.len();
        let count = nodes_at + nodes + lens.iter().sum::<usize>();
        if row.bits > NARROW_MAX || nodes > nodes_max || count > HALVES_MAX {
            return false;
        }
        self.halves.resize(count);
        let halves = self.halves.as_mut_slice();
        // What comes after the nodes moves, the last first.
        let mut ends = (nodes_at + nodes_before + lens_before.iter().sum::<usize>(), count);
        for (len_before, len) in lens_before.into_iter().zip(lens).rev() {
            let begins = (ends.0 - len_before, ends.1 - len);
            halves.copy_within(begins.0..ends.0, begins.1);
            ends = begins;
        }
        let (mut places, _) = halves.split_at_mut(nodes_at);
        put(&mut places, [pair(state, node as u32)].into_iter());
        put_words(&mut places, registers.iter().copied());
        halves[nodes_at + node] = pair(node_before, state);
        if let Some(leaf) = leaf {
            halves[nodes_at + node + 1] = pair(node_before, leaf);
        }
        let rows_end = nodes_at + nodes + lens[0];
        halves[rows_end - 1] = row.bits as u32;
        let values_end = rows_end + lens[1];
        halves[values_end - row.values.len()..values_end].copy_from_slice(row.values);
        if let Some(time) = row.time {
            let (_, mut places) = halves.split_at_mut(count - 2);
            put_words(&mut places, [time as u64].into_iter());
        }
        let short = |count: usize| count as u16;
        (self.threads, self.registers, self.nodes) = (1, short(registers.len()), short(nodes));
        (self.rows, self.values, self.times) = (short(lens[0]), short(lens[1]), short(lens[2] / 2));
        self.taken += 1;
        if accepted.is_some() {
            self.best = ((nodes - 1) as u32, self.taken);
        }
        true
    }

    /// Whether it is little enough, in a key that has had it packed before or not. `states`: how many the automaton has.
    pub(crate) fn fits(rows: &ThreadRows, before: bool, states: usize) -> bool {
        let attempt = &rows.attempt;
        let small = attempt.threads.len() + attempt.nodes.len() + rows.values.len();
        let large = attempt.registers.len() + rows.rows.len() + rows.times.len();
        let known = rows.failed.is_empty() && attempt.lived.is_empty();
        known && Self::packs(states) && small + 2 * large <= if before { HALVES_MAX } else { HALVES_AGAIN_MAX }
    }

    /// Takes the place of what was packed; it fits.
    pub(crate) fn pack(&mut self, from: &ThreadRows) {
        let attempt = &from.attempt;
        // There are fewer of everything than halves.
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
        self.values = short(from.values.len());
        self.times = short(from.times.len());
        self.wide = from.rows.iter().any(|row| *row > NARROW_MAX);
        self.halves.resize(self.count());
        let threads = attempt.threads.iter().map(|thread| pair(thread.state, thread.node));
        let nodes = attempt.nodes.iter().map(|node| pair(node.before, node.state));
        let mut halves = self.halves.as_mut_slice();
        put(&mut halves, threads);
        put_words(&mut halves, attempt.registers.iter().copied());
        put(&mut halves, nodes);
        match self.wide {
            true => put_words(&mut halves, from.rows.iter().copied()),
            false => put(&mut halves, from.rows.iter().map(|row| *row as u32)),
        }
        put(&mut halves, from.values.iter().copied());
        put_words(&mut halves, from.times.iter().map(|time| *time as u64));
    }

    /// How many halves there are.
    fn count(&self) -> usize {
        let rows = usize::from(self.rows) << usize::from(self.wide);
        let small = usize::from(self.threads) + usize::from(self.nodes) + usize::from(self.values) + rows;
        small + 2 * (usize::from(self.registers) + usize::from(self.times))
    }

    /// Into what is empty but for its capacity. `nodes_max`: see [`Attempt`].
    pub(crate) fn unpack(&self, into: &mut ThreadRows, nodes_max: usize) {
        let mut halves = self.halves.as_slice();
        let mut take = |count: usize| {
            let (now, then) = halves.split_at(count);
            halves = then;
            now
        };
        let pair = |half: &u32| (number(half >> 16), number(half & 0xffff));
        let Attempt { threads, registers, nodes, .. } = &mut into.attempt;
        threads.extend(take(self.threads.into()).iter().map(pair).map(|(state, node)| Thread { state, node }));
        registers.extend(words(take(2 * usize::from(self.registers))));
        nodes.extend(take(self.nodes.into()).iter().map(pair).map(|(before, state)| TrailNode { before, state }));
        match self.wide {
            true => into.rows.extend(words(take(2 * usize::from(self.rows)))),
            false => into.rows.extend(take(self.rows.into()).iter().map(|half| u64::from(*half))),
        }
        into.values.extend_from_slice(take(self.values.into()));
        into.times.extend(words(take(2 * usize::from(self.times))).map(|word| word as i64));
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

/// Two numbers. A node's number is less than the count of nodes; [`NO_NODE`] and [`StateId::MAX`] stay the greatest numbers.
#[inline]
fn pair(high: u32, low: u32) -> u32 {
    high << 16 | low & 0xffff
}

/// One of a [`pair`]: the greatest of 16 bits is the greatest of 32.
#[inline]
fn number(half: u32) -> u32 {
    if half == 0xffff { u32::MAX } else { half }
}

/// What [`put_words`] took.
fn words(halves: &[u32]) -> impl Iterator<Item = u64> {
    halves.chunks_exact(2).map(|pair| u64::from(pair[0]) << 32 | u64::from(pair[1]))
}

/// Fills the next places.
fn put(places: &mut &mut [u32], values: impl ExactSizeIterator<Item = u32>) {
    let (now, then) = std::mem::take(places).split_at_mut(values.len());
    now.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    *places = then;
}

/// Fills the next places with two halves of each word.
fn put_words(places: &mut &mut [u32], words: impl ExactSizeIterator<Item = u64>) {
    let (now, then) = std::mem::take(places).split_at_mut(2 * words.len());
    for (pair, word) in now.chunks_exact_mut(2).zip(words) {
        pair.copy_from_slice(&[(word >> 32) as u32, word as u32]);
    }
    *places = then;
}
