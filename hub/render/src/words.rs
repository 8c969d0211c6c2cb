//! What a tool says when it fails, as one sentence for people.
//!
//! In: its last words. Out: where they matter, with paths as they are in the repository.

use muster_decide::render::{Job, Values};

use super::folder::Folder;

/// More is cut.
const LONGEST: usize = 600;
/// Stands for what nobody may see.
const MASK: &str = "***";

/// Why a tool failed. `hidden` is shown nowhere: longer ones come first.
pub(super) fn failure(job: &Job, said: &str, folder: &Folder, hidden: &[String]) -> String {
    let mut said = said.to_owned();
    let values = job.release.iter().flat_map(|release| &release.values);
    for (number, values) in values.enumerate() {
        let path = match values {
            Values::File { path, .. } => path,
            Values::Stated(_) => "helm.values",
        };
        said = said.replace(&*folder.values(number).to_string_lossy(), path);
    }
    let files = folder.files();
    sentence(job.tool.name(), &said, &files.to_string_lossy(), hidden)
}

/// Whether these are the last words of a program of Go that got no more memory, before the state of all its threads.
pub(super) fn is_out_of_memory(said: &str) -> bool {
    let last = said
        .lines()
        .find_map(|line| line.strip_prefix("fatal error: "));
    last.is_some_and(|why| why.contains("out of memory") || why.contains("cannot allocate memory"))
}

fn sentence(tool: &str, said: &str, files: &str, hidden: &[String]) -> String {
    let said = said.replace(&format!("{files}/"), "");
    let said = said.replace(files, "the repository");
    // Warnings come first.
    let start = said.rfind("Error: ").map_or(0, |at| at + "Error: ".len());
    let mut said = said[start..].to_owned();
    for text in hidden {
        said = said.replace(text, MASK);
    }
    let mut message = without_quotes_of_yaml(&said);
    message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if message.is_empty() {
        "it failed without a word".clone_into(&mut message);
    }
    if message.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or_default());
        message.push('…');
    }
    format!("{tool}: {message}")
}

/// Go's YAML quotes the beginning of a value that has the wrong type: "cannot unmarshal !!str `begi...` into int".
fn without_quotes_of_yaml(said: &str) -> String {
    let mut words = said.split(" `");
    let mut message = words.next().unwrap_or_default().to_owned();
    for rest in words {
        let is_value = message
            .rsplit(' ')
            .next()
            .is_some_and(|word| word.starts_with("!!"));
        message.push_str(" `");
        match rest.split_once('`') {
            Some((_, after)) if is_value => {
                message.push_str(MASK);
                message.push('`');
                message.push_str(after);
            }
            _ => message.push_str(rest),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_go_without_memory_are_known() {
        for (said, is) in [
            (
                "fatal error: runtime: out of memory\n\nruntime stack:\n",
                true,
            ),
            (
                "runtime: x\nfatal error: runtime: cannot allocate memory\n",
                true,
            ),
            ("Error: out of memory\n", false),
            (
                "fatal error: all goroutines are asleep - deadlock!\n",
                false,
            ),
        ] {
            assert_eq!(is_out_of_memory(said), is, "{said}");
        }
    }

    #[test]
    fn the_last_error_is_one_sentence_with_paths_of_the_repository() {
        for (said, sentence_is) in [
            (
                "# Warning: 'bases' is deprecated.\nError: accumulating resources:\n open /data/x/files/web/a.yaml: no such file\n",
                "kustomize: accumulating resources: open web/a.yaml: no such file",
            ),
            (
                "Error: nothing in '/data/x/files'",
                "kustomize: nothing in 'the repository'",
            ),
            ("panic: out of memory", "kustomize: panic: out of memory"),
            ("", "kustomize: it failed without a word"),
        ] {
            assert_eq!(
                sentence("kustomize", said, "/data/x/files", &[]),
                sentence_is
            );
        }
        let long = sentence("kustomize", &"é".repeat(10_000), "/data", &[]);
        assert!(long.len() < LONGEST + 20 && long.ends_with('…'));
    }

    #[test]
    fn values_of_secrets_are_left_out_also_where_they_are_cut() {
        let hidden = ["hunter2-and-more".to_owned(), "hunter2".to_owned()];
        for (said, sentence_is) in [
            ("Error: bad hunter2-and-more, hunter2", "helm: bad ***, ***"),
            (
                "Error: cannot unmarshal !!str `hunter...` into int and `this`",
                "helm: cannot unmarshal !!str `***` into int and `this`",
            ),
        ] {
            assert_eq!(sentence("helm", said, "/data", &hidden), sentence_is);
        }
    }
}
