//! Attention: both ways, causal, and by any rule of visibility, over heads that lie in any tensors.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::visibility::{self, Sight};
use mdlm_engine::ops::{Attend, Heads, Seen};
use mdlm_engine::rng::{Rng, Stream};

suites! {
    lengths_and_widths: "attention", Softmax;
    random_shapes: "attention, random shapes", Softmax;
    who_sees_whom: "attention, visibility", Softmax;
    other_keys_than_queries: "attention, other keys", Softmax;
    every_sequence_sees_its_own: "attention, sights of sequences", Softmax;
}

fn check(suite: &mut Suite, [batch, length, heads, dim]: [usize; 4], seen: Seen) {
    let mut case = Case::new(format!(
        "batch {batch}, length {length}, {heads} heads of {dim}, {seen:?}"
    ));
    // scores up to about 8
    case.param("qkv", &[batch * length, 3 * heads * dim], 2.0);
    // the code for software drivers is checked at all widths
    let most = if matches!(seen, Seen::All) { 32 } else { 24 };
    suite.check_code(&case, length.max(dim), dim > most, &|g, t, _| {
        let o = g.attention("o", &Attend::fused(t["qkv"], batch, heads, dim, seen))?;
        Ok(Made::new(g, &[o]))
    });
}

/// 65 and 130: more than one block of queries and of keys, and of the twin's rows. The mask of
/// causal attention does not depend on the width: two widths do, as compiling wide heads takes a
/// software driver half a minute.
fn lengths_and_widths(suite: &mut Suite) {
    for length in [1, 7, 64, 65, 130] {
        let (batch, heads) = if length < 65 { (3, 2) } else { (1, 1) };
        for dim in [12, 16, 24, 32, 48, 64, 128] {
            check(suite, [batch, length, heads, dim], Seen::All);
        }
        for dim in [16, 32] {
            check(suite, [batch, length, heads, dim], Seen::Causal);
        }
    }
    // the widest, also those of one query, which a workgroup is narrower than
    for (batch, length, dim) in [(1, 9, 256), (2, 1, 256), (2, 1, 192), (2, 1, 112)] {
        check(suite, [batch, length, 1, dim], Seen::All);
    }
    for dim in [48, 64, 128] {
        unrun(suite, 65, dim, Some(Seen::Causal));
        unrun(suite, 65, dim, None);
    }
    unrun(suite, 1, 256, None);
}

/// A kernel that models have and that a software driver is too slow for, by given sights if `seen` does not say.
fn unrun(suite: &mut Suite, length: usize, dim: usize, seen: Option<Seen>) {
    let mut case = Case::new(format!("length {length}, a head of {dim}, {seen:?}"));
    case.param("qkv", &[2 * length, 3 * dim], 2.0)
        .uint("sights", &[length, 4], &[]);
    suite.unrun(&case, &|g, t, _| {
        let by = Seen::By {
            queries: t["sights"],
            keys: t["sights"],
        };
        let attend = Attend::fused(t["qkv"], 2, 1, dim, seen.unwrap_or(by));
        let o = g.attention("o", &attend)?;
        Ok(Made::new(g, &[o]))
    });
}

fn random_shapes(suite: &mut Suite) {
    let seed = 21;
    println!("seed {seed}");
    for i in 0..12 {
        let mut rng = Rng::new(seed, Stream::Shuffle, i);
        let mut below = |n| 1 + rng.below(n) as usize;
        let (batch, length, heads) = (below(3), below(140), below(3));
        let seen = if i % 2 == 0 { Seen::Causal } else { Seen::All };
        check(suite, [batch, length, heads, 16], seen);
    }
}

/// Sizes of separate q, k and v, and what the rows of every sequence see.
struct Apart {
    batch: usize,
    queries: Vec<Sight>,
    keys: Vec<Sight>,
    heads: usize,
    kv_heads: usize,
    dim: usize,
}

fn words(sights: &[Sight]) -> Vec<u32> {
    sights.iter().flat_map(|s| s.words()).collect()
}

fn apart(suite: &mut Suite, name: &str, a: &Apart) {
    let (queries, keys) = (a.queries.len(), a.keys.len());
    let mut case = Case::new(format!(
        "{name}: {} x {queries} over {keys}, {} heads over {} of {}",
        a.batch, a.heads, a.kv_heads, a.dim
    ));
    let (width, kv) = (a.heads * a.dim, a.kv_heads * a.dim);
    case.param("q", &[a.batch * queries, width], 1.5)
        .param("k", &[a.batch * keys, kv], 1.5)
        .param("v", &[a.batch * keys, kv], 1.5)
        .uint("queries", &[queries, 4], &words(&a.queries))
        .uint("keys", &[keys, 4], &words(&a.keys));
    suite.check_code(&case, keys.max(a.dim), a.dim > 24, &|g, t, _| {
        let attend = Attend {
            q: Heads::whole(t["q"]),
            k: Heads::whole(t["k"]),
            v: Heads::whole(t["v"]),
            batch: a.batch,
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.dim,
            seen: Seen::By {
                queries: t["queries"],
                keys: t["keys"],
            },
        };
        let o = g.attention("o", &attend)?;
        Ok(Made::new(g, &[o]))
    });
}

/// Windows, prefixes, packed documents, padding on either side, block diffusion, and rows that see nothing.
fn who_sees_whom(suite: &mut Suite) {
    let padded = |n: usize, pads: std::ops::Range<usize>| {
        let mut rows = visibility::all(n);
        rows[pads].iter_mut().for_each(|row| *row = row.unseen());
        rows
    };
    let mut blind = padded(37, 0..5);
    blind[..5].fill(Sight::none());
    for (name, sights) in [
        ("all", visibility::all(65)),
        ("causal", visibility::causal(70)),
        ("window", visibility::window(150, 3)),
        ("prefix", visibility::prefix(67, 20)),
        ("packed", visibility::packed(&[3, 1, 66, 40])),
        ("right padding", padded(41, 30..41)),
        ("left padding", padded(41, 0..11)),
        ("padded queries see nothing", blind),
        ("block diffusion", visibility::block_diffusion(34, 4)),
        ("nobody", vec![Sight::none(); 5]),
    ] {
        for (heads, kv_heads) in [(1, 1), (4, 2)] {
            let a = Apart {
                batch: 2,
                queries: sights.clone(),
                keys: sights.clone(),
                heads,
                kv_heads,
                dim: 16,
            };
            apart(suite, name, &a);
        }
    }
}

/// Key rows that are not the query rows: blocks over a cache, and one new token a sequence.
fn other_keys_than_queries(suite: &mut Suite) {
    let ranks = |n: usize| (0..n).map(|j| Sight::new(j, 0..0)).collect::<Vec<_>>();
    for (batch, queries, keys, heads, kv_heads, dim) in [
        (1, 3, 70, 2, 1, 32),
        (2, 66, 5, 3, 3, 16),
        (3, 1, 300, 4, 2, 48),
        (1, 1, 1, 1, 1, 16),
        (2, 1, 7, 2, 2, 64),
    ] {
        for seen in [keys, keys / 2 + 1] {
            let a = Apart {
                batch,
                queries: vec![Sight::new(0, 0..seen); queries],
                keys: ranks(keys),
                heads,
                kv_heads,
                dim,
            };
            apart(suite, &format!("{seen} seen"), &a);
        }
    }
}

/// A sight for each row of each sequence.
fn every_sequence_sees_its_own(suite: &mut Suite) {
    let (batch, length, dim) = (3, 13, 16);
    let mut case = Case::new("padded by 0, 4 and 9");
    let mut sights = Vec::new();
    for pads in [0, 4, 9] {
        let mut rows = visibility::all(length);
        rows[..pads].iter_mut().for_each(|row| *row = row.unseen());
        sights.extend(rows);
    }
    case.param("qkv", &[batch * length, 3 * dim], 2.0).uint(
        "sights",
        &[batch * length, 4],
        &words(&sights),
    );
    suite.check(&case, length.max(dim), &|g, t, _| {
        let seen = Seen::By {
            queries: t["sights"],
            keys: t["sights"],
        };
        let o = g.attention("o", &Attend::fused(t["qkv"], batch, 1, dim, seen))?;
        Ok(Made::new(g, &[o]))
    });
}
