//! The SBI's own extensions, and those that are not for guests.

use tsmsim_abi::cove::{
    covh::CovhFid,
    sbi::{BaseFid, ExtensionId, ResetReason, ResetType, SPEC_VERSION_2_0, SbiError, SrstFid},
};

use super::super::{
    call::{Call, probe},
    tap::{Check, Tap, ensure},
};

const NOT_SUPPORTED: SbiError = SbiError::NOT_SUPPORTED;

pub(super) fn run(tap: &mut Tap) {
    tap.check("get_spec_version: 2.0 or later", version());
    for (name, extension) in [
        ("probe_extension: base", ExtensionId::BASE),
        ("probe_extension: DBCN", ExtensionId::DBCN),
        ("probe_extension: SRST", ExtensionId::SRST),
        ("probe_extension: COVG", ExtensionId::COVG),
    ] {
        tap.check(name, there(extension));
    }
    for (name, extension) in [
        ("probe_extension: no SUPD for guests", ExtensionId::SUPD),
        ("probe_extension: no COVH for guests", ExtensionId::COVH),
        ("probe_extension: no COVI for guests", ExtensionId::COVI),
        ("probe_extension: no such extension", ExtensionId(u64::MAX)),
    ] {
        tap.check(name, probe(extension).gives(0));
    }
    let get_tsm_info = CovhFid::GET_TSM_INFO.0.into();
    for (name, call) in [
        ("base: no such function", Call::new(ExtensionId::BASE, 7)),
        ("base: function of 64 bits", Call::new(ExtensionId::BASE, 1 << 32)),
        ("SUPD: not for guests", Call::new(ExtensionId::SUPD, 0)),
        ("COVH: not for guests", Call::new(ExtensionId::COVH, get_tsm_info)),
        ("COVI: not for guests", Call::new(ExtensionId::COVI, 0)),
        ("no such extension", Call::new(ExtensionId(u64::MAX), 0)),
        // What other SBI implementations take for the end of the program.
        ("extension 93", Call::new(ExtensionId(93), 0)),
        ("SRST: no such function", Call::new(ExtensionId::SRST, 1)),
        ("system_reset: type of a vendor", reset(ResetType(0xf000_0000), ResetReason::NO_REASON)),
    ] {
        tap.check(name, call.refused(NOT_SUPPORTED));
    }
    for (name, call) in [
        ("system_reset: reserved type", reset(ResetType(3), ResetReason::NO_REASON)),
        ("system_reset: reserved reason", reset(ResetType::SHUTDOWN, ResetReason(2))),
    ] {
        tap.check(name, call.refused(SbiError::INVALID_PARAM));
    }
}

fn version() -> Check {
    let version = Call::new(ExtensionId::BASE, BaseFid::GET_SPEC_VERSION.0.into()).succeed()?;
    ensure!((SPEC_VERSION_2_0..1 << 31).contains(&version), "{version:#x}");
    Ok(())
}

fn there(extension: ExtensionId) -> Check {
    ensure!(probe(extension).succeed()? != 0, "it is not there");
    Ok(())
}

fn reset(reset_type: ResetType, reason: ResetReason) -> Call {
    let call = Call::new(ExtensionId::SRST, SrstFid::SYSTEM_RESET.0);
    call.arguments(&[reset_type.0.into(), reason.0.into()])
}
