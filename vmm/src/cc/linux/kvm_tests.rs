//! Linux on KVM without KVM: places to patch, serial lines, and the ends of guests, with a scripted engine.

use std::{
    cell::RefCell,
    convert::Infallible,
    rc::Rc,
    time::{Duration, Instant},
};

use rstest::rstest;
use tsmsim_abi::snp::{launch::PageType, policy::GuestPolicy, tcb::ProductLine};
use tsmsim_keys::Seed;
use tsmsim_simulator::snp::{firmware::Firmware, host::PlannedPage, platform::PlatformConfig};

use super::*;
use crate::{
    cc::linux::LinuxEnd,
    engine::{
        Exit,
        scripted::{ScriptedEngine, Step},
    },
    loader::{boot::write_identity_tables, patch::PatchedInstruction, vmsa::long_mode_vmsa},
};

const PVALIDATE: PatchedInstruction = PatchedInstruction::Pvalidate;
const C_BIT: u8 = 40;

fn site(gpa: u64, instruction: Watched) -> Site {
    Site { address: 0xffff_ffff_8000_0000 + gpa, gpa, instruction }
}

#[test]
fn every_place_becomes_an_out() {
    let ram = GuestRam::new(0x4000).unwrap();
    ram.write(0x1000, &[&[0x90][..], &PVALIDATE.bytes(), &[0xc3]].concat()).unwrap();
    let sites = Sites {
        found: vec![site(0x1001, Watched::Confidential(PVALIDATE)), site(0x2000, Watched::Cpuid)],
        unconfirmed: vec![site(0x3000, Watched::Cpuid)],
    };
    // CPUID is the processor's own here.
    let places = patchable(sites).unwrap();
    assert_eq!(places, [site(0x1001, Watched::Confidential(PVALIDATE))]);
    patch(&ram, &places).unwrap();
    let mut code = [0; 6];
    ram.read(0x1000, &mut code).unwrap();
    assert_eq!(code, [0x90, 0xe6, 0xb5, 0x90, 0x90, 0xc3]);
    assert!(matches!(patch(&ram, &places), Err(LinuxBootError::Kernel(_))), "it is there once");
    let outside = [site(0x3ffe, Watched::Confidential(PVALIDATE))];
    assert!(matches!(patch(&ram, &outside), Err(LinuxBootError::Memory(_))));
}

#[test]
fn what_may_be_an_instruction_stops_the_boot() {
    let vmgexit = site(0x1000, Watched::Confidential(PatchedInstruction::Vmgexit));
    let refused = patchable(Sites { found: Vec::new(), unconfirmed: vec![vmgexit] }).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("0xffffffff80001000") && text.contains("VMGEXIT"), "{text}");
}

#[rstest]
#[case::fast(false)]
#[case::slow(true)]
fn a_td_sees_intels_processor(#[case] slow: bool) {
    let entry = |function, eax| crate::engine::cpuid::CpuidEntry { function, eax, ..Default::default() };
    let supported = [entry(0, 0xd), entry(1, 0xa0_0f11), entry(7, 0), entry(0x8000_0000, 0x8000_0022)]
        .into_iter()
        .chain([entry(0x8000_0008, 0x3030), entry(0x8000_0022, 1), entry(0x4000_0000, 1)])
        .collect();
    let cpuid = KvmLinux { supported, append: String::new(), slow }.tdx_cpu();
    assert_eq!(cpuid.get(0x21, 0).map(|entry| entry.ebx.to_le_bytes()), Some(*b"Inte"));
    assert_eq!(cpuid.get(0, 0).map(|entry| (entry.eax, entry.ecx.to_le_bytes())), Some((0x21, *b"ntel")));
    assert_eq!(cpuid.get(0x8000_0000, 0).map(|entry| entry.eax), Some(0x8000_0008));
    assert_eq!((cpuid.get(0x8000_0022, 0), cpuid.get(0x4000_0000, 0)), (None, None));
    assert_eq!(cpuid.get(7, 0).is_some(), !slow);
}

/// Counts pulses.
#[derive(Clone, Default)]
struct Pulses(Rc<RefCell<Vec<u32>>>, u32);

impl Trigger for Pulses {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.borrow_mut().push(self.1);
        Ok(())
    }
}

impl LinuxEngine for ScriptedEngine {
    fn stops(&self) -> &BTreeMap<&'static str, u64> {
        static NONE: BTreeMap<&str, u64> = BTreeMap::new();
        &NONE
    }
}

/// A guest that plays the script, at serial lines like those of a machine on KVM; and their pulses.
fn guest(script: Vec<Step>) -> (LinuxGuest<SnpMachine<ScriptedEngine>>, Pulses) {
    let pulses = Pulses::default();
    let mut bus = PortBus::new();
    let (host, ends) = serial_lines(&mut bus, |number| Pulses(Rc::clone(&pulses.0), number)).unwrap();
    let ram = GuestRam::new(4 << 20).unwrap();
    let tables = write_identity_tables(&ram, 0x1000).unwrap();
    let mut plan = LaunchPlan::from(GuestPolicy::DEFAULT);
    plan.pages.extend(tables.pages().map(|gpa| PlannedPage::memory(PageType::NORMAL, gpa)));
    let platform = PlatformConfig::new(ProductLine::Genoa).with_c_bit(C_BIT).build(&Seed::DEFAULT).unwrap();
    let machine = SnpMachine::launch(SnpMachineParts {
        engine: ScriptedEngine::new(script),
        bus,
        cpuid: CpuidTable::new(),
        firmware: Firmware::new(platform),
        host: HostConfig {
            ram: std::iter::once(0..ram.size()).collect(),
            c_bit: C_BIT,
            ..HostConfig::default()
        },
        ram,
        plan,
        vmsa: Box::new(long_mode_vmsa(0x10_0000, tables.cr3, 0)),
    })
    .unwrap();
    let lines = Lines { host, attention: std::sync::Arc::default(), guest: ends };
    let channel: crate::cc::linux::Sink = Box::new(|bytes| bytes.contains(&b'!'));
    (LinuxGuest::new(machine, lines, None, Some(channel)).unwrap(), pulses)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn out(port: u16, byte: u8) -> Step {
    Exit::IoOut { port, size: 1, data: vec![byte] }.into()
}

/// What the guest writes to its console and to its channel before the processor is reset.
#[rstest]
#[case::panic("Kernel panic - not syncing: x\n", "", LinuxEnd::Panic("Kernel panic - not syncing: x".to_owned()))]
#[case::restart("reboot: Restarting system\n", "", LinuxEnd::Restart)]
#[case::nothing("", "", LinuxEnd::Reset)]
#[case::done("reboot: Restarting system\n", "ready!", LinuxEnd::Done)]
fn what_was_written_before_the_end_is_there(
    #[case] console: &str,
    #[case] channel: &str,
    #[case] end: LinuxEnd,
) {
    let mut script: Vec<Step> = console.bytes().map(|byte| out(COM1_PORT, byte)).collect();
    script.extend(channel.bytes().map(|byte| out(0x2f8, byte)));
    script.push(Exit::Shutdown.into());
    let (mut guest, _) = guest(script);
    assert_eq!(guest.run(soon()).unwrap(), end);
    assert_eq!((guest.console().as_str(), guest.channel()), (console, channel.as_bytes().to_vec()));
}

#[test]
fn an_empty_transmitter_raises_its_own_line() {
    // The interrupt enable register's bit for it, then a byte.
    let script = vec![out(0x2f9, 2), out(0x2f8, b'x'), out(COM1_PORT, b'y'), Exit::Shutdown.into()];
    let (mut guest, pulses) = guest(script);
    guest.run(soon()).unwrap();
    assert!(!pulses.0.borrow().is_empty() && pulses.0.borrow().iter().all(|line| *line == 3));
}
