//! Draws of tokens: the same ones on every executor.

use super::case::{Case, Made};
use super::gather_rows::list;
use super::suite::Suite;
use mdlm_engine::ops::{Allowed, Last, Never, OPEN, ROWS, Race};
use mdlm_engine::ops::{INVERSE_TEMPERATURE, SHARPNESS, TOP_K, TOP_P};

suites! {
    draws_are_equal: "categorical", Softmax;
    restricted_draws_are_equal: "categorical, restricted", Softmax;
    what_stands_is_said_again: "categorical, standing and drift", Softmax;
    sharper_and_softer_rows_are_told: "categorical, sharpness", Softmax;
}

/// Temperature, top-k, top-p. The twin sorts where the kernel bisects.
const OPTIONS: [(f64, u32, f64); 8] = [
    (1.0, 0, 1.0),
    (0.0, 0, 1.0),
    (0.7, 0, 1.0),
    (1.0, 1, 1.0),
    (1.0, 40, 1.0),
    (1.0, 0, 0.3),
    (1.5, 0, 0.9),
    (0.8, 20, 0.77),
];

/// Words of the keys of draws: every third row has one of its own.
fn keys(numbers: &[u32]) -> Vec<u32> {
    let words = |(row, &number): (usize, &u32)| [13, 14 + u32::from(row % 3 == 2), number];
    numbers.iter().enumerate().flat_map(words).collect()
}

fn draws_are_equal(suite: &mut Suite) {
    for (rows, width, vocab, chunk) in [
        (1, 1, 2, 64),
        (7, 5, 3, 64),
        (130, 17, 67, 64),
        (65, 33, 300, 128),
        (3, 2, 5003, 64),
    ] {
        for (i, (temperature, top_k, top_p)) in OPTIONS.into_iter().enumerate() {
            let listed = [0, 1, rows / 2, rows];
            // the number of rows has nothing to do with the options
            for &listed in if i < 2 { &listed[..] } else { &listed[3..] } {
                let mut case = Case::new(format!(
                    "{listed} of {rows}, width {width}, vocabulary {vocab}, temperature \
                     {temperature}, top-k {top_k}, top-p {top_p}"
                ));
                case.step.set(ROWS, listed as u32);
                let inverse = if temperature > 0.0 {
                    1.0 / temperature
                } else {
                    0.0
                };
                case.step.set(INVERSE_TEMPERATURE, inverse);
                case.step.set(TOP_K, top_k);
                case.step.set(TOP_P, top_p);
                let mask_index = (vocab / 2) as u32;
                case.input("hidden", &[rows, width], 1.0)
                    .input("w", &[vocab, width], 2.0)
                    .input("b", &[vocab], 1.0)
                    .uint("keys", &[rows, 3], &keys(&list(rows, listed).0));
                suite.check(&case, width.max(vocab), &|g, t, _| {
                    let draws = g.categorical(
                        t["hidden"],
                        t["w"],
                        Some(t["b"]),
                        t["keys"],
                        Race::new(
                            Never {
                                token: Some(mask_index),
                                counted: i % 2 == 1,
                            },
                            chunk,
                        ),
                    )?;
                    let outputs = [
                        draws.tokens,
                        draws.probability,
                        draws.entropy,
                        draws.log_total,
                        draws.margin,
                    ];
                    let made = Made::new(g, &outputs);
                    Ok(made.first(&[listed; 5]).exact(0).without_gradient())
                });
            }
        }
    }
}

/// Rows that may become one token, half of them, all, or all but the mask, in sets that several rows share.
fn restricted_draws_are_equal(suite: &mut Suite) {
    for (rows, width, vocab, chunk) in [
        (1, 1, 2, 64),
        (7, 5, 33, 64),
        (130, 17, 67, 64),
        (3, 2, 5003, 64),
    ] {
        let mask_index = vocab / 2;
        let words = usize::div_ceil(vocab, 32);
        let members: [&dyn Fn(usize) -> bool; 4] = [
            &|v| v == (vocab - 1) * usize::from(mask_index < vocab - 1),
            &|v| v % 2 == 1 || v == 0,
            &|_| true,
            &|v| v != mask_index,
        ];
        let sets = rows.min(members.len());
        let word = |set: usize, word: usize| {
            let bits = (0..32).filter(|bit| members[set](32 * word + bit));
            bits.fold(0u32, |word, bit| word | 1 << bit)
        };
        let all: Vec<u32> = (0..sets)
            .flat_map(|set| (0..words).map(move |w| (set, w)))
            .map(|(set, w)| word(set, w))
            .collect();
        let choice: Vec<u32> = (0..rows).map(|row| (row * 5 / 3 % sets) as u32).collect();
        for (i, (temperature, top_k, top_p)) in OPTIONS.into_iter().enumerate() {
            let mut case = Case::new(format!(
                "{rows} rows in {sets} sets, width {width}, vocabulary {vocab}, temperature {temperature}, top-k \
                 {top_k}, top-p {top_p}"
            ));
            case.step.set(ROWS, rows as u32);
            let inverse = if temperature > 0.0 {
                1.0 / temperature
            } else {
                0.0
            };
            case.step.set(INVERSE_TEMPERATURE, inverse);
            case.step.set(TOP_K, top_k);
            case.step.set(TOP_P, top_p);
            case.input("hidden", &[rows, width], 1.0)
                .input("w", &[vocab, width], 2.0)
                .uint("keys", &[rows, 3], &keys(&list(rows, rows).0))
                .uint("sets", &[rows, words], &all)
                .uint("choice", &[rows], &choice);
            suite.check(&case, width.max(vocab), &|g, t, _| {
                let never = Never {
                    token: Some(mask_index as u32),
                    counted: i % 2 == 1,
                };
                let allowed = Some(Allowed {
                    sets: t["sets"],
                    choice: t["choice"],
                });
                let (hidden, w) = (t["hidden"], t["w"]);
                let race = Race {
                    allowed,
                    ..Race::new(never, chunk)
                };
                let draws = g.categorical(hidden, w, None, t["keys"], race)?;
                let outputs = [
                    draws.tokens,
                    draws.probability,
                    draws.entropy,
                    draws.log_total,
                    draws.margin,
                ];
                let made = Made::new(g, &outputs);
                Ok(made.first(&[rows; 5]).exact(0).without_gradient())
            });
        }
    }
}

/// What is said of rows at another sharpness than the model's.
fn sharper_and_softer_rows_are_told(suite: &mut Suite) {
    for (rows, width, vocab) in [(1, 1, 2), (130, 17, 67), (3, 2, 5003)] {
        for sharpness in [0.3, 2.0] {
            let mut case = Case::new(format!(
                "{rows} rows, width {width}, vocabulary {vocab}, sharpness {sharpness}"
            ));
            case.step.set(ROWS, rows as u32);
            case.step.set(INVERSE_TEMPERATURE, 0.0);
            case.step.set(SHARPNESS, sharpness);
            case.input("hidden", &[rows, width], 1.0)
                .input("w", &[vocab, width], 2.0)
                .uint("keys", &[rows, 3], &keys(&list(rows, rows).0));
            suite.check(&case, width.max(vocab), &|g, t, _| {
                let race = Race::new(Never::absent(Some(0)), 64);
                let draws = g.categorical(t["hidden"], t["w"], None, t["keys"], race)?;
                let outputs = [
                    draws.tokens,
                    draws.probability,
                    draws.entropy,
                    draws.log_total,
                    draws.margin,
                ];
                let made = Made::new(g, &outputs);
                Ok(made.first(&[rows; 5]).exact(0).without_gradient())
            });
        }
    }
}

/// Rows with a token, and how far each distribution has moved from the uniform one that nothing was kept of, and from
/// itself.
fn what_stands_is_said_again(suite: &mut Suite) {
    for (rows, width, vocab, chunk) in [
        (1, 5, 9, 64),
        (7, 5, 33, 64),
        (130, 17, 67, 64),
        (3, 2, 5003, 64),
    ] {
        for (counted, redrawn) in [(false, false), (true, true), (false, true)] {
            let mut case = Case::new(format!(
                "{rows} rows, width {width}, vocabulary {vocab}, mask counted: {counted}, redrawn: {redrawn}"
            ));
            case.step.set(ROWS, rows as u32);
            let mask_index = (vocab / 2) as u32;
            let token = |row: usize| match (row * 7 % vocab) as u32 {
                token if row % 3 == 1 && token != mask_index => token,
                _ => OPEN,
            };
            let standing: Vec<u32> = (0..rows).map(token).collect();
            // back to front, with gaps
            let places: Vec<u32> = (0..rows).map(|row| 2 * (rows - 1 - row) as u32).collect();
            case.input("hidden", &[rows, width], 1.0)
                .input("moved", &[rows, width], 1.0)
                .input("w", &[vocab, width], 2.0)
                .uint("keys", &[rows, 3], &keys(&list(rows, rows).0))
                .uint("standing", &[rows], &standing)
                .uint("places", &[rows], &places);
            suite.check(&case, width.max(vocab), &|g, t, _| {
                let never = Never {
                    token: Some(mask_index),
                    counted,
                };
                let race = Race {
                    standing: Some(t["standing"]),
                    redrawn,
                    last: Some(Last {
                        logs: g.state("logs", &[2 * rows, vocab]),
                        places: t["places"],
                    }),
                    ..Race::new(never, chunk)
                };
                let mut outputs = Vec::new();
                for hidden in ["hidden", "moved", "moved"] {
                    let draws = g.categorical(t[hidden], t["w"], None, t["keys"], race)?;
                    outputs.extend([draws.tokens, draws.probability]);
                    outputs.extend(draws.drift);
                }
                let made = Made::new(g, &outputs);
                Ok(made.first(&[rows; 9]).exact(0).exact(3).without_gradient())
            });
        }
    }
}
