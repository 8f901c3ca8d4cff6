//! `MSG_CPUID_REQ` and `MSG_TSC_INFO_REQ` (56860, sections 7.1 and 7.9).

use tsmsim_abi::snp::{
    message::MessageType,
    payload::{CPUID_MAX, CpuidReq, CpuidRsp, TscInfoReq, TscInfoRsp},
    status::FirmwareStatus,
};
use zerocopy::FromZeros;

use crate::guest::{
    machine::Machine,
    tap::{Check, Tap, Why, ensure, equal},
};

pub(in crate::guest) fn run(machine: &mut Machine, tap: &mut Tap) {
    tap.check("CPUID_REQ: the CPUID page's values", cpuid_accepted(machine));
    tap.check("CPUID_REQ: a wrong value", cpuid_wrong(machine));
    tap.check("CPUID_REQ: COUNT above 64", cpuid_refused(machine, |request| request.count.set(65)));
    tap.check("CPUID_REQ: reserved", cpuid_refused(machine, |request| request.reserved_0x8.set(1)));
    tap.check("TSC_INFO_REQ", tsc_info(machine));
    tap.check("TSC_INFO_REQ: reserved", tsc_info_refused(machine));
}

/// The CPUID page as a request.
fn from_page(machine: &Machine) -> Check<CpuidReq> {
    let Some(page) = machine.launched.cpuid_page() else {
        return Err(Why::new(format_args!("there is no CPUID page")));
    };
    ensure!(page.count.get() as usize <= CPUID_MAX, "the CPUID page has {} entries", page.count.get());
    Ok(CpuidReq {
        count: page.count,
        reserved_0x4: 0.into(),
        reserved_0x8: 0.into(),
        functions: page.functions,
    })
}

fn cpuid_accepted(machine: &mut Machine) -> Check {
    let request = from_page(machine)?;
    let answer: CpuidRsp = machine.ask(0, MessageType::CPUID_REQ, &request)?;
    equal("STATUS", FirmwareStatus(answer.status.get()), FirmwareStatus::SUCCESS)?;
    equal("COUNT", answer.count.get(), request.count.get())?;
    let count = request.count.get() as usize;
    for (found, asked) in answer.functions.iter().zip(&request.functions).take(count) {
        ensure!(found == asked, "Fn{:08x}_x{:x} was changed", asked.eax_in.get(), asked.ecx_in.get());
    }
    Ok(())
}

/// A wrong C-bit position must not pass unseen.
fn cpuid_wrong(machine: &mut Machine) -> Check {
    let mut request = from_page(machine)?;
    let Some(index) = request.functions.iter().position(|function| function.eax_in.get() == 0x8000_001f)
    else {
        return Err(Why::new(format_args!("the CPUID page lacks Fn8000_001F")));
    };
    let wrong = request.functions[index].ebx.get() ^ 1;
    request.functions[index].ebx.set(wrong);
    let answer: CpuidRsp = machine.ask(0, MessageType::CPUID_REQ, &request)?;
    equal("STATUS", FirmwareStatus(answer.status.get()), FirmwareStatus::INVALID_PARAM)?;
    equal("EBX", answer.functions[index].ebx.get(), wrong ^ 1)
}

fn cpuid_refused(machine: &mut Machine, spoil: impl FnOnce(&mut CpuidReq)) -> Check {
    let mut request = from_page(machine)?;
    spoil(&mut request);
    let answer: CpuidRsp = machine.ask(0, MessageType::CPUID_REQ, &request)?;
    equal("STATUS", FirmwareStatus(answer.status.get()), FirmwareStatus::INVALID_PARAM)
}

fn tsc_info(machine: &mut Machine) -> Check {
    let answer: TscInfoRsp = machine.ask(0, MessageType::TSC_INFO_REQ, &TscInfoReq::new_zeroed())?;
    equal("STATUS", FirmwareStatus(answer.status.get()), FirmwareStatus::SUCCESS)?;
    ensure!(answer.reserved_0x1c == [0; 100], "reserved bytes are not zero");
    let Some(secrets) = machine.launched.secrets() else {
        return Err(Why::new(format_args!("there is no secrets page")));
    };
    equal("TSC_FACTOR", answer.tsc_factor.get(), secrets.tsc_factor.get())
}

fn tsc_info_refused(machine: &mut Machine) -> Check {
    let answer: TscInfoRsp = machine.ask(0, MessageType::TSC_INFO_REQ, &TscInfoReq { reserved: [1; 128] })?;
    equal("STATUS", FirmwareStatus(answer.status.get()), FirmwareStatus::INVALID_PARAM)
}
