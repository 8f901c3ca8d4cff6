//! RISC-V CoVE evidence: the certificate that `get_evidence` gives, in either format, and the tokens in it.
//!
//! What is demanded: riscv-non-isa/riscv-ap-tee, `attestation.adoc`, and where it is open the choices of
//! [`tsmsim_abi::cove::claims::CHOICES`]. The chain goes from the manufacturer's root over RoT and platform to the TSM, which
//! signs the TVM's token and certificate; each token holds the key that verifies the next.

mod bundle;
mod cbor;
mod certificates;
mod chain;
mod envelope;
mod judge;
mod key;
mod picture;
mod policy;
mod registers;
mod show;
mod token;

pub use crate::TrustedRoot;
pub use bundle::Bundle;
pub use certificates::CertificateKind;
pub use picture::svg;
pub use policy::Policy;
pub(crate) use show::{show_evidence, show_extension};
pub use token::{Component, PlatformClaims, Register, TsmClaims, TvmClaims};

use crate::{Verdict, x509::Malformed};

/// What evidence says, not yet judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// Of the platform.
    pub platform: PlatformClaims,
    /// Of the TSM.
    pub tsm: TsmClaims,
    /// Of the TVM.
    pub tvm: TvmClaims,
}

impl Claims {
    /// Reads evidence of either format.
    ///
    /// # Errors
    /// Which part is malformed.
    pub fn read(evidence: &[u8]) -> Result<Self, Malformed> {
        let (_, tokens) = envelope::read(evidence)?;
        Ok(Self {
            platform: PlatformClaims::read(tokens.platform.claims()?)?,
            tsm: TsmClaims::read(tokens.tsm.claims()?)?,
            tvm: TvmClaims::read(tokens.tvm.claims()?)?,
        })
    }
}

/// Whether bytes are to be taken for evidence: an X.509 certificate with the UCCS extension, or a CBOR certificate.
#[must_use]
pub fn is_evidence(bytes: &[u8]) -> bool {
    envelope::is_evidence(bytes)
}

/// Judges evidence and everything that it stands on. Every check is made, whatever fails before it.
#[must_use]
pub fn verify(bundle: &Bundle, policy: &Policy) -> Verdict {
    let mut verdict = Verdict::new(policy.at);
    let files = chain::Files::of(&mut verdict, bundle, policy);
    let chain = chain::judge(&mut verdict, &files, bundle, policy);
    match envelope::read(&bundle.evidence) {
        Ok((envelope, tokens)) => judge::judge(&mut verdict, &envelope, &tokens, &chain, bundle, policy),
        Err(malformed) => {
            verdict.judge("certificate", malformed.part, Err::<&str, _>(malformed.why));
        }
    }
    verdict
}
