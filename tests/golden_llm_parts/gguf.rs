//! Models in one GGUF file: the fixtures' folders, converted, and a file that another program wrote.

use std::path::{Path, PathBuf};

use mdlm::data::{ChatTemplate, Message};
use mdlm::model::pretrained::GgufModel;
use mdlm::model::{Load, inspect};
use mdlm::{Model, Tokenizer};
use mdlm_engine::graph::PARAMS;
use mdlm_engine::program::Element;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::FIXTURES;
use crate::common::Executor;
use crate::common::gguf::{
    Encode, Writer, bf16s, converted, decoded, f16s, f32s, floats, q4_0, q8_0,
};

/// Folders of fixtures, the architecture that each is converted to, and what the file is then loaded as.
const MODELS: [(&str, &str, Option<&str>); 5] = [
    ("llada", "llada", None),
    ("llada_gqa", "llada", None),
    ("dream", "dream", None),
    ("dream", "qwen2", Some("dream")),
    ("qwen3_a2d", "qwen3", Some("a2d-qwen3")),
];

fn how(weights: Option<Element>, model_type: Option<&str>) -> Load {
    Load {
        weights,
        model_type: model_type.map(str::to_owned),
        ..Load::default()
    }
}

fn written(w: &Writer) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    w.write(&path);
    (dir, path)
}

fn model(path: &Path, how: &Load) -> Model {
    let model = Model::load_with(Executor::CpuF32.shared(), path, how);
    pollster::block_on(model).unwrap()
}

fn logits(path: &Path, how: &Load) -> Vec<f32> {
    let mut model = model(path, how);
    let xt: Vec<u32> = (0..9).map(|i| i * 41 % 279).collect();
    pollster::block_on(model.logits(&xt, &[0.0])).unwrap()
}

/// A folder with the numbers that are left of its matrices, in f32.
fn rounded(from: &Path, types: Encode) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), to.path().join(name)).unwrap();
    }
    let mut all = Vec::new();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        for (key, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            let values = floats(view.dtype(), view.data());
            let encode = if view.shape().len() == 2 { types } else { f32s };
            let (code, bytes) = encode(&values, *view.shape().last().unwrap());
            let values = decoded(code, &bytes).into_iter();
            let bytes: Vec<u8> = values.flat_map(|x| (x as f32).to_le_bytes()).collect();
            all.push((key.to_owned(), view.shape().to_vec(), bytes));
        }
    }
    let views = all.iter().map(|(key, shape, bytes)| {
        (
            key,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let made = safetensors::serialize(views, None).unwrap();
    std::fs::write(to.path().join("model.safetensors"), made).unwrap();
    to
}

/// Whatever keeps the numbers, a file computes what a folder with the same numbers does, bit for bit.
#[test]
fn files_compute_what_their_folders_do() {
    let half = Some(Element::F16);
    for (folder, architecture, model_type) in MODELS {
        let Some(dir) = FIXTURES.folder_of(folder) else {
            return;
        };
        for (types, at_rest) in [
            (f32s as Encode, None),
            (f16s, half),
            (bf16s, Some(Element::Bf16)),
            (q8_0, None),
            (q4_0, None),
        ] {
            let (_guard, file) = written(&converted(&dir, architecture, types));
            let folder = rounded(&dir, types);
            let wide = how(Some(Element::F32), model_type);
            let expected = logits(folder.path(), &Load::default());
            assert_eq!(logits(&file, &wide), expected, "{architecture}");
            if let Some(element) = at_rest {
                let expected = logits(folder.path(), &how(Some(element), None));
                let kept = logits(&file, &how(None, model_type));
                assert_eq!(kept, expected, "{architecture} in {element}");
            }
        }
    }
}

/// LLaDA's network is a Llama.
#[test]
fn a_llama_by_its_name() {
    let Some(dir) = FIXTURES.folder_of("llada") else {
        return;
    };
    let (_guard, file) = written(&converted(&dir, "llama", f32s));
    let expected = logits(&dir, &Load::default());
    assert_eq!(logits(&file, &how(None, Some("a2d-llama"))), expected);
    let shifted = model(&file, &how(None, Some("diffullama")));
    assert_eq!(shifted.model_type(), "diffullama");
}

/// The numbers that rest on a device, by name.
fn resting(file: &Path, executor: Executor) -> Vec<(String, Vec<f64>)> {
    pollster::block_on(async {
        let model = GgufModel::open(file, None).unwrap();
        let (network, storage) = model.load(executor.shared(), None).await.unwrap();
        let values = storage.read(PARAMS).await.unwrap();
        let keys = network.layout.keys().iter();
        keys.map(|key| key.key.clone()).zip(values).collect()
    })
}

/// Integers and scales of 8 and 4 bits lie on the device as they lie in the file, whatever they are.
#[test]
fn quantised_numbers_rest_as_they_are() {
    let Some(dir) = FIXTURES.folder_of("dream") else {
        return;
    };
    for types in [q8_0 as Encode, q4_0] {
        let mut w = converted(&dir, "dream", types);
        let is_quantised = |code: u32| [2, 8].contains(&code);
        let mut state = 1u32;
        for t in w.tensors.iter_mut().filter(|t| is_quantised(t.code)) {
            let width = if t.code == 8 { 34 } else { 18 };
            for block in t.bytes.chunks_mut(width) {
                for byte in &mut block[2..] {
                    state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                    *byte = (state >> 24) as u8;
                }
                // a scale of either sign
                block[1] ^= (state >> 16) as u8 & 0x80;
            }
        }
        let quantised: Vec<_> = w.tensors.iter().filter(|t| is_quantised(t.code)).collect();
        assert!(quantised.len() > 10);
        let (_guard, file) = written(&w);
        for executor in [Executor::CpuF32, Executor::CpuF64, Executor::Gpu] {
            let found = resting(&file, executor);
            for t in &quantised {
                let (_, values) = found.iter().find(|(name, _)| *name == t.name).unwrap();
                let expected = decoded(t.code, &t.bytes);
                assert_eq!(*values, expected, "{} on {executor:?}", t.name);
            }
        }
    }
}

/// Every type of tensors, as another program writes and reads it.
#[test]
fn numbers_of_every_type() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf");
    let file = dir.join("tiny.gguf");
    let bytes = std::fs::read(dir.join("tiny.values.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let how = Load {
        mask: Some(7),
        ..how(None, None)
    };
    let found = inspect(&file, &how).unwrap();
    assert_eq!((found.mask_index, found.vocab_size), (7, 8));
    let model = GgufModel::open(&file, None).unwrap();
    let mut kinds = Vec::new();
    for tensor in &model.file.tensors {
        let mut values = Vec::new();
        let bytes = model.file.read(tensor).unwrap();
        tensor.kind.numbers(&bytes, &mut values);
        let view = golden.tensor(&tensor.name).unwrap();
        assert_eq!(view.shape(), tensor.shape);
        assert_eq!(values, floats(view.dtype(), view.data()), "{}", tensor.name);
        kinds.push(tensor.kind.name());
    }
    for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"] {
        assert!(kinds.contains(&kind), "no {kind}");
    }
    // at rest: as they are, but for what 4 and 8 bits with one scale for 32 numbers cannot be
    for (name, values) in resting(&file, Executor::CpuF32) {
        let view = golden.tensor(&name).unwrap();
        let tensor = model.file.find(&name).unwrap();
        let columns = *tensor.shape.last().unwrap();
        let mut expected = floats(view.dtype(), view.data());
        if name == "blk.0.attn_q.weight" || name == "blk.0.attn_k.weight" {
            let row = |i: usize| expected[i * columns..][..columns].to_vec();
            expected = [0, 2, 1, 3].map(row).concat();
        }
        // of 4 bits: scales and offsets are rounded to f16
        let (mut rounding, bytes) = (0f64, model.file.read(tensor).unwrap());
        tensor.kind.scaled(&bytes, &mut |s| {
            rounding = rounding.max(f64::from(15.0 * s.scale.abs() + s.offset.abs()) / 2048.0);
        });
        for (got, expected) in values.chunks(32).zip(expected.chunks(32)) {
            let top = expected.iter().fold(0f32, |top, x| top.max(x.abs()));
            let bound = match tensor.kind.name() {
                "Q4_K" => rounding,
                "Q6_K" => 1.00001 * Element::Q8.rounding() * f64::from(top),
                _ => 0.0,
            };
            for (got, &expected) in got.iter().zip(expected) {
                let error = (got - f64::from(expected)).abs();
                assert!(error <= bound, "{name}: {got}, {expected}");
            }
        }
    }
    let mut model = pollster::block_on(Model::load_with(Executor::Gpu.shared(), &file, &how));
    let logits = model.as_mut().unwrap().logits(&[0, 7, 3], &[0.0]);
    assert!(
        pollster::block_on(logits)
            .unwrap()
            .iter()
            .all(|x| x.is_finite())
    );
}

/// Ids, special tokens, ends and chats are those of the folder.
#[test]
fn text_is_that_of_the_folder() {
    let Some(json) = FIXTURES.describe("tokenizers") else {
        return;
    };
    for (folder, architecture, model_type) in MODELS {
        let Some(dir) = FIXTURES.folder_of(folder) else {
            return;
        };
        let (_guard, file) = written(&converted(&dir, architecture, f32s));
        let [here, there] = [&file, &dir].map(|path| {
            let of = how(None, model_type.filter(|_| path == &file));
            let model = model(path, &of);
            (model.tokenizer().unwrap().clone(), model)
        });
        let facts = |(t, m): &(Tokenizer, Model)| {
            let special = (t.mask_index(), t.bos(), t.eos(), t.pad());
            (special, t.ids(), t.ends(), m.frame(), m.mask_index())
        };
        assert_eq!(facts(&here), facts(&there), "{folder}");
        let of_model = |m: &Value| m["encode"].as_array().cloned().unwrap_or_default();
        let models = json["models"].as_object().unwrap().values();
        let texts: Vec<Value> = models.flat_map(of_model).collect();
        assert!(texts.len() > 10);
        for text in &texts {
            let text = text["text"].as_str().unwrap();
            let ids = here.0.encode(text).unwrap();
            assert_eq!(ids, there.0.encode(text).unwrap());
            assert_eq!(here.0.decode(&ids), there.0.decode(&ids));
            let part = |t: &Tokenizer| t.encode_part(text, true, true).unwrap();
            assert_eq!(part(&here.0), part(&there.0));
        }
        let chat = [Message::new("user", "the cat")];
        let [here, there] = [&file, &dir].map(|path| {
            let template = ChatTemplate::read(path).unwrap();
            template.map(|t| t.render(&chat, true, &Map::new()).unwrap())
        });
        assert_eq!(here, there);
        assert!(here.is_some());
    }
}

/// What a file says of BOS and the shift is heeded.
#[test]
fn what_a_file_says_is_heeded() {
    let Some(dir) = FIXTURES.folder_of("llada") else {
        return;
    };
    let mut w = converted(&dir, "llada", f32s);
    w.flag("tokenizer.ggml.add_bos_token", true);
    w.flag("diffusion.shift_logits", true);
    let (_guard, file) = written(&w);
    assert_eq!(model(&file, &how(None, None)).frame(), [Some(286), None]);
    assert!(inspect(&file, &how(None, None)).unwrap().shift);
    let told = Load {
        shift: Some(false),
        mask: Some(290),
        ..Load::default()
    };
    let told = inspect(&file, &told).unwrap();
    assert_eq!((told.shift, told.mask_index), (false, 290));
}

/// Qwen's text is composed first.
#[test]
fn text_is_composed_where_the_name_says_so() {
    let Some(dir) = FIXTURES.folder_of("dream") else {
        return;
    };
    for (name, composed) in [("qwen2", true), ("gpt-2", false)] {
        let mut w = converted(&dir, "dream", f32s);
        w.text("tokenizer.ggml.pre", name);
        let (_guard, file) = written(&w);
        let model = model(&file, &how(None, None));
        let encode = |text: &str| model.tokenizer().unwrap().encode(text).unwrap();
        assert_eq!(encode("e\u{301}") == encode("\u{e9}"), composed);
        assert_eq!(encode("a 12").len(), 4);
    }
}
