//! One object as it is wanted in this cluster, with all that its manifest says of how. Pure.

use std::sync::Arc;

use muster_proto::{Additions, ApplicationName, Digest, Object, ObjectKey, Settings};
use serde_json::Value;

use crate::body;
use crate::discovery::Kind;
use crate::graph::Trouble;
use crate::graph::names::{self, Names};
use crate::health::Rule;
use crate::ignore::{self, Ignore};
use crate::marks::{self, Applying};

/// One object as it is wanted in this cluster.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Whose it is.
    pub(crate) application: ApplicationName,
    /// How its application wants it done.
    pub(crate) settings: Arc<Settings>,
    /// As Git states it.
    pub(crate) object: Arc<Object>,
    /// What the cluster knows of its kind.
    pub(crate) kind: Arc<Kind>,
    /// Of the bytes we would send, and of what is left to others in them.
    pub(crate) digest: Digest,
    /// What its mark says of applying.
    pub(crate) applying: Applying,
    /// By which its health is judged, instead of what is known of its kind.
    pub(crate) rule: Option<Arc<Rule>>,
    /// What it says of others.
    pub(crate) names: Option<Arc<Names>>,
    /// What is left to others.
    pub(crate) ignore: Option<Arc<Ignore>>,
    /// Git states `spec.replicas`.
    pub(crate) replicas: bool,
    /// It may be deleted and made anew where the API server does not let it change.
    pub(crate) replace: bool,
    /// Why it can't be ordered.
    pub(crate) trouble: Option<Trouble>,
}

impl Wanted {
    /// Is it wanted in the same way? Whatever else it holds is read from these.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let rules = [self, other].map(|wanted| wanted.rule.as_ref().map(Arc::as_ptr));
        self.application == other.application
            && self.settings == other.settings
            && self.object == other.object
            && self.kind == other.kind
            && self.digest == other.digest
            && self.trouble == other.trouble
            && rules[0] == rules[1]
    }
}

/// Reads an object that is `key` here; `known` is what was read of it before.
pub(super) fn wanted(
    application: &ApplicationName,
    settings: &Arc<Settings>,
    object: &Arc<Object>,
    kind: &Arc<Kind>,
    key: &ObjectKey,
    known: Option<&Wanted>,
) -> Wanted {
    let same = |known: &&Wanted| {
        known.object.digest == object.digest
            && known.application == *application
            && known.settings.ignore == settings.ignore
            && people(&known.settings) == people(settings)
            && known.settings.replace == settings.replace
    };
    if let Some(known) = known.filter(same) {
        return Wanted {
            settings: settings.clone(),
            object: object.clone(),
            kind: kind.clone(),
            trouble: None,
            ..known.clone()
        };
    }
    let value = object.value();
    let ignore = ignore::ignore(&settings.ignore, key, &value).map(Arc::new);
    let sent = body::of(object, key, application).digest;
    Wanted {
        application: application.clone(),
        settings: settings.clone(),
        object: object.clone(),
        kind: kind.clone(),
        digest: {
            let rules = ignore.iter().map(|ignore| ignore.digest);
            let rules: Vec<Digest> = rules.chain(people_digest(settings)).collect();
            rules.iter().fold(sent, |all, rules| {
                Digest::of([all.as_bytes(), rules.as_bytes()])
            })
        },
        applying: Applying::stated(&value),
        rule: None,
        names: names::names(&value, key).map(Arc::new),
        ignore,
        replicas: value
            .pointer("/spec/replicas")
            .is_some_and(Value::is_number),
        replace: marks::replace(&value).unwrap_or(settings.replace),
        trouble: None,
    }
}

/// What becomes of what others write on an object.
fn people(settings: &Settings) -> (Additions, &[String]) {
    (settings.additions, &settings.take_over)
}

/// Part of what an object is applied for: what was let be until now is not seen again by itself. None where nothing is
/// stated.
fn people_digest(settings: &Settings) -> Option<Digest> {
    let people = people(settings);
    (people != (Additions::default(), &[])).then(|| {
        let text = serde_json::to_vec(&people).expect("plain data can be written");
        Digest::of([text])
    })
}
