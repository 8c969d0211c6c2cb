//! Small values of our documents: durations, amounts, names of API versions.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A number, or a share of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// 0 to 100 of a hundred.
    Percent(u8),
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a percentage such as 25%")
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Amount, E> {
        let count = u32::try_from(count).map_err(E::custom)?;
        Ok(Amount::Count(count))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Amount, E> {
        let percent = text
            .strip_suffix('%')
            .and_then(|number| number.parse().ok());
        match percent {
            Some(percent @ 0..=100) => Ok(Amount::Percent(percent)),
            _ => Err(E::custom("must be a number or a percentage such as 25%")),
        }
    }
}

/// Reads a duration such as `30s`, `5m` or `1h30m`.
pub(super) fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    match parse_duration(&text) {
        Some(duration) => Ok(Some(duration)),
        None => Err(D::Error::custom(
            "must be a duration such as 30s, 5m or 1h30m",
        )),
    }
}

/// How a duration is written.
#[cfg(feature = "schema")]
pub(super) fn duration_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "pattern": "^([0-9]+(ms|s|m|h))+$",
        "examples": ["30s", "5m", "1h30m"],
    })
}

/// Agents ask their API servers about each.
const MOST_API_VERSIONS: usize = 64;

/// Reads what a chart may ask of a cluster: `v1`, `example.com/v1`, `example.com/v1/Thing`.
pub(super) fn api_versions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let all = Vec::<String>::deserialize(deserializer)?;
    if let Some(wrong) = all.iter().find(|text| !is_api_version(text)) {
        return Err(D::Error::custom(format!(
            "{wrong:?} must be an API version such as example.com/v1, or a kind of one such as example.com/v1/Thing"
        )));
    }
    if all.len() > MOST_API_VERSIONS {
        let message = format!("must be at most {MOST_API_VERSIONS}");
        return Err(D::Error::custom(message));
    }
    Ok(all)
}

/// Up to three words as they may stand in the path of a URL.
fn is_api_version(text: &str) -> bool {
    let is_word = |word: &str| {
        let letters = word.bytes();
        let ends = [word.bytes().next(), word.bytes().next_back()];
        word.len() <= 253
            && letters
                .into_iter()
                .all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'.')
            && ends
                .iter()
                .all(|it| it.is_some_and(|it| it.is_ascii_alphanumeric()))
    };
    text.split('/').count() <= 3 && text.split('/').all(is_word)
}

/// How API versions are written.
#[cfg(feature = "schema")]
pub(super) fn api_versions_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": MOST_API_VERSIONS,
        "items": {"type": "string", "pattern": "^[A-Za-z0-9.-]+(/[A-Za-z0-9.-]+){0,2}$"},
    })
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A number, or a share of all such as 25%.",
            "oneOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^(100|[0-9]{1,2})%$"},
            ],
        })
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, unit) = (rest[..digits].parse().ok()?, &rest[digits..]);
        let end = unit
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(unit.len());
        let one = match &unit[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return None,
        };
        total = total.checked_add(one.checked_mul(number)?)?;
        rest = &unit[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions_are_words_that_may_stand_in_a_path() {
        for good in ["v1", "v1/ConfigMap", "apps/v1", "example.com/v1/Thing"] {
            assert!(is_api_version(good), "{good}");
        }
        for bad in [
            "", "/", "v1/", "/v1", "../v1", "a/../b", "a/b/c/d", "a b/v1", "a?b/v1", "ä/v1",
        ] {
            assert!(!is_api_version(bad), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("", None),
            ("5", None),
            ("m", None),
            ("1d", None),
            ("-1s", None),
            ("99999999999h", None),
        ];
        for (text, millis) in cases {
            assert_eq!(
                parse_duration(text),
                millis.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
