//! Locking the vault while the runtime runs.

use walytis_core::ledger::{Content, Ledger as _, LedgerError, NewBlock};
use walytis_core::net::MemoryHub;
use walytis_core::store::SecretStore as _;
use walytis_identities::id::Role;
use walytis_identities::identity::{EpochUse, Identity as _, IdentityError};
use walytis_identities::node::IdentitiesError;

use crate::rig::{Machine, until, vault_key};

fn block() -> NewBlock {
    NewBlock { content: Content::Bytes(b"x".to_vec().into()), topics: vec![] }
}

/// From the very moment of locking, without a turn of any task.
#[tokio::test(start_paused = true)]
async fn a_locked_vault_refuses_every_use_of_keys_and_an_open_one_allows_it_again() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let identity = a.identity(&did);
    let (epoch, signer) = (identity.sending_epoch().await.unwrap(), identity.device_signer());
    let key = signer.public_key();
    let sealed = b.identities.seal(&did, "mail", b"hello", None, &[]).await.unwrap();
    let secret = identity.derive(&epoch, EpochUse::ContentWrap).await.unwrap();

    a.vault.lock();
    assert!(signer.sign(b"x").is_err());
    assert_eq!(signer.public_key(), key, "what is public stays known");
    assert!(matches!(identity.sending_epoch().await, Err(IdentityError::Locked)));
    assert!(matches!(identity.derive(&epoch, EpochUse::ContentWrap).await, Err(IdentityError::Locked)));
    assert!(matches!(a.identities.sign(&did, "test", b"x"), Err(IdentitiesError::Locked)));
    assert!(matches!(a.identities.open_sealed(&sealed, "mail", &[]).await, Err(IdentitiesError::Locked)));
    assert!(matches!(a.identities.rekey(&did).await, Err(IdentitiesError::Locked)));
    assert!(matches!(a.identities.forget(&did).await, Err(IdentitiesError::Refused { .. })));
    assert!(matches!(identity.chain().add(block()).await, Err(LedgerError::Locked)));
    until("the runtime holds no secret", async || a.identities.show(&did).unwrap().locked_epochs.len() == 2).await;
    // It still takes in what others write, and relays it.
    let from_b = b.write(&did, "while a is locked").await;
    a.until_has(&did, &from_b).await;
    let renewed = b.identities.rekey(&did).await.unwrap();
    until("a hears of it", async || a.identity(&did).auth_heads().await == [renewed.op]).await;

    a.vault.unlock(vault_key(1)).await.unwrap();
    until("the new epoch is open", async || identity.sending_epoch().await.ok() == Some(renewed.op)).await;
    assert_eq!(identity.derive(&epoch, EpochUse::ContentWrap).await.unwrap(), secret);
    assert!(a.identities.show(&did).unwrap().locked_epochs.is_empty());
    assert!(signer.sign(b"x").is_ok());
    a.identities.rekey(&did).await.unwrap();
    a.identities.open_sealed(&sealed, "mail", &[]).await.unwrap();
    b.until_has(&did, &a.write(&did, "unlocked").await).await;
}

#[tokio::test(start_paused = true)]
async fn secrets_of_a_locked_vault_are_not_read_by_a_load_under_way() {
    let a = Machine::start(&MemoryHub::new(), 1).await;
    let did = a.create().await;
    for _ in 0..3 {
        a.vault.lock();
        a.vault.unlock(vault_key(1)).await.unwrap();
        a.vault.lock();
        assert!(matches!(a.identities.unlocked().await, Err(IdentitiesError::Locked)));
        assert!(a.vault.get("x").await.is_err());
        until("nothing is held", async || a.identities.show(&did).unwrap().locked_epochs.len() == 1).await;
    }
}
