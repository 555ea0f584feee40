//! The decoder of the Llama family with its switches: RMSNorm, rotary attention of grouped heads, gated MLP.
//!
//! `h += O(attention(norm1(h)))`, `h += down(silu(gate(norm2(h))) up(norm2(h)))`, a final norm, a free or tied head.

use crate::error::Result;
use crate::graph::{Graph, Tensor};
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
}

impl Trunk for Llama {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn length(&self) -> usize {
        self.length
    }

    fn frozen_token(&self) -> Option<u32> {
        self.frozen_token
    }

    fn padded(&self, mask: &[bool], length: usize) -> Vec<Sight> {
        padded(mask, length, self.blind_pads)
    }

    fn adaptable(&self) -> bool {
        true
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
            let q = self.rotated(g, p, i, "q", h, rotary)?;
            let k = self.rotated(g, p, i, "k", h, rotary)?;
            let w = self.projection(g, p, i, "v", [kv, d], self.qkv_bias)?;
            let v = g.linear(&name("v"), h, w.weight, w.bias)?;
            let v = w.adapt(g, &name("v"), h, v)?;
            let attend = Attend {
                q: Heads::whole(q),
                k: Heads::whole(k),
                v: Heads::whole(v),
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
        Ok(Head {
            hidden,
            weight,
            bias: None,
        })
    }
}
