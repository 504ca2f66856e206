//! Patterns: `A (B | C)+? {- D -} PERMUTE(E, F) ^ $ ()`.
//!
//! sqlparser's tokeniser makes operators and placeholders of some of what stands here: `?` is a placeholder, `||` the concatenation of
//! texts. This parser takes them for what they mean in a pattern; of `$` see [`super::anchors`].

use std::fmt;

use datafusion::sql::sqlparser::tokenizer::Token;
use eagre_patterns::{Pattern, VARIABLES_MAX, VariableSet};

use super::anchors::PARTITION_END;
use super::tokens::{Named, Place, Tokens};
use crate::error::{Location, Result, SqlError};

/// How deep parentheses may be in each other: whoever walks over a pattern does it by recursion.
const DEPTH_MAX: usize = 64;

/// A pattern as it is written down between the parser and the planner; variables are numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum PatternSyntax {
    Empty,
    Variable(u8),
    Concatenation(Vec<PatternSyntax>),
    Alternation(Vec<PatternSyntax>),
    Permutation(Vec<PatternSyntax>),
    Repetition {
        body: Box<PatternSyntax>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    },
    /// `NOT B`: as many rows as there are of a variable of its own, which are no `B`.
    Negation(u8),
    Exclusion(Box<PatternSyntax>),
    PartitionStart,
    PartitionEnd,
}

impl PatternSyntax {
    /// The pattern as it is matched.
    pub(crate) fn pattern(&self) -> Pattern {
        let all = |parts: &[Self]| parts.iter().map(Self::pattern).collect();
        match self {
            Self::Empty => Pattern::Empty,
            Self::Variable(variable) => Pattern::Variable(*variable),
            Self::Concatenation(parts) => Pattern::Concatenation(all(parts)),
            Self::Alternation(parts) => Pattern::Alternation(all(parts)),
            Self::Permutation(parts) => Pattern::Permutation(all(parts)),
            Self::Repetition { body, min, max, greedy } => {
                Pattern::Repetition { body: Box::new(body.pattern()), min: *min, max: *max, greedy: *greedy }
            }
            Self::Negation(variable) => {
                Pattern::Repetition { body: Box::new(Pattern::Variable(*variable)), min: 0, max: None, greedy: true }
            }
            Self::Exclusion(body) => Pattern::Exclusion(Box::new(body.pattern())),
            Self::PartitionStart => Pattern::PartitionStart,
            Self::PartitionEnd => Pattern::PartitionEnd,
        }
    }

    /// The patterns that this one is made of.
    pub(crate) fn parts(&self) -> &[Self] {
        match self {
            Self::Concatenation(parts) | Self::Alternation(parts) | Self::Permutation(parts) => parts,
            Self::Repetition { body, .. } | Self::Exclusion(body) => std::slice::from_ref(body),
            _ => &[],
        }
    }

    /// Whether this or a part of it is so.
    pub(crate) fn any(&self, is: &impl Fn(&Self) -> bool) -> bool {
        is(self) || self.parts().iter().any(|part| part.any(is))
    }

    /// How many rows of some variables a match has at least.
    pub(crate) fn rows_min(&self, variables: VariableSet) -> u64 {
        match self {
            Self::Variable(variable) => u64::from(variables.contains(*variable)),
            Self::Concatenation(parts) | Self::Permutation(parts) => {
                parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.rows_min(variables)))
            }
            Self::Alternation(parts) => parts.iter().map(|part| part.rows_min(variables)).min().unwrap_or(0),
            Self::Repetition { body, min, .. } => body.rows_min(variables).saturating_mul(u64::from(*min)),
            Self::Exclusion(body) => body.rows_min(variables),
            Self::Empty | Self::Negation(_) | Self::PartitionStart | Self::PartitionEnd => 0,
        }
    }

    /// As it is written, with the names of its variables.
    pub(crate) fn text<'p>(&'p self, variables: &'p [String]) -> impl fmt::Display + 'p {
        PatternText { pattern: self, variables }
    }
}

struct PatternText<'p> {
    pattern: &'p PatternSyntax,
    variables: &'p [String],
}

impl PatternText<'_> {
    fn list(&self, f: &mut fmt::Formatter<'_>, parts: &[PatternSyntax], separator: &str) -> fmt::Result {
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                f.write_str(separator)?;
            }
            write!(f, "{}", part.text(self.variables))?;
        }
        Ok(())
    }
}

impl fmt::Display for PatternText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pattern {
            PatternSyntax::Empty => f.write_str("()"),
            // The name of the variable of `NOT B` is that.
            PatternSyntax::Variable(variable) | PatternSyntax::Negation(variable) => {
                f.write_str(&self.variables[usize::from(*variable)])
            }
            PatternSyntax::Concatenation(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    match part {
                        PatternSyntax::Alternation(_) => write!(f, "{space}({})", part.text(self.variables))?,
                        _ => write!(f, "{space}{}", part.text(self.variables))?,
                    }
                }
                Ok(())
            }
            PatternSyntax::Alternation(parts) => self.list(f, parts, " | "),
            PatternSyntax::Permutation(parts) => {
                f.write_str("PERMUTE(")?;
                self.list(f, parts, ", ")?;
                f.write_str(")")
            }
            PatternSyntax::Repetition { body, min, max, greedy } => {
                let plain = !matches!(
                    **body,
                    PatternSyntax::Concatenation(_) | PatternSyntax::Alternation(_) | PatternSyntax::Repetition { .. }
                );
                match plain {
                    true => write!(f, "{}", body.text(self.variables))?,
                    false => write!(f, "({})", body.text(self.variables))?,
                }
                match (min, max) {
                    (0, None) => f.write_str("*")?,
                    (1, None) => f.write_str("+")?,
                    (0, Some(1)) => f.write_str("?")?,
                    (min, None) => write!(f, "{{{min},}}")?,
                    (min, Some(max)) if min == max => write!(f, "{{{min}}}")?,
                    (min, Some(max)) => write!(f, "{{{min},{max}}}")?,
                }
                f.write_str(if *greedy { "" } else { "?" })
            }
            PatternSyntax::Exclusion(body) => write!(f, "{{- {} -}}", body.text(self.variables)),
            PatternSyntax::PartitionStart => f.write_str("^"),
            PatternSyntax::PartitionEnd => f.write_str("$"),
        }
    }
}

/// A `NOT B` of a pattern.
pub(super) struct Negated {
    /// The variable of the rows in between, by number, and where it first stands.
    pub(super) variable: u8,
    pub(super) at: Place,
    /// The variable that they are not.
    pub(super) of: Named,
}

/// What was read of a pattern.
pub(super) struct Parsed {
    pub(super) pattern: PatternSyntax,
    /// In the order in which they first stand in it; those that stand behind `NOT` alone come last.
    pub(super) variables: Vec<Named>,
    pub(super) negated: Vec<Negated>,
}

/// Reads a pattern to the end of its tokens.
pub(super) fn parse(tokens: Tokens<'_>) -> Result<Parsed> {
    let mut parser = PatternParser { tokens, variables: vec![], negated: vec![], depth: 0 };
    if parser.tokens.at_end() {
        return Ok(Parsed { pattern: PatternSyntax::Empty, variables: vec![], negated: vec![] });
    }
    let pattern = parser.alternation()?;
    if parser.tokens.is(0, &Token::StringConcat) {
        return Err(no_alternation(&parser.tokens));
    }
    if !parser.tokens.at_end() {
        return Err(parser.tokens.expected("the end of the pattern, or another part of it"));
    }
    let PatternParser { mut variables, negated, .. } = parser;
    for Negated { of, .. } in &negated {
        place_of(&mut variables, of.clone())?;
    }
    Ok(Parsed { pattern, variables, negated })
}

struct PatternParser<'t> {
    tokens: Tokens<'t>,
    variables: Vec<Named>,
    negated: Vec<Negated>,
    depth: usize,
}

impl PatternParser<'_> {
    fn alternation(&mut self) -> Result<PatternSyntax> {
        if self.depth == DEPTH_MAX {
            return Err(SqlError::unsupported(
                format!("a pattern nested more than {DEPTH_MAX} deep"),
                "leave out parentheses that change nothing",
                self.tokens.location(),
            ));
        }
        self.depth += 1;
        let mut parts = vec![self.concatenation()?];
        while self.tokens.accept_token(&Token::Pipe) {
            parts.push(self.concatenation()?);
        }
        self.depth -= 1;
        Ok(one_or(parts, PatternSyntax::Alternation))
    }

    fn concatenation(&mut self) -> Result<PatternSyntax> {
        let mut parts = vec![];
        // Where the last part is if it is a `NOT B`.
        let mut negation = None;
        loop {
            let at = self.tokens.location();
            let Some(part) = self.repetition()? else { break };
            let negates = matches!(part, PatternSyntax::Negation(_));
            if negates && parts.is_empty() {
                return Err(self.misplaced_negation(&part, at));
            }
            if negates && negation.is_some() {
                let message = "one `NOT` stands between two parts of a pattern: `A NOT X C` with `DEFINE X AS (..) OR (..)`, where \
                               neither of two may come";
                return Err(SqlError::syntax(message, at));
            }
            negation = negates.then_some(at);
            parts.push(part);
        }
        if let (Some(at), Some(part)) = (negation, parts.last()) {
            return Err(self.misplaced_negation(part, at));
        }
        if parts.is_empty() {
            return Err(match self.tokens.peek(0) {
                Some(Token::StringConcat) => no_alternation(&self.tokens),
                _ => self.tokens.expected("a pattern (`()` is the empty one)"),
            });
        }
        Ok(one_or(parts, PatternSyntax::Concatenation))
    }

    /// `NOT B`, whose word comes next: a variable of its own, of this name.
    fn negation(&mut self) -> Result<PatternSyntax> {
        let at = self.tokens.location();
        self.tokens.index += 1;
        if !matches!(self.tokens.peek(0), Some(Token::Word(_))) {
            let message = "`NOT` stands before the name of a variable; of a group, say in a condition what must not come: \
                           `A NOT B C` with `DEFINE B AS (..) OR (..)`";
            return Err(SqlError::syntax(message, at));
        }
        let of = self.tokens.name("the name of a variable")?;
        let name = Named { name: format!("NOT {}", of.name), at: at.into() };
        let quantified = self.tokens.location();
        if self.quantifier()?.is_some() {
            let message = format!(
                "`{0}` has no quantifier: it is as many rows as there are, or none; for a number of them write `N{{2}}` with `DEFINE N AS \
                 NOT (<the condition of {1}>)`",
                name.name, of.name
            );
            return Err(SqlError::syntax(message, quantified));
        }
        let known = self.variables.iter().position(|known| known.name == name.name);
        let negated = known.and_then(|known| self.negated.iter().find(|one| usize::from(one.variable) == known));
        if known.is_some() && negated.is_none() {
            return Err(named_as_negation(&name));
        }
        let variable = place_of(&mut self.variables, name)?;
        if negated.is_none() {
            self.negated.push(Negated { variable, at: at.into(), of });
        }
        Ok(PatternSyntax::Negation(variable))
    }

    fn misplaced_negation(&self, part: &PatternSyntax, at: Location) -> SqlError {
        let names: Vec<String> = self.variables.iter().map(|variable| variable.name.clone()).collect();
        let text = part.text(&names);
        SqlError::syntax(
            format!(
                "`{text}` stands between two parts of a pattern, as in `A {text} C`; what comes not at all after `A` is a partial match: \
                 `PATTERN (A {text} C) WITHIN .. EMIT PARTIAL ON TIMEOUT`; and elsewhere rows that are none are a variable: `N*` with \
                 `DEFINE N AS NOT (..)`"
            ),
            at,
        )
    }

    /// A part with its quantifier; `None` where none begins.
    fn repetition(&mut self) -> Result<Option<PatternSyntax>> {
        let Some(body) = self.primary()? else { return Ok(None) };
        let at = self.tokens.location();
        let Some((min, max)) = self.quantifier()? else { return Ok(Some(body)) };
        if let Some(max) = max.filter(|max| *max < min) {
            return Err(SqlError::plan(format!("`{{{min},{max}}}`: the first bound is above the second"), at));
        }
        if max == Some(0) {
            let message = "the upper bound of a quantifier is 1 at least; leave out what is not to come, or write `()` for nothing";
            return Err(SqlError::plan(message, at));
        }
        let greedy = !self.question();
        let again = self.tokens.location();
        if self.quantifier()?.is_some() {
            return Err(SqlError::syntax("a part of a pattern has one quantifier; write `(A+)*`, not `A+*`", again));
        }
        Ok(Some(PatternSyntax::Repetition { body: Box::new(body), min, max, greedy }))
    }

    /// Whether a `?` comes next, which is read.
    fn question(&mut self) -> bool {
        let is = match self.tokens.peek(0) {
            Some(Token::Placeholder(text)) => text == "?",
            Some(Token::Question) => true,
            _ => false,
        };
        self.tokens.index += usize::from(is);
        is
    }

    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>> {
        if self.tokens.accept_token(&Token::Mul) {
            return Ok(Some((0, None)));
        }
        if self.tokens.accept_token(&Token::Plus) {
            return Ok(Some((1, None)));
        }
        if self.question() {
            return Ok(Some((0, Some(1))));
        }
        if !self.tokens.is(0, &Token::LBrace) {
            return Ok(None);
        }
        if self.tokens.is(1, &Token::Minus) {
            return match self.tokens.peek(2) {
                Some(Token::Number(..)) => Err(self.tokens.expected("a number of repetitions from 0 on")),
                _ => Ok(None),
            };
        }
        self.tokens.index += 1;
        let min = self.bound()?;
        let bounds = match self.tokens.accept_token(&Token::Comma) {
            true => (min.unwrap_or(0), self.bound()?),
            false => match min {
                Some(times) => (times, Some(times)),
                None => return Err(self.tokens.expected("a number or `,`")),
            },
        };
        self.tokens.expect_token(&Token::RBrace)?;
        Ok(Some(bounds))
    }

    /// A number, if one comes next.
    fn bound(&mut self) -> Result<Option<u32>> {
        let Some(Token::Number(text, _)) = self.tokens.peek(0) else { return Ok(None) };
        let bound = text.parse().map_err(|_| {
            let message = format!("`{text}` is no number of repetitions; it is a whole number below {}", u32::MAX);
            SqlError::syntax(message, self.tokens.location())
        })?;
        self.tokens.index += 1;
        Ok(Some(bound))
    }

    fn primary(&mut self) -> Result<Option<PatternSyntax>> {
        let Some(token) = self.tokens.peek(0) else { return Ok(None) };
        Ok(Some(match token {
            Token::LParen => {
                self.tokens.index += 1;
                if self.tokens.accept_token(&Token::RParen) {
                    return Ok(Some(PatternSyntax::Empty));
                }
                let body = self.alternation()?;
                self.tokens.expect_token(&Token::RParen)?;
                body
            }
            Token::LBrace if self.tokens.is(1, &Token::Minus) => {
                self.tokens.index += 2;
                let body = self.alternation()?;
                if !(self.tokens.is(0, &Token::Minus) && self.tokens.is(1, &Token::RBrace)) {
                    return Err(self.tokens.expected("`-}`"));
                }
                self.tokens.index += 2;
                PatternSyntax::Exclusion(Box::new(body))
            }
            Token::Caret => {
                self.tokens.index += 1;
                PatternSyntax::PartitionStart
            }
            token if *token == PARTITION_END => {
                self.tokens.index += 1;
                PatternSyntax::PartitionEnd
            }
            Token::Word(_) if self.tokens.word(0) == "PERMUTE" && self.tokens.is(1, &Token::LParen) => {
                self.tokens.index += 2;
                let mut parts = vec![self.alternation()?];
                while self.tokens.accept_token(&Token::Comma) {
                    parts.push(self.alternation()?);
                }
                self.tokens.expect_token(&Token::RParen)?;
                PatternSyntax::Permutation(parts)
            }
            Token::Word(_) if self.tokens.word(0) == "NOT" => self.negation()?,
            Token::Word(word) if word.quote_style.is_none() && no_operator(&word.value).is_some() => {
                let way_out = no_operator(&word.value).unwrap_or_default();
                let message = format!("`{}` is no operator of patterns; {way_out}", word.value.to_uppercase());
                return Err(SqlError::syntax(message, self.tokens.location()));
            }
            Token::Word(word) => {
                let at = self.tokens.location().into();
                let name = match word.quote_style {
                    Some(_) => word.value.clone(),
                    None => word.value.to_uppercase(),
                };
                self.tokens.index += 1;
                self.variable(Named { name, at })?
            }
            _ => return Ok(None),
        }))
    }

    fn variable(&mut self, name: Named) -> Result<PatternSyntax> {
        if self.negated.iter().any(|negated| self.variables[usize::from(negated.variable)].name == name.name) {
            return Err(named_as_negation(&name));
        }
        Ok(PatternSyntax::Variable(place_of(&mut self.variables, name)?))
    }
}

/// The number of a variable, a new one where none has its name.
fn place_of(variables: &mut Vec<Named>, name: Named) -> Result<u8> {
    let known = variables.iter().position(|known| known.name == name.name);
    let index = known.unwrap_or(variables.len());
    if index == VARIABLES_MAX {
        return Err(SqlError::plan(
            format!("a pattern has at most {VARIABLES_MAX} variables; `{}` is one more", name.name),
            Some(name.at.into()),
        ));
    }
    if known.is_none() {
        variables.push(name);
    }
    Ok(index as u8)
}

fn named_as_negation(name: &Named) -> SqlError {
    let message = format!("`{0}` and a variable that is called `\"{0}\"`: give that one another name", name.name);
    SqlError::plan(message, Some(name.at.into()))
}

/// What to write instead of a word that stands between conditions, and is no name without quotes.
fn no_operator(word: &str) -> Option<&'static str> {
    Some(match word.to_uppercase().as_str() {
        "OR" => "`A | B` is one or the other",
        "AND" => "`A B` is one after the other; what holds of one row is one condition in `DEFINE`",
        _ => return None,
    })
}

fn no_alternation(tokens: &Tokens<'_>) -> SqlError {
    let message =
        "`||` is no operator of patterns; `A | B` is one or the other, and `A | () | B` may be nothing as well";
    SqlError::syntax(message, tokens.location())
}

fn one_or(mut parts: Vec<PatternSyntax>, several: impl Fn(Vec<PatternSyntax>) -> PatternSyntax) -> PatternSyntax {
    match parts.len() {
        1 => parts.remove(0),
        _ => several(parts),
    }
}
