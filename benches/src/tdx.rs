//! A machine whose TD does nothing but ask for quotes.

use tsmsim_abi::tdx::{
    get_quote::{GetQuoteHeader, GetQuoteStatus, VERSION},
    leaf::VmcallControl,
    report::TdReport,
    vmcall::VmcallSubFunction,
};
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::{
    snp::guest::World,
    tdx::{
        PAGE_SIZE,
        guest::default_params,
        machine::{Action, LaunchPlan, Machine},
        platform::{TdxPlatform, TdxPlatformConfig},
        registers::{Gpr, Registers},
        vmcall::HostConfig,
    },
};
use zerocopy::{FromZeros, IntoBytes};

/// Guest memory, in bytes.
const RAM: usize = 1 << 20;
/// The shared buffer.
const BUFFER: u64 = 0x1_0000;
const BUFFER_SIZE: usize = 8 * PAGE_SIZE;

/// Bytes of a quote of version 4 that are signed: header and body.
pub const SIGNED_SIZE: usize = 48 + 584;

/// A TDX 1.5 platform of the default seed.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn tdx_platform(mode: SignatureMode) -> TdxPlatform {
    let config = TdxPlatformConfig { signature_mode: mode, ..TdxPlatformConfig::tdx_1_5() };
    config.build(&Seed::DEFAULT).expect("a platform of the default seed can be built")
}

/// A machine whose TD has a report and a shared buffer; quotes are there when `GetQuote` returns.
pub struct QuoteMachine {
    machine: Machine,
    world: World,
    report: TdReport,
    registers: Registers,
}

impl QuoteMachine {
    /// A machine on this platform.
    ///
    /// # Panics
    /// If it cannot be launched.
    #[must_use]
    pub fn new(platform: TdxPlatform) -> Self {
        let plan = LaunchPlan {
            params: default_params(),
            ram: std::iter::once(0..RAM as u64).collect(),
            vcpus: 1,
            pages: Vec::new(),
        };
        let mut world = World::new(RAM, Seed::DEFAULT);
        let (mut env, _) = world.env();
        let machine = Machine::launch(platform, HostConfig::default(), &plan, &mut env);
        let mut machine = machine.expect("the TD launches");
        let pages = BUFFER / PAGE_SIZE as u64..(BUFFER + BUFFER_SIZE as u64) / PAGE_SIZE as u64;
        machine.td_mut().sept_mut().convert(pages, true);
        let report = machine.td().report(machine.platform(), [7; 64]);
        let control = VmcallControl::new().with_gpr_select(VmcallControl::GPR_R10_TO_R15);
        let registers = Registers::default()
            .with(Gpr::Rcx, control.into())
            .with(Gpr::R11, VmcallSubFunction::GET_QUOTE.0)
            .with(Gpr::R12, BUFFER | machine.td().shared_bit())
            .with(Gpr::R13, BUFFER_SIZE as u64);
        Self { machine, world, report, registers }
    }

    /// What the TD does before its TDCALL: fills header and report.
    ///
    /// # Panics
    /// Never: the buffer is in memory.
    pub fn prepare(&mut self) {
        let header = GetQuoteHeader {
            version: VERSION.into(),
            in_len: u32::try_from(size_of::<TdReport>()).expect("it is small").into(),
            ..GetQuoteHeader::new_zeroed()
        };
        let data = BUFFER + size_of::<GetQuoteHeader>() as u64;
        self.world.memory.write(BUFFER, header.as_bytes()).expect("it is in memory");
        self.world.memory.write(data, self.report.as_bytes()).expect("it is in memory");
    }

    /// The timed part: TDCALL, host, quoting enclave, signature, answer.
    ///
    /// # Panics
    /// If the machine stops.
    pub fn tdcall(&mut self) {
        let (mut env, devices) = self.world.env();
        let mut registers = self.registers;
        let action = self.machine.tdcall(0, &mut registers, &mut env, devices);
        assert_eq!((action, registers[Gpr::R10]), (Action::Resume, 0), "GetQuote succeeds");
        std::hint::black_box(registers);
    }

    /// The quote, to see that there is one.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn quote(&self) -> Vec<u8> {
        let mut header = GetQuoteHeader::new_zeroed();
        self.world.memory.read(BUFFER, header.as_mut_bytes()).expect("it is in memory");
        assert_eq!(GetQuoteStatus(header.status.get()), GetQuoteStatus::SUCCESS);
        let mut quote = vec![0; usize::try_from(header.out_len.get()).expect("it is in the buffer")];
        let data = BUFFER + size_of::<GetQuoteHeader>() as u64;
        self.world.memory.read(data, &mut quote).expect("it is in memory");
        quote
    }
}

#[cfg(test)]
mod tests {
    use tsmsim_abi::tdx::quote::Quote;

    use super::*;

    #[test]
    fn what_is_timed_is_a_whole_quote() {
        let mut machine = QuoteMachine::new(tdx_platform(SignatureMode::Randomized));
        for _ in 0..2 {
            machine.prepare();
            machine.tdcall();
            let bytes = machine.quote();
            let quote = Quote::read(&bytes).expect("it is a quote");
            assert_eq!(quote.signed.size(), SIGNED_SIZE);
            assert!(quote.signature().is_ok());
        }
    }
}
