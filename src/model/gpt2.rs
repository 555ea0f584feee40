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
use crate::model::pretrained::Gpt2Fields;
use crate::model::trunks::Gpt2Trunk;
use crate::model::{EvalGraph, Network, Options, Pass, check_tokens};
use crate::ops::RowLoss;
use crate::program::{Element, Step};

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
        let trunk = parse(&text).map_err(|e| Error::checkpoint(&path, None, e))?;
        let file = dir.join("model.safetensors");
        let (network, storage) = match read(device, &trunk, &file, "").await {
            // some files have the names of the network as a part of a larger one
            Err(Error::Checkpoint { problem, .. }) if problem.contains("transformer.") => {
                read(device, &trunk, &file, "transformer.").await?
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

/// Reads the text of a `config.json`; the error is for people.
fn parse(text: &str) -> Result<Gpt2Trunk, String> {
    let fields: Gpt2Fields = keyed::parse(text.as_bytes())?;
    if fields.model_type != "gpt2" {
        return Err(format!("model_type is {}, not gpt2", fields.model_type));
    }
    fields.trunk()
}

/// The network and its weights from a file whose names begin with `prefix`.
async fn read(
    device: &Device,
    trunk: &Gpt2Trunk,
    path: &Path,
    prefix: &str,
) -> Result<(Network, Storage)> {
    let trunk = Gpt2Trunk {
        prefix: prefix.to_owned(),
        table: format!("{prefix}wte.weight"),
        ..trunk.clone()
    };
    let (folder, name) = Folder::of(path)?;
    Network::open(device, Arc::new(trunk), Element::F32, &folder, name).await
}
