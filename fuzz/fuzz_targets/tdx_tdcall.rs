//! Any TDCALLs of a TD. One step: kind (1; bits 1:0: 0 TDCALL, 1 TDVMCALL with R10 to R15, 2 memory is written, 3 the host is
//! polled; bit 2: the other VCPU; bit 3: a VCPU that there is not), then RAX, RCX, RDX, R8 to R15, RBX; or the sub-function (4)
//! and R12 to R15; or an address in memory (4) and what is written there (length and bytes).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::tdx::{
    leaf::TdcallLeaf, report::TdReport, status::CompletionStatus, vmcall::VmcallSubFunction,
};
use tsmsim_fuzz::{Input, RAM, STEPS, tdx};
use tsmsim_simulator::{
    snp::guest::World,
    tdx::{
        machine::{Action, Machine},
        registers::{Gpr, Registers},
    },
};
use zerocopy::{FromZeros, IntoBytes};

/// The registers that functions read, in the order of the input.
const OPERANDS: [Gpr; 11] = [
    Gpr::Rcx,
    Gpr::Rdx,
    Gpr::R8,
    Gpr::R9,
    Gpr::R10,
    Gpr::R11,
    Gpr::R12,
    Gpr::R13,
    Gpr::R14,
    Gpr::R15,
    Gpr::Rbx,
];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (mut machine, mut world) = tdx::machine(true);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        let vcpu = usize::from(kind >> 2 & 3);
        let mut registers = match kind & 3 {
            0 => any(&mut input),
            1 => {
                let sub_function = VmcallSubFunction(input.u32().into());
                tdx::vmcall(sub_function, std::array::from_fn(|_| input.u64()))
            }
            2 => {
                let gpa = u64::from(input.u32()) % RAM as u64;
                // Nothing is written behind the end.
                let _ = world.memory.write(gpa, input.sized());
                continue;
            }
            _ => {
                let (mut env, _) = world.env();
                assert!(machine.poll(&mut env).len() <= 256);
                continue;
            }
        };
        let before = registers;
        let action = tdx::tdcall(&mut machine, &mut world, vcpu, &mut registers);
        match action {
            Action::Terminated(_) => break,
            Action::Resume => check(&machine, &world, &before, &registers),
            _ => {}
        }
    }
});

fn any(input: &mut Input<'_>) -> Registers {
    let registers = Registers::default().with(Gpr::Rax, input.u64());
    OPERANDS.into_iter().fold(registers, |registers, operand| registers.with(operand, input.u64()))
}

/// Registers that no function uses stay as they are; a report verifies.
fn check(machine: &Machine, world: &World, before: &Registers, after: &Registers) {
    for kept in [Gpr::Rsp, Gpr::Rbp, Gpr::Rsi, Gpr::Rdi] {
        assert_eq!(after[kept], before[kept], "no function changes it");
    }
    let succeeded = CompletionStatus(after[Gpr::Rax]) == CompletionStatus::SUCCESS;
    if before[Gpr::Rax] == u64::from(TdcallLeaf::TDG_MR_REPORT.0) && succeeded {
        let mut report = TdReport::new_zeroed();
        world.memory.read(before[Gpr::Rcx], report.as_mut_bytes()).expect("the report is in memory");
        assert!(machine.platform().verify_report(&report.report_mac_struct).is_ok(), "the MAC is right");
    }
}
