//! Sealed backups: a stream of frames under a passphrase of its own. What stands in the frames is for the program.
//!
//! ```text
//! header = "walytis-backup1\n" ‖ salt (32) ‖ Argon2id memory in KiB, passes, lanes (4 each, big-endian) ‖ check (32)
//! frame  = length of the sealed bytes (4, big-endian) ‖ XChaCha20-Poly1305(content)
//! key    = HKDF(salt, Argon2id(passphrase, salt));  check = HKDF(salt, key)
//! nonce  = number of the frame (8, big-endian) ‖ 15 zero bytes ‖ 1 for the last frame, else 0
//! ```
//!
//! The salt is fresh, so the key belongs to one backup and no nonce comes twice. Frames that are moved, doubled, changed
//! or missing at the end do not open. The check commits to the key, so that a wrong passphrase is told from a damaged
//! file.

use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use super::codec_v1::NONCE;
use super::unlock::{Argon2Settings, PASSPHRASE_MAX, stretch};
use super::{VaultError, seal};
use crate::crypto::Label;

/// What a backup begins with.
const MAGIC: &[u8; 16] = b"walytis-backup1\n";
/// Bytes of the header.
pub const BACKUP_HEADER: usize = 16 + 32 + 12 + 32;
/// Most bytes of a frame's content.
pub const BACKUP_FRAME_MAX: usize = 8 * 1024 * 1024;
/// Bytes that sealing adds.
const TAG: usize = 16;

/// A backup cannot be made or read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupError {
    /// The file begins with something else.
    #[error("this is no backup")]
    NotABackup,
    /// The header asks for more memory or passes than anybody would.
    #[error("the header of the backup is damaged")]
    Header,
    /// Another passphrase.
    #[error("the passphrase does not open this backup")]
    WrongPassphrase,
    /// A frame does not open: bytes were changed, moved or cut off.
    #[error("the backup is damaged")]
    Damaged,
    /// The passphrase is empty or too long.
    #[error("a passphrase has 1 to {PASSPHRASE_MAX} bytes")]
    Passphrase,
    /// A frame is longer than 8 MiB, or comes after the last one.
    #[error("a frame of a backup is too long, or comes behind the last one")]
    Frame,
    /// A task panicked.
    #[error("deriving the key failed")]
    Derivation,
}

impl BackupError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NotABackup | Self::WrongPassphrase | Self::Passphrase => Fault::Caller,
            Self::Header | Self::Damaged => Fault::Local,
            Self::Frame | Self::Derivation => Fault::Bug,
        }
    }
}

/// The state of either direction.
struct Frames {
    key: Secret<32>,
    salt: [u8; 32],
    next: u64,
    ended: bool,
}

/// Seals frames.
pub struct BackupSealer(Frames);

/// Opens frames.
pub struct BackupOpener(Frames);

impl std::fmt::Debug for BackupSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackupSealer(at {})", self.0.next)
    }
}

impl std::fmt::Debug for BackupOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackupOpener(at {})", self.0.next)
    }
}

impl BackupSealer {
    /// Begins a backup; returns its header.
    ///
    /// # Errors
    /// [`BackupError::Passphrase`].
    pub async fn begin(
        passphrase: SecretBytes,
        settings: Argon2Settings,
        entropy: &dyn Entropy,
    ) -> Result<(Self, Vec<u8>), BackupError> {
        let mut salt = [0; 32];
        entropy.fill(&mut salt);
        let (key, check) = derive(passphrase, salt, settings).await?;
        let numbers = [settings.memory_kib, settings.passes, settings.lanes].map(u32::to_be_bytes).concat();
        let header = [&MAGIC[..], &salt, &numbers, check.expose()].concat();
        Ok((Self(Frames { key, salt, next: 0, ended: false }), header))
    }

    /// Seals the next frame, with its length before it. `last` ends the backup.
    ///
    /// # Errors
    /// [`BackupError::Frame`].
    pub fn seal(&mut self, content: &[u8], last: bool) -> Result<Vec<u8>, BackupError> {
        if content.len() > BACKUP_FRAME_MAX || self.0.ended {
            return Err(BackupError::Frame);
        }
        let nonce = self.0.nonce(last);
        let sealed = seal::seal(&self.0.key, &nonce, &self.0.aad(), content);
        let length = u32::try_from(sealed.len()).map_err(|_| BackupError::Frame)?;
        Ok([&length.to_be_bytes()[..], &sealed].concat())
    }
}

impl BackupOpener {
    /// Reads the header.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn begin(header: &[u8; BACKUP_HEADER], passphrase: SecretBytes) -> Result<Self, BackupError> {
        let rest = header.strip_prefix(MAGIC).ok_or(BackupError::NotABackup)?;
        let (salt, rest) = rest.split_first_chunk::<32>().ok_or(BackupError::Header)?;
        let (numbers, check) = rest.split_first_chunk::<12>().ok_or(BackupError::Header)?;
        let (numbers, _) = numbers.as_chunks::<4>();
        let [memory_kib, passes, lanes] = *numbers else { return Err(BackupError::Header) };
        let settings = Argon2Settings {
            memory_kib: u32::from_be_bytes(memory_kib),
            passes: u32::from_be_bytes(passes),
            lanes: u32::from_be_bytes(lanes),
        };
        // Read before anything proves it: a damaged header must not make Argon2 take all memory.
        settings.check().map_err(|_| BackupError::Header)?;
        let (key, expected) = derive(passphrase, *salt, settings).await?;
        if Secret::from_slice(check).is_none_or(|check| check != expected) {
            return Err(BackupError::WrongPassphrase);
        }
        Ok(Self(Frames { key, salt: *salt, next: 0, ended: false }))
    }

    /// Says how many sealed bytes follow the four bytes of a length.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] if that is more than a frame may have.
    pub fn length(length: [u8; 4]) -> Result<usize, BackupError> {
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| BackupError::Damaged)?;
        if (TAG..=BACKUP_FRAME_MAX + TAG).contains(&length) { Ok(length) } else { Err(BackupError::Damaged) }
    }

    /// Opens the next frame; `last` is said by where the file ends.
    ///
    /// # Errors
    /// [`BackupError::Damaged`].
    pub fn open(&mut self, sealed: &[u8], last: bool) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        if self.0.ended {
            return Err(BackupError::Damaged);
        }
        let nonce = self.0.nonce(last);
        seal::open(&self.0.key, &nonce, &self.0.aad(), sealed).ok_or(BackupError::Damaged)
    }
}

impl Frames {
    fn nonce(&mut self, last: bool) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        if let Some(number) = nonce.first_chunk_mut::<8>() {
            *number = self.next.to_be_bytes();
        }
        if let Some(end) = nonce.last_mut() {
            *end = u8::from(last);
        }
        self.next += 1;
        self.ended = last;
        nonce
    }

    fn aad(&self) -> Vec<u8> {
        [Label::BackupFrame.bytes(), &self.salt].concat()
    }
}

async fn derive(
    passphrase: SecretBytes,
    salt: [u8; 32],
    settings: Argon2Settings,
) -> Result<(Secret<32>, Secret<32>), BackupError> {
    if !(1..=PASSPHRASE_MAX).contains(&passphrase.expose().len()) {
        return Err(BackupError::Passphrase);
    }
    // Argon2id takes 0.1 s and more: never on a runtime thread.
    let stretched = tokio::task::spawn_blocking(move || stretch(&passphrase, &salt, settings));
    let stretched = stretched.await.map_err(|_| BackupError::Derivation)?;
    let stretched = stretched.map_err(|error: VaultError| match error {
        VaultError::Unusable { .. } => BackupError::Header,
        _ => BackupError::Derivation,
    })?;
    let key = seal::derive(stretched.expose(), &salt, Label::BackupKey, &[]);
    let check = seal::derive(key.expose(), &salt, Label::BackupCheck, &[]);
    Ok((key, check))
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;

    use super::*;

    const CHEAP: Argon2Settings = Argon2Settings { memory_kib: 8, passes: 1, lanes: 1 };
    const GOLDEN: &str = include_str!("../../tests/golden/backup_v1.hex");

    fn passphrase(text: &str) -> SecretBytes {
        SecretBytes::new(text.into())
    }

    async fn sealed() -> (Vec<u8>, Vec<Vec<u8>>) {
        let begun = BackupSealer::begin(passphrase("correct horse"), CHEAP, &SeededEntropy::new(1)).await;
        let (mut sealer, header) = begun.unwrap();
        let frames = vec![
            sealer.seal(b"one", false).unwrap(),
            sealer.seal(b"", false).unwrap(),
            sealer.seal(b"three", true).unwrap(),
        ];
        assert_eq!(sealer.seal(b"four", true), Err(BackupError::Frame));
        (header, frames)
    }

    async fn opener(header: &[u8]) -> Result<BackupOpener, BackupError> {
        BackupOpener::begin(header.try_into().unwrap(), passphrase("correct horse")).await
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[tokio::test]
    async fn the_format_of_version_1_stands_still() {
        let (header, frames) = sealed().await;
        let written =
            format!("{}\n{}\n", hex(&header), frames.iter().map(|frame| hex(frame)).collect::<Vec<_>>().join("\n"));
        assert_eq!(written, GOLDEN);
        let mut opener = opener(&header).await.unwrap();
        for (at, expected) in [&b"one"[..], b"", b"three"].into_iter().enumerate() {
            let (length, body) = frames[at].split_first_chunk::<4>().unwrap();
            assert_eq!(BackupOpener::length(*length), Ok(body.len()));
            assert_eq!(opener.open(body, at == 2).unwrap().as_slice(), expected);
        }
        assert_eq!(opener.open(&frames[0][4..], true).unwrap_err(), BackupError::Damaged);
    }

    #[tokio::test]
    #[ignore = "writes the golden file"]
    async fn write_golden() {
        let (header, frames) = sealed().await;
        let written =
            format!("{}\n{}\n", hex(&header), frames.iter().map(|frame| hex(frame)).collect::<Vec<_>>().join("\n"));
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/backup_v1.hex"), written).unwrap();
    }

    #[tokio::test]
    async fn frames_that_are_moved_changed_or_cut_off_do_not_open() {
        let (header, frames) = sealed().await;
        let first = async |frame: &[u8], last: bool| opener(&header).await.unwrap().open(frame, last).map(|_| ());
        assert_eq!(first(&frames[0][4..], false).await, Ok(()));
        assert_eq!(first(&frames[0][4..], true).await, Err(BackupError::Damaged), "it is not the end");
        assert_eq!(first(&frames[1][4..], false).await, Err(BackupError::Damaged));
        assert_eq!(first(&frames[0][4..frames[0].len() - 1], false).await, Err(BackupError::Damaged));
        for bit in 0..(frames[0].len() - 4) * 8 {
            let mut changed = frames[0][4..].to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(first(&changed, false).await, Err(BackupError::Damaged), "bit {bit}");
        }
        assert_eq!(BackupOpener::length([0xff; 4]), Err(BackupError::Damaged));
        assert_eq!(BackupOpener::length([0, 0, 0, 15]), Err(BackupError::Damaged));
    }

    #[tokio::test]
    async fn other_passphrases_and_headers_are_told_apart() {
        let (header, _) = sealed().await;
        let begin = async |header: &[u8], text: &str| {
            BackupOpener::begin(header.try_into().unwrap(), passphrase(text)).await.map(|_| ()).unwrap_err()
        };
        assert_eq!(begin(&header, "battery staple").await, BackupError::WrongPassphrase);
        assert_eq!(begin(&header, "").await, BackupError::Passphrase);
        let changed = |at: usize, to: u8| {
            let mut changed = header.clone();
            changed[at] = to;
            changed
        };
        assert_eq!(begin(&changed(0, 0), "correct horse").await, BackupError::NotABackup);
        assert_eq!(begin(&changed(48, 0xff), "correct horse").await, BackupError::Header, "no terabytes of memory");
        assert_eq!(begin(&changed(20, 0xff), "correct horse").await, BackupError::WrongPassphrase);
    }
}
