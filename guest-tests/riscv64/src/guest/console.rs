//! The debug console, and the way out.

use core::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use tsmsim_abi::cove::sbi::{DbcnFid, ExtensionId, ResetReason, ResetType, SbiError, SrstFid};

use super::{
    arch,
    call::Call,
    place::{CONSOLE, PAGE},
};

/// Whether [`CONSOLE`] is shared: until then bytes go out one by one.
static PAGE_IS_SHARED: AtomicBool = AtomicBool::new(false);

/// From now on the console's page is used.
pub(super) fn page_is_shared() {
    PAGE_IS_SHARED.store(true, Ordering::Relaxed);
}

/// A byte without the page.
pub(super) fn print_byte(byte: u8) {
    let call = Call::new(ExtensionId::DBCN, DbcnFid::CONSOLE_WRITE_BYTE.0);
    let _ = call.arguments(&[byte.into()]).make();
}

/// Collects bytes in the page.
#[derive(Default)]
struct Console {
    length: u64,
}

impl Console {
    fn put(&mut self, byte: u8) {
        if !PAGE_IS_SHARED.load(Ordering::Relaxed) {
            print_byte(byte);
            return;
        }
        arch::write(CONSOLE + self.length, &[byte]);
        self.length += 1;
        if self.length == PAGE {
            self.flush();
        }
    }

    /// The host may take less than all.
    fn flush(&mut self) {
        let mut done = 0;
        while done < self.length {
            let call = Call::new(ExtensionId::DBCN, DbcnFid::CONSOLE_WRITE.0);
            match call.arguments(&[self.length - done, CONSOLE + done]).make() {
                (SbiError::SUCCESS, written) if written != 0 => done += written,
                _ => break,
            }
        }
        self.length = 0;
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}

/// Prints. There is nothing to be done about a console that fails.
pub(super) fn print(text: fmt::Arguments<'_>) {
    let mut console = Console::default();
    let _ = fmt::write(&mut console, text);
    console.flush();
}

/// Prints a buffer as one line: `# blob NAME HEX`.
pub(super) fn print_blob(name: &str, gpa: u64, length: u64) {
    let mut console = Console::default();
    let _ = fmt::write(&mut console, format_args!("# blob {name} "));
    for at in gpa..gpa + length {
        let mut byte = [0];
        arch::read(at, &mut byte);
        for digit in [byte[0] >> 4, byte[0] & 15] {
            console.put(b"0123456789abcdef"[usize::from(digit)]);
        }
    }
    console.put(b'\n');
    console.flush();
}

fn reset(reason: ResetReason) -> ! {
    let call = Call::new(ExtensionId::SRST, SrstFid::SYSTEM_RESET.0);
    loop {
        let _ = call.arguments(&[ResetType::SHUTDOWN.0.into(), reason.0.into()]).make();
    }
}

/// Ends the run: all was done.
pub(super) fn done() -> ! {
    reset(ResetReason::NO_REASON)
}

/// Ends the run: it cannot go on.
pub(super) fn give_up() -> ! {
    reset(ResetReason::SYSTEM_FAILURE)
}
