//! The trunk of the reference's two networks: pre-norm blocks with rotary attention and GELU MLP. The
//! denoiser (DiT) attends both ways and modulates every norm and branch by adaLN; the
//! autoregressive baseline is causal and unmodulated.

use std::sync::Arc;

use crate::config::{ModelConfig, ModelKind};
use crate::error::{Error, Result};
use crate::graph::{Graph, Layout, Session, Tensor};
use crate::model::{BackboneParams, ConditioningParams, TIME_FEATURES};
use crate::ops::visibility::Sight;
use crate::ops::{Attend, Dropout, Heads, Modulation, Norm, Seen, SegmentInputs, inv_freq};

/// Configuration, parameters and their layout.
#[derive(Clone, Debug)]
pub struct Backbone {
    /// Shape of the model.
    pub config: ModelConfig,
    /// Handles of the parameters.
    pub params: BackboneParams,
    /// Where they lie.
    pub layout: Arc<Layout>,
}

/// How to build the trunk.
#[derive(Clone, Copy, Debug)]
pub struct TrunkOptions {
    /// Sequences B.
    pub batch: usize,
    /// Tokens of each, at most the model's length.
    pub length: usize,
    /// Dropout and embedding gradient: for training.
    pub training: bool,
    /// One new token a sequence (`length` 1), whose predecessors' keys and values are cached:
    /// autoregressive models only.
    pub decode: bool,
}

/// What decoding token by token needs besides the tokens.
#[derive(Clone, Copy, Debug)]
pub struct DecodeInputs {
    /// Where the new tokens stand, `[B]`.
    pub positions: Tensor,
    /// The rotary table's rows of those positions, `[B, head_dim / 2, 2]`.
    pub rotary: Tensor,
    /// What the new tokens see, `[B, 4]`: the words of [`Sight`].
    pub sight: Tensor,
}

/// Inputs and result of the trunk; rows are B * length.
#[derive(Clone, Copy, Debug)]
pub struct Trunk {
    /// Noisy tokens, `[rows]`.
    pub xt: Tensor,
    /// Embedded sigma: `[B, 256]` with time conditioning, else `[1, 256]`; `None` for autoregressive
    /// models.
    pub time: Option<Tensor>,
    /// For decoding token by token.
    pub decode: Option<DecodeInputs>,
    /// For the gradient of the embedding.
    pub segments: Option<SegmentInputs>,
    /// Last hidden states, normalised and modulated: `[rows, D]`.
    pub hidden: Tensor,
}

impl Trunk {
    /// Uploads noisy tokens and the rows of [`crate::model::time_rows`].
    ///
    /// # Errors
    /// [`Error::Shape`] for more than the graph was built for.
    pub fn write(&self, session: &mut Session, xt: &[u32], time: &[f64]) -> Result<()> {
        session.write_uint(self.xt, xt)?;
        match self.time {
            Some(tensor) => session.write(tensor, time),
            None => Ok(()),
        }
    }
}

impl Backbone {
    /// Checks the configuration and lays the parameters out in slabs of at most `limit` elements.
    ///
    /// # Errors
    /// [`Error::Config`], or [`Error::Unsupported`] if a tensor does not fit a slab.
    pub fn new(config: &ModelConfig, limit: usize) -> Result<Self> {
        config.validate()?;
        let (params, layout) = BackboneParams::new(config, limit)?;
        Ok(Self {
            config: config.clone(),
            params,
            layout: Arc::new(layout),
        })
    }

    /// Rows of the conditioning: one for each sequence, or one for all without time conditioning.
    pub fn cond_rows(&self, batch: usize) -> usize {
        if self.config.time_conditioning {
            batch
        } else {
            1
        }
    }

    /// Appends the network up to the output layer's modulation.
    ///
    /// # Errors
    /// [`Error::Config`] if the length is above the model's.
    pub fn trunk(&self, g: &mut Graph, options: TrunkOptions) -> Result<Trunk> {
        let TrunkOptions {
            batch,
            length,
            training,
            decode,
        } = options;
        let c = &self.config;
        if batch == 0 || length == 0 || length > c.length {
            return Err(Error::config(
                "batch x length",
                format!("{batch} x {length}"),
                format!(
                    "both must be positive, and the length at most the model's {}",
                    c.length
                ),
            ));
        }
        let (rows, d, heads) = (batch.saturating_mul(length), c.hidden_size, c.n_heads);
        // rows are numbered in 32 bits
        if rows > 1 << 31 {
            let problem = "makes more than 2147483648 tokens at a time";
            let shown = format!("{batch} x {length}");
            return Err(Error::config("batch x length", shown, problem));
        }
        let xt = g.input_uint("xt", &[rows]);
        let segments = training.then(|| g.segment_inputs(rows, c.vocab_size));
        let table = g.param(self.params.vocab_embed);
        let mut x = g.embedding("vocab_embed", xt, table, segments)?;

        let (time, modulation) = match &self.params.conditioning {
            None => (None, None),
            Some(params) => {
                let shape = [self.cond_rows(batch), TIME_FEATURES];
                let time = g.input("timestep_embedding", &shape);
                (Some(time), Some(modulation(g, params, time)?))
            }
        };
        let stride = (6 * c.n_blocks + 2) * d;
        let sample_rows = if c.time_conditioning { length } else { rows };
        let at = |column: usize| {
            let place = Modulation {
                sample_rows,
                stride,
                column: column * d,
            };
            modulation.map(|m| (m, place))
        };
        let causal = c.kind == ModelKind::Ar;
        if decode && (c.kind != ModelKind::Ar || length != 1) {
            let problem = "decoding goes token by token in autoregressive models";
            return Err(Error::Internal(problem.into()));
        }
        let decode = decode.then(|| DecodeInputs {
            positions: g.input_uint("positions", &[batch]),
            rotary: g.input("rotary", &[batch, c.head_dim() / 2, 2]),
            sight: g.input_uint("sight", &[batch, 4]),
        });
        let rotary = match decode {
            Some(inputs) => inputs.rotary,
            None => g.rotary_table(length, &frequencies(c.head_dim())),
        };
        let seen = match decode {
            Some(inputs) => {
                let rank = |j| Sight::new(j, 0..0).words();
                let keys = (0..c.length).flat_map(rank).collect();
                Seen::By {
                    queries: inputs.sight,
                    keys: g.constant_uint("ranks", &[c.length, 4], keys),
                }
            }
            None if causal => Seen::Causal,
            None => Seen::All,
        };
        let p = if training { c.dropout } else { 0.0 };
        let dropout = |site: usize| Dropout {
            p,
            site: site as u32,
        };
        for (i, block) in self.params.blocks.iter().enumerate() {
            let name = |part: &str| format!("blocks.{i}.{part}");
            let first = 6 * i; // shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp
            let [norm1, qkv, out, norm2] =
                [block.norm1, block.attn_qkv, block.attn_out, block.norm2].map(|id| g.param(id));
            let [w0, b0, w2, b2] = [
                block.mlp_0[0],
                block.mlp_0[1],
                block.mlp_2[0],
                block.mlp_2[1],
            ]
            .map(|id| g.param(id));
            let h = g.norm(&name("attn_in"), x, Norm::layer(norm1).modulated(at(first)))?;
            let qkv = g.linear(&name("qkv"), h, qkv, None)?;
            let qkv = g.rotary(&name("qkv_rot"), qkv, rotary, 2 * heads, c.head_dim())?;
            let mut attend = Attend::fused(qkv, batch, heads, c.head_dim(), seen);
            if let Some(inputs) = decode {
                let cache = g.state(&name("cache"), &[batch, c.length, 2 * d]);
                let new = Heads {
                    tensor: qkv,
                    column: d,
                };
                g.store_rows(new, inputs.positions, cache)?;
                attend.k = Heads::whole(cache);
                attend.v = Heads {
                    tensor: cache,
                    column: d,
                };
            }
            let a = g.attention(&name("attn"), &attend)?;
            let names = [&name("attn_out")[..], &name("x_mid")[..]];
            let gate = at(first + 2);
            [_, x] = g.linear_residual(names, a, out, None, x, gate, dropout(2 * i))?;
            let h = g.norm(
                &name("mlp_in"),
                x,
                Norm::layer(norm2).modulated(at(first + 3)),
            )?;
            let [_, h] = g.linear_gelu([&name("mlp_0"), &name("mlp_gelu")], h, w0, Some(b0))?;
            let names = [&name("mlp_out")[..], &name("out")[..]];
            let gate = at(first + 5);
            [_, x] = g.linear_residual(names, h, w2, Some(b2), x, gate, dropout(2 * i + 1))?;
        }
        let norm = g.param(self.params.norm_final);
        let hidden = g.norm(
            "final_modulated",
            x,
            Norm::layer(norm).modulated(at(6 * c.n_blocks)),
        )?;
        Ok(Trunk {
            xt,
            time,
            decode,
            segments,
            hidden,
        })
    }
}

/// Frequencies of the rotary embedding.
pub(crate) fn frequencies(head_dim: usize) -> Vec<f64> {
    inv_freq(head_dim).map(f64::from).collect()
}

/// All adaLN vectors at once: `[rows of time, (6 blocks + 2) D]`.
fn modulation(g: &mut Graph, params: &ConditioningParams, time: Tensor) -> Result<Tensor> {
    let [w0, b0] = params.sigma_map_0.map(|id| g.param(id));
    let [w2, b2] = params.sigma_map_2.map(|id| g.param(id));
    let [w, b] = params.adaln.map(|id| g.param(id));
    let u = g.linear("sigma_map.mlp.0", time, w0, Some(b0))?;
    let u = g.silu("sigma_map.mlp.1", u)?;
    let u = g.linear("sigma_map", u, w2, Some(b2))?;
    let c = g.silu("c", u)?;
    g.linear("adaLN", c, w, Some(b))
}
