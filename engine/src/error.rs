//! The crate's one error type: variants carry data, [`Error::code`] is stable for scripts and
//! JavaScript, [`Error::hint`] says what to try next.

use std::path::{Path, PathBuf};

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong because of input, files or the device.
///
/// ```
/// use mdlm_engine::Error;
///
/// let error = Error::config("model.length", 0, "must be at least 1");
/// assert_eq!(error.code(), "config");
/// println!("{error}{}", error.hint().map_or(String::new(), |hint| format!(" ({hint})")));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable GPU adapter was found.
    #[error("no GPU adapter for \"{wanted}\"; found: {found}")]
    NoAdapter {
        /// What was asked for: `gpu`, `adapter 1`, a name, or the adapter that refused.
        wanted: String,
        /// The machine's adapters, or `none`; with the driver's words if one refused.
        found: String,
    },
    /// The device lacks something the plan needs.
    #[error("{what}: needs {need}, the device has {have}")]
    Unsupported {
        /// Feature, limit or tensor.
        what: String,
        /// What is needed of it, in the unit that `what` names.
        need: u64,
        /// What the device has of it.
        have: u64,
    },
    /// The GPU went away.
    #[error("the GPU device was lost during {during}: {reason}")]
    DeviceLost {
        /// The driver's words.
        reason: String,
        /// What was running, such as `allocation` or `readback`.
        during: &'static str,
    },
    /// An allocation failed.
    #[error("out of memory: {what} needs {bytes} bytes")]
    OutOfMemory {
        /// What was being allocated, such as `arena ema in the machine's memory`.
        what: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A tensor has the wrong shape.
    #[error("{op}: {tensor} has shape {got:?}, expected {expected}")]
    Shape {
        /// The operation that refused it.
        op: &'static str,
        /// The tensor's name.
        tensor: String,
        /// What would fit, such as `[n, 64]` or `at least 3 rows`.
        expected: String,
        /// The shape that was given, or the number of elements alone.
        got: Vec<usize>,
    },
    /// A token id is outside the vocabulary.
    #[error("token {id} at position {position} is not below the vocabulary size {vocab_size}")]
    Token {
        /// The first id that is too large.
        id: u32,
        /// Vocabulary size including the mask.
        vocab_size: usize,
        /// Its index among the tokens that were given.
        position: usize,
    },
    /// A configuration value that cannot work.
    #[error("config {key} = {value}: {problem}")]
    Config {
        /// Dotted key, such as `training.batch`.
        key: String,
        /// Its value, as text.
        value: String,
        /// What is wrong, to be read after the value: `must be at least 1`.
        problem: String,
    },
    /// An argument of a call that cannot work.
    #[error("{name} = {value}: {problem}")]
    Argument {
        /// What was given, such as `canvas length`; not always the name of a parameter.
        name: String,
        /// Its value, as text.
        value: String,
        /// What is wrong, to be read after the value: `must be at least 1`.
        problem: String,
    },
    /// Something that does one call at a time has not ended the last one.
    #[error("{what} is busy: a call is still running, await it first")]
    Busy {
        /// What was called, such as `the model`.
        what: &'static str,
    },
    /// A checkpoint file that cannot be used.
    #[error("checkpoint {}{}: {problem}", path.display(), tensor.as_ref().map(|t| format!(", tensor {t}")).unwrap_or_default())]
    Checkpoint {
        /// File or folder.
        path: PathBuf,
        /// The tensor at fault; `None` if it is the file or folder as a whole.
        tensor: Option<String>,
        /// What is wrong, without path and tensor.
        problem: String,
    },
    /// Text or a tokenizer that cannot be used.
    #[error("{}: {problem}", path.display())]
    Corpus {
        /// The file; `text` or `tokenizer.json` for what came from memory.
        path: PathBuf,
        /// What is wrong, with the line, byte or field if that is known.
        problem: String,
    },
    /// Training stopped because too many steps in a row were not finite.
    #[error("{quantity} was not finite for {skipped} steps in a row up to step {step}{}", first.as_ref().map(|first| format!("; first was {first}")).unwrap_or_default())]
    NonFinite {
        /// Step at which it stopped.
        step: u64,
        /// What was not finite, such as `gradient`.
        quantity: &'static str,
        /// Steps skipped in a row.
        skipped: u64,
        /// The first tensor, in the order of computation, that is not finite when the step is computed again, with the
        /// place in it and the value there; `None` if that could not be done.
        first: Option<String>,
    },
    /// One of several that train together went no further.
    #[error("rank {rank} {problem}")]
    RankLost {
        /// Its number, from 0.
        rank: usize,
        /// What happened to it, to be read after its number: `has ended`.
        problem: String,
    },
    /// Those that would train together are not about the same run.
    #[error("rank {rank} cannot take part: its {problem}")]
    RanksDiffer {
        /// The first one that differs from rank 0.
        rank: usize,
        /// What differs, with both sides of it.
        problem: String,
    },
    /// An operating-system error on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What was being done, such as `read`.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A published model could not be downloaded.
    #[error("cannot download {what}: {problem}")]
    Hub {
        /// Repository and file, such as `kuleshov-group/mdlm-owt/config.json`.
        what: String,
        /// The hub's answer, or why it cannot be reached.
        problem: String,
    },
    /// The caller asked to stop before there was a result.
    #[error("cancelled")]
    Cancelled,
    /// A bug in this crate, or in code that builds graphs with it; the text says where.
    #[error("internal error (please report it): {0}")]
    Internal(String),
}

impl Error {
    /// Stable short name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoAdapter { .. } => "no_adapter",
            Self::Unsupported { .. } => "unsupported",
            Self::DeviceLost { .. } => "device_lost",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::Shape { .. } => "shape",
            Self::Token { .. } => "token",
            Self::Config { .. } => "config",
            Self::Argument { .. } => "argument",
            Self::Busy { .. } => "busy",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Corpus { .. } => "corpus",
            Self::NonFinite { .. } => "non_finite",
            Self::RankLost { .. } => "rank_lost",
            Self::RanksDiffer { .. } => "ranks_differ",
            Self::Io { .. } => "io",
            Self::Hub { .. } => "hub",
            Self::Cancelled => "cancelled",
            Self::Internal(_) => "internal",
        }
    }

    /// A next step for a person, where there is one.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoAdapter { .. } => {
                "install a Vulkan driver (Debian: apt install mesa-vulkan-drivers; NVIDIA and AMD: the vendor's driver; \
                 macOS and Windows have one built in), or use --device cpu"
            }
            Self::Unsupported { what, .. } | Self::OutOfMemory { what, .. } => size_hint(what),
            Self::DeviceLost { .. } => {
                "a run's last checkpoint is whole: train again with --resume; if it repeats, lower the batch size or \
                 update the driver"
            }
            Self::Checkpoint { path, .. } if of_run(path) => {
                "name the run's folder, so that its newest whole checkpoint is taken, or an earlier checkpoint"
            }
            Self::NonFinite { .. } => {
                "begin a new run with a lower optim.lr or optim.clip; --init takes the weights of this one's last checkpoint, if it has one"
            }
            Self::RankLost { .. } => {
                "the run's last checkpoint is whole: start all ranks again with --resume, as many as there are devices left"
            }
            Self::RanksDiffer { .. } => "start all ranks with the same program, settings and files",
            Self::Hub { .. } => {
                "check the network (HF_ENDPOINT names a mirror of the hub, HF_HOME its cache), or bring the repository's \
                 config.json, model.safetensors and tokenizer.json into one folder by other means and name that folder"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Makes an [`Error::Config`].
    pub fn config(
        key: impl Into<String>,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> Self {
        Self::Config {
            key: key.into(),
            value: value.to_string(),
            problem: problem.into(),
        }
    }

    /// Makes an [`Error::Argument`].
    pub fn argument(
        name: impl Into<String>,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> Self {
        Self::Argument {
            name: name.into(),
            value: value.to_string(),
            problem: problem.into(),
        }
    }

    /// Makes a closure that wraps an I/O error with its path and action.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    /// Makes an [`Error::Checkpoint`].
    pub fn checkpoint(path: &Path, tensor: Option<&str>, problem: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_owned(),
            tensor: tensor.map(str::to_owned),
            problem: problem.into(),
        }
    }

    /// Makes an [`Error::Corpus`].
    pub fn corpus(path: &Path, problem: impl Into<String>) -> Self {
        Self::Corpus {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

/// Whether a path leads into a checkpoint of a run.
fn of_run(path: &Path) -> bool {
    let named = |part: &std::ffi::OsStr| part.to_string_lossy().starts_with("checkpoint-");
    path.iter().any(named)
}

/// How [`Error::Unsupported`] begins to tell of a parameter.
pub(crate) const OF_PARAMETER: &str = "bytes of parameter ";
/// How [`Error::OutOfMemory`] ends to tell of the machine's own memory.
pub const ON_CPU: &str = "in the machine's memory";

/// What makes something smaller that is too large.
fn size_hint(what: &str) -> &'static str {
    let arena = what.starts_with("arena ");
    match what.ends_with(ON_CPU) {
        _ if what.starts_with(OF_PARAMETER) => {
            "its size follows from the vocabulary and model.hidden_size: take a tokenizer with fewer tokens or a smaller \
             model (--preset, --set model.hidden_size=...), or use --device cpu"
        }
        true if arena => "take a smaller model (--preset, --set model.hidden_size=...)",
        false if arena => {
            "take a smaller model (--preset, --set model.hidden_size=...), or use --device cpu"
        }
        true => {
            "lower the batch size or the length, and raise training.accumulation to keep the global batch"
        }
        false if what.starts_with("bytes of ") || !what.contains(" per ") => {
            "lower the batch size or the length, and raise training.accumulation to keep the global batch, or use \
             --device cpu"
        }
        false => "this device cannot run the kernels: take another one, or use --device cpu",
    }
}
