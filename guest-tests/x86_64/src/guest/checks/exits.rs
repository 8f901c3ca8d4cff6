//! Non-automatic exits and what the hypervisor refuses.

use tsmsim_abi::{
    guest_test::SERIAL_PORT,
    snp::{
        ghcb::{ApCreationRequest, ExitCode, GhcbField, MalformedInput, event_injection},
        msr::HypervisorFeatures,
        rmp::{RmpAdjustOperand, RmpReturn},
        vmsa::SEV_FEATURE_SNP_ACTIVE,
    },
};

use super::pages::adjust;
use crate::guest::{
    arch::memory::GuestPage,
    exit::Exit,
    machine::Machine,
    protocol,
    tap::{Check, Tap, Why, ensure, equal},
};

/// `SW_EXITINFO1` of IOIO, as the intercept has it (APM volume 2, section 15.10.2): input, one byte, 16-bit address.
const IOIO_IN: u64 = 1;
const IOIO_BYTE: u64 = 1 << 4 | 1 << 7;
const GENERAL_PROTECTION: u8 = 13;
/// APIC ID of the only vCPU.
const BOOT_APIC_ID: u64 = 0;
/// The page of the test area that becomes a VMSA, and stays one.
const VMSA_PAGE: u32 = 32;
/// The transmitter is empty: bits 5 and 6 of the line status register.
const LINE_STATUS_EMPTY: u64 = 0x60;

pub(in crate::guest) fn run(machine: &Machine, tap: &mut Tap) {
    tap.check("register GHCB: another page is not registered", another_page(machine));
    tap.check("GHCB_USAGE: unknown", usage(machine));
    tap.check("SW_EXITCODE: unknown", unknown(machine));
    for (name, field) in [
        ("valid bitmap: SW_EXITCODE missing", GhcbField::SW_EXIT_CODE),
        ("valid bitmap: SW_EXITINFO1 missing", GhcbField::SW_EXIT_INFO_1),
        ("valid bitmap: SW_EXITINFO2 missing", GhcbField::SW_EXIT_INFO_2),
    ] {
        let exit = Exit::new(ExitCode::GUEST_REQUEST, 0, 0).without(field);
        tap.check(name, machine.exit(exit).malformed(MalformedInput::MISSING_INPUT));
    }
    tap.check("hypervisor feature support by exit", features(machine));
    tap.check("CPUID", cpuid(machine));
    let exit = Exit::new(ExitCode::CPUID, 0, 0).rax(0);
    tap.check("CPUID: RCX missing", machine.exit(exit).malformed(MalformedInput::MISSING_INPUT));
    tap.check("IOIO: output", output(machine));
    tap.check("IOIO: input", input(machine));
    tap.check("MSR: WRMSR of an unknown register", unknown_msr(machine, 1));
    tap.check("MSR: RDMSR of an unknown register", unknown_msr(machine, 0));
    tap.check("RDTSC", rdtsc(machine));
    ap_creation(machine, tap);
}

/// Reports a #VC that the guest claims not to understand; the hypervisor is not to come back.
pub(in crate::guest) fn unsupported_event(machine: &Machine) -> Why {
    machine.exit(Exit::new(ExitCode::UNSUPPORTED_EVENT, ExitCode::SHUTDOWN.0, 0));
    Why::new(format_args!("the guest ran on"))
}

fn another_page(machine: &Machine) -> Check {
    let exit = Exit::new(ExitCode::HYPERVISOR_FEATURES, 0, 0);
    exit.run(machine.request).malformed(MalformedInput::GHCB_NOT_REGISTERED)
}

fn usage(machine: &Machine) -> Check {
    let mut exit = Exit::new(ExitCode::HYPERVISOR_FEATURES, 0, 0);
    exit.0.ghcb_usage.set(0x7fff_ffff);
    machine.exit(exit).malformed(MalformedInput::INVALID_GHCB_USAGE)
}

fn unknown(machine: &Machine) -> Check {
    let exit = Exit::new(ExitCode(0x8000_7fff), 0, 0);
    machine.exit(exit).malformed(MalformedInput::INVALID_EVENT)
}

fn features(machine: &Machine) -> Check {
    let answer = machine.exit(Exit::new(ExitCode::HYPERVISOR_FEATURES, 0, 0)).served()?;
    let found = HypervisorFeatures::from_bits(answer.info2());
    ensure!(found == protocol::hypervisor_features()?, "{found:?} differs from the MSR protocol's");
    Ok(())
}

fn cpuid(machine: &Machine) -> Check {
    let Some(page) = machine.launched.cpuid(0x8000_001f, 0) else {
        return Err(Why::new(format_args!("the CPUID page lacks Fn8000_001F")));
    };
    let answer = machine.exit(Exit::new(ExitCode::CPUID, 0, 0).rax(0x8000_001f).rcx(0)).served()?;
    for (field, found, expected) in [
        (GhcbField::RAX, answer.0.rax, page.eax),
        (GhcbField::RBX, answer.0.rbx, page.ebx),
        (GhcbField::RCX, answer.0.rcx, page.ecx),
        (GhcbField::RDX, answer.0.rdx, page.edx),
    ] {
        answer.has(field)?;
        equal("register", found.get(), u64::from(expected.get()))?;
    }
    Ok(())
}

/// A comment line, a byte at a time.
fn output(machine: &Machine) -> Check {
    for byte in b"# this line came through IOIO exits\n" {
        let info1 = u64::from(SERIAL_PORT) << 16 | IOIO_BYTE;
        machine.exit(Exit::new(ExitCode::IOIO, info1, 0).rax(u64::from(*byte))).served()?;
    }
    Ok(())
}

fn input(machine: &Machine) -> Check {
    let info1 = u64::from(SERIAL_PORT + 5) << 16 | IOIO_BYTE | IOIO_IN;
    let answer = machine.exit(Exit::new(ExitCode::IOIO, info1, 0).rax(0)).served()?;
    answer.has(GhcbField::RAX)?;
    equal("line status register", answer.0.rax.get() & LINE_STATUS_EMPTY, LINE_STATUS_EMPTY)
}

fn unknown_msr(machine: &Machine, write: u64) -> Check {
    let exit = Exit::new(ExitCode::MSR, write, 0).rcx(0xdead_beef).rax(0).rdx(0);
    machine.exit(exit).exception(event_injection(GENERAL_PROTECTION, Some(0)))
}

fn rdtsc(machine: &Machine) -> Check {
    let read = || {
        let answer = machine.exit(Exit::new(ExitCode::RDTSC, 0, 0)).served()?;
        answer.has(GhcbField::RAX)?;
        answer.has(GhcbField::RDX)?;
        Ok(answer.0.rdx.get() << 32 | answer.0.rax.get())
    };
    let (first, second) = (read()?, read()?);
    ensure!(first <= second, "{second:#x} after {first:#x}");
    Ok(())
}

/// AP creation (56421, section 4.1.9). There is one vCPU, so what is accepted is a VMSA for its next INIT only.
fn ap_creation(machine: &Machine, tap: &mut Tap) {
    let (vmsa, data) = (GuestPage::test(VMSA_PAGE), machine.private.gpa());
    let operand = RmpAdjustOperand::new().with_target_vmpl(1).with_vmsa(true);
    let made = protocol::take_back(vmsa).and_then(|()| adjust(vmsa, operand, RmpReturn::SUCCESS));
    tap.check("AP creation: a page becomes a VMSA", made);
    let request = |apic_id: u64, request: ApCreationRequest, gpa, features| {
        let exit = Exit::new(ExitCode::AP_CREATION, apic_id << 32 | u64::from(request.0), gpa);
        machine.exit(exit.rax(features))
    };
    let on_init = ApCreationRequest::CREATE_ON_INIT;
    let accepted = request(BOOT_APIC_ID, on_init, vmsa.gpa(), SEV_FEATURE_SNP_ACTIVE).served().map(drop);
    tap.check("AP creation: VMSA for the next INIT", accepted);
    for (name, apic_id, kind, gpa, features) in [
        ("AP creation: unknown APIC ID", 77, on_init, vmsa.gpa(), SEV_FEATURE_SNP_ACTIVE),
        ("AP creation: not a VMSA", BOOT_APIC_ID, on_init, data, SEV_FEATURE_SNP_ACTIVE),
        ("AP creation: VMSA not on a page", BOOT_APIC_ID, on_init, vmsa.gpa() + 16, SEV_FEATURE_SNP_ACTIVE),
        ("AP creation: other SEV_FEATURES", BOOT_APIC_ID, on_init, vmsa.gpa(), 0),
        (
            "AP creation: unknown request",
            BOOT_APIC_ID,
            ApCreationRequest(3),
            vmsa.gpa(),
            SEV_FEATURE_SNP_ACTIVE,
        ),
    ] {
        tap.check(name, request(apic_id, kind, gpa, features).malformed(MalformedInput::INVALID_INPUT));
    }
}
