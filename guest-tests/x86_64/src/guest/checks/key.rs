//! `MSG_KEY_REQ` (56860, section 7.2).

use tsmsim_abi::snp::{
    message::MessageType,
    payload::{GuestFieldSelect, KeyReq, KeyReqSelect, KeyRsp, KeySel},
    status::FirmwareStatus,
    tcb::TcbVersion,
};
use zerocopy::FromZeros;

use crate::guest::{
    machine::Machine,
    tap::{Check, Tap, ensure, equal},
};

/// The VM root key: present whatever the platform's configuration.
const VMRK: KeyReqSelect = KeyReqSelect::new().with_root_key_vmrk(true);

pub(in crate::guest) fn run(machine: &mut Machine, tap: &mut Tap) {
    tap.check("KEY_REQ: same inputs, same key", same(machine));
    let measurement = GuestFieldSelect::new().with_measurement(true);
    for (name, request) in [
        ("KEY_REQ: GUEST_FIELD_SELECT changes the key", key(VMRK, measurement)),
        ("KEY_REQ: ROOT_KEY_SELECT changes the key", key(KeyReqSelect::new(), GuestFieldSelect::new())),
        ("KEY_REQ: VMPL changes the key", KeyReq { vmpl: 1.into(), ..base() }),
    ] {
        tap.check(name, differs(machine, &request));
    }
    tap.check("KEY_REQ: TCB_VERSION changes the VCEK's key", tcb_matters(machine));
    refusals(machine, tap);
}

fn refusals(machine: &mut Machine, tap: &mut Tap) {
    let none = GuestFieldSelect::new();
    let svn = key(VMRK, none.with_guest_svn(true));
    let tcb = key(VMRK, none.with_tcb_version(true));
    let reserved_key = KeyReqSelect::new().with_key_sel(KeySel::Reserved);
    let param = FirmwareStatus::INVALID_PARAM;
    for (name, vmpck, request, status) in [
        ("KEY_REQ: GUEST_SVN above the guest's", 0, KeyReq { guest_svn: u32::MAX.into(), ..svn }, param),
        ("KEY_REQ: TCB_VERSION above the committed", 0, KeyReq { tcb_version: above(), ..tcb }, param),
        ("KEY_REQ: reserved bits of the first word", 0, key(VMRK.with_reserved(1), none), param),
        ("KEY_REQ: reserved bytes", 0, KeyReq { reserved_0x4: 1.into(), ..base() }, param),
        ("KEY_REQ: reserved GUEST_FIELD_SELECT", 0, key(VMRK, none.with_reserved(1 << 56)), param),
        ("KEY_REQ: VMPL below the sender's", 1, base(), param),
        ("KEY_REQ: reserved KEY_SEL", 0, key(reserved_key, none), FirmwareStatus::INVALID_KEY),
    ] {
        tap.check(name, refused(machine, vmpck, &request, status));
    }
}

/// A security patch level of the boot loader and microcode that no platform has reached, in either layout.
fn above() -> TcbVersion {
    TcbVersion::new(0xff00_0000_0000_00ff)
}

fn key(select: KeyReqSelect, fields: GuestFieldSelect) -> KeyReq {
    let mut request = KeyReq::new_zeroed();
    request.select.set(select.into());
    request.guest_field_select.set(fields.into());
    request
}

fn base() -> KeyReq {
    key(VMRK, GuestFieldSelect::new())
}

fn derive(machine: &mut Machine, request: &KeyReq) -> Check<[u8; 32]> {
    let answer: KeyRsp = machine.ask(0, MessageType::KEY_REQ, request)?;
    equal("STATUS", FirmwareStatus(answer.status.get()), FirmwareStatus::SUCCESS)?;
    ensure!(answer.derived_key != [0; 32], "the key is zero");
    ensure!(answer.reserved_0x4 == [0; 28], "reserved bytes are not zero");
    Ok(answer.derived_key)
}

fn same(machine: &mut Machine) -> Check {
    ensure!(derive(machine, &base())? == derive(machine, &base())?, "two different keys");
    Ok(())
}

fn differs(machine: &mut Machine, request: &KeyReq) -> Check {
    ensure!(derive(machine, &base())? != derive(machine, request)?, "the same key");
    Ok(())
}

/// The oldest TCB version gives another key than none at all.
fn tcb_matters(machine: &mut Machine) -> Check {
    let without = key(KeyReqSelect::new(), GuestFieldSelect::new());
    let with = key(KeyReqSelect::new(), GuestFieldSelect::new().with_tcb_version(true));
    ensure!(derive(machine, &without)? != derive(machine, &with)?, "the same key");
    Ok(())
}

fn refused(machine: &mut Machine, vmpck: usize, request: &KeyReq, status: FirmwareStatus) -> Check {
    let answer: KeyRsp = machine.ask(vmpck, MessageType::KEY_REQ, request)?;
    equal("STATUS", FirmwareStatus(answer.status.get()), status)?;
    ensure!(answer.derived_key == [0; 32], "there is a key all the same");
    Ok(())
}
