//! What stands between the parentheses of `MATCH_RECOGNIZE (..)`:
//!
//! ```text
//! [PARTITION BY column, ..] [ORDER BY column [ASC | DESC] [NULLS FIRST | NULLS LAST], ..]
//! [MEASURES expression [AS] name, ..]
//! [ONE ROW PER MATCH | ALL ROWS PER MATCH [SHOW EMPTY MATCHES | OMIT EMPTY MATCHES | WITH UNMATCHED ROWS]]
//! [AFTER MATCH SKIP {PAST LAST ROW | TO NEXT ROW | TO [FIRST | LAST] variable}]
//! PATTERN (pattern) [WITHIN interval]
//! [SUBSET name = (variable, ..), ..] [DEFINE variable AS condition, ..]
//! ```
//!
//! `EMIT PARTIAL ON TIMEOUT` and `EMIT CHANGES` stand behind the pattern, behind its `WITHIN` or at the end. In expressions a function
//! may have `RUNNING` or `FINAL` before it.
//!
//! Lists end at the words that begin the next part; so a measure may be called `pattern` or `one`, as long as that is no beginning.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use eagre_patterns::VariableSet;

use super::negation;
use super::order;
use super::pattern::{self, Parsed, PatternSyntax};
use super::tokens::{Named, Place, Tokens, split_at_commas};
use super::window::SEEK;
use crate::error::{Location, Result, SqlError, nearest};

/// A clause without its expressions, which follow it in this order: `PARTITION BY`, `ORDER BY`, `MEASURES`, `WITHIN`, `DEFINE`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Clause {
    /// How many expressions `PARTITION BY` has.
    pub(crate) partition: usize,
    pub(crate) order: Vec<OrderSyntax>,
    /// The names of the measures.
    pub(crate) measures: Vec<MeasureSyntax>,
    pub(crate) rows: RowsSyntax,
    pub(crate) skip: SkipSyntax,
    /// Where the target of the skip stands, if it is a variable.
    pub(crate) skip_at: Option<Place>,
    pub(crate) pattern: PatternSyntax,
    /// Where the pattern begins.
    pub(crate) pattern_at: Place,
    /// Its variables.
    pub(crate) variables: Vec<Named>,
    /// Names of several variables; a bit for each.
    pub(crate) subsets: Vec<(Named, u64)>,
    /// Whether there is a `WITHIN`, and where.
    pub(crate) within: Option<Place>,
    /// The variable of each condition, by number.
    pub(crate) defines: Vec<(u8, Place)>,
    /// `EMIT PARTIAL ON TIMEOUT`.
    pub(crate) emit_partial: bool,
    /// `EMIT CHANGES`.
    pub(crate) emit_changes: bool,
    /// The columns of a match that the query names and `*` does not show, by name: where its rows are in their source.
    pub(crate) lineage: Vec<String>,
    /// `EXPLAIN MATCH`.
    pub(crate) explain: Option<ExplainSyntax>,
}

/// What `EXPLAIN MATCH` asks for. Its expressions follow those of the clause: the values of the key, the bounds, the parts of conditions.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ExplainSyntax {
    /// Where it stands.
    pub(crate) at: Place,
    /// The columns of the key.
    pub(crate) key: Vec<KeySyntax>,
    /// The first and the last value of the order, if they are given.
    pub(crate) from: Option<Place>,
    pub(crate) to: Option<Place>,
    /// For each condition, the words of the parts that `AND` joins.
    pub(crate) parts: Vec<Vec<String>>,
}

/// A column of a key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeySyntax {
    pub(crate) name: String,
    pub(crate) quoted: bool,
    pub(crate) at: Place,
}

/// One key of `ORDER BY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct OrderSyntax {
    pub(crate) descending: bool,
    /// What was said of nulls.
    pub(crate) nulls_first: Option<bool>,
    pub(crate) at: Place,
}

/// The name of a measure.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct MeasureSyntax {
    /// As it is spelled.
    pub(crate) name: String,
    pub(crate) at: Place,
}

/// `.. PER MATCH ..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum RowsSyntax {
    One,
    All {
        show_empty: bool,
        unmatched: bool,
    },
    /// Of a pattern in a window: each row of the table once, with the measures of the match that begins there (see [`super::window`]).
    Window,
}

impl RowsSyntax {
    /// Whether a row that leaves has the columns of a row of the table.
    pub(crate) fn has_columns(self) -> bool {
        self != Self::One
    }

    /// Whether measures are those of the whole match, and not of the rows up to one of them.
    pub(crate) fn is_of_whole_match(self) -> bool {
        matches!(self, Self::One | Self::Window)
    }
}

/// What is written in the place of `.. PER MATCH` for [`RowsSyntax::Window`].
pub(super) const WINDOW_ROWS: &str = "__EAGRE_WINDOW_ROWS";

/// `AFTER MATCH SKIP`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum SkipSyntax {
    PastLastRow,
    ToNextRow,
    /// To the first (or last) row of a variable or of those of a subset.
    To {
        first: bool,
        name: String,
        variables: u64,
    },
}

impl Clause {
    /// The variables that a name means; `None`: it is no name of a variable or subset.
    pub(crate) fn variables_of(&self, name: &str) -> Option<u64> {
        variables_of(&self.variables, &self.subsets, name)
    }

    /// The variables that are meant where none is named: all, but those of rows before a match that is sought.
    pub(crate) fn all_variables(&self) -> VariableSet {
        let sought = self.variables.iter().position(|variable| variable.name == SEEK);
        sought.map_or(VariableSet::ALL, |sought| VariableSet(VariableSet::ALL.0 & !(1 << sought)))
    }

    /// The names of all variables and subsets.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        labels(&self.variables, &self.subsets)
    }
}

/// The names of variables and subsets that were written.
fn labels<'c>(variables: &'c [Named], subsets: &'c [(Named, u64)]) -> impl Iterator<Item = &'c str> {
    let all = variables.iter().chain(subsets.iter().map(|(name, _)| name));
    all.map(|named| named.name.as_str()).filter(|name| *name != SEEK)
}

fn variables_of(variables: &[Named], subsets: &[(Named, u64)], name: &str) -> Option<u64> {
    let variable = variables.iter().position(|variable| variable.name == name).map(|index| 1 << index);
    variable.or_else(|| subsets.iter().find(|(subset, _)| subset.name == name).map(|(_, set)| *set))
}

/// The tokens of an expression.
pub(super) type ExprTokens = Vec<TokenWithSpan>;

/// Reads a clause; returns it with its expressions.
pub(super) fn parse(mut tokens: Tokens<'_>) -> Result<(Clause, Vec<ExprTokens>)> {
    let tokens = &mut tokens;
    let mut exprs = vec![];
    let mut partition = 0;
    if tokens.accept("PARTITION BY") {
        let items = items(tokens, "a column", |tokens| tokens.sees("ORDER BY") || begins_measures_or_later(tokens))?;
        partition = items.len();
        exprs.extend(items.into_iter().map(<[_]>::to_vec));
    }
    let mut order = vec![];
    if tokens.accept("ORDER BY") {
        for item in items(tokens, "a column", begins_measures_or_later)? {
            let (expr, key) = order_key(item)?;
            exprs.push(expr.to_vec());
            order.push(key);
        }
    }
    let mut measures = vec![];
    if tokens.accept("MEASURES") {
        for item in items(tokens, "a measure", begins_rows_or_later)? {
            let (expr, name) = measure(item)?;
            exprs.push(with_semantics(expr, None)?);
            check_free(&measures, &name)?;
            measures.push(name);
        }
    }
    let rows_at = tokens.location();
    let rows = rows(tokens)?;
    let skip = skip(tokens)?;
    let seek_at = tokens.location();
    for word in ["SEEK", "INITIAL"] {
        if tokens.accept(word) {
            return Err(SqlError::unsupported(
                format!("`{word}`"),
                "it belongs to patterns in windows; here a pattern is looked for from each row on: leave it out",
                seek_at,
            ));
        }
    }
    if !begins_pattern(tokens) {
        return Err(order::misplaced(tokens).unwrap_or_else(|| tokens.expected("`PATTERN (..)`")));
    }
    tokens.accept("PATTERN");
    let pattern_at = tokens.location();
    let Parsed { pattern, variables, negated } = pattern::parse(tokens.in_parentheses()?)?;
    let mut emits = Emits::default();
    emits.accept(tokens)?;
    let mut within = None;
    let at = tokens.location();
    if tokens.accept("WITHIN") {
        let expr =
            tokens.until(|tokens| tokens.sees("SUBSET") || tokens.sees("DEFINE") || Emits::begins(tokens)).to_vec();
        if expr.is_empty() {
            return Err(tokens.expected("an interval, such as `INTERVAL '10' MINUTE`"));
        }
        if let Some(error) = order::part_within(&expr) {
            return Err(error);
        }
        exprs.push(expr);
        within = Some(at.into());
        emits.accept(tokens)?;
    }
    let mut subsets: Vec<(Named, u64)> = vec![];
    if tokens.accept("SUBSET") {
        loop {
            let subset = subset(tokens, &variables, &subsets)?;
            subsets.push(subset);
            if !tokens.accept_token(&Token::Comma) {
                break;
            }
        }
    }
    let skip_at = match &skip {
        SkipTo::Variable { name, .. } => Some(name.at),
        SkipTo::PastLastRow | SkipTo::NextRow => None,
    };
    let skip = match skip {
        SkipTo::PastLastRow => SkipSyntax::PastLastRow,
        SkipTo::NextRow => SkipSyntax::ToNextRow,
        SkipTo::Variable { first, name } => match variables_of(&variables, &subsets, &name.name) {
            Some(set) => SkipSyntax::To { first, name: name.name, variables: set },
            None => return Err(unknown_variable(&name, &variables, &subsets, "`AFTER MATCH SKIP TO`")),
        },
    };
    let mut defines: Vec<(u8, Place)> = vec![];
    let first_condition = exprs.len();
    if tokens.accept("DEFINE") {
        for item in items(tokens, "a condition: `<variable> AS <condition>`", Emits::begins)? {
            let closing = item.last().and_then(|token| Location::of(token.span)).unwrap_or(tokens.location());
            let mut item_tokens = Tokens::new(item, closing);
            let name = item_tokens.name("the name of a variable")?;
            item_tokens.expect("AS")?;
            let expr = &item[item_tokens.index..];
            if expr.is_empty() {
                return Err(SqlError::syntax(
                    format!("expected a condition after `{} AS`", name.name),
                    Some(name.at.into()),
                ));
            }
            let Some(variable) = variables.iter().position(|variable| variable.name == name.name) else {
                return Err(undefined(&name, &variables, &subsets));
            };
            if defines.iter().any(|(known, _)| usize::from(*known) == variable) {
                return Err(SqlError::plan(format!("`DEFINE` has two conditions for `{}`", name.name), name.at));
            }
            defines.push((variable as u8, name.at));
            exprs.push(with_semantics(expr, Some(&name))?);
        }
    }
    negation::define(&negated, &variables, &mut defines, &mut exprs, first_condition)?;
    emits.accept(tokens)?;
    if !tokens.at_end() {
        let expected = || tokens.expected("the end of `MATCH_RECOGNIZE`");
        return Err(order::misplaced(tokens).unwrap_or_else(expected));
    }
    let clause = Clause {
        partition,
        order,
        measures,
        rows,
        skip,
        skip_at,
        pattern,
        pattern_at: pattern_at.into(),
        variables,
        subsets,
        within,
        defines,
        emit_partial: emits.partial.is_some(),
        emit_changes: emits.changes.is_some(),
        lineage: vec![],
        explain: None,
    };
    check(&clause, &emits, rows_at)?;
    Ok((clause, exprs))
}

/// What must hold of all parts together.
fn check(clause: &Clause, emits: &Emits, rows_at: Location) -> Result<()> {
    let excludes = clause.pattern.any(&|part| matches!(part, PatternSyntax::Exclusion(_)));
    if excludes && matches!(clause.rows, RowsSyntax::All { unmatched: true, .. }) {
        return Err(SqlError::plan(
            "`WITH UNMATCHED ROWS` shows all rows, and `{- -}` in the pattern hides some; leave out one of them",
            rows_at,
        ));
    }
    if let (Some(at), RowsSyntax::Window) = (emits.partial, clause.rows) {
        return Err(SqlError::plan(
            "`EMIT PARTIAL ON TIMEOUT` in a window: a row whose match is not complete has none; look for the pattern by `FROM t MATCH_RECOGNIZE (..)`",
            at,
        ));
    }
    if let (Some(at), None) = (emits.partial, clause.within) {
        return Err(SqlError::plan(
            "`EMIT PARTIAL ON TIMEOUT` needs a time: `PATTERN (..) WITHIN INTERVAL '10' MINUTE`",
            at,
        ));
    }
    Ok(())
}

/// `EMIT PARTIAL ON TIMEOUT` and `EMIT CHANGES`, which may stand after the pattern, after its `WITHIN` or at the end.
#[derive(Default)]
pub(super) struct Emits {
    partial: Option<Location>,
    changes: Option<Location>,
}

impl Emits {
    pub(super) fn begins(tokens: &Tokens<'_>) -> bool {
        tokens.sees("EMIT PARTIAL") || tokens.sees("EMIT CHANGES")
    }

    fn accept(&mut self, tokens: &mut Tokens<'_>) -> Result<()> {
        loop {
            let at = tokens.location();
            let slot = if tokens.accept("EMIT PARTIAL") {
                tokens.expect("ON TIMEOUT")?;
                &mut self.partial
            } else if tokens.accept("EMIT CHANGES") {
                &mut self.changes
            } else {
                return Ok(());
            };
            if slot.replace(at).is_some() {
                return Err(SqlError::syntax("this `EMIT` stands twice in the clause", at));
            }
        }
    }
}

// ---------------------------------------------------------------- where a list ends

fn begins_measures_or_later(tokens: &Tokens<'_>) -> bool {
    tokens.sees("MEASURES") || begins_rows_or_later(tokens)
}

fn begins_rows_or_later(tokens: &Tokens<'_>) -> bool {
    tokens.sees("ONE ROW")
        || tokens.sees("ALL ROWS")
        || tokens.sees(WINDOW_ROWS)
        || tokens.sees("AFTER MATCH")
        || tokens.sees("INITIAL PATTERN")
        || tokens.sees("SEEK PATTERN")
        || begins_pattern(tokens)
}

pub(super) fn begins_pattern(tokens: &Tokens<'_>) -> bool {
    tokens.sees("PATTERN") && tokens.is(1, &Token::LParen)
}

/// The parts of a list, none of them empty.
fn items<'t>(
    tokens: &mut Tokens<'t>,
    what: &str,
    ends: impl Fn(&Tokens<'_>) -> bool,
) -> Result<Vec<&'t [TokenWithSpan]>> {
    let start = tokens.index;
    let all = tokens.until(ends);
    let mut place = start;
    let parts = split_at_commas(all);
    for part in &parts {
        // A `*` alone, or with a name, is no expression.
        let is_star = matches!(part.first(), Some(TokenWithSpan { token: Token::Mul, .. }));
        if part.is_empty() || is_star {
            let mut here = *tokens;
            here.index = place;
            return Err(here.expected(what));
        }
        if let Some(error) = order::part_within(part) {
            return Err(error);
        }
        place += part.len() + 1;
    }
    Ok(parts)
}

// ---------------------------------------------------------------- the parts

fn order_key(item: &[TokenWithSpan]) -> Result<(&[TokenWithSpan], OrderSyntax)> {
    let at = item.first().and_then(|token| Location::of(token.span)).unwrap_or(Location::new(1, 1));
    let word = |from_end: usize, item: &[TokenWithSpan]| match item.len().checked_sub(from_end).map(|i| &item[i].token)
    {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
        _ => String::new(),
    };
    let (mut expr, mut nulls_first, mut descending) = (item, None, false);
    if word(2, expr) == "NULLS" && matches!(word(1, expr).as_str(), "FIRST" | "LAST") {
        nulls_first = Some(word(1, expr) == "FIRST");
        expr = &expr[..expr.len() - 2];
    }
    if matches!(word(1, expr).as_str(), "ASC" | "DESC") && expr.len() > 1 {
        descending = word(1, expr) == "DESC";
        expr = &expr[..expr.len() - 1];
    }
    if expr.is_empty() {
        return Err(SqlError::syntax("expected a column in `ORDER BY`", at));
    }
    Ok((expr, OrderSyntax { descending, nulls_first, at: at.into() }))
}

/// `expr [AS] name`.
pub(super) fn measure(item: &[TokenWithSpan]) -> Result<(&[TokenWithSpan], MeasureSyntax)> {
    let first = item.first().and_then(|token| Location::of(token.span)).unwrap_or(Location::new(1, 1));
    let unnamed = || SqlError::syntax("a measure has a name: `MEASURES <expression> AS <name>`", first);
    let Some((last, expr)) = item.split_last() else { return Err(unnamed()) };
    let Token::Word(name) = &last.token else { return Err(unnamed()) };
    if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("AS") {
        return Err(unnamed());
    }
    let expr = match expr.split_last() {
        Some((TokenWithSpan { token: Token::Word(word), .. }, before))
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("AS") =>
        {
            before
        }
        Some((before_name, _)) => {
            let ends = order::ends_expression(&before_name.token);
            // `CASE .. END` and `x IS NULL` end with a word that is no name.
            let is_name = name.quote_style.is_some()
                || !matches!(name.value.to_uppercase().as_str(), "END" | "NULL" | "TRUE" | "FALSE");
            if !ends || !is_name {
                return Err(unnamed());
            }
            expr
        }
        None => return Err(unnamed()),
    };
    if expr.is_empty() {
        return Err(unnamed());
    }
    let at = Location::of(last.span).unwrap_or(first).into();
    Ok((expr, MeasureSyntax { name: name.value.clone(), at }))
}

fn check_free(measures: &[MeasureSyntax], name: &MeasureSyntax) -> Result<()> {
    match measures.iter().any(|known| known.name.eq_ignore_ascii_case(&name.name)) {
        true => Err(SqlError::plan(format!("two measures have the name `{}`", name.name), Some(name.at.into()))),
        false => Ok(()),
    }
}

fn rows(tokens: &mut Tokens<'_>) -> Result<RowsSyntax> {
    if tokens.accept(WINDOW_ROWS) {
        return Ok(RowsSyntax::Window);
    }
    if tokens.accept("ONE ROW") {
        tokens.expect("PER MATCH")?;
        let at = tokens.location();
        let words =
            ["SHOW EMPTY MATCHES", "OMIT EMPTY MATCHES", "WITH UNMATCHED ROWS"].into_iter().find(|w| tokens.accept(w));
        return match words {
            None => Ok(RowsSyntax::One),
            Some(words) => {
                Err(SqlError::syntax(format!("`{words}` belongs to `ALL ROWS PER MATCH`, not to `ONE ROW`"), at))
            }
        };
    }
    if tokens.accept("ALL ROWS") {
        tokens.expect("PER MATCH")?;
        if tokens.accept("OMIT") {
            tokens.expect("EMPTY MATCHES")?;
            return Ok(RowsSyntax::All { show_empty: false, unmatched: false });
        }
        if tokens.accept("WITH") {
            tokens.expect("UNMATCHED ROWS")?;
            return Ok(RowsSyntax::All { show_empty: true, unmatched: true });
        }
        if tokens.accept("SHOW") {
            tokens.expect("EMPTY MATCHES")?;
        }
        return Ok(RowsSyntax::All { show_empty: true, unmatched: false });
    }
    Ok(RowsSyntax::One)
}

/// `AFTER MATCH SKIP` before it is known what its variable is.
enum SkipTo {
    PastLastRow,
    NextRow,
    Variable { first: bool, name: Named },
}

fn skip(tokens: &mut Tokens<'_>) -> Result<SkipTo> {
    const FORMS: &str = "`PAST LAST ROW`, `TO NEXT ROW` or `TO [FIRST | LAST] <variable>`";
    if !tokens.accept("AFTER") {
        return Ok(SkipTo::PastLastRow);
    }
    tokens.expect("MATCH SKIP")?;
    if tokens.accept("PAST") {
        tokens.expect("LAST ROW")?;
        return Ok(SkipTo::PastLastRow);
    }
    if !tokens.accept("TO") {
        return Err(tokens.expected(FORMS));
    }
    if tokens.accept("NEXT ROW") {
        return Ok(SkipTo::NextRow);
    }
    if tokens.word(1) == "ROW" && !matches!(tokens.word(0).as_str(), "FIRST" | "LAST") {
        return Err(tokens.expected(FORMS));
    }
    // A variable may be called `FIRST`: then the next clause follows.
    let selects = matches!(tokens.peek(1), Some(Token::Word(_)))
        && !(tokens.word(1) == "PATTERN" && tokens.is(2, &Token::LParen))
        && !matches!(tokens.word(1).as_str(), "INITIAL" | "SEEK");
    let first = selects && tokens.accept("FIRST");
    if !first && selects {
        tokens.accept("LAST");
    }
    Ok(SkipTo::Variable { first, name: tokens.name("the name of a variable, or `NEXT ROW`")? })
}

fn subset(tokens: &mut Tokens<'_>, variables: &[Named], subsets: &[(Named, u64)]) -> Result<(Named, u64)> {
    let name = tokens.name("the name of a subset")?;
    if variables_of(variables, subsets, &name.name).is_some() {
        return Err(SqlError::plan(
            format!("`SUBSET {}`: there is a variable or subset of this name", name.name),
            Some(name.at.into()),
        ));
    }
    tokens.expect_token(&Token::Eq)?;
    let mut members = tokens.in_parentheses()?;
    let mut set = 0u64;
    loop {
        let member = members.name("the name of a variable")?;
        match variables.iter().position(|variable| variable.name == member.name) {
            Some(index) => set |= 1 << index,
            None => return Err(unknown_variable(&member, variables, &[], &format!("`SUBSET {}`", name.name))),
        }
        if !members.accept_token(&Token::Comma) {
            break;
        }
    }
    if !members.at_end() {
        return Err(members.expected("`,` or `)`"));
    }
    Ok((name, set))
}

fn unknown_variable(name: &Named, variables: &[Named], subsets: &[(Named, u64)], what: &str) -> SqlError {
    let known: Vec<&str> = labels(variables, subsets).collect();
    let way_out = match nearest(&name.name, known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if known.is_empty() => "the pattern has no variables".to_string(),
        None => format!("the pattern has {}", known.join(", ")),
    };
    SqlError::plan(format!("{what}: `{}` is no variable of the pattern; {way_out}", name.name), Some(name.at.into()))
}

fn undefined(name: &Named, variables: &[Named], subsets: &[(Named, u64)]) -> SqlError {
    if subsets.iter().any(|(subset, _)| subset.name == name.name) {
        let message = format!("`DEFINE {}`: a subset has no condition; define its variables", name.name);
        return SqlError::plan(message, Some(name.at.into()));
    }
    unknown_variable(name, variables, &[], "`DEFINE`")
}

/// The function name under which `RUNNING f(..)` and `FINAL f(..)` go through sqlparser: `__eagre_running.f(..)`.
pub(crate) const RUNNING: &str = "__eagre_running";
/// See [`RUNNING`].
pub(crate) const FINAL: &str = "__eagre_final";

/// Whether a name comes next, and no operator.
fn begins_value(tokens: &Tokens<'_>) -> bool {
    matches!(tokens.peek(0), Some(Token::Word(_))) && !order::goes_on(&tokens.word(0))
}

/// An expression in which `RUNNING` and `FINAL` before a function are qualifiers of its name. In the condition of a variable there is no
/// `FINAL`: the match is not there yet.
fn with_semantics(expr: &[TokenWithSpan], condition: Option<&Named>) -> Result<ExprTokens> {
    let mut tokens = Tokens::new(expr, Location::new(1, 1));
    let mut result = Vec::with_capacity(expr.len());
    while !tokens.at_end() {
        let index = tokens.index;
        let semantics = match tokens.word(0).as_str() {
            "RUNNING" => Some(RUNNING),
            "FINAL" => Some(FINAL),
            _ => None,
        };
        tokens.index += 1;
        if semantics.is_some() && matches!(tokens.word(0).as_str(), "RUNNING" | "FINAL") {
            let message = "a function has one of `RUNNING` and `FINAL` before it, not both";
            return Err(SqlError::syntax(message, tokens.location_of(index)));
        }
        match semantics {
            Some(qualifier) if !tokens.word(0).is_empty() && tokens.is(1, &Token::LParen) => {
                if let (Some(variable), FINAL) = (condition, qualifier) {
                    return Err(SqlError::plan(
                        format!(
                            "`FINAL` in the condition of `{}`: while it is asked the match has no end",
                            variable.name
                        ),
                        tokens.location_of(index),
                    ));
                }
                let span = expr[index].span;
                result.push(TokenWithSpan { token: super::plain_word(qualifier), span });
                result.push(TokenWithSpan { token: Token::Period, span });
            }
            Some(qualifier) if tokens.is(0, &Token::LParen) || begins_value(&tokens) => {
                let word = if qualifier == FINAL { "FINAL" } else { "RUNNING" };
                return Err(SqlError::syntax(
                    format!("`{word}` stands before a function: `{word} LAST(..)`, `{word} SUM(..)`"),
                    tokens.location_of(index),
                ));
            }
            _ => result.push(expr[index].clone()),
        }
    }
    Ok(result)
}
