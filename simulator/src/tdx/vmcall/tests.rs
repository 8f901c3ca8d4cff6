use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::tdx::{
    get_quote::{GetQuoteHeader, GetQuoteStatus},
    vmcall::{SERVICE_MIGTD_GUID, SERVICE_QUERY_GUID, ServiceHeader, ServiceQueryCommand, ServiceStatus},
};
use tsmsim_keys::Seed;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::{
    env::{Clock, OutOfRange},
    tdx::{
        guest::{World, default_params},
        machine::{Action, LaunchPlan, Machine, PlannedPage},
        platform::{TdxPlatform, TdxPlatformConfig},
        sept::PageState,
    },
};

const SHARED: u64 = 1 << 47;
/// Two shared pages.
const BUFFER: u64 = SHARED | 0x8000;
const SIZE: u64 = 0x2000;

/// A clock that goes on by a millisecond each time it is looked at.
struct Ticking(std::cell::Cell<u64>);

impl Clock for Ticking {
    fn now_ns(&self) -> u64 {
        self.0.set(self.0.get() + 1_000_000);
        self.0.get()
    }
}

struct Devices;

impl HostDevices for Devices {
    fn cpuid(&mut self, leaf: u32, subleaf: u32, xcr0: u64, _: u64) -> [u32; 4] {
        [leaf, subleaf, u32::try_from(xcr0).unwrap(), 4]
    }

    fn port_in(&mut self, _: u16, _: u8) -> u32 {
        0x1234_5678
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) {
        assert_eq!((port, size, value), (0x3f8, 1, 0x41));
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        (index == 0x10).then_some(77)
    }

    fn write_msr(&mut self, index: u32, _: u64) -> Option<()> {
        (index == 0x10).then_some(())
    }

    fn mmio_read(&mut self, gpa: u64, buf: &mut [u8]) -> Option<()> {
        buf.fill(0x5a);
        (gpa == 0xfee0_0000).then_some(())
    }

    fn mmio_write(&mut self, _: u64, _: &[u8]) -> Option<()> {
        None
    }
}

struct Bench {
    machine: Machine,
    world: World,
}

fn platform() -> TdxPlatform {
    TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).unwrap()
}

fn bench(config: HostConfig) -> Bench {
    let mut world = World::new(1 << 20, Seed::DEFAULT);
    world.clock = Box::new(Ticking(std::cell::Cell::new(0)));
    world.devices = Box::new(Devices);
    let page = |gpa| PlannedPage { gpa, contents: None, measured: false };
    let plan = LaunchPlan {
        params: default_params(),
        ram: std::iter::once(0..1 << 20).collect(),
        vcpus: 1,
        pages: [0x1000, 0x2000].map(page).to_vec(),
    };
    let mut machine = Machine::launch(platform(), config, &plan, &mut world.env().0).unwrap();
    machine.td_mut().sept_mut().convert(8..10, true);
    Bench { machine, world }
}

impl Bench {
    fn act(&mut self, registers: &mut Registers) -> Action {
        let (mut env, devices) = self.world.env();
        self.machine.tdcall(0, registers, &mut env, devices)
    }

    /// R11 to R15 in; R10 to R15 out.
    fn call(&mut self, function: VmcallSubFunction, operands: [u64; 4]) -> (VmcallStatus, [u64; 5]) {
        let mut registers = Registers::default().with(Gpr::Rcx, 0xfc00).with(Gpr::R11, function.0);
        registers.0[12..].copy_from_slice(&operands);
        assert_eq!(self.act(&mut registers), Action::Resume);
        assert_eq!(registers[Gpr::Rax], 0);
        (VmcallStatus(registers[Gpr::R10]), registers.0[11..].try_into().unwrap())
    }

    fn put(&self, gpa: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.world.memory.write(gpa & !SHARED, bytes)
    }

    fn header(&self) -> GetQuoteHeader {
        let mut header = GetQuoteHeader::new_zeroed();
        self.world.memory.read(BUFFER & !SHARED, header.as_mut_bytes()).unwrap();
        header
    }

    fn put_report(&self) {
        let header =
            GetQuoteHeader { version: 1.into(), in_len: 1024.into(), ..GetQuoteHeader::new_zeroed() };
        self.put(BUFFER, header.as_bytes()).unwrap();
        let report = self.machine.td().report(self.machine.platform(), [0; 64]);
        self.put(BUFFER + 24, report.as_bytes()).unwrap();
    }

    fn poll(&mut self) -> Vec<Interrupt> {
        self.machine.poll(&mut self.world.env().0)
    }
}

const DONE: VmcallStatus = VmcallStatus::SUCCESS;
const INVALID: VmcallStatus = VmcallStatus::INVALID_OPERAND;
const ALIGN: VmcallStatus = VmcallStatus::ALIGN_ERROR;

#[rstest]
#[case::info(0x1_0000, [0; 4], DONE)]
#[case::info_leaf(0x1_0000, [2, 0, 0, 0], INVALID)]
#[case::map_empty(0x1_0001, [0x3000, 0, 0, 0], INVALID)]
#[case::map_unaligned(0x1_0001, [0x3001, 0x1000, 0, 0], ALIGN)]
#[case::map_size(0x1_0001, [0x3000, 0x1001, 0, 0], ALIGN)]
#[case::map_wraps(0x1_0001, [0x3000, !0xfff, 0, 0], INVALID)]
#[case::map_beyond(0x1_0001, [SHARED - 0x1000, 0x2000, 0, 0], INVALID)]
#[case::map_too_wide(0x1_0001, [1 << 48, 0x1000, 0, 0], INVALID)]
#[case::quote_private(0x1_0002, [0x8000, SIZE, 0, 0], INVALID)]
#[case::quote_not_shared(0x1_0002, [SHARED | 0x1000, 0x1000, 0, 0], INVALID)]
#[case::quote_partly_shared(0x1_0002, [BUFFER, 0x3000, 0, 0], INVALID)]
#[case::quote_unaligned(0x1_0002, [BUFFER + 8, SIZE, 0, 0], ALIGN)]
#[case::quote_size(0x1_0002, [BUFFER, SIZE + 1, 0, 0], ALIGN)]
#[case::quote_empty(0x1_0002, [BUFFER, 0, 0, 0], INVALID)]
#[case::quote_version(0x1_0002, [BUFFER, SIZE, 0, 0], INVALID)]
#[case::notify(0x1_0004, [32, 0, 0, 0], DONE)]
#[case::notify_exception(0x1_0004, [31, 0, 0, 0], INVALID)]
#[case::notify_wide(0x1_0004, [256, 0, 0, 0], INVALID)]
#[case::service_private(0x1_0005, [0x8000, BUFFER, 0, 0], INVALID)]
#[case::service_unaligned(0x1_0005, [BUFFER, BUFFER + 1, 0, 0], ALIGN)]
#[case::service_vector(0x1_0005, [BUFFER, BUFFER + 0x1000, 3, 0], INVALID)]
#[case::service_no_room(0x1_0005, [BUFFER, BUFFER + 0x1000, 0, 0], INVALID)]
#[case::unknown(0x1_0009, [0; 4], VmcallStatus::SUBFUNC_UNSUPPORTED)]
#[case::pconfig(65, [0; 4], VmcallStatus::SUBFUNC_UNSUPPORTED)]
#[case::wbinvd(54, [0; 4], DONE)]
#[case::cpuid_wide(10, [1 << 32, 0, 0, 0], INVALID)]
#[case::io_out(30, [1, 1, 0x3f8, 0x141], DONE)]
#[case::io_size(30, [3, 0, 0x3f8, 0], INVALID)]
#[case::io_direction(30, [1, 2, 0x3f8, 0], INVALID)]
#[case::io_port(30, [1, 0, 0x1_0000, 0], INVALID)]
#[case::rdmsr(31, [0x11, 0, 0, 0], INVALID)]
#[case::wrmsr(32, [0x10, 5, 0, 0], DONE)]
#[case::wrmsr_unknown(32, [0x11, 5, 0, 0], INVALID)]
#[case::mmio_size(48, [3, 0, SHARED | 0xfee0_0000, 0], INVALID)]
#[case::mmio_private(48, [4, 0, 0xfee0_0000, 0], INVALID)]
#[case::mmio_across_pages(48, [8, 0, SHARED | 0xfee0_0ffc, 0], INVALID)]
#[case::mmio_direction(48, [4, 9, SHARED | 0xfee0_0000, 0], INVALID)]
#[case::mmio_write_to_nothing(48, [4, 1, SHARED | 0xfee0_0000, 0], DONE)]
fn statuses(#[case] function: u64, #[case] operands: [u64; 4], #[case] status: VmcallStatus) {
    assert_eq!(bench(HostConfig::default()).call(VmcallSubFunction(function), operands).0, status);
}

#[rstest]
#[case::cpuid(10, [7, 1, 0, 0], [10, 7, 1, 0xe7, 4])]
#[case::port(30, [2, 0, 0x60, 0], [0x5678, 2, 0, 0x60, 0])]
#[case::msr(31, [0x10, 0, 0, 0], [77, 0x10, 0, 0, 0])]
#[case::mmio(48, [2, 0, SHARED | 0xfee0_0000, 0], [0x5a5a, 2, 0, SHARED | 0xfee0_0000, 0])]
#[case::mmio_of_nothing(48, [4, 0, SHARED | 0x10_0000, 0], [0xffff_ffff, 4, 0, SHARED | 0x10_0000, 0])]
#[case::info_of_what_is_supported(0x1_0000, [1, 0, 0, 0], [3, 0, 0, 0, 0])]
fn answers(#[case] function: u64, #[case] operands: [u64; 4], #[case] out: [u64; 5]) {
    assert_eq!(bench(HostConfig::default()).call(VmcallSubFunction(function), operands), (DONE, out));
}

#[test]
fn map_gpa_is_retried_until_done() {
    let mut bench = bench(HostConfig { map_gpa_pages: 2, ..HostConfig::default() });
    let map = |bench: &mut Bench, gpa: u64, size| {
        let (status, out) = bench.call(VmcallSubFunction::MAP_GPA, [gpa, size, 0, 0]);
        (status, out[0])
    };
    let start = SHARED | 0x1_0000;
    assert_eq!(map(&mut bench, start, 0x3000), (VmcallStatus::RETRY, start + 0x2000));
    assert_eq!(bench.machine.td().sept().state(0x1_2000), PageState::Free);
    assert_eq!(map(&mut bench, start + 0x2000, 0x1000), (DONE, start + 0x2000));
    assert!(bench.machine.td().sept().is_shared(0x1_0000, 0x3000));
    assert_eq!(map(&mut bench, 0x1_0000, 0x1000).0, DONE);
    assert_eq!(bench.machine.td().sept().state(0x1_0000), PageState::Free);
    let mut accept = Registers::default().with(Gpr::Rax, 6).with(Gpr::Rcx, 0x1_0000);
    assert_eq!((bench.act(&mut accept), accept[Gpr::Rax]), (Action::Resume, 0));
    assert_eq!(bench.machine.td().sept().state(0x1_0000), PageState::Mapped);
}

#[test]
fn a_quote_at_once() {
    let mut bench = bench(HostConfig::default());
    bench.put_report();
    assert_eq!(bench.call(VmcallSubFunction::GET_QUOTE, [BUFFER, SIZE, 0, 0]).0, DONE);
    let header = bench.header();
    assert_eq!(header.status.get(), GetQuoteStatus::SUCCESS.0);
    assert!(header.out_len.get() > 4000);
    assert_eq!(bench.poll(), []);
}

#[test]
fn a_quote_later_with_an_interrupt() {
    let mut bench = bench(HostConfig { quote_delay_ns: Some(3_500_000), ..HostConfig::default() });
    bench.call(VmcallSubFunction::SETUP_EVENT_NOTIFY_INTERRUPT, [0x40, 0, 0, 0]);
    bench.put_report();
    assert_eq!(bench.call(VmcallSubFunction::GET_QUOTE, [BUFFER, SIZE, 0, 0]).0, DONE);
    assert_eq!(bench.header().status.get(), GetQuoteStatus::IN_FLIGHT.0);
    let again = bench.call(VmcallSubFunction::GET_QUOTE, [BUFFER + 0x1000, 0x1000, 0, 0]).0;
    assert_eq!(again, INVALID, "the buffer is the host's");
    let interrupts: Vec<_> = (0..4).map(|_| bench.poll()).collect();
    assert_eq!(interrupts, [vec![], vec![], vec![], vec![Interrupt { vcpu: 0, vector: 0x40 }]]);
    assert_eq!(bench.header().status.get(), GetQuoteStatus::SUCCESS.0);
    assert_eq!(bench.machine.host().next_due_ns(), None);
}

#[test]
fn a_buffer_taken_back_stays_as_it_was() {
    let mut bench = bench(HostConfig { quote_delay_ns: Some(0), ..HostConfig::default() });
    bench.put_report();
    bench.call(VmcallSubFunction::GET_QUOTE, [BUFFER, SIZE, 0, 0]);
    bench.call(VmcallSubFunction::MAP_GPA, [0x9000, 0x1000, 0, 0]);
    bench.poll();
    assert_eq!(bench.header().status.get(), GetQuoteStatus::IN_FLIGHT.0);
}

#[rstest]
#[case::no_service(HostConfig { quoting: false, ..HostConfig::default() }, 1024, GetQuoteStatus::SERVICE_UNAVAILABLE)]
#[case::too_many(HostConfig { max_quotes: 0, ..HostConfig::default() }, 1024, GetQuoteStatus::SERVICE_UNAVAILABLE)]
#[case::not_a_report(HostConfig::default(), 1023, GetQuoteStatus::ERROR)]
#[case::nothing(HostConfig::default(), 0, GetQuoteStatus::ERROR)]
fn requests_that_fail(#[case] config: HostConfig, #[case] in_len: u32, #[case] status: GetQuoteStatus) {
    let mut bench = bench(config);
    bench.put_report();
    bench.put(BUFFER + 16, &in_len.to_le_bytes()).unwrap();
    assert_eq!(bench.call(VmcallSubFunction::GET_QUOTE, [BUFFER, SIZE, 0, 0]).0, DONE);
    assert_eq!((bench.header().status.get(), bench.header().out_len.get()), (status.0, 0));
}

#[test]
fn a_quote_that_does_not_fit_is_an_error() {
    let mut bench = bench(HostConfig::default());
    bench.put_report();
    assert_eq!(bench.call(VmcallSubFunction::GET_QUOTE, [BUFFER, 0x1000, 0, 0]).0, DONE);
    assert_eq!(bench.header().status.get(), GetQuoteStatus::ERROR.0);
    bench.put(BUFFER + 16, &(0x1000_u32 - 23).to_le_bytes()).unwrap();
    assert_eq!(bench.call(VmcallSubFunction::GET_QUOTE, [BUFFER, 0x1000, 0, 0]).0, INVALID);
}

#[rstest]
#[case::query(SERVICE_QUERY_GUID, 44, 4096, ServiceStatus::SUCCESS, 44)]
#[case::other(SERVICE_MIGTD_GUID, 44, 4096, ServiceStatus::UNSUPPORTED, 24)]
#[case::size(SERVICE_QUERY_GUID, 43, 4096, ServiceStatus::BAD_COMMAND_BUFFER_SIZE, 24)]
#[case::room(SERVICE_QUERY_GUID, 44, 43, ServiceStatus::RESPONSE_BUFFER_TOO_SMALL, 44)]
fn services(
    #[case] guid: tsmsim_abi::guid::Guid,
    #[case] length: u32,
    #[case] room: u32,
    #[case] status: ServiceStatus,
    #[case] answered: u32,
) {
    let mut bench = bench(HostConfig::default());
    let head = |length: u32| ServiceHeader { guid, length: length.into(), status: u32::MAX.into() };
    let query = ServiceQueryCommand { version: 0, command: 0, reserved: [0; 2], guid: SERVICE_MIGTD_GUID };
    bench.put(BUFFER, head(length).as_bytes()).unwrap();
    bench.put(BUFFER + 24, query.as_bytes()).unwrap();
    bench.put(BUFFER + 0x1000, head(room).as_bytes()).unwrap();
    let done = bench.call(VmcallSubFunction::SERVICE, [BUFFER, BUFFER + 0x1000, 0, 0]).0;
    let mut answer = ServiceHeader::new_zeroed();
    bench.world.memory.read((BUFFER + 0x1000) & !SHARED, answer.as_mut_bytes()).unwrap();
    assert_eq!((done, answer.status.get(), answer.length.get()), (DONE, status.0, answered));
}

#[test]
fn hlt_and_the_end() {
    let mut bench = bench(HostConfig::default());
    let call = |function: VmcallSubFunction, r12| {
        Registers([0, 0xffec, 0x62, 0x63, 0, 0, 0x66, 0x67, 0x68, 0x69, 0, function.0, r12, 0, 0x6e, 0x6f])
    };
    let halted = bench.act(&mut call(VmcallSubFunction::INSTRUCTION_HLT, 1));
    assert_eq!(halted, Action::Halted { interrupts_blocked: true });
    let Action::Terminated(report) = bench.act(&mut call(VmcallSubFunction::REPORT_FATAL_ERROR, 5)) else {
        panic!("the TD goes on");
    };
    let text: Vec<_> = report.text.iter().copied().filter(|byte| *byte != 0).collect();
    assert_eq!((report.error.error_code(), report.gpa, &text[..]), (5, None, &b"nocgfhib"[..]));
}

#[test]
fn registers_that_are_not_shown_are_neither_seen_nor_changed() {
    let mut bench = bench(HostConfig::default());
    let mut registers = Registers([0, 0xc00, 3, 4, 5, 6, 7, 8, 9, 10, 0, 10, 1, 2, 3, 4]);
    bench.act(&mut registers);
    assert_eq!(registers.0[2..], [3, 4, 5, 6, 7, 8, 9, 10, 0, 10, 1, 2, 3, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_call_is_answered(
        function in prop_oneof![0x1_0000_u64..0x1_0008, 0_u64..70, any::<u64>()],
        operands in prop::array::uniform4(prop_oneof![
            any::<u64>(), 0_u64..9, (0_u64..20, any::<bool>()).prop_map(|(page, shared)| page << 12 | u64::from(shared) << 47)
        ]),
        select: u16,
    ) {
        struct Quiet;
        impl HostDevices for Quiet {
            fn cpuid(&mut self, _: u32, _: u32, _: u64, _: u64) -> [u32; 4] { [0; 4] }
            fn port_in(&mut self, _: u16, _: u8) -> u32 { 0 }
            fn port_out(&mut self, _: u16, _: u8, _: u32) {}
            fn read_msr(&mut self, _: u32) -> Option<u64> { None }
            fn write_msr(&mut self, _: u32, _: u64) -> Option<()> { None }
            fn mmio_read(&mut self, _: u64, _: &mut [u8]) -> Option<()> { None }
            fn mmio_write(&mut self, _: u64, _: &[u8]) -> Option<()> { None }
        }
        let mut bench = bench(HostConfig::default());
        bench.world.devices = Box::new(Quiet);
        for mask in [0xfc00, u64::from(select)] {
            let mut registers = Registers::default().with(Gpr::Rcx, mask).with(Gpr::R11, function);
            registers.0[12..].copy_from_slice(&operands);
            bench.act(&mut registers);
        }
    }

    #[test]
    fn any_quote_buffer_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..3000), in_len: Option<u32>, version in 0_u64..3) {
        let mut bench = bench(HostConfig::default());
        bench.put(BUFFER + 24, &bytes).unwrap();
        let in_len = in_len.unwrap_or_else(|| u32::try_from(bytes.len()).unwrap());
        let header = GetQuoteHeader { version: version.into(), in_len: in_len.into(), ..GetQuoteHeader::new_zeroed() };
        bench.put(BUFFER, header.as_bytes()).unwrap();
        let status = bench.call(VmcallSubFunction::GET_QUOTE, [BUFFER, SIZE, 0, 0]).0;
        prop_assert_eq!(status == DONE, version == 1 && in_len <= 0x2000 - 24);
        prop_assert!(status != DONE || GetQuoteStatus(bench.header().status.get()).is_error());
    }
}
