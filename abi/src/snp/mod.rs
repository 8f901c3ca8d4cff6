//! AMD SEV-SNP: what guest, hypervisor and firmware (the AMD-SP) say to each other.
//!
//! | module | what |
//! |---|---|
//! | [`ghcb`] | the GHCB page, NAE exit codes, what the hypervisor answers in `SW_EXITINFO1/2` |
//! | [`msr`] | the GHCB MSR protocol |
//! | [`psc`] | the page-state-change buffer |
//! | [`message`] | the envelope of guest messages and their types |
//! | [`payload`] | the payload of every guest message type |
//! | [`report`] | the attestation report |
//! | [`policy`], [`tcb`] | guest policy, platform information, TCB versions |
//! | [`launch`] | launch measurement, ID block and ID authentication |
//! | [`pages`], [`vmsa`] | secrets page, CPUID page, VMSA |
//! | [`cert_table`] | the certificate table of the extended guest request |
//! | [`ovmf`] | what an OVMF image says about its launch |
//! | [`rmp`] | operands and results of PVALIDATE and RMPADJUST |
//! | [`status`] | firmware status codes |

pub mod cert_table;
pub mod ghcb;
pub mod launch;
pub mod message;
pub mod msr;
pub mod ovmf;
pub mod pages;
pub mod payload;
pub mod policy;
pub mod psc;
pub mod report;
pub mod rmp;
pub mod status;
pub mod tcb;
pub mod vmsa;

/// Bytes in a page; every page of these interfaces is of this size unless it is said to be a large one.
pub const PAGE_SIZE: usize = 4096;
