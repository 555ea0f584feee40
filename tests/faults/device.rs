//! A device that goes away at any of the submissions of training, evaluation and sampling.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mdlm::config::SampleConfig;
use mdlm::device::Device;
use mdlm::error::Error;
use mdlm::eval::EvalConfig;
use mdlm::io::checkpoint::newest_whole;
use mdlm::train::Trainer;
use mdlm::{Canvas, Model, Result};
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::{small, write};
use crate::common::runs::{assert_same, config, corpus, resume, run};
use crate::common::trials::trials;

const SEED: u64 = 7;
/// What a trial may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(300);

fn submissions(device: &Device) -> u64 {
    let counters = &device.context().unwrap().counters;
    counters.submissions.load(Ordering::Relaxed)
}

/// Does `work` on a device that is destroyed some time after so many of its submissions; what comes of it.
fn destroyed<T>(device: &Device, after: u64, wait: Duration, work: impl FnOnce() -> T) -> T {
    let over = Arc::new(AtomicBool::new(false));
    let (watched, until) = (device.clone(), over.clone());
    let reaper = thread::spawn(move || {
        while submissions(&watched) < after && !until.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        thread::sleep(wait);
        watched.context().unwrap().wgpu().0.destroy();
    });
    let (alive, hung) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if hung.recv_timeout(HUNG) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("hung on a lost device");
            std::process::abort();
        }
    });
    let result = work();
    over.store(true, Ordering::Relaxed);
    reaper.join().unwrap();
    drop(alive);
    watchdog.join().unwrap();
    result
}

/// Destroys the device at submissions spread over `work`, whose result on a whole device is known. `recover` goes on
/// with a new device.
fn trial<T: PartialEq + std::fmt::Debug>(
    what: &str,
    few: u64,
    work: impl Fn(&Device) -> Result<T>,
    recover: impl Fn(&Device) -> T,
    reset: impl Fn(),
) {
    let count = trials(&format!("devices lost in {what}"), few, SEED);
    // kernels differ between classes of devices, and with them the bits
    let executors = [Executor::Gpu, Executor::Borrowed];
    let begin = Instant::now();
    let unbroken = executors.map(|executor| {
        let device = executor.device();
        let result = work(&device).unwrap();
        reset();
        (result, submissions(&device))
    });
    let gap = begin.elapsed() / (2 * unbroken[0].1) as u32;
    let (mut rng, mut lost) = (Rng::new(SEED, Stream::Shuffle, 0), 0);
    for i in 0..count {
        reset();
        // at once, or some time until the next
        let wait = match i / 2 % 2 {
            0 => Duration::ZERO,
            _ => gap.mul_f64(rng.uniform()),
        };
        let which = (i % 2) as usize;
        let (executor, (whole, total)) = (executors[which], &unbroken[which]);
        let at = (i / 4) * total / count.div_ceil(4) + 1;
        let device = executor.device();
        match destroyed(&device, at, wait, || work(&device)) {
            Ok(got) => assert_eq!(got, *whole, "{what}, submission {at}"),
            Err(Error::DeviceLost { .. }) => lost += 1,
            Err(error) => panic!("{what}, submission {at} of {total}, {wait:?}: {error}"),
        }
        let fresh = executor.device();
        assert!(
            recover(&fresh) == *whole,
            "{what}, submission {at}: another result"
        );
    }
    let total = unbroken[0].1;
    println!("{what}: {lost} of {count} lost within {total} submissions, all went on");
    assert!(2 * lost >= count);
}

#[test]
fn lost_in_training() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    let mut config = config(12);
    (config.training.save_every, config.training.val_every) = (1, 4);
    let go_on = |device: &Device, dir: &Path| {
        let mut trainer = match dir.exists() && newest_whole(dir)?.is_some() {
            true => resume(device, &config, dir)?,
            false => block_on(Trainer::new(device, &config, corpus()))?,
        };
        run(&mut trainer, dir, u64::MAX).map(|_| ())
    };
    let unbroken = [Executor::Gpu, Executor::Borrowed].map(|executor| {
        let dir = dir.path().join(format!("{executor:?}"));
        go_on(&executor.device(), &dir).unwrap();
        dir
    });
    trial(
        "training",
        2,
        |device| go_on(device, &broken),
        |device| {
            go_on(device, &broken).unwrap();
            let class = device.class();
            let like = usize::from(class == Executor::Borrowed.shared().class());
            assert_same(&unbroken[like], &broken);
        },
        || drop(std::fs::remove_dir_all(&broken)),
    );
}

#[test]
fn lost_in_evaluation() {
    let corpus = corpus();
    let dir = tempfile::tempdir().unwrap();
    let mut shape = small(16);
    shape.vocab_size = corpus.tokenizer.vocab_size();
    shape.mask_index = corpus.tokenizer.mask_index();
    write(dir.path(), &shape, None);
    std::fs::write(
        dir.path().join("tokenizer.json"),
        corpus.tokenizer.to_json(),
    )
    .unwrap();
    let evaluate = |device: &Device| {
        let mut model = block_on(Model::load(device, dir.path()))?;
        let config = EvalConfig {
            most: 60,
            ..EvalConfig::default()
        };
        let found = mdlm::perplexity(&mut model, &corpus.valid, 2, &config, |_, _| {});
        Ok(block_on(found)?.ppl.to_bits())
    };
    trial(
        "evaluation",
        2,
        evaluate,
        |device| evaluate(device).unwrap(),
        || {},
    );
}

#[test]
fn lost_in_sampling() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &small(32), None);
    let config = SampleConfig {
        steps: 64,
        seed: 5,
        ..SampleConfig::default()
    };
    let sample = |device: &Device| {
        let mut model = block_on(Model::load(device, dir.path()))?;
        let mut sampler = model.sampler(Canvas::open(32), &config)?;
        let mut held = sampler.canvas().clone();
        loop {
            match block_on(sampler.step()) {
                Ok(Some(_)) => held = sampler.canvas().clone(),
                Ok(None) => return Ok(held),
                Err(error) => {
                    // what a lost step would have changed is as it was
                    assert!(*sampler.canvas() == held, "half a step");
                    return Err(error);
                }
            }
        }
    };
    trial(
        "sampling",
        2,
        sample,
        |device| sample(device).unwrap(),
        || {},
    );
}
