//! The lines of docs/guides/review-a-change.md work as they are written, one after the other, and print what stands there.

use std::path::Path;

use anyhow::{Result, ensure};

use super::Place;

/// What a guide says is typed, and what it says is printed.
fn typed(guide: &str) -> Vec<(&str, String)> {
    let blocks = guide.split("```console\n").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
    let mut typed: Vec<(&str, String)> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), typed.last_mut()) {
            (Some(line), _) => typed.push((line, String::new())),
            (None, Some((_, printed))) => *printed += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    typed
}

/// Without the abbreviated ids of commits, which nobody can know before.
fn same_commits(said: &str) -> String {
    let is_id = |word: &str| word.len() == 7 && word.bytes().all(|it| it.is_ascii_hexdigit());
    let words = said.split_inclusive(char::is_whitespace);
    let words = words.map(|word| match is_id(word.trim_end()) {
        true => "COMMIT ",
        false => word,
    });
    words.collect()
}

#[tokio::test]
async fn what_the_guide_says_is_typed_prints_what_stands_there() -> Result<()> {
    let place = Place::with(&[("README.md", "A fleet.\n")]).await?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let fleet = root.join("deploy/example-fleet");
    for folder in ["apps", "clusters"] {
        let copied = std::process::Command::new("cp")
            .arg("-r")
            .args([fleet.join(folder), place.work()])
            .status()?;
        ensure!(copied.success(), "{folder}");
    }
    place.repository.commit_all("The example fleet")?;
    let bin = place.cache.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_shipped-muster"), bin.join("muster"))?;
    let path = std::iter::once(bin).chain(std::env::split_paths(&place.path));
    let path = std::env::join_paths(path)?;
    let guide = std::fs::read_to_string(root.join("docs/guides/review-a-change.md"))?;
    let lines = typed(&guide);
    ensure!(lines.len() > 4, "{lines:?}");
    for (line, printed) in lines {
        let shell = tokio::process::Command::new("/bin/bash")
            .args(["-c", line])
            .current_dir(place.work())
            .env_clear()
            .env("PATH", &path)
            .env("XDG_CACHE_HOME", place.cache.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "N")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "n@example.com")))
            .output()
            .await?;
        let said = String::from_utf8(shell.stdout)? + &String::from_utf8(shell.stderr)?;
        assert_eq!(same_commits(&said), same_commits(&printed), "{line}");
    }
    Ok(())
}
