//! Copies of what the engine knows, for people who ask. Part of the engine's task, which goes on at once: looking and
//! comparing is [`crate::asking`]'s.

use std::fmt;
use std::sync::Arc;

use kube::Client;
use muster_proto::{Content, ObjectKey, ObjectStatus, Timestamp};

use super::state::State;
use crate::asking::Subject;
use crate::desired::resolved::Unplaced;
use crate::desired::wanted::Wanted;
use crate::discovery::Kind;
use crate::inventory::Entry;
use crate::live::Sight;
use crate::plan::Step;
use crate::report;

/// How many objects are named when more than one is meant.
const NAMED: usize = 5;

/// What is known of the objects that are asked about.
pub(crate) struct About {
    /// To look and try with.
    pub(crate) client: Client,
    /// Commit that the application's desired state comes from; empty when it left Git.
    pub(crate) revision: String,
    /// What else to know of the application; empty when nothing.
    pub(crate) message: String,
    /// By identity.
    pub(crate) objects: Vec<Known>,
}

/// What objects hold is not shown.
impl fmt::Debug for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "About({} objects)", self.objects.len())
    }
}

/// One object.
pub(crate) struct Known {
    /// Which.
    pub(crate) key: Arc<ObjectKey>,
    /// What is reported of it.
    pub(crate) status: ObjectStatus,
    /// What Git wants of it.
    pub(crate) wanted: Option<Wanted>,
    /// What the inventory says.
    pub(crate) entry: Option<Entry>,
    /// What was seen of it.
    pub(crate) sight: Sight,
    /// Its kind, where the cluster serves it.
    pub(crate) kind: Option<Arc<Kind>>,
    /// It is ours no longer, and is left to others.
    pub(crate) abandoned: bool,
    /// Why what differs is not put right, or not now.
    pub(crate) held: String,
}

impl State {
    /// What is known of what is asked about.
    ///
    /// # Errors
    /// When that is nothing of Git's or ours, or more than one object.
    pub(super) fn about(&self, subject: &Subject) -> Result<About, String> {
        let now = self.clock.now();
        let mut objects: Vec<Known> = self
            .objects
            .iter()
            .filter_map(|(key, object)| {
                let application = object.wanted.as_ref().map(|wanted| &wanted.application);
                let application = application
                    .or_else(|| object.entry.as_ref().map(|entry| &entry.application))?;
                let kind = object.wanted.as_ref().map(|wanted| &wanted.kind);
                let kind = kind.or_else(|| {
                    let version = &object.entry.as_ref()?.api_version;
                    self.catalogue.kind(version, &key.kind)
                });
                let plural = kind.map(|kind| kind.resource.plural.as_str());
                if !subject.means(application.as_str(), key, plural) {
                    return None;
                }
                let line = object.line(key, &self.guards, now)?;
                let step = object.step(key, &self.guards);
                Some(Known {
                    key: key.clone(),
                    status: self.status(line),
                    wanted: object.wanted.clone(),
                    entry: object.entry.clone(),
                    sight: object.sight.clone(),
                    kind: kind.cloned(),
                    abandoned: matches!(step, Step::Abandon(_)),
                    held: object.held(key, &self.guards),
                })
            })
            .collect();
        let unplaced = self.resolved.unplaced.iter();
        let unplaced = unplaced
            .filter(|it| subject.means(it.application.as_str(), &it.key, None))
            .map(|unplaced| self.nowhere(unplaced));
        objects.extend(unplaced);
        let (revision, message) = match subject {
            Subject::Application(name) => self.application(name, objects.is_empty())?,
            Subject::Object(_) => {
                let one = one(&objects, subject)?;
                self.application(one.status.application.as_str(), false)?
            }
        };
        Ok(About {
            client: self.client.clone(),
            revision,
            message,
            objects,
        })
    }

    /// Revision and message of an application.
    fn application(&self, name: &str, has_nothing: bool) -> Result<(String, String), String> {
        let Some(application) = self.desired.application(name) else {
            return match has_nothing {
                true => Err(format!("application {name} is not on this cluster")),
                false => Ok((String::new(), "the application left Git".into())),
            };
        };
        let kept = match &application.content {
            Content::Keep(why) => Some(why),
            Content::Objects { .. } => self.resolved.held.get(&application.name),
        };
        let message = kept.map(|why| format!("the application is left as it is: {why}"));
        Ok((application.revision.clone(), message.unwrap_or_default()))
    }

    fn status(&self, line: report::Line) -> ObjectStatus {
        let row = self.rows.objects().get(&*line.key);
        let same = row.filter(|row| row.sync == line.sync && row.health == line.health);
        ObjectStatus {
            key: (*line.key).clone(),
            application: line.application,
            sync: line.sync,
            health: line.health,
            message: line.message,
            since: same.map_or(Timestamp(0), |row| row.since),
            last_drift: line.drift,
        }
    }

    /// An object that has no place here (yet).
    fn nowhere(&self, unplaced: &Unplaced) -> Known {
        let line = report::unplaced(unplaced);
        Known {
            key: line.key.clone(),
            held: line.message.clone(),
            status: self.status(line),
            wanted: None,
            entry: None,
            sight: Sight::Unknown,
            kind: None,
            abandoned: false,
        }
    }
}

/// The one that is meant.
fn one<'a>(objects: &'a [Known], subject: &Subject) -> Result<&'a Known, String> {
    match objects {
        [one] => Ok(one),
        [] => Err(format!(
            "{} is neither in what Git states for this cluster nor among what Muster applied: nothing else can be asked for",
            subject.in_words()
        )),
        many => {
            let named = many.iter().take(NAMED).map(|known| known.key.to_string());
            let more = match many.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Err(format!(
                "{} means {} objects: {}{more}; say its group and namespace",
                subject.in_words(),
                many.len(),
                named.collect::<Vec<_>>().join(", ")
            ))
        }
    }
}
