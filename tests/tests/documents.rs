//! What the guides quote is what the programs say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use muster_decide::{File, FileContent, Snapshot, model};
use serde_json::Value;

/// All sources of the programs, as one text in which a string that goes over lines is one again.
fn said_by_the_programs() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = String::new();
    let mut open: Vec<PathBuf> = [
        "hub/src",
        "hub/decide/src",
        "hub/git/src",
        "hub/render/src",
        "agent/src",
        "cli/src",
    ]
    .map(|folder| root.join(folder))
    .into();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    let lines = text.split("\\\n").map(str::trim_start);
    lines.collect::<Vec<_>>().concat()
}

/// The first cells of a guide's tables, as far as they are quotations; `…` and names stand for what varies.
fn quoted(guide: &str) -> Vec<String> {
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| Some(row.split_once("` |")?.0));
    let parts = cells.flat_map(|cell| {
        cell.split(['…', '(', ')'])
            .flat_map(|part| part.split("NAME"))
    });
    parts
        .map(str::trim)
        .filter(|part| part.len() > 8 && part.contains(' '))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_text_that_the_guides_explain_is_one_that_is_said() {
    let said = said_by_the_programs();
    for guide in ["operating", "join-a-cluster"] {
        let path = format!("{}/../docs/guides/{guide}.md", env!("CARGO_MANIFEST_DIR"));
        let quoted = quoted(&std::fs::read_to_string(path).unwrap());
        assert!(quoted.len() >= 5, "{guide}: {quoted:?}");
        for text in quoted {
            assert!(said.contains(&text), "{guide}: nobody says {text:?}");
        }
    }
}

/// Every page of the documentation, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")];
    let mut pages = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|it| it == "md") {
            let text = std::fs::read_to_string(&path).unwrap();
            pages.push((path, text));
        }
    }
    pages
}

/// The YAML blocks of a page that are documents of ours; one that shows but the `spec` is of an Application. A block may
/// begin with the name of its file.
fn examples(page: &str) -> impl Iterator<Item = String> {
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
    blocks.filter_map(|block| {
        let block = match block.split_once('\n') {
            Some((file, rest)) if file.starts_with("# ") => rest,
            _ => block,
        };
        if block.starts_with("spec:") {
            let head =
                "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: example}\n";
            return Some(format!("{head}{block}"));
        }
        let ours = block.starts_with("apiVersion: muster.dev/");
        ours.then(|| block.to_owned())
    })
}

/// Applications and repositories that examples speak of and do not show.
const BESIDE: &str = "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: database}
---
apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: certificates}
";

#[test]
fn the_examples_of_documents_are_documents() {
    let mut count = 0;
    for (path, page) in pages() {
        for example in examples(&page) {
            count += 1;
            let shop = "\n---\napiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {name: shop}\nspec: {url: \"https://git.example.com/shop.git\"}\n";
            let beside = match example.contains("kind: Repository") {
                true => BESIDE.to_owned(),
                false => BESIDE.to_owned() + shop,
            };
            let files = [
                ("muster.yaml", example.clone()),
                ("beside/muster.yaml", beside),
            ];
            let files = files.map(|(path, text)| {
                let file = File {
                    oid: text.clone(),
                    content: FileContent::Bytes(text.into()),
                };
                (path.to_owned(), file)
            });
            let snapshot = Snapshot {
                files: files.into(),
                ..Snapshot::default()
            };
            let fleet = model::read(&snapshot);
            // Values of files are not shown beside every example.
            assert!(
                fleet.problems.is_empty(),
                "{}: {:?} in {example}",
                path.display(),
                fleet.problems
            );
            let not_yet = fleet
                .applications
                .values()
                .find_map(|it| it.unsupported.as_ref());
            assert_eq!(not_yet, None, "{}: {example}", path.display());
        }
    }
    assert!(count > 20, "{count}");
}

/// What the format has and the hub says it can't do yet.
const NOT_YET: [&str; 8] = [
    "ApplicationSpec.rollout",
    "Sync.retry",
    "Sync.timeout",
    // And all of what they hold.
    "Retry.",
    "Rollout.",
    "Gate.",
    "Wave.",
    "Window.",
];

/// Fields of documents, as `TYPE.FIELD`, that stand in a value.
fn stated(schema: &Value, at: &Value, name: &str, value: &Value, found: &mut BTreeSet<String>) {
    let place = at["$ref"]
        .as_str()
        .and_then(|it| it.strip_prefix("#/$defs/"));
    if let Some(definition) = place {
        return stated(
            schema,
            &schema["$defs"][definition],
            definition,
            value,
            found,
        );
    }
    for any in ["anyOf", "allOf", "oneOf"] {
        for at in at[any].as_array().into_iter().flatten() {
            stated(schema, at, name, value, found);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        stated(schema, &at["items"], name, item, found);
    }
    for (field, inner) in value.as_object().into_iter().flatten() {
        if let Some(at) = at["properties"].get(field) {
            found.insert(format!("{name}.{field}"));
            stated(schema, at, name, inner, found);
        }
    }
}

/// All fields of a schema, in the same words.
fn fields(schema: &Value) -> BTreeSet<String> {
    let definitions = schema["$defs"].as_object().unwrap();
    let fields = definitions.iter().flat_map(|(name, definition)| {
        let fields = definition["properties"].as_object().into_iter().flatten();
        fields.map(move |(field, _)| format!("{name}.{field}"))
    });
    fields.collect()
}

#[test]
fn every_field_of_the_documents_is_in_an_example() {
    let schema = muster_decide::schema::schema();
    let mut found = BTreeSet::new();
    for (_, page) in pages() {
        for example in examples(&page) {
            let documents: Vec<Value> = serde_saphyr::from_multiple(&example).unwrap();
            for document in documents {
                let mut kinds = schema["oneOf"].as_array().unwrap().iter();
                let kind = kinds.find(|it| it["title"] == document["kind"]).unwrap();
                stated(&schema, kind, "Document", &document, &mut found);
            }
        }
    }
    let all = fields(&schema);
    assert!(all.len() > 50, "{all:?}");
    let not_yet = |field: &&String| NOT_YET.iter().any(|it| field.starts_with(it));
    let missing: Vec<_> = all.difference(&found).filter(|it| !not_yet(it)).collect();
    assert_eq!(missing, Vec::<&String>::new());
}
