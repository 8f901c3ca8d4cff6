//! Report requests.

use divan::Bencher;
use tsmsim_abi::snp::{payload::KeySel, tcb::ProductLine};
use tsmsim_benches::{BareSignature, LINES, MODES, ReportMachine, guest, platform};
use tsmsim_keys::SignatureMode;

fn main() {
    divan::main();
}

/// VMGEXIT with a guest request: hypervisor, firmware, signature, encrypted response. The guest seals outside the timed part.
#[divan::bench(args = MODES, sample_size = 1, sample_count = 2000)]
fn dispatch(bencher: Bencher<'_, '_>, mode: SignatureMode) {
    let machine = std::cell::RefCell::new(ReportMachine::new(platform(ProductLine::Milan, mode)));
    bencher
        .with_inputs(|| machine.borrow_mut().prepare())
        .bench_local_values(|()| machine.borrow_mut().vmgexit());
}

/// The same for each product line.
#[divan::bench(args = LINES, sample_size = 1, sample_count = 500)]
fn dispatch_of_line(bencher: Bencher<'_, '_>, line: ProductLine) {
    let machine = std::cell::RefCell::new(ReportMachine::new(platform(line, SignatureMode::Randomized)));
    bencher
        .with_inputs(|| machine.borrow_mut().prepare())
        .bench_local_values(|()| machine.borrow_mut().vmgexit());
}

/// A guest's whole way to a report: sealing, two copies of each page, VMGEXIT, opening.
#[divan::bench(args = MODES, sample_size = 1, sample_count = 1000)]
fn in_process_guest(bencher: Bencher<'_, '_>, mode: SignatureMode) {
    let mut guest = guest(platform(ProductLine::Milan, mode));
    bencher.bench_local(|| guest.report(&[7; 64], 0, KeySel::VlekElseVcek));
}

/// The bare signature over as many bytes as of a report.
#[divan::bench(sample_size = 1, sample_count = 2000)]
fn bare_signature(bencher: Bencher<'_, '_>) {
    let bare = BareSignature::new();
    bencher.bench_local(|| bare.sign());
}

/// The report's signature without all around it.
#[divan::bench(args = MODES, sample_size = 1, sample_count = 1000)]
fn report_signature(bencher: Bencher<'_, '_>, mode: SignatureMode) {
    let platform = platform(ProductLine::Milan, mode);
    bencher.bench_local(|| platform.vcek().sign(mode, divan::black_box(&[0x5a; 0x2a0])));
}
