//! The statements of the dialect, as written: names keep their spelling, expressions their text, everything its place in the file.
//!
//! Queries and expressions stay sqlparser's nodes, because DataFusion's planner takes those; what surrounds them is ours, because no
//! parser knows `WATERMARK FOR` and because a statement holds only what the engine can mean. Types are mapped to Arrow here already,
//! so an unknown one is an error at its place.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{self as sqlparser_ast, Expr, Query, TableFactor};

use crate::error::Location;

/// One statement of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What it says.
    pub kind: StatementKind,
    /// Its own text: from its first to its last token, without the `;` and without the comments around it.
    pub text: String,
    /// Where it begins in the file.
    pub location: Location,
}

/// The kinds of statements.
#[derive(Debug, Clone, PartialEq)]
pub enum StatementKind {
    /// `CREATE TABLE`, `CREATE SOURCE`, `CREATE SINK`.
    CreateTable(Box<CreateTable>),
    /// `CREATE VIEW`, `CREATE MATERIALIZED VIEW`.
    CreateView(Box<CreateView>),
    /// `CREATE FUNCTION`.
    CreateFunction(Box<CreateFunction>),
    /// `CREATE MODEL`.
    CreateModel(Box<CreateModel>),
    /// `INSERT INTO`.
    Insert(Box<Insert>),
    /// `BEGIN STATEMENT SET; .. END` and `EXECUTE STATEMENT SET BEGIN .. END`: [`StatementKind::Insert`] statements only.
    StatementSet(Vec<Statement>),
    /// A query at the top level: its rows are the result.
    Query(Box<QueryText>),
    /// `SUBSCRIBE [TO] view`: its rows, then its changes.
    Subscribe(ObjectName),
    /// `EXPLAIN`.
    Explain(Explain),
    /// `SHOW ..`.
    Show(Show),
    /// `DESCRIBE ..`.
    Describe(Describe),
    /// `DROP ..`.
    Drop(Drop),
    /// `SET key = value`.
    Set {
        /// The setting, as written without quotes.
        key: String,
        /// Its value as text.
        value: String,
        /// Where the key stands.
        key_location: Location,
        /// Where the value stands.
        value_location: Location,
    },
    /// `RESET key`, `RESET` (all).
    Reset {
        /// The setting; none for all.
        key: Option<(String, Location)>,
    },
}

/// A name as written. Unquoted names ignore case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The spelling, without quotes.
    pub text: String,
    /// Whether it stood in double quotes or backticks, and so is meant exactly.
    pub quoted: bool,
    /// Where it stands.
    pub location: Location,
}

impl Name {
    /// Whether this name, as written, means `other`: exactly when quoted, ignoring case when not.
    pub fn matches(&self, other: &str) -> bool {
        if self.quoted { self.text == other } else { self.text.to_lowercase() == other.to_lowercase() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quoted { write!(f, "\"{}\"", self.text.replace('"', "\"\"")) } else { f.write_str(&self.text) }
    }
}

/// The name of a table, view or function, perhaps with qualifiers: `t`, `t.late`, `catalog.database.t`. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName(pub Vec<Name>);

impl ObjectName {
    /// Where it stands.
    pub fn location(&self) -> Location {
        self.0.first().map_or(Location::new(1, 1), |name| name.location)
    }

    /// The last part.
    pub fn last(&self) -> &Name {
        self.0.last().expect("the parser makes no name without parts")
    }

    /// The spellings of the parts joined by dots, without quotes: for messages and keys.
    pub fn plain(&self) -> String {
        self.0.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(".")
    }

    /// The same name as sqlparser's node.
    pub fn to_sqlparser(&self) -> sqlparser_ast::ObjectName {
        self.0
            .iter()
            .map(|name| match name.quoted {
                true => sqlparser_ast::Ident::with_quote('"', &name.text),
                false => sqlparser_ast::Ident::new(&name.text),
            })
            .collect::<Vec<_>>()
            .into()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// An expression and its text.
#[derive(Debug, Clone, PartialEq)]
pub struct ExprText {
    /// The tree; its spans are places in the file.
    pub ast: Expr,
    /// As written, from its first to its last token.
    pub text: String,
    /// Where it begins.
    pub location: Location,
}

/// A query, its text and when it speaks.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryText {
    /// The tree without its `EMIT`; its spans are places in the file.
    pub ast: Box<Query>,
    /// As written, from its first to its last token, `EMIT` included.
    pub text: String,
    /// Where it begins.
    pub location: Location,
    /// `EMIT ..`, if written.
    pub emit: Option<Emit>,
}

/// `EMIT ..` at the end of a query, before or after its `ORDER BY` and `LIMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emit {
    /// When results are shown.
    pub kind: EmitKind,
    /// Where `EMIT` stands.
    pub location: Location,
}

/// When a query shows results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmitKind {
    /// `EMIT CHANGES`: at once, corrected later.
    Changes,
    /// `EMIT ON WINDOW CLOSE`: once, when final.
    OnWindowClose,
}

/// Which word created a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableRole {
    /// `CREATE TABLE`: both readable and writable, as its connector can.
    Table,
    /// `CREATE SOURCE`: only readable.
    Source,
    /// `CREATE SINK`: only writable.
    Sink,
}

/// `CREATE [TEMPORARY] TABLE | CREATE SOURCE | CREATE SINK`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// Which word created it.
    pub role: TableRole,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// The table's name.
    pub name: ObjectName,
    /// The columns in order; empty where the schema is to be inferred (or taken from [`CreateTable::query`]).
    pub columns: Vec<Column>,
    /// `WATERMARK FOR`.
    pub watermark: Option<Watermark>,
    /// `PRIMARY KEY`, from the column or the table constraint.
    pub primary_key: Option<PrimaryKey>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `PARTITIONED BY`.
    pub partitioned_by: Vec<Name>,
    /// `WITH (..)`, in order, no key twice.
    pub options: Vec<TableOption>,
    /// `AS SELECT ..`: create, then insert.
    pub query: Option<QueryText>,
    /// `LIKE a`.
    pub like: Option<Like>,
}

/// `LIKE a (INCLUDING ..)`: what is taken over from another table.
#[derive(Debug, Clone, PartialEq)]
pub struct Like {
    /// The other table.
    pub table: ObjectName,
    /// What is done with features of which nothing else is said.
    pub all: LikeMerge,
    /// What is done with others.
    pub features: Vec<(LikeFeature, LikeMerge)>,
}

impl Like {
    /// What is done with a feature.
    pub fn merge(&self, feature: LikeFeature) -> LikeMerge {
        let said = self.features.iter().find(|(said, _)| *said == feature);
        said.map_or(self.all, |(_, merge)| *merge)
    }
}

/// What of another table may be taken over or not; its physical columns always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeFeature {
    /// The primary key.
    Constraints,
    /// Computed columns.
    Generated,
    /// Columns of metadata.
    Metadata,
    /// `WITH (..)`.
    Options,
    /// `PARTITIONED BY`.
    Partitions,
    /// `WATERMARK FOR`.
    Watermarks,
}

impl LikeFeature {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Constraints, Self::Generated, Self::Metadata, Self::Options, Self::Partitions, Self::Watermarks];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Constraints => "CONSTRAINTS",
            Self::Generated => "GENERATED",
            Self::Metadata => "METADATA",
            Self::Options => "OPTIONS",
            Self::Partitions => "PARTITIONS",
            Self::Watermarks => "WATERMARKS",
        }
    }
}

/// What is done with a feature of another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeMerge {
    /// Taken over; what both have is an error.
    Including,
    /// Left.
    Excluding,
    /// Taken over where it is not said anew.
    Overwriting,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: Name,
    /// Where its values come from.
    pub kind: ColumnKind,
    /// Whether its type is `JSON`, `JSONB` or `VARIANT`, a text of which is known what it says.
    pub is_json: bool,
    /// `DEFAULT`: what is inserted where an `INSERT` leaves the column out.
    pub default: Option<ExprText>,
    /// `COMMENT`.
    pub comment: Option<String>,
}

/// Where a column's values come from.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a statement has few columns, and they live as long as it is planned")]
pub enum ColumnKind {
    /// From the bytes of the row.
    Physical {
        /// Its type.
        data_type: DataType,
        /// Whether it may hold no null: `NOT NULL`, or part of the primary key.
        not_null: bool,
    },
    /// From what the connector knows about the row (partition, offset, file, ...).
    Metadata {
        /// Its type.
        data_type: DataType,
        /// `NOT NULL`.
        not_null: bool,
        /// `FROM 'key'`; the column's own name where none is given.
        key: Option<String>,
        /// `VIRTUAL`: read only, no part of what is written.
        is_virtual: bool,
    },
    /// `name AS expression` over the other columns.
    Computed {
        /// The expression.
        expr: ExprText,
    },
}

/// `WATERMARK FOR column [AS expression]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Watermark {
    /// The event-time column.
    pub column: Name,
    /// The watermark of a row; none means the column itself (no disorder).
    pub expr: Option<ExprText>,
    /// Where `WATERMARK` stands.
    pub location: Location,
}

/// `PRIMARY KEY (..) NOT ENFORCED`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    /// The key columns in order.
    pub columns: Vec<Name>,
    /// Where `PRIMARY` stands.
    pub location: Location,
}

/// One `'key' = 'value'` of a `WITH (..)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOption {
    /// The key, as written without quotes.
    pub key: String,
    /// The value as text: a string's content, a number or a word as written.
    pub value: String,
    /// Where the key stands.
    pub key_location: Location,
    /// Where the value stands.
    pub value_location: Location,
}

/// `CREATE [OR REPLACE] [TEMPORARY] [MATERIALIZED] VIEW`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// `MATERIALIZED`.
    pub materialized: bool,
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// The view's name.
    pub name: ObjectName,
    /// New names for the columns of the query; empty to keep them.
    pub columns: Vec<Name>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `WITH (..)`.
    pub options: Vec<TableOption>,
    /// What it shows.
    pub query: QueryText,
}

/// `CREATE [OR REPLACE] [TEMPORARY] FUNCTION f(a T, ..) RETURNS T [LANGUAGE SQL] AS '..' | RETURN ..`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateFunction {
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// The function's name.
    pub name: ObjectName,
    /// The arguments in order.
    pub args: Vec<FunctionArg>,
    /// `RETURNS`.
    pub returns: DataType,
    /// The SQL expression over the arguments; its places are in the file where the body is not escaped.
    pub body: ExprText,
}

/// One argument of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionArg {
    /// Its name; `$1` and so on for one that has none.
    pub name: Name,
    /// Its type.
    pub data_type: DataType,
}

/// `CREATE [OR REPLACE] [TEMPORARY] MODEL [IF NOT EXISTS] m [INPUT (a T, ..)] [OUTPUT (b T, ..)] [COMMENT '..'] WITH (..) [AS query]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateModel {
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// The model's name.
    pub name: ObjectName,
    /// What goes in, where it is said.
    pub input: Option<Vec<FunctionArg>>,
    /// What comes out, where it is said.
    pub output: Option<Vec<FunctionArg>>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `WITH (..)`, in order, no key twice.
    pub options: Vec<TableOption>,
    /// `AS SELECT ..`: the rows that it is trained with.
    pub query: Option<QueryText>,
}

/// `INSERT INTO t [(columns)] query`.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The table.
    pub table: ObjectName,
    /// The columns to fill; empty for all, in order.
    pub columns: Vec<Name>,
    /// The rows: `SELECT ..` or `VALUES ..`.
    pub query: QueryText,
}

/// `EXPLAIN [ANALYZE [FOR INTERVAL '..'] | MATCH ..] statement`.
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// `ANALYZE`: run it and measure.
    pub analyze: Option<Analyze>,
    /// `MATCH`: run it and tell how its pattern was looked for.
    pub matching: Option<Box<ExplainMatch>>,
    /// The statement: a query, an insert, a statement set or a view.
    pub statement: Box<Statement>,
}

/// `MATCH [OF name] [FOR (column = constant [AND ..])] [FROM constant] [TO constant]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainMatch {
    /// The clause that is meant, by its alias or the view or table of `WITH` that it stands in.
    pub of: Option<Name>,
    /// The partition: columns of `PARTITION BY` with their values.
    pub key: Vec<(Name, ExprText)>,
    /// The first value of the order that is told.
    pub from: Option<ExprText>,
    /// The last one.
    pub to: Option<ExprText>,
    /// Where `MATCH` stands.
    pub location: Location,
}

/// `ANALYZE [FOR INTERVAL '..']`.
#[derive(Debug, Clone, PartialEq)]
pub struct Analyze {
    /// How long to run an unbounded statement, in milliseconds; none runs it to its end.
    pub duration_ms: Option<u64>,
    /// Where `ANALYZE` stands.
    pub location: Location,
}

/// `SHOW ..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// `SHOW TABLES` (sources and sinks among them).
    Tables,
    /// `SHOW SOURCES`: what `CREATE SOURCE` created.
    Sources,
    /// `SHOW SINKS`: what `CREATE SINK` created.
    Sinks,
    /// `SHOW VIEWS`.
    Views,
    /// `SHOW MATERIALIZED VIEWS`.
    MaterializedViews,
    /// `SHOW FUNCTIONS`.
    Functions,
    /// `SHOW MODELS`.
    Models,
    /// `SHOW MODEL OPTIONS`: what `CREATE MODEL .. WITH (..)` knows.
    ModelOptions,
    /// `SHOW SETTINGS`, `SHOW ALL`, `SET` alone.
    Settings,
    /// `SHOW 'key'`, `SET 'key'`.
    Setting {
        /// The setting.
        key: String,
        /// Where it stands.
        location: Location,
    },
    /// `SHOW CONNECTORS`.
    Connectors,
    /// `SHOW FORMATS`.
    Formats,
    /// `SHOW CREATE TABLE t`, `SHOW CREATE VIEW v`.
    Create(ObjectName),
}

/// `DESCRIBE ..`, `DESC ..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Describe {
    /// The columns of a table or view.
    Table(ObjectName),
    /// The options of a connector.
    Connector(Name),
    /// What goes into a model and comes out, and what is known of it.
    Model(ObjectName),
}

/// `DROP ..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// What kind of thing.
    pub kind: DropKind,
    /// `IF EXISTS`.
    pub if_exists: bool,
    /// Its name.
    pub name: ObjectName,
    /// `CASCADE`: the views and models that need it go too.
    pub cascade: bool,
}

/// What a `DROP` drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    /// `DROP TABLE`.
    Table,
    /// `DROP SOURCE`.
    Source,
    /// `DROP SINK`.
    Sink,
    /// `DROP VIEW`.
    View,
    /// `DROP MATERIALIZED VIEW`.
    MaterializedView,
    /// `DROP FUNCTION`.
    Function,
    /// `DROP MODEL`.
    Model,
}

impl DropKind {
    /// The words behind `DROP`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Table => "TABLE",
            Self::Source => "SOURCE",
            Self::Sink => "SINK",
            Self::View => "VIEW",
            Self::MaterializedView => "MATERIALIZED VIEW",
            Self::Function => "FUNCTION",
            Self::Model => "MODEL",
        }
    }
}

/// A table by its name.
pub(crate) fn table_factor(name: sqlparser_ast::ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}
