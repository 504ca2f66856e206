//! Reads a type as Flink and PostgreSQL write it, into sqlparser's node.
//!
//! sqlparser's own reader knows neither `ROW<..>` nor `MAP<..>` nor `TIMESTAMP_LTZ(3)` nor `T ARRAY` in this dialect. Its node can hold
//! all of them, so that columns, casts and function arguments have one grammar here and one meaning in [`crate::types`].

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, Ident, IntervalFields, ObjectName, SqlOption,
    StructBracketKind, StructField, TimezoneInfo,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// The option by which a field of a `ROW` says `NOT NULL` inside sqlparser's node, which has no place for it.
pub const NOT_NULL_OPTION: &str = "NOT NULL";

/// Reads a type. Names that mean nothing become `DataType::Custom`, which [`crate::types::arrow_type`] refuses by name.
pub fn parse_data_type(parser: &mut Parser) -> Result<DataType, ParserError> {
    let mut reader = Reader { parser, closed: 0 };
    let data_type = reader.data_type()?;
    match reader.closed {
        0 => Ok(data_type),
        _ => Err(ParserError::ParserError(format!(
            "Expected: one `>` less after the type{}",
            reader.parser.get_current_token().span.start
        ))),
    }
}

/// `closed` counts the `>` of a `>>` or `>>>` token that was consumed for an inner type but also closes outer ones.
struct Reader<'p, 'a> {
    parser: &'p mut Parser<'a>,
    closed: usize,
}

/// The fields that the words behind `INTERVAL` name.
fn interval_fields(words: &[&str]) -> Option<IntervalFields> {
    let singular: Vec<&str> = words.iter().map(|word| word.strip_suffix('S').unwrap_or(word)).collect();
    Some(match singular.as_slice() {
        ["YEAR"] => IntervalFields::Year,
        ["MONTH"] => IntervalFields::Month,
        ["DAY"] => IntervalFields::Day,
        ["HOUR"] => IntervalFields::Hour,
        ["MINUTE"] => IntervalFields::Minute,
        ["SECOND"] => IntervalFields::Second,
        ["YEAR", "TO", "MONTH"] => IntervalFields::YearToMonth,
        ["DAY", "TO", "HOUR"] => IntervalFields::DayToHour,
        ["DAY", "TO", "MINUTE"] => IntervalFields::DayToMinute,
        ["DAY", "TO", "SECOND"] => IntervalFields::DayToSecond,
        ["HOUR", "TO", "MINUTE"] => IntervalFields::HourToMinute,
        ["HOUR", "TO", "SECOND"] => IntervalFields::HourToSecond,
        ["MINUTE", "TO", "SECOND"] => IntervalFields::MinuteToSecond,
        _ => return None,
    })
}

impl Reader<'_, '_> {
    fn data_type(&mut self) -> Result<DataType, ParserError> {
        let mut data_type = self.simple()?;
        // `INT ARRAY`, `INT[]`, `INT NOT NULL ARRAY` are not told apart from `ARRAY<INT>` afterwards.
        while self.closed == 0 {
            if self.parser.parse_keyword(Keyword::ARRAY) {
                data_type = DataType::Array(ArrayElemTypeDef::AngleBracket(Box::new(data_type)));
            } else if self.parser.consume_token(&Token::LBracket) {
                if matches!(self.parser.peek_token_ref().token, Token::Number(..)) {
                    self.parser.next_token();
                }
                self.parser.expect_token(&Token::RBracket)?;
                data_type = DataType::Array(ArrayElemTypeDef::AngleBracket(Box::new(data_type)));
            } else {
                break;
            }
        }
        Ok(data_type)
    }

    fn simple(&mut self) -> Result<DataType, ParserError> {
        let token = self.parser.next_token();
        let Token::Word(word) = &token.token else {
            return self.parser.expected("a type", token);
        };
        let name = word.value.to_uppercase();
        Ok(match name.as_str() {
            _ if word.quote_style.is_some() => self.custom(word.value.clone(), token.span)?,
            "STRING" | "TEXT" => DataType::String(self.length()?),
            "VARCHAR" => self.text(DataType::Varchar)?,
            "CHAR" | "BPCHAR" => self.text(DataType::Char)?,
            "CHARACTER" if self.parser.parse_keyword(Keyword::VARYING) => self.text(DataType::Varchar)?,
            "CHARACTER" => self.text(DataType::Char)?,
            "BOOLEAN" | "BOOL" => DataType::Boolean,
            "TINYINT" | "INT1" => self.integer(DataType::TinyInt(None), DataType::TinyIntUnsigned(None)),
            "SMALLINT" | "INT2" => self.integer(DataType::SmallInt(None), DataType::SmallIntUnsigned(None)),
            "INT" | "INTEGER" | "INT4" => self.integer(DataType::Int(None), DataType::IntUnsigned(None)),
            "BIGINT" | "INT8" => self.integer(DataType::BigInt(None), DataType::BigIntUnsigned(None)),
            "REAL" | "FLOAT4" | "FLOAT" => match (name.as_str(), self.length()?) {
                // PostgreSQL's FLOAT(25) to FLOAT(53).
                ("FLOAT", Some(25..)) => DataType::DoublePrecision,
                _ => DataType::Real,
            },
            "DOUBLE" => {
                let _ = self.parser.parse_keyword(Keyword::PRECISION);
                DataType::DoublePrecision
            }
            "FLOAT8" => DataType::DoublePrecision,
            "DECIMAL" | "NUMERIC" | "DEC" => DataType::Decimal(self.precision_and_scale()?),
            "DATE" => DataType::Date,
            "TIME" => {
                let precision = self.length()?;
                self.time_zone()?;
                DataType::Time(precision, TimezoneInfo::None)
            }
            "TIMESTAMP" | "DATETIME" => {
                let precision = self.length()?;
                let zone = self.time_zone()?;
                DataType::Timestamp(precision, zone)
            }
            "TIMESTAMP_NTZ" => DataType::Timestamp(self.length()?, TimezoneInfo::None),
            "TIMESTAMP_LTZ" | "TIMESTAMPTZ" => DataType::Timestamp(self.length()?, TimezoneInfo::WithTimeZone),
            "BYTES" | "BYTEA" | "BLOB" | "BINARY" | "VARBINARY" => {
                self.length()?;
                DataType::Bytea
            }
            "JSON" => DataType::JSON,
            "JSONB" => DataType::JSONB,
            "UUID" => DataType::Uuid,
            "INTERVAL" => {
                // Both kinds of Flink's are one Arrow type.
                let (mut units, mut precision) = (vec![], None);
                while self.parser.next_token_is_temporal_unit() || self.parser.peek_keyword(Keyword::TO) {
                    units.push(self.parser.next_token().to_string().to_uppercase());
                    precision = self.length()?;
                }
                let fields = interval_fields(&units.iter().map(String::as_str).collect::<Vec<_>>());
                // Of days it says how many digits they may have.
                let precision = precision.filter(|_| units.last().is_some_and(|unit| unit.starts_with("SECOND")));
                DataType::Interval { fields, precision }
            }
            "ARRAY" => {
                self.open()?;
                let element = self.nullable()?.0;
                self.close()?;
                DataType::Array(ArrayElemTypeDef::AngleBracket(Box::new(element)))
            }
            "MULTISET" => self.custom(name, token.span)?,
            "MAP" => {
                self.open()?;
                let key = self.nullable()?.0;
                self.parser.expect_token(&Token::Comma)?;
                let value = self.nullable()?.0;
                self.close()?;
                DataType::Map(Box::new(key), Box::new(value))
            }
            "ROW" | "STRUCT" => self.fields()?,
            _ => self.custom(word.value.clone(), token.span)?,
        })
    }

    /// `UNSIGNED` may follow: files have such columns, and so `DESCRIBE` prints it.
    fn integer(&mut self, signed: DataType, unsigned: DataType) -> DataType {
        if self.parser.parse_keyword(Keyword::UNSIGNED) { unsigned } else { signed }
    }

    /// A name that means nothing here, with its parameters.
    fn custom(
        &mut self,
        name: String,
        span: datafusion::sql::sqlparser::tokenizer::Span,
    ) -> Result<DataType, ParserError> {
        let mut params = vec![];
        if self.parser.consume_token(&Token::LParen) {
            params = self.parser.parse_comma_separated(|parser| Ok(parser.next_token().to_string()))?;
            self.parser.expect_token(&Token::RParen)?;
        }
        Ok(DataType::Custom(ObjectName::from(vec![Ident::with_span(span, name)]), params))
    }

    fn fields(&mut self) -> Result<DataType, ParserError> {
        let in_parentheses = self.parser.consume_token(&Token::LParen);
        if !in_parentheses {
            self.open()?;
        }
        let mut fields = vec![];
        loop {
            let name = self.parser.parse_identifier()?;
            // Flink allows `name: TYPE` as well.
            let _ = self.parser.consume_token(&Token::Colon);
            let (field_type, not_null) = self.nullable()?;
            if self.closed == 0 && self.parser.parse_keyword(Keyword::COMMENT) {
                self.parser.parse_literal_string()?;
            }
            let options = not_null.then(|| vec![SqlOption::Ident(Ident::new(NOT_NULL_OPTION))]);
            fields.push(StructField { field_name: Some(name), field_type, options });
            if self.closed > 0 || !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        match in_parentheses {
            true => self.parser.expect_token(&Token::RParen).map(drop)?,
            false => self.close()?,
        }
        Ok(DataType::Struct(fields, StructBracketKind::AngleBrackets))
    }

    /// A type and whether `NOT NULL` follows.
    fn nullable(&mut self) -> Result<(DataType, bool), ParserError> {
        let data_type = self.data_type()?;
        if self.closed > 0 {
            return Ok((data_type, false));
        }
        let not_null = self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]);
        if !not_null {
            let _ = self.parser.parse_keyword(Keyword::NULL);
        }
        Ok((data_type, not_null))
    }

    fn open(&mut self) -> Result<(), ParserError> {
        self.parser.expect_token(&Token::Lt).map(drop)
    }

    fn close(&mut self) -> Result<(), ParserError> {
        if self.closed > 0 {
            self.closed -= 1;
            return Ok(());
        }
        let token = self.parser.next_token();
        match token.token {
            Token::Gt => Ok(()),
            Token::ShiftRight => {
                self.closed = 1;
                Ok(())
            }
            _ => self.parser.expected("`>` or `,`", token),
        }
    }

    /// `(n)`, if it follows.
    fn length(&mut self) -> Result<Option<u64>, ParserError> {
        if self.closed > 0 || !self.parser.consume_token(&Token::LParen) {
            return Ok(None);
        }
        let length = self.parser.parse_literal_uint()?;
        self.parser.expect_token(&Token::RParen)?;
        Ok(Some(length))
    }

    /// A text; one of a length says so, for casts to it.
    fn text(&mut self, of_length: fn(Option<CharacterLength>) -> DataType) -> Result<DataType, ParserError> {
        Ok(match self.length()? {
            Some(length) => of_length(Some(CharacterLength::IntegerLength { length, unit: None })),
            None => DataType::String(None),
        })
    }

    fn precision_and_scale(&mut self) -> Result<ExactNumberInfo, ParserError> {
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(ExactNumberInfo::None);
        }
        let precision = self.parser.parse_literal_uint()?;
        let scale = match self.parser.consume_token(&Token::Comma) {
            true => Some(self.parser.parse_literal_uint()?),
            false => None,
        };
        self.parser.expect_token(&Token::RParen)?;
        Ok(match scale {
            Some(scale) => ExactNumberInfo::PrecisionAndScale(precision, scale as i64),
            None => ExactNumberInfo::Precision(precision),
        })
    }

    /// `WITHOUT TIME ZONE`, `WITH TIME ZONE`, `WITH LOCAL TIME ZONE`: the last two are the same, an instant.
    fn time_zone(&mut self) -> Result<TimezoneInfo, ParserError> {
        let with = if self.parser.parse_keyword(Keyword::WITHOUT) {
            false
        } else if self.parser.peek_keyword(Keyword::WITH)
            && matches!(&self.parser.peek_nth_token_ref(1).token, Token::Word(word)
                if matches!(word.keyword, Keyword::TIME | Keyword::LOCAL))
        {
            self.parser.next_token();
            let _ = self.parser.parse_keyword(Keyword::LOCAL);
            true
        } else {
            return Ok(TimezoneInfo::None);
        };
        self.parser.expect_keywords(&[Keyword::TIME, Keyword::ZONE])?;
        Ok(if with { TimezoneInfo::WithTimeZone } else { TimezoneInfo::WithoutTimeZone })
    }
}
