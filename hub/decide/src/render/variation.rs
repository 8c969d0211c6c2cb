//! What a target makes of its rendering: patched, and with holes where clusters differ.
//!
//! In: the manifests of a folder, the target's patches and variables. Out: [`Varied`]: the same manifests for every
//! cluster, or a template to fill for each. Kept for as long as nothing of it changes, so that a commit patches and
//! fills what it touches.

use std::collections::HashMap;
use std::sync::Arc;

use muster_proto::{ApplicationName, DesiredApplication, Digest, DigestKey, Object, canonical};

use super::{Cache, Manifest, Objects, Rendered, Wrong};
use crate::model::Target;
use crate::patch::{self, Text};
use crate::snapshot::Snapshot;
use crate::specialise::{Facts, Filled, Template};

/// What the clusters of a target get.
#[derive(Debug, Clone)]
pub(crate) enum Varied {
    /// All the same.
    Same(Arc<Vec<Manifest>>),
    /// What [`Cache::fill`] makes of these for each.
    ByCluster {
        manifests: Arc<Vec<Manifest>>,
        template: Digest,
        /// Whether identities differ from cluster to cluster.
        moves: bool,
    },
}

/// What an application makes of the lists of objects that come out of a template; from commit to commit.
#[derive(Debug)]
pub(crate) struct Specialised {
    key: SpecialisedKey,
    /// By address of the list, which is held so that no other one gets it; whether it was asked for.
    made: Lists,
}

pub(super) type Lists = HashMap<usize, (bool, Arc<Vec<Arc<Object>>>, Arc<DesiredApplication>)>;

/// Application, target, and a digest of the template and the application's settings.
pub(crate) type SpecialisedKey = (ApplicationName, usize, Digest);

impl Specialised {
    /// What the application makes of a list. `settle` is asked once a commit.
    pub(crate) fn of(
        &mut self,
        objects: &Arc<Vec<Arc<Object>>>,
        make: impl FnOnce(&Vec<Arc<Object>>) -> Arc<DesiredApplication>,
        settle: impl FnOnce(&Arc<DesiredApplication>) -> Arc<DesiredApplication>,
    ) -> Arc<DesiredApplication> {
        let known = self.made.entry(Arc::as_ptr(objects).addr());
        let (used, _, made) = known.or_insert_with(|| (false, Arc::clone(objects), make(objects)));
        if !std::mem::replace(used, true) {
            *made = settle(made);
        }
        Arc::clone(made)
    }
}

/// What was made of a rendering; whether it was asked for since the last end of a commit.
#[derive(Debug)]
pub(super) struct Kept {
    used: bool,
    result: Result<Varied, Arc<Vec<Wrong>>>,
    template: Option<Template>,
}

impl Cache {
    /// Lays the patches of a target over a rendering and finds its placeholders. `fleet` holds the files of patches.
    pub(crate) fn vary(
        &mut self,
        manifests: Arc<Vec<Manifest>>,
        target: &Target,
        fleet: &Snapshot,
        namespace: &str,
        key: &DigestKey,
    ) -> Result<Varied, Arc<Vec<Wrong>>> {
        if target.patches.is_empty() && target.variables.is_none() {
            return Ok(Varied::Same(manifests));
        }
        let digest = digest(&manifests, target, fleet, namespace);
        let objects = &mut self.objects;
        let kept = self.variations.entry(digest).or_insert_with(|| {
            let patched = patched(manifests, target, fleet, namespace, key, objects);
            let made = patched.and_then(|manifests| templated(manifests, target, namespace, key));
            match made {
                Err(wrong) => Kept::new(Err(wrong), None),
                Ok((manifests, None)) => Kept::new(Ok(Varied::Same(manifests)), None),
                Ok((manifests, template)) => {
                    let moves = template.as_ref().is_some_and(Template::changes_identities);
                    let varied = Varied::ByCluster {
                        manifests,
                        template: digest,
                        moves,
                    };
                    Kept::new(Ok(varied), template)
                }
            }
        });
        kept.used = true;
        kept.result.clone()
    }

    /// What one cluster gets.
    ///
    /// # Panics
    /// When the template was not made since the last end of a commit.
    pub(crate) fn fill(&mut self, template: &Digest, facts: &Facts) -> Filled {
        let kept = self.variations.get_mut(template);
        let template = kept.and_then(|kept| kept.template.as_mut());
        template
            .expect("a template is kept until the end of its commit")
            .filled(facts, &mut self.objects)
    }

    /// What an application made of the fillings of a template, to be given back.
    pub(crate) fn specialised(&mut self, key: SpecialisedKey) -> Specialised {
        let made = self.specialised.remove(&key).unwrap_or_default();
        Specialised { key, made }
    }

    /// Takes it back, without what was not asked for.
    pub(crate) fn keep_specialised(&mut self, mut specialised: Specialised) {
        let made = &mut specialised.made;
        made.retain(|_, (used, ..)| std::mem::take(used));
        self.next_specialised
            .insert(specialised.key, specialised.made);
    }

    /// Forgets what was not asked for since the last call.
    pub(super) fn end_of_variations(&mut self) {
        self.specialised = std::mem::take(&mut self.next_specialised);
        self.variations
            .retain(|_, kept| std::mem::take(&mut kept.used));
        for kept in self.variations.values_mut() {
            if let Some(template) = &mut kept.template {
                template.end_of_commit();
            }
        }
    }
}

impl Kept {
    fn new(result: Result<Varied, Arc<Vec<Wrong>>>, template: Option<Template>) -> Self {
        Self {
            used: true,
            result,
            template,
        }
    }
}

fn patched(
    manifests: Arc<Vec<Manifest>>,
    target: &Target,
    fleet: &Snapshot,
    namespace: &str,
    key: &DigestKey,
    objects: &mut Objects,
) -> Rendered {
    if target.patches.is_empty() {
        return Ok(manifests);
    }
    let (mut patches, mut wrong) = (Vec::new(), Vec::new());
    for stated in &target.patches {
        match patch::read(stated, fleet) {
            Ok(patch) => patches.push(patch),
            Err(found) => wrong.push(found),
        }
    }
    if !wrong.is_empty() {
        return Err(Arc::new(wrong));
    }
    let mut patched = patch::apply(&patches, &manifests, namespace, key).map_err(Arc::new)?;
    for manifest in &mut patched {
        manifest.object = objects.share(Arc::clone(&manifest.object));
    }
    Ok(Arc::new(patched))
}

/// Manifests, and the template of them when clusters differ.
type Templated = (Arc<Vec<Manifest>>, Option<Template>);

/// The manifests with their variables filled in, and a template of them when clusters differ.
fn templated(
    manifests: Arc<Vec<Manifest>>,
    target: &Target,
    namespace: &str,
    key: &DigestKey,
) -> Result<Templated, Arc<Vec<Wrong>>> {
    let Some(variables) = &target.variables else {
        return Ok((manifests, None));
    };
    let template = Template::of(&manifests, variables, namespace, key).map_err(Arc::new)?;
    let Some(objects) = template.constant() else {
        return Ok((manifests, Some(template)));
    };
    let filled = manifests.iter().zip(objects).map(|(manifest, object)| {
        let location = manifest.location.clone();
        Manifest { object, location }
    });
    Ok((Arc::new(filled.collect()), None))
}

/// Names what comes out: the same for the same manifests, patches and variables.
fn digest(manifests: &[Manifest], target: &Target, fleet: &Snapshot, namespace: &str) -> Digest {
    let mut parts = vec![namespace.as_bytes().to_vec()];
    for stated in &target.patches {
        parts.push(format!("{stated:?}").into_bytes());
        if let Text::File(path) = &stated.text {
            let file = fleet.files.get(path);
            parts.push(
                file.map(|file| file.oid.clone().into_bytes())
                    .unwrap_or_default(),
            );
        }
    }
    parts.push(match &target.variables {
        None => Vec::new(),
        Some(variables) => canonical(&variables.clone().into()),
    });
    for manifest in manifests {
        parts.push(manifest.object.digest.as_bytes().to_vec());
        parts.push(manifest.location.to_string().into_bytes());
    }
    Digest::of(parts)
}
