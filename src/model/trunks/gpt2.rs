//! GPT-2: learned positions, pre-norm blocks with biases, GELU by tanh, a head tied to the embedding; causal, or, as
//! DiffuGPT, not.

use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::model::params::{Group, Init, Linear, Params};
use crate::model::trunk::{Call, Head, Trunk};
use crate::ops::{Attend, Dropout, Norm, Seen};

/// Shape of a GPT-2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt2Trunk {
    /// Rows of the embedding, which is the head's weight too.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// Heads of a block; must divide `n_embd`.
    pub n_head: usize,
    /// Rows of the table of positions: tokens of the longest sequence.
    pub n_positions: usize,
    /// What names in the file begin with: nothing, `transformer.`, or `denoise_model.`.
    pub prefix: String,
    /// What the file calls the embedding.
    pub table: String,
    /// A token sees only those up to itself.
    pub causal: bool,
}

impl Gpt2Trunk {
    fn key(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    fn norm(&self, g: &mut Graph, p: &mut Params, name: &str) -> Result<Norm> {
        let d = self.n_embd;
        let weight = p.tensor(g, &self.key(&format!("{name}.weight")), &[d], Init::Ones)?;
        let bias = p.tensor(g, &self.key(&format!("{name}.bias")), &[d], Init::Zeros)?;
        Ok(Norm::layer(weight).bias(Some(bias)))
    }

    fn linear(
        &self,
        g: &mut Graph,
        p: &mut Params,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Linear> {
        p.transposed(g, &self.key(name), shape, Init::linear(shape[1]))
    }

    fn table(&self, g: &mut Graph, p: &mut Params) -> Result<Tensor> {
        let shape = [self.vocab_size, self.n_embd];
        let table = p.matrix(g, &self.table, shape, Init::linear(self.n_embd))?;
        p.group(&self.table, Group::Embedding);
        Ok(table)
    }
}

impl Trunk for Gpt2Trunk {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn length(&self) -> usize {
        self.n_positions
    }

    fn ignored(&self) -> Vec<String> {
        // buffers and the tied head, which files may carry too
        let buffer =
            |i| ["bias", "masked_bias"].map(|name| self.key(&format!("h.{i}.attn.{name}")));
        let mut names: Vec<String> = (0..self.n_layer).flat_map(buffer).collect();
        names.push("lm_head.weight".into());
        names
    }

    fn build(&self, g: &mut Graph, p: &mut Params, call: &mut Call) -> Result<Tensor> {
        let (d, none) = (self.n_embd, Dropout::default());
        let (batch, heads) = (call.options.batch, self.n_head);
        let seen = if self.causal { Seen::Causal } else { Seen::All };
        let table = self.table(g, p)?;
        let x = g.embedding("wte", call.xt, table, call.segments)?;
        let shape = [self.n_positions, d];
        let positions = p.tensor(g, &self.key("wpe.weight"), &shape, Init::linear(d))?;
        p.group(&self.key("wpe.weight"), Group::Embedding);
        let mut x = call.positions(g, "wpe", x, positions)?;
        for i in 0..self.n_layer {
            call.block(g);
            let name = |part: &str| format!("h.{i}.{part}");
            let norm = self.norm(g, p, &name("ln_1"))?;
            let h = g.norm(&name("ln_1"), x, norm)?;
            let w = self.linear(g, p, &name("attn.c_attn"), [3 * d, d])?;
            let qkv = self.key(&format!("{}.weight", name("attn.c_attn")));
            p.group(&qkv, Group::Hidden { parts: 3 });
            let qkv = g.linear(&name("c_attn"), h, w.weight, w.bias)?;
            let attend = Attend::fused(qkv, batch, heads, d / heads, seen);
            let a = call.attention(g, &name("attn"), attend, None)?;
            let w = self.linear(g, p, &name("attn.c_proj"), [d, d])?;
            let names = [&name("attn.c_proj")[..], &name("mid")];
            [_, x] = g.linear_residual(names, a, w.weight, w.bias, x, None, none)?;
            let norm = self.norm(g, p, &name("ln_2"))?;
            let h = g.norm(&name("ln_2"), x, norm)?;
            let w = self.linear(g, p, &name("mlp.c_fc"), [4 * d, d])?;
            let names = [&name("c_fc")[..], &name("gelu")];
            let [_, h] = g.linear_gelu(names, h, w.weight, w.bias)?;
            let w = self.linear(g, p, &name("mlp.c_proj"), [d, 4 * d])?;
            let names = [&name("mlp.c_proj")[..], &name("out")];
            [_, x] = g.linear_residual(names, h, w.weight, w.bias, x, None, none)?;
        }
        call.block(g);
        let norm = self.norm(g, p, "ln_f")?;
        g.norm("ln_f", x, norm)
    }

    fn head(&self, g: &mut Graph, p: &mut Params, hidden: Tensor) -> Result<Head> {
        Ok(Head {
            hidden,
            weight: self.table(g, p)?,
            bias: None,
        })
    }
}
