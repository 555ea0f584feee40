//! Half precision on the wire loses nothing over time.

use std::time::Duration;

use mdlm::Error;
use mdlm::ranks::{Narrow, each};

/// Over many sums nothing is lost: their total is that of f32, but for one rounding.
#[test]
fn errors_are_given_back() {
    const COUNT: usize = 1001;
    let value = |rank: usize, i: usize| {
        // some are far below what a half can tell beside the largest
        (rank as f32 + 1.5)
            * 10f32.powi(-((i % 12) as i32))
            * if i.is_multiple_of(3) { -1.0 } else { 1.0 }
    };
    let totals = each(3, Duration::from_secs(60), |ranks| {
        let (mut narrow, mut total) = (Narrow::default(), vec![0.0f64; COUNT]);
        for _ in 0..200 {
            let mut data: Vec<f32> = (0..COUNT).map(|i| value(ranks.rank(), i)).collect();
            narrow.sum(&*ranks, &mut data)?;
            for (total, x) in total.iter_mut().zip(data) {
                *total += f64::from(x);
            }
        }
        Ok::<_, Error>((total, ranks.sent()))
    });
    let totals: Vec<_> = totals.into_iter().map(|t| t.unwrap().unwrap()).collect();
    for (total, sent) in &totals {
        assert!(*total == totals[0].0, "all have the same bits");
        for (i, total) in total.iter().enumerate() {
            let expected = 200.0 * (0..3).map(|rank| f64::from(value(rank, i))).sum::<f64>();
            // one rounding of each message, of numbers below 16
            let most = 4.0 * 16.0 / 2048.0 + 1e-4 * expected.abs();
            assert!((total - expected).abs() < most, "{i}: {total} {expected}");
        }
        // half of the bytes, and a scale a message
        let halves = 2 * 2 * 2 * COUNT as u64 / 3;
        assert!((sent / 200).abs_diff(halves) < 40, "{sent}");
    }
}

#[test]
fn what_is_no_number_is_told_and_not_kept() {
    let sums = each(2, Duration::from_secs(60), |ranks| {
        let mut narrow = Narrow::default();
        let mut data = [1.0, f32::NAN, f32::INFINITY, 2.0].map(|x| match ranks.rank() {
            0 => x,
            _ => 1.0,
        });
        narrow.sum(&*ranks, &mut data)?;
        let mut next = [1.0; 4];
        narrow.sum(&*ranks, &mut next)?;
        Ok::<_, Error>((data, next))
    });
    for sum in sums {
        let (data, next) = sum.unwrap().unwrap();
        assert!(data[1].is_nan() && !data[2].is_finite());
        assert_eq!(next, [2.0; 4]);
    }
}
