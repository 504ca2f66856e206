//! A position in the tokens of one statement, with the small readers that all statements share.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::SetExpr;
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::asof::mark_asof_joins;
use super::ast::{Emit, EmitKind, ExprText, Name, ObjectName, QueryText};
use super::cursor_stream::drop_cursor_streams;
use super::data_type::parse_data_type;
use super::depth;
use super::dialect::EagreDialect;
use super::json_pairs::write_as_arguments;
use super::limit_duration::drop_limit_durations;
use super::source::{Source, lower_first};
use super::top::to_limits;
use super::{frame_bounds, nested_joins, nth_value};
use crate::error::{Location, Result, SqlError};
use crate::types::{arrow_type, is_json};

/// The tokens of one statement and how far they are read.
pub(crate) struct Cursor<'a> {
    pub(crate) parser: Parser<'a>,
    pub(crate) source: &'a Source<'a>,
    /// The place after the last token.
    pub(crate) end: Location,
    /// The `EMIT` of the statement, until the query that it belongs to takes it.
    emit: Option<Emit>,
    /// An `EMIT` where none may stand, inside of parentheses: the likely cause of any syntax error.
    nested_emit: Option<Location>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(source: &'a Source<'a>, mut tokens: Vec<TokenWithSpan>) -> Self {
        let end = tokens.last().and_then(|token| Location::of_token(token.span.end)).unwrap_or(Location::new(1, 1));
        let emit = take_emit(&mut tokens);
        let nested_emit = find_emit(&tokens).and_then(|(index, _, _)| Location::of(tokens[index].span));
        mark_asof_joins(&mut tokens);
        nested_joins::write_parentheses(&mut tokens);
        frame_bounds::write_parentheses(&mut tokens);
        drop_limit_durations(&mut tokens);
        drop_cursor_streams(&mut tokens);
        write_as_arguments(&mut tokens);
        nth_value::write_places(&mut tokens);
        let parser = Parser::new(&EagreDialect).with_tokens_with_locations(tokens);
        Self { parser, source, end, emit, nested_emit }
    }

    /// Where the next token stands.
    pub(crate) fn location(&self) -> Location {
        Location::of(self.parser.peek_token_ref().span).unwrap_or(self.end)
    }

    /// Where the last read token ends.
    pub(crate) fn read_end(&self) -> Location {
        Location::of_token(self.parser.get_current_token().span.end).unwrap_or(self.end)
    }

    pub(crate) fn at_end(&self) -> bool {
        self.peek() == &Token::EOF
    }

    pub(crate) fn peek(&self) -> &Token {
        &self.parser.peek_token_ref().token
    }

    /// The `n`th next token as an unquoted word in capitals.
    pub(crate) fn peek_word(&self, n: usize) -> Option<String> {
        match &self.parser.peek_nth_token_ref(n).token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    /// Whether these unquoted words, separated by blanks, come next.
    pub(crate) fn sees(&self, words: &str) -> bool {
        words.split(' ').enumerate().all(|(index, word)| self.peek_word(index).as_deref() == Some(word))
    }

    /// Reads these words if they come next.
    pub(crate) fn accept(&mut self, words: &str) -> bool {
        let sees = self.sees(words);
        if sees {
            for _ in words.split(' ') {
                self.parser.next_token();
            }
        }
        sees
    }

    pub(crate) fn expect(&mut self, words: &str) -> Result<()> {
        if self.accept(words) { Ok(()) } else { Err(self.expected(&format!("`{words}`"))) }
    }

    pub(crate) fn accept_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(crate) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.accept_token(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    /// The error that something else was expected here.
    pub(crate) fn expected(&self, what: &str) -> SqlError {
        let found = match self.peek() {
            Token::EOF => "the end of the statement".to_string(),
            token => format!("`{token}`"),
        };
        SqlError::syntax(format!("expected {what}, found {found}"), self.location())
    }

    pub(crate) fn expect_end(&mut self, what: &str) -> Result<()> {
        if let Some(emit) = self.emit {
            return Err(SqlError::syntax("`EMIT` belongs to a query, and this statement has none", emit.location));
        }
        if self.at_end() {
            return Ok(());
        }
        if self.sees("EMIT") {
            let message = "expected `EMIT CHANGES` or `EMIT ON WINDOW CLOSE` as the last clause of the statement";
            return Err(SqlError::syntax(message, self.location()));
        }
        Err(SqlError::syntax(format!("expected the end of {what}, found {}", self.peek()), self.location()))
    }

    pub(crate) fn name(&mut self) -> Result<Name> {
        let location = self.location();
        let Token::Word(word) = self.peek().clone() else {
            return Err(self.expected("a name"));
        };
        self.parser.next_token();
        Ok(Name { text: word.value, quoted: word.quote_style.is_some(), location })
    }

    pub(crate) fn object_name(&mut self) -> Result<ObjectName> {
        let mut names = vec![self.name()?];
        while self.accept_token(&Token::Period) {
            names.push(self.name()?);
        }
        Ok(ObjectName(names))
    }

    /// `(a, b, ..)`.
    pub(crate) fn names_in_parentheses(&mut self) -> Result<Vec<Name>> {
        self.expect_token(&Token::LParen)?;
        let mut names = vec![self.name()?];
        while self.accept_token(&Token::Comma) {
            names.push(self.name()?);
        }
        self.expect_token(&Token::RParen)?;
        Ok(names)
    }

    /// A string literal, if one comes next.
    pub(crate) fn accept_string(&mut self) -> Option<String> {
        let text = match self.peek() {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) | Token::UnicodeStringLiteral(text) => {
                text.clone()
            }
            Token::DollarQuotedString(text) => text.value.clone(),
            _ => return None,
        };
        self.parser.next_token();
        Some(text)
    }

    pub(crate) fn string(&mut self) -> Result<String> {
        let error = self.expected("a text in single quotes");
        self.accept_string().ok_or(error)
    }

    /// A key of an option or a setting: a string, or words joined by `.` and `-`.
    pub(crate) fn key(&mut self) -> Result<(String, Location)> {
        let location = self.location();
        if let Some(key) = self.accept_string() {
            return Ok((key, location));
        }
        let mut key = String::new();
        loop {
            match self.peek().clone() {
                Token::Word(word) if word.quote_style.is_none() || key.is_empty() => key.push_str(&word.value),
                _ => return Err(self.expected("a key, such as 'connector'")),
            }
            self.parser.next_token();
            match self.peek() {
                Token::Period => key.push('.'),
                Token::Minus => key.push('-'),
                _ => return Ok((key, location)),
            }
            self.parser.next_token();
        }
    }

    pub(crate) fn data_type(&mut self) -> Result<DataType> {
        Ok(self.data_type_or_json()?.0)
    }

    /// A type, and whether it is `JSON`, `JSONB` or `VARIANT`.
    pub(crate) fn data_type_or_json(&mut self) -> Result<(DataType, bool)> {
        let location = self.location();
        let data_type = parse_data_type(&mut self.parser).map_err(|error| self.syntax_error(error))?;
        Ok((arrow_type(&data_type).map_err(|error| error.or_at(location))?, is_json(&data_type)))
    }

    pub(crate) fn expr(&mut self) -> Result<ExprText> {
        self.expr_above(EagreDialect.prec_unknown())
    }

    /// An expression of operators that bind more tightly than `precedence`, and what stands in parentheses.
    pub(crate) fn expr_above(&mut self, precedence: u8) -> Result<ExprText> {
        let location = self.location();
        let mut ast = self.parser.parse_subexpr(precedence).map_err(|error| self.syntax_error(error))?;
        depth::flatten(&mut ast)?;
        let text = self.source.slice(location, self.read_end()).to_string();
        Ok(ExprText { ast, text, location })
    }

    /// A query, which goes to the end of the statement.
    pub(crate) fn query(&mut self) -> Result<QueryText> {
        let location = self.location();
        let begins = matches!(self.peek_word(0).as_deref(), Some("SELECT" | "WITH" | "VALUES" | "TABLE"));
        if !begins && self.peek() != &Token::LParen {
            return Err(self.expected("a query (`SELECT ..`, `WITH ..`, `VALUES ..`)"));
        }
        let mut ast = self.parser.parse_query().map_err(|error| self.syntax_error(error))?;
        depth::flatten(&mut ast)?;
        to_limits(&mut ast)?;
        if let SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) = &*ast.body {
            return Err(SqlError::unsupported(
                "a statement that writes inside of a query",
                "write `INSERT INTO t WITH .. SELECT ..`",
                location,
            ));
        }
        let text = self.source.slice(location, self.end).to_string();
        Ok(QueryText { ast, text, location, emit: self.emit.take() })
    }

    /// sqlparser's message with its place taken out of the text.
    pub(crate) fn syntax_error(&self, error: ParserError) -> SqlError {
        if let Some(location) = self.nested_emit {
            let message = "`EMIT` belongs to the end of a statement, not into a subquery";
            return SqlError::syntax(message, location);
        }
        let message = match error {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
            ParserError::RecursionLimitExceeded => {
                return SqlError::unsupported(
                    "an expression nested this deep",
                    "split the query into views",
                    self.location(),
                );
            }
        };
        let (message, location) = match split_place(&message) {
            Some((message, location)) => (message.to_string(), location),
            None => (message, self.end),
        };
        // What the grammar of another engine has at this place is no slip of the pen.
        if message.starts_with("Expected: JOIN, found: RIGHT") || message.starts_with("Expected: JOIN, found: FULL") {
            return SqlError::unsupported("this `ASOF` join", "there are `ASOF JOIN` and `ASOF LEFT JOIN`", location);
        }
        if let Some(operator) = message.strip_prefix("No infix parser for token ") {
            // A word comes as the parser's own struct.
            let name = match operator.split_once("value: \"").and_then(|(_, rest)| rest.split_once('"')) {
                Some((name, _)) => name.to_string(),
                None => self.source.slice(location, self.end).chars().next().map_or_else(String::new, String::from),
            };
            return SqlError::syntax(format!("`{name}` is no operator here"), location);
        }
        // "Expected: x, found: y", and in some places without the first colon.
        let expectation = message.strip_prefix("Expected").map(|rest| rest.trim_start_matches(':').trim_start());
        let message = match expectation.and_then(|rest| rest.rsplit_once(", found: ")) {
            Some((expected, "EOF")) => format!("expected {expected}, found the end of the statement"),
            Some((expected, found)) => format!("expected {expected}, found `{found}`"),
            None => match expectation {
                Some(expected) => format!("expected {expected}"),
                None => lower_first(&message),
            },
        };
        SqlError::syntax(message, location)
    }
}

/// `"<message> at Line: 3, Column: 14"` in its parts.
fn split_place(message: &str) -> Option<(&str, Location)> {
    let (text, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some((text, Location::new(line.parse().ok()?, column.parse().ok()?)))
}

/// Lifts `EMIT CHANGES` or `EMIT ON WINDOW CLOSE` out of the tokens: at the end of the statement, before the clauses that may follow it, or
/// before the query of a view.
fn take_emit(tokens: &mut Vec<TokenWithSpan>) -> Option<Emit> {
    let (index, kind, length) = find_emit(tokens)?;
    let parentheses = tokens[..index].iter().fold(0i64, |depth, token| match token.token {
        Token::LParen => depth + 1,
        Token::RParen => depth - 1,
        _ => depth,
    });
    let next = word_at(tokens, index + length);
    // RisingWave has it before the query: `CREATE MATERIALIZED VIEW v EMIT ON WINDOW CLOSE AS SELECT ..`.
    let is_last = index + length == tokens.len()
        || matches!(next.as_str(), "ORDER" | "LIMIT" | "OFFSET" | "FETCH")
        || next == "AS" && word_at(tokens, 0) == "CREATE";
    if parentheses != 0 || !is_last {
        return None;
    }
    let location = Location::of(tokens[index].span)?;
    tokens.drain(index..index + length);
    Some(Emit { kind, location })
}

/// The last `EMIT ..`: its index, what it says and how many tokens it has.
fn find_emit(tokens: &[TokenWithSpan]) -> Option<(usize, EmitKind, usize)> {
    (0..tokens.len()).rev().filter(|index| word_at(tokens, *index) == "EMIT").find_map(|index| {
        match (word_at(tokens, index + 1).as_str(), word_at(tokens, index + 2).as_str()) {
            ("CHANGES", _) => Some((index, EmitKind::Changes, 2)),
            ("ON", "WINDOW") if word_at(tokens, index + 3) == "CLOSE" => Some((index, EmitKind::OnWindowClose, 4)),
            _ => None,
        }
    })
}

/// The unquoted word at `index` in capitals; empty for anything else.
fn word_at(tokens: &[TokenWithSpan], index: usize) -> String {
    match tokens.get(index).map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
        _ => String::new(),
    }
}
