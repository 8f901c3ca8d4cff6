//! Every profile gives its status: by a judge written here from Intel's description, and by dcap-qvl.

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use rstest::rstest;
use serde_json::Value;
use tsmsim_keys::Seed;
use tsmsim_keys::intel::{
    Hierarchy, PckCa, PlatformIdentity, QeIdentitySpec, TcbInfoSpec, TcbStatus, Update,
};

use crate::quote::quote;
use crate::{TEE_TCB_SVN, platform, single_package};

/// 2025-06-15.
const NOW: u64 = 1_750_000_000;

fn covers(svns: &[u8], components: &Value) -> bool {
    let components = components.as_array().unwrap();
    assert_eq!(components.len(), svns.len());
    svns.iter().zip(components).all(|(svn, component)| u64::from(*svn) >= component["svn"].as_u64().unwrap())
}

/// The first level, in the order of the document, that asks for no more than the platform has (Intel, *PCS API version 4*,
/// determining the TCB level; for TDX the first two components are left to the module's identity from TDX 1.5 on).
fn judged(tcb_info: &str, platform: &PlatformIdentity, tee_tcb_svn: Option<[u8; 16]>) -> Option<String> {
    let tcb_info: Value = serde_json::from_str(tcb_info).unwrap();
    let level = tcb_info["tcbLevels"].as_array().unwrap().iter().find(|level| {
        let tcb = &level["tcb"];
        covers(&platform.tcb.components, &tcb["sgxtcbcomponents"])
            && u64::from(platform.tcb.pcesvn) >= tcb["pcesvn"].as_u64().unwrap()
            && match tee_tcb_svn {
                None => tcb.get("tdxtcbcomponents").is_none(),
                Some(svns) if svns[1] > 0 => {
                    let rest = tcb["tdxtcbcomponents"].as_array().unwrap()[2..].to_vec();
                    covers(&svns[2..], &Value::Array(rest))
                }
                Some(svns) => covers(&svns, &tcb["tdxtcbcomponents"]),
            }
    });
    level.map(|level| level["tcbStatus"].as_str().unwrap().to_owned())
}

/// The level of a module's or enclave's own version number.
fn judged_isvsvn(levels: &Value, isvsvn: u64) -> Option<String> {
    let mut levels = levels.as_array().unwrap().iter();
    let level = levels.find(|level| isvsvn >= level["tcb"]["isvsvn"].as_u64().unwrap());
    level.map(|level| level["tcbStatus"].as_str().unwrap().to_owned())
}

/// Extreme platforms too: nothing above, nothing below.
fn platforms() -> [PlatformIdentity; 4] {
    let [mut zero, mut full] = [platform(), platform()];
    (zero.tcb.components, zero.tcb.pcesvn) = ([0; 16], 0);
    (full.tcb.components, full.tcb.pcesvn) = ([254; 16], u16::MAX);
    full.tcb.components[0] = 255;
    [platform(), single_package(), zero, full]
}

#[rstest]
fn platform_is_judged_as_told(
    #[values(Update::Standard, Update::Early)] update: Update,
    #[values([5, 1, 2], [5, 0, 2], [3, 3, 2], [9, 16, 0], [0, 0, 0])] svns: [u8; 3],
) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let mut tee_tcb_svn = [0; 16];
    tee_tcb_svn[..3].copy_from_slice(&svns);
    for platform in platforms() {
        for status in TcbStatus::ALL {
            let tdx = TcbInfoSpec::tdx(&platform, tee_tcb_svn).with_status(status).with_update(update);
            let sgx = TcbInfoSpec::sgx(&platform).with_status(status).with_update(update);
            let [tdx, sgx] = [tdx, sgx].map(|spec| hierarchy.tcb_info(&spec).unwrap());
            let name = Some(status.name().to_owned());
            assert_eq!(judged(tdx.json(), &platform, Some(tee_tcb_svn)), name, "{platform:?}");
            assert_eq!(judged(sgx.json(), &platform, None), name, "{platform:?}");
        }
    }
}

#[rstest]
fn module_and_enclave_are_judged_as_told(
    #[values(Update::Standard, Update::Early)] update: Update,
    #[values(1, 3, 16)] version: u8,
) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let mut tee_tcb_svn = TEE_TCB_SVN;
    tee_tcb_svn[1] = version;
    for status in TcbStatus::ALL {
        let mut spec = TcbInfoSpec::tdx(&platform(), tee_tcb_svn).with_update(update);
        spec.module_status = status;
        let tcb_info: Value = serde_json::from_str(hierarchy.tcb_info(&spec).unwrap().json()).unwrap();
        let id = format!("TDX_{version:02X}");
        let mut identities = tcb_info["tdxModuleIdentities"].as_array().unwrap().iter();
        let identity = identities.find(|identity| identity["id"] == id.as_str()).unwrap();
        assert_eq!(judged_isvsvn(&identity["tcbLevels"], 5).as_deref(), Some(status.name()));
        for spec in [QeIdentitySpec::td_qe(), QeIdentitySpec::qe()] {
            let isvsvn = u64::from(spec.isvsvn);
            let identity = hierarchy.qe_identity(&spec.with_status(status).with_update(update)).unwrap();
            let identity: Value = serde_json::from_str(identity.json()).unwrap();
            assert_eq!(judged_isvsvn(&identity["tcbLevels"], isvsvn).as_deref(), Some(status.name()));
        }
    }
}

/// What the two data sets differ by: the number, and who is one step behind.
#[test]
fn one_step_behind_is_out_of_date_early_only() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let spec = TcbInfoSpec::tdx(&platform(), TEE_TCB_SVN);
    let [standard, early] = [Update::Standard, Update::Early]
        .map(|update| hierarchy.tcb_info(&spec.clone().with_update(update)).unwrap());
    let mut behind = platform();
    behind.tcb.components[0] -= 1;
    assert_eq!(judged(standard.json(), &behind, Some(TEE_TCB_SVN)).as_deref(), Some("UpToDate"));
    assert_eq!(judged(early.json(), &behind, Some(TEE_TCB_SVN)).as_deref(), Some("OutOfDate"));
    behind.tcb.components[0] -= 1;
    assert_eq!(judged(standard.json(), &behind, Some(TEE_TCB_SVN)).as_deref(), Some("OutOfDate"));
    let number = |text: &str| -> Value {
        serde_json::from_str::<Value>(text).unwrap()["tcbEvaluationDataNumber"].clone()
    };
    assert_eq!([number(standard.json()), number(early.json())], [13, 14]);
}

/// Our collateral as dcap-qvl reads it: through its JSON form.
fn for_dcap_qvl(ca: PckCa, tcb_info: &TcbInfoSpec, qe_identity: &QeIdentitySpec) -> QuoteCollateralV3 {
    let collateral = Hierarchy::new(&Seed::DEFAULT).collateral(ca, tcb_info, qe_identity).unwrap();
    serde_json::from_str(&collateral.to_json().unwrap()).unwrap()
}

fn verify(quote: &[u8], collateral: &QuoteCollateralV3) -> Result<(String, Vec<String>), String> {
    let root = Hierarchy::new(&Seed::DEFAULT).root().unwrap().der().to_vec();
    match QuoteVerifier::new(root).verify(quote, collateral, NOW) {
        Ok(report) => Ok((report.status, report.advisory_ids)),
        Err(error) => Err(format!("{error:#}")),
    }
}

#[rstest]
fn dcap_qvl_judges_as_told(
    #[values(Update::Standard, Update::Early)] update: Update,
    #[values([5, 1, 2], [5, 0, 2], [3, 3, 2])] svns: [u8; 3],
) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let mut tee_tcb_svn = [0; 16];
    tee_tcb_svn[..3].copy_from_slice(&svns);
    for platform in [platform(), single_package()] {
        let quote = quote(&hierarchy, &platform, tee_tcb_svn, 4);
        let up_to_date = TcbInfoSpec::tdx(&platform, tee_tcb_svn).with_update(update);
        let td_qe = QeIdentitySpec::td_qe().with_update(update);
        for status in TcbStatus::ALL {
            let of_platform = up_to_date.clone().with_status(status);
            assert_judged(&quote, &for_dcap_qvl(platform.ca(), &of_platform, &td_qe), status);
        }
        for status in [TcbStatus::UpToDate, TcbStatus::OutOfDate, TcbStatus::Revoked] {
            let of_enclave = td_qe.clone().with_status(status);
            assert_judged(&quote, &for_dcap_qvl(platform.ca(), &up_to_date, &of_enclave), status);
            let of_module = TcbInfoSpec { module_status: status, ..up_to_date.clone() };
            let status = if svns[1] == 0 { TcbStatus::UpToDate } else { status };
            assert_judged(&quote, &for_dcap_qvl(platform.ca(), &of_module, &td_qe), status);
        }
        let hardening = td_qe.with_status(TcbStatus::SwHardeningNeeded);
        let refused = verify(&quote, &for_dcap_qvl(platform.ca(), &up_to_date, &hardening));
        assert!(refused.is_err_and(|error| error.contains("in QE Identity")));
    }
}

/// What is revoked is refused, with the reason.
fn assert_judged(quote: &[u8], collateral: &QuoteCollateralV3, status: TcbStatus) {
    let verdict = verify(quote, collateral);
    if status == TcbStatus::Revoked {
        assert!(verdict.clone().is_err_and(|error| error.contains("Revoked")), "{verdict:?}");
    } else {
        assert_eq!(verdict.unwrap().0, status.name());
    }
}

#[test]
fn dcap_qvl_reports_the_advisories_given() {
    let quote = quote(&Hierarchy::new(&Seed::DEFAULT), &platform(), TEE_TCB_SVN, 4);
    let mut spec = TcbInfoSpec::tdx(&platform(), TEE_TCB_SVN).with_status(TcbStatus::OutOfDate);
    let usual = verify(&quote, &for_dcap_qvl(PckCa::Platform, &spec, &QeIdentitySpec::td_qe())).unwrap().1;
    assert_eq!(usual, ["INTEL-SA-00828", "INTEL-SA-00837"]);
    spec.advisory_ids = Some(vec!["INTEL-SA-12345".to_owned()]);
    let given = verify(&quote, &for_dcap_qvl(PckCa::Platform, &spec, &QeIdentitySpec::td_qe())).unwrap().1;
    assert_eq!(given, ["INTEL-SA-12345"]);
}

/// The verifier that accepts is one that refuses: another root, another platform, revocation, signatures, times.
#[test]
fn dcap_qvl_refuses_what_is_wrong() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let quote = quote(&hierarchy, &platform(), TEE_TCB_SVN, 4);
    let spec = TcbInfoSpec::tdx(&platform(), TEE_TCB_SVN);
    let good = for_dcap_qvl(PckCa::Platform, &spec, &QeIdentitySpec::td_qe());
    verify(&quote, &good).unwrap();
    let other_root = Hierarchy::new(&Seed::from_bytes([7; 32])).root().unwrap().der().to_vec();
    assert!(QuoteVerifier::new(other_root).verify(&quote, &good, NOW).is_err());

    let mut other_fmspc = platform();
    other_fmspc.fmspc = [0; 6];
    let pck = hierarchy.pck(&platform()).unwrap().certificate().parse().unwrap();
    let serial = pck.tbs_certificate().serial_number().as_bytes().to_vec();
    let revoking = hierarchy.crl(tsmsim_keys::intel::CrlKind::Pck(PckCa::Platform), 2, &[&serial]).unwrap();
    let ended = TcbInfoSpec { next_update: "2024-01-01T00:00:00Z".to_owned(), ..spec.clone() };
    let flipped = |mut bytes: Vec<u8>| {
        bytes[10] ^= 1;
        bytes
    };
    let td_qe = QeIdentitySpec::td_qe();
    let other_qe = QeIdentitySpec { mrsigner: [0; 32], ..td_qe.clone() };
    let bad = [
        for_dcap_qvl(PckCa::Processor, &spec, &td_qe),
        for_dcap_qvl(PckCa::Platform, &TcbInfoSpec::tdx(&other_fmspc, TEE_TCB_SVN), &td_qe),
        for_dcap_qvl(PckCa::Platform, &TcbInfoSpec::sgx(&platform()), &td_qe),
        for_dcap_qvl(PckCa::Platform, &ended, &td_qe),
        for_dcap_qvl(PckCa::Platform, &spec, &QeIdentitySpec::qe()),
        for_dcap_qvl(PckCa::Platform, &spec, &other_qe),
        QuoteCollateralV3 { pck_crl: revoking.der().to_vec(), ..good.clone() },
        QuoteCollateralV3 { tcb_info: good.tcb_info.replace("UpToDate", "OutOfDate"), ..good.clone() },
        QuoteCollateralV3 { tcb_info_signature: flipped(good.tcb_info_signature.clone()), ..good.clone() },
        QuoteCollateralV3 {
            qe_identity_signature: flipped(good.qe_identity_signature.clone()),
            ..good.clone()
        },
    ];
    for (index, collateral) in bad.iter().enumerate() {
        assert!(verify(&quote, collateral).is_err(), "{index}");
    }
}
