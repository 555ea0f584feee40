//! The reference's two networks: pre-norm blocks with rotary attention and GELU MLP. The denoiser (DiT) attends both
//! ways and modulates every norm and branch by adaLN; the autoregressive baseline is causal and unmodulated.
//!
//! Table and head may have more rows than there are tokens (`model.vocab_multiple`). The head projects the vocabulary's
//! rows only: the others are in no softmax, loss, draw or logits, and their gradient is 0.

use std::sync::Arc;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::graph::{Graph, Key, Tensor};
use crate::model::files::BUFFERS;
use crate::model::params::{Group, Init, Linear, Params};
use crate::model::time_embedding::{TIME_FEATURES, time_rows};
use crate::model::trunk::{Call, Head, Trunk};
use crate::ops::{Attend, Dropout, Modulation, Norm, Seen, inv_freq};
use crate::program::Element;

/// The network of a configuration.
#[derive(Clone, Debug)]
pub struct Dit {
    /// Its sizes and switches.
    pub config: ModelConfig,
    /// What the name of every parameter begins with in files: `backbone.`, or nothing in GIDD's.
    pub prefix: &'static str,
}

/// Names of the tensors that hold the adaLN weights and biases of all blocks (6 D rows each) and of the output layer
/// (2 D rows), stacked so that one product makes all modulation of the network.
const ADALN: [&str; 2] = ["adaLN.weight", "adaLN.bias"];

impl Dit {
    /// With the names of the reference.
    pub fn new(config: ModelConfig) -> Self {
        Self {
            config,
            prefix: "backbone.",
        }
    }

    fn name(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    fn conditioned(&self) -> bool {
        self.config.conditioned()
    }

    /// Rows of the conditioning: one for each sequence, or one for all without time conditioning.
    fn cond_rows(&self, batch: usize) -> usize {
        if self.config.time_conditioning {
            batch
        } else {
            1
        }
    }

    /// Declares the adaLN of a block or of the output layer, `n` D rows.
    fn adaln(&self, p: &mut Params, name: &str, n: usize) {
        let rows = n * self.config.hidden_size;
        let key = |part: &str| self.name(&format!("{name}.adaLN_modulation.{part}"));
        p.part(
            ADALN[0],
            &key("weight"),
            &[rows, self.config.cond_dim],
            Init::Zeros,
        );
        p.part(ADALN[1], &key("bias"), &[rows], Init::Zeros);
    }

    /// All adaLN vectors at once: `[rows of time, (6 blocks + 2) D]`.
    fn modulation(&self, g: &mut Graph, p: &mut Params, time: Tensor) -> Result<Tensor> {
        let (c, cond) = (&self.config, self.config.cond_dim);
        let first = p.linear(
            g,
            &self.name("sigma_map.mlp.0"),
            [cond, TIME_FEATURES],
            true,
            Init::linear(TIME_FEATURES),
        )?;
        let second = p.linear(
            g,
            &self.name("sigma_map.mlp.2"),
            [cond, cond],
            true,
            Init::linear(cond),
        )?;
        for name in ["mlp.0", "mlp.2"] {
            p.group(
                &self.name(&format!("sigma_map.{name}.weight")),
                Group::Modulation,
            );
        }
        let rows = (6 * c.n_blocks + 2) * c.hidden_size;
        let weight = p.stack(g, ADALN[0], &[rows, cond], p.weights())?;
        let bias = p.stack(g, ADALN[1], &[rows], Element::F32)?;
        for name in ADALN {
            p.group(name, Group::Modulation);
        }
        let u = g.linear("sigma_map.mlp.0", time, first.weight, first.bias)?;
        let u = g.silu("sigma_map.mlp.1", u)?;
        let u = g.linear("sigma_map", u, second.weight, second.bias)?;
        let c = g.silu("c", u)?;
        g.linear("adaLN", c, weight, Some(bias))
    }

    /// The rows of the head that stand for tokens.
    fn vocabulary(&self, g: &mut Graph, head: Linear) -> Result<Linear> {
        let c = &self.config;
        if c.table_rows() == c.vocab_size {
            return Ok(head);
        }
        let bias = head.bias.map(|bias| g.view(bias, 0, &[c.vocab_size]));
        Ok(Linear {
            weight: g.view(head.weight, 0, &[c.vocab_size, c.hidden_size])?,
            bias: bias.transpose()?,
            ..head
        })
    }
}

impl Trunk for Dit {
    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn mask_index(&self) -> Option<u32> {
        Some(self.config.mask_index)
    }

    fn length(&self) -> usize {
        self.config.length
    }

    fn time_rows(&self, conditioning: &[f64]) -> Vec<f64> {
        time_rows(&self.config, conditioning.iter().copied())
    }

    fn rounds(&self) -> bool {
        true
    }

    fn ignored(&self) -> Vec<String> {
        match self.prefix {
            "" => ["cos", "sin"]
                .map(|part| format!("rotary_emb.{part}_cached"))
                .into(),
            _ => BUFFERS.map(str::to_owned).into(),
        }
    }

    fn for_mask(&self, mask_index: u32) -> Option<Arc<dyn Trunk>> {
        let mut other = self.clone();
        other.config.mask_index = mask_index;
        Some(Arc::new(other))
    }

    fn build(&self, g: &mut Graph, p: &mut Params, call: &mut Call) -> Result<Tensor> {
        let c = &self.config;
        let (d, heads, options) = (c.hidden_size, c.n_heads, call.options);
        let (batch, length) = (options.batch, options.length);
        let name = self.name("vocab_embed.embedding");
        let table = p.matrix(g, &name, [c.table_rows(), d], Init::linear(d))?;
        p.group(&name, Group::Embedding);
        let mut x = g.embedding("vocab_embed", call.xt, table, call.segments)?;
        let mut modulation = None;
        if self.conditioned() {
            let shape = [self.cond_rows(batch), TIME_FEATURES];
            let time = g.input("timestep_embedding", &shape);
            call.time = Some(time);
            modulation = Some(self.modulation(g, p, time)?);
        }
        let place = |column: usize| Modulation {
            sample_rows: if c.time_conditioning {
                length
            } else {
                call.rows()
            },
            stride: (6 * c.n_blocks + 2) * d,
            column: column * d,
        };
        let place: Vec<_> = (0..6 * c.n_blocks + 2).map(place).collect();
        let at = |column: usize| modulation.map(|m| (m, place[column]));
        let rotary = call.rotary_table(g, &frequencies(c.head_dim()));
        let seen = match c.autoregressive() {
            true => Seen::Causal,
            false => Seen::All,
        };
        let rate = if options.training { c.dropout } else { 0.0 };
        let dropout = |site: usize| Dropout {
            p: rate,
            site: site as u32,
        };
        g.set_precision(options.precision);
        for i in 0..c.n_blocks {
            call.block(g);
            let name = |part: &str| format!("blocks.{i}.{part}");
            let key = |part: &str| self.name(&format!("blocks.{i}.{part}"));
            let first = 6 * i; // shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp
            let norm = p.tensor(g, &key("norm1.weight"), &[d], Init::Ones)?;
            let h = g.norm(&name("attn_in"), x, Norm::layer(norm).modulated(at(first)))?;
            let qkv = p.matrix(g, &key("attn_qkv.weight"), [3 * d, d], Init::linear(d))?;
            p.group(&key("attn_qkv.weight"), Group::Hidden { parts: 3 });
            let qkv = g.linear(&name("qkv"), h, qkv, None)?;
            let qkv = g.rotary(&name("qkv_rot"), qkv, rotary, 2 * heads, c.head_dim())?;
            let attend = Attend::fused(qkv, batch, heads, c.head_dim(), seen);
            let a = call.attention(g, &name("attn"), attend, None)?;
            let out = p.matrix(g, &key("attn_out.weight"), [d, d], Init::linear(d))?;
            let names = [&name("attn_out")[..], &name("x_mid")[..]];
            [_, x] = g.linear_residual(names, a, out, None, x, at(first + 2), dropout(2 * i))?;
            let norm = p.tensor(g, &key("norm2.weight"), &[d], Init::Ones)?;
            let h = g.norm(
                &name("mlp_in"),
                x,
                Norm::layer(norm).modulated(at(first + 3)),
            )?;
            let up = p.linear(g, &key("mlp.0"), [4 * d, d], true, Init::linear(d))?;
            let names = [&name("mlp_0")[..], &name("mlp_gelu")];
            let [_, h] = g.linear_gelu(names, h, up.weight, up.bias)?;
            let down = p.linear(g, &key("mlp.2"), [d, 4 * d], true, Init::linear(4 * d))?;
            let names = [&name("mlp_out")[..], &name("out")[..]];
            let gate = at(first + 5);
            [_, x] = g.linear_residual(
                names,
                h,
                down.weight,
                down.bias,
                x,
                gate,
                dropout(2 * i + 1),
            )?;
            if self.conditioned() {
                self.adaln(p, &format!("blocks.{i}"), 6);
            }
        }
        call.block(g);
        g.set_precision(Element::F32);
        let norm = p.tensor(
            g,
            &self.name("output_layer.norm_final.weight"),
            &[d],
            Init::Ones,
        )?;
        g.norm(
            "final_modulated",
            x,
            Norm::layer(norm).modulated(at(6 * c.n_blocks)),
        )
    }

    fn head(&self, g: &mut Graph, p: &mut Params, hidden: Tensor) -> Result<Head> {
        let shape = [self.config.table_rows(), self.config.hidden_size];
        let name = self.name("output_layer.linear");
        let output = p.linear(g, &name, shape, true, Init::Zeros)?;
        p.group(&format!("{name}.weight"), Group::Head);
        let output = self.vocabulary(g, output)?;
        if self.conditioned() {
            self.adaln(p, "output_layer", 2);
        }
        Ok(Head {
            hidden,
            weight: output.weight,
            bias: output.bias,
        })
    }
}

/// Frequencies of the rotary embedding.
pub fn frequencies(head_dim: usize) -> Vec<f64> {
    inv_freq(head_dim).map(f64::from).collect()
}

/// The bias of a block's adaLN with which the block computes as if there were none (shift, scale and gate of
/// attention, then of the MLP: gates 1, the rest 0); `None` for every other parameter.
pub fn unmodulated(key: &Key) -> Option<Vec<f64>> {
    let name = key.key.as_str();
    if !(name.contains(".blocks.") && name.ends_with("adaLN_modulation.bias")) {
        return None;
    }
    let of = |i: usize| f64::from(u8::from(6 * i / key.len() % 3 == 2));
    Some((0..key.len()).map(of).collect())
}
