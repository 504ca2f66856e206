//! Whether rows can be labelled in more and more ways.
//!
//! Partial matches that have taken the same rows as other variables are one, unless a condition asks which those were. Where it does, there
//! are as many partial matches as there are ways. If two ways part and come together again in a circle of states, each round doubles them;
//! without such a circle there are no more than rows to some power.

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

use crate::automaton::{Automaton, StateId, Step};
use crate::pattern::Variable;

impl Automaton {
    /// Two variables that a row may be in each round of a circle, and of which `differ` says that it matters which; none if there are none.
    pub fn doubling(&self, differ: impl Fn(Variable, Variable) -> bool) -> Option<(Variable, Variable)> {
        let circles = self.components();
        for (from, state) in self.states.iter().enumerate() {
            let mut seen: Vec<Variable> = Vec::new();
            for step in &state.next {
                let Step::To(to) = *step else { continue };
                let variable = self.states[to as usize].variable;
                if circles[to as usize] != circles[from] || seen.contains(&variable) {
                    continue;
                }
                if let Some(other) = seen.iter().find(|other| differ(**other, variable)) {
                    return Some((*other, variable));
                }
                seen.push(variable);
            }
        }
        None
    }

    /// For each state the number of its component: states that lead to each other have the same.
    fn components(&self) -> Vec<usize> {
        let steps = self.states.iter().enumerate().flat_map(|(from, state)| {
            state.next.iter().filter_map(move |step| match step {
                Step::To(to) => Some((from as StateId, *to)),
                _ => None,
            })
        });
        let mut graph = DiGraph::<(), (), StateId>::from_edges(steps);
        while graph.node_count() < self.states.len() {
            graph.add_node(());
        }
        let mut components = vec![0; self.states.len()];
        for (number, states) in kosaraju_scc(&graph).into_iter().enumerate() {
            states.into_iter().for_each(|state| components[state.index()] = number);
        }
        components
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pattern::Pattern;
    use crate::tests::pattern;

    fn variable(number: u8) -> Pattern {
        Pattern::Variable(number)
    }

    fn plus(body: Pattern) -> Pattern {
        Pattern::Repetition { body: Box::new(body), min: 1, max: None, greedy: true }
    }

    fn doubling(pattern: Pattern) -> Option<(Variable, Variable)> {
        Automaton::new(&pattern).expect("it is small").doubling(|_, _| true)
    }

    /// Only what comes round again doubles: runs behind each other part in as many places as there are rows.
    #[test]
    fn circles_double_and_runs_do_not() {
        let (a, b, x) = (|| variable(0), || variable(1), || variable(2));
        let either = Pattern::Alternation(vec![a(), b()]);
        assert_eq!(doubling(Pattern::Concatenation(vec![plus(either.clone()), x()])), Some((0, 1)), "(A | B)+ X");
        assert_eq!(doubling(Pattern::Concatenation(vec![either, x()])), None, "(A | B) X");
        assert_eq!(doubling(Pattern::Concatenation(vec![plus(a()), plus(b()), x()])), None, "A+ B+ X");
        let optional = Pattern::Repetition { body: Box::new(b()), min: 0, max: Some(1), greedy: true };
        assert_eq!(doubling(plus(Pattern::Concatenation(vec![a(), optional]))), Some((1, 0)), "(A B?)+");
    }

    proptest! {
        /// States are in one component where each can be reached from the other.
        #[test]
        fn components_are_what_leads_to_each_other(pattern in pattern()) {
            let automaton = Automaton::new(&pattern).expect("it is small");
            let count = automaton.states.len();
            let mut reaches = vec![vec![false; count]; count];
            for (from, reached) in reaches.iter_mut().enumerate() {
                let mut walk = vec![from];
                while let Some(state) = walk.pop() {
                    for step in &automaton.states[state].next {
                        if let Step::To(to) = *step && !std::mem::replace(&mut reached[to as usize], true) {
                            walk.push(to as usize);
                        }
                    }
                }
            }
            let components = automaton.components();
            for a in 0..count {
                for b in 0..count {
                    let together = a == b || reaches[a][b] && reaches[b][a];
                    prop_assert_eq!(components[a] == components[b], together);
                }
            }
        }
    }
}
