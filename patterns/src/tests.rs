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

/// How many variables the patterns of most random tests have.
const VARIABLES: u8 = 4;

/// How many bitmaps there are in all of them.
const BITMAPS: usize = 12;

pub(crate) fn pattern() -> impl Strategy<Value = Pattern> {
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

/// What people write: some variables one after the other, most of them repeated.
fn usual_pattern() -> impl Strategy<Value = Pattern> {
    let bounds = prop_oneof![
        3 => Just((1, Some(1))), 3 => Just((1, None)), 2 => Just((0, None)), 1 => Just((0, Some(1))), 1 => Just((2, None)),
        1 => Just((1, Some(3)))
    ];
    let repeated = ((0..VARIABLES).prop_map(Pattern::Variable), bounds, prop::bool::weighted(0.8))
        .prop_map(|(body, (min, max), greedy)| Pattern::Repetition { body: Box::new(body), min, max, greedy });
    let part = prop_oneof![
        8 => repeated.clone(),
        1 => prop::collection::vec(repeated.clone(), 1..4).prop_map(Pattern::Permutation),
        1 => prop::collection::vec(repeated.clone(), 1..3).prop_map(Pattern::Alternation),
        1 => repeated.prop_map(|body| Pattern::Exclusion(Box::new(body))),
    ];
    (prop::collection::vec(part, 1..5), prop::bool::weighted(0.1), prop::bool::weighted(0.2)).prop_map(
        |(mut parts, first, last)| {
            if first {
                parts.insert(0, Pattern::PartitionStart);
            }
            if last {
                parts.push(repeat(Pattern::PartitionEnd, parts.len() as u32 % 2, Some(1)));
            }
            Pattern::Concatenation(parts)
        },
    )
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
    /// Whether the count of rows of variable 0 is odd; variable 1 is never.
    Parity,
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
            Self::Parity => labels.last().map(|label| label.variable()) != Some(1),
            Self::Trail => labels.len() < 3 || labels[labels.len() - 3].variable() != 0,
        }
    }
}

impl Conditions for Asked {
    fn register_count(&self) -> usize {
        match self {
            Self::Nothing | Self::Trail => 0,
            Self::Sum(_) | Self::First | Self::Parity => 1,
            Self::Begin => 2,
        }
    }

    fn reads_trail(&self) -> bool {
        *self == Self::Trail
    }

    fn forgets(&self) -> bool {
        *self != Self::Trail
    }

    fn begin(&mut self, first: u64, number: u64, registers: &mut [u64]) {
        match self {
            Self::Nothing | Self::Trail => {}
            Self::Sum(_) | Self::Parity => registers[0] = 0,
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
        assert_eq!(trail.values(), values_of(row), "each row has its values, however long it waits");
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
            Self::Parity => {
                registers[0] ^= u64::from(variable == 0);
                variable != 1
            }
            Self::Begin => variable != 1 || !(registers[0] + registers[1]).is_multiple_of(3),
            Self::Trail => trail.iter().nth(1).is_none_or(|(at, variable)| {
                assert_eq!(at, row - 2, "rows of a trail follow each other");
                variable != 0
            }),
        })
    }
}

/// Asks again what was asked before.
#[derive(Debug, Clone, Copy)]
struct Again(Asked);

impl Conditions for Again {
    fn register_count(&self) -> usize {
        self.0.register_count()
    }

    fn begin(&mut self, first: u64, number: u64, registers: &mut [u64]) {
        self.0.begin(first, number, registers);
    }

    fn take(
        &mut self,
        variable: Variable,
        row: u64,
        trail: Trail<'_>,
        registers: &mut [u64],
    ) -> Result<bool, PatternError> {
        self.0.take(variable, row, trail, registers)
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

/// What conditions read of a row.
fn values_of(row: u64) -> [u32; 3] {
    [row as u32, u32::MAX - row as u32, 7]
}

fn symbols(matcher: &Matcher, rows: &[u64]) -> Symbols {
    let words = rows.len().div_ceil(64);
    let mut bitmaps = vec![vec![u64::MAX << (rows.len() % 64); words]; BITMAPS];
    for (variable, bitmap) in bitmaps.iter_mut().enumerate() {
        for (index, bits) in rows.iter().enumerate() {
            let bit = 1 << (index % 64);
            bitmap[index / 64] = bitmap[index / 64] & !bit | if bits >> variable & 1 == 1 { bit } else { 0 };
        }
    }
    let mut symbols = Symbols::default();
    matcher.symbols(&bitmaps.iter().map(Vec::as_slice).collect::<Vec<_>>(), rows.len(), &mut symbols);
    let values = (0..rows.len() as u64).flat_map(values_of);
    symbols.set_values(values.collect(), values_of(0).len());
    symbols
}

/// As [`symbols`], with the rows at which a match may begin; of some rows the one after it is taken to be unknown.
fn symbols_with_starts(matcher: &Matcher, rows: &[u64], between: &[Between]) -> Symbols {
    let mut symbols = symbols(matcher, rows);
    let words = rows.len().div_ceil(64);
    let (mut bitmaps, mut ends) = (vec![vec![0; words]; BITMAPS], vec![0u64; words]);
    for (index, bits) in rows.iter().enumerate() {
        let bit = 1 << (index % 64);
        if index + 1 == rows.len() || between[index + 1].cut && between[index + 1].expire {
            ends[index / 64] |= bit;
        }
        let has = bitmaps.iter_mut().enumerate().filter(|(variable, _)| bits >> variable & 1 == 1);
        has.for_each(|(_, bitmap)| bitmap[index / 64] |= bit);
    }
    let bitmaps: Vec<&[u64]> = bitmaps.iter().map(Vec::as_slice).collect();
    if let Some(starts) = matcher.starts(&bitmaps, rows.len(), &ends) {
        symbols.starts = starts;
    }
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

/// Which of the matcher's ways it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// All attempts as one, where that can be.
    Folded,
    Tables,
    Threads,
}

impl Way {
    fn of(self, matcher: &Matcher) -> Matcher {
        match self {
            Self::Folded => matcher.clone(),
            Self::Tables => matcher.clone().without_fold(),
            Self::Threads => matcher.clone().without_tables(),
        }
    }
}

/// Feeds a partition as `between` has it.
fn fed(
    matcher: &Matcher,
    asked: impl Conditions,
    rows: &[u64],
    times: &[i64],
    between: &[Between],
    ends_with_rows: bool,
) -> Result<NaiveFound, PatternError> {
    let spec = matcher.spec();
    let all = match between.first().is_some_and(|between| between.cut) {
        true => symbols_with_starts(matcher, rows, between),
        false => symbols(matcher, rows),
    };
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
            // Rows at which no match may begin by what comes next are passed over now, also where an attempt had begun before that was seen.
            let begins = |row: usize| all.starts.is_empty() || all.starts[row / 64] >> (row % 64) & 1 == 1;
            assert!(
                key.start() as usize >= start && !(start..key.start() as usize).any(begins),
                "and nothing is decided"
            );
        }
    }
    if !ends_with_rows || rows.is_empty() {
        let end = rows.len();
        if let Some(last) = times.last().filter(|_| between[0].expire && spec.within.is_some()) {
            matcher.expire(&mut key, last + 4 * between[0].later, &mut asked, &mut found)?;
        }
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
    let times = times(rows, between);
    let holds = |first: usize, number: u64, labels: &[Label]| asked.holds(first, number, labels);
    let expected = Naive { spec, rows, times: &times, holds: &holds }.run();
    prop_assume!(expected.is_ok(), "too slow to be told by the naive evaluator");
    let expected = expected.unwrap();
    let matcher = Matcher::new(spec.clone()).map_err(|error| TestCaseError::fail(error.to_string()))?;
    for way in [Way::Folded, Way::Tables, Way::Threads] {
        match fed(&way.of(&matcher), asked, rows, &times, between, ends_with_rows) {
            Ok(found) => prop_assert_eq!(&found, &expected, "{:?}", way),
            Err(PatternError::SkipTargetMissing { .. } | PatternError::SkipToFirstRow { .. }) => {
                prop_assert!(expected.failed)
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        if asked != Asked::Nothing {
            break;
        }
    }
    Ok(())
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        3 => Just(Asked::Nothing),
        2 => (0..8u64).prop_map(Asked::Sum),
        1 => Just(Asked::First),
        1 => Just(Asked::Begin),
        1 => Just(Asked::Parity),
        1 => Just(Asked::Trail),
    ]
}

/// Feeds rows one by one and tells after each, from 1, how many matches there are.
fn counts(spec: &MatcherSpec, rows: &[u64]) -> Vec<usize> {
    let matcher = Matcher::new(spec.clone()).unwrap();
    let all = symbols(&matcher, rows);
    let (mut key, mut found) = (matcher.key(), Found::default());
    let feed = |row| {
        matcher.feed(&mut key, &all, row..row + 1, &[], false, &mut NoConditions, &mut found).unwrap();
        found.matches.len()
    };
    (0..rows.len()).map(feed).collect()
}

const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 4;

/// A match leaves with the row that decides it, not one row later.
#[test]
fn a_match_is_told_as_soon_as_it_is_decided() {
    let (a, b, c) = (|| variable(0), || variable(1), || variable(2));
    assert_eq!(counts(&spec(sequence([a(), b()])), &[A, B, A, B]), [0, 1, 1, 2]);
    assert_eq!(counts(&spec(sequence([repeat(a(), 2, Some(3))])), &[A, A, A, A]), [0, 0, 1, 1], "three are the most");
    assert_eq!(
        counts(&spec(sequence([a(), repeat(b(), 0, None)])), &[A, B, B, C]),
        [0, 0, 0, 1],
        "more would be preferred"
    );
    let longer_first = Pattern::Alternation(vec![sequence([a(), b(), c()]), sequence([a(), b()])]);
    assert_eq!(counts(&spec(longer_first), &[A, B, C, A, B, A]), [0, 0, 1, 1, 1, 2]);
    let shorter_first = Pattern::Alternation(vec![sequence([a(), b()]), sequence([a(), b(), c()])]);
    assert_eq!(counts(&spec(shorter_first), &[A, B, C]), [0, 1, 1]);
    let reluctant = Pattern::Repetition { body: Box::new(a()), min: 1, max: None, greedy: false };
    assert_eq!(counts(&spec(reluctant), &[A, A]), [1, 2]);
    assert_eq!(counts(&spec(repeat(a(), 0, None)), &[B, A, B]), [1, 1, 3], "empty matches at the two Bs");
    assert_eq!(counts(&spec(Pattern::Empty), &[A, A]), [1, 2]);
    let end = Pattern::PartitionEnd;
    assert_eq!(counts(&spec(sequence([a(), end])), &[A, A, B]), [0, 0, 0], "the end has not come");
}

/// Runs a pattern over one partition of equal rows, all at once and in pieces; tells how many transitions a row needed.
fn tried_per_row(way: Way, spec: &MatcherSpec, asked: Asked, bits: u64, rows: usize) -> u64 {
    let matcher = way.of(&Matcher::new(spec.clone()).unwrap());
    let all = symbols(&matcher, &vec![bits; rows]);
    let mut most = 0;
    for step in [rows, 7] {
        thread_run::work::take();
        let (mut key, mut found) = (matcher.key(), Found::default());
        for begin in (0..rows).step_by(step) {
            let end = rows.min(begin + step);
            matcher.feed(&mut key, &all, begin..end, &[], end == rows, &mut { asked }, &mut found).unwrap();
        }
        most = most.max(thread_run::work::take().div_ceil(rows as u64));
    }
    most
}

/// What takes others exponential or quadratic time takes a few transitions for each row and state.
#[test]
fn work_is_linear_whatever_the_pattern() {
    let (a, b) = (|| variable(0), || variable(1));
    let plus = |body| repeat(body, 1, None);
    let optional = |body| repeat(body, 0, Some(1));
    for skip in [Skip::PastLastRow, Skip::ToNextRow] {
        let check = |pattern: Pattern, bits: u64, most: u64| {
            let spec = MatcherSpec { skip, ..spec(pattern.clone()) };
            for way in [Way::Folded, Way::Tables, Way::Threads] {
                let tried = tried_per_row(way, &spec, Asked::Nothing, bits, 5000);
                assert!(tried <= most, "{tried} transitions for each row: {pattern:?}, {skip:?}, {way:?}");
            }
        };
        check(sequence([plus(plus(a())), b()]), A, 8);
        check(sequence([plus(a()), plus(b())]), A, 8);
        check(sequence([repeat(optional(a()), 20, Some(20)), b()]), A, 30 * 21);
        check(sequence([repeat(optional(a()), 2, None), variable(3)]), A, 12);
        let ten = (0..10).map(|number| optional(variable(number % 4))).collect::<Vec<_>>();
        check(sequence([sequence(ten), b()]), A, 200);
        // Looking ahead fails at each row again, after a match.
        check(sequence([a(), optional(sequence([repeat(a(), 0, None), b()]))]), A, 12);
    }
    // All rows are in one match, which is found once.
    let both = spec(sequence([plus(a()), plus(b())]));
    assert!(tried_per_row(Way::Threads, &both, Asked::Nothing, A | B, 5000) <= 8);
    // Where conditions are asked, the registers of attempts that begin at odd and at even rows differ, and no others.
    for skip in [Skip::PastLastRow, Skip::ToNextRow] {
        let asks = MatcherSpec { asks: true, skip, ..spec(sequence([plus(a()), b()])) };
        assert!(tried_per_row(Way::Folded, &asks, Asked::Parity, A | B, 5000) <= 40, "{skip:?}");
    }
}

/// Attempts that carry other sums each are not run one after the other over the same rows, where these tell that each match lacks a row: in
/// order, whatever else of the condition the match decides, and where the sums are unbounded.
#[test]
fn attempts_that_cannot_succeed_are_not_begun() {
    let (a, b, c) = (|| variable(0), || variable(1), || variable(2));
    let plus = |part| repeat(part, 1, None);
    for skip in [Skip::PastLastRow, Skip::ToNextRow] {
        for (pattern, bits) in [
            (sequence([plus(a()), b()]), A),
            (sequence([plus(a()), b(), c()]), A | B),
            (sequence([plus(a()), Pattern::Alternation(vec![b(), c()])]), A),
            (sequence([repeat(a(), 20, None), Pattern::Permutation(vec![a(), b()])]), A),
            (sequence([plus(a()), b(), Pattern::PartitionEnd]), A | C),
        ] {
            for asked in [Asked::Sum(u64::MAX), Asked::Trail] {
                let spec = MatcherSpec { asks: true, skip, ..spec(pattern.clone()) };
                let tried = tried_per_row(Way::Threads, &spec, asked, bits, 2000);
                assert!(tried <= 40, "{pattern:?} over {bits:b}, {asked:?}, {skip:?}: {tried}");
            }
        }
    }
}

/// Too many partial matches are an error, or the oldest attempt is given up; whatever comes in one call.
#[test]
fn partial_matches_are_bounded() {
    let pattern = sequence([repeat(variable(0), 1, None), variable(1)]);
    for (asks, step) in [(false, 1), (true, 1), (false, 8), (true, 8)] {
        let run = |overflow, max_partial| {
            let spec = MatcherSpec { max_partial, overflow, asks, ..spec(pattern.clone()) };
            let matcher = Matcher::new(spec).unwrap();
            let all = symbols(&matcher, &[A, A, A, A, A, A, A, B]);
            let (mut key, mut found) = (matcher.key(), Found::default());
            for begin in (0..8).step_by(step) {
                let end = begin + step;
                matcher.feed(&mut key, &all, begin..end, &[], end == 8, &mut NoConditions, &mut found)?;
            }
            Ok::<_, PatternError>(found)
        };
        assert_eq!(run(Overflow::Error, 6).unwrap_err(), PatternError::TooManyPartial { max: 6 });
        assert_eq!(run(Overflow::Error, 7).unwrap().matches.len(), 1);
        let found = run(Overflow::DropOldest, 3).unwrap();
        assert_eq!(found.dropped, 4);
        assert_eq!((found.matches[0].first, found.labels.len()), (4, 4), "what is left of it");
    }
}

/// What people search most for runs at one look-up a row.
#[test]
fn usual_patterns_are_folded() {
    let plus = |number| repeat(variable(number), 1, None);
    let any = || Pattern::Repetition { body: Box::new(variable(3)), min: 0, max: None, greedy: false };
    for pattern in [
        sequence([variable(0), plus(1), plus(2)]),
        sequence([repeat(variable(0), 3, None), variable(1)]),
        repeat(variable(0), 5, None),
        sequence([variable(0), any(), variable(1), any(), variable(2)]),
        sequence([variable(0), variable(1), variable(2)]),
        Pattern::Alternation(vec![sequence([variable(0), variable(1)]), variable(2)]),
    ] {
        assert!(Matcher::new(spec(pattern.clone())).unwrap().folds(), "{pattern:?}");
    }
    // Here later matches wait for an earlier one to be decided, and there is no end to them.
    let pattern = Pattern::Alternation(vec![sequence([variable(0), plus(1), variable(2)]), variable(1)]);
    assert!(!Matcher::new(spec(pattern)).unwrap().folds());
}

/// A partial match that another one has replaced, in the same state, did not fail: the next attempt may come there again.
#[test]
fn what_was_replaced_is_not_taken_for_failed() {
    let few = |number, min| Pattern::Repetition { body: Box::new(variable(number)), min, max: None, greedy: false };
    let pattern = sequence([few(0, 1), few(0, 2), variable(1)]);
    for way in [Way::Folded, Way::Tables, Way::Threads] {
        let spec = MatcherSpec { skip: Skip::ToNextRow, max_partial: 4, ..spec(pattern.clone()) };
        let matcher = way.of(&Matcher::new(spec).unwrap());
        let all = symbols(&matcher, &[A, A | B, A, A, A | B]);
        let (mut key, mut found) = (matcher.key(), Found::default());
        matcher.feed(&mut key, &all, 0..5, &[], true, &mut NoConditions, &mut found).unwrap();
        let firsts: Vec<u64> = found.matches.iter().map(|found| found.first).collect();
        assert_eq!(firsts, [0, 1], "{way:?}");
    }
}

/// A condition that cannot be evaluated is an error of its partition; nothing of it is left for the next one.
#[test]
fn an_error_leaves_nothing_behind() {
    /// Fails where the third row is to be the second variable.
    struct Failing;
    impl Conditions for Failing {
        fn register_count(&self) -> usize {
            1
        }
        fn begin(&mut self, _: u64, _: u64, _: &mut [u64]) {}
        fn take(&mut self, variable: Variable, row: u64, _: Trail<'_>, _: &mut [u64]) -> Result<bool, PatternError> {
            if (variable, row) == (1, 2) { Err(PatternError::Condition("no".into())) } else { Ok(true) }
        }
    }
    // Two partial matches: the first one has taken the row when the second one fails.
    let pattern = Pattern::Alternation(vec![
        sequence([repeat(variable(0), 1, None), variable(2)]),
        sequence([repeat(variable(1), 1, None), variable(2)]),
    ]);
    let matcher = Matcher::new(MatcherSpec { asks: true, ..spec(pattern) }).unwrap();
    let all = symbols(&matcher, &[A | B, A | B, A | B, A | B, B, C]);
    let mut found = Found::default();
    let (mut broken, mut whole) = (matcher.key(), matcher.key());
    let error = matcher.feed(&mut broken, &all, 0..4, &[], true, &mut Failing, &mut found);
    assert_eq!(error, Err(PatternError::Condition("no".into())));
    matcher.feed(&mut whole, &all, 4..6, &[], true, &mut Failing, &mut found).unwrap();
    assert_eq!(found.labels, [Label::new(1, false), Label::new(2, false)]);
    matcher.feed(&mut broken, &all, 0..0, &[], true, &mut Failing, &mut found).unwrap();
}

/// Millions of partitions are idle at any time.
#[test]
fn an_idle_key_is_small() {
    // With the few rows that most keys have under way; whoever has many keys keeps none for those that have no rows.
    assert!(size_of::<Key>() <= 88);
    let matcher = Matcher::new(spec(sequence([variable(0), variable(1)]))).unwrap();
    let all = symbols(&matcher, &[B, C, A, B, C]);
    let (mut key, mut found) = (matcher.key(), Found::default());
    matcher.feed(&mut key, &all, 0..5, &[], false, &mut NoConditions, &mut found).unwrap();
    assert_eq!((key.position(), key.start(), key.number(), key.matched_until(), key.bytes()), (5, 5, 1, 4, 0));
    assert_eq!(found.unmatched, [0, 1, 4]);
}

/// As many cases, or what `PROPTEST_CASES` says.
fn cases(count: u32) -> ProptestConfig {
    let mut config = ProptestConfig { max_global_rejects: 1_000_000, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = count;
    }
    config
}

proptest! {
    #![proptest_config(cases(2000))]

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

    /// What people write, with and without a bound in time.
    #[test]
    fn agrees_on_usual_patterns(
        pattern in usual_pattern(), skip in skip(), within in prop::option::of(0..9i64), asked in asked(),
        partial in prop::bool::weighted(0.2), unmatched: bool,
        rows in prop::collection::vec(prop_oneof![0u64..16, (0u32..4).prop_map(|variable| 1 << variable)], 0..14),
        between in prop::collection::vec(between(), 14), ends_with_rows: bool,
    ) {
        let asks = asked != Asked::Nothing;
        let spec = MatcherSpec { skip, within, asks, partial, unmatched, ..spec(pattern) };
        agrees(&spec, asked, &rows, &between, ends_with_rows)?;
    }

    /// Rows that come one by one hold no more rows under way than the same rows at once.
    #[test]
    fn what_is_over_is_let_go(
        pattern in usual_pattern(), within in prop::option::of(0..9i64),
        rows in prop::collection::vec(prop_oneof![0u64..16, (0u32..4).prop_map(|variable| 1 << variable)], 1..14),
        between in prop::collection::vec(between(), 14),
    ) {
        let matcher = Matcher::new(MatcherSpec { within, unmatched: false, ..spec(pattern) }).expect("it is small");
        let (all, times) = (symbols(&matcher, &rows), times(&rows, &between));
        let feed = |key: &mut Key, rows: std::ops::Range<usize>| {
            let times = if within.is_some() { &times[rows.clone()] } else { &[] };
            let mut found = Found::default();
            matcher.feed(key, &all, rows, times, false, &mut Asked::Nothing, &mut found).expect("nothing fails");
        };
        let mut one_by_one = matcher.key();
        for row in 0..rows.len() {
            feed(&mut one_by_one, row..row + 1);
            let mut at_once = matcher.key();
            feed(&mut at_once, 0..row + 1);
            prop_assert_eq!(one_by_one.start(), at_once.start(), "after row {}", row);
            prop_assert_eq!(one_by_one.deadline(), at_once.deadline(), "after row {}", row);
        }
    }
}

proptest! {
    #![proptest_config(cases(600))]

    /// Up to eight variables fit the tables; beyond them nothing changes but the speed.
    #[test]
    fn ways_agree_on_many_variables(
        parts in prop::collection::vec((0..BITMAPS as u8, 0u32..2, prop::option::of(1u32..3), any::<bool>()), 4..12), skip in skip(),
        rows in prop::collection::vec((0u64..1 << BITMAPS, 0u64..1 << BITMAPS).prop_map(|(a, b)| a | b), 0..200),
        between in prop::collection::vec(between(), 200),
    ) {
        let parts = parts.into_iter().map(|(number, min, more, greedy)| Pattern::Repetition {
            body: Box::new(variable(number)), min, max: more.map(|more| min + more), greedy,
        });
        let matcher = Matcher::new(MatcherSpec { skip, ..spec(Pattern::Concatenation(parts.collect())) }).unwrap();
        let times = times(&rows, &between);
        let run = |way: Way| fed(&way.of(&matcher), Asked::Nothing, &rows, &times, &between, true);
        let expected = run(Way::Threads);
        prop_assert_eq!(&run(Way::Folded), &expected, "folded");
        prop_assert_eq!(&run(Way::Tables), &expected, "tables");
    }

    /// What is remembered of conditions that were asked changes nothing.
    #[test]
    fn asking_once_is_enough(
        pattern in usual_pattern(), skip in skip(), within in prop::option::of(5..40i64), unmatched: bool,
        asked in prop_oneof![(0..30u64).prop_map(Asked::Sum), Just(Asked::First), Just(Asked::Begin), Just(Asked::Parity)],
        rows in long_partition(), between in prop::collection::vec(between(), 300), ends_with_rows: bool,
    ) {
        let spec = MatcherSpec { skip, within, unmatched, asks: true, ..spec(pattern) };
        let times = times(&rows, &between);
        let matcher = Matcher::new(spec).unwrap();
        let whole = vec![Between { cut: false, expire: false, resume: false, later: 0 }; rows.len() + 1];
        let expected = fed(&matcher, Again(asked), &rows, &times, &whole, ends_with_rows);
        prop_assert_eq!(&fed(&matcher, asked, &rows, &times, &whole, ends_with_rows), &expected);
        prop_assert_eq!(&fed(&matcher, asked, &rows, &times, &between, ends_with_rows), &expected, "in pieces");
    }

    /// Long partitions, where what was found out by earlier attempts is used again: all ways agree.
    #[test]
    fn ways_agree_on_long_partitions(
        pattern in prop_oneof![usual_pattern(), pattern()], skip in skip(), within in prop::option::weighted(0.3, 0..40i64),
        partial in prop::bool::weighted(0.2), unmatched: bool, max_partial in prop_oneof![3 => Just(usize::MAX), 1 => 1usize..30],
        rows in long_partition(), between in prop::collection::vec(between(), 300), ends_with_rows: bool, cuts: bool,
    ) {
        let overflow = Overflow::DropOldest;
        let spec = MatcherSpec { skip, within, partial, unmatched, max_partial, overflow, ..spec(pattern) };
        let between: Vec<Between> = between.into_iter().map(|between| Between { cut: between.cut && cuts, ..between }).collect();
        let times = times(&rows, &between);
        let matcher = Matcher::new(spec).unwrap();
        let run = |way: Way, between: &[Between]| fed(&way.of(&matcher), Asked::Nothing, &rows, &times, between, ends_with_rows);
        let whole = vec![Between { cut: false, expire: false, resume: false, later: 0 }; rows.len() + 1];
        let expected = run(Way::Threads, &whole);
        prop_assert_eq!(&run(Way::Folded, &whole), &expected, "folded");
        prop_assert_eq!(&run(Way::Folded, &between), &expected, "folded, in pieces");
        prop_assert_eq!(&run(Way::Tables, &whole), &expected, "tables");
        prop_assert_eq!(&run(Way::Tables, &between), &expected, "tables, in pieces");
        prop_assert_eq!(&run(Way::Threads, &between), &expected, "threads, in pieces");
    }
}

fn times(rows: &[u64], between: &[Between]) -> Vec<i64> {
    let later = between[..rows.len()].iter();
    later
        .scan(0, |time, row| {
            *time += row.later;
            Some(*time)
        })
        .collect()
}

/// Stretches of rows that are alike.
fn long_partition() -> impl Strategy<Value = Vec<u64>> {
    let stretch =
        (prop_oneof![2 => (0u32..4).prop_map(|variable| 1 << variable), 1 => 0u64..16], 1usize..20, 0usize..8);
    prop::collection::vec(stretch, 0..12).prop_map(|stretches| {
        let mut rows: Vec<u64> = stretches
            .into_iter()
            .flat_map(|(bits, count, other)| {
                (0..count).map(move |row| if row % 8 == other { bits ^ 1 << (other % 4) } else { bits })
            })
            .collect();
        rows.truncate(300);
        rows
    })
}
