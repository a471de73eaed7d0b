//! The public series of the Numenta Anomaly Benchmark with their labelled windows.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

const DAY_SECS: i64 = 86_400;

/// A series of the corpus.
pub struct Series {
    pub name: String,
    pub times: Vec<i64>,
    pub values: Vec<f64>,
    /// The rows of each labelled window, both ends included.
    pub windows: Vec<(usize, usize)>,
}

/// All series below `folder`, in the order of their names.
pub fn load(folder: &Path) -> Vec<Series> {
    let labels = std::fs::read_to_string(folder.join("combined_windows.json")).expect("the labels");
    let labels: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&labels).expect("windows by file");
    labels.into_iter().map(|(name, windows)| read(folder, name, &windows)).collect()
}

fn read(folder: &Path, name: String, windows: &[(String, String)]) -> Series {
    let mut text = String::new();
    let file = std::fs::File::open(folder.join(format!("{name}.gz"))).expect("a series of the labels");
    GzDecoder::new(file).read_to_string(&mut text).expect("compressed text");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows = reader.deserialize().map(|row| row.expect("a time and a value"));
    let (times, values): (Vec<i64>, Vec<f64>) =
        rows.map(|(time, value): (String, f64)| (seconds(&time), value)).unzip();
    let row_of = |time: &str| times.partition_point(|other| *other < seconds(time));
    let windows = windows.iter().map(|(start, end)| (row_of(start), row_of(end))).collect();
    Series { name, times, values, windows }
}

/// Seconds since 1970 of `2014-07-01 00:30:00`, whatever follows.
fn seconds(time: &str) -> i64 {
    let part = |from: usize, to: usize| time[from..to].parse::<i64>().expect("digits");
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    // Years that begin in March, so that the leap day is the last one.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    days * DAY_SECS + part(11, 13) * 3_600 + part(14, 16) * 60 + part(17, 19)
}

/// A series as buckets of its own step.
pub struct Buckets {
    /// The last value of each bucket.
    pub values: Vec<Option<f64>>,
    /// The first row of each bucket that has one.
    pub rows: Vec<Option<usize>>,
    pub step_secs: i64,
    /// A week where the series has eight of them to learn from, else a day.
    pub season_buckets: usize,
}

impl Series {
    /// Cuts the time into buckets as long as the median step.
    pub fn buckets(&self) -> Buckets {
        let mut steps: Vec<i64> = self.times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        steps.sort_unstable();
        let step_secs = steps[steps.len() / 2];
        let bucket_of = |time: i64| usize::try_from((time - self.times[0]) / step_secs).expect("sorted times");
        let span = self.times[self.times.len() - 1] - self.times[0];
        let count = bucket_of(self.times[self.times.len() - 1]) + 1;
        let (mut values, mut rows) = (vec![None; count], vec![None; count]);
        for (row, (time, value)) in self.times.iter().zip(&self.values).enumerate() {
            let bucket = bucket_of(*time);
            values[bucket] = Some(*value);
            rows[bucket].get_or_insert(row);
        }
        let season_secs = if span >= 8 * 7 * DAY_SECS { 7 * DAY_SECS } else { DAY_SECS };
        Buckets { values, rows, step_secs, season_buckets: usize::try_from(season_secs / step_secs).expect("positive") }
    }
}
