//! Which run of a node a connection leads to.
//!
//! A process that was killed says no goodbye, and QUIC believes in its connection for another ten seconds. If the node comes
//! back meanwhile, it has two connections, the older one of which leads nowhere. Each run draws a number and says it with
//! `identify`, so that a peer sees at once which of its connections are dead.

use rand_core::Rng;

/// What stands before the number in the agent version of `identify`.
const AGENT: &str = "walytis/";

/// One run of a node: a random number that says nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life(u64);

impl Life {
    /// Draws a new one.
    pub(crate) fn draw(rng: &mut impl Rng) -> Self {
        Self(rng.next_u64())
    }

    /// Returns the agent version that says it.
    pub(crate) fn to_agent(self) -> String {
        format!("{AGENT}{:016x}", self.0)
    }

    /// Reads an agent version; nothing if it is not one of ours.
    pub(crate) fn from_agent(agent: &str) -> Option<Self> {
        let digits = agent.strip_prefix(AGENT).filter(|digits| digits.len() == 16)?;
        let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        u64::from_str_radix(digits, 16).ok().filter(|_| hexadecimal).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_nothing_else_is() {
        for number in [0, 1, u64::MAX] {
            let agent = Life(number).to_agent();
            assert_eq!(Life::from_agent(&agent), Some(Life(number)));
            assert_eq!(Life::from_agent(&agent.to_uppercase()), None);
        }
        for other in ["", "walytis", "walytis/", "walytis/+00000000000000f", "walytis/00", "kubo/0.30.0"] {
            assert_eq!(Life::from_agent(other), None, "{other}");
        }
        assert_eq!(Life::from_agent(&format!("{}0", Life(1).to_agent())), None);
    }
}
