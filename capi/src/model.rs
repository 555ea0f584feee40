//! Devices and models as C holds them, and a model as its samplers see it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use mdlm::blocking::wait;
use mdlm::model::Load;
use mdlm::sample::{self, Denoiser, DrawOptions, Drawn};
use mdlm::{Error, Result, SampleConfig, Tokenizer};

use crate::handle::{Handle, Table};

/// Where to compute.
pub struct Device(pub(crate) mdlm::Device);

impl Handle for Device {
    const NAME: &'static str = "device";

    fn table() -> &'static Table<Self> {
        static ALL: Table<Device> = Table::new();
        &ALL
    }
}

/// What does not change of a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Facts {
    /// Tokens have ids below this one.
    pub vocab_size: usize,
    /// Tokens of the longest window; canvases may be longer.
    pub length: usize,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of the weights on the device.
    pub bytes: u64,
    /// Id of the mask.
    pub mask_index: u32,
    /// Whether it writes from left to right and fills no gaps.
    pub autoregressive: bool,
}

/// A model with its weights on a device.
pub struct Model {
    lent: Mutex<mdlm::Model>,
    /// What samplers ask before they are made, so that none waits for another's step.
    read: sample::Facts,
    pub(crate) facts: Facts,
    pub(crate) model_type: String,
    pub(crate) sampling: SampleConfig,
    pub(crate) frame: [Option<u32>; 2],
    tokenizer: Option<Tokenizer>,
}

impl Handle for Model {
    const NAME: &'static str = "model";

    fn table() -> &'static Table<Self> {
        static ALL: Table<Model> = Table::new();
        &ALL
    }
}

impl Model {
    pub(crate) fn load(device: &Device, folder: &Path, weights: Option<&str>) -> Result<Self> {
        let how = Load {
            weights: weights.map(str::parse).transpose()?,
            ..Load::default()
        };
        let model = wait(mdlm::Model::load_with(&device.0, folder, &how))?;
        let size = model.info();
        Ok(Self {
            facts: Facts {
                vocab_size: model.vocab_size(),
                length: model.length(),
                parameters: size.parameters,
                bytes: size.bytes,
                mask_index: model.mask_index(),
                autoregressive: model.autoregressive(),
            },
            model_type: model.model_type().to_owned(),
            sampling: model.sampling(),
            frame: model.frame(),
            tokenizer: model.tokenizer().cloned(),
            read: model.facts(),
            lent: Mutex::new(model),
        })
    }

    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing = || Error::argument("tokenizer", "none", "the model came without one");
        self.tokenizer.as_ref().ok_or_else(missing)
    }
}

/// A model that its samplers use in turn.
pub(crate) struct Shared {
    pub(crate) model: Arc<Model>,
}

impl Denoiser for Shared {
    fn facts(&self) -> sample::Facts {
        self.model.read.clone()
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        let mut model = self.model.lent.lock().map_err(|_| broken())?;
        wait(model.draw(xt, t, rows, options))
    }
}

/// What is said of an object in which a call has panicked.
pub(crate) fn broken() -> Error {
    Error::Internal("an earlier call with it panicked".into())
}
