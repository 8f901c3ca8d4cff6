//! Synthetic roots of trust: from one 32-byte [`Seed`], deterministically, keys, certificates and revocation lists in the
//! shape of the vendors'.
//!
//! The same seed gives the same bytes of every key and certificate, on any machine and at any time: nothing here reads a
//! clock, and the only randomness is that of [`SignatureMode::Randomized`] signatures.
//!
//! **None of this is to be trusted by anyone but a test.** [`Seed::DEFAULT`] and all that is derived from it is published;
//! and every hierarchy, whatever its seed, is marked: see [`amd`], [`intel`] and [`cove`].
//!
//! | module | what it gives |
//! |---|---|
//! | [`seed`] | the seed, derivation, and the table of labels |
//! | [`amd`] | ARK, ASK, ASVK, VCEK, VLEK and revocation lists for Milan, Genoa and Turin |
//! | [`intel`] | root, PCK CAs, PCK certificates, TCB signing, attestation keys, revocation lists, TCB info, QE identity |
//! | [`cove`] | CoVE: a manufacturer's root, and the layers of DICE from the root of trust to a TVM |
//! | [`certificate`], [`crl`] | certificates and lists before and after signing, every field open to change |
//! | [`rsa_key`], [`ecdsa`] | the keys, and how they sign |
//!
//! Types that hold secrets implement neither `Debug` nor `Display` and are wiped when dropped.

pub mod amd;
pub mod certificate;
pub mod cove;
pub mod crl;
pub mod ecdsa;
mod edits;
mod error;
pub mod intel;
mod profile;
pub mod rsa_key;
pub mod seed;

pub use certificate::{Certificate, CertificateDraft, CertificateSigner, Fingerprint};
pub use crl::{Crl, CrlDraft};
pub use ecdsa::{EcdsaKey, EcdsaP256Key, EcdsaP384Key, RawSignature, SignatureMode};
pub use error::KeysError;
pub use rsa_key::{RsaKey, RsaScheme, TrailerField};
pub use seed::{Secret, Seed};
pub use {der, spki, x509_cert};
