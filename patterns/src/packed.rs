//! Few rows under way, in one piece of memory.
//!
//! Where there are many partitions, each of them comes from far away in memory, and what it costs is how many pieces it is in. Most have
//! a row or two under way. While rows are taken they are unpacked into vectors that serve all partitions one after the other.

use crate::attempt::{Attempt, Thread, ThreadRows};
use crate::conditions::{NO_NODE, TrailNode};

const THREADS_MAX: usize = 2;
const REGISTERS_MAX: usize = 4;
const NODES_MAX: usize = 6;
const ROWS_MAX: usize = 4;

/// No node, and no match.
const NONE: u8 = u8::MAX;

/// [`ThreadRows`] with few rows and threads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Packed {
    pub(crate) start: u64,
    pub(crate) told_until: u64,
    deadline: Option<i64>,
    begun: bool,
    timed: bool,
    waits_for_end: bool,
    taken: u8,
    best: (u8, u8),
    longest: (u8, u8),
    thread_count: u8,
    register_count: u8,
    node_count: u8,
    row_count: u8,
    time_count: u8,
    threads: [Thread; THREADS_MAX],
    registers: [u64; REGISTERS_MAX],
    nodes: [TrailNode; NODES_MAX],
    rows: [u64; ROWS_MAX],
    times: [i64; ROWS_MAX],
}

impl Packed {
    pub(crate) fn deadline(&self) -> Option<i64> {
        self.deadline.filter(|_| !self.waits_for_end)
    }

    /// `None` if it is too much.
    pub(crate) fn new(from: &ThreadRows) -> Option<Self> {
        let attempt = &from.attempt;
        let fits = from.rows.len() <= ROWS_MAX
            && from.times.len() <= ROWS_MAX
            && attempt.threads.len() <= THREADS_MAX
            && attempt.registers.len() <= REGISTERS_MAX
            && attempt.nodes.len() <= NODES_MAX
            && from.failed.is_empty()
            && from.failed_registers.is_empty();
        if !fits {
            return None;
        }
        // All of these are small where there are few rows and nodes.
        let byte = |number: usize| number as u8;
        let node = |node: u32| if node == NO_NODE { NONE } else { node as u8 };
        let mut packed = Self {
            start: from.start,
            told_until: from.told_until,
            deadline: attempt.deadline,
            begun: attempt.begun,
            timed: attempt.timed,
            waits_for_end: attempt.waits_for_end,
            taken: byte(attempt.taken),
            best: attempt.best.map_or((NONE, NONE), |(last, rows)| (node(last), byte(rows))),
            longest: (node(attempt.longest.0), byte(attempt.longest.1)),
            thread_count: byte(attempt.threads.len()),
            register_count: byte(attempt.registers.len()),
            node_count: byte(attempt.nodes.len()),
            row_count: byte(from.rows.len()),
            time_count: byte(from.times.len()),
            ..Self::default()
        };
        fill(&mut packed.threads, attempt.threads.iter());
        fill(&mut packed.registers, attempt.registers.iter());
        fill(&mut packed.nodes, attempt.nodes.iter());
        fill(&mut packed.rows, from.rows.iter());
        fill(&mut packed.times, from.times.iter());
        Some(packed)
    }

    /// Into what is empty but for its capacity. `nodes_max`: see [`Attempt`].
    pub(crate) fn unpack(&self, into: &mut ThreadRows, nodes_max: usize) {
        let node = |node: u8| if node == NONE { NO_NODE } else { u32::from(node) };
        let Attempt { threads, registers, nodes, .. } = &mut into.attempt;
        replace(threads, &self.threads[..self.thread_count.into()]);
        replace(registers, &self.registers[..self.register_count.into()]);
        replace(nodes, &self.nodes[..self.node_count.into()]);
        into.attempt.begun = self.begun;
        into.attempt.timed = self.timed;
        into.attempt.waits_for_end = self.waits_for_end;
        into.attempt.taken = self.taken.into();
        into.attempt.best = (self.best.1 != NONE).then(|| (node(self.best.0), self.best.1.into()));
        into.attempt.longest = (node(self.longest.0), self.longest.1.into());
        into.attempt.deadline = self.deadline;
        into.attempt.nodes_max = nodes_max;
        (into.start, into.told_until) = (self.start, self.told_until);
        into.rows.clear();
        into.rows.extend(&self.rows[..self.row_count.into()]);
        into.times.clear();
        into.times.extend(&self.times[..self.time_count.into()]);
        into.failed.clear();
        into.failed_registers.clear();
    }
}

fn fill<'a, T: Copy + 'a>(places: &mut [T], values: impl Iterator<Item = &'a T>) {
    for (place, value) in places.iter_mut().zip(values) {
        *place = *value;
    }
}

fn replace<T: Copy>(all: &mut Vec<T>, values: &[T]) {
    all.clear();
    all.extend_from_slice(values);
}
