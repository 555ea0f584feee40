//! What a step did.

/// A position that a step has filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Revealed {
    /// In which canvas of the batch.
    pub canvas: usize,
    /// Where.
    pub position: usize,
    /// With what.
    pub token: u32,
    /// Its probability under the model, before temperature and truncation.
    pub probability: f64,
    /// Entropy of the model's prediction there, nats.
    pub entropy: f64,
}

/// A position that a step has masked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remasked {
    /// In which canvas of the batch.
    pub canvas: usize,
    /// Where.
    pub position: usize,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included. A window that is full before its last step skips the rest.
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
