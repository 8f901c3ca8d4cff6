//! Evidence from end to end: what the `tsmsim` program and guests under KVM make, judged by this repository's verifier, by the
//! `sev` crate, by openssl and by `sev-snp-measure`.
//!
//! | module | what is shown |
//! |---|---|
//! | [`report`] | every profile, report version and signing key gives evidence that strangers accept; the same arguments give the same bytes |
//! | [`verify`] | evidence is refused for what is wrong with it, down to the last bit |
//! | [`measure`] | the launch measurement before the launch, against the guest's report and `sev-snp-measure` |
//! | [`guest`] | what the guest under KVM checked, by name; how guests end |
//! | [`faults`] | what a guest sees when something goes wrong on the host's side |
//! | [`genuine`] | evidence of AMD's chips through the program |
//! | [`cove`] | CBOR and X.509 certificates of TVMs; PyPI's `cwt` and openssl judge them too |
//! | [`tdx`] | quotes; dcap-qvl judges them too |
//! | [`cli`] | the program's contract: exit statuses, JSON, help, files |
//!
//! The others help: [`program`] runs programs, [`made`] and [`image`] make evidence, guests and images, [`tap`] reads what guests
//! print.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod cli;
mod cove;
mod faults;
mod genuine;
mod guest;
mod image;
mod made;
mod measure;
mod program;
mod report;
mod tap;
mod tdx;
mod verify;
