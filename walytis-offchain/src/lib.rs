//! Private blocks: metadata on the chain, content encrypted at each authorised peer.

pub mod context;
pub mod envelope;
pub mod padding;
pub mod record;
