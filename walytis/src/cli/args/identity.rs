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
        /// What newcomers may read of the time before them; stands for ever
        #[arg(long, default_value = "all", value_parser = ["none", "from_invite", "all"])]
        history: String,
        /// Age at which its keys are renewed by themselves, 1h to 3650d; stands for ever [default: 30d]
        #[arg(long, value_name = "TIME")]
        renew_after: Option<humantime::Duration>,
        /// Create it for this identity of this node, which controls it with all its devices
        #[arg(long = "as", value_name = "ID", conflicts_with = "device")]
        person: Option<String>,
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
        #[arg(long, default_value = "member", value_parser = ["admin", "member", "reader", "keeper"])]
        role: String,
        /// How often it can be used
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lives, e.g. 12h or 7d
        #[arg(long, value_name = "TIME", default_value = "7d")]
        expires: humantime::Duration,
        /// Draw it as a QR code too
        #[arg(long)]
        qr: bool,
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
        /// The invitation: - for standard input, @FILE, or its text (which others see in the list of processes)
        #[arg(value_name = "-|@FILE|TOKEN")]
        token: String,
        /// Local name
        #[arg(long)]
        name: Option<String>,
        /// Join as this identity of this node: all its devices take part, new ones by themselves
        #[arg(long = "as", value_name = "ID")]
        person: Option<String>,
    },
    /// List the identities that an identity has joined
    Memberships {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Put away an identity that was joined as another one: no content is exchanged, on any device
    Archive {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Take it up again
        #[arg(long)]
        undo: bool,
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
    /// Change what a controller may do
    Role {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Name, id or unambiguous prefix of the controller
        #[arg(value_name = "CTRL")]
        controller: String,
        /// admin, member, reader or keeper
        #[arg(value_parser = ["admin", "member", "reader", "keeper"])]
        role: String,
    },
    /// Show the identity's DID document, or set what services it names
    Document {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// As of this version, as resolve prints it
        #[arg(long, value_name = "VERSION", conflicts_with_all = ["service", "no_services"])]
        version_id: Option<String>,
        /// Set the services to these, may be repeated: NAME=TYPE,URL
        #[arg(long, value_name = "SERVICE")]
        service: Vec<String>,
        /// Set the services to none
        #[arg(long, conflicts_with = "service")]
        no_services: bool,
    },
    /// End the identity: nobody acts in its name any more, unless it is recovered
    Deactivate {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Start over with the recovery code, whoever controls the identity now; prints the next code once
    Recover {
        /// An identity of this node, or a contact card or DID of one that this node shall control from now on
        #[arg(value_name = "ID|CARD")]
        who: String,
        /// Who stays beside this device (or identity, with --as), with its role; everybody else is removed
        #[arg(long, value_name = "CTRL")]
        keep: Vec<String>,
        /// File with the recovery code (its first line); without it it is asked for
        #[arg(long, value_name = "FILE")]
        code_file: Option<PathBuf>,
        /// Local name, for an identity that is new to this node
        #[arg(long)]
        name: Option<String>,
        /// Name of the new device
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        /// Recover it as this identity of this node, which controls it from now on with all its devices
        #[arg(long = "as", value_name = "ID", conflicts_with = "device")]
        person: Option<String>,
        /// Go on even if no controller can be reached that could say what has been written: all of it is void then
        #[arg(long)]
        discard_content: bool,
    },
    /// Renew this device's own signing and receiving keys
    RenewKeys {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Renew the keys that content is encrypted with
    Rekey {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// List the generations of the identity's keys, older ones first
    Epochs {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Leave an identity; where it was joined as another one, that one leaves with all its devices
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
