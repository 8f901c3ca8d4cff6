//! Synthetic platforms from the command line.

use std::fmt::Write as _;

use tsmsim_abi::snp::{cert_table::CertGuid, tcb::ProductLine};
use tsmsim_keys::{KeysError, Seed, SignatureMode, amd::CertificateKind};
use tsmsim_simulator::{
    journal::{Event, Journal},
    snp::{
        host::build_cert_table,
        platform::{Platform, PlatformConfig},
    },
};

use crate::{
    args::{PlatformArgs, Profile},
    commands::keys::seed,
    failure::Failure,
    output::write_file,
};

/// The product line of a profile; Genoa if none is named.
fn line(profile: Option<Profile>) -> Result<ProductLine, Failure> {
    match profile {
        Some(Profile::Milan) => Ok(ProductLine::Milan),
        None | Some(Profile::Genoa) => Ok(ProductLine::Genoa),
        Some(Profile::Turin) => Ok(ProductLine::Turin),
        Some(Profile::Tdx10 | Profile::Tdx15 | Profile::Cove07) => {
            Err(Failure::Usage("--tee snp has the profiles milan, genoa and turin".to_owned()))
        }
    }
}

/// How evidence is signed.
pub(crate) const fn signature_mode(args: &PlatformArgs) -> SignatureMode {
    if args.randomized { SignatureMode::Randomized } else { SignatureMode::Deterministic }
}

/// Builds the platform that the arguments describe.
pub(crate) fn build(args: &PlatformArgs) -> Result<Platform, Failure> {
    build_from(args, |config| config)
}

/// The same, with the C-bit of the engine that is to run a guest.
pub(crate) fn build_with_c_bit(args: &PlatformArgs, c_bit: u8) -> Result<Platform, Failure> {
    build_from(args, |config| config.with_c_bit(c_bit))
}

/// What a measurement depends on: the processor of a profile, and the C-bit.
pub(crate) fn of_profile(profile: Option<Profile>, c_bit: u8) -> Result<Platform, Failure> {
    let config = PlatformConfig::new(line(profile)?).with_c_bit(c_bit);
    config.build(&Seed::DEFAULT).map_err(|error| Failure::because("building the platform", error))
}

fn build_from(
    args: &PlatformArgs,
    change: impl FnOnce(PlatformConfig) -> PlatformConfig,
) -> Result<Platform, Failure> {
    if args.quote_version.is_some() {
        return Err(Failure::Usage("--quote-version is for --tee tdx".to_owned()));
    }
    let mode = signature_mode(args);
    let mut config = PlatformConfig::new(line(args.profile)?)
        .with_mask_chip_id(args.mask_chip_id)
        .with_signature_mode(mode);
    if let Some(version) = args.report_version.as_ref().and_then(|version| version.parse().ok()) {
        config = config.with_report_version(version);
    }
    if let Some(csp_id) = &args.vlek {
        config = config.with_vlek(csp_id);
    }
    let seed = seed(args.seed.as_deref())?;
    let hierarchy = args.scenario.snp()?.hierarchy(&seed, line(args.profile)?);
    let hierarchy = hierarchy.map_err(|error| Failure::because("deriving keys", error))?;
    change(config).build_under(&seed, hierarchy).map_err(|error| Failure::Usage(error.to_string()))
}

/// Name in the layout of `--out`, certificate or list (DER), and what the certificate table calls it.
type CertificateFile = (&'static str, Vec<u8>, CertGuid);

/// The certificates above a platform's reports.
pub(crate) struct Certificates {
    /// In the order of the certificate table.
    pub(crate) files: Vec<CertificateFile>,
    /// The certificate table that the host hands to its guests.
    pub(crate) table: Vec<u8>,
}

/// Collects the certificates of the key that signs the platform's reports.
pub(crate) fn certificates(platform: &Platform) -> Result<Certificates, Failure> {
    let files = chain(platform).map_err(|error| Failure::because("issuing certificates", error))?;
    // The host's table has certificates alone: a client such as `snpguest` takes each entry for one.
    let entries: Vec<_> = files
        .iter()
        .filter(|(_, _, guid)| *guid != CertGuid::CRL)
        .map(|(_, der, guid)| (*guid, der.clone()))
        .collect();
    let table = build_cert_table(&entries)
        .map_err(|error| Failure::because("building the certificate table", error))?;
    Ok(Certificates { files, table })
}

fn chain(platform: &Platform) -> Result<Vec<CertificateFile>, KeysError> {
    let hierarchy = platform.hierarchy();
    let (name, guid, key, kind) = match platform.vlek() {
        Some(vlek) => ("vlek.der", CertGuid::VLEK, vlek, CertificateKind::Vlek),
        None => ("vcek.der", CertGuid::VCEK, platform.vcek(), CertificateKind::Vcek),
    };
    Ok(vec![
        (name, key.certificate().der().to_vec(), guid),
        ("ask.der", hierarchy.issuer_of(kind)?.der().to_vec(), CertGuid::ASK),
        ("ark.der", hierarchy.ark()?.der().to_vec(), CertGuid::ARK),
        ("crl.der", hierarchy.crl()?.der().to_vec(), CertGuid::CRL),
    ])
}

/// One entry of a journal, as it is written.
pub(crate) fn journal_line(number: u64, event: &Event) -> serde_json::Value {
    serde_json::json!({ "number": number, "event": format!("{event:?}") })
}

/// Writes a journal where the arguments want it: one JSON object a line.
pub(crate) fn write_journal(args: &PlatformArgs, journal: &Journal) -> Result<(), Failure> {
    let Some(path) = &args.journal else { return Ok(()) };
    let mut text = String::new();
    for (number, event) in journal.entries() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", journal_line(number, event));
    }
    write_file(path, text.as_bytes())
}
