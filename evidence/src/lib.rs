//! Reading, judging and showing attestation evidence and the certificates above it.
//!
//! The judge shares nothing with the makers of synthetic evidence but the wire formats of [`tsmsim_abi`]: a mistake of
//! theirs is not repeated here. Nothing reads a clock, and only [`snp::Bundle::from_dir`], [`tdx::Bundle::from_dir`],
//! [`cove::Bundle::from_dir`] and [`read_file`] touch files.
//!
//! | module | what |
//! |---|---|
//! | [`snp`] | AMD SEV-SNP: a report with ARK, ASK or ASVK, VCEK or VLEK, revocation list, certificate table |
//! | [`tdx`] | Intel TDX (and SGX) quotes, with PCK chain and collateral; TDREPORT; event log |
//! | [`cove`] | RISC-V CoVE: CBOR and X.509 certificates with their tokens, and the chain above |
//! | [`x509`] | certificates and revocation lists, strictly; PEM |
//! | [`show`] | any file of these kinds as a tree of fields |
//! | [`TrustedRoot`] | which roots are good enough |
//! | [`Verdict`] | every check by name, and under whose root the evidence stands |
//!
//! ```no_run
//! use tsmsim_evidence::{Timestamp, snp};
//!
//! let bundle = snp::Bundle::from_dir("evidence".as_ref())?;
//! let verdict = snp::verify(&bundle, &snp::Policy::at(Timestamp(1_700_000_000)));
//! print!("{}", verdict.table());
//! # Ok::<(), tsmsim_evidence::EvidenceError>(())
//! ```

pub mod cove;
mod error;
mod files;
mod hex;
mod picture;
mod profile;
pub mod show;
pub mod snp;
pub mod tdx;
mod time;
mod tree;
mod trust;
mod verdict;
pub mod x509;

pub use error::{EvidenceError, MAX_FILE_SIZE, read_file};
pub use time::{NotATime, Timestamp};
pub use tree::Node;
pub use trust::{SYNTHETIC_SERIAL_PREFIX, TrustedRoot};
pub use verdict::{Check, Outcome, Root, Verdict};
