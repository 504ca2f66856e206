//! Thousands of rows of hundreds of partitions, in large steps: what small random inputs never reach. The naive evaluator answers these
//! patterns in little time too, since few rows can be taken in more than one way.

use libtest_mimic::Trial;

use super::generate::DELAY_S;
use super::naive;
use super::query::{
    Expr, Function, ID, K, Navigation, Of, Pattern, Query, Row, RowExpr, RowsPerMatch, Shift, Skip, T, V, Word,
};
use super::random::{self, Form};
use crate::harness::{Crash, Random, Schedule, seed};
use crate::process::eagre;
use crate::value;

const ROWS: i64 = 5_000;
const TOLERANCE: f64 = 1e-9;

pub(super) fn trials() -> Vec<Trial> {
    let forms = [Form::Bounded, Form::Stream, Form::Corrected, Form::Retracted];
    let trial = |form: Form, keys: u64| {
        let name = format!("match_recognize::large::{}_of_{keys}_keys", format!("{form:?}").to_lowercase());
        Trial::test(name, move || Ok(check(form, keys)?))
    };
    let trials = forms.into_iter().flat_map(|form| [trial(form, 1), trial(form, 300)]);
    let long = Trial::test("match_recognize::large::a_match_may_have_any_number_of_rows", || Ok(long_match()?));
    trials.chain([long]).collect()
}

fn check(form: Form, keys: u64) -> Result<(), String> {
    let mut random = Random::named(&format!("large {form:?} {keys}"));
    let rows = rows(&mut random, keys);
    let queries = queries();
    let goes: Vec<bool> = rows.iter().map(|_| form == Form::Retracted && random.between(0, 9) == 0).collect();
    let left: Vec<Row> = rows.iter().filter(|row| !goes[row.id as usize]).cloned().collect();
    let expected: Vec<Vec<value::Row>> = queries
        .iter()
        .map(|query| naive::answer(query, &left, false).map_err(|error| format!("{error:?} for {query}")))
        .collect::<Result<_, _>>()?;
    if let Some((query, _)) = queries.iter().zip(&expected).find(|(_, rows)| rows.len() < 20) {
        return Err(format!("{query} has next to no matches here"));
    }
    let sql: Vec<String> = queries.iter().map(Query::to_string).collect();
    let crashes = vec![Crash { after_step: random.between(2, 6), shards: 1 }];
    let schedules = [Schedule::calm(3, 777), Schedule { shards: 2, rows_max: 1_500, crashes, checkpoint_steps: 2 }];
    for schedule in schedules {
        let in_context = |error: String| format!("{schedule} (seed {}): {error}", seed());
        let batch_rows = random.between(100, 5_000) as usize;
        let changes = random::Changes { rows: &rows, goes: &|row| goes[row].then(|| row * 31) };
        let answers = random::answers(form, &schedule, changes, batch_rows, &sql.join(";\n"));
        let answers = answers.map_err(|error| in_context(format!("[{}] {error}", error.code())))?;
        for ((query, expected), answer) in queries.iter().zip(&expected).zip(&answers) {
            same(expected, &value::rows(&answer.batches)).map_err(|error| in_context(format!("{error}{query}")))?;
        }
    }
    Ok(())
}

/// Compares many rows: as text, sorted, so that it takes no square of their number.
fn same(expected: &[value::Row], got: &[value::Row]) -> Result<(), String> {
    let sorted = |rows: &[value::Row]| {
        let mut rows: Vec<(String, value::Row)> = rows.iter().map(|row| (format!("{row:?}"), row.clone())).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
    };
    let (expected, got) = (sorted(expected), sorted(got));
    let different = expected
        .iter()
        .zip(&got)
        .position(|(a, b)| a.len() != b.len() || a.iter().zip(b).any(|(a, b)| !a.same(b, TOLERANCE)));
    match different {
        None if expected.len() == got.len() => Ok(()),
        None => Err(format!("{} rows expected, {} came\n", expected.len(), got.len())),
        Some(at) => Err(format!("sorted, row {at}: {:?} expected, {:?} came\n", expected[at], got[at])),
    }
}

/// In order of arrival, up to the delay out of order; `v` goes up and down in runs.
fn rows(random: &mut Random, keys: u64) -> Vec<Row> {
    let names: Vec<&'static str> = (0..keys).map(|key| &*Box::leak(format!("key {key}").into_boxed_str())).collect();
    let mut t = 1_767_225_600;
    let mut last = vec![3; names.len()];
    let mut rows: Vec<(i64, Row)> = Vec::new();
    for id in 0..ROWS {
        t += random.between(0, 2) as i64;
        let key = random.between(0, keys - 1) as usize;
        last[key] = (last[key] + random.between(0, 6) as i64 - 3).clamp(0, 40);
        let v = (random.between(0, 19) > 0).then_some(last[key]);
        let s = Some(["x", "y", "z"][random.between(0, 2) as usize]);
        let d = Some(random.between(0, 40) as f64 / 4.0);
        rows.push((t - random.between(0, DELAY_S as u64 / 2) as i64, Row { k: Some(names[key]), t, id, v, s, d }));
    }
    rows.sort_by_key(|(arrival, _)| *arrival);
    rows.into_iter().map(|(_, row)| row).collect()
}

// ---------------------------------------------------------------- patterns

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn variable(variable: usize) -> Pattern {
    Pattern::Variable(variable)
}

fn repeated(variable: usize, min: u32, max: Option<u32>) -> Pattern {
    Pattern::Repetition { body: Box::new(Pattern::Variable(variable)), min, max, greedy: true }
}

fn column(of: usize, column: usize) -> Expr {
    Expr::At { of: Of::Variable(of), value: RowExpr::Column(column), navigation: None, shift: None }
}

fn previous(of: usize, column: usize) -> Expr {
    let shift = Some(Shift { next: false, by: None });
    Expr::At { of: Of::Variable(of), value: RowExpr::Column(column), navigation: None, shift }
}

fn end_of(first: bool, of: Of, column: usize) -> Expr {
    let navigation = Some(Navigation { first, offset: None, word: Word::None });
    Expr::At { of, value: RowExpr::Column(column), navigation, shift: None }
}

fn aggregate(function: Function, of: Of, column: Option<usize>) -> Expr {
    let argument = column.map(RowExpr::Column);
    Expr::Aggregate { function, distinct: false, word: Word::None, of, argument }
}

fn compare(a: Expr, operator: &'static str, b: Expr) -> Expr {
    Expr::Compare(operator, Box::new(a), Box::new(b))
}

fn queries() -> Vec<Query> {
    let measures = vec![
        end_of(true, Of::All, ID),
        end_of(false, Of::All, ID),
        aggregate(Function::Count, Of::All, None),
        aggregate(Function::Sum, Of::All, Some(V)),
        Expr::MatchNumber,
    ];
    let base = Query {
        partition: vec![K],
        order: vec![(T, false), (ID, false)],
        measures,
        rows: RowsPerMatch::One,
        skip: Skip::PastLastRow,
        pattern: Pattern::Empty,
        within: None,
        subsets: Vec::new(),
        define: Vec::new(),
        partial: false,
        changes: false,
    };
    let falls = || compare(column(B, V), "<", previous(B, V));
    let rises = || compare(column(C, V), ">", previous(C, V));
    vec![
        // Down and up again.
        Query {
            pattern: Pattern::Concatenation(vec![variable(A), repeated(B, 1, None), repeated(C, 1, None)]),
            define: vec![(B, falls()), (C, rises())],
            ..base.clone()
        },
        // The same, row by row, overlapping.
        Query {
            pattern: Pattern::Concatenation(vec![variable(A), repeated(B, 2, Some(4)), variable(C)]),
            define: vec![(B, falls()), (C, rises())],
            skip: Skip::ToNextRow,
            rows: RowsPerMatch::AllShowEmpty,
            measures: vec![Expr::Classifier(Of::All), aggregate(Function::Count, Of::Variable(B), None)],
            ..base.clone()
        },
        // Some small ones and a large one, within a time; and how near others came.
        Query {
            pattern: Pattern::Concatenation(vec![repeated(A, 2, Some(5)), variable(B)]),
            define: vec![
                (A, compare(column(A, V), "<", Expr::Int(8))),
                (B, compare(column(B, V), ">", end_of(false, Of::Variable(A), V))),
            ],
            within: Some(300),
            partial: true,
            measures: vec![end_of(true, Of::All, ID), end_of(false, Of::All, ID), Expr::Status],
            ..base.clone()
        },
        // As many as do not come to more than so much.
        Query {
            pattern: repeated(A, 1, None),
            define: vec![(A, compare(aggregate(Function::Sum, Of::Variable(A), Some(V)), "<=", Expr::Int(60)))],
            ..base.clone()
        },
        // Not below what it began with, and what belongs to nothing of the kind.
        Query {
            pattern: Pattern::Concatenation(vec![variable(A), repeated(B, 2, None), variable(C)]),
            define: vec![
                (B, compare(column(B, V), ">=", column(A, V))),
                (C, compare(column(C, V), "<", end_of(true, Of::Variable(A), V))),
            ],
            rows: RowsPerMatch::AllWithUnmatched,
            measures: vec![Expr::Classifier(Of::All), end_of(true, Of::All, ID), Expr::MatchNumber],
            ..base.clone()
        },
        // In any order.
        Query {
            pattern: Pattern::Permutation(vec![variable(A), variable(B), variable(C)]),
            define: vec![
                (A, compare(column(A, 4), "=", Expr::Text("x"))),
                (B, compare(column(B, 4), "=", Expr::Text("y"))),
                (C, compare(column(C, 4), "=", Expr::Text("z"))),
            ],
            skip: Skip::ToFirst(Of::Variable(B)),
            ..base
        },
    ]
}

/// More rows than `eagre.match.max_partial` has by default: it is for streams, and holds where it is set.
fn long_match() -> Result<(), String> {
    let sql = |set: &str| {
        format!(
            "{set} CREATE TABLE many (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '1000002', 'rows-per-second' = '100000000', 'fields.n.kind' = 'sequence',
             'fields.n.start' = '0', 'fields.n.end' = '1000001');
             SELECT l FROM many MATCH_RECOGNIZE (ORDER BY n MEASURES LAST(n) AS l PATTERN (A+) DEFINE A AS n >= 0)"
        )
    };
    let told = eagre(&["run", "--format", "csv", "-e", &sql("")]).ok()?.stdout;
    if told != "l\n1000001\n" {
        return Err(told);
    }
    for most in ["1000", "1000000"] {
        let set = format!("SET 'eagre.match.max_partial' = '{most}';");
        eagre(&["run", "-e", &sql(&set)])
            .says(1, &[&format!("partial matches of more than {most} rows in one partition")])?;
    }
    Ok(())
}
