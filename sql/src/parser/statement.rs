//! Statements by their first words, and those that are short.

use std::vec::IntoIter;

use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Value};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::ast::{
    Analyze, Describe, Drop, DropKind, Explain, ExplainMatch, Insert, Name, Show, Statement, StatementKind,
};
use super::cursor::Cursor;
use super::dialect::EagreDialect;
use crate::error::{Location, Result, SqlError, nearest};

const TIME_ZONE: &str = "eagre.sql.time_zone";

/// The words that begin a statement, for messages.
const STATEMENTS: &[&str] = &[
    "CREATE",
    "INSERT",
    "SELECT",
    "WITH",
    "VALUES",
    "BEGIN",
    "EXECUTE",
    "EXPLAIN",
    "SUBSCRIBE",
    "SHOW",
    "DESCRIBE",
    "DROP",
    "SET",
    "RESET",
];

/// What `SHOW` knows.
const SHOW: &[&str] = &[
    "TABLES",
    "SOURCES",
    "SINKS",
    "VIEWS",
    "MATERIALIZED VIEWS",
    "FUNCTIONS",
    "MODELS",
    "MODEL OPTIONS",
    "CONNECTORS",
    "FORMATS",
    "SETTINGS",
    "ALL",
    "CREATE TABLE t",
    "COLUMNS FROM t",
    "TIME ZONE",
];

/// What `SHOW` of other engines knows and this one has not, with the way out.
const NOT_SHOWN: &[(&str, &str)] = &[
    (
        "JOBS",
        "a run is one pipeline, and ends with its command; `eagre checkpoint list --state DIR` tells how far it came",
    ),
    ("CATALOGS", "all objects live in one namespace: `SHOW TABLES`, `SHOW VIEWS`"),
    ("DATABASES", "all objects live in one namespace: `SHOW TABLES`, `SHOW VIEWS`"),
    ("SCHEMAS", "all objects live in one namespace: `SHOW TABLES`, `SHOW VIEWS`"),
    ("MODULES", "`SHOW FUNCTIONS` lists all functions"),
    ("PARTITIONS", "partition columns are columns: `SELECT DISTINCT` them"),
];

/// Statements of other engines, which deserve a better answer than "expected CREATE".
const REFUSED: &[(&str, &str)] = &[
    ("ALTER", "create it again: `CREATE OR REPLACE ..`, or `DROP ..` first"),
    ("UPDATE", "a stream is changed by new rows: `INSERT INTO`"),
    ("DELETE", "a stream is changed by new rows: `INSERT INTO`"),
    ("MERGE", "a stream is changed by new rows: `INSERT INTO`"),
    ("TRUNCATE", "drop the table and create it again"),
    ("COPY", "create a table with `'connector' = 'filesystem'` and insert into it"),
    ("USE", "write the whole name of the table"),
    ("GRANT", ""),
    ("REVOKE", ""),
    ("COMMIT", "statements take effect one by one"),
    ("ROLLBACK", "statements take effect one by one"),
    ("START", "statements take effect one by one"),
    ("ANALYZE", "write `EXPLAIN ANALYZE`"),
    ("LOAD", ""),
    ("CALL", ""),
];

/// Cuts `.. STATEMENT SET BEGIN INSERT ..` after its `BEGIN`, where Flink has no `;`.
pub(super) fn split_sets(segments: Vec<Vec<TokenWithSpan>>) -> Vec<Vec<TokenWithSpan>> {
    let mut split = Vec::with_capacity(segments.len());
    for mut tokens in segments {
        let is_word = |token: &TokenWithSpan, text: &str| {
            matches!(&token.token, Token::Word(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
        };
        let opens = tokens.windows(3).take(8).position(|window| {
            is_word(&window[0], "STATEMENT") && is_word(&window[1], "SET") && is_word(&window[2], "BEGIN")
        });
        let begins = tokens
            .first()
            .is_some_and(|token| ["EXECUTE", "EXPLAIN", "STATEMENT"].iter().any(|word| is_word(token, word)));
        let rest = match opens {
            Some(index) if begins => tokens.split_off(index + 3),
            _ => vec![],
        };
        split.push(tokens);
        if !rest.is_empty() {
            split.push(rest);
        }
    }
    split
}

/// Details that Flink's `EXPLAIN` can be asked for.
const EXPLAIN_DETAILS: [&str; 3] = ["ESTIMATED_COST", "CHANGELOG_MODE", "PLAN_ADVICE"];

impl Cursor<'_> {
    /// The whole statement; a statement set takes the statements up to its `END` from `following`.
    pub(super) fn statement(&mut self, following: &mut IntoIter<Vec<TokenWithSpan>>) -> Result<Statement> {
        let location = self.location();
        let (kind, end) = self.kind(following)?;
        let text = self.source.slice(location, end).to_string();
        Ok(Statement { kind, text, location })
    }

    /// What the statement says and where it ends.
    fn kind(&mut self, following: &mut IntoIter<Vec<TokenWithSpan>>) -> Result<(StatementKind, Location)> {
        if self.accept("BEGIN STATEMENT SET")
            || self.accept("EXECUTE STATEMENT SET BEGIN")
            || self.accept("STATEMENT SET BEGIN")
        {
            self.expect_end("`STATEMENT SET`: a `;` goes before its first `INSERT`")?;
            return self.statement_set(following);
        }
        if self.accept("EXPLAIN") {
            return self.explain(following);
        }
        let kind = match self.peek_word(0).as_deref() {
            Some("CREATE") => self.create()?,
            Some("INSERT") => self.insert()?,
            Some("SELECT" | "WITH" | "VALUES" | "TABLE") => StatementKind::Query(Box::new(self.query()?)),
            None if self.peek() == &Token::LParen => StatementKind::Query(Box::new(self.query()?)),
            Some("SUBSCRIBE") => self.subscribe()?,
            Some("SHOW") => self.show()?,
            Some("DESCRIBE" | "DESC") => self.describe()?,
            Some("DROP") => self.drop()?,
            Some("SET") => self.set()?,
            Some("RESET") => self.reset()?,
            _ => return Err(self.unknown_statement()),
        };
        self.expect_end("the statement")?;
        Ok((kind, self.end))
    }

    fn unknown_statement(&self) -> SqlError {
        let Some(first) = self.peek_word(0) else {
            return self.expected(&format!("a statement (it begins with one of {})", STATEMENTS.join(", ")));
        };
        if let Some((word, hint)) = REFUSED.iter().find(|(word, _)| *word == first) {
            return SqlError::unsupported(format!("`{word}`"), *hint, self.location());
        }
        if first == "END" {
            return SqlError::syntax("`END` without the `BEGIN STATEMENT SET` that it ends", self.location());
        }
        if first == "BEGIN" {
            let hint = "`BEGIN STATEMENT SET; INSERT ..; INSERT ..; END` starts several statements together";
            return SqlError::unsupported("`BEGIN` of a transaction", hint, self.location());
        }
        let words: Vec<_> = (0..3).map_while(|index| self.peek_word(index)).collect();
        let way_out = match nearest(&first, STATEMENTS.iter().copied()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("statements begin with one of {}", STATEMENTS.join(", ")),
        };
        SqlError::syntax(format!("`{}` begins no statement; {way_out}", words.join(" ")), self.location())
    }

    fn statement_set(&mut self, following: &mut IntoIter<Vec<TokenWithSpan>>) -> Result<(StatementKind, Location)> {
        let begin = self.end;
        let mut statements = vec![];
        while let Some(tokens) = following.next() {
            let mut cursor = Cursor::new(self.source, tokens);
            if cursor.accept("END") {
                cursor.accept("STATEMENT SET");
                cursor.expect_end("the statement set")?;
                return match statements.is_empty() {
                    true => Err(SqlError::syntax("a statement set needs at least one `INSERT INTO`", begin)),
                    false => Ok((StatementKind::StatementSet(statements), cursor.end)),
                };
            }
            let location = cursor.location();
            let statement = cursor.statement(following)?;
            if !matches!(statement.kind, StatementKind::Insert(_)) {
                return Err(SqlError::syntax("a statement set holds `INSERT INTO` statements only", location));
            }
            statements.push(statement);
        }
        Err(SqlError::syntax("the statement set does not end; add `END;`", begin))
    }

    fn explain(&mut self, following: &mut IntoIter<Vec<TokenWithSpan>>) -> Result<(StatementKind, Location)> {
        let location = self.location();
        let (mut analyze, mut matching) = (None, None);
        if self.accept("MATCH") {
            matching = Some(Box::new(self.explain_match(location)?));
        } else if self.accept("ANALYZE") {
            let duration_ms = match self.accept("FOR") {
                true => Some(self.interval_ms()?),
                false => None,
            };
            analyze = Some(Analyze { duration_ms, location });
        } else if !self.accept("PLAN FOR") {
            self.explain_details()?;
        }
        let location = self.location();
        let (kind, end) = self.kind(following)?;
        let text = self.source.slice(location, end).to_string();
        match kind {
            StatementKind::Query(_) if matching.is_some() => {}
            _ if matching.is_some() => {
                let message = "`EXPLAIN MATCH` takes a query with a `MATCH_RECOGNIZE`";
                return Err(SqlError::syntax(message, location));
            }
            StatementKind::Query(_)
            | StatementKind::Insert(_)
            | StatementKind::StatementSet(_)
            | StatementKind::CreateView(_)
            | StatementKind::CreateTable(_) => {}
            _ => {
                let message = "`EXPLAIN` takes a query, an `INSERT INTO`, a statement set or a `CREATE VIEW`";
                return Err(SqlError::syntax(message, location));
            }
        }
        let statement = Box::new(Statement { kind, text, location });
        Ok((StatementKind::Explain(Explain { analyze, matching, statement }), end))
    }

    /// `ESTIMATED_COST, CHANGELOG_MODE`: what Flink's plan tells on demand; ours has the changelog modes, and knows no costs.
    fn explain_details(&mut self) -> Result<()> {
        let accept_one = |cursor: &mut Self| EXPLAIN_DETAILS.iter().any(|detail| cursor.accept(detail));
        if !accept_one(self) {
            return Ok(());
        }
        while self.accept_token(&Token::Comma) {
            if !accept_one(self) {
                let message =
                    format!("behind `EXPLAIN` stand details that Flink knows: {}", EXPLAIN_DETAILS.join(", "));
                return Err(SqlError::syntax(message, self.location()));
            }
        }
        Ok(())
    }

    /// What stands behind `EXPLAIN MATCH`, before the query.
    fn explain_match(&mut self, location: Location) -> Result<ExplainMatch> {
        let of = if self.accept("OF") { Some(self.name()?) } else { None };
        let mut key = vec![];
        if self.accept("FOR") {
            self.expect_token(&Token::LParen)?;
            loop {
                let column = self.name()?;
                // `IS NULL` asks for the value that stands behind `IS`.
                if !self.sees("IS NULL") || !self.accept("IS") {
                    self.expect_token(&Token::Eq)?;
                }
                // An operator that binds as `AND` does is behind the value.
                let value = self.expr_above(EagreDialect.prec_value(Precedence::And))?;
                key.push((column, value));
                if !self.accept("AND") && !self.accept_token(&Token::Comma) {
                    break;
                }
            }
            self.expect_token(&Token::RParen)?;
        }
        let from = if self.accept("FROM") { Some(self.expr()?) } else { None };
        let to = if self.accept("TO") { Some(self.expr()?) } else { None };
        Ok(ExplainMatch { of, key, from, to, location })
    }

    /// A constant interval in milliseconds.
    fn interval_ms(&mut self) -> Result<u64> {
        let location = self.location();
        let interval = self.parser.parse_prefix().map_err(|error| self.syntax_error(error))?;
        interval_ms(&interval).ok_or_else(|| {
            SqlError::syntax(
                "expected a positive time such as `INTERVAL '10' SECOND` or `INTERVAL '10 seconds'`",
                location,
            )
        })
    }

    fn insert(&mut self) -> Result<StatementKind> {
        self.expect("INSERT")?;
        let location = self.location();
        if self.accept("OVERWRITE") {
            let hint = "write `INSERT INTO`; a table that is created anew is empty";
            return Err(SqlError::unsupported("`INSERT OVERWRITE`", hint, location));
        }
        self.expect("INTO")?;
        self.accept("TABLE");
        let table = self.object_name()?;
        if self.sees("PARTITION") {
            let hint = "the partition columns are columns of the query";
            return Err(SqlError::unsupported("`PARTITION` in `INSERT INTO`", hint, self.location()));
        }
        let begins_query = matches!(self.peek_word(1).as_deref(), Some("SELECT" | "WITH" | "VALUES"))
            || self.parser.peek_nth_token_ref(1).token == Token::LParen;
        let columns = match self.peek() == &Token::LParen && !begins_query {
            true => self.names_in_parentheses()?,
            false => vec![],
        };
        let query = self.query()?;
        Ok(StatementKind::Insert(Box::new(Insert { table, columns, query })))
    }

    fn subscribe(&mut self) -> Result<StatementKind> {
        self.expect("SUBSCRIBE")?;
        self.accept("TO");
        if self.sees("SELECT") || self.peek() == &Token::LParen {
            let hint = "run the query itself, its changes are the result; or make it a view: `CREATE MATERIALIZED VIEW v AS ..; SUBSCRIBE TO v`";
            return Err(SqlError::unsupported("`SUBSCRIBE` to a query", hint, self.location()));
        }
        let view = self.object_name()?;
        if self.sees("WHERE") || self.peek() == &Token::Comma {
            let (what, hint) = match self.peek() {
                Token::Comma => (
                    "several views in one `SUBSCRIBE`",
                    "write a statement for each: `SUBSCRIBE TO v; SUBSCRIBE TO w`".to_string(),
                ),
                _ => (
                    "`SUBSCRIBE .. WHERE`",
                    format!(
                        "make it a view: `CREATE MATERIALIZED VIEW part AS SELECT * FROM {view} WHERE ..; SUBSCRIBE TO part`"
                    ),
                ),
            };
            return Err(SqlError::unsupported(what, hint, self.location()));
        }
        Ok(StatementKind::Subscribe(view))
    }

    fn show(&mut self) -> Result<StatementKind> {
        self.expect("SHOW")?;
        let location = self.location();
        let show = match self.peek_word(0).as_deref() {
            Some("TABLES") => Show::Tables,
            Some("SOURCES") => Show::Sources,
            Some("SINKS") => Show::Sinks,
            Some("VIEWS") => Show::Views,
            Some("MATERIALIZED") => {
                self.expect("MATERIALIZED")?;
                if !self.sees("VIEWS") {
                    return Err(self.expected("`VIEWS`"));
                }
                Show::MaterializedViews
            }
            Some("FUNCTIONS") => Show::Functions,
            Some("MODELS") => Show::Models,
            Some("MODEL") if self.peek_word(1).as_deref() == Some("OPTIONS") => {
                self.expect("MODEL")?;
                Show::ModelOptions
            }
            Some("SETTINGS" | "ALL") => Show::Settings,
            Some("CONNECTORS") => Show::Connectors,
            Some("FORMATS") => Show::Formats,
            Some("COLUMNS") => {
                self.expect("COLUMNS")?;
                if !self.accept("FROM") && !self.accept("IN") {
                    return Err(self.expected("`FROM` and the name of a table"));
                }
                return Ok(StatementKind::Describe(Describe::Table(self.object_name()?)));
            }
            Some("TIME") if self.accept("TIME ZONE") => {
                return Ok(StatementKind::Show(Show::Setting { key: TIME_ZONE.to_string(), location }));
            }
            Some("CREATE") => {
                self.expect("CREATE")?;
                let known =
                    ["TABLE", "VIEW", "MATERIALIZED VIEW", "SOURCE", "SINK"].iter().any(|kind| self.accept(kind));
                if !known {
                    return Err(self.expected("`TABLE` or `VIEW`"));
                }
                return Ok(StatementKind::Show(Show::Create(self.object_name()?)));
            }
            word => {
                let word = word.unwrap_or_default();
                if let Some((_, hint)) = NOT_SHOWN.iter().find(|(known, _)| *known == word) {
                    return Err(SqlError::unsupported(format!("`SHOW {word}`"), *hint, location));
                }
                // Settings are quoted, or have dots in their names.
                let is_setting = matches!(self.peek(), Token::SingleQuotedString(_))
                    || self.parser.peek_nth_token_ref(1).token == Token::Period;
                if !is_setting {
                    let way_out = match nearest(word, SHOW.iter().copied()) {
                        Some(meant) => format!("did you mean `SHOW {meant}`?"),
                        None => {
                            format!("it knows {}, and a setting such as `SHOW eagre.step.rows_max`", SHOW.join(", "))
                        }
                    };
                    return Err(SqlError::syntax(format!("`SHOW {}` is not known; {way_out}", self.peek()), location));
                }
                let (key, location) = self.setting()?;
                return Ok(StatementKind::Show(Show::Setting { key, location }));
            }
        };
        self.parser.next_token();
        Ok(StatementKind::Show(show))
    }

    fn describe(&mut self) -> Result<StatementKind> {
        self.parser.next_token();
        // A table may be called `connector`.
        if self.sees("CONNECTOR") && self.parser.peek_nth_token_ref(1).token != Token::EOF {
            self.expect("CONNECTOR")?;
            let (text, location) = self.key()?;
            return Ok(StatementKind::Describe(Describe::Connector(Name { text, quoted: true, location })));
        }
        if self.sees("MODEL") && self.parser.peek_nth_token_ref(1).token != Token::EOF {
            self.expect("MODEL")?;
            return Ok(StatementKind::Describe(Describe::Model(self.object_name()?)));
        }
        if self.parser.peek_nth_token_ref(1).token != Token::EOF {
            let _ = self.accept("TABLE") || self.accept("VIEW") || self.accept("EXTENDED");
        }
        Ok(StatementKind::Describe(Describe::Table(self.object_name()?)))
    }

    fn drop(&mut self) -> Result<StatementKind> {
        self.expect("DROP")?;
        self.accept("TEMPORARY");
        let kind = if self.accept("TABLE") {
            DropKind::Table
        } else if self.accept("SOURCE") {
            DropKind::Source
        } else if self.accept("SINK") {
            DropKind::Sink
        } else if self.accept("MATERIALIZED VIEW") {
            DropKind::MaterializedView
        } else if self.accept("VIEW") {
            DropKind::View
        } else if self.accept("FUNCTION") {
            DropKind::Function
        } else if self.accept("MODEL") {
            DropKind::Model
        } else {
            return Err(self.expected("one of TABLE, SOURCE, SINK, VIEW, MATERIALIZED VIEW, FUNCTION, MODEL"));
        };
        let if_exists = self.accept("IF EXISTS");
        let name = self.object_name()?;
        let cascade = self.accept("CASCADE");
        if !cascade {
            self.accept("RESTRICT");
        }
        Ok(StatementKind::Drop(Drop { kind, if_exists, name, cascade }))
    }

    fn set(&mut self) -> Result<StatementKind> {
        self.expect("SET")?;
        if self.at_end() {
            return Ok(StatementKind::Show(Show::Settings));
        }
        // PostgreSQL has a form of its own for this one.
        let location = self.location();
        let is_time_zone = self.accept("TIME ZONE");
        let (key, key_location) = match is_time_zone {
            true => (TIME_ZONE.to_string(), location),
            false => self.setting()?,
        };
        if self.at_end() {
            return Ok(StatementKind::Show(Show::Setting { key, location: key_location }));
        }
        let assigns = self.accept_token(&Token::Eq) || self.accept("TO");
        if !assigns && !is_time_zone {
            return Err(self.expected("`=`"));
        }
        let value_location = self.location();
        let value = match self.accept_string() {
            Some(value) => value,
            None if self.at_end() => return Err(self.expected("a value, such as 'auto'")),
            // `10s`, `-1`, `a.b`: whatever stands there, as it stands there.
            None => {
                while !self.at_end() {
                    self.parser.next_token();
                }
                self.source.slice(value_location, self.end).to_string()
            }
        };
        Ok(StatementKind::Set { key, value, key_location, value_location })
    }

    /// The name of a setting; Flink and PostgreSQL have their own for the time zone.
    fn setting(&mut self) -> Result<(String, Location)> {
        let (key, location) = self.key()?;
        let is_time_zone = ["table.local-time-zone", "timezone"].iter().any(|known| key.eq_ignore_ascii_case(known));
        Ok((if is_time_zone { TIME_ZONE.to_string() } else { key }, location))
    }

    fn reset(&mut self) -> Result<StatementKind> {
        self.expect("RESET")?;
        let key = match self.at_end() || self.accept("ALL") {
            true => None,
            false => Some(self.setting()?),
        };
        Ok(StatementKind::Reset { key })
    }
}

/// The length of `INTERVAL '10' SECOND` or `INTERVAL '10 seconds'`; none for anything else, and for years and months, which have no
/// fixed length.
fn interval_ms(expr: &Expr) -> Option<u64> {
    let Expr::Interval(interval) = expr else { return None };
    let text = match &*interval.value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => text.clone(),
            _ => return None,
        },
        _ => return None,
    };
    let (number, unit) = match &interval.leading_field {
        Some(field) => (text.trim().to_string(), field.to_string()),
        None => {
            let (number, unit) = text.trim().split_once(' ')?;
            (number.to_string(), unit.trim().to_string())
        }
    };
    if matches!(interval.last_field, Some(DateTimeField::Second | DateTimeField::Minute | DateTimeField::Hour)) {
        return None;
    }
    let unit_ms = match unit.to_uppercase().trim_end_matches('S') {
        "MILLISECOND" => 1.0,
        "SECOND" => 1_000.0,
        "MINUTE" => 60_000.0,
        "HOUR" => 3_600_000.0,
        "DAY" => 86_400_000.0,
        _ => return None,
    };
    let duration_ms = number.parse::<f64>().ok()? * unit_ms;
    (duration_ms >= 1.0 && duration_ms.is_finite()).then_some(duration_ms as u64)
}
