//! How large automata are, and what is refused.

use super::*;

const A: u8 = 0;
const B: u8 = 1;
const C: u8 = 2;

fn variable(number: u8) -> Pattern {
    Pattern::Variable(number)
}

fn repeat(body: Pattern, min: u32, max: Option<u32>) -> Pattern {
    Pattern::Repetition { body: Box::new(body), min, max, greedy: true }
}

fn sequence(parts: impl Into<Vec<Pattern>>) -> Pattern {
    Pattern::Concatenation(parts.into())
}

fn states(pattern: &Pattern) -> usize {
    Automaton::new(pattern).unwrap().states.len()
}

/// What makes others slow or large is small here.
#[test]
fn nested_and_optional_repetitions_have_few_states() {
    let a = || variable(A);
    assert_eq!(states(&sequence([repeat(repeat(a(), 1, None), 1, None), variable(B)])), 2, "(A+)+ B");
    assert_eq!(states(&sequence([repeat(repeat(a(), 0, Some(1)), 20, Some(20)), variable(B)])), 21, "(A? ){{20}} B");
    assert_eq!(states(&sequence([repeat(a(), 1, None), repeat(variable(B), 1, None)])), 2, "(A+ B+)");
    assert_eq!(states(&sequence([repeat(repeat(a(), 0, Some(1)), 2, None), variable(B)])), 3, "(E?){{2,}} Y");
    let optional: Vec<Pattern> = (0..10).map(|number| repeat(variable(number), 0, Some(1))).collect();
    assert_eq!(states(&sequence(optional)), 10, "A? B? ..");
    assert_eq!(
        states(&Pattern::Permutation((0..12).map(variable).collect())),
        12 << 11,
        "a part and the set of those left"
    );
}

/// A pattern that cannot be run says so at once.
#[test]
fn patterns_without_bound_are_refused_quickly() {
    let thousand = |body| repeat(body, 1000, Some(1000));
    let too_large = Err(PatternError::TooLarge { max: STATES_MAX });
    assert_eq!(Automaton::new(&thousand(thousand(thousand(variable(A))))), too_large);
    let optional = |body| repeat(body, 0, Some(1000));
    assert_eq!(Automaton::new(&optional(optional(optional(variable(A))))), too_large);
    assert_eq!(Automaton::new(&Pattern::Permutation((0..20).map(variable).collect())), too_large);
    let repeated = |number| repeat(variable(number), 1, None);
    assert_eq!(Automaton::new(&Pattern::Permutation((0..12).map(repeated).collect())), too_large);
    let nowhere = sequence([Pattern::Permutation(vec![Pattern::Empty; 32]), Pattern::PartitionStart]);
    assert_eq!(Automaton::new(&nowhere), too_large, "no states, but 2^32 places");
    assert_eq!(Automaton::new(&repeat(variable(A), u32::MAX, None)), too_large);
    assert_eq!(Automaton::new(&variable(64)), Err(PatternError::TooManyVariables));
}

/// `PERMUTE` prefers the first order whatever its parts do; with parts of several ways that is not the order of their beginnings.
#[test]
fn parts_of_a_permutation_share_their_beginnings_only_where_that_is_exact() {
    let parts = vec![variable(A), variable(B), variable(C)];
    assert_eq!(states(&Pattern::Permutation(parts)), 12);
    let parts = vec![repeat(variable(A), 1, None), variable(B), variable(C)];
    assert_eq!(states(&Pattern::Permutation(parts)), 15, "a part and the order of those that follow");
}

/// A reference to another variable's row is at a fixed distance where every way there is of one length.
#[test]
fn distances_are_told_where_they_are_fixed() {
    let of = |pattern: &Pattern, of: u8, at: u8| Automaton::new(pattern).unwrap().distance(VariableSet::of(of), at);
    let abc = sequence([variable(A), variable(B), variable(C)]);
    assert_eq!(of(&abc, A, C), Distance::Rows(2));
    assert_eq!(of(&abc, C, A), Distance::Never);
    assert_eq!(of(&abc, A, A), Distance::Never, "a row is not before itself");
    assert_eq!(of(&abc, 5, 6), Distance::Never);
    let repeated = sequence([variable(A), repeat(variable(B), 1, None), variable(C)]);
    assert_eq!(of(&repeated, A, C), Distance::Varies);
    assert_eq!(of(&repeated, B, C), Distance::Rows(1));
    assert_eq!(of(&repeated, B, B), Distance::Varies, "none before the first B");
    assert_eq!(of(&repeated, A, B), Distance::Varies);
    assert_eq!(Automaton::new(&repeated).unwrap().distance(VariableSet(0b011), B), Distance::Rows(1));
    let either = Pattern::Alternation(vec![sequence([variable(A), variable(B)]), variable(B)]);
    assert_eq!(of(&either, A, B), Distance::Varies);
}
