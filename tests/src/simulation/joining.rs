//! How the cluster comes into its fleet, leaves it and comes back: by a join token that a person makes, and with a
//! certificate that is renewed as the days go by.
//!
//! What must not be: a token that is good for two, a cluster that is locked out without anybody's doing, a certificate
//! that is not renewed though the hub is there. What may be, and then a person makes another token: the answer to a
//! token is lost, the certificate ends while the hub is away, the cluster was removed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use muster_agent::enrol;
use muster_hub::ca::{self, AGENT_LIFE, AGENT_RENEWED_AFTER};
use muster_proto::join_token::JoinToken;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tokio::time::Instant;

use super::agent::{self, CREDENTIALS, NAMESPACE};
use super::{World, pass};

/// A person looks again after so long.
const PATIENCE: Duration = Duration::from_secs(90);
/// A joining takes less than this, in milliseconds, when nothing is in its way.
const JOINING: u64 = 400;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The join token that the agent is started with.
pub(super) struct Invitation {
    pub(super) token: JoinToken,
    made: Instant,
    /// Something came for it that the agent keeps.
    is_used: bool,
    /// A backup has come back since, and may not know that it was used.
    pub(super) may_be_forgotten: bool,
}

impl Invitation {
    pub(super) fn new(token: JoinToken) -> Self {
        Self {
            token,
            made: Instant::now(),
            is_used: false,
            may_be_forgotten: false,
        }
    }
}

/// What the agent keeps of its joining.
struct Kept {
    certificate: CertificateDer<'static>,
    joined_with: String,
}

impl World {
    /// A person makes a join token, and the agent starts with it.
    pub(super) async fn invite(&mut self) -> Result<()> {
        self.invitation = Invitation::new(self.hub.invite().await?);
        self.log
            .say("a person makes a join token, and the agent starts with it");
        self.restart_agent();
        Ok(())
    }

    /// Something happens while the agent joins, or right after.
    pub(super) async fn trouble(&mut self) -> Result<()> {
        let soon = self.chance.below(JOINING);
        let trouble = self.chance.below(5);
        pass(Duration::from_millis(soon)).await;
        match trouble {
            0 => {
                self.log.say("the hub crashes meanwhile");
                self.hub.crash();
                self.hub_begins().await?;
            }
            1 => {
                self.log.say("the wire is cut meanwhile");
                self.wire.cut();
            }
            2 => {
                self.log.say("the agent crashes meanwhile");
                self.restart_agent();
            }
            3 => self.copy().await?,
            _ => {}
        }
        Ok(())
    }

    /// Somebody has a copy of the join token and tries it.
    pub(super) async fn copy(&mut self) -> Result<()> {
        let token = self.invitation.token.clone();
        self.look_at_the_token();
        let was_used = self.invitation.is_used && !self.invitation.may_be_forgotten;
        let options = agent::options(&self.home, token.clone());
        let way = agent::way(&self.wire);
        let tries = enrol::enrol(&token, &options, &way, &self.cluster_uid);
        let tried = tokio::time::timeout(Duration::from_secs(5), tries).await;
        let came = matches!(tried, Ok(Ok(_)));
        let said = match tried {
            Ok(Ok(_)) => "gets a certificate".to_owned(),
            Ok(Err(refused)) => format!("{refused:#}"),
            Err(_) => "gets no answer".to_owned(),
        };
        self.log
            .say(&format!("a copy of the join token is tried: {said}"));
        ensure!(!(came && was_used), "a join token was good for two");
        ensure!(!said.contains(&token.secret), "invariant 10: {said}");
        Ok(())
    }

    /// A person removes the cluster; its objects stay.
    pub(super) async fn remove(&mut self) -> Result<()> {
        self.judge.may_let_go();
        let was_there = self.hub.remove().await?;
        self.log.say(match was_there {
            true => "a person removes the cluster",
            false => "the cluster can't be removed: it is not there",
        });
        Ok(())
    }

    /// Days go by, and nothing else: the clock says so.
    pub(super) fn days_go_by(&mut self) {
        let days = 1 + self.chance.below(12);
        self.log.say(&format!("{days} days go by"));
        self.time.go_by(DAY * u32::try_from(days).unwrap_or(1));
    }

    /// A person helps a cluster that can't come back by itself: by another join token.
    pub(super) async fn help(&mut self) -> Result<()> {
        let Some(why) = self.is_locked_out().await? else {
            return Ok(());
        };
        if self.invitation.made.elapsed() > PATIENCE || self.agent.was_refused() {
            self.log.say(&format!("the agent can't come: {why}"));
            self.invite().await?;
        }
        Ok(())
    }

    async fn is_locked_out(&self) -> Result<Option<&'static str>> {
        if self.agent.was_refused() {
            return Ok(Some("its join token was refused"));
        }
        let Some(kept) = self.kept() else {
            return Ok(None);
        };
        if ca::ends(&kept.certificate) <= self.time.now() {
            return Ok(Some("its certificate has ended"));
        }
        self.hub.turns_away(&ca::serial(&kept.certificate)).await
    }

    /// Whether the agent has a certificate that is not old.
    pub(super) fn is_renewed(&self) -> Result<()> {
        let kept = self.kept().context("the agent keeps no certificate")?;
        let left = ca::ends(&kept.certificate).0 - self.time.now().0;
        let old = AGENT_LIFE - AGENT_RENEWED_AFTER;
        ensure!(
            i128::from(left) > old.as_millis().cast_signed(),
            "the certificate was not renewed: it ends in {left} ms"
        );
        Ok(())
    }

    /// Once the agent keeps what came for its token, that must be used up.
    fn look_at_the_token(&mut self) {
        let digest = enrol::token_digest(&self.invitation.token);
        let has = |kept: Kept| kept.joined_with == digest.to_string();
        self.invitation.is_used |= self.kept().is_some_and(has);
    }

    fn kept(&self) -> Option<Kept> {
        let secret = self.server.stored("secrets", NAMESPACE, CREDENTIALS)?;
        let decode = |value: &Value| BASE64_STANDARD.decode(value.as_str()?).ok();
        let kept = decode(&secret["data"]["credentials.json"])?;
        let kept: Value = serde_json::from_slice(&kept).ok()?;
        Some(Kept {
            certificate: decode(&kept["certificates"][0])?.into(),
            joined_with: kept["joinedWith"].as_str()?.to_owned(),
        })
    }
}
