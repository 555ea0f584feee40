//! Embedding lookup and its gradient by sorted segments.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::{PARTS, SEGMENTS};
use mdlm_engine::ops::{SegmentInputs, Segments, embedding_segments};
use mdlm_engine::rng::{Rng, Stream};

suites! {
    lookup_and_gradient: "embedding", Sum;
    lookup_is_exact: "embedding, lookup", Copy;
}

fn check(suite: &mut Suite, name: &str, ids: &[u32], vocab: usize, width: usize) {
    let mut s = Segments::default();
    embedding_segments(ids, None, &mut s);
    let rows = ids.len();
    let distinct = rows.min(vocab);
    let mut case = Case::new(format!("{name}: {rows} of {vocab}, width {width}"));
    case.step.set(PARTS, s.part_count());
    case.step.set(SEGMENTS, s.segment_count());
    case.param("table", &[vocab, width], 1.0)
        .uint("ids", &[rows], ids)
        .uint("order", &[rows], &s.order)
        .uint("parts", &[distinct + rows / 256, 2], &s.parts)
        .uint("segments", &[distinct, 3], &s.segments);
    suite.check(&case, rows, &|g, t, _| {
        let inputs = SegmentInputs {
            order: t["order"],
            parts: t["parts"],
            segments: t["segments"],
        };
        let x = g.embedding("x", t["ids"], t["table"], Some(inputs))?;
        Ok(Made::new(g, &[x]))
    });
}

fn lookup_and_gradient(suite: &mut Suite) {
    let mut rng = Rng::new(5, Stream::Shuffle, 0);
    let mut draw =
        |n: usize, vocab: u64| -> Vec<u32> { (0..n).map(|_| rng.below(vocab) as u32).collect() };
    check(suite, "one", &[0], 1, 1);
    check(suite, "few", &draw(7, 5), 5, 3);
    check(suite, "sparse", &draw(11, 1000), 1000, 67);
    check(suite, "dense", &draw(700, 3), 3, 130);
    // the mask owns half of all rows, in parts of 256
    let mut half = draw(1301, 97);
    half.iter_mut().step_by(2).for_each(|id| *id = 97);
    check(suite, "half masked", &half, 98, 65);
    check(suite, "all masked", &[4; 513], 5, 64);
}

/// Without gradient the rows come out as they are.
fn lookup_is_exact(suite: &mut Suite) {
    let mut case = Case::new("9x33");
    case.input("table", &[9, 33], 1.0)
        .uint("ids", &[5], &[8, 0, 3, 3, 1]);
    suite.check(&case, 1, &|g, t, _| {
        let x = g.embedding("x", t["ids"], t["table"], None)?;
        Ok(Made::new(g, &[x]).without_gradient())
    });
}
