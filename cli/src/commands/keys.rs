//! `tsmsim keys`: the synthetic roots of trust.

use std::path::Path;

use serde_json::json;
use tsmsim_abi::snp::tcb::ProductLine;
use tsmsim_keys::{
    KeysError, Seed,
    amd::{CertificateKind, Hierarchy},
    cove::{self, KeyAlgorithm},
    intel::{self, PckCa},
};
use tsmsim_simulator::{cove::platform::CovePlatformConfig, tdx::platform::TdxPlatformConfig};

use crate::{
    args::{KeysAction, ScenarioArgs, SeedArg},
    failure::Failure,
    output::{hex, print, print_json, table, write_file},
    tdx::evidence::collateral,
};

/// Runs the command.
pub(crate) fn run(action: &KeysAction) -> Result<(), Failure> {
    match action {
        KeysAction::Init { out } => init(out),
        KeysAction::Export { seed, scenario, out } => export(&seed.read()?, *scenario, out),
        KeysAction::Fingerprint { seed, json } => fingerprint(&seed.read()?, *json),
    }
}

impl SeedArg {
    fn read(&self) -> Result<Seed, Failure> {
        seed(self.seed.as_deref())
    }
}

/// The seed of an argument, or the published one.
pub(crate) fn seed(argument: Option<&str>) -> Result<Seed, Failure> {
    match argument {
        None => Ok(Seed::DEFAULT),
        Some(text) => Seed::from_hex(text).map_err(|_| {
            Failure::Usage(
                "--seed takes 64 hexadecimal digits; `tsmsim keys init` makes a new seed".to_owned(),
            )
        }),
    }
}

fn init(out: &Path) -> Result<(), Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::because("asking the system for randomness", error))?;
    let path = out.join("seed.hex");
    std::fs::create_dir_all(out).map_err(|error| Failure::file("make", out, &error))?;
    write_private(&path, format!("{}\n", hex(&bytes)).as_bytes())?;
    export(&Seed::from_bytes(bytes), ScenarioArgs { scenario: None, update: None }, out)?;
    eprintln!("tsmsim: the seed is in {}; use it with --seed \"$(cat {0})\"", path.display());
    Ok(())
}

/// Writes a new file that only its owner can read; an existing one stays as it is.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(bytes)).map_err(|error| Failure::file("write", path, &error))
}

fn export(seed: &Seed, scenario: ScenarioArgs, out: &Path) -> Result<(), Failure> {
    let deriving = |error| Failure::because("deriving keys", error);
    let (amd, intel, update) = scenario.both();
    for line in ProductLine::ALL {
        let hierarchy = amd.hierarchy(seed, line).map_err(deriving)?;
        write_all(&out.join(line.name().to_lowercase()), exported(&hierarchy).map_err(deriving)?)?;
    }
    write_all(&out.join("intel"), exported_intel(seed, intel, update).map_err(deriving)?)?;
    let scenario = scenario.scenario.unwrap_or_default().cove().unwrap_or_default();
    write_all(&out.join("cove"), exported_cove(seed, scenario)?)
}

type File = (&'static str, Vec<u8>);

fn write_all(directory: &Path, files: Vec<File>) -> Result<(), Failure> {
    for (name, bytes) in files {
        let path = directory.join(name);
        write_file(&path, &bytes)?;
        print(&format!("{}\n", path.display()));
    }
    Ok(())
}

/// The platform is the one that `tsmsim report` has without further options.
fn exported_intel(
    seed: &Seed,
    scenario: intel::Scenario,
    update: intel::Update,
) -> Result<Vec<File>, KeysError> {
    let platform = TdxPlatformConfig::tdx_1_5().build(seed)?;
    let hierarchy = platform.hierarchy();
    let collateral = collateral(&platform, scenario, update)?;
    Ok(vec![
        ("root.der", hierarchy.root()?.der().to_vec()),
        ("root.pem", hierarchy.root()?.pem().into_bytes()),
        ("platform-ca.der", hierarchy.platform_ca()?.der().to_vec()),
        ("processor-ca.der", hierarchy.processor_ca()?.der().to_vec()),
        ("tcb-signing.der", hierarchy.tcb_signing()?.der().to_vec()),
        ("pck.der", hierarchy.pck(platform.identity())?.certificate().der().to_vec()),
        ("root-crl.der", collateral.root_ca_crl.clone()),
        ("platform-crl.der", collateral.pck_crl.clone()),
        ("processor-crl.der", hierarchy.pck_crl(PckCa::Processor)?.der().to_vec()),
        ("collateral.json", collateral.to_json()?.into_bytes()),
    ])
}

/// The platform is the one that `tsmsim report` has.
fn exported_cove(seed: &Seed, scenario: cove::Scenario) -> Result<Vec<File>, Failure> {
    let platform = CovePlatformConfig::new().build(seed);
    let platform = platform.map_err(|error| Failure::because("building the platform", error))?;
    let files = || -> Result<Vec<File>, KeysError> {
        let root = platform.hierarchy().root()?;
        Ok(vec![
            ("root.der", root.der().to_vec()),
            ("root.pem", root.pem().into_bytes()),
            ("chain-ed25519.pem", platform.chain(KeyAlgorithm::Ed25519).pem().into_bytes()),
            ("chain-p256.pem", platform.chain(KeyAlgorithm::P256).pem().into_bytes()),
            ("crl.der", scenario.crl(platform.hierarchy(), platform.device())?.der().to_vec()),
        ])
    };
    files().map_err(|error| Failure::because("deriving keys", error))
}

fn exported(hierarchy: &Hierarchy) -> Result<Vec<File>, KeysError> {
    Ok(vec![
        ("ark.der", hierarchy.ark()?.der().to_vec()),
        ("ask.der", hierarchy.ask()?.der().to_vec()),
        ("asvk.der", hierarchy.asvk()?.der().to_vec()),
        ("crl.der", hierarchy.crl()?.der().to_vec()),
        ("vcek-cert_chain.pem", hierarchy.cert_chain(CertificateKind::Vcek)?.into_bytes()),
        ("vlek-cert_chain.pem", hierarchy.cert_chain(CertificateKind::Vlek)?.into_bytes()),
    ])
}

fn fingerprint(seed: &Seed, as_json: bool) -> Result<(), Failure> {
    let rows = fingerprints(seed).map_err(|error| Failure::because("deriving keys", error))?;
    if as_json {
        let entries: Vec<_> = rows
            .iter()
            .map(|[line, name, certificate, key]| {
                json!({ "line": line, "name": name, "certificate_sha256": certificate, "public_key_sha256": key })
            })
            .collect();
        print_json(&json!({ "published_seed": seed.is_default(), "certificates": entries }));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    print(&table(&["line", "name", "SHA-256 of the certificate", "SHA-256 of the public key"], &rows));
    if seed.is_default() {
        print("\nThis is the published seed: whatever is signed under it is worthless outside of tests.\n");
    }
    Ok(())
}

fn fingerprints(seed: &Seed) -> Result<Vec<[String; 4]>, KeysError> {
    let mut rows = Vec::new();
    for line in ProductLine::ALL {
        let hierarchy = Hierarchy::new(seed, line);
        for (name, certificate) in
            [("ARK", hierarchy.ark()?), ("ASK", hierarchy.ask()?), ("ASVK", hierarchy.asvk()?)]
        {
            rows.push([
                line.name().to_owned(),
                name.to_owned(),
                certificate.fingerprint().to_string(),
                certificate.public_key_fingerprint()?.to_string(),
            ]);
        }
    }
    let cove = cove::Hierarchy::new(seed);
    let intel = intel::Hierarchy::new(seed);
    for (name, certificate) in [
        ("root", intel.root()?),
        ("platform CA", intel.platform_ca()?),
        ("processor CA", intel.processor_ca()?),
        ("TCB signing", intel.tcb_signing()?),
    ] {
        rows.push([
            "Intel".to_owned(),
            name.to_owned(),
            certificate.fingerprint().to_string(),
            certificate.public_key_fingerprint()?.to_string(),
        ]);
    }
    let root = cove.root()?;
    let fingerprints = [root.fingerprint().to_string(), root.public_key_fingerprint()?.to_string()];
    let [certificate, key] = fingerprints;
    rows.push(["CoVE".to_owned(), "root".to_owned(), certificate, key]);
    Ok(rows)
}
