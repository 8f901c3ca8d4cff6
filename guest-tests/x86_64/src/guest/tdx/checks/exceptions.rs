//! #VE and `TDG.VP.VEINFO.GET`.

use tsmsim_abi::tdx::{
    leaf::{TdcallLeaf, exit_reason},
    metadata::FieldId,
    status::StatusCode,
    td_params::{ConfigFlags, TdCtls},
    vmcall::VmcallStatus,
};

use super::super::{call::Tdcall, td::Td};
use crate::guest::{
    arch::{
        memory::GuestPage,
        td::{VeInfo, gpr, read_msr, take_ve, write_misc_enable},
    },
    tap::{Check, Tap, Why, equal},
};

const IA32_MISC_ENABLE: u32 = 0x1a0;

pub(super) fn run(td: &Td, tap: &mut Tap) {
    let none = StatusCode::NO_VALID_VE_INFO.status();
    tap.check("TDG.VP.VEINFO.GET: no #VE", Tdcall::new(TdcallLeaf::TDG_VP_VEINFO_GET).refused(none));
    tap.check("#VE: RDMSR", msr_read());
    tap.check("#VE: WRMSR that the host refuses", msr_write());
    tap.check(
        "TDG.VP.VEINFO.GET: once for each #VE",
        Tdcall::new(TdcallLeaf::TDG_VP_VEINFO_GET).refused(none),
    );
    match can_enable(td) {
        Ok(true) => tap.check("#VE: page that was not accepted", pending(td)),
        other => tap.check("#VE: disabled for pages that were not accepted", other.and_then(|_| disabled())),
    }
}

/// Whether pages that were not accepted raise #VE, or can be made to.
fn can_enable(td: &Td) -> Check<bool> {
    let flexible = ConfigFlags::from(Td::field(FieldId::CONFIG_FLAGS)?).flexible_pending_ve();
    Ok(flexible || !td.attributes.sept_ve_disable())
}

/// `TDG.VM.WR` of `TD_CTLS`.
fn choose(controls: TdCtls) -> Tdcall {
    Tdcall::new(TdcallLeaf::TDG_VM_WR).rdx(FieldId::TD_CTLS.0).r8(controls.into()).with(gpr::R9, 1)
}

/// An access would stop the machine, and the TD cannot change that.
fn disabled() -> Check {
    choose(TdCtls::new()).refused(StatusCode::METADATA_FIELD_VALUE_NOT_VALID.status())
}

/// The last #VE, which must have been for this reason.
pub(super) fn last_ve(reason: u64) -> Check<VeInfo> {
    let Some(info) = take_ve() else { return Err(Why::new(format_args!("there was no #VE"))) };
    equal("exit reason", info.reason, reason)?;
    Ok(info)
}

fn msr_read() -> Check {
    let value = read_msr(IA32_MISC_ENABLE);
    let info = last_ve(exit_reason::MSR_READ)?;
    equal("length", info.length, 2)?;
    equal("answer of the host", info.host, VmcallStatus::SUCCESS)?;
    equal("value", value, 1)
}

fn msr_write() -> Check {
    write_misc_enable(0);
    let info = last_ve(exit_reason::MSR_WRITE)?;
    equal("length", info.length, 2)?;
    equal("answer of the host", info.host, VmcallStatus::INVALID_OPERAND)
}

/// A report into a page that was never accepted: #VE, whose handler accepts the page.
fn pending(td: &Td) -> Check {
    let page = GuestPage::test(256);
    let before = TdCtls::from(Td::field(FieldId::TD_CTLS)?);
    choose(TdCtls::new()).succeed()?;
    td.report_call(&td.report_data).rcx(page.gpa()).succeed()?;
    let info = last_ve(exit_reason::EPT_VIOLATION)?;
    equal("guest-physical address", info.gpa, page.gpa())?;
    equal("exit qualification", info.qualification & 0b11, 2)?;
    equal("length", info.length, 0)?;
    super::report::judge(td, &page.read(0))?;
    choose(before).succeed().map(drop)
}
