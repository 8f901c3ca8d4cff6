//! Any SBI calls of a TVM. One step: kind (1; bits 1:0: 0 any registers, 1 a COVG call, 2 memory is written, 3 the host
//! invalidates a page; bit 2: the other vCPU; bit 3: a vCPU that there is not), then a0 to a7; or function (2) and a0 to a5; or
//! an address in memory (4) and what is written there (length and bytes); or an address in memory (4).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::cove::sbi::{ExtensionId, SbiError};
use tsmsim_fuzz::{Input, RAM, STEPS, cove};
use tsmsim_simulator::cove::{machine::Action, registers::Registers};

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
                let gpa = (u64::from(input.u32()) % RAM as u64) & !0xfff;
                let (mut env, _) = world.env();
                // A page that is not there stays that way.
                let _ = machine.tvm_mut().invalidate_pages(gpa, 0x1000, &mut env);
                continue;
            }
        };
        let before = registers;
        let (mut env, _) = world.env();
        match machine.ecall(vcpu, &mut registers, &mut env) {
            Action::Forward => assert_eq!(registers, before, "it is not the TSM's call"),
            Action::Resume => check(&before, &registers),
        }
        assert!(machine.tvm().vcpus().iter().all(|vcpu| vcpu.conversion().is_none()), "the host is done");
    }
});

/// The answer is an error that has a name, without a value, or a success; the other registers stay as they are.
fn check(before: &Registers, after: &Registers) {
    let error = after.error();
    assert!(error.name().is_some(), "{error}");
    assert!(error == SbiError::SUCCESS || after.value() == 0);
    assert_eq!(before.0[2..], after.0[2..]);
}
