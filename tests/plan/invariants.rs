//! What every plan keeps to, found from programs alone.

use std::collections::HashMap;

use crate::common::graphs::{Purpose, build, configs, purposes};
use mdlm::config::ModelConfig;
use mdlm_engine::gpu::{DeviceClass, Tuning};
use mdlm_engine::graph::{Graph, PARAMS, Plan};
use mdlm_engine::ops::TRAINING;
use mdlm_engine::program::{BufferId, BufferSpec, Slot};

/// An operand of a step, and whether it is written.
type Access = (Slot, bool);

/// A program as either executor sees it: buffers, and the operands of each step.
struct Program {
    buffers: Vec<BufferSpec>,
    steps: Vec<Vec<Access>>,
}

fn gpu(graph: &Graph, class: DeviceClass) -> Program {
    let plan = Plan::new(graph, true).unwrap();
    let program = plan.lower_gpu(graph, &Tuning::of(class)).unwrap();
    let steps = program.dispatches.iter().map(|d| {
        let bindings = d.bindings.iter().flatten();
        bindings.map(|b| (b.slot, b.write)).collect()
    });
    Program {
        steps: steps.collect(),
        buffers: program.buffers,
    }
}

fn cpu(graph: &Graph) -> Program {
    let plan = Plan::new(graph, false).unwrap();
    let program = plan.lower_cpu(graph).unwrap();
    let steps = program.calls.iter().map(|call| {
        let reads = call.reads.iter().map(|&slot| (slot, false));
        reads
            .chain(call.writes.iter().map(|&slot| (slot, true)))
            .collect()
    });
    Program {
        steps: steps.collect(),
        buffers: program.buffers,
    }
}

/// First and last step that touches a tensor, and whether the first one writes it.
struct Life {
    home: BufferId,
    first: usize,
    last: usize,
    /// The host writes it, so it is alive from the beginning to the end.
    input: bool,
}

/// The lives of all tensors. `apart` is the program of the same graph with no buffer shared, so
/// that its buffers stand for tensors.
fn lives(shared: &Program, apart: &Program) -> HashMap<usize, Life> {
    let mut lives: HashMap<usize, Life> = HashMap::new();
    assert_eq!(shared.steps.len(), apart.steps.len());
    for (i, (now, tensors)) in shared.steps.iter().zip(&apart.steps).enumerate() {
        assert_eq!(now.len(), tensors.len());
        let written = |id| tensors.iter().any(|&(s, write)| s.buffer == id && write);
        for (&(slot, write), &(tensor, _)) in now.iter().zip(tensors) {
            assert_eq!((slot.len, slot.element), (tensor.len, tensor.element));
            let BufferId::Local(id) = tensor.buffer else {
                assert_eq!(slot, tensor, "arenas are not pooled");
                continue;
            };
            let life = lives.entry(id).or_insert(Life {
                home: slot.buffer,
                first: i,
                last: i,
                input: !write && !written(tensor.buffer),
            });
            assert_eq!(life.home, slot.buffer, "a tensor stays where it is");
            life.last = i;
        }
    }
    lives
}

fn check(name: &str, shared: &Program, apart: &Program) {
    for (i, step) in shared.steps.iter().enumerate() {
        for (n, (a, a_writes)) in step.iter().enumerate() {
            let inside = match a.buffer {
                BufferId::Local(id) => {
                    let spec = &shared.buffers[id];
                    let (end, bytes) = (a.range().end, spec.element.bytes(spec.len));
                    a.element.bytes(end) <= bytes && end <= spec.longest
                }
                BufferId::Arena(..) => true,
            };
            assert!(inside, "{name}, step {i}: operand {n} leaves its buffer");
            assert!(
                a.offset.is_multiple_of(64),
                "{name}, step {i}: operand {n} is not aligned for a binding"
            );
            for (b, b_writes) in step[..n].iter().filter(|(b, _)| b.buffer == a.buffer) {
                assert_eq!(
                    a_writes, b_writes,
                    "{name}, step {i}: {a:?} is read and written"
                );
                let (a, b) = (a.range(), b.range());
                assert!(
                    !a_writes || a.end <= b.start || b.end <= a.start,
                    "{name}, step {i}: {a:?} and {b:?} are both written"
                );
            }
        }
    }
    let lives: Vec<_> = lives(shared, apart).into_iter().collect();
    for (n, (a, life)) in lives.iter().enumerate() {
        for (b, other) in lives[..n]
            .iter()
            .filter(|(_, other)| other.home == life.home)
        {
            assert!(
                !life.input && !other.input,
                "{name}: the host's tensor {a} or {b} shares a buffer"
            );
            assert!(
                life.last < other.first || other.last < life.first,
                "{name}: tensors {a} and {b} are alive together in {:?}",
                life.home
            );
        }
    }
    assert!(lives.len() > 10, "{name}: nothing was checked");
}

#[test]
fn tensors_alive_together_never_meet() {
    let mut count = 0;
    for config in configs() {
        for purpose in purposes(&config) {
            // more than one chunk of the output head; one sequence; one token
            for (batch, length) in [(3, 50), (1, 64), (2, 1)] {
                let name = format!("{purpose:?} {batch}x{length} {config:?}");
                let graph = build(&config, purpose, batch, length);
                let mut apart = build(&config, purpose, batch, length);
                apart.keep_all();
                for class in [
                    DeviceClass::Software,
                    DeviceClass::Portable,
                    DeviceClass::Desktop,
                ] {
                    check(&name, &gpu(&graph, class), &gpu(&apart, class));
                    count += 1;
                }
                check(&name, &cpu(&graph), &cpu(&apart));
                count += 1;
            }
        }
    }
    println!("{count} programs");
}

#[test]
fn sharing_saves_memory() {
    for config in configs() {
        for purpose in purposes(&config) {
            let plan = Plan::new(&build(&config, purpose, 3, 50), true).unwrap();
            let share = plan.shared as f64 / plan.unshared as f64;
            // a training step keeps what its backward pass reads; a forward pass almost nothing
            let most = match purpose {
                Purpose::Train | Purpose::TrainHalf => 0.75,
                _ => 0.5,
            };
            println!("{purpose:?}: {:.0} % of the memory", 100.0 * share);
            assert!(share < most, "{purpose:?} {config:?}: {share}");
        }
    }
}

/// With blocks computed again, a block more costs what stands between it and the next one, and one more forward pass.
#[test]
fn blocks_that_are_computed_again_take_no_memory() {
    let of = |purpose, n_blocks| {
        let config = ModelConfig {
            n_blocks,
            vocab_size: 300,
            mask_index: 299,
            dropout: 0.1,
            // by AdamW: Muon takes all matrices of a shape at once
            time_conditioning: true,
            ..ModelConfig::preset("nano").unwrap()
        };
        let graph = build(&config, purpose, 2, 64);
        let report = graph.report(DeviceClass::Portable, &[]).unwrap();
        (Plan::new(&graph, true).unwrap().shared, report.nodes)
    };
    let more = |purpose| {
        let ((few, nodes), (many, all)) = (of(purpose, 3), of(purpose, 9));
        (many - few, all - nodes)
    };
    let ((kept, once), (again, twice)) = (more(Purpose::Train), more(Purpose::TrainAgain));
    let between = 6 * 4 * 2 * 64 * 128;
    println!("6 blocks more: {kept} bytes and {once} nodes, or {again} and {twice}");
    assert!(again < between * 5 / 4);
    assert_eq!(twice - once, 6 * 8);
    assert!(kept > 10 * between);
    // in f16 all but the stream between blocks, and the gradients of weights, takes half
    let (half, _) = more(Purpose::TrainHalf);
    println!("{half} bytes in f16");
    assert!(half * 5 < kept * 3);
}

#[test]
fn report_adds_up() {
    for config in configs() {
        for purpose in purposes(&config) {
            let arenas = match purpose {
                Purpose::Train | Purpose::TrainAgain | Purpose::TrainHalf => &TRAINING[..],
                _ => &[PARAMS],
            };
            let graph = build(&config, purpose, 3, 50);
            let class = DeviceClass::Portable;
            let report = graph.report(class, arenas).unwrap();
            let plan = Plan::new(&graph, true).unwrap();
            let program = plan.lower_gpu(&graph, &Tuning::of(class)).unwrap();
            let buffers: u64 = program.buffers.iter().map(|b| b.element.bytes(b.len)).sum();
            let slabs: usize = graph.layout().slabs().iter().map(|s| s.len).sum();
            assert_eq!(report.dispatches, program.dispatches.len());
            assert!(report.nodes > 0 && report.nodes <= report.dispatches);
            assert_eq!(report.shared_bytes + report.input_bytes, buffers);
            assert_eq!(report.arena_bytes, (4 * arenas.len() * slabs) as u64);
            assert_eq!(report.total_bytes, buffers + report.arena_bytes);
            assert!(report.shared_bytes < report.activation_bytes);
            assert!(0 < report.least_bytes && report.least_bytes <= report.moved_bytes);
            let flops: u64 = program.dispatches.iter().map(|d| d.flops).sum();
            assert_eq!(report.flops, flops);
        }
    }
}
