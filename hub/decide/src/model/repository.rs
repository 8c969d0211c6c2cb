//! `Repository`: another source, of commits or of charts, for applications whose manifests live elsewhere.

use serde::Deserialize;

use super::Fleet;
use super::chart::{self, Chart};
use super::document::{Broken, Document, Kind};
use crate::address::Address;
use crate::nearest::did_you_mean;
use crate::version::Range;

/// `spec` of a `Repository`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// Where it is, without a password.
    pub url: String,
    /// Which commit; the default branch when it says nothing.
    #[serde(default, rename = "ref")]
    pub reference: Option<GitRef>,
    /// Name of a credential that the hub holds.
    #[serde(default)]
    pub credential: Option<String>,
    /// Whose commits are taken; anybody's when it says nothing.
    #[serde(default)]
    pub verify: Option<Verify>,
}

/// The public keys of those whose signature makes a commit one that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Verify {
    /// Lines of an allowed-signers file, as `ssh-keygen` reads it.
    pub allowed_signers: Option<String>,
    /// Public keys as `gpg --armor --export` writes them.
    pub gpg_keys: Option<String>,
}

/// Where an application's manifests are when they are not in the fleet repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Name of the `Repository`; the URL of one that only a chart names.
    pub repository: String,
    /// Which commit; the repository's own choice when it says nothing.
    pub reference: Option<GitRef>,
    /// Which chart, when the repository holds charts.
    pub chart: Option<Chart>,
}

/// Which commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "GitRefFields")]
pub enum GitRef {
    /// The newest of a branch.
    Branch(String),
    /// The one of a tag.
    Tag(String),
    /// The highest tag within a range, such as `>=1.2 <2`.
    Semver(String),
    /// This one.
    Commit(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct GitRefFields {
    /// The newest of a branch.
    branch: Option<String>,
    /// The one of a tag.
    tag: Option<String>,
    /// The highest tag within a range, such as `>=1.2 <2`.
    semver: Option<String>,
    /// This one, by its object id.
    commit: Option<String>,
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for GitRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GitRef".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = GitRefFields::json_schema(generator);
        schema.insert(
            "description".into(),
            "Which commit: exactly one of these.".into(),
        );
        schema.insert("minProperties".into(), 1.into());
        schema.insert("maxProperties".into(), 1.into());
        schema
    }
}

impl TryFrom<GitRefFields> for GitRef {
    type Error = String;

    fn try_from(fields: GitRefFields) -> Result<Self, String> {
        let GitRefFields {
            branch,
            tag,
            semver,
            commit,
        } = fields;
        let said = [
            branch.map(Self::Branch),
            tag.map(Self::Tag),
            semver.map(Self::Semver),
            commit.map(Self::Commit),
        ];
        let mut said = said.into_iter().flatten();
        let (Some(one), None) = (said.next(), said.next()) else {
            return Err("needs exactly one of branch, tag, semver, commit".to_owned());
        };
        match &one {
            Self::Branch(name) | Self::Tag(name) => {
                let broken =
                    |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
                if name.is_empty()
                    || name.starts_with(['-', '/'])
                    || name.ends_with(['/', '.'])
                    || name.contains("..")
                    || name.contains(broken)
                {
                    return Err(format!("{name:?} is no name of a branch or tag"));
                }
            }
            Self::Semver(range) => {
                Range::parse(range).map_err(|problem| format!("semver: {range:?} {problem}"))?;
            }
            Self::Commit(id) => {
                let hex = id.bytes().all(|digit| digit.is_ascii_hexdigit());
                if !hex || !matches!(id.len(), 40 | 64) {
                    return Err(format!("commit: {id:?} is no full object id of a commit"));
                }
            }
        }
        Ok(one)
    }
}

impl std::fmt::Display for GitRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Branch(name) => f.write_str(name),
            Self::Tag(name) => write!(f, "tag {name}"),
            Self::Semver(range) => f.write_str(range),
            Self::Commit(id) => write!(f, "commit {}", id.get(..7).unwrap_or(id)),
        }
    }
}

/// Reads a `Repository`.
pub(super) fn read(document: &Document) -> Result<Repository, Broken> {
    let repository: Repository = document.spec()?;
    Address::parse(&repository.url).map_err(|problem| {
        document.broken(document.line(&["url"]), format!("spec.url: {problem}"))
    })?;
    let empty = |verify: &Verify| verify.allowed_signers.is_none() && verify.gpg_keys.is_none();
    if repository.verify.as_ref().is_some_and(empty) {
        let message = "spec.verify: needs allowedSigners or gpgKeys";
        return Err(document.broken(document.line(&["verify"]), message.to_owned()));
    }
    Ok(repository)
}

/// Rejects every application whose manifests are in a repository that no document declares, or that can't hold them.
pub(super) fn refuse(fleet: &mut Fleet) {
    let wrong: Vec<_> = fleet
        .applications
        .values()
        .filter_map(|application| {
            let origin = application.origin.as_ref()?;
            let name = origin.repository.as_str();
            let problem = match fleet.repositories.get(name) {
                Some(repository) => {
                    let misfit = chart::misfit(repository, origin.chart.is_some())?;
                    format!("Repository {name} {misfit}")
                }
                None if fleet.may_hide(Kind::Repository, name) => return None,
                None => {
                    let meant = did_you_mean(name, fleet.repositories.keys().map(String::as_str));
                    format!("there is no Repository {name:?}{meant}")
                }
            };
            let field = match origin.chart {
                None => "repository",
                Some(_) => "chart.repository",
            };
            let message = format!("spec.source.{field}: {problem}");
            let of = application.name.clone();
            let location = application.targets[0].location.clone();
            let broken = Broken::named(Kind::Application, of.as_str(), location, message);
            Some((of, broken))
        })
        .collect();
    for (name, broken) in wrong {
        fleet.applications.remove(&name);
        fleet.reject(broken);
    }
}

#[cfg(test)]
mod tests {
    use crate::model::read;
    use crate::snapshot::Snapshot;

    /// What is wrong with an application of this source, in a fleet with these documents, too.
    fn said(source: &str, rest: &str) -> String {
        let text = format!(
            "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: web}}\nspec:\n  source: {source}\n{rest}"
        );
        let fleet = read(&Snapshot::of("r", [("muster.yaml", text.as_str())]));
        let problems = fleet.problems.iter().map(ToString::to_string);
        problems.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_chart_is_named_whole_and_of_a_repository_that_can_hold_charts() {
        let repository = |spec: &str| {
            format!(
                "---\napiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {{name: shop}}\nspec: {spec}\n"
            )
        };
        let http = repository("{url: \"https://example.com/charts\"}");
        let oci = repository("{url: \"oci://example.com/charts\"}");
        let chart = "{chart: {repository: shop, name: web, version: ~1.2}}";
        for good in [&http, &oci] {
            assert_eq!(said(chart, good), "");
        }
        let said = [
            said(
                "{chart: {repository: shpo, name: web, version: ~1.2}}",
                &http,
            ),
            said("{chart: {repository: shop, name: web}}", &http),
            said(
                "{chart: {repository: shop, name: a/b, version: ~1.2}}",
                &http,
            ),
            said(
                "{path: a, chart: {repository: shop, name: web, version: ~1.2}}",
                &http,
            ),
            said(
                "{repository: shop, chart: {repository: shop, name: web, version: ~1.2}}",
                &http,
            ),
            said("{repository: shop}", &oci),
            said(chart, &repository("{url: \"git@example.com:charts\"}")),
            said(
                chart,
                &repository("{url: \"https://example.com/charts\", ref: {branch: main}}"),
            ),
            said(
                chart,
                &repository("{url: \"https://example.com/charts\", verify: {gpgKeys: k}}"),
            ),
        ];
        insta::assert_snapshot!(said.join("\n"), @r#"
        muster.yaml:5: spec.source.chart.repository: there is no Repository "shpo"; did you mean "shop"?
        muster.yaml:5: spec.source.chart: needs "version"
        muster.yaml:5: spec.source.chart.name: "a/b" is no name of a chart
        muster.yaml:5: spec.source.path: has no meaning beside spec.source.chart, which says it all: take one out
        muster.yaml:5: spec.source.repository: has no meaning beside spec.source.chart, which says it all: take one out
        muster.yaml:5: spec.source.repository: Repository shop holds charts (oci://): name one of them in spec.source.chart
        muster.yaml:5: spec.source.chart.repository: Repository shop holds no charts: they come by https:// or oci://
        muster.yaml:5: spec.source.chart.repository: Repository shop states ref, and charts have versions: give the charts a Repository of their own
        muster.yaml:5: spec.source.chart.repository: Repository shop states verify, and that is about commits, not charts: give the charts a Repository of their own
        "#);
    }

    #[test]
    fn an_application_names_a_repository_that_is_there_and_a_ref_only_of_such_a_one() {
        let shop =
            "---\napiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {name: shop}\n";
        let good = format!("{shop}spec: {{url: \"https://example.com/shop.git\"}}\n");
        let broken = format!("{shop}spec: {{}}\n");
        insta::assert_snapshot!(said("{repository: shop}", &good), @"");
        insta::assert_snapshot!(said("{repository: shpo}", &good), @r#"muster.yaml:5: spec.source.repository: there is no Repository "shpo"; did you mean "shop"?"#);
        // It may be the one that is meant.
        insta::assert_snapshot!(said("{repository: shop}", &broken), @r#"muster.yaml:10: spec: needs "url""#);
        insta::assert_snapshot!(said("{ref: {tag: v1}}", &good), @"muster.yaml:5: spec.source.ref: needs a spec.source.repository; the fleet repository is always read at its newest commit");
    }
}
