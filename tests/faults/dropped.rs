//! Futures that are dropped in the middle, and several who use one model: what was there is as it was, or an error says
//! what is wrong.

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use mdlm::config::{Cache, SampleConfig};
use mdlm::eval::EvalConfig;
use mdlm::io::files::{Files, InMemory, Source};
use mdlm::model::{Load, Published};
use mdlm::sample::{Denoiser, DrawOptions, Drawn, Facts};
use mdlm::train::Trainer;
use mdlm::{Canvas, Error, Model, Result, Sampler};
use mdlm_engine::graph::RUNS;
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::{small, write};
use crate::common::runs::{config, corpus, refused};
use crate::common::training::{Training, model as shape, values};

const EXECUTORS: [Executor; 2] = [Executor::Gpu, Executor::CpuF32];
const LENGTH: usize = 16;

/// Polls a future so often and drops it; what it has come to.
fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

/// Is not there at the first poll.
async fn moment() {
    let mut asked = false;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        match std::mem::replace(&mut asked, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// A model that several samplers have, as pages have them: one call at a time, with waits before and after it.
#[derive(Clone)]
struct Shared(Rc<RefCell<Model>>);

impl Denoiser for Shared {
    fn facts(&self) -> Facts {
        self.0.borrow().facts()
    }

    #[allow(clippy::await_holding_refcell_ref)] // that is what others are told
    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        let lent = self.0.try_borrow_mut();
        let mut model = lent.map_err(|_| Error::Busy { what: "the model" })?;
        moment().await;
        let drawn = model.draw(xt, t, rows, options).await;
        moment().await;
        drawn
    }
}

fn settings(seed: u64, cache: Cache) -> SampleConfig {
    SampleConfig {
        steps: 6,
        seed,
        cache,
        ..SampleConfig::default()
    }
}

fn loaded(executor: Executor) -> Model {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &small(LENGTH), None);
    block_on(Model::load(executor.shared(), dir.path())).unwrap()
}

/// What a sampler that nobody disturbs makes.
fn alone(model: &mut Model, settings: &SampleConfig) -> Canvas {
    let sampler = model.sampler(Canvas::open(LENGTH), settings).unwrap();
    block_on(sampler.finish(|_| std::ops::ControlFlow::Continue(()))).unwrap()
}

#[test]
fn steps_of_a_sampler() {
    for executor in EXECUTORS {
        let mut model = loaded(executor);
        let settings = settings(3, Cache::Exact);
        let whole = alone(&mut model, &settings);
        let shared = Shared(Rc::new(RefCell::new(model)));
        let mut sampler = Sampler::new(shared, vec![Canvas::open(LENGTH)], &settings).unwrap();
        let (mut polls, mut dropped) = (0, 0);
        loop {
            let before = sampler.canvas().clone();
            match dropped_after(polls % 4, sampler.step()) {
                Some(step) => {
                    if step.unwrap().is_none() {
                        break;
                    }
                }
                None => {
                    assert!(*sampler.canvas() == before, "{executor:?}: half a step");
                    dropped += usize::from(polls % 4 > 0);
                }
            }
            polls += 1;
        }
        assert!(
            dropped >= settings.steps,
            "only {dropped} were in the middle"
        );
        assert!(
            *sampler.canvas() == whole,
            "{executor:?}: dropped steps count"
        );
    }
}

#[test]
fn two_samplers_of_one_model() {
    for executor in EXECUTORS {
        for cache in [Cache::Exact, Cache::Off] {
            let mut model = loaded(executor);
            let all = [settings(3, cache), settings(4, cache)];
            let whole = all.each_ref().map(|settings| alone(&mut model, settings));
            assert!(whole[0] != whole[1]);
            let shared = Shared(Rc::new(RefCell::new(model)));
            let make = |settings| {
                Sampler::new(shared.clone(), vec![Canvas::open(LENGTH)], settings).unwrap()
            };
            let [mut a, mut b] = all.each_ref().map(make);
            let (mut busy, mut over) = (0, false);
            while !over {
                let mut first = pin!(a.step());
                let mut cx = Context::from_waker(Waker::noop());
                if first.as_mut().poll(&mut cx).is_pending() {
                    let before = b.canvas().clone();
                    refused(block_on(b.step()), "busy", &["the model"]);
                    assert!(*b.canvas() == before, "{executor:?}: half a step");
                    block_on(first).unwrap();
                    busy += 1;
                }
                over = block_on(b.step()).unwrap().is_none();
            }
            assert!(busy > 2, "{executor:?}: {busy}");
            assert!([a.canvas(), b.canvas()] == whole.each_ref(), "{executor:?}");
        }
    }
}

/// Files whose every read takes a while.
struct Slow(Published);

struct Reading<'a>(InMemory<'a>);

impl Files for Slow {
    fn path(&self, name: &str) -> PathBuf {
        Path::new(name).into()
    }

    fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    fn open(&self, name: &str) -> Result<impl Source> {
        let bytes = match name {
            "config.json" => &self.0.config,
            _ => &self.0.weights,
        };
        Ok(Reading(InMemory(bytes)))
    }
}

impl Source for Reading<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    async fn read_at(&mut self, at: u64, into: &mut [u8]) -> Result<()> {
        moment().await;
        self.0.read_at(at, into).await
    }
}

#[test]
fn loading_a_model() {
    for executor in EXECUTORS {
        let mut model = loaded(executor);
        let precision = mdlm::io::safetensors::Precision::F32;
        let mut files = block_on(model.publish(precision)).unwrap();
        files.tokenizer = None;
        let (files, how) = (Slow(files), Load::default());
        let load = || Model::load_files(executor.shared(), &files, &how);
        let tokens = vec![model.mask_index(); LENGTH];
        let whole = block_on(model.logits(&tokens, &[0.0])).unwrap();
        let (mut polls, mut made) = (0, None);
        while made.is_none() {
            made = dropped_after(polls, load());
            polls += 1;
        }
        assert!(polls > 4, "only {polls} waits");
        let logits = block_on(made.unwrap().unwrap().logits(&tokens, &[0.0]));
        assert!(logits.unwrap() == whole, "{executor:?}: another model");
    }
}

/// Natively nothing of training and evaluation is left in the middle: what is polled is done, what is not has not begun.
#[test]
fn steps_of_training_and_evaluation() {
    for executor in EXECUTORS {
        let device = executor.shared();
        let make = || block_on(Trainer::new(device, &config(6), corpus())).unwrap();
        let (mut trainer, mut clean) = (make(), make());
        for k in 0..6 {
            drop(trainer.step());
            drop(trainer.step_ahead(6));
            drop(trainer.validate(|_, _| {}));
            let stats = dropped_after(1, trainer.step_ahead(6)).expect("done at once");
            assert_eq!(stats.unwrap(), block_on(clean.step()).unwrap());
            if k == 2 {
                // what is on its way is no state to look at
                let ahead = !trainer.is_settled();
                assert_eq!(ahead, executor == Executor::Gpu);
                match ahead {
                    true => drop(refused(block_on(trainer.model()), "busy", &["training"])),
                    false => drop(block_on(trainer.model()).unwrap()),
                }
            }
        }
        let found = dropped_after(1, trainer.validate(|_, _| {})).expect("done at once");
        assert_eq!(
            found.unwrap().ppl,
            block_on(clean.validate(|_, _| {})).unwrap().ppl
        );
        let mut model = block_on(trainer.model()).unwrap();
        let few = EvalConfig {
            most: 20,
            ..EvalConfig::default()
        };
        let blocks = &trainer.corpus().valid;
        drop(mdlm::perplexity(&mut model, blocks, 2, &few, |_, _| {}));
        let found = mdlm::perplexity(&mut model, blocks, 2, &few, |_, _| {});
        assert!(dropped_after(1, found).expect("done at once").is_ok());
    }
}

/// Runs whose results nobody takes.
#[test]
fn runs_that_are_given_up() {
    for executor in EXECUTORS {
        let mut training = Training::new(executor.shared(), &shape(true, 0.1), 2, usize::MAX);
        let training = training.as_mut().unwrap();
        let pass = training.batch(0);
        let mut submit = || {
            let (session, storage) = (&mut training.session, &mut training.storage);
            block_on(session.submit(storage, &pass, values(0), false))
        };
        for _ in 0..RUNS {
            drop(submit().unwrap());
        }
        refused(submit(), "internal", &["finish one first"]);
    }
}
