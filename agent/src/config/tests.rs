//! What is understood, and what each wrong thing is told.

use super::*;

const KUBECONFIG: &str = r#"{
    "apiVersion": "v1", "kind": "Config", "current-context": "one",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}, {"name": "two", "context": {"cluster": "c", "user": "u"}}]
}"#;

fn token() -> JoinToken {
    JoinToken {
        cluster: "eu-1".parse().unwrap(),
        agents_address: "hub.example:7443".into(),
        enrolment_address: "hub.example:7444".into(),
        ca_sha256: [7; 32],
        secret: "hunter2".into(),
    }
}

/// `muster-agent run LINE` with variables.
fn read(line: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
    let arguments = ["muster-agent", "run"]
        .into_iter()
        .chain(line.split_whitespace());
    let matches = command().try_get_matches_from(arguments)?;
    let run = matches.subcommand_matches("run").unwrap();
    Config::read(run, |name| {
        let found = environment.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn error(line: &str, environment: &[(&str, &str)]) -> String {
    let message = format!("{:#}", read(line, environment).unwrap_err());
    assert!(!message.contains("hunter2"), "{message}");
    message
}

#[test]
fn the_command_line_of_the_readme_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, KUBECONFIG).unwrap();
    let line = format!(
        "--join-token {} --data /tmp/a --kubeconfig {} --context two",
        token(),
        file.display()
    );
    let config = read(&line, &[]).unwrap();
    assert!(matches!(config.options.join, Join::Token(found) if found == token()));
    assert_eq!(
        config.options.credentials,
        Place::Directory("/tmp/a".into())
    );
    assert_eq!(config.options.namespace, "muster-system");
    assert!(
        matches!(config.cluster, ClusterAccess::Kubeconfig { context, .. } if context == "two")
    );
}

#[test]
fn the_arguments_of_the_manifest_are_understood() {
    let manifest = include_str!("../../../deploy/agent.yaml");
    let deployment = manifest.split("\n---\n").last().unwrap();
    let arguments: Vec<&str> = deployment
        .lines()
        .filter_map(|line| line.strip_prefix("            - "))
        .take_while(|line| !line.starts_with("name:"))
        .collect();
    assert_eq!(arguments[0], "run");
    assert!(arguments.len() > 2, "{arguments:?}");
    let token = token().to_string();
    let environment = [
        ("MUSTER_AGENT_JOIN_TOKEN", token.as_str()),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
    ];
    let config = read(&arguments[1..].join(" "), &environment).unwrap();
    let secret = Place::Secret {
        namespace: "muster-system".into(),
        name: "muster-agent".into(),
    };
    assert_eq!(config.options.credentials, secret);
    assert!(matches!(config.options.join, Join::Token(_)));
    match config.cluster {
        ClusterAccess::InCluster {
            server,
            service_account,
        } => {
            assert_eq!(server.to_string(), "https://10.0.0.1:443/");
            let folder = "/var/run/secrets/kubernetes.io/serviceaccount";
            assert_eq!(service_account, Path::new(folder));
        }
        ClusterAccess::Kubeconfig { .. } => panic!("no kubeconfig is named"),
    }
    assert_eq!(config.log_format, LogFormat::Json);
    assert!(manifest.contains("name: MUSTER_AGENT_JOIN_TOKEN\n"));
}

#[test]
fn a_pod_is_told_its_api_server_by_name_or_by_either_kind_of_address() {
    for (host, port, expected) in [
        ("10.0.0.1", "443", "https://10.0.0.1:443/"),
        ("fd00::1", "6443", "https://[fd00::1]:6443/"),
        ("api.example", "443", "https://api.example:443/"),
    ] {
        let environment = [
            ("KUBERNETES_SERVICE_HOST", host),
            ("KUBERNETES_SERVICE_PORT", port),
        ];
        let config = read("--data d", &environment).unwrap();
        match config.cluster {
            ClusterAccess::InCluster { server, .. } => assert_eq!(server.to_string(), expected),
            ClusterAccess::Kubeconfig { .. } => panic!("no kubeconfig is named"),
        }
    }
    let environment = [
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", "tcp://10.0.0.1:443"),
    ];
    assert_eq!(
        error("--data d", &environment).split(',').next(),
        Some(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT give \"https://10.0.0.1:tcp://10.0.0.1:443\""
        )
    );
}

#[tokio::test]
async fn a_pod_without_a_service_account_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    let line = format!("--data d --service-account {}", folder.path().display());
    let access = read(&line, &pod).unwrap().cluster;
    let message = format!("{:#}", access.client().await.err().unwrap());
    let expected = format!(
        "the ServiceAccount of this Pod can't be read ({}/token): is automountServiceAccountToken off?",
        folder.path().display()
    );
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn a_flag_wins_over_a_variable() {
    let pod = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let environment = [
        pod,
        ("MUSTER_AGENT_NAMESPACE", "a"),
        ("MUSTER_AGENT_HUB", "h:1"),
    ];
    let config = read("--data d --namespace b", &environment).unwrap();
    assert_eq!(config.options.namespace, "b");
    assert_eq!(config.options.hub.as_deref(), Some("h:1"));
}

#[test]
fn a_token_file_that_is_gone_is_only_an_error_for_a_newcomer() {
    let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    let config = read("--data d --join-token-file /nowhere/token", &pod).unwrap();
    match config.options.join {
        Join::Absent(why) => assert_eq!(why, "--join-token-file /nowhere/token is not there"),
        Join::Token(_) => panic!("there is no file"),
    }
}

#[test]
fn the_proxy_is_taken_from_either_spelling() {
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let environment = [
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            (name, "http://proxy:3128"),
            ("no_proxy", "near.example"),
        ];
        let proxies = read("--data d", &environment).unwrap().options.proxies;
        assert!(proxies.on_the_way_to("hub.example:7443").is_some());
        assert!(proxies.on_the_way_to("near.example:7443").is_none());
    }
}

#[test]
fn what_is_wrong_is_told_with_the_flag_and_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, KUBECONFIG).unwrap();
    let file = file.display();
    let token = token().to_string();
    let cut = &token[..token.len() - 9];
    let cases = [
        (
            "".to_owned(),
            "the agent must keep its key somewhere: add --data DIR, or in a cluster --credentials-secret NAMESPACE/NAME",
        ),
        (
            "--data d".into(),
            "this is not inside a cluster: add --kubeconfig FILE, or --context NAME of your kubeconfig",
        ),
        (
            "--data d --credentials-secret a/b".into(),
            "--data and --credentials-secret exclude each other: leave one out",
        ),
        (
            "--credentials-secret b".into(),
            "--credentials-secret \"b\" must be NAMESPACE/NAME, such as muster-system/muster-agent",
        ),
        (
            "--data d --hub https://hub:1".into(),
            "--hub \"https://hub:1\" must be HOST:PORT, without a scheme",
        ),
        (
            "--data d --namespace A".into(),
            "--namespace \"A\" must be lower-case letters, digits and '-', at most 63",
        ),
        (
            format!("--data d --join-token {cut}"),
            "--join-token: this is no join token (",
        ),
        (
            format!("--data d --join-token {token} --join-token-file f"),
            "--join-token and --join-token-file say the same thing: leave one out",
        ),
        (
            format!("--data d --join-token-file {file}"),
            "--join-token-file ",
        ),
        (format!("--data {file} --kubeconfig {file}"), "--data "),
        (
            format!("--data d --kubeconfig {file} --context three"),
            "--kubeconfig: the kubeconfig has no context \"three\": choose one of one, two",
        ),
        (
            "--data d --kubeconfig /nowhere".into(),
            "--kubeconfig: kubeconfig /nowhere can't be used: ",
        ),
        (
            format!("--data d --kubeconfig {file} --log-format xml"),
            "--log-format \"xml\" must be text or json",
        ),
        (
            format!("--data d --kubeconfig {file} --log =="),
            "--log \"==\" is no log filter (",
        ),
    ];
    for (line, expected) in cases {
        let message = error(&line, &[]);
        assert!(message.starts_with(expected), "{line}: {message}");
    }
    let environment = [("MUSTER_AGENT_JOIN_TOKEN", cut)];
    assert!(
        error("--data d", &environment)
            .starts_with("MUSTER_AGENT_JOIN_TOKEN: this is no join token (")
    );
    let environment = [("HTTPS_PROXY", "socks5://u:hunter2@p:1")];
    assert!(error("--data d", &environment).starts_with("HTTPS_PROXY: not a proxy ("));
}

#[test]
fn the_reference_names_every_flag_and_no_other() {
    let reference = include_str!("../../../docs/reference/agent.md");
    let rows = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `--"));
    let documented: Vec<&str> = rows
        .map(|row| row.split([' ', '`']).next().unwrap())
        .collect();
    let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(documented, known);
}
