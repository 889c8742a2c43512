//! The page's files. Its tiles are made from the table of metrics.

use crate::engine::status::{Kind, METRICS, Place};
use std::fmt::Write as _;
use std::sync::LazyLock;

pub(super) const STYLES: &str = include_str!("page.css");

pub(super) const SCRIPT: &str = include_str!("page.js");

/// The graphs of roll-ups.
pub(super) const GRAPHS: &str = include_str!("graphs.html");

pub(super) const GRAPHS_STYLES: &str = include_str!("graphs.css");

pub(super) const GRAPHS_SCRIPT: &str = include_str!("graphs.js");

pub(super) const ICON: &str = include_str!("icon.svg");

/// The page itself.
pub(super) static INDEX: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("index.html").replace("      <!-- tiles: now -->\n", &tiles(false));
    page.replace("      <!-- tiles: since the start -->\n", &tiles(true))
});

/// The tiles of the counters, or of the other metrics. The script fills each by its name.
fn tiles(are_counters: bool) -> String {
    let mut tiles = String::new();
    for metric in METRICS.iter().filter(|metric| matches!(metric.kind, Kind::Counter(_)) == are_counters) {
        let Place::Tile(label) = metric.place else { continue };
        let suffix = if matches!(metric.kind, Kind::Quantile(_)) { " ms" } else { "" };
        let (name, help) = (metric.name, metric.help);
        let _ = writeln!(
            tiles,
            r#"      <div title="{help}"><dt>{label}</dt><dd id="{name}" data-suffix="{suffix}">–</dd></div>"#
        ); // a String takes everything
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_tile_for_each_metric_with_a_label() {
        let labels: Vec<&str> = METRICS
            .iter()
            .filter_map(|metric| match metric.place {
                Place::Tile(label) => Some(label),
                _ => None,
            })
            .collect();
        assert!(labels.len() > 10, "{labels:?}");
        for label in labels {
            assert!(INDEX.contains(&format!("<dt>{label}</dt>")), "{label}");
        }
        assert!(!INDEX.contains("<!-- tiles"), "each place is filled");
    }

    #[test]
    fn nothing_of_the_table_is_taken_for_markup() {
        for metric in METRICS {
            let label = if let Place::Tile(label) = metric.place { label } else { "" };
            let is_plain = |text: &str| !text.contains(['<', '>', '&', '"']);
            assert!(is_plain(metric.name) && is_plain(metric.help) && is_plain(label), "{}", metric.name);
        }
    }
}
