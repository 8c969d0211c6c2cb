//! The nearest known name, for a name nobody knows.

/// The known name nearest to `wanted`, when it is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(
    wanted: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (wanted.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// `; did you mean …?`, or the command that lists the known ones: the end of an error about an unknown name.
pub(crate) fn hint(wanted: &str, known: &[&str], list_with: &str) -> String {
    match nearest(wanted, known.iter().copied()) {
        Some(name) => format!("; did you mean {name:?}?"),
        None => format!("; `{list_with}` lists them"),
    }
}

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // edits[i][j]: from the first i characters of `a` to the first j of `b`.
    let mut edits = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            edits[i][j] = match (i, j) {
                (0, edits) | (edits, 0) => edits,
                _ => {
                    let replaced = edits[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let shorter = edits[i - 1][j].min(edits[i][j - 1]) + 1;
                    let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swapped = if swap {
                        edits[i - 2][j - 2] + 1
                    } else {
                        replaced
                    };
                    replaced.min(shorter).min(swapped)
                }
            };
        }
    }
    edits[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        for (a, b, edits) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("eu-1", "eu-1", 0),
            ("eu1", "eu-1", 1),
            ("shpo", "shop", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn only_a_slip_is_answered_with_a_name() {
        let known = ["production-eu", "production-us", "staging"];
        assert_eq!(nearest("prodution-eu", known), Some("production-eu"));
        assert_eq!(nearest("stagign", known), Some("staging"));
        assert_eq!(nearest("toaster", known), None);
    }
}
