//! Plots what `benches/growth.rs` prints: CSV from standard input, SVG to standard output.

use std::io::{Read, Write};

use plotters::coord::Shift;
use plotters::prelude::*;

type AnyError = Box<dyn std::error::Error>;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 340;
const COLORS: [RGBColor; 5] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
];

struct Panel {
    name: String,
    curves: Vec<Curve>,
}

struct Curve {
    subject: String,
    points: Vec<(f64, f64)>,
}

fn main() -> Result<(), AnyError> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let panels = read(&text)?;
    let mut svg = String::new();
    {
        let height = HEIGHT * u32::try_from(panels.len())?;
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(&panels) {
            draw(area, panel)?;
        }
        root.present()?;
    }
    Ok(std::io::stdout().write_all(svg.as_bytes())?)
}

/// Lines of `panel,subject,input,nanoseconds`; a subject may hold commas.
fn read(text: &str) -> Result<Vec<Panel>, AnyError> {
    let mut panels: Vec<Panel> = Vec::new();
    for line in text.lines().skip(1) {
        let (rest, nanoseconds) = line.rsplit_once(',').ok_or("a line without a time")?;
        let (rest, input) = rest.rsplit_once(',').ok_or("a line without an input")?;
        let (name, subject) = rest.split_once(',').ok_or("a line without a subject")?;
        let panel = find_or_push(
            &mut panels,
            |panel| panel.name == name,
            || Panel { name: name.to_owned(), curves: Vec::new() },
        );
        let curve = find_or_push(
            &mut panel.curves,
            |curve| curve.subject == subject,
            || Curve { subject: subject.to_owned(), points: Vec::new() },
        );
        curve.points.push((input.parse()?, nanoseconds.parse::<f64>()? / 1_000.0));
    }
    Ok(panels)
}

fn find_or_push<T>(all: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let place = all.iter().position(is_it).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    });
    &mut all[place]
}

/// Both axes are logarithmic: what is linear in the input rises like the dashed line.
fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Result<(), AnyError> {
    let points = || panel.curves.iter().flat_map(|curve| curve.points.iter().copied());
    let (left, right) = bounds(points().map(|point| point.0));
    let (bottom, top) = bounds(points().map(|point| point.1));
    // Room for the names of the curves.
    let (plot, legend) = area.split_horizontally(WIDTH - 250);
    let mut chart = ChartBuilder::on(&plot)
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d((left..right).log_scale(), (bottom / 1.5..top * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .y_labels(5)
        .x_desc(panel.name.as_str())
        .y_desc("µs a request")
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .draw()?;
    let steps = (0..=60).map(|step| left * (right / left).powf(f64::from(step) / 60.0));
    let line: Vec<_> = steps.map(|input| (input, bottom * input / left)).filter(|point| point.1 <= top).collect();
    for dash in line.chunks(2).filter(|dash| dash.len() == 2) {
        chart.draw_series(LineSeries::new(dash.iter().copied(), BLACK.mix(0.4).stroke_width(1)))?;
    }
    for (curve, color) in panel.curves.iter().zip(&COLORS) {
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), color.stroke_width(2)))?;
        chart.draw_series(curve.points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
    }
    let names = panel.curves.iter().map(|curve| curve.subject.as_str()).chain(["dashed: linear growth"]);
    for (place, name) in names.enumerate() {
        let middle = 30 + 22 * i32::try_from(place)?;
        if let Some(color) = COLORS.get(place).filter(|_| place < panel.curves.len()) {
            legend.draw(&PathElement::new([(0, middle), (22, middle)], color.stroke_width(2)))?;
            legend.draw(&Circle::new((11, middle), 3, color.filled()))?;
        }
        legend.draw(&Text::new(name, (28, middle - 7), ("sans-serif", 13)))?;
    }
    Ok(())
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(least, most), value| (least.min(value), most.max(value)))
}

fn number(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{}", (value * 1e3).round() / 1e3),
    }
}
