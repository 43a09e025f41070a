//! Blobs as UnixFS files: large content by a CID that any IPFS node understands.
//!
//! A blob is cut into raw leaves of 1 MiB. Its [`BlobManifest`] is the list of their digests; from it follows the root:
//! exactly what `ipfs add --cid-version=1 --raw-leaves --chunker=size-1048576` prints (balanced layout, 174 links a
//! node). So whoever knows the root can check a manifest, and with the manifest each leaf, before storing a byte.

mod builder;
mod dag_pb;
mod manifest;

#[cfg(test)]
mod tests;

pub use builder::ManifestBuilder;
pub(crate) use dag_pb::{Child, encode_node, parent_of};
pub use manifest::{BlobManifest, LeafError, ManifestError};
