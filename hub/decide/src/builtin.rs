//! What the objects of Kubernetes' own kinds are made of: which lists merge by which keys, and where only text may stand.
//!
//! In: the committed table `builtin.txt`, which says where it comes from. Out: a [`Shape`] to follow into an object.
//! Nothing is known of custom resources.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What is known of a value at some place of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape(Option<&'static Form>);

/// What a table line says of a field.
#[derive(Debug)]
enum Form {
    /// A mapping with these fields.
    Struct(&'static str),
    /// A list; one without keys is replaced whole by a patch.
    List {
        item: Box<Form>,
        keys: Vec<&'static str>,
    },
    /// A mapping from any key to this.
    Map(Box<Form>),
    /// A list of scalars that merges.
    Set,
    Text,
}

#[derive(Debug)]
struct Kind {
    group: &'static str,
    version: &'static str,
    form: Form,
    /// Its objects belong to no namespace.
    is_cluster_scoped: bool,
}

#[derive(Debug, Default)]
struct Table {
    /// By name, in the order of the table.
    kinds: BTreeMap<&'static str, Vec<Kind>>,
    types: BTreeMap<&'static str, BTreeMap<&'static str, Form>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| read(include_str!("builtin.txt")));

/// Whether objects of a kind surely belong to no namespace. Of custom resources nobody knows.
pub(crate) fn is_cluster_scoped(group: &str, kind: &str) -> bool {
    kinds(group, kind).any(|kind| kind.is_cluster_scoped)
}

/// The versions of a kind.
fn kinds(group: &str, kind: &str) -> impl DoubleEndedIterator<Item = &'static Kind> {
    let kinds: &'static Table = &TABLE;
    let named = kinds.kinds.get(kind).into_iter().flatten();
    named.filter(move |kind| kind.group == group)
}

impl Shape {
    /// Of an object; of custom resources nothing is known. A version that the table does not have is taken for the newest that it has.
    pub(crate) fn of(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let same = kinds(group, kind).find(|kind| kind.version == version);
        let known = same.or_else(|| kinds(group, kind).next_back());
        Self(known.map(|kind| &kind.form))
    }

    /// Whether anything is known of it.
    pub(crate) fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// Of a field of it.
    pub(crate) fn field(self, name: &str) -> Self {
        Self(match self.0 {
            Some(Form::Struct(of)) => TABLE.types.get(of).and_then(|fields| fields.get(name)),
            Some(Form::Map(value)) => Some(value),
            _ => None,
        })
    }

    /// Of an item of it.
    pub(crate) fn item(self) -> Self {
        Self(match self.0 {
            Some(Form::List { item, .. }) => Some(item),
            _ => None,
        })
    }

    /// The fields by which items of two lists are told to be the same; none when lists don't merge so.
    pub(crate) fn merge_keys(self) -> &'static [&'static str] {
        match self.0 {
            Some(Form::List { keys, .. }) => keys,
            _ => &[],
        }
    }

    /// Whether it is a list of scalars that merges.
    pub(crate) fn is_set(self) -> bool {
        matches!(self.0, Some(Form::Set))
    }

    /// Whether nothing but text may stand here.
    pub(crate) fn is_text(self) -> bool {
        matches!(self.0, Some(Form::Text))
    }
}

fn read(text: &'static str) -> Table {
    let mut table = Table::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["kind", api_version, kind, of, ref scope @ ..] => {
                let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                table.kinds.entry(kind).or_default().push(Kind {
                    group,
                    version,
                    form: Form::Struct(of),
                    is_cluster_scoped: scope == ["cluster"],
                });
            }
            ["type", name, ..] => {
                let fields = words[2..].iter().map(|field| {
                    let (field, form) = field.split_once(':').expect("fields have a form");
                    (field, read_form(form))
                });
                table.types.insert(name, fields.collect());
            }
            _ => {}
        }
    }
    table
}

fn read_form(text: &'static str) -> Form {
    if let Some((item, keys)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return Form::List {
            item: Box::new(Form::Struct(item)),
            keys: keys.split('/').skip(1).collect(),
        };
    }
    if let Some(value) = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    {
        return Form::Map(Box::new(Form::Struct(value)));
    }
    match text {
        "set" => Form::Set,
        "string" => Form::Text,
        "text" => Form::Map(Box::new(Form::Text)),
        "texts" => Form::List {
            item: Box::new(Form::Text),
            keys: Vec::new(),
        },
        of => Form::Struct(of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_named_is_in_the_table() {
        fn check(form: &Form) {
            match form {
                Form::Struct("-") | Form::Set | Form::Text => {}
                Form::Struct(of) => assert!(TABLE.types.contains_key(of), "{of}"),
                Form::List { item: of, .. } | Form::Map(of) => check(of),
            }
        }
        let kinds = TABLE.kinds.values().flatten().map(|kind| &kind.form);
        let fields = TABLE.types.values().flat_map(BTreeMap::values);
        kinds.chain(fields).for_each(check);
        assert!(TABLE.kinds.len() > 50, "{}", TABLE.kinds.len());
    }

    #[test]
    fn a_container_is_found_by_name_and_its_environment_is_text() {
        let spec = Shape::of("apps/v1", "Deployment").field("spec");
        let containers = spec.field("template").field("spec").field("containers");
        assert_eq!(containers.merge_keys(), ["name"]);
        let environment = containers.item().field("env");
        assert_eq!(environment.merge_keys(), ["name"]);
        assert!(environment.item().field("value").is_text());
        assert!(containers.item().field("args").item().is_text());
        assert!(!spec.field("replicas").is_text());
    }

    #[test]
    fn another_version_of_a_kind_is_known_and_a_custom_resource_is_not() {
        let job = Shape::of("batch/v1beta1", "CronJob").field("spec");
        assert!(job.field("jobTemplate").is_known());
        assert!(!Shape::of("example.com/v1", "Deployment").is_known());
        assert!(is_cluster_scoped(
            "rbac.authorization.k8s.io",
            "ClusterRole"
        ));
        assert!(!is_cluster_scoped("rbac.authorization.k8s.io", "Role"));
        assert!(
            Shape::of("v1", "ConfigMap")
                .field("data")
                .field("a")
                .is_text()
        );
    }
}
