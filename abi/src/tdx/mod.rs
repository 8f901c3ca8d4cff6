//! Intel TDX: what a TD, its host, the TDX module, the quoting enclave and verifiers say to each other.
//!
//! | module | what |
//! |---|---|
//! | [`leaf`] | leaf numbers of TDCALL and SEAMCALL, and their operands that are bit fields |
//! | [`status`] | completion status codes and operand identifiers |
//! | [`vmcall`] | sub-functions and status codes of `TDG.VP.VMCALL` |
//! | [`metadata`] | field identifiers of `TDG.VM.RD`, `TDG.VM.WR`, `TDG.SYS.RD` |
//! | [`td_params`] | parameters, attributes and extended features of a TD; what `MRTD` is a hash of |
//! | [`report`] | TDREPORT |
//! | [`get_quote`] | the buffer of `GetQuote` |
//! | [`qgs`] | messages of the quote generation service |
//! | [`quote`], [`qe`] | quotes, versions 3 to 5, and what certifies them |
//! | [`pck`] | the SGX extension of PCK certificates |
//! | [`ccel`] | the CCEL ACPI table and the event log |
//! | [`tdvf`] | what a firmware image says about its launch as a TD |
//! | [`codec`] | why bytes cannot be read or written |
//!
//! A TD HOB has no layout here: the module does not measure it, the firmware does, as an event of the log.

pub mod ccel;
pub mod codec;
pub mod get_quote;
pub mod leaf;
pub mod metadata;
pub mod pck;
pub mod qe;
pub mod qgs;
pub mod quote;
pub mod report;
pub mod status;
mod status_code;
pub mod td_params;
pub mod tdvf;
pub mod vmcall;
