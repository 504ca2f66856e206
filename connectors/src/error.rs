//! Errors of this room: what a table's options ask for and cannot have, and what the world outside refuses.
//!
//! They are raised while a statement is planned or a source or sink is opened, so each names the table, the option or path, and the
//! way out. What fails later, in a running pipeline, travels as [`EngineError`]; what is wrong with one row is no error at all but a
//! [`BadRow`](eagre_engine::source::BadRow).

use eagre_engine::EngineError;

/// The result type of this crate.
pub type Result<T, E = ConnectorError> = std::result::Result<T, E>;

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// An option that neither the connector nor its format has.
    #[error(
        "table `{table}`: option `{option}` is not known; did you mean `{nearest}`? The options of connector `{connector}` are \
         listed by `DESCRIBE CONNECTOR {connector}`"
    )]
    UnknownOption {
        /// The table.
        table: String,
        /// Its connector.
        connector: String,
        /// The option as written.
        option: String,
        /// The known option that is spelt most alike.
        nearest: String,
    },
    /// An option that must be there is not.
    #[error("table `{table}`: option `{option}` is missing: {meaning}; write `WITH (.., '{option}' = '{example}')`")]
    MissingOption {
        /// The table.
        table: String,
        /// The option.
        option: String,
        /// What it says.
        meaning: String,
        /// A value that works.
        example: String,
    },
    /// A value that the option cannot have.
    #[error("table `{table}`: option `{option}` = '{value}' cannot be used: {expected}")]
    BadValue {
        /// The table.
        table: String,
        /// The option.
        option: String,
        /// The value as written.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// A connector that does not exist.
    #[error("table `{table}`: there is no connector `{connector}`;{hint} `SHOW CONNECTORS` lists them all")]
    UnknownConnector {
        /// The table.
        table: String,
        /// The name as written.
        connector: String,
        /// The connector that may be meant; empty where none is spelt like it.
        hint: String,
    },
    /// A connector that is asked for something that it does not do.
    #[error("table `{table}`: {message}")]
    Unsupported {
        /// The table.
        table: String,
        /// What is not possible, and what is.
        message: String,
    },
    /// The table's columns do not fit the format or the data.
    #[error("table `{table}`: {message}")]
    Schema {
        /// The table.
        table: String,
        /// Which column, and the way out.
        message: String,
    },
    /// A URL for which this build has no client.
    #[error(
        "table `{table}`: '{url}' needs the cargo feature `{feature}`, which this build lacks; build with `--features {feature}`, \
         or copy the data to a local folder"
    )]
    Feature {
        /// The table.
        table: String,
        /// The URL as written.
        url: String,
        /// The feature that brings the client.
        feature: &'static str,
    },
    /// A file, folder or store that cannot be used.
    #[error("table `{table}`: cannot {action} `{path}`: {reason}")]
    Io {
        /// The table.
        table: String,
        /// What was tried, for example `read`.
        action: &'static str,
        /// The path or URL.
        path: String,
        /// What the system said, and the way out.
        reason: String,
    },
}

impl ConnectorError {
    /// A stable word for programs (`--errors json`).
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownOption { .. } => "unknown_option",
            Self::MissingOption { .. } => "missing_option",
            Self::BadValue { .. } => "bad_option_value",
            Self::UnknownConnector { .. } => "unknown_connector",
            Self::Unsupported { .. } => "unsupported",
            Self::Schema { .. } => "schema",
            Self::Feature { .. } => "feature",
            Self::Io { .. } => "io",
        }
    }

    /// The option that the error is about, as written.
    pub fn option(&self) -> Option<&str> {
        match self {
            Self::UnknownOption { option, .. } | Self::BadValue { option, .. } => Some(option),
            Self::UnknownConnector { .. } => Some("connector"),
            _ => None,
        }
    }

    /// The table that the error is about.
    pub fn table(&self) -> &str {
        match self {
            Self::UnknownOption { table, .. }
            | Self::MissingOption { table, .. }
            | Self::BadValue { table, .. }
            | Self::UnknownConnector { table, .. }
            | Self::Unsupported { table, .. }
            | Self::Schema { table, .. }
            | Self::Feature { table, .. }
            | Self::Io { table, .. } => table,
        }
    }

    /// The text without its `table ..:` head, for wrapping where the table is named anyway.
    fn body(&self) -> String {
        let text = self.to_string();
        match text.strip_prefix(&format!("table `{}`: ", self.table())) {
            Some(body) => body.to_owned(),
            None => text,
        }
    }

    /// As the engine reports it when a source fails.
    pub(crate) fn into_source_error(self) -> EngineError {
        EngineError::Source { table: self.table().to_owned(), message: self.body() }
    }

    /// As the engine reports it when a sink fails.
    pub(crate) fn into_sink_error(self) -> EngineError {
        EngineError::Sink { table: self.table().to_owned(), message: self.body() }
    }
}

/// What the system said about a path, with the way out where there is one.
pub(crate) fn io_reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let way_out = match error.kind() {
        ErrorKind::NotFound => "; check the path, which is taken relative to the working directory",
        ErrorKind::PermissionDenied => "; give this user the permission, or choose another path",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free space, or choose another path",
        ErrorKind::ReadOnlyFilesystem => "; choose a path on a disk that can be written",
        _ => "",
    };
    format!("{error}{way_out}")
}

/// The candidate that is spelt most like `name`, its beginning above all (`file` means `filesystem`), of equals the one with fewest letters to
/// change; empty if there are none.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> &'a str {
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let lower = candidate.to_lowercase();
            (strsim::jaro_winkler(&name, &lower), strsim::damerau_levenshtein(&name, &lower), candidate)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)))
        .map_or("", |(.., candidate)| candidate)
}
