//! Patterns in windows, feature R020 of the standard (ISO/IEC 19075-5, chapter 6):
//!
//! ```text
//! SELECT id, low OVER w, COUNT(*) OVER w FROM t WINDOW w AS (
//!   [PARTITION BY column, ..] [ORDER BY column, ..] [MEASURES LAST(A.price) AS low, ..]
//!   ROWS BETWEEN CURRENT ROW AND {{UNBOUNDED | n} FOLLOWING | CURRENT ROW}
//!   [AFTER MATCH SKIP ..] [INITIAL | SEEK] PATTERN (A+) [SUBSET ..] [DEFINE ..])
//! ```
//!
//! A window may have the partition and the order of another one ([`inherited`]).
//!
//! A match is looked for from each row on (`SEEK`: from the first row behind it that has one), within the frame of the row, and the frame
//! becomes its rows. Rows that `AFTER MATCH SKIP` passes over have an empty frame, as rows without a match.
//!
//! That is a `MATCH_RECOGNIZE` of which each row of the table leaves once, with the measures of the match that is looked for from it on
//! ([`RowsSyntax::Window`](super::RowsSyntax)): `(pattern) | ()` has an empty match where there is none. So the window goes where its table
//! stands, what is asked of it becomes a measure, and `*` leaves these out.

use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};
use eagre_patterns::VariableSet;

use self::places::{
    Places, begins_subquery, depth, is_same_name, quoted, select_around, sql, start_of_call, take_null_treatment,
    text_of,
};
use super::clause::{Emits, WINDOW_ROWS, begins_pattern, measure};
use super::order::plain;
use super::pattern::{self, Parsed, PatternSyntax};
use super::tokens::{Named, Tokens, split_at_commas};
use super::{closing_of, is_alias, is_word, opening_of, plain_word};
use crate::error::{Location, Result, SqlError};

mod inherited;
mod places;

/// The variable of the rows before a match that is sought.
pub(crate) const SEEK: &str = "__EAGRE_SEEK";

/// How the columns begin that stand for what is asked of a window.
const COLUMN: &str = "__eagre_w";

/// Whether a column stands for what is asked of a window with a pattern.
pub(crate) fn is_asked_of_window(column: &str) -> bool {
    column.strip_prefix(COLUMN).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Words before `PATTERN (` in the definition of a window.
const BEFORE_PATTERN: &[&str] = &["FOLLOWING", "ROW", "INITIAL", "SEEK"];
/// Words that only the definition of a window with a pattern has.
const OF_PATTERNS: &[&str] = &["MEASURES", "DEFINE"];
/// What follows the tables of a `SELECT`.
const BEHIND_FROM: &[&str] =
    &["WHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "ORDER", "LIMIT", "OFFSET", "FETCH", "EMIT"];
/// What joins two tables, beside a comma.
const JOINS: &[&str] = &["JOIN", "APPLY"];
/// Functions of a row's place among all rows, whatever its frame.
const WITHOUT_FRAME: &[&str] =
    &["ROW_NUMBER", "RANK", "DENSE_RANK", "PERCENT_RANK", "CUME_DIST", "NTILE", "LAG", "LEAD"];

const FRAME: &str = "`ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING`, or `.. AND <n> FOLLOWING`";

/// Rewrites all patterns in windows of a text.
///
/// # Errors
/// A window that is written wrongly, or stands over a join or groups.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    // Counted in each statement for itself: what another one says is no part of what its operators are.
    let (mut statement, mut number) = (0, 0);
    while let Some(window) = (0..tokens.len()).find_map(|index| Window::around(&tokens, index)) {
        if let Some(whole) = inherited::written_out(&tokens, window)? {
            tokens = whole;
            continue;
        }
        let before = tokens[..window.open].iter().filter(|token| token.token == Token::SemiColon).count();
        number = if before == statement { number + 1 } else { 1 };
        statement = before;
        tokens = Rewrite::new(&tokens, window, number)?.written()?;
    }
    Ok(tokens)
}

/// The definition of a window with a pattern: where its parentheses are.
#[derive(Clone, Copy)]
struct Window {
    open: usize,
    close: usize,
    /// Whether it stands in a `WINDOW` clause, behind its name and `AS`.
    named: bool,
}

impl Window {
    /// The one whose pattern begins at `index`.
    fn around(tokens: &[TokenWithSpan], index: usize) -> Option<Self> {
        if !is_word(&tokens[index].token, "PATTERN") || tokens.get(index + 1)?.token != Token::LParen {
            return None;
        }
        let open = opening_of(tokens, index)?;
        let before = open.checked_sub(1)?;
        let named = is_word(&tokens[before].token, "AS") && in_window_clause(tokens, before.checked_sub(1)?);
        if !named && !is_word(&tokens[before].token, "OVER") {
            return None;
        }
        let close = closing_of(tokens, open)?;
        let inside = &tokens[open + 1..close];
        let word = |n: usize| index.checked_sub(n).map(|index| plain(&tokens[index].token)).unwrap_or_default();
        let skips = word(2) == "TO" || word(3) == "TO" && matches!(word(2).as_str(), "FIRST" | "LAST");
        let has_part = skips
            || BEFORE_PATTERN.contains(&word(1).as_str())
            || inside.iter().any(|token| OF_PATTERNS.iter().any(|part| is_word(&token.token, part)));
        has_part.then_some(Self { open, close, named })
    }
}

/// Whether the definition whose name is at `name` is one of a `WINDOW` clause.
fn in_window_clause(tokens: &[TokenWithSpan], name: usize) -> bool {
    let mut place = name;
    while let Some(before) = place.checked_sub(1) {
        match &tokens[before].token {
            token if is_word(token, "WINDOW") => return true,
            // `, v AS (..)` before it.
            Token::Comma => {
                let closing = before.checked_sub(1).filter(|closing| tokens[*closing].token == Token::RParen);
                match closing.and_then(|closing| opening_of(tokens, closing)).and_then(|open| open.checked_sub(2)) {
                    Some(name) if is_word(&tokens[name + 1].token, "AS") => place = name,
                    _ => return false,
                }
            }
            _ => return false,
        }
    }
    false
}

/// A window on its way into the `FROM` of its `SELECT`.
struct Rewrite<'t> {
    tokens: &'t [TokenWithSpan],
    window: Window,
    /// The `SELECT`, its `FROM`, what follows its tables and behind that its condition, and its end.
    select: usize,
    from: usize,
    behind: usize,
    rest: usize,
    end: usize,
    /// Which window of the text it is, for the names of new columns.
    number: usize,
    /// What was asked of the window beside its measures: expressions.
    asked: Vec<Vec<TokenWithSpan>>,
    definition: Definition<'t>,
}

/// What the parentheses of a window hold.
struct Definition<'t> {
    /// `PARTITION BY .. ORDER BY ..`.
    keys: &'t [TokenWithSpan],
    measures: Vec<(&'t [TokenWithSpan], String)>,
    /// The last row of the frame, counted from its first one; `None`: there is none.
    last: Option<u64>,
    /// `AFTER MATCH SKIP ..`.
    skip: &'t [TokenWithSpan],
    seeks: bool,
    pattern: &'t [TokenWithSpan],
    parsed: Parsed,
    /// What stands behind the pattern.
    rest: &'t [TokenWithSpan],
}

impl<'t> Definition<'t> {
    fn parse(inside: &'t [TokenWithSpan], closing: Location) -> Result<Self> {
        let mut tokens = Tokens::new(inside, closing);
        let begins_frame = |tokens: &Tokens<'_>| {
            ["ROWS", "RANGE", "GROUPS"].iter().any(|unit| tokens.word(0) == *unit && !tokens.word(1).is_empty())
        };
        let head = tokens.until(|tokens| begins_frame(tokens) || tokens.sees("AFTER MATCH") || begins_pattern(tokens));
        let mut head_tokens = Tokens::new(head, tokens.location());
        let keys = head_tokens.until(|tokens| tokens.sees("MEASURES"));
        let mut measures = vec![];
        if head_tokens.accept("MEASURES") {
            for item in split_at_commas(&head[head_tokens.index..]) {
                if item.is_empty() {
                    return Err(head_tokens.expected("a measure"));
                }
                check_numbers(item)?;
                let (expr, name) = measure(item)?;
                measures.push((expr, name.name));
            }
        }
        let at = tokens.location();
        if !tokens.accept("ROWS BETWEEN CURRENT ROW AND") {
            return Err(SqlError::plan(
                format!("a pattern in a window is looked for from the current row on: its frame is {FRAME}"),
                at,
            ));
        }
        let last = match tokens.peek(0) {
            _ if tokens.accept("UNBOUNDED FOLLOWING") => None,
            _ if tokens.accept("CURRENT ROW") => Some(0),
            Some(Token::Number(text, _)) if text.parse::<u64>().is_ok() => {
                tokens.index += 1;
                tokens.expect("FOLLOWING")?;
                text.parse().ok()
            }
            _ => return Err(tokens.expected("`UNBOUNDED FOLLOWING`, `<n> FOLLOWING` or `CURRENT ROW`")),
        };
        let begins = |tokens: &Tokens<'_>| {
            tokens.sees("INITIAL PATTERN") || tokens.sees("SEEK PATTERN") || begins_pattern(tokens)
        };
        let skip = tokens.until(begins);
        let seeks = tokens.accept("SEEK");
        if !seeks {
            tokens.accept("INITIAL");
        }
        if !begins_pattern(&tokens) {
            return Err(tokens.expected("`PATTERN (..)`"));
        }
        tokens.accept("PATTERN");
        let (at, start) = (tokens.location(), tokens.index + 1);
        let parsed = pattern::parse(tokens.in_parentheses()?)?;
        let is_refused = |part: &PatternSyntax| {
            matches!(part, PatternSyntax::PartitionStart | PatternSyntax::PartitionEnd | PatternSyntax::Exclusion(_))
        };
        if parsed.pattern.any(&is_refused) {
            return Err(SqlError::plan(
                "a pattern in a window has no `^`, `$` and `{- -}`: the frame begins at each row, and all rows of a match are in it",
                at,
            ));
        }
        if last.is_some() && !parsed.negated.is_empty() {
            return Err(SqlError::unsupported(
                "`NOT` in the pattern of a window whose frame has an end",
                "write the variable out: `PATTERN (A X* B) DEFINE X AS NOT (..)`",
                at,
            ));
        }
        if seeks && tokens.sees("WITHIN") {
            return Err(SqlError::unsupported(
                "`WITHIN` of a pattern that is sought",
                "end the frame (`ROWS BETWEEN CURRENT ROW AND 10 FOLLOWING`), or bound the time in a condition (`DEFINE B AS B.ts <= A.ts + INTERVAL '1' HOUR`)",
                tokens.location(),
            ));
        }
        check_numbers(&inside[tokens.index..])?;
        let pattern = &inside[start..tokens.index - 1];
        Ok(Self { keys, measures, last, skip, seeks, pattern, parsed, rest: &inside[tokens.index..] })
    }
}

/// Refuses the number of a match, of which a row has one.
fn check_numbers(tokens: &[TokenWithSpan]) -> Result<()> {
    let is_call = |pair: &[TokenWithSpan]| is_word(&pair[0].token, "MATCH_NUMBER") && pair[1].token == Token::LParen;
    match tokens.windows(2).find(|pair| is_call(pair)) {
        None => Ok(()),
        Some(call) => Err(SqlError::plan(
            "`MATCH_NUMBER()` in a window: a row has one match at most, and its number is always 1",
            Location::of(call[0].span),
        )),
    }
}

impl<'t> Rewrite<'t> {
    fn new(tokens: &'t [TokenWithSpan], window: Window, number: usize) -> Result<Self> {
        let Window { open, close, .. } = window;
        let at = Location::of(tokens[open].span);
        let no_select = || SqlError::syntax("a window with a pattern stands in a `SELECT .. FROM ..`", at);
        let (select, end) = select_around(tokens, open).ok_or_else(no_select)?;
        let at_top = Places::new(tokens, select + 1, end);
        let from = at_top
            .clone()
            .find(|place| is_word(&tokens[*place].token, "FROM") && !is_word(&tokens[*place - 1].token, "DISTINCT"))
            .ok_or_else(no_select)?;
        let next_part = |from: usize| {
            let begins = |place: &usize| BEHIND_FROM.contains(&plain(&tokens[*place].token).as_str());
            at_top.clone().find(|place| *place > from && begins(place)).unwrap_or(end)
        };
        let behind = next_part(from);
        let filters = behind < end && is_word(&tokens[behind].token, "WHERE");
        let rest = if filters { next_part(behind) } else { behind };
        if !(open > rest && open < end || !window.named && open < from) {
            return Err(SqlError::plan(
                "a window with a pattern stands in the `WINDOW` clause, or behind an `OVER` in the `SELECT` list or the `ORDER BY`",
                at,
            ));
        }
        let part = |name: &str| at_top.clone().find(|place| *place > from && is_word(&tokens[*place].token, name));
        if let Some(place) = part("GROUP").or_else(|| part("HAVING")) {
            return Err(SqlError::unsupported(
                "a pattern in a window over groups",
                "put the groups into a subquery: `FROM (SELECT .. GROUP BY ..) AS g`",
                Location::of(tokens[place].span),
            ));
        }
        let joins = |place: &usize| {
            let token = &tokens[*place].token;
            *token == Token::Comma || JOINS.contains(&plain(token).as_str())
        };
        if let Some(place) = Places::new(tokens, from + 1, behind).find(joins) {
            return Err(SqlError::unsupported(
                "a pattern in a window over several tables",
                "put the join into a subquery: `FROM (SELECT .. FROM a JOIN b ON ..) AS j`",
                Location::of(tokens[place].span),
            ));
        }
        let closing = Location::of(tokens[close].span).unwrap_or(Location::new(1, 1));
        let definition = Definition::parse(&tokens[open + 1..close], closing)?;
        Ok(Self { tokens, window, select, from, behind, rest, end, number, asked: vec![], definition })
    }

    fn written(mut self) -> Result<Vec<TokenWithSpan>> {
        let tokens = self.tokens;
        let mut place = self.behind;
        while place < self.rest && self.asks(tokens, place).is_none() {
            let is_own = begins_subquery(tokens, place);
            place = if is_own { closing_of(tokens, place).unwrap_or(place) } else { place } + 1;
        }
        if place < self.rest {
            return Err(SqlError::unsupported(
                "a window in `WHERE`, which chooses the rows that windows are of,",
                "choose among the rows of a subquery: `SELECT .. FROM (SELECT low OVER w AS low ..) WHERE low > 3`",
                Location::of(tokens[place].span),
            ));
        }
        let mut items: Vec<TokenWithSpan> = vec![];
        for item in split_at_commas(&tokens[self.select + 1..self.from]) {
            if !items.is_empty() {
                items.push(TokenWithSpan { token: Token::Comma, span: tokens[self.from].span });
            }
            items.extend(self.item(item)?);
        }
        let rest = self.answered(&self.behind_tables(), false)?;
        // The condition is on windows, of which none is left.
        let asks = |tokens: &[TokenWithSpan]| tokens.iter().any(|token| is_word(&token.token, "OVER"));
        let qualifies = Places::new(&rest, 0, rest.len()).find(|place| is_word(&rest[*place].token, "QUALIFY"));
        if let Some(place) = qualifies.filter(|_| !asks(&items) && !asks(&rest)) {
            return Err(SqlError::unsupported(
                "`QUALIFY` on a window with a pattern",
                "choose among the rows of a subquery: `SELECT .. FROM (SELECT low OVER w AS low ..) WHERE low > 3`",
                Location::of(rest[place].span),
            ));
        }
        let names = self.column_names();
        let mut written = tokens[..=self.select].to_vec();
        written.extend(without(items, &names)?);
        written.push(tokens[self.from].clone());
        written.extend(self.table()?);
        written.extend(rest);
        written.extend_from_slice(&tokens[self.end..]);
        Ok(written)
    }

    /// What follows the tables and their condition, without the window.
    fn behind_tables(&self) -> Vec<TokenWithSpan> {
        let start = self.rest;
        let mut rest = self.tokens[start..self.end].to_vec();
        if self.window.named {
            // `WINDOW w AS (..)`: with the word before it or the comma beside it.
            let (mut first, mut last) = (self.window.open - 2 - start, self.window.close - start);
            let is_comma = |place: usize| rest.get(place).is_some_and(|token| token.token == Token::Comma);
            match is_comma(last + 1) {
                true => last += 1,
                false => first -= 1,
            }
            rest.drain(first..=last);
        }
        rest
    }

    fn column(&self, name: &str) -> String {
        format!("{COLUMN}{}_{name}", self.number)
    }

    /// The column of a measure.
    fn measure(&self, place: usize) -> String {
        self.column(&format!("m{place}"))
    }

    /// The column of what was asked beside them.
    fn answer_column(&self, place: usize) -> String {
        self.column(&format!("a{place}"))
    }

    /// The names of all columns that the window has beside those of its table.
    fn column_names(&self) -> Vec<String> {
        let measures = (0..self.definition.measures.len()).map(|place| self.measure(place));
        let asked = (0..self.asked.len()).map(|place| self.answer_column(place));
        measures.chain(asked).chain([self.column("there")]).collect()
    }

    /// Whether `OVER` at `place` of `tokens` asks the window; the place after it.
    fn asks(&self, tokens: &[TokenWithSpan], place: usize) -> Option<usize> {
        let next = tokens.get(place + 1)?;
        if !is_word(&tokens[place].token, "OVER") {
            return None;
        }
        if !self.window.named {
            let is_it = next.token == Token::LParen && next.span == self.tokens[self.window.open].span;
            return is_it.then(|| closing_of(tokens, place + 1)).flatten().map(|closing| closing + 1);
        }
        self.is_name(&next.token).then_some(place + 2)
    }

    /// Whether a token is the name of the window.
    fn is_name(&self, token: &Token) -> bool {
        is_same_name(token, &self.tokens[self.window.open - 2].token)
    }

    /// Refuses `OVER (w ..)`, `v AS (w ..)`: the window has a frame, which another one made of it would lose (ISO/IEC 9075-2, 7.15).
    fn check_not_refined(&self, tokens: &[TokenWithSpan], place: usize) -> Result<()> {
        let begins = is_word(&tokens[place].token, "OVER") || is_word(&tokens[place].token, "AS");
        let refines = self.window.named
            && begins
            && tokens.get(place + 1).is_some_and(|next| next.token == Token::LParen)
            && tokens.get(place + 2).is_some_and(|next| self.is_name(&next.token));
        if !refines {
            return Ok(());
        }
        let name = tokens[place + 2].to_string();
        let message = format!(
            "window `{name}` has a pattern, and no other one can be made of it; ask `OVER {name}`, without parentheses"
        );
        Err(SqlError::plan(message, Location::of(tokens[place + 2].span)))
    }

    /// An item of the `SELECT`, which is called what it would be called if the window were one of DataFusion's.
    fn item(&mut self, item: &[TokenWithSpan]) -> Result<Vec<TokenWithSpan>> {
        let answered = self.answered(item, true)?;
        let quantified =
            item.iter().take(1).take_while(|token| ["DISTINCT", "ALL"].iter().any(|word| is_word(&token.token, word)));
        let value = &item[quantified.count()..];
        let has_name = match value {
            [first, ..] if is_word(&first.token, "ON") => true,
            [.., before, last] => {
                let is_operand = matches!(before.token, Token::RParen | Token::Word(_) | Token::Number(..))
                    && !is_word(&before.token, "OVER");
                is_word(&before.token, "AS") || is_operand && is_alias(&last.token) && !is_word(&last.token, "END")
            }
            _ => true,
        };
        // What is asked of the window alone has a name already.
        let is_named = answered.len() > 1 && is_word(&answered[answered.len() - 2].token, "AS");
        if has_name || is_named || answered.len() == item.len() && answered.iter().zip(item).all(|(a, b)| a == b) {
            return Ok(answered);
        }
        let span = answered.last().map_or(Span::empty(), |token| token.span);
        let name = TokenWithSpan { token: quoted(&text_of(value)), span };
        Ok([answered, sql("AS", span)?, vec![name]].concat())
    }

    /// Tokens in which columns stand for what is asked of the window. `items`: those of the `SELECT` have names.
    fn answered(&mut self, tokens: &[TokenWithSpan], items: bool) -> Result<Vec<TokenWithSpan>> {
        let mut written: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
        let mut place = 0;
        while place < tokens.len() {
            let Some(next) = self.asks(tokens, place) else {
                self.check_not_refined(tokens, place)?;
                // A subquery knows its own windows alone.
                let end = match self.window.named && begins_subquery(tokens, place) {
                    true => closing_of(tokens, place).unwrap_or(place),
                    false => place,
                };
                written.extend_from_slice(&tokens[place..=end]);
                place = end + 1;
                continue;
            };
            let span = tokens[place].span;
            let leaves_nulls_out = take_null_treatment(&mut written);
            let start = start_of_call(&written)
                .ok_or_else(|| SqlError::syntax("`OVER` follows a function or a measure", Location::of(span)))?;
            let call = written.split_off(start);
            let begins = written.last().is_none_or(|token| {
                token.token == Token::Comma || is_word(&token.token, "DISTINCT") || is_word(&token.token, "ALL")
            });
            let ends = tokens.get(next).is_none_or(|token| token.token == Token::Comma);
            let is_item = items && begins && ends && depth(&written) == 0;
            let (value, name) = self.answer(&call, leaves_nulls_out, span)?;
            written.extend(value);
            if is_item {
                written.extend(sql("AS", span)?);
                written.push(TokenWithSpan { token: quoted(&name), span });
            }
            place = next;
        }
        Ok(written)
    }

    /// The column of what is asked of the window, and what it is called where nothing is said.
    fn answer(
        &mut self,
        call: &[TokenWithSpan],
        leaves_nulls_out: bool,
        span: Span,
    ) -> Result<(Vec<TokenWithSpan>, String)> {
        let at = call.first().and_then(|token| Location::of(token.span));
        if let [TokenWithSpan { token: Token::Word(asked), .. }] = call {
            let is_it = |(_, name): &(_, String)| match asked.quote_style {
                Some(_) => *name == asked.value,
                None => name.eq_ignore_ascii_case(&asked.value),
            };
            let Some(place) = self.definition.measures.iter().position(is_it) else {
                let known = self.definition.measures.iter().map(|(_, name)| format!("`{name}`")).collect::<Vec<_>>();
                let known = if known.is_empty() { "no measures".to_owned() } else { known.join(", ") };
                return Err(SqlError::plan(
                    format!("`{}` is no measure of the window, which has {known}", asked.value),
                    at,
                ));
            };
            // A row without a match has no measures, also of constants.
            let value = format!("(CASE WHEN {} THEN {} END)", self.column("there"), self.measure(place));
            return Ok((sql(&value, span)?, asked.value.clone()));
        }
        let mut name = text_of(call);
        if leaves_nulls_out {
            name.push_str(" IGNORE NULLS");
        }
        let expr = self.over_rows(call, leaves_nulls_out, at)?;
        self.asked.push(expr);
        Ok((sql(&self.answer_column(self.asked.len() - 1), span)?, name))
    }

    /// A function over the rows of a match, as a measure has it.
    fn over_rows(
        &self,
        call: &[TokenWithSpan],
        leaves_nulls_out: bool,
        at: Option<Location>,
    ) -> Result<Vec<TokenWithSpan>> {
        let function = call.first().map(|token| plain(&token.token)).unwrap_or_default();
        if WITHOUT_FRAME.contains(&function.as_str()) {
            return Err(SqlError::plan(
                format!(
                    "`{function}` is of all rows of the partition, and no rows of a match: call it over a window without a pattern"
                ),
                at,
            ));
        }
        let mut call = self.without_alias(call);
        let (navigation, args) = match function.as_str() {
            "FIRST_VALUE" | "NTH_VALUE" => ("FIRST", &call[2..call.len() - 1]),
            "LAST_VALUE" => ("LAST", &call[2..call.len() - 1]),
            function if leaves_nulls_out => {
                let message = format!(
                    "`{}` does not leave nulls out; `FIRST_VALUE`, `LAST_VALUE` and `NTH_VALUE` do",
                    function.to_lowercase()
                );
                return Err(SqlError::plan(message, at));
            }
            _ => return Ok(call),
        };
        let ends_plainly = call.last().is_some_and(|token| token.token == Token::RParen)
            && closing_of(&call, 1) == Some(call.len() - 1);
        if !ends_plainly {
            let function = function.to_lowercase();
            return Err(SqlError::unsupported(
                format!("`{function}` with `FILTER` over a window with a pattern"),
                "name the row in a measure: `MEASURES FIRST(A.price) AS first_price`",
                at,
            ));
        }
        if function == "NTH_VALUE" {
            let number = match split_at_commas(args).as_slice() {
                [_, [TokenWithSpan { token: Token::Number(number, _), .. }]] => number.parse::<u64>().ok(),
                _ => None,
            };
            let number = number.filter(|number| *number > 0).ok_or_else(|| {
                SqlError::plan("`NTH_VALUE(value, n)` over a window with a pattern takes a number from 1 on", at)
            })?;
            if leaves_nulls_out {
                return self.among_values(split_at_commas(args)[0], &number.to_string(), call[0].span);
            }
            let place = call.len() - 2;
            call[place].token = Token::Number((number - 1).to_string(), false);
        } else if leaves_nulls_out {
            let place = if navigation == "FIRST" { "1" } else { "-1" };
            return self.among_values(args, place, call[0].span);
        }
        call[0].token = plain_word(navigation);
        Ok(call)
    }

    /// The value at a place among those of a match that are not null.
    fn among_values(&self, value: &[TokenWithSpan], place: &str, span: Span) -> Result<Vec<TokenWithSpan>> {
        let value = text_of(value);
        sql(&format!("(array_agg({value}) FILTER (WHERE ({value}) IS NOT NULL))[{place}]"), span)
    }

    /// Tokens of a `SELECT` in which columns have the name of their table no longer before them, which a variable may have, too.
    fn without_alias(&self, tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
        let Some(Token::Word(alias)) = self.alias() else { return tokens.to_vec() };
        let is_alias = |place: usize| match &tokens[place].token {
            Token::Word(word) => word.value.eq_ignore_ascii_case(&alias.value),
            _ => false,
        };
        let qualifies =
            |place: usize| is_alias(place) && tokens.get(place + 1).is_some_and(|token| token.token == Token::Period);
        let places = 0..tokens.len();
        let kept = places.filter(|place| !(qualifies(*place) || *place > 0 && qualifies(*place - 1)));
        kept.map(|place| tokens[place].clone()).collect()
    }

    /// What the table is called.
    fn alias(&self) -> Option<&'t Token> {
        let table = &self.tokens[self.from + 1..self.behind];
        let last = table.last().map(|token| &token.token).filter(|token| is_alias(token))?;
        Some(last)
    }

    /// The table of the `SELECT`, with the pattern behind it.
    fn table(&self) -> Result<Vec<TokenWithSpan>> {
        let (span, close) = (self.tokens[self.window.open].span, self.tokens[self.window.close].span);
        let definition = &self.definition;
        let alias = match self.alias() {
            Some(alias) => [sql("AS", span)?, vec![TokenWithSpan { token: alias.clone(), span }]].concat(),
            None => vec![],
        };
        let mut written = sql("(SELECT * FROM", span)?;
        written.extend_from_slice(&self.tokens[self.from + 1..self.behind]);
        // With its condition.
        written.extend_from_slice(&self.tokens[self.behind..self.rest]);
        written.extend(sql(")", span)?);
        written.extend_from_slice(&alias);
        written.extend(sql("MATCH_RECOGNIZE (", span)?);
        written.extend_from_slice(definition.keys);
        written.extend(sql("MEASURES", span)?);
        for (place, (expr, _)) in definition.measures.iter().enumerate() {
            written.extend_from_slice(expr);
            written.extend(sql(&format!("AS {},", self.measure(place)), span)?);
        }
        for (place, expr) in self.asked.iter().enumerate() {
            written.extend_from_slice(expr);
            written.extend(sql(&format!("AS {},", self.answer_column(place)), span)?);
        }
        // Where the pattern has rows, an empty match is none; else only rows that are passed over have none, whose number is 0.
        let counted = match definition.parsed.pattern.rows_min(VariableSet::ALL) {
            0 => "MATCH_NUMBER()",
            _ => "COUNT(*)",
        };
        written.extend(sql(&format!("{counted} > 0 AS {} {WINDOW_ROWS}", self.column("there")), span)?);
        written.extend_from_slice(definition.skip);
        let sought = if definition.seeks { format!("{SEEK}*?") } else { String::new() };
        written.extend(sql(&format!("PATTERN ({sought} ("), span)?);
        written.extend_from_slice(definition.pattern);
        written.extend(sql(") | ())", span)?);
        written.extend(self.conditions()?);
        written.extend(sql(")", close)?);
        written.extend(alias);
        Ok(written)
    }

    /// What stands behind the pattern: where the frame has an end, no variable has a row beyond it.
    fn conditions(&self) -> Result<Vec<TokenWithSpan>> {
        let definition = &self.definition;
        let rest = definition.rest;
        let Some(last) = definition.last else { return Ok(rest.to_vec()) };
        let span = self.tokens[self.window.close].span;
        let closing = Location::of(span).unwrap_or(Location::new(1, 1));
        let mut tokens = Tokens::new(rest, closing);
        let mut written = tokens.until(|tokens| tokens.sees("DEFINE")).to_vec();
        let defines = match tokens.accept("DEFINE") {
            true => split_at_commas(tokens.until(Emits::begins)),
            false => vec![],
        };
        // The rows that are sought through are in the frame, too.
        let sought = if definition.seeks { format!("+ COUNT({SEEK}.*)") } else { String::new() };
        let within = sql(&format!("COUNT(*) {sought} <= {}", last.saturating_add(1)), span)?;
        let mut conditions: Vec<Vec<TokenWithSpan>> = vec![];
        let mut named = vec![];
        for item in defines {
            let mut parts = Tokens::new(item, closing);
            let Named { name, .. } = parts.name("the name of a variable")?;
            parts.expect("AS")?;
            let (begins, condition) = item.split_at(parts.index);
            conditions.push([begins, &sql("(", span)?, condition, &sql(") AND", span)?, &within].concat());
            named.push(name);
        }
        let variables = definition.parsed.variables.iter().map(|variable| variable.name.as_str());
        for variable in
            variables.chain(definition.seeks.then_some(SEEK)).filter(|name| !named.iter().any(|n| n == name))
        {
            let begins = TokenWithSpan { token: quoted(variable), span };
            conditions.push([vec![begins], sql("AS", span)?, within.clone()].concat());
        }
        if !conditions.is_empty() {
            written.extend(sql("DEFINE", span)?);
            written.extend(conditions.join(&sql(",", span)?[..]));
        }
        written.extend_from_slice(&rest[tokens.index..]);
        Ok(written)
    }
}

/// Items of a `SELECT` in which `*` leaves columns out.
fn without(items: Vec<TokenWithSpan>, names: &[String]) -> Result<Vec<TokenWithSpan>> {
    let mut written: Vec<TokenWithSpan> = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        let begins = written.last().is_none_or(|token| {
            matches!(token.token, Token::Comma | Token::Period)
                || is_word(&token.token, "DISTINCT")
                || is_word(&token.token, "ALL")
        });
        let is_star = item.token == Token::Mul && begins && depth(&written) == 0;
        let span = item.span;
        written.push(item);
        if !is_star {
            continue;
        }
        written.extend(sql(&format!("EXCLUDE ({}", names.join(", ")), span)?);
        // Others that are left out stand beside them.
        let leaves_out = |token: &TokenWithSpan| is_word(&token.token, "EXCLUDE") || is_word(&token.token, "EXCEPT");
        if items.next_if(leaves_out).is_some() {
            written.extend(sql(",", span)?);
            match items.next_if(|token| token.token == Token::LParen) {
                Some(_) => continue,
                None => written.extend(items.next()),
            }
        }
        written.extend(sql(")", span)?);
    }
    Ok(written)
}
