//! What a person asks about: an application, or one object by whatever name people use for its kind. Pure.

use muster_proto::{ObjectKey, wire::v1};

/// What `kubectl` lets people write for kinds, of those that have a short name.
const SHORT: [(&str, &str); 20] = [
    ("cj", "cronjobs"),
    ("cm", "configmaps"),
    ("crd", "customresourcedefinitions"),
    ("crds", "customresourcedefinitions"),
    ("deploy", "deployments"),
    ("ds", "daemonsets"),
    ("hpa", "horizontalpodautoscalers"),
    ("ing", "ingresses"),
    ("limits", "limitranges"),
    ("netpol", "networkpolicies"),
    ("ns", "namespaces"),
    ("pc", "priorityclasses"),
    ("pdb", "poddisruptionbudgets"),
    ("po", "pods"),
    ("pv", "persistentvolumes"),
    ("pvc", "persistentvolumeclaims"),
    ("rs", "replicasets"),
    ("sa", "serviceaccounts"),
    ("sts", "statefulsets"),
    ("svc", "services"),
];

/// What is asked about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Subject {
    /// All objects of an application.
    Application(String),
    /// One object.
    Object(v1::ObjectName),
}

impl Subject {
    /// What an [`v1::Ask`] means.
    ///
    /// # Errors
    /// When it means nothing.
    pub(crate) fn of(ask: v1::Ask) -> Result<Self, String> {
        match ask.object {
            _ if !ask.application.is_empty() => Ok(Self::Application(ask.application)),
            Some(name) if !name.kind.is_empty() && !name.name.is_empty() => Ok(Self::Object(name)),
            _ => Err("name an application, or an object by its kind and name".into()),
        }
    }

    /// Is an object of an application meant? `plural` is that of its kind, where the cluster serves it.
    pub(crate) fn means(&self, application: &str, key: &ObjectKey, plural: Option<&str>) -> bool {
        match self {
            Self::Application(name) => name == application,
            Self::Object(name) => {
                let any = |asked: &str, own: &str| asked.is_empty() || asked == own;
                key.name == name.name
                    && any(&name.namespace, &key.namespace)
                    && any(&name.group.to_lowercase(), &key.group)
                    && is_kind(&name.kind, key, plural)
            }
        }
    }

    /// As people write it.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Application(name) => format!("application {name}"),
            Self::Object(name) => {
                let group = match name.group.as_str() {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                let place = match name.namespace.as_str() {
                    "" => String::new(),
                    namespace => format!(" in namespace {namespace}"),
                };
                format!("{}{group}/{}{place}", name.kind.to_lowercase(), name.name)
            }
        }
    }
}

fn is_kind(asked: &str, key: &ObjectKey, plural: Option<&str>) -> bool {
    let asked = asked.to_lowercase();
    let own = key.kind.to_lowercase();
    let short = SHORT.iter().find(|(short, _)| *short == asked);
    let plural = plural.map_or_else(|| format!("{own}s"), str::to_owned);
    asked == own || asked == plural || short.is_some_and(|(_, long)| *long == plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, group: &str, namespace: &str, name: &str) -> Subject {
        Subject::Object(v1::ObjectName {
            kind: kind.into(),
            group: group.into(),
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    #[test]
    fn an_object_is_meant_by_every_name_that_people_use_for_its_kind() {
        let key = ObjectKey {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "web".into(),
        };
        let means = |subject: Subject| subject.means("shop", &key, Some("deployments"));
        for kind in ["Deployment", "deployment", "deployments", "deploy"] {
            assert!(means(object(kind, "", "", "web")), "{kind}");
        }
        assert!(means(object("deployment", "apps", "shop", "web")));
        assert!(!means(object("deployment", "extensions", "", "web")));
        assert!(!means(object("deployment", "", "other", "web")));
        assert!(!means(object("deployment", "", "", "we")));
        assert!(!means(object("svc", "", "", "web")));
        assert!(means(Subject::Application("shop".into())));
        assert!(!means(Subject::Application("web".into())));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        assert!(Subject::of(v1::Ask::default()).is_err());
        let ask = v1::Ask {
            application: "shop".into(),
            ..v1::Ask::default()
        };
        assert_eq!(Subject::of(ask), Ok(Subject::Application("shop".into())));
    }
}
