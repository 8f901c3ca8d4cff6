//! The GHCB MSR protocol (56421, section 2.3.1) and the pages that it and PVALIDATE move between private and shared.

use tsmsim_abi::snp::{
    msr::{GhcbInfo, GhcbMsr, HypervisorFeatures, NO_GHCB, PROTOCOL_MAX, TerminationReason},
    psc::PscOperation,
    rmp::{RMP_PAGE_SIZE_4K, RmpReturn},
};

use super::{
    arch::{memory::GuestPage, user},
    tap::{Check, Why, ensure, equal},
};

/// One request and its response, which must be of the kind given.
pub(super) fn request(request: GhcbMsr, response: GhcbInfo) -> Check<GhcbMsr> {
    let answer = GhcbMsr(user::vmgexit(request.0));
    equal("GHCBInfo", answer.info(), response)?;
    Ok(answer)
}

/// What the SEV information response says.
pub(super) struct SevInformation {
    /// Highest protocol version.
    pub(super) max: u64,
    /// Lowest protocol version.
    pub(super) min: u64,
    /// Position of the C-bit.
    pub(super) c_bit: u64,
}

/// SEV information request.
pub(super) fn sev_information() -> Check<SevInformation> {
    let answer = request(GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST), GhcbInfo::SEV_INFO_RESPONSE)?.0;
    Ok(SevInformation { max: answer >> 48, min: answer >> 32 & 0xffff, c_bit: answer >> 24 & 0xff })
}

/// Protocol negotiation: version 2 is what SNP needs.
pub(super) fn negotiate() -> Check {
    let information = sev_information()?;
    let wanted = u64::from(PROTOCOL_MAX);
    ensure!(
        (information.min..=information.max).contains(&wanted),
        "versions {} to {} leave out {wanted}",
        information.min,
        information.max
    );
    Ok(())
}

/// CPUID request for EAX (0), EBX (1), ECX (2) or EDX (3).
pub(super) fn cpuid(leaf: u32, register: u8) -> Check<u64> {
    let answer = request(GhcbMsr::cpuid(leaf, register), GhcbInfo::CPUID_RESPONSE)?;
    equal("register of the CPUID response", answer.0 >> 30 & 3, u64::from(register))?;
    Ok(answer.0 >> 32)
}

/// Hypervisor feature support request.
pub(super) fn hypervisor_features() -> Check<HypervisorFeatures> {
    let wanted = GhcbMsr::request(GhcbInfo::HYPERVISOR_FEATURES_REQUEST);
    let answer = request(wanted, GhcbInfo::HYPERVISOR_FEATURES_RESPONSE)?;
    Ok(HypervisorFeatures::from_bits(answer.data()))
}

/// Preferred GHCB request: a guest frame number, if the hypervisor has one.
pub(super) fn preferred_ghcb() -> Check<Option<u64>> {
    let wanted = GhcbMsr::request(GhcbInfo::PREFERRED_GHCB_REQUEST);
    let answer = request(wanted, GhcbInfo::PREFERRED_GHCB_RESPONSE)?;
    Ok(Some(answer.data()).filter(|gfn| *gfn != NO_GHCB))
}

/// Register GHCB request: what the response names, the frame or [`NO_GHCB`].
pub(super) fn register_ghcb(gfn: u64) -> Check<u64> {
    let wanted = GhcbMsr::new(GhcbInfo::REGISTER_GHCB_REQUEST, gfn);
    Ok(request(wanted, GhcbInfo::REGISTER_GHCB_RESPONSE)?.data())
}

/// Page state change request: the error code.
pub(super) fn page_state_change(gfn: u64, operation: u8) -> Check<u64> {
    let wanted = GhcbMsr::page_state_change(gfn, operation);
    Ok(request(wanted, GhcbInfo::PAGE_STATE_CHANGE_RESPONSE)?.0 >> 32)
}

/// Termination request; the hypervisor is not to come back.
pub(super) fn terminate(reason: TerminationReason) -> Why {
    let answer = user::vmgexit(GhcbMsr::terminate(reason).0);
    Why::new(format_args!("a terminated guest ran on, with {:?}", GhcbMsr(answer)))
}

/// Validates or rescinds a page, which must not be so already.
pub(super) fn validate(page: GuestPage, validate: bool) -> Check {
    let outcome = user::pvalidate(page.gpa(), RMP_PAGE_SIZE_4K, validate);
    equal("PVALIDATE's EAX", outcome.code(), RmpReturn::SUCCESS)?;
    equal("PVALIDATE's carry flag", outcome.carry, 0)
}

/// Maps a page with or without the C-bit.
pub(super) fn map_private(page: GuestPage, private: bool) -> Check {
    ensure!(user::map_private(page.gpa(), private), "page {:#x} may not be remapped", page.gpa());
    Ok(())
}

/// Makes a private, validated page shared: the order that the specification wants (56421, section 2.3.1).
pub(super) fn share(page: GuestPage) -> Check {
    validate(page, false)?;
    equal("page state change to shared", page_state_change(page.gfn(), PscOperation::SHARED.0)?, 0)?;
    map_private(page, false)
}

/// Makes a shared page private and validates it.
pub(super) fn take_back(page: GuestPage) -> Check {
    equal("page state change to private", page_state_change(page.gfn(), PscOperation::PRIVATE.0)?, 0)?;
    map_private(page, true)?;
    validate(page, true)
}
