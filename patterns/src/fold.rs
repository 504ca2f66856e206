//! One automaton for all attempts at once, where the next match is looked for past the last row of the one before.
//!
//! A state is the lists of partial matches of all attempts that are alive, the first attempt's first, each partial match only where it is
//! met first: if an earlier attempt has it too, then either that attempt becomes a match, and the later one is void, or both fail. So each
//! row is one look-up, whether it starts, continues, ends or fails something, and no row is looked at twice.
//!
//! That the first attempt has a match while preferred ones are open is part of the state, and so is what happened at the row: a match of
//! the first attempt was complete, a decided match left. Where a later attempt could have a match while an earlier one is open, it would
//! have to be remembered for as long as that lasts; patterns in which that can happen are not folded, nor those that may be empty.

use crate::automaton::{Automaton, StateId, Step};
use crate::determinise::{Classes, NEW, Numbers, Transitions, enters, fits, next_variables};
use crate::matcher::Label;
use crate::table::Table;

/// No attempt is alive, and nothing happened. Also the state before the first row of an attempt that is not at the partition's first row.
pub(crate) const IDLE: u8 = 0;

/// What happened at a row: the first attempt is complete up to it,
pub(crate) const ACCEPTS: u8 = 0x80;
/// the first attempt begins with it,
pub(crate) const BEGINS: u8 = 0x40;
/// a match is decided,
pub(crate) const EMITS: u8 = 0x20;
/// or the way of the first attempt's most preferred partial match is not that of the one before, or not that of the match.
pub(crate) const TURNS: u8 = 0x10;
/// A state's number says it, where no more states than this have the same of these.
const ALIKE_MAX: usize = 0x10;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    next: Table,
    /// The ways of partial matches; states have other numbers there, `inner`.
    transitions: Transitions,
    details: Vec<Detail>,
    inner: Box<[u8; 256]>,
    /// By state: the label of the first attempt's most preferred partial match.
    pub(crate) first_labels: Box<[Label; 256]>,
    /// Before the partition's first row.
    pub(crate) first: u8,
    /// What happened, by state; `None` where the state's number says it.
    flags: Option<Box<[u8; 256]>>,
}

/// What a state is, beyond its number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detail {
    /// A match that ended before this row is decided by it.
    pub(crate) emits_earlier: bool,
    /// A match that ends with this row is decided by it.
    pub(crate) emits_now: bool,
    /// No attempt is alive.
    pub(crate) idle: bool,
    /// How many partial matches the first attempt has; the last one is the match, if it is complete.
    pub(crate) first_count: u8,
    /// The row's label for each partial match.
    pub(crate) labels: Vec<Label>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct State {
    /// Before the partition's first row.
    first: bool,
    /// Of each attempt the states of its partial matches, preferred first.
    attempts: Vec<Vec<StateId>>,
    /// The first one has a match.
    matched: bool,
    accepts: bool,
    begins: bool,
    turns: bool,
    emits_earlier: bool,
    emits_now: bool,
}

impl State {
    /// The transition for a row: the state after it, and where each of its partial matches comes from. `None` if it cannot be folded.
    fn step(&self, automaton: &Automaton, classes: &Classes, class: usize) -> Option<(Self, Vec<u8>)> {
        let mut after = Self::default();
        let mut origins = Vec::new();
        let mut met: Vec<StateId> = Vec::new();
        let mut member = 0;
        let start = [if self.first { &automaton.start_first } else { &automaton.start }];
        for index in 0..=self.attempts.len() {
            let begins = index == self.attempts.len();
            let ways: Vec<(u8, &[Step])> = match self.attempts.get(index) {
                None => start.iter().map(|steps| (NEW, &***steps)).collect(),
                Some(states) => {
                    let first = member;
                    member += u8::try_from(states.len()).ok()?;
                    (first..=u8::MAX)
                        .zip(states)
                        .map(|(at, state)| (at, &*automaton.states[*state as usize].next))
                        .collect()
                }
            };
            let (mut states, mut from, mut accepts) = (Vec::new(), Vec::new(), false);
            'ways: for (origin, steps) in ways {
                for step in steps {
                    let Some(state) = enters(automaton, classes, class, *step).filter(|state| !met.contains(state))
                    else {
                        continue;
                    };
                    met.push(state);
                    states.push(state);
                    from.push(origin);
                    if automaton.states[state as usize].accepts() {
                        accepts = true;
                        break 'ways;
                    }
                }
            }
            let alive = states.iter().any(|state| automaton.states[*state as usize].goes_on());
            if !alive && !accepts {
                after.emits_earlier |= index == 0 && self.matched;
                continue;
            }
            if after.attempts.is_empty() {
                after.accepts = accepts;
                after.begins = begins;
                after.matched = alive && (accepts || index == 0 && self.matched);
                after.emits_now = accepts && !alive;
            } else if accepts {
                return None;
            }
            after.attempts.push(states);
            origins.extend(from);
            if accepts {
                break;
            }
        }
        let follows = origins.first().is_none_or(|origin| *origin == if after.begins { NEW } else { 0 });
        after.turns = !follows || after.accepts && after.attempts[0].len() > 1;
        Some((after, origins))
    }

    fn flags(&self) -> u8 {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        flag(self.accepts, ACCEPTS)
            | flag(self.begins, BEGINS)
            | flag(self.turns, TURNS)
            | flag(self.emits_earlier || self.emits_now, EMITS)
    }
}

impl Fold {
    /// `None` if the pattern cannot be folded.
    pub(crate) fn new(automaton: &Automaton, classes: &Classes) -> Option<Self> {
        if !fits(automaton)
            || [&automaton.start, &automaton.start_first].into_iter().any(|steps| steps.contains(&Step::Accept))
        {
            return None;
        }
        let mut numbers = Numbers::new();
        numbers.of(State::default())?;
        numbers.of(State { first: true, ..State::default() })?;
        let mut transitions = Transitions::new(classes);
        let mut at = 0;
        while let Some(state) = numbers.states.get(at).cloned() {
            let steps = state.attempts.iter().flatten().map(|inner| &automaton.states[*inner as usize].next);
            let start = if state.first { &automaton.start_first } else { &automaton.start };
            let variables =
                steps.chain([start]).fold(0, |variables, steps| variables | next_variables(automaton, steps));
            transitions.add(classes, variables, |class| {
                let (after, origins) = state.step(automaton, classes, class)?;
                Some((numbers.of(after)?, origins))
            })?;
            at += 1;
        }
        let mut alike = [0usize; 256];
        let speaking = numbers.states.iter().map(|state| {
            let flags = state.flags();
            let count = &mut alike[usize::from(flags)];
            *count += 1;
            (*count <= ALIKE_MAX).then(|| flags | (*count - 1) as u8)
        });
        let speaking: Option<Vec<u8>> = speaking.collect();
        let mut flags = speaking.is_none().then(|| Box::new([0; 256]));
        let ids = speaking.unwrap_or_else(|| (0..=u8::MAX).take(numbers.states.len()).collect());
        let mut inner = Box::new([0; 256]);
        let mut first_labels = Box::new([Label(0); 256]);
        let mut details = Vec::new();
        for (number, (id, state)) in (0..=u8::MAX).zip(ids.iter().zip(&numbers.states)) {
            let id = usize::from(*id);
            inner[id] = number;
            if let Some(flags) = &mut flags {
                flags[id] = state.flags();
            }
            let label = |inner: &StateId| {
                let state = &automaton.states[*inner as usize];
                Label::new(state.variable, state.excluded)
            };
            let labels: Vec<Label> = state.attempts.iter().flatten().map(label).collect();
            first_labels[id] = labels.first().copied().unwrap_or(Label(0));
            let goes_on = |inner: &StateId| automaton.states[*inner as usize].goes_on();
            details.push(Detail {
                emits_earlier: state.emits_earlier,
                emits_now: state.emits_now,
                idle: !state.attempts.iter().flatten().any(goes_on),
                first_count: state.attempts.first().map_or(0, |states| states.len() as u8),
                labels,
            });
        }
        let mut next = Table::new(classes.variables.len());
        for (number, id) in (0..=u8::MAX).zip(&ids) {
            for class in 0..1usize << classes.variables.len() {
                next.set(*id, class as u8, ids[usize::from(transitions.next(number, class as u8))]);
            }
        }
        Some(Self { next, transitions, details, inner, first_labels, first: ids[1], flags })
    }

    /// What happened at up to 64 rows.
    #[inline]
    pub(crate) fn happened(&self, states: &[u8]) -> Happened {
        let Some(flags) = &self.flags else { return Happened::of(states) };
        let mut of = [0; 64];
        for (flag, state) in of.iter_mut().zip(states) {
            *flag = flags[usize::from(*state)];
        }
        Happened::of(&of[..states.len()])
    }

    /// The state after a row.
    #[inline]
    pub(crate) fn next(&self, state: u8, class: u8) -> u8 {
        self.next.next(state, class)
    }

    /// What happened at a row.
    #[inline]
    pub(crate) fn flags(&self, state: u8) -> u8 {
        self.flags.as_ref().map_or(state, |flags| flags[usize::from(state)])
    }

    pub(crate) fn detail(&self, state: u8) -> &Detail {
        &self.details[usize::from(self.inner[usize::from(state)])]
    }

    /// Where a partial match came from: the `index`th of the state after a row, with the state before it.
    #[inline]
    pub(crate) fn origin(&self, state: u8, class: u8, index: u8) -> u8 {
        self.transitions.origin(self.inner[usize::from(state)], class, index)
    }

    /// The states after each row; gives the last one.
    pub(crate) fn fill(&self, from: u8, classes: &[u8], states: &mut [u8]) -> u8 {
        self.next.fill(from, classes, states)
    }
}

/// The bits `flag` of eight states, as one byte.
#[inline]
fn flag_bits(states: u64, flag: u8) -> u64 {
    let bits = states >> flag.trailing_zeros() & 0x0101_0101_0101_0101;
    bits.wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Of up to 64 rows, those that [`ACCEPTS`], [`BEGINS`], [`EMITS`] and [`TURNS`] are said of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Happened {
    pub(crate) accepts: u64,
    pub(crate) begins: u64,
    pub(crate) emits: u64,
    pub(crate) turns: u64,
}

impl Happened {
    #[inline]
    fn of(states: &[u8]) -> Self {
        let mut happened = Self::default();
        let mut shift = 0;
        let (eights, rest) = states.as_chunks::<8>();
        for eight in eights {
            happened.add(u64::from_le_bytes(*eight), shift);
            shift += 8;
        }
        if !rest.is_empty() {
            happened.add(rest.iter().rev().fold(0, |eight, state| eight << 8 | u64::from(*state)), shift);
        }
        happened
    }

    #[inline]
    fn add(&mut self, eight: u64, shift: u32) {
        self.accepts |= flag_bits(eight, ACCEPTS) << shift;
        self.begins |= flag_bits(eight, BEGINS) << shift;
        self.emits |= flag_bits(eight, EMITS) << shift;
        self.turns |= flag_bits(eight, TURNS) << shift;
    }
}
