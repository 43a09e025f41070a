//! A token of somebody who knows everything about an invitation but its secret.

use walytis_core::clock::Entropy;
use walytis_core::secret::Secret;
use walytis_identities::token::{IdentityToken, TokenError};

/// Returns an identity invitation with the same DID, invitation, expiry and addresses, and another seed.
///
/// # Errors
/// [`TokenError`] if `text` is no identity invitation.
pub fn forge_token(text: &str, entropy: &dyn Entropy) -> Result<String, TokenError> {
    let mut token: IdentityToken = text.parse()?;
    let mut seed = [0; 32];
    entropy.fill(&mut seed);
    token.seed = Secret::new(seed);
    Ok(token.to_text())
}
