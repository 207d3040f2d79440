//! Plots: nanoseconds a call against threads and against the number of policies, and bytes.
//!
//! On a white ground of their own, so that they can be read on a dark page too.

use std::{error::Error, fs, path::Path};

use plotters::prelude::*;

use crate::{
    measure::Row,
    scale::{self, Grown},
};

/// The cases that are plotted against threads.
pub const CASES: [&str; 2] = ["breaker_closed", "stack"];
/// The threads of those plots.
pub const THREADS: [usize; 3] = [1, 2, 4];

struct Plot<'a> {
    file: &'a str,
    title: &'a str,
    x: &'a str,
    y: &'a str,
    lines: Vec<Line>,
}

struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

pub fn write(folder: &Path, rows: &[Row], grown: &[Grown]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    for case in CASES {
        let lines = by_side(rows.iter().filter(|row| row.case == case), |row| {
            (row.side, (row.threads as f64, row.nanos.median))
        });
        let file = format!("threads_{case}.svg");
        let title = format!("{case}: one policy shared by threads, {cores} cores");
        let plot = Plot { file: &file, title: &title, x: "threads", y: "ns a call, slowest thread", lines };
        plot.write(folder)?;
    }
    for (what, name) in [(scale::BREAKERS, "breakers"), (scale::RATE_LIMITS, "rate_limits"), (scale::WINDOW, "window")]
    {
        let of = || grown.iter().filter(move |grown| grown.what == what);
        let lines = by_side(of(), |it| (it.row.side, (it.size as f64, it.row.nanos.median)));
        let (file, title) = (format!("scale_{name}.svg"), format!("{what}, 1 thread"));
        Plot { file: &file, title: &title, x: "how many", y: "ns a call", lines }.write(folder)?;
        let lines = by_side(of().filter(|it| it.row.side != "bare"), |it| (it.row.side, (it.size as f64, it.used)));
        let (file, title) = (format!("bytes_{name}.svg"), format!("{what}: memory in use, 1 thread"));
        let y = if what == scale::WINDOW { "bytes" } else { "bytes a policy" };
        Plot { file: &file, title: &title, x: "how many", y, lines }.write(folder)?;
    }
    Ok(())
}

fn by_side<T>(rows: impl Iterator<Item = T>, point: impl Fn(T) -> (&'static str, (f64, f64))) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (name, point) in rows.map(point) {
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name, points: vec![point] }),
        }
    }
    lines
}

const SIZE: (u32, u32) = (900, 480);
const KEY_WIDTH: u32 = 210;

impl Plot<'_> {
    /// Nothing when nothing was measured.
    fn write(&self, folder: &Path) -> Result<(), Box<dyn Error>> {
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        if points().next().is_none() {
            return Ok(());
        }
        let path = folder.join(self.file);
        let root = SVGBackend::new(&path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.titled(self.title, ("sans-serif", 20))?;
        let (left, right) = root.split_horizontally(SIZE.0 - KEY_WIDTH);
        let bounds = |axis: fn((f64, f64)) -> f64, room: f64| {
            let (low, high) =
                points().map(axis).fold((f64::MAX, 0.0_f64), |(low, high), at| (low.min(at), high.max(at)));
            low.max(0.5) / room..high.max(1.0) * room
        };
        let mut chart = ChartBuilder::on(&left)
            .margin(10)
            .x_label_area_size(45)
            .y_label_area_size(70)
            .build_cartesian_2d(bounds(|at| at.0, 1.1).log_scale(), bounds(|at| at.1, 1.4).log_scale())?;
        let label = |at: &f64| if *at < 1_000.0 { format!("{at}") } else { format!("{}k", at / 1_000.0) };
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&label)
            .y_label_formatter(&label)
            .light_line_style(RGBColor(238, 238, 238))
            .bold_line_style(RGBColor(205, 205, 205))
            .axis_desc_style(("sans-serif", 15))
            .label_style(("sans-serif", 13))
            .draw()?;
        for (at, line) in self.lines.iter().enumerate() {
            let style = style(line.name, at);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
            chart.draw_series(line.points.iter().map(|at| Circle::new(*at, 3, style.color.filled())))?;
            let y = 30 + at as i32 * 24;
            right.draw(&PathElement::new(vec![(5, y), (35, y)], style))?;
            right.draw(&Circle::new((20, y), 3, style.color.filled()))?;
            right.draw(&Text::new(line.name, (42, y - 7), ("sans-serif", 15)))?;
        }
        root.present()?;
        Ok(())
    }
}

/// Ours in blues and thick; each peer has its colour in all plots, and its variants are thin.
fn style(name: &str, at: usize) -> ShapeStyle {
    const VARIANTS: [RGBColor; 5] = [
        RGBColor(66, 146, 198),
        RGBColor(120, 190, 235),
        RGBColor(0, 150, 160),
        RGBColor(120, 130, 230),
        RGBColor(0, 190, 200),
    ];
    let peer = name.trim_end_matches("-mutex").trim_end_matches("-hashmap").trim_end_matches("-count");
    let color = match peer {
        "bare" => RGBColor(130, 130, 130),
        "mainstay" if name == peer => RGBColor(8, 48, 140),
        _ if name.starts_with("mainstay") => VARIANTS[at % VARIANTS.len()],
        "tower-resilience" => RGBColor(200, 40, 40),
        "failsafe" => RGBColor(230, 130, 0),
        "recloser" => RGBColor(30, 140, 60),
        "governor" => RGBColor(150, 90, 40),
        "mutex-ring" => RGBColor(210, 70, 150),
        _ => RGBColor(130, 60, 160),
    };
    let width = match name {
        _ if name.starts_with("mainstay") => 3,
        _ if name == peer && name != "bare" => 2,
        _ => 1,
    };
    ShapeStyle { color: color.to_rgba(), filled: false, stroke_width: width }
}
