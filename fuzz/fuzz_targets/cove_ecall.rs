//! Any SBI calls of a TVM, and any calls of its host in between.
//!
//! One step: kind (1). Bits 1:0: 0 any registers, 1 a COVG call, 2 memory is written, 3 the host calls; bit 2: the other vCPU;
//! bit 3: a vCPU that there is not; bit 4: the host does nothing for the call, which stays unfinished where it needs the host.
//! Then a0 to a7; or function (2) and a0 to a5; or an address in memory (4) and what is written there (length and bytes); or
//! the host's function (1; bit 7: nothing is aligned), a page (2) and how many (1).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::cove::{
    covh::CovhFid,
    sbi::{ExtensionId, SbiError},
};
use tsmsim_fuzz::{Input, RAM, STEPS, cove};
use tsmsim_simulator::{
    cove::{
        covg::Outcome,
        machine::{Action, Machine},
        registers::Registers,
    },
    env::Env,
};

/// Pages that the host's calls may be about: those of memory, and as many that there are not.
const PAGES: u64 = RAM as u64 / 0x1000 * 2;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (mut machine, mut world) = cove::machine();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        let vcpu = usize::from(kind >> 2 & 3);
        let mut registers = match kind & 3 {
            0 => Registers(std::array::from_fn(|_| input.u64())),
            1 => {
                let function = input.u16().into();
                let arguments: [u64; 6] = std::array::from_fn(|_| input.u64());
                Registers::call(ExtensionId::COVG, function, &arguments)
            }
            2 => {
                let gpa = u64::from(input.u32()) % RAM as u64;
                // Nothing is written behind the end.
                let _ = world.memory.write(gpa, input.sized());
                continue;
            }
            _ => {
                let result = covh(&mut machine, vcpu, &mut input, &mut world.env().0);
                assert!(result.err().is_none_or(|error| error.name().is_some()));
                continue;
            }
        };
        let (mut env, _) = world.env();
        match kind & 16 {
            0 => ecall(&mut machine, vcpu, &mut registers, &mut env),
            _ => without_host(&mut machine, vcpu, &mut registers, &mut env),
        }
    }
});

/// Calls; the host maps and converts what the call needs.
fn ecall(machine: &mut Machine, vcpu: usize, registers: &mut Registers, env: &mut Env<'_>) {
    let before = *registers;
    match machine.ecall(vcpu, registers, env) {
        Action::Forward => assert_eq!(*registers, before, "it is not the TSM's call"),
        Action::Resume => check(&before, registers),
    }
}

/// Calls; the host does nothing.
fn without_host(machine: &mut Machine, vcpu: usize, registers: &mut Registers, env: &mut Env<'_>) {
    let (before, platform) = (*registers, machine.platform().clone());
    match machine.tvm_mut().ecall(&platform, vcpu, registers, env) {
        Outcome::Done => check(&before, registers),
        outcome => {
            assert_eq!(*registers, before, "the call has not ended");
            let waits = machine.tvm().vcpus().get(vcpu).is_some_and(|vcpu| vcpu.conversion().is_some());
            match outcome {
                Outcome::Convert(_) => assert!(waits, "the host has its part to do"),
                Outcome::PageFault { .. } => assert!(!waits, "a vCPU that waits does not run"),
                // Not the TSM's call, whoever makes it.
                _ => {}
            }
        }
    }
}

/// The answer is an error that has a name, without a value, or a success; the other registers stay as they are.
fn check(before: &Registers, after: &Registers) {
    let error = after.error();
    assert!(error.name().is_some(), "{error}");
    assert!(error == SbiError::SUCCESS || after.value() == 0);
    assert_eq!(before.0[2..], after.0[2..]);
}

/// A call of the host.
fn covh(
    machine: &mut Machine,
    vcpu: usize,
    input: &mut Input<'_>,
    env: &mut Env<'_>,
) -> Result<(), SbiError> {
    let (function, page, count) = (input.u8(), input.u16(), input.u8());
    let offset = u64::from(function >> 7);
    let gpa = u64::from(page) % PAGES * 0x1000 + offset;
    let len = u64::from(count) * 0x1000 + offset;
    let platform = machine.platform().clone();
    let tvm = machine.tvm_mut();
    match CovhFid(u16::from(function & 0x7f)) {
        CovhFid::FINALIZE_TVM => tvm.finalize(&platform, [gpa, len], None, env),
        CovhFid::DESTROY_TVM => tvm.destroy(env),
        CovhFid::ADD_TVM_MEMORY_REGION => tvm.add_memory_region(gpa, len, env),
        CovhFid::ADD_TVM_PAGE_TABLE_PAGES => tvm.add_page_table_pages(len, env),
        CovhFid::ADD_TVM_MEASURED_PAGES => tvm.add_measured_page(gpa, None, env),
        CovhFid::ADD_TVM_ZERO_PAGES => tvm.add_zero_page(gpa, env),
        CovhFid::ADD_TVM_SHARED_PAGES => tvm.add_shared_page(gpa, env),
        CovhFid::CREATE_TVM_VCPU => tvm.create_vcpu(gpa, env),
        CovhFid::TVM_FENCE => tvm.fence(env),
        CovhFid::TVM_INVALIDATE_PAGES => tvm.invalidate_pages(gpa, len, env),
        CovhFid::TVM_VALIDATE_PAGES => tvm.validate_pages(gpa, len, env),
        CovhFid::TVM_REMOVE_PAGES => tvm.remove_pages(gpa, len, env),
        // The end of a conversion, which is no function of its own.
        CovhFid::RUN_TVM_VCPU => tvm.complete_conversion(vcpu, env),
        _ => {
            tvm.abandon_conversion(vcpu);
            Ok(())
        }
    }
}
