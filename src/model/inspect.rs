//! What is known of a model before its weights are read.

use std::sync::Arc;

use crate::config::{SampleConfig, SamplerKind};
use crate::device::Device;
use crate::error::Result;
use crate::graph::PARAMS;
use crate::io::files::Files;
#[cfg(not(target_arch = "wasm32"))]
use crate::model::load::find_in;
use crate::model::load::{Found, Kind, Load, find_published, ids};
use crate::model::network::NO_LIMIT;
use crate::model::trunks::Dit;
use crate::model::{Among, DrawGraph, Network, Options, Trunk};
use crate::process::Noise;
use crate::program::Element;
use mdlm_engine::gpu::DeviceClass;

/// What the files of a model say, its weights apart.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// `mdlm`, `ar`, or the `model_type` of another program's model.
    pub model_type: String,
    /// The network.
    pub trunk: Arc<dyn Trunk>,
    /// Its parameters.
    pub parameters: u64,
    /// Rows of its head.
    pub vocab_size: usize,
    /// Ids below this one stand for something.
    pub ids: usize,
    /// Id of the mask.
    pub mask_index: u32,
    /// Tokens of the longest sequence.
    pub length: usize,
    /// Whether a row's logits are about the token behind it.
    pub shift: bool,
    /// Positions of the blocks that do not see those behind them; `None`: every row sees all it was made to see.
    pub block: Option<usize>,
    /// How it is sampled unless told otherwise.
    pub sampling: SampleConfig,
    /// Of noise that also changes tokens for others: their share at the middle of time.
    pub p_uniform: Option<f64>,
    /// Name of the weights' file; there may be an index in its place.
    pub weights: String,
    /// Matrices of a GGUF file, and what they rest in unless told otherwise; those of folders rest in f32.
    pub elements: Vec<(String, Element)>,
}

/// Reads what a model's files say, and none of its weights.
///
/// # Errors
/// As [`Model::load_with`](crate::Model::load_with).
#[cfg(not(target_arch = "wasm32"))]
pub fn inspect(path: &std::path::Path, how: &Load) -> Result<Inspected> {
    describe(crate::blocking::wait(find_in(path, how))?.0)
}

/// As [`inspect`], of the files of a published model, wherever they lie.
///
/// # Errors
/// As [`Model::load_files`](crate::Model::load_files).
pub async fn inspect_files(files: &impl Files, how: &Load) -> Result<Inspected> {
    describe(find_published(files, how).await?)
}

fn describe(found: Found) -> Result<Inspected> {
    #[cfg_attr(target_arch = "wasm32", expect(unused_mut))]
    let mut elements = Vec::new();
    let mut p_uniform = None;
    let (model_type, trunk, mask_index, shift, block, sampling) = match found.kind {
        Kind::Own(described) => {
            let config = described.model;
            config.validate()?;
            let (model_type, sampling) = match config.autoregressive() {
                true => (
                    "ar",
                    SampleConfig {
                        sampler: SamplerKind::LEFT_TO_RIGHT,
                        ..SampleConfig::default()
                    },
                ),
                false => ("mdlm", SampleConfig::default()),
            };
            let (mask, shift) = (config.mask_index, config.autoregressive());
            let trunk: Arc<dyn Trunk> = Arc::new(Dit::new(config));
            (model_type.to_owned(), trunk, mask, shift, None, sampling)
        }
        Kind::Other(other) => {
            let described = other.described;
            p_uniform = described.noise.map(Noise::p_uniform);
            #[cfg(not(target_arch = "wasm32"))]
            if let Some(model) = &other.gguf {
                elements = model.elements();
            }
            (
                described.model_type.clone(),
                described.trunk.clone(),
                other.mask_index,
                other.shift,
                other.block,
                described.sampling(other.block),
            )
        }
    };
    let network = Network::new(trunk.clone(), NO_LIMIT, Element::F32)?;
    let vocab_size = trunk.vocab_size();
    Ok(Inspected {
        model_type,
        parameters: network.layout.parameters(),
        vocab_size,
        ids: ids(found.tokenizer.as_ref(), &*trunk),
        mask_index,
        length: trunk.length(),
        shift,
        block,
        sampling,
        p_uniform,
        elements,
        trunk,
        weights: found.weights,
    })
}

impl Inspected {
    /// Reads the headers of the weights' files, which tell of missing and torn files and of tensors that do not fit.
    ///
    /// # Errors
    /// What loading would say of them.
    pub async fn check(&self, files: &impl Files) -> Result<()> {
        let network = Network::new(self.trunk.clone(), NO_LIMIT, Element::F32)?;
        network.check(files, &self.weights).await
    }

    /// Whether each parameter fits a buffer of a device.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] that names one that does not.
    pub fn fits(&self, device: &Device, weights: Element) -> Result<()> {
        Network::new(self.trunk.clone(), device.room(), weights).map(drop)
    }

    /// Bytes of the weights on a device, and of all that sampling a canvas of `length` tokens needs; `weights` as
    /// [`Load::weights`].
    ///
    /// # Errors
    /// [`crate::Error::Argument`] for a length that the network does not take.
    pub fn bytes(&self, weights: Option<Element>, length: usize) -> Result<[u64; 2]> {
        let own = match weights {
            None => &self.elements[..],
            Some(_) => &[],
        };
        let weights = weights.unwrap_or_default();
        let network = Network::with_elements(self.trunk.clone(), NO_LIMIT, weights, own)?;
        let alone = network
            .layout
            .slabs()
            .iter()
            .map(|slab| slab.bytes_in(PARAMS))
            .sum();
        let options = Options::of(1, length);
        let graph = DrawGraph::new(&network, options, Among::all(&*self.trunk))?.graph;
        Ok([
            alone,
            graph.report(DeviceClass::Portable, &[PARAMS])?.total_bytes,
        ])
    }
}
