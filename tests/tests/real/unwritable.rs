//! A cluster that lets the agent keep nothing: what people see of it, and that nothing is applied without the ledger; or
//! no certificate: that it loses no access by it.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use muster_tests::wait;
use muster_tests::world::SOON;
use serde_json::json;

use super::scenario::{Scenario, config_map, objects, push};

const REFUSAL: &str = "the vault is shut";

/// The Secret with the agent's credentials.
const CREDENTIALS: &str = "credentials";

/// Refuses every write of a Secret in the agent's namespace, or of one.
struct Shut {
    name: String,
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
}

impl Shut {
    async fn on(scenario: &mut Scenario) -> Result<Self> {
        Self::to(scenario, "trial", "false").await
    }

    /// To those for which `may` is false, `name` among them.
    async fn to(scenario: &mut Scenario, name: &str, may: &str) -> Result<Self> {
        let client = scenario.cluster.client()?;
        let namespace = scenario.world.member("one").namespace().to_owned();
        let shut = Self {
            name: format!("shut-{}", scenario.namespace),
            policies: Api::all(client.clone()),
            bindings: Api::all(client),
        };
        let policy = json!({"metadata": {"name": shut.name}, "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["secrets"]}]},
            "validations": [{"expression": may, "message": REFUSAL, "reason": "Forbidden"}]}});
        let binding = json!({"metadata": {"name": shut.name},
            "spec": {"policyName": shut.name, "validationActions": ["Deny"]}});
        let parameters = PostParams::default();
        shut.policies
            .create(&parameters, &serde_json::from_value(policy)?)
            .await?;
        shut.bindings
            .create(&parameters, &serde_json::from_value(binding)?)
            .await?;
        let secrets = Api::<Secret>::namespaced(scenario.cluster.client()?, &namespace);
        let trial = secret(name, Vec::new());
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        wait::until("Secrets are refused", SOON, async || {
            let refused = secrets.create(&dry, &trial).await.err();
            ensure!(refused.is_some_and(|error| error.to_string().contains(REFUSAL)));
            Ok(())
        })
        .await?;
        Ok(shut)
    }

    async fn open(self) -> Result<()> {
        let parameters = DeleteParams::default();
        self.bindings.delete(&self.name, &parameters).await?;
        self.policies.delete(&self.name, &parameters).await?;
        Ok(())
    }
}

#[tokio::test]
async fn an_agent_that_can_keep_nothing_says_so_applies_nothing_new_and_goes_on_by_itself()
-> Result<()> {
    let mut scenario = Scenario::shop().await?;
    let shut = Shut::on(&mut scenario).await?;
    let commit = [
        config_map("shop", "settings", "colour", "red"),
        config_map("shop", "added", "k", "v"),
    ];
    push(&scenario.world, "Paint it red and add one", &commit).await?;
    scenario
        .shows("the agent of one takes nothing new, and keeps the cluster as it was last told")
        .await?;
    scenario.shows(REFUSAL).await?;
    // What was accepted before goes on.
    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", "blue").await?;
    let added = objects(&scenario.cluster, "v1", "ConfigMap", &scenario.namespace)?;
    ensure!(added.get_opt("added").await?.is_none(), "it was applied");

    shut.open().await?;
    scenario.becomes("settings", "colour", "red").await?;
    scenario.world.synced("shop", 1).await?;
    ensure!(
        added.get_opt("added").await?.is_some(),
        "it was not applied"
    );
    scenario.shows_no_more(REFUSAL).await
}

#[tokio::test]
async fn an_agent_that_can_write_down_nothing_of_what_it_repairs_says_so_without_any_commit()
-> Result<()> {
    let mut scenario = Scenario::shop().await?;
    let shut = Shut::on(&mut scenario).await?;
    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", "blue").await?;
    scenario.shows("its ledger can't be written: ").await?;
    scenario.shows(REFUSAL).await?;
    shut.open().await?;
    scenario.shows_no_more(REFUSAL).await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn an_agent_that_can_not_begin_says_why_and_begins_when_it_can() -> Result<()> {
    let mut scenario = Scenario::shop().await?;
    scenario.world.member("one").stop_agent().await?;
    let shut = Shut::on(&mut scenario).await?;
    scenario.world.member("one").start_agent()?;
    scenario
        .shows("an agent of one is there and writes nothing: its ledger in namespace ")
        .await?;
    scenario.shows(REFUSAL).await?;
    let colour = [config_map("shop", "settings", "colour", "red")];
    push(&scenario.world, "Paint it red", &colour).await?;
    ensure!(scenario.value("settings", "colour").await? == "blue");

    shut.open().await?;
    scenario.becomes("settings", "colour", "red").await?;
    scenario.world.synced("shop", 1).await?;
    scenario.shows_no_more(REFUSAL).await
}

#[tokio::test]
async fn a_renewed_certificate_that_can_not_be_kept_costs_no_access_and_is_kept_when_it_can()
-> Result<()> {
    let eleven_days = Duration::from_secs(11 * 24 * 3600);
    let mut scenario = Scenario::shop_in_the_past(eleven_days).await?;
    let one = scenario.world.member("one");
    one.stop_agent().await?;
    let joined = std::fs::read(one.credentials().join("credentials.json"))?;
    let secrets = Api::<Secret>::namespaced(scenario.cluster.client()?, one.namespace());
    let there = secret(CREDENTIALS, joined.clone());
    secrets.create(&PostParams::default(), &there).await?;
    one.secret = Some(CREDENTIALS.into());
    one.start_agent()?;
    let kept = async || {
        let data = secrets.get(CREDENTIALS).await?.data.unwrap_or_default();
        anyhow::Ok(data["credentials.json"].0.clone())
    };

    let may = format!("object.metadata.name != '{CREDENTIALS}'");
    let shut = Shut::to(&mut scenario, CREDENTIALS, &may).await?;
    scenario.world.pass(eleven_days);
    let unkept = "the agent of one uses a renewed certificate that it can't keep";
    scenario.shows(unkept).await?;
    scenario.shows(REFUSAL).await?;
    let colour = [config_map("shop", "settings", "colour", "red")];
    push(&scenario.world, "Paint it red", &colour).await?;
    scenario.becomes("settings", "colour", "red").await?;

    // It comes back with the one before.
    ensure!(kept().await? == joined);
    scenario.world.member("one").stop_agent().await?;
    scenario.world.member("one").start_agent()?;
    let colour = [config_map("shop", "settings", "colour", "green")];
    push(&scenario.world, "Paint it green", &colour).await?;
    scenario.becomes("settings", "colour", "green").await?;
    scenario.shows(unkept).await?;

    shut.open().await?;
    scenario.shows_no_more(unkept).await?;
    ensure!(kept().await? != joined);
    Ok(())
}

fn secret(name: &str, credentials: Vec<u8>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        data: Some([("credentials.json".to_owned(), ByteString(credentials))].into()),
        ..Secret::default()
    }
}
