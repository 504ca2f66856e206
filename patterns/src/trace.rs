//! One attempt told row by row: what a person wants to see who asks why rows match, or why they do not.
//!
//! The partial matches that begin at a row take the rows after it, as in [`thread_run`](crate::thread_run): the same automaton in the same
//! order of preference, the same conditions. What is different is that nothing is forgotten: no row waits for others, nothing that failed
//! is remembered, and of each row one partial match is told. That is the one that became the match; where none did, or behind its
//! last row, the most preferred of those that took the row; and where none took it, the most preferred of those that had come so far.

use std::collections::HashSet;

use crate::automaton::{Automaton, StateId, Step};
use crate::conditions::{Conditions, NO_NODE, Trail, TrailNode};
use crate::matcher::{Label, Matcher};
use crate::pattern::{PatternError, Variable};

/// The rows of a partition, from its first one on.
#[derive(Debug, Clone, Copy)]
pub struct TraceRows<'a> {
    /// For each row a bit for each variable whose condition on columns it meets.
    pub bits: &'a [u64],
    /// What conditions on the match read of each row, as many for each ([`Symbols::set_values`](crate::Symbols::set_values)).
    pub values: &'a [u32],
    /// The time of each row, ascending, where there is a bound in time.
    pub times: &'a [i64],
    /// No further row comes.
    pub ended: bool,
}

impl TraceRows<'_> {
    fn values(&self, row: usize) -> &[u32] {
        let count = self.values.len() / self.bits.len();
        &self.values[row * count..(row + 1) * count]
    }
}

/// A row that an attempt looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedRow {
    /// Its place in the partition.
    pub row: u64,
    /// The labels of the rows before it in the partial match that is told.
    pub before: Vec<Label>,
    /// The variables that the row might have been, preferred first.
    pub tried: Vec<Variable>,
    /// What it was; `None`: no partial match took it.
    pub taken: Option<Label>,
    /// Whether the bound in time let it be taken.
    pub in_time: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEnd {
    /// The match with its labels; `None`: there is none.
    pub labels: Option<Vec<Label>>,
    /// How many rows it looked at.
    pub rows: usize,
    /// Partial matches were under way when there were no more rows.
    pub out_of_rows: bool,
    /// Of the partial match that is told last: what it waited for, preferred first, and how many more rows it needed at least.
    pub waiting: Vec<Variable>,
    /// See there.
    pub missing: usize,
}

/// A partial match, by its last row.
#[derive(Debug, Clone, Copy)]
struct Thread {
    state: Option<StateId>,
    node: u32,
}

/// What came of a row.
struct Taken {
    /// The most preferred of those that took it.
    taken: Option<u32>,
    /// The most preferred of those before it.
    before: Thread,
    in_time: bool,
}

impl Matcher {
    /// Tells the attempt that begins at row `start` and would find match `number`: `tell` is called for each row that it looks at and that
    /// `wanted` tells to be of interest, in order. Others cost no more than to be matched.
    ///
    /// # Errors
    /// A condition that cannot be evaluated; too many partial matches ([`MatcherSpec::max_partial`](crate::MatcherSpec::max_partial)).
    pub fn trace<C: Conditions>(
        &self,
        rows: TraceRows<'_>,
        (start, number): (u64, u64),
        conditions: &mut C,
        wanted: impl Fn(u64) -> bool,
        mut tell: impl FnMut(TracedRow),
    ) -> Result<TraceEnd, PatternError> {
        let automaton = &self.automaton;
        let mut trace = Trace { matcher: self, start, nodes: Vec::new(), best: None };
        let (steps, alive) = trace.run(rows, number, conditions)?;
        let matched = trace.best.map(|(node, _)| trace.path(node));
        let of_match = trace.best.map_or(vec![], |(node, _)| trace.nodes_to(node));
        let mut last = Thread { state: None, node: NO_NODE };
        for (index, step) in steps.iter().enumerate() {
            let taken = of_match.get(index).copied().or(step.taken);
            let before = match taken {
                Some(node) => trace.thread_before(node),
                None => step.before,
            };
            last = match taken {
                Some(node) => Thread { state: Some(trace.nodes[node as usize].state), node },
                None => before,
            };
            let row = start + index as u64;
            if !wanted(row) {
                continue;
            }
            tell(TracedRow {
                row,
                before: trace.path(before.node),
                tried: waits_for(automaton, before.state, start),
                taken: taken.map(|node| trace.label(node)),
                in_time: step.in_time,
            });
        }
        Ok(TraceEnd {
            labels: matched,
            rows: steps.len(),
            out_of_rows: alive,
            waiting: waits_for(automaton, last.state, start),
            missing: missing(automaton, last.state, start),
        })
    }
}

struct Trace<'m> {
    matcher: &'m Matcher,
    start: u64,
    nodes: Vec<TrailNode>,
    /// The last row of what is a match if nothing preferred becomes one, and how many rows it has.
    best: Option<(u32, usize)>,
}

impl Trace<'_> {
    /// What came of each row, and whether partial matches were left behind the last one.
    fn run<C: Conditions>(
        &mut self,
        rows: TraceRows<'_>,
        number: u64,
        conditions: &mut C,
    ) -> Result<(Vec<Taken>, bool), PatternError> {
        let (automaton, spec) = (&self.matcher.automaton, &self.matcher.spec);
        let first_steps = steps_of(automaton, None, self.start);
        if first_steps.contains(&Step::Accept) {
            self.best = Some((NO_NODE, 0));
        }
        let register_count = if spec.asks { conditions.register_count() } else { 0 };
        let merges = !spec.asks || !conditions.reads_trail();
        let mut threads: Vec<(Thread, Vec<u64>)> = Vec::new();
        if first_steps.first().is_some_and(|step| *step != Step::Accept) {
            let mut registers = vec![0; register_count];
            if spec.asks {
                conditions.begin(self.start, number, &mut registers);
            }
            threads.push((Thread { state: None, node: NO_NODE }, registers));
        }
        let start = self.start as usize;
        let deadline = spec.within.and_then(|within| Some(rows.times.get(start)?.saturating_add(within)));
        let mut told = Vec::new();
        for place in start..rows.bits.len() {
            let Some((before, _)) = threads.first() else { break };
            let in_time = deadline.is_none_or(|deadline| rows.times[place] <= deadline);
            let mut step = Taken { taken: None, before: *before, in_time };
            let mut next = Vec::new();
            let mut seen = HashSet::new();
            'threads: for (thread, registers) in threads.iter().filter(|_| in_time) {
                for target in steps_of(automaton, thread.state, self.start) {
                    let Step::To(id) = *target else { continue };
                    let state = &automaton.states[id as usize];
                    if rows.bits[place] >> state.variable & 1 == 0 {
                        continue;
                    }
                    let mut own = registers.clone();
                    if spec.asks {
                        let trail = Trail {
                            nodes: &self.nodes,
                            states: &automaton.states,
                            last: thread.node,
                            row: place as u64,
                            values: rows.values(place),
                        };
                        if !conditions.take(state.variable, place as u64, trail, &mut own)? {
                            continue;
                        }
                    }
                    if merges && !seen.insert((id, own.clone())) {
                        continue;
                    }
                    let too_many = || PatternError::TooManyPartial { max: spec.max_partial };
                    let node = u32::try_from(self.nodes.len()).ok().filter(|node| *node != NO_NODE);
                    let node = node.filter(|_| next.len() < spec.max_partial).ok_or_else(too_many)?;
                    self.nodes.push(TrailNode { before: thread.node, state: id });
                    step.taken.get_or_insert(node);
                    if state.goes_on() {
                        next.push((Thread { state: Some(id), node }, own));
                    }
                    if state.accepts() {
                        self.best = Some((node, place - start + 1));
                        break 'threads;
                    }
                }
            }
            threads = next;
            told.push(step);
        }
        let at_end = |thread: &&(Thread, Vec<u64>)| {
            thread.0.state.is_some_and(|state| automaton.states[state as usize].accepts_at_end())
        };
        if rows.ended
            && let Some((complete, _)) = threads.iter().find(at_end)
        {
            self.best = Some((complete.node, rows.bits.len() - start));
        }
        Ok((told, !threads.is_empty()))
    }

    fn label(&self, node: u32) -> Label {
        let state = &self.matcher.automaton.states[self.nodes[node as usize].state as usize];
        Label::new(state.variable, state.excluded)
    }

    /// The rows of a partial match up to one of them.
    fn nodes_to(&self, node: u32) -> Vec<u32> {
        let mut nodes = Vec::new();
        let mut next = node;
        while let Some(node) = self.nodes.get(next as usize) {
            nodes.push(next);
            next = node.before;
        }
        nodes.reverse();
        nodes
    }

    /// Their labels.
    fn path(&self, node: u32) -> Vec<Label> {
        self.nodes_to(node).into_iter().map(|node| self.label(node)).collect()
    }

    fn thread_before(&self, node: u32) -> Thread {
        let before = self.nodes[node as usize].before;
        Thread { state: self.nodes.get(before as usize).map(|node| node.state), node: before }
    }
}

/// Where a partial match may go on; without a state it has no row yet.
fn steps_of(automaton: &Automaton, state: Option<StateId>, start: u64) -> &[Step] {
    match state {
        Some(state) => &automaton.states[state as usize].next,
        None if start == 0 => &automaton.start_first,
        None => &automaton.start,
    }
}

/// The variables that may come next, preferred first.
fn waits_for(automaton: &Automaton, state: Option<StateId>, start: u64) -> Vec<Variable> {
    let mut variables = Vec::new();
    for step in steps_of(automaton, state, start) {
        if let Step::To(id) = step {
            let variable = automaton.states[*id as usize].variable;
            if !variables.contains(&variable) {
                variables.push(variable);
            }
        }
    }
    variables
}

/// How many rows a partial match needs at least to become a match.
fn missing(automaton: &Automaton, state: Option<StateId>, start: u64) -> usize {
    let mut seen = HashSet::new();
    let mut now: Vec<Option<StateId>> = vec![state];
    for rows in 0..=automaton.states.len() {
        let mut next = Vec::new();
        for state in now {
            for step in steps_of(automaton, state, start) {
                match step {
                    Step::Accept | Step::AcceptAtEnd => return rows,
                    Step::To(id) if seen.insert(*id) => next.push(Some(*id)),
                    Step::To(_) => {}
                }
            }
        }
        now = next;
    }
    0
}
