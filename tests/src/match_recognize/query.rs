//! A `MATCH_RECOGNIZE` query as data: random tests make it, print it for eagre, and evaluate it themselves.
//!
//! The language is what a naive evaluator can say without doubt: columns of a fixed table, navigation, aggregates, labels, comparisons.

use std::fmt;

/// The columns of the table, in order, with their types.
pub(super) const COLUMNS: [(&str, &str); 6] =
    [("k", "VARCHAR"), ("t", "TIMESTAMP(3)"), ("id", "BIGINT"), ("v", "BIGINT"), ("s", "VARCHAR"), ("d", "DOUBLE")];

/// A column by its place in [`COLUMNS`].
pub(super) type Column = usize;
pub(super) const K: Column = 0;
pub(super) const T: Column = 1;
pub(super) const ID: Column = 2;
pub(super) const V: Column = 3;
pub(super) const S: Column = 4;
pub(super) const D: Column = 5;

/// The variables that patterns have, by number, and the names of `SUBSET`s.
pub(super) const VARIABLES: [&str; 5] = ["A", "B", "C", "D", "E"];
pub(super) const SUBSETS: [&str; 2] = ["U", "W"];

/// A row of the table. `t` is in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) k: Option<&'static str>,
    pub(super) t: i64,
    pub(super) id: i64,
    pub(super) v: Option<i64>,
    pub(super) s: Option<&'static str>,
    pub(super) d: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    Empty,
    Variable(usize),
    Concatenation(Vec<Pattern>),
    Alternation(Vec<Pattern>),
    Permutation(Vec<Pattern>),
    Repetition { body: Box<Pattern>, min: u32, max: Option<u32>, greedy: bool },
    Exclusion(Box<Pattern>),
    Start,
    End,
}

/// Rows of which variables: all, one, or those of a `SUBSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    All,
    Variable(usize),
    Subset(usize),
}

/// A value at a row: what navigation and aggregates are asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RowExpr {
    Column(Column),
    /// `CLASSIFIER(..)`.
    Classifier,
    /// `column + n`.
    Plus(Column, i64),
    /// `column + MATCH_NUMBER()`.
    PlusMatchNumber(Column),
    /// `s || CLASSIFIER(..)`.
    WithLabel,
}

/// `RUNNING` or `FINAL`, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    None,
    Running,
    Final,
}

/// `FIRST(..)` or `LAST(..)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Navigation {
    pub(super) first: bool,
    pub(super) offset: Option<usize>,
    pub(super) word: Word,
}

/// `NEXT(..)` or `PREV(..)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shift {
    pub(super) next: bool,
    pub(super) by: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    ArrayAgg,
    /// With a comma between.
    StringAgg,
    VarPop,
    VarSamp,
    Stddev,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Int(i64),
    Text(&'static str),
    Bool(bool),
    /// A column at a row; bare, if there is neither navigation nor shift.
    At {
        of: Of,
        value: RowExpr,
        navigation: Option<Navigation>,
        shift: Option<Shift>,
    },
    Classifier(Of),
    MatchNumber,
    /// `match_status()`.
    Status,
    /// Without an argument `COUNT(*)` or `COUNT(A.*)`.
    Aggregate {
        function: Function,
        distinct: bool,
        word: Word,
        of: Of,
        argument: Option<RowExpr>,
    },
    Compare(&'static str, Box<Expr>, Box<Expr>),
    /// `+`, `-`, `*`, or `%` and `/` by a number above 0.
    Arithmetic(&'static str, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>),
    Case {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
    /// `a IN (..)`.
    In(Box<Expr>, Vec<Expr>),
    Coalesce(Box<Expr>, Box<Expr>),
    /// `a <= b + INTERVAL ..`, of times, in seconds.
    NoLaterThan(Box<Expr>, Box<Expr>, i64),
    /// `a - b <= INTERVAL ..`, the same.
    NoFartherThan(Box<Expr>, Box<Expr>, i64),
    /// Of a whole number.
    Abs(Box<Expr>),
    IsDistinct(Box<Expr>, Box<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowsPerMatch {
    One,
    AllShowEmpty,
    AllOmitEmpty,
    AllWithUnmatched,
    /// Each row, with the match that a window with the pattern has from it on: so many rows further on at most, from some row of them on or
    /// from the first one.
    Window {
        following: Option<usize>,
        seek: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skip {
    PastLastRow,
    ToNextRow,
    ToFirst(Of),
    ToLast(Of),
}

#[derive(Clone, PartialEq)]
pub(super) struct Query {
    pub(super) partition: Vec<Column>,
    /// Columns, and whether they descend.
    pub(super) order: Vec<(Column, bool)>,
    pub(super) measures: Vec<Expr>,
    pub(super) rows: RowsPerMatch,
    pub(super) skip: Skip,
    pub(super) pattern: Pattern,
    /// In seconds.
    pub(super) within: Option<i64>,
    /// Variables of each subset.
    pub(super) subsets: Vec<Vec<usize>>,
    /// By variable.
    pub(super) define: Vec<(usize, Expr)>,
    /// `EMIT PARTIAL ON TIMEOUT`: attempts that come to nothing are told too.
    pub(super) partial: bool,
    /// `EMIT CHANGES`: matches as soon as they exist.
    pub(super) changes: bool,
}

impl Pattern {
    /// The variables, each once, ascending.
    pub(super) fn variables(&self) -> Vec<usize> {
        let mut found = Vec::new();
        self.visit(&mut |pattern| {
            if let Self::Variable(variable) = pattern {
                found.push(*variable);
            }
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    pub(super) fn excludes(&self) -> bool {
        let mut found = false;
        self.visit(&mut |pattern| found |= matches!(pattern, Self::Exclusion(_)));
        found
    }

    pub(super) fn has_anchor(&self) -> bool {
        let mut found = false;
        self.visit(&mut |pattern| found |= matches!(pattern, Self::Start | Self::End));
        found
    }

    fn visit(&self, see: &mut dyn FnMut(&Self)) {
        see(self);
        match self {
            Self::Empty | Self::Variable(_) | Self::Start | Self::End => {}
            Self::Concatenation(parts) | Self::Alternation(parts) | Self::Permutation(parts) => {
                parts.iter().for_each(|part| part.visit(see));
            }
            Self::Repetition { body, .. } | Self::Exclusion(body) => body.visit(see),
        }
    }
}

// ---------------------------------------------------------------- text

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("()"),
            Self::Variable(variable) => f.write_str(VARIABLES[*variable]),
            Self::Concatenation(parts) => {
                list(f, parts, " ", |part| matches!(part, Self::Alternation(_) | Self::Concatenation(_)))
            }
            Self::Alternation(parts) => list(f, parts, " | ", |part| matches!(part, Self::Alternation(_))),
            Self::Permutation(parts) => {
                f.write_str("PERMUTE(")?;
                list(f, parts, ", ", |_| false)?;
                f.write_str(")")
            }
            Self::Repetition { body, min, max, greedy } => {
                match **body {
                    Self::Concatenation(_) | Self::Alternation(_) | Self::Repetition { .. } => write!(f, "({body})")?,
                    _ => write!(f, "{body}")?,
                }
                match (min, max) {
                    (0, None) => f.write_str("*")?,
                    (1, None) => f.write_str("+")?,
                    (0, Some(1)) => f.write_str("?")?,
                    (min, None) => write!(f, "{{{min},}}")?,
                    (min, Some(max)) if min == max => write!(f, "{{{min}}}")?,
                    (0, Some(max)) => write!(f, "{{,{max}}}")?,
                    (min, Some(max)) => write!(f, "{{{min},{max}}}")?,
                }
                f.write_str(if *greedy { "" } else { "?" })
            }
            Self::Exclusion(body) => write!(f, "{{- {body} -}}"),
            Self::Start => f.write_str("^"),
            Self::End => f.write_str("$"),
        }
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    parts: &[Pattern],
    between: &str,
    grouped: impl Fn(&Pattern) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { between })?;
        match grouped(part) {
            true => write!(f, "({part})")?,
            false => write!(f, "{part}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Variable(variable) => f.write_str(VARIABLES[*variable]),
            Self::Subset(subset) => f.write_str(SUBSETS[*subset]),
        }
    }
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Running => "RUNNING ",
            Self::Final => "FINAL ",
        }
    }
}

impl RowExpr {
    fn text(&self, of: Of) -> String {
        let column = |column: Column| match of {
            Of::All => COLUMNS[column].0.to_owned(),
            _ => format!("{of}.{}", COLUMNS[column].0),
        };
        match self {
            Self::Column(name) => column(*name),
            Self::Classifier => format!("CLASSIFIER({of})"),
            Self::Plus(name, number) => format!("{} + {number}", column(*name)),
            Self::PlusMatchNumber(name) => format!("{} + MATCH_NUMBER()", column(*name)),
            Self::WithLabel => format!("{} || CLASSIFIER({of})", column(S)),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "'{value}'"),
            Self::Bool(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
            Self::At { of, value, navigation, shift } => {
                let mut text = value.text(*of);
                if let Some(Navigation { first, offset, word }) = navigation {
                    let offset = offset.map(|offset| format!(", {offset}")).unwrap_or_default();
                    text = format!("{}{}({text}{offset})", word.text(), if *first { "FIRST" } else { "LAST" });
                }
                if let Some(Shift { next, by }) = shift {
                    let by = by.map(|by| format!(", {by}")).unwrap_or_default();
                    text = format!("{}({text}{by})", if *next { "NEXT" } else { "PREV" });
                }
                f.write_str(&text)
            }
            Self::Classifier(of) => write!(f, "CLASSIFIER({of})"),
            Self::MatchNumber => f.write_str("MATCH_NUMBER()"),
            Self::Status => f.write_str("match_status()"),
            Self::Aggregate { function, distinct, word, of, argument } => {
                let name = match function {
                    Function::Count => "COUNT",
                    Function::Sum => "SUM",
                    Function::Min => "MIN",
                    Function::Max => "MAX",
                    Function::Avg => "AVG",
                    Function::ArrayAgg => "ARRAY_AGG",
                    Function::StringAgg => "STRING_AGG",
                    Function::VarPop => "VAR_POP",
                    Function::VarSamp => "VAR_SAMP",
                    Function::Stddev => "STDDEV",
                };
                let argument = match (argument, of) {
                    (Some(argument), of) => argument.text(*of),
                    (None, Of::All) => "*".to_owned(),
                    (None, of) => format!("{of}.*"),
                };
                let between = if *function == Function::StringAgg { ", ','" } else { "" };
                write!(f, "{}{name}({}{argument}{between})", word.text(), if *distinct { "DISTINCT " } else { "" })
            }
            Self::Compare(operator, a, b) | Self::Arithmetic(operator, a, b) => write!(f, "({a} {operator} {b})"),
            Self::And(a, b) => write!(f, "({a} AND {b})"),
            Self::Or(a, b) => write!(f, "({a} OR {b})"),
            Self::Not(a) => write!(f, "(NOT {a})"),
            Self::IsNull(a) => write!(f, "({a} IS NULL)"),
            Self::In(a, list) => {
                let list: Vec<String> = list.iter().map(Self::to_string).collect();
                write!(f, "({a} IN ({}))", list.join(", "))
            }
            Self::Coalesce(a, b) => write!(f, "COALESCE({a}, {b})"),
            Self::NoLaterThan(a, b, seconds) => write!(f, "({a} <= {b} + INTERVAL '{seconds}' SECOND)"),
            Self::NoFartherThan(a, b, seconds) => write!(f, "({a} - {b} <= INTERVAL '{seconds}' SECOND)"),
            Self::Abs(a) => write!(f, "ABS({a})"),
            Self::IsDistinct(a, b) => write!(f, "({a} IS DISTINCT FROM {b})"),
            Self::Case { condition, then, otherwise } => {
                write!(f, "CASE WHEN {condition} THEN {then} ELSE {otherwise} END")
            }
        }
    }
}

impl Query {
    /// What stands between the parentheses.
    pub(super) fn clause(&self) -> String {
        let mut text = String::new();
        if !self.partition.is_empty() {
            let names: Vec<&str> = self.partition.iter().map(|column| COLUMNS[*column].0).collect();
            text = format!("PARTITION BY {} ", names.join(", "));
        }
        let order = self.order.iter();
        let order =
            order.map(|(column, descends)| format!("{}{}", COLUMNS[*column].0, if *descends { " DESC" } else { "" }));
        text = format!("{text}ORDER BY {}", order.collect::<Vec<_>>().join(", "));
        if !self.measures.is_empty() {
            let measures = self.measures.iter().enumerate().map(|(index, measure)| format!("{measure} AS m{index}"));
            text = format!("{text} MEASURES {}", measures.collect::<Vec<_>>().join(", "));
        }
        text.push_str(&match self.rows {
            RowsPerMatch::One => " ONE ROW PER MATCH".to_owned(),
            RowsPerMatch::AllShowEmpty => " ALL ROWS PER MATCH SHOW EMPTY MATCHES".to_owned(),
            RowsPerMatch::AllOmitEmpty => " ALL ROWS PER MATCH OMIT EMPTY MATCHES".to_owned(),
            RowsPerMatch::AllWithUnmatched => " ALL ROWS PER MATCH WITH UNMATCHED ROWS".to_owned(),
            RowsPerMatch::Window { following, .. } => {
                let end = following.map_or("UNBOUNDED".to_owned(), |rows| rows.to_string());
                format!(" ROWS BETWEEN CURRENT ROW AND {end} FOLLOWING")
            }
        });
        text.push_str(" AFTER MATCH SKIP ");
        text.push_str(&match self.skip {
            Skip::PastLastRow => "PAST LAST ROW".to_owned(),
            Skip::ToNextRow => "TO NEXT ROW".to_owned(),
            Skip::ToFirst(of) => format!("TO FIRST {of}"),
            Skip::ToLast(of) => format!("TO LAST {of}"),
        });
        if let RowsPerMatch::Window { seek: true, .. } = self.rows {
            text.push_str(" SEEK");
        }
        text = format!("{text} PATTERN ({})", self.pattern);
        if let Some(seconds) = self.within {
            text = format!("{text} WITHIN INTERVAL '{seconds}' SECOND");
        }
        if !self.subsets.is_empty() {
            let subset = |(index, variables): (usize, &Vec<usize>)| {
                let names: Vec<&str> = variables.iter().map(|variable| VARIABLES[*variable]).collect();
                format!("{} = ({})", SUBSETS[index], names.join(", "))
            };
            let subsets: Vec<String> = self.subsets.iter().enumerate().map(subset).collect();
            text = format!("{text} SUBSET {}", subsets.join(", "));
        }
        if !self.define.is_empty() {
            let define =
                self.define.iter().map(|(variable, condition)| format!("{} AS {condition}", VARIABLES[*variable]));
            text = format!("{text} DEFINE {}", define.collect::<Vec<_>>().join(", "));
        }
        if self.partial {
            text.push_str(" EMIT PARTIAL ON TIMEOUT");
        }
        if self.changes {
            text.push_str(" EMIT CHANGES");
        }
        text
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RowsPerMatch::Window { .. } = self.rows else {
            return write!(f, "SELECT * FROM events MATCH_RECOGNIZE ({})", self.clause());
        };
        f.write_str("SELECT *")?;
        (0..self.measures.len()).try_for_each(|index| write!(f, ", m{index} OVER w AS x{index}"))?;
        f.write_str(", COUNT(*) OVER w, FIRST_VALUE(id) OVER w AS first_id, LAST_VALUE(events.id) OVER w")?;
        write!(f, " FROM events WINDOW w AS ({})", self.clause())
    }
}

/// Printed as its text when a test fails.
impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
