//! The smallest quote that a verifier takes (Intel, *TDX DCAP Quoting Library API*, version 4 of the quote), to have our
//! collateral judged by it. Written for these tests alone.

use aws_lc_rs::digest::{SHA256, digest};
use tsmsim_keys::SignatureMode;
use tsmsim_keys::intel::{Hierarchy, PlatformIdentity, TD_QE_MRSIGNER};

/// Header of 48 bytes: version 4, ECDSA on P-256, TDX, Intel's quoting enclave.
fn header() -> Vec<u8> {
    let vendor =
        [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
    [&[4, 0, 2, 0, 0x81, 0, 0, 0, 0, 0, 0, 0][..], &vendor, &[0; 20]].concat()
}

/// TD report of 584 bytes: nothing but `TEE_TCB_SVN` and the attribute SEPT_VE_DISABLE.
fn body(tee_tcb_svn: [u8; 16]) -> Vec<u8> {
    let attributes = (1_u64 << 28).to_le_bytes();
    [&tee_tcb_svn[..], &[0; 48 + 48 + 8], &attributes, &[0; 584 - 128]].concat()
}

/// The quoting enclave's report, 384 bytes.
fn qe_report(platform: &PlatformIdentity, isvsvn: u16, report_data: &[u8]) -> Vec<u8> {
    let report = [
        &platform.tcb.cpusvn[..],
        &[0; 32],
        &[0x11],
        &[0; 15 + 32 + 32],
        &TD_QE_MRSIGNER,
        &[0; 96],
        &2_u16.to_le_bytes(),
        &isvsvn.to_le_bytes(),
        &[0; 60],
        report_data,
        &[0; 32],
    ]
    .concat();
    assert_eq!(report.len(), 384);
    report
}

/// A quote of a platform, its quoting enclave being of this version.
pub(crate) fn quote(
    hierarchy: &Hierarchy,
    platform: &PlatformIdentity,
    tee_tcb_svn: [u8; 16],
    isvsvn: u16,
) -> Vec<u8> {
    let pck = hierarchy.pck(platform).unwrap();
    let attestation = hierarchy.attestation_key(platform).unwrap();
    let point = &attestation.public_point()[1..];
    let signed = [header(), body(tee_tcb_svn)].concat();
    let signature = attestation.sign(SignatureMode::Randomized, &signed).unwrap().to_fixed();
    let auth_data = [7; 32];
    let report_data = digest(&SHA256, &[point, &auth_data].concat());
    let report = qe_report(platform, isvsvn, report_data.as_ref());
    let report_signature = pck.sign(SignatureMode::Randomized, &report).unwrap().to_fixed();
    let sized = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat();
    let certification = [&[5, 0][..], &sized(pck.chain().as_bytes())].concat();
    let report = [&report[..], &report_signature, &[32, 0], &auth_data, &certification].concat();
    let authentication = [&signature[..], point, &[6, 0], &sized(&report)].concat();
    [signed, sized(&authentication)].concat()
}
