//! What the configurations of other programs say, and what is the same in all of them.

use std::sync::Arc;

use crate::config::{ModelConfig, ModelKind, SampleConfig, SamplerKind};
use crate::model::Trunk;
use crate::model::trunks::Dit;
use crate::process::Noise;

/// What a `config.json` says.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its `model_type`, as it stands there.
    pub model_type: String,
    /// The network that it describes.
    pub trunk: Arc<dyn Trunk>,
    /// The mask's id; `None` where that is left to the tokenizer.
    pub mask_token: Option<u32>,
    /// Whether a row's logits are about the token behind it, as in the autoregressive model that it was made of.
    pub shift: bool,
    /// Positions of the blocks that do not see those behind them, if it says so (block diffusion).
    pub block: Option<usize>,
    /// Whether blocks are counted from a canvas's beginning when it is sampled.
    pub from_start: bool,
    /// Its noise, if that also changes tokens for others.
    pub noise: Option<Noise>,
}

impl Described {
    /// A model of a type, with what is the same in all of its type.
    pub(super) fn new(
        model_type: String,
        (trunk, mask_token): Found,
        block: Option<usize>,
    ) -> Self {
        let kind = model_type.to_lowercase();
        let sdar = kind == "sdar";
        Self {
            model_type,
            trunk,
            mask_token,
            shift: ["dream", "diffullama", "diffugpt"].contains(&kind.as_str()),
            // SDAR's were trained with blocks of 4 unless they say otherwise
            block: block.or(sdar.then_some(4)),
            from_start: sdar,
            noise: None,
        }
    }

    /// How the model is sampled unless told otherwise: as those who published it recommend, in blocks of 32 where they
    /// fill blocks, or in those that it was trained with.
    pub fn sampling(&self, block: Option<usize>) -> SampleConfig {
        let block = block.unwrap_or(32);
        let blocks = SampleConfig {
            steps: block,
            block,
            temperature: 0.0,
            ..SampleConfig::default()
        };
        match self.model_type.to_lowercase().as_str() {
            "llada" => SampleConfig {
                sampler: SamplerKind::CONFIDENCE,
                ..blocks
            },
            "sdar" => SampleConfig {
                sampler: SamplerKind::THRESHOLD,
                temperature: 1.0,
                ..blocks
            }
            .with("threshold", 0.85),
            kind @ ("diffugpt" | "diffullama") => SampleConfig {
                steps: 64,
                temperature: if kind == "diffugpt" { 0.95 } else { 0.9 },
                top_p: 0.9,
                ..SampleConfig::default()
            },
            "dit" | "udlm" | "duo" => SampleConfig {
                sampler: SamplerKind::HYBRID,
                ..SampleConfig::default()
            },
            "smdm" | "sdtt" => SampleConfig::default(),
            "dream" => SampleConfig {
                sampler: SamplerKind::DREAM_ENTROPY,
                temperature: 0.2,
                top_p: 0.95,
                ..SampleConfig::default()
            },
            _ => SampleConfig {
                sampler: SamplerKind::SCHEDULED,
                ..blocks
            },
        }
    }
}

/// A network and, if its configuration names it, the mask's id.
pub(super) type Found = (Arc<dyn Trunk>, Option<u32>);

/// MDLM's network in sizes of another program, with the mask behind all other ids.
pub(super) fn dit(prefix: &'static str, sizes: ModelConfig) -> Result<Dit, String> {
    let config = ModelConfig {
        kind: ModelKind::Dit,
        mask_index: (sizes.vocab_size as u32).saturating_sub(1),
        dropout: 0.0,
        vocab_multiple: 1,
        adaln: true,
        ..sizes
    };
    config
        .validate()
        .map_err(|error| format!("its sizes cannot be: {error}"))?;
    Ok(Dit { config, prefix })
}

/// An error unless every switch has the value that is computed here.
pub(super) fn only(switches: &[(bool, &str)]) -> Result<(), String> {
    match switches.iter().find(|(holds, _)| !holds) {
        Some((_, only)) => Err(format!("only {only} is supported")),
        None => Ok(()),
    }
}

/// An error for sizes that cannot be.
pub(super) fn possible(
    sizes: &[usize],
    width: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
) -> Result<(), String> {
    let large = |&n: &usize| n == 0 || n > 1 << 24;
    if sizes.iter().chain(&[width, heads, kv_heads]).any(large)
        || !heads.is_multiple_of(kv_heads)
        || !(4..=256).contains(&head_dim)
        || !head_dim.is_multiple_of(4)
        || !width.is_multiple_of(4)
    {
        return Err("its sizes cannot be: heads are 4, 8 .. 256 wide, and those of keys divide those of queries".into());
    }
    Ok(())
}
