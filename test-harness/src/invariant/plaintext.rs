//! Whether something that must stay secret stands anywhere.

use walytis_core::id::ChainId;
use walytis_core::store::{
    BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError, Direction, KeyRange, KvStore, StoreError,
};

use super::{Broken, check};

/// Entries read at once.
const PAGE: usize = 1_024;
/// Bytes of a blob read at once.
const WINDOW: usize = 1024 * 1024;
const INVARIANT: &str = "no marker stands in plain sight";

/// Where to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places<'a> {
    /// Stores: every key and every value.
    pub stores: &'a [&'a dyn KvStore],
    /// Stores of large content: every object of `chains`.
    pub blobs: &'a [&'a dyn BlobStore],
    /// Chains whose objects are read.
    pub chains: &'a [ChainId],
    /// What travelled: [`SimHub::tapped`](crate::sim::SimHub::tapped).
    pub wire: &'a [Vec<u8>],
}

/// Checks that none of `markers` (random bytes that a test put into content, topics and fields, or keys) stands in any
/// of `places`. A test shows first that a marker it planted in a plain public chain is found.
///
/// # Errors
/// [`Broken`] with the place of the first one found; or that a place could not be read, or that there was nothing to
/// search.
pub async fn no_plaintext(places: Places<'_>, markers: &[&[u8]]) -> Result<(), Broken> {
    check(!markers.is_empty() && markers.iter().all(|marker| marker.len() >= 16), INVARIANT, || {
        "markers of less than 16 bytes may occur by chance".to_owned()
    })?;
    let mut searched = 0;
    for (number, store) in places.stores.iter().enumerate() {
        searched += search_store(number, *store, markers).await?;
    }
    for (number, blobs) in places.blobs.iter().enumerate() {
        for chain in places.chains {
            searched += search_blobs(number, *blobs, *chain, markers).await?;
        }
    }
    for (number, piece) in places.wire.iter().enumerate() {
        searched += piece.len();
        find(piece, markers, || format!("piece {number} of the wire"))?;
    }
    check(searched > 0, INVARIANT, || "there was nothing to search".to_owned())
}

fn find(bytes: &[u8], markers: &[&[u8]], place: impl FnOnce() -> String) -> Result<(), Broken> {
    // By its first byte: markers are random, so that few places are looked at twice.
    let starts = |marker: &&&[u8]| {
        let first = marker.first();
        bytes
            .iter()
            .enumerate()
            .any(|(at, byte)| Some(byte) == first && bytes.get(at..).is_some_and(|rest| rest.starts_with(marker)))
    };
    match markers.iter().position(|marker| starts(&marker)) {
        Some(number) => Err(Broken::new(INVARIANT, format!("marker {number} in {}", place()))),
        None => Ok(()),
    }
}

async fn search_store(number: usize, store: &dyn KvStore, markers: &[&[u8]]) -> Result<usize, Broken> {
    let failed = |error: StoreError| Broken::new(INVARIANT, format!("store {number} cannot be read: {error}"));
    let mut range = KeyRange { start: Vec::new(), end: None };
    let mut searched = 0;
    loop {
        let page = store.scan(range.clone(), Direction::Forward, PAGE).await.map_err(failed)?;
        for (key, value) in &page {
            searched += key.len() + value.len();
            find(key, markers, || format!("a key of store {number}: {key:02x?}"))?;
            find(value, markers, || format!("the value of {key:02x?} in store {number}"))?;
        }
        match page.last() {
            Some((key, _)) if page.len() == PAGE => range.start = [key, &[0][..]].concat(),
            _ => return Ok(searched),
        }
    }
}

async fn search_blobs(
    number: usize,
    blobs: &dyn BlobStore,
    chain: ChainId,
    markers: &[&[u8]],
) -> Result<usize, Broken> {
    let failed = |error: BlobStoreError| Broken::new(INVARIANT, format!("blob store {number} cannot be read: {error}"));
    let mut searched = 0;
    for space in [BlobSpace::Blob, BlobSpace::Envelope] {
        for key in blobs.list(space, chain).await.map_err(failed)? {
            let bytes = read(blobs, key).await.map_err(failed)?;
            searched += bytes.len();
            find(&bytes, markers, || format!("{key:?} of blob store {number}"))?;
        }
    }
    Ok(searched)
}

/// Reads what is there of an object.
async fn read(blobs: &dyn BlobStore, key: BlobKey) -> Result<Vec<u8>, BlobStoreError> {
    let (len, chunk) = match blobs.status(key).await? {
        BlobStatus::Complete { len } => (len, WINDOW as u64),
        BlobStatus::Partial { len, chunk, .. } => (len, u64::from(chunk)),
        _ => return Ok(Vec::new()),
    };
    let mut bytes = Vec::new();
    let mut offset = 0;
    while offset < len {
        let window = usize::try_from(chunk.min(len - offset)).unwrap_or(WINDOW);
        match blobs.read(key, offset, window).await {
            Ok(read) => bytes.extend_from_slice(&read),
            Err(BlobStoreError::Missing) => {}
            Err(error) => return Err(error),
        }
        offset += window as u64;
    }
    Ok(bytes)
}
