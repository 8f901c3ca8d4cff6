//! Sound evidence of the default seed.

use tsmsim_abi::snp::{cert_table::CertGuid, payload::KeySel, policy::GuestPolicy, tcb::ProductLine};
use tsmsim_evidence::snp::Bundle;
use tsmsim_keys::{Seed, SignatureMode, amd::CertificateKind};
use tsmsim_simulator::snp::{
    firmware::Firmware,
    guest::InProcessGuest,
    host::{LaunchPlan, build_cert_table},
    platform::PlatformConfig,
};
use zerocopy::IntoBytes;

use crate::{host, world};

/// A Milan report with its certificates and the revocation list; the same in every run.
pub fn bundle() -> Bundle {
    let config = PlatformConfig::new(ProductLine::Milan).with_signature_mode(SignatureMode::Deterministic);
    let platform = config.build(&Seed::DEFAULT).expect("the platform can be built");
    let plan = LaunchPlan::from(GuestPolicy::DEFAULT);
    let guest = InProcessGuest::launch(Firmware::new(platform.clone()), host(), plan, world());
    let report = guest.expect("the guest launches").report(&[7; 64], 0, KeySel::Vcek).expect("it gets one");
    let hierarchy = platform.hierarchy();
    let vcek = platform.vcek().certificate().der().to_vec();
    let ark = hierarchy.ark().expect("there is an ARK").der().to_vec();
    let ask = hierarchy.issuer_of(CertificateKind::Vcek).expect("there is an ASK").der().to_vec();
    let table = build_cert_table(&[(CertGuid::VCEK, vcek.clone()), (CertGuid::ASK, ask.clone())]);
    Bundle {
        report: report.as_bytes().to_vec(),
        ark: Some(ark),
        ask: Some(ask),
        vcek: Some(vcek),
        crl: Some(hierarchy.crl().expect("there is a list").der().to_vec()),
        table: Some(table.expect("it is not too large")),
        ..Bundle::default()
    }
}
