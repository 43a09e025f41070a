//! walytis-offchain.
