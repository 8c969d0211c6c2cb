//! The lines of README.md under "By hand" work as they are written, one after the other, and print what stands there.
//!
//! A line is tried again until it succeeds and prints what is shown, as a person would; those that end in `&` go on.
//! The ports are others than in the text, because somebody may be using these.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use muster_tests::supervisor::{Folder, Process, testbed};
use muster_tests::wait;
use muster_tests::world::SOON;

/// A line to type, and what it prints; every word of that must be there.
#[derive(Debug, PartialEq)]
struct Line {
    typed: String,
    printed: Vec<String>,
}

/// The `console` blocks of a text.
fn lines(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let (mut inside, mut heredoc) = (false, false);
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let (true, Some(last)) = (heredoc, lines.last_mut()) {
            last.typed.push('\n');
            last.typed.push_str(line);
            heredoc = line != "EOF";
        } else if let (true, Some(typed)) = (inside, line.strip_prefix("$ ")) {
            heredoc = typed.ends_with("<<'EOF'");
            lines.push(Line {
                typed: typed.to_owned(),
                printed: Vec::new(),
            });
        } else if let (true, Some(last)) = (inside, lines.last_mut()) {
            last.printed.push(line.to_owned());
        }
    }
    lines
}

/// One shell session: a folder, exported variables, and what runs in the background.
struct Shell {
    folder: Folder,
    exports: Vec<String>,
    background: Vec<Process>,
}

impl Shell {
    /// A script that begins where the session is.
    fn script(&self, line: &str) -> String {
        let exports = self.exports.join("\n");
        format!(
            "set -e\ncd '{}'\n{exports}\n{line}\n",
            self.folder.path.display()
        )
    }

    async fn type_in(&mut self, line: &Line) -> Result<String> {
        if line.typed.starts_with("export ") {
            self.exports.push(line.typed.clone());
            return Ok(String::new());
        }
        if let Some(command) = line.typed.strip_suffix(" &") {
            let log = format!("background-{}.log", self.background.len());
            let script = self.script(&format!("tail -f /dev/null | {command}"));
            let log = self.folder.path.join(log);
            let process = Process::spawn(Path::new("/bin/bash"), ["-c", &script], &[], &log)?;
            self.background.push(process);
            return Ok(String::new());
        }
        let script = self.script(&line.typed);
        wait::until(&line.typed, SOON, async || {
            let shell = tokio::process::Command::new("/bin/bash")
                .args(["-c", &script])
                .output()
                .await?;
            let out = String::from_utf8(shell.stdout)?;
            let err = String::from_utf8_lossy(&shell.stderr);
            ensure!(shell.status.success(), "{out}{err}");
            for word in line.printed.iter().flat_map(|line| line.split_whitespace()) {
                ensure!(
                    out.split_whitespace().any(|found| found == word),
                    "{out}{err}"
                );
            }
            Ok(out)
        })
        .await
        .with_context(|| {
            let logs = self.background.iter().map(Process::log_tail);
            logs.collect::<Vec<_>>().join("\n")
        })
    }
}

#[tokio::test]
async fn the_lines_by_hand_work_as_they_are_written() -> Result<()> {
    // The programs are built already, and lie beside each other.
    let programs = testbed()?;
    let programs = programs.parent().context("a folder")?;
    let folder = Folder::new("readme")?;
    let bin = folder.path.join("bin");
    std::fs::create_dir(&bin)?;
    for (name, first) in [
        ("muster-hub", "hub"),
        ("muster-agent", "agent"),
        ("muster", "muster"),
    ] {
        let script = format!(
            "#!/bin/sh\nexec '{}/testbed' {first} \"$@\"\n",
            programs.display()
        );
        std::fs::write(bin.join(name), script)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bin.join(name), mode)?;
    }
    let free = || -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(listener.local_addr()?.port().to_string())
    };
    let (git, api) = (free()?, free()?);
    let config = folder.path.join("muster.yaml");
    let exports = vec![
        format!("export PATH={}:{}:$PATH", bin.display(), programs.display()),
        "export MUSTER_HUB_AGENTS_LISTEN=127.0.0.1:0 MUSTER_HUB_ENROLMENT_LISTEN=127.0.0.1:0"
            .to_owned(),
        format!("export MUSTER_HUB_API_LISTEN=127.0.0.1:{api} MUSTER_SERVER=127.0.0.1:{api}"),
        // Not the contexts, nor the name, of whoever runs this.
        format!("export MUSTER_CONFIG={}", config.display()),
        "export GIT_AUTHOR_NAME=N GIT_AUTHOR_EMAIL=n@example.com".to_owned(),
        "export GIT_COMMITTER_NAME=N GIT_COMMITTER_EMAIL=n@example.com".to_owned(),
    ];
    let mut shell = Shell {
        folder,
        exports,
        background: Vec::new(),
    };
    let readme = include_str!("../../../README.md");
    let (_, by_hand) = readme.split_once("\n## By hand\n").context("the section")?;
    let by_hand = by_hand.replace("8480", &git).replace("7445", &api);
    let lines = lines(&by_hand);
    // Built, put on the PATH, a folder of its own: all done above.
    let (before, lines) = lines.split_at(3);
    assert_eq!(before[0].typed, "cargo build --bins");
    assert!(lines.len() > 20, "{lines:#?}");
    for line in lines {
        let printed = shell.type_in(line).await?;
        if line.typed.starts_with("muster cluster join") {
            let to_paste: Vec<&str> = printed.lines().rev().take(2).collect();
            for (line, behind) in [(to_paste[1], ""), (to_paste[0], " &")] {
                let line = Line {
                    typed: format!("{line}{behind}"),
                    printed: Vec::new(),
                };
                shell.type_in(&line).await?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_here_document_belongs_to_its_line() {
    let text = "```console\n$ cat > a <<'EOF'\nb: 1\nEOF\n$ cat a\nb: 1\n```\n$ not this\n";
    let line = |typed: &str, printed: &[&str]| Line {
        typed: typed.to_owned(),
        printed: printed.iter().map(|line| (*line).to_owned()).collect(),
    };
    let expected = [
        line("cat > a <<'EOF'\nb: 1\nEOF", &[]),
        line("cat a", &["b: 1"]),
    ];
    assert_eq!(lines(text), expected);
}
