//! `walytis identity …`.

use std::path::PathBuf;

use clap::Subcommand;

/// `walytis identity …`.
#[derive(Debug, Subcommand)]
pub enum Identity {
    /// Create an identity; prints its recovery code once
    Create {
        /// Local name
        name: String,
        /// Name of this device
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
    },
    /// List identities
    List,
    /// Show one identity
    Show {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Make an invitation for another device or person
    Invite {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// What the newcomer may do
        #[arg(long, default_value = "member", value_parser = ["member", "admin"])]
        role: String,
        /// How often it can be used
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lives, e.g. 12h or 7d
        #[arg(long, value_name = "TIME", default_value = "7d")]
        expires: humantime::Duration,
    },
    /// Revoke an invitation
    Revoke {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Id of the invitation
        #[arg(value_name = "INVITE")]
        invitation: String,
    },
    /// Join an identity by an invitation
    Join {
        /// The invitation
        token: String,
        /// Local name
        #[arg(long)]
        name: Option<String>,
    },
    /// List controllers
    Controllers {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Remove a controller and renew the keys
    Remove {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Name, id or unambiguous prefix of the controller
        #[arg(value_name = "CTRL")]
        controller: String,
    },
    /// Renew the keys
    Rekey {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Leave an identity
    Leave {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Print what to hand out so that others can resolve the identity and write to it
    Card {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Draw it as a QR code below its text
        #[arg(long)]
        qr: bool,
    },
    /// Ask an identity's controllers who speaks for it now
    Resolve {
        /// A DID, a DID URL, a contact card, or an identity of this node
        #[arg(value_name = "DID|CARD")]
        who: String,
        /// As of this version, as resolve prints it
        #[arg(long, value_name = "VERSION")]
        version_id: Option<String>,
        /// Print the DID document with its metadata, as W3C DID Core has it
        #[arg(long)]
        document: bool,
    },
    /// Sign a message as the identity
    Sign {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Message; - or nothing: standard input
        file: Option<PathBuf>,
    },
    /// Verify a signature; exit code 1 when it is not valid
    Verify {
        /// Who must have signed [default: whom the signature names]
        #[arg(long)]
        did: Option<String>,
        /// The signature, or @FILE
        #[arg(value_name = "SIG")]
        signature: String,
        /// Message; - or nothing: standard input
        file: Option<PathBuf>,
    },
    /// Encrypt a message for an identity
    Seal {
        /// For whom
        did: String,
        /// Message; - or nothing: standard input
        file: Option<PathBuf>,
    },
    /// Decrypt a message that was sealed for the identity
    Open {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Sealed message; - or nothing: standard input
        file: Option<PathBuf>,
    },
}
