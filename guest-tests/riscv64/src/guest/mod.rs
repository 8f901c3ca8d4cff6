//! The guest: its machine below, its checks above.
//!
//! | module | what |
//! |---|---|
//! | [`arch`] | entry, `ecall`, memory by address: all that is unsafe |
//! | [`call`] | SBI calls, and what is expected of them |
//! | [`console`], [`tap`] | what it prints |
//! | [`place`] | where its buffers lie |
//! | [`tvm`] | what all checks need |
//! | [`checks`] | what it checks |

mod arch;
mod call;
mod checks;
mod console;
mod place;
mod tvm;

use tap::{Tap, Why};
use tsmsim_guest_tap as tap;
use tvm::Tvm;

/// The guest begins here, with what it was given in `a1`.
fn main(argument: u64) -> ! {
    let mut tap = Tap::new(console::print);
    let tvm = match Tvm::start(argument) {
        Ok(tvm) => tvm,
        Err(why) => {
            console::print(format_args!("Bail out! {why}\n"));
            console::give_up()
        }
    };
    let parameters = &tvm.parameters;
    match parameters.mode.get() {
        0 => checks::all(&tvm, &mut tap),
        1 => checks::evidence::wanted(&tvm, &mut tap),
        2 => tap.check("readings", checks::measurement::repeat(&tvm, parameters.count.get())),
        mode => tap.check("mode", Err(Why::new(format_args!("{mode} is not known")))),
    }
    tap.finish();
    console::done()
}
