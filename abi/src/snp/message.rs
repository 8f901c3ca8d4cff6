//! The envelope of guest messages (56860 rev. 1.58, section 8.26 `SNP_GUEST_REQUEST`, tables 98 to 101).
//!
//! A message is one page at most: this header, then the payload, AES-256-GCM encrypted under a VMPCK. The IV is the
//! sequence number (8 bytes, little-endian, then 4 zero bytes), the additional data are header bytes 30h to 5Fh, and
//! the tag takes the first 16 bytes of `AUTHTAG`.

use zerocopy::little_endian::{U16, U32, U64};

wire! {
    /// Message header (table 98).
    pub struct MessageHeader {
        /// Authentication tag, zero-padded to 32 bytes.
        pub authtag: [u8; 32],
        /// Sequence number: requests odd, responses even, counted per VMPCK.
        pub msg_seqno: U64,
        /// Reserved, zero.
        pub reserved_0x28: [u8; 8],
        /// AEAD algorithm: [`Aead`]. Here the additional data begin.
        pub algo: u8,
        /// Version of the header: 1.
        pub hdr_version: u8,
        /// Size of the header: 60h.
        pub hdr_size: U16,
        /// A [`MessageType`].
        pub msg_type: u8,
        /// Version of the payload.
        pub msg_version: u8,
        /// Size of the payload in bytes.
        pub msg_size: U16,
        /// Reserved, zero.
        pub reserved_0x38: U32,
        /// Which VMPCK protects the message: 0 to 3.
        pub msg_vmpck: u8,
        /// Reserved, zero.
        pub reserved_0x3d: [u8; 3],
        /// Reserved, zero.
        pub reserved_0x40: [u8; 32],
    }
}
assert_layout!(MessageHeader, 0x60, {
    authtag: 0x0, msg_seqno: 0x20, reserved_0x28: 0x28, algo: 0x30, hdr_version: 0x31, hdr_size: 0x32,
    msg_type: 0x34, msg_version: 0x35, msg_size: 0x36, reserved_0x38: 0x38, msg_vmpck: 0x3c, reserved_0x3d: 0x3d,
    reserved_0x40: 0x40,
});

/// Size of [`MessageHeader`], as `HDR_SIZE` states it.
pub const HEADER_SIZE: u16 = 0x60;
/// The only header version.
pub const HEADER_VERSION: u8 = 1;
/// Payload bytes at most: what a page holds after the header.
pub const MAX_PAYLOAD: usize = super::PAGE_SIZE - HEADER_SIZE as usize;
/// Where in the header the additional authenticated data begin; they run to its end.
pub const AAD_OFFSET: usize = 0x30;
/// Bytes of the AES-GCM tag.
pub const TAG_SIZE: usize = 16;

/// The 96-bit IV of a message (56860, section 8.26).
#[must_use]
pub const fn message_iv(seqno: u64) -> [u8; 12] {
    let s = seqno.to_le_bytes();
    [s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], 0, 0, 0, 0]
}

open_codes! {
    /// AEAD algorithm encodings (table 99).
    pub struct Aead(u8);
    /// Not an algorithm.
    INVALID = 0;
    /// AES-256-GCM.
    AES_256_GCM = 1;
}

open_codes! {
    /// Message type encodings (table 100).
    pub struct MessageType(u8);
    /// Not a message.
    INVALID = 0;
    /// Ask whether CPUID values are what the hardware would give.
    CPUID_REQ = 1;
    /// Answer to it.
    CPUID_RSP = 2;
    /// Derive a key.
    KEY_REQ = 3;
    /// Answer to it.
    KEY_RSP = 4;
    /// Make an attestation report.
    REPORT_REQ = 5;
    /// Answer to it.
    REPORT_RSP = 6;
    /// Export a guest context (migration agent only).
    EXPORT_REQ = 7;
    /// Answer to it.
    EXPORT_RSP = 8;
    /// Import a guest context (migration agent only).
    IMPORT_REQ = 9;
    /// Answer to it.
    IMPORT_RSP = 10;
    /// Absorb a guest context (migration agent only).
    ABSORB_REQ = 11;
    /// Answer to it.
    ABSORB_RSP = 12;
    /// Set a guest's VM root key (migration agent only).
    VMRK_REQ = 13;
    /// Answer to it.
    VMRK_RSP = 14;
    /// Absorb a guest context without migration agent.
    ABSORB_NOMA_REQ = 15;
    /// Answer to it.
    ABSORB_NOMA_RSP = 16;
    /// Ask for the guest's TSC parameters.
    TSC_INFO_REQ = 17;
    /// Answer to it.
    TSC_INFO_RSP = 18;
}

impl MessageType {
    /// The response type of a request type.
    #[must_use]
    pub const fn response(self) -> Option<Self> {
        match self.0 {
            request @ 1..=17 if request % 2 == 1 => Some(Self(request + 1)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses() {
        assert_eq!(MessageType::REPORT_REQ.response(), Some(MessageType::REPORT_RSP));
        assert_eq!(MessageType::TSC_INFO_REQ.response(), Some(MessageType::TSC_INFO_RSP));
        assert_eq!(MessageType::REPORT_RSP.response(), None);
        assert_eq!(MessageType(19).response(), None);
    }

    #[test]
    fn iv_is_the_sequence_number_in_the_low_bytes() {
        assert_eq!(message_iv(0x0102), [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
