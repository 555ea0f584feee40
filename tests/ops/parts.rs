//! Tables that do not fit a binding: the same bits as of one that does.

use std::sync::Arc;

use crate::common::Executor;
use crate::common::case::random;
use mdlm_engine::graph::{FORWARD, Graph, Key, Layout, PARAMS, Session, Storage};
use mdlm_engine::ops::ROWS;
use mdlm_engine::program::{Element, Extent, Room, Step};
use pollster::block_on;

/// What rows of a table are, and their products with all of its rows, with some, and of some.
fn run(executor: Executor, element: Element, room: Room, [rows, n, k]: [usize; 3]) -> Vec<f64> {
    let device = executor.shared();
    let mut layout = Layout::builder(room);
    let parts = [("table".to_owned(), vec![n, k])];
    let table = layout.stacked("table", &[n, k], element, &parts).unwrap();
    let bias = layout.tensor("bias", &[n]).unwrap();
    let layout = Arc::new(layout.finish(|key| usize::from(key == "bias")));
    let mut g = Graph::new(layout.clone());
    let (table, bias) = (g.param(table), g.param(bias));
    let tokens = g.input_uint("tokens", &[rows]);
    let x = g.embedding("x", tokens, table, None).unwrap();
    let y = g.linear("y", x, table, Some(bias)).unwrap();
    let fewer = g.view(table, 0, &[n - 1, k]).unwrap();
    let listed = Extent::counted(ROWS, 0, rows);
    let z = g.linear_rows("z", x, fewer, None, listed).unwrap();
    let mut storage = block_on(Storage::new(device, &layout, &[PARAMS])).unwrap();
    let values = |index: usize, key: &Key| Ok(random(index as u64, key.len(), 1.0));
    storage.write(PARAMS, values).unwrap();
    let outputs = [x, y, z];
    let mut session = block_on(Session::new(device, &mut g, &storage, PARAMS, &outputs)).unwrap();
    let ids: Vec<u32> = (0..rows).map(|row| (row * 97 % n) as u32).collect();
    session.write_uint(tokens, &ids).unwrap();
    let mut step = Step::default();
    let some = rows.div_ceil(2);
    step.set(ROWS, some as u32);
    let out = block_on(session.run(&mut storage, &step, &[FORWARD])).unwrap();
    // of the last only the counted rows are anything
    out[..rows * (k + n) + some * (n - 1)].to_vec()
}

#[test]
fn tables_in_parts() {
    let devices = [Executor::Gpu, Executor::CpuF32, Executor::CpuF64];
    for executor in devices {
        for (element, name) in Element::WEIGHTS {
            // what a part is at least, if the width shares nothing with a block
            let least = 64 * element.block().0;
            for [rows, n, k] in [[5, least + 50, 33], [70, 301, 48]] {
                let whole = run(executor, element, Room::from(1 << 26), [rows, n, k]);
                let rows_of_part = if k == 33 { least } else { 128 };
                let room = Room {
                    binding: element.bytes(rows_of_part * k) as usize / 4,
                    buffer: 1 << 26,
                };
                assert!(element.bytes(n * k) > 4 * room.binding as u64);
                let split = run(executor, element, room, [rows, n, k]);
                assert!(split == whole, "{executor:?} {name} {rows} {n}x{k}");
            }
        }
    }
}

#[test]
fn what_has_no_part_that_fits_is_named() {
    let room = Room {
        binding: 64 * 48 - 1,
        buffer: 1 << 20,
    };
    let mut layout = Layout::builder(room);
    let table = layout.tensor("table", &[301, 48]).unwrap();
    let mut g = Graph::new(Arc::new(layout.finish(|_| 0)));
    let (table, ids) = (g.param(table), g.input_uint("ids", &[2]));
    let error = g.embedding("x", ids, table, None).unwrap_err();
    assert_eq!(error.code(), "unsupported");
    assert!(
        error.to_string().contains("table in one binding"),
        "{error}"
    );
    let error = Layout::builder(room).tensor("vast", &[1 << 11, 1 << 10]);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("vast in one buffer")
    );
}
