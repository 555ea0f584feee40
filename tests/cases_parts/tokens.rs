//! Text to tokens and back.

use std::path::Path;

use mdlm::data::{Corpus, SpecialNames, Tokenizer};
use mdlm::progress::Silent;
use mdlm::sample::Canvas;

use crate::case;

const PREFIXING: [&str; 4] = [
    "byte-level-prefix",
    "normalizer",
    "prepend-always",
    "prepend-first",
];

fn prefixing(name: &str) -> Tokenizer {
    let file = format!("text-behind-a-gap/{name}.tokenizer.json");
    Tokenizer::from_file(&case(&file)).unwrap()
}

fn bundled(name: &str) -> Tokenizer {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Tokenizer::from_file(&root.join("corpora").join(name)).unwrap()
}

fn everyone() -> Vec<Tokenizer> {
    let special = ["begin-of-text", "bos-eos", "end-only"];
    let special = special.map(|name| {
        let file = format!("names-of-special-tokens/{name}.tokenizer.json");
        Tokenizer::from_file(&case(&file)).unwrap()
    });
    let shipped = [
        "tinystories-bpe2048.tokenizer.json",
        "gpt2.tokenizer.json.gz",
        "bert-base-uncased.tokenizer.json.gz",
    ];
    let all = PREFIXING.iter().map(|name| prefixing(name)).chain(special);
    all.chain(shipped.map(bundled))
        .chain([Tokenizer::byte()])
        .collect()
}

/// Text with the spaces before gaps taken out: whether one stays there is the gap's affair.
fn bare(text: &str) -> String {
    let mut text = text.trim_start().to_owned();
    while text.contains(" _") {
        text = text.replace(" _", "_");
    }
    text
}

#[test]
fn text_behind_a_gap_is_the_templates() {
    let templates = std::fs::read(case("text-behind-a-gap/templates.json")).unwrap();
    let templates: Vec<String> = serde_json::from_slice(&templates).unwrap();
    let more = [
        "[MASK]ly",
        "12[MASK]34",
        "\"[MASK]\", he said",
        "a [MASK] [MASK:2] b",
        "(x) [MASK].",
    ];
    let more = more.map(str::to_owned);
    for name in PREFIXING {
        let tokenizer = prefixing(name);
        for template in templates.iter().chain(&more) {
            let shown = Canvas::parse(template, &tokenizer)
                .unwrap()
                .text(&tokenizer);
            let expected = template.replace("[MASK]", "_").replace("[MASK:3]", "___");
            let expected = expected.replace("[MASK:2]", "__");
            assert_eq!(bare(&shown), bare(&expected), "{name}");
        }
        // the beginning of a text is encoded as in training
        let hello = tokenizer.encode("Hello").unwrap();
        let canvas = Canvas::parse("Hello[MASK]", &tokenizer).unwrap();
        assert_eq!(canvas.tokens(u32::MAX)[..hello.len()], hello);
    }
    // word pieces go on
    let bert = bundled("bert-base-uncased.tokenizer.json.gz");
    let canvas = Canvas::parse("hello[MASK]world", &bert).unwrap();
    assert_eq!(canvas.text(&bert), "hello_world");
}

#[test]
fn a_space_before_a_gap_is_the_gaps() {
    let read = |name: &str| {
        let text = std::fs::read_to_string(case(&format!("space-before-a-gap/{name}"))).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let stories = bundled("tinystories-bpe2048.tokenizer.json");
    for tokenizer in everyone() {
        for (with, without) in read("templates.txt").iter().zip(read("no-space.txt")) {
            let canvas = |template: &str| Canvas::parse(template, &tokenizer).unwrap();
            let (spaced, bare) = (canvas(with), canvas(&without));
            if tokenizer.to_json() == stories.to_json() {
                assert_eq!(spaced, bare);
            }
            let gap = spaced.masked()[0];
            // what stands before is what it would be before a word
            let before: Vec<u32> = spaced.tokens(u32::MAX)[..gap].to_vec();
            let text = &with[..with.find('[').unwrap()];
            let running = tokenizer.encode(&format!("{text}a")).unwrap();
            assert_eq!(before[..], running[..before.len()], "{tokenizer:?}");
        }
    }
    // a prompt that goes on ends in a gap, too
    let begun = |text: &str| Canvas::begin(text, &stories, 12).unwrap();
    assert_eq!(begun("Once upon a "), begun("Once upon a"));
    assert!(Canvas::begin("Once upon a time", &stories, 2).is_err());
}

#[test]
fn token_texts_joined_are_the_text() {
    let text = "Lily had a red ball and she was happy.";
    for tokenizer in everyone() {
        let ids = tokenizer.encode(text).unwrap();
        let decoded = tokenizer.decode(&ids);
        let loose = |text: &str| text.replace(" .", ".").trim_start().to_owned();
        let single: String = ids.iter().map(|&id| tokenizer.token_text(id)).collect();
        assert_eq!(loose(&single), loose(&decoded), "{tokenizer:?}");
        let pieces = tokenizer.pieces(&ids).concat();
        assert_eq!(loose(&pieces), loose(&decoded), "{tokenizer:?}");
    }
    // parts of characters have bytes, which make them whole again
    for tokenizer in everyone() {
        let text = "naïve \u{1F600}";
        let ids = tokenizer.encode(text).unwrap();
        let bytes = ids.iter().filter_map(|&id| tokenizer.fragment(id));
        let bytes: Vec<u8> = bytes.flatten().filter(|byte| *byte > 0x7F).collect();
        let whole = std::str::from_utf8(&bytes).unwrap();
        assert!(
            text.replace(|c: char| c.is_ascii(), "").contains(whole),
            "{tokenizer:?} {whole:?}"
        );
    }
    // characters of several tokens come whole
    for tokenizer in [Tokenizer::byte(), bundled("gpt2.tokenizer.json.gz")] {
        let text = "naïve \u{1F469}\u{200D}\u{1F680}!";
        let pieces = tokenizer.pieces(&tokenizer.encode(text).unwrap());
        assert_eq!(pieces.concat(), text);
        assert!(
            pieces
                .iter()
                .all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER))
        );
    }
}

#[test]
fn ends_stand_between_texts() {
    for tokenizer in everyone() {
        let [first, second] = ["the cat", "sat on"].map(|text| tokenizer.encode(text).unwrap());
        let (bos, eos) = (tokenizer.bos(), tokenizer.eos());
        let mask = tokenizer.mask_index();
        let ids = [&[bos], &first[..], &[eos, bos], &second, &[mask, eos, eos]].concat();
        let shown = tokenizer.decode_with(&ids, "_");
        let (first, second) = (tokenizer.decode(&first), tokenizer.decode(&second));
        let expected = format!("{first}\n<|endoftext|>\n{second}_");
        assert_eq!(shown, expected, "{tokenizer:?}");
        assert_eq!(tokenizer.decode(&[bos, eos]), "");
    }
}

#[test]
fn no_character_is_taken_for_a_mask() {
    let gpt2 = bundled("gpt2.tokenizer.json.gz");
    let text = "a\u{FFFF}b _ ░ · [MASK]";
    assert_eq!(gpt2.decode(&gpt2.encode(text).unwrap()), text);
    let canvas = Canvas::parse("say \\[MASK] and [MASK]", &gpt2).unwrap();
    assert_eq!(canvas.masked().len(), 1);
    assert_eq!(canvas.text(&gpt2), "say [MASK] and_");
}

#[test]
fn special_tokens_have_many_names() {
    let load = |name: &str, names: &SpecialNames| {
        let file = format!("names-of-special-tokens/{name}.tokenizer.json");
        Tokenizer::from_file_named(&case(&file), names)
    };
    let usual = SpecialNames::default();
    for (name, bos, eos, mask, pad) in [
        ("residues", 0, 2, Some(32), Some(1)),
        ("begin-of-text", 0, 1, None, None),
        ("bos-eos", 2, 1, Some(4), Some(0)),
        ("end-only", 1, 1, None, Some(0)),
    ] {
        let t = load(name, &usual).unwrap();
        let behind = t.vocab_size() as u32 - 1;
        let mask = mask.unwrap_or(behind);
        assert_eq!(
            (t.bos(), t.eos(), t.mask_index(), t.pad()),
            (bos, eos, mask, pad),
            "{name}"
        );
    }
    let own = |bos: &str, mask: &str| SpecialNames {
        bos_token: bos.to_owned(),
        mask_token: mask.to_owned(),
        ..SpecialNames::default()
    };
    let named = load("bos-eos", &own("<unk>", "<pad>")).unwrap();
    let ids = (named.bos(), named.eos(), named.mask_index(), named.pad());
    assert_eq!(ids, (3, 1, 0, None));
    let error = load("bos-eos", &own("<start>", ""))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no token \"<start>\", which bos_token names"),
        "{error}"
    );
    let error = load("bos-eos", &own("<mask>", "")).unwrap_err().to_string();
    assert!(
        error.contains("its mask \"<mask>\" also begins or ends a text"),
        "{error}"
    );
    // residues are letters, one behind the other
    let residues = load("residues", &usual).unwrap();
    let ids = residues.encode("LAGVX").unwrap();
    assert_eq!(residues.decode(&ids), "LAGVX");
}

#[test]
fn intervals_are_repeated() {
    let tokenizer = Tokenizer::from_file(&case("repeated-intervals/tokenizer.json")).unwrap();
    let expected = std::fs::read(case("repeated-intervals/expected.json")).unwrap();
    let expected: Vec<serde_json::Value> = serde_json::from_slice(&expected).unwrap();
    for pair in expected {
        let ids = tokenizer.encode(pair["text"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::json!(ids), pair["ids"], "{}", pair["text"]);
    }
    // the file stays as it was
    let bytes = std::fs::read(case("repeated-intervals/tokenizer.json")).unwrap();
    assert_eq!(tokenizer.to_json(), bytes);
}

#[test]
fn a_text_that_is_too_short_is_described() {
    let load = |train: &Path, tokenizer: &str, length| {
        let config = mdlm::config::DataConfig {
            train: train.to_str().unwrap().to_owned(),
            tokenizer: tokenizer.to_owned(),
            ..Default::default()
        };
        Corpus::load(&config, length, &mut Silent)
    };
    let file = case("too-short-for-a-block/hundred.txt");
    let error = load(&file, "char", 64).unwrap_err().to_string();
    for part in [
        "held-out text, the last 10 of 100 characters",
        "11 tokens",
        "data.valid",
        "at most 13",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // and the advice works
    load(&file, "char", 13).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let names = dir.path().join("names.lines");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(root.join("corpora/names.txt"), &names).unwrap();
    let error = load(&names, "byte", 16384).unwrap_err().to_string();
    for part in [
        "1000 at a time",
        "of 32033 documents",
        "model.length to at most",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn unknown_characters_are_placed() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = mdlm::config::DataConfig {
        train: write("a.lines", &"abc\n".repeat(9)),
        valid: write("b.lines", "abc\nabd\n"),
        tokenizer: "char".to_owned(),
        ..Default::default()
    };
    let error = Corpus::load(&config, 4, &mut Silent)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("b.lines: document 2: character 'd' at position 2"),
        "{error}"
    );
}
