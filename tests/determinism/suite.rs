//! Stands for a suite of cases where each is run again and again, on numbers as they are and on extreme ones.

use std::ops::RangeInclusive;

use crate::common::Executor;
use crate::common::case::{Build, Case, Role};
use crate::common::suite::Running;
use crate::common::trials::trials;

/// What parameters are multiplied by.
const SCALES: [f64; 5] = [1.0, 1e-30, 1e30, 1e-10, 1e10];

/// Where f32 gives finite numbers that are not those of f64: operations by the beginning of their names, at which scales,
/// and why.
const KNOWN: [(&str, RangeInclusive<f64>, &str); 4] = [
    (
        "attention",
        1e10..=1e30,
        "differences of scores near 1e20, and sums that overflow",
    ),
    ("norm", 1e30..=1e30, "squares overflow from 1e19 on"),
    (
        "half precision",
        1e-30..=1e-10,
        "f16 holds nothing below 6e-8, which is what losses are scaled for",
    ),
    ("half precision", 1e10..=1e30, "f16 ends at 65504"),
];

/// What came of every case.
pub struct Suite {
    label: &'static str,
    repeats: u64,
    /// Cases of more numbers are left out: they have smaller relatives.
    most: usize,
    scales: &'static [f64],
    runs: u64,
    /// How often each of [`KNOWN`] was seen.
    known: [u64; KNOWN.len()],
    /// Results that are finite and wrong.
    wrong: Vec<String>,
}

impl Suite {
    pub fn new() -> Self {
        let repeats = trials("repeats of every operation", 1, 0);
        let long = repeats > 1;
        Self {
            label: "",
            repeats,
            most: if long { 40_000 } else { 700 },
            scales: if long { &SCALES } else { &SCALES[..3] },
            runs: 0,
            known: [0; KNOWN.len()],
            wrong: Vec::new(),
        }
    }

    pub fn begin(&mut self, label: &'static str) {
        self.label = label;
    }

    pub fn check(&mut self, case: &Case, _: usize, build: Build<'_>) {
        for &scale in self.scales {
            let (case, size, top) = scaled(case, scale);
            if size < self.most {
                self.same(&case, scale, top, build);
            }
        }
    }

    pub fn check_code(&mut self, case: &Case, n: usize, long: bool, build: Build<'_>) {
        if !long {
            self.check(case, n, build);
        }
    }

    pub fn unrun(&mut self, _: &Case, _: Build<'_>) {}

    fn same(&mut self, case: &Case, scale: f64, given: f64, build: Build<'_>) {
        let run = |executor| Running::new(case, executor, true, build).results(case);
        let exact = run(Executor::CpuF64);
        for executor in [Executor::Gpu, Executor::CpuF32] {
            let first = run(executor);
            let bits = |x: &f64| x.to_bits();
            for _ in 0..self.repeats {
                let with = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                    pool.build().unwrap().install(|| run(executor))
                };
                let again = match executor {
                    Executor::Gpu => run(executor),
                    _ => with(1 + self.runs as usize % 3),
                };
                for (a, b) in first.iter().zip(&again) {
                    let same = a.elements.iter().map(bits).eq(b.elements.iter().map(bits));
                    assert!(
                        same,
                        "{} {}, {executor:?}: {} differs",
                        self.label, case.name, a.name
                    );
                }
                self.runs += 1;
            }
            for (got, exact) in first.iter().zip(&exact) {
                let top = exact
                    .elements
                    .iter()
                    .fold(0.0, |top: f64, x| top.max(x.abs()));
                // what f32 cannot hold is no mistake of a kernel
                let room = 1e-3 * top + 1e-6 * given;
                let off = |(a, b): (&f64, &f64)| a.is_finite() && (a - b).abs() > room;
                let wrong = got
                    .elements
                    .iter()
                    .zip(&exact.elements)
                    .filter(|&p| off(p))
                    .count();
                if wrong > 0 && top < 1e38 {
                    let what = format!(
                        "{}, {executor:?}, times {scale:e}: {}",
                        self.label, got.name
                    );
                    let known = |(label, at, _): &(&str, RangeInclusive<f64>, &str)| {
                        self.label.starts_with(label) && at.contains(&scale)
                    };
                    match KNOWN.iter().position(known) {
                        Some(place) => self.known[place] += 1,
                        None => self
                            .wrong
                            .push(format!("{what}, {wrong} wrong ({})", case.name)),
                    }
                }
            }
        }
    }

    pub fn finish(self) {
        println!(
            "{} runs had the bits of the first, on 1 to 3 threads",
            self.runs
        );
        for ((label, at, why), count) in KNOWN.iter().zip(self.known) {
            println!("{label} at {at:?}: {count} tensors are finite and not those of f64: {why}");
        }
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
        assert!(self.runs > 500);
    }
}

/// A case with its parameters multiplied, how many numbers it has, and its largest parameter (of cases without any, its
/// largest number).
fn scaled(case: &Case, scale: f64) -> (Case, usize, f64) {
    let mut made = Case::new(case.name.clone());
    made.step = case.step.clone();
    let (mut size, mut top, mut other) = (0, 0.0f64, 0.0f64);
    for (name, shape, role) in &case.tensors {
        size += shape.iter().product::<usize>();
        let largest = |values: &[f64]| values.iter().fold(0.0f64, |top, x| top.max(x.abs()));
        let role = match role {
            Role::Param(values) => {
                let values: Vec<f64> = values
                    .iter()
                    .map(|x| f64::from((x * scale) as f32))
                    .collect();
                top = top.max(largest(&values));
                Role::Param(values)
            }
            Role::Input(values) => {
                other = other.max(largest(values));
                Role::Input(values.clone())
            }
            Role::Uint(values) => Role::Uint(values.clone()),
        };
        made.tensors.push((name, shape.clone(), role));
    }
    (made, size, if top > 0.0 { top } else { other })
}

#[test]
fn every_operation_repeats_on_any_numbers() {
    let mut suite = Suite::new();
    crate::ops::collect(&mut suite);
    suite.finish();
}
