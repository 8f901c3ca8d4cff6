//! RISC-V CoVE (riscv-non-isa/riscv-ap-tee, document revision 0.7). What the specification leaves open is chosen in
//! [`tsmsim_abi::cove::claims`].
//!
//! | module | what |
//! |---|---|
//! | [`platform`] | the device: its software, its layers of attestation, the TSM's capabilities |
//! | [`measure`] | measurement registers |
//! | [`regions`] | guest-physical memory: what is confidential, shared or MMIO, and which pages are mapped |
//! | [`tvm`] | a TVM as the TSM knows it |
//! | [`build`], [`promote`], [`paging`] | COVH: the host-side functions that build a TVM and map its pages |
//! | [`covg`] | COVG: the guest-side functions |
//! | [`evidence`] | tokens and certificates |
//! | [`public_key`] | the keys that TVMs give |
//! | [`tap`] | local attestation |
//! | [`machine`] | TSM and host together: what a monitor calls |
//! | [`guest`] | the guest's side, for programs without a virtual machine |
//! | [`registers`] | the registers of an SBI call |
//! | [`event`] | what goes into the journal |
//!
//! Physical addresses do not occur: there is one TVM, and its addresses are the host's. So the functions that convert host
//! memory (`convert_pages`, `reclaim_pages`, the fences) have no model, and pages of page tables are counted only.

pub mod build;
pub mod covg;
pub mod event;
pub mod evidence;
pub mod guest;
pub mod machine;
pub mod measure;
pub mod paging;
pub mod platform;
pub mod promote;
pub mod public_key;
pub mod regions;
pub mod registers;
pub mod tap;
pub mod tvm;

pub use tsmsim_abi::cove::PAGE_SIZE;
