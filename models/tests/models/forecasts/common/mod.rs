//! The public series, read from the folder of test data.
#![allow(dead_code, reason = "each test and example uses its part")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use models::forecasts::{Model, Request, Series};

pub const DAY: i64 = 86_400;
pub const MODELS: [Model; 6] = [Model::Naive, Model::Theta, Model::Ets, Model::Mstl, Model::Prophet, Model::Auto];

/// A series to be forecast from several origins.
pub struct Sample {
    pub name: String,
    pub series: Series,
    pub horizon: usize,
    /// What the file says of the last season again, from the last origin.
    pub baseline: Baseline,
}

/// A baseline that was computed elsewhere, by others.
pub struct Baseline {
    /// Rows that were learned from.
    pub rows: usize,
    /// How many buckets before each forecast its value was.
    pub lag: usize,
    pub mase: f64,
}

/// A forecast that was asked for, and what came.
pub struct Trial {
    pub series: Series,
    pub actual: Vec<Option<f64>>,
    /// The seasonal naive error of the history.
    pub scale: f64,
}

impl Sample {
    /// The last three horizons that do not overlap, each with the history before it.
    pub fn trials(&self) -> Vec<Trial> {
        let n = self.series.values.len();
        (1..=3).filter_map(|back| n.checked_sub(back * self.horizon)).map(|end| self.trial(end)).collect()
    }

    fn trial(&self, end: usize) -> Trial {
        let values = self.series.values[..end].to_vec();
        let pairs = values.iter().zip(values.iter().skip(self.series.season));
        let steps: Vec<f64> = pairs.filter_map(|(a, b)| Some(((*a)? - (*b)?).abs())).collect();
        let actual = self.series.values[end..end + self.horizon].to_vec();
        let scale = steps.iter().sum::<f64>() / steps.len() as f64;
        Trial { series: Series { values, ..self.series.clone() }, actual, scale }
    }
}

pub fn request(model: Model, horizon: usize, level: f64) -> Request {
    Request { horizon, model, level, floor: None, events: Vec::new() }
}

/// Those of `expected/forecast_baselines.json`, with its horizons and seasons.
pub fn samples(data: &Path) -> Vec<Sample> {
    samples_asked(data, |_, asked| asked)
}

/// The same with the seasons that sales have, and four weeks of days or a year of months ahead.
pub fn usual_samples(data: &Path) -> Vec<Sample> {
    samples_asked(data, |name, asked| match name {
        _ if name.contains("daily") => (7, 28),
        _ if name.contains("monthly") => (12, 12),
        _ => asked,
    })
}

/// With the seasons and horizons that are made of those of the file.
fn samples_asked(data: &Path, ask: impl Fn(&str, (usize, usize)) -> (usize, usize)) -> Vec<Sample> {
    let text = std::fs::read_to_string(data.join("expected/forecast_baselines.json")).expect("baselines");
    let baselines: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).expect("a map");
    let sample = |(name, baseline): (String, serde_json::Value)| {
        let number = |key: &str| baseline[key].as_u64().expect("a number") as usize;
        let points = points(data, &name);
        // Of the fictitious shop's last day there is half.
        let points = if name.starts_with("fuzzy_factory") { until(points, "2015-03-18") } else { points };
        let (season, horizon) = ask(&name, (number("mase_m"), number("horizon")));
        let mase = baseline["mase"].as_f64().expect("a number");
        let baseline = Baseline { rows: number("n_train"), lag: number("lag"), mase };
        Sample { series: series(points, season, horizon), name, horizon, baseline }
    };
    baselines.into_iter().map(sample).collect()
}

type Points = Vec<(i64, f64)>;

fn points(data: &Path, name: &str) -> Points {
    let forecasting = data.join("forecasting");
    // One of the files ends its lines like an old Mac.
    let text = |path: PathBuf| std::fs::read_to_string(path).expect("a file").replace('\r', "\n");
    if let Some(id) = name.strip_prefix("walmart_sales_weekly id=") {
        return columns(&text(forecasting.join("walmart_sales_weekly.csv")), "Date", "Weekly_Sales", Some(id));
    }
    if let Some(id) = name.strip_prefix("m4_daily id=") {
        let packed = std::fs::File::open(forecasting.join("m4_daily.csv.gz")).expect("a file");
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).expect("text");
        return columns(&text, "date", "value", Some(id));
    }
    let first = name.split(' ').next().expect("a word");
    if name.ends_with("daily gross_revenue") {
        return columns(&text(data.join(format!("expected/{first}_daily.csv"))), "day", "gross_revenue", None);
    }
    columns(&text(forecasting.join(format!("{first}.csv"))), "ds", "y", None)
}

/// The points of a table, or of its rows with an id.
fn columns(text: &str, date: &str, value: &str, id: Option<&str>) -> Points {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().expect("headers").clone();
    let column = |name: &str| headers.iter().position(|header| header == name).expect("a column");
    let (date, value) = (column(date), column(value));
    let wanted = id.map(|id| (column("id"), id));
    let rows = reader.records().map(|row| row.expect("a row"));
    let rows = rows.filter(|row| wanted.is_none_or(|(column, id)| &row[column] == id));
    let mut points: Points = rows.map(|row| (day(&row[date]), row[value].parse().expect("a number"))).collect();
    points.sort_by_key(|(start, _)| *start);
    points
}

fn until(mut points: Points, last: &str) -> Points {
    points.retain(|(start, _)| *start <= day(last));
    points
}

/// Days that are left out become gaps; months and weeks are taken as they come.
fn series(points: Points, season: usize, horizon: usize) -> Series {
    let is_daily = points.windows(2).any(|pair| pair[1].0 - pair[0].0 == DAY);
    let mut starts: Vec<i64> = points.iter().map(|(start, _)| *start).collect();
    if is_daily {
        starts = (starts[0]..=starts[starts.len() - 1]).step_by(DAY as usize).collect();
    }
    let by_start: BTreeMap<i64, f64> = points.into_iter().collect();
    let values = starts.iter().map(|start| by_start.get(start).copied()).collect();
    let step = starts[1] - starts[0];
    let last = starts[starts.len() - 1];
    starts.extend((1..=horizon as i64 + 1).map(|ahead| last + ahead * step));
    Series { starts, values, season }
}

/// The seconds of a date like 2026-01-31 since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub fn day(text: &str) -> i64 {
    let parts: Vec<i64> = text.split('-').map(|part| part.parse().expect("a date")).collect();
    let (year, month, day) = (parts[0] - i64::from(parts[1] <= 2), parts[1], parts[2]);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468) * DAY
}

/// CPU time of this process by the Linux scheduler.
pub fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|word| word.parse::<f64>().ok()).expect("a number") / 1e9
}

/// Random numbers that are the same on each run: SplitMix64 (Steele, Lea and Flood 2014).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    /// Between 0 and 1.
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Near enough to normal: the sum of twelve uniform numbers (Irwin and Hall).
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}
