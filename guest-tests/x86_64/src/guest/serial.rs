//! The serial port, and the way out.

use core::fmt;

use tsmsim_abi::guest_test::{EXIT_PORT, SERIAL_PORT};

use super::arch::{td, user};

/// OUT of a byte: a TD asks its host.
fn port_out(port: u16, value: u8) {
    if td::is_up() {
        td::port_out(port, value);
    } else {
        user::port_out(port, value);
    }
}

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
    let digit = |value: u8| port_out(SERIAL_PORT, b"0123456789abcdef"[usize::from(value)]);
    bytes.into_iter().flat_map(|byte| [byte >> 4, byte & 15]).for_each(digit);
    print(format_args!("\n"));
}

/// Ends the run with this code.
pub(super) fn exit(code: u8) -> ! {
    loop {
        port_out(EXIT_PORT, code);
    }
}
