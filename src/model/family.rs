//! What a model is beside its network: one of this crate's, or one that another program trained.

use std::sync::Arc;

use crate::config::{ModelConfig, ModelKind, ObjectiveConfig, SampleConfig};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{Among, Backbone, Network};
use crate::ops::Never;
use crate::process::Hybrid;
use crate::program::Element;

/// How a model's rows were trained to see each other: those of a block, and those of the blocks before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blockwise {
    /// Positions of a block.
    pub size: usize,
    /// Whether blocks are counted from a canvas's beginning, so that the first one may hold the end of a prompt, or
    /// else from the end of the prompt.
    pub from_start: bool,
}

/// Whose network a model has.
#[derive(Clone, Debug)]
pub(crate) enum Family {
    /// This crate's, with its configuration.
    Own(Backbone),
    /// Another program's; they are loaded from files.
    Other(Box<Foreign>),
}

/// What is known of another program's model.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    /// Its kind, as its configuration has it.
    pub(crate) model_type: String,
    /// How it is sampled unless told otherwise.
    pub(crate) sampling: SampleConfig,
    pub(crate) network: Network,
    pub(crate) mask_index: u32,
    /// Whether a row's logits are about the token behind it.
    pub(crate) shift: bool,
    /// The blocks that it was trained to fill one after the other, if that is how.
    pub(crate) blocks: Option<Blockwise>,
    /// Ids that stand for something; the network may have more rows.
    pub(crate) ids: usize,
    /// Its noise, if that also changes tokens for others.
    pub(crate) hybrid: Option<Hybrid>,
}

impl Family {
    pub(crate) fn network(&self) -> &Network {
        match self {
            Self::Own(backbone) => &backbone.network,
            Self::Other(foreign) => &foreign.network,
        }
    }

    /// The same with an optimiser's state of such elements, see [`Layout::with_state`](crate::graph::Layout::with_state).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a tensor does not fit a slab.
    pub(crate) fn with_state(mut self, device: &Device, state: Element) -> Result<Self> {
        match &mut self {
            Self::Own(backbone) => {
                let layout = backbone.layout.with_state(device.slab_limit(), state)?;
                backbone.layout = Arc::new(layout);
                backbone.network.layout = backbone.layout.clone();
            }
            Self::Other(foreign) => {
                let layout = foreign.network.layout.with_state(device.room(), state)?;
                foreign.network.layout = Arc::new(layout);
            }
        }
        Ok(self)
    }

    /// What objectives and evaluations know of it.
    pub(crate) fn shape(&self) -> ModelConfig {
        match self {
            Self::Own(backbone) => backbone.config.clone(),
            Self::Other(foreign) => ModelConfig {
                kind: ModelKind::Published,
                vocab_size: foreign.network.trunk.vocab_size(),
                mask_index: foreign.mask_index,
                length: foreign.network.trunk.length(),
                ..ModelConfig::default()
            },
        }
    }

    /// What it was trained for, as far as that is known.
    pub(crate) fn objective(&self) -> ObjectiveConfig {
        match self {
            Self::Own(_) => ObjectiveConfig::default(),
            Self::Other(foreign) => ObjectiveConfig {
                shift: foreign.shift,
                block_size: foreign.blocks.map_or(0, |blocks| blocks.size),
                ..ObjectiveConfig::default()
            },
        }
    }

    /// Its noise, if that also changes tokens for others.
    pub(crate) fn hybrid(&self) -> Option<Hybrid> {
        match self {
            Self::Own(_) => None,
            Self::Other(foreign) => foreign.hybrid,
        }
    }

    /// An error for another program's model.
    pub(crate) fn own(&self) -> Result<&Backbone> {
        match self {
            Self::Own(backbone) => Ok(backbone),
            Self::Other(foreign) => {
                let problem = "is another program's model, and this is for this crate's own; what a run has made of it is \
                               exported from the run's folder";
                Err(Error::argument("model_type", &foreign.model_type, problem))
            }
        }
    }

    pub(crate) fn mask_index(&self) -> u32 {
        match self {
            Self::Own(backbone) => backbone.config.mask_index,
            Self::Other(foreign) => foreign.mask_index,
        }
    }

    /// How many rows behind the one that predicts it a token stands: 0 or 1.
    pub(crate) fn shift(&self) -> usize {
        let shifted = match self {
            Self::Own(backbone) => backbone.config.autoregressive(),
            Self::Other(foreign) => foreign.shift,
        };
        usize::from(shifted)
    }

    /// What may be drawn: any id that stands for something, but not the mask. The softmax of most other programs counts
    /// it.
    pub(crate) fn among(&self) -> Among {
        match self {
            Self::Own(backbone) => Among::all(&*backbone.network.trunk),
            Self::Other(foreign) => {
                let mask = Some(foreign.mask_index);
                let never = Never {
                    token: mask.filter(|&mask| (mask as usize) < foreign.ids),
                    counted: foreign.network.trunk.mask_index() != mask,
                };
                Among::new(foreign.ids, never)
            }
        }
    }
}
