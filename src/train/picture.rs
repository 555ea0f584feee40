//! The loss curve as an SVG picture.

use std::path::Path;

use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::io::atomic;
use crate::train::Row;

const SIZE: (u32, u32) = (860, 480);
const RAW: RGBColor = RGBColor(200, 210, 225);
const SMOOTH: RGBColor = RGBColor(40, 90, 160);
const VALID: RGBColor = RGBColor(200, 90, 20);
const UNIGRAM: RGBColor = RGBColor(120, 120, 120);

/// Draws loss, its running mean, validation and the unigram model's level, in nats per token.
pub(super) fn loss_curve(path: &Path, rows: &[Row], unigram_nats: f64) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg, rows, unigram_nats).map_err(|e| Error::Internal(format!("loss curve: {e}")))?;
    atomic::write_file(path, svg.as_bytes())
}

/// Exponential running mean over about a fiftieth of the run, without the bias of its start.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / (points.len() as f64 / 50.0).max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |&(x, y): &(f64, f64)| {
        sum = keep * sum + (1.0 - keep) * y;
        weight = keep * weight + (1.0 - keep);
        (x, sum / weight)
    };
    points.iter().map(mean).collect()
}

fn draw(
    svg: &mut String,
    rows: &[Row],
    unigram: f64,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let loss: Vec<(f64, f64)> = rows
        .iter()
        .map(|r| (r.stats.step as f64, r.stats.loss))
        .filter(|p| p.1.is_finite())
        .collect();
    let valid: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|r| Some((r.stats.step as f64, r.val_ppl?.ln())))
        .collect();
    let smoothed = smooth(&loss);
    let last = loss.last().map_or(1.0, |p| p.0.max(1.0));
    let top = smoothed.iter().map(|p| p.1).fold(unigram, f64::max) * 1.08;
    let bottom = smoothed
        .iter()
        .chain(&valid)
        .map(|p| p.1)
        .fold(top, f64::min)
        * 0.9;

    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption("Loss", ("sans-serif", 22))
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..last, bottom..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("step")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_desc("nats per token")
        .draw()?;
    let clipped = loss.iter().map(|&(x, y)| (x, y.clamp(bottom, top)));
    chart.draw_series(LineSeries::new(clipped, RAW))?;
    let sample = |color: RGBColor| {
        move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2))
    };
    chart
        .draw_series(LineSeries::new(smoothed, SMOOTH.stroke_width(2)))?
        .label("training loss with its weights, running mean")
        .legend(sample(SMOOTH));
    chart
        .draw_series(LineSeries::new([(0.0, unigram), (last, unigram)], UNIGRAM))?
        .label(format!("unigram model, perplexity {:.1}", unigram.exp()))
        .legend(sample(UNIGRAM));
    if let Some(&(_, nats)) = valid.last() {
        chart
            .draw_series(LineSeries::new(valid.clone(), VALID.stroke_width(2)))?
            .label(format!("validation, last perplexity {:.1}", nats.exp()))
            .legend(sample(VALID));
        chart.draw_series(valid.iter().map(|&p| Circle::new(p, 3, VALID.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.9))
        .border_style(RAW)
        .draw()?;
    root.present()?;
    Ok(())
}
