//! Intel TDX.
//!
//! | module | what |
//! |---|---|
//! | [`platform`] | the processor with its TDX module: identity, security versions, keys |
//! | [`td`] | a TD as the module knows it |
//! | [`build`] | the host-side functions that build a TD |
//! | [`mrtd`] | the measurement of a TD's initial contents |
//! | [`tdvf`] | firmware images as launches |
//! | [`sept`] | the secure EPT: page states |
//! | [`module`] | the guest-side functions: TDCALL |
//! | [`vmcall`] | the host's side of `TDG.VP.VMCALL` |
//! | [`machine`] | module and host together: what a monitor calls |
//! | [`quoting`] | the quoting enclave |
//! | [`qgs`] | the quote generation service |
//! | [`guest`] | the guest's side, for programs without a virtual machine |
//! | [`registers`] | general registers of a VCPU |
//! | [`event`] | what goes into the journal |

pub mod build;
pub mod event;
pub mod guest;
pub mod machine;
pub mod module;
pub mod mrtd;
pub mod platform;
pub mod qgs;
pub mod quoting;
pub mod registers;
pub mod sept;
pub mod td;
pub mod tdvf;
pub mod vmcall;

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
