//! Charts of repositories of charts: what an application names, and whether its `Repository` can hold charts.

use serde::Deserialize;

use super::Repository;
use crate::address::Address;
use crate::version::{Range, version};

/// A chart that an application is, instead of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Chart"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChartSource {
    /// Name of a `Repository` that holds charts.
    pub repository: String,
    /// As it is called there.
    pub name: String,
    /// A version, or a range of versions such as `~1.4` or `>=1.2 <2`.
    pub version: String,
    /// `sha256:` and what the packed chart must come to; only of one version.
    #[serde(default)]
    pub digest: Option<String>,
}

/// Which chart of a repository of charts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chart {
    /// As it is called there.
    pub name: String,
    /// A version or a range of versions: both can be read.
    pub version: String,
    /// The sha256 of the packed chart, in hex; `None`: whatever it is at first.
    pub digest: Option<String>,
    /// It stays packed, for another chart that names it.
    pub packed: bool,
}

impl Chart {
    /// The chart that an application names.
    ///
    /// # Errors
    /// With the field that is wrong, and what is: `FIELD: PROBLEM`.
    pub(super) fn stated(source: &ChartSource) -> Result<Self, String> {
        let mut chart = Self::of(&source.name, &source.version)?;
        if let Some(digest) = &source.digest {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(
                    "digest: must be sha256: and 64 hex digits, as index.yaml has it".to_owned(),
                );
            }
            if !chart.is_exact() {
                return Err("digest: is of one version, and version is a range".to_owned());
            }
            chart.digest = Some(hex.to_ascii_lowercase());
        }
        Ok(chart)
    }

    /// A chart that another one names, at the version of its lock.
    ///
    /// # Errors
    /// As [`Chart::stated`].
    pub(crate) fn locked(name: &str, version: &str) -> Result<Self, String> {
        let chart = Self::of(name, version)?;
        if !chart.is_exact() {
            return Err(format!("version: {version:?} is no version"));
        }
        Ok(Self {
            packed: true,
            ..chart
        })
    }

    fn of(name: &str, wanted: &str) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(good) {
            return Err(format!("name: {name:?} is no name of a chart"));
        }
        if version(wanted).is_none() {
            Range::parse(wanted).map_err(|problem| format!("version: {wanted:?} {problem}"))?;
        }
        Ok(Self {
            name: name.to_owned(),
            version: wanted.to_owned(),
            digest: None,
            packed: false,
        })
    }

    /// Whether it is one version, which does not change.
    pub fn is_exact(&self) -> bool {
        version(&self.version).is_some()
    }

    /// The version to take of those that there are: the very one, or the highest in the range.
    pub fn pick<'a>(&self, offered: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let Some(wanted) = version(&self.version) else {
            return Range::parse(&self.version).ok()?.highest(offered);
        };
        let mut alike = None;
        for name in offered {
            if name == self.version {
                return Some(name);
            }
            if version(name).as_ref() == Some(&wanted) {
                alike = Some(name);
            }
        }
        alike
    }
}

/// Why a `Repository` can't be what an application takes it for, if it can't: one of charts, or one of commits.
pub(super) fn misfit(repository: &Repository, chart: bool) -> Option<String> {
    let address = Address::parse(&repository.url).ok()?;
    if !chart {
        let message = "holds charts (oci://): name one of them in spec.source.chart";
        return address.is_oci().then(|| message.to_owned());
    }
    let states = |field: &str, why: &str| {
        format!("states {field}, and {why}: give the charts a Repository of their own")
    };
    match () {
        () if repository.reference.is_some() => Some(states("ref", "charts have versions")),
        () if repository.verify.is_some() => {
            Some(states("verify", "that is about commits, not charts"))
        }
        () if address.is_ssh() || address.is_file() => {
            Some("holds no charts: they come by https:// or oci://".to_owned())
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_taken_to_the_letter_and_a_range_takes_its_highest() {
        let offered = ["1.2.0", "v1.10.0", "1.3.0-rc.1", "2.0.0", "1.2.0+a", "no"];
        for (wanted, picked) in [
            ("1.2.0", Some("1.2.0")),
            ("1.2.0+a", Some("1.2.0+a")),
            ("1.10.0", Some("v1.10.0")),
            ("1.3.0-rc.1", Some("1.3.0-rc.1")),
            ("1.3.0", None),
            ("^1.2", Some("v1.10.0")),
            ("*", Some("2.0.0")),
            (">=3", None),
        ] {
            let chart = Chart::of("web", wanted).unwrap();
            assert_eq!(chart.pick(offered), picked, "{wanted}");
        }
    }

    #[test]
    fn what_is_no_chart_is_said_by_its_field() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let said = [
            ("../web", "1.0.0", None),
            ("team/web", "1.0.0", None),
            ("web", "newest", None),
            ("web", "1.0.0", Some("md5:1")),
            ("web", "1.x", Some(digest.as_str())),
        ]
        .map(|(name, version, digest)| {
            let source = ChartSource {
                repository: "charts".into(),
                name: name.into(),
                version: version.into(),
                digest: digest.map(str::to_owned),
            };
            Chart::stated(&source).unwrap_err()
        });
        insta::assert_snapshot!(said.join("\n"), @r#"
        name: "../web" is no name of a chart
        name: "team/web" is no name of a chart
        version: "newest" is no range of versions: "newest" is no version
        digest: must be sha256: and 64 hex digits, as index.yaml has it
        digest: is of one version, and version is a range
        "#);
    }
}
