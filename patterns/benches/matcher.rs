//! The matcher alone, over rows that are in order: rows a second on one core.
//!
//! Each pattern runs over one partition, about a thousand and about a hundred thousand of them, a million rows in each round; with 100,000 keys that
//! is eight rows of each key in a call. Bitmaps are there before; turning them into symbols is part of what is measured.

#![expect(missing_docs, reason = "criterion's macros make items without docs")]

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eagre_patterns::{
    BadSkip, Conditions, Found, Key, Matcher, MatcherSpec, NoConditions, Overflow, Pattern, PatternError, Skip,
    Symbols, Trail, Variable,
};

const ROWS: usize = 1 << 20;
const KEYS: [usize; 3] = [1, 1 << 10, 1 << 17];

fn variable(number: Variable) -> Pattern {
    Pattern::Variable(number)
}

fn repeat(body: Pattern, min: u32, max: Option<u32>, greedy: bool) -> Pattern {
    Pattern::Repetition { body: Box::new(body), min, max, greedy }
}

fn spec(pattern: Pattern) -> MatcherSpec {
    MatcherSpec {
        pattern,
        skip: Skip::PastLastRow,
        bad_skip: BadSkip::NextRow,
        within: None,
        asks: false,
        unmatched: false,
        partial: false,
        max_partial: 1 << 20,
        overflow: Overflow::Error,
    }
}

/// Marsaglia's xorshift: the same rows in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One bitmap for each variable, from the bits of each row.
fn bitmaps(variables: usize, mut row: impl FnMut(usize) -> u64) -> Vec<Vec<u64>> {
    let mut bitmaps = vec![vec![0u64; ROWS / 64]; variables];
    for index in 0..ROWS {
        let bits = row(index);
        for (variable, bitmap) in bitmaps.iter_mut().enumerate() {
            bitmap[index / 64] |= (bits >> variable & 1) << (index % 64);
        }
    }
    bitmaps
}

/// A case: the pattern, its rows' bits, and how many milliseconds lie between two rows of a partition.
struct Case {
    name: &'static str,
    spec: MatcherSpec,
    bitmaps: Vec<Vec<u64>>,
    between_ms: i64,
}

fn cases() -> Vec<Case> {
    let mut random = Random(42);
    let mut cases = Vec::new();
    // A random walk of prices: start, falls, rises.
    let pattern = || {
        let (down, up) = (repeat(variable(1), 1, None, true), repeat(variable(2), 1, None, true));
        Pattern::Concatenation(vec![variable(0), down, up])
    };
    let walk = bitmaps(3, |_| 1 | if random.next() & 1 == 0 { 2 } else { 4 });
    cases.push(Case { name: "v_shape", spec: spec(pattern()), bitmaps: walk.clone(), between_ms: 0 });
    cases.push(Case {
        name: "v_shape_to_next_row",
        spec: MatcherSpec { skip: Skip::ToNextRow, ..spec(pattern()) },
        bitmaps: walk,
        between_ms: 0,
    });
    // Payments: small ones, then a big one, within ten minutes.
    let fraud = || Pattern::Concatenation(vec![repeat(variable(0), 3, None, true), variable(1)]);
    let rows = bitmaps(2, |_| match random.unit() {
        amount if amount < 0.3 => 1,
        amount if amount > 0.95 => 2,
        _ => 0,
    });
    let within = Some(600_000);
    cases.push(Case {
        name: "fraud",
        spec: MatcherSpec { within, ..spec(fraud()) },
        bitmaps: rows,
        between_ms: 60_000,
    });
    // The same where nearly all are small: many rows are under way, and most attempts run out of time.
    let rows = bitmaps(2, |_| if random.unit() < 0.99 { 1 } else { 2 });
    cases.push(Case {
        name: "fraud_mostly_small",
        spec: MatcherSpec { within, ..spec(fraud()) },
        bitmaps: rows,
        between_ms: 20_000,
    });
    // A view, later a cart, later a purchase, within an hour; anything between them.
    let any = || repeat(variable(3), 0, None, false);
    let funnel = Pattern::Concatenation(vec![variable(0), any(), variable(1), any(), variable(2)]);
    let rows = bitmaps(4, |_| {
        8 | match random.unit() {
            kind if kind < 0.05 => 1,
            kind if kind < 0.08 => 2,
            kind if kind < 0.1 => 4,
            _ => 0,
        }
    });
    cases.push(Case {
        name: "funnel",
        spec: MatcherSpec { within: Some(3_600_000), ..spec(funnel) },
        bitmaps: rows,
        between_ms: 60_000,
    });
    // Five or more in a row.
    let rows = bitmaps(1, |_| u64::from(random.unit() < 0.6));
    cases.push(Case { name: "streak", spec: spec(repeat(variable(0), 5, None, true)), bitmaps: rows, between_ms: 0 });
    cases
}

/// Sums of weights of rows, as `SUM(A.x) <= ..` in `DEFINE`.
struct Sum;

impl Conditions for Sum {
    fn register_count(&self) -> usize {
        1
    }

    fn begin(&mut self, _: u64, _: u64, registers: &mut [u64]) {
        registers[0] = 0;
    }

    fn take(
        &mut self,
        variable: Variable,
        row: u64,
        _: Trail<'_>,
        registers: &mut [u64],
    ) -> Result<bool, PatternError> {
        if variable == 0 {
            registers[0] += row * 7 % 5;
        }
        Ok(registers[0] <= 30)
    }
}

/// Time that this thread has run, which others on the machine do not lengthen; the time of day where the system does not tell.
fn cpu_time() -> Duration {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = ran.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), Duration::from_nanos)
}

/// Measures rounds by [`cpu_time`].
fn measure(bencher: &mut Bencher<'_>, mut round: impl FnMut() -> usize) {
    bencher.iter_custom(|rounds| {
        let begin = cpu_time();
        for _ in 0..rounds {
            black_box(round());
        }
        cpu_time().saturating_sub(begin)
    });
}

struct Run {
    matcher: Matcher,
    keys: Vec<Key>,
    symbols: Symbols,
    times: Vec<i64>,
    found: Found,
}

impl Run {
    fn new(matcher: Matcher, keys: usize) -> Self {
        let keys = (0..keys).map(|_| matcher.key()).collect();
        Self { matcher, keys, symbols: Symbols::default(), times: Vec::new(), found: Found::default() }
    }

    /// The next rows of all keys; gives how many matches there are.
    fn round<C: Conditions>(&mut self, bitmaps: &[&[u64]], between_ms: i64, conditions: &mut C) -> usize {
        self.found.clear();
        self.matcher.symbols(bitmaps, ROWS, &mut self.symbols);
        let rows = ROWS / self.keys.len();
        if between_ms > 0 {
            let begin = self.times.last().map_or(0, |last| last + between_ms);
            self.times.clear();
            self.times.extend((0..rows as i64).map(|row| begin + row * between_ms));
        }
        for (index, key) in self.keys.iter_mut().enumerate() {
            let range = index * rows..(index + 1) * rows;
            self.matcher
                .feed(key, &self.symbols, range, &self.times, false, conditions, &mut self.found)
                .expect("few partial matches");
        }
        self.found.matches.len()
    }
}

fn matcher(criterion: &mut Criterion) {
    for case in cases() {
        let mut group = criterion.benchmark_group(case.name);
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
        let columns: Vec<&[u64]> = case.bitmaps.iter().map(Vec::as_slice).collect();
        for keys in KEYS {
            for labels in [false, true] {
                let matcher = Matcher::new(case.spec.clone()).expect("a small pattern");
                let matcher = if labels { matcher } else { matcher.without_labels() };
                let mut run = Run::new(matcher, keys);
                assert!(run.round(&columns, case.between_ms, &mut NoConditions) > 0, "{} finds matches", case.name);
                let name = if labels { "labels" } else { "count" };
                group.bench_function(BenchmarkId::new(name, keys), |bencher| {
                    measure(bencher, || run.round(&columns, case.between_ms, &mut NoConditions));
                });
            }
        }
        group.finish();
    }
}

/// Conditions that look at the rows matched so far.
fn asked(criterion: &mut Criterion) {
    let mut random = Random(7);
    let rows = bitmaps(2, |_| random.next() & 3 | 1);
    let columns: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
    let pattern = Pattern::Concatenation(vec![repeat(variable(0), 1, None, true), variable(1)]);
    let mut group = criterion.benchmark_group("sum_in_define");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    for keys in KEYS {
        let matcher = Matcher::new(MatcherSpec { asks: true, ..spec(pattern.clone()) }).expect("a small pattern");
        let mut run = Run::new(matcher, keys);
        group.bench_function(BenchmarkId::new("labels", keys), |bencher| {
            measure(bencher, || run.round(&columns, 0, &mut Sum));
        });
    }
    group.finish();
}

/// Patterns that take exponential or quadratic time where partial matches are not merged, over 5,000 equal rows of one partition: making the
/// matcher, all rows and the end, from nothing.
fn no_blow_up(criterion: &mut Criterion) {
    const EQUAL: usize = 5_000;
    let a = || repeat(variable(0), 1, None, true);
    let optional = |number| repeat(variable(number), 0, Some(1), true);
    let then = |parts: Vec<Pattern>| Pattern::Concatenation(parts);
    // Variable 10 is what no row is.
    let never = || variable(10);
    let cases: [(&str, Pattern, usize); 6] = [
        ("(A+)+ B", then(vec![repeat(a(), 1, None, true), never()]), 0),
        ("(A?){20} B", then(vec![repeat(optional(0), 20, Some(20), true), never()]), 0),
        (
            "(A?){20} A{20}",
            then(vec![repeat(optional(0), 20, Some(20), true), repeat(variable(0), 20, Some(20), true)]),
            EQUAL / 40,
        ),
        ("A+ B+", then(vec![a(), repeat(variable(1), 1, None, true)]), 1),
        ("(E?){2,} Y", then(vec![repeat(optional(0), 2, None, true), variable(1)]), 1),
        ("A? B? .. J? Z", then((0..10).map(optional).chain([never()]).collect()), 0),
    ];
    let bits: Vec<Vec<u64>> =
        (0..11).map(|variable| vec![if variable < 10 { u64::MAX } else { 0 }; EQUAL.div_ceil(64)]).collect();
    let columns: Vec<&[u64]> = bits.iter().map(Vec::as_slice).collect();
    let mut group = criterion.benchmark_group("no_blow_up");
    group.sample_size(10);
    for (name, pattern, matches) in cases {
        let spec = spec(pattern);
        group.bench_function(name, |bencher| {
            measure(bencher, || {
                let matcher = Matcher::new(spec.clone()).expect("a small pattern");
                let (mut symbols, mut found, mut key) = (Symbols::default(), Found::default(), matcher.key());
                matcher.symbols(black_box(&columns), EQUAL, &mut symbols);
                let fed = matcher.feed(&mut key, &symbols, 0..EQUAL, &[], true, &mut NoConditions, &mut found);
                fed.expect("few partial matches");
                assert_eq!(found.matches.len(), matches, "{name}");
                matches
            });
        });
    }
    group.finish();
}

/// Bitmaps to symbols, alone.
fn symbols(criterion: &mut Criterion) {
    let mut random = Random(3);
    let rows = bitmaps(3, |_| random.next());
    let columns: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
    let pattern = Pattern::Concatenation((0..3).map(variable).collect());
    let matcher = Matcher::new(spec(pattern)).expect("a small pattern");
    let mut group = criterion.benchmark_group("symbols");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    let mut symbols = Symbols::default();
    group.bench_function("3", |bencher| {
        measure(bencher, || {
            matcher.symbols(black_box(&columns), ROWS, &mut symbols);
            ROWS
        });
    });
    group.finish();
}

criterion_group!(benches, symbols, matcher, asked, no_blow_up);
criterion_main!(benches);
