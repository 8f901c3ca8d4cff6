//! What several tests need.

use tsmsim_abi::snp::tcb::{ProductLine, TcbParts, TcbVersion};
use tsmsim_keys::amd::ChipIdentity;

/// A chip of a line: the bytes 1, 2, 3, … as far as the line uses them.
pub(crate) fn chip(line: ProductLine) -> ChipIdentity {
    let mut hwid = [0; 64];
    for (byte, value) in hwid.iter_mut().zip(1..).take(line.hwid_len()) {
        *byte = value;
    }
    ChipIdentity::new(hwid)
}

/// A TCB with different values in every part, one of them above 127.
pub(crate) fn tcb(line: ProductLine) -> TcbVersion {
    TcbParts { fmc: Some(1), boot_loader: 3, tee: 2, snp: 20, microcode: 209 }.pack(line.tcb_layout())
}
