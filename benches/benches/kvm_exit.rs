//! Exits of a virtual machine under KVM.

fn main() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    if let Err(reason) = kvm::available() {
        println!("kvm_exit: passed over: {reason}");
        return;
    }
    divan::main();
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kvm {
    use std::time::{Duration, Instant};

    use divan::{Bencher, counter::ItemsCount};
    use tsmsim_abi::{
        guest_test::EXIT_PORT,
        snp::{
            msr::{GhcbInfo, MSR_GHCB},
            policy::GuestPolicy,
            tcb::ProductLine,
        },
    };
    use tsmsim_benches::platform;
    use tsmsim_keys::SignatureMode;
    use tsmsim_simulator::snp::{
        firmware::Firmware,
        host::{HostConfig, LaunchPlan},
    };
    use tsmsim_vmm::{
        bus::PortBus,
        cc::snp::{End, SnpMachine, SnpMachineParts},
        engine::{
            Engine, Exit, InitialState,
            cpuid::CpuidTable,
            kvm::{KvmConfig, KvmProbe, KvmVcpu, KvmVm, MsrRange, probe},
        },
        loader::{boot, patch::PatchedInstruction, vmsa::long_mode_vmsa},
        memory::GuestRam,
    };

    const RAM: u64 = 0x20_0000;
    const TABLES: u64 = 0x1000;
    const CODE: u64 = 0x1_0000;
    /// VMGEXITs of one run of the guest that makes them.
    const VMGEXITS: u8 = 100;

    /// Whether there is KVM, or why not.
    pub(super) fn available() -> Result<(), String> {
        match probe() {
            KvmProbe::Present(_) => Ok(()),
            other => Err(other.to_string()),
        }
    }

    fn deadline() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A guest in long mode, in ring 0, with this code.
    fn vcpu(code: &[u8], config: &KvmConfig) -> (GuestRam, KvmVcpu) {
        let ram = GuestRam::new(RAM).expect("there is memory");
        boot::write_identity_tables(&ram, TABLES).expect("the tables fit");
        ram.write(CODE, code).expect("the code fits");
        let vm = KvmVm::new(config, &ram).expect("KVM gives a machine");
        let vcpu = vm.create_vcpu(&CpuidTable::new()).expect("KVM gives a processor");
        (ram, vcpu)
    }

    /// OUT, and back into the guest.
    #[divan::bench]
    fn out(bencher: Bencher<'_, '_>) {
        // out 0x80, al; jmp back to it
        let (_, mut vcpu) = vcpu(&[0xe6, 0x80, 0xeb, 0xfc], &KvmConfig::default());
        vcpu.set_initial_state(&InitialState::long_mode(CODE, TABLES)).expect("the state is fine");
        let deadline = deadline();
        bencher.bench_local(|| match vcpu.run(deadline) {
            Ok(Exit::IoOut { port: 0x80, .. }) => {}
            other => panic!("the guest did something else: {other:?}"),
        });
    }

    /// A request of the GHCB MSR protocol by a patched VMGEXIT, which takes two exits: WRMSR and OUT.
    #[divan::bench(sample_count = 30)]
    fn msr_protocol(bencher: Bencher<'_, '_>) {
        bencher.counter(ItemsCount::new(VMGEXITS)).with_inputs(machine).bench_local_values(|mut machine| {
            assert_eq!(machine.run(deadline()), Ok(End::Done(0)));
            machine
        });
    }

    fn machine() -> SnpMachine<KvmVcpu> {
        let config = KvmConfig {
            msr_exits: vec![MsrRange { base: MSR_GHCB, count: 1, read: true, write: true }],
            ..KvmConfig::default()
        };
        let (ram, engine) = vcpu(&vmgexits(), &config);
        SnpMachine::launch(SnpMachineParts {
            engine,
            ram,
            bus: PortBus::new(),
            cpuid: CpuidTable::new(),
            firmware: Firmware::new(platform(ProductLine::Milan, SignatureMode::Randomized)),
            host: HostConfig { ram: std::iter::once(0..RAM).collect(), ..HostConfig::default() },
            plan: LaunchPlan::from(GuestPolicy::DEFAULT),
            vmsa: Box::new(long_mode_vmsa(CODE, TABLES, 0)),
        })
        .expect("the guest launches")
    }

    /// Asks for the SEV information again and again, then ends.
    fn vmgexits() -> Vec<u8> {
        let mut code = vec![0xb3, VMGEXITS]; // mov bl, VMGEXITS
        let again = code.len();
        code.push(0xb9); // mov ecx, MSR_GHCB
        code.extend(MSR_GHCB.to_le_bytes());
        code.push(0xb8); // mov eax, request
        code.extend(u32::from(GhcbInfo::SEV_INFO_REQUEST.0).to_le_bytes());
        code.extend([0x31, 0xd2, 0x0f, 0x30]); // xor edx, edx; wrmsr
        code.extend(PatchedInstruction::Vmgexit.replacement());
        code.extend([0xfe, 0xcb]); // dec bl
        let back = again.wrapping_sub(code.len() + 2).to_le_bytes()[0];
        code.extend([0x75, back]); // jnz again
        code.extend([0x66, 0xba]); // mov dx, EXIT_PORT
        code.extend(EXIT_PORT.to_le_bytes());
        code.extend([0xb0, 0x00, 0xee]); // mov al, 0; out dx, al
        code
    }
}
