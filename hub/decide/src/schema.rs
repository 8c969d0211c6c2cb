//! JSON Schema of our documents, from the types that read them, and the same as a page for people.
//!
//! Out: what `muster schema` prints. Editors complete and check `muster.yaml` by it; the page is docs/reference.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::model::cluster::ClusterSpec;
use crate::model::document::API_VERSION;
use crate::model::spec::ApplicationSpec;
use crate::model::{FILE_NAME, Kind, Repository, Rollout};

/// Where schemas of this version stand among the definitions.
const DEFINITIONS: &str = "#/$defs/";

/// The schema of one document of a `muster.yaml`, JSON Schema 2020-12.
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::default();
    let kinds: Vec<Value> = Kind::ALL
        .into_iter()
        .map(|kind| document(kind, &mut generator))
        .collect();
    let mut definitions = generator.take_definitions(true);
    definitions.insert("Metadata".into(), metadata());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FILE_NAME,
        "description": "One document of a fleet repository.",
        "oneOf": kinds,
        "$defs": definitions,
    })
}

fn document(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    // What a kind is for, and whether it says nothing without a spec.
    let (about, spec, required) = match kind {
        Kind::Application => (
            "Where manifests are, how they are rendered, and which clusters take which variant.",
            generator.subschema_for::<ApplicationSpec>(),
            false,
        ),
        Kind::Cluster => (
            "What Git says about one cluster, which may also exist by enrolment only.",
            generator.subschema_for::<ClusterSpec>(),
            false,
        ),
        Kind::Repository => (
            "Another Git source, for applications whose manifests live elsewhere.",
            generator.subschema_for::<Repository>(),
            true,
        ),
        Kind::Rollout => (
            "A strategy by name: how a change goes through the fleet.",
            generator.subschema_for::<Rollout>(),
            true,
        ),
    };
    let mut needed = vec!["apiVersion", "kind", "metadata"];
    needed.extend(required.then_some("spec"));
    json!({
        "title": kind.to_string(),
        "description": about,
        "type": "object",
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind.to_string()},
            "metadata": {"$ref": format!("{DEFINITIONS}Metadata")},
            "spec": spec,
        },
        "required": needed,
        "additionalProperties": false,
    })
}

fn metadata() -> Value {
    let texts = |about: &str| {
        json!({
            "description": about,
            "type": "object",
            "additionalProperties": {"type": "string"},
        })
    };
    let mut name = muster_proto::ApplicationName::json_schema(&mut SchemaGenerator::default());
    name.insert(
        "description".into(),
        "Unique among the documents of its kind.".into(),
    );
    json!({
        "type": "object",
        "properties": {
            "name": name,
            "labels": texts("For people and their tools."),
            "annotations": texts("For people and their tools."),
        },
        "required": ["name"],
        "additionalProperties": false,
    })
}

/// The same in Markdown: a table of fields for each kind and each part of one.
pub fn reference() -> String {
    let schema = schema();
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let mut page = Page {
        definitions: &definitions,
        text: format!(
            "# The documents\n\n<!-- Written by `muster schema --markdown`; a test holds it to the types. -->\n\nA folder of the fleet repository with a `{FILE_NAME}` may hold several documents of these kinds, `apiVersion: {API_VERSION}`. An unknown field is an error that names the nearest known one.\n"
        ),
        told: BTreeSet::new(),
    };
    for kind in schema["oneOf"].as_array().into_iter().flatten() {
        let (title, about) = (text(kind, "title"), text(kind, "description"));
        writeln!(page.text, "\n## {title}\n\n{about}").expect("memory");
        let spec = &kind["properties"]["spec"];
        let of = text(spec, "$ref");
        let of = of.strip_prefix(DEFINITIONS).unwrap_or_default();
        page.fields(&definitions[of], "spec.");
        page.parts(&definitions[of]);
    }
    page.text
}

struct Page<'d> {
    definitions: &'d Map<String, Value>,
    text: String,
    /// Parts that have their table.
    told: BTreeSet<String>,
}

impl Page<'_> {
    fn fields(&mut self, definition: &Value, of: &str) {
        self.text.push_str("\n| field | value | |\n|---|---|---|\n");
        let required: Vec<&str> = definition["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let fields = definition["properties"].as_object();
        for (name, field) in fields.into_iter().flatten() {
            let mut about = text(field, "description").replace('\n', " ");
            if about.is_empty() {
                about = self.about(field);
            }
            if required.contains(&name.as_str()) {
                about = format!("{about} Required.").trim().to_owned();
            }
            let usual = match &field["default"] {
                Value::Bool(true) => " By default true.",
                Value::Bool(false) => " By default false.",
                _ => "",
            };
            let value = self.value(field);
            writeln!(self.text, "| `{of}{name}` | {value} | {about}{usual} |").expect("memory");
        }
    }

    /// The tables of what the fields of a definition are made of, each once in the whole page.
    fn parts(&mut self, definition: &Value) {
        let fields = definition["properties"].as_object();
        let fields: Vec<Value> = fields.into_iter().flat_map(Map::values).cloned().collect();
        for name in fields.iter().flat_map(named) {
            let part = self.definitions[&name].clone();
            if part.get("properties").is_none() || !self.told.insert(name.clone()) {
                continue;
            }
            let about = text(&part, "description").replace('\n', " ");
            writeln!(self.text, "\n### {name}\n\n{about}").expect("memory");
            self.fields(&part, "");
            self.parts(&part);
        }
    }

    /// What a definition that a field refers to says of itself.
    fn about(&self, field: &Value) -> String {
        let of = named(field).into_iter().next();
        let of = of.and_then(|name| self.definitions.get(&name));
        of.map(|of| text(of, "description").replace('\n', " "))
            .unwrap_or_default()
    }

    /// One of several things that may stand there.
    fn choice(&self, choice: &Value) -> String {
        let value = self.value(choice);
        match (choice.get("const"), choice.get("description")) {
            (Some(_), Some(about)) => format!("{value}: {}", text_of(about)),
            _ => value,
        }
    }

    /// What may stand there, in words.
    fn value(&self, field: &Value) -> String {
        if let Some(name) = reference_of(field) {
            let of = &self.definitions[&name];
            return match of.get("properties") {
                Some(_) => format!("[{name}](#{})", name.to_lowercase()),
                None => self.value(of),
            };
        }
        let choices = field["anyOf"].as_array().or(field["oneOf"].as_array());
        if let Some(choices) = choices {
            let said = choices.iter().filter(|choice| choice["type"] != "null");
            let said: Vec<String> = said.map(|choice| self.choice(choice)).collect();
            return said.join("<br>");
        }
        if let Some(word) = field["const"].as_str() {
            return format!("`{word}`");
        }
        if let Some(words) = field["enum"].as_array() {
            let words = words.iter().filter_map(Value::as_str);
            let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
            return words.join(", ");
        }
        let kind = match &field["type"] {
            Value::Array(kinds) => kinds[0].as_str(),
            kind => kind.as_str(),
        };
        match kind {
            Some("string") => match field["examples"].as_array() {
                Some(examples) => {
                    let examples = examples.iter().filter_map(Value::as_str);
                    let examples: Vec<String> = examples.map(|one| format!("`{one}`")).collect();
                    format!("text such as {}", examples.join(", "))
                }
                None if field
                    .get("pattern")
                    .is_some_and(|it| text_of(it).ends_with("%$")) =>
                {
                    "a share such as `25%`".into()
                }
                None => "text".into(),
            },
            Some("boolean") => "`true`, `false`".into(),
            Some("integer" | "number") => "a number".into(),
            Some("array") => format!("list of {}", self.value(&field["items"])),
            Some("object") => match &field["additionalProperties"] {
                Value::Object(_) => {
                    format!("mapping to {}", self.value(&field["additionalProperties"]))
                }
                _ => "a mapping".into(),
            },
            _ => "anything".into(),
        }
    }
}

/// Every definition that a field is made of.
fn named(field: &Value) -> Vec<String> {
    let own = reference_of(field);
    let choices = field["anyOf"].as_array().into_iter().flatten();
    let below = choices.chain([&field["items"], &field["additionalProperties"]]);
    let below = below.filter(|value| value.is_object()).flat_map(named);
    own.into_iter().chain(below).collect()
}

fn reference_of(field: &Value) -> Option<String> {
    let name = field["$ref"].as_str()?.strip_prefix(DEFINITIONS)?;
    Some(name.to_owned())
}

fn text(value: &Value, field: &str) -> String {
    text_of(&value[field]).to_owned()
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EVERYTHING;
    use crate::yaml;

    /// Whether a JSON Schema validator takes a document.
    fn takes(text: &str) -> bool {
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("memory:///muster", schema()).unwrap();
        let of = compiler.compile("memory:///muster", &mut schemas).unwrap();
        let documents = yaml::documents(text.as_bytes()).unwrap();
        let mut documents = documents.iter().map(yaml::Node::to_json);
        documents.all(|one| schemas.validate(&one, of).is_ok())
    }

    #[test]
    fn the_schema_takes_what_is_read_and_refuses_what_is_not() {
        assert!(takes(EVERYTHING));
        let document = |kind: &str, spec: &str| {
            format!(
                "apiVersion: {API_VERSION}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"
            )
        };
        let cases = [
            ("Application", "{}", true),
            ("Application", "{sync: {timeout: 1h30m}}", true),
            ("Application", "{sync: {timeout: 5}}", false),
            ("Application", "{sync: {prunes: true}}", false),
            ("Application", "{source: {ref: {branch: a, tag: b}}}", false),
            (
                "Application",
                "{targets: [{clusters: {matchExpressions: [{key: a, operator: Exists}]}}]}",
                true,
            ),
            (
                "Application",
                "{targets: [{clusters: {matchExpressions: [{key: a, operator: Is}]}}]}",
                false,
            ),
            ("Application", "{dependsOn: [Not_A_Name]}", false),
            ("Cluster", "{values: {any: [thing]}}", true),
            ("Repository", "{}", false),
            ("Rollout", "{waves: [{name: a, batchSize: 25%}]}", true),
            ("Rollout", "{waves: [{name: a, batchSize: 250%}]}", false),
            ("Deployment", "{}", false),
        ];
        for (kind, spec, good) in cases {
            let text = document(kind, spec);
            assert_eq!(takes(&text), good, "{kind} {spec}");
            let files = [("muster.yaml", text.as_str())];
            let fleet = crate::model::read(&crate::Snapshot::of("r", files));
            assert_eq!(
                fleet.problems.is_empty(),
                good,
                "{kind} {spec}: {:?}",
                fleet.problems
            );
        }
    }

    #[test]
    fn the_page_for_people_is_that_of_the_types() {
        let page = include_str!("../../../docs/reference/documents.md");
        assert_eq!(
            reference(),
            page,
            "write it anew: muster schema --markdown > docs/reference/documents.md"
        );
    }
}
