//! `index.yaml` of a repository of charts: which versions of a chart there are, and where they are packed.
//!
//! In: the URL of the repository, and what was seen of the index before. Out: the version to take. Only the entries of
//! the one chart are kept of what may be very many.

use std::fmt;

use muster_decide::model::Chart;
use muster_decide::nearest::did_you_mean;
use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{StatusCode, Url};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::web::Web;
use super::{Offered, Place};

/// An index may have so many bytes: the largest that are public have some 20 MB.
const LARGEST: usize = 64 << 20;

/// By what a server knows whether its index changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    modified: Option<String>,
}

/// A version of a chart.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    version: String,
    urls: Vec<String>,
    digest: Option<String>,
}

/// What an index says of one chart.
#[derive(Debug, Default)]
struct Index {
    entries: Vec<Entry>,
    /// Of all charts.
    names: Vec<String>,
}

/// Finds the version to take; `None`: the index is the one that was seen.
///
/// # Errors
/// For people.
pub(super) fn find(
    web: &Web<'_>,
    repository: &str,
    chart: &Chart,
    seen: Option<&Seen>,
) -> Result<Option<(Offered, Seen)>, String> {
    let at = |path: &str| {
        let base = Url::parse(&format!("{repository}/"));
        base.and_then(|base| base.join(path))
            .map_err(|error| format!("{repository} names {path:?}, which is no URL: {error}"))
    };
    let url = at("index.yaml")?;
    let response = web.get(
        &url,
        web.proof(&url),
        seen.map(Seen::headers).unwrap_or_default(),
    )?;
    match response.status() {
        StatusCode::NOT_MODIFIED if seen.is_some() => return Ok(None),
        StatusCode::NOT_FOUND => {
            return Err(format!(
                "{url} is not there: {repository} is no repository of charts"
            ));
        }
        _ => {}
    }
    let response = web.well(response)?;
    let seen = Seen::of(response.headers());
    let bytes = web.body(response, LARGEST, "an index")?;
    let index = read(&bytes, &chart.name).map_err(|why| format!("{url} {why}"))?;
    let entry = pick(&index, chart).map_err(|why| format!("{repository} {why}"))?;
    let place = entry.urls.first().ok_or_else(|| {
        format!(
            "{url} does not say where {} {} is",
            chart.name, entry.version
        )
    })?;
    let sha256 = entry.digest.as_deref().filter(|digest| !digest.is_empty());
    let offered = Offered {
        version: entry.version.clone(),
        sha256: sha256.map(|it| it.trim_start_matches("sha256:").to_ascii_lowercase()),
        place: Place::File(at(place)?),
    };
    Ok(Some((offered, seen)))
}

/// The entry to take. The error follows the name of the repository.
fn pick<'i>(index: &'i Index, chart: &Chart) -> Result<&'i Entry, String> {
    let (name, version) = (&chart.name, &chart.version);
    if index.entries.is_empty() {
        let meant = did_you_mean(name, index.names.iter().map(String::as_str));
        return Err(format!("has no chart {name}{meant}"));
    }
    let versions = index.entries.iter().map(|entry| entry.version.as_str());
    let picked = chart.pick(versions);
    let entry = picked.and_then(|it| index.entries.iter().find(|entry| entry.version == it));
    entry.ok_or_else(|| {
        let has = index.entries.len();
        format!("has no version {version} of the chart {name}, among {has}")
    })
}

/// What an index says of a chart. The error follows its URL.
fn read(bytes: &[u8], name: &str) -> Result<Index, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is no text".to_owned())?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000_000,
            max_nodes: 10_000_000,
        },
        with_snippet: false,
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |index| {
        index.deserialize_map(Whole(name))
    })
    .map_err(|error| format!("can't be read as an index: {}", error.without_snippet()))
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        Self {
            etag: text(ETAG),
            modified: text(LAST_MODIFIED),
        }
    }

    /// So that an index that did not change is not sent again.
    fn headers(&self) -> HeaderMap {
        let stated = [
            (IF_NONE_MATCH, &self.etag),
            (IF_MODIFIED_SINCE, &self.modified),
        ];
        let stated = stated.into_iter().filter_map(|(name, value)| {
            let value = value.as_ref()?.parse().ok()?;
            Some((name, value))
        });
        stated.collect()
    }
}

/// The whole index.
struct Whole<'n>(&'n str);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping with entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let mut index = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "entries" => index = Some(map.next_value_seed(Entries(self.0))?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        index.ok_or_else(|| serde::de::Error::missing_field("entries"))
    }
}

/// Its `entries`: lists of versions by the name of the chart.
struct Entries<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, entries: D) -> Result<Index, D::Error> {
        entries.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("versions by the name of their chart")
    }

    fn visit_unit<E>(self) -> Result<Index, E> {
        Ok(Index::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let mut index = Index::default();
        while let Some(name) = map.next_key::<String>()? {
            match name == self.0 {
                true => index.entries = map.next_value()?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
            index.names.push(name);
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "apiVersion: v1
entries:
  other:
  - {name: other, version: 3.0.0, urls: [other-3.0.0.tgz]}
  web:
  - name: web
    version: 1.1.0
    appVersion: 2
    digest: aa
    created: 2026-01-01T00:00:00Z
    urls: [https://elsewhere.example/web-1.1.0.tgz]
  - {name: web, version: 1.0.0, urls: [web-1.0.0.tgz]}
generated: 2026-01-01T00:00:00Z
";

    fn chart(name: &str, version: &str) -> Chart {
        Chart {
            name: name.into(),
            version: version.into(),
            digest: None,
            packed: false,
        }
    }

    #[test]
    fn the_one_chart_is_found_among_many() {
        let picked = |name: &str, version: &str| {
            let index = read(INDEX.as_bytes(), name).unwrap();
            pick(&index, &chart(name, version)).map(|entry| entry.version.clone())
        };
        assert_eq!(picked("web", "^1").as_deref(), Ok("1.1.0"));
        assert_eq!(picked("web", "1.0.0").as_deref(), Ok("1.0.0"));
        let said = [
            picked("web", "2.0.0"),
            picked("wbe", "1.0.0"),
            picked("x", "1.0.0"),
        ];
        insta::assert_snapshot!(said.map(Result::unwrap_err).join("\n"), @r#"
        has no version 2.0.0 of the chart web, among 2
        has no chart wbe; did you mean "web"?
        has no chart x
        "#);
        let index = read(INDEX.as_bytes(), "web").unwrap();
        assert_eq!(index.entries[0].digest.as_deref(), Some("aa"));
        assert!(
            read(b"{\"entries\": {}}", "web")
                .unwrap()
                .entries
                .is_empty()
        );
    }

    #[test]
    fn what_is_no_index_or_a_bomb_is_refused() {
        let mut bomb = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..40 {
            let below = level - 1;
            bomb.push_str(&format!(
                "a{level}: &a{level} [*a{below}, *a{below}, *a{below}]\n"
            ));
        }
        bomb.push_str("entries: {web: *a39}\n");
        let deep = format!("entries: {{web: {}}}", "[".repeat(100_000));
        for text in ["<html>", "a: 1", "- a", bomb.as_str(), deep.as_str()] {
            let said = read(text.as_bytes(), "web").unwrap_err();
            assert!(said.contains("can't be read as an index"), "{said}");
            assert!(said.len() < 500, "{said}");
        }
    }
}
