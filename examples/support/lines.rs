//! Curves over a logarithmic scale, as an SVG picture.

use std::path::Path;

use plotters::prelude::*;

use super::chart::write;

/// A labelled curve.
pub struct Line {
    pub label: String,
    pub points: Vec<(f64, f64)>,
}

const COLOURS: [RGBColor; 9] = [
    RGBColor(140, 140, 140),
    RGBColor(150, 110, 60),
    RGBColor(70, 110, 160),
    RGBColor(60, 150, 150),
    RGBColor(190, 60, 60),
    RGBColor(120, 80, 160),
    RGBColor(60, 130, 60),
    RGBColor(225, 130, 160),
    RGBColor(220, 160, 30),
];

/// Draws the curves into one frame.
pub fn lines(path: &Path, title: &str, [x, y]: [&str; 2], lines: &[Line]) -> anyhow::Result<()> {
    let mut svg = String::new();
    draw(&mut svg, title, [x, y], lines).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    write(path, svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    [x_name, y_name]: [&str; 2],
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|p| p.0).fold(1.0, f64::max);
    let low = points().map(|p| p.1).fold(f64::INFINITY, f64::min) * 0.9;
    let high = points().map(|p| p.1).fold(low * 1.1, f64::max) * 1.1;
    let root = SVGBackend::with_string(svg, (720, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption(title, ("sans-serif", 20))
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..last, (low..high).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(x_name)
        .y_desc(y_name)
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.clone(), style))?
            .label(&line.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.9))
        .border_style(COLOURS[0])
        .draw()?;
    root.present()?;
    Ok(())
}
