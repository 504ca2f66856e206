//! Errors of the engine, split by *who must act*: the query, the data, the environment, or us.

use std::fmt;

use arrow::error::ArrowError;

/// The result type of this crate.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// What can go wrong while a pipeline runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A device that was asked for cannot be had.
    #[error("`eagre.device` is 'gpu', and there is none to use: {reason}; set it to 'auto' or 'cpu'")]
    Device {
        /// Why.
        reason: String,
    },
    /// An expression failed on a row for a reason that lies in the query or the data: the message names it.
    #[error("{place}`{operator}`: {message}")]
    Evaluate {
        /// Where it stands in the text of the statements.
        place: Place,
        /// The operator that evaluated.
        operator: String,
        /// What failed, with the value.
        message: String,
    },
    /// A kernel of arrow refused its input.
    #[error("arrow: {0}")]
    Arrow(#[from] ArrowError),
    /// A source could not be read on.
    #[error("table `{table}`: {message}")]
    Source {
        /// The table whose source failed.
        table: String,
        /// What failed, and the way out.
        message: String,
    },
    /// A table outside that a pipeline asks did not answer.
    #[error("table `{table}`: {message}")]
    Lookup {
        /// The table that was asked.
        table: String,
        /// What failed, and the way out.
        message: String,
    },
    /// A sink refused rows or could not publish them.
    #[error("sink `{table}`: {message}")]
    Sink {
        /// The table whose sink failed.
        table: String,
        /// What failed, and the way out.
        message: String,
    },
    /// The checkpoint store failed.
    #[error("checkpoint store: {message}")]
    Store {
        /// What failed, with the path.
        message: String,
    },
    /// A checkpoint that cannot be used: damaged, of another version or of another query.
    #[error("checkpoint: {message}")]
    Checkpoint {
        /// What does not fit, and the way out.
        message: String,
    },
    /// A setting with an unknown name or a value that it cannot have.
    #[error("{message}")]
    Setting {
        /// Names the setting, the value and the way out.
        message: String,
    },
    /// A pipeline that cannot be built as described: the query must change.
    #[error("{message}")]
    Plan {
        /// Names the construct, the value and the way out.
        message: String,
    },
    /// A stated bound was reached (memory, state).
    #[error("{place}{message}")]
    Limit {
        /// Where what reached it stands in the text of the statements.
        place: Place,
        /// Names the bound, its value and the setting that raises it.
        message: String,
    },
    /// The state of the pipeline is larger than `eagre.memory.max`.
    #[error(
        "the state of the pipeline holds {held} bytes{largest}, and `eagre.memory.max` allows {max}; raise it (with a state folder the \
         pipeline goes on where it stopped), or bound the state with a window, a watermark or fewer keys"
    )]
    Memory {
        /// Bytes of state.
        held: u64,
        /// Bytes allowed.
        max: u64,
        /// The operator that holds most, as a clause.
        largest: String,
    },
    /// An invariant of the engine does not hold: a bug in eagre.
    #[error("a bug in eagre: {0}; please report it with the query")]
    Bug(String),
}

/// Where in the text of the statements an error of a running pipeline arose; the text is empty where that is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Line and column, both from 1.
    pub location: Option<(u64, u64)>,
    /// The statement, as in `"statement 2 (SELECT)"`.
    pub statement: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location {
            Some((line, column)) => write!(f, "line {line}, column {column}: "),
            None if self.statement.is_empty() => Ok(()),
            None => write!(f, "{}: ", self.statement),
        }
    }
}

impl EngineError {
    /// An [`EngineError::Evaluate`] whose place is not known.
    pub fn evaluate(operator: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::Evaluate { place: Place::default(), operator: operator.into(), message: message.to_string() }
    }

    /// An [`EngineError::Limit`] whose place is not known.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::Limit { place: Place::default(), message: message.into() }
    }

    /// Where it arose, if errors of its kind have a place.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Evaluate { place, .. } | Self::Limit { place, .. } => Some(place),
            _ => None,
        }
    }

    fn place_mut(&mut self) -> Option<&mut Place> {
        match self {
            Self::Evaluate { place, .. } | Self::Limit { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The same error, which arose here unless it says where it did.
    pub(crate) fn or_at(mut self, here: &Place) -> Self {
        if let Some(place) = self.place_mut()
            && place.location.is_none()
        {
            place.location = here.location;
        }
        self
    }

    /// The same error, of an operator of this statement.
    pub(crate) fn in_statement(mut self, name: &str) -> Self {
        if let Some(place) = self.place_mut()
            && place.statement.is_empty()
        {
            place.statement = name.to_owned();
        }
        self
    }

    /// A stable word for programs (`--errors json`).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Device { .. } => "device",
            Self::Evaluate { .. } => "evaluate",
            Self::Arrow(_) => "arrow",
            Self::Source { .. } => "source",
            Self::Lookup { .. } => "lookup",
            Self::Sink { .. } => "sink",
            Self::Store { .. } => "store",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Setting { .. } => "setting",
            Self::Plan { .. } => "plan",
            Self::Limit { .. } | Self::Memory { .. } => "limit",
            Self::Bug(_) => "bug",
        }
    }

    /// An [`EngineError::Bug`] from anything printable.
    pub fn bug(message: impl std::fmt::Display) -> Self {
        Self::Bug(message.to_string())
    }
}
