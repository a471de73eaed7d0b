//! Tables of results.

/// Prints rows as they come, as a table of Markdown.
pub struct Report;

impl Report {
    pub fn begin(title: &str, columns: &[&str]) -> Report {
        println!("\n## {title}\n\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
        Report
    }

    pub fn row(&mut self, cells: &[String]) {
        println!("| {} |", cells.join(" | "));
    }
}

/// A number as a share of its limit.
pub fn ratio(value: f64, limit: Option<f64>) -> String {
    limit.map_or("–".to_owned(), |limit| format!("{:.2}", value / limit))
}
