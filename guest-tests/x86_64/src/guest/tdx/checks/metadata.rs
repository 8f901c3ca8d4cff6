//! `TDG.VM.RD`, `TDG.VM.WR`, `TDG.SYS.RD`.

use tsmsim_abi::tdx::{
    leaf::{LeafAndVersion, TdcallLeaf},
    metadata::{Field, FieldId},
    status::{CompletionStatus, OperandId, StatusCode},
    td_params::{ConfigFlags, NotifyEnables, TdCtls},
};

use super::super::{
    call::{Tdcall, invalid},
    td::Td,
};
use crate::guest::{
    arch::td::gpr,
    tap::{Check, Tap, ensure, equal},
};

pub(super) fn run(td: &Td, tap: &mut Tap) {
    tap.check("TDG.VM.RD: ATTRIBUTES, GPAW, MAX_VCPUS", known_fields(td));
    tap.check("TDG.VM.RD: MRTD and RTMRs are those of the report", measurements(td));
    let read = Tdcall::new(TdcallLeaf::TDG_VM_RD);
    let unknown = FieldId::MRTD.element(0x3f);
    for (name, call, code) in [
        ("TDG.VM.RD: unknown field", read.rdx(unknown.0), StatusCode::METADATA_FIELD_ID_INCORRECT.status()),
        ("TDG.VM.RD: another TD", read.rcx(1).rdx(FieldId::XFAM.0), invalid(OperandId::RCX)),
    ] {
        tap.check(name, call.refused(code));
    }
    tap.check("TDG.VM.WR: NOTIFY_ENABLES", notify_enables());
    tap.check("TDG.VM.WR: read-only field", write(FieldId::XFAM, 0, 1).refused(not_writable()));
    tap.check("TDG.VM.WR: reserved bits", reserved_bits());
    tap.check("TDG.VM.WR: TD_CTLS", td_ctls());
    tap.check("TDG.VM.RD: all fields one after the other", walk(td));
    tap.check("TDG.SYS.RD: version", version(td));
    let unknown = Tdcall::new(TdcallLeaf::TDG_SYS_RD).rdx(FieldId::MRTD.0);
    let status =
        if td.later { StatusCode::METADATA_FIELD_ID_INCORRECT.status() } else { invalid(OperandId::RAX) };
    tap.check("TDG.SYS.RD: unknown field", unknown.refused(status));
}

const fn not_writable() -> CompletionStatus {
    StatusCode::METADATA_FIELD_NOT_WRITABLE.status()
}

/// `TDG.VM.WR` of the bits of `mask`.
fn write(field: FieldId, value: u64, mask: u64) -> Tdcall {
    Tdcall::new(TdcallLeaf::TDG_VM_WR).rdx(field.0).r8(value).with(gpr::R9, mask)
}

fn known_fields(td: &Td) -> Check {
    equal("ATTRIBUTES", Td::field(FieldId::ATTRIBUTES)?, td.attributes.into())?;
    equal("GPAW", Td::field(FieldId::GPAW)?, u64::from(td.gpa_width > 48))?;
    equal("MAX_VCPUS", Td::field(FieldId::MAX_VCPUS)?, 1)
}

fn measurements(td: &Td) -> Check {
    let info = td.info()?;
    ensure!(info.mr_td != [0; 48], "MRTD is zero");
    for (field, expected) in [(FieldId::MRTD, &info.mr_td), (FieldId::RTMR, &info.rtmr[0])] {
        for (index, eight) in (0..).zip(expected.as_chunks().0) {
            equal("value", Td::field(field.element(index))?, u64::from_le_bytes(*eight))?;
        }
    }
    Ok(())
}

fn notify_enables() -> Check {
    for enables in [NotifyEnables::new().with_ept_faults(true), NotifyEnables::new()] {
        let before = Td::field(FieldId::NOTIFY_ENABLES)?;
        let after = write(FieldId::NOTIFY_ENABLES, enables.into(), 1).succeed()?;
        equal("R8", after.get(gpr::R8), before)?;
        equal("NOTIFY_ENABLES", Td::field(FieldId::NOTIFY_ENABLES)?, enables.into())?;
    }
    Ok(())
}

fn reserved_bits() -> Check {
    let status = StatusCode::METADATA_FIELD_VALUE_NOT_VALID.status();
    write(FieldId::NOTIFY_ENABLES, 1 << 5, 1 << 5 | 1).refused(status)
}

/// `PENDING_VE_DISABLE` is the TD's to choose only where the host says so.
fn td_ctls() -> Check {
    let flexible = ConfigFlags::from(Td::field(FieldId::CONFIG_FLAGS)?).flexible_pending_ve();
    let before = TdCtls::from(Td::field(FieldId::TD_CTLS)?);
    let other = before.with_pending_ve_disable(!before.pending_ve_disable());
    if !flexible {
        let status = StatusCode::METADATA_FIELD_VALUE_NOT_VALID.status();
        return write(FieldId::TD_CTLS, other.into(), 1).refused(status);
    }
    write(FieldId::TD_CTLS, other.into(), 1).succeed()?;
    equal("TD_CTLS", Td::field(FieldId::TD_CTLS)?, other.into())?;
    write(FieldId::TD_CTLS, before.into(), 1).succeed().map(drop)
}

/// Version 1 gives the identifier of the field that follows; version 0 is all that a module of 1.0 has.
fn walk(td: &Td) -> Check {
    let rax = LeafAndVersion::new().with_leaf(TdcallLeaf::TDG_VM_RD.0).with_version(1);
    let read = Tdcall::new(TdcallLeaf::TDG_VM_RD).with(gpr::RAX, rax.into());
    if !td.later {
        return read.rdx(FieldId::NONE.0).refused(invalid(OperandId::RAX));
    }
    let first = read.rdx(FieldId::NONE.0).expect(StatusCode::METADATA_FIRST_FIELD_ID_IN_CONTEXT.status())?;
    let (mut field, mut count) = (FieldId(first.get(gpr::RDX)), 0);
    while !field.is_null() && count < 1000 {
        field = FieldId(read.rdx(field.0).succeed()?.get(gpr::RDX));
        count += 1;
    }
    equal("number of elements", count, Field::TD.iter().map(|field| field.elements).sum())
}

fn version(td: &Td) -> Check {
    let read = |field: FieldId| Tdcall::new(TdcallLeaf::TDG_SYS_RD).rdx(field.0);
    if !td.later {
        return read(FieldId::VENDOR_ID).refused(invalid(OperandId::RAX));
    }
    for (field, expected) in
        [(FieldId::VENDOR_ID, 0x8086), (FieldId::MAJOR_VERSION, 1), (FieldId::MINOR_VERSION, 5)]
    {
        equal("R8", read(field).succeed()?.get(gpr::R8), expected)?;
    }
    Ok(())
}
