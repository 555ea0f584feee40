//! Samplers as C holds them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use mdlm::blocking::wait;
use mdlm::{Error, Result, SampleConfig, StepReport, TrainConfig};

use crate::border::Status;
use crate::canvas::Canvas;
use crate::handle::{Handle, Table};
use crate::model::{Model, Shared, broken};

/// What a step did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Report {
    /// Steps done, this one included.
    pub step: usize,
    /// Steps in all; 0 where the sampler takes as many as it needs.
    pub steps: usize,
    /// Diffusion time after the step, from 1 down to 0.
    pub t: f64,
    /// Positions that the step has filled.
    pub revealed: usize,
    /// Positions that the step has masked again.
    pub remasked: usize,
    /// Positions that are still masked.
    pub masked: usize,
    /// Network calls so far.
    pub network_calls: usize,
}

impl From<&StepReport> for Report {
    fn from(report: &StepReport) -> Self {
        Self {
            step: report.step,
            steps: report.steps,
            t: report.t,
            revealed: report.revealed.len(),
            remasked: report.remasked.len(),
            masked: report.masked,
            network_calls: report.network_calls,
        }
    }
}

/// A position that a step has filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Revealed {
    /// Position in the canvas, from 0.
    pub position: usize,
    /// Its probability under the model, before temperature and truncation.
    pub probability: f64,
    /// Entropy of the model's prediction there, nats.
    pub entropy: f64,
    /// Token that stands there now.
    pub token: u32,
}

/// Fills a canvas step by step.
pub struct Sampler {
    model: Arc<Model>,
    sampler: Mutex<mdlm::Sampler<Shared>>,
    /// The canvas after the last step and what that has filled, for whoever looks while the next one is under way.
    shown: Mutex<(mdlm::Canvas, Vec<Revealed>)>,
    cancelled: AtomicBool,
}

impl Handle for Sampler {
    const NAME: &'static str = "sampler";

    fn table() -> &'static Table<Self> {
        static ALL: Table<Sampler> = Table::new();
        &ALL
    }
}

/// Settings, a `key=value` a line, over those of the model.
fn settings(text: &str, sampling: SampleConfig) -> Result<SampleConfig> {
    let mut all = TrainConfig {
        sampling,
        ..TrainConfig::default()
    };
    let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for line in text.lines().map(str::trim).filter(said) {
        all.set(&format!("sampling.{line}"))?;
    }
    Ok(all.sampling)
}

impl Sampler {
    pub(crate) fn new(canvas: &Canvas, text: &str) -> Result<Self> {
        let model = canvas.model.clone();
        let config = settings(text, model.sampling.clone())?;
        let canvas = canvas.copy()?;
        let shared = Shared {
            model: model.clone(),
        };
        Ok(Self {
            sampler: Mutex::new(mdlm::Sampler::new(shared, vec![canvas.clone()], &config)?),
            shown: Mutex::new((canvas, Vec::new())),
            cancelled: AtomicBool::new(false),
            model,
        })
    }

    /// The next step; `None` when nothing is left to do.
    pub(crate) fn step(&self) -> Result<Option<StepReport>> {
        let mut sampler = self.sampler.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::Busy {
                what: "the sampler",
            },
            TryLockError::Poisoned(_) => broken(),
        })?;
        let report = wait(sampler.step())?;
        let revealed = report.iter().flat_map(|report| &report.revealed);
        let revealed = revealed.map(|filled| Revealed {
            position: filled.position,
            probability: filled.probability,
            entropy: filled.entropy,
            token: filled.token,
        });
        let shown = (sampler.canvas().clone(), revealed.collect());
        *self.shown.lock().map_err(|_| broken())? = shown;
        Ok(report)
    }

    /// All steps that are left, unless `observe`, which may use the sampler too, or somebody else cancels.
    pub(crate) fn run(
        &self,
        mut observe: impl FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Status> {
        while !self.cancelled.swap(false, Ordering::AcqRel) {
            let Some(report) = self.step()? else {
                return Ok(Status::Done);
            };
            if observe(&report).is_break() {
                return Ok(Status::Cancelled);
            }
        }
        Ok(Status::Cancelled)
    }

    /// Ends the run that is under way, or the next one.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// The canvas after the last step.
    pub(crate) fn canvas(&self) -> Result<Canvas> {
        let canvas = self.shown.lock().map_err(|_| broken())?.0.clone();
        Ok(Canvas::new(self.model.clone(), canvas))
    }

    /// What the last step has filled.
    pub(crate) fn revealed(&self) -> Result<Vec<Revealed>> {
        Ok(self.shown.lock().map_err(|_| broken())?.1.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::Device;

    fn model() -> Arc<Model> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/model/mdlm");
        let device = Device(mdlm::Device::cpu());
        Arc::new(Model::load(&device, &folder, None).unwrap())
    }

    fn sampler(model: &Arc<Model>, text: &str, settings: &str) -> Sampler {
        let tokenizer = model.tokenizer().unwrap();
        let canvas = mdlm::Canvas::begin(text, tokenizer, 24).unwrap();
        Sampler::new(&Canvas::new(model.clone(), canvas), settings).unwrap()
    }

    #[test]
    fn a_step_during_a_step_is_refused() {
        let sampler = sampler(&model(), "Lily had a", "steps=4");
        let under_way = sampler.sampler.lock().unwrap();
        assert!(matches!(sampler.step(), Err(Error::Busy { .. })));
        // whoever looks does not wait
        assert_eq!(sampler.canvas().unwrap().copy().unwrap().len(), 24);
        drop(under_way);
        assert_eq!(sampler.step().unwrap().unwrap().step, 1);
    }

    #[test]
    fn a_cache_is_not_taken_for_another_canvas() {
        let model = model();
        let settings = |cache: &str| format!("cache={cache}\nblock=12\nsteps=12\ntemperature=0");
        let filled = |sampler: &Sampler| sampler.canvas().unwrap().copy().unwrap();
        let alone = sampler(&model, "Lily had a", &settings("off"));
        while alone.step().unwrap().is_some() {}
        // in turn, so that nothing that is kept is of the canvas that is read: as if nothing were kept
        let one = sampler(&model, "Lily had a", &settings("prefix"));
        let other = sampler(&model, "Tom saw the", &settings("prefix"));
        while one.step().unwrap().is_some() {
            other.step().unwrap();
        }
        assert_eq!(filled(&one), filled(&alone));
        assert_ne!(filled(&one), filled(&other));
    }
}
