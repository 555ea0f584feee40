//! A step of the twin allocates no memory of a tensor's size, once every size has been seen.

use std::sync::atomic::Ordering;

use mdlm::config::ModelConfig;

use crate::alone;
use crate::common::Executor;
use crate::common::training::{Training, model};
use crate::heap::{LARGE_PACKED, LARGE_VECTORS};

#[test]
fn a_step_allocates_nothing_large() {
    let _turn = alone();
    let config = ModelConfig {
        hidden_size: 128,
        length: 65,
        ..model(true, 0.1)
    };
    let mut training = Training::new(Executor::CpuF32.shared(), &config, 4, usize::MAX).unwrap();
    let read = || [&LARGE_VECTORS, &LARGE_PACKED].map(|counter| counter.load(Ordering::Relaxed));
    training.step(0).unwrap();
    let [warm, packed] = read();
    assert!(warm > 10, "the counter does not count");
    for k in 1..4 {
        for (micro, update) in [(2 * k, false), (2 * k + 1, true)] {
            training.run(micro, update).unwrap();
        }
    }
    let [ours, packing] = read();
    println!("{} large buffers for packed matrices", packing - packed);
    assert_eq!(ours, warm, "large allocations in a step");
}
