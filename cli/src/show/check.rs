//! `muster check`: what is wrong with a checkout, as `muster status` would show it of the hub.

use std::collections::BTreeMap;

use muster_decide::{Decision, Problem};
use muster_proto::ApplicationName;
use serde::Serialize;

use super::words;
use crate::text::{Cell, Text, Tone};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found {
    /// What was looked at, for people.
    pub(crate) of: String,
    /// How many there are.
    pub(crate) applications: usize,
    /// Targets of all applications.
    pub(crate) variants: usize,
    /// Clusters that are known.
    pub(crate) clusters: usize,
    /// By application.
    pub(crate) problems: Vec<Wrong>,
    /// What people should know and need not mend, by application.
    pub(crate) notes: BTreeMap<ApplicationName, String>,
}

/// A problem, in the form that `muster status -o json` has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wrong {
    application: String,
    /// Targets of the application; none when it is about all of it.
    variants: Vec<String>,
    cluster: String,
    /// `file:line`.
    location: String,
    message: String,
}

impl From<&Problem> for Wrong {
    fn from(problem: &Problem) -> Self {
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        let location = problem.location.as_ref();
        Self {
            application: name(problem.application.as_ref().map(|it| it.as_str())),
            variants: problem.variants.iter().map(ToString::to_string).collect(),
            cluster: name(problem.cluster.as_ref().map(|it| it.as_str())),
            location: location.map(ToString::to_string).unwrap_or_default(),
            message: problem.message.clone(),
        }
    }
}

impl Found {
    /// What a decision says of what was looked at.
    pub(crate) fn new(of: &str, variants: usize, decision: &Decision) -> Self {
        Self {
            of: of.to_owned(),
            applications: decision.applications.len(),
            variants,
            clusters: decision.clusters.len(),
            problems: decision.problems.iter().map(Wrong::from).collect(),
            notes: decision.notes.clone(),
        }
    }

    /// Nothing is wrong.
    pub(crate) fn is_well(&self) -> bool {
        self.problems.is_empty()
    }
}

/// All of it: a person who mends it wants no page cut short.
pub(crate) fn check(found: &Found) -> Text {
    let rows = found.problems.iter().map(|problem| {
        vec![
            words::or_dash(&problem.location).into(),
            words::or_dash(&problem.application).into(),
            words::or_dash(&problem.variants.join(", ")).into(),
            words::or_dash(&problem.cluster).into(),
            Cell::new(&problem.message, Tone::Bad),
        ]
    });
    let columns = ["PROBLEM AT", "APPLICATION", "VARIANT", "CLUSTER", "MESSAGE"];
    let mut text = Text::table(true, &columns, rows.collect());
    let notes = found.notes.iter();
    let notes = notes.map(|(name, note)| vec![name.as_str().into(), note.as_str().into()]);
    text.paragraph(Text::table(true, &["NOTE ON", "MESSAGE"], notes.collect()));
    let (problems, tone) = match found.problems.len() {
        0 => ("no problem".to_owned(), Tone::Good),
        1 => ("1 problem".to_owned(), Tone::Bad),
        many => (format!("{many} problems"), Tone::Bad),
    };
    let looked = format!(
        " in {}: {}, {}, {}",
        found.of,
        words::count(found.applications, "application"),
        words::count(found.variants, "variant"),
        words::count(found.clusters, "cluster"),
    );
    let mut summary = Text::default();
    summary.line([Cell::new(problems, tone), looked.into()]);
    text.paragraph(summary);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Paper;

    #[test]
    fn notes_stand_apart_from_problems_and_are_none() {
        let note = "Flux's HelmRelease are applied as objects (apps/release.yaml:1)";
        let found = Found {
            of: "the working tree".into(),
            applications: 1,
            variants: 1,
            clusters: 2,
            problems: Vec::new(),
            notes: [("apps".parse().unwrap(), note.to_owned())].into(),
        };
        assert!(found.is_well());
        let paper = Paper {
            colour: false,
            size: None,
        };
        insta::assert_snapshot!(check(&found).paint(paper), @r"
        NOTE ON   MESSAGE
        apps      Flux's HelmRelease are applied as objects (apps/release.yaml:1)

        no problem in the working tree: 1 application, 1 variant, 2 clusters
        ");
    }
}
