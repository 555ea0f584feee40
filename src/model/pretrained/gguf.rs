//! Models in one GGUF file: which network its metadata describes, and its weights.

use std::path::Path;
use std::sync::Arc;

use super::described::{Described, possible};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{PARAMS, Storage};
use crate::io::gguf::{Gguf, Kind, Metadata, Tensor};
use crate::model::network::NO_LIMIT;
use crate::model::trunks::{Llama, Names};
use crate::model::{Network, Trunk};
use crate::program::Element;

/// An architecture of files, and what its models can be loaded as; the first unless told otherwise.
struct Architecture {
    name: &'static str,
    types: &'static [&'static str],
    /// Whether its files say by themselves that a model is a denoiser.
    denoiser: bool,
    qkv_bias: bool,
    qk_norm: bool,
    /// Whether the two halves of each head's rows of q and k are interleaved, as the converter does it for some.
    interleaved: bool,
}

const LLADA: Architecture = Architecture {
    name: "llada",
    types: &["llada"],
    denoiser: true,
    qkv_bias: false,
    qk_norm: false,
    interleaved: true,
};
const DREAM: Architecture = Architecture {
    name: "dream",
    types: &["Dream", "a2d-qwen2"],
    qkv_bias: true,
    interleaved: false,
    ..LLADA
};
const ARCHITECTURES: [Architecture; 5] = [
    LLADA,
    DREAM,
    Architecture {
        name: "qwen2",
        types: &["a2d-qwen2", "Dream"],
        denoiser: false,
        ..DREAM
    },
    Architecture {
        name: "qwen3",
        types: &["a2d-qwen3", "sdar"],
        denoiser: false,
        qk_norm: true,
        interleaved: false,
        ..LLADA
    },
    Architecture {
        name: "llama",
        types: &["a2d-llama", "diffullama"],
        denoiser: false,
        ..LLADA
    },
];

/// What may be said of an architecture that changes nothing that is computed here.
const IDLE: [&str; 3] = [
    "pooling_type",
    "tensor_data_layout",
    "rope.scaling.finetuned",
];

/// A model's file, and what it describes.
#[derive(Debug)]
pub struct GgufModel {
    /// The file.
    pub file: Gguf,
    /// What it says.
    pub described: Described,
    /// Heads of q and k whose rows are interleaved.
    interleaved: Option<[usize; 2]>,
}

impl GgufModel {
    /// Reads what a file says of its model, as that of `model_type` or of its own architecture.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names what is missing, damaged or not supported; [`Error::Io`].
    pub fn open(path: &Path, model_type: Option<&str>) -> Result<Self> {
        let file = Gguf::open(path)?;
        let m = &file.metadata;
        whole(m)?;
        let architecture = architecture(m)?;
        let model_type = chosen(m, architecture, model_type)?;
        let trunk = Llama {
            blind_pads: model_type == "Dream",
            frozen_token: token(m, "padding")?.filter(|_| model_type == "Dream"),
            ..trunk(&file, architecture)?
        };
        let heads = [trunk.n_heads, trunk.n_kv_heads];
        let found = (Arc::new(trunk) as Arc<dyn Trunk>, token(m, "mask")?);
        let mut described = Described::new(model_type, found, None);
        described.shift = m.flag("diffusion.shift_logits")?.unwrap_or(described.shift);
        let trunk = described.trunk.clone();
        let network = Network::new(trunk, NO_LIMIT, Element::F32);
        let network = network.map_err(|e| m.damaged(format!("its sizes cannot be: {e}")))?;
        compare(&file, &network)?;
        Ok(Self {
            described,
            interleaved: architecture.interleaved.then_some(heads),
            file,
        })
    }

    /// How matrices rest unless told otherwise: as small as in the file, or next to it.
    pub fn elements(&self) -> Vec<(String, Element)> {
        let matrices = self.file.tensors.iter().filter(|t| t.shape.len() == 2);
        matrices
            .map(|t| (t.name.clone(), resting(t.kind)))
            .collect()
    }

    /// The network with its weights, tensor by tensor, in elements of type `weights` or as they lie in the file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the tensor, [`Error::Io`], or what the device refuses.
    pub async fn load(
        &self,
        device: &Device,
        weights: Option<Element>,
    ) -> Result<(Network, Storage)> {
        let own = match weights {
            None => self.elements(),
            Some(_) => Vec::new(),
        };
        let trunk = self.described.trunk.clone();
        let room = device.room();
        let network = Network::with_elements(trunk, room, weights.unwrap_or_default(), &own)?;
        let mut storage = Storage::new(device, &network.layout, &[PARAMS]).await?;
        for tensor in &self.file.tensors {
            self.copy(tensor, &network, &mut storage)?;
        }
        Ok((network, storage))
    }

    fn copy(&self, tensor: &Tensor, network: &Network, storage: &mut Storage) -> Result<()> {
        let keys = network.layout.keys();
        let Some(index) = keys.iter().position(|key| key.key == tensor.name) else {
            return Ok(());
        };
        let element = network.layout.slabs()[keys[index].slab].element;
        let bytes = self.ordered(tensor, self.file.read(tensor)?);
        let path = self.file.path();
        let wrong = |problem| Error::checkpoint(path, Some(&tensor.name), problem);
        if packs(tensor.kind, element) {
            let (mut words, mut group, mut large) = (Vec::new(), 0, None);
            tensor.kind.scaled(&bytes, &mut |s| {
                let pair = [s.scale, s.offset];
                if pair.iter().any(|&x| !element.holds(x)) {
                    large = large.or(Some((group, pair)));
                }
                element.pack(pair, &s.q, &mut words);
                group += 1;
            });
            if let Some((group, [scale, offset])) = large {
                let problem = format!(
                    "numbers {} and on have scale {scale} and offset {offset}, which {element} cannot hold",
                    32 * group
                );
                return Err(wrong(problem));
            }
            return storage.set_words(PARAMS, index, &words);
        }
        let mut values = Vec::new();
        tensor.kind.numbers(&bytes, &mut values);
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            return Err(wrong(format!("element {place} is {}", values[place])));
        }
        network.holds(path, index, 0, &values)?;
        storage.set(PARAMS, index, &values)
    }

    /// The bytes of a tensor with its rows as the network has them: of each head the even ones, then the odd ones.
    fn ordered(&self, tensor: &Tensor, bytes: Vec<u8>) -> Vec<u8> {
        let part = tensor.name.rsplit('.').nth(1);
        let heads = match (self.interleaved, part) {
            (Some([heads, _]), Some("attn_q")) | (Some([_, heads]), Some("attn_k")) => heads,
            _ => return bytes,
        };
        let rows = tensor.shape[0];
        let (row, head) = (bytes.len() / rows, rows / heads);
        let mut out = Vec::with_capacity(bytes.len());
        for first in (0..rows).step_by(head) {
            let even_then_odd = (0..head).map(|i| 2 * i % head + 2 * i / head);
            for i in even_then_odd {
                out.extend_from_slice(&bytes[(first + i) * row..][..row]);
            }
        }
        out
    }
}

/// An error unless the file has the network's tensors and no other.
fn compare(file: &Gguf, network: &Network) -> Result<()> {
    let keys = network.layout.keys();
    let wrong =
        |name: &str, problem: String| Err(Error::checkpoint(file.path(), Some(name), problem));
    for key in keys {
        match file.find(&key.key) {
            None => return wrong(&key.key, "is not there".into()),
            Some(t) if t.shape != key.shape => {
                let problem = format!("has shape {:?}, expected {:?}", t.shape, key.shape);
                return wrong(&key.key, problem);
            }
            Some(_) => {}
        }
    }
    for tensor in &file.tensors {
        if keys.iter().all(|key| key.key != tensor.name) {
            let reason = match tensor.name.as_str() {
                "rope_freqs.weight" => "scales rotary frequencies, which is not supported",
                name if name.ends_with(".bias") => "is a bias that is not computed here",
                _ => "is none of the network's",
            };
            return wrong(&tensor.name, reason.into());
        }
    }
    Ok(())
}

/// The element that keeps numbers of a file, or comes nearest without taking more room than it must.
fn resting(kind: Kind) -> Element {
    match kind {
        Kind::F32 => Element::F32,
        Kind::F16 => Element::F16,
        Kind::Bf16 => Element::Bf16,
        Kind::Q8_0 | Kind::Q6K => Element::Q8,
        Kind::Q4_0 | Kind::Q4K => Element::Q4,
    }
}

/// Whether integers of a file can be kept as they are.
fn packs(kind: Kind, element: Element) -> bool {
    matches!(
        (kind, element),
        (Kind::Q8_0, Element::Q8) | (Kind::Q4_0 | Kind::Q4K, Element::Q4)
    )
}

/// An error for a file that is a part of a model.
fn whole(m: &Metadata) -> Result<()> {
    match m.whole("split.count")? {
        Some(count @ 2..) => {
            let problem = format!("is one of {count} parts: merge them to one file");
            Err(m.damaged(problem))
        }
        _ => Ok(()),
    }
}

fn architecture(m: &Metadata) -> Result<&'static Architecture> {
    const KEY: &str = "general.architecture";
    let name = m.required(KEY, m.text(KEY)?)?;
    if let Some(known) = ARCHITECTURES.iter().find(|known| known.name == name) {
        return Ok(known);
    }
    let reason = match name {
        "llada-moe" | "llada2" | "rnd1" | "diffusion-gemma" => {
            "a mixture of experts, which is not supported"
        }
        name if name.contains("moe") => "a mixture of experts, which is not supported",
        _ => "not known",
    };
    Err(m.damaged(format!(
        "{KEY} is {name}, {reason}: llada and dream can be loaded, and qwen2, qwen3 and llama if they are said to be \
         an a2d-qwen2, a2d-qwen3, a2d-llama, sdar or diffullama"
    )))
}

/// What a model is loaded as.
fn chosen(m: &Metadata, architecture: &Architecture, given: Option<&str>) -> Result<String> {
    let Architecture { name, types, .. } = architecture;
    let all = types.join(" or ");
    match given {
        None if architecture.denoiser => Ok(types[0].to_owned()),
        None => Err(m.damaged(format!(
            "general.architecture is {name}, an autoregressive model as far as that says; load one that was turned \
             into a denoiser as an {all}"
        ))),
        Some(given) => match types.iter().find(|known| known.eq_ignore_ascii_case(given)) {
            Some(known) => Ok((*known).to_owned()),
            None => Err(m.damaged(format!(
                "general.architecture is {name}, which can be loaded as {all}, not as {given}"
            ))),
        },
    }
}

/// The id that the metadata gives to a token.
fn token(m: &Metadata, which: &str) -> Result<Option<u32>> {
    let id = m.whole(&format!("tokenizer.ggml.{which}_token_id"))?;
    Ok(id.map(|id| id as u32))
}

/// The network that the metadata describes.
fn trunk(file: &Gguf, architecture: &Architecture) -> Result<Llama> {
    let m = &file.metadata;
    let key = |part: &str| format!("{}.{part}", architecture.name);
    let whole = |part: &str| m.whole(&key(part));
    let needed = |part: &str| m.required(&key(part), whole(part)?);
    let number = |part: &str| m.number(&key(part));
    let hidden_size = needed("embedding_length")?;
    let n_heads = needed("attention.head_count")?;
    let n_kv_heads = whole("attention.head_count_kv")?.unwrap_or(n_heads);
    let head_dim = whole("attention.key_length")?.unwrap_or(hidden_size / n_heads.max(1));
    let table = file.find("token_embd.weight").map(|t| &t.shape[..]);
    let vocab_size = match table {
        Some(&[rows, _]) => rows,
        _ => return Err(m.damaged("has no matrix token_embd.weight")),
    };
    // a block has several tensors
    let blocks = needed("block_count")?;
    if blocks > file.tensors.len() {
        let problem = format!(
            "{} is {blocks}, of {} tensors",
            key("block_count"),
            file.tensors.len()
        );
        return Err(m.damaged(problem));
    }
    let sizes = [
        blocks,
        needed("feed_forward_length")?,
        needed("context_length")?,
        vocab_size,
    ];
    possible(&sizes, hidden_size, n_heads, n_kv_heads, head_dim).map_err(|e| m.damaged(e))?;
    let eps = key("attention.layer_norm_rms_epsilon");
    let eps = m.required(&eps, m.number(&eps)?)?;
    let switches = [
        (
            "attention.value_length",
            whole("attention.value_length")?,
            head_dim,
        ),
        (
            "rope.dimension_count",
            whole("rope.dimension_count")?,
            head_dim,
        ),
        ("vocab_size", whole("vocab_size")?, vocab_size),
        ("expert_count", whole("expert_count")?, 0),
        ("expert_used_count", whole("expert_used_count")?, 0),
    ];
    for (part, found, only) in switches {
        if let Some(found) = found.filter(|&found| found != only) {
            let problem = format!("{} is {found}, only {only} is supported", key(part));
            return Err(m.damaged(problem));
        }
    }
    if architecture.denoiser && m.flag(&key("attention.causal"))? == Some(true) {
        let problem = format!("{} is true, of a denoiser", key("attention.causal"));
        return Err(m.damaged(problem));
    }
    if let Some(scaling) = m.text(&key("rope.scaling.type"))?.filter(|&s| s != "none") {
        let key = key("rope.scaling.type");
        return Err(m.damaged(format!("{key} is {scaling}, only none is supported")));
    }
    let base = number("rope.freq_base")?.unwrap_or(10000.0);
    let known: Vec<&str> = switches.iter().map(|(part, ..)| *part).collect();
    refuse_unknown(m, architecture.name, &known)?;
    Ok(Llama {
        vocab_size,
        hidden_size,
        n_blocks: sizes[0],
        n_heads,
        n_kv_heads,
        head_dim,
        mlp_size: sizes[1],
        length: sizes[2],
        eps: rounded(eps),
        rotary_base: rounded(base),
        rotary_dim: head_dim,
        qkv_bias: architecture.qkv_bias,
        qk_norm: architecture.qk_norm,
        tied: file.find("output.weight").is_none(),
        causal: false,
        windows: Vec::new(),
        frozen_token: None,
        blind_pads: false,
        names: Names::Gguf,
    })
}

/// An f32's shortest decimal form: the number that was rounded to it, such as 1e-6.
fn rounded(x: f64) -> f64 {
    let shortest = (x as f32).to_string().parse();
    match shortest {
        Ok(shortest) if f64::from(x as f32) == x => shortest,
        _ => x,
    }
}

/// An error for what a file says of its architecture, or of diffusion, and is not read here.
fn refuse_unknown(m: &Metadata, architecture: &str, switches: &[&str]) -> Result<()> {
    const READ: [&str; 10] = [
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.causal",
        "rope.freq_base",
    ];
    for (key, value) in m.iter() {
        let known = match key.split_once('.') {
            Some(("diffusion", rest)) => rest == "shift_logits",
            Some((first, rest)) if first == architecture => {
                let mut all = READ.iter().chain(&IDLE).chain(switches);
                all.any(|&known| known == rest) || rest == "rope.scaling.type"
            }
            _ => true,
        };
        if !known {
            return Err(m.damaged(format!("{key} is {value}, which is not supported")));
        }
    }
    Ok(())
}
