//! The families: together they use every op, role and kind of knowledge.

use super::cast::{A, Act, B, Beginning, C, D};
use super::check;
use super::explore::{Family, Ids};
use super::history::Knowledge;
use crate::id::Role::{Admin, Keeper, Member, Reader};

/// Two admins and a member; d comes by the founder's invitation, which one may use.
const GROUP: Beginning = Beginning { admitted: &[(B, Admin), (C, Member)], uses: Some(1) };
/// Three admins.
const ADMINS: Beginning = Beginning { admitted: &[(B, Admin), (C, Admin)], uses: Some(1) };

const EVERYBODY: &[usize] = &[A, B, C, D];

/// The fewest acts by which somebody gains a right or loses it, so that most ops in a row can be gone through.
#[test]
fn four_controllers_gain_and_lose_rights() {
    check(&Family {
        name: "safety",
        beginning: GROUP,
        authors: EVERYBODY,
        acts: &[Act::Admit(D, Admin), Act::Remove(A), Act::Remove(B), Act::SetRole(C, Admin), Act::Leave, Act::Rekey],
        knowledge: Knowledge::Usual,
        ids: Ids::Drawn,
        ops: (2, 5),
    });
}

#[test]
fn admins_remove_each_other_and_bring_friends() {
    check(&Family {
        name: "removals",
        beginning: ADMINS,
        authors: EVERYBODY,
        acts: &[Act::Remove(A), Act::Remove(B), Act::Remove(C), Act::Admit(D, Admin)],
        knowledge: Knowledge::Usual,
        ids: Ids::Drawn,
        ops: (3, 6),
    });
}

#[test]
fn removed_members_come_back_by_admission_only() {
    check(&Family {
        name: "readmission",
        beginning: GROUP,
        authors: &[A, B, C],
        acts: &[Act::Remove(B), Act::Remove(C), Act::Admit(B, Admin), Act::Admit(C, Member), Act::Rekey],
        knowledge: Knowledge::Usual,
        ids: Ids::Drawn,
        ops: (3, 6),
    });
}

#[test]
fn leaves_and_what_follows_them() {
    check(&Family {
        name: "leaves",
        beginning: GROUP,
        authors: &[A, B, C],
        acts: &[Act::Leave, Act::Remove(A), Act::Remove(B), Act::Remove(C), Act::Honour(D)],
        knowledge: Knowledge::Usual,
        ids: Ids::Drawn,
        ops: (3, 6),
    });
}

#[test]
fn invitations_are_used_revoked_and_used_up() {
    check(&Family {
        name: "invitations",
        beginning: GROUP,
        authors: EVERYBODY,
        acts: &[Act::Honour(C), Act::Honour(D), Act::Revoke, Act::Remove(C), Act::RemoveKeeping(C)],
        knowledge: Knowledge::Usual,
        ids: Ids::Drawn,
        ops: (3, 6),
    });
}

#[test]
fn roles_change_beside_everything() {
    check(&Family {
        name: "roles",
        beginning: GROUP,
        authors: EVERYBODY,
        acts: &[
            Act::SetRole(A, Member),
            Act::SetRole(B, Member),
            Act::SetRole(C, Admin),
            Act::SetRole(C, Keeper),
            Act::Admit(D, Reader),
            Act::Admit(D, Keeper),
            Act::Remove(B),
        ],
        knowledge: Knowledge::Usual,
        ids: Ids::Drawn,
        ops: (3, 5),
    });
}

#[test]
fn recovery_is_the_last_word() {
    check(&Family {
        name: "recovery",
        beginning: GROUP,
        authors: &[A, B, D],
        acts: &[
            Act::Recover(None),
            Act::Recover(Some(C)),
            Act::Remove(A),
            Act::Remove(B),
            Act::Admit(C, Member),
            Act::Admit(D, Admin),
            Act::Leave,
        ],
        knowledge: Knowledge::Usual,
        ids: Ids::Drawn,
        ops: (3, 4),
    });
}

#[test]
fn an_identity_that_is_ended_stays_so() {
    check(&Family {
        name: "end",
        beginning: GROUP,
        authors: &[A, B, C],
        acts: &[
            Act::Deactivate,
            Act::Update,
            Act::Remove(B),
            Act::SetRole(C, Admin),
            Act::Recover(Some(B)),
            Act::Rekey,
        ],
        knowledge: Knowledge::Usual,
        ids: Ids::Drawn,
        ops: (2, 4),
    });
}

#[test]
fn every_act_beside_every_other() {
    check(&Family {
        name: "all acts",
        beginning: GROUP,
        authors: EVERYBODY,
        acts: &[
            Act::Admit(B, Admin),
            Act::Admit(C, Member),
            Act::Admit(D, Admin),
            Act::Admit(D, Keeper),
            Act::Honour(C),
            Act::Honour(D),
            Act::Remove(A),
            Act::Remove(B),
            Act::Remove(C),
            Act::Remove(D),
            Act::RemoveKeeping(C),
            Act::SetRole(B, Member),
            Act::SetRole(C, Admin),
            Act::SetRole(C, Keeper),
            Act::Leave,
            Act::Rekey,
            Act::Revoke,
            Act::Update,
            Act::Deactivate,
            Act::Recover(Some(C)),
        ],
        knowledge: Knowledge::Any,
        ids: Ids::Drawn,
        ops: (2, 3),
    });
}

#[test]
fn authors_that_choose_their_ids() {
    check(&Family {
        name: "chosen ids",
        beginning: ADMINS,
        authors: &[A, B, C],
        acts: &[Act::Remove(A), Act::Remove(B), Act::Remove(C), Act::Admit(D, Member), Act::Leave],
        knowledge: Knowledge::Usual,
        ids: Ids::Chosen,
        ops: (2, 4),
    });
}
