//! The host's own SBI (RISC-V SBI 2.0): what is left when the TSM has taken its calls. Base (chapter 4), system reset (10),
//! debug console (12); anything else is not supported.

use std::{io::Write, ops::Range};

use tsmsim_abi::cove::sbi::{
    BaseFid, DbcnFid, ExtensionId, ResetReason, ResetType, SPEC_VERSION_2_0, SPECIFIC_RESET_REASONS,
    SbiError, SrstFid, VENDOR_RESET_TYPES,
};
use tsmsim_simulator::cove::{
    PAGE_SIZE,
    regions::{RegionKind, Regions, range},
    registers::Registers,
};

use super::End;
use crate::memory::PlacedRam;

/// Bytes that one `sbi_debug_console_write` takes; the caller sees how many it were and goes on.
const MAX_WRITE: u64 = 16 * PAGE_SIZE as u64;
/// `sbi_get_impl_id`: ours, and none of those that are registered.
const IMPL_ID: u64 = u32::from_le_bytes(*b"tsms") as u64;
/// `sbi_get_impl_version`.
const IMPL_VERSION: u64 = 1;

type SbiResult = Result<u64, SbiError>;

/// What a call may touch.
pub(super) struct HostCall<'a> {
    pub(super) ram: &'a PlacedRam,
    pub(super) regions: &'a Regions,
    pub(super) console: &'a mut dyn Write,
}

impl HostCall<'_> {
    /// Answers a call, or says how it ended the guest.
    pub(super) fn answer(&mut self, call: &Registers) -> Result<SbiResult, End> {
        let [arguments @ .., fid, _] = call.0;
        Ok(match call.extension() {
            ExtensionId::BASE => base(fid, arguments),
            ExtensionId::DBCN => self.console(fid, arguments),
            ExtensionId::SRST if SrstFid(fid) == SrstFid::SYSTEM_RESET => return system_reset(arguments),
            _ => Err(SbiError::NOT_SUPPORTED),
        })
    }

    fn console(&mut self, fid: u64, arguments: [u64; 6]) -> SbiResult {
        match DbcnFid(fid) {
            DbcnFid::CONSOLE_WRITE => {
                let buffer = self.buffer(arguments)?;
                let length = (buffer.end - buffer.start).min(MAX_WRITE);
                let mut bytes = vec![0; usize::try_from(length).map_err(|_| SbiError::FAILED)?];
                self.ram.read(buffer.start, &mut bytes).map_err(|_| SbiError::INVALID_PARAM)?;
                self.print(&bytes);
                Ok(length)
            }
            // Nobody types.
            DbcnFid::CONSOLE_READ => self.buffer(arguments).map(|_| 0),
            DbcnFid::CONSOLE_WRITE_BYTE => {
                let [byte, ..] = arguments[0].to_le_bytes();
                self.print(&[byte]);
                Ok(0)
            }
            _ => Err(SbiError::NOT_SUPPORTED),
        }
    }

    /// The buffer of a console call. The host reaches no confidential memory, so it has to be shared; and it has to be RAM.
    fn buffer(&self, [length, low, high, ..]: [u64; 6]) -> Result<Range<u64>, SbiError> {
        let buffer = range(low, length).filter(|_| high == 0).ok_or(SbiError::INVALID_PARAM)?;
        let shared = self.regions.kind(&buffer) == Some(RegionKind::Shared);
        if shared && self.ram.contains(low, length) { Ok(buffer) } else { Err(SbiError::INVALID_PARAM) }
    }

    /// A console that fails takes no more, which does not concern the guest.
    fn print(&mut self, bytes: &[u8]) {
        let _ = self.console.write_all(bytes);
    }
}

fn base(fid: u64, [extension, ..]: [u64; 6]) -> SbiResult {
    match u16::try_from(fid).map(BaseFid) {
        Ok(BaseFid::GET_SPEC_VERSION) => Ok(SPEC_VERSION_2_0),
        Ok(BaseFid::GET_IMPL_ID) => Ok(IMPL_ID),
        Ok(BaseFid::GET_IMPL_VERSION) => Ok(IMPL_VERSION),
        // COVG is the TSM's to answer.
        Ok(BaseFid::PROBE_EXTENSION) => {
            let there = [ExtensionId::BASE, ExtensionId::DBCN, ExtensionId::SRST];
            Ok(there.contains(&ExtensionId(extension)).into())
        }
        // Zero is always a legal value for these.
        Ok(BaseFid::GET_MVENDORID | BaseFid::GET_MARCHID | BaseFid::GET_MIMPID) => Ok(0),
        _ => Err(SbiError::NOT_SUPPORTED),
    }
}

/// Shutdown and reboot both end the run. The arguments have 32 bits.
fn system_reset([reset_type, reason, ..]: [u64; 6]) -> Result<SbiResult, End> {
    let [reset_type, reason] = [reset_type, reason].map(|value| {
        let [a, b, c, d, ..] = value.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    });
    if VENDOR_RESET_TYPES.contains(&reset_type) {
        return Ok(Err(SbiError::NOT_SUPPORTED));
    }
    let known_type = ResetType(reset_type).name().is_some();
    let known_reason = ResetReason(reason).name().is_some() || SPECIFIC_RESET_REASONS.contains(&reason);
    if !(known_type && known_reason) {
        return Ok(Err(SbiError::INVALID_PARAM));
    }
    Err(End::Done(u8::try_from(reason).unwrap_or(u8::MAX)))
}
