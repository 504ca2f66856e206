//! What can be wrong with a statement, and where.
//!
//! Whoever writes SQL needs three things from an error: the place in the text, the name at fault, and the way out. So every variant
//! carries a [`Location`] where one is known, relative to the whole file (not to the statement), and the text always begins with it.
//! Programs (`--errors json`) match on [`SqlError::code`], which never changes, and not on the text.
//!
//! DataFusion's errors are translated where they mean one of ours ([`SqlError::from`]): an unknown column is the same error whoever
//! found it. The others are told in our words ([`crate::words`]).

use std::fmt;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::ast::Visit;
use datafusion::sql::sqlparser::tokenizer::{Location as TokenLocation, Span};

use crate::parser::{NameKind, find_name, find_text};
use crate::planner::context::default_functions;
use crate::words::{Subject, own_words, tell};

/// A result whose error is a [`SqlError`].
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

/// A place in a text: line and column, both from 1; a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The line, from 1.
    pub line: u64,
    /// The character in the line, from 1.
    pub column: u64,
}

impl Location {
    /// A place from its line and column, both from 1.
    pub fn new(line: u64, column: u64) -> Self {
        Self { line, column }
    }

    /// Where a span of the syntax tree begins; none for the empty span, which synthetic nodes have.
    pub fn of(span: Span) -> Option<Self> {
        Self::of_token(span.start)
    }

    /// The parser's own location; none for 0:0, which it uses for the end of its input.
    pub fn of_token(location: TokenLocation) -> Option<Self> {
        (location.line > 0).then_some(Self { line: location.line, column: location.column })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// What is wrong with a statement. All of it is for the writer of the query to act on, except [`SqlError::Internal`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The text does not follow the grammar.
    #[error("{}{message}", at(.location))]
    Syntax {
        /// What was expected and what was found.
        message: String,
        /// Where.
        location: Option<Location>,
    },
    /// Grammatical, but not something that this version runs.
    #[error("{}{construct} is not supported{}", at(.location), clause("; ", .hint))]
    Unsupported {
        /// The construct, as a user would call it, e.g. `"a FULL OUTER JOIN"`.
        construct: String,
        /// What to write instead; may be empty.
        hint: String,
        /// Where.
        location: Option<Location>,
    },
    /// No table, view, source or sink has this name.
    #[error("{}table `{name}` is not known{}", at(.location), nearest_clause(.nearest, "; `SHOW TABLES` lists the tables"))]
    UnknownTable {
        /// The name as written.
        name: String,
        /// The most similar name that exists.
        nearest: Option<String>,
        /// Where.
        location: Option<Location>,
    },
    /// No column in scope has this name.
    #[error("{}column `{name}` is not known{}", at(.location), nearest_clause(.nearest, "; `DESCRIBE <table>` lists its columns"))]
    UnknownColumn {
        /// The name as written, with its qualifier.
        name: String,
        /// The most similar name in scope.
        nearest: Option<String>,
        /// Where.
        location: Option<Location>,
    },
    /// No function has this name.
    #[error("{}function `{name}` is not known{}", at(.location), nearest_clause(.nearest, "; `SHOW FUNCTIONS` lists them"))]
    UnknownFunction {
        /// The name as written.
        name: String,
        /// The most similar name that exists.
        nearest: Option<String>,
        /// Where.
        location: Option<Location>,
    },
    /// No model has this name.
    #[error("{}model `{name}` is not known{}", at(.location), nearest_clause(.nearest, "; `SHOW MODELS` lists them"))]
    UnknownModel {
        /// The name as written.
        name: String,
        /// The most similar name that exists.
        nearest: Option<String>,
        /// Where.
        location: Option<Location>,
    },
    /// No SQL type has this name, or not with these parameters.
    #[error("{}type `{name}` is not known{}", at(.location), clause("; ", .hint))]
    UnknownType {
        /// The type as written.
        name: String,
        /// What to write instead; may be empty.
        hint: String,
        /// Where.
        location: Option<Location>,
    },
    /// No view, source or sink has this name.
    #[error("{}{kind} `{name}` is not known{}", at(.location), nearest_clause(.nearest, "; `SHOW TABLES` and `SHOW VIEWS` list what there is"))]
    UnknownObject {
        /// `"view"`, `"source"`, `"sink"`.
        kind: &'static str,
        /// The name as written.
        name: String,
        /// The most similar name of that kind.
        nearest: Option<String>,
        /// Where.
        location: Option<Location>,
    },
    /// The name is taken.
    #[error("{}{kind} `{name}` exists already; drop it first, or add `IF NOT EXISTS`", at(.location))]
    AlreadyExists {
        /// `"table"`, `"view"`, `"function"`, ...
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it is created again.
        location: Option<Location>,
    },
    /// An option or a setting that does not exist.
    #[error("{}{owner}: option `{option}` is not known{}", at(.location), nearest_clause(.nearest, ""))]
    UnknownOption {
        /// What the option was given to, e.g. ``"`bid`"`` or `"SET"`.
        owner: String,
        /// The option's key.
        option: String,
        /// The most similar key that exists.
        nearest: Option<String>,
        /// Where.
        location: Option<Location>,
    },
    /// An option or a setting whose value cannot be.
    #[error("{}{owner}: option `{option}` cannot be '{value}': {message}", at(.location))]
    InvalidOption {
        /// What the option was given to.
        owner: String,
        /// The option's key.
        option: String,
        /// The value at fault.
        value: String,
        /// Why, and what is allowed.
        message: String,
        /// Where.
        location: Option<Location>,
    },
    /// The statement is grammatical and its names are known, but it makes no sense: types that do not fit, a column given twice, ...
    #[error("{}{message}", at(.location))]
    Plan {
        /// What is wrong and the way out.
        message: String,
        /// Where.
        location: Option<Location>,
    },
    /// DataFusion refused it.
    #[error("{}{}", at(.location), own_words(&.source.strip_backtrace()))]
    DataFusion {
        /// Its error.
        #[source]
        source: Box<DataFusionError>,
        /// Where, when it knew.
        location: Option<Location>,
    },
    /// A mistake of ours.
    #[error("internal error: {message}; please report it with the statement that caused it")]
    Internal {
        /// The invariant that did not hold.
        message: String,
    },
}

impl SqlError {
    /// A [`SqlError::Syntax`].
    pub fn syntax(message: impl Into<String>, location: impl Into<Option<Location>>) -> Self {
        Self::Syntax { message: message.into(), location: location.into() }
    }

    /// A [`SqlError::Unsupported`]; `hint` says what to write instead and may be empty.
    pub fn unsupported(
        construct: impl Into<String>,
        hint: impl Into<String>,
        location: impl Into<Option<Location>>,
    ) -> Self {
        Self::Unsupported { construct: construct.into(), hint: hint.into(), location: location.into() }
    }

    /// A [`SqlError::Plan`].
    pub fn plan(message: impl Into<String>, location: impl Into<Option<Location>>) -> Self {
        Self::Plan { message: message.into(), location: location.into() }
    }

    /// A [`SqlError::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// Where in the text, if known.
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Syntax { location, .. }
            | Self::Unsupported { location, .. }
            | Self::UnknownTable { location, .. }
            | Self::UnknownColumn { location, .. }
            | Self::UnknownFunction { location, .. }
            | Self::UnknownModel { location, .. }
            | Self::UnknownType { location, .. }
            | Self::UnknownObject { location, .. }
            | Self::AlreadyExists { location, .. }
            | Self::UnknownOption { location, .. }
            | Self::InvalidOption { location, .. }
            | Self::Plan { location, .. }
            | Self::DataFusion { location, .. } => *location,
            Self::Internal { .. } => None,
        }
    }

    /// The same error, placed at `location` unless it has a place already.
    pub fn or_at(mut self, at: impl Into<Option<Location>>) -> Self {
        match &mut self {
            Self::Syntax { location, .. }
            | Self::Unsupported { location, .. }
            | Self::UnknownTable { location, .. }
            | Self::UnknownColumn { location, .. }
            | Self::UnknownFunction { location, .. }
            | Self::UnknownModel { location, .. }
            | Self::UnknownType { location, .. }
            | Self::UnknownObject { location, .. }
            | Self::AlreadyExists { location, .. }
            | Self::UnknownOption { location, .. }
            | Self::InvalidOption { location, .. }
            | Self::Plan { location, .. }
            | Self::DataFusion { location, .. } => *location = location.or(at.into()),
            Self::Internal { .. } => {}
        }
        self
    }

    /// The same error, placed where `node` first has the function or the column that it speaks of, unless it has a place already.
    pub(crate) fn placed_in<V: Visit>(self, node: &V) -> Self {
        let Self::DataFusion { source, location: None } = &self else { return self };
        let told = tell(&source.strip_backtrace());
        let place = match told.subject {
            Some(Subject::Function(name)) => {
                let place = |name: &str| find_name(node, NameKind::Function, name);
                let written = |other: String| Some((place(&other)?, other));
                match place(&name) {
                    Some(place) => Some(place),
                    // `ARRAY_CONTAINS` is not told as the `array_has` that it is.
                    None => match other_names(&name).into_iter().find_map(written) {
                        Some((place, other)) => {
                            let message = told.message.replacen(&format!("`{name}`"), &format!("`{other}`"), 1);
                            return Self::plan(message, Some(place));
                        }
                        None => None,
                    },
                }
            }
            Some(Subject::Text(text)) => find_text(node, &text),
            Some(Subject::Column(name)) => find_name(node, NameKind::Column, &name),
            None => None,
        };
        self.or_at(place)
    }

    /// A word for the kind of error that programs may rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax",
            Self::Unsupported { .. } => "unsupported",
            Self::UnknownTable { .. } => "unknown_table",
            Self::UnknownColumn { .. } => "unknown_column",
            Self::UnknownFunction { .. } => "unknown_function",
            Self::UnknownModel { .. } => "unknown_model",
            Self::UnknownType { .. } => "unknown_type",
            Self::UnknownObject { .. } => "unknown_object",
            Self::AlreadyExists { .. } => "already_exists",
            Self::UnknownOption { .. } => "unknown_option",
            Self::InvalidOption { .. } => "invalid_option",
            Self::Plan { .. } => "plan",
            Self::DataFusion { .. } => "plan",
            Self::Internal { .. } => "internal",
        }
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        // Our own error, handed through DataFusion by one of our planners, comes out again as it went in.
        let error = match error {
            DataFusionError::External(inner) => match inner.downcast::<SqlError>() {
                Ok(ours) => return *ours,
                Err(inner) => DataFusionError::External(inner),
            },
            other => other,
        };
        let location = error
            .diagnostic()
            .and_then(|diagnostic| diagnostic.span)
            .and_then(|span| (span.start.line > 0).then_some(Location::new(span.start.line, span.start.column)));
        let error = match error {
            DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => {
                return SqlError::from(*inner).or_at(location);
            }
            other => other,
        };
        match &error {
            DataFusionError::SchemaError(schema_error, _) => match &**schema_error {
                SchemaError::FieldNotFound { field, valid_fields } => {
                    let names = valid_fields.iter().map(|column| column.name.as_str());
                    Self::UnknownColumn { name: field.flat_name(), nearest: nearest(&field.name, names), location }
                }
                SchemaError::AmbiguousReference { field } => Self::Plan {
                    message: format!(
                        "column `{0}` is ambiguous: more than one input has it; write `<table>.{1}`",
                        field.flat_name(),
                        field.name
                    ),
                    location,
                },
                _ => Self::DataFusion { source: Box::new(error), location },
            },
            _ => Self::DataFusion { source: Box::new(error), location },
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::DataFusion { source, .. } => *source,
            other => DataFusionError::External(Box::new(other)),
        }
    }
}

/// The candidate most similar to `name`, ignoring case, if one is similar enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= 0.5)
        // Of equals the first in the alphabet, so that the text does not depend on the order of a map.
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate.to_string())
}

/// What else a function is called: messages have its first name.
fn other_names(name: &str) -> Vec<String> {
    let functions = default_functions();
    let of_rows = functions.scalar.get(name).map(|function| function.aliases());
    let aliases = of_rows.or_else(|| functions.aggregate.get(name).map(|function| function.aliases()));
    aliases.unwrap_or_default().to_vec()
}

fn at(location: &Option<Location>) -> String {
    location.map(|location| format!("{location}: ")).unwrap_or_default()
}

fn clause(separator: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{separator}{text}") }
}

fn nearest_clause(nearest: &Option<String>, otherwise: &str) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => otherwise.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text begins with the place and ends with the way out.
    #[test]
    fn text_has_place_name_and_way_out() {
        let error = SqlError::UnknownTable {
            name: "payemnt".into(),
            nearest: nearest("payemnt", ["bid", "payment"]),
            location: Some(Location::new(3, 14)),
        };
        assert_eq!(error.to_string(), "line 3, column 14: table `payemnt` is not known; did you mean `payment`?");
        assert_eq!((error.code(), error.location()), ("unknown_table", Some(Location::new(3, 14))));
        let error = SqlError::unsupported("MATCH_RECOGNIZE", "", None);
        assert_eq!(error.to_string(), "MATCH_RECOGNIZE is not supported");
    }

    /// A suggestion that has nothing to do with the word is worse than none.
    #[test]
    fn nearest_needs_similarity() {
        assert_eq!(nearest("PRICE", ["prize", "price", "auction"]).as_deref(), Some("price"));
        assert_eq!(nearest("price", ["auction", "bidder"]), None);
    }

    /// An error of ours that passes through a DataFusion planner keeps its code and its place.
    #[test]
    fn our_errors_survive_datafusion() {
        let wrapped = DataFusionError::from(SqlError::unsupported("QUALIFY", "", Location::new(1, 2)));
        let back = SqlError::from(DataFusionError::Context("planning".into(), Box::new(wrapped)));
        assert_eq!(back.to_string(), "line 1, column 2: QUALIFY is not supported");
    }
}
