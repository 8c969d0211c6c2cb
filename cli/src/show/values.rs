//! Values of fields as lines: what goes and what comes, a long text by the lines that differ.

use muster_proto::shortened;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::text::{Cell, Text, Tone};

/// Lines that stay around those that differ.
const AROUND: usize = 3;

/// What there is (`-`) and what there should be (`+`).
pub(crate) fn change(live: Option<&str>, desired: Option<&str>) -> Text {
    let mut text = Text::default();
    let sides = [live, desired].map(|side| side.and_then(long_text));
    if let [Some(live), Some(desired)] = sides {
        return long_change(&live, &desired);
    }
    if live == desired && live.is_some() {
        // Both are masked.
        text.line([Cell::new(
            format!("~ {}", live.unwrap_or_default()),
            Tone::Busy,
        )]);
        return text;
    }
    text.append(side(live, "-", Tone::Bad));
    text.append(side(desired, "+", Tone::Good));
    text
}

/// One value, every line marked.
pub(crate) fn side(value: Option<&str>, mark: &str, tone: Tone) -> Text {
    let mut text = Text::default();
    for line in value.map(lines).unwrap_or_default() {
        text.line([Cell::new(format!("{mark} {}", visible(&line)), tone)]);
    }
    text
}

/// A value on one line, cut.
pub(crate) fn short(value: Option<&str>, longest: usize) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    shortened(value.to_owned(), longest)
}

/// A string of several lines.
fn long_text(value: &str) -> Option<String> {
    match serde_json::from_str(value) {
        Ok(Value::String(text)) if text.trim_end().contains('\n') => Some(text),
        _ => None,
    }
}

/// Structures as YAML, long strings as they are, the rest as JSON; what is no JSON as it is.
fn lines(value: &str) -> Vec<String> {
    if let Some(text) = long_text(value) {
        return text.lines().map(str::to_owned).collect();
    }
    let split = |text: String| text.lines().map(str::to_owned).collect();
    match serde_json::from_str::<Value>(value) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => {
            serde_saphyr::to_string(&value).map_or_else(|_| vec![value.to_string()], split)
        }
        _ => vec![value.to_owned()],
    }
}

fn long_change(live: &str, desired: &str) -> Text {
    let mut text = Text::default();
    let diff = TextDiff::from_lines(live, desired);
    for (index, group) in diff.grouped_ops(AROUND).iter().enumerate() {
        if index > 0 {
            text.line(["  ...".into()]);
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (mark, tone) = match change.tag() {
                ChangeTag::Equal => (" ", Tone::Plain),
                ChangeTag::Delete => ("-", Tone::Bad),
                ChangeTag::Insert => ("+", Tone::Good),
            };
            let line = change.value().trim_end_matches('\n');
            text.line([Cell::new(format!("{mark} {}", visible(line)), tone)]);
        }
    }
    text
}

/// A line whose end could not be seen is quoted.
fn visible(line: &str) -> String {
    match line.trim_end() == line {
        true => line.to_owned(),
        false => format!("{line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Paper;

    fn painted(live: Option<&str>, desired: Option<&str>) -> String {
        change(live, desired).paint(Paper::default())
    }

    #[test]
    fn short_values_are_two_lines_and_one_that_is_not_there_is_none() {
        assert_eq!(painted(Some("5"), Some("3")), "- 5\n+ 3\n");
        assert_eq!(painted(None, Some("\"x \"")), "+ \"x \"\n");
        assert_eq!(
            painted(Some(r#"{"image":"b","name":"debug"}"#), None),
            "- image: b\n- name: debug\n"
        );
        assert_eq!(painted(Some("(secret)"), Some("(secret)")), "~ (secret)\n");
    }

    #[test]
    fn of_a_long_text_only_what_differs_is_shown_and_what_is_around() {
        let text = |lines: &[&str]| serde_json::to_string(&(lines.join("\n") + "\n")).unwrap();
        let lines = |changed: &[(usize, &'static str)]| {
            let mut lines: Vec<&str> = "a b c d e f g h i j k l m n o p q".split(' ').collect();
            for (at, line) in changed {
                lines[*at] = line;
            }
            text(&lines)
        };
        let (live, desired) = (lines(&[]), lines(&[(1, "B"), (14, "O ")]));
        insta::assert_snapshot!(painted(Some(&live), Some(&desired)), @r#"
          a
        - b
        + B
          c
          d
          e
          ...
          l
          m
          n
        - o
        + "O "
          p
          q
        "#);
    }

    #[test]
    fn a_short_value_is_cut_where_it_gets_long() {
        assert_eq!(short(Some("äöü"), 2), "äö…");
        assert_eq!(short(Some("äö"), 2), "äö");
        assert_eq!(short(None, 2), "-");
    }
}
