//! Signing, verifying, sealing, opening; no key on disk.

use walytis_core::net::{MemoryHub, Network as _};
use walytis_identities::id::Role;
use walytis_identities::identity::Identity as _;
use walytis_identities::node::IdentitiesError;
use walytis_identities::signed::{SignerStanding, VerifyError};

use crate::rig::{Machine, until};

#[tokio::test(start_paused = true)]
async fn a_signature_is_verified_on_another_node_by_resolution() {
    let hub = MemoryHub::new();
    let (a, b, stranger) =
        (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let signature = b.identities.sign(&did, "test", b"hello").unwrap();
    let unresolved = stranger.identities.verify(&signature, "test", b"hello", &[]).await;
    assert!(matches!(unresolved, Err(IdentitiesError::Unresolved { .. })));

    let at = a.network.addresses();
    let verified = stranger.identities.verify(&signature, "test", b"hello", &at).await.unwrap().unwrap();
    assert_eq!((verified.controller, verified.standing), (b.identity(&did).controller(), SignerStanding::StillValid));
    for (context, message) in [("test", &b"hullo"[..]), ("other", b"hello")] {
        let refused = stranger.identities.verify(&signature, context, message, &at).await.unwrap();
        assert_eq!(refused, Err(VerifyError::Invalid));
    }
    let own = stranger.create().await;
    let forged = stranger.identities.sign(&own, "test", b"hello").unwrap();
    let forged = walytis_identities::signed::IdentitySignature { did, ..forged };
    assert!(a.identities.verify(&forged, "test", b"hello", &[]).await.unwrap().is_err());

    a.identities.remove(&did, verified.controller).await.unwrap();
    let since = stranger.identities.verify(&signature, "test", b"hello", &at).await.unwrap().unwrap();
    assert_eq!(since.standing, SignerStanding::SignerSinceRemoved);
    // What was learnt outlives a restart, and nobody's being away takes it back.
    let _off = a.stop().await;
    let stranger = stranger.restart().await;
    let cached = stranger.identities.verify(&signature, "test", b"hello", &[]).await.unwrap().unwrap();
    assert_eq!(cached.standing, SignerStanding::SignerSinceRemoved);
}

#[tokio::test(start_paused = true)]
async fn an_outsider_seals_with_the_did_alone_and_a_member_opens() {
    let hub = MemoryHub::new();
    let (a, b, stranger) =
        (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let (own, at) = (stranger.create().await, a.network.addresses());
    let sealed = stranger.identities.seal(&did, "mail", b"to all of you", Some(&own), &at).await.unwrap();
    let back = stranger.network.addresses();
    for reader in [&a, &b] {
        until("it is known", async || reader.identities.show(&did).unwrap().controllers.len() == 2).await;
        let opened = reader.identities.open_sealed(&sealed, "mail", &back).await.unwrap();
        assert_eq!(opened.message.expose(), b"to all of you");
        assert_eq!(opened.sender.map(|(sender, _)| sender), Some(own));
        assert!(matches!(
            reader.identities.open_sealed(&sealed, "other", &back).await,
            Err(IdentitiesError::CannotOpen { .. })
        ));
    }
    assert!(stranger.identities.open_sealed(&sealed, "mail", &[]).await.is_err());
    let anonymous = stranger.identities.seal(&did, "mail", b"guess who", None, &[]).await.unwrap();
    assert!(a.identities.open_sealed(&anonymous, "mail", &[]).await.unwrap().sender.is_none());

    a.identities.remove(&did, b.identity(&did).controller()).await.unwrap();
    let later = stranger.identities.seal(&did, "mail", b"not for b", None, &at).await.unwrap();
    assert_eq!(a.identities.open_sealed(&later, "mail", &[]).await.unwrap().message.expose(), b"not for b");
    assert!(b.identities.open_sealed(&later, "mail", &[]).await.is_err());
}

/// Everything secret goes through the vault: no seed that the machine drew stands in its store in clear.
#[tokio::test(start_paused = true)]
async fn no_key_stands_in_the_raw_store() {
    use walytis_core::store::{KvStore, SecretStore as _};
    use walytis_identities::vault::KeyVault;

    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    a.identities.rekey(&did).await.unwrap();
    for (machine, seed) in [(&a, 1), (&b, 2)] {
        let entropy = std::sync::Arc::new(walytis_core::clock::SeededEntropy::new(0));
        let vault = KeyVault::new(machine.store.clone() as std::sync::Arc<dyn KvStore>, entropy);
        vault.unlock(crate::rig::vault_key(seed)).await.unwrap();
        let dump = machine.dump().await;
        let names = vault.list("identities/").await.unwrap();
        assert!(names.len() >= 3, "device keys and epochs are in the vault: {names:?}");
        for name in names {
            let secret = vault.get(&name).await.unwrap().unwrap();
            for part in secret.expose().windows(16).step_by(8) {
                assert!(!dump.windows(16).any(|at| at == part), "{name} stands in clear");
            }
        }
    }
}
