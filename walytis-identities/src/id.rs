//! Names of identities, devices, controllers and authority ops.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::id::ChainId;

/// What every DID of this method starts with.
pub const DID_PREFIX: &str = "did:walytis:";

/// A text that names nothing of the wanted kind.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a {kind}")]
pub struct ParseError {
    kind: &'static str,
}

/// A decentralised identifier: `did:walytis:<chain id>`. The genesis block of that chain carries `Create`, so the DID
/// certifies itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Did(pub ChainId);

impl Did {
    /// Returns the id of the identity's chain.
    pub const fn chain(&self) -> ChainId {
        self.0
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DID_PREFIX}{}", self.0)
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Did {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let chain = text.strip_prefix(DID_PREFIX).ok_or(ParseError { kind: "did:walytis DID" })?;
        chain.parse().map(Self).map_err(|_| ParseError { kind: "did:walytis DID" })
    }
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Returns the bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), Base58(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = self.to_string();
                f.write_str(text.get(..10).unwrap_or(&text))
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let error = ParseError { kind: $kind };
                let encoded = text.strip_prefix($prefix).filter(|rest| rest.len() <= 64).ok_or(error)?;
                let bytes = bs58::decode(encoded).into_vec().map_err(|_| error)?;
                bytes.try_into().map(Self).map_err(|_| error)
            }
        }
    };
}

struct Base58<'a>(&'a [u8; 32]);

impl fmt::Display for Base58<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).into_string())
    }
}

digest_id!(
    /// A device: SHA-256 over a label and its first signing keys; unchanged when the keys are renewed.
    DeviceId,
    "dev-",
    "device id"
);
digest_id!(
    /// An authority op: SHA-256 of its encoded core.
    OpId,
    "op-",
    "authority op id"
);

/// An epoch is named by the authority op that introduced it.
pub type EpochId = OpId;

/// Who controls an identity: a device, or another identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ControllerId {
    /// A leaf: one key set on one machine.
    Device(DeviceId),
    /// Another identity.
    Identity(Did),
}

impl fmt::Display for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => device.fmt(f),
            Self::Identity(did) => did.fmt(f),
        }
    }
}

impl fmt::Debug for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => fmt::Debug::fmt(device, f),
            Self::Identity(did) => fmt::Debug::fmt(did, f),
        }
    }
}

impl FromStr for ControllerId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.starts_with(DID_PREFIX) { text.parse().map(Self::Identity) } else { text.parse().map(Self::Device) }
    }
}

/// What a controller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Stores and serves ciphertext, opens nothing.
    Keeper,
    /// Reads.
    Reader,
    /// Reads and writes.
    Member,
    /// Reads, writes, and changes members, roles, keys and document.
    Admin,
}

impl Role {
    /// Says whether the role receives epoch secrets: admins, members and readers do.
    pub const fn reads(self) -> bool {
        !matches!(self, Self::Keeper)
    }

    /// Says whether the role may write records: admins and members.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Member | Self::Admin)
    }

    /// Says whether the role may less than the other: keeper < reader < member < admin.
    pub const fn is_below(self, other: Self) -> bool {
        self.weight() < other.weight()
    }

    /// Returns the lesser of two roles.
    #[must_use]
    pub const fn lesser(self, other: Self) -> Self {
        if self.is_below(other) { self } else { other }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::Keeper => 0,
            Self::Reader => 1,
            Self::Member => 2,
            Self::Admin => 3,
        }
    }

    /// Returns the role's name as the command line and JSON show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_text() {
        let device = DeviceId([9; 32]);
        assert_eq!(device.to_string().parse(), Ok(ControllerId::Device(device)));
        assert!("dev-0OIl".parse::<DeviceId>().is_err());
        let did = Did(ChainId(walytis_core::id::BlockId::of_file(b"x")));
        assert_eq!(did.to_string().parse(), Ok(ControllerId::Identity(did)));
    }
}
