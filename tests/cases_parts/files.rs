//! Files that other programs write.

use std::path::Path;

use mdlm::Error;
use mdlm::config::DataConfig;
use mdlm::data::Corpus;
use mdlm::device::Device;
use mdlm::model::{Gpt2, Model};
use mdlm::progress::Silent;
use mdlm_engine::graph::Layout;
use pollster::block_on;

use crate::case;
use crate::common::runs::refused;

fn corpus(path: &Path) -> mdlm::Result<Corpus> {
    let config = DataConfig {
        train: path.to_str().unwrap().to_owned(),
        tokenizer: "byte".to_owned(),
        ..DataConfig::default()
    };
    Corpus::load(&config, 64, &mut Silent)
}

#[test]
fn zeros_behind_a_gzip_file_are_nothing() {
    let [whole, padded] =
        ["whole", "padded"].map(|name| case(&format!("gzip-padding/{name}.txt.gz")));
    assert_eq!(
        corpus(&padded).unwrap().digest,
        corpus(&whole).unwrap().digest
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("more.txt.gz");
    let mut bytes = std::fs::read(&padded).unwrap();
    bytes.push(b'!');
    std::fs::write(&path, bytes).unwrap();
    refused(corpus(&path), "io", &["more.txt.gz", "behind its end"]);
}

#[test]
fn text_says_how_it_is_written() {
    let file = |name: &str| case(&format!("page-encodings/{name}"));
    refused(
        corpus(&file("latin1.txt")),
        "corpus",
        &["not UTF-8 at byte 3"],
    );
    refused(
        corpus(&file("picture.png.txt")),
        "corpus",
        &["not UTF-8 at byte 0"],
    );
    let read = corpus(&file("utf16.txt")).unwrap();
    let bytes = std::fs::read(file("utf16.txt")).unwrap();
    let units = bytes[2..]
        .chunks(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units).map(|c| c.unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    for (name, mark) in [("plain.txt", ""), ("marked.txt", "\u{FEFF}")] {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{mark}{text}")).unwrap();
        assert_eq!(corpus(&path).unwrap().digest, read.digest, "{name}");
    }
}

#[test]
fn configurations_of_gpt2_have_one_length_under_two_names() {
    let load = |dir: &Path| block_on(Gpt2::load(&Device::cpu(), dir));
    let tokens: Vec<u32> = (0..40).map(|i| i * 7 % 257).collect();
    let nll = ["both-keys", "one-key"].map(|name| {
        let mut judge = load(&case(&format!("gpt2-config/{name}"))).unwrap();
        assert_eq!(judge.length(), 64);
        block_on(judge.nll(&tokens)).unwrap()
    });
    assert_eq!(nll[0], nll[1]);

    let dir = tempfile::tempdir().unwrap();
    let source = case("gpt2-config/both-keys");
    std::fs::copy(
        source.join("model.safetensors"),
        dir.path().join("model.safetensors"),
    )
    .unwrap();
    let config = std::fs::read(source.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut config = config.clone();
        config[key] = value;
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        load(dir.path())
    };
    refused(
        with("n_ctx", 65.into()),
        "checkpoint",
        &["n_positions is 64 but n_ctx is 65"],
    );
    refused(with("n_inner", 64.into()), "checkpoint", &["n_inner"]);
    let scaled = with("scale_attn_by_inverse_layer_idx", true.into());
    refused(scaled, "checkpoint", &["scale_attn_by_inverse_layer_idx"]);
    with("n_inner", serde_json::Value::Null).unwrap();
}

#[test]
fn null_means_absent_where_a_key_may_be() {
    let load = |name: &str| {
        let folder = case(&format!("null-in-config/{name}"));
        block_on(Model::load(&Device::cpu(), &folder))
    };
    let noise = load("noise").unwrap();
    assert_eq!(*noise.noise(), mdlm::config::NoiseConfig::default());
    assert!(
        !load("time_conditioning")
            .unwrap()
            .config()
            .unwrap()
            .time_conditioning
    );
    let error = refused(
        load("dropout"),
        "checkpoint",
        &["config.json", "dropout", "null"],
    );
    assert_eq!(error.hint(), None);
}

#[test]
fn weights_in_several_files_are_read_together() {
    let folder = case("sharded-weights/sharded");
    let mut model = block_on(Model::load(&Device::cpu(), &folder)).unwrap();
    let logits = block_on(model.logits(&[1; 16], &[0.0])).unwrap();
    assert!(logits.iter().all(|z| z.is_finite()));
    // strictly: a part that is missing is named
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "model-00002-of-00002.safetensors" {
            std::fs::copy(&path, dir.path().join(name)).unwrap();
        }
    }
    let partly = block_on(Model::load(&Device::cpu(), dir.path()));
    refused(partly, "io", &["model-00002-of-00002.safetensors"]);
}

#[test]
fn advice_speaks_of_what_is_too_large() {
    let limit = (128 << 20) / 4;
    let parameter = Layout::builder(limit).tensor("head.weight", &[50_258, 768]);
    let hint = |error: Error| error.hint().unwrap();
    let parts = ["bytes of parameter head.weight in one buffer: needs 154392576"];
    let advice = hint(refused(parameter, "unsupported", &parts));
    for part in ["model.hidden_size", "vocabulary", "--device cpu"] {
        assert!(advice.contains(part), "{advice}");
    }
    assert!(!advice.contains("batch"), "{advice}");

    let out_of_memory = |what: &str| {
        hint(Error::OutOfMemory {
            what: what.to_owned(),
            bytes: 1 << 40,
        })
    };
    let activations = out_of_memory("activations in the machine's memory");
    assert!(
        activations.contains("length") && !activations.contains("cpu"),
        "{activations}"
    );
    let weights = out_of_memory("arena Params in the machine's memory");
    assert!(
        weights.contains("smaller model") && !weights.contains("cpu"),
        "{weights}"
    );
    assert!(out_of_memory("activations").contains("--device cpu"));
}
