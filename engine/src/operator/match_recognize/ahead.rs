//! Where matches of many patterns may begin, worked out for all of them at once, where a placer says.
//!
//! Most rows are the beginning of no match, and of a rule book it is what looking at them costs that counts. Conditions are bitmaps
//! when rows are matched, so a kernel ([`eagre_kernels::pattern_starts`]) can run the automata of all patterns backwards over the rows of a block:
//! what the rows that are there refute is passed over, however far behind they refute it. What comes later may still refute the rest, so it
//! is a filter: with it or without, on the CPU or on a device, matches are the same.
//!
//! Blocks do not depend on each other, so nothing is kept of them. Moves between CPU and device go into the step log all the same, as those
//! of all kernels do: how rows are cut into blocks could depend on them one day.
//!
//! Left out are patterns for which it would not be the whole truth: conditions on the match, rows or partial matches that are told without a
//! match, anchors, empty matches, more states than a kernel has. Each looks for itself then, as a pattern alone does.

use std::sync::Arc;

use arrow::array::RecordBatch;
use eagre_kernels::pattern_starts::{Batch, Pattern, PatternStarts, STATES_MAX, Starts, State};
use eagre_kernels::placed::{Placement, Runner};
use eagre_kernels::placer::BatchShape;
use eagre_patterns::{Automaton, Step};
use serde_json::{Map, Value};

use super::{NAME, Plan, Plans};
use crate::error::{EngineError, Result};
use crate::hash::HashGroups;
use crate::operator::{Output, Placed, StepWave, Ticket, moves};

/// So many patterns are one call of the kernel,
const PATTERNS_MAX: usize = if cfg!(test) { 2 } else { 1_024 };
/// and not more than look at so many conditions: with the rows of a block, what goes to a device and what comes back fits one binding each.
const PREDICATES_MAX: usize = 4_096;
/// A block of more rows (of one partition) is not looked at.
const ROWS_MAX: usize = 1 << 17;
/// States of the patterns that the kernel is calibrated on.
const CALIBRATED_STATES: f64 = 192.0;

/// See the module.
pub(super) struct LookAhead {
    calls: Vec<Call>,
    /// For each pattern its call, and its place there.
    of: Vec<Option<(usize, usize)>>,
    /// No match under way may have more rows: an attempt that is passed over must not have been one that is refused as too long.
    rows_max: usize,
    /// What the calls have answered for the block in work.
    answers: Vec<Starts>,
    /// Whether they work.
    pub(super) is_working: bool,
    owned: HashGroups,
}

struct Call {
    runner: Runner<PatternStarts>,
    /// What a row costs, as a multiple of the calibrated patterns'.
    work: f64,
}

/// Patterns that go together.
#[derive(Default)]
struct Packed {
    patterns: Vec<Pattern>,
    predicates: Vec<u32>,
}

impl LookAhead {
    pub(super) fn new(plans: &Plans, placement: &Arc<Placement>) -> Result<Self> {
        let (packed, of) = pack(plans);
        let call = |packed: Packed| {
            let kernel = PatternStarts::new(packed.patterns).map_err(|error| EngineError::bug(error.to_string()))?;
            let work = kernel.state_count() as f64 / CALIBRATED_STATES;
            Ok(Call { runner: Runner::new(kernel, placement), work })
        };
        let rows_max = plans.plans.iter().map(|plan| plan.spec.max_partial).min().unwrap_or(0);
        Ok(Self {
            calls: packed.into_iter().map(call).collect::<Result<_>>()?,
            of,
            rows_max: rows_max.min(ROWS_MAX),
            answers: Vec::new(),
            is_working: false,
            owned: HashGroups::ALL,
        })
    }

    /// Whether some patterns are looked at together.
    pub(super) fn is_used(plans: &Plans) -> bool {
        plans.plans.iter().filter(|plan| is_fit(plan)).nth(1).is_some()
    }

    /// Has the kernel look at `rows` rows, of which `bits` has the conditions and `ends` the last row of each partition. A ticket: the
    /// device has to answer first.
    pub(super) fn ask(
        &mut self,
        rows: usize,
        bits: &Arc<Vec<Vec<u64>>>,
        ends: &Arc<Vec<u64>>,
        wave: &mut StepWave,
    ) -> Result<Option<Ticket>> {
        let answered = self.calls.iter().zip(self.answers.drain(..));
        answered.for_each(|(call, starts)| call.runner.kernel().give_back(starts));
        if self.calls.is_empty() || rows == 0 || rows > self.rows_max {
            return Ok(None);
        }
        let batch = Batch::new(rows, Arc::clone(bits), Arc::clone(ends));
        let calls = &mut self.calls;
        let ticket = wave.start(calls.len(), |group| {
            for Call { runner, work } in calls {
                let bytes = |bitmaps: usize| (bitmaps * rows.div_ceil(8)) as u64;
                let shape = BatchShape {
                    upload_bytes: bytes(runner.kernel().predicate_count() + 1),
                    readback_bytes: bytes(runner.kernel().patterns().len()),
                    work: *work,
                    ..BatchShape::of_rows(rows as u64, 0, 0)
                };
                runner.start(batch.clone(), shape, group);
            }
            Ok(())
        })?;
        self.is_working = true;
        if ticket.is_none() {
            self.answered();
        }
        Ok(ticket)
    }

    /// Takes the answers.
    pub(super) fn answered(&mut self) {
        if std::mem::take(&mut self.is_working) {
            self.answers.extend(self.calls.iter_mut().map(|call| call.runner.finish()));
        }
    }

    /// The rows of the block at which a match of a pattern may begin; `None`: it has to look for itself.
    pub(super) fn starts(&self, pattern: usize) -> Option<&[u64]> {
        let (call, place) = self.of[pattern]?;
        Some(self.answers.get(call)?.of(place))
    }

    /// Hands over moves between CPU and device.
    pub(super) fn record(&mut self, out: &mut Output) -> Result<()> {
        let switches = |(call, of): (u32, &mut Call)| of.runner.take_switches().into_iter().map(move |one| (call, one));
        let moves: Vec<_> = (0..).zip(&mut self.calls).flat_map(switches).collect();
        moves::record(self.owned, &moves, out)
    }

    /// Repeats the moves of the step log.
    pub(super) fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        let next: Vec<u64> = self.calls.iter().map(|call| call.runner.place().0).collect();
        let recorded = moves::recorded(NAME, self.owned, answers, &next)?;
        self.calls.iter_mut().zip(recorded).for_each(|(call, moves)| call.runner.recall(&moves));
        Ok(())
    }

    pub(super) fn save(&self, meta: &mut Map<String, Value>) {
        if !self.calls.is_empty() {
            moves::put_places(self.owned, self.calls.iter().map(|call| call.runner.place()), meta);
        }
    }

    /// Goes on where kernels ran; at another number of shards, where those of some shard did.
    pub(super) fn restore(&mut self, owned: HashGroups, metas: &[Map<String, Value>]) {
        self.owned = owned;
        for (call, place) in self.calls.iter_mut().zip(moves::places_of(owned, metas)) {
            if let Some((batches, side)) = place {
                call.runner.resume(batches, side);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Where the kernel runs, and why.
    pub(super) fn placements(&self) -> Vec<Placed> {
        let placed = |Call { runner, .. }: &Call| {
            let (fall_backs, replayed_batches) = runner.fall_backs();
            let what = format!("look-ahead of {} patterns", runner.kernel().patterns().len());
            Some(Placed { what, decision: runner.decision()?.clone(), fall_backs, replayed_batches })
        };
        self.calls.iter().filter_map(placed).collect()
    }
}

/// Puts patterns together, in order, as many as a call may have; and tells where each is.
fn pack(plans: &Plans) -> (Vec<Packed>, Vec<Option<(usize, usize)>>) {
    let mut calls: Vec<Packed> = Vec::new();
    if !LookAhead::is_used(plans) {
        return (calls, vec![None; plans.plans.len()]);
    }
    let mut of = Vec::with_capacity(plans.plans.len());
    for (pattern, plan) in plans.plans.iter().enumerate() {
        if !is_fit(plan) {
            of.push(None);
            continue;
        }
        let kernel_pattern = pattern_of(plan.matcher.automaton(), plans.distinct.places(pattern));
        let predicates = kernel_pattern.states.iter().filter_map(|state| state.predicate);
        let is_full = calls.last().is_none_or(|call| {
            let new = predicates.clone().filter(|predicate| call.predicates.binary_search(predicate).is_err());
            call.patterns.len() >= PATTERNS_MAX || call.predicates.len() + new.count() > PREDICATES_MAX
        });
        if is_full {
            calls.push(Packed::default());
        }
        let call = calls.len() - 1;
        let packed = &mut calls[call];
        for predicate in predicates {
            if let Err(place) = packed.predicates.binary_search(&predicate) {
                packed.predicates.insert(place, predicate);
            }
        }
        of.push(Some((call, packed.patterns.len())));
        packed.patterns.push(kernel_pattern);
    }
    (calls, of)
}

/// Whether the kernel can look ahead for a pattern.
fn is_fit(plan: &Plan) -> bool {
    plan.matcher.looks_ahead() && (1..=STATES_MAX).contains(&plan.matcher.automaton().states.len())
}

/// The automaton as the kernel has it. `places` has the bitmap of each variable.
fn pattern_of(automaton: &Automaton, places: &[Option<usize>]) -> Pattern {
    let set = |steps: &[Step]| {
        steps.iter().fold(0u32, |set, step| match step {
            Step::To(state) => set | 1 << state,
            Step::Accept | Step::AcceptAtEnd => set,
        })
    };
    let states = automaton.states.iter().map(|state| State {
        predicate: places[usize::from(state.variable)].map(|place| place as u32),
        next: set(&state.next),
        free: state.accepts() || state.accepts_at_end(),
    });
    Pattern { states: states.collect(), start: set(&automaton.start) }
}
