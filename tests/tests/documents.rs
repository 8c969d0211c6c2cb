//! What the guides quote is what the programs say.

use std::path::{Path, PathBuf};

use muster_decide::{File, FileContent, Snapshot, model};

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

/// The YAML blocks of a page that hold documents of ours.
fn examples(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
    blocks.filter(|block| block.starts_with("apiVersion: muster.dev/"))
}

#[test]
fn the_examples_of_documents_are_documents() {
    let page = format!(
        "{}/../docs/behaviour/sources.md",
        env!("CARGO_MANIFEST_DIR")
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(examples(&page).count() > 0);
    for example in examples(&page) {
        let file = File {
            oid: String::new(),
            content: FileContent::Bytes(example.to_owned().into()),
        };
        let snapshot = Snapshot {
            files: [("muster.yaml".to_owned(), file)].into(),
            ..Snapshot::default()
        };
        let fleet = model::read(&snapshot);
        assert!(
            fleet.problems.is_empty(),
            "{:?} in {example}",
            fleet.problems
        );
    }
}
