//! The known name that somebody probably meant.

/// The nearest of `known` to `word`: at most a third of its letters apart, or equal but for the sections before the last dot.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_ascii_lowercase();
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
    known
        .into_iter()
        .map(|name| {
            let distance = strsim::damerau_levenshtein(&word, name);
            let is_misplaced = name.contains('.') && last(name) == last(&word);
            (if is_misplaced { distance.min(2) } else { distance }, name)
        })
        .filter(|(distance, name)| *distance <= (word.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `; did you mean database.url?`, or nothing.
pub(crate) fn suggestion<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(word, known).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let known = ["database.url", "engine.workers", "engine.batch_rows"];
        assert_eq!(nearest("databse.url", known), Some("database.url"));
        assert_eq!(nearest("engine.wrokers", known), Some("engine.workers"));
        assert_eq!(nearest("batch_rows", known), Some("engine.batch_rows"));
        assert_eq!(nearest("colour", known), None);
    }
}
