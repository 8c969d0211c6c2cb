//! What our pages point at is there: files by their links, tests by their names.
//!
//! A link whose text is one identifier in backquotes and whose target is a Rust file promises a function of that name
//! in that file: so a page can name the test that proves what it says.

use super::Tree;

/// Every relative link of a page leads to a file or folder of the tree, and every named function is in its file.
pub(super) fn links(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (page, text) in &tree.pages {
        for (line, label, target) in links_of(text) {
            let Some(path) = inside(page, target) else {
                continue;
            };
            if !tree.has(&path) {
                findings.push(format!("{page}:{line}: {target} is not there"));
            } else if let (Some(name), Some(source)) = (identifier(label), tree.sources.get(&path))
                && !defines(&source.code, name)
            {
                findings.push(format!("{page}:{line}: {path} has no function {name}"));
            }
        }
    }
    findings
}

/// Line, text and target of every link outside fenced blocks.
fn links_of(text: &str) -> Vec<(usize, &str, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (middle, _) in line.match_indices("](") {
            let label = line[..middle]
                .rfind('[')
                .map(|from| &line[from + 1..middle]);
            let rest = &line[middle + 2..];
            if let (Some(label), Some(to)) = (label, rest.find(')')) {
                found.push((index + 1, label, &rest[..to]));
            }
        }
    }
    found
}

/// The path from the root that a target of a page names; none for another site or a place in the page itself.
fn inside(page: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let mut path: Vec<&str> = page.split('/').collect();
    path.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    Some(path.join("/"))
}

fn identifier(label: &str) -> Option<&str> {
    let name = label.strip_prefix('`')?.strip_suffix('`')?;
    let plain = name
        .chars()
        .all(|it| it.is_ascii_alphanumeric() || it == '_');
    (plain && name.contains('_')).then_some(name)
}

fn defines(code: &str, name: &str) -> bool {
    let words: Vec<(usize, &str)> = super::source::words(code).collect();
    words
        .windows(2)
        .any(|pair| pair[0].1 == "fn" && pair[1].1 == name)
}
