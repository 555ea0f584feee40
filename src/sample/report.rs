//! What a step did.

/// A position that a step has filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Revealed {
    /// Index of the canvas in its batch; 0 for a single one.
    pub canvas: usize,
    /// Position in that canvas, from 0.
    pub position: usize,
    /// Token that stands there now.
    pub token: u32,
    /// Its probability under the model, before temperature and truncation.
    pub probability: f64,
    /// Entropy of the model's prediction there, nats.
    pub entropy: f64,
}

/// A position that a step has masked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remasked {
    /// Index of the canvas in its batch; 0 for a single one.
    pub canvas: usize,
    /// Position in that canvas, from 0.
    pub position: usize,
}

/// What a step did.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use mdlm::{Canvas, Device, Model, SampleConfig, StepReport, blocking::wait};
///
/// # let config = mdlm::ModelConfig {
/// #     vocab_size: 20,
/// #     mask_index: 19,
/// #     hidden_size: 32,
/// #     n_blocks: 1,
/// #     length: 16,
/// #     ..mdlm::ModelConfig::default()
/// # };
/// let mut model = wait(Model::new(&Device::cpu(), &config, 1))?;
/// let sampler = model.sampler(Canvas::open(16), &SampleConfig::default())?;
/// // leaves half of the positions masked
/// let canvas = wait(sampler.finish(|report: &StepReport| match report.masked > 8 {
///     true => ControlFlow::Continue(()),
///     false => ControlFlow::Break(()),
/// }))?;
/// assert!(canvas.masked().len() <= 8);
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included. A window that is full before its last step skips the rest; what a constraint leaves
    /// masked in the last step takes further calls that count as it.
    pub step: usize,
    /// Steps in all; 0 where the sampler takes as many as it needs.
    pub steps: usize,
    /// Diffusion time after the step, of the canvas that is least advanced. Samplers without a
    /// time say which share of the window's open positions is masked.
    pub t: f64,
    /// What was revealed, by canvas and position.
    pub revealed: Vec<Revealed>,
    /// What was masked again, by canvas and position.
    pub remasked: Vec<Remasked>,
    /// Positions still masked, in all canvases.
    pub masked: usize,
    /// Network calls so far.
    pub network_calls: usize,
}
