//! The buffer of `TDG.VP.VMCALL<GetQuote>` (348552 GHCI 1.5, section of that name; 344426 for 1.0).
//!
//! The buffer is shared, page-aligned, and begins with a [`GetQuoteHeader`]. The guest puts a TDREPORT (or a QGS
//! message that holds one, see [`super::qgs`]) behind it; the host puts the quote (or QGS message) at the same place.
//! `IN_FLIGHT` marks the buffer as the host's until the status changes.

use zerocopy::little_endian::{U32, U64};

wire! {
    /// Head of the buffer.
    pub struct GetQuoteHeader {
        /// Filled by the guest: [`VERSION`].
        pub version: U64,
        /// Filled by the host: a [`GetQuoteStatus`]. The guest sets it to zero.
        pub status: U64,
        /// Filled by the guest: bytes of the request behind the head.
        pub in_len: U32,
        /// Filled by the host: bytes of the answer behind the head. The guest sets it to zero.
        pub out_len: U32,
    }
}
assert_layout!(GetQuoteHeader, 24, { version: 0x0, status: 0x8, in_len: 0x10, out_len: 0x14 });

/// The version of [`GetQuoteHeader`].
pub const VERSION: u64 = 1;

open_codes! {
    /// Status of a request.
    pub struct GetQuoteStatus(u64);
    /// The quote is there.
    SUCCESS = 0;
    /// The request is malformed or failed.
    ERROR = 0x8000_0000_0000_0000;
    /// There is no quoting service now.
    SERVICE_UNAVAILABLE = 0x8000_0000_0000_0001;
    /// The request is being worked on; the buffer is the host's.
    IN_FLIGHT = 0xffff_ffff_ffff_ffff;
}

impl GetQuoteStatus {
    /// Bit 63 is set and the request is not in flight.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >> 63 == 1 && self.0 != Self::IN_FLIGHT.0
    }
}

/// Bytes of answer or request that a buffer of `size` bytes has room for.
#[must_use]
pub const fn capacity(size: usize) -> usize {
    size.saturating_sub(size_of::<GetQuoteHeader>())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(GetQuoteStatus::SUCCESS, false)]
    #[case(GetQuoteStatus::IN_FLIGHT, false)]
    #[case(GetQuoteStatus::ERROR, true)]
    #[case(GetQuoteStatus::SERVICE_UNAVAILABLE, true)]
    #[case(GetQuoteStatus(1), false)]
    fn errors(#[case] status: GetQuoteStatus, #[case] error: bool) {
        assert_eq!(status.is_error(), error);
    }

    #[test]
    fn the_head_is_not_room() {
        assert_eq!(capacity(8192), 8168);
        assert_eq!(capacity(23), 0);
    }
}
