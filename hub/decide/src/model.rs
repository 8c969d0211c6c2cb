//! The documents of a fleet: every `muster.yaml` of a snapshot, read strictly.
//!
//! In: a [`Snapshot`]. Out: a [`Fleet`]: applications, clusters, repositories and rollouts by name, and what is broken,
//! each with file and line. One broken document breaks nothing else; [`Fleet::may_hide`] says what it could have been,
//! so that nobody takes it for deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName};

use crate::patch::Text;
use crate::problem::{Location, Problem};
use crate::snapshot::{FileContent, Snapshot};
use crate::yaml::Value;

pub mod application;
pub mod chart;
pub mod cluster;
mod dependencies;
pub(crate) mod document;
pub mod release;
pub mod repository;
pub mod rollout;
pub mod scalar;
pub mod spec;
mod unsupported;

pub use application::{Application, Target};
pub use chart::Chart;
pub use cluster::Cluster;
pub use document::Kind;
pub use release::{Release, Values};
pub use repository::{Origin, Repository};
pub use rollout::Rollout;

use document::{Broken, Document};

/// Name of the files that hold our documents.
pub const FILE_NAME: &str = "muster.yaml";

/// Everything the documents of one commit say.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// By name.
    pub applications: BTreeMap<ApplicationName, Arc<Application>>,
    /// By name.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// By name.
    pub repositories: BTreeMap<String, Repository>,
    /// By name.
    pub rollouts: BTreeMap<String, Rollout>,
    /// Documents that could not be read, and why; sorted.
    pub problems: Vec<Problem>,
    /// Folders whose manifests belong to an application of their own, and files that are patches.
    pub(crate) homes: BTreeSet<String>,
    broken: BTreeSet<(Kind, String)>,
    unreadable: bool,
}

/// What files of documents say, by path and object id: those that a commit does not touch need not be read again.
/// Losing it costs time, nothing else.
#[derive(Debug, Default)]
pub struct Known(HashMap<String, (String, Arc<Vec<Found>>)>);

/// A document and what it says, or what is wrong with it.
type Found = Result<Read, Broken>;

/// A document whose head is fine.
#[derive(Debug)]
struct Read {
    /// Only its head: the rest is in `says`.
    document: Document,
    says: Result<Says, Broken>,
}

/// What a document declares.
#[derive(Debug, Clone)]
enum Says {
    Application(Arc<Application>),
    Cluster(Arc<Cluster>),
    Repository(Repository),
    Rollout(Rollout),
}

impl Read {
    fn of(mut document: Document) -> Self {
        let says = says(&document);
        document.node.value = Value::Null;
        Self { document, says }
    }
}

fn says(document: &Document) -> Result<Says, Broken> {
    Ok(match document.kind {
        Kind::Application => Says::Application(Arc::new(application::read(document)?)),
        Kind::Cluster => Says::Cluster(Arc::new(cluster::read(document)?)),
        Kind::Repository => Says::Repository(repository::read(document)?),
        Kind::Rollout => Says::Rollout(document.spec()?),
    })
}

/// Reads every document of a snapshot.
pub fn read(snapshot: &Snapshot) -> Fleet {
    read_anew(snapshot, &mut Known::default())
}

/// Reads every document of a snapshot whose file is not `known`, and forgets files that it does not hold.
pub fn read_anew(snapshot: &Snapshot, known: &mut Known) -> Fleet {
    let mut before = std::mem::take(&mut known.0);
    let mut fleet = Fleet::default();
    let mut files = Vec::new();
    for (path, file) in &snapshot.files {
        let (folder, name) = split(path);
        if name != FILE_NAME {
            continue;
        }
        let found = match (&file.content, before.remove(path)) {
            (FileContent::Bytes(_), Some((oid, found))) if oid == file.oid => found,
            (FileContent::Bytes(bytes), _) => {
                let found = document::read(path, bytes).into_iter();
                Arc::new(found.map(|found| found.map(Read::of)).collect())
            }
            (other, _) => Arc::new(vec![Err(Broken::unreadable(
                Location::new(path.as_str(), 0),
                format!("{} can't be read: put the file itself here", other.what()),
            ))]),
        };
        if let FileContent::Bytes(_) = file.content {
            let known = &mut known.0;
            known.insert(path.clone(), (file.oid.clone(), found.clone()));
        }
        files.push((folder, found));
    }
    let mut documents: BTreeMap<(Kind, &str), Vec<&Read>> = BTreeMap::new();
    for (folder, found) in &files {
        for found in &**found {
            // The manifests of an application must not fall to the one above because its document is broken.
            if found
                .as_ref()
                .map_or_else(Broken::kind, |found| Some(found.document.kind))
                .is_none_or(|kind| kind == Kind::Application)
            {
                fleet.homes.insert((*folder).to_owned());
            }
            match found {
                Ok(read) => documents
                    .entry((read.document.kind, &read.document.name))
                    .or_default()
                    .push(read),
                Err(broken) => fleet.reject(broken.clone()),
            }
        }
    }
    for group in documents.into_values() {
        fleet.take(&group);
    }
    repository::refuse(&mut fleet);
    dependencies::refuse(&mut fleet);
    fleet.problems.sort();
    fleet
}

impl Fleet {
    /// The commits of other repositories that applications are rendered from.
    pub fn origins(&self) -> BTreeMap<Origin, &Repository> {
        let origins = self.applications.values();
        let origins = origins.filter_map(|application| application.origin.clone());
        let origins = origins.filter_map(|origin| {
            let repository = self.repositories.get(&origin.repository)?;
            Some((origin, repository))
        });
        origins.collect()
    }

    /// Whether a document that could not be read may be the one of this kind and name.
    ///
    /// A file that is no YAML, or a document without a readable name, may be anybody's.
    pub fn may_hide(&self, kind: Kind, name: &str) -> bool {
        self.unreadable || self.broken.contains(&(kind, name.to_owned()))
    }

    /// Whether there is any application, or a document that may be one.
    pub(crate) fn has_applications(&self) -> bool {
        !self.applications.is_empty()
            || self.unreadable
            || self
                .broken
                .iter()
                .any(|(kind, _)| *kind == Kind::Application)
    }

    /// Takes the documents of one kind and name. Nobody knows which of two is meant, so neither counts then.
    fn take(&mut self, group: &[&Read]) {
        let (read, rest) = group.split_first().expect("groups have a member");
        let first = &read.document;
        for again in rest.iter().map(|again| &again.document) {
            let what = format!("{} {}", again.kind, again.name);
            self.reject(again.broken(
                again.node.line,
                format!("{what} is declared at {} already", first.location()),
            ));
        }
        if self.broken.contains(&(first.kind, first.name.clone())) {
            return;
        }
        let name = first.name.clone();
        match read.says.clone() {
            Ok(Says::Application(read)) => {
                let patches = read.targets.iter().flat_map(|target| &target.patches);
                self.homes
                    .extend(patches.filter_map(|patch| match &patch.text {
                        Text::File(path) => Some(path.clone()),
                        Text::Inline(..) => None,
                    }));
                self.applications.insert(read.name.clone(), read);
            }
            Ok(Says::Cluster(read)) => {
                self.clusters.insert(read.name.clone(), read);
            }
            Ok(Says::Repository(read)) => {
                self.repositories.insert(name, read);
            }
            Ok(Says::Rollout(read)) => {
                self.rollouts.insert(name, read);
            }
            Err(broken) => self.reject(broken),
        }
    }

    fn reject(&mut self, broken: Broken) {
        match broken.names() {
            names if names.is_empty() => self.unreadable = true,
            names => self.broken.extend(names),
        }
        self.problems.push(broken.into());
    }
}

/// The folder of a path (empty: the root) and the name of the file.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Every field of DESIGN.md section 3.
#[cfg(test)]
pub(crate) const EVERYTHING: &str = r#"
apiVersion: muster.dev/v1alpha1
kind: Application
metadata:
  name: web
  labels: {team: shop}
  annotations: {note: any text}
spec:
  source: {repository: shop, ref: {semver: ">=1.2 <2"}, path: deploy}
  namespace: shop
  targets:
  - name: production
    clusters:
      matchLabels: {stage: production}
      matchExpressions: [{key: region, operator: NotIn, values: [us]}]
      names: [eu-1, eu-2]
    path: overlays/production
    helm: {values: {replicas: 3}, valueFiles: [production.yaml]}
    patches:
    - target: {group: apps, version: v1, kind: Deployment, name: web, namespace: shop, labelSelector: a=b, annotationSelector: c=d}
      patch: "- {op: remove, path: /spec/replicas}"
    - path: patch.yaml
    variables: {tier: gold}
  - clusters: {}
  dependsOn: [database]
  sync:
    prune: false
    selfHeal: false
    detectOnly: true
    replace: true
    additions: report
    retry: {limit: 3, initial: 2s, max: 5m}
    timeout: 10m
    pruneBudget: {percent: 50, objects: 10}
  ignoreDifferences:
  - {group: apps, kind: Deployment, namespace: shop, name: web, jsonPointers: [/spec/replicas], managers: [keda],
     listItems: [{list: /spec/template/spec/containers, key: {name: proxy}}]}
  health:
  - {group: example.com, kind: Thing, current: "self.status.ok", inProgress: "true", failed: "false"}
  rollout: careful
  serviceAccount: deployer
  adoption: if-equal
  takeOver: [helm]
  helm: {releaseName: web, values: {}, valueFiles: [], apiVersions: [monitoring.coreos.com/v1], keepFirst: true}
  variables: {}
---
apiVersion: muster.dev/v1alpha1
kind: Cluster
metadata: {name: eu-1}
spec:
  labels: {stage: production}
  values: {network: {cidr: 10.0.0.0/8}}
---
apiVersion: muster.dev/v1alpha1
kind: Repository
metadata: {name: shop}
spec: {url: "https://example.com/shop.git", ref: {branch: main}, credential: shop}
---
apiVersion: muster.dev/v1alpha1
kind: Rollout
metadata: {name: careful}
spec:
  waves:
  - {name: canary, clusters: {matchLabels: {canary: "true"}}, batchSize: 1, soak: 1h, approval: true}
  - {name: rest, batchSize: 25%}
  gate: {healthy: true, timeout: 15m}
  failureBudget: 2
  windows: [{days: [Mon, Tue], start: "09:00", end: "17:00", timeZone: Europe/Berlin}]
  onFailure: rollback
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(files: &[(&str, &str)]) -> Fleet {
        read(&Snapshot::of("r", files.iter().copied()))
    }

    /// Adds the head that all documents have.
    fn document(kind: &str, name: &str, rest: &str) -> String {
        format!("apiVersion: muster.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\n{rest}")
    }

    fn problems(fleet: &Fleet) -> String {
        let shown: Vec<_> = fleet.problems.iter().map(ToString::to_string).collect();
        shown.join("\n")
    }

    #[test]
    fn a_file_that_did_not_change_is_not_read_again() {
        let web = document("Application", "web", "");
        let eu = document("Cluster", "eu-1", "");
        let commit =
            |eu: &str| Snapshot::of("r", [("a/muster.yaml", &*web), ("b/muster.yaml", eu)]);
        let mut known = Known::default();
        let first = read_anew(&commit(&eu), &mut known);
        let labelled = format!("{eu}spec: {{labels: {{stage: test}}}}\n");
        let second = read_anew(&commit(&labelled), &mut known);
        let (was, is) = (&first.applications["web"], &second.applications["web"]);
        assert!(Arc::ptr_eq(was, is));
        assert_eq!(second.clusters["eu-1"].spec.labels["stage"], "test");
        // A broken one is told again, and one that is gone is forgotten.
        for _ in 0..2 {
            let broken = read_anew(&commit("kind: ["), &mut known);
            assert_eq!(broken.problems.len(), 1);
        }
        let third = Snapshot::of("r", [("b/muster.yaml", &*eu)]);
        assert!(read_anew(&third, &mut known).applications.is_empty());
        assert_eq!(known.0.len(), 1);
    }

    #[test]
    fn an_application_needs_no_more_than_a_name() {
        let fleet = fleet(&[("apps/web/muster.yaml", &document("Application", "web", ""))]);
        let web = &fleet.applications["web"];
        assert_eq!(problems(&fleet), "");
        assert_eq!(web.location.to_string(), "apps/web/muster.yaml:1");
        let [target] = &web.targets[..] else {
            panic!("{:?}", web.targets)
        };
        assert_eq!(
            (&*target.name, target.path.as_str()),
            ("default", "apps/web")
        );
        assert_eq!(web.settings, muster_proto::Settings::default());
    }

    #[test]
    fn every_field_of_the_format_is_read() {
        let database = document("Application", "database", "");
        let fleet = fleet(&[("muster.yaml", EVERYTHING), ("db/muster.yaml", &database)]);
        assert_eq!(problems(&fleet), "");
        let web = &fleet.applications["web"];
        let names: Vec<_> = web.targets.iter().map(|target| &*target.name).collect();
        assert_eq!(names, ["production", "target-2"]);
        assert_eq!(web.targets[0].path, "overlays/production");
        assert_eq!(web.settings.service_account, "shop/deployer");
        assert!(web.settings.detect_only && web.settings.replace);
        assert_eq!(web.settings.take_over, ["helm"]);
        assert_eq!(web.settings.ignore[0].managers, ["keda"]);
        assert_eq!(web.settings.additions, muster_proto::Additions::Report);
        assert_eq!(web.settings.health[0].kind, "Thing");
        assert_eq!(fleet.clusters["eu-1"].spec.labels["stage"], "production");
        assert_eq!(
            fleet.repositories["shop"].credential.as_deref(),
            Some("shop")
        );
        assert_eq!(fleet.rollouts["careful"].waves.len(), 2);
    }

    #[test]
    fn a_rule_that_ignores_nothing_or_is_no_pointer_is_an_error_with_its_line() {
        let said = [
            "{kind: Secret}",
            "{jsonPointers: [spec.replicas]}",
            "{managers: [muster]}",
        ]
        .map(|rule| {
            let text = document(
                "Application",
                "web",
                &format!("spec:\n  ignoreDifferences:\n  - {rule}\n"),
            );
            problems(&fleet(&[("muster.yaml", &text)]))
        });
        insta::assert_snapshot!(said.join("\n"), @r#"
        muster.yaml:7: spec.ignoreDifferences[0] ignores nothing: give it jsonPointers, listItems or managers
        muster.yaml:7: spec.ignoreDifferences[0]: "spec.replicas" is no JSON pointer, such as /spec/replicas
        muster.yaml:7: spec.ignoreDifferences[0]: muster is our own field manager
        "#);
    }

    #[test]
    fn a_health_rule_that_can_not_be_read_says_where_and_why() {
        let said = |rule: &str| {
            let spec = format!("spec:\n  health:\n  - {rule}\n");
            let text = document("Application", "web", &spec);
            problems(&fleet(&[("muster.yaml", &text)]))
        };
        assert_eq!(said("{kind: Thing, current: self.status.ok}"), "");
        assert_eq!(
            said("{kind: Thing, current: slef.status.ok}").trim(),
            "muster.yaml:7: spec.health[0]: current: Undeclared reference to 'slef': the object is called self"
        );
        assert_eq!(
            said("{kind: Thing}").trim(),
            "muster.yaml:7: spec.health[0]: says nothing: state current, inProgress or failed"
        );
    }

    #[test]
    fn what_can_not_be_done_yet_is_said_and_never_ignored() {
        let fields = [
            "rollout: careful",
            "sync: {retry: {limit: 1}}",
            "sync: {timeout: 1m}",
        ];
        let said = fields.map(|field| {
            let text = document("Application", "web", &format!("spec:\n  {field}\n"));
            let fleet = fleet(&[("muster.yaml", &text)]);
            let (location, message) = fleet.applications["web"].unsupported.clone().unwrap();
            format!("{location}: {message}")
        });
        insta::assert_snapshot!(said.join("\n"), @r"
        muster.yaml:6: spec.rollout is not supported yet: the application keeps what it had
        muster.yaml:6: spec.sync.retry is not supported yet: the application keeps what it had
        muster.yaml:6: spec.sync.timeout is not supported yet: the application keeps what it had
        ");
    }

    #[test]
    fn a_broken_document_says_where_and_what_to_do() {
        let application = |spec: &str| document("Application", "web", &format!("spec:\n{spec}"));
        let texts = [
            application("  sync:\n    prunes: true\n"),
            application("  targets:\n  - cluster: {}\n"),
            application("  targets: []\n"),
            application("  targets: [{name: a}, {name: a}]\n"),
            application("  targets:\n  - clusters: {matchLabels: {stage: no}}\n"),
            application("  source:\n    path: ../../..\n"),
            application("  source: {ref: {branch: a, tag: b}}\n"),
            application("  dependsOn: [Not_A_Name]\n"),
            application("  serviceAccount: deployer\n"),
            application("  adoption: sometimes\n"),
            application("  sync: {timeout: soon}\n"),
            application("  helm: {apiVersions: [v1, ../v1]}\n"),
            document("Aplication", "web", ""),
            document("Application", "Web_1", ""),
            document("Application", "7", ""),
            document("Cluster", "eu", "spec: {labels: {a: 1}}\n"),
            document("Cluster", "eu.west", ""),
            document("Cluster", "eu", "  labels: {stage: production}\n"),
            document("Repository", "shop", "spec: {}\n"),
            document(
                "Rollout",
                "r",
                "spec: {waves: [{name: a, batchSize: 200%}]}\n",
            ),
            document("Application", "web", "specs: {}\n"),
            "kind: Application\nmetadata: {name: web}\n".to_owned(),
            "apiVersion: muster.dev/v1alpha1\nkind: Application\n".to_owned(),
            "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  labels: {}\n"
                .to_owned(),
            "- a\n".to_owned(),
            "a: [\n".to_owned(),
        ];
        let said = texts.map(|text| {
            // As the second document of its file: lines count from the top.
            let text = format!("{}---\n{text}", document("Application", "first", ""));
            problems(&fleet(&[("apps/muster.yaml", &text)]))
        });
        insta::assert_snapshot!(said.join("\n"), @r#"
        apps/muster.yaml:12: spec.sync: unknown field "prunes": did you mean "prune"?
        apps/muster.yaml:12: spec.targets[0]: unknown field "cluster": did you mean "clusters"?
        apps/muster.yaml:11: spec.targets: is empty; leave it out to place the application on every cluster
        apps/muster.yaml:11: spec.targets[1]: another target is called "a"
        apps/muster.yaml:12: spec.targets[0].clusters.matchLabels.stage: must be text, found true or false: put it in quotes
        apps/muster.yaml:12: spec.source.path: leads out of the repository
        apps/muster.yaml:11: spec.source.ref: needs exactly one of branch, tag, semver, commit
        apps/muster.yaml:11: spec.dependsOn[0]: application name "Not_A_Name" must be 1 to 63 lower-case letters, digits and '-', starting and ending with a letter or digit
        apps/muster.yaml:11: spec.serviceAccount: write NAMESPACE/NAME, or give the application a namespace
        apps/muster.yaml:11: spec.adoption: "sometimes" is none of always, if-equal, never
        apps/muster.yaml:11: spec.sync.timeout: must be a duration such as 30s, 5m or 1h30m
        apps/muster.yaml:11: spec.helm.apiVersions: "../v1" must be an API version such as example.com/v1, or a kind of one such as example.com/v1/Thing
        apps/muster.yaml:7: kind must be one of Application, Cluster, Repository, Rollout
        apps/muster.yaml:9: application name "Web_1" must be 1 to 63 lower-case letters, digits and '-', starting and ending with a letter or digit
        apps/muster.yaml:9: metadata.name: must be text, found a number: put it in quotes
        apps/muster.yaml:10: spec.labels.a: must be text, found a number: put it in quotes
        apps/muster.yaml:9: cluster name "eu.west" must be 1 to 63 lower-case letters, digits and '-', starting and ending with a letter or digit
        apps/muster.yaml:10: labels of a cluster stand in spec.labels, not in metadata.labels
        apps/muster.yaml:10: spec: needs "url"
        apps/muster.yaml:10: spec.waves[0].batchSize: must be a number or a percentage such as 25%
        apps/muster.yaml:10: unknown field "specs": did you mean "spec"?
        apps/muster.yaml:6: apiVersion must be muster.dev/v1alpha1
        apps/muster.yaml:6: needs "metadata" with a name
        apps/muster.yaml:9: metadata: needs "name"
        apps/muster.yaml:6: a document must be a mapping, found a list
        apps/muster.yaml:6: not YAML: unclosed bracket '['
        "#);
    }

    #[test]
    fn one_broken_document_breaks_no_other_and_may_hide_only_itself() {
        let text = [
            document("Application", "a", "spec: {wrong: 1}\n"),
            document("Application", "b", ""),
            document("Cluster", "a", ""),
        ];
        let fleet = fleet(&[("muster.yaml", &text.join("---\n"))]);
        assert_eq!(
            fleet
                .applications
                .keys()
                .map(|name| name.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
        assert!(fleet.clusters.contains_key("a"));
        assert!(fleet.may_hide(Kind::Application, "a"));
        assert!(!fleet.may_hide(Kind::Application, "c"));
        assert!(!fleet.may_hide(Kind::Cluster, "a"));
    }

    #[test]
    fn what_can_not_be_told_apart_may_hide_anything() {
        let texts = [
            "a: [\n".to_owned(),
            "- a\n".to_owned(),
            document("Application", "NOT-A-NAME", ""),
        ];
        for text in texts {
            let fleet = fleet(&[("muster.yaml", &text)]);
            assert!(fleet.may_hide(Kind::Application, "any"), "{text}");
        }
    }

    #[test]
    fn of_two_documents_with_one_name_neither_counts() {
        let text = document("Application", "a", "");
        let fleet = fleet(&[("x/muster.yaml", &text), ("y/muster.yaml", &text)]);
        assert!(fleet.applications.is_empty());
        assert_eq!(
            problems(&fleet),
            "y/muster.yaml:1: Application a is declared at x/muster.yaml:1 already"
        );
        assert!(fleet.may_hide(Kind::Application, "a"));
    }

    #[test]
    fn a_link_instead_of_a_file_is_refused() {
        let mut snapshot = Snapshot::of("r", [("muster.yaml", "")]);
        for content in [FileContent::Symlink, FileContent::Submodule] {
            snapshot.files.get_mut("muster.yaml").unwrap().content = content;
            let fleet = read(&snapshot);
            assert!(
                problems(&fleet).contains("put the file itself here"),
                "{}",
                problems(&fleet)
            );
            assert!(fleet.may_hide(Kind::Application, "any"));
        }
    }
}
