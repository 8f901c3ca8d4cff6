//! RISC-V CoVE: what a TVM, its host and the TSM say to each other (riscv-non-isa/riscv-ap-tee, document revision 0.7, state
//! "Development": it may still change).
//!
//! | module | what |
//! |---|---|
//! | [`sbi`] | the SBI call convention, extension IDs, error codes, the base extension |
//! | [`covg`] | the guest extension: function IDs, formats, limits |
//! | [`covh`] | the host extension: function IDs and structures |
//! | [`covi`] | the interrupt extension: function IDs and structures |
//! | [`nacl`] | the shared memory of a host hart and the TSM |
//! | [`attcaps`] | `AttestationCapabilities` |
//! | [`claims`] | evidence: claims, their labels, and every choice made where the specification leaves one open |
//! | [`cose`] | numbers of COSE, CBOR tags and object identifiers in evidence |
//! | [`tap`] | the TVM attestation payload of local attestation, a format of ours |

pub mod attcaps;
pub mod claims;
pub mod cose;
pub mod covg;
pub mod covh;
pub mod covi;
pub mod nacl;
pub mod sbi;
pub mod tap;

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
