//! Bounds of authority ops; all are part of the format.

use std::ops::RangeInclusive;

use super::{ChainCut, ControllerRecord, EpochPart, Op, OpCore, OpError};

/// Most authority heads that an op may name. Chosen: as for parents of blocks.
pub const AUTH_PARENTS_MAX: usize = 64;
/// Most direct controllers of an identity. From the design: nesting goes further.
pub const CONTROLLERS_MAX: usize = 256;
/// Most slots of an epoch. Chosen: room for admissions that ran concurrently; still fits inline content.
pub(super) const SLOTS_MAX: usize = 320;
/// Most controllers that one op removes.
pub const TARGETS_MAX: usize = 256;
/// Most chains in a cut.
pub const CUT_CHAINS_MAX: usize = 64;
/// Most heads of one chain in a cut. Chosen: as for parents of blocks; a wider frontier is merged first.
pub const CUT_HEADS_MAX: usize = 64;
/// Most invitations that a removal keeps.
pub const KEPT_MAX: usize = 64;
/// Most epochs whose secrets one epoch carries on.
pub const PREDECESSORS_MAX: usize = 64;
/// Largest encoded op with its signatures, in bytes. From core: inline content has at most 512 KiB.
pub const SIGNED_OP_MAX: usize = 512 * 1024;
/// Ages in seconds at which epochs may be renewed. Chosen: an hour, for each renewal is an op that stays for ever, to ten years.
pub const RENEW_AFTER_S: RangeInclusive<u32> = 3_600..=315_360_000;
/// Longest slot in bytes. Chosen: 1120 for the encapsulated key, 16 for the tag, room for the secrets.
const SLOT_MAX: usize = 1120 + 16 + 240;
/// Longest text in a document service, in bytes.
const SERVICE_TEXT_MAX: usize = 512;
/// Most services of a document.
const SERVICES_MAX: usize = 32;
/// Most co-signatures: reserved.
const CO_SIGNATURES_MAX: usize = 16;

/// Checks every bound of a core.
pub(super) fn check(core: &OpCore) -> Result<(), OpError> {
    let is_create = matches!(core.op, Op::Create(_));
    let parents_fit = if is_create {
        core.auth_parents.is_empty()
    } else {
        (1..=AUTH_PARENTS_MAX).contains(&core.auth_parents.len()) && ascending(&core.auth_parents)
    };
    need(parents_fit, "auth_parents")?;
    if let Some(epoch) = core.op.epoch() {
        check_epoch(epoch)?;
    }
    match &core.op {
        Op::Remove(op) => {
            let fits = (1..=TARGETS_MAX).contains(&op.targets.len()) && ascending(&op.targets);
            need(fits && !op.targets.contains(&core.author), "targets")?;
            check_cut(&op.cut)?;
            need(op.kept.len() <= KEPT_MAX && ascending(&op.kept), "kept")?;
            need(op.co_signatures.len() <= CO_SIGNATURES_MAX, "co_signatures")
        }
        Op::Admit(op) => check_record(&op.controller),
        Op::Introduce(op) => need((1..=AUTH_PARENTS_MAX).contains(&op.as_of.len()) && ascending(&op.as_of), "as_of"),
        Op::Update(op) => {
            need(op.as_of.len() <= AUTH_PARENTS_MAX && ascending(&op.as_of), "as_of")?;
            need(op.cut.is_empty() || !op.as_of.is_empty(), "cut")?;
            check_cut(&op.cut)
        }
        Op::SetRole(op) => {
            // Whoever still writes has no cut.
            need(op.cut.is_empty() || !op.role.writes(), "cut")?;
            check_cut(&op.cut)
        }
        Op::Recover(op) => {
            check_cut(&op.cut)?;
            need(op.kept.len() <= KEPT_MAX && ascending(&op.kept), "kept")?;
            let by_id = op.controllers.is_sorted_by(|(one, _), (next, _)| one.id() < next.id());
            need((1..=CONTROLLERS_MAX).contains(&op.controllers.len()) && by_id, "controllers")?;
            op.controllers.iter().try_for_each(|(record, _)| check_record(record))
        }
        Op::Deactivate(op) => check_cut(&op.cut),
        Op::Document(op) => {
            let short = |text: &String| text.len() <= SERVICE_TEXT_MAX;
            let fit = op.services.len() <= SERVICES_MAX
                && op.services.iter().all(|(id, kind, endpoint)| short(id) && short(kind) && short(endpoint));
            need(fit, "services")
        }
        Op::Invite(op) => need(op.uses != Some(0), "uses"),
        Op::Create(op) => need(op.renew_after_s.is_none_or(|age| RENEW_AFTER_S.contains(&age)), "renew_after"),
        Op::RevokeInvite(_) | Op::Leave | Op::Rekey(_) => Ok(()),
    }
}

fn check_epoch(epoch: &EpochPart) -> Result<(), OpError> {
    let by_controller = epoch.slots.is_sorted_by(|one, next| one.controller < next.controller);
    need((1..=SLOTS_MAX).contains(&epoch.slots.len()) && by_controller, "slots")?;
    need(epoch.slots.iter().all(|slot| slot.sealed.len() <= SLOT_MAX), "slot")?;
    need(epoch.predecessors.len() <= PREDECESSORS_MAX && ascending(&epoch.predecessors), "predecessors")?;
    // Nonce, tag, count and at most 97 bytes for each.
    need(epoch.history.len() <= 64 + 100 * PREDECESSORS_MAX, "history")
}

fn check_cut(cut: &[ChainCut]) -> Result<(), OpError> {
    let chains_fit = cut.len() <= CUT_CHAINS_MAX && cut.is_sorted_by(|one, next| one.chain < next.chain);
    need(chains_fit && cut.iter().all(|of| of.heads.len() <= CUT_HEADS_MAX && ascending(&of.heads)), "cut")
}

fn check_record(record: &ControllerRecord) -> Result<(), OpError> {
    match record {
        ControllerRecord::Device(_) => Ok(()),
        ControllerRecord::Identity { as_of, .. } => {
            need((1..=AUTH_PARENTS_MAX).contains(&as_of.len()) && ascending(as_of), "as_of")
        }
    }
}

fn ascending<T: Ord>(items: &[T]) -> bool {
    items.is_sorted_by(|one, next| one < next)
}

const fn need(holds: bool, what: &'static str) -> Result<(), OpError> {
    if holds { Ok(()) } else { Err(OpError::Limit { what }) }
}
