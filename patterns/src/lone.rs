//! The one partial match of a key takes a row where it lies.
//!
//! Where there are many partitions, most rows that come to one with rows under way only prolong its one partial match. That needs none of what
//! [`thread_run`](crate::thread_run) makes for any number of them: the row is written behind the others ([`Packed`]). A row that decides
//! something, or that can be taken in several ways, is left to it.

use crate::automaton::{StateId, Step};
use crate::conditions::{Conditions, NO_NODE, Trail};
use crate::key::{Active, Key};
use crate::matcher::{Matcher, MatcherSpec};
use crate::packed::{Packed, PackedRow};
use crate::pattern::PatternError;
use crate::symbols::ThreadSymbols;
use crate::thread_run::{AT_START, FORGOTTEN_ROWS, KEPT_NODES_MIN, Until, steps};

/// With more registers partial matches are not run so.
const REGISTERS_MAX: usize = 8;

/// A row, and the partial match that may take it.
struct Taking<'a> {
    state: StateId,
    /// Its first row.
    start: u64,
    row: u64,
    bits: u64,
    values: &'a [u32],
    registers: &'a [u64],
}

/// What a row makes of a partial match.
enum Taken {
    /// It ends.
    Ended,
    /// It goes on in a state and, if there is a second one, is a match in that.
    On(StateId, Option<StateId>),
    /// There are several now, or it is decided.
    Otherwise,
}

/// Takes the next rows of a partition as long as each of them only prolongs its one partial match, or begins none; gives how many it has taken.
///
/// # Errors
/// As [`Matcher::feed`].
pub(crate) fn take<C: Conditions>(
    matcher: &Matcher,
    key: &mut Key,
    rows: ThreadSymbols<'_>,
    until: Until,
    conditions: &mut C,
) -> Result<usize, PatternError> {
    let MatcherSpec { asks, unmatched, partial, within, max_partial, .. } = matcher.spec;
    let register_count = if asks { conditions.register_count() } else { 0 };
    // Where more than the registers decides, there is no trail here to be looked at.
    let reads = asks && !conditions.forgets();
    let decides = until.ended || until.time.is_some();
    let fits = register_count <= REGISTERS_MAX && Packed::packs(matcher.automaton.states.len());
    if unmatched || partial || reads || decides || !fits {
        return Ok(0);
    }
    let nodes_max = KEPT_NODES_MIN.min(max_partial);
    let mut before = [0; REGISTERS_MAX];
    let mut after = [0; REGISTERS_MAX];
    let (before, after) = (&mut before[..register_count], &mut after[..register_count]);
    for (index, bits) in rows.bits.iter().enumerate() {
        let (row, time) = (key.position, rows.times.get(index).copied());
        let (state, start) = match &key.active {
            Some(Active::Packed(packed)) => {
                // What fails after more rows is remembered.
                let short = packed.rows() < FORGOTTEN_ROWS;
                let Some(state) = packed.lone(time).filter(|_| short) else { return Ok(index) };
                packed.lone_registers(before);
                (state, packed.start)
            }
            Some(_) => return Ok(index),
            None if !matcher.may_start(row, *bits) => {
                key.position += 1;
                continue;
            }
            None => {
                before.fill(0);
                if asks {
                    conditions.begin(row, key.number + 1, before);
                }
                (AT_START, row)
            }
        };
        let taking = Taking { state, start, row, bits: *bits, values: rows.values(index), registers: before };
        match taking.take(matcher, conditions, after)? {
            Taken::On(state, accepted) => {
                let begun = key.active.is_none();
                let deadline = || within.zip(time).map(|(within, time)| time.saturating_add(within));
                let active = key.active.get_or_insert_with(|| Active::Packed(Box::new(Packed::begin(row, deadline()))));
                let row = PackedRow { bits: *bits, values: taking.values, time };
                let fits = match active {
                    Active::Packed(packed) => packed.push_lone((state, accepted), after, row, nodes_max),
                    _ => false,
                };
                if !fits {
                    if begun {
                        key.active = None;
                    }
                    return Ok(index);
                }
            }
            // Nothing was under way, and nothing is.
            Taken::Ended if key.active.is_none() => {}
            Taken::Ended | Taken::Otherwise => return Ok(index),
        }
        key.position += 1;
    }
    Ok(rows.bits.len())
}

impl Taking<'_> {
    /// `after`: the registers of the partial match that goes on, if one does.
    fn take<C: Conditions>(
        &self,
        matcher: &Matcher,
        conditions: &mut C,
        after: &mut [u64],
    ) -> Result<Taken, PatternError> {
        let automaton = &matcher.automaton;
        let (mut asked, mut holds) = (0u64, 0u64);
        let mut goes_on = None;
        let mut own = [0; REGISTERS_MAX];
        let own = &mut own[..after.len()];
        for step in steps(automaton, self.state, self.start) {
            let id = match step {
                Step::To(id) => *id,
                // It matches no row at all.
                Step::Accept if self.state == AT_START => return Ok(Taken::Otherwise),
                Step::Accept | Step::AcceptAtEnd => continue,
            };
            let state = &automaton.states[id as usize];
            let variable = 1 << state.variable;
            if self.bits & variable == 0 {
                continue;
            }
            if matcher.spec.asks {
                if asked & variable == 0 {
                    asked |= variable;
                    own.copy_from_slice(self.registers);
                    let trail = Trail {
                        nodes: &[],
                        states: &automaton.states,
                        last: NO_NODE,
                        row: self.row,
                        values: self.values,
                    };
                    if conditions.take(state.variable, self.row, trail, own)? {
                        holds |= variable;
                        if goes_on.is_none() {
                            after.copy_from_slice(own);
                        }
                    }
                }
                if holds & variable == 0 {
                    continue;
                }
            }
            if state.goes_on() && goes_on.replace(id).is_some() {
                return Ok(Taken::Otherwise);
            }
            if state.accepts() {
                return Ok(goes_on.map_or(Taken::Otherwise, |on| Taken::On(on, Some(id))));
            }
        }
        Ok(goes_on.map_or(Taken::Ended, |on| Taken::On(on, None)))
    }
}
