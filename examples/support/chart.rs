//! Bars with error bars, as an SVG picture.

use std::path::Path;

use plotters::prelude::*;

/// A labelled value.
pub struct Bar {
    pub label: String,
    pub value: f64,
    /// Half the length of its error bar.
    pub error: f64,
}

/// How the pictures end.
const MARK: &str = "<!-- drawn by mdlm's ablate -->\n";

const BLUE_GREY: RGBColor = RGBColor(70, 110, 160);

/// Draws the bars side by side.
pub fn chart(path: &Path, title: &str, bars: &[Bar]) -> anyhow::Result<()> {
    let mut svg = String::new();
    draw(&mut svg, title, bars).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    write(path, svg)
}

/// Writes a picture, unless it would replace one that was not drawn here.
pub fn write(path: &Path, svg: String) -> anyhow::Result<()> {
    check(path)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // tells pictures of ours from others of their names
    let svg = svg + MARK;
    Ok(mdlm::io::atomic::write_file(path, svg.as_bytes())?)
}

/// An error if a picture would replace a file that was not drawn here.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let ours = |text: String| text.ends_with(MARK);
    if path.symlink_metadata().is_ok() && !std::fs::read_to_string(path).is_ok_and(ours) {
        anyhow::bail!(
            "{} is there and was not drawn here: take another folder for --pictures",
            path.display()
        );
    }
    Ok(())
}

fn draw(svg: &mut String, title: &str, bars: &[Bar]) -> Result<(), Box<dyn std::error::Error>> {
    let top = bars.iter().map(|b| b.value + b.error).fold(0.0, f64::max) * 1.1;
    let root = SVGBackend::with_string(svg, (720, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption(title, ("sans-serif", 20))
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(-0.5..bars.len() as f64 - 0.5, 0.0..top)?;
    let label = |x: &f64| {
        let near = (x - x.round()).abs() < 0.01 && *x >= 0.0;
        let bar = near.then(|| bars.get(x.round() as usize)).flatten();
        bar.map(|b| b.label.clone()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(2 * bars.len() + 1)
        .x_label_formatter(&label)
        .draw()?;
    for (i, bar) in bars.iter().enumerate() {
        let x = i as f64;
        let corners = [(x - 0.3, 0.0), (x + 0.3, bar.value)];
        chart.draw_series([Rectangle::new(corners, BLUE_GREY.filled())])?;
        let (low, high) = (bar.value - bar.error, bar.value + bar.error);
        chart.draw_series([PathElement::new(
            [(x, low), (x, high)],
            BLACK.stroke_width(2),
        )])?;
    }
    root.present()?;
    Ok(())
}
