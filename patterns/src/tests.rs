//! The matcher against the naive evaluator, and by hand where what counts is when, or how much work.

use proptest::prelude::*;

use crate::naive::{Naive, NaiveFound};
use crate::*;

fn variable(number: Variable) -> Pattern {
    Pattern::Variable(number)
}

fn repeat(body: Pattern, min: u32, max: Option<u32>) -> Pattern {
    Pattern::Repetition { body: Box::new(body), min, max, greedy: true }
}

fn sequence(parts: impl Into<Vec<Pattern>>) -> Pattern {
    Pattern::Concatenation(parts.into())
}

fn spec(pattern: Pattern) -> MatcherSpec {
    MatcherSpec {
        pattern,
        skip: Skip::PastLastRow,
        bad_skip: BadSkip::NextRow,
        within: None,
        asks: false,
        unmatched: true,
        partial: false,
        max_partial: usize::MAX,
        overflow: Overflow::Error,
    }
}

/// How many variables the patterns of random tests have.
const VARIABLES: u8 = 4;

fn pattern() -> impl Strategy<Value = Pattern> {
    let leaf = prop_oneof![
        12 => (0..VARIABLES).prop_map(Pattern::Variable),
        1 => Just(Pattern::Empty),
        1 => Just(Pattern::PartitionStart),
        1 => Just(Pattern::PartitionEnd),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        let bounds = prop_oneof![
            Just((0, None)),
            Just((1, None)),
            Just((0, Some(1))),
            Just((2, None)),
            Just((2, Some(2))),
            Just((1, Some(3))),
            Just((0, Some(2))),
            Just((0, Some(0))),
            Just((3, Some(4))),
            Just((5, Some(2)))
        ];
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 0..4).prop_map(Pattern::Concatenation),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(Pattern::Alternation),
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Pattern::Permutation),
            4 => (inner.clone(), bounds, any::<bool>())
                .prop_map(|(body, (min, max), greedy)| Pattern::Repetition { body: Box::new(body), min, max, greedy }),
            1 => inner.prop_map(|body| Pattern::Exclusion(Box::new(body))),
        ]
    })
}

fn skip() -> impl Strategy<Value = Skip> {
    prop_oneof![
        3 => Just(Skip::PastLastRow),
        2 => Just(Skip::ToNextRow),
        1 => (1u64..1 << VARIABLES).prop_map(|set| Skip::ToFirst(VariableSet(set))),
        1 => (1u64..1 << VARIABLES).prop_map(|set| Skip::ToLast(VariableSet(set))),
    ]
}

/// What conditions look at, in tests: each is a function of an attempt's first row, its number and its labels.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asked {
    Nothing,
    /// The sum of the weights of variable 0's rows is at most so much.
    Sum(u64),
    /// The row's weight is not that of the first row of variable 0.
    First,
    /// The first row or the number decides about variable 1.
    Begin,
    /// The row two before in the match has not variable 0; only the trail tells.
    Trail,
}

const NONE: u64 = u64::MAX;

impl Asked {
    fn weight(row: u64) -> u64 {
        row * 7 % 5
    }

    fn holds(self, first: usize, number: u64, labels: &[Label]) -> bool {
        let rows = || (first as u64..).zip(labels).filter(|(_, label)| label.variable() == 0).map(|(row, _)| row);
        let last = Self::weight((first + labels.len() - 1) as u64);
        match self {
            Self::Nothing => true,
            Self::Sum(most) => rows().map(Self::weight).sum::<u64>() <= most,
            Self::First => {
                rows().next().is_none_or(|row| row == (first + labels.len() - 1) as u64 || Self::weight(row) != last)
            }
            Self::Begin => {
                labels.last().map(|label| label.variable()) != Some(1) || !(first as u64 + number).is_multiple_of(3)
            }
            Self::Trail => labels.len() < 3 || labels[labels.len() - 3].variable() != 0,
        }
    }
}

impl Conditions for Asked {
    fn register_count(&self) -> usize {
        match self {
            Self::Nothing | Self::Trail => 0,
            Self::Sum(_) | Self::First => 1,
            Self::Begin => 2,
        }
    }

    fn reads_trail(&self) -> bool {
        *self == Self::Trail
    }

    fn begin(&mut self, first: u64, number: u64, registers: &mut [u64]) {
        match self {
            Self::Nothing | Self::Trail => {}
            Self::Sum(_) => registers[0] = 0,
            Self::First => registers[0] = NONE,
            Self::Begin => registers.copy_from_slice(&[first, number]),
        }
    }

    fn take(
        &mut self,
        variable: Variable,
        row: u64,
        trail: Trail<'_>,
        registers: &mut [u64],
    ) -> Result<bool, PatternError> {
        Ok(match self {
            Self::Nothing => true,
            Self::Sum(most) => {
                registers[0] += if variable == 0 { Self::weight(row) } else { 0 };
                registers[0] <= *most
            }
            Self::First => {
                let holds = registers[0] == NONE || Self::weight(registers[0]) != Self::weight(row);
                if registers[0] == NONE && variable == 0 {
                    registers[0] = row;
                }
                holds
            }
            Self::Begin => variable != 1 || !(registers[0] + registers[1]).is_multiple_of(3),
            Self::Trail => trail.iter().nth(1).is_none_or(|(at, variable)| {
                assert_eq!(at, row - 2, "rows of a trail follow each other");
                variable != 0
            }),
        })
    }
}

/// What happens between two rows of a partition.
#[derive(Debug, Clone, Copy)]
struct Between {
    /// They come in different calls,
    cut: bool,
    /// and between these it is told how far time has come,
    expire: bool,
    /// and the key is made anew from what was saved.
    resume: bool,
    /// How much later the next row is.
    later: i64,
}

fn between() -> impl Strategy<Value = Between> {
    (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2), 0..3i64)
        .prop_map(|(cut, expire, resume, later)| Between { cut, expire, resume, later })
}

fn symbols(matcher: &Matcher, rows: &[u64]) -> Symbols {
    let words = rows.len().div_ceil(64);
    let mut bitmaps = vec![vec![u64::MAX << (rows.len() % 64); words]; VARIABLES.into()];
    for (variable, bitmap) in bitmaps.iter_mut().enumerate() {
        for (index, bits) in rows.iter().enumerate() {
            let bit = 1 << (index % 64);
            bitmap[index / 64] = bitmap[index / 64] & !bit | if bits >> variable & 1 == 1 { bit } else { 0 };
        }
    }
    let mut symbols = Symbols::default();
    matcher.symbols(&bitmaps.iter().map(Vec::as_slice).collect::<Vec<_>>(), rows.len(), &mut symbols);
    symbols
}

fn told(found: &Found) -> Vec<(u64, u64, Vec<Label>, Status)> {
    found
        .matches
        .iter()
        .map(|found_match| {
            let labels = found.labels[found_match.labels.clone()].to_vec();
            (found_match.first, found_match.number, labels, found_match.status)
        })
        .collect()
}

/// Feeds a partition as `between` has it.
fn fed(
    spec: &MatcherSpec,
    asked: Asked,
    rows: &[u64],
    times: &[i64],
    between: &[Between],
    ends_with_rows: bool,
) -> Result<NaiveFound, PatternError> {
    let matcher = Matcher::new(spec.clone())?;
    let all = symbols(&matcher, rows);
    let timed = |range: std::ops::Range<usize>| if spec.within.is_some() { &times[range] } else { &[] };
    let mut asked = asked;
    let mut found = Found::default();
    let mut key = matcher.key();
    let mut begin = 0;
    for end in 1..=rows.len() {
        let last = end == rows.len();
        if !last && !between[end].cut {
            continue;
        }
        matcher.feed(&mut key, &all, begin..end, timed(begin..end), last && ends_with_rows, &mut asked, &mut found)?;
        assert_eq!(key.position(), end as u64);
        assert!(key.start() <= key.position());
        begin = end;
        if last {
            break;
        }
        if between[end].expire && spec.within.is_some() {
            matcher.expire(&mut key, times[end], &mut asked, &mut found)?;
            assert!(key.deadline().is_none_or(|deadline| deadline >= times[end]), "expired");
        }
        if between[end].resume {
            let start = key.start() as usize;
            let before = (told(&found), found.unmatched.clone());
            key = matcher.resume_after_partial(key.start(), key.number(), key.matched_until(), key.told_until());
            matcher.feed(&mut key, &all, start..end, timed(start..end), false, &mut asked, &mut found)?;
            assert_eq!(before, (told(&found), found.unmatched.clone()), "nothing new is found by going on");
            assert_eq!(key.start() as usize, start, "and nothing is decided");
        }
    }
    if !ends_with_rows || rows.is_empty() {
        let end = rows.len();
        matcher.feed(&mut key, &all, end..end, &[], true, &mut asked, &mut found)?;
    }
    assert_eq!(key.start(), key.position(), "all is decided at the end");
    assert_eq!(key.deadline(), None);
    assert_eq!(key.bytes(), 0, "and nothing is kept");
    Ok(NaiveFound { matches: told(&found), unmatched: found.unmatched, bad_skips: found.bad_skips, failed: false })
}

fn agrees(
    spec: &MatcherSpec,
    asked: Asked,
    rows: &[u64],
    between: &[Between],
    ends_with_rows: bool,
) -> Result<(), TestCaseError> {
    let times: Vec<i64> = between[..rows.len()]
        .iter()
        .scan(0, |time, row| {
            *time += row.later;
            Some(*time)
        })
        .collect();
    let holds = |first: usize, number: u64, labels: &[Label]| asked.holds(first, number, labels);
    let expected = Naive { spec, rows, times: &times, holds: &holds }.run();
    prop_assume!(expected.is_ok(), "too slow to be told by the naive evaluator");
    let expected = expected.unwrap();
    match fed(spec, asked, rows, &times, between, ends_with_rows) {
        Ok(found) => prop_assert_eq!(found, expected),
        Err(PatternError::SkipTargetMissing { .. } | PatternError::SkipToFirstRow { .. }) => {
            prop_assert!(expected.failed)
        }
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    }
    Ok(())
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        3 => Just(Asked::Nothing),
        2 => (0..8u64).prop_map(Asked::Sum),
        1 => Just(Asked::First),
        1 => Just(Asked::Begin),
        1 => Just(Asked::Trail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    /// Whatever the pattern, the conditions and the way in which rows come: the same matches as by trying all ways.
    #[test]
    fn agrees_with_the_naive_evaluator(
        pattern in pattern(), skip in skip(), error: bool, within in prop::option::of(-1..7i64), asked in asked(), unmatched: bool,
        partial in prop::bool::weighted(0.3), rows in prop::collection::vec(0u64..1 << VARIABLES, 0..11),
        between in prop::collection::vec(between(), 11), ends_with_rows: bool,
    ) {
        let bad_skip = if error { BadSkip::Error } else { BadSkip::NextRow };
        let asks = asked != Asked::Nothing;
        let spec = MatcherSpec { skip, bad_skip, within, asks, unmatched, partial, ..spec(pattern) };
        agrees(&spec, asked, &rows, &between, ends_with_rows)?;
    }

    /// Rows that mostly fit: long matches, many partial ones.
    #[test]
    fn agrees_where_most_rows_fit(
        pattern in pattern(), skip in skip(), within in prop::option::of(0..9i64), asked in asked(), partial in prop::bool::weighted(0.3),
        rows in prop::collection::vec(prop_oneof![Just(15u64), Just(1), Just(3), Just(7), Just(14)], 0..11),
        between in prop::collection::vec(between(), 11), ends_with_rows: bool,
    ) {
        let asks = asked != Asked::Nothing;
        let spec = MatcherSpec { skip, within, asks, partial, ..spec(pattern) };
        agrees(&spec, asked, &rows, &between, ends_with_rows)?;
    }
}
