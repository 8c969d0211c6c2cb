//! Ranges of versions, written as Helm and Flux understand them.
//!
//! In: text such as `>=1.2 <2 || ^3.1`. Out: a [`Range`] that tells whether a version is in it. Within a part between
//! `||`, comparisons are separated by spaces or commas and all must hold. A version with a pre-release is only in a part
//! that names one itself (`>=1.2-0`).

use std::fmt;

use semver::{BuildMetadata, Prerelease, Version};

/// A range of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    text: String,
    /// One of them must hold.
    parts: Vec<Part>,
}

/// What must hold all together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Part {
    bounds: Vec<Bound>,
    prerelease: bool,
}

/// From `from` on, to before `to`; turned round with `not`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    from: Option<Version>,
    to: Option<Version>,
    not: bool,
}

/// A version of which the end may be left out.
struct Partial {
    major: Option<u64>,
    minor: Option<u64>,
    patch: Option<u64>,
    prerelease: Prerelease,
}

/// A version as tags and charts are called: three numbers, perhaps after a `v`.
pub fn version(text: &str) -> Option<Version> {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

impl Range {
    /// Reads a range.
    ///
    /// # Errors
    /// What is wrong with it: `RANGE PROBLEM` is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split("||").map(Part::parse);
        Ok(Self {
            text: text.to_owned(),
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a version is in it.
    pub fn has(&self, version: &Version) -> bool {
        self.parts.iter().any(|part| part.has(version))
    }

    /// The highest of these names that is a version in it.
    pub fn highest<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let versions = names
            .into_iter()
            .filter_map(|name| Some((version(name)?, name)));
        let within = versions.filter(|(version, _)| self.has(version));
        within.max().map(|(_, name)| name)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        let mut part = Self::default();
        if let Some((from, to)) = text.split_once(" - ") {
            let (from, to) = (Partial::parse(from.trim())?, Partial::parse(to.trim())?);
            part.prerelease = !from.prerelease.is_empty() || !to.prerelease.is_empty();
            part.bounds.push(Bound {
                from: Some(from.lowest()),
                to: to.after(),
                not: false,
            });
            return Ok(part);
        }
        // An operator may stand apart from its version.
        let mut operator = String::new();
        for word in text.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
            let at = word
                .find(|c: char| !"=!<>~^".contains(c))
                .unwrap_or(word.len());
            operator.push_str(&word[..at]);
            if at == word.len() {
                continue;
            }
            let partial = Partial::parse(&word[at..])?;
            part.prerelease |= !partial.prerelease.is_empty();
            part.bounds.push(partial.bound(&operator)?);
            operator.clear();
        }
        match part.bounds.is_empty() || !operator.is_empty() {
            true => Err("is no range of versions: write such as \">=1.2 <2\"".to_owned()),
            false => Ok(part),
        }
    }

    fn has(&self, version: &Version) -> bool {
        let hidden = !version.pre.is_empty() && !self.prerelease;
        !hidden && self.bounds.iter().all(|bound| bound.has(version))
    }
}

impl Bound {
    fn has(&self, version: &Version) -> bool {
        // What is built in another way is the same version.
        let version = Version {
            build: BuildMetadata::EMPTY,
            ..version.clone()
        };
        let from = self.from.as_ref().is_none_or(|from| version >= *from);
        let to = self.to.as_ref().is_none_or(|to| version < *to);
        (from && to) != self.not
    }
}

impl Partial {
    fn parse(text: &str) -> Result<Self, String> {
        let problem = || format!("is no range of versions: {text:?} is no version");
        let plain = text.strip_prefix('v').unwrap_or(text);
        let plain = plain.split_once('+').map_or(plain, |(plain, _)| plain);
        let (numbers, prerelease) = match plain.split_once('-') {
            Some((numbers, prerelease)) => (numbers, prerelease),
            None => (plain, ""),
        };
        let mut parts = [None; 3];
        let mut open = false;
        for (index, number) in numbers.split('.').enumerate() {
            let place = parts.get_mut(index).ok_or_else(problem)?;
            match number {
                "*" | "x" | "X" => open = true,
                _ if open => return Err(problem()),
                number => *place = Some(number.parse().map_err(|_| problem())?),
            }
        }
        let [major, minor, patch] = parts;
        Ok(Self {
            major,
            minor,
            patch,
            prerelease: Prerelease::new(prerelease).map_err(|_| problem())?,
        })
    }

    /// The lowest version that it stands for.
    fn lowest(&self) -> Version {
        let number = |part: Option<u64>| part.unwrap_or_default();
        Version {
            pre: self.prerelease.clone(),
            ..Version::new(number(self.major), number(self.minor), number(self.patch))
        }
    }

    /// The lowest version after all that it stands for; `None` when it stands for any.
    fn after(&self) -> Option<Version> {
        let next = match (self.major?, self.minor, self.patch) {
            (major, None, _) => Version::new(major + 1, 0, 0),
            (major, Some(minor), None) => Version::new(major, minor + 1, 0),
            (major, Some(minor), Some(patch)) if self.prerelease.is_empty() => {
                Version::new(major, minor, patch + 1)
            }
            // Pre-releases of one version are ordered, too; none comes between one and itself with a `.0` behind.
            (..) => {
                let pre = Prerelease::new(&format!("{}.0", self.prerelease));
                return Some(Version {
                    pre: pre.expect("a part more is good"),
                    ..self.lowest()
                });
            }
        };
        Some(first(next))
    }

    fn bound(&self, operator: &str) -> Result<Bound, String> {
        let from = || Some(self.lowest());
        let bound = |from, to| Bound {
            from,
            to,
            not: false,
        };
        Ok(match operator {
            "" | "=" => bound(from(), self.after()),
            "!=" => Bound {
                not: true,
                ..bound(from(), self.after())
            },
            ">=" | "=>" => bound(from(), None),
            "<=" | "=<" => bound(None, self.after()),
            // After everything that it stands for: nothing, if that is all.
            ">" => match self.after() {
                None => bound(from(), from()),
                after => bound(after, None),
            },
            "<" => bound(None, from()),
            "~" | "~>" => bound(from(), self.until(self.minor.is_some())),
            "^" => bound(from(), self.compatible()),
            other => {
                return Err(format!(
                    "is no range of versions: {other:?} compares nothing"
                ));
            }
        })
    }

    /// The next version of the first number, or of the second.
    fn until(&self, second: bool) -> Option<Version> {
        let major = self.major?;
        Some(first(match (second, self.minor) {
            (true, Some(minor)) => Version::new(major, minor + 1, 0),
            _ => Version::new(major + 1, 0, 0),
        }))
    }

    /// The next version in which the first number that is not 0 changes.
    fn compatible(&self) -> Option<Version> {
        match (self.major?, self.minor, self.patch) {
            (0, Some(0), Some(patch)) => Some(first(Version::new(0, 0, patch + 1))),
            (0, Some(_), _) => self.until(true),
            _ => self.until(false),
        }
    }
}

/// The very lowest pre-release: what comes before a version comes before its pre-releases, too.
fn first(version: Version) -> Version {
    Version {
        pre: Prerelease::new("0").expect("a number is good"),
        ..version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_helm_and_flux_take_them_for() {
        let all = [
            "0.0.3",
            "0.0.4",
            "0.2.3",
            "0.3.0",
            "1.0.0",
            "1.2.0",
            "1.2.3",
            "1.2.9",
            "1.3.0",
            "2.0.0-rc.1",
            "2.0.0",
            "2.1.0-beta",
            "3.0.0",
        ];
        let within = |range: &str| {
            let range = Range::parse(range).unwrap();
            let found = all
                .into_iter()
                .filter(|text| range.has(&version(text).unwrap()));
            found.collect::<Vec<_>>().join(" ")
        };
        for (range, found) in [
            (
                "*",
                "0.0.3 0.0.4 0.2.3 0.3.0 1.0.0 1.2.0 1.2.3 1.2.9 1.3.0 2.0.0 3.0.0",
            ),
            ("1.2.3", "1.2.3"),
            ("=1.2.3", "1.2.3"),
            ("v1.2.3", "1.2.3"),
            ("1.2", "1.2.0 1.2.3 1.2.9"),
            ("1.2.x", "1.2.0 1.2.3 1.2.9"),
            ("1", "1.0.0 1.2.0 1.2.3 1.2.9 1.3.0"),
            (">=1.2 <2", "1.2.0 1.2.3 1.2.9 1.3.0"),
            (">= 1.2, < 2", "1.2.0 1.2.3 1.2.9 1.3.0"),
            (">1.2", "1.3.0 2.0.0 3.0.0"),
            (">1.2.3", "1.2.9 1.3.0 2.0.0 3.0.0"),
            ("<=1.2 >=1", "1.0.0 1.2.0 1.2.3 1.2.9"),
            ("~1.2.3", "1.2.3 1.2.9"),
            ("~1", "1.0.0 1.2.0 1.2.3 1.2.9 1.3.0"),
            ("~>1.2", "1.2.0 1.2.3 1.2.9"),
            ("^1.2.3", "1.2.3 1.2.9 1.3.0"),
            ("^0.2", "0.2.3"),
            ("^0.0.3", "0.0.3"),
            ("^0", "0.0.3 0.0.4 0.2.3 0.3.0"),
            ("1.0 - 1.2.3", "1.0.0 1.2.0 1.2.3"),
            ("1.0 - 1.2", "1.0.0 1.2.0 1.2.3 1.2.9"),
            (">=1 !=1.2.x <2", "1.0.0 1.3.0"),
            ("<0.1 || >=3", "0.0.3 0.0.4 3.0.0"),
            (">=2", "2.0.0 3.0.0"),
            (">=2.0.0-0", "2.0.0-rc.1 2.0.0 2.1.0-beta 3.0.0"),
            (">=2.0.0-0 <2.1.0", "2.0.0-rc.1 2.0.0 2.1.0-beta"),
            ("^1-0", "1.0.0 1.2.0 1.2.3 1.2.9 1.3.0"),
            ("2.0.0-rc.1", "2.0.0-rc.1"),
        ] {
            assert_eq!(within(range), found, "{range}");
        }
    }

    #[test]
    fn the_highest_version_is_found_among_all_sorts_of_names() {
        let range = Range::parse(">=1 <2").unwrap();
        let tags = [
            "nightly",
            "v1.9.0",
            "1.10.0",
            "v2.0.0",
            "v1.2",
            "1.11.0-rc.1",
        ];
        assert_eq!(range.highest(tags), Some("1.10.0"));
        assert_eq!(range.highest(["v2.0.0"]), None);
    }

    #[test]
    fn what_is_no_range_is_said() {
        for text in [
            "", "||", ">", "latest", "1.2.3.4", "=>=1", "1.x.3", ">=1 ||",
        ] {
            let problem = Range::parse(text).unwrap_err();
            assert!(problem.starts_with("is no range"), "{text}: {problem}");
        }
    }
}
