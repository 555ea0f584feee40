//! A run that is killed again and again ends with the bits of a run that was left alone.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Executor;
use common::runs::{assert_same, checkpoint, config, corpus, resume, run};
use common::trials::trials;
use mdlm::config::TrainConfig;
use mdlm::io::checkpoint::{list, verify};
use mdlm::train::{Trainer, read_log};
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

/// Names the folder that a child process trains in.
const CHILD: &str = "MDLM_CRASH_CHILD";

#[test]
fn killed_at_any_moment() {
    Trial::run(Executor::CpuF32, "killed_at_any_moment", 20);
}

#[test]
fn killed_on_the_gpu() {
    Trial::run(Executor::Gpu, "killed_on_the_gpu", 2);
}

struct Trial {
    executor: Executor,
    /// The test, which a child process runs to train.
    name: &'static str,
    kills: u64,
}

impl Trial {
    fn run(executor: Executor, name: &'static str, few: u64) {
        let seed = 11;
        let trial = Self {
            executor,
            name,
            kills: trials("runs killed", few, seed),
        };
        match std::env::var_os(CHILD) {
            Some(dir) => trial.train_in(Path::new(&dir)),
            None => trial.kill(seed),
        }
    }

    /// More steps than are done before the last kill.
    fn steps(&self) -> u64 {
        6 * self.kills
    }

    fn config(&self) -> TrainConfig {
        let mut config = config(self.steps());
        (config.training.save_every, config.training.val_every) = (1, 50);
        config
    }

    /// What the killed process does: it trains in a folder.
    fn train_in(&self, dir: &Path) {
        let (device, config) = (self.executor.device(), self.config());
        let mut trainer = if list(dir).unwrap().is_empty() {
            block_on(Trainer::new(&device, &config, corpus())).unwrap()
        } else {
            resume(&device, &config, dir).unwrap()
        };
        run(&mut trainer, dir, u64::MAX).unwrap();
    }

    /// Starts this test in a process of its own, where it only trains.
    fn spawn(&self, dir: &Path) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", self.name, "--nocapture"])
            .env(CHILD, dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn kill(&self, seed: u64) {
        let dir = tempfile::tempdir().unwrap();
        let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
        let steps = self.steps();
        let mut child = self.spawn(&whole);
        while reached(&whole) == 0 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // without what comes before the first step, which takes a while on a GPU
        let begin = Instant::now();
        assert!(child.wait().unwrap().success());
        let step_time = begin.elapsed() / (steps - 1) as u32;
        println!("unbroken: {steps} steps of {step_time:?}");

        let mut rng = Rng::new(seed, Stream::Shuffle, 0);
        let mut at = 0;
        for kill in 1..=self.kills {
            // some are killed before their first step, some within any part of the next few
            let (ahead, part) = (rng.below(4), rng.uniform() * 1.5);
            let mut child = self.spawn(&broken);
            while reached(&broken) < at + ahead {
                assert!(child.try_wait().unwrap().is_none(), "the child has ended");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(step_time.mul_f64(part));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert!(!status.success(), "it ended before it was killed");
            let now = saved(&broken);
            let logged = read_log(&broken.join("log.jsonl")).unwrap().len() as u64;
            println!("kill {kill}: {at} + {ahead} steps, saved {now}, logged {logged}");
            assert!(now >= at + ahead, "a saved step is gone");
            assert!(logged <= now + 1, "more than the step in progress is lost");
            at = now;
        }
        assert!(at < steps);
        assert!(self.spawn(&broken).wait().unwrap().success());
        assert_same(&checkpoint(&whole, steps), &checkpoint(&broken, steps));
        for file in ["log.jsonl", "config.toml"] {
            let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).unwrap();
            assert_eq!(read(&whole), read(&broken));
        }
        let hidden = |name: &str| name.starts_with('.');
        let left = std::fs::read_dir(&broken).unwrap();
        let left = left.filter(|e| hidden(e.as_ref().unwrap().file_name().to_str().unwrap()));
        assert_eq!(left.count(), 0, "leftovers of the killed runs");
        println!(
            "{} of {} ended with the unbroken run's bits",
            self.kills, self.kills
        );
    }
}

/// Steps of the newest checkpoint; all of them must be whole at any time.
fn saved(dir: &Path) -> u64 {
    let found = list(dir).unwrap();
    for (_, path) in &found {
        verify(path).unwrap();
    }
    found.last().map_or(0, |&(step, _)| step)
}

/// Steps of the newest checkpoint while the child may be at work.
fn reached(dir: &Path) -> u64 {
    list(dir).unwrap().last().map_or(0, |&(step, _)| step)
}
