//! What differs from cluster to cluster: placeholders of rendered objects, filled in.
//!
//! In: the objects of a variant and its variables, once ([`Template::of`]); then the name, labels and values of each
//! cluster ([`Template::filled`]). Out: its objects, or the placeholders that nothing stands for, with the location of
//! the manifest. Objects without a placeholder are shared by the whole fleet, and so is everything that is the same
//! on clusters that agree in what the template asks for. How placeholders are written: [`placeholder`]; where only
//! text may stand: [`place`].
//!
//! What is put in is not looked through again. Keys of mappings are filled like text. What is base64 (`data` of a
//! Secret) is not decoded: a placeholder there stands for base64, and `stringData` takes text.

use std::collections::HashMap;
use std::sync::Arc;

use muster_proto::{ClusterName, DigestKey, Object};
use serde_json::{Map, Value};

use crate::Labels;
use crate::model::spec::Variables;
use crate::problem::Location;
use crate::render::{Manifest, Objects, Wrong};

mod compiled;
mod place;
mod placeholder;
#[cfg(test)]
mod tests;

use compiled::{Compiled, Trouble};
use placeholder::{Answer, Name};

/// How many mistakes of one template are told at a time.
const MOST: usize = 20;

/// What placeholders of one cluster stand for.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// `${cluster.name}`.
    pub name: &'f ClusterName,
    /// `${cluster.labels.KEY}`.
    pub labels: &'f Labels,
    /// `${cluster.values.PATH}`; a cluster without a document has none.
    pub values: Option<&'f Map<String, Value>>,
}

/// What a cluster gets, or what is wrong on it.
pub type Filled = Result<Arc<Vec<Arc<Object>>>, Arc<Vec<Wrong>>>;

/// The objects of a variant, with holes where clusters differ.
#[derive(Debug)]
pub struct Template {
    objects: Vec<Part>,
    /// What any of its holes asks of a cluster; holes know names by their place.
    names: Vec<Name>,
    namespace: String,
    key: DigestKey,
    /// Whether an identity has a hole, so that two objects may become one.
    may_collide: bool,
    /// What came out before, by what the cluster answered; whether it was asked for since the last end of a commit.
    known: HashMap<Vec<u8>, (bool, Filled)>,
}

#[derive(Debug)]
enum Part {
    Shared(Arc<Object>, Location),
    Holed(Box<Compiled>, Location),
}

/// Variables of a target over those of its application. `None` when neither sets any: then nothing is a placeholder.
pub fn variables(
    application: Option<&Variables>,
    target: Option<&Variables>,
) -> Option<Map<String, Value>> {
    if application.is_none() && target.is_none() {
        return None;
    }
    let both = application.into_iter().chain(target).flatten();
    Some(
        both.map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

impl Template {
    /// Finds the placeholders of a variant and fills in its variables. `namespace` is the application's.
    ///
    /// # Errors
    /// Names that can't exist, variables that don't, and values that don't fit where they are asked for.
    pub fn of(
        manifests: &[Manifest],
        variables: &Map<String, Value>,
        namespace: &str,
        key: &DigestKey,
    ) -> Result<Self, Vec<Wrong>> {
        let mut template = Self {
            objects: Vec::new(),
            names: Vec::new(),
            namespace: namespace.to_owned(),
            key: key.clone(),
            may_collide: false,
            known: HashMap::new(),
        };
        let mut wrong = Vec::new();
        for manifest in manifests {
            let location = &manifest.location;
            let part = match placeholder::may_be_in(&manifest.object.body) {
                false => Ok(Part::Shared(Arc::clone(&manifest.object), location.clone())),
                true => template.part(manifest, variables),
            };
            match part {
                Ok(part) => template.objects.push(part),
                Err(messages) => wrong.extend(messages.into_iter().map(|message| Wrong {
                    location: location.clone(),
                    message: format!("{}: {message}", manifest.object.key),
                })),
            }
        }
        if let Some(objects) = template.constant().filter(|_| wrong.is_empty()) {
            wrong = template.twice(&objects);
        }
        wrong.truncate(MOST);
        match wrong.is_empty() {
            true => Ok(template),
            false => Err(wrong),
        }
    }

    fn part(
        &mut self,
        manifest: &Manifest,
        variables: &Map<String, Value>,
    ) -> Result<Part, Vec<String>> {
        let location = manifest.location.clone();
        let compiled = Compiled::of(&manifest.object, variables, &mut self.names)?;
        self.may_collide |= compiled.changes_identity();
        match compiled.is_constant() {
            false => Ok(Part::Holed(Box::new(compiled), location)),
            true => {
                let filled = compiled.filled(&[], &self.key);
                let object = filled.map_err(|trouble| self.told(trouble, |_| String::new()))?;
                Ok(Part::Shared(Arc::new(object), location))
            }
        }
    }

    /// Whether the identity of an object has a placeholder.
    pub fn changes_identities(&self) -> bool {
        self.may_collide
    }

    /// What every cluster gets, when that is the same; in the order of the manifests.
    pub fn constant(&self) -> Option<Vec<Arc<Object>>> {
        let shared = self.objects.iter().map(|part| match part {
            Part::Shared(object, _) => Some(Arc::clone(object)),
            Part::Holed(..) => None,
        });
        shared.collect()
    }

    /// The objects of one cluster, in the order of the manifests. `objects` makes equal ones one allocation.
    ///
    /// # Errors
    /// Placeholders that nothing stands for on this cluster, and values that don't fit. Messages don't name the
    /// cluster, so that those of many can be told as one.
    pub fn filled(&mut self, facts: &Facts, objects: &mut Objects) -> Filled {
        let answers: Vec<_> = self.names.iter().map(|name| name.ask(facts)).collect();
        let mut asked = Vec::new();
        for answer in &answers {
            answer.write_key(&mut asked);
        }
        if let Some((used, filled)) = self.known.get_mut(&asked) {
            *used = true;
            return filled.clone();
        }
        let filled = self.fill(&answers, facts, objects);
        self.known.insert(asked, (true, filled.clone()));
        filled
    }

    fn fill(&self, answers: &[Answer], facts: &Facts, objects: &mut Objects) -> Filled {
        let mut filled = Vec::with_capacity(self.objects.len());
        let mut wrong = Vec::new();
        for part in &self.objects {
            match part {
                Part::Shared(object, _) => filled.push(Arc::clone(object)),
                Part::Holed(compiled, location) => match compiled.filled(answers, &self.key) {
                    Ok(object) => filled.push(objects.share(Arc::new(object))),
                    Err(trouble) => {
                        let messages = self.told(trouble, |name| name.undefined(facts));
                        wrong.extend(messages.into_iter().map(|message| Wrong {
                            location: location.clone(),
                            message: format!("{}: {message}", compiled.key()),
                        }));
                    }
                },
            }
        }
        if wrong.is_empty() && self.may_collide {
            wrong = self.twice(&filled);
        }
        wrong.truncate(MOST);
        match wrong.is_empty() {
            true => Ok(Arc::new(filled)),
            false => Err(Arc::new(wrong)),
        }
    }

    /// What is said of holes that stay open.
    fn told(&self, trouble: Vec<Trouble>, why: impl Fn(&Name) -> String) -> Vec<String> {
        let told = trouble.into_iter().map(|trouble| match trouble {
            Trouble::Unfit(message) => message,
            Trouble::Undefined { name, at } => {
                let name = &self.names[name];
                compiled::undefined(&name.to_string(), &at, &why(name))
            }
        });
        told.collect()
    }

    fn twice(&self, objects: &[Arc<Object>]) -> Vec<Wrong> {
        let places = self.objects.iter().map(|part| match part {
            Part::Shared(_, location) | Part::Holed(_, location) => location,
        });
        let objects = objects.iter().map(|object| &**object);
        crate::identity::twice(objects.zip(places), &self.namespace)
    }

    /// Forgets what was not asked for since the last call.
    pub fn end_of_commit(&mut self) {
        self.known.retain(|_, (used, _)| std::mem::take(used));
    }
}
