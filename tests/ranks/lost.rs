//! A rank that dies, hangs or gives up ends the run everywhere, and what was trained is not lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mdlm::config::TrainConfig;
use mdlm::io::checkpoint::{list, verify};
use mdlm::progress::{Event, Flow, Silent};
use mdlm::ranks::{Ranks, each};
use mdlm::train::{Summary, read_log};
use mdlm::{Error, Result};
use mdlm_engine::rng::{Rng, Stream};

use crate::common::runs::{assert_same, checkpoint, config};
use crate::common::shared::part;
use crate::common::trials::trials;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a rank does when its time has come.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Dies before it has sent anything of an exchange.
    Before,
    /// Dies when it has sent what the others need.
    After,
}

/// A rank that ends in its n-th exchange.
struct Mortal {
    inner: Arc<dyn Ranks>,
    left: AtomicU64,
    end: End,
}

impl Ranks for Mortal {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn exchange(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let now = self.left.fetch_sub(1, Ordering::Relaxed) == 1;
        match (now, self.end) {
            (true, End::Before) => panic!("a death that this test provokes"),
            (true, End::After) => {
                let _ = self.inner.exchange(parts);
                panic!("a death that this test provokes")
            }
            (false, _) => self.inner.exchange(parts),
        }
    }

    fn fail(&self, why: &str) {
        self.inner.fail(why);
    }

    fn sent(&self) -> u64 {
        self.inner.sent()
    }
}

/// A run of three ranks, of which one may die in its n-th exchange.
fn attempt(
    config: &TrainConfig,
    dir: &Path,
    death: Option<(usize, u64, End)>,
) -> Vec<Result<Summary>> {
    let ended = each(3, PATIENCE, |ranks| {
        let mortal: Arc<dyn Ranks> = match death {
            Some((rank, left, end)) if rank == ranks.rank() => Arc::new(Mortal {
                inner: ranks,
                left: AtomicU64::new(left),
                end,
            }),
            _ => ranks,
        };
        part(&mortal, config, dir, &mut Silent)
    });
    ended
        .into_iter()
        .map(|ended| ended.and_then(|e| e))
        .collect()
}

#[test]
fn killed_at_any_exchange() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let seed = 12;
    let kills = trials("ranks killed", 20, seed);
    let mut config = config(3 * kills);
    config.training.accumulation = 1;
    (config.training.save_every, config.training.val_every) = (4, 6);
    for summary in attempt(&config, &whole, None) {
        assert_eq!(summary.unwrap().step, 3 * kills);
    }
    let mut rng = Rng::new(seed, Stream::Shuffle, 0);
    let (mut at, mut killed) = (0, 0);
    while killed < kills {
        let rank = rng.below(3) as usize;
        let left = 1 + rng.below(30);
        let end = if rng.uniform() < 0.5 {
            End::Before
        } else {
            End::After
        };
        let ended = attempt(&config, &broken, Some((rank, left, end)));
        if ended[rank].is_ok() {
            break; // the run has ended before its time came
        }
        killed += 1;
        for (other, ended) in ended.iter().enumerate() {
            let error = ended.as_ref().unwrap_err();
            let expected = format!("rank {rank} has panicked");
            assert_eq!(error.to_string(), expected, "told by rank {other}");
            assert_eq!(error.code(), "rank_lost");
        }
        let now = list(&broken).unwrap().into_iter().map(|(step, path)| {
            verify(&path).unwrap();
            step
        });
        let now = now.max().unwrap_or(0);
        println!("seed {seed}, kill {killed}: rank {rank} {end:?} exchange {left}: {at} to {now}");
        assert!(now >= at);
        at = now;
    }
    assert!(killed >= 10, "{killed}");
    if at < 3 * kills {
        for summary in attempt(&config, &broken, None) {
            summary.unwrap();
        }
    }
    let last = 3 * kills;
    assert_same(&checkpoint(&whole, last), &checkpoint(&broken, last));
    for file in ["log.jsonl", "config.toml"] {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).unwrap();
        assert!(read(&whole) == read(&broken), "{file}");
    }
}

/// A rank that hangs is named in time, and the others' last step is saved.
#[test]
fn a_rank_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let mut config = config(6);
    config.training.accumulation = 1;
    let patience = Duration::from_secs(2);
    let ended = each(3, patience, |ranks| {
        let rank = ranks.rank();
        let ended = part(&ranks, &config, &broken, &mut |event: &Event| {
            if matches!(event, Event::Step(s) if s.step == 3) && rank == 1 {
                std::thread::sleep(3 * patience);
            }
            Flow::Continue
        });
        (Instant::now(), ended)
    });
    let ended: Vec<_> = ended.into_iter().map(Result::unwrap).collect();
    for (_, ended) in &ended {
        let error = ended.as_ref().unwrap_err();
        assert_eq!(error.to_string(), "rank 1 has not answered for 2 s");
    }
    // the others did not wait for it to come back
    let waited = ended[1].0.duration_since(ended[2].0);
    assert!(waited > patience, "{waited:?}");
    // the last step that all have done
    let saved: Vec<u64> = list(&broken)
        .unwrap()
        .into_iter()
        .map(|(step, _)| step)
        .collect();
    assert_eq!(saved, [3]);
    let again = |dir: &Path| {
        for summary in each(3, PATIENCE, |ranks| part(&ranks, &config, dir, &mut Silent)) {
            summary.unwrap().unwrap();
        }
    };
    again(&whole);
    again(&broken);
    assert_same(&checkpoint(&whole, 6), &checkpoint(&broken, 6));
}

/// What goes wrong on one rank is told by its name on all, and rank 0 saves the last step that all have done.
#[test]
fn what_one_rank_meets_is_told_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(6);
    config.training.accumulation = 1;
    let ended = each(2, PATIENCE, |ranks| {
        let rank = ranks.rank();
        let mut seen = 0;
        let other = ranks.clone();
        part(&ranks, &config, dir.path(), &mut |event: &Event| {
            if let Event::Step(s) = event {
                seen = s.step;
            }
            // between the third step's verdict and the fourth step
            if rank == 1 && seen == 3 && matches!(event, Event::Step(_)) {
                other.fail("has failed: the GPU device was lost");
            }
            Flow::Continue
        })
    });
    let error = ended.into_iter().next().unwrap().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "rank 1 has failed: the GPU device was lost"
    );
    let rows = read_log(&dir.path().join("log.jsonl")).unwrap();
    let saved = list(dir.path()).unwrap();
    assert!(
        saved
            .iter()
            .all(|(step, path)| *step <= rows.len() as u64 && verify(path).is_ok())
    );
    assert!(matches!(error, Error::RankLost { rank: 1, .. }));
}
