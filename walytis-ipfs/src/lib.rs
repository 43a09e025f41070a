//! walytis-ipfs.
