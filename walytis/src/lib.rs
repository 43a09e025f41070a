//! walytis.
