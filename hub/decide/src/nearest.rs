//! "Did you mean": the known name nearest to one that nobody knows.
//!
//! In: what a person wrote and the names that exist. Out: the one that was probably meant, or none when nothing is near
//! enough to be a slip. Errors of the whole house end with it, so that a slip is answered alike everywhere.

/// The known name that was probably meant: a slip of the finger or two away, or a name that `wanted` is a part of.
/// Capitals don't count. Of two that are equally near the first by name is taken.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower: Vec<char> = wanted.to_lowercase().chars().collect();
    let near = known.into_iter().filter_map(|name| {
        let candidate: Vec<char> = name.to_lowercase().chars().collect();
        let mut edits = distance(&lower, &candidate);
        if is_part(&lower, &candidate) || is_part(&candidate, &lower) {
            edits = edits.min(2);
        }
        let limit = (lower.len().max(candidate.len()) / 3).max(1);
        (edits <= limit).then_some((edits, name))
    });
    near.min().map(|(_, name)| name)
}

/// `; did you mean "x"?`, or nothing: the end of an error's sentence.
pub fn did_you_mean<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(wanted, known) {
        Some(name) => format!("; did you mean {name:?}?"),
        None => String::new(),
    }
}

/// Whether a word long enough to mean something stands in another, longer one.
fn is_part(word: &[char], whole: &[char]) -> bool {
    word.len() > 3 && word.len() < whole.len() && whole.windows(word.len()).any(|at| at == word)
}

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    // Rows of the classic table; the swap looks two rows back.
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        let chars = |text: &str| text.chars().collect::<Vec<char>>();
        for (a, b, edits) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("eu-1", "eu-1", 0),
            ("eu1", "eu-1", 1),
            ("shpo", "shop", 1),
        ] {
            assert_eq!(distance(&chars(a), &chars(b)), edits, "{a} {b}");
            assert_eq!(distance(&chars(b), &chars(a)), edits, "{b} {a}");
        }
    }

    #[test]
    fn a_slip_finds_its_name_and_another_word_finds_none() {
        let known = [
            "agents-listen",
            "api-listen",
            "repo",
            "poll",
            "prune",
            "pruneBudget",
            "selfHeal",
            "production-eu",
            "staging",
        ];
        for (wanted, meant) in [
            ("agent-listen", Some("agents-listen")),
            ("pool", Some("poll")),
            ("rpeo", Some("repo")),
            ("prun", Some("prune")),
            ("self-heal", Some("selfHeal")),
            ("SELFHEAL", Some("selfHeal")),
            ("budget", Some("pruneBudget")),
            ("prodution-eu", Some("production-eu")),
            ("stagign", Some("staging")),
            ("colour", None),
            ("toaster", None),
            ("kubernetes", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, known), meant, "{wanted}");
        }
        assert_eq!(did_you_mean("pol", known), "; did you mean \"poll\"?");
        assert_eq!(did_you_mean("kubernetes", known), "");
    }
}
