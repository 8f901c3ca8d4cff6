//! `MSG_KEY_REQ`: keys for a guest (56860 rev. 1.58, section 7.2).
//!
//! The specification names what a derived key depends on, not how it is computed. Here it is the KDF of NIST SP 800-108
//! revision 1 in counter mode (section 4.1) with HMAC-SHA-256 and a counter and length of 32 bits, big-endian:
//!
//! ```text
//! key = HMAC-SHA-256(root key, 1 || "MSG_KEY_REQ" || 00h || context || 256)
//! context = root key select (1) || ID key select (1) || GUEST_FIELD_SELECT (8) || VMPL (4) || HOST_DATA (32)
//!        || digest of the author key, else of the ID key, else zero (48)
//!        || GUEST_SVN (4) || TCB_VERSION (8) || LAUNCH_MIT_VECTOR (8) || policy (8)
//!        || image ID (16) || family ID (16) || measurement (48)
//! ```
//!
//! Integers are little-endian, sizes in bytes; the fields from `GUEST_SVN` on are zero unless they are selected. The root
//! key is the guest's VMRK, or a secret of the chip for a TCB version (VCEK: the one in the request if selected, else the
//! reported one), or a secret of the cloud provider (VLEK).

use aws_lc_rs::hmac;
use tsmsim_abi::snp::{
    payload::{GuestFieldSelect, KeyReq, KeyReqSelect, KeyReqV2, KeyRsp, KeySel},
    status::FirmwareStatus,
};
use zerocopy::{FromZeros, IntoBytes, little_endian::U32};

use super::{Request, report::check_key_sel};
use crate::snp::{context::Gctx, firmware::Firmware, platform::Platform};

/// Bytes of a version 2 message that count; the rest of [`KeyReqV2`] pads it.
pub(super) const VERSION_2_SIZE: usize = 0x28;

const LABEL: &[u8] = b"MSG_KEY_REQ";
const KEY_BITS: u32 = 256;

pub(super) fn respond(firmware: &Firmware, request: &Request<'_>) -> KeyRsp {
    let mut response = KeyRsp::new_zeroed();
    match derive(firmware, request) {
        Ok(key) => response.derived_key.copy_from_slice(key.as_ref()),
        Err(status) => response.status = U32::new(status.0),
    }
    response
}

/// A request of either version; version 1 has no mitigation vector.
fn read(request: &Request<'_>) -> (KeyReq, GuestFieldSelect, u64, bool) {
    let message = request.read::<KeyReqV2>();
    let fields = GuestFieldSelect::from(message.v1.guest_field_select.get());
    let reserved = message.v1.reserved_0x4.get() != 0
        || KeyReqSelect::from(message.v1.select.get()).reserved() != 0
        || (request.version >= 2 && message.reserved_0x28.get() != 0);
    let mit_vector = if request.version >= 2 { message.launch_mit_vector.get() } else { 0 };
    (message.v1, fields, mit_vector, reserved)
}

fn derive(firmware: &Firmware, request: &Request<'_>) -> Result<hmac::Tag, FirmwareStatus> {
    let (message, fields, mit_vector, reserved) = read(request);
    let platform = &firmware.platform;
    let gctx = firmware.guests.get(&request.sender).ok_or(FirmwareStatus::INVALID_GUEST)?;
    let select = KeyReqSelect::from(message.select.get());
    if reserved {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    if !select.root_key_vmrk() {
        if platform.mask_chip_key() {
            return Err(FirmwareStatus::INVALID_KEY);
        }
        check_key_sel(platform, gctx, select.key_sel())?;
    }
    if message.vmpl.get() < request.vmpck.into() {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    let unknown_field = fields.reserved() != 0 || (fields.launch_mit_vector() && request.version < 2);
    if unknown_field
        || (fields.tcb_version() && !platform.at_most_committed(message.tcb_version))
        || (fields.guest_svn() && message.guest_svn.get() > gctx.id_block.guest_svn.get())
        || (fields.launch_mit_vector() && mit_vector & !gctx.launch_mit_vector != 0)
    {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    let root = root_key(platform, gctx, &message, fields)?;
    Ok(mix(&root, gctx, &message, fields, mit_vector))
}

fn root_key(
    platform: &Platform,
    gctx: &Gctx,
    message: &KeyReq,
    fields: GuestFieldSelect,
) -> Result<hmac::Key, FirmwareStatus> {
    let select = KeyReqSelect::from(message.select.get());
    if select.root_key_vmrk() {
        return Ok(hmac::Key::new(hmac::HMAC_SHA256, &gctx.secrets.vmrk));
    }
    let vlek = match select.key_sel() {
        KeySel::Vcek => None,
        _ => platform.vlek_root(),
    };
    let secret = match (vlek, select.key_sel()) {
        (Some(vlek), _) => vlek,
        (None, KeySel::Vlek | KeySel::Reserved) => return Err(FirmwareStatus::INVALID_KEY),
        (None, _) if fields.tcb_version() => platform.vcek_root(message.tcb_version),
        (None, _) => platform.vcek_root(platform.reported_tcb()),
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
}

/// The KDF.
fn mix(
    root: &hmac::Key,
    gctx: &Gctx,
    message: &KeyReq,
    fields: GuestFieldSelect,
    mit_vector: u64,
) -> hmac::Tag {
    let select = KeyReqSelect::from(message.select.get());
    let (id_key_select, id_key) = match (gctx.author_key_en, gctx.id_block_en) {
        (true, _) => (2, gctx.author_key_digest),
        (false, true) => (1, gctx.id_key_digest),
        (false, false) => (0, [0; 48]),
    };
    let mut kdf = hmac::Context::with_key(root);
    kdf.update(&1u32.to_be_bytes());
    kdf.update(LABEL);
    kdf.update(&[0, select.root_key_vmrk().into(), id_key_select]);
    kdf.update(message.guest_field_select.as_bytes());
    kdf.update(message.vmpl.as_bytes());
    kdf.update(&gctx.host_data);
    kdf.update(&id_key);
    let policy = u64::from(gctx.policy).to_le_bytes();
    let optional: [(bool, &[u8]); 7] = [
        (fields.guest_svn(), message.guest_svn.as_bytes()),
        (fields.tcb_version(), message.tcb_version.as_bytes()),
        (fields.launch_mit_vector(), &mit_vector.to_le_bytes()),
        (fields.guest_policy(), &policy),
        (fields.image_id(), &gctx.id_block.image_id),
        (fields.family_id(), &gctx.id_block.family_id),
        (fields.measurement(), gctx.ld.as_bytes()),
    ];
    for (selected, field) in optional {
        kdf.update(if selected { field } else { &[0; 48][..field.len()] });
    }
    kdf.update(&KEY_BITS.to_be_bytes());
    kdf.sign()
}
