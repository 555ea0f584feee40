//! A model of a step that ranks share, each on a machine of its own.

use std::path::Path;

use plotters::prelude::*;
use serde_json::{Value, json};

use crate::support::chart::write;

/// What the model says is drawn and printed for so many ranks.
const RANKS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Links, in Gbit/s.
const LINKS: [(f64, RGBColor); 3] = [
    (1.0, RGBColor(200, 90, 20)),
    (10.0, RGBColor(40, 90, 160)),
    (100.0, RGBColor(40, 130, 60)),
];
/// Share of a link's rate that large messages reach.
const PAYLOAD: f64 = 0.9;
/// Seconds until the first byte of an exchange arrives, and those that each message of it costs the host.
const LATENCY: f64 = 50e-6;
const MESSAGE: f64 = 5e-6;
/// Bytes a second between a device and its host.
const BUS: f64 = 12e9;
/// Numbers that are summed by one exchange and its answer.
const PART: f64 = (1 << 22) as f64;

/// A step to be shared.
pub struct Work {
    /// Sequences of a step.
    sequences: usize,
    parameters: f64,
    /// Of one sequence, forward and backward.
    sequence_seconds: f64,
    /// Bytes of numbers that a host packs and sums in a second.
    sums: f64,
}

impl Work {
    /// The paper's `small` at length 1,024 and 512 sequences a step, on devices that do `flops` a second.
    pub fn small(flops: f64, sums: f64) -> Self {
        let (d, blocks, length, vocab, cond) = (768.0, 12.0, 1024.0, 50258.0, 128.0);
        let forward = blocks * (2.0 * length * 12.0 * d * d + 4.0 * length * length * d)
            // half of the rows are masked and have logits
            + length * d * vocab;
        let block = 12.0 * d * d + 6.0 * d * (cond + 1.0) + 7.0 * d;
        Self {
            sequences: 512,
            parameters: 2.0 * vocab * d + blocks * block,
            sequence_seconds: 3.0 * forward / flops,
            sums,
        }
    }

    /// Seconds of a step by `ranks` on links of `gbit` Gbit/s; nothing is computed while gradients travel.
    fn seconds(&self, ranks: usize, gbit: f64) -> f64 {
        let compute = self.sequences.div_ceil(ranks) as f64 * self.sequence_seconds;
        if ranks == 1 {
            return compute;
        }
        let (n, bytes) = (ranks as f64, 4.0 * self.parameters);
        let wire = 2.0 * (n - 1.0) / n * bytes / (gbit * 1e9 / 8.0 * PAYLOAD);
        let exchanges = 2.0 * (self.parameters / PART).ceil();
        let waits = exchanges * (LATENCY + (n - 1.0) * MESSAGE);
        compute + wire + waits + 2.0 * bytes / BUS + bytes / self.sums
    }

    fn speed_up(&self, ranks: usize, gbit: f64) -> f64 {
        self.seconds(1, gbit) / self.seconds(ranks, gbit)
    }
}

/// The model's numbers.
pub fn lines(work: &Work) -> impl Iterator<Item = Value> {
    LINKS.iter().map(|&(gbit, _)| {
        let of = |f: &dyn Fn(usize) -> f64| RANKS.map(f).to_vec();
        json!({
            "name": "small, modelled",
            "gbit": gbit,
            "ranks": RANKS,
            "step_seconds": of(&|n| work.seconds(n, gbit)),
            "speed_up": of(&|n| work.speed_up(n, gbit)),
        })
    })
}

/// Draws how many times as fast ranks are as one.
pub fn draw(path: &Path, work: &Work) -> anyhow::Result<()> {
    let mut svg = String::new();
    chart(&mut svg, work).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    write(path, svg)
}

fn chart(svg: &mut String, work: &Work) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (720, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption(
            "small, 512 sequences a step: speed-up, modelled",
            ("sans-serif", 20),
        )
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..6.0, 0.0..6.0)?;
    let power = |x: &f64| match (x - x.round()).abs() < 0.01 {
        true => format!("{}", 1 << x.round() as u32),
        false => String::new(),
    };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(7)
        .y_labels(7)
        .x_desc("ranks")
        .y_desc("times as fast as one")
        .x_label_formatter(&power)
        .y_label_formatter(&power)
        .draw()?;
    let ideal = RANKS.map(|n| ((n as f64).log2(), (n as f64).log2()));
    let grey = RGBColor(170, 170, 170);
    chart
        .draw_series(LineSeries::new(ideal, grey))?
        .label("as many times as ranks")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], grey));
    for (gbit, color) in LINKS {
        let points = RANKS.map(|n| ((n as f64).log2(), work.speed_up(n, gbit).max(1.0).log2()));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(format!("{gbit} Gbit/s"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        chart.draw_series(points.map(|point| Circle::new(point, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .border_style(grey)
        .draw()?;
    root.present()?;
    Ok(())
}
