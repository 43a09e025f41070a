//! Forgetting private contents: on this device, or by consent of the controllers.

use futures::stream::TryStreamExt as _;
use walytis_core::ledger::{Content, NewBlock};
use walytis_offchain::{Consent, ForgetRule, PrivateLedger, Proposal};

use super::{App, convert};
use crate::failure::Failure;
use crate::view;

impl App {
    /// Adds private content under a rule about forgetting.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_add_under(
        &self,
        identity: &str,
        layer: &str,
        topics: Vec<String>,
        rule: &view::ForgetRule,
        content: Content,
    ) -> Result<view::Block, Failure> {
        let topics = convert::topics(&topics)?;
        let (ledger, _) = self.private(identity, layer).await?;
        let rule = self.forget_rule(rule)?;
        let added = ledger.add_under(vec![NewBlock { content, topics }], rule).await?;
        let added = added.first().ok_or_else(|| Failure::not_found("nothing was added", ""))?;
        Ok(convert::private_block(added))
    }

    fn forget_rule(&self, rule: &view::ForgetRule) -> Result<ForgetRule, Failure> {
        let hint = "all, author, admins, or a number of controllers";
        let consent = match rule.forget_by.as_deref() {
            None | Some("all") => Consent::All,
            Some("author") => Consent::Author,
            Some("admins") => Consent::Admins,
            Some(number) => match number.parse() {
                Ok(number) if number > 0 => Consent::Some(number),
                _ => return Err(Failure::usage(format!("not who must consent: {number:?}"), hint)),
            },
        };
        let expires_at_ms = rule.expires_s.map(|seconds| {
            let left = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
            let end = left.and_then(|left| self.clock.now_ms().checked_add(left)).filter(|_| seconds > 0);
            end.ok_or_else(|| Failure::usage("the time until it expires is out of range", "e.g. --expires 7d"))
        });
        Ok(ForgetRule { consent, expires_at_ms: expires_at_ms.transpose()? })
    }

    /// Forgets a content on this device, or proposes that everybody does.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_forget(
        &self,
        identity: &str,
        layer: &str,
        block: &str,
        request: &view::Forget,
    ) -> Result<view::Forgetting, Failure> {
        let (ledger, _) = self.private(identity, layer).await?;
        let id = ledger.find(block).await?;
        if !request.local {
            let proposal = ledger.propose_forget(&[id], &request.reason).await?;
            return Ok(view::Forgetting::Proposed { proposal: proposal.to_string() });
        }
        if !request.reason.is_empty() {
            return Err(Failure::usage(
                "what this device forgets alone needs no reason",
                "leave --reason or --local out",
            ));
        }
        ledger.forget_local(&id).await?;
        Ok(view::Forgetting::Local { id: id.to_string(), state: "forgotten".into() })
    }

    /// Lists proposals to forget.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_proposals(&self, identity: &str, layer: &str) -> Result<Vec<view::Proposal>, Failure> {
        let (ledger, _) = self.private(identity, layer).await?;
        let found: Vec<Proposal> = ledger.proposals().await?.try_collect().await?;
        Ok(found.iter().map(proposal).collect())
    }

    /// Consents to a proposal, or refuses it; returns how it stands then.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn private_vote(
        &self,
        identity: &str,
        layer: &str,
        text: &str,
        consents: bool,
    ) -> Result<view::Proposal, Failure> {
        let (ledger, _) = self.private(identity, layer).await?;
        let id = find_proposal(&ledger, text).await?;
        if consents {
            ledger.consent(&id).await?;
        } else {
            ledger.refuse(&id).await?;
        }
        let found = ledger.proposal(&id).await?;
        found.as_ref().map(proposal).ok_or_else(|| Failure::not_found(format!("no proposal \"{text}\""), ""))
    }
}

async fn find_proposal(ledger: &PrivateLedger, text: &str) -> Result<walytis_core::id::BlockId, Failure> {
    use walytis_core::chain::LookupError;
    ledger.find_proposal(text).await.map_err(|error| match error {
        LookupError::Unknown { .. } => Failure::not_found(&error, "see walytis offchain proposals"),
        error => error.into(),
    })
}

fn proposal(found: &Proposal) -> view::Proposal {
    let texts = |who: &[walytis_identities::id::ControllerId]| who.iter().map(ToString::to_string).collect();
    view::Proposal {
        id: found.id.to_string(),
        blocks: found.blocks.iter().map(ToString::to_string).collect(),
        by: found.by.to_string(),
        reason: found.reason.clone(),
        consents: texts(&found.consents),
        refusals: texts(&found.refusals),
        silent: texts(&found.silent),
        done: texts(&found.done),
        state: found.state.name().to_owned(),
    }
}
