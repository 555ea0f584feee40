//! How long work reports to whoever drives it: a progress bar, a log, a terminal picture or a page.

/// Something worth telling the user.
///
/// ```
/// use mdlm::{Corpus, Device, Event, Flow, Tokenizer, TrainConfig, Trainer, blocking::wait};
/// # use mdlm::progress::Silent;
/// # let tokenizer = Tokenizer::characters("to be or not");
/// # let corpus = Corpus::from_texts(tokenizer, &["to be or not to be"; 9], &["not to be or to be"; 2], 16, &mut Silent)?;
/// # let mut config = TrainConfig::default();
/// # (config.model.length, config.model.hidden_size, config.model.n_blocks) = (16, 32, 1);
/// # (config.training.steps, config.training.batch) = (2, 4);
/// let mut trainer = wait(Trainer::new(&Device::cpu(), &config, corpus))?;
/// let mut losses = Vec::new();
/// let folder = std::env::temp_dir().join(format!("mdlm-event-{}", std::process::id()));
/// wait(trainer.run(&folder, &mut |event: &Event| {
///     if let Event::Step(stats) = event {
///         losses.push(stats.loss);
///     }
///     Flow::Continue
/// }))?;
/// assert_eq!(losses.len(), 2);
/// # std::fs::remove_dir_all(&folder).ok();
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A phase has done `done` of `total` units of work.
    Progress {
        /// What is being done, such as `tokenizing`.
        what: &'static str,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// An optimiser step has ended.
    Step(StepStats),
    /// Validation has ended.
    Validation {
        /// Steps trained so far.
        step: u64,
        /// Perplexity of the EMA weights.
        ppl: f64,
        /// Standard error of the perplexity; none of a single block.
        std_err: Option<f64>,
    },
    /// A checkpoint lies on disk.
    Saved {
        /// Steps trained so far.
        step: u64,
        /// Its folder.
        path: std::path::PathBuf,
    },
    /// One line for the user.
    Message(String),
}

/// Figures of one optimiser step.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepStats {
    /// 1-based number of the step.
    pub step: u64,
    /// Mean loss over all tokens of the global batch, nats.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Global gradient norm before clipping.
    #[serde(deserialize_with = "number")]
    pub grad_norm: f64,
    /// Tokens seen so far, in all steps.
    pub tokens: u64,
    /// Steps skipped so far because their gradient was not finite.
    pub skipped: u64,
}

/// A number of a skipped step may not be finite, which JSON can only write as `null`.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(<Option<f64> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What the driver wants next.
///
/// ```
/// use mdlm::{Event, Flow};
///
/// // an observer that ends a run after its hundredth step
/// let observer = |event: &Event| match event {
///     Event::Step(stats) if stats.step >= 100 => Flow::Stop,
///     _ => Flow::Continue,
/// };
/// # let progress = Event::Progress { what: "tokenizing", done: 1, total: 2 };
/// # assert_eq!(observer(&progress), Flow::Continue);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Finish the current step, save and return.
    Stop,
}

/// Receives [`Event`]s; its answer may ask to stop.
///
/// ```
/// use mdlm::{Event, Flow, Observer};
///
/// struct Losses(Vec<f64>);
///
/// impl Observer for Losses {
///     fn event(&mut self, event: &Event) -> Flow {
///         if let Event::Step(stats) = event {
///             self.0.push(stats.loss);
///         }
///         Flow::Continue
///     }
/// }
/// # let mut losses = Losses(Vec::new());
/// # losses.event(&Event::Progress { what: "tokenizing", done: 1, total: 2 });
/// # assert!(losses.0.is_empty());
/// ```
pub trait Observer {
    /// Called on the thread that does the work.
    fn event(&mut self, event: &Event) -> Flow;
}

impl<F: FnMut(&Event) -> Flow> Observer for F {
    fn event(&mut self, event: &Event) -> Flow {
        self(event)
    }
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) -> Flow {
        Flow::Continue
    }
}
