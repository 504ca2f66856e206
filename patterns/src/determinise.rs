//! Automata whose states are all partial matches of an attempt at once, where conditions are bits only.
//!
//! A state is the list of the partial matches' states in order of preference, cut after the first in which a match is complete; so one
//! look-up takes a row for all of them. That is the subset construction with lists for sets (as for tagged automata, Laurikari 2000,
//! "NFAs with tagged transitions"). For each transition it is kept from which partial match each one came: from the end of a match the
//! way back names its variables, and only matches pay for that.
//!
//! All of it is built beforehand, up to a bound. Patterns beyond it (counts of repetitions, mostly) are run as threads.

use std::collections::HashMap;

use crate::automaton::{Automaton, StateId, Step};
use crate::matcher::Label;
use crate::pattern::Variable;

/// Which of the pattern's variables a row may be, a bit each, is a row's *class*: a byte. So many variables have room there.
const CLASS_VARIABLES_MAX: usize = 8;

/// States are numbered by bytes.
const STATES_MAX: usize = 256;

/// States of the automaton below are bits of a word.
const INNER_STATES_MAX: usize = 64;

/// How many transitions are worked out before it is given up.
const TRANSITIONS_MAX: usize = 1 << 14;

/// Where a partial match came from that begins with this row.
pub(crate) const NEW: u8 = u8::MAX;

/// No partial match.
pub(crate) const NONE: u8 = u8::MAX;

/// Which bit of a class stands for which variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classes {
    /// By bit.
    pub(crate) variables: Vec<Variable>,
}

impl Classes {
    /// Those of an automaton; `None` where they are too many.
    pub(crate) fn new(automaton: &Automaton) -> Option<Self> {
        let mut variables: Vec<Variable> = automaton.states.iter().map(|state| state.variable).collect();
        variables.sort_unstable();
        variables.dedup();
        (variables.len() <= CLASS_VARIABLES_MAX).then_some(Self { variables })
    }

    /// Whether a row of the class may be the variable.
    fn has(&self, class: usize, variable: Variable) -> bool {
        self.variables.binary_search(&variable).is_ok_and(|bit| class >> bit & 1 == 1)
    }

    /// The bits of these variables.
    fn relevant(&self, variables: u64) -> usize {
        (0..self.variables.len())
            .filter(|&bit| variables >> self.variables[bit] & 1 == 1)
            .fold(0, |mask, bit| mask | 1 << bit)
    }
}

/// Says whether a row of a class may take a step of the automaton.
pub(crate) fn enters(automaton: &Automaton, classes: &Classes, class: usize, step: Step) -> Option<StateId> {
    match step {
        Step::To(state) if classes.has(class, automaton.states[state as usize].variable) => Some(state),
        _ => None,
    }
}

/// The variables that a row may be next.
pub(crate) fn next_variables(automaton: &Automaton, steps: &[Step]) -> u64 {
    steps.iter().fold(0, |variables, step| match step {
        Step::To(state) => variables | 1 << automaton.states[*state as usize].variable,
        _ => variables,
    })
}

/// Whether the automaton is small enough.
pub(crate) fn fits(automaton: &Automaton) -> bool {
    automaton.states.len() <= INNER_STATES_MAX
}

/// Transitions by state and class, with the ways of partial matches through them.
#[derive(Debug, Clone)]
pub(crate) struct Transitions {
    /// How many bits a class has.
    bits: usize,
    /// The next state, by state and class as one number.
    next: Vec<u8>,
    /// Where in `origins` those of the next state's list are.
    origins_at: Vec<u32>,
    /// The index in the list before of each member of a list, or [`NEW`].
    origins: Vec<u8>,
    /// How many were worked out.
    count: usize,
}

impl Transitions {
    pub(crate) fn new(classes: &Classes) -> Self {
        let bits = classes.variables.len();
        Self { bits, next: Vec::new(), origins_at: Vec::new(), origins: Vec::new(), count: 0 }
    }

    /// Adds those of the next state. `of` works out the transition of a class: the state that it leads to, and the origins of its list.
    /// `None` if there are too many.
    pub(crate) fn add(
        &mut self,
        classes: &Classes,
        variables: u64,
        mut of: impl FnMut(usize) -> Option<(u8, Vec<u8>)>,
    ) -> Option<()> {
        let relevant = classes.relevant(variables);
        self.count += 1 << relevant.count_ones();
        if self.count > TRANSITIONS_MAX {
            return None;
        }
        let first = self.next.len();
        for class in 0..1 << self.bits {
            let like = class & relevant;
            if like == class {
                let (state, origins) = of(class)?;
                self.next.push(state);
                self.origins_at.push(u32::try_from(self.origins.len()).ok()?);
                self.origins.extend(origins);
            } else {
                // It differs only in what does not matter here, and is greater.
                self.next.push(self.next[first + like]);
                self.origins_at.push(self.origins_at[first + like]);
            }
        }
        Some(())
    }

    /// The state after a row.
    #[inline]
    pub(crate) fn next(&self, state: u8, class: u8) -> u8 {
        self.next[usize::from(state) << self.bits | usize::from(class)]
    }

    /// Where the member `index` of the list after a transition was before it.
    #[inline]
    pub(crate) fn origin(&self, state: u8, class: u8, index: u8) -> u8 {
        let at = self.origins_at[usize::from(state) << self.bits | usize::from(class)];
        self.origins[at as usize + usize::from(index)]
    }
}

/// Numbers for states, as they are met.
pub(crate) struct Numbers<S> {
    pub(crate) states: Vec<S>,
    ids: HashMap<S, u8>,
}

impl<S: Clone + Eq + std::hash::Hash> Numbers<S> {
    pub(crate) fn new() -> Self {
        Self { states: Vec::new(), ids: HashMap::new() }
    }

    /// `None` if there are too many.
    pub(crate) fn of(&mut self, state: S) -> Option<u8> {
        if let Some(id) = self.ids.get(&state) {
            return Some(*id);
        }
        let id = u8::try_from(self.states.len()).ok().filter(|id| usize::from(*id) < STATES_MAX - 1)?;
        self.states.push(state.clone());
        self.ids.insert(state, id);
        Some(id)
    }
}

/// Nothing is left.
pub(crate) const DEAD: u8 = 0;
/// Before the first row of an attempt at the partition's first row.
pub(crate) const START_FIRST: u8 = 1;
/// Before the first row of another attempt.
pub(crate) const START: u8 = 2;

/// What came so far is a match.
pub(crate) const ACCEPTS: u8 = 1;
/// No further row can change what came so far.
pub(crate) const DECIDED: u8 = 2;

/// All partial matches of one attempt, as one state.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    pub(crate) transitions: Transitions,
    /// [`ACCEPTS`] and [`DECIDED`].
    pub(crate) flags: Vec<u8>,
    /// The partial matches' states, a bit each.
    pub(crate) members: Vec<u64>,
    /// The index of the most preferred one that is a match if no row follows, or [`NONE`].
    pub(crate) at_end: Vec<u8>,
    /// The row's label for each of them.
    pub(crate) labels: Vec<Vec<Label>>,
    /// The label of the most preferred one.
    pub(crate) first_labels: Vec<Label>,
    /// The way of a match is always that of the most preferred one.
    pub(crate) direct: bool,
}

impl Attempts {
    /// `None` if it would be too large.
    pub(crate) fn new(automaton: &Automaton, classes: &Classes) -> Option<Self> {
        if !fits(automaton) {
            return None;
        }
        /// What a state is: before the first row, or the list of partial matches.
        #[derive(Clone, PartialEq, Eq, Hash)]
        enum List {
            Start(bool),
            Of(Vec<StateId>),
        }
        let mut numbers = Numbers::new();
        numbers.of(List::Of(Vec::new()))?;
        numbers.of(List::Start(true))?;
        numbers.of(List::Start(false))?;
        let mut transitions = Transitions::new(classes);
        let mut direct = true;
        let mut at = 0;
        while let Some(list) = numbers.states.get(at).cloned() {
            let ways: Vec<(u8, &[Step])> = match &list {
                List::Start(true) => vec![(NEW, &*automaton.start_first)],
                List::Start(false) => vec![(NEW, &*automaton.start)],
                List::Of(states) => (0..=u8::MAX)
                    .zip(states)
                    .map(|(index, state)| (index, &*automaton.states[*state as usize].next))
                    .collect(),
            };
            let variables = ways.iter().fold(0, |variables, (_, steps)| variables | next_variables(automaton, steps));
            transitions.add(classes, variables, |class| {
                let (mut states, mut origins) = (Vec::new(), Vec::new());
                'ways: for &(origin, steps) in &ways {
                    for step in steps {
                        let Some(state) =
                            enters(automaton, classes, class, *step).filter(|state| !states.contains(state))
                        else {
                            continue;
                        };
                        states.push(state);
                        origins.push(origin);
                        if automaton.states[state as usize].accepts() {
                            direct &= states.len() == 1;
                            break 'ways;
                        }
                    }
                }
                direct &= origins.first().is_none_or(|origin| matches!(*origin, 0 | NEW));
                Some((numbers.of(List::Of(states))?, origins))
            })?;
            at += 1;
        }
        let lists = numbers.states.into_iter().map(|list| match list {
            List::Start(_) => Vec::new(),
            List::Of(states) => states,
        });
        let mut attempts = Self {
            transitions,
            flags: Vec::new(),
            members: Vec::new(),
            at_end: Vec::new(),
            labels: Vec::new(),
            first_labels: Vec::new(),
            direct,
        };
        for list in lists {
            let states: Vec<_> = list.iter().map(|state| &automaton.states[*state as usize]).collect();
            let accepts = states.last().is_some_and(|state| state.accepts());
            let decided = !states.iter().any(|state| state.goes_on());
            attempts.flags.push(if accepts { ACCEPTS } else { 0 } | if decided { DECIDED } else { 0 });
            attempts.members.push(list.iter().fold(0, |members, state| members | 1 << state));
            let at_end = states.iter().position(|state| state.accepts_at_end());
            attempts.at_end.push(at_end.and_then(|index| u8::try_from(index).ok()).unwrap_or(NONE));
            let labels: Vec<Label> = states.iter().map(|state| Label::new(state.variable, state.excluded)).collect();
            attempts.first_labels.push(labels.first().copied().unwrap_or(Label(0)));
            attempts.labels.push(labels);
        }
        Some(attempts)
    }

    /// The state after a row that decides nothing, and whether what came so far is a match then.
    #[inline]
    pub(crate) fn undecided(&self, state: u8, class: u8) -> Option<(u8, bool)> {
        let next = self.transitions.next(state, class);
        let flags = self.flags[usize::from(next)];
        // What is dead is decided, too.
        (flags & DECIDED == 0).then_some((next, flags & ACCEPTS != 0))
    }

    /// Of the list of an accepting state, the one that is the match.
    pub(crate) fn accepted(&self, state: u8) -> u8 {
        (self.labels[usize::from(state)].len() - 1) as u8
    }
}
