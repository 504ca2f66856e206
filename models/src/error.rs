//! Errors of this room: what is wrong with a model when it is created. What is wrong with one row is a refusal, not an error.

/// The result type of this crate.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// An option that models do not have.
    #[error(
        "model `{model}`: option `{option}` is not known; {} options of models are listed by `SHOW MODEL OPTIONS`", did_you_mean(*nearest)
    )]
    UnknownOption {
        /// The model.
        model: String,
        /// The option as written.
        option: String,
        /// The known option that is spelt most alike, if one is.
        nearest: Option<&'static str>,
    },
    /// An option that must be there is not.
    #[error("model `{model}`: option `{option}` is missing: {meaning}; write `WITH (.., '{option}' = '{example}')`")]
    MissingOption {
        /// The model.
        model: String,
        /// The option.
        option: &'static str,
        /// What it says.
        meaning: &'static str,
        /// A value that works.
        example: &'static str,
    },
    /// A value that the option cannot have.
    #[error("model `{model}`: option `{option}` = '{value}' cannot be used: {expected}")]
    BadValue {
        /// The model.
        model: String,
        /// The option.
        option: String,
        /// The value as written.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// The file is no model of its format.
    #[error("model `{model}`: '{path}' is no {format} file that can be read: {reason}")]
    Damaged {
        /// The model.
        model: String,
        /// The file.
        path: String,
        /// Its format.
        format: &'static str,
        /// What the reader says.
        reason: String,
    },
    /// Operators of an ONNX graph that nothing here runs.
    #[error(
        "model `{model}`: '{path}' uses the ONNX operators {operators}, which are not there; export the model without them (classifiers of \
         scikit-learn with `zipmap=False`), or run it as a service"
    )]
    MissingOperators {
        /// The model.
        model: String,
        /// The file.
        path: String,
        /// Their names.
        operators: String,
    },
    /// Tensors, columns or labels that do not fit one another.
    #[error("model `{model}`: {message}")]
    Shape {
        /// The model.
        model: String,
        /// What does not fit what, and the way out.
        message: String,
    },
    /// Rows that nothing can be learnt from.
    #[error("model `{model}`: {message}")]
    Training {
        /// The model.
        model: String,
        /// What is wrong with them, and the way out.
        message: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or("the".to_owned(), |nearest| format!("did you mean `{nearest}`? The"))
}

impl ModelError {
    /// The option that is at fault, where one is.
    pub fn option(&self) -> Option<&str> {
        match self {
            Self::UnknownOption { option, .. } | Self::BadValue { option, .. } => Some(option),
            Self::Damaged { .. } | Self::MissingOperators { .. } => Some("path"),
            _ => None,
        }
    }
}
