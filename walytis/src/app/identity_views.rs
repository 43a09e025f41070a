//! Identities, their controllers and what was done to them, as users see them.

use walytis_identities::id::{ControllerId, Role};
use walytis_identities::node::{ControllerInfo, DeviceInfo, EpochStatus, IdentityInfo, OpDone};
use walytis_identities::state::Invitation;

use super::convert::rfc3339;
use crate::view;

pub(super) fn epoch(status: &EpochStatus) -> view::Epoch {
    view::Epoch {
        id: status.id.to_string(),
        begun_by: status.begun_by.into(),
        author: status.author.to_string(),
        recipients: status.recipients.iter().map(ToString::to_string).collect(),
        counts: status.counts,
        in_force: status.in_force,
        readable: status.readable,
        age_s: status.age.map(|age| age.as_secs()),
    }
}

pub(super) fn role(info: &IdentityInfo) -> String {
    info.role.map_or("removed", Role::name).to_owned()
}

pub(super) fn controller(info: &ControllerInfo) -> view::Controller {
    view::Controller {
        id: info.id.to_string(),
        kind: match info.id {
            ControllerId::Device(_) => "device",
            ControllerId::Identity(_) => "identity",
        }
        .into(),
        name: info.name.clone().unwrap_or_default(),
        role: info.role.name().into(),
        peer_id: info.peer_id.as_ref().map(ToString::to_string),
        since: info.since.to_string(),
        devices: match info.id {
            ControllerId::Device(_) => Vec::new(),
            ControllerId::Identity(_) => info.devices.iter().map(device).collect(),
        },
    }
}

fn device(info: &DeviceInfo) -> view::ActingDevice {
    view::ActingDevice {
        id: info.id.to_string(),
        name: info.name.clone().unwrap_or_default(),
        peer_id: info.peer_id.as_ref().map(ToString::to_string),
    }
}

pub(super) fn op(done: OpDone) -> view::OpDone {
    view::OpDone { op: done.op.to_string(), epoch: done.epoch.map(|epoch| epoch.to_string()) }
}

pub(super) fn invitation(invite: &Invitation) -> view::Invitation {
    let used = u32::try_from(invite.used_by.len()).unwrap_or(u32::MAX);
    view::Invitation {
        invitation: None,
        id: invite.id.to_string(),
        uses: invite.uses.map_or(u32::MAX, |uses| uses.saturating_sub(used)),
        expires_at: invite.expires_at_ms.map(rfc3339),
        role: Some(invite.role.name().into()),
    }
}
