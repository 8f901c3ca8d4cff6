//! Any exits of a RISC-V engine, any registers, any memory.
//!
//! Input: how the TVM is made (1; bit 0: promoted), then steps: kind (1), operands. The last page of the TVM has no memory
//! behind it.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::cove::sbi::{ExtensionId, SbiError};
use tsmsim_fuzz::{Input, STEPS, cove, world};
use tsmsim_simulator::{
    cove::{
        machine::{HostConfig, LaunchPlan, PlannedPage},
        promote::PromotePlan,
        registers::Registers,
    },
    snp::guest::World,
};
use tsmsim_vmm::{
    cc::{
        cove::{End, HandOver, TvmMachine, TvmMachineParts, TvmPlan},
        surroundings::Surroundings,
    },
    engine::{
        EngineError,
        riscv::{Exit, RAM_BASE, Trap, scripted::ScriptedHart},
    },
    memory::{GuestRam, PlacedRam},
};

const RAM: u64 = 32 << 12;
/// Where the host hands something over.
const PLACE: u64 = RAM_BASE + 0x1000;

/// A step of the script.
enum Step {
    Exit(Exit),
    /// Memory changes while the hart stands still.
    Write(u64, Vec<u8>),
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let promoted = input.u8() & 1 != 0;
    let (mut exits, mut writes) = (Vec::new(), Vec::new());
    while exits.len() < STEPS && !input.is_empty() {
        exits.push(match step(&mut input) {
            Step::Exit(exit) => exit,
            Step::Write(gpa, bytes) => {
                writes.push((gpa, bytes));
                Exit::Deadline
            }
        });
    }
    let (count, mut writes) = (exits.len(), writes.into_iter());
    let ram = PlacedRam::new(GuestRam::new(RAM).expect("there is memory"), RAM_BASE).expect("it fits");
    let mut machine = machine(ScriptedHart::new(exits), &ram, promoted);
    let deadline = Instant::now() + Duration::from_secs(60);
    for _ in 0..=count {
        match machine.run(deadline) {
            Ok(End::Deadline) => {
                if let Some((gpa, bytes)) = writes.next() {
                    // Nothing is written behind the end.
                    let _ = ram.write(gpa, &bytes);
                }
            }
            Ok(End::Done(_)) | Err(EngineError::ScriptEnded) => break,
            Ok(_) => {}
            Err(error) => panic!("no guest makes the engine fail: {error}"),
        }
    }
    for (error, value) in machine.hart().answers() {
        let error = SbiError(*error);
        assert!(error.name().is_some(), "{error}");
        assert!(error == SbiError::SUCCESS || *value == 0, "an error has no value");
    }
});

fn step(input: &mut Input<'_>) -> Step {
    let kind = input.u8();
    Step::Exit(match kind & 7 {
        0 => Exit::Ecall { arguments: [(); 8].map(|()| input.u64()) },
        1..=3 => {
            let extension = [ExtensionId::COVG, ExtensionId::COVG, ExtensionId::BASE, ExtensionId::DBCN];
            let fid = input.u8().into();
            let arguments = [(); 6].map(|()| place(input));
            Exit::Ecall { arguments: Registers::call(extension[usize::from(kind & 3)], fid, &arguments).0 }
        }
        4 => {
            let arguments = [input.u64(), input.u64()];
            Exit::Ecall { arguments: Registers::call(ExtensionId::SRST, input.u8().into(), &arguments).0 }
        }
        5 => return Step::Write(place(input), input.sized().to_vec()),
        6 => Exit::Trap(Trap { cause: input.u64(), pc: input.u64(), value: input.u64() }),
        _ if kind & 8 != 0 => Exit::PoweredOff,
        _ => Exit::Deadline,
    })
}

/// A number: from the beginning of memory on, as it is, or a length in pages.
fn place(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        0xff => input.u64(),
        0xfe => RAM_BASE + u64::from(input.u16()),
        0xfd => input.u16().into(),
        pages if pages & 0x40 != 0 => u64::from(pages & 0x3f) << 12,
        pages => RAM_BASE + (u64::from(pages & 0x3f) << 12),
    }
}

fn machine(hart: ScriptedHart, ram: &PlacedRam, promoted: bool) -> TvmMachine<ScriptedHart> {
    let World { clock, entropy, faults, .. } = world();
    let parts = TvmMachineParts {
        hart,
        ram: ram.clone(),
        platform: cove::platform(),
        host: HostConfig::default(),
        plan: plan(promoted),
        hand_over: Some(HandOver { gpa: PLACE, contents: vec![0x5a; 100] }),
        console: Box::new(std::io::sink()),
    };
    TvmMachine::launch(parts, Surroundings { clock, entropy, faults }).expect("the TVM launches")
}

fn plan(promoted: bool) -> TvmPlan {
    let ram = |end| std::iter::once(RAM_BASE..end).collect();
    if promoted {
        let fdt_addr = PLACE;
        let ram = ram(RAM_BASE + RAM);
        return PromotePlan { ram, vcpus: 1, fdt_addr, tap_addr: 0, entry_sepc: RAM_BASE, identity: None }
            .into();
    }
    LaunchPlan {
        ram: ram(RAM_BASE + RAM + 0x1000),
        vcpus: 1,
        pages: vec![PlannedPage { gpa: RAM_BASE, contents: None }],
        entry_sepc: RAM_BASE,
        entry_arg: PLACE,
        identity: None,
    }
    .into()
}
