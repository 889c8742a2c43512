//! One job: a table of medians, a row for each group of equal runs; and what medians are made of.

use std::fmt::Write;

/// Least, middle and greatest.
#[derive(Clone, Copy)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// `None` without values.
pub fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let median = f64::midpoint(*values.get(values.len().checked_sub(1)? / 2)?, *values.get(values.len() / 2)?);
    Some(Spread { min: *values.first()?, median, max: *values.last()? })
}

/// One number of a run; left out where no run has it.
pub struct Column<T> {
    pub heading: &'static str,
    /// Digits behind the point.
    pub digits: usize,
    /// Whether least and greatest are shown beside the median.
    pub is_spread: bool,
    pub number: fn(&T) -> Option<f64>,
}

impl<T> Column<T> {
    pub const fn new(heading: &'static str, digits: usize, number: fn(&T) -> Option<f64>) -> Self {
        Self { heading, digits, is_spread: false, number }
    }

    pub const fn with_spread(heading: &'static str, digits: usize, number: fn(&T) -> Option<f64>) -> Self {
        Self { heading, digits, is_spread: true, number }
    }
}

/// Writes the table, groups in the order of their first runs; nothing without runs.
pub fn write<T>(title: &str, runs: &[T], name: impl Fn(&T) -> String, columns: &[Column<T>], text: &mut String) {
    if runs.is_empty() {
        return;
    }
    let columns: Vec<&Column<T>> =
        columns.iter().filter(|column| runs.iter().any(|run| (column.number)(run).is_some())).collect();
    let _ = write!(text, "\n| {title} | runs |");
    for column in &columns {
        let suffix = if column.is_spread { " (min–max)" } else { "" };
        let _ = write!(text, " {}{suffix} |", column.heading);
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(columns.len()));
    let mut names: Vec<String> = Vec::new();
    for run in runs {
        if !names.contains(&name(run)) {
            names.push(name(run));
        }
    }
    for group in &names {
        let runs: Vec<&T> = runs.iter().filter(|run| name(run) == *group).collect();
        let _ = write!(text, "| {group} | {} |", runs.len());
        for Column { digits, is_spread, number, .. } in &columns {
            match spread(runs.iter().filter_map(|run| number(run))) {
                Some(Spread { min, median, max }) if *is_spread => {
                    let _ = write!(text, " {median:.digits$} ({min:.digits$}–{max:.digits$}) |");
                }
                Some(Spread { median, .. }) => {
                    let _ = write!(text, " {median:.digits$} |");
                }
                None => text.push_str(" – |"),
            }
        }
        text.push('\n');
    }
}
