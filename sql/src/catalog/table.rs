//! What is said of a table when it is created: columns, options, watermark.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::{Location, Result, SqlError};
use crate::parser::{self, ExprText, Name, TableOption, TableRole};
use crate::planner::ROWTIME_METADATA;
use crate::types::{is_marked, marked, quote_if_needed, sql_name};

/// Suffix of the pseudo-table of rows that could not be read.
pub const ERRORS_SUFFIX: &str = "errors";
/// What is told of a model that goes on learning, behind its name.
pub const DRIFT_SUFFIX: &str = "drift";
/// Suffix of the pseudo-table of rows that were refused as late.
pub const LATE_SUFFIX: &str = "late";
/// Table option: how long after its window closed a row may still correct the result.
pub const OPTION_ALLOWED_LATENESS: &str = "allowed-lateness";
/// Table option: after how long without rows a partition leaves the watermark's minimum.
pub const OPTION_IDLE_TIMEOUT: &str = "scan.watermark.idle-timeout";
/// Table option: `fail` ends the pipeline at an unreadable row, `collect` (the default, also called `skip`) sends it to
/// `<table>.errors`.
pub const OPTION_BAD_ROWS: &str = "bad-rows";
/// Table option: whether rows that a changelog takes back must have been there.
pub const OPTION_CHANGELOG_CHECK: &str = "changelog.check";
/// Table option, where it is joined `FOR SYSTEM_TIME AS OF` the processing time: whether answers are held, `NONE` or `PARTIAL`.
pub const OPTION_LOOKUP_CACHE: &str = "lookup.cache";
/// Table option: the most rows of answers that are held.
pub const OPTION_LOOKUP_ROWS_MAX: &str = "lookup.partial-cache.max-rows";
/// Table option: how old an answer may be.
pub const OPTION_LOOKUP_EXPIRE: &str = "lookup.partial-cache.expire-after-write";
/// Table option: how often a request that failed is made again.
pub const OPTION_LOOKUP_RETRIES: &str = "lookup.max-retries";
/// The options that the planner itself reads; connectors must let them pass.
pub const PLANNER_OPTIONS: &[&str] = &[
    OPTION_ALLOWED_LATENESS,
    OPTION_IDLE_TIMEOUT,
    OPTION_BAD_ROWS,
    OPTION_CHANGELOG_CHECK,
    OPTION_LOOKUP_CACHE,
    OPTION_LOOKUP_ROWS_MAX,
    OPTION_LOOKUP_EXPIRE,
    OPTION_LOOKUP_RETRIES,
];

/// What `CREATE TABLE` said.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// Its name, as created.
    pub name: String,
    /// Which word created it.
    pub role: TableRole,
    /// The columns in order.
    pub columns: Vec<ColumnDefinition>,
    /// `WATERMARK FOR`.
    pub watermark: Option<WatermarkDefinition>,
    /// `PRIMARY KEY`: names of columns, spelled as the columns are.
    pub primary_key: Vec<String>,
    /// `PARTITIONED BY`: names of columns, spelled as the columns are.
    pub partitioned_by: Vec<String>,
    /// `WITH (..)`.
    pub options: Vec<TableOption>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// Whether the columns were inferred from the data.
    pub inferred: bool,
    /// Where it was created.
    pub location: Option<Location>,
}

/// One column of a table.
#[derive(Debug, Clone)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type; that of a computed column is the type of its expression.
    pub data_type: DataType,
    /// Whether its texts are of the type JSON.
    pub is_json: bool,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// Where its values come from.
    pub kind: ColumnKind,
    /// `DEFAULT`: what is inserted where an `INSERT` leaves the column out.
    pub default: Option<Box<ExprText>>,
    /// `COMMENT`.
    pub comment: Option<String>,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
pub enum ColumnKind {
    /// From the bytes of the row.
    Physical,
    /// From what the connector knows about the row.
    Metadata {
        /// What the connector calls it.
        key: String,
        /// Read only, no part of what is written.
        is_virtual: bool,
    },
    /// From the other columns.
    Computed(Box<ExprText>),
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub struct WatermarkDefinition {
    /// The event-time column.
    pub column: String,
    /// The watermark of a row; none means the column itself.
    pub expr: Option<ExprText>,
    /// Where it stands.
    pub location: Option<Location>,
}

impl TableDefinition {
    /// A table of physical columns, for sources and sinks that are attached from code.
    pub fn from_schema(name: impl Into<String>, schema: &Schema) -> Self {
        let columns = schema.fields().iter().map(|field| ColumnDefinition {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            is_json: is_marked(field),
            nullable: field.is_nullable(),
            kind: ColumnKind::Physical,
            default: None,
            comment: None,
        });
        Self {
            name: name.into(),
            role: TableRole::Table,
            columns: columns.collect(),
            watermark: None,
            primary_key: vec![],
            partitioned_by: vec![],
            options: vec![],
            comment: None,
            inferred: false,
            location: None,
        }
    }

    /// The same with `WATERMARK FOR column AS expr` (`expr` as SQL text).
    ///
    /// # Errors
    /// Where `expr` does not parse.
    pub fn with_watermark(mut self, column: &str, expr: Option<&str>) -> Result<Self> {
        let expr = expr.map(parser::parse_expr).transpose()?;
        self.watermark = Some(WatermarkDefinition { column: column.to_string(), expr, location: None });
        Ok(self)
    }

    /// The value of an option, by its key.
    pub fn option(&self, key: &str) -> Option<&TableOption> {
        self.options.iter().find(|option| option.key.eq_ignore_ascii_case(key))
    }

    /// All columns, as a query sees them. The event-time column carries [`ROWTIME_METADATA`].
    pub fn schema(&self) -> SchemaRef {
        let watermark = self.watermark.as_ref().map(|watermark| watermark.column.as_str());
        let fields = self.columns.iter().map(|column| {
            let field = Field::new(&column.name, column.data_type.clone(), column.nullable);
            match watermark == Some(column.name.as_str()) {
                true => field.with_metadata([(ROWTIME_METADATA.to_string(), self.name.clone())].into()),
                false if column.is_json => marked(field),
                false => field,
            }
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The columns that a source must give: all but the computed ones.
    pub fn source_schema(&self) -> SchemaRef {
        let fields = self.columns.iter().filter(|column| !matches!(column.kind, ColumnKind::Computed(_)));
        Arc::new(Schema::new(fields.map(ColumnDefinition::field).collect::<Vec<_>>()))
    }

    /// The same columns as computed ones see them, those of the type JSON marked.
    pub(crate) fn computing_schema(&self) -> SchemaRef {
        let columns = self.columns.iter().filter(|column| !matches!(column.kind, ColumnKind::Computed(_)));
        let fields = columns.map(|column| if column.is_json { marked(column.field()) } else { column.field() });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The columns that a sink gets: all but computed columns and virtual metadata.
    pub fn sink_schema(&self) -> SchemaRef {
        let fields = self.columns.iter().filter(|column| column.is_written());
        Arc::new(Schema::new(fields.map(ColumnDefinition::field).collect::<Vec<_>>()))
    }

    /// The indices of the columns that an `INSERT` fills.
    pub(crate) fn written(&self) -> impl Iterator<Item = usize> + '_ {
        let columns = self.columns.iter().enumerate();
        columns.filter(|(_, column)| column.is_written()).map(|(index, _)| index)
    }

    /// The index of the column that `name` means: exactly, else, when unquoted, ignoring case.
    pub fn column_index(&self, name: &Name) -> Option<usize> {
        let exact = self.columns.iter().position(|column| column.name == name.text);
        exact.or_else(|| self.columns.iter().position(|column| name.matches(&column.name)))
    }

    /// The statement that creates this table.
    pub fn create_statement(&self) -> String {
        let word = match self.role {
            TableRole::Table => "TABLE",
            TableRole::Source => "SOURCE",
            TableRole::Sink => "SINK",
        };
        let mut lines = self.columns.iter().map(ColumnDefinition::sql).collect::<Vec<_>>();
        if let Some(watermark) = &self.watermark {
            let column = quote_if_needed(&watermark.column);
            let expr = watermark.expr.as_ref().map_or(column.clone(), |expr| expr.text.clone());
            lines.push(format!("WATERMARK FOR {column} AS {expr}"));
        }
        if !self.primary_key.is_empty() {
            lines.push(format!("PRIMARY KEY ({}) NOT ENFORCED", quoted_list(&self.primary_key)));
        }
        let mut text = format!("CREATE {word} {}", quote_if_needed(&self.name));
        if !lines.is_empty() {
            let _ = write!(text, " (\n  {}\n)", lines.join(",\n  "));
        }
        if let Some(comment) = &self.comment {
            let _ = write!(text, " COMMENT '{}'", comment.replace('\'', "''"));
        }
        if !self.partitioned_by.is_empty() {
            let _ = write!(text, " PARTITIONED BY ({})", quoted_list(&self.partitioned_by));
        }
        if !self.options.is_empty() {
            let options = self.options.iter();
            let options = options.map(|option| format!("'{}' = '{}'", option.key, option.value.replace('\'', "''")));
            let _ = write!(text, " WITH (\n  {}\n)", options.collect::<Vec<_>>().join(",\n  "));
        }
        text
    }

    /// What an option counts.
    pub(crate) fn count_option(&self, key: &str) -> Result<Option<u64>> {
        let Some(option) = self.option(key) else {
            return Ok(None);
        };
        match option.value.trim().parse() {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(SqlError::InvalidOption {
                owner: format!("`{}`", self.name),
                option: option.key.clone(),
                value: option.value.clone(),
                message: "it is a whole number".into(),
                location: Some(option.value_location),
            }),
        }
    }

    /// What an option says in milliseconds.
    pub(crate) fn duration_option_ms(&self, key: &str) -> Result<Option<u64>> {
        let Some(option) = self.option(key) else {
            return Ok(None);
        };
        match parse_duration_ms(&option.value) {
            Some(ms) => Ok(Some(ms)),
            None => Err(SqlError::InvalidOption {
                owner: format!("`{}`", self.name),
                option: option.key.clone(),
                value: option.value.clone(),
                message: "it is a duration such as '500 ms', '10 s', '5 min', '1 h' or '1 d'".into(),
                location: Some(option.value_location),
            }),
        }
    }
}

impl ColumnDefinition {
    fn field(&self) -> Field {
        Field::new(&self.name, self.data_type.clone(), self.nullable)
    }

    /// Whether `INSERT` fills it.
    pub fn is_written(&self) -> bool {
        match self.kind {
            ColumnKind::Physical => true,
            ColumnKind::Metadata { is_virtual, .. } => !is_virtual,
            ColumnKind::Computed(_) => false,
        }
    }

    /// Its type as it is written in SQL.
    pub fn type_name(&self) -> String {
        if self.is_json { "JSON".into() } else { sql_name(&self.data_type) }
    }

    fn sql(&self) -> String {
        let name = quote_if_needed(&self.name);
        let not_null = if self.nullable { "" } else { " NOT NULL" };
        let mut text = match &self.kind {
            ColumnKind::Physical => format!("{name} {}{not_null}", self.type_name()),
            ColumnKind::Metadata { key, is_virtual } => format!(
                "{name} {}{not_null} METADATA FROM '{key}'{}",
                self.type_name(),
                if *is_virtual { " VIRTUAL" } else { "" }
            ),
            ColumnKind::Computed(expr) => format!("{name} AS {}", expr.text),
        };
        if let Some(default) = &self.default {
            let _ = write!(text, " DEFAULT {}", default.text);
        }
        if let Some(comment) = &self.comment {
            let _ = write!(text, " COMMENT '{}'", comment.replace('\'', "''"));
        }
        text
    }
}

pub(super) fn quoted_list(names: &[String]) -> String {
    names.iter().map(|name| quote_if_needed(name)).collect::<Vec<_>>().join(", ")
}

/// Milliseconds of a duration as Flink writes it: `10 s`, `500ms`, `5 min`, `1 h`, `1 d`; a bare number is milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim().to_lowercase().as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}
