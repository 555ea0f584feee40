//! Limits of a device: what does not fit is refused with the culprit and both numbers.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::common::EXECUTORS;
use crate::common::borrowed::open;
use crate::common::graphs::{Purpose, build};
use crate::common::training::{Training, model};
use mdlm::config::ModelConfig;
use mdlm::device::Device;
use mdlm::error::{Error, Result};
use mdlm::model::Backbone;
use mdlm::{Canvas, Model};
use mdlm_engine::gpu::DeviceClass;
use mdlm_engine::graph::{GRADS, PARAMS};
use mdlm_engine::graph::{Graph, Layout, Session, Storage};
use mdlm_engine::ops::EMA;
use mdlm_engine::program::Element;
use pollster::block_on;

fn small() -> wgpu::Limits {
    wgpu::Limits {
        max_buffer_size: 1 << 20,
        max_storage_buffer_binding_size: 1 << 18,
        ..wgpu::Limits::default()
    }
}

fn refused<T>(result: Result<T>, culprit: &str, need: u64, have: u64) {
    match result {
        Err(Error::Unsupported {
            what,
            need: n,
            have: h,
        }) => {
            assert!(what.contains(culprit), "{what:?} does not name {culprit}");
            assert_eq!((n, h), (need, have), "{what}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{culprit} was accepted"),
    }
}

/// Squares up to `n` elements of an input.
fn session(device: &Device, name: &str, n: usize) -> Result<Session> {
    let layout = Arc::new(Layout::default());
    let storage = block_on(Storage::new(device, &layout, &[])).unwrap();
    let mut g = Graph::new(layout);
    let x = g.input(name, &[n]);
    let y = g.silu("y", x).unwrap();
    block_on(Session::new(device, &mut g, &storage, PARAMS, &[y]))
}

#[test]
fn tensors_above_a_limit_are_named() {
    let (device, queue) = open(small());
    let device = Device::from_wgpu(device, queue).unwrap();
    assert!(session(&device, "fits", 1 << 16).is_ok());
    let (binding, buffer) = (1 << 18, 1 << 20);
    let result = session(&device, "wide", (1 << 16) + 1);
    refused(result, "wide", binding + 4, binding);
    let result = session(&device, "vast", (1 << 18) + 1);
    refused(result, "vast", buffer + 4, buffer);
    // and the device still works
    assert!(session(&device, "fits", 1 << 16).is_ok());
}

#[test]
fn parameters_above_a_limit_are_named() {
    let (device, queue) = open(small());
    let device = Device::from_wgpu(device, queue).unwrap();
    assert_eq!(device.slab_limit(), 1 << 16);
    let config = ModelConfig {
        vocab_size: 1025,
        mask_index: 0,
        ..model(false, 0.0)
    };
    let result = Backbone::new(&config, device.slab_limit());
    refused(result, "vocab_embed.embedding", 4 * 1025 * 64, 1 << 18);
}

/// A published model whose table is larger than a binding: as on a device where it is not.
#[test]
fn tables_above_a_binding_are_taken_in_parts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_llm/qwen3_a2d");
    let of = |limits| {
        let (device, queue) = open(limits);
        let device = Device::from_wgpu_as(device, queue, DeviceClass::Portable).unwrap();
        let mut model = block_on(Model::load(&device, &dir)).unwrap();
        let xt: Vec<u32> = (0..40).map(|i| i * 7 % 288).collect();
        let logits = block_on(model.logits(&xt, &[0.0])).unwrap();
        let config = model.sampling();
        let canvas = Canvas::prompt(&xt[..5], 24).unwrap();
        let sampler = model.sampler(canvas, &config).unwrap();
        let made = block_on(sampler.finish(|_| ControlFlow::Continue(()))).unwrap();
        (logits, made)
    };
    let small = wgpu::Limits {
        max_storage_buffer_binding_size: 1 << 16,
        ..wgpu::Limits::default()
    };
    // the table has 288 rows of 64
    assert!(4 * 288 * 64 > small.max_storage_buffer_binding_size);
    assert!(of(small) == of(wgpu::Limits::default()));
}

#[test]
fn a_device_below_the_defaults_is_refused() {
    let defaults = wgpu::Limits::default;
    for (what, limits) in [
        (
            "storage buffers per stage",
            wgpu::Limits {
                max_storage_buffers_per_shader_stage: 7,
                ..defaults()
            },
        ),
        (
            "invocations per workgroup",
            wgpu::Limits {
                max_compute_invocations_per_workgroup: 128,
                ..defaults()
            },
        ),
        (
            "bytes of workgroup memory",
            wgpu::Limits {
                max_compute_workgroup_storage_size: 8192,
                ..defaults()
            },
        ),
        (
            "workgroups per dimension",
            wgpu::Limits {
                max_compute_workgroups_per_dimension: 1024,
                ..defaults()
            },
        ),
    ] {
        let (device, queue) = open(limits);
        match Device::from_wgpu(device, queue) {
            Err(Error::Unsupported { what: named, .. }) => assert_eq!(named, what),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn arenas_that_are_missing_are_named() {
    let config = model(false, 0.0);
    for executor in EXECUTORS {
        let device = executor.shared();
        let backbone = Backbone::new(&config, device.slab_limit()).unwrap();
        let mut storage = block_on(Storage::new(device, &backbone.layout, &[PARAMS])).unwrap();
        let mut g = build(&config, Purpose::Train, 1, 8);
        let session = block_on(Session::new(device, &mut g, &storage, PARAMS, &[]));
        for problem in [
            session.err().unwrap(),
            storage.write(GRADS, |_, _| Ok(vec![])).unwrap_err(),
            block_on(storage.read(GRADS)).unwrap_err(),
        ] {
            assert!(problem.to_string().contains("no arena grads"), "{problem}");
        }
        let mut g = build(&config, Purpose::Eval, 1, 8);
        let session = block_on(Session::new(device, &mut g, &storage, EMA, &[]));
        let problem = session.err().unwrap().to_string();
        assert!(problem.contains("no arena ema"), "{problem}");
    }
}

#[test]
fn uploads_that_do_not_fit_are_refused() {
    for executor in EXECUTORS {
        let device = executor.shared();
        let layout = Arc::new(Layout::default());
        let storage = block_on(Storage::new(device, &layout, &[])).unwrap();
        let mut g = Graph::new(layout);
        let (x, ids) = (g.input("x", &[5]), g.input_uint("ids", &[3]));
        let y = g.silu("y", x).unwrap();
        let mask = g.subs("z", y, ids, 0);
        assert!(mask.is_err(), "a vector is no matrix");
        let table = g.constant("table", &[2, 1], vec![0.0; 2]);
        let rows = g.embedding("rows", ids, table, None).unwrap();
        let outputs = [y, rows];
        let session = Session::new(device, &mut g, &storage, PARAMS, &outputs);
        let mut session = block_on(session).unwrap();
        session.write(x, &[0.0; 5]).unwrap();
        session.write_uint(ids, &[0; 2]).unwrap();
        let named = |result: Result<()>, tensor: &str, element: Element| match result {
            Err(Error::Shape {
                op: "write",
                tensor: t,
                expected,
                ..
            }) => {
                assert_eq!(t, tensor);
                assert!(expected.contains(&format!("{element:?}")), "{expected}");
            }
            other => panic!("{executor:?}, {tensor}: {other:?}"),
        };
        named(session.write(x, &[0.0; 6]), "x", Element::F32);
        named(session.write_uint(ids, &[0; 4]), "ids", Element::U32);
        named(session.write(ids, &[0.0]), "ids", Element::U32);
        named(session.write_uint(x, &[0]), "x", Element::F32);
    }
}

/// Bindings of half of WebGPU's minimum: a small model trains with the bits of a device with more, a table that is larger
/// is read in parts, and what cannot be is refused.
#[test]
fn bindings_of_64_mib() {
    let binding = 64 << 20;
    let device = |binding| {
        let (device, queue) = open(wgpu::Limits {
            max_storage_buffer_binding_size: binding,
            ..wgpu::Limits::default()
        });
        Device::from_wgpu_as(device, queue, DeviceClass::Portable).unwrap()
    };
    let (small, whole) = (device(binding), device(128 << 20));
    let train = |device: &Device| {
        let mut training = Training::new(device, &model(true, 0.1), 2, usize::MAX).unwrap();
        let outcomes: Vec<_> = (0..2).map(|k| training.step(k).unwrap()).collect();
        (outcomes, training.state())
    };
    assert!(train(&small) == train(&whole));
    let config = ModelConfig {
        vocab_size: 270_000,
        mask_index: 0,
        ..model(false, 0.0)
    };
    let bytes = 4 * 270_000 * 64;
    assert!(bytes > binding);
    let logits = |device: &Device| {
        let mut model = block_on(Model::new(device, &config, 1))?;
        block_on(model.logits(&[1, 200_000, 0], &[0.5]))
    };
    let expected = logits(&whole).unwrap();
    assert_eq!(expected.len(), 3 * 270_000);
    match logits(&small) {
        Ok(logits) => assert!(logits == expected),
        Err(error) => refused::<()>(Err(error), "vocab_embed.embedding", bytes, binding),
    }
}
