//! Names, shapes and arena placement of the parameters; keys are those of the published
//! checkpoints.

use crate::config::{ModelConfig, ModelKind};
use crate::error::Result;
use crate::graph::{Layout, ParamId};
use crate::model::TIME_FEATURES;

/// A block's parameters; D is the hidden size.
#[derive(Clone, Copy, Debug)]
pub struct BlockParams {
    /// `[D]`
    pub norm1: ParamId,
    /// `[3 D, D]`
    pub attn_qkv: ParamId,
    /// `[D, D]`
    pub attn_out: ParamId,
    /// `[D]`
    pub norm2: ParamId,
    /// Weight `[4 D, D]` and bias `[4 D]`.
    pub mlp_0: [ParamId; 2],
    /// Weight `[D, 4 D]` and bias `[D]`.
    pub mlp_2: [ParamId; 2],
}

/// What makes a denoiser see its conditioning; an autoregressive model has none of it.
#[derive(Clone, Debug)]
pub struct ConditioningParams {
    /// Weight `[cond, 256]` and bias `[cond]`.
    pub sigma_map_0: [ParamId; 2],
    /// Weight `[cond, cond]` and bias `[cond]`.
    pub sigma_map_2: [ParamId; 2],
    /// The adaLN weights of all blocks (6 D rows each) and of the output layer (2 D rows), stacked
    /// so that one product serves the whole network: weight `[(6 blocks + 2) D, cond]` and bias.
    pub adaln: [ParamId; 2],
}

/// The parameters of a network.
#[derive(Clone, Debug)]
pub struct BackboneParams {
    /// `[V, D]`
    pub vocab_embed: ParamId,
    /// The conditioning's, in a denoiser.
    pub conditioning: Option<ConditioningParams>,
    /// One for each block.
    pub blocks: Vec<BlockParams>,
    /// `[D]`
    pub norm_final: ParamId,
    /// Weight `[V, D]` and bias `[V]`.
    pub output: [ParamId; 2],
}

impl BackboneParams {
    /// Lays the parameters out in slabs of at most `limit` elements.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] if a tensor is larger than a slab can be.
    pub fn new(config: &ModelConfig, limit: usize) -> Result<(Self, Layout)> {
        let (v, d, cond) = (config.vocab_size, config.hidden_size, config.cond_dim);
        let mut b = Layout::builder(limit);
        let mut add = |name: &str, shape: &[usize]| b.tensor(&format!("backbone.{name}"), shape);
        let mut linear = |name: &str, out: usize, input: usize| -> Result<[ParamId; 2]> {
            Ok([
                add(&format!("{name}.weight"), &[out, input])?,
                add(&format!("{name}.bias"), &[out])?,
            ])
        };
        let conditioned = config.kind == ModelKind::Dit;
        let sigma_map = conditioned
            .then(|| -> Result<_> {
                Ok([
                    linear("sigma_map.mlp.0", cond, TIME_FEATURES)?,
                    linear("sigma_map.mlp.2", cond, cond)?,
                ])
            })
            .transpose()?;
        let mut mlps = Vec::new();
        for i in 0..config.n_blocks {
            let name = format!("blocks.{i}.mlp");
            mlps.push((
                linear(&format!("{name}.0"), 4 * d, d)?,
                linear(&format!("{name}.2"), d, 4 * d)?,
            ));
        }
        let output = linear("output_layer.linear", v, d)?;
        let vocab_embed = add("vocab_embed.embedding", &[v, d])?;
        let mut blocks = Vec::new();
        for (i, (mlp_0, mlp_2)) in mlps.into_iter().enumerate() {
            let name = |part: &str| format!("blocks.{i}.{part}.weight");
            blocks.push(BlockParams {
                norm1: add(&name("norm1"), &[d])?,
                attn_qkv: add(&name("attn_qkv"), &[3 * d, d])?,
                attn_out: add(&name("attn_out"), &[d, d])?,
                norm2: add(&name("norm2"), &[d])?,
                mlp_0,
                mlp_2,
            });
        }
        let norm_final = add("output_layer.norm_final.weight", &[d])?;
        let parts = |kind: &str, inner: &[usize]| -> Vec<(String, Vec<usize>)> {
            let shape = |n: usize| [&[n * d][..], inner].concat();
            let block = |i| {
                (
                    format!("backbone.blocks.{i}.adaLN_modulation.{kind}"),
                    shape(6),
                )
            };
            let last = (
                format!("backbone.output_layer.adaLN_modulation.{kind}"),
                shape(2),
            );
            (0..config.n_blocks).map(block).chain([last]).collect()
        };
        let rows = (6 * config.n_blocks + 2) * d;
        let conditioning = match sigma_map {
            None => None,
            Some([sigma_map_0, sigma_map_2]) => Some(ConditioningParams {
                sigma_map_0,
                sigma_map_2,
                adaln: [
                    b.stacked("adaLN.weight", &[rows, cond], &parts("weight", &[cond]))?,
                    b.stacked("adaLN.bias", &[rows], &parts("bias", &[]))?,
                ],
            }),
        };
        let params = Self {
            vocab_embed,
            conditioning,
            blocks,
            norm_final,
            output,
        };
        Ok((params, b.finish(rank)))
    }
}

/// The reference's `parameters()` order, which its moving average is stored in.
fn rank(key: &str) -> usize {
    const BLOCK: [&str; 10] = [
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
    const OUTPUT: [&str; 5] = [
        "norm_final.weight",
        "linear.weight",
        "linear.bias",
        "adaLN_modulation.weight",
        "adaLN_modulation.bias",
    ];
    let find =
        |list: &[&str], part: &str| list.iter().position(|&x| x == part).unwrap_or(list.len());
    let key = key.strip_prefix("backbone.").unwrap_or(key);
    if let Some((i, part)) = key
        .strip_prefix("blocks.")
        .and_then(|rest| rest.split_once('.'))
    {
        return 10 + i.parse::<usize>().unwrap_or(0) * 16 + find(&BLOCK, part);
    }
    match key.strip_prefix("output_layer.") {
        Some(part) => usize::MAX / 2 + find(&OUTPUT, part),
        None => find(
            &[
                "vocab_embed.embedding",
                "sigma_map.mlp.0.weight",
                "sigma_map.mlp.0.bias",
                "sigma_map.mlp.2.weight",
                "sigma_map.mlp.2.bias",
            ],
            key,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(kind: ModelKind, preset: &str, vocab_size: usize) -> usize {
        let config = ModelConfig {
            kind,
            vocab_size,
            ..ModelConfig::preset(preset).unwrap()
        };
        BackboneParams::new(&config, usize::MAX / 8)
            .unwrap()
            .1
            .parameters()
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

    #[test]
    fn slabs_respect_their_limit() {
        let config = ModelConfig {
            vocab_size: 100,
            ..ModelConfig::preset("nano").unwrap()
        };
        let limit = 400_000;
        let layout = BackboneParams::new(&config, limit).unwrap().1;
        assert!(layout.slabs().len() > 1 && layout.slabs().iter().all(|slab| slab.len <= limit));
        let error = BackboneParams::new(&config, 1000).unwrap_err();
        assert!(
            error.to_string().contains("sigma_map.mlp.0.weight"),
            "{error}"
        );
    }
}
