//! Errors of this crate: what the rooms below report, and what a caller does wrong.

use eagre_engine::EngineError;
use eagre_sql::error::Location;

/// What can go wrong with a session, a statement or a pipeline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text of a statement, or what it asks for.
    #[error(transparent)]
    Sql(#[from] eagre_sql::error::SqlError),
    /// A pipeline while it ran.
    #[error(transparent)]
    Engine(#[from] eagre_engine::EngineError),
    /// A connector's options or data.
    #[error(transparent)]
    Connector(#[from] eagre_connectors::ConnectorError),
    /// DataFusion, while it sorted a final result.
    #[error("{0}")]
    DataFusion(#[from] datafusion::error::DataFusionError),
    /// A frame of polars that makes no table, or a result that makes no frame.
    #[cfg(feature = "polars")]
    #[error("{0}")]
    Frame(Box<eagre_frames::FrameError>),
    /// A call or a command that does not fit.
    #[error("{message}")]
    Usage {
        /// What does not fit, and the way out.
        message: String,
    },
    /// Arguments of the command that do not fit: exit code 2.
    #[error("{message}")]
    CommandLine {
        /// What does not fit, and the way out.
        message: String,
    },
    /// A file that cannot be read or written.
    #[error("`{path}`: {error}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
}

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A stable word for programs (`--errors json`).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sql(error) => error.code(),
            Self::Engine(error) => error.code(),
            Self::Connector(error) => error.code(),
            Self::DataFusion(_) => "datafusion",
            #[cfg(feature = "polars")]
            Self::Frame(_) => "frame",
            Self::Usage { .. } | Self::CommandLine { .. } => "usage",
            Self::File { .. } => "file",
        }
    }

    /// Line and column in the text of the statements, where known.
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Sql(error) => error.location(),
            Self::Engine(error) => {
                let (line, column) = error.place()?.location?;
                Some(Location::new(line, column))
            }
            _ => None,
        }
    }

    /// A [`Error::CommandLine`].
    pub(crate) fn command_line(message: impl Into<String>) -> Self {
        Self::CommandLine { message: message.into() }
    }

    /// Whether it says that whoever reads our standard output has gone.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        match self {
            Self::File { error, .. } => error.kind() == std::io::ErrorKind::BrokenPipe,
            // What a sink of the engine says is text by the time it comes here.
            Self::Engine(EngineError::Sink { message, .. }) => {
                message.starts_with("cannot write to standard output") && message.contains("Broken pipe")
            }
            _ => false,
        }
    }

    /// A [`Error::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }
}
