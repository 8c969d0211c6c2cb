//! `Repository`: another Git source, for applications whose manifests live elsewhere.

use serde::Deserialize;

/// `spec` of a `Repository`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

/// Which commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
struct GitRefFields {
    branch: Option<String>,
    tag: Option<String>,
    semver: Option<String>,
    commit: Option<String>,
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
