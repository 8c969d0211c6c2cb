//! `Repository`: another Git source, for applications whose manifests live elsewhere.

use serde::Deserialize;

use super::Fleet;
use super::document::{Broken, Kind};
use crate::nearest::did_you_mean;

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
}

/// Where an application's manifests are when they are not in the fleet repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Name of the `Repository`.
    pub repository: String,
    /// Which commit; the repository's own choice when it says nothing.
    pub reference: Option<GitRef>,
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
    type Error = &'static str;

    fn try_from(fields: GitRefFields) -> Result<Self, &'static str> {
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
        match (said.next(), said.next()) {
            (Some(one), None) => Ok(one),
            _ => Err("needs exactly one of branch, tag, semver, commit"),
        }
    }
}

/// Rejects every application whose manifests are in a repository that no document declares.
pub(super) fn refuse(fleet: &mut Fleet) {
    let unknown: Vec<_> = fleet
        .applications
        .values()
        .filter_map(|application| {
            let name = application.origin.as_ref()?.repository.as_str();
            let known = fleet.repositories.contains_key(name);
            if known || fleet.may_hide(Kind::Repository, name) {
                return None;
            }
            let meant = did_you_mean(name, fleet.repositories.keys().map(String::as_str));
            let message = format!("spec.source.repository: there is no Repository {name:?}{meant}");
            let of = application.name.clone();
            let location = application.targets[0].location.clone();
            let broken = Broken::named(Kind::Application, of.as_str(), location, message);
            Some((of, broken))
        })
        .collect();
    for (name, broken) in unknown {
        fleet.applications.remove(&name);
        fleet.reject(broken);
    }
}

#[cfg(test)]
mod tests {
    use crate::model::read;
    use crate::snapshot::Snapshot;

    #[test]
    fn an_application_names_a_repository_that_is_there_and_a_ref_only_of_such_a_one() {
        let said = |source: &str, rest: &str| {
            let text = format!(
                "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: web}}\nspec:\n  source: {source}\n{rest}"
            );
            let fleet = read(&Snapshot::of("r", [("muster.yaml", text.as_str())]));
            let problems = fleet.problems.iter().map(ToString::to_string);
            problems.collect::<Vec<_>>().join("\n")
        };
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
