//! A TD: it calls the module and its host by TDCALL, in ring 0.
//!
//! | module | what |
//! |---|---|
//! | [`call`] | TDCALL and TDVMCALL |
//! | [`td`] | pages and what all checks need |
//! | [`log`] | RTMRs and the event log |
//! | [`checks`] | what it checks |

mod call;
mod checks;
mod log;
mod td;

use super::{arch::memory::Launched, serial, tap::Tap};

/// The TD begins here.
pub(super) fn main(launched: Launched) -> ! {
    let parameters = launched.parameters();
    let mut tap = Tap::new(serial::print);
    let mut td = match td::Td::start(&parameters) {
        Ok(td) => td,
        Err(why) => {
            serial::print(format_args!("Bail out! {why}\n"));
            serial::exit(super::EXIT_GAVE_UP)
        }
    };
    match parameters.mode.get() {
        0 => checks::all(&mut td, &mut tap),
        1 => checks::quote::wanted(&td, &mut tap),
        2 => tap.check("quotes", checks::quote::repeat(&td, parameters.count.get())),
        3 => tap.check("ReportFatalError", Err(checks::end::report_fatal_error())),
        4 => tap.check("page that is not memory", Err(checks::end::memory_fault(&parameters))),
        5 => tap.check("HLT with interrupts blocked", Err(checks::end::halt())),
        mode => tap.check("mode", Err(super::tap::Why::new(format_args!("{mode} is not known")))),
    }
    tap.finish();
    serial::exit(0)
}
