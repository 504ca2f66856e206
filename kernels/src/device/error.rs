//! What can go wrong with a device, split by who must act.

/// Why the device did not do the work. The twin does it then, so none of these loses anything.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Nothing that fits what was asked for.
    #[error(
        "no GPU adapter {asked}; found: {found}. Install a Vulkan, Metal or DirectX 12 driver, or set `eagre.device` to 'cpu'"
    )]
    NoAdapter {
        /// What was asked for.
        asked: String,
        /// All adapters that there are.
        found: String,
    },
    /// An adapter was found, but it does not give a device.
    #[error("adapter `{adapter}` gives no device: {reason}. Update its driver, or set `eagre.device` to 'cpu'")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// The self-test shows that this adapter computes this wrongly.
    #[error("adapter `{adapter}` is refused for {wanted}: {reason}")]
    Refused {
        /// The adapter's name.
        adapter: String,
        /// The class of kernels.
        wanted: String,
        /// What the self-test saw.
        reason: String,
    },
    /// The device is gone (reset, unplugged, driver crash). It has to be opened again.
    #[error("device `{adapter}` was lost: {reason}. It is opened again after a while")]
    Lost {
        /// The adapter's name.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// A wave took longer than it may; the device is not trusted any more.
    #[error("device `{adapter}` did not answer within {timeout_ms} ms. Raise the time-out, or make batches smaller")]
    Timeout {
        /// The adapter's name.
        adapter: String,
        /// How long it was waited for.
        timeout_ms: u64,
    },
    /// More than the device may hold by our own count.
    #[error(
        "{what} needs {asked_bytes} bytes on the device, which holds {held_bytes} of the {budget_bytes} that it may: raise \
         `eagre.gpu.memory`"
    )]
    OutOfBudget {
        /// What the memory was for.
        what: &'static str,
        /// How many bytes were asked for.
        asked_bytes: u64,
        /// How many are held.
        held_bytes: u64,
        /// How many may be held.
        budget_bytes: u64,
    },
    /// The driver has no memory although our own count allows it.
    #[error("{what}: the driver of `{adapter}` has no {asked_bytes} bytes left: lower `eagre.gpu.memory`")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// The adapter's name.
        adapter: String,
        /// How many bytes were asked for.
        asked_bytes: u64,
    },
    /// One thing is larger than the device binds at once.
    #[error("{what} has {bytes} bytes, and the device takes {limit_bytes} at once: make batches smaller")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        limit_bytes: u64,
    },
    /// A kernel binds what its shader does not take: a mistake in the kernel.
    #[error("`{program}.{entry}`: binding {binding}: {reason}")]
    Binding {
        /// The program's name.
        program: &'static str,
        /// The entry point.
        entry: &'static str,
        /// The binding's number in the shader.
        binding: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The driver, or the checks before it, refuse a command: a mistake in us or in the driver.
    #[error("{what} is not valid on `{adapter}`: {reason}")]
    Validation {
        /// What was being done.
        what: String,
        /// The adapter's name.
        adapter: String,
        /// What the checks say.
        reason: String,
    },
    /// As many waves are under way as may be.
    #[error("{waves} waves are under way, which is the most that there may be at a time")]
    Busy {
        /// How many.
        waves: usize,
    },
    /// A kernel could not record its work.
    #[error("{reason}")]
    Kernel {
        /// What the kernel says.
        reason: String,
    },
    /// The wave was dropped instead of being submitted.
    #[error("the wave was not submitted")]
    NotSubmitted,
}

/// [`DeviceError`] without its details, to count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No adapter, or one that gives no device.
    Open,
    /// The self-test refuses it.
    Refused,
    /// The device is gone.
    Lost,
    /// The device did not answer in time.
    Timeout,
    /// Over the byte budget, or the driver has no memory.
    Memory,
    /// A command or a binding that is not valid, or something too large to bind.
    Validation,
    /// Too many waves at a time.
    Busy,
    /// A kernel could not record its work, or nobody submitted it.
    Recording,
}

impl ErrorKind {
    /// All kinds, in the order of `index`.
    pub const ALL: [ErrorKind; 8] = [
        ErrorKind::Open,
        ErrorKind::Refused,
        ErrorKind::Lost,
        ErrorKind::Timeout,
        ErrorKind::Memory,
        ErrorKind::Validation,
        ErrorKind::Busy,
        ErrorKind::Recording,
    ];

    /// The kind's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Open => "open",
            ErrorKind::Refused => "refused",
            ErrorKind::Lost => "lost",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Memory => "memory",
            ErrorKind::Validation => "validation",
            ErrorKind::Busy => "busy",
            ErrorKind::Recording => "recording",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl DeviceError {
    /// The kind, to count by.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DeviceError::NoAdapter { .. } | DeviceError::Open { .. } => ErrorKind::Open,
            DeviceError::Refused { .. } => ErrorKind::Refused,
            DeviceError::Lost { .. } => ErrorKind::Lost,
            DeviceError::Timeout { .. } => ErrorKind::Timeout,
            DeviceError::OutOfBudget { .. } | DeviceError::OutOfMemory { .. } => ErrorKind::Memory,
            DeviceError::TooLarge { .. } | DeviceError::Binding { .. } | DeviceError::Validation { .. } => {
                ErrorKind::Validation
            }
            DeviceError::Busy { .. } => ErrorKind::Busy,
            DeviceError::Kernel { .. } | DeviceError::NotSubmitted => ErrorKind::Recording,
        }
    }
}

/// What a driver says, as one line: it goes into errors that are one line of a log.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
