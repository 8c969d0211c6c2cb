//! One Rust file as the rules see it: its code without comments and literals, and the paths that code names.

use std::collections::{BTreeMap, BTreeSet};

/// A file's text, and the same with every comment and literal blanked out, line breaks kept.
pub(super) struct Source {
    pub(super) text: String,
    pub(super) code: String,
}

/// A path as `std::fs::read`, written out where an import made it shorter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) path: String,
    pub(super) in_test: bool,
}

impl Source {
    pub(super) fn new(text: String) -> Self {
        let code = blank(&text);
        Self { text, code }
    }

    /// Which line, from 1, a byte of the code stands on.
    pub(super) fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Whether a byte stands in an item marked `#[cfg(test)]`.
    pub(super) fn in_test(&self, at: usize) -> bool {
        const MARKS: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test"];
        MARKS
            .iter()
            .flat_map(|mark| self.code.match_indices(mark))
            .any(|(start, mark)| {
                let rest = &self.code[start + mark.len()..];
                let end = match (rest.find('{'), rest.find(';')) {
                    (Some(brace), semicolon) if semicolon.is_none_or(|it| brace < it) => {
                        closing(rest, brace)
                    }
                    (_, Some(semicolon)) => semicolon,
                    _ => rest.len(),
                };
                (start..start + mark.len() + end).contains(&at)
            })
    }

    /// Every path the code names, in imports and elsewhere.
    pub(super) fn named(&self) -> BTreeSet<Named> {
        let mut named = BTreeSet::new();
        let mut imported = BTreeMap::new();
        let mut uses = Vec::new();
        for (start, _) in words(&self.code).filter(|(_, word)| *word == "use") {
            let end = self.code[start..]
                .find(';')
                .map_or(self.code.len(), |end| start + end);
            uses.push(start..end);
            let mut leaves = Vec::new();
            flatten("", &self.code[start + 3..end], &mut leaves);
            for (path, alias) in leaves {
                let path = path.trim_start_matches("::").to_owned();
                named.insert(Named {
                    line: self.line(start),
                    path: path.clone(),
                    in_test: self.in_test(start),
                });
                imported.insert(alias, path);
            }
        }
        for (start, path) in paths(&self.code) {
            if uses.iter().any(|range| range.contains(&start)) {
                continue;
            }
            let (first, rest) = path.split_once("::").unwrap_or((&path, ""));
            let whole = match imported.get(first) {
                Some(import) if rest.is_empty() => import.clone(),
                Some(import) => format!("{import}::{rest}"),
                None if rest.is_empty() => continue,
                None => path,
            };
            named.insert(Named {
                line: self.line(start),
                path: whole,
                in_test: self.in_test(start),
            });
        }
        named
    }

    /// The modules it declares in files of their own, as `a/b` for one inside an inline module `a`.
    pub(super) fn modules(&self) -> Vec<String> {
        modules_in(&self.code)
    }
}

fn modules_in(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut skip_to = 0;
    for (start, word) in words(code) {
        if start < skip_to || word != "mod" {
            continue;
        }
        let rest = &code[start + 3..];
        let Some((name_at, name)) = words(rest).next() else {
            continue;
        };
        let after = name_at + name.len();
        match rest[after..].trim_start().chars().next() {
            Some(';') => found.push(name.to_owned()),
            Some('{') => {
                let open = after + rest[after..].find('{').unwrap_or_default();
                let close = closing(rest, open);
                found.extend(
                    modules_in(&rest[open + 1..close])
                        .into_iter()
                        .map(|inner| format!("{name}/{inner}")),
                );
                skip_to = start + 3 + close;
            }
            _ => {}
        }
    }
    found
}

/// Where the brace at `open` is closed.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return open + at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Every identifier, keyword and number, with where it starts.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|character| !is_word(character))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr().addr() - code.as_ptr().addr(), word))
}

/// Every `a::b::c`, and every single word.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut paths: Vec<(usize, String)> = Vec::new();
    let mut end = 0;
    for (start, word) in words(code) {
        match paths.last_mut() {
            Some((_, path)) if code[end..start].trim() == "::" => {
                path.push_str("::");
                path.push_str(word);
            }
            _ => paths.push((start, word.to_owned())),
        }
        end = start + word.len();
    }
    paths
}

/// The leaves of `a::{b, c::{d as e}}`, each with the name it gets: `(a::b, b)`, `(a::c::d, e)`.
fn flatten(prefix: &str, tree: &str, leaves: &mut Vec<(String, String)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let prefix = format!("{prefix}{}", tree[..open].trim());
        let inner = &tree[open + 1..closing(tree, open).min(tree.len())];
        let (mut depth, mut from) = (0_usize, 0);
        for (at, character) in inner.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => {
                    flatten(&prefix, &inner[from..at], leaves);
                    from = at + 1;
                }
                _ => {}
            }
        }
        flatten(&prefix, &inner[from..], leaves);
    } else if !tree.is_empty() {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = format!("{prefix}{}", path.trim());
        let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
        let last = path.rsplit("::").next().unwrap_or_default();
        let alias = if alias.is_empty() {
            last.to_owned()
        } else {
            alias.trim().to_owned()
        };
        leaves.push((path, alias));
    }
}

/// Blanks out comments, strings and characters, so that what is left is code; every line break stays.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = literal(rest, text[..at].chars().next_back());
        if length > 0 {
            code.extend(
                rest[..length]
                    .chars()
                    .map(|it| if it == '\n' { '\n' } else { ' ' }),
            );
            at += length;
        } else if let Some(character) = rest.chars().next() {
            code.push(character);
            at += character.len_utf8();
        }
    }
    code
}

/// How long the comment or literal is that `rest` begins with; 0 when it begins with code.
fn literal(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        let mut depth = 0_usize;
        let mut at = 0;
        while at < rest.len() {
            if rest[at..].starts_with("/*") {
                (depth, at) = (depth + 1, at + 2);
            } else if rest[at..].starts_with("*/") {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            } else {
                at += rest[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        return rest.len();
    }
    if !before.is_some_and(is_word) {
        let raw = rest.trim_start_matches(['b', 'c']);
        if let Some(hashes) = raw.strip_prefix('r') {
            let count = hashes.len() - hashes.trim_start_matches('#').len();
            if hashes[count..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(count));
                let opening = rest.len() - hashes.len() + count + 1;
                return rest[opening..]
                    .find(&end)
                    .map_or(rest.len(), |at| opening + at + end.len());
            }
        }
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if let Some(after) = rest.strip_prefix('\'') {
        // 'a' and '\n' are characters, 'a is a lifetime.
        let mut characters = after.chars();
        let first = characters.next();
        if first == Some('\\') || (first.is_some() && characters.next() == Some('\'')) {
            return quoted(rest, '\'');
        }
    }
    0
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            it if it == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(text.to_owned())
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let text =
            "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# l 'm' '\\'' n 'o: b\"p\" q";
        let code = source(text).code;
        let left: Vec<&str> = words(&code).map(|(_, word)| word).collect();
        assert_eq!(left, ["a", "e", "i", "l", "n", "o", "b", "q"]);
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn imports_are_written_out_where_they_are_used() {
        let text = "use std::{fs as files, time::{self, Instant}};\nfn f() { files::read(); time::SystemTime::now(); }";
        let named: Vec<(usize, String)> = source(text)
            .named()
            .into_iter()
            .map(|it| (it.line, it.path))
            .collect();
        let expected = [
            (1, "std::fs"),
            (1, "std::time"),
            (1, "std::time::Instant"),
            (2, "std::fs::read"),
            (2, "std::time::SystemTime::now"),
        ];
        assert_eq!(named, expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn a_test_module_is_told_from_what_stands_around_it() {
        let it = source("fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c } }\nfn d() {}");
        let at = |word: &str| {
            words(&it.code)
                .find(|(_, it)| *it == word)
                .map(|(at, _)| it.in_test(at))
        };
        assert_eq!(
            (at("a"), at("c"), at("d")),
            (Some(false), Some(true), Some(false))
        );
    }

    #[test]
    fn modules_are_found_inside_inline_modules() {
        let it = source("mod a;\npub(crate) mod b { mod c; mod d { mod e; } }\nmod f;\n// mod g;");
        assert_eq!(it.modules(), ["a", "b/c", "b/d/e", "f"]);
    }
}
