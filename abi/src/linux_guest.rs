//! What the host asks of the init program of a Linux guest, and where.
//!
//! Two ways lead into the guest. The *configuration* is a file of the initial RAM disk, so it is measured: which modules to load,
//! which command to run. The *task* lies behind a `setup_data` node ([`crate::linux_boot::SetupDataType::TSMSIM_TASK`]),
//! which is not measured, so a nonce does not change the measurement; the kernel shows it in
//! `/sys/kernel/boot_params/setup_data/N/data`.
//!
//! A RISC-V kernel knows no such nodes. There the host answers the first frame on the channel
//! ([`FrameType::HELLO`](crate::guest_channel::FrameType::HELLO)) with the task: a little-endian `u32`, how many bytes follow (at most
//! [`CHANNEL_TASK_MAX`]; zero: no task), and those.
//!
//! What the guest answers goes through [`crate::guest_channel`] on the second serial port.

use zerocopy::little_endian::U32;

/// The init program's path. As a command, with `check` it is the built-in check, with `conform` the conformance suite of
/// configfs-tsm.
pub const INIT: &str = "/init";
/// The configuration's path.
pub const CONFIGURATION: &str = "/tsmsim/configuration";
/// The directory of modules.
pub const MODULES: &str = "/tsmsim/modules";
/// Where the command finds the task's inblob.
pub const INBLOB: &str = "/tsmsim/inblob";
/// The directory whose files the host gets.
pub const OUT: &str = "/out";
/// The serial port of the channel: ttyS1. On RISC-V it is one on PCI.
pub const CHANNEL: &str = "/dev/ttyS1";
/// First I/O port of that serial port on a PC; its interrupt is 3.
pub const CHANNEL_PORT: u16 = 0x2f8;

/// Exit status of a guest whose command could not be started (as in a shell).
pub const STATUS_NOT_STARTED: u8 = 127;
/// Exit status of a guest whose preparation failed: a module, a mount.
pub const STATUS_NOT_PREPARED: u8 = 125;

/// Most bytes of a task that comes over the channel.
pub const CHANNEL_TASK_MAX: u32 = 4096;

/// [`Task::magic`].
pub const TASK_MAGIC: [u8; 8] = *b"TSMSIMLT";

wire! {
    /// The task.
    pub struct Task {
        /// [`TASK_MAGIC`].
        pub magic: [u8; 8],
        /// How many bytes of `inblob` count.
        pub inblob_len: U32,
        /// Reserved, zero.
        pub reserved_0xc: U32,
        /// What the host wants in the report.
        pub inblob: [u8; 64],
    }
}
assert_layout!(Task, 0x50, { magic: 0x0, inblob_len: 0x8, reserved_0xc: 0xc, inblob: 0x10 });

/// A record of the configuration: a file of records `NAME=VALUE`, each ended by a zero byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// `module=FILE`: load this file of [`MODULES`]; in this order.
    Module(&'a [u8]),
    /// `optional=FILE`: the same, but going without is no failure.
    Optional(&'a [u8]),
    /// `argument=TEXT`: of the command; the first one is the program. Without any, the built-in check runs.
    Argument(&'a [u8]),
    /// `environment=NAME=VALUE`: of the command.
    Environment(&'a [u8]),
    /// `directory=PATH`: where the command runs.
    Directory(&'a [u8]),
}

impl<'a> Record<'a> {
    /// Reads one record, without its zero. `None` for a name that is not known.
    #[must_use]
    pub fn parse(record: &'a [u8]) -> Option<Self> {
        let at = record.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (record.get(..at)?, record.get(at + 1..)?);
        Some(match name {
            b"module" => Self::Module(value),
            b"optional" => Self::Optional(value),
            b"argument" => Self::Argument(value),
            b"environment" => Self::Environment(value),
            b"directory" => Self::Directory(value),
            _ => return None,
        })
    }

    /// Its name and its value.
    #[must_use]
    pub const fn parts(&self) -> (&'static str, &'a [u8]) {
        match *self {
            Self::Module(value) => ("module", value),
            Self::Optional(value) => ("optional", value),
            Self::Argument(value) => ("argument", value),
            Self::Environment(value) => ("environment", value),
            Self::Directory(value) => ("directory", value),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use std::vec::Vec;

    use super::*;

    #[rstest]
    #[case(b"module=tsm.ko", Some(Record::Module(b"tsm.ko")))]
    #[case(b"optional=gcm.ko", Some(Record::Optional(b"gcm.ko")))]
    #[case(b"argument=a=b", Some(Record::Argument(b"a=b")))]
    #[case(b"environment=PATH=/bin", Some(Record::Environment(b"PATH=/bin")))]
    #[case(b"directory=", Some(Record::Directory(b"")))]
    #[case(b"modules=x", None)]
    #[case(b"argument", None)]
    #[case(b"", None)]
    fn records(#[case] text: &[u8], #[case] record: Option<Record<'_>>) {
        assert_eq!(Record::parse(text), record);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: Vec<u8>, which in 0_usize..5) {
            let record = [
                Record::Module(&value),
                Record::Optional(&value),
                Record::Argument(&value),
                Record::Environment(&value),
                Record::Directory(&value),
            ][which];
            let (name, value) = record.parts();
            let text: Vec<u8> = [name.as_bytes(), b"=", value].concat();
            prop_assert_eq!(Record::parse(&text), Some(record));
        }

        #[test]
        fn any_bytes_are_answered(text: Vec<u8>) {
            let _ = Record::parse(&text);
        }
    }
}
