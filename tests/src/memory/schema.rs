//! How values of each type merge: which maps have named fields, which lists are sets, keyed or one leaf.
//!
//! In: the committed table `facts.txt` (distilled from a real server by [`super::distil`]) for the built-in
//! kinds, or a CustomResourceDefinition (see [`super::crd`]). Out: an arena of [`Atom`]s that the walkers in
//! [`super::compare`], [`super::merge`] and [`super::remove`] follow. The model is the one of Kubernetes'
//! structured merge (KEP-555): an atom may be a scalar, a list, a map, or any of them where the type is open.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// All types that one object's schema can reach.
#[derive(Debug, Clone)]
pub struct Schema {
    atoms: Vec<Atom>,
    names: BTreeMap<String, TypeId>,
    /// While the table is read: types that are another one as one leaf.
    overrides: Vec<(TypeId, TypeId)>,
}

/// An index into a [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeId(u32);

/// The type of anything inside an atomic value: nobody looks further in.
pub const UNTYPED: TypeId = TypeId(0);
/// The type of free-form content: maps merge key by key, lists are one leaf.
pub const DEDUCED: TypeId = TypeId(1);

/// The forms a value of one type may take; usually exactly one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Atom {
    /// Set when a scalar is allowed.
    pub scalar: Option<Scalar>,
    /// Set when a list is allowed.
    pub list: Option<List>,
    /// Set when a map or struct is allowed.
    pub map: Option<Map>,
}

/// What a leaf may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    Text,
    /// An integer or a float.
    Number,
    /// true or false.
    Flag,
    /// Any scalar, as in int-or-string, quantities and times.
    Any,
}

/// A list type.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// The type of each item.
    pub item: TypeId,
    /// How items of two writers come together.
    pub relation: Relation,
}

/// How the items of a list relate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// The list is one leaf.
    Atomic,
    /// Scalars, each owned for itself.
    Set,
    /// Maps, each known by the values of these fields.
    Keyed(Vec<String>),
}

/// A map or struct type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    /// Declared fields.
    pub fields: BTreeMap<String, Field>,
    /// The type of undeclared keys; `None` where there may be none.
    pub item: Option<TypeId>,
    /// Whether the whole map is one leaf.
    pub atomic: bool,
}

/// A declared field of a struct.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its type.
    pub kind: TypeId,
    /// What the server writes where nothing is given.
    pub default: Option<Value>,
    /// Whether the server writes the field even when it holds nothing.
    pub required: bool,
}

impl Schema {
    /// A schema that holds only the two open types.
    #[must_use]
    pub fn new() -> Self {
        let open = |list_item, map_item, atomic| Atom {
            scalar: Some(Scalar::Any),
            list: Some(List {
                item: list_item,
                relation: Relation::Atomic,
            }),
            map: Some(Map {
                fields: BTreeMap::new(),
                item: Some(map_item),
                atomic,
            }),
        };
        Self {
            atoms: vec![open(UNTYPED, UNTYPED, true), open(UNTYPED, DEDUCED, false)],
            names: BTreeMap::new(),
            overrides: Vec::new(),
        }
    }

    /// The forms of a type.
    #[must_use]
    pub fn atom(&self, id: TypeId) -> &Atom {
        &self.atoms[id.0 as usize]
    }

    /// The type of that name, as `api.apps.v1.Deployment`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    /// Adds an anonymous type.
    pub fn add(&mut self, atom: Atom) -> TypeId {
        self.atoms.push(atom);
        TypeId(u32::try_from(self.atoms.len() - 1).expect("fewer than 2^32 types"))
    }

    /// Copies a type of another schema, with all it reaches, into this one.
    pub fn import(&mut self, other: &Self, id: TypeId) -> TypeId {
        self.import_once(other, id, &mut BTreeMap::new())
    }

    fn import_once(
        &mut self,
        other: &Self,
        id: TypeId,
        done: &mut BTreeMap<TypeId, TypeId>,
    ) -> TypeId {
        if id == UNTYPED || id == DEDUCED {
            return id;
        }
        if let Some(known) = done.get(&id) {
            return *known;
        }
        let place = self.add(Atom::default());
        done.insert(id, place);
        let mut atom = other.atom(id).clone();
        if let Some(list) = &mut atom.list {
            list.item = self.import_once(other, list.item, done);
        }
        if let Some(map) = &mut atom.map {
            map.item = map.item.map(|item| self.import_once(other, item, done));
            for field in map.fields.values_mut() {
                field.kind = self.import_once(other, field.kind, done);
            }
        }
        self.atoms[place.0 as usize] = atom;
        place
    }

    /// Reads the `type` sections of the table; other sections are left to their readers.
    pub fn parse(table: &str) -> Result<Self> {
        let mut schema = Self::new();
        let headers = || table.lines().filter_map(|line| line.strip_prefix("type "));
        for header in headers() {
            let name = header.split(' ').next().unwrap_or(header);
            let id = schema.add(Atom::default());
            schema.names.insert(name.to_owned(), id);
        }
        let mut current = None;
        for (number, line) in table.lines().enumerate() {
            let at = || format!("facts.txt:{}: {line}", number + 1);
            if let Some(header) = line.strip_prefix("type ") {
                let (name, rest) = header.split_once(' ').unwrap_or((header, ""));
                let id = schema.names[name];
                current = Some(id);
                schema.atoms[id.0 as usize] = match rest.strip_prefix("= ") {
                    Some(text) => {
                        let same = schema.expression(text).with_context(at)?;
                        schema.atom(same).clone()
                    }
                    None => Atom {
                        map: Some(Map {
                            atomic: rest == "atomic",
                            ..Map::default()
                        }),
                        ..Atom::default()
                    },
                };
            } else if let Some(field) = line.strip_prefix(' ') {
                let owner = current.with_context(at)?;
                let mut words = field.splitn(3, ' ');
                let (name, kind) = words.next().zip(words.next()).with_context(at)?;
                let rest = words.next().unwrap_or_default();
                let (required, default) = match rest.strip_prefix("required") {
                    Some(rest) => (true, rest.trim_start()),
                    None => (false, rest),
                };
                let default = match default.strip_prefix("= ") {
                    Some(json) => Some(serde_json::from_str(json).with_context(at)?),
                    None => None,
                };
                let kind = schema.expression(kind).with_context(at)?;
                let map = schema.atoms[owner.0 as usize]
                    .map
                    .as_mut()
                    .with_context(at)?;
                map.fields.insert(
                    name.to_owned(),
                    Field {
                        kind,
                        default,
                        required,
                    },
                );
            } else {
                current = None;
            }
        }
        for (place, id) in std::mem::take(&mut schema.overrides) {
            let mut atom = schema.atom(id).clone();
            atom.map.get_or_insert_default().atomic = true;
            schema.atoms[place.0 as usize] = atom;
        }
        Ok(schema)
    }

    /// Reads a type expression: `text number flag any open raw`, `@Name` (`@Name!` as one leaf), `{T}`,
    /// `[T]` (one leaf), `[set,T]`, `[KEY,KEY:T]`.
    fn expression(&mut self, text: &str) -> Result<TypeId> {
        let scalar = |kind| Atom {
            scalar: Some(kind),
            ..Atom::default()
        };
        Ok(match text {
            "raw" => UNTYPED,
            "open" => DEDUCED,
            "text" => self.add(scalar(Scalar::Text)),
            "number" => self.add(scalar(Scalar::Number)),
            "flag" => self.add(scalar(Scalar::Flag)),
            "any" => self.add(scalar(Scalar::Any)),
            _ => {
                if let Some(name) = text.strip_prefix('@') {
                    let (name, atomic) = match name.strip_suffix('!') {
                        Some(name) => (name, true),
                        None => (name, false),
                    };
                    let id = self
                        .named(name)
                        .with_context(|| format!("no type {name}"))?;
                    if !atomic {
                        return Ok(id);
                    }
                    // The type may stand further down the table: filled in at the end.
                    let place = self.add(Atom::default());
                    self.overrides.push((place, id));
                    return Ok(place);
                }
                let inner = |open: char, close: char| {
                    text.strip_prefix(open).and_then(|t| t.strip_suffix(close))
                };
                if let Some(item) = inner('{', '}') {
                    let item = Some(self.expression(item)?);
                    return Ok(self.add(Atom {
                        map: Some(Map {
                            item,
                            ..Map::default()
                        }),
                        ..Atom::default()
                    }));
                }
                let Some(body) = inner('[', ']') else {
                    bail!("not a type: {text}");
                };
                let (relation, item) = if let Some(item) = body.strip_prefix("set,") {
                    (Relation::Set, item)
                } else if let Some((keys, item)) = body.split_once(':') {
                    let keys = keys.split(',').map(str::to_owned).collect();
                    (Relation::Keyed(keys), item)
                } else {
                    (Relation::Atomic, body)
                };
                let item = self.expression(item)?;
                self.add(Atom {
                    list: Some(List { item, relation }),
                    ..Atom::default()
                })
            }
        })
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self::new()
    }
}

impl Atom {
    /// The one form that fits the value, where the type is open and one fits; all forms otherwise.
    #[must_use]
    pub fn deduce(&self, value: Option<&Value>) -> Deduced<'_> {
        let all = Deduced {
            scalar: self.scalar,
            list: self.list.as_ref(),
            map: self.map.as_ref(),
        };
        let none = Deduced {
            scalar: None,
            list: None,
            map: None,
        };
        match value {
            Some(Value::Array(_)) if all.list.is_some() => Deduced {
                list: all.list,
                ..none
            },
            Some(Value::Object(_)) if all.map.is_some() => Deduced {
                map: all.map,
                ..none
            },
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if all.scalar.is_some() => {
                Deduced {
                    scalar: all.scalar,
                    ..none
                }
            }
            _ => all,
        }
    }
}

/// An [`Atom`] narrowed to what a value is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deduced<'a> {
    scalar: Option<Scalar>,
    list: Option<&'a List>,
    map: Option<&'a Map>,
}

/// The form by which a value is walked.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// As a map or struct.
    Map(&'a Map),
    /// As a leaf.
    Scalar(Scalar),
    /// As a list.
    List(&'a List),
}

impl<'a> Deduced<'a> {
    /// The form to walk by; maps go first where the value (null) does not decide.
    #[must_use]
    pub fn form(self) -> Form<'a> {
        match (self.map, self.scalar, self.list) {
            (Some(map), _, _) => Form::Map(map),
            (None, Some(scalar), _) => Form::Scalar(scalar),
            (None, None, Some(list)) => Form::List(list),
            (None, None, None) => Form::Scalar(Scalar::Any),
        }
    }
}

impl Map {
    /// The type of one key, declared or not; `None` where the key is not allowed.
    #[must_use]
    pub fn child(&self, key: &str) -> Option<TypeId> {
        self.fields.get(key).map(|f| f.kind).or(self.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "server v0\n\
        type a.Thing\n\
        \x20name text required = \"\"\n\
        \x20ports [port,protocol:@a.Port]\n\
        \x20selector @a.Selector!\n\
        \x20tags {text}\n\
        type a.Port\n\
        \x20port number\n\
        \x20protocol text = \"TCP\"\n\
        type a.Selector\n\
        \x20labels {text}\n\
        type a.When = any\n\
        kind ignored\n";

    #[test]
    fn a_table_reads_into_fields_keys_defaults_and_overrides() {
        let schema = Schema::parse(TABLE).unwrap();
        let thing = schema.atom(schema.named("a.Thing").unwrap());
        let map = thing.map.as_ref().unwrap();
        assert!(map.fields["name"].required);
        assert_eq!(
            map.fields["name"].default,
            Some(Value::String(String::new()))
        );
        let ports = schema.atom(map.fields["ports"].kind).list.as_ref().unwrap();
        assert_eq!(
            ports.relation,
            Relation::Keyed(vec!["port".into(), "protocol".into()])
        );
        assert!(
            schema
                .atom(map.fields["selector"].kind)
                .map
                .as_ref()
                .unwrap()
                .atomic
        );
        let whole = schema.atom(schema.named("a.Selector").unwrap());
        assert!(!whole.map.as_ref().unwrap().atomic);
        let when = schema.atom(schema.named("a.When").unwrap());
        assert_eq!(when.scalar, Some(Scalar::Any));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = Schema::parse("type a\n b @missing").unwrap_err();
        assert!(format!("{error:#}").contains("facts.txt:2"), "{error:#}");
    }

    #[test]
    fn importing_follows_references_once() {
        let other = Schema::parse("type a.Node\n next @a.Node\n name text\n").unwrap();
        let mut schema = Schema::new();
        let id = schema.import(&other, other.named("a.Node").unwrap());
        assert_eq!(
            schema.atom(id).map.as_ref().unwrap().fields["next"].kind,
            id
        );
    }
}
