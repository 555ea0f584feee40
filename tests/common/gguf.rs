//! Writes GGUF files: any header, and folders of the fixtures as the public converter would write them.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Numbers of types of values.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;

/// A file that is being put together.
#[derive(Clone, Default)]
pub struct Writer {
    pub values: Vec<(String, u32, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub code: u32,
    pub bytes: Vec<u8>,
}

fn text(value: &str, out: &mut Vec<u8>) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.bytes());
}

impl Writer {
    pub fn value(&mut self, key: &str, kind: u32, bytes: Vec<u8>) {
        self.values.retain(|(known, ..)| known != key);
        self.values.push((key.to_owned(), kind, bytes));
    }

    pub fn whole(&mut self, key: &str, value: u32) {
        self.value(key, U32, value.to_le_bytes().into());
    }

    pub fn number(&mut self, key: &str, value: f64) {
        self.value(key, F32, (value as f32).to_le_bytes().into());
    }

    pub fn flag(&mut self, key: &str, value: bool) {
        self.value(key, BOOL, vec![value.into()]);
    }

    pub fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        text(value, &mut bytes);
        self.value(key, TEXT, bytes);
    }

    pub fn list(&mut self, key: &str, kind: u32, values: &[Vec<u8>]) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flatten());
        self.value(key, LIST, bytes);
    }

    pub fn texts<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        let bytes = |value: &T| {
            let mut bytes = Vec::new();
            text(value.as_ref(), &mut bytes);
            bytes
        };
        self.list(key, TEXT, &values.iter().map(bytes).collect::<Vec<_>>());
    }

    pub fn wholes(&mut self, key: &str, values: &[i32]) {
        let bytes = values.iter().map(|value| value.to_le_bytes().into());
        self.list(key, I32, &bytes.collect::<Vec<_>>());
    }

    pub fn tensor(&mut self, name: &str, shape: &[usize], (code, bytes): (u32, Vec<u8>)) {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        self.tensors.push(Tensor {
            name,
            shape,
            code,
            bytes,
        });
    }

    /// The header, and the whole file.
    pub fn bytes(&self) -> (usize, Vec<u8>) {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.values.len() as u64).to_le_bytes());
        for (key, kind, bytes) in &self.values {
            text(key, &mut out);
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        let mut offset = 0u64;
        for t in &self.tensors {
            text(&t.name, &mut out);
            out.extend((t.shape.len() as u32).to_le_bytes());
            let extents = t.shape.iter().rev();
            out.extend(extents.flat_map(|&extent| (extent as u64).to_le_bytes()));
            out.extend(t.code.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (t.bytes.len() as u64).next_multiple_of(32);
        }
        let header = out.len();
        for t in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&t.bytes);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        (header, out)
    }

    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes().1).unwrap();
    }
}

/// Numbers as a type of tensors keeps them; a row has `columns`.
pub type Encode = fn(&[f32], usize) -> (u32, Vec<u8>);

pub fn f32s(values: &[f32], _: usize) -> (u32, Vec<u8>) {
    (0, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// The upper halves of f32, cut.
pub fn bf16s(values: &[f32], _: usize) -> (u32, Vec<u8>) {
    let upper = |x: &f32| [x.to_le_bytes()[2], x.to_le_bytes()[3]];
    (30, values.iter().flat_map(upper).collect())
}

pub fn f16s(values: &[f32], _: usize) -> (u32, Vec<u8>) {
    (1, values.iter().flat_map(|&x| half(x)).collect())
}

/// f16 of an f32 below 1, cut.
fn half(x: f32) -> [u8; 2] {
    let magnitude = (x.abs() * 2f32.powi(24)) as u32;
    let bits = match magnitude.checked_ilog2() {
        None | Some(0..10) => magnitude as u16,
        Some(top) => ((top - 9) << 10) as u16 | (magnitude >> (top - 10) & 1023) as u16,
    };
    (bits | u16::from(x.is_sign_negative()) << 15).to_le_bytes()
}

/// The number that those bytes are.
pub fn unhalf(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

pub fn q8_0(values: &[f32], columns: usize) -> (u32, Vec<u8>) {
    if !columns.is_multiple_of(32) {
        return f32s(values, columns);
    }
    let mut out = Vec::new();
    for block in values.chunks(32) {
        let top = block.iter().fold(0f32, |top, x| top.max(x.abs()));
        let scale = half(top / 127.0);
        let d = unhalf(scale);
        out.extend(scale);
        // a number that is larger than the rounded scale allows becomes -128 or 127
        let q = |x: &f32| {
            if d == 0.0 {
                0
            } else {
                (x / d).round() as i8 as u8
            }
        };
        out.extend(block.iter().map(q));
    }
    (8, out)
}

pub fn q4_0(values: &[f32], columns: usize) -> (u32, Vec<u8>) {
    if !columns.is_multiple_of(32) {
        return f32s(values, columns);
    }
    let mut out = Vec::new();
    for block in values.chunks(32) {
        let largest = |top: f32, &x: &f32| if x.abs() > top.abs() { x } else { top };
        let scale = half(block.iter().fold(0.0, largest) / -8.0);
        let d = unhalf(scale);
        out.extend(scale);
        let q = |x: f32| if d == 0.0 { 8 } else { (x / d + 8.5) as u8 };
        out.extend((0..16).map(|i| q(block[i]).min(15) | q(block[i + 16]).min(15) << 4));
    }
    (2, out)
}

/// The numbers that bytes of these types stand for, in f64, by the formats' definitions.
pub fn decoded(code: u32, bytes: &[u8]) -> Vec<f64> {
    let d = |block: &[u8]| f64::from(unhalf([block[0], block[1]]));
    match code {
        0 => {
            let quads = bytes.chunks(4);
            quads
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()).into())
                .collect()
        }
        1 => bytes.chunks(2).map(d).collect(),
        30 => {
            let pairs = bytes.chunks(2);
            pairs
                .map(|b| f32::from_le_bytes([0, 0, b[0], b[1]]).into())
                .collect()
        }
        8 => {
            let number = |b: &[u8], i: usize| d(b) * f64::from(b[2 + i] as i8);
            let blocks = bytes.chunks(34);
            blocks
                .flat_map(|b| (0..32).map(move |i| number(b, i)))
                .collect()
        }
        2 => {
            let number = |b: &[u8], i: usize| {
                let q = b[2 + i % 16] >> (i / 16 * 4) & 15;
                d(b) * (f64::from(q) - 8.0)
            };
            let blocks = bytes.chunks(18);
            blocks
                .flat_map(|b| (0..32).map(move |i| number(b, i)))
                .collect()
        }
        other => panic!("type {other}"),
    }
}

/// The parts of a network's names in files, by those of the folder.
const PARTS: [(&str, &str); 25] = [
    ("model.transformer.wte", "token_embd"),
    ("model.transformer.ln_f", "output_norm"),
    ("model.transformer.ff_out", "output"),
    ("model.transformer.blocks.", "blk."),
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("model.layers.", "blk."),
    (".self_attn", ""),
    (".mlp", ""),
    (".attn_out.", ".attn_output."),
    (".ff_norm", ".ffn_norm"),
    (".ff_proj", ".ffn_gate"),
    (".up_proj", ".ffn_up"),
    (".ff_out", ".ffn_down"),
    (".gate_proj", ".ffn_gate"),
    (".down_proj", ".ffn_down"),
    (".input_layernorm", ".attn_norm"),
    (".post_attention_layernorm", ".ffn_norm"),
    (".q_proj", ".attn_q"),
    (".k_proj", ".attn_k"),
    (".v_proj", ".attn_v"),
    (".o_proj", ".attn_output"),
    (".q_norm", ".attn_q_norm"),
    (".k_norm", ".attn_k_norm"),
];

fn named(key: &str) -> String {
    let parts = PARTS.iter();
    parts.fold(key.to_owned(), |name, (from, to)| name.replace(from, to))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A folder of the fixtures as a file of an architecture; `types` keeps a matrix.
pub fn converted(dir: &Path, architecture: &str, types: Encode) -> Writer {
    let mut w = Writer::default();
    let c = json(&dir.join("config.json"));
    let whole = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| c[*key].as_u64());
        found.map(|found| found as u32)
    };
    let number = |keys: &[&str]| keys.iter().find_map(|key| c[*key].as_f64()).unwrap();
    w.text("general.architecture", architecture);
    let heads = whole(&["n_heads", "num_attention_heads"]).unwrap();
    let kv_heads = whole(&["n_kv_heads", "num_key_value_heads"]).unwrap_or(heads);
    let width = whole(&["d_model", "hidden_size"]).unwrap();
    let head_dim = whole(&["head_dim"]).unwrap_or(width / heads);
    let length = ["max_sequence_length", "max_position_embeddings"];
    for (key, value) in [
        ("context_length", whole(&length).unwrap()),
        ("embedding_length", width),
        (
            "block_count",
            whole(&["n_layers", "num_hidden_layers"]).unwrap(),
        ),
        (
            "feed_forward_length",
            whole(&["mlp_hidden_size", "intermediate_size"]).unwrap(),
        ),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
        ("vocab_size", whole(&["vocab_size"]).unwrap()),
    ] {
        w.whole(&format!("{architecture}.{key}"), value);
    }
    let eps = format!("{architecture}.attention.layer_norm_rms_epsilon");
    w.number(&eps, number(&["rms_norm_eps"]));
    let base = format!("{architecture}.rope.freq_base");
    w.number(&base, number(&["rope_theta"]));
    if ["llada", "dream"].contains(&architecture) {
        w.flag(&format!("{architecture}.attention.causal"), false);
    }
    if architecture == "llada" {
        w.flag("diffusion.shift_logits", false);
    }
    tokens(&mut w, dir, &c);
    let shards = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut shards: Vec<_> = shards
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    shards.sort();
    for shard in shards {
        let bytes = std::fs::read(shard).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> = file.iter().collect();
        tensors.sort_by_key(|(key, _)| key.to_owned());
        for (key, view) in tensors {
            let values = floats(view.dtype(), view.data());
            let name = named(key);
            let columns = *view.shape().last().unwrap();
            let heads = match (architecture, name.split('.').nth(2)) {
                ("llada" | "llama", Some("attn_q")) => heads as usize,
                ("llada" | "llama", Some("attn_k")) => kv_heads as usize,
                _ => 0,
            };
            let values = interleaved(&values, heads, columns);
            let encode = if view.shape().len() == 2 { types } else { f32s };
            w.tensor(&name, view.shape(), encode(&values, columns));
        }
    }
    w
}

pub fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let code = match dtype {
        Dtype::F32 => 0,
        Dtype::BF16 => 30,
        other => panic!("{other:?}"),
    };
    decoded(code, bytes).into_iter().map(|x| x as f32).collect()
}

/// Rows `[heads, 2, half]` as `[heads, half, 2]`.
fn interleaved(values: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    if heads == 0 {
        return values.to_vec();
    }
    let half = values.len() / columns / heads / 2;
    let mut out = Vec::new();
    for head in 0..heads {
        for row in 0..half {
            for side in 0..2 {
                let from = ((head * 2 + side) * half + row) * columns;
                out.extend(&values[from..from + columns]);
            }
        }
    }
    out
}

/// The tokenizer of a folder.
fn tokens(w: &mut Writer, dir: &Path, config: &Value) {
    let t = json(&dir.join("tokenizer.json"));
    let settings = json(&dir.join("tokenizer_config.json"));
    let rows = config["vocab_size"].as_u64().unwrap() as usize;
    let mut names: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![5; rows];
    for (name, id) in t["model"]["vocab"].as_object().unwrap() {
        let id = id.as_u64().unwrap() as usize;
        (names[id], types[id]) = (name.clone(), 1);
    }
    let added = t["added_tokens"].as_array().unwrap();
    for token in added {
        let id = token["id"].as_u64().unwrap() as usize;
        names[id] = token["content"].as_str().unwrap().to_owned();
        types[id] = if token["special"] == true { 3 } else { 4 };
    }
    w.text("tokenizer.ggml.model", "gpt2");
    w.text("tokenizer.ggml.pre", "gpt-2");
    w.texts("tokenizer.ggml.tokens", &names);
    w.wholes("tokenizer.ggml.token_type", &types);
    let merges = t["model"]["merges"].as_array().unwrap().iter();
    let merges = merges.map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()));
    w.texts("tokenizer.ggml.merges", &merges.collect::<Vec<_>>());
    for (role, name) in [
        ("bos", "bos"),
        ("eos", "eos"),
        ("padding", "pad"),
        ("mask", "mask"),
    ] {
        let token = &settings[format!("{name}_token")];
        let token = token.as_str().or(token["content"].as_str());
        let id = names.iter().position(|known| Some(known.as_str()) == token);
        let id = id.or(config[format!("{name}_token_id")]
            .as_u64()
            .map(|id| id as usize));
        if let Some(id) = id {
            w.whole(&format!("tokenizer.ggml.{role}_token_id"), id as u32);
        }
    }
    if let Some(template) = settings["chat_template"].as_str() {
        w.text("tokenizer.chat_template", template);
    }
}
