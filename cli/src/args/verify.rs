//! Arguments of `tsmsim verify`.

use std::path::PathBuf;

use clap::Args;
use tsmsim_evidence::tdx::TcbStatus;

use crate::output::{parse_hex, parse_hex_exact};

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("evidence").required(true))]
pub(crate) struct VerifyArgs {
    /// Directory of evidence, as `--out` writes it.
    #[arg(long, value_name = "DIR", group = "evidence")]
    pub(crate) dir: Option<PathBuf>,
    /// An SNP report or CoVE evidence, whose certificates come from --certs, or a TDX quote, whose collateral comes from
    /// --collateral.
    #[arg(long, value_name = "FILE", group = "evidence")]
    pub(crate) report: Option<PathBuf>,
    /// SNP certificates: PEM, DER, or a certificate table; may be given several times. CoVE: those of TSM,
    /// platform and RoT in this order, or the RoT's only, PEM; the root's comes from --root.
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub(crate) certs: Vec<PathBuf>,
    /// Revocation list, PEM or DER.
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub(crate) crl: Option<PathBuf>,
    /// TDX: collateral, in the JSON form of dcap-qvl.
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub(crate) collateral: Option<PathBuf>,
    /// TDX: event log (the log area that the CCEL table names), replayed against the RTMRs.
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub(crate) ccel: Option<PathBuf>,
    /// TDX: a TCB status that is good enough besides UpToDate; may be given several times.
    #[arg(long, value_name = "STATUS", value_parser = tcb_status)]
    pub(crate) accept_tcb: Vec<TcbStatus>,
    /// The only root that is trusted: an ARK, an Intel-shaped or a CoVE root, PEM or DER. Without it, whose root it is is said.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Option<PathBuf>,
    /// The user data that the report must carry.
    #[arg(long, value_name = "FILE")]
    pub(crate) inblob: Option<PathBuf>,
    /// The launch measurement (SNP), MRTD (TDX) or register 4, the measured pages (CoVE), that the evidence must state.
    #[arg(long, value_name = "HEX", value_parser = parse_hex_exact::<48>)]
    pub(crate) measurement: Option<[u8; 48]>,
    /// CoVE: a register and the value that it must have; may be given several times.
    #[arg(long, value_name = "INDEX:HEX", value_parser = ExpectedRegister::parse)]
    pub(crate) register: Vec<ExpectedRegister>,
    /// SNP: the VMPL that the report must state.
    #[arg(long, value_name = "N")]
    pub(crate) vmpl: Option<u32>,
    /// Accept guests whose policy allows debugging.
    #[arg(long)]
    pub(crate) allow_debug: bool,
    /// SNP: accept a masked chip identifier.
    #[arg(long)]
    pub(crate) allow_masked_chip_id: bool,
    /// Judge as of this time: seconds since 1970, or 2026-11-23T12:00:00Z. Without it, now.
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A measurement register and its value.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedRegister {
    /// Position in the capabilities, initial registers first.
    pub(crate) index: u64,
    /// The digest.
    pub(crate) value: Vec<u8>,
}

impl ExpectedRegister {
    fn parse(argument: &str) -> Result<Self, String> {
        let parts = argument.split_once(':').and_then(|(index, value)| Some((index.parse().ok()?, value)));
        let (index, value) = parts.ok_or("give the index of a register, a colon, and hexadecimal digits")?;
        Ok(Self { index, value: parse_hex(value)? })
    }
}

fn tcb_status(text: &str) -> Result<TcbStatus, String> {
    const KNOWN: [TcbStatus; 6] = [
        TcbStatus::UpToDate,
        TcbStatus::SwHardeningNeeded,
        TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSwHardeningNeeded,
        TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded,
    ];
    KNOWN
        .into_iter()
        .find(|status| status.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("give one of {}", KNOWN.map(TcbStatus::name).join(", ")))
}
