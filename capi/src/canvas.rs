//! Canvases as C holds them: each knows its model, whose tokens it has.

use std::sync::{Arc, Mutex};

use mdlm::Result;

use crate::border::Status;
use crate::handle::{Handle, Table};
use crate::model::{Model, broken};

/// Tokens and masks of a model. Frozen positions keep their token; open ones are filled by a sampler.
pub struct Canvas {
    pub(crate) model: Arc<Model>,
    canvas: Mutex<mdlm::Canvas>,
}

impl Handle for Canvas {
    const NAME: &'static str = "canvas";

    fn table() -> &'static Table<Self> {
        static ALL: Table<Canvas> = Table::new();
        &ALL
    }
}

impl Canvas {
    pub(crate) fn new(model: Arc<Model>, canvas: mdlm::Canvas) -> Self {
        Self {
            model,
            canvas: Mutex::new(canvas),
        }
    }

    /// Tokens, the model's mask where positions are open, each frozen or not.
    pub(crate) fn of(model: Arc<Model>, tokens: &[u32], frozen: Option<&[u8]>) -> Self {
        let mask = model.facts.mask_index;
        let position = |(at, &token): (usize, &u32)| {
            let frozen = frozen.is_none_or(|frozen| frozen[at] != 0);
            ((token != mask).then_some(token), frozen)
        };
        let canvas = mdlm::Canvas::of(tokens.iter().enumerate().map(position));
        Self::new(model, canvas)
    }

    /// A copy as it stands.
    pub(crate) fn copy(&self) -> Result<mdlm::Canvas> {
        Ok(self.canvas.lock().map_err(|_| broken())?.clone())
    }

    /// Changes it, unless that fails.
    pub(crate) fn change(
        &self,
        change: impl FnOnce(&mut mdlm::Canvas) -> Result<()>,
    ) -> Result<Status> {
        change(&mut *self.canvas.lock().map_err(|_| broken())?)?;
        Ok(Status::Ok)
    }
}
