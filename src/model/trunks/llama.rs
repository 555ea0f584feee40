//! The decoder of the Llama family with its switches: RMSNorm, rotary attention of grouped heads, gated MLP.
//!
//! `h += O(attention(norm1(h)))`, `h += down(silu(gate(norm2(h))) up(norm2(h)))`, a final norm, a free or tied head.

use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::model::held::Held;
use crate::model::params::{Group, Init, Linear, Params};
use crate::model::trunk::{Call, Head, Trunk};
use crate::ops::visibility::{Sight, padded};
use crate::ops::{Activation, Attend, Dropout, Heads, Norm, Seen, rotary_frequencies};

/// What files call the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// As `transformers` names those of Llama, Qwen and Mistral.
    HuggingFace,
    /// As LLaDA's files.
    Llada,
    /// As those of DiffuLLaMA, which takes a Llama apart.
    Diffu,
    /// As GGUF files, whatever the family.
    Gguf,
    /// As SMDM's files, which have one matrix for queries, keys and values, and a row of the table for the mask, the last
    /// one, that the head does not have.
    Smdm,
}

impl Names {
    fn top(self, part: &str) -> String {
        match (self, part) {
            (Self::Diffu, "embed") => "embed_tokens",
            (Self::Diffu, "norm") => "denoise_model.norm",
            (Self::HuggingFace, "embed") => "model.embed_tokens",
            (Self::HuggingFace, "norm") => "model.norm",
            (Self::HuggingFace | Self::Diffu, _) => "lm_head",
            (Self::Gguf, "embed") => "token_embd",
            (Self::Gguf, "norm") => "output_norm",
            (Self::Gguf, _) => "output",
            (Self::Smdm, "embed") => "transformer.wte",
            (Self::Smdm, "norm") => "transformer.ln_f",
            (Self::Smdm, _) => "lm_head",
            (Self::Llada, "embed") => "model.transformer.wte",
            (Self::Llada, "norm") => "model.transformer.ln_f",
            (Self::Llada, _) => "model.transformer.ff_out",
        }
        .to_owned()
    }

    fn block(self, i: usize, part: &str) -> String {
        match self {
            Self::HuggingFace | Self::Diffu => {
                let model = match self {
                    Self::Diffu => "denoise_model",
                    _ => "model",
                };
                let module = match part {
                    "norm1" => "input_layernorm".to_owned(),
                    "norm2" => "post_attention_layernorm".to_owned(),
                    "q" | "k" | "v" | "o" => format!("self_attn.{part}_proj"),
                    "q_norm" | "k_norm" => format!("self_attn.{part}"),
                    _ => format!("mlp.{part}_proj"),
                };
                format!("{model}.layers.{i}.{module}")
            }
            Self::Llada => {
                let module = match part {
                    "norm1" => "attn_norm",
                    "norm2" => "ff_norm",
                    "o" => "attn_out",
                    "gate" => "ff_proj",
                    "up" => "up_proj",
                    "down" => "ff_out",
                    "q" => "q_proj",
                    "k" => "k_proj",
                    "v" => "v_proj",
                    other => other,
                };
                format!("model.transformer.blocks.{i}.{module}")
            }
            Self::Gguf => {
                let module = match part {
                    "norm1" => "attn_norm".to_owned(),
                    "norm2" => "ffn_norm".to_owned(),
                    "o" => "attn_output".to_owned(),
                    "q" | "k" | "v" | "q_norm" | "k_norm" => format!("attn_{part}"),
                    _ => format!("ffn_{part}"),
                };
                format!("blk.{i}.{module}")
            }
            Self::Smdm => {
                let module = match part {
                    "norm1" => "norm_1",
                    "norm2" => "norm_2",
                    "qkv" => "attn.attn",
                    "o" => "attn.proj",
                    "gate" => "mlp.swiglu.w1",
                    "up" => "mlp.swiglu.w2",
                    _ => "mlp.swiglu.w3",
                };
                format!("transformer.h.{i}.{module}")
            }
        }
    }
}

/// Shape and switches of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    /// Rows of the embedding and the head; a tokenizer may have fewer.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub n_blocks: usize,
    /// Heads of queries; a multiple of `n_kv_heads`.
    pub n_heads: usize,
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Width of a head; not always hidden / heads.
    pub head_dim: usize,
    /// Width between gate and down.
    pub mlp_size: usize,
    /// Tokens of the longest sequence.
    pub length: usize,
    /// Added to the mean square in every RMSNorm.
    pub eps: f64,
    /// Base of the rotary frequencies.
    pub rotary_base: f64,
    /// Dimensions of a head that are rotated; the first ones.
    pub rotary_dim: usize,
    /// Biases of q, k and v.
    pub qkv_bias: bool,
    /// Norms of each head of q and k, before they are rotated.
    pub qk_norm: bool,
    /// The head's weight is the embedding's table.
    pub tied: bool,
    /// A token sees only those up to itself.
    pub causal: bool,
    /// How far a token sees in each block, both ways; none: as far as there is.
    pub windows: Vec<Option<usize>>,
    /// A token whose embedding is never trained, such as a pad.
    pub frozen_token: Option<u32>,
    /// Pads see nothing, instead of what other tokens see.
    pub blind_pads: bool,
    /// What files call the parameters.
    pub names: Names,
}

impl Llama {
    fn projection(
        &self,
        g: &mut Graph,
        p: &mut Params,
        i: usize,
        part: &str,
        shape: [usize; 2],
        bias: bool,
    ) -> Result<Linear> {
        p.linear(
            g,
            &self.names.block(i, part),
            shape,
            bias,
            Init::linear(shape[1]),
        )
    }

    fn norm(&self, g: &mut Graph, p: &mut Params, name: &str, width: usize) -> Result<Norm> {
        let weight = p.tensor(g, &format!("{name}.weight"), &[width], Init::Ones)?;
        Ok(Norm::rms(weight, self.eps))
    }

    /// Queries or keys of block `i`: projected, normalised by head if that is on, rotated.
    fn rotated(
        &self,
        g: &mut Graph,
        p: &mut Params,
        i: usize,
        part: &str,
        h: Tensor,
        rotary: Tensor,
    ) -> Result<Tensor> {
        let heads = if part == "q" {
            self.n_heads
        } else {
            self.n_kv_heads
        };
        let shape = [heads * self.head_dim, self.hidden_size];
        let w = self.projection(g, p, i, part, shape, self.qkv_bias)?;
        let name = format!("layer.{i}.{part}");
        let mut x = g.linear(&name, h, w.weight, w.bias)?;
        x = w.adapt(g, &name, h, x)?;
        if self.qk_norm {
            let part = format!("{part}_norm");
            let norm = self.norm(g, p, &self.names.block(i, &part), self.head_dim)?;
            x = g.norm(&format!("layer.{i}.{part}"), x, norm)?;
        }
        g.rotary(
            &format!("layer.{i}.{part}_rot"),
            x,
            rotary,
            heads,
            self.head_dim,
        )
    }

    /// Queries, keys and values of block `i` out of one matrix.
    fn fused(
        &self,
        g: &mut Graph,
        p: &mut Params,
        i: usize,
        h: Tensor,
        rotary: Tensor,
    ) -> Result<[Heads; 3]> {
        let heads = self.n_heads + self.n_kv_heads;
        let shape = [(heads + self.n_kv_heads) * self.head_dim, self.hidden_size];
        let w = self.projection(g, p, i, "qkv", shape, false)?;
        let name = format!("{}.weight", self.names.block(i, "qkv"));
        p.group(&name, Group::Hidden { parts: 3 });
        let queries = self.n_heads / self.n_kv_heads;
        let head_dim = self.head_dim;
        p.held(&name, Held::Grouped { head_dim, queries });
        let qkv = g.linear(&format!("layer.{i}.qkv"), h, w.weight, None)?;
        let name = format!("layer.{i}.qkv_rot");
        let tensor = g.rotary(&name, qkv, rotary, heads, head_dim)?;
        let at = |head: usize| Heads {
            tensor,
            column: head * head_dim,
        };
        Ok([0, self.n_heads, heads].map(at))
    }
}

impl Trunk for Llama {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn length(&self) -> usize {
        self.length
    }

    fn mask_index(&self) -> Option<u32> {
        let last = self.vocab_size.saturating_sub(1) as u32;
        Some(last).filter(|_| self.names == Names::Smdm)
    }

    fn frozen_token(&self) -> Option<u32> {
        self.frozen_token
    }

    fn padded(&self, mask: &[bool], length: usize) -> Vec<Sight> {
        padded(mask, length, self.blind_pads)
    }

    fn adaptable(&self) -> bool {
        // where rows of files are in another order, so would be those of adapters
        self.names != Names::Smdm
    }

    fn ignored(&self) -> Vec<String> {
        // a head in the file of a tied model does not count
        let head = format!("{}.weight", self.names.top("head"));
        if self.tied { vec![head] } else { Vec::new() }
    }

    fn build(&self, g: &mut Graph, p: &mut Params, call: &mut Call) -> Result<Tensor> {
        let d = self.hidden_size;
        let (width, kv) = (
            self.n_heads * self.head_dim,
            self.n_kv_heads * self.head_dim,
        );
        let name = format!("{}.weight", self.names.top("embed"));
        let table = p.matrix(g, &name, [self.vocab_size, d], Init::linear(d))?;
        p.group(&name, Group::Embedding);
        let mut x = g.embedding("embed", call.xt, table, call.segments)?;
        let rotary = call.rotary_table(g, &rotary_frequencies(self.rotary_dim, self.rotary_base));
        for i in 0..self.n_blocks {
            call.block(g);
            let name = |part: &str| format!("layer.{i}.{part}");
            let norm = self.norm(g, p, &self.names.block(i, "norm1"), d)?;
            let h = g.norm(&name("attn_norm"), x, norm)?;
            let [q, k, v] = if self.names == Names::Smdm {
                self.fused(g, p, i, h, rotary)?
            } else {
                let q = self.rotated(g, p, i, "q", h, rotary)?;
                let k = self.rotated(g, p, i, "k", h, rotary)?;
                let w = self.projection(g, p, i, "v", [kv, d], self.qkv_bias)?;
                let v = g.linear(&name("v"), h, w.weight, w.bias)?;
                [q, k, w.adapt(g, &name("v"), h, v)?].map(Heads::whole)
            };
            let attend = Attend {
                q,
                k,
                v,
                batch: call.options.batch,
                heads: self.n_heads,
                kv_heads: self.n_kv_heads,
                head_dim: self.head_dim,
                seen: if self.causal { Seen::Causal } else { Seen::All },
            };
            let reach = self.windows.get(i).copied().flatten();
            let a = call.attention(g, &name("attn"), attend, reach)?;
            let w = self.projection(g, p, i, "o", [d, width], false)?;
            let names = [&name("attn_out")[..], &name("mid")];
            [_, x] = g.linear_residual(names, a, w.weight, w.bias, x, None, Dropout::default())?;
            x = w.adapt(g, &name("attn_out"), a, x)?;
            let norm = self.norm(g, p, &self.names.block(i, "norm2"), d)?;
            let h = g.norm(&name("ff_norm"), x, norm)?;
            let w = self.projection(g, p, i, "gate", [self.mlp_size, d], false)?;
            let gate = g.linear(&name("gate"), h, w.weight, None)?;
            let gate = w.adapt(g, &name("gate"), h, gate)?;
            let w = self.projection(g, p, i, "up", [self.mlp_size, d], false)?;
            let up = g.linear(&name("up"), h, w.weight, None)?;
            let up = w.adapt(g, &name("up"), h, up)?;
            let (gate, up) = (Heads::whole(gate), Heads::whole(up));
            let h = g.gated(&name("gated"), Activation::Silu, gate, up, self.mlp_size)?;
            let w = self.projection(g, p, i, "down", [d, self.mlp_size], false)?;
            let names = [&name("mlp")[..], &format!("layer.{i}")];
            [_, x] = g.linear_residual(names, h, w.weight, w.bias, x, None, Dropout::default())?;
            x = w.adapt(g, &name("mlp"), h, x)?;
        }
        call.block(g);
        let norm = self.norm(g, p, &self.names.top("norm"), d)?;
        g.norm("final_norm", x, norm)
    }

    fn head(&self, g: &mut Graph, p: &mut Params, hidden: Tensor) -> Result<Head> {
        let part = if self.tied { "embed" } else { "head" };
        let name = format!("{}.weight", self.names.top(part));
        let shape = [self.vocab_size, self.hidden_size];
        let weight = p.matrix(g, &name, shape, Init::linear(self.hidden_size))?;
        if !self.tied {
            p.group(&name, Group::Head);
        }
        if self.names == Names::Smdm {
            p.held(&name, Held::Short);
        }
        Ok(Head {
            hidden,
            weight,
            bias: None,
        })
    }
}
