//! The networks of this family: a configuration and what it stands for.

use std::sync::Arc;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::graph::Layout;
use crate::model::Network;
use crate::model::trunks::Dit;
use crate::program::{Element, Room};

/// A configuration with its network.
#[derive(Clone, Debug)]
pub struct Backbone {
    /// The configuration, checked when this was made.
    pub config: ModelConfig,
    /// What graphs are built from.
    pub network: Network,
    /// Where the parameters lie; that of `network`.
    pub layout: Arc<Layout>,
}

impl Backbone {
    /// Checks the configuration and lays the parameters out in slabs of at most `limit` elements.
    ///
    /// # Errors
    /// [`crate::Error::Config`], or [`crate::Error::Unsupported`] if a tensor does not fit a slab.
    pub fn new(config: &ModelConfig, limit: usize) -> Result<Self> {
        Self::with_weights(config, limit, Element::F32)
    }

    /// As [`Backbone::new`], with matrices kept in elements of another type: half precision is for inference.
    ///
    /// # Errors
    /// As [`Backbone::new`].
    pub fn with_weights(
        config: &ModelConfig,
        room: impl Into<Room>,
        weights: Element,
    ) -> Result<Self> {
        config.validate()?;
        let network = Network::new(Arc::new(Dit::new(config.clone())), room, weights)?;
        Ok(Self {
            config: config.clone(),
            layout: network.layout.clone(),
            network,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelKind;

    fn count(kind: ModelKind, preset: &str, vocab_size: usize) -> u64 {
        let config = ModelConfig {
            kind,
            vocab_size,
            mask_index: vocab_size as u32 - 1,
            ..ModelConfig::preset(preset).unwrap()
        };
        let backbone = Backbone::new(&config, usize::MAX / 8).unwrap();
        backbone.layout.parameters()
    }

    #[test]
    fn parameter_counts_of_the_reference() {
        use ModelKind::{Ar, Dit};
        for (kind, preset, counts) in [
            (Dit, "tiny", [80_061_266, 59_831_866, 28_582_691]),
            (Dit, "small", [169_627_218, 139_292_986, 92_434_467]),
            (Dit, "medium", [424_477_010, 384_037_946, 321_570_083]),
            (Ar, "tiny", [76_709_458, 56_480_058, 25_230_883]),
            (Ar, "small", [162_246_482, 131_912_250, 85_053_731]),
            (Ar, "medium", [405_141_586, 364_702_522, 302_234_659]),
        ] {
            assert_eq!(
                [50258, 30522, 35].map(|v| count(kind, preset, v)),
                counts,
                "{kind:?} {preset}"
            );
        }
    }

    /// The reference's `parameters()`, which its moving average is stored in.
    #[test]
    fn keys_are_in_the_reference_order() {
        let config = ModelConfig {
            n_blocks: 2,
            vocab_size: 9,
            mask_index: 8,
            ..ModelConfig::preset("nano").unwrap()
        };
        let layout = Backbone::new(&config, usize::MAX / 8).unwrap().layout;
        let keys: Vec<&str> = layout.keys().iter().map(|k| &k.key[9..]).collect();
        let block = [
            "norm1.weight",
            "attn_qkv.weight",
            "attn_out.weight",
            "norm2.weight",
            "mlp.0.weight",
            "mlp.0.bias",
            "mlp.2.weight",
            "mlp.2.bias",
            "adaLN_modulation.weight",
            "adaLN_modulation.bias",
        ];
        let mut expected = vec!["vocab_embed.embedding".to_owned()];
        for layer in ["mlp.0", "mlp.2"] {
            expected.extend(["weight", "bias"].map(|part| format!("sigma_map.{layer}.{part}")));
        }
        for i in 0..2 {
            expected.extend(block.map(|part| format!("blocks.{i}.{part}")));
        }
        let last = [
            "norm_final.weight",
            "linear.weight",
            "linear.bias",
            "adaLN_modulation.weight",
            "adaLN_modulation.bias",
        ];
        expected.extend(last.map(|part| format!("output_layer.{part}")));
        assert_eq!(keys, expected);
    }

    #[test]
    fn slabs_respect_their_limit() {
        let config = ModelConfig {
            vocab_size: 100,
            mask_index: 99,
            ..ModelConfig::preset("nano").unwrap()
        };
        let limit = 400_000;
        let layout = Backbone::new(&config, limit).unwrap().layout;
        let fits = layout.slabs().iter().all(|slab| slab.len <= limit);
        assert!(layout.slabs().len() > 1 && fits);
        let error = Backbone::new(&config, 1000).unwrap_err();
        assert!(
            error.to_string().contains("vocab_embed.embedding"),
            "{error}"
        );
    }
}
