//! `CREATE`: tables in Flink's form, views, functions.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::ast::{
    Column, ColumnKind, CreateFunction, CreateModel, CreateTable, CreateView, ExprText, FunctionArg, Like, Name,
    PrimaryKey, StatementKind, TableOption, TableRole, Watermark,
};
use super::cursor::Cursor;
use super::dialect::EagreDialect;
use super::source::Source;
use crate::error::{Location, Result, SqlError};

/// What stands in the parentheses of a `CREATE TABLE`.
#[derive(Default)]
struct TableElements {
    columns: Vec<Column>,
    watermark: Option<Watermark>,
    primary_key: Option<PrimaryKey>,
    like: Option<Like>,
}

/// The words before the kind of thing.
struct Prefix {
    or_replace: bool,
    temporary: bool,
}

impl Cursor<'_> {
    /// Whether `IF NOT EXISTS` follows, which keeps what `OR REPLACE` would not.
    fn if_not_exists(&mut self, prefix: &Prefix) -> Result<bool> {
        let location = self.location();
        let accepted = self.accept("IF NOT EXISTS");
        if accepted && prefix.or_replace {
            let what = "`OR REPLACE` with `IF NOT EXISTS`";
            return Err(SqlError::unsupported(
                what,
                "the one replaces what there is, the other keeps it: write one",
                location,
            ));
        }
        Ok(accepted)
    }

    pub(super) fn create(&mut self) -> Result<StatementKind> {
        let location = self.location();
        self.expect("CREATE")?;
        let or_replace = self.accept("OR REPLACE");
        let temporary = self.accept("TEMPORARY") || self.accept("TEMP");
        self.accept("SYSTEM");
        let prefix = Prefix { or_replace, temporary };
        if self.accept("TABLE") {
            self.create_table(TableRole::Table, prefix)
        } else if self.accept("SOURCE") {
            self.accept("TABLE");
            self.create_table(TableRole::Source, prefix)
        } else if self.accept("SINK") {
            self.accept("TABLE");
            self.create_table(TableRole::Sink, prefix)
        } else if self.accept("MATERIALIZED VIEW") {
            self.create_view(true, prefix)
        } else if self.accept("VIEW") {
            self.create_view(false, prefix)
        } else if self.accept("FUNCTION") {
            self.create_function(prefix)
        } else if self.accept("MODEL") {
            self.create_model(prefix)
        } else {
            let hint = "tables, sources, sinks, views, functions and models can be created";
            match self.peek_word(0) {
                Some(word) => Err(SqlError::unsupported(format!("`CREATE {word}`"), hint, location)),
                None => Err(self.expected("one of TABLE, SOURCE, SINK, VIEW, FUNCTION, MODEL")),
            }
        }
    }

    fn create_table(&mut self, role: TableRole, prefix: Prefix) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists(&prefix)?;
        let name = self.object_name()?;
        let elements = match self.peek() == &Token::LParen {
            true => self.table_elements()?,
            false => TableElements::default(),
        };
        let mut table = CreateTable {
            role,
            temporary: prefix.temporary,
            or_replace: prefix.or_replace,
            if_not_exists,
            name,
            columns: elements.columns,
            watermark: elements.watermark,
            primary_key: elements.primary_key,
            comment: None,
            partitioned_by: vec![],
            options: vec![],
            query: None,
            like: elements.like,
        };
        while !self.at_end() {
            if self.accept("COMMENT") {
                self.accept_token(&Token::Eq);
                table.comment = Some(self.string()?);
            } else if self.accept("PARTITIONED BY") {
                table.partitioned_by = self.names_in_parentheses()?;
            } else if self.sees("WITH") && table.options.is_empty() {
                table.options = self.options()?;
            } else if self.accept("AS") {
                table.query = Some(self.query()?);
            } else if self.sees("LIKE") {
                let location = self.location();
                self.expect("LIKE")?;
                let like = self.like_clause()?;
                if table.like.replace(like).is_some() {
                    return Err(SqlError::syntax("a table is LIKE one other, and this is the second", location));
                }
            } else if self.sees("DISTRIBUTED") {
                let hint = "rows are distributed by the keys of the queries";
                return Err(SqlError::unsupported("`DISTRIBUTED BY`", hint, self.location()));
            } else {
                break;
            }
        }
        check_named_columns(&table)?;
        if let (Some(like), true) = (&table.like, table.query.is_some()) {
            let message = "`LIKE` and `AS` do not go together: the query says which columns there are";
            return Err(SqlError::syntax(message, like.table.location()));
        }
        Ok(StatementKind::CreateTable(Box::new(table)))
    }

    fn table_elements(&mut self) -> Result<TableElements> {
        self.expect_token(&Token::LParen)?;
        let mut elements = TableElements::default();
        loop {
            self.table_element(&mut elements)?;
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        if !self.accept_token(&Token::RParen) {
            return Err(self.expected("`,` or `)` after the column"));
        }
        check_names(&elements)?;
        // Flink's rule: what is part of the key cannot be null, whether or not the column says so.
        for key in elements.primary_key.iter().flat_map(|key| &key.columns) {
            for column in elements.columns.iter_mut().filter(|column| key.matches(&column.name.text)) {
                if let ColumnKind::Physical { not_null, .. } | ColumnKind::Metadata { not_null, .. } = &mut column.kind
                {
                    *not_null = true;
                }
            }
        }
        Ok(elements)
    }

    fn table_element(&mut self, elements: &mut TableElements) -> Result<()> {
        let location = self.location();
        if self.sees("WATERMARK FOR") {
            let watermark = self.watermark()?;
            if elements.watermark.is_some() {
                return Err(SqlError::plan("a table has one watermark, and this is the second", location));
            }
            elements.watermark = Some(watermark);
        } else if self.sees("PRIMARY KEY") || self.sees("CONSTRAINT") {
            if self.accept("CONSTRAINT") {
                self.name()?;
            }
            let location = self.location();
            self.expect("PRIMARY KEY")?;
            let columns = self.names_in_parentheses()?;
            self.not_enforced()?;
            set_primary_key(elements, PrimaryKey { columns, location })?;
        } else if self.accept("LIKE") {
            let like = self.like_element()?;
            if elements.like.replace(like).is_some() {
                return Err(SqlError::syntax("a table is LIKE one other, and this is the second", location));
            }
        } else if ["UNIQUE (", "CHECK (", "FOREIGN KEY", "PERIOD FOR"].iter().any(|words| {
            match words.strip_suffix(" (") {
                Some(word) => self.sees(word) && self.parser.peek_nth_token_ref(1).token == Token::LParen,
                None => self.sees(words),
            }
        }) {
            let word = self.peek_word(0).unwrap_or_default();
            let hint = "of the constraints only `PRIMARY KEY (..) NOT ENFORCED` means something to a stream";
            return Err(SqlError::unsupported(format!("the constraint `{word}`"), hint, location));
        } else {
            self.column(elements)?;
        }
        Ok(())
    }

    fn watermark(&mut self) -> Result<Watermark> {
        let location = self.location();
        self.expect("WATERMARK FOR")?;
        let column = self.name()?;
        if self.peek() == &Token::Period {
            let hint = "add a computed column (`event_time AS a.b`) and put the watermark on it";
            return Err(SqlError::unsupported("a watermark on a nested field", hint, column.location));
        }
        let expr = match self.accept("AS") {
            true => Some(self.expr()?),
            false => None,
        };
        Ok(Watermark { column, expr, location })
    }

    fn not_enforced(&mut self) -> Result<()> {
        if self.accept("NOT ENFORCED") {
            return Ok(());
        }
        Err(SqlError::syntax(
            "expected `NOT ENFORCED` after the primary key: it is a promise of who writes the rows, a stream cannot check it",
            self.location(),
        ))
    }

    fn column(&mut self, elements: &mut TableElements) -> Result<()> {
        let name = self.name()?;
        if self.accept("AS") {
            let expr = self.expr()?;
            let comment = self.column_comment()?;
            let kind = ColumnKind::Computed { expr };
            elements.columns.push(Column { name, kind, is_json: false, default: None, comment });
            return Ok(());
        }
        if matches!(self.peek(), Token::Comma | Token::RParen | Token::EOF) {
            return Err(self.expected(&format!("a type after the column `{}`, or `AS` and an expression", name.text)));
        }
        let (data_type, is_json) = self.data_type_or_json()?;
        let (mut not_null, mut metadata, mut default, mut comment) = (false, None, None, None);
        loop {
            let location = self.location();
            if self.accept("NOT NULL") {
                not_null = true;
            } else if self.accept("NULL") {
            } else if self.accept("METADATA") {
                let key = match self.accept("FROM") {
                    true => Some(self.string()?),
                    false => None,
                };
                metadata = Some((key, self.accept("VIRTUAL")));
            } else if self.sees("PRIMARY KEY") || self.sees("CONSTRAINT") {
                if self.accept("CONSTRAINT") {
                    self.name()?;
                }
                let location = self.location();
                self.expect("PRIMARY KEY")?;
                self.not_enforced()?;
                set_primary_key(elements, PrimaryKey { columns: vec![name.clone()], location })?;
            } else if self.sees("COMMENT") {
                comment = self.column_comment()?;
            } else if self.accept("DEFAULT") {
                // Not `1 NOT NULL` as a whole, which asks whether it is null.
                let value = self.expr_above(EagreDialect.prec_value(Precedence::Is))?;
                if default.replace(value).is_some() {
                    let message = format!("the column `{}` has two defaults; leave one", name.text);
                    return Err(SqlError::syntax(message, location));
                }
            } else if let Some(word) =
                ["UNIQUE", "CHECK", "REFERENCES", "GENERATED"].iter().find(|word| self.sees(word))
            {
                let hint = match *word {
                    "GENERATED" => "write `name AS expression`",
                    _ => "filter with `WHERE` in a view",
                };
                return Err(SqlError::unsupported(format!("the column constraint `{word}`"), hint, location));
            } else {
                break;
            }
        }
        let kind = match metadata {
            Some((key, is_virtual)) => ColumnKind::Metadata { data_type, not_null, key, is_virtual },
            None => ColumnKind::Physical { data_type, not_null },
        };
        elements.columns.push(Column { name, kind, is_json, default, comment });
        Ok(())
    }

    fn column_comment(&mut self) -> Result<Option<String>> {
        match self.accept("COMMENT") {
            true => Ok(Some(self.string()?)),
            false => Ok(None),
        }
    }

    /// `WITH ('key' = 'value', ..)`.
    fn options(&mut self) -> Result<Vec<TableOption>> {
        self.expect("WITH")?;
        self.expect_token(&Token::LParen)?;
        let mut options: Vec<TableOption> = vec![];
        while !self.accept_token(&Token::RParen) {
            if !options.is_empty() {
                if !self.accept_token(&Token::Comma) {
                    return Err(self.expected("`,` or `)` after the option"));
                }
                if self.accept_token(&Token::RParen) {
                    break;
                }
            }
            let (key, key_location) = self.key()?;
            self.expect_token(&Token::Eq)?;
            let value_location = self.location();
            let value = self.option_value()?;
            if let Some(first) = options.iter().find(|option| option.key == key) {
                let message = format!("option `{key}` is given twice; the first is at {}", first.key_location);
                return Err(SqlError::plan(message, key_location));
            }
            options.push(TableOption { key, value, key_location, value_location });
        }
        Ok(options)
    }

    fn option_value(&mut self) -> Result<String> {
        if let Some(text) = self.accept_string() {
            return Ok(text);
        }
        let sign = if self.accept_token(&Token::Minus) { "-" } else { "" };
        let value = match self.peek() {
            Token::Number(number, _) => format!("{sign}{number}"),
            Token::Word(word) if sign.is_empty() => word.value.clone(),
            _ => return Err(self.expected("a value, such as 'json' or 10")),
        };
        self.parser.next_token();
        Ok(value)
    }

    fn create_view(&mut self, materialized: bool, prefix: Prefix) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists(&prefix)?;
        let name = self.object_name()?;
        let mut columns = vec![];
        if self.accept_token(&Token::LParen) {
            loop {
                columns.push(self.name()?);
                self.column_comment()?;
                if !self.accept_token(&Token::Comma) {
                    break;
                }
            }
            self.expect_token(&Token::RParen)?;
        }
        let comment = self.column_comment()?;
        let options = match self.sees("WITH") {
            true => self.options()?,
            false => vec![],
        };
        self.expect("AS")?;
        let query = self.query()?;
        Ok(StatementKind::CreateView(Box::new(CreateView {
            materialized,
            or_replace: prefix.or_replace,
            temporary: prefix.temporary,
            if_not_exists,
            name,
            columns,
            comment,
            options,
            query,
        })))
    }

    fn create_function(&mut self, prefix: Prefix) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists(&prefix)?;
        let name = self.object_name()?;
        if self.sees("AS") {
            return Err(SqlError::unsupported(
                "a function of a class or a library",
                "write `CREATE FUNCTION f(a INT) RETURNS INT AS 'a + 1'`, or register it from Rust",
                self.location(),
            ));
        }
        self.expect_token(&Token::LParen)?;
        let mut args: Vec<FunctionArg> = vec![];
        while !self.accept_token(&Token::RParen) {
            if !args.is_empty() {
                self.expect_token(&Token::Comma)?;
            }
            let name = match self.names_argument() {
                true => self.name()?,
                false => Name { text: format!("${}", args.len() + 1), quoted: true, location: self.location() },
            };
            let arg = FunctionArg { name, data_type: self.data_type()? };
            if args.iter().any(|other| arg.name.matches(&other.name.text)) {
                return Err(SqlError::plan(format!("argument `{}` is given twice", arg.name.text), arg.name.location));
            }
            args.push(arg);
        }
        self.expect("RETURNS")?;
        let returns = self.data_type()?;
        let mut body = loop {
            let location = self.location();
            if self.accept("LANGUAGE") {
                let language = self.name()?;
                if !language.matches("sql") {
                    let hint = "a function's body is an SQL expression: `LANGUAGE SQL`";
                    return Err(SqlError::unsupported(format!("`LANGUAGE {}`", language.text), hint, location));
                }
            } else if ["IMMUTABLE", "STABLE", "DETERMINISTIC"].iter().any(|word| self.accept(word)) {
                // Whether it is follows from the body.
            } else if self.accept("RETURN") {
                break self.expr()?;
            } else if self.accept("AS") {
                break self.function_body()?;
            } else {
                return Err(self.expected("`AS` and the expression in quotes"));
            }
        };
        self.accept("LANGUAGE SQL");
        name_parameters(&mut body, &args)?;
        Ok(StatementKind::CreateFunction(Box::new(CreateFunction {
            or_replace: prefix.or_replace,
            temporary: prefix.temporary,
            if_not_exists,
            name,
            args,
            returns,
            body,
        })))
    }

    fn create_model(&mut self, prefix: Prefix) -> Result<StatementKind> {
        let if_not_exists = self.if_not_exists(&prefix)?;
        let mut model = CreateModel {
            or_replace: prefix.or_replace,
            if_not_exists,
            name: self.object_name()?,
            input: None,
            output: None,
            comment: None,
            options: vec![],
            query: None,
        };
        while !self.at_end() {
            if model.input.is_none() && self.accept("INPUT") {
                model.input = Some(self.model_columns()?);
            } else if model.output.is_none() && self.accept("OUTPUT") {
                model.output = Some(self.model_columns()?);
            } else if self.accept("COMMENT") {
                self.accept_token(&Token::Eq);
                model.comment = Some(self.string()?);
            } else if self.sees("WITH") && model.options.is_empty() {
                model.options = self.options()?;
            } else if self.accept("AS") {
                model.query = Some(self.query()?);
            } else {
                return Err(self.expected("`INPUT (..)`, `OUTPUT (..)`, `COMMENT`, `WITH (..)` or `AS SELECT ..`"));
            }
        }
        Ok(StatementKind::CreateModel(Box::new(model)))
    }

    /// `(a DOUBLE COMMENT '..', ..)`.
    fn model_columns(&mut self) -> Result<Vec<FunctionArg>> {
        self.expect_token(&Token::LParen)?;
        let mut columns: Vec<FunctionArg> = vec![];
        loop {
            let column = FunctionArg { name: self.name()?, data_type: self.data_type()? };
            self.column_comment()?;
            if columns.iter().any(|other| column.name.matches(&other.name.text)) {
                return Err(SqlError::plan(
                    format!("column `{}` is given twice", column.name.text),
                    column.name.location,
                ));
            }
            columns.push(column);
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        if !self.accept_token(&Token::RParen) {
            return Err(self.expected("`,` or `)` after the column"));
        }
        Ok(columns)
    }

    /// The expression after `AS`: in quotes, after PostgreSQL's `SELECT` if need be, or bare.
    /// Whether an argument's name stands before its type: `f(a INT)`, and not `f(INT, DECIMAL(10, 2))`.
    fn names_argument(&self) -> bool {
        let [_, next] = self.parser.peek_tokens_ref::<2>();
        !matches!(next.token, Token::Comma | Token::RParen | Token::LParen | Token::Lt | Token::LBracket)
    }

    fn function_body(&mut self) -> Result<ExprText> {
        let start = self.location();
        let Some(body) = self.accept_string() else {
            return self.expr();
        };
        let end = self.parser.get_current_token().span.end;
        let written = self.source.slice(start, Location::of_token(end).unwrap_or(self.end));
        // Without escapes the body stands in the file as it is, some characters after the quote.
        let origin = match written.find(&body) {
            Some(offset) => {
                let before = &written[..offset];
                match before.rsplit_once('\n') {
                    Some((_, last)) => {
                        let lines = before.matches('\n').count() as u64;
                        Location::new(start.line + lines, last.chars().count() as u64 + 1)
                    }
                    None => Location::new(start.line, start.column + before.chars().count() as u64),
                }
            }
            None => start,
        };
        let source = Source::placed(&body, origin);
        let mut cursor = Cursor::new(&source, source.tokens()?);
        cursor.accept("SELECT");
        let expr = cursor.expr().map_err(|error| error.or_at(start))?;
        cursor.accept_token(&Token::SemiColon);
        cursor.expect_end("the function's expression")?;
        Ok(expr)
    }
}

fn set_primary_key(elements: &mut TableElements, key: PrimaryKey) -> Result<()> {
    if elements.primary_key.is_some() {
        let message = "a table has one primary key, and this is the second; name all its columns in one";
        return Err(SqlError::plan(message, key.location));
    }
    elements.primary_key = Some(key);
    Ok(())
}

/// No column twice, and the key and the watermark name columns that exist. Two names that differ only in case are two columns where both
/// are quoted.
fn check_names(elements: &TableElements) -> Result<()> {
    let columns = &elements.columns;
    for (index, column) in columns.iter().enumerate() {
        let same = |other: &&Column| match column.name.quoted && other.name.quoted {
            true => column.name.text == other.name.text,
            false => column.name.text.to_lowercase() == other.name.text.to_lowercase(),
        };
        if columns[..index].iter().any(|other| same(&other)) {
            let message = format!("column `{}` is given twice", column.name.text);
            return Err(SqlError::plan(message, column.name.location));
        }
    }
    Ok(())
}

/// Checks what the primary key and the watermark name.
fn check_named_columns(table: &CreateTable) -> Result<()> {
    let columns = &table.columns;
    // Without columns of its own the table's schema comes from elsewhere.
    if columns.is_empty() || table.like.is_some() {
        return Ok(());
    }
    let names = table.primary_key.iter().flat_map(|key| &key.columns);
    for name in names.chain(table.watermark.iter().map(|watermark| &watermark.column)) {
        if !columns.iter().any(|column| is_same(name, &column.name)) {
            return Err(SqlError::UnknownColumn {
                name: name.text.clone(),
                nearest: crate::error::nearest(&name.text, columns.iter().map(|column| column.name.text.as_str())),
                location: Some(name.location),
            });
        }
    }
    Ok(())
}

fn is_same(name: &Name, column: &Name) -> bool {
    name.matches(&column.text)
}

/// `$1` in a function's body is its first argument.
fn name_parameters(body: &mut ExprText, args: &[FunctionArg]) -> Result<()> {
    let named = visit_expressions_mut(&mut body.ast, |expr| {
        let Expr::Value(value) = &*expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(parameter) = &value.value else { return ControlFlow::Continue(()) };
        let Some(number) = parameter.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()) else {
            return ControlFlow::Continue(());
        };
        let Some(arg) = number.checked_sub(1).and_then(|place| args.get(place)) else {
            let message = format!("`{parameter}`: the function has {} arguments", args.len());
            return ControlFlow::Break(SqlError::plan(message, Location::of(value.span)));
        };
        let mut name = Ident::with_quote('"', arg.name.text.clone());
        name.quote_style = arg.name.quoted.then_some('"');
        name.span = value.span;
        *expr = Expr::Identifier(name);
        ControlFlow::Continue(())
    });
    match named {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}
