//! The closed list of labels.

use crate::identity::EpochUse;

/// What a hash, signature, derivation or sealing is for. Closed: no two uses share one, and no label begins another, so
/// that `label ‖ message` has one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// Device id: digest of the first signing keys.
    DeviceId,
    /// Id of a receiving key.
    ReceivingKeyId,
    /// Signature of an authority op, and the text its core begins with.
    Op,
    /// Digest of an authority op without its slots.
    OpWithoutSlots,
    /// Signature of a joiner over its own record: it holds the signing keys.
    Possession,
    /// Signature of the invitation key in an `Admit`.
    InvitationProof,
    /// Signature of the invitation key in a session.
    SessionProof,
    /// Sealed challenge by which a joiner shows that it holds its receiving key.
    ReceivingChallenge,
    /// Invitation key pair from the token's seed.
    InvitationKey,
    /// Slot of an epoch.
    EpochSlot,
    /// Epoch secrets sealed once more, on request.
    EpochReseal,
    /// Commitment to an epoch secret.
    CommitEpoch,
    /// Commitment to a history key.
    CommitHistory,
    /// Commitment to a transport secret.
    CommitTransport,
    /// Key that seals an epoch's history.
    EpochHistory,
    /// Receiving key pair of an epoch.
    EpochReceiving,
    /// [`EpochUse::ContentWrap`].
    EpochContentWrap,
    /// [`EpochUse::RecordHeader`].
    EpochRecordHeader,
    /// Gossip secret from a transport secret.
    TransportGossip,
    /// Session secret of a governed chain.
    TransportSession,
    /// Order in which controllers take over a duty.
    Rank,
    /// Signature of a device card.
    Card,
    /// Private part of a device card.
    CardPrivate,
    /// Digest of the private part of a device card.
    CardPrivateDigest,
    /// Signature as an identity.
    IdentitySignature,
    /// Record of an identity that this one is a controller of.
    Membership,
    /// Message sealed to an identity.
    Sealed,
    /// Sender's signature inside a sealed message.
    SealedSender,
    /// Digest of a recovery key.
    RecoveryDigest,
    /// Recovery key pair from a recovery code.
    RecoveryKey,
    /// Signature of a recovery key over a `Recover`.
    Recovery,
    /// Signature of renewed keys: their device holds them.
    KeyRenewal,
    /// Key that seals the records of a vault.
    VaultRecordKey,
    /// Key of the record ids of a vault.
    VaultNameKey,
    /// Record id from a name.
    VaultRecordId,
    /// Wrapping key from a key file.
    VaultKeyFile,
    /// Wrapping key from what Argon2id returned.
    VaultPassphrase,
    /// Wrapping key from a vault's recovery code.
    VaultRecoveryCode,
    /// Proof of a recovery key to a controller's node.
    RecoveryProof,
    /// Sealed data key of a vault.
    VaultWrap,
    /// Sealed name of a record.
    VaultName,
    /// Sealed secret of a record.
    VaultSecret,
    /// Key of a backup, from what Argon2id returned.
    BackupKey,
    /// Commitment to the key of a backup.
    BackupCheck,
    /// Sealed frame of a backup.
    BackupFrame,
}

impl Label {
    /// Every label.
    pub const ALL: [Self; 45] = [
        Self::DeviceId,
        Self::ReceivingKeyId,
        Self::Op,
        Self::OpWithoutSlots,
        Self::Possession,
        Self::InvitationProof,
        Self::SessionProof,
        Self::ReceivingChallenge,
        Self::InvitationKey,
        Self::EpochSlot,
        Self::EpochReseal,
        Self::CommitEpoch,
        Self::CommitHistory,
        Self::CommitTransport,
        Self::EpochHistory,
        Self::EpochReceiving,
        Self::EpochContentWrap,
        Self::EpochRecordHeader,
        Self::TransportGossip,
        Self::TransportSession,
        Self::Rank,
        Self::Card,
        Self::CardPrivate,
        Self::CardPrivateDigest,
        Self::IdentitySignature,
        Self::Membership,
        Self::Sealed,
        Self::SealedSender,
        Self::RecoveryDigest,
        Self::RecoveryKey,
        Self::Recovery,
        Self::KeyRenewal,
        Self::VaultRecordKey,
        Self::VaultNameKey,
        Self::VaultRecordId,
        Self::VaultKeyFile,
        Self::VaultPassphrase,
        Self::VaultRecoveryCode,
        Self::RecoveryProof,
        Self::VaultWrap,
        Self::VaultName,
        Self::VaultSecret,
        Self::BackupKey,
        Self::BackupCheck,
        Self::BackupFrame,
    ];

    /// Returns the text, ASCII, at most 64 bytes.
    pub const fn text(self) -> &'static str {
        match self {
            Self::DeviceId => "walytis/identities/device-id/v1",
            Self::ReceivingKeyId => "walytis/identities/receiving-key-id/v1",
            Self::Op => "walytis/identities/op/v1",
            Self::OpWithoutSlots => "walytis/identities/op-without-slots/v1",
            Self::Possession => "walytis/identities/possession/v1",
            Self::InvitationProof => "walytis/identities/invitation-proof/v1",
            Self::SessionProof => "walytis/identities/session-proof/v1",
            Self::ReceivingChallenge => "walytis/identities/receiving-challenge/v1",
            Self::InvitationKey => "walytis/identities/invitation-key/v1",
            Self::EpochSlot => "walytis/identities/epoch/slot/v1",
            Self::EpochReseal => "walytis/identities/epoch/reseal/v1",
            Self::CommitEpoch => "walytis/identities/epoch/commit-epoch/v1",
            Self::CommitHistory => "walytis/identities/epoch/commit-history/v1",
            Self::CommitTransport => "walytis/identities/epoch/commit-transport/v1",
            Self::EpochHistory => "walytis/identities/epoch/history/v1",
            Self::EpochReceiving => "walytis/identities/epoch/receiving/v1",
            Self::EpochContentWrap => EpochUse::ContentWrap.label(),
            Self::EpochRecordHeader => EpochUse::RecordHeader.label(),
            Self::TransportGossip => "walytis/identities/transport/gossip/v1",
            Self::TransportSession => "walytis/identities/transport/session/v1",
            Self::Rank => "walytis/identities/rank/v1",
            Self::Card => "walytis/identities/card/v1",
            Self::CardPrivate => "walytis/identities/card-private/v1",
            Self::CardPrivateDigest => "walytis/identities/card-private-digest/v1",
            Self::IdentitySignature => "walytis/identities/signature/v1",
            Self::Membership => "walytis/identities/membership/v1",
            Self::Sealed => "walytis/identities/sealed/v1",
            Self::SealedSender => "walytis/identities/sealed-sender/v1",
            Self::RecoveryDigest => "walytis/identities/recovery-digest/v1",
            Self::RecoveryKey => "walytis/identities/recovery-key/v1",
            Self::Recovery => "walytis/identities/recovery/v1",
            Self::KeyRenewal => "walytis/identities/key-renewal/v1",
            Self::VaultRecordKey => "walytis/identities/vault/record-key/v1",
            Self::VaultNameKey => "walytis/identities/vault/name-key/v1",
            Self::VaultRecordId => "walytis/identities/vault/record-id/v1",
            Self::VaultKeyFile => "walytis/identities/vault/key-file/v1",
            Self::VaultPassphrase => "walytis/identities/vault/passphrase/v1",
            Self::VaultRecoveryCode => "walytis/identities/vault/recovery-code/v1",
            Self::RecoveryProof => "walytis/identities/recovery-proof/v1",
            Self::VaultWrap => "walytis/identities/vault/wrap/v1",
            Self::VaultName => "walytis/identities/vault/name/v1",
            Self::VaultSecret => "walytis/identities/vault/secret/v1",
            Self::BackupKey => "walytis/identities/backup/key/v1",
            Self::BackupCheck => "walytis/identities/backup/check/v1",
            Self::BackupFrame => "walytis/identities/backup/frame/v1",
        }
    }

    /// Returns the text's bytes.
    pub const fn bytes(self) -> &'static [u8] {
        self.text().as_bytes()
    }

    /// Returns the label of a derivation from an epoch secret.
    pub const fn of_epoch_use(purpose: EpochUse) -> Self {
        match purpose {
            EpochUse::ContentWrap => Self::EpochContentWrap,
            EpochUse::RecordHeader => Self::EpochRecordHeader,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_equals_or_begins_another() {
        for (at, one) in Label::ALL.iter().enumerate() {
            assert!(one.text().starts_with("walytis/identities/") && one.text().ends_with("/v1"), "{one:?}");
            assert!(one.text().len() <= 64);
            for (other_at, other) in Label::ALL.iter().enumerate() {
                assert!(at == other_at || !other.text().starts_with(one.text()), "{one:?} begins {other:?}");
            }
        }
    }
}
