//! `tsmsim run`: a program that sees configfs-tsm and the device files, without any guest.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tsmsim_keys::Seed;
use tsmsim_simulator::{
    journal::Journal,
    tdx::{qgs::QuoteService, quoting::QuotingEnclave},
};
use tsmsim_userland::{
    configfs::KernelStyle,
    drivers::{
        cove_guest::CoveGuest,
        sev_guest::SevGuest,
        tdx_guest::{TdxGuest, TdxGuestOptions},
        time::SystemSleeper,
    },
    shell::{Directory, Ended, Namespace, Qgs, QgsAddress, Served, ShellError},
};

use crate::{
    args::{RunArgs, Style, Tee},
    commands::keys::seed,
    cove,
    failure::Failure,
    snp::{local::Local, platform},
    tdx,
};

/// How often the journal is written out: far more often than a busy session fills it.
const JOURNAL_PERIOD: Duration = Duration::from_millis(50);

impl From<ShellError> for Failure {
    fn from(error: ShellError) -> Self {
        match error {
            ShellError::Lacking(text) => Self::Lacking(text),
            ShellError::RealTee(_) | ShellError::Usage(_) => Self::Usage(error.to_string()),
            ShellError::Failed { .. } => Self::Failed(error.to_string()),
        }
    }
}

impl From<Style> for KernelStyle {
    fn from(style: Style) -> Self {
        match style {
            Style::V6_7 => Self::V6_7,
            Style::V6_12 => Self::V6_12,
            Style::V6_16 => Self::V6_16,
        }
    }
}

/// Runs the command; gives how CMD ended.
pub(crate) fn run(args: &RunArgs) -> Result<Ended, Failure> {
    match &args.at {
        Some(path) => {
            let machine = Machine::start(args)?;
            let directory = Directory::serve(machine.served(args)?, path, args.beside_real_tee)?;
            if args.command.is_empty() {
                eprintln!("tsmsim: serving at {} until SIGINT or SIGTERM", directory.path().display());
            }
            let ended = directory.run(&args.command);
            machine.end()?;
            Ok(ended?)
        }
        None => {
            // First, while this process has one thread.
            let namespace = Namespace::enter(args.beside_real_tee)?;
            let machine = Machine::start(args)?;
            let ended = namespace.run(machine.served(args)?, &args.command);
            machine.end()?;
            Ok(ended?)
        }
    }
}

/// The guest's driver; clones are handles of the same.
#[derive(Clone)]
enum Driver {
    Snp(SevGuest),
    Tdx(TdxGuest),
    Cove(CoveGuest),
}

impl Driver {
    fn start(args: &RunArgs, sleeper: Arc<SystemSleeper>) -> Result<Self, Failure> {
        let seed = seed(args.platform.seed.as_deref())?;
        if args.format.is_some() && args.tee != Tee::Cove {
            return Err(Failure::Usage("--format is for --tee cove".to_owned()));
        }
        match args.tee {
            Tee::Snp => snp(args, &seed, sleeper).map(Self::Snp),
            Tee::Tdx => tdx(args, &seed, sleeper).map(Self::Tdx),
            Tee::Cove => cove(args, &seed, sleeper).map(Self::Cove),
        }
    }

    fn with_journal<R>(&self, look: impl FnOnce(&Journal) -> R) -> R {
        match self {
            Self::Snp(driver) => driver.with_guest(|guest| look(&guest.world().journal)),
            Self::Tdx(driver) => driver.with_guest(|guest| look(&guest.world().journal)),
            Self::Cove(driver) => driver.with_guest(|guest| look(&guest.world().journal)),
        }
    }
}

fn snp(args: &RunArgs, seed: &Seed, sleeper: Arc<SystemSleeper>) -> Result<SevGuest, Failure> {
    let described = platform::build(&args.platform)?;
    let certificates = platform::certificates(&described)?;
    let guest = Local::new([0; 64])
        .launch(described, &certificates.table, seed)
        .map_err(|error| Failure::because("launching the in-process guest", error))?;
    let style = KernelStyle::from(args.style);
    SevGuest::new(guest, sleeper, style.into())
        .map_err(|error| Failure::because("starting the driver", error))
}

fn tdx(args: &RunArgs, seed: &Seed, sleeper: Arc<SystemSleeper>) -> Result<TdxGuest, Failure> {
    let options = &args.platform;
    if options.report_version.is_some() || options.vlek.is_some() || options.mask_chip_id {
        let text = "--report-version, --vlek and --mask-chip-id are for --tee snp";
        return Err(Failure::Usage(text.to_owned()));
    }
    if options.scenario.scenario.is_some() || options.scenario.update.is_some() {
        let text = "TDX's --scenario and --update concern collateral, which programs do not get from their guest: \
                    see `tsmsim report` and `tsmsim keys export`";
        return Err(Failure::Usage(text.to_owned()));
    }
    let platform = tdx::local::build(&args.platform, seed)?;
    let guest = tdx::local::launch(platform, seed, &[0; 64])
        .map_err(|error| Failure::because("launching the in-process TD", error))?;
    let style = KernelStyle::from(args.style);
    let options = TdxGuestOptions { command_line: Some(args.append.clone()), ..style.into() };
    TdxGuest::new(guest, sleeper, options).map_err(|error| Failure::Usage(error.to_string()))
}

fn cove(args: &RunArgs, seed: &Seed, sleeper: Arc<SystemSleeper>) -> Result<CoveGuest, Failure> {
    if args.platform.scenario.scenario.is_some() || args.platform.scenario.update.is_some() {
        let text = "CoVE's --scenario concerns the revocation list, which programs do not get from their guest, and --update \
                    is for --tee tdx: see `tsmsim report` and `tsmsim keys export`";
        return Err(Failure::Usage(text.to_owned()));
    }
    let platform = cove::local::build(&args.platform, seed)?;
    let guest = cove::local::launch(platform, seed, &[0; 64])
        .map_err(|error| Failure::because("launching the in-process TVM", error))?;
    CoveGuest::new(guest, sleeper, args.format.map(Into::into))
        .map_err(|error| Failure::because("starting the driver", error))
}

/// The quoting service of the same platform, for clients that ask it themselves.
fn qgs(args: &RunArgs) -> Result<Vec<Qgs>, Failure> {
    if args.qgs.is_empty() {
        return Ok(Vec::new());
    }
    if args.tee != Tee::Tdx {
        return Err(Failure::Usage("--qgs is for --tee tdx".to_owned()));
    }
    let platform = tdx::local::build(&args.platform, &seed(args.platform.seed.as_deref())?)?;
    let enclave = QuotingEnclave::new(&platform)
        .map_err(|error| Failure::because("starting the quoting enclave", error))?;
    let service = Arc::new(QuoteService::new(enclave));
    let serve = |address: &QgsAddress| Ok(Qgs::serve(Arc::clone(&service), address.clone())?);
    args.qgs.iter().map(serve).collect()
}

/// What runs behind the files.
struct Machine {
    driver: Driver,
    sleeper: Arc<SystemSleeper>,
    journal: Option<JournalWriter>,
    qgs: Vec<Qgs>,
}

impl Machine {
    fn start(args: &RunArgs) -> Result<Self, Failure> {
        let sleeper = Arc::new(SystemSleeper::new());
        let driver = Driver::start(args, Arc::clone(&sleeper))?;
        let journal = match &args.platform.journal {
            Some(path) => Some(JournalWriter::start(path, driver.clone())?),
            None => None,
        };
        let qgs = qgs(args)?;
        Ok(Self { driver, sleeper, journal, qgs })
    }

    fn served(&self, args: &RunArgs) -> Result<Served, Failure> {
        let style = args.style.into();
        match &self.driver {
            Driver::Snp(driver) => Served::sev_guest(driver, style),
            Driver::Tdx(driver) => Served::tdx_guest(driver, style),
            Driver::Cove(driver) => Served::cove_guest(driver, style),
        }
        .map_err(|error| Failure::because("registering the provider", error))
    }

    /// Nobody asks any more: a request that still sleeps gives up, and the journal is completed.
    fn end(self) -> Result<(), Failure> {
        self.sleeper.shutdown();
        drop(self.qgs);
        self.journal.map_or(Ok(()), JournalWriter::finish)
    }
}

/// Writes the journal out while it grows: it keeps a bounded number of entries, a session may have any number.
struct JournalWriter {
    done: Sender<()>,
    thread: JoinHandle<std::io::Result<()>>,
    path: std::path::PathBuf,
}

impl JournalWriter {
    fn start(path: &Path, driver: Driver) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| Failure::file("write", path, &error))?;
        let (done, wait) = mpsc::channel();
        let write = move || {
            let (mut file, mut next) = (BufWriter::new(file), 0);
            loop {
                let last = wait.recv_timeout(JOURNAL_PERIOD) != Err(RecvTimeoutError::Timeout);
                let text = driver.with_journal(|journal| lines(journal, &mut next));
                file.write_all(text.as_bytes())?;
                file.flush()?;
                if last {
                    return Ok(());
                }
            }
        };
        let thread = thread::Builder::new()
            .name("tsmsim-journal".to_owned())
            .spawn(write)
            .map_err(|error| Failure::because("starting a thread", error))?;
        Ok(Self { done, thread, path: path.to_owned() })
    }

    fn finish(self) -> Result<(), Failure> {
        // If the thread has ended, it says why.
        let _ = self.done.send(());
        match self.thread.join() {
            Ok(written) => written.map_err(|error| Failure::file("write", &self.path, &error)),
            Err(_) => Err(Failure::Failed("writing the journal failed".to_owned())),
        }
    }
}

/// The entries from number `next` on, one JSON object a line; `next` moves behind them. Those that made way before they
/// were written are told as a gap.
fn lines(journal: &Journal, next: &mut u64) -> String {
    let mut text = String::new();
    // The journal counts from 0 without gaps, and its entries are in order.
    let new = journal.recorded().saturating_sub(*next);
    let kept = journal.entries().count();
    let skip = kept.saturating_sub(usize::try_from(new).unwrap_or(usize::MAX));
    for (number, event) in journal.entries().skip(skip) {
        if number > *next {
            text.push_str(&format!("{}\n", serde_json::json!({ "missing": number - *next })));
        }
        text.push_str(&format!("{}\n", platform::journal_line(number, event)));
        *next = number + 1;
    }
    text
}
