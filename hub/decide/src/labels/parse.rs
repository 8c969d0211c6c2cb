//! The text form of a selector, as `kubectl -l` takes it: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

use super::{Expression, Fields, Operator, Selector};

/// A text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label selector {text:?}: {why} (such as stage=production,region in (eu,us),!legacy)")]
pub struct InvalidSelector {
    text: String,
    why: String,
}

impl Selector {
    /// Reads the text form; an empty text selects everything.
    ///
    /// # Errors
    /// When a requirement can't be read, or names no valid key or value.
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        let invalid = |why| InvalidSelector {
            text: text.to_owned(),
            why,
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let expressions = requirements(text).map(|one| expression(one.trim()));
        Ok(Self {
            match_expressions: expressions.collect::<Result<_, _>>().map_err(invalid)?,
            ..Self::default()
        })
    }
}

/// Splits at the commas that stand outside of parentheses.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth <= 0
    })
}

fn expression(text: &str) -> Result<Expression, String> {
    let make = |key: &str, operator, values: Vec<&str>| {
        Expression::try_from(Fields {
            key: key.trim().to_owned(),
            operator,
            values: values
                .into_iter()
                .map(|value| value.trim().to_owned())
                .collect(),
        })
    };
    if let Some(key) = text.strip_prefix('!') {
        return make(key, Operator::DoesNotExist, Vec::new());
    }
    for (sign, operator) in [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
    ] {
        if let Some((key, value)) = text.split_once(sign) {
            return make(key, operator, vec![value]);
        }
    }
    let Some((before, values)) = text.split_once('(') else {
        return make(text, Operator::Exists, Vec::new());
    };
    let values = values
        .strip_suffix(')')
        .ok_or_else(|| format!("{text:?} lacks a closing parenthesis"))?;
    match before.split_whitespace().collect::<Vec<_>>()[..] {
        [key, "in"] => make(key, Operator::In, values.split(',').collect()),
        [key, "notin"] => make(key, Operator::NotIn, values.split(',').collect()),
        _ => Err(format!("{text:?} is neither KEY in (…) nor KEY notin (…)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    #[test]
    fn the_text_form_means_what_it_means_to_kubectl() {
        let labels: Labels = [("a", "b"), ("c.d/e", "f"), ("empty", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let cases = [
            ("", true),
            ("  ", true),
            ("a=b", true),
            ("a==b", true),
            ("a = b , c.d/e", true),
            ("a=c", false),
            ("a!=b", false),
            ("x!=b", true),
            ("a in (b,c)", true),
            ("a in(b)", true),
            ("a in (c)", false),
            ("a notin (b,c)", false),
            ("x notin (b)", true),
            ("a in (x,b),!z,c.d/e=f", true),
            ("z", false),
            ("!a", false),
            ("! z", true),
            ("empty=", true),
            ("a=", false),
        ];
        for (text, matches) in cases {
            assert_eq!(
                Selector::parse(text).unwrap().matches(&labels),
                matches,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        let cases = [
            "a in b", "a in (b", "a of (b)", "=b", "a=b=c", "a,,b", "a b", "!", "a=b c",
        ];
        let errors: Vec<String> = cases
            .iter()
            .map(|text| Selector::parse(text).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        label selector "a in b": "a in b" is no label key (such as stage=production,region in (eu,us),!legacy)
        label selector "a in (b": "a in (b" lacks a closing parenthesis (such as stage=production,region in (eu,us),!legacy)
        label selector "a of (b)": "a of (b)" is neither KEY in (…) nor KEY notin (…) (such as stage=production,region in (eu,us),!legacy)
        label selector "=b": "" is no label key (such as stage=production,region in (eu,us),!legacy)
        label selector "a=b=c": "b=c" is no label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit (such as stage=production,region in (eu,us),!legacy)
        label selector "a,,b": "" is no label key (such as stage=production,region in (eu,us),!legacy)
        label selector "a b": "a b" is no label key (such as stage=production,region in (eu,us),!legacy)
        label selector "!": "" is no label key (such as stage=production,region in (eu,us),!legacy)
        label selector "a=b c": "b c" is no label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit (such as stage=production,region in (eu,us),!legacy)
        "#);
    }
}
