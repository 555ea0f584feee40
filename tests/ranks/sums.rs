//! Sums have one order.

use std::time::Duration;

use mdlm::Error;
use mdlm::ranks::{Alone, Ranks, each};
use mdlm_engine::rng::{Rng, Stream};

const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers of a rank whose sum depends on the order in which they are added.
fn numbers(rank: usize, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(5, Stream::Mask, rank as u64);
    let of = |_| ((rng.uniform() - 0.5) * 10f64.powf(8.0 * rng.uniform())) as f32;
    (0..count).map(of).collect()
}

#[test]
fn a_sum_is_added_in_the_order_of_ranks() {
    // none, fewer than ranks, more than a message holds
    for count in [0, 1, 3, 1001, (1 << 22) + 17] {
        for size in [2, 3, 5] {
            let mut expected = numbers(0, count);
            for rank in 1..size {
                for (sum, x) in expected.iter_mut().zip(numbers(rank, count)) {
                    *sum += x;
                }
            }
            let sums = each(size, PATIENCE, |ranks| {
                let mut data = numbers(ranks.rank(), count);
                ranks.sum(&mut data)?;
                Ok::<_, Error>((data, ranks.sent()))
            });
            for sum in sums {
                let (sum, sent) = sum.unwrap().unwrap();
                assert!(sum == expected, "{count} numbers, {size} ranks");
                // 2 (n - 1) / n times the numbers, but for shares that differ by one
                let least = 2 * (size - 1) * 4 * count / size;
                let most = least + 2 * (size - 1) * 4 * (1 + count / (1 << 22));
                assert!(
                    (sent as usize).abs_diff(least) <= most - least,
                    "{sent} {least}"
                );
            }
        }
    }
}

/// What goes to one rank, or from one to all, may be longer than a message, and of other lengths than the others'.
#[test]
fn parts_may_be_longer_than_a_message() {
    let counts = [(1 << 22) + 17, 3];
    let heard = each(2, PATIENCE, |ranks| {
        let mine = counts.map(|count| numbers(ranks.rank(), count));
        let sums = ranks.sum_each(&[&mine[0], &mine[1]])?;
        let all = ranks.gather_floats(&mine[ranks.rank()])?;
        Ok::<_, Error>((sums, all))
    });
    let given = [0, 1].map(|rank| numbers(rank, counts[rank]));
    for (rank, heard) in heard.into_iter().enumerate() {
        let (sums, all) = heard.unwrap().unwrap();
        let [mine, other] = [0, 1].map(|of| numbers(of, counts[rank]));
        let expected: Vec<f32> = mine.iter().zip(&other).map(|(x, y)| x + y).collect();
        assert!(sums == expected && all == given, "rank {rank}");
    }
}

#[test]
fn everyone_hears_everyone() {
    let heard = each(4, PATIENCE, |ranks| {
        let rank = ranks.rank() as u8;
        ranks.barrier()?;
        let all = ranks.gather(&[rank, 7])?;
        let third = ranks.broadcast(&[rank; 3], 2)?;
        let mut few = [f64::from(rank), 0.5];
        ranks.sum_few(&mut few)?;
        let to: Vec<Vec<u8>> = (0..4).map(|to| vec![rank, to]).collect();
        Ok::<_, Error>((all, third, few, ranks.exchange(to)?))
    });
    for (me, heard) in heard.into_iter().enumerate() {
        let (all, third, few, given) = heard.unwrap().unwrap();
        assert_eq!(all, [[0, 7], [1, 7], [2, 7], [3, 7]]);
        assert_eq!((third, few), (vec![2; 3], [6.0, 2.0]));
        let expected: Vec<_> = (0..4).map(|from| vec![from, me as u8]).collect();
        assert_eq!(given, expected);
    }
}

#[test]
fn who_is_alone_waits_for_nobody() {
    let mut data = numbers(0, 9);
    let alone: &dyn Ranks = &Alone;
    alone.sum(&mut data).unwrap();
    assert_eq!(data, numbers(0, 9));
    alone.barrier().unwrap();
    assert_eq!(alone.gather(&[3]).unwrap(), [[3]]);
    assert_eq!((Alone.rank(), Alone.size(), Alone.sent()), (0, 1, 0));
}
