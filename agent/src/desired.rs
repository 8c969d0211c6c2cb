//! The accepted state: the generation rule, and how it is kept in the ledger. Pure.
//!
//! In the ledger: `desired` (generation, removals, approvals, revisions), `application/NAME` (settings and lists, or
//! why it is kept), `list/DIGEST` (digests of objects, in order) and `object/DIGEST` (a body). Lists are cut where a
//! digest says so, so that a commit that changes one object adds one body, a list or two, one application and the
//! head, however many objects there are. [`resolved`] places a desired state in this cluster.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use muster_proto::{
    ApplicationName, Approval, Content, Desired, DesiredApplication, Digest, Generation, Object,
    Pause, Removals, Settings,
};
use serde::{Deserialize, Serialize};

use crate::engine::Refused;
use crate::ledger::{Change, Items};

mod claims;
pub(crate) mod resolved;
pub(crate) mod wanted;

const HEAD: &str = "desired";
const LIST: &str = "list/";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    generation: Generation,
    removals: Removals,
    approvals: Vec<Approval>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pauses: Vec<Pause>,
    /// Of every application; names the applications that count.
    revisions: BTreeMap<ApplicationName, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Application {
    Objects {
        settings: Settings,
        /// As format 1 had them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        objects: Vec<Digest>,
        #[serde(default)]
        lists: Vec<Digest>,
    },
    Keep(String),
}

/// What to do with an offered state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is what we hold already.
    Held,
    /// Store it, then act on it.
    New,
}

/// The generation rule: never lower, and one generation is one content. `held` is what the ledger says, also when the
/// state itself was lost (`whole` is false): then the same content is taken again.
///
/// # Errors
/// [`Refused::Older`] and [`Refused::OtherContent`].
pub(crate) fn judge(
    held: (Generation, Digest),
    whole: bool,
    offered: &Desired,
) -> Result<Verdict, Refused> {
    let (generation, digest) = held;
    if offered.generation < generation {
        return Err(Refused::Older {
            offered: offered.generation,
            held: generation,
        });
    }
    if offered.generation > generation {
        return Ok(Verdict::New);
    }
    match (offered.digest() == digest, whole) {
        (true, true) => Ok(Verdict::Held),
        (true, false) => Ok(Verdict::New),
        (false, _) => Err(Refused::OtherContent(generation)),
    }
}

/// Everything to keep of a desired state.
pub(crate) fn items(desired: &Desired) -> Items {
    items_beside(desired, &HashSet::new())
}

/// The same but for these objects.
fn items_beside(desired: &Desired, objects: &HashSet<Digest>) -> Items {
    let mut items = Items::new();
    let head = Head {
        generation: desired.generation,
        removals: desired.removals.clone(),
        approvals: desired.approvals.clone(),
        pauses: desired.pauses.clone(),
        revisions: desired
            .applications
            .iter()
            .map(|application| (application.name.clone(), application.revision.clone()))
            .collect(),
    };
    items.insert(HEAD.into(), json(&head));
    for application in &desired.applications {
        let kept = match &application.content {
            Content::Keep(why) => Application::Keep(why.clone()),
            Content::Objects { settings, objects } => {
                let mut names = Vec::new();
                for list in lists(objects) {
                    let list = json(&list);
                    let name = Digest::of([&list]);
                    names.push(name);
                    items.insert(format!("{LIST}{name}"), list);
                }
                Application::Objects {
                    settings: settings.clone(),
                    objects: Vec::new(),
                    lists: names,
                }
            }
        };
        items.insert(format!("application/{}", application.name), json(&kept));
        let kept = application.objects().iter();
        for object in kept.filter(|object| !objects.contains(&object.digest)) {
            items.insert(format!("object/{}", object.digest), object.body.clone());
        }
    }
    items
}

/// The digests in order, in runs that end where a digest begins with few enough zeros: some 64 each, and all but the
/// one or two around a change stay the same.
fn lists(objects: &[Arc<Object>]) -> impl Iterator<Item = Vec<Digest>> {
    let ends = |object: &Arc<Object>| object.digest.as_bytes()[0] < 4;
    let runs = objects.split_inclusive(ends);
    runs.map(|run| run.iter().map(|object| object.digest).collect())
}

fn read_list(items: &Items, name: Digest) -> Result<Vec<Digest>, String> {
    let item = format!("{LIST}{name}");
    let list = items
        .get(&item)
        .ok_or_else(|| format!("{item} is missing"))?;
    parse(&item, list)
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("plain data can be written")
        .into()
}

/// What to change in the ledger so that it holds `new` instead of `old`.
pub(crate) fn change(old: &Desired, new: &Desired) -> Change {
    let objects = |desired: &Desired| -> HashSet<Digest> {
        let applications = desired.applications.iter();
        let objects = applications.flat_map(|application| application.objects());
        objects.map(|object| object.digest).collect()
    };
    // What both hold is neither put nor dropped.
    let (held, wanted) = (objects(old), objects(new));
    let (old, new) = (items_beside(old, &wanted), items_beside(new, &held));
    let dropped = old.keys().filter(|key| !new.contains_key(*key));
    let mut change: Change = dropped.map(|key| (key.clone(), None)).collect();
    for (key, value) in new {
        if old.get(&key) != Some(&value) {
            change.insert(key, Some(value));
        }
    }
    change
}

/// Reads the accepted state out of the ledger; `None` when none was ever accepted.
///
/// # Errors
/// When a part is missing or can't be read, or the whole is not what was accepted under `digest`.
pub(crate) fn read(items: &Items, digest: Digest) -> Result<Option<Desired>, String> {
    let Some(head) = items.get(HEAD) else {
        return if digest == Digest::ZERO {
            Ok(None)
        } else {
            Err("the accepted state is missing".into())
        };
    };
    let head: Head = parse(HEAD, head)?;
    let mut applications = Vec::new();
    for (name, revision) in head.revisions {
        let item = format!("application/{name}");
        let kept = items
            .get(&item)
            .ok_or_else(|| format!("{item} is missing"))?;
        let application = match parse(&item, kept)? {
            Application::Keep(why) => DesiredApplication::keep(name, revision, why),
            Application::Objects {
                settings,
                mut objects,
                lists,
            } => {
                for list in lists {
                    objects.extend(read_list(items, list)?);
                }
                let objects = objects.into_iter().map(|digest| read_object(items, digest));
                let objects = objects.collect::<Result<_, _>>()?;
                DesiredApplication::new(name, revision, settings, objects)
            }
        };
        applications.push(Arc::new(application));
    }
    let desired = Desired::new(head.generation, applications, head.removals, head.approvals)
        .with_pauses(head.pauses);
    if desired.digest() != digest {
        return Err("the accepted state is not the one that was stored".into());
    }
    Ok(Some(desired))
}

fn read_object(items: &Items, digest: Digest) -> Result<Arc<Object>, String> {
    let item = format!("object/{digest}");
    let body = items
        .get(&item)
        .ok_or_else(|| format!("{item} is missing"))?;
    let object = Object::received(digest, body.clone());
    object
        .map(Arc::new)
        .map_err(|error| format!("{item}: {error}"))
}

fn parse<T: for<'de> Deserialize<'de>>(item: &str, value: &[u8]) -> Result<T, String> {
    // The parser's message may quote a value.
    serde_json::from_slice(value).map_err(|error| format!("{item}: {:?} error", error.classify()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger;
    use muster_proto::DigestKey;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(name: u8, value: u8) -> Arc<Object> {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("c{name}"), "namespace": "web"}, "data": {"v": value.to_string()}});
        Arc::new(Object::new(&body, &DigestKey::new([3; 32])).unwrap())
    }

    fn application() -> impl Strategy<Value = Option<Vec<(u8, u8)>>> {
        prop::option::of(
            prop::collection::btree_map(0u8..5, 0u8..3, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        )
    }

    prop_compose! {
        fn desired()(
            generation in 1u64..9,
            held in any::<bool>(),
            paused in any::<bool>(),
            applications in prop::collection::btree_map(0u8..4, application(), 0..4),
        ) -> Desired {
            let applications = applications.into_iter().map(|(name, objects)| {
                let name = format!("app-{name}").parse().unwrap();
                Arc::new(match objects {
                    None => DesiredApplication::keep(name, "r".into(), "broken".into()),
                    Some(objects) => DesiredApplication::new(name, "r".into(), Settings::default(),
                        objects.into_iter().map(|(name, value)| object(name, value)).collect()),
                })
            });
            let removals = if held { Removals::Held("why".into()) } else { Removals::Released };
            let pause = Pause {
                application: "app-0".parse().unwrap(),
                until: muster_proto::Timestamp(9),
                since: muster_proto::Timestamp(1),
                by: "anna".into(),
                reason: String::new(),
            };
            let pauses = paused.then_some(pause).into_iter().collect();
            Desired::new(generation, applications.collect(), removals, Vec::new()).with_pauses(pauses)
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_reads_back_after_any_change(old in desired(), new in desired()) {
            let mut kept = items(&old);
            prop_assert_eq!(read(&kept, old.digest()), Ok(Some(old.clone())));
            ledger::apply(&mut kept, change(&old, &new));
            prop_assert_eq!(&kept, &items(&new));
            prop_assert_eq!(read(&kept, new.digest()), Ok(Some(new)));
        }

        #[test]
        fn a_lost_item_is_an_error_and_never_a_smaller_state(desired in desired(), lost in any::<prop::sample::Index>()) {
            let mut kept = items(&desired);
            let key = kept.keys().nth(lost.index(kept.len())).unwrap().clone();
            kept.remove(&key);
            prop_assert!(read(&kept, desired.digest()).is_err());
        }
    }

    #[test]
    fn one_object_of_ten_thousand_is_a_small_change_in_any_order_of_objects() {
        let key = DigestKey::new([3; 32]);
        let object = |name: usize, value: &str| {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("c{name}")}, "data": {"v": value}});
            Arc::new(Object::new(&body, &key).unwrap())
        };
        let state = |objects: Vec<Arc<Object>>| {
            let name = "shop".parse().unwrap();
            let shop = DesiredApplication::new(name, "r".into(), Settings::default(), objects);
            Desired::new(1, vec![Arc::new(shop)], Removals::Released, Vec::new())
        };
        let objects: Vec<_> = (0..10_000).rev().map(|name| object(name, "old")).collect();
        let old = state(objects.clone());
        let kept = items(&old);
        assert_eq!(read(&kept, old.digest()), Ok(Some(old.clone())));
        let mut changed = objects.clone();
        changed[5_000] = object(4_999, "new");
        let mut fewer = objects;
        fewer.remove(77);
        for objects in [changed, fewer] {
            let frame = ledger::format::write_frame(&change(&old, &state(objects)));
            assert!(frame.len() < 24 * 1024, "{} bytes", frame.len());
        }
    }

    #[test]
    fn what_format_1_kept_is_read() {
        let name = "a".parse().unwrap();
        let objects = vec![object(0, 1), object(1, 1)];
        let shop = DesiredApplication::new(name, "r".into(), Settings::default(), objects);
        let state = Desired::new(2, vec![Arc::new(shop)], Removals::Released, Vec::new());
        let mut kept = items(&state);
        kept.retain(|item, _| !item.starts_with(LIST));
        let old = Application::Objects {
            settings: Settings::default(),
            objects: state.applications[0]
                .objects()
                .iter()
                .map(|object| object.digest)
                .collect(),
            lists: Vec::new(),
        };
        kept.insert("application/a".into(), super::json(&old));
        assert_eq!(read(&kept, state.digest()), Ok(Some(state)));
    }

    #[test]
    fn generations_never_decrease_and_name_one_content() {
        let state = |generation, value| {
            let application = DesiredApplication::new(
                "a".parse().unwrap(),
                String::new(),
                Settings::default(),
                vec![object(0, value)],
            );
            Desired::new(
                generation,
                vec![Arc::new(application)],
                Removals::Released,
                Vec::new(),
            )
        };
        let held = (5, state(5, 0).digest());
        assert_eq!(judge(held, true, &state(6, 1)), Ok(Verdict::New));
        assert_eq!(judge(held, true, &state(5, 0)), Ok(Verdict::Held));
        assert_eq!(judge(held, false, &state(5, 0)), Ok(Verdict::New));
        assert_eq!(
            judge(held, true, &state(5, 1)),
            Err(Refused::OtherContent(5))
        );
        assert_eq!(
            judge(held, true, &state(4, 1)),
            Err(Refused::Older {
                offered: 4,
                held: 5
            })
        );
    }
}
