//! Chains of their own for private ledgers of an identity, and how a ledger is named.

use walytis_core::id::ChainId;
use walytis_identities::bound::RecordRules;
use walytis_identities::id::Did;
use walytis_identities::node::{BoundChain, Identities, IdentityHandle};

use super::App;
use super::private::{MAIN_LAYER, check_layer};
use crate::failure::Failure;
use crate::view;

/// What stands between the layer and the chain in the name of a private ledger.
pub(super) const ON: char = '@';

/// Splits the name of a private ledger, `LAYER`, `LAYER@CHAIN` or `@CHAIN`, into layer and chain.
pub(super) fn split(name: &str) -> Result<(&str, Option<&str>), Failure> {
    let (layer, chain) = match name.split_once(ON) {
        None => (name, None),
        Some((layer, chain)) => (if layer.is_empty() { MAIN_LAYER } else { layer }, Some(chain)),
    };
    if chain == Some("") {
        return Err(Failure::usage(format!("{name:?} names no chain behind {ON}"), "write LAYER@CHAIN"));
    }
    check_layer(layer)?;
    Ok((layer, chain))
}

/// Returns an identity as it judges records on the chain that is meant: its own, or a bound one by name, id or prefix.
pub(super) fn identity_on(identities: &Identities, did: &Did, chain: Option<&str>) -> Result<IdentityHandle, Failure> {
    let Some(text) = chain else { return Ok(identities.identity(did)?) };
    let bound = identities.bound_chains(did)?;
    let found: Vec<&ChainId> = match bound.iter().find(|chain| chain.name == text) {
        Some(chain) => vec![&chain.id],
        None => bound.iter().filter(|chain| begins(chain, text)).map(|chain| &chain.id).collect(),
    };
    match found.as_slice() {
        [id] => Ok(identities.identity_on(did, id)?),
        [] => Err(Failure::not_found(
            format!("no chain \"{text}\" belongs to this identity"),
            "list them with walytis offchain chains; one that another device has created comes with the identity's chain",
        )),
        several => {
            let what = format!("\"{text}\" is ambiguous: {} chains of this identity begin so", several.len());
            Err(Failure::usage(what, "give more of the name or id"))
        }
    }
}

fn begins(chain: &BoundChain, text: &str) -> bool {
    let id = chain.id.to_string();
    // The first seven characters of all ids are the same; people copy what follows.
    let differing = id.get(7..).unwrap_or_default();
    !text.is_empty() && (chain.name.starts_with(text) || id.starts_with(text) || differing.starts_with(text))
}

impl App {
    /// Creates a chain on which private ledgers of an identity can stand, and nothing else.
    ///
    /// # Errors
    /// [`Failure`]; then nothing is left behind.
    pub async fn bound_create(&self, text: &str, request: &view::CreateBound) -> Result<view::Bound, Failure> {
        let did = self.identities.find(text)?;
        if request.name.contains(ON) {
            return Err(Failure::usage(
                format!("a chain of private ledgers has no {ON} in its name"),
                "choose another name",
            ));
        }
        let rules = RecordRules { hybrid: request.hybrid_records };
        let chain = self.identities.create_chain(&did, &request.name, rules).await?.chain().core().id();
        let all = self.bound_list(text).await?;
        let id = chain.to_string();
        all.into_iter().find(|one| one.id == id).ok_or_else(|| Failure::not_found(format!("no chain {id}"), ""))
    }

    /// Lists the chains on which private ledgers of an identity can stand, beside its own.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn bound_list(&self, text: &str) -> Result<Vec<view::Bound>, Failure> {
        let did = self.identities.find(text)?;
        let show = |chain: BoundChain| view::Bound {
            id: chain.id.to_string(),
            name: chain.name,
            did: did.to_string(),
            hybrid_records: chain.rules.hybrid,
        };
        Ok(self.identities.bound_chains(&did)?.into_iter().map(show).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_named_by_layer_and_chain() {
        assert_eq!(split("main").unwrap(), ("main", None));
        assert_eq!(split("notes@archive").unwrap(), ("notes", Some("archive")));
        assert_eq!(split("@archive").unwrap(), (MAIN_LAYER, Some("archive")));
        for bad in ["", "@", "notes@", "a\nb", &"x".repeat(65)] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
    }
}
