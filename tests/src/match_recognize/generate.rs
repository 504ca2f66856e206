//! Random queries and rows. Everything is made by proptest strategies, so that what fails becomes small.
//!
//! Patterns and expressions are made first, with any numbers for variables and subsets; then numbers are brought to what the pattern has.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::query::{
    Column, D, Expr, Function, ID, K, Navigation, Of, Pattern, Query, Row, RowExpr, RowsPerMatch, S, Shift, Skip, T, V,
    VARIABLES, Word,
};

/// In a condition: the variable whose condition it is.
const OWN: usize = usize::MAX;
/// How far a row may come behind one with a later time.
pub(super) const DELAY_S: i64 = 90;

/// Which orders there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Any.
    Bounded,
    /// The time first, ascending.
    Stream,
}

// ---------------------------------------------------------------- rows

/// Rows in order of arrival, at most [`DELAY_S`] out of order. No two are equal in `t, id`.
pub(super) fn rows(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Row>> {
    let row = (
        option::weighted(0.95, select(vec!["a", "b", "c"])),
        0i64..4,
        0i64..=DELAY_S / 2,
        option::weighted(0.85, 0i64..6),
        option::weighted(0.9, select(vec!["x", "y", "z"])),
        option::weighted(0.8, -4i32..8),
    );
    vec(row, count).prop_map(|raw| {
        let mut t = 1_767_225_600;
        let mut rows: Vec<(i64, Row)> = Vec::new();
        for (id, (k, gap, ahead, v, s, d)) in raw.into_iter().enumerate() {
            t += gap * 20;
            rows.push((t - ahead, Row { k, t, id: id as i64, v, s, d: d.map(|quarters| f64::from(quarters) / 4.0) }));
        }
        rows.sort_by_key(|(arrival, _)| *arrival);
        rows.into_iter().map(|(_, row)| row).collect()
    })
}

// ---------------------------------------------------------------- patterns

fn pattern() -> impl Strategy<Value = Pattern> {
    let leaf = prop_oneof![
        40 => (0..VARIABLES.len() - 1).prop_map(Pattern::Variable),
        1 => Just(Pattern::Empty),
        1 => Just(Pattern::Start),
        1 => Just(Pattern::End),
    ];
    let part = leaf.prop_recursive(3, 10, 3, |inner| {
        let quantifier = select(vec![
            (0, None),
            (0, None),
            (1, None),
            (1, None),
            (0, Some(1)),
            (0, Some(1)),
            (2, None),
            (2, Some(2)),
            (0, Some(2)),
            (1, Some(3)),
            (2, Some(3)),
            (3, None),
        ]);
        prop_oneof![
            2 => vec(inner.clone(), 2..4).prop_map(Pattern::Concatenation),
            2 => vec(inner.clone(), 2..4).prop_map(Pattern::Alternation),
            1 => vec(inner.clone(), 2..=2).prop_map(Pattern::Permutation),
            6 => (inner.clone(), quantifier, prop::bool::weighted(0.7)).prop_map(|(body, (min, max), greedy)| {
                Pattern::Repetition { body: Box::new(body), min, max, greedy }
            }),
            1 => inner.prop_map(|body| Pattern::Exclusion(Box::new(body))),
        ]
    });
    prop_oneof![4 => vec(part.clone(), 1..4).prop_map(Pattern::Concatenation), 1 => part]
}

// ---------------------------------------------------------------- expressions

fn of(condition: bool) -> BoxedStrategy<Of> {
    let any = prop_oneof![
        3 => Just(Of::All),
        3 => (0..VARIABLES.len()).prop_map(Of::Variable),
        1 => (0..2usize).prop_map(Of::Subset),
    ];
    match condition {
        true => prop_oneof![3 => Just(Of::Variable(OWN)), 4 => any].boxed(),
        false => any.boxed(),
    }
}

fn word(condition: bool) -> BoxedStrategy<Word> {
    match condition {
        true => Just(Word::None).boxed(),
        false => select(vec![Word::None, Word::None, Word::Running, Word::Final]).boxed(),
    }
}

/// What a value at a row may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Double,
    Text,
    Time,
}

fn row_expr(kind: Kind) -> BoxedStrategy<RowExpr> {
    match kind {
        Kind::Int => prop_oneof![
            6 => Just(RowExpr::Column(V)),
            1 => Just(RowExpr::Column(ID)),
            1 => (0i64..4).prop_map(|number| RowExpr::Plus(V, number)),
            1 => Just(RowExpr::PlusMatchNumber(V)),
        ]
        .boxed(),
        Kind::Text => prop_oneof![
            3 => Just(RowExpr::Column(S)),
            2 => Just(RowExpr::Classifier),
            1 => Just(RowExpr::WithLabel),
        ]
        .boxed(),
        Kind::Double => Just(RowExpr::Column(D)).boxed(),
        Kind::Time => Just(RowExpr::Column(T)).boxed(),
    }
}

fn at(kind: Kind, condition: bool) -> impl Strategy<Value = Expr> {
    let navigation = (any::<bool>(), option::of(0usize..3), word(condition))
        .prop_map(|(first, offset, word)| Navigation { first, offset, word });
    let shift = (prop::bool::weighted(0.3), option::of(0i64..4)).prop_map(|(next, by)| Shift { next, by });
    (of(condition), row_expr(kind), option::weighted(0.4, navigation), option::weighted(0.35, shift)).prop_map(
        move |(of, value, navigation, shift)| {
            // Without navigation only a column is a value at one row.
            let value = match (&navigation, &shift, kind) {
                (None, None, Kind::Int) => RowExpr::Column(V),
                (None, None, Kind::Text) => RowExpr::Column(S),
                _ => value,
            };
            Expr::At { of, value, navigation, shift }
        },
    )
}

fn aggregate(condition: bool, exact: bool) -> impl Strategy<Value = Expr> {
    let function = match exact {
        true => vec![Function::Count, Function::Sum, Function::Min, Function::Max],
        false => vec![Function::Count, Function::Sum, Function::Min, Function::Max, Function::Avg],
    };
    (
        select(function),
        prop::bool::weighted(0.15),
        word(condition),
        of(condition),
        option::weighted(0.8, row_expr(Kind::Int)),
    )
        .prop_map(|(function, distinct, word, of, argument)| {
            let argument = match (function, argument) {
                (Function::Count, argument) => argument,
                (_, argument) => Some(argument.unwrap_or(RowExpr::Column(V))),
            };
            let distinct = distinct && argument.is_some() && matches!(function, Function::Count | Function::Sum);
            Expr::Aggregate { function, distinct, word, of, argument }
        })
}

/// How far whole numbers are apart.
fn deviation(condition: bool) -> impl Strategy<Value = Expr> {
    let function = select(vec![Function::VarPop, Function::VarSamp, Function::Stddev]);
    (function, word(condition), of(condition), row_expr(Kind::Int)).prop_map(|(function, word, of, argument)| {
        Expr::Aggregate { function, distinct: false, word, of, argument: Some(argument) }
    })
}

/// An aggregate of texts, as one of these functions; with `DISTINCT` in some cases.
fn of_texts(functions: Vec<Function>, condition: bool, distinct: f64) -> impl Strategy<Value = Expr> {
    (select(functions), prop::bool::weighted(distinct), word(condition), of(condition), row_expr(Kind::Text)).prop_map(
        |(function, distinct, word, of, argument)| Expr::Aggregate {
            function,
            distinct,
            word,
            of,
            argument: Some(argument),
        },
    )
}

/// A whole number.
fn int(condition: bool) -> BoxedStrategy<Expr> {
    let simple = prop_oneof![
        5 => at(Kind::Int, condition),
        3 => aggregate(condition, true),
        1 => of_texts(vec![Function::Count], condition, 0.7),
        1 => Just(Expr::MatchNumber),
    ];
    prop_oneof![
        6 => simple.clone(),
        1 => (simple.clone(), select(vec!["+", "-", "*"]), simple.clone())
            .prop_map(|(a, operator, b)| Expr::Arithmetic(operator, Box::new(a), Box::new(b))),
        1 => (simple.clone(), select(vec!["%", "/"]), 2i64..4)
            .prop_map(|(a, operator, by)| Expr::Arithmetic(operator, Box::new(a), Box::new(Expr::Int(by)))),
        1 => (simple.clone(), simple.clone()).prop_map(|(a, b)| Expr::Coalesce(Box::new(a), Box::new(b))),
        1 => (simple.clone(), simple).prop_map(|(a, b)| {
            Expr::Abs(Box::new(Expr::Arithmetic("-", Box::new(a), Box::new(b))))
        }),
    ]
    .boxed()
}

/// An aggregate of doubles.
fn of_doubles(condition: bool) -> impl Strategy<Value = Expr> {
    let function = select(vec![Function::Sum, Function::Min, Function::Max, Function::Avg]);
    (function, word(condition), of(condition)).prop_map(|(function, word, of)| Expr::Aggregate {
        function,
        distinct: false,
        word,
        of,
        argument: Some(RowExpr::Column(D)),
    })
}

fn text(condition: bool) -> BoxedStrategy<Expr> {
    let aggregates = vec![Function::Min, Function::Max, Function::StringAgg];
    prop_oneof![
        3 => at(Kind::Text, condition),
        1 => of_texts(aggregates, condition, 0.0),
        1 => of(condition).prop_map(Expr::Classifier),
    ]
    .boxed()
}

fn compare(
    a: impl Strategy<Value = Expr>,
    operators: Vec<&'static str>,
    b: impl Strategy<Value = Expr>,
) -> impl Strategy<Value = Expr> {
    (a, select(operators), b).prop_map(|(a, operator, b)| Expr::Compare(operator, Box::new(a), Box::new(b)))
}

fn boolean(condition: bool) -> BoxedStrategy<Expr> {
    let bare = |column: Column| {
        let of = if condition { Of::Variable(OWN) } else { Of::All };
        prop_oneof![Just(of), Just(Of::All)].prop_map(move |of| Expr::At {
            of,
            value: RowExpr::Column(column),
            navigation: None,
            shift: None,
        })
    };
    let order = vec!["<", "<=", ">", ">=", "=", "<>"];
    let number = || (0i64..6).prop_map(Expr::Int);
    let leaf = prop_oneof![
        // Of the row alone.
        6 => compare(bare(V), vec!["<", "<=", ">=", "<>", ">"], (1i64..5).prop_map(Expr::Int)),
        2 => compare(bare(S), vec!["=", "<>"], select(vec!["x", "y", "z"]).prop_map(Expr::Text)),
        1 => compare(bare(D), vec!["<", ">="], number()),
        // Of the row and its neighbours.
        3 => (bare(V), select(order.clone()), any::<bool>(), option::of(1i64..3)).prop_map(|(row, operator, next, by)| {
            let Expr::At { of, value, .. } = row.clone() else { return row };
            let other = Expr::At { of, value, navigation: None, shift: Some(Shift { next, by }) };
            Expr::Compare(operator, Box::new(row), Box::new(other))
        }),
        // Of the match.
        3 => compare(bare(V), order.clone(), int(condition)),
        3 => compare(int(condition), order.clone(), number()),
        1 => compare(aggregate(condition, false), vec!["<", ">="], number()),
        1 => compare(of_doubles(condition), vec!["<", ">="], number()),
        1 => compare(deviation(condition), order.clone(), number()),
        1 => compare(bare(D), order.clone(), prop_oneof![at(Kind::Double, condition), of_doubles(condition)]),
        1 => compare(bare(V), order.clone(), of_doubles(condition)),
        1 => (bare(V), vec(prop_oneof![number(), int(condition)], 1..4))
            .prop_map(|(row, list)| Expr::In(Box::new(row), list)),
        1 => (bare(T), at(Kind::Time, condition), 0i64..4)
            .prop_map(|(row, other, steps)| Expr::NoLaterThan(Box::new(row), Box::new(other), steps * 20)),
        1 => (bare(T), at(Kind::Time, condition), 0i64..4)
            .prop_map(|(row, other, steps)| Expr::NoFartherThan(Box::new(row), Box::new(other), steps * 20)),
        2 => compare(bare(S), vec!["=", "<>"], at(Kind::Text, condition)),
        1 => (prop_oneof![(bare(S), at(Kind::Text, condition)), (bare(V), at(Kind::Int, condition))])
            .prop_map(|(row, other)| Expr::IsDistinct(Box::new(row), Box::new(other))),
        2 => compare(text(condition), vec!["=", "<>"], select(vec!["A", "B", "x", "y", "xA", "x,y", "A,B"]).prop_map(Expr::Text)),
        1 => int(condition).prop_map(|value| Expr::IsNull(Box::new(value))),
        1 => any::<bool>().prop_map(Expr::Bool),
    ];
    prop_oneof![
        6 => leaf.clone(),
        1 => (leaf.clone(), leaf.clone()).prop_map(|(a, b)| Expr::And(Box::new(a), Box::new(b))),
        1 => (leaf.clone(), leaf.clone()).prop_map(|(a, b)| Expr::Or(Box::new(a), Box::new(b))),
        1 => (leaf.clone(), leaf.clone(), leaf.clone()).prop_map(|(condition, then, otherwise)| Expr::Case {
            condition: Box::new(condition),
            then: Box::new(then),
            otherwise: Box::new(otherwise),
        }),
        1 => leaf.prop_map(|a| Expr::Not(Box::new(a))),
    ]
    .boxed()
}

fn measure() -> impl Strategy<Value = Expr> {
    let array = (word(false), of(false), prop_oneof![row_expr(Kind::Int), row_expr(Kind::Text)]).prop_map(
        |(word, of, argument)| Expr::Aggregate {
            function: Function::ArrayAgg,
            distinct: false,
            word,
            of,
            argument: Some(argument),
        },
    );
    let case = (boolean(false), int(false), int(false)).prop_map(|(condition, then, otherwise)| Expr::Case {
        condition: Box::new(condition),
        then: Box::new(then),
        otherwise: Box::new(otherwise),
    });
    prop_oneof![
        4 => int(false),
        3 => text(false),
        1 => at(Kind::Time, false),
        1 => aggregate(false, false),
        1 => of_doubles(false),
        1 => at(Kind::Double, false),
        1 => array,
        1 => boolean(false),
        1 => Just(Expr::Status),
        1 => case,
    ]
}

// ---------------------------------------------------------------- queries

/// Brings names to those that there are.
struct Names {
    variables: Vec<usize>,
    subsets: usize,
}

impl Names {
    fn of(&self, of: Of, own: Option<usize>) -> Of {
        let nth = |number: usize| self.variables.get(number % self.variables.len().max(1)).copied();
        match of {
            Of::All => Of::All,
            Of::Variable(OWN) => own.map_or(Of::All, Of::Variable),
            Of::Variable(number) => nth(number).map_or(Of::All, Of::Variable),
            Of::Subset(number) if self.subsets > 0 => Of::Subset(number % self.subsets),
            Of::Subset(number) => nth(number).map_or(Of::All, Of::Variable),
        }
    }

    fn expr(&self, expr: Expr, own: Option<usize>) -> Expr {
        let again = |expr: Box<Expr>| Box::new(self.expr(*expr, own));
        match expr {
            Expr::Int(_) | Expr::Text(_) | Expr::Bool(_) | Expr::MatchNumber | Expr::Status => expr,
            Expr::At { of, value, navigation, shift } => Expr::At { of: self.of(of, own), value, navigation, shift },
            Expr::Classifier(of) => Expr::Classifier(self.of(of, own)),
            Expr::Aggregate { function, distinct, word, of, argument } => {
                Expr::Aggregate { function, distinct, word, of: self.of(of, own), argument }
            }
            Expr::Compare(operator, a, b) => Expr::Compare(operator, again(a), again(b)),
            Expr::Arithmetic(operator, a, b) => Expr::Arithmetic(operator, again(a), again(b)),
            Expr::And(a, b) => Expr::And(again(a), again(b)),
            Expr::Or(a, b) => Expr::Or(again(a), again(b)),
            Expr::Not(a) => Expr::Not(again(a)),
            Expr::IsNull(a) => Expr::IsNull(again(a)),
            Expr::In(a, list) => Expr::In(again(a), list.into_iter().map(|other| self.expr(other, own)).collect()),
            Expr::Coalesce(a, b) => Expr::Coalesce(again(a), again(b)),
            Expr::NoLaterThan(a, b, seconds) => Expr::NoLaterThan(again(a), again(b), seconds),
            Expr::NoFartherThan(a, b, seconds) => Expr::NoFartherThan(again(a), again(b), seconds),
            Expr::Abs(a) => Expr::Abs(again(a)),
            Expr::IsDistinct(a, b) => Expr::IsDistinct(again(a), again(b)),
            Expr::Case { condition, then, otherwise } => {
                Expr::Case { condition: again(condition), then: again(then), otherwise: again(otherwise) }
            }
        }
    }
}

/// Queries of which some have their pattern in a window.
pub(super) fn query_or_window(input: Input) -> impl Strategy<Value = Query> {
    let window = (query(input), option::weighted(0.4, 0usize..5), any::<bool>());
    let window = window.prop_filter_map(
        "patterns of windows have no anchors and matches of them no number",
        |(mut query, following, seek)| {
            let text = query.to_string();
            if text.contains("MATCH_NUMBER") || query.pattern.excludes() || query.pattern.has_anchor() {
                return None;
            }
            query.rows = RowsPerMatch::Window { following, seek };
            query.partial = false;
            query.within = query.within.filter(|_| !seek);
            Some(query)
        },
    );
    prop_oneof![4 => query(input), 1 => window]
}

pub(super) fn query(input: Input) -> impl Strategy<Value = Query> {
    let order = match input {
        Input::Stream => {
            vec![vec![(T, false), (ID, false)], vec![(T, false), (V, true), (ID, false)], vec![(T, false)]]
        }
        Input::Bounded => vec![
            // Rows that are equal in it are in order of arrival.
            vec![(T, false)],
            vec![(S, true)],
            vec![(T, false), (ID, false)],
            vec![(ID, true)],
            vec![(V, true), (ID, false)],
            vec![(S, false), (T, true), (ID, true)],
        ],
    };
    let rows = select(vec![
        RowsPerMatch::One,
        RowsPerMatch::One,
        RowsPerMatch::AllShowEmpty,
        RowsPerMatch::AllOmitEmpty,
        RowsPerMatch::AllWithUnmatched,
    ]);
    let skip = prop_oneof![
        3 => Just(Skip::PastLastRow),
        2 => Just(Skip::ToNextRow),
        1 => of(false).prop_map(Skip::ToFirst),
        1 => of(false).prop_map(Skip::ToLast),
    ];
    let within = prop_oneof![3 => Just(None), 1 => (0i64..8).prop_map(|steps| Some(steps * 20))];
    let define = vec(option::weighted(0.6, boolean(true)), VARIABLES.len());
    let subsets = vec(vec(0..VARIABLES.len(), 1..4), 0..3);
    (
        pattern(),
        vec(measure(), 1..5),
        (select(order), prop_oneof![4 => Just(vec![]), 5 => Just(vec![K]), 1 => Just(vec![K, S])]),
        (rows, skip, within, any::<bool>()),
        (define, subsets),
    )
        .prop_map(
            |(pattern, measures, (order, mut partition), (rows, skip, within, partial), (define, subsets))| {
                let names = Names { variables: pattern.variables(), subsets: subsets.len() };
                let names = if names.variables.is_empty() { Names { subsets: 0, ..names } } else { names };
                let subset = |raw: Vec<usize>| {
                    let mut set: Vec<usize> =
                        raw.iter().map(|number| names.variables[number % names.variables.len()]).collect();
                    set.sort_unstable();
                    set.dedup();
                    set
                };
                let subsets = subsets.into_iter().take(names.subsets).map(subset).collect();
                let mut define: Vec<(usize, Expr)> = define
                    .into_iter()
                    .enumerate()
                    .filter(|(variable, _)| names.variables.contains(variable))
                    .filter_map(|(variable, condition)| Some((variable, names.expr(condition?, Some(variable)))))
                    .collect();
                if define.is_empty() {
                    define.extend(names.variables.first().map(|variable| (*variable, Expr::Bool(true))));
                }
                let skip = match skip {
                    Skip::ToFirst(of) => Skip::ToFirst(names.of(of, None)),
                    Skip::ToLast(of) => Skip::ToLast(names.of(of, None)),
                    other => other,
                };
                let skip =
                    if matches!(skip, Skip::ToFirst(Of::All) | Skip::ToLast(Of::All)) { Skip::ToNextRow } else { skip };
                let rows = match rows {
                    RowsPerMatch::AllWithUnmatched if pattern.excludes() => RowsPerMatch::AllShowEmpty,
                    other => other,
                };
                partition.retain(|column| order.iter().all(|(ordered, _)| ordered != column));
                let within = within.filter(|_| order[0] == (T, false));
                Query {
                    partition,
                    within,
                    order,
                    measures: measures.into_iter().map(|measure| names.expr(measure, None)).collect(),
                    rows,
                    skip,
                    pattern,
                    subsets,
                    define,
                    partial: partial && within.is_some(),
                    changes: false,
                }
            },
        )
}
