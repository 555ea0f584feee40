//! Damaged models: each is refused by a typed error or loaded for what it says, within the memory of its files.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mdlm_engine::rng::{Rng, Stream};

use crate::alone;
use crate::common::mutate::mutated;
use crate::common::trials::trials;
use crate::heap::peak;
use crate::specimens::{Content, Specimen, compute};

/// What reading may take beside as many bytes as the files have.
pub const ROOM: usize = 16 << 20;
/// Kinds of errors that damaged files may be answered with.
pub const TYPED: [&str; 6] = [
    "checkpoint",
    "config",
    "corpus",
    "io",
    "token",
    "unsupported",
];
const SEED: u64 = 5;

/// One way to damage a file.
#[derive(Clone, Copy)]
enum Damage {
    Flip(usize),
    Cut(usize),
    /// Anything else, by its number.
    Random(u64),
}

/// Every bit of every head, every length within it, and some beyond it.
fn systematic(all: &[Specimen]) -> Vec<(usize, usize, Damage)> {
    let mut found = Vec::new();
    for (s, specimen) in all.iter().enumerate() {
        for (f, Content { bytes, head, .. }) in specimen.files.iter().enumerate() {
            let beyond = (*head..bytes.len()).step_by(64);
            found.extend((0..8 * head).map(|bit| (s, f, Damage::Flip(bit))));
            found.extend((0..*head).chain(beyond).map(|cut| (s, f, Damage::Cut(cut))));
        }
    }
    found
}

fn damaged(file: &Content, damage: Damage) -> Vec<u8> {
    let mut bytes = file.bytes.clone();
    match damage {
        Damage::Flip(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
        Damage::Cut(length) => bytes.truncate(length),
        Damage::Random(number) => {
            let mut rng = Rng::new(SEED, Stream::Init, number);
            let numbers = bytes.len() - file.head;
            if numbers > 0 && number % 2 == 0 {
                let bit = 8 * file.head as u64 + rng.below(8 * numbers as u64);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            } else {
                bytes = mutated(&bytes, file.head, &[], &mut rng);
            }
        }
    }
    bytes
}

/// What became of the mutants.
#[derive(Default)]
struct Tally {
    refused: u64,
    loaded: u64,
    unchanged: u64,
    most: usize,
    longest: Duration,
}

impl Tally {
    /// Loads a specimen, one of whose files is damaged.
    fn note(&mut self, specimen: &Specimen, file: usize, damage: Damage, what: &str) {
        let Content { path, bytes, head } = &specimen.files[file];
        let changed = damaged(&specimen.files[file], damage);
        if changed == *bytes {
            self.unchanged += 1;
            return;
        }
        fs::write(path, &changed).unwrap();
        let begin = Instant::now();
        let load = || catch_unwind(AssertUnwindSafe(|| specimen.load()));
        let (outcome, bytes_held) = peak(load);
        let (result, took) = (
            outcome.unwrap_or_else(|_| panic!("{what} panics")),
            begin.elapsed(),
        );
        let size = specimen.bytes() - bytes.len() + changed.len();
        let beyond = bytes_held.saturating_sub(size);
        assert!(beyond < ROOM, "{what}: {bytes_held} bytes for {size}");
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
        self.most = self.most.max(beyond);
        self.longest = self.longest.max(took);
        match result {
            Err(error) => {
                assert!(TYPED.contains(&error.code()), "{what}: {error}");
                self.refused += 1;
            }
            Ok(mut model) => {
                // whatever it is now, it computes; where only a header was changed, or a manifest says the same in
                // other words, it is what it was
                let computed = compute(&mut model);
                let manifest = path.ends_with("manifest.json");
                assert!(!specimen.digests || manifest, "{what} passes the digests");
                let in_head = match damage {
                    Damage::Flip(bit) => bit / 8 < *head,
                    Damage::Cut(_) => true,
                    Damage::Random(_) => false,
                };
                let tensors = path.extension().is_some_and(|e| e == "safetensors");
                if manifest || in_head && tensors {
                    assert!(computed.unwrap() == specimen.logits, "{what}");
                }
                self.loaded += 1;
            }
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn damaged_models_are_refused_or_loaded() {
    let _turn = alone();
    let all = Specimen::all();
    let count = trials("damaged models", 1000, SEED);
    let mut plan = systematic(&all);
    let (every, mut rng) = (plan.len(), Rng::new(SEED, Stream::Shuffle, 0));
    let chosen = every.min((count - count / 4) as usize);
    for i in 0..chosen {
        plan.swap(i, i + rng.below((every - i) as u64) as usize);
    }
    plan.truncate(chosen);
    println!("{chosen} of all {every} bits and lengths of heads; the rest at random");
    for number in 0..count - chosen as u64 {
        let s = (number % 4) as usize;
        let file = rng.below(all[s].files.len() as u64) as usize;
        plan.push((s, file, Damage::Random(number / 4)));
    }
    let mut tallies = [(); 4].map(|()| Tally::default());
    for (number, &(s, file, damage)) in plan.iter().enumerate() {
        let name = all[s].files[file].path.file_name().unwrap().display();
        let what = format!("mutant {number} ({}, {name})", all[s].name);
        tallies[s].note(&all[s], file, damage, &what);
    }
    for (specimen, tally) in all.iter().zip(&tallies) {
        println!(
            "{}: {} refused, {} loaded, {} unchanged, 0 panics; at most {} KiB beyond the files' {}, {:.0?}",
            specimen.name,
            tally.refused,
            tally.loaded,
            tally.unchanged,
            tally.most >> 10,
            specimen.bytes() >> 10,
            tally.longest
        );
        assert!(tally.refused > tally.loaded || specimen.name == "GGUF");
        specimen.load().unwrap();
    }
}
