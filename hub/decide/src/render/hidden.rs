//! Values that a tool might quote when it fails, and nobody may see.
//!
//! In: the files of a job. Out: every text in them that is, or looks like, the value of a Secret.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::tool::{Job, Values};
use crate::model::application::join;
use crate::model::split;
use crate::snapshot::is_read;
use crate::yaml::{self, Node, Value};

/// What is shorter is no secret, and hiding it would make any sentence unreadable.
const SHORTEST: usize = 4;
/// Keys of secret values end with one of these, whatever their case.
const TELLING: [&str; 9] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "credentials",
    "apikey",
    "accesskey",
    "privatekey",
];

/// What to hide in the words of a tool, longer ones first. `read` gives the files of the job by path.
pub fn hidden(job: &Job, read: impl Fn(&str) -> Option<Bytes>) -> Vec<String> {
    let mut found = Found::default();
    for path in job.files.keys().filter(|path| is_read(path)) {
        let documents = read(path).and_then(|bytes| yaml::documents(&bytes).ok());
        for document in documents.unwrap_or_default() {
            found.document(&document);
            for file in generated(&document) {
                let file = join(split(path).0, file).ok();
                let content = file.and_then(|file| read(&file));
                if let Some(content) = content {
                    found.put(&String::from_utf8_lossy(&content));
                }
            }
        }
    }
    let stated = job.release.iter().flat_map(|release| &release.values);
    for values in stated {
        let bytes = match values {
            Values::Stated(json) => json.as_bytes(),
            Values::File { content, .. } => content,
        };
        let documents = yaml::documents(bytes).unwrap_or_default();
        documents.iter().for_each(|values| found.document(values));
    }
    let mut texts: Vec<_> = found.0.into_iter().collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts
}

#[derive(Default)]
struct Found(BTreeSet<String>);

impl Found {
    fn document(&mut self, document: &Node) {
        if document.text(&["kind"]) == Some("Secret") {
            for field in ["data", "stringData"] {
                if let Some(values) = document.get(field) {
                    self.all(values);
                }
            }
        }
        self.telling(document);
        for generator in list(document, "secretGenerator") {
            for literal in list(generator, "literals") {
                self.all(literal);
            }
        }
    }

    /// Values below keys that say what they are.
    fn telling(&mut self, node: &Node) {
        match &node.value {
            Value::Map(entries) => {
                for (key, value) in entries {
                    let name = key.text.to_lowercase().replace(['-', '_'], "");
                    if TELLING.iter().any(|telling| name.ends_with(telling)) {
                        self.all(value);
                    } else {
                        self.telling(value);
                    }
                }
            }
            Value::List(items) => items.iter().for_each(|item| self.telling(item)),
            _ => {}
        }
    }

    /// Every scalar.
    fn all(&mut self, node: &Node) {
        match &node.value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => self.put(&number.to_string()),
            Value::Text(text) => self.put(text),
            Value::List(items) => items.iter().for_each(|item| self.all(item)),
            Value::Map(entries) => entries.iter().for_each(|(_, value)| self.all(value)),
        }
    }

    /// Line by line, and what stands after the `=` of a line.
    fn put(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            let value = line.split_once('=').map(|(_, value)| value.trim());
            for text in value.into_iter().chain([line]) {
                if text.len() >= SHORTEST {
                    self.0.insert(text.to_owned());
                }
            }
        }
    }
}

/// The files that secrets are generated from.
fn generated(document: &Node) -> impl Iterator<Item = &str> {
    list(document, "secretGenerator")
        .iter()
        .flat_map(|generator| {
            let listed = ["files", "envs"].map(|field| list(generator, field).iter());
            let listed = listed
                .into_iter()
                .flatten()
                .filter_map(|item| item.text(&[]));
            let listed = listed.map(|text| text.split_once('=').map_or(text, |(_, path)| path));
            listed.chain(generator.text(&["env"]))
        })
}

fn list<'n>(node: &'n Node, field: &str) -> &'n [Node] {
    match node.get(field).map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Tool;

    #[test]
    fn values_of_secrets_and_of_keys_that_tell_are_hidden_and_others_are_not() {
        let files = [
            (
                "a/kustomization.yaml",
                "secretGenerator:\n- name: x\n  literals: [user=literally]\n  files: [pem=cert.pem]\n  env: x.env\nnamePrefix: visible-\n",
            ),
            ("a/cert.pem", "first line\nsecond line\n"),
            ("a/x.env", "PIN=12345\n"),
            (
                "a/secret.yaml",
                "kind: Secret\nmetadata: {name: visible}\nstringData: {login: hunter2, a: abc}\n",
            ),
            (
                "a/values.yaml",
                "db: {ROOT_PASSWORD: {value: swordfish}, secretName: visible}\n",
            ),
        ];
        let job = Job {
            tool: Tool::Kustomize,
            folder: "a".into(),
            files: files
                .map(|(path, _)| (path.to_owned(), String::new()))
                .into(),
            given: Default::default(),
            release: None,
        };
        let read = |path: &str| {
            let file = files.iter().find(|(at, _)| *at == path);
            file.map(|(_, text)| Bytes::copy_from_slice(text.as_bytes()))
        };
        assert_eq!(
            hidden(&job, read),
            [
                "user=literally",
                "second line",
                "first line",
                "PIN=12345",
                "literally",
                "swordfish",
                "hunter2",
                "12345"
            ]
        );
    }
}
