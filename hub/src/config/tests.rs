//! What a person reads when the configuration is wrong, and which source wins.

use super::*;

use std::io::Write as _;
use std::time::Duration;

fn read(flags: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
    let arguments = format!("muster-hub serve {flags}");
    let matches = command().try_get_matches_from(arguments.split_whitespace())?;
    let variable = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let environment = environment.iter().map(variable).collect();
    Config::read(matches.subcommand_matches("serve").unwrap(), &environment)
}

fn problem(flags: &str) -> String {
    format!("{:#}", read(flags, &[]).unwrap_err())
}

const LEAST: &str = "--data /d --repo https://git.example/fleet";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// An error without the temporary file's own name.
fn problem_in(file: &tempfile::NamedTempFile, flags: &str) -> String {
    let path = file.path().display().to_string();
    problem(flags).replace(&path, "FILE")
}

#[test]
fn data_and_repository_are_all_it_needs() {
    insta::assert_debug_snapshot!(read(LEAST, &[]).unwrap(), @r#"
    Config {
        data: "/d",
        repository: Repository {
            url: "https://git.example/fleet",
            branch: "main",
            path: "",
            token_file: None,
            username: "x-access-token",
            ca_file: None,
            ssh_key_file: None,
            known_hosts_file: None,
            allowed_signers_file: None,
            gpg_keys_file: None,
            poll: 60s,
        },
        credentials: None,
        given_credentials: Credentials(
            {},
        ),
        agents_listen: 127.0.0.1:7443,
        enrolment_listen: 127.0.0.1:7444,
        api_listen: 127.0.0.1:7445,
        advertise_agents: None,
        advertise_enrolment: None,
        webhook_secret: None,
        rendering: Rendering {
            tools: {
                Kustomize: Search(
                    [],
                ),
                Helm: Search(
                    [],
                ),
            },
            concurrency: None,
            timeout: 60s,
            cache_size: 1073741824,
            allow_unconfined: false,
            by: Hub,
            jail: None,
        },
        plans: PlanLimits {
            at_once: 4,
            waiting: 32,
            fetch: 180s,
            whole: 900s,
            disk: 2147483648,
        },
        log_format: Text,
        log: "info",
    }
    "#);
}

#[test]
fn a_flag_wins_over_the_environment_the_environment_over_the_file_the_file_over_the_default() {
    let file = file("poll: 2m\nbranch: from-file\npath: from-file\nagents-listen: 127.0.0.1:1\n");
    let flags = format!(
        "{LEAST} --config {} --branch from-flag",
        file.path().display()
    );
    let environment = [
        ("MUSTER_HUB_BRANCH", "from-env"),
        ("MUSTER_HUB_PATH", "from-env"),
        ("MUSTER_HUB_POLL", ""),
    ];
    let config = read(&flags, &environment).unwrap();
    assert_eq!(config.repository.branch, "from-flag");
    assert_eq!(config.repository.path, "from-env");
    assert_eq!(config.repository.poll, Duration::from_secs(120));
    assert_eq!(config.agents_listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(config.api_listen, "127.0.0.1:7445".parse().unwrap());
}

#[test]
fn the_file_may_come_from_the_environment() {
    let file = file("data: /d\nrepo: https://git.example/fleet\n");
    let path = file.path().display().to_string();
    assert_eq!(
        read("", &[("MUSTER_HUB_CONFIG", &path)]).unwrap().data,
        PathBuf::from("/d")
    );
}

#[test]
fn what_is_missing_is_named_with_the_three_ways_to_give_it() {
    insta::assert_snapshot!(problem("--data /d"), @"--repo is missing: give it as a flag, as MUSTER_HUB_REPO or in the --config file");
}

#[test]
fn an_unknown_field_of_the_file_names_its_line_and_the_nearest_known() {
    let file = file("data: /d\nagent-listen: 127.0.0.1:1\n");
    let flags = format!("--config {}", file.path().display());
    insta::assert_snapshot!(problem_in(&file, &flags), @r#"FILE:2: "agent-listen" is no setting; did you mean "agents-listen"?"#);
}

#[test]
fn a_wrong_value_in_the_file_names_its_line() {
    let file = file("data: /d\nrepo: https://git.example/fleet\npoll: 60\n");
    let flags = format!("--config {}", file.path().display());
    insta::assert_snapshot!(problem_in(&file, &flags), @r#"poll at FILE:3: "60" is no time: write a number and a unit, such as 30s, 5m or 1h"#);
}

#[test]
fn a_file_that_is_no_mapping_says_what_a_file_is() {
    let file = file("- data\n- repo\n");
    let said = problem_in(&file, &format!("--config {}", file.path().display()));
    insta::assert_snapshot!(said, @"FILE:1: a configuration file is lines of `setting: value`");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    insta::assert_snapshot!(problem("--config /does/not/exist.yaml"), @"can't read the configuration file /does/not/exist.yaml: No such file or directory (os error 2)");
}

#[test]
fn a_wrong_variable_is_named() {
    let error = read(LEAST, &[("MUSTER_HUB_API_LISTEN", "7445")]).unwrap_err();
    insta::assert_snapshot!(error, @r#"MUSTER_HUB_API_LISTEN: "7445" is no address to listen on: write IP:PORT, or :PORT for every address"#);
}

#[test]
fn wrong_values_say_what_to_write() {
    let said: Vec<String> = [
        "--poll often",
        "--poll 1ms",
        "--agents-listen hub.example:7443",
        "--enrolment-listen :7444",
        "--advertise-agents hub.example",
        "--advertise-agents 0.0.0.0:7443",
        "--branch a..b",
        "--path ../other",
        "--log-format xml",
        "--log =x=",
        "--webhook-secret-file /does/not/exist",
        "--repo-token-file /dev/null",
        "--repo-ssh-key-file /d/key",
    ]
    .map(|flag| problem(&format!("{LEAST} {flag}")))
    .into();
    insta::assert_snapshot!(said.join("\n"), @r#"
    --poll: "often" is no time: write a number and a unit, such as 30s, 5m or 1h
    --poll: "1ms" is too often: at least 100ms
    --agents-listen: "hub.example:7443" is no address to listen on: write IP:PORT, or :PORT for every address
    --enrolment-listen listens on every address, so agents must be told one: add --advertise-enrolment HOST:PORT
    --advertise-agents: "hub.example" is no address to dial: write HOST:PORT
    --advertise-agents: "0.0.0.0:7443" can't be dialled: write a host name or a real IP
    --branch: "a..b" is no branch name
    --path: "../other" must be a folder inside the repository
    --log-format: "xml" is neither `text` nor `json`
    --log: "=x=" is no log filter: invalid filter directive; write such as info,muster_hub=debug
    --webhook-secret-file: "/does/not/exist" can't be read: No such file or directory (os error 2)
    --repo-token-file: "/dev/null" is an empty file
    --repo-ssh-key-file is for ssh repositories, and --repo is https://git.example/fleet: leave one out
    "#);
}

#[test]
fn repositories_are_urls_without_credentials() {
    for good in [
        "https://h/p",
        "http://127.0.0.1:80/p",
        "ssh://git@h/p",
        "git@h:p.git",
        "file:///p",
    ] {
        assert_eq!(values::repository_url(good), Ok(good.to_owned()));
    }
    let said: Vec<String> = [
        "fleet",
        "/p",
        "file://p",
        "https:///p",
        "https://user:hunter2@h/p",
    ]
    .map(|url| problem(&format!("--data /d --repo {url}")))
    .into();
    insta::assert_snapshot!(said.join("\n"), @r#"
    --repo: "fleet" is no repository: write https://…, http://…, ssh://…, git@HOST:PATH or file:///…
    --repo: "/p" is no repository: write https://…, http://…, ssh://…, git@HOST:PATH or file:///…
    --repo: "file://p" needs an absolute path: write file:///…
    --repo: "https:///p" has no host
    --repo: "https://…@h/p" must not hold credentials: put the token into a file and name it with --repo-token-file
    "#);
    assert!(!said.join("").contains("hunter2"));
}

#[test]
fn the_webhook_secret_is_read_without_its_line_end_and_never_shown() {
    let file = file("hunter2\n");
    let config = read(
        &format!("{LEAST} --webhook-secret-file {}", file.path().display()),
        &[],
    )
    .unwrap();
    assert_eq!(config.webhook_secret, Some(Secret(b"hunter2".to_vec())));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn listening_on_every_address_is_fine_once_agents_are_told_one() {
    let config = read(
        &format!("{LEAST} --agents-listen :0 --advertise-agents hub.example:443"),
        &[],
    )
    .unwrap();
    assert_eq!(config.agents_listen, "0.0.0.0:0".parse().unwrap());
    assert_eq!(config.advertise_agents.as_deref(), Some("hub.example:443"));
}

#[test]
fn a_token_is_never_meant_for_plain_http() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "token").unwrap();
    let token = file.path().display();
    let told = problem(&format!(
        "--data /d --repo http://git.example/fleet --repo-token-file {token}"
    ));
    insta::assert_snapshot!(told, @"--repo is http://git.example/fleet, and the token of --repo-token-file would go there in clear text: write an https:// URL, or leave the token out");
}

#[test]
fn the_reference_and_the_help_name_every_setting_with_its_default_and_no_other() {
    let reference = include_str!("../../../docs/reference/hub.md");
    let rows = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `--"));
    let documented: Vec<(&str, &str, &str)> = rows
        .map(|row| {
            let mut cells = row.split('|').map(str::trim);
            let flag = cells.next().unwrap().trim_end_matches('`');
            // A switch may be told its value, too: `--name[=VALUE]`.
            let flag = flag.trim_end_matches(']');
            let (name, value) = flag.split_once("[=").or(flag.split_once(' ')).expect(flag);
            let default = cells.next().unwrap().trim_matches('`');
            (name, value, default)
        })
        .collect();
    let config = ("config", "FILE", "");
    let known = SETTINGS.iter().map(|setting| {
        let default = setting.default.unwrap_or_default();
        (setting.name, setting.value, default)
    });
    let known: Vec<_> = std::iter::once(config).chain(known).collect();
    assert_eq!(documented, known);

    let mut command = command();
    let serve = command.find_subcommand_mut("serve").unwrap();
    let help = serve.render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, value, default) in documented {
        let variable = format!(
            "[env: MUSTER_HUB_{}]",
            name.to_uppercase().replace('-', "_")
        );
        let flags = [
            format!("--{name} <{value}>"),
            format!("--{name}[=<{value}>]"),
        ];
        let told = flags.iter().find_map(|flag| help.split_once(flag));
        let (_, told) = told.unwrap();
        let (told, _) = told.split_once("[env: ").unwrap();
        assert!(help.contains(&variable), "{variable} in {help}");
        let shown = format!("[default: {default}]");
        assert!(
            default.is_empty() || told.contains(&shown),
            "{name}: {told}"
        );
    }
}

#[test]
fn programs_that_render_are_looked_for_on_the_path_unless_told_otherwise() {
    let tool = |flags: &str| {
        let path = [("PATH", "/opt/bin:relative:/usr/bin")];
        let config = read(&format!("{LEAST} {flags}"), &path).unwrap();
        config.rendering.tools[&Tool::Kustomize].clone()
    };
    let folders = vec!["/opt/bin".into(), "/usr/bin".into()];
    assert_eq!(tool(""), ToolFile::Search(folders));
    assert_eq!(
        tool("--kustomize /x/kustomize"),
        ToolFile::At("/x/kustomize".into())
    );
    assert_eq!(tool("--kustomize none"), ToolFile::None);

    let unconfined = |flags: &str| {
        let config = read(&format!("{LEAST} {flags}"), &[]).unwrap();
        config.rendering.allow_unconfined
    };
    assert!(unconfined("--allow-unconfined-render"));
    assert!(unconfined("--allow-unconfined-render=yes"));
    assert!(!unconfined("--allow-unconfined-render=no"));

    for (flags, says) in [
        (
            "--kustomize kustomize",
            "--kustomize: \"kustomize\" is no path: write such as /usr/local/bin/kustomize, or `none`",
        ),
        (
            "--render-timeout 10ms",
            "--render-timeout: \"10ms\" is too short: at least 1s",
        ),
        (
            "--render-cache 7",
            "--render-cache: \"7\" is no size: write a number and a unit, such as 512MiB or 2GiB",
        ),
        (
            "--render-concurrency 0",
            "--render-concurrency: \"0\" is no number of at least 1",
        ),
    ] {
        assert_eq!(problem(&format!("{LEAST} {flags}")), says);
    }
}

#[test]
fn credentials_are_in_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let flags = format!("{LEAST} --credentials {}", folder.path().display());
    let given = [("MUSTER_HUB_CREDENTIAL_TEAM_URL", "https://git.example/")];
    let both = read(&flags, &given).unwrap_err().to_string();
    assert!(
        both.starts_with("--credentials names a folder of credentials"),
        "{both}"
    );
    assert!(!read(LEAST, &given).unwrap().given_credentials.is_empty());
}
