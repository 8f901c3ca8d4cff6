//! Any GetQuote buffers. One step: kind (1; bits 1:0: 0 a sound header and any request, 1 a sound header and a report with an
//! edit, 2 any buffer, 3 any buffer and the host is polled; bit 2 of the first: quotes are delayed), pages (1), then the
//! request or buffer (length and bytes), or the edit: offset (2), bytes (length and bytes).
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::tdx::{
    get_quote::{GetQuoteHeader, GetQuoteStatus, VERSION, capacity},
    vmcall::{VmcallStatus, VmcallSubFunction},
};
use tsmsim_fuzz::{Input, SHARED_GPA, STEPS, tdx};
use tsmsim_simulator::tdx::registers::Gpr;
use zerocopy::{FromZeros, IntoBytes};

const PAGE: u64 = 4096;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let delayed = bytes.first().is_some_and(|kind| kind & 4 != 0);
    let (mut machine, mut world) = tdx::machine(delayed);
    let gpa = SHARED_GPA | machine.td().shared_bit();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let (kind, pages) = (input.u8(), u64::from(input.u8()));
        let buffer = buffer(&mut input, kind);
        world.memory.write(SHARED_GPA, &buffer).expect("it is in memory");
        let mut registers = tdx::vmcall(VmcallSubFunction::GET_QUOTE, [gpa, pages * PAGE, 0, 0]);
        tdx::tdcall(&mut machine, &mut world, 0, &mut registers);
        if kind & 3 == 3 {
            let (mut env, _) = world.env();
            machine.poll(&mut env);
        }
        if VmcallStatus(registers[Gpr::R10]) != VmcallStatus::SUCCESS {
            continue;
        }
        let mut header = GetQuoteHeader::new_zeroed();
        world.memory.read(SHARED_GPA, header.as_mut_bytes()).expect("it is in memory");
        let status = GetQuoteStatus(header.status.get());
        assert!(pages * PAGE <= tdx::SHARED_SIZE, "only shared pages are written");
        let room = capacity(usize::try_from(pages * PAGE).expect("few pages"));
        assert!(usize::try_from(header.out_len.get()).is_ok_and(|out| out <= room));
        assert!(delayed || status != GetQuoteStatus::IN_FLIGHT, "it is there at once");
        if kind & 3 == 1 && !delayed {
            // A quote has room in two pages.
            let quoted = pages >= 2 && buffer[size_of::<GetQuoteHeader>()..] == *report();
            assert_eq!(
                status == GetQuoteStatus::SUCCESS,
                quoted,
                "the platform's reports are quoted, no others"
            );
        }
    }
});

fn report() -> &'static [u8] {
    static REPORT: OnceLock<Vec<u8>> = OnceLock::new();
    REPORT.get_or_init(|| tdx::report(&[7; 64]).as_bytes().to_vec())
}

fn buffer(input: &mut Input<'_>, kind: u8) -> Vec<u8> {
    let request = match kind & 3 {
        0 => input.sized().to_vec(),
        1 => {
            let offset = usize::from(input.u16());
            let mut report = report().to_vec();
            for (old, new) in report.iter_mut().skip(offset).zip(input.sized()) {
                *old = *new;
            }
            report
        }
        _ => return input.sized().to_vec(),
    };
    let in_len = u32::try_from(request.len()).expect("requests are small");
    let header =
        GetQuoteHeader { version: VERSION.into(), in_len: in_len.into(), ..GetQuoteHeader::new_zeroed() };
    [header.as_bytes(), &request].concat()
}
