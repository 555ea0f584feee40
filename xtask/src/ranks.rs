//! Training over MPI on this machine: as many ranks give the bits of threads, others the same up to rounding, and
//! neither other numbers of ranks nor kills change where a run ends.

use crate::apt;
use crate::shell::{Consent, cargo, command, on_path, run, target_dir};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// OpenMPI, its compiler wrapper and what reads its header.
const PACKAGES: [&str; 3] = ["openmpi-bin", "libopenmpi-dev", "libclang-dev"];
/// Optimiser steps of a run.
const STEPS: u64 = 24;

/// Installs MPI where apt can; whether it is there.
pub fn set_up(consent: Consent) -> Result<bool> {
    if !(on_path("mpirun") && on_path("mpicc")) {
        if !apt::available() {
            return Ok(false);
        }
        apt::install(&PACKAGES, consent)?;
    }
    Ok(true)
}

/// Compares runs, and kills a rank `kills` times.
pub fn test(kills: u64) -> Result<()> {
    let work = target_dir().join("ranks");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    run(&mut cargo("build --release --features mpi --example train"))?;
    let folder = |name: &str| work.join(name);

    run(train(&mut command_of_one(), 1, &folder("one"), STEPS))?;
    for size in [2, 4] {
        let [threads, mpi] = ["threads", "mpi"].map(|name| folder(&format!("{name}-{size}")));
        let mut one = command_of_one();
        run(train(&mut one, size, &threads, STEPS).arg(format!("--ranks=threads:{size}")))?;
        run(&mut over_mpi(size, &mpi))?;
        same(&threads, &mpi)?;
        close(&folder("one"), &mpi)?;
    }

    let shards = folder("shards");
    run(over_mpi(4, &shards).arg("--set=training.shard=true"))?;
    close(&folder("one"), &shards)?;

    // twelve steps by four, twelve by two
    let moved = folder("moved");
    run(&mut over_mpi_until(4, &moved, STEPS / 2))?;
    run(over_mpi(2, &moved).arg("--resume"))?;
    close(&folder("one"), &moved)?;

    differing(&folder("refused"))?;
    killed(kills, &folder("mpi-2"), &folder("killed"))
}

fn command_of_one() -> Command {
    command(&program().to_string_lossy(), [] as [&str; 0])
}

fn program() -> PathBuf {
    target_dir().join("release/examples/train")
}

/// The run that all share: eight sequences a step, however many ranks.
fn train<'a>(command: &'a mut Command, size: usize, out: &Path, steps: u64) -> &'a mut Command {
    command.stdout(Stdio::null());
    command
        .env("RAYON_NUM_THREADS", "1")
        .args(["--device", "cpu"]);
    command.args(["--data", "corpora/names.txt", "--tokenizer", "char"]);
    command.args([
        "--length",
        "32",
        "--batch",
        "2",
        "--steps",
        &steps.to_string(),
    ]);
    for set in [
        "model.hidden_size=64",
        "model.n_heads=2",
        "model.n_blocks=2",
        // so that a run can begin with fewer steps
        "optim.schedule=constant",
        "optim.warmup=4",
        "training.short_share=0",
        "training.save_every=4",
        "training.val_every=8",
        "training.val_blocks=16",
        "sampling.steps=4",
    ] {
        command.args(["--set", set]);
    }
    command.arg(format!("--set=training.accumulation={}", 4 / size));
    command.arg("--out").arg(out)
}

/// The same by processes, also for root.
fn over_mpi(size: usize, out: &Path) -> Command {
    over_mpi_until(size, out, STEPS)
}

fn over_mpi_until(size: usize, out: &Path, steps: u64) -> Command {
    let count = size.to_string();
    let mut command = command("mpirun", ["--oversubscribe", "-n", &count]);
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1");
    command.env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.arg(program());
    train(&mut command, size, out, steps).args(["--ranks", "mpi"]);
    command
}

/// Checks that two runs ended with the same bits.
fn same(a: &Path, b: &Path) -> Result<()> {
    let last = format!("checkpoint-{STEPS:08}");
    for file in ["model", "ema", "optimizer"] {
        let read = |dir: &Path| {
            let path = dir.join(&last).join(format!("{file}.safetensors"));
            fs::read(&path).with_context(|| format!("{} is missing", path.display()))
        };
        ensure!(
            read(a)? == read(b)?,
            "{}: {file} has other bits than {}",
            b.display(),
            a.display()
        );
    }
    let log = |dir: &Path| fs::read(dir.join("log.jsonl"));
    ensure!(
        log(a)? == log(b)?,
        "{}: another log than {}",
        b.display(),
        a.display()
    );
    Ok(())
}

/// Checks that two runs have the same losses up to rounding.
fn close(a: &Path, b: &Path) -> Result<()> {
    let (a, b) = (losses(a)?, losses(b)?);
    ensure!(
        a.len() as u64 == STEPS && b.len() == a.len(),
        "steps are missing"
    );
    let error = a.iter().zip(&b).map(|(a, b)| (a / b - 1.0).abs());
    let worst = error.fold(0.0, f64::max);
    println!("losses differ by {worst:.1e}");
    ensure!(worst < 1e-4, "losses differ by {worst}");
    Ok(())
}

fn losses(dir: &Path) -> Result<Vec<f64>> {
    let log = fs::read_to_string(dir.join("log.jsonl"))?;
    let loss = |line: &str| {
        let (_, rest) = line.split_once("\"loss\":")?;
        rest.split([',', '}']).next()?.trim().parse().ok()
    };
    let all: Option<Vec<f64>> = log.lines().map(loss).collect();
    all.context("a row of the log has no loss")
}

/// Ranks with different settings end by themselves, and say what differs.
fn differing(out: &Path) -> Result<()> {
    let mut two = over_mpi(1, out);
    two.args([":", "-n", "1"]).arg(program());
    train(&mut two, 1, out, STEPS).args(["--ranks", "mpi", "--seed", "7"]);
    let ended = two.output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let expected = "rank 1 cannot take part: its seed is 7, that of rank 0 is 1";
    ensure!(
        !ended.status.success() && said.contains(expected),
        "said instead: {said}"
    );
    Ok(())
}

/// Kills a rank at moments spread over a run, again and again, and lets the run go on.
fn killed(kills: u64, whole: &Path, broken: &Path) -> Result<()> {
    // moments that need no generator: the golden ratio's multiples are spread evenly
    let part = |attempt: u64| (attempt as f64 * 0.618_033_988_749_895).fract();
    let (mut kill, mut attempt, mut runs) = (0, 0, 1);
    while kill < kills {
        attempt += 1;
        let saved = newest(broken)?;
        if saved == STEPS {
            // the run was over before it was killed often enough
            same(whole, broken)?;
            fs::remove_dir_all(broken)?;
            runs += 1;
        }
        let mut ranks = over_mpi(2, broken);
        ranks.arg("--resume").stderr(Stdio::piped());
        let rank = attempt as usize % 2;
        let mut mpirun = ranks.spawn()?;
        // a few steps on, and somewhere within the next
        let ahead = attempt % 7;
        let within = Duration::from_secs_f64(0.04 * part(attempt));
        let victim = victim(&mut mpirun, broken, newest(broken)? + ahead, rank)?;
        std::thread::sleep(within);
        if let Some(victim) = &victim {
            command("kill", ["-9", victim]).status()?;
        }
        let ended = mpirun.wait_with_output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        if victim.is_some() && !ended.status.success() {
            kill += 1;
            let named = said.contains(&format!("process rank {rank}"));
            ensure!(
                named || said.contains("error: rank"),
                "nobody is named: {said}"
            );
        }
        let now = newest(broken)?;
        println!(
            "kill {kill}: rank {rank} from step {saved} on, {ahead} later: saved {now}, {}",
            ended.status
        );
    }
    run(over_mpi(2, broken).arg("--resume"))?;
    same(whole, broken)?;
    println!("{kills} kills in {runs} runs, each told by its rank: the unbroken run's bits");
    Ok(())
}

/// The number of the `rank`-th process of `mpirun` when the log has come to a step; none if all is over by then.
fn victim(mpirun: &mut Child, dir: &Path, step: u64, rank: usize) -> Result<Option<String>> {
    let begin = SystemTime::now();
    let log = dir.join("log.jsonl");
    // the log of the last start may be longer: what counts is written after this one
    let reached = || {
        let written = fs::metadata(&log).and_then(|log| log.modified());
        let rows = fs::read(&log).map_or(0, |log| log.iter().filter(|&&b| b == b'\n').count());
        written.is_ok_and(|at| at > begin) && rows as u64 >= step
    };
    loop {
        if mpirun.try_wait()?.is_some() {
            return Ok(None);
        }
        let mut found = children(mpirun.id())?;
        found.sort_unstable();
        if let (Some(pid), true) = (found.get(rank), reached()) {
            return Ok(Some(pid.to_string()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The processes of the example whose parent is `parent`.
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(pid) = name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        // a process may be gone by now, or not be the program yet
        if fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() != "train") {
            continue;
        }
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(1) == Some(&parent.to_string()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Step of a run's newest checkpoint, 0 if there is none.
fn newest(dir: &Path) -> Result<u64> {
    if !dir.exists() {
        return Ok(0);
    }
    let mut newest = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(step) = name.strip_prefix("checkpoint-") {
            match step.parse() {
                Ok(step) => newest = newest.max(step),
                Err(e) => bail!("{name} in {}: {e}", dir.display()),
            }
        }
    }
    Ok(newest)
}
