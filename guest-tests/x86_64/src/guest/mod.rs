//! The guest: its machine below, its checks above.
//!
//! | module | what |
//! |---|---|
//! | [`arch`] | boot, page tables, exceptions, instructions: all that is unsafe |
//! | [`serial`], [`tap`] | what it prints |
//! | [`protocol`] | the GHCB MSR protocol |
//! | [`exit`] | non-automatic exits through the GHCB page |
//! | [`message`] | guest messages |
//! | [`machine`] | the three together |
//! | [`checks`] | what it checks |
//! | [`tdx`] | all of that for a TD |

mod arch;
mod checks;
mod exit;
mod machine;
mod message;
mod protocol;
mod serial;
mod tdx;

use arch::memory::Launched;
use machine::Machine;
use tap::Tap;
use tsmsim_abi::snp::msr::TerminationReason;
use tsmsim_guest_tap as tap;

/// What the run ends with when the guest cannot go on.
const EXIT_GAVE_UP: u8 = 1;
/// What it ends with after an exception.
const EXIT_EXCEPTION: u8 = 2;
/// What it ends with after a panic.
const EXIT_PANIC: u8 = 3;

/// A size that fits a 16-bit field.
const fn to_u16(size: usize) -> u16 {
    assert!(size <= 0xffff);
    #[expect(clippy::cast_possible_truncation, reason = "asserted")]
    let narrow = size as u16;
    narrow
}

/// Ring 3 of an SNP guest begins here.
fn main(launched: Launched) -> ! {
    let parameters = launched.parameters();
    let mut tap = Tap::new(serial::print);
    if parameters.mode.get() == 0 {
        checks::negotiation::run(launched, &mut tap);
    }
    let mut machine = match Machine::start(launched) {
        Ok(machine) => machine,
        Err(why) => {
            serial::print(format_args!("Bail out! {why}\n"));
            serial::exit(EXIT_GAVE_UP)
        }
    };
    match parameters.mode.get() {
        0 => checks::all(&mut machine, &mut tap),
        1 => checks::report::run(&mut machine, &mut tap),
        2 => tap.check("guest requests", checks::report::repeat(&mut machine, parameters.count.get())),
        3 => tap.check("termination request", Err(protocol::terminate(TerminationReason::GENERAL))),
        4 => tap.check("unsupported event", Err(checks::exits::unsupported_event(&machine))),
        mode => tap.check("mode", Err(tap::Why::new(format_args!("{mode} is not known")))),
    }
    tap.finish();
    serial::exit(0)
}
