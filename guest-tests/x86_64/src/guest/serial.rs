//! The serial port, and the way out.

use core::fmt;

use tsmsim_abi::guest_test::{EXIT_PORT, SERIAL_PORT};

use super::arch::user::port_out;

struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| port_out(SERIAL_PORT, byte));
        Ok(())
    }
}

/// Prints. The port never fails, so there is nothing to return.
pub(super) fn print(text: fmt::Arguments<'_>) {
    let _ = fmt::write(&mut Serial, text);
}

/// Prints a blob as one line: `# blob NAME HEX`.
pub(super) fn print_blob(name: &str, bytes: impl IntoIterator<Item = u8>) {
    print(format_args!("# blob {name} "));
    bytes.into_iter().for_each(|byte| print(format_args!("{byte:02x}")));
    print(format_args!("\n"));
}

/// Ends the run with this code.
pub(super) fn exit(code: u8) -> ! {
    loop {
        port_out(EXIT_PORT, code);
    }
}
