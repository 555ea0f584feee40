//! The sampler, over one canvas.

use serde::Serialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;

use super::convert::{object, options};
use super::error::{JsResult, thrown};
use super::model::{Model, Shared, from_js, to_js};
use super::types::{JsCanvas, SampleOptions, StepReport};
use crate::config::SampleConfig;
use crate::sample::{Canvas, Sampler as Inner};

/// Fills a canvas step by step.
#[wasm_bindgen]
pub struct Sampler {
    model: Shared,
    inner: Inner<Shared>,
}

#[derive(Serialize)]
struct Revealed {
    position: usize,
    token: u32,
    probability: f64,
    entropy: f64,
}

#[derive(Serialize)]
struct Report {
    step: usize,
    steps: usize,
    t: f64,
    alpha_t: f64,
    revealed: Vec<Revealed>,
    remasked: Vec<usize>,
    masked: usize,
    network_calls: usize,
}

#[wasm_bindgen]
impl Sampler {
    /// A sampler of `model` for the open positions of `canvas`.
    #[wasm_bindgen(constructor)]
    pub fn new(model: &Model, canvas: &JsCanvas, settings: SampleOptions) -> JsResult<Sampler> {
        let model = model.0.clone();
        let canvas = from_js(canvas, model.facts.mask_index)?;
        let config: SampleConfig = options("sampling", &settings)?;
        let inner = Inner::new(model.clone(), vec![canvas], &config).map_err(thrown)?;
        Ok(Self { model, inner })
    }

    /// Does the next step; `undefined` when there is nothing left to do.
    pub async fn step(&mut self) -> JsResult<Option<StepReport>> {
        let Some(report) = self.inner.step().await.map_err(thrown)? else {
            return Ok(None);
        };
        let revealed = report.revealed.iter().map(|r| Revealed {
            position: r.position,
            token: r.token,
            probability: r.probability,
            entropy: r.entropy,
        });
        let made = object(&Report {
            step: report.step,
            steps: report.steps,
            t: report.t,
            alpha_t: self.model.facts.schedule.alpha_t(report.t),
            revealed: revealed.collect(),
            remasked: report.remasked.iter().map(|r| r.position).collect(),
            masked: report.masked,
            network_calls: report.network_calls,
        })?;
        Ok(Some(made.unchecked_into()))
    }

    /// Masks positions again and opens them, frozen ones too. What is masked is filled anew from t = 1 on,
    /// with `settings`; steps and calls count from 0.
    pub fn reopen(&mut self, positions: &[usize], settings: SampleOptions) -> JsResult<()> {
        let mut canvas = self.inner.canvas().clone();
        for &position in positions {
            canvas
                .reopen(position..position.saturating_add(1))
                .map_err(thrown)?;
        }
        self.restart(canvas, settings)
    }

    /// Freezes positions that hold a token; goes on as `reopen` does.
    pub fn freeze(&mut self, positions: &[usize], settings: SampleOptions) -> JsResult<()> {
        let mut canvas = self.inner.canvas().clone();
        for &position in positions {
            canvas
                .freeze(position..position.saturating_add(1))
                .map_err(thrown)?;
        }
        self.restart(canvas, settings)
    }

    fn restart(&mut self, canvas: Canvas, settings: SampleOptions) -> JsResult<()> {
        let config: SampleConfig = options("sampling", &settings)?;
        self.inner = Inner::new(self.model.clone(), vec![canvas], &config).map_err(thrown)?;
        Ok(())
    }

    /// The canvas as it stands.
    pub fn canvas(&self) -> JsResult<JsCanvas> {
        to_js(self.inner.canvas(), self.model.facts.mask_index)
    }

    /// Its text; masks read `_`.
    pub fn text(&self) -> JsResult<String> {
        Ok(self.inner.canvas().text(self.model.tokenizer()?))
    }
}
