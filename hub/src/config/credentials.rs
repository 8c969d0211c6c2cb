//! Credentials that the environment holds: `MUSTER_HUB_CREDENTIAL_TEAM_PASSWORD` is the file `password` of the credential
//! `team`, in the place of a folder that `--credentials` names.
//!
//! In: all variables. Out: [`Credentials`], which [`Credentials::folder`] puts where such a folder would be: ssh takes
//! files, and one way to read them is enough.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use anyhow::{Context, bail};
use muster_decide::nearest::did_you_mean;
use tempfile::TempDir;

use super::{Environment, Secret};

const PREFIX: &str = "MUSTER_HUB_CREDENTIAL_";
/// What a credential may hold, by how a variable ends.
const FILES: [(&str, &str); 6] = [
    ("_URL", "url"),
    ("_PASSWORD", "password"),
    ("_USERNAME", "username"),
    ("_CA_CRT", "ca.crt"),
    ("_IDENTITY", "identity"),
    ("_KNOWN_HOSTS", "known_hosts"),
];

/// By name, then by file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials(BTreeMap<String, BTreeMap<&'static str, Secret>>);

impl Credentials {
    /// Those of the environment. An empty variable counts as not set.
    ///
    /// # Errors
    /// When a variable ends in nothing that a credential has, or a credential does not say what it is for.
    pub(super) fn read(environment: &Environment) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for (variable, text) in environment.range(PREFIX.to_owned()..) {
            let Some(rest) = variable.strip_prefix(PREFIX) else {
                break;
            };
            if text.is_empty() {
                continue;
            }
            let known = FILES
                .iter()
                .find_map(|(end, file)| Some((rest.strip_suffix(end)?, file)));
            let Some((name, file)) = known.filter(|(name, _)| !name.is_empty()) else {
                let last = rest.rsplit_once('_').map_or(rest, |(_, last)| last);
                let ends = FILES.map(|(end, _)| &end[1..]);
                bail!(
                    "{variable} is no part of a credential: write {PREFIX}NAME_ and one of {}{}",
                    ends.join(", "),
                    did_you_mean(last, ends)
                );
            };
            let name = name.to_lowercase().replace('_', "-");
            let of = all.0.entry(name).or_default();
            of.insert(file, Secret(text.clone().into_bytes()));
        }
        for (name, files) in &all.0 {
            if !files.contains_key("url") {
                let variable = name.to_uppercase().replace('-', "_");
                bail!(
                    "{PREFIX}{variable}_URL is missing: say there which beginnings of URLs the credential {name} is for, a line each"
                );
            }
        }
        Ok(all)
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A folder with a folder for each, which nobody else can read and which goes when it is dropped.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn folder(&self) -> anyhow::Result<TempDir> {
        let write = || -> std::io::Result<TempDir> {
            let folder = tempfile::Builder::new()
                .prefix("muster-credentials-")
                .tempdir()?;
            for (name, files) in &self.0 {
                let of = folder.path().join(name);
                std::fs::DirBuilder::new().mode(0o700).create(&of)?;
                for (file, Secret(bytes)) in files {
                    let mut options = std::fs::OpenOptions::new();
                    let mut file = options
                        .write(true)
                        .create_new(true)
                        .mode(0o600)
                        .open(of.join(file))?;
                    file.write_all(bytes)?;
                    // A key without its last line end is none.
                    if bytes.last() != Some(&b'\n') {
                        file.write_all(b"\n")?;
                    }
                }
            }
            Ok(folder)
        };
        write().context(
            "the credentials of the environment can't be put into a folder of their own (TMPDIR)",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<Credentials> {
        let variables = variables.iter();
        let text = |(name, text): &(&str, &str)| (format!("{PREFIX}{name}"), (*text).to_owned());
        Credentials::read(&variables.map(text).collect())
    }

    #[test]
    fn a_variable_is_a_file_of_a_credential() {
        let credentials = read(&[
            ("TEAM_A_URL", "https://git.example/team/"),
            ("TEAM_A_PASSWORD", "hunter2"),
            ("TEAM_A_CA_CRT", ""),
            ("DEPLOY_URL", "git@git.example:"),
            ("DEPLOY_IDENTITY", "a key\n"),
            ("DEPLOY_KNOWN_HOSTS", "git.example ssh-ed25519 AAAA"),
        ])
        .unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
        let folder = credentials.folder().unwrap();
        let mut found = Vec::new();
        for name in ["deploy", "team-a"] {
            for entry in std::fs::read_dir(folder.path().join(name)).unwrap() {
                let entry = entry.unwrap();
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let file = entry.file_name().into_string().unwrap();
                found.push(format!("{name}/{file} {mode:o} {}", text.escape_debug()));
            }
        }
        found.sort();
        assert_eq!(
            found,
            [
                "deploy/identity 600 a key\\n",
                "deploy/known_hosts 600 git.example ssh-ed25519 AAAA\\n",
                "deploy/url 600 git@git.example:\\n",
                "team-a/password 600 hunter2\\n",
                "team-a/url 600 https://git.example/team/\\n",
            ]
        );
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
        assert!(read(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_part_of_a_credential_is_named_without_its_value() {
        let said = [
            vec![
                ("TEAM_URL", "https://git.example/"),
                ("TEAM_PASSWROD", "hunter2"),
            ],
            vec![("TEAM_PASSWORD", "hunter2")],
            vec![("URL", "https://git.example/")],
        ];
        let said = said.map(|variables| read(&variables).unwrap_err().to_string());
        insta::assert_snapshot!(said.join("\n"), @r#"
        MUSTER_HUB_CREDENTIAL_TEAM_PASSWROD is no part of a credential: write MUSTER_HUB_CREDENTIAL_NAME_ and one of URL, PASSWORD, USERNAME, CA_CRT, IDENTITY, KNOWN_HOSTS; did you mean "PASSWORD"?
        MUSTER_HUB_CREDENTIAL_TEAM_URL is missing: say there which beginnings of URLs the credential team is for, a line each
        MUSTER_HUB_CREDENTIAL_URL is no part of a credential: write MUSTER_HUB_CREDENTIAL_NAME_ and one of URL, PASSWORD, USERNAME, CA_CRT, IDENTITY, KNOWN_HOSTS; did you mean "URL"?
        "#);
    }
}
