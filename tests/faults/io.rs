//! Every call on files of a run, an export and a cache fails once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use mdlm::Result;
use mdlm::config::DataConfig;
use mdlm::data::Corpus;
use mdlm::io::checkpoint::{list, verify};
use mdlm::io::safetensors::Precision;
use mdlm::model::Published;
use mdlm::progress::Silent;
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::{load, small};
use crate::common::runs::{LENGTH, checkpoint, config, contents, resume, run, start};
use crate::common::trials::trials;

const SEED: u64 = 13;
/// Tells a child process that it is one.
const CHILD: &str = "MDLM_FAULTS_CHILD";

/// What a call fails with: number and name; 0: half of what it should do is done.
const KINDS: [(i32, &str); 4] = [
    (5, "input/output error"),
    (28, "no space left"),
    (13, "permission denied"),
    (0, "half of it"),
];

/// Does something while its `k`-th call on files fails; whether it had that many.
fn with_fault<T>(k: usize, number: i32, f: impl FnOnce() -> T) -> (T, bool) {
    let tell = |what: &str| {
        let told = File::open(format!("/fault/{what}")).unwrap_err();
        told.raw_os_error() == Some(17)
    };
    tell(&format!("arm/{k}/{number}"));
    let result = f();
    (result, tell("fired"))
}

/// Lets every call of an operation fail in every way, or a share of them, in per cent. `prepare` sets everything up, `check` sees what is left.
fn every_fault<T>(
    what: &str,
    share: u64,
    prepare: impl Fn() -> T,
    act: impl Fn(T) -> Result<()>,
    check: impl Fn(&Result<()>),
) {
    let (mut total, mut survived, mut problems) = (0, 0, Vec::new());
    let mut rng = Rng::new(SEED, Stream::Shuffle, 0);
    for (number, kind) in KINDS {
        for k in 0.. {
            if rng.below(100) >= share {
                continue;
            }
            let prepared = prepare();
            let (result, fired) = with_fault(k, number, || act(prepared));
            if !fired {
                result.unwrap();
                break;
            }
            let at = format!("{what}, {kind} at call {k}");
            let left = catch_unwind(AssertUnwindSafe(|| check(&result)));
            match result {
                _ if left.is_err() => problems.push(format!("{at}: {:?}", result.err())),
                Ok(()) => survived += 1,
                Err(error) if number == 0 || error.code() != "io" => {
                    problems.push(format!("{at}: {error}"));
                }
                Err(_) => {}
            }
            total += 1;
        }
    }
    println!("{what}: N = {total} faults, {share} % of all; {survived} done all the same");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(total > 3);
}

/// Files as they were.
fn put(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A step of a run, from its checkpoint to the next, with log and picture.
fn a_run(dir: &Path, share: u64) {
    let device = Executor::CpuF32.shared();
    let mut config = config(2);
    config.training.save_every = 1;
    let (whole, broken) = (dir.join("whole"), dir.join("broken"));
    start(device, &config, &broken, 1);
    let before = contents(&broken);
    start(device, &config, &whole, 2);
    let after = contents(&whole);
    every_fault(
        "a run",
        share,
        || {
            put(&broken, &before);
            resume(device, &config, &broken).unwrap()
        },
        |mut trainer| run(&mut trainer, &broken, 2).map(|_| ()),
        |result| {
            let found = list(&broken).unwrap();
            assert!(found.iter().any(|&(step, _)| step == 1));
            for (step, path) in &found {
                verify(path).unwrap();
                assert!(contents(path) == contents(&checkpoint(&whole, *step)));
            }
            if result.is_err() {
                let mut again = resume(device, &config, &broken).unwrap();
                run(&mut again, &broken, 2).unwrap();
            }
            assert!(contents(&broken) == after, "another run");
        },
    );
}

/// An export over one that is there.
fn an_export(dir: &Path, share: u64) {
    let parent = dir.join("exports");
    let out = parent.join("model");
    let published = |length| {
        let model = load(Executor::CpuF32.shared(), &small(length), None);
        block_on(model.publish(Precision::F32)).unwrap()
    };
    let save = |p: &Published| p.save(&out, None, None);
    let (old, new) = (published(16), published(24));
    save(&new).unwrap();
    let after = contents(&parent);
    save(&old).unwrap();
    let before = contents(&parent);
    every_fault(
        "an export",
        share,
        || put(&parent, &before),
        |()| save(&new),
        |result| {
            let found = contents(&out);
            let of = |all: &BTreeMap<String, Vec<u8>>| {
                all.iter().all(|(name, bytes)| {
                    found.get(name.strip_prefix("model/").unwrap()) == Some(bytes)
                })
            };
            assert!(
                of(&after) || result.is_err() && of(&before),
                "half an export"
            );
            save(&new).unwrap();
            assert!(contents(&parent) == after, "leftovers");
        },
    );
}

/// A corpus whose tokens go to a cache.
fn a_cache(dir: &Path, share: u64) {
    let (text, cache) = (dir.join("text.txt"), dir.join("cache"));
    fs::write(&text, "a line of text that is long enough\n".repeat(400)).unwrap();
    let data = |cache: &str| DataConfig {
        train: text.to_str().unwrap().to_owned(),
        tokenizer: "byte".to_owned(),
        cache: cache.to_owned(),
        ..DataConfig::default()
    };
    let load = |cache: &str| Corpus::load(&data(cache), LENGTH, &mut Silent);
    let digest = load("").unwrap().digest;
    let made = RefCell::new(None);
    every_fault(
        "a cache",
        share,
        || put(&cache, &BTreeMap::new()),
        |()| load(cache.to_str().unwrap()).map(|corpus| *made.borrow_mut() = Some(corpus.digest)),
        |result| {
            if result.is_ok() {
                assert_eq!(made.take().unwrap(), digest);
            }
            assert_eq!(load(cache.to_str().unwrap()).unwrap().digest, digest);
            let hidden = |name: &&String| name.starts_with('.');
            assert_eq!(contents(&cache).keys().find(hidden), None);
        },
    );
}

#[test]
fn every_call_on_files_fails_once() {
    if std::env::var_os(CHILD).is_some() {
        let dir = tempfile::tempdir().unwrap();
        let share = trials("calls on files that fail, per cent", 5, SEED);
        a_run(dir.path(), share);
        an_export(dir.path(), share);
        a_cache(dir.path(), share);
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let shim = out.path().join("shim.so");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-shared", "-fPIC", "-o"])
        .arg(&shim)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c"))
        .arg("-ldl")
        .output()
        .expect("no C compiler `cc`");
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{said}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "io::every_call_on_files_fails_once",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .env("LD_PRELOAD", &shim)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|line| line.contains("N = ")) {
        println!("{line}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let all = text.matches("N = ").count() == 4;
    assert!(output.status.success() && all, "{text}{said}");
}
