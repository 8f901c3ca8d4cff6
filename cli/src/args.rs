//! The command line: a contract, names and meanings stay.

mod boot;
mod verify;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tsmsim_userland::shell::QgsAddress;

use crate::commands::conform::ConformArgs;
pub(crate) use boot::{BootArgs, DEFAULT_MEMORY, EngineChoice, LinuxArgs, MeasuredLinuxArgs};
pub(crate) use verify::VerifyArgs;

use crate::output::{parse_hex, parse_hex_exact, parse_u64};

/// Emulates TSM hardware and firmware, so that guests obtain attestation evidence without confidential hardware.
///
/// Exit status: 0 done, 1 evidence refused or a check failed, 2 usage, 3 something that this machine lacks.
#[derive(Debug, Parser)]
#[command(name = "tsmsim", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything that this machine can do, as one table of verified evidence.
    Demo(DemoArgs),
    /// Evidence without any guest: report, certificates, revocation list.
    Report(Box<ReportArgs>),
    /// Run a program that sees configfs-tsm and the device files, without any guest.
    Run(Box<RunArgs>),
    /// Boot a stock Linux kernel as a confidential guest, and run a program in it.
    Boot(Box<BootArgs>),
    /// Judge evidence.
    Verify(Box<VerifyArgs>),
    /// Show any evidence or certificate, field by field.
    Show(ShowArgs),
    /// The launch measurement of a guest, before anything runs.
    Measure(MeasureArgs),
    /// The synthetic roots of trust.
    Keys(KeysArgs),
    /// The conformance suite of configfs-tsm: against `tsmsim run`, or a real kernel.
    Conform(ConformArgs),
}

/// Which technology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tee {
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// RISC-V CoVE.
    Cove,
}

/// In which form a TSM gives evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvidenceFormat {
    /// CBOR: COSE with Ed25519.
    #[default]
    Cbor,
    /// An X.509 certificate on P-256, with COSE tokens in an extension.
    X509,
}

/// Which platform is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// AMD EPYC 7003.
    Milan,
    /// AMD EPYC 9004.
    Genoa,
    /// AMD EPYC 9005.
    Turin,
    /// TDX 1.0.
    #[value(name = "tdx-1.0")]
    Tdx10,
    /// TDX 1.5.
    #[value(name = "tdx-1.5")]
    Tdx15,
    /// CoVE 0.7.
    #[value(name = "cove-0.7")]
    Cove07,
}

/// How a platform and what endorses it stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Nothing wrong.
    #[default]
    UpToDate,
    /// TDX: TCB status OutOfDate.
    OutOfDate,
    /// TDX: TCB status SWHardeningNeeded.
    SwHardeningNeeded,
    /// TDX: TCB status ConfigurationNeeded.
    ConfigurationNeeded,
    /// TDX: TCB status ConfigurationAndSWHardeningNeeded.
    ConfigurationAndSwHardeningNeeded,
    /// TDX: TCB status OutOfDateConfigurationNeeded.
    OutOfDateConfigurationNeeded,
    /// TDX: TCB status Revoked.
    Revoked,
    /// TDX: the PCK CA's list revokes the PCK certificate.
    RevokedPck,
    /// TDX: TCB info and QE identity should have been renewed in 2023.
    ExpiredCollateral,
    /// SNP: the ARK's list revokes ASK and ASVK.
    RevokedAsk,
    /// SNP: VCEK or VLEK ended in 2024.
    ExpiredVek,
    /// CoVE: the root's list revokes the RoT certificate.
    RevokedRot,
}

/// Which of Intel's two data sets collateral comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Update {
    /// The older one, in force until owners had time to update.
    #[default]
    Standard,
    /// The newer one: a platform one step behind is out of date.
    Early,
}

/// What the collateral says.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ScenarioArgs {
    /// How the platform and what endorses it stand; verifiers refuse all but up-to-date.
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) scenario: Option<Scenario>,
    /// TDX: the data set of the collateral; standard unless given.
    #[arg(long, value_enum)]
    pub(crate) update: Option<Update>,
}

/// A synthetic platform: options shared by all that make evidence.
#[derive(Args, Debug)]
pub(crate) struct PlatformArgs {
    /// The platform. Without it, genoa, tdx-1.5 or cove-0.7.
    #[arg(long, value_enum)]
    pub(crate) profile: Option<Profile>,
    /// Seed of the roots of trust: 64 hexadecimal digits. Without it, the published, worthless one.
    #[arg(long, value_name = "HEX", env = "TSMSIM_SEED", hide_env_values = true)]
    pub(crate) seed: Option<String>,
    /// SNP: version of the attestation report. Without it, the one of the profile's firmware.
    #[arg(long, value_name = "N", value_parser = ["2", "3", "5"])]
    pub(crate) report_version: Option<String>,
    /// TDX: version of the quote. Without it, 4; 5 has the body of the profile's module.
    #[arg(long, value_name = "N", value_parser = ["4", "5"])]
    pub(crate) quote_version: Option<String>,
    /// SNP: sign with a VLEK, loaded by this cloud service provider.
    #[arg(long, value_name = "CSP_ID", num_args = 0..=1, default_missing_value = "tsmsim")]
    pub(crate) vlek: Option<String>,
    /// SNP: leave the chip identifier out of reports.
    #[arg(long)]
    pub(crate) mask_chip_id: bool,
    /// Randomised signatures, as hardware makes them, instead of RFC 6979 ones: each run gives other bytes.
    #[arg(long)]
    pub(crate) randomized: bool,
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Write what happened, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Keep the evidence: one directory per row of the table.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Run this guest instead of the built-in one.
    #[arg(long, value_name = "ELF")]
    pub(crate) kernel: Option<PathBuf>,
    /// Show the guests' checks, line by line.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// The technology.
    #[arg(long, value_enum)]
    pub(crate) tee: Tee,
    #[command(flatten)]
    pub(crate) platform: PlatformArgs,
    #[command(flatten)]
    pub(crate) user_data: UserData,
    /// CoVE: the form of the evidence; cbor unless given.
    #[arg(long, value_enum)]
    pub(crate) format: Option<EvidenceFormat>,
    /// SNP: VMPL that the report states; 0 unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=3))]
    pub(crate) vmpl: Option<u32>,
    /// SNP: guest policy.
    #[arg(long, value_name = "BITS", value_parser = parse_u64)]
    pub(crate) policy: Option<u64>,
    /// SNP: host data, 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = parse_hex_exact::<32>)]
    pub(crate) host_data: Option<[u8; 32]>,
    /// TDX: measure TEXT into RTMR N (0 to 3) before the quote is made; ccel.bin is the log. May be given several times.
    #[arg(long, value_name = "N:TEXT", value_parser = RtmrEvent::parse)]
    pub(crate) event: Vec<RtmrEvent>,
    /// Where the evidence goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Something to measure into an RTMR.
#[derive(Clone, Debug)]
pub(crate) struct RtmrEvent {
    /// Index of the RTMR.
    pub(crate) rtmr: u32,
    /// What is measured.
    pub(crate) text: String,
}

impl RtmrEvent {
    fn parse(argument: &str) -> Result<Self, String> {
        let parts = argument.split_once(':');
        let rtmr = parts.and_then(|(index, _)| index.parse().ok()).filter(|rtmr| *rtmr < 4);
        match (rtmr, parts) {
            (Some(rtmr), Some((_, text))) => Ok(Self { rtmr, text: text.to_owned() }),
            _ => Err("give the index of an RTMR (0 to 3), a colon, and a text".to_owned()),
        }
    }
}

/// The exit status is that of CMD, or that of tsmsim where CMD was not started.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The technology.
    #[arg(long, value_enum)]
    pub(crate) tee: Tee,
    #[command(flatten)]
    pub(crate) platform: PlatformArgs,
    /// Which Linux is copied, where kernels differ.
    #[arg(long, value_enum, value_name = "VERSION", default_value = "6.12")]
    pub(crate) style: Style,
    /// TDX: kernel command line of the boot that the event log and the RTMRs tell of.
    #[arg(long, value_name = "STR", default_value = "console=ttyS0")]
    pub(crate) append: String,
    /// CoVE: the form of the evidence; cbor unless given.
    #[arg(long, value_enum)]
    pub(crate) format: Option<EvidenceFormat>,
    /// TDX: serve the quote generation service, too: on a Unix socket of this name, or on a port of vsock. May be repeated.
    #[arg(long, value_name = "SOCKET|vsock:PORT")]
    pub(crate) qgs: Vec<QgsAddress>,
    /// Run although this machine has a genuine TEE device.
    #[arg(long)]
    pub(crate) beside_real_tee: bool,
    /// Serve the files below a directory, for programs whose root can be set; without CMD until SIGINT or SIGTERM.
    #[arg(long, requires = "at")]
    pub(crate) no_namespace: bool,
    /// Where, with --no-namespace: DIR/sys/kernel/config, DIR/dev and so on. CMD finds DIR in TSMSIM_ROOT.
    #[arg(long, value_name = "DIR", requires = "no_namespace")]
    pub(crate) at: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(last = true, value_name = "CMD", required_unless_present = "no_namespace")]
    pub(crate) command: Vec<OsString>,
}

/// Kernels that differ in configfs-tsm or its drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// Linux 6.7, the first with configfs-tsm.
    #[value(name = "6.7")]
    V6_7,
    /// The 6.12 long-term series.
    #[value(name = "6.12")]
    V6_12,
    /// Linux 6.16, with measurement registers in sysfs.
    #[value(name = "6.16")]
    V6_16,
}

/// What the report is to carry.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct UserData {
    /// File with up to 64 bytes for the report; zeros follow.
    #[arg(long, value_name = "FILE")]
    pub(crate) inblob: Option<PathBuf>,
    /// Up to 64 bytes for the report, in hexadecimal; zeros follow.
    #[arg(long, value_name = "HEX", value_parser = HexParser)]
    pub(crate) nonce: Option<Hex>,
}

/// Bytes from a hexadecimal argument (a type of its own: clap takes `Vec` for many values).
#[derive(Clone, Debug)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

#[derive(Clone)]
struct HexParser;

impl clap::builder::TypedValueParser for HexParser {
    type Value = Hex;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Hex, clap::Error> {
        let parse = |text: &str| parse_hex(text).map(Hex);
        clap::builder::TypedValueParser::parse_ref(&parse, command, argument, value)
    }
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// A report, quote, TDREPORT, event log, CoVE evidence, certificate, revocation list, certificate table or collateral.
    pub(crate) file: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a picture of the chain; the other files are looked for beside FILE.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct MeasureArgs {
    /// The technology.
    #[arg(long, value_enum)]
    pub(crate) tee: Tee,
    /// A Linux kernel as for `tsmsim boot`, a bare-metal guest (ELF), or with --ovmf the kernel whose hash is measured (SNP).
    /// Without both: the built-in bare-metal guest.
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// An OVMF image; for TDX one with TDX metadata (TDVF), launched as QEMU does.
    #[arg(long, value_name = "FILE")]
    pub(crate) ovmf: Option<PathBuf>,
    /// A Linux guest's initial RAM disk; with --ovmf, the one whose hash is measured (SNP).
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub(crate) initrd: Option<PathBuf>,
    /// Added to a Linux guest's command line; with --ovmf, the command line whose hash is measured (SNP).
    #[arg(long, value_name = "STR", requires = "kernel")]
    pub(crate) append: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
    // Last: their headings hold for all that follows.
    #[command(flatten)]
    pub(crate) linux: MeasuredLinuxArgs,
    #[command(flatten)]
    pub(crate) firmware: OvmfArgs,
}

/// How a guest with an OVMF image is launched.
#[derive(Args, Debug)]
#[command(next_help_heading = "SNP, with --ovmf")]
pub(crate) struct OvmfArgs {
    /// Number of vCPUs; 1 unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) vcpus: Option<u16>,
    /// CPU model of QEMU; EPYC-v4 unless given.
    #[arg(long, value_name = "MODEL", value_parser = vcpu_types())]
    pub(crate) vcpu_type: Option<String>,
    /// CPUID Fn0000_0001_EAX, instead of a CPU model.
    #[arg(long, value_name = "BITS", value_parser = parse_u64)]
    pub(crate) vcpu_sig: Option<u64>,
    /// Whose hypervisor launches the guest; qemu unless given.
    #[arg(long, value_enum)]
    pub(crate) vmm_type: Option<Vmm>,
    /// `SEV_FEATURES` of the VMSAs; 0x1 unless given.
    #[arg(long, value_name = "BITS", value_parser = parse_u64)]
    pub(crate) guest_features: Option<u64>,
}

fn vcpu_types() -> clap::builder::PossibleValuesParser {
    tsmsim_vmm::loader::vmsa::cpu_models().collect::<Vec<_>>().into()
}

/// Hypervisors by their reset state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vmm {
    /// QEMU.
    Qemu,
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) action: KeysAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    /// Make a new random seed; --out also exports what follows from it.
    Init {
        /// Where seed.hex and the certificates go.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write the certificates, revocation lists and collateral that follow from a seed.
    Export {
        #[command(flatten)]
        seed: SeedArg,
        #[command(flatten)]
        scenario: ScenarioArgs,
        /// Where they go: one directory per product line of AMD's, one for Intel, and one for CoVE.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Print the fingerprints of the roots that follow from a seed.
    Fingerprint {
        #[command(flatten)]
        seed: SeedArg,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct SeedArg {
    /// The seed: 64 hexadecimal digits. Without it, the published, worthless one.
    #[arg(long, value_name = "HEX", env = "TSMSIM_SEED", hide_env_values = true)]
    pub(crate) seed: Option<String>,
}
