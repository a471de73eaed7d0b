//! Suggestions for misspelled names.

/// The candidate nearest to `name`, if near enough: at most one letter in three may differ, or one in short names. Case
/// and underscores are ignored, so that `TOTAL_REVENUE` is near `totalRevenue`.
pub(super) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let name = folded(name);
    let distance_max = (name.len() / 3).max(1);
    let near = candidates.into_iter().filter_map(|candidate| {
        let other = folded(candidate);
        // The distance is at least the difference in length, so long names are cheap.
        let is_possible = other.len().abs_diff(name.len()) <= distance_max;
        let distance = is_possible.then(|| distance(&name, &other))?;
        (distance <= distance_max).then_some((distance, candidate))
    });
    near.min().map(|(_, candidate)| candidate)
}

fn folded(name: &str) -> Vec<char> {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

/// The Levenshtein distance (1966), row by row.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (other, [diagonal, above]) in b.iter().zip(row.array_windows()) {
            left = (diagonal + usize::from(letter != other)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn distances_are_the_published_ones() {
        for (a, b, expected) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("flaw", "lawn", 2),
            ("refxunds", "refunds", 1),
            ("a", "a", 0),
        ] {
            assert_eq!(distance(&letters(a), &letters(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let names = ["totalRevenue", "refunds", "refundRate", "visits"];
        assert_eq!(nearest("totalRevenu", names), Some("totalRevenue"));
        assert_eq!(nearest("TOTAL_REVENUE", names), Some("totalRevenue"));
        assert_eq!(nearest("refnds", names), Some("refunds"));
        assert_eq!(nearest("profit", names), None);
        assert_eq!(nearest(&"v".repeat(100_000), names), None);
    }
}
