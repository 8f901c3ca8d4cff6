//! Before a GHCB is registered: the MSR protocol.

use tsmsim_abi::snp::{
    ghcb::{ExitCode, MalformedInput},
    msr::{NO_GHCB, SEV_STATUS_SNP_ACTIVE},
    psc::PscOperation,
};

use crate::guest::{
    arch::{
        memory::{GuestPage, Launched},
        user,
    },
    exit::Exit,
    protocol,
    tap::{Check, Tap, Why, ensure, equal},
};

/// A frame number far above any RAM.
const OUTSIDE: u64 = 1 << 35;
/// The launched page for these checks; the machine never uses it.
const PAGE: u32 = 20;

pub(in crate::guest) fn run(launched: Launched, tap: &mut Tap) {
    tap.check("SEV information: protocol versions include 2", protocol::negotiate());
    tap.check("SEV information: C-bit is CPUID Fn8000_001F_EBX[5:0]", c_bit(launched));
    tap.check("CPUID request: Fn8000_001F is the CPUID page's", cpuid(launched));
    tap.check("SEV_STATUS: SEV, SEV-ES and SEV-SNP active", sev_status());
    tap.check("hypervisor feature support: SNP, AP creation", features());
    tap.check("preferred GHCB: none, or in RAM", preferred(launched));
    let page = GuestPage::launched(PAGE);
    tap.check("page state change request: private to shared", protocol::share(page));
    tap.check("page state change request: unknown operation", operation_refused(page));
    tap.check("page state change request: frame outside memory", frame_refused());
    tap.check("GHCB not registered", not_registered(page));
    tap.check("register GHCB: frame outside memory", outside_not_registered());
    tap.check("page state change request: shared to private", protocol::take_back(page));
}

fn c_bit(launched: Launched) -> Check {
    let page = launched.c_bit().ok_or_else(no_leaf)?;
    equal("C-bit", protocol::sev_information()?.c_bit, u64::from(page))
}

fn no_leaf() -> Why {
    Why::new(format_args!("the CPUID page lacks Fn8000_001F"))
}

fn cpuid(launched: Launched) -> Check {
    let page = launched.cpuid(0x8000_001f, 0).ok_or_else(no_leaf)?;
    for (register, value) in (0..).zip([page.eax, page.ebx, page.ecx, page.edx]) {
        equal("register", protocol::cpuid(0x8000_001f, register)?, u64::from(value.get()))?;
    }
    Ok(())
}

fn sev_status() -> Check {
    equal("SEV_STATUS[2:0]", user::sev_status() & SEV_STATUS_SNP_ACTIVE, SEV_STATUS_SNP_ACTIVE)
}

fn features() -> Check {
    let features = protocol::hypervisor_features()?;
    ensure!(features.snp() && features.ap_creation(), "features are {features:?}");
    Ok(())
}

fn preferred(launched: Launched) -> Check {
    let gfn = protocol::preferred_ghcb()?;
    ensure!(gfn.is_none_or(|gfn| gfn < launched.ram_size() / 4096), "frame {gfn:x?} is not in RAM");
    Ok(())
}

fn operation_refused(page: GuestPage) -> Check {
    let error = protocol::page_state_change(page.gfn(), 0xf)?;
    ensure!(error != 0, "operation 15 was done");
    Ok(())
}

fn frame_refused() -> Check {
    let error = protocol::page_state_change(OUTSIDE, PscOperation::SHARED.0)?;
    ensure!(error != 0, "frame {OUTSIDE:#x} became shared");
    Ok(())
}

fn not_registered(page: GuestPage) -> Check {
    Exit::new(ExitCode::HYPERVISOR_FEATURES, 0, 0).run(page).malformed(MalformedInput::GHCB_NOT_REGISTERED)
}

fn outside_not_registered() -> Check {
    equal("registered GHCB", protocol::register_ghcb(OUTSIDE)?, NO_GHCB)
}
