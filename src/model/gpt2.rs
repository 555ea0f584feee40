//! GPT-2 as a judge of text: its likelihood, from a Hugging Face `config.json` and
//! `model.safetensors`.
//!
//! Blocks are the crate's own: a norm's bias is a modulation with scale 0, positions are a second
//! embedding, the output is the embedding's table with a row more that stands for the mask that
//! GPT-2 does not have.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::FORWARD;
use crate::graph::PARAMS;
use crate::graph::{Graph, Layout, LayoutBuilder, ParamId, Session, Storage, Tensor};
use crate::io::checkpoint::read_text;
use crate::io::keyed;
use crate::io::safetensors::{TensorSpec, read_file};
use crate::model::check_tokens;
use crate::ops::Attend;
use crate::ops::{Dropout, HeadLoss, Modulation, RowList, RowLoss};
use crate::ops::{Norm, ROWS, Seen};
use crate::program::Step;

/// The fields of `config.json` that matter here.
#[derive(Deserialize)]
struct Fields {
    model_type: String,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_positions: Option<usize>,
    n_ctx: Option<usize>,
    n_inner: Option<usize>,
    vocab_size: usize,
    activation_function: Option<String>,
    layer_norm_epsilon: Option<f64>,
    tie_word_embeddings: Option<bool>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    add_cross_attention: Option<bool>,
}

/// Shape of a GPT-2.
#[derive(Clone, Debug)]
struct Config {
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_positions: usize,
    vocab_size: usize,
}

impl Config {
    /// Reads the text of a `config.json`; the error is for people.
    fn parse(text: &str) -> Result<Self, String> {
        let f: Fields = keyed::parse(text.as_bytes())?;
        if f.model_type != "gpt2" {
            return Err(format!("model_type is {}, not gpt2", f.model_type));
        }
        let n_positions = match (f.n_positions, f.n_ctx) {
            (Some(a), Some(b)) if a != b => {
                return Err(format!("n_positions is {a} but n_ctx is {b}"));
            }
            (a, b) => a.or(b).ok_or("it has neither n_positions nor n_ctx")?,
        };
        let sizes = [f.n_embd, f.n_layer, f.n_head, n_positions, f.vocab_size];
        if sizes.iter().any(|&n| n == 0 || n > 1 << 20) || !f.n_embd.is_multiple_of(f.n_head) {
            return Err("its sizes cannot be".into());
        }
        if ![16, 32, 64, 128].contains(&(f.n_embd / f.n_head)) {
            return Err("n_embd / n_head must be 16, 32, 64 or 128".into());
        }
        // what would change the numbers, with the only value that is computed here
        let gelu = f.activation_function.is_none_or(|name| name == "gelu_new");
        let epsilon = f.layer_norm_epsilon.is_none_or(|epsilon| epsilon == 1e-5);
        let width = f.n_inner.is_none_or(|width| width == 4 * f.n_embd);
        let (tied, scaled) = (f.tie_word_embeddings, f.scale_attn_weights);
        let (by_layer, crossed) = (f.scale_attn_by_inverse_layer_idx, f.add_cross_attention);
        for (holds, only) in [
            (gelu, "activation_function = gelu_new"),
            (epsilon, "layer_norm_epsilon = 1e-5"),
            (width, "n_inner = 4 n_embd"),
            (tied != Some(false), "tie_word_embeddings = true"),
            (scaled != Some(false), "scale_attn_weights = true"),
            (
                by_layer != Some(true),
                "scale_attn_by_inverse_layer_idx = false",
            ),
            (crossed != Some(true), "add_cross_attention = false"),
        ] {
            if !holds {
                return Err(format!("only {only} is supported"));
            }
        }
        Ok(Self {
            n_embd: f.n_embd,
            n_layer: f.n_layer,
            n_head: f.n_head,
            n_positions,
            vocab_size: f.vocab_size,
        })
    }

    /// Names and shapes in the file, in the order of the layout's keys.
    fn specs(&self, prefix: &str) -> Vec<TensorSpec> {
        let d = self.n_embd;
        let mut specs = Vec::new();
        let mut add = |name: String, shape: &[usize]| {
            specs.push(TensorSpec::new(prefix.to_owned() + &name, shape))
        };
        add("wte.weight".into(), &[self.vocab_size, d]);
        add("wpe.weight".into(), &[self.n_positions, d]);
        for i in 0..self.n_layer {
            for (name, shape) in [
                ("ln_1.weight", &[d][..]),
                ("ln_1.bias", &[d]),
                ("attn.c_attn.weight", &[d, 3 * d]),
                ("attn.c_attn.bias", &[3 * d]),
                ("attn.c_proj.weight", &[d, d]),
                ("attn.c_proj.bias", &[d]),
                ("ln_2.weight", &[d]),
                ("ln_2.bias", &[d]),
                ("mlp.c_fc.weight", &[d, 4 * d]),
                ("mlp.c_fc.bias", &[4 * d]),
                ("mlp.c_proj.weight", &[4 * d, d]),
                ("mlp.c_proj.bias", &[d]),
            ] {
                add(format!("h.{i}.{name}"), shape);
            }
        }
        add("ln_f.weight".into(), &[d]);
        add("ln_f.bias".into(), &[d]);
        specs
    }

    /// Buffers and the tied head, which files may carry too.
    fn optional(&self, prefix: &str) -> Vec<String> {
        let buffer = |i| ["bias", "masked_bias"].map(|name| format!("{prefix}h.{i}.attn.{name}"));
        let mut names: Vec<String> = (0..self.n_layer).flat_map(buffer).collect();
        names.push("lm_head.weight".into());
        names
    }
}

/// Parameters: weights `[out, in]` with their biases, and the norms' weights.
struct Params {
    wte: ParamId,
    wpe: ParamId,
    blocks: Vec<[ParamId; 10]>,
    norm: ParamId,
    /// `[(2 blocks + 1) 2 D]`: each norm's bias, then zeros.
    shifts: ParamId,
    /// `[V + 1]` zeros.
    no_bias: ParamId,
}

/// A GPT-2 with its weights on a device.
pub struct Gpt2 {
    device: Device,
    config: Config,
    params: Params,
    layout: Arc<Layout>,
    storage: Storage,
    scorer: Option<Scorer>,
}

/// The graph that scores texts of up to a length.
struct Scorer {
    length: usize,
    ids: Tensor,
    list: RowList,
    targets: Tensor,
    session: Session,
}

impl Gpt2 {
    /// Loads a folder that holds `config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names what is wrong, [`Error::Io`], or what the device refuses.
    pub async fn load(device: &Device, dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = read_text(&path, 1 << 16)?;
        let config = Config::parse(&text).map_err(|e| Error::checkpoint(&path, None, e))?;
        let weights = read_weights(&dir.join("model.safetensors"), &config)?;
        let mut b = Layout::builder(device.slab_limit());
        let params = place(&config, &mut b)?;
        let layout = Arc::new(b.finish(|_| 0));
        let mut storage = Storage::new(device, &layout, &[PARAMS]).await?;
        storage.fill(PARAMS, &arrange(&config, weights))?;
        Ok(Self {
            device: device.clone(),
            config,
            params,
            layout,
            storage,
            scorer: None,
        })
    }

    /// Whether the folder holds a GPT-2, as far as its `config.json` says.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is no JSON, [`Error::Io`]; a folder without the file holds none.
    pub fn is_in(dir: &Path) -> Result<bool> {
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
        }
        let path = dir.join("config.json");
        if !path.is_file() {
            return Ok(false);
        }
        let text = read_text(&path, 1 << 16)?;
        let kind: Kind =
            keyed::parse(text.as_bytes()).map_err(|e| Error::checkpoint(&path, None, e))?;
        Ok(kind.model_type.is_some_and(|kind| kind == "gpt2"))
    }

    /// Tokens without the stand-in for a mask.
    pub fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    /// Longest text that is scored at once.
    pub fn length(&self) -> usize {
        self.config.n_positions
    }

    /// Negative log-likelihood of each token but the first given those before it, nats.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Config`] for more tokens than positions, or what the device refuses.
    pub async fn nll(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.config.vocab_size)?;
        if tokens.len() > self.config.n_positions {
            let problem = format!("the model has {} positions", self.config.n_positions);
            return Err(Error::config("tokens", tokens.len(), problem));
        }
        if tokens.len() < 2 {
            return Ok(Vec::new());
        }
        let length = tokens
            .len()
            .next_multiple_of(64)
            .min(self.config.n_positions);
        if self.scorer.as_ref().is_none_or(|s| s.length != length) {
            self.scorer = Some(self.scorer(length).await?);
        }
        let Some(scorer) = &mut self.scorer else {
            return Err(Error::Internal("no scorer".into()));
        };
        let count = tokens.len() - 1;
        let rows: Vec<u32> = (0..count as u32).collect();
        let mut ids = tokens.to_vec();
        ids.resize(length, 0);
        scorer.session.write_uint(scorer.ids, &ids)?;
        scorer.session.write_uint(scorer.list.rows, &rows)?;
        scorer.session.write_uint(scorer.targets, &tokens[1..])?;
        let step = Step::default().with(ROWS, count as u32);
        let nll = scorer
            .session
            .run(&mut self.storage, &step, &[FORWARD])
            .await?;
        Ok(nll[..count].to_vec())
    }

    async fn scorer(&self, length: usize) -> Result<Scorer> {
        let (c, d) = (&self.config, self.config.n_embd);
        let mut graph = Graph::new(self.layout.clone());
        let g = &mut graph;
        let ids = g.input_uint("ids", &[length]);
        let positions = g.input_uint("positions", &[length]);
        let (wte, wpe) = (g.param(self.params.wte), g.param(self.params.wpe));
        let x = g.embedding("wpe", positions, wpe, None)?;
        let tokens = g.embedding("wte", ids, wte, None)?;
        g.add_in_place(tokens, x)?;
        let mut x = x;
        let shifts = g.param(self.params.shifts);
        let shifts = g.view(shifts, 0, &[1, (2 * c.n_layer + 1) * 2 * d])?;
        let shift = |i: usize| {
            let place = Modulation {
                sample_rows: length,
                stride: (2 * c.n_layer + 1) * 2 * d,
                column: 2 * d * i,
            };
            Some((shifts, place))
        };
        for (i, block) in self.params.blocks.iter().enumerate() {
            let [ln1, w_qkv, b_qkv, w_out, b_out, ln2, w0, b0, w2, b2] =
                block.map(|id| g.param(id));
            let none = Dropout::default();
            let h = g.norm("ln_1", x, Norm::layer(ln1).modulated(shift(2 * i)))?;
            let qkv = g.linear("c_attn", h, w_qkv, Some(b_qkv))?;
            let attend = Attend::fused(qkv, 1, c.n_head, d / c.n_head, Seen::Causal);
            let a = g.attention("attn", &attend)?;
            let names = ["attn.c_proj", "x_mid"];
            [_, x] = g.linear_residual(names, a, w_out, Some(b_out), x, None, none)?;
            let h = g.norm("ln_2", x, Norm::layer(ln2).modulated(shift(2 * i + 1)))?;
            let [_, h] = g.linear_gelu(["c_fc", "gelu"], h, w0, Some(b0))?;
            [_, x] = g.linear_residual(["mlp.c_proj", "out"], h, w2, Some(b2), x, None, none)?;
        }
        let norm = g.param(self.params.norm);
        let x = g.norm("ln_f", x, Norm::layer(norm).modulated(shift(2 * c.n_layer)))?;
        let list = g.row_list(length);
        let hidden = g.gather_rows("hidden", x, list)?;
        let targets = g.input_uint("targets", &[length]);
        let bias = g.param(self.params.no_bias);
        let weights = g.constant("weights", &[length], vec![0.0; length]);
        let [_, nll] = g.head_loss(&HeadLoss {
            loss: RowLoss::Subs,
            hidden,
            weight: wte,
            bias,
            targets,
            weights,
            coefficients: None,
            mask_index: c.vocab_size as u32,
            chunk: length,
            gradient: false,
        })?;
        let mut session =
            Session::new(&self.device, &mut graph, &self.storage, PARAMS, &[nll]).await?;
        session.write_uint(positions, &(0..length as u32).collect::<Vec<_>>())?;
        Ok(Scorer {
            length,
            ids,
            list,
            targets,
            session,
        })
    }
}

/// The file's tensors, whose names may begin with `transformer.`.
fn read_weights(path: &Path, config: &Config) -> Result<Vec<Vec<f32>>> {
    let read = |prefix: &str| {
        let optional = config.optional(prefix);
        let optional: Vec<&str> = optional.iter().map(String::as_str).collect();
        read_file(path, &config.specs(prefix), &optional)
    };
    read("").or_else(|error| match error {
        Error::Checkpoint { ref problem, .. } => {
            let prefixed = problem.contains("transformer.");
            read("transformer.").map_err(|other| if prefixed { other } else { error })
        }
        other => Err(other),
    })
}

fn place(c: &Config, b: &mut LayoutBuilder) -> Result<Params> {
    let d = c.n_embd;
    let wte = b.tensor("wte", &[c.vocab_size + 1, d])?;
    let wpe = b.tensor("wpe", &[c.n_positions, d])?;
    let mut blocks = Vec::new();
    for i in 0..c.n_layer {
        let mut add = |name: &str, shape: &[usize]| b.tensor(&format!("h.{i}.{name}"), shape);
        blocks.push([
            add("ln_1.weight", &[d])?,
            add("attn.c_attn.weight", &[3 * d, d])?,
            add("attn.c_attn.bias", &[3 * d])?,
            add("attn.c_proj.weight", &[d, d])?,
            add("attn.c_proj.bias", &[d])?,
            add("ln_2.weight", &[d])?,
            add("mlp.c_fc.weight", &[4 * d, d])?,
            add("mlp.c_fc.bias", &[4 * d])?,
            add("mlp.c_proj.weight", &[d, 4 * d])?,
            add("mlp.c_proj.bias", &[d])?,
        ]);
    }
    Ok(Params {
        wte,
        wpe,
        blocks,
        norm: b.tensor("ln_f.weight", &[d])?,
        shifts: b.tensor("shifts", &[(2 * c.n_layer + 1) * 2 * d])?,
        no_bias: b.tensor("no_bias", &[c.vocab_size + 1])?,
    })
}

/// Values of the layout's keys from the file's tensors: weights transposed, norms' biases gathered.
fn arrange(c: &Config, weights: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let d = c.n_embd;
    let (mut out, mut shifts) = (Vec::new(), Vec::new());
    for (spec, mut values) in c.specs("").iter().zip(weights) {
        let name = spec.name.as_str();
        if name == "wte.weight" {
            values.resize((c.vocab_size + 1) * d, 0.0);
        } else if name.ends_with(".bias") && name.contains("ln_") {
            shifts.extend(values);
            shifts.resize(shifts.len() + d, 0.0);
            continue;
        } else if let (true, &[rows, columns]) = (name.starts_with("h."), &spec.shape[..]) {
            values = (0..rows * columns)
                .map(|i| values[i % rows * columns + i / rows])
                .collect();
        }
        out.push(values);
    }
    out.push(shifts);
    out.push(vec![0.0; c.vocab_size + 1]);
    out
}
