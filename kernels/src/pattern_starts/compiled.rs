//! The states of a pattern in the order in which they are worked out: those that may follow a state before it.

use std::ops::Range;

use super::{Pattern, State};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) states: Vec<Place>,
    /// States that lead to each other, and by themselves those that no other one leads back to; in order.
    pub(super) components: Vec<Range<usize>>,
    /// The states that a match may begin with.
    pub(super) start: u32,
}

/// A state; sets have the bits of the order.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) predicate: Option<u32>,
    /// Those that may follow it, without itself.
    pub(super) next: u32,
    /// It may follow itself.
    pub(super) repeats: bool,
    pub(super) free: bool,
}

/// The members of a set.
pub(super) fn members(set: u32) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(set).filter(|set| *set != 0), |set| Some(set & (set - 1)).filter(|set| *set != 0))
        .map(|set| set.trailing_zeros() as usize)
}

impl Compiled {
    pub(super) fn new(pattern: &Pattern) -> Self {
        // A state that is free needs nothing of those behind it.
        let next = |state: &State| if state.free { 0 } else { state.next };
        // All that can be come to from a state, in one row or more.
        let mut reached: Vec<u32> = pattern.states.iter().map(next).collect();
        for through in 0..reached.len() {
            let beyond = reached[through];
            for reached in reached.iter_mut().filter(|reached| **reached >> through & 1 == 1) {
                *reached |= beyond;
            }
        }
        let needed = members(pattern.start).fold(pattern.start, |needed, state| needed | reached[state]);
        let component = |state: usize| {
            members(reached[state])
                .filter(|other| reached[*other] >> state & 1 == 1)
                .fold(1 << state, |all, other| all | 1u32 << other)
        };
        let mut order: Vec<usize> = Vec::new();
        let mut components = Vec::new();
        let mut left = needed;
        while left != 0 {
            // One of them leads only to what is there already, since components have no cycles among each other.
            let leads_on = |component: u32| members(component).any(|state| reached[state] & left & !component != 0);
            let found = members(left).map(component).find(|component| !leads_on(*component));
            let component = found.expect("components are in an order");
            let first = order.len();
            order.extend(members(component));
            components.push(first..order.len());
            left &= !component;
        }
        let mut place_of = vec![0; pattern.states.len()];
        order.iter().enumerate().for_each(|(place, state)| place_of[*state] = place);
        let placed = |set: u32| members(set).fold(0u32, |all, state| all | 1 << place_of[state]);
        let states = order.iter().map(|&index| {
            let state = &pattern.states[index];
            let itself = 1u32 << index;
            Place {
                predicate: state.predicate,
                next: placed(next(state) & !itself),
                repeats: next(state) & itself != 0,
                free: state.free,
            }
        });
        Compiled { states: states.collect(), components, start: placed(pattern.start) }
    }

    /// Whether some states lead to each other.
    #[cfg(feature = "gpu")]
    pub(super) fn has_cycles(&self) -> bool {
        self.components.iter().any(|component| component.len() > 1)
    }
}
