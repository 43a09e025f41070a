//! walytis-identities.
