//! Documents of every format, damaged, each read by what reads it: text or a typed error, in bounded time and memory.
//! Seeds lie in `tests/fuzz/<target>`; an execution is a function of its number.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::time::{Duration, Instant};

use mdlm_engine::rng::{Rng, Stream};

use crate::alone;
use crate::bodies::{Body, TARGETS, Target};
use crate::common::mutate::mutated;
use crate::common::trials::trials;
use crate::heap::peak;

const SEED: u64 = 21;
/// What an execution may take; a machine may be busy.
const LONGEST: Duration = Duration::from_secs(10);

/// The seeds of a target, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz")
        .join(name);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One execution; whether the input was accepted. On a failure the input is kept and named.
fn execute(target: &Target, body: &mut Body, what: &str, input: &[u8], worst: &mut Worst) -> bool {
    // what a panic prints is no part of what is measured
    let told = take_hook();
    set_hook(Box::new(|_| {}));
    let begin = Instant::now();
    let (outcome, held) = peak(|| catch_unwind(AssertUnwindSafe(|| body(input))));
    let took = begin.elapsed();
    set_hook(told);
    let accepted = matches!(outcome, Ok(Ok(true)));
    let problem = match outcome {
        Err(_) => Some("panics".to_owned()),
        Ok(Err(problem)) => Some(problem),
        Ok(Ok(_)) if took > LONGEST => Some(format!("takes {took:?}")),
        Ok(Ok(_)) if held > target.room => Some(format!("holds {held} bytes")),
        Ok(Ok(_)) => None,
    };
    if let Some(problem) = problem {
        let path = std::env::temp_dir().join(format!("mdlm-{}-{what}", target.name));
        fs::write(&path, input).unwrap();
        panic!(
            "{}, {what}: {problem}; the input is {}",
            target.name,
            path.display()
        );
    }
    worst.took = worst.took.max(took);
    worst.held = worst.held.max(held);
    accepted
}

#[derive(Default)]
struct Worst {
    took: Duration,
    held: usize,
}

/// Damages the seeds of a target again and again.
fn fuzz(name: &str) {
    let _turn = alone();
    let count = trials("executions", 150, SEED);
    let (number, target) = (0..)
        .zip(TARGETS)
        .find(|(_, target)| target.name == name)
        .unwrap();
    let (seeds, mut worst) = (seeds(name), Worst::default());
    let mut body = (target.body)();
    let mut accepted = 0;
    for (i, seed) in seeds.iter().enumerate() {
        let what = format!("seed {i}");
        accepted += u64::from(execute(target, &mut body, &what, seed, &mut worst));
    }
    assert!(accepted > 0, "{name}: no seed is accepted");
    let words: Vec<&[u8]> = target.words.iter().map(|word| word.as_bytes()).collect();
    let mut kept = 0;
    for i in 0..count {
        let mut rng = Rng::new(SEED + number, Stream::Init, i);
        let seed = &seeds[rng.below(seeds.len() as u64) as usize];
        let input = mutated(seed, seed.len(), &words, &mut rng);
        let what = i.to_string();
        kept += u64::from(execute(target, &mut body, &what, &input, &mut worst));
    }
    println!(
        "{name}: {count} executions of {} seeds, {kept} accepted, 0 panics; at most {:.1?} and {} KiB",
        seeds.len(),
        worst.took,
        worst.held >> 10
    );
}

/// A test for each target.
macro_rules! targets {
    ($($test:ident: $name:literal;)*) => {
        $(
            #[test]
            fn $test() {
                fuzz($name);
            }
        )*

        #[test]
        fn every_target_is_tried() {
            assert!(TARGETS.iter().map(|target| target.name).eq([$($name),*]));
        }
    };
}

targets! {
    checkpoint: "checkpoint";
    safetensors: "safetensors";
    gguf: "gguf";
    config_toml: "config-toml";
    config_json: "config-json";
    tokenizer: "tokenizer";
    chat_template: "chat-template";
    canvas: "canvas";
    shader: "shader";
    json_lines: "jsonl";
    schema: "schema";
    page: "page";
}
