//! Rows of stock Linux kernels: the newest that is there, on QEMU, runs the check that is built in.

use std::{
    io::{Write, stderr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tsmsim_abi::snp::tcb::ProductLine;
use tsmsim_evidence::Verdict;
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::{
    snp::firmware::Firmware,
    tdx::{guest::default_params, vmcall::HostConfig},
};
use tsmsim_vmm::{
    cc::{
        linux::{
            ConfidentialMachine, LinuxGuest, SnpLinux, TdxLinux, boot_cove, boot_snp, boot_tdx, measure_cove,
            measure_snp, measure_tdx,
        },
        tdx::Surroundings,
    },
    engine::{qemu, riscv},
    guest_channel::Said,
    loader::linux::{image::KernelImage, riscv_image::RiscvKernel},
};

use super::{HARDWARE_C_BIT, Row, Scene, cove::pages, nonce};
use crate::{
    args::{DemoArgs, LinuxArgs, Profile, ScenarioArgs, Tee},
    console::Console,
    cove,
    failure::Failure,
    linux::{
        image::{Image, Kernel},
        session::{Listener, Session, judge_cove, judge_snp, judge_tdx},
    },
    snp::platform,
    tdx,
};

/// How long one guest may run: it needs some seconds where nothing else is done.
const GUEST_TIME: Duration = Duration::from_secs(300);
/// Memory of the guests.
const MIB: u64 = 512;

/// What became of one guest.
struct Ran {
    status: u32,
    console: Console,
    verdict: Option<Verdict>,
    measurement: [u8; 48],
    took: Duration,
}

/// A row for each technology. Where QEMU or a kernel is missing, it tells what to do instead of what was done.
pub(super) fn rows(args: &DemoArgs) -> Result<Vec<Row>, Failure> {
    Ok(vec![
        row(args, Tee::Snp, |guest| guest.snp())?,
        row(args, Tee::Tdx, |guest| guest.tdx())?,
        row(args, Tee::Cove, |guest| guest.cove())?,
    ])
}

const fn name(tee: Tee) -> &'static str {
    match tee {
        Tee::Snp => "snp",
        Tee::Tdx => "tdx",
        Tee::Cove => "cove",
    }
}

fn row<K: Kernel>(
    args: &DemoArgs,
    tee: Tee,
    boot: impl FnOnce(&Guest<'_, K>) -> Result<Booted, Failure>,
) -> Result<Row, Failure> {
    let inblob = nonce()?;
    let image = match image::<K>(tee, &inblob) {
        Ok(image) => image,
        Err(Failure::Lacking(why) | Failure::Usage(why)) => {
            return Ok(Row::lacking(format!("qemu-linux-{}", name(tee)), why));
        }
        Err(failure) => return Err(failure),
    };
    let name = format!("qemu-linux-{}-{}", series(image.release()), name(tee));
    let (kept, scratch);
    let out = match &args.out {
        Some(out) => {
            kept = out.join(&name);
            kept.as_path()
        }
        None => {
            scratch = tempfile::tempdir().map_err(|error| Failure::because("making a directory", error))?;
            scratch.path()
        }
    };
    let guest = Guest { args, out, image: &image, inblob: &inblob };
    let (ran, report_version, key) = boot(&guest)?;
    let refused = ran.refused();
    Ok(Row {
        name,
        report_version,
        key: Some(key),
        checks: Some(ran.console.count()),
        measurement: Some(ran.measurement),
        took: ran.took,
        refused,
        lacking: None,
    })
}

/// The kernel and what it finds; what is lacking is told before much is done.
fn image<K: Kernel>(tee: Tee, inblob: &[u8; 64]) -> Result<Image<K>, Failure> {
    match tee {
        Tee::Snp | Tee::Tdx => qemu::version()?,
        Tee::Cove => riscv::qemu::version()?,
    };
    let linux = LinuxArgs {
        kernel: None,
        modules: None,
        initrd: None,
        append: String::new(),
        mem: MIB,
        add: Vec::new(),
        command: Vec::new(),
    };
    Image::new(&linux, tee, inblob)
}

/// The first two numbers of a release.
fn series(release: &str) -> String {
    let numbers: Vec<&str> = release.split('.').take(2).collect();
    numbers.join(".")
}

/// What became of a guest, the version of its report or quote, and whose key signed.
type Booted = (Ran, Option<u32>, &'static str);

struct Guest<'a, K> {
    args: &'a DemoArgs,
    /// Where the evidence goes.
    out: &'a Path,
    image: &'a Image<K>,
    inblob: &'a [u8; 64],
}

impl Guest<'_, KernelImage> {
    fn snp(&self) -> Result<Booted, Failure> {
        let scene = Scene { line: ProductLine::Genoa, csp_id: None };
        let described = scene.platform(HARDWARE_C_BIT)?;
        let certificates = platform::certificates(&described)?;
        let snp = SnpLinux {
            certificates: certificates.table.clone(),
            ..SnpLinux::new(Firmware::new(described.clone()), HARDWARE_C_BIT)
        };
        let measurement = *measure_snp(&self.image.boot(), &snp)?.as_bytes();
        let (session, said) = self.session();
        let started = Instant::now();
        let boot = session.connect(self.image.boot(), said.listener(self.args.verbose));
        let ran = Self::run(&session, boot_snp(boot, snp)?)?;
        let took = started.elapsed();
        let verdict = judge_snp(self.out, &described, &certificates, self.inblob, measurement)?;
        let ran = Ran { status: ran, console: said.console(), verdict, measurement, took };
        Ok((ran, Some(described.report_version()), "VCEK"))
    }

    fn tdx(&self) -> Result<Booted, Failure> {
        let platform = tdx::local::platform(Profile::Tdx15, false, SignatureMode::default(), &Seed::DEFAULT)?;
        let tdx = TdxLinux {
            platform: platform.clone(),
            host: HostConfig::default(),
            params: default_params(),
            surroundings: Surroundings::default(),
        };
        let measurement = measure_tdx(&self.image.boot(), &tdx)?;
        let (session, said) = self.session();
        let started = Instant::now();
        let boot = session.connect(self.image.boot(), said.listener(self.args.verbose));
        let ran = Self::run(&session, boot_tdx(boot, tdx)?)?;
        let took = started.elapsed();
        let scenario = ScenarioArgs { scenario: None, update: None };
        let verdict = judge_tdx(self.out, &platform, scenario, self.inblob, measurement)?;
        Ok((Ran { status: ran, console: said.console(), verdict, measurement, took }, Some(4), "PCK"))
    }
}

impl Guest<'_, RiscvKernel> {
    fn cove(&self) -> Result<Booted, Failure> {
        let platform = cove::local::platform(SignatureMode::default(), &Seed::DEFAULT)?;
        let registers = measure_cove(&self.image.boot(), &platform)?;
        let (session, said) = self.session();
        let started = Instant::now();
        let boot = session.connect(self.image.boot(), said.listener(self.args.verbose));
        let status = Self::run(&session, boot_cove(boot, cove::machine::linux(platform.clone())?)?)?;
        let took = started.elapsed();
        let scenario = ScenarioArgs { scenario: None, update: None };
        let verdict = judge_cove(self.out, &platform, scenario, self.inblob, &registers)?;
        let measurement = pages(&registers);
        Ok((Ran { status, console: said.console(), verdict, measurement, took }, None, "TSM"))
    }
}

impl<K: Kernel> Guest<'_, K> {
    fn session(&self) -> (Session, Heard) {
        (Session::new(Some(self.out), false), Heard::default())
    }

    fn run<M: ConfidentialMachine>(session: &Session, mut guest: LinuxGuest<M>) -> Result<u32, Failure> {
        session.run(&mut guest, GUEST_TIME)
    }
}

impl Ran {
    /// Why it does not count as verified.
    fn refused(&self) -> Option<String> {
        let verdict = || match &self.verdict {
            Some(verdict) => verdict.reason(),
            None => Some("the guest left no evidence".to_owned()),
        };
        let status = || (self.status != 0).then(|| format!("the guest's check ended with {}", self.status));
        self.console.failure().or_else(status).or_else(verdict)
    }
}

/// What the guest's check printed.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Keeps standard output, and shows it if asked to.
    fn listener(&self, show: bool) -> Listener {
        let kept = Arc::clone(&self.0);
        Box::new(move |word| {
            if let Said::Stdout(bytes) = word {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                if show {
                    // A reader that is gone does not end the guest.
                    drop(stderr().write_all(bytes));
                }
            }
        })
    }

    fn console(&self) -> Console {
        Console::read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_two_numbers() {
        assert_eq!(series("6.12.117+deb12-cloud-amd64"), "6.12");
        assert_eq!(series("7.3"), "7.3");
        assert_eq!(series("of unknown release"), "of unknown release");
    }

    #[test]
    fn what_the_guest_prints_is_kept() {
        let heard = Heard::default();
        let mut listener = heard.listener(false);
        listener(Said::Stdout(b"ok 1 - a\n1.."));
        listener(Said::Log(b"not a check"));
        listener(Said::Stdout(b"1\n"));
        assert_eq!((heard.console().count(), heard.console().failure()), ((1, 1), None));
    }

    #[test]
    fn a_guest_without_evidence_is_refused() {
        let ran = |status, printed: &[u8]| Ran {
            status,
            console: Console::read(printed),
            verdict: None,
            measurement: [0; 48],
            took: Duration::ZERO,
        };
        assert_eq!(ran(0, b"ok 1 - a\n1..1\n").refused().unwrap(), "the guest left no evidence");
        assert!(ran(1, b"ok 1 - a\n1..1\n").refused().unwrap().ends_with("ended with 1"));
        assert!(ran(1, b"not ok 1 - a\n1..1\n").refused().unwrap().contains("a check failed"));
    }
}
