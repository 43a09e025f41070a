//! Identities that many devices and people control together: DIDs, roles, key epochs, hybrid post-quantum keys.
//!
//! Two ideas carry everything: *devices sign, epochs only encrypt*, and *state is a pure function of the set of
//! authority ops*.

pub mod card;
pub mod claim;
pub mod crypto;
pub mod epoch;
pub mod id;
pub mod identity;
pub mod node;
pub mod op;
pub mod sealed;
pub mod signed;
pub mod state;
pub mod token;
pub mod vault;
