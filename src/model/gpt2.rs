//! GPT-2 as a judge of text: its likelihood, from a Hugging Face `config.json` and `model.safetensors`.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{FORWARD, PARAMS, Session, Storage};
use crate::io::checkpoint::read_text;
use crate::io::files::Folder;
use crate::io::keyed;
use crate::model::trunks::Gpt2Trunk;
use crate::model::{EvalGraph, Network, Options, Pass, check_tokens};
use crate::ops::RowLoss;
use crate::program::{Element, Step};

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
        if !(4..=256).contains(&(f.n_embd / f.n_head)) || !(f.n_embd / f.n_head).is_multiple_of(4) {
            return Err("n_embd / n_head must be 4, 8 .. 256".into());
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
}

/// A GPT-2 with its weights on a device.
pub struct Gpt2 {
    device: Device,
    network: Network,
    storage: Storage,
    scorer: Option<Scorer>,
}

/// The graph that scores texts of up to a length.
struct Scorer {
    length: usize,
    graph: EvalGraph,
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
        let file = dir.join("model.safetensors");
        let (network, storage) = match config.read(device, &file, "").await {
            // some files have the names of the network as a part of a larger one
            Err(Error::Checkpoint { problem, .. }) if problem.contains("transformer.") => {
                config.read(device, &file, "transformer.").await?
            }
            read => read?,
        };
        Ok(Self {
            device: device.clone(),
            network,
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

    /// Number of its tokens; ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.network.trunk.vocab_size()
    }

    /// Most tokens that are scored at once.
    pub fn length(&self) -> usize {
        self.network.trunk.length()
    }

    /// Negative log-likelihood of each token but the first given those before it, nats.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Argument`] for more tokens than positions, or what the device refuses.
    pub async fn nll(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.network.trunk.vocab_size())?;
        if tokens.len() > self.network.trunk.length() {
            let problem = format!("the model has {} positions", self.network.trunk.length());
            return Err(Error::argument("tokens", tokens.len(), problem));
        }
        if tokens.len() < 2 {
            return Ok(Vec::new());
        }
        let length = tokens
            .len()
            .next_multiple_of(64)
            .min(self.network.trunk.length());
        if self.scorer.as_ref().is_none_or(|s| s.length != length) {
            self.scorer = Some(self.scorer(length).await?);
        }
        let Some(scorer) = &mut self.scorer else {
            return Err(Error::Internal("no scorer".into()));
        };
        let count = tokens.len() - 1;
        let mut ids = tokens.to_vec();
        ids.resize(length, 0);
        let pass = Pass {
            rows: (0..count as u32).collect(),
            targets: tokens[1..].to_vec(),
            ..Pass::of(&ids)
        };
        let mut step = Step::default();
        let (graph, session) = (&scorer.graph, &mut scorer.session);
        graph.call.write(session, &*self.network.trunk, &pass)?;
        graph.inputs.write(session, &pass, &mut step)?;
        let nll = session.run(&mut self.storage, &step, &[FORWARD]).await?;
        Ok(nll[..count].to_vec())
    }

    async fn scorer(&self, length: usize) -> Result<Scorer> {
        let options = Options::of(1, length);
        let mut graph = EvalGraph::new(&self.network, options, RowLoss::Subs)?;
        let outputs = [graph.nll];
        let made = Session::new(
            &self.device,
            &mut graph.graph,
            &self.storage,
            PARAMS,
            &outputs,
        );
        Ok(Scorer {
            length,
            session: made.await?,
            graph,
        })
    }
}

impl Config {
    /// The network and its weights from a file whose names begin with `prefix`.
    async fn read(&self, device: &Device, path: &Path, prefix: &str) -> Result<(Network, Storage)> {
        let trunk = Gpt2Trunk {
            vocab_size: self.vocab_size,
            n_embd: self.n_embd,
            n_layer: self.n_layer,
            n_head: self.n_head,
            n_positions: self.n_positions,
            prefix: prefix.to_owned(),
        };
        let (folder, name) = Folder::of(path)?;
        Network::open(device, Arc::new(trunk), Element::F32, &folder, name).await
    }
}
