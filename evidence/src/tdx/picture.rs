//! The chain as a picture.

use aws_lc_rs::digest::{SHA256, digest};
use tsmsim_abi::tdx::quote::{EcdsaSignatureData, Quote, QuoteBody};
use zerocopy::IntoBytes;

use super::{Bundle, quote};
use crate::{
    Verdict,
    hex::short,
    picture::{Part, certificate_line, draw},
    x509::pem_blocks,
};

const COLLATERAL: &str = "collateral";

/// What collateral consists of, as checks name it.
const OF_COLLATERAL: [&str; 7] =
    [COLLATERAL, "root CRL", "PCK CRL", "TCB signing", "TCB info", "QE identity", "TCB"];

/// An SVG picture: from the root over PCK and quoting enclave down to the quote, a box each with what it is and whether it
/// passed; beneath it the collateral; and the verdict. The same input gives the same bytes.
#[must_use]
pub fn svg(bundle: &Bundle, verdict: &Verdict) -> String {
    let quote = Quote::read(&bundle.quote).ok();
    let signature = quote.as_ref().and_then(|quote| quote.signature().ok());
    let chain = signature.as_ref().and_then(|signature| {
        let chain = signature.qe.certification.pem_chain().ok()?;
        pem_blocks(chain.as_bytes()).ok()
    });
    let certificate =
        |index: usize| chain.as_ref().and_then(|chain| chain.get(index)).map(|block| block.der.as_slice());
    let root = bundle.root.as_deref().or(certificate(2));
    let names_key = |check: &crate::Check| (check.object, &*check.field) == ("QE report", "report_data");
    let parts = [
        Part::of("root CA", certificate_line(root), verdict),
        Part::of("PCK CA", certificate_line(certificate(1)), verdict),
        Part::of("PCK", certificate_line(certificate(0)), verdict),
        Part::of("QE report", enclave_line(signature.as_ref()), verdict).with_arrow(Some("names")),
        Part::judged("attestation key", key_line(signature.as_ref()), verdict, names_key),
        Part::of(quote::OBJECT, quote_line(quote.as_ref()), verdict).with_arrow(None),
        Part::judged(COLLATERAL, collateral_line(verdict), verdict, |check| {
            OF_COLLATERAL.contains(&check.object)
        }),
    ];
    draw(&parts, verdict)
}

fn enclave_line(signature: Option<&EcdsaSignatureData<'_>>) -> String {
    let Some(signature) = signature else { return "cannot be read".to_owned() };
    let report = &signature.qe.qe_report;
    let (product, version) = (report.isv_prod_id.get(), report.isv_svn.get());
    format!("MRSIGNER {}, product {product}, ISVSVN {version}", short(&report.mr_signer))
}

fn key_line(signature: Option<&EcdsaSignatureData<'_>>) -> String {
    let Some(signature) = signature else { return "cannot be read".to_owned() };
    let fingerprint = digest(&SHA256, signature.attestation_key.as_bytes());
    format!("ECDSA P-256, SHA-256 of the point {}", short(fingerprint.as_ref()))
}

fn quote_line(quote: Option<&Quote<'_>>) -> String {
    let Some(quote) = quote else { return "cannot be read".to_owned() };
    let version = quote.version().0;
    match &quote.signed.body {
        QuoteBody::Enclave(report) => {
            format!("SGX, version {version}, MRENCLAVE {}", short(&report.mr_enclave))
        }
        QuoteBody::Td10(td) => format!("TDX 1.0, version {version}, MRTD {}", short(&td.mr_td)),
        QuoteBody::Td15(td) => format!("TDX 1.5, version {version}, MRTD {}", short(&td.base.mr_td)),
    }
}

/// What the collateral says of the platform.
fn collateral_line(verdict: &Verdict) -> String {
    let status = verdict.checks.iter().find(|check| (check.object, &*check.field) == ("TCB", "status"));
    status.map_or_else(|| "none".to_owned(), |check| format!("TCB status: {}", check.detail))
}
