//! The production source of randomness; the only one in the workspace.

use walytis_core::clock::Entropy;

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the operating system gives no randomness: going on without it would make guessable keys.
    fn fill(&self, out: &mut [u8]) {
        #[expect(clippy::expect_used, reason = "without randomness every key and nonce would be guessable")]
        getrandom::fill(out).expect("the operating system has randomness");
    }
}
