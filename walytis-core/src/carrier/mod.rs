//! Chains as files: export to and import from CAR, version 1 of the content-addressable archive of IPLD, which standard
//! tools read. `docs/formats/carrier.md` has the layout.
//!
//! ```text
//! export:  ChainCore ──► header, manifest, blocks in canonical order, blobs by digest ──► bytes, streamed
//! import:  bytes ──► the same, each section checked in its place ──► ChainCore::offer, blob store
//! ```
//!
//! Both hold a few sections in memory, however long the chain is. The bytes of an export follow from the blocks and
//! contents that are here, so two replicas that hold the same write the same file.
//!
//! - `cbor`: the little of DAG-CBOR that the header and the manifest need.
//! - `manifest_v1`: header and manifest. `section`: the framing. `dag`: the nodes of a blob, depth first.

mod cbor;
mod dag;
mod error;
mod export;
mod import;
mod manifest_v1;
mod section;

pub use error::{ImportError, Problem};
pub use export::{Export, ExportOptions};
pub use import::CarrierProgress;

pub(crate) use export::export;
pub(crate) use import::{Opening, Taken, Target, take_in};
pub(crate) use manifest_v1::Manifest;
pub(crate) use section::Sections;
