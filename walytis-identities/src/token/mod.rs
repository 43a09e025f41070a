//! Invitations into an identity: the text that is handed out, and the proofs made with it.

mod proof;
mod text_v1;

pub use proof::{
    Challenge, InvitationKey, JoinRequest, SessionTranscript, invitation_message, possession_message, renewal_message,
};
pub use text_v1::{IdentityToken, TOKEN_ADDRESSES_MAX, TOKEN_PEERS_MAX, TOKEN_PREFIX, TokenError, TokenPeer};
