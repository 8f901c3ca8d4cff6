//! Platforms of the default seed, and the verdicts of a stranger who trusts their roots alone and chose the nonce.

use tsmsim_abi::snp::tcb::ProductLine;
use tsmsim_evidence::{Timestamp, snp, tdx};
use tsmsim_keys::{Seed, amd::CertificateKind, intel::Scenario};
use tsmsim_simulator::{
    snp::platform::{Platform, PlatformConfig},
    tdx::platform::{TdxPlatform, TdxPlatformConfig},
};

const AT: Timestamp = Timestamp(1_790_000_000);

pub(crate) fn snp_platform(c_bit: u8) -> Platform {
    PlatformConfig::new(ProductLine::Genoa).with_c_bit(c_bit).build(&Seed::DEFAULT).unwrap()
}

pub(crate) fn tdx_platform() -> TdxPlatform {
    TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).unwrap()
}

/// Whether a report is accepted as one of the platform's with this measurement.
pub(crate) fn judge_snp(
    report: Vec<u8>,
    nonce: &[u8; 64],
    measurement: [u8; 48],
    platform: &Platform,
) -> bool {
    let hierarchy = platform.hierarchy();
    let ark = hierarchy.ark().unwrap().der().to_vec();
    let bundle = snp::Bundle {
        report,
        ark: Some(ark.clone()),
        ask: Some(hierarchy.issuer_of(CertificateKind::Vcek).unwrap().der().to_vec()),
        vcek: Some(platform.vcek().certificate().der().to_vec()),
        crl: Some(hierarchy.crl().unwrap().der().to_vec()),
        inblob: Some(nonce.to_vec()),
        ..snp::Bundle::default()
    };
    let trust = snp::TrustedRoot::Given(ark);
    let policy = snp::Policy { trust, measurement: Some(measurement), ..snp::Policy::at(AT) };
    snp::verify(&bundle, &policy).accepted()
}

/// Whether a quote is accepted as one of [`tdx_platform`]'s with this measurement.
pub(crate) fn judge_tdx(quote: Vec<u8>, nonce: &[u8; 64], mr_td: [u8; 48]) -> bool {
    let platform = tdx_platform();
    let hierarchy = platform.hierarchy();
    let qe_identity = platform.config().qe.clone();
    let collateral = Scenario::default()
        .collateral(hierarchy, platform.identity(), platform.tcb_info_spec(), qe_identity)
        .unwrap()
        .to_json()
        .unwrap();
    let root = hierarchy.root().unwrap().der().to_vec();
    let bundle = tdx::Bundle {
        quote,
        root: Some(root.clone()),
        collateral: Some(collateral.into_bytes()),
        inblob: Some(nonce.to_vec()),
        ..tdx::Bundle::default()
    };
    let trust = tdx::TrustedRoot::Given(root);
    tdx::verify(&bundle, &tdx::Policy { trust, mr_td: Some(mr_td), ..tdx::Policy::at(AT) }).accepted()
}
