//! Tensors that do not fit their operation: an error that names both, and what would fit.

use std::sync::Arc;

use mdlm::device::Device;
use mdlm::error::{Error, Result};
use mdlm_engine::graph::PARAMS;
use mdlm_engine::graph::{Graph, Layout, Session, Storage, Tensor};
use mdlm_engine::ops::{Allowed, Attend, Heads, Seen};
use mdlm_engine::ops::{Dropout, Form, HeadLoss, Modulation, RowList, RowLoss, SegmentInputs};
use mdlm_engine::ops::{Last, Never, Norm, Race};
use mdlm_engine::program::Extent;
use pollster::block_on;

/// Where a case's inputs are made by shape.
struct Builder {
    g: Graph,
}

impl Builder {
    fn floats(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.g.input(name, shape)
    }

    fn ids(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.g.input_uint(name, shape)
    }
}

fn check<T>(op: &str, culprit: &str, build: impl FnOnce(&mut Builder) -> Result<T>) {
    let g = Graph::new(Arc::new(Layout::default()));
    match build(&mut Builder { g }) {
        Err(Error::Shape {
            op: named,
            tensor,
            expected,
            got,
        }) => {
            println!("{named}: {tensor} {got:?}, expected {expected}");
            assert_eq!((named, &tensor[..]), (op, culprit), "expected {expected}");
            assert!(!expected.is_empty());
        }
        Err(error) => panic!("{op}, {culprit}: {error}"),
        Ok(_) => panic!("{op}: a wrong {culprit} was accepted"),
    }
}

#[test]
fn linear() {
    let case = |culprit: &str, x: &[usize], w: &[usize], b: &[usize]| {
        check("linear", culprit, |t| {
            let (x, w, b) = (t.floats("x", x), t.floats("w", w), t.floats("b", b));
            t.g.linear("y", x, w, Some(b))
        });
    };
    case("x", &[2, 4], &[5, 3], &[5]);
    case("w", &[2, 3], &[15], &[5]);
    case("b", &[2, 3], &[5, 3], &[3]);
    case("b", &[2, 3], &[5, 3], &[5, 1]);
}

#[test]
fn linear_residual() {
    let place = Modulation {
        sample_rows: 2,
        stride: 10,
        column: 5,
    };
    let case = |culprit: &str, residual: &[usize], gate: &[usize], place: Modulation| {
        check("linear", culprit, |t| {
            let (x, w) = (t.floats("x", &[4, 3]), t.floats("w", &[5, 3]));
            let (residual, gate) = (t.floats("residual", residual), t.floats("gate", gate));
            let names = ["branch", "y"];
            let gate = Some((gate, place));
            t.g.linear_residual(names, x, w, None, residual, gate, Dropout::default())
        });
    };
    case("residual", &[4, 4], &[2, 10], place);
    case("gate", &[4, 5], &[1, 10], place);
    case("gate", &[4, 5], &[2, 9], place);
    case("gate", &[4, 5], &[2, 10], Modulation { column: 6, ..place });
    let uneven = Modulation {
        sample_rows: 3,
        ..place
    };
    case("gate", &[4, 5], &[1, 10], uneven);
    let none = Modulation {
        sample_rows: 0,
        ..place
    };
    case("gate", &[4, 5], &[2, 10], none);
}

#[test]
fn matmul() {
    for (form, culprit, a, b) in [
        (Form::Nt, "b", &[2, 3][..], &[5, 4][..]),
        (Form::Nn, "b", &[2, 3], &[4, 3]),
        (Form::Tn, "b", &[2, 3], &[3, 5]),
        (Form::Nt, "a", &[6], &[5, 3]),
        (Form::Nt, "b", &[2, 3], &[15]),
    ] {
        check("matmul", culprit, |t| {
            let (a, b) = (t.floats("a", a), t.floats("b", b));
            t.g.matmul("c", form, a, b)
        });
    }
}

#[test]
fn attention_and_rotary() {
    for (shape, batch, heads, dim) in [
        (&[6, 96][..], 4, 2, 16), // not whole sequences
        (&[6, 90], 2, 2, 15),
        (&[6, 36], 2, 2, 6),
        (&[6, 1632], 2, 2, 272),
        (&[6, 94], 2, 2, 16), // too narrow
        (&[6, 96], 0, 2, 16),
        (&[6, 96], 2, 0, 16),
        (&[576], 3, 2, 16),
    ] {
        check("attention", "qkv", |t| {
            let qkv = t.floats("qkv", shape);
            t.g.attention("o", &Attend::fused(qkv, batch, heads, dim, Seen::All))
        });
    }
    for (culprit, q, k, v, kv_heads, sights, seen) in [
        (
            "q",
            &[6, 32][..],
            &[6, 48][..],
            &[6, 48][..],
            3,
            [3, 4],
            None,
        ), // 2 heads over 3
        ("k", &[6, 32], &[6, 8], &[6, 32], 1, [3, 4], None),
        ("v", &[6, 32], &[6, 16], &[4, 16], 1, [3, 4], None),
        (
            "k",
            &[6, 32],
            &[4, 16],
            &[4, 16],
            1,
            [3, 4],
            Some(Seen::Causal),
        ),
        ("sights", &[6, 32], &[6, 16], &[6, 16], 1, [2, 4], None),
        ("sights", &[6, 32], &[6, 16], &[6, 16], 1, [3, 3], None),
    ] {
        check("attention", culprit, |t| {
            let [q, k, v] = [("q", q), ("k", k), ("v", v)].map(|(n, s)| t.floats(n, s));
            let sights = t.ids("sights", &sights);
            let by = Seen::By {
                queries: sights,
                keys: sights,
            };
            let attend = Attend {
                q: Heads::whole(q),
                k: Heads::whole(k),
                v: Heads::whole(v),
                batch: 2,
                heads: 2,
                kv_heads,
                head_dim: 16,
                seen: seen.unwrap_or(by),
            };
            t.g.attention("o", &attend)
        });
    }
    for (culprit, x, positions) in [
        ("x", &[3, 8][..], &[2][..]),
        ("x", &[2, 8], &[2]),
        ("positions", &[2, 12], &[3]),
    ] {
        check("store_rows", culprit, |t| {
            let tensor = t.floats("x", x);
            let positions = t.ids("positions", positions);
            let state = t.g.state("state", &[2, 5, 8]);
            t.g.store_rows(Heads { tensor, column: 4 }, positions, state)
        });
    }
    for (culprit, shape, table) in [
        ("qkv", &[6, 96][..], &[4, 8, 2][..]),
        ("qkv", &[6, 90], &[3, 8, 2]),
        ("qkv", &[6, 96], &[3, 9, 2]),
        ("qkv", &[576], &[3, 8, 2]),
        ("table", &[6, 96], &[3, 8]),
        ("table", &[6, 96], &[3, 8, 3]),
    ] {
        check("rotary", culprit, |t| {
            let (qkv, table) = (t.floats("qkv", shape), t.floats("table", table));
            t.g.rotary("y", qkv, table, 4, 16)
        });
    }
}

#[test]
fn layer_norm() {
    let place = Modulation {
        sample_rows: 2,
        stride: 10,
        column: 4,
    };
    let case = |culprit: &str, x: &[usize], w: &[usize], m: &[usize], place: Modulation| {
        check("norm", culprit, |t| {
            let (x, w, m) = (
                t.floats("x", x),
                t.floats("w", w),
                t.floats("modulation", m),
            );
            t.g.norm("y", x, Norm::layer(w).modulated(Some((m, place))))
        });
    };
    case("x", &[4, 4], &[3], &[2, 10], place);
    case("x", &[4, 0], &[0], &[2, 10], place);
    case("modulation", &[4, 3], &[3], &[4, 10], place);
    let late = Modulation { column: 5, ..place };
    case("modulation", &[4, 3], &[3], &[2, 10], late);
}

#[test]
fn embedding() {
    let case =
        |culprit: &str, table: &[usize], order: &[usize], parts: &[usize], segments: &[usize]| {
            check("embedding", culprit, |t| {
                let (ids, table) = (t.ids("ids", &[7]), t.floats("table", table));
                let inputs = SegmentInputs {
                    order: t.ids("order", order),
                    parts: t.ids("parts", parts),
                    segments: t.ids("segments", segments),
                };
                t.g.embedding("x", ids, table, Some(inputs))
            });
        };
    case("table", &[15], &[7], &[5, 2], &[5, 3]);
    case("order", &[5, 3], &[6], &[5, 2], &[5, 3]);
    case("parts", &[5, 3], &[7], &[5, 3], &[5, 3]);
    case("segments", &[5, 3], &[7], &[5, 2], &[15]);
}

#[test]
fn rows_and_losses() {
    for (culprit, x, rows, row_of) in [
        ("x", &[12][..], 4, 4),
        ("rows", &[4, 3], 3, 4),
        ("row_of", &[4, 3], 4, 5),
    ] {
        check("gather_rows", culprit, |t| {
            let x = t.floats("x", x);
            let list = RowList {
                rows: t.ids("rows", &[rows]),
                row_of: t.ids("row_of", &[row_of]),
            };
            t.g.gather_rows("y", x, list)
        });
    }
    for (culprit, hidden, w, b, n, mask_index) in [
        ("hidden", &[12][..], &[5, 3][..], 5, [4, 4], 0),
        ("w", &[4, 3], &[5, 4], 5, [4, 4], 0),
        ("b", &[4, 3], &[6, 3], 5, [4, 4], 0),
        ("w", &[4, 3], &[5, 3], 5, [4, 4], 5),
        ("targets", &[4, 3], &[5, 3], 5, [3, 4], 0),
        ("weights", &[4, 3], &[5, 3], 5, [4, 3], 0),
    ] {
        check("head_loss", culprit, |t| {
            let head = HeadLoss {
                loss: RowLoss::Subs,
                coefficients: None,
                hidden: t.floats("hidden", hidden),
                weight: t.floats("w", w),
                bias: Some(t.floats("b", &[b])),
                targets: t.ids("targets", &[n[0]]),
                weights: t.floats("weights", &[n[1]]),
                mask_index: Some(mask_index),
                chunk: 64,
                gradient: true,
            };
            t.g.head_loss(&head)
        });
    }
    for (culprit, hidden, w, rows, mask_index) in [
        ("hidden", &[12][..], &[5, 3][..], 4, 0),
        ("w", &[4, 3], &[5, 4], 4, 0),
        ("rows", &[4, 3], &[5, 3], 3, 0),
        ("w", &[4, 3], &[5, 3], 4, 5),
    ] {
        check("categorical", culprit, |t| {
            let (hidden, w) = (t.floats("hidden", hidden), t.floats("w", w));
            let (b, rows) = (t.floats("b", &[5]), t.ids("rows", &[rows, 3]));
            t.g.categorical(
                hidden,
                w,
                Some(b),
                rows,
                Race::new(Never::absent(Some(mask_index)), 64),
            )
        });
    }
    for (op, culprit, words, choice) in [
        ("restrict", "sets", 1, 4),
        ("restrict", "sets", 3, 4),
        ("categorical", "choice", 2, 3),
    ] {
        check(op, culprit, |t| {
            let (hidden, w) = (t.floats("hidden", &[4, 3]), t.floats("w", &[33, 3]));
            let rows = t.ids("rows", &[4, 3]);
            let allowed = Allowed {
                sets: t.ids("sets", &[2, words]),
                choice: t.ids("choice", &[choice]),
            };
            let race = Race {
                allowed: Some(allowed),
                ..Race::new(Never::absent(None), 64)
            };
            t.g.categorical(hidden, w, None, rows, race)
        });
    }
    for (op, culprit, standing, vocab, places) in [
        ("categorical", "standing", 3, 33, 4),
        ("drift", "logs", 4, 32, 4),
        ("view", "places", 4, 33, 3),
    ] {
        check(op, culprit, |t| {
            let (hidden, w) = (t.floats("hidden", &[4, 3]), t.floats("w", &[33, 3]));
            let rows = t.ids("rows", &[4, 3]);
            let last = Last {
                logs: t.g.state("logs", &[9, vocab]),
                places: t.ids("places", &[places]),
            };
            let race = Race {
                standing: Some(t.ids("standing", &[standing])),
                last: Some(last),
                ..Race::new(Never::absent(None), 64)
            };
            t.g.categorical(hidden, w, None, rows, race)
        });
    }
    for (culprit, logits, xt, mask_index) in [
        ("logits", &[12][..], 4, 0),
        ("logits", &[4, 3], 4, 3),
        ("xt", &[4, 3], 3, 0),
    ] {
        check("subs", culprit, |t| {
            let (logits, xt) = (t.floats("logits", logits), t.ids("xt", &[xt]));
            t.g.subs("y", logits, xt, mask_index)
        });
    }
    check("weighted_sum", "w", |t| {
        let (x, w) = (t.floats("x", &[4]), t.floats("w", &[3]));
        t.g.weighted_sum("y", x, w, Extent::Fixed(4))
    });
    check("view", "x", |t| {
        let x = t.floats("x", &[4, 3]);
        t.g.view(x, 6, &[7])
    });
    check("backward", "x", |t| {
        let x = t.floats("x", &[4, 3]);
        t.g.backward(x)
    });
    check("update", "stats", |t| {
        let stats = t.floats("stats", &[3]);
        t.g.update(
            stats,
            mdlm_engine::ops::Rule::adamw(crate::common::graphs::ADAMW),
        )
    });
}

/// Numbers where integers belong, and the other way round, are found when the node is pushed.
#[test]
fn types() {
    let plan = |t: Builder, y: Tensor| -> Result<Session> {
        let (device, mut g) = (Device::cpu(), t.g);
        let layout = g.layout().clone();
        let storage = block_on(Storage::new(&device, &layout, &[]))?;
        block_on(Session::new(&device, &mut g, &storage, PARAMS, &[y]))
    };
    check("activation", "ids", |t| {
        let x = t.ids("ids", &[4]);
        let y = t.g.silu("y", x)?;
        plan(std::mem::replace(t, empty()), y)
    });
    check("embedding", "ids", |t| {
        let (ids, table) = (t.floats("ids", &[4]), t.floats("table", &[5, 3]));
        let y = t.g.embedding("y", ids, table, None)?;
        plan(std::mem::replace(t, empty()), y)
    });
    check("subs", "xt", |t| {
        let (logits, xt) = (t.floats("logits", &[4, 3]), t.floats("xt", &[4]));
        let y = t.g.subs("y", logits, xt, 0)?;
        plan(std::mem::replace(t, empty()), y)
    });
    check("gather_rows", "rows", |t| {
        let x = t.floats("x", &[4, 3]);
        let list = RowList {
            rows: t.floats("rows", &[4]),
            row_of: t.ids("row_of", &[4]),
        };
        let y = t.g.gather_rows("y", x, list)?;
        plan(std::mem::replace(t, empty()), y)
    });
}

fn empty() -> Builder {
    let g = Graph::new(Arc::new(Layout::default()));
    Builder { g }
}

/// A loss that makes its gradients in the forward pass may be a term of a sum, once; anything else is refused.
#[test]
fn losses_that_are_no_plain_terms() {
    let case = |name: &str, make: &dyn Fn(&mut Graph, [Tensor; 2]) -> Result<Tensor>| {
        let mut layout = Layout::builder(usize::MAX);
        let ids = ["hidden", "w"].map(|name| layout.tensor(name, &[8, 4]).unwrap());
        let mut g = Graph::new(Arc::new(layout.finish(|_| 0)));
        let [hidden, weight] = ids.map(|id| g.param(id));
        let mut loss = || {
            let head = HeadLoss {
                loss: RowLoss::Subs,
                coefficients: None,
                hidden,
                weight,
                bias: None,
                targets: g.input_uint("targets", &[8]),
                weights: g.input("weights", &[8]),
                mask_index: None,
                chunk: 64,
                gradient: true,
            };
            g.head_loss(&head).unwrap()[0]
        };
        let losses = [loss(), loss()];
        let made = make(&mut g, losses).and_then(|loss| g.backward(loss));
        println!("{name}: {made:?}");
        made.err().map(|error| error.to_string())
    };
    let sum = case("sum", &|g, [a, b]| g.add("sum", a, b));
    assert_eq!(sum, None);
    let scaled = |g: &mut Graph, [a, b]: [Tensor; 2]| {
        let half = g.scale("half", a, 0.5)?;
        g.add("sum", half, b)
    };
    let told = case("scaled", &scaled).unwrap();
    assert!(told.contains("no plain term"), "{told}");
    let told = case("left out", &|_, [a, _]| Ok(a)).unwrap();
    assert!(told.contains("no plain term"), "{told}");
    let told = case("twice", &|g, [a, _]| g.add("sum", a, a)).unwrap();
    assert!(told.contains("counted twice"), "{told}");
}
