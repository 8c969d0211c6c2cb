//! A reviewer puts a branch to the API server before it is merged: what would fail after the merge is said before, and
//! nothing is written.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use muster_cli::ExitCode;
use muster_tests::git::git;
use muster_tests::wait;
use muster_tests::world::SOON;
use serde_json::{Value, json};

use super::scenario::{Scenario, application, config_map, objects, unique};

const WRONG: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: wrong}
spec:
  replicas: -1
  selector: {matchLabels: {app: wrong}}
  template:
    metadata: {labels: {app: wrong}}
    spec: {containers: [{name: wrong, image: example.com/wrong:1}]}
";

fn fixed(value: &str) -> (String, String) {
    let (path, text) = config_map("shop", "fixed", "a", value);
    (path, format!("{text}immutable: true\n"))
}

impl Scenario {
    /// Pushes a branch of main with these files.
    fn branch(&self, name: &str, files: &[(String, String)]) -> Result<()> {
        let work = self.world.repository.work();
        git(&work, ["checkout", "--quiet", "-b", name, "main"])?;
        for (path, content) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().context("a folder")?)?;
            std::fs::write(path, content)?;
        }
        git(&work, ["add", "--all"])?;
        git(&work, ["commit", "--quiet", "--message", name])?;
        git(
            &work,
            ["push", "--quiet", "origin", &format!("HEAD:{name}")],
        )?;
        git(&work, ["checkout", "--quiet", "main"])?;
        Ok(())
    }

    /// Each object of the namespace with the version that every write moves.
    async fn versions(&self) -> Result<Vec<String>> {
        let mut versions = Vec::new();
        for (version, kind) in [
            ("v1", "ConfigMap"),
            ("v1", "Secret"),
            ("apps/v1", "Deployment"),
        ] {
            let objects = objects(&self.cluster, version, kind, &self.namespace)?;
            for object in objects.list(&ListParams::default()).await? {
                let metadata = object.metadata;
                versions.push(format!(
                    "{kind} {:?} {:?}",
                    metadata.name, metadata.resource_version
                ));
            }
        }
        Ok(versions)
    }

    /// Refuses red ConfigMaps, and all Secrets with a message that quotes them.
    async fn policies(&self) -> Result<[String; 2]> {
        let client = self.cluster.client()?;
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client);
        let [red, secret] = ["red", "secret"].map(|what| format!("{what}-{}", self.namespace));
        for (name, resource, validation) in [
            (
                &red,
                "configmaps",
                json!({"expression": "!has(object.data) || !('colour' in object.data) || object.data['colour'] != 'red'", "message": "nothing may be red"}),
            ),
            (
                &secret,
                "secrets",
                json!({"expression": "false", "messageExpression": "'the key is ' + string(object.data['key'])"}),
            ),
        ] {
            let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}]},
                "validations": [validation]}});
            let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
                "spec": {"policyName": name, "validationActions": ["Deny"]}});
            let apply = PatchParams::apply("test");
            policies.patch(name, &apply, &Patch::Apply(policy)).await?;
            bindings.patch(name, &apply, &Patch::Apply(binding)).await?;
        }
        // They are in force after a moment.
        let dry = PatchParams::apply("test").dry_run().force();
        for (kind, data) in [
            ("ConfigMap", json!({"colour": "red"})),
            ("Secret", json!({"key": "a2V5"})),
        ] {
            let objects = objects(&self.cluster, "v1", kind, &self.namespace)?;
            let probe = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "probe"}, "data": data});
            wait::until("the policies are in force", SOON, async || {
                let probed = objects.patch("probe", &dry, &Patch::Apply(&probe)).await;
                ensure!(probed.is_err(), "it is taken");
                Ok(())
            })
            .await?;
        }
        Ok([red, secret])
    }

    /// Lets the service account `deployer` write ConfigMaps and nothing else.
    async fn deployer(&self) -> Result<()> {
        let client = self.cluster.client()?;
        let roles: Api<Role> = Api::namespaced(client.clone(), &self.namespace);
        let bindings: Api<RoleBinding> = Api::namespaced(client, &self.namespace);
        let role = json!({"metadata": {"name": "deployer"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch", "get"]}]});
        let binding = json!({"metadata": {"name": "deployer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
            "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": self.namespace}]});
        let role = serde_json::from_value(role)?;
        let binding = serde_json::from_value(binding)?;
        roles.create(&Default::default(), &role).await?;
        bindings.create(&Default::default(), &binding).await?;
        Ok(())
    }
}

/// Each object that was not taken as `door: refused, why`, of one application.
fn untaken(plan: &Value, application: &str) -> Result<(u64, Vec<String>)> {
    let diffs = plan["diffs"].as_array().context("no diffs")?;
    let diff = diffs.iter().find(|diff| diff["application"] == application);
    let dry_run = &diff.context("no such diff")?["dryRun"];
    ensure!(dry_run["cluster"] == "one", "{dry_run:#}");
    ensure!(dry_run["incomplete"].is_null(), "{dry_run:#}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let objects = dry_run["objects"].as_array().cloned().unwrap_or_default();
    let lines = objects.iter().map(|tried| {
        let name = text(&tried["object"]["name"]);
        format!(
            "{name}: {}, {}",
            text(&tried["outcome"]),
            text(&tried["message"])
        )
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    Ok((dry_run["taken"].as_u64().context("a number")?, lines))
}

#[tokio::test]
async fn what_an_api_server_would_refuse_is_told_before_the_merge_and_nothing_is_written()
-> Result<()> {
    let hidden = unique("hidden");
    let scenario = Scenario::start(|namespace| {
        vec![
            application("shop", namespace),
            config_map("shop", "settings", "colour", "blue"),
            fixed("1"),
        ]
    })
    .await?;
    let (world, namespace) = (&scenario.world, &scenario.namespace);
    world.synced("shop", 1).await?;
    let policies = scenario.policies().await?;
    scenario.deployer().await?;

    let extra = format!("{namespace}-extra");
    let (path, narrow) = application("narrow", namespace);
    let narrow = format!("{narrow}  serviceAccount: {namespace}/deployer\n");
    let (elsewhere, text) = config_map("shop", "elsewhere", "a", "1");
    let text = text.replace(
        "name: elsewhere",
        &format!("name: elsewhere\n  namespace: {extra}"),
    );
    let secret = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{key: {hidden}}}\n"
        )
    };
    scenario.branch(
        "bad",
        &[
            config_map("shop", "settings", "colour", "red"),
            config_map("shop", "new", "a", "1"),
            fixed("2"),
            ("shop/wrong.yaml".into(), WRONG.into()),
            ("shop/door.yaml".into(), secret("door")),
            (
                "shop/extra.yaml".into(),
                format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {extra}}}\n"),
            ),
            (elsewhere, text),
            (path, narrow),
            config_map("narrow", "allowed", "a", "1"),
            ("narrow/forbidden.yaml".into(), secret("forbidden")),
        ],
    )?;
    let before = scenario.versions().await?;
    let line = ["plan", "bad", "--dry-run=server", "-o", "json"];
    let answer = world.muster(&line).await?;
    ensure!(answer.code == ExitCode::Failed, "{answer:?}");
    let plan: Value = serde_json::from_str(&answer.out)?;
    let (taken, shop) = untaken(&plan, "shop")?;
    ensure!(taken == 2, "{shop:#?}");
    let expected = [
        (
            "door: refused, ValidatingAdmissionPolicy 'secret-",
            "denied request (422)",
        ),
        (
            "elsewhere: notTried, its Namespace ",
            "is created by this plan",
        ),
        ("fixed: refused, ", "immutable"),
        ("settings: refused, ", "nothing may be red"),
        ("wrong: refused, ", "spec.replicas"),
    ];
    ensure!(shop.len() == expected.len(), "{shop:#?}");
    for (line, (begins, says)) in shop.iter().zip(expected) {
        ensure!(line.starts_with(begins) && line.contains(says), "{shop:#?}");
    }
    let (taken, narrow) = untaken(&plan, "narrow")?;
    ensure!(taken == 1 && narrow.len() == 1, "{narrow:#?}");
    ensure!(
        narrow[0].starts_with("forbidden: refused, ")
            && narrow[0].contains("deployer\" cannot patch resource \"secrets\""),
        "{narrow:#?}"
    );
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(&hidden);
    ensure!(!answer.out.contains(&hidden) && !answer.out.contains(&encoded));
    ensure!(
        scenario.versions().await? == before,
        "something was written"
    );
    let namespaces: Api<Namespace> = Api::all(scenario.cluster.client()?);
    ensure!(namespaces.get_opt(&extra).await?.is_none());

    // What is well is said to be; a reviewer reads it.
    scenario.branch("good", &[config_map("shop", "new", "a", "1")])?;
    let answer = world.muster(&["plan", "good", "--dry-run=server"]).await?;
    ensure!(answer.code == ExitCode::Changes, "{answer:?}");
    ensure!(
        answer
            .out
            .contains("\n  dry run on one: 1 object is taken\n"),
        "{answer:?}"
    );
    ensure!(
        scenario.versions().await? == before,
        "something was written"
    );

    let client = scenario.cluster.client()?;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let all: Api<ValidatingAdmissionPolicy> = Api::all(client);
    for name in policies {
        bindings.delete(&name, &DeleteParams::default()).await?;
        all.delete(&name, &DeleteParams::default()).await?;
    }
    Ok(())
}
