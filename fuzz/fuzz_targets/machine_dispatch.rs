//! Any exits of an engine. One step: kind (1), operands; the general registers may be anything at each of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::{launch::PageType, msr::MSR_GHCB, policy::GuestPolicy};
use tsmsim_fuzz::{Input, STEPS, firmware, world};
use tsmsim_simulator::snp::{
    guest::World,
    host::{HostConfig, LaunchPlan, PlannedPage},
};
use tsmsim_vmm::{
    bus::PortBus,
    cc::{
        snp::{SnpMachine, SnpMachineParts},
        surroundings::Surroundings,
    },
    engine::{EngineError, Exit, Registers, cpuid::CpuidTable, scripted::ScriptedEngine, scripted::Step},
    loader::{boot, patch::PatchedInstruction, vmsa::long_mode_vmsa},
    memory::GuestRam,
};

const RAM: u64 = 4 << 20;
const TABLES: u64 = 0x1000;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let mut steps = Vec::new();
    while steps.len() < STEPS && !input.is_empty() {
        steps.push(step(&mut input));
    }
    let count = steps.len();
    let mut machine = machine(ScriptedEngine::new(steps));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    for _ in 0..=count {
        match machine.run(deadline) {
            Ok(_) => {}
            Err(EngineError::ScriptEnded) => return,
            Err(error) => panic!("no guest makes the engine fail: {error}"),
        }
    }
});

fn step(input: &mut Input<'_>) -> Step {
    let kind = input.u8();
    let exit = match kind & 15 {
        0 => out(PatchedInstruction::Vmgexit),
        1 => out(PatchedInstruction::Pvalidate),
        2 => out(PatchedInstruction::Rmpadjust),
        3 | 4 => Exit::MsrWrite { index: MSR_GHCB, value: input.u64() },
        5 => Exit::MsrWrite { index: input.u32(), value: input.u64() },
        6 => Exit::MsrRead { index: input.u32() },
        7 => Exit::IoIn { port: input.u16(), size: size(input), count: input.u8().max(1).into() },
        8 => {
            let (port, size) = (input.u16(), size(input));
            let mut data = input.sized().to_vec();
            data.truncate(64);
            data.resize(data.len().next_multiple_of(size.into()).max(size.into()), 0);
            Exit::IoOut { port, size, data }
        }
        9 => Exit::MmioRead { gpa: input.u64(), size: input.u8() & 7 | 1 },
        10 => Exit::MmioWrite { gpa: input.u64(), data: input.array::<8>().to_vec() },
        11 => Exit::Hlt,
        12 => Exit::Shutdown,
        13 => Exit::SystemEvent { kind: input.u32(), data: vec![input.u64()] },
        14 => Exit::InternalError { suberror: input.u32(), instruction: input.array::<4>().to_vec() },
        _ => Exit::Deadline,
    };
    let step = Step::from(exit);
    if kind & 0x80 == 0 {
        return step;
    }
    let (rax, rcx, rdx) = (input.u64(), input.u64(), input.u64());
    step.with_registers(Registers { rax, rcx, rdx, ..Registers::default() })
}

fn size(input: &mut Input<'_>) -> u8 {
    [1, 2, 4, 1][usize::from(input.u8() & 3)]
}

fn out(instruction: PatchedInstruction) -> Exit {
    Exit::IoOut { port: instruction.port(), size: 1, data: vec![0] }
}

fn machine(engine: ScriptedEngine) -> SnpMachine<ScriptedEngine> {
    let ram = GuestRam::new(RAM).expect("there is memory");
    boot::write_identity_tables(&ram, TABLES).expect("the tables fit");
    let mut plan = LaunchPlan::from(GuestPolicy::DEFAULT);
    plan.pages.push(PlannedPage::memory(PageType::NORMAL, TABLES));
    let parts = SnpMachineParts {
        engine,
        ram,
        bus: PortBus::new(),
        cpuid: CpuidTable::new(),
        firmware: firmware(),
        host: HostConfig { ram: std::iter::once(0..RAM).collect(), ..HostConfig::default() },
        plan,
        vmsa: Box::new(long_mode_vmsa(0x1_0000, TABLES, 0)),
    };
    let World { clock, entropy, faults, .. } = world();
    SnpMachine::launch_with(parts, Surroundings { clock, entropy, faults }).expect("the guest launches")
}
