//! Whose fault an error is.

/// Whose fault an error is; decides whether a peer is scored, an operation retried or a user told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A remote peer sent something that breaks a rule.
    Peer,
    /// This machine: storage, network, memory.
    Local,
    /// The caller asked for something that is not allowed or does not exist.
    Caller,
    /// A broken invariant of this crate.
    Bug,
}
