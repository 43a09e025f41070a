//! The keys of this node's device: signing keys, the receiving key in force, and those before it that a slot may still
//! be sealed to.
//!
//! ```text
//! new receiving key ──card──► others seal to it ──► an epoch's slot opened with it ──30 days──► older halves destroyed
//! ```
//!
//! Pure; the task stores and publishes. Whoever gets hold of the vault later opens no slot that was sealed to a
//! destroyed key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use walytis_core::clock::Clock;
use walytis_core::secret::{Secret, SecretBytes};
use zeroize::Zeroize as _;

use super::age::Age;
use crate::crypto::{DeviceKeys, KeyId, ReceivingKey};

/// Version byte of the encoded record.
const VERSION: u8 = 0x01;
/// Receiving keys that are kept beside the one in force; while there are so many no new one is made. Chosen: a year of
/// weeks, for an identity whose epochs never change.
pub(super) const RETIRED_MAX: usize = 52;

/// The keys of a device.
#[derive(Clone, Debug)]
pub(super) struct Keyring {
    pub(super) device: Arc<DeviceKeys>,
    /// How long the receiving key has been in force.
    in_force: Age,
    /// Oldest first.
    retired: Vec<Retired>,
}

#[derive(Clone, Debug)]
struct Retired {
    key: ReceivingKey,
    /// How long another one has been in force.
    since: Age,
}

#[derive(Serialize, Deserialize)]
struct KeyringV1 {
    in_force_since_ms: i64,
    retired: Vec<RetiredV1>,
}

#[derive(Serialize, Deserialize)]
struct RetiredV1 {
    seed: [u8; 32],
    since_ms: i64,
}

impl Drop for RetiredV1 {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

impl Keyring {
    /// Returns the keys of a device whose receiving key is in force from now on.
    pub(super) fn new(device: DeviceKeys, clock: &dyn Clock) -> Self {
        Self { device: Arc::new(device), in_force: Age::begin(clock), retired: Vec::new() }
    }

    /// Returns the keys that may open a slot, the one in force first.
    pub(super) fn receiving(&self) -> Vec<&ReceivingKey> {
        std::iter::once(self.device.receiving()).chain(self.retired.iter().rev().map(|retired| &retired.key)).collect()
    }

    /// Returns how long until the receiving key is to be renewed.
    pub(super) fn until_renewal(&self, age: Duration, clock: &dyn Clock) -> Option<Duration> {
        (self.retired.len() < RETIRED_MAX).then(|| self.in_force.until(age, clock))
    }

    /// Returns how long until the oldest retired key may be destroyed, if there is one.
    pub(super) fn until_destruction(&self, age: Duration, clock: &dyn Clock) -> Option<Duration> {
        self.retired.first().map(|retired| retired.since.until(age, clock))
    }

    /// Returns the same keys with another receiving key in force.
    #[must_use]
    pub(super) fn renewed(&self, key: ReceivingKey, clock: &dyn Clock) -> Self {
        let mut retired = self.retired.clone();
        retired.push(Retired { key: self.device.receiving().clone(), since: Age::begin(clock) });
        Self { device: Arc::new(self.device.with_receiving(key)), in_force: Age::begin(clock), retired }
    }

    /// Returns renewed keys of the same device, which bring a receiving key of their own.
    #[must_use]
    pub(super) fn renewed_device(&self, device: DeviceKeys, clock: &dyn Clock) -> Self {
        let keys = self.renewed(device.receiving().clone(), clock);
        Self { device: Arc::new(device), ..keys }
    }

    /// Returns the same keys without those that were retired at least so long ago and after which a slot sealed to a
    /// newer one has been opened; nothing if all stay. `opened`: keys that slots were opened with.
    pub(super) fn without_old(&self, age: Duration, opened: &BTreeSet<KeyId>, clock: &dyn Clock) -> Option<Self> {
        let newer_opened = |at: usize| {
            let newer = self.retired.iter().skip(at + 1).map(|retired| retired.key.id());
            newer.chain([self.device.receiving().id()]).any(|id| opened.contains(&id))
        };
        let goes = |at: usize, retired: &Retired| retired.since.until(age, clock).is_zero() && newer_opened(at);
        let staying = self.retired.iter().enumerate().filter(|(at, retired)| !goes(*at, retired));
        let retired: Vec<Retired> = staying.map(|(_, retired)| retired.clone()).collect();
        (retired.len() < self.retired.len()).then(|| Self { retired, ..self.clone() })
    }

    /// Encodes what stands beside the device keys: 0x01 ‖ postcard { since when the receiving key has been in force,
    /// [seed, retired since] }.
    pub(super) fn encode_beside(&self) -> SecretBytes {
        let retired = self
            .retired
            .iter()
            .map(|retired| RetiredV1 { seed: *retired.key.seed().expose(), since_ms: retired.since.since_ms() });
        let wire = KeyringV1 { in_force_since_ms: self.in_force.since_ms(), retired: retired.collect() };
        // All of it reserved at once, so that no reallocation leaves a copy behind.
        let mut out = Vec::with_capacity(32 + 48 * wire.retired.len());
        out.push(VERSION);
        #[expect(clippy::expect_used, reason = "integers and fixed arrays always encode")]
        SecretBytes::new(postcard::to_extend(&wire, out).expect("always encodes"))
    }

    /// Puts together what the vault holds; nothing if it is malformed.
    pub(super) fn decode(device: DeviceKeys, beside: &SecretBytes, clock: &dyn Clock) -> Option<Self> {
        let body = beside.expose().strip_prefix(&[VERSION])?;
        let (wire, rest): (KeyringV1, _) = postcard::take_from_bytes(body).ok()?;
        if !rest.is_empty() || wire.retired.len() > RETIRED_MAX + 1 {
            return None;
        }
        let in_force = device.receiving().id();
        let retired = wire.retired.iter().map(|retired| Retired {
            key: ReceivingKey::from_seed(Secret::new(retired.seed)),
            since: Age::since(retired.since_ms, clock),
        });
        // A crash in the middle of a renewal leaves the old key in force.
        let retired = retired.filter(|retired| retired.key.id() != in_force).collect();
        let in_force = Age::since(wire.in_force_since_ms, clock);
        Some(Self { device: Arc::new(device), in_force, retired })
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::{ManualClock, SeededEntropy};

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    fn keyring(clock: &ManualClock) -> (Keyring, SeededEntropy) {
        let entropy = SeededEntropy::new(3);
        (Keyring::new(DeviceKeys::generate(&entropy), clock), entropy)
    }

    /// Renewed twice, a week apart.
    fn renewed(clock: &ManualClock) -> Keyring {
        let (mut keys, entropy) = keyring(clock);
        for _ in 0..2 {
            clock.advance_ms(7 * 86_400_000);
            assert_eq!(keys.until_renewal(WEEK, clock), Some(Duration::ZERO));
            keys = keys.renewed(ReceivingKey::generate(&entropy), clock);
        }
        keys
    }

    fn ids(keys: &Keyring) -> Vec<KeyId> {
        keys.receiving().iter().map(|key| key.id()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_before_go_when_a_newer_one_opened_a_slot_and_their_time_is_over() {
        let clock = ManualClock::new(0);
        let keys = renewed(&clock);
        let [newest, middle, oldest] = ids(&keys)[..] else { panic!("three keys") };
        clock.advance_ms(5 * 7 * 86_400_000);
        let without = |opened: &[KeyId]| keys.without_old(4 * WEEK, &opened.iter().copied().collect(), &clock);
        assert!(without(&[]).is_none(), "no slot was opened with a newer one");
        assert!(without(&[oldest]).is_none());
        assert_eq!(ids(&without(&[middle]).unwrap()), [newest, middle]);
        assert_eq!(ids(&without(&[newest]).unwrap()), [newest]);
        assert!(keys.without_old(7 * WEEK, &[newest].into(), &clock).is_none(), "too early");
        assert_eq!(ids(&keys.without_old(6 * WEEK, &[newest].into(), &clock).unwrap()), [newest, middle]);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_come_back_from_the_vault_even_in_the_middle_of_a_renewal() {
        let clock = ManualClock::new(0);
        let keys = renewed(&clock);
        let beside = keys.encode_beside();
        let device = |of: &Keyring| DeviceKeys::decode(&of.device.encode()).unwrap();
        let back = Keyring::decode(device(&keys), &beside, &clock).unwrap();
        assert_eq!(ids(&back), ids(&keys));
        assert_eq!(back.until_renewal(WEEK, &clock), Some(WEEK));
        // The record beside was written, the device keys were not.
        let next = keys.renewed(ReceivingKey::generate(&SeededEntropy::new(9)), &clock);
        let torn = Keyring::decode(device(&keys), &next.encode_beside(), &clock).unwrap();
        assert_eq!(ids(&torn), ids(&keys));
        for bad in [[beside.expose(), &[0]].concat(), beside.expose()[..9].to_vec(), vec![2], Vec::new()] {
            assert!(Keyring::decode(device(&keys), &SecretBytes::new(bad), &clock).is_none());
        }
        assert!(!format!("{keys:?}").contains("seed"));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_keys_are_kept_and_no_more() {
        let clock = ManualClock::new(0);
        let (mut keys, entropy) = keyring(&clock);
        for _ in 0..RETIRED_MAX {
            keys = keys.renewed(ReceivingKey::generate(&entropy), &clock);
        }
        assert_eq!(keys.until_renewal(WEEK, &clock), None);
        assert_eq!(keys.receiving().len(), RETIRED_MAX + 1);
    }
}
