//! TVMs in a virtual machine: the bare-metal guest on either engine, and what a Linux guest has besides its kernel.

use std::time::{Duration, Instant};

use tsmsim_simulator::cove::{machine::HostConfig, platform::CovePlatform};
use tsmsim_vmm::{
    cc::{
        boot_tvm::{BootedTvm, TvmBootRequest, TvmLaunch, boot_tvm, boot_tvm_on},
        cove::{End, Surroundings},
        linux::CoveLinux,
    },
    engine::{
        EngineError,
        riscv::{
            Hart,
            qemu::{Firmware, OpenSbi, QemuHart},
        },
    },
    loader::bare_metal::GuestTask,
    memory::PlacedRam,
};

use crate::{console::Console, failure::Failure};

/// What executes a bare-metal TVM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HartChoice {
    /// The interpreter inside this process.
    Interpreter,
    /// QEMU's TCG.
    Qemu,
}

impl HartChoice {
    /// As rows of the demonstration are named.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interpreter => "ckb-vm",
            Self::Qemu => "qemu",
        }
    }
}

/// How a TVM's run went.
pub(crate) struct Run {
    /// What it printed.
    pub(crate) console: Console,
    /// How it ended.
    pub(crate) end: End,
}

/// Runs all checks of a bare-metal TVM; `verbose` copies its console to the standard error output.
pub(crate) fn run(
    elf: &[u8],
    platform: &CovePlatform,
    hart: HartChoice,
    challenge: [u8; 64],
    time: Duration,
    verbose: bool,
) -> Result<Run, Failure> {
    let request = TvmBootRequest {
        elf,
        platform: platform.clone(),
        host: HostConfig::default(),
        launch: TvmLaunch::Steps,
        identity: None,
        task: GuestTask { mode: 0, count: 0, report_data: challenge },
        surroundings: Surroundings::default(),
        console: verbose.then(|| Box::new(std::io::stderr()) as _),
    };
    let failed = |error| Failure::because("booting the TVM", error);
    match hart {
        HartChoice::Interpreter => finish(boot_tvm(request).map_err(failed)?, time),
        HartChoice::Qemu => {
            let engine =
                |ram: &PlacedRam| Ok::<_, EngineError>(QemuHart::new(Firmware::BareMetal, ram.ram().clone()));
            finish(boot_tvm_on(request, engine).map_err(failed)?, time)
        }
    }
}

fn finish<H: Hart>(booted: BootedTvm<H>, time: Duration) -> Result<Run, Failure> {
    let BootedTvm { mut machine, console } = booted;
    let end = machine.run(Instant::now() + time)?;
    Ok(Run { console: Console::read(&console.contents()), end })
}

impl Run {
    /// Evidence in the format of this name, or why there is none.
    pub(crate) fn evidence(&self, blob: &str) -> Result<Vec<u8>, String> {
        if let Some(why) = self.console.failure() {
            return Err(why);
        }
        self.console.blob(blob).map(<[u8]>::to_vec).ok_or_else(|| format!("the TVM printed no {blob}"))
    }
}

/// A stock Linux kernel's surroundings, with the OpenSBI of this machine.
pub(crate) fn linux(platform: CovePlatform) -> Result<CoveLinux, Failure> {
    Ok(CoveLinux {
        platform,
        host: HostConfig::default(),
        identity: None,
        // What is wrong with an OpenSBI is the machine's affair, or that of who named it, and no failure of the guest's.
        firmware: OpenSbi::find().map_err(|error| Failure::Lacking(error.to_string()))?,
        surroundings: Surroundings::default(),
    })
}
