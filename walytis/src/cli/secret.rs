//! Secrets that a person types, or that a program writes to standard input, one per line.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use walytis_core::secret::SecretBytes;
use walytis_identities::vault::PASSPHRASE_MAX;
use zeroize::Zeroizing;

use crate::failure::{Failure, Kind};

/// Where secrets come from: the terminal, without showing them, or else the lines of standard input.
#[derive(Debug)]
pub(super) struct SecretInput {
    terminal: bool,
}

impl SecretInput {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdin().is_terminal() }
    }

    /// Asks for one secret.
    pub(super) async fn line(&mut self, prompt: &'static str) -> Result<SecretBytes, Failure> {
        let terminal = self.terminal;
        // A person takes any time: never on a runtime thread.
        let read = tokio::task::spawn_blocking(move || if terminal { typed(prompt) } else { piped() });
        let line = read.await.map_err(|error| Failure::local(&error, ""))?;
        let line = line.map_err(|error| Failure::local(&error, "write it to standard input, or name a file"))?;
        match line.len() {
            0 => Err(Failure::usage("no secret was given", "type it, write it to standard input, or name a file")),
            1..=PASSPHRASE_MAX => Ok(SecretBytes::new(line.to_vec())),
            _ => {
                Err(Failure::usage(format!("a passphrase has at most {PASSPHRASE_MAX} bytes"), "choose a shorter one"))
            }
        }
    }

    /// Asks for a new passphrase; a person types it twice.
    pub(super) async fn new_passphrase(&mut self) -> Result<SecretBytes, Failure> {
        let first = self.line("New passphrase: ").await?;
        if self.terminal && self.line("Again: ").await? != first {
            return Err(Failure::new(Kind::Usage, "the two passphrases differ", "try again; nothing was changed"));
        }
        Ok(first)
    }
}

fn typed(prompt: &str) -> std::io::Result<Zeroizing<Vec<u8>>> {
    rpassword::prompt_password(prompt).map(|line| Zeroizing::new(line.into_bytes()))
}

/// Reads one line and not a byte more: the next line is the next secret.
fn piped() -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    std::io::stdin().lock().take(PASSPHRASE_MAX as u64 + 2).read_until(b'\n', &mut line)?;
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(line)
}
