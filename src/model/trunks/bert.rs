//! Encoders: BERT (post-norm, learned positions) and ModernBERT (pre-norm, rotary, GeGLU, local and global blocks), with
//! the head of masked language models, whose decoder is the table of the embedding.

use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::model::params::{Group, Init, Linear, Params};
use crate::model::trunk::{Call, Head, Trunk};
use crate::ops::{Activation, Attend, Dropout, Heads, Norm, Seen, rotary_frequencies};

/// What the two encoders do not share.
#[derive(Clone, Debug, PartialEq)]
pub enum BertKind {
    /// BERT: post-norm, learned positions, biases everywhere.
    Classic {
        /// Rows of the table of token types, of which the first is used.
        types: usize,
    },
    /// ModernBERT: pre-norm, rotary positions, GeGLU, no bias but the decoder's.
    Modern {
        /// Every so many blocks, from the first on, see the whole sequence.
        global_every: usize,
        /// How far the others see, both ways.
        reach: usize,
        /// Rotary bases of the global and of the local blocks.
        bases: [f64; 2],
    },
}

/// Shape of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Bert {
    /// Rows of the embedding, which is the decoder's table too.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub n_blocks: usize,
    /// Heads of a block; must divide `hidden_size`.
    pub n_heads: usize,
    /// Width of the MLP; ModernBERT's gate and value have it each.
    pub mlp_size: usize,
    /// Tokens of the longest sequence.
    pub length: usize,
    /// Added to the variance in every norm.
    pub eps: f64,
    /// Which of the two encoders, with what it alone has.
    pub kind: BertKind,
}

impl Bert {
    fn norm(&self, g: &mut Graph, p: &mut Params, name: &str) -> Result<Norm> {
        let d = self.hidden_size;
        let weight = p.tensor(g, &format!("{name}.weight"), &[d], Init::Ones)?;
        let bias = match self.kind {
            BertKind::Classic { .. } => {
                Some(p.tensor(g, &format!("{name}.bias"), &[d], Init::Zeros)?)
            }
            BertKind::Modern { .. } => None,
        };
        Ok(Norm::layer(weight).bias(bias).eps(self.eps))
    }

    /// A linear layer; ModernBERT's have no bias.
    fn linear(
        &self,
        g: &mut Graph,
        p: &mut Params,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Linear> {
        let bias = matches!(self.kind, BertKind::Classic { .. });
        p.linear(g, name, shape, bias, Init::linear(shape[1]))
    }

    fn attention(
        &self,
        g: &mut Graph,
        call: &mut Call,
        name: &str,
        [q, k, v]: [Heads; 3],
        reach: Option<usize>,
    ) -> Result<Tensor> {
        let attend = Attend {
            q,
            k,
            v,
            batch: call.options.batch,
            heads: self.n_heads,
            kv_heads: self.n_heads,
            head_dim: self.hidden_size / self.n_heads,
            seen: Seen::All,
        };
        call.attention(g, name, attend, reach)
    }

    fn classic(
        &self,
        g: &mut Graph,
        p: &mut Params,
        call: &mut Call,
        types: usize,
    ) -> Result<Tensor> {
        let (d, none) = (self.hidden_size, Dropout::default());
        let x = self.embedded(g, p, call)?;
        let table = |part: &str| format!("bert.embeddings.{part}_embeddings.weight");
        let positions = p.tensor(g, &table("position"), &[self.length, d], Init::linear(d))?;
        let x = call.positions(g, "positions", x, positions)?;
        let kinds = p.tensor(g, &table("token_type"), &[types, d], Init::linear(d))?;
        for part in ["position", "token_type"] {
            p.group(&table(part), Group::Embedding);
        }
        let x = g.add_rows("types", x, kinds, 1)?;
        let norm = self.norm(g, p, "bert.embeddings.LayerNorm")?;
        let mut x = g.norm("embed", x, norm)?;
        for i in 0..self.n_blocks {
            call.block(g);
            let name = |part: &str| format!("layer.{i}.{part}");
            let key = |part: &str| format!("bert.encoder.layer.{i}.{part}");
            let mut heads = Vec::new();
            for part in ["query", "key", "value"] {
                let w = self.linear(g, p, &key(&format!("attention.self.{part}")), [d, d])?;
                heads.push(Heads::whole(g.linear(&name(part), x, w.weight, w.bias)?));
            }
            let heads = [heads[0], heads[1], heads[2]];
            let a = self.attention(g, call, &name("attn"), heads, None)?;
            let w = self.linear(g, p, &key("attention.output.dense"), [d, d])?;
            let names = [&name("attn_out")[..], &name("mid")];
            [_, x] = g.linear_residual(names, a, w.weight, w.bias, x, None, none)?;
            let norm = self.norm(g, p, &key("attention.output.LayerNorm"))?;
            x = g.norm(&name("attn_norm"), x, norm)?;
            let w = self.linear(g, p, &key("intermediate.dense"), [self.mlp_size, d])?;
            let h = g.linear(&name("up"), x, w.weight, w.bias)?;
            let h = g.activate(&name("gelu"), h, Activation::GeluErf)?;
            let w = self.linear(g, p, &key("output.dense"), [d, self.mlp_size])?;
            let names = [&name("mlp")[..], &name("sum")];
            [_, x] = g.linear_residual(names, h, w.weight, w.bias, x, None, none)?;
            let norm = self.norm(g, p, &key("output.LayerNorm"))?;
            x = g.norm(&format!("layer.{i}"), x, norm)?;
        }
        call.block(g);
        Ok(x)
    }

    fn modern(
        &self,
        g: &mut Graph,
        p: &mut Params,
        call: &mut Call,
        [global_every, reach]: [usize; 2],
        bases: [f64; 2],
    ) -> Result<Tensor> {
        let (d, none) = (self.hidden_size, Dropout::default());
        let (heads, dim) = (self.n_heads, d / self.n_heads);
        let x = self.embedded(g, p, call)?;
        let norm = self.norm(g, p, "model.embeddings.norm")?;
        let mut x = g.norm("embed", x, norm)?;
        let tables = bases.map(|base| call.rotary_table(g, &rotary_frequencies(dim, base)));
        for i in 0..self.n_blocks {
            call.block(g);
            let name = |part: &str| format!("layer.{i}.{part}");
            let key = |part: &str| format!("model.layers.{i}.{part}");
            let global = i.is_multiple_of(global_every);
            let mut h = x;
            if i > 0 {
                let norm = self.norm(g, p, &key("attn_norm"))?;
                h = g.norm(&name("attn_norm"), x, norm)?;
            }
            let w = self.linear(g, p, &key("attn.Wqkv"), [3 * d, d])?;
            let qkv = g.linear(&name("qkv"), h, w.weight, None)?;
            let qkv = g.rotary(
                &name("rot"),
                qkv,
                tables[usize::from(!global)],
                2 * heads,
                dim,
            )?;
            let part = |i: usize| Heads {
                tensor: qkv,
                column: i * d,
            };
            let reach = (!global).then_some(reach);
            let heads = [part(0), part(1), part(2)];
            let a = self.attention(g, call, &name("attn"), heads, reach)?;
            let w = self.linear(g, p, &key("attn.Wo"), [d, d])?;
            let names = [&name("attn_out")[..], &name("mid")];
            [_, x] = g.linear_residual(names, a, w.weight, None, x, None, none)?;
            let norm = self.norm(g, p, &key("mlp_norm"))?;
            let h = g.norm(&name("mlp_norm"), x, norm)?;
            let w = self.linear(g, p, &key("mlp.Wi"), [2 * self.mlp_size, d])?;
            let both = g.linear(&name("up"), h, w.weight, None)?;
            let part = |i: usize| Heads {
                tensor: both,
                column: i * self.mlp_size,
            };
            let h = g.gated(
                &name("gated"),
                Activation::GeluErf,
                part(0),
                part(1),
                self.mlp_size,
            )?;
            let w = self.linear(g, p, &key("mlp.Wo"), [d, self.mlp_size])?;
            let names = [&name("mlp")[..], &format!("layer.{i}")];
            [_, x] = g.linear_residual(names, h, w.weight, None, x, None, none)?;
        }
        call.block(g);
        let norm = self.norm(g, p, "model.final_norm")?;
        g.norm("final_norm", x, norm)
    }

    fn embedded(&self, g: &mut Graph, p: &mut Params, call: &Call) -> Result<Tensor> {
        let table = self.table(g, p)?;
        g.embedding("tokens", call.xt, table, call.segments)
    }

    /// The embedding's table, which is the decoder's too.
    fn table(&self, g: &mut Graph, p: &mut Params) -> Result<Tensor> {
        let name = match self.kind {
            BertKind::Classic { .. } => "bert.embeddings.word_embeddings.weight",
            BertKind::Modern { .. } => "model.embeddings.tok_embeddings.weight",
        };
        let shape = [self.vocab_size, self.hidden_size];
        let table = p.matrix(g, name, shape, Init::linear(self.hidden_size))?;
        p.group(name, Group::Embedding);
        Ok(table)
    }
}

impl Trunk for Bert {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn length(&self) -> usize {
        self.length
    }

    fn ignored(&self) -> Vec<String> {
        // what older files hold besides: the decoder once more, buffers, the head for pairs of sentences
        let names: &[&str] = match self.kind {
            BertKind::Classic { .. } => &[
                "bert.embeddings.position_ids",
                "cls.predictions.decoder.weight",
                "cls.predictions.decoder.bias",
                "bert.pooler.dense.weight",
                "bert.pooler.dense.bias",
                "cls.seq_relationship.weight",
                "cls.seq_relationship.bias",
            ],
            BertKind::Modern { .. } => &["decoder.weight"],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn build(&self, g: &mut Graph, p: &mut Params, call: &mut Call) -> Result<Tensor> {
        match self.kind {
            BertKind::Classic { types } => self.classic(g, p, call, types),
            BertKind::Modern {
                global_every,
                reach,
                bases,
            } => self.modern(g, p, call, [global_every, reach], bases),
        }
    }

    fn head(&self, g: &mut Graph, p: &mut Params, hidden: Tensor) -> Result<Head> {
        let [dense, norm, bias] = match self.kind {
            BertKind::Classic { .. } => [
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
                "cls.predictions.bias",
            ],
            BertKind::Modern { .. } => ["head.dense", "head.norm", "decoder.bias"],
        };
        let w = self.linear(g, p, dense, [self.hidden_size; 2])?;
        let h = g.linear("head.dense", hidden, w.weight, w.bias)?;
        let h = g.activate("head.gelu", h, Activation::GeluErf)?;
        let norm = self.norm(g, p, norm)?;
        Ok(Head {
            hidden: g.norm("head", h, norm)?,
            weight: self.table(g, p)?,
            bias: Some(p.tensor(g, bias, &[self.vocab_size], Init::Zeros)?),
        })
    }
}
