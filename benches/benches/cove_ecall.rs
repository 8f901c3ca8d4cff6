//! What an `ecall` of a TVM costs: the bare-metal guest reads a measurement register again and again, on the interpreter in
//! this process and on QEMU, beside the same call to the simulator alone.
//!
//! `cargo bench -p tsmsim-benches --bench cove_ecall`, after `cargo xtask setup build`. Two runs that differ in how often the
//! guest calls: the difference is free of starting and launching. Figures are printed and never tested.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tsmsim_benches::cove::{MeasurementMachine, cove_platform};
use tsmsim_keys::SignatureMode;
use tsmsim_simulator::cove::machine::HostConfig;
use tsmsim_vmm::{
    cc::{
        boot_tvm::{BootedTvm, TvmBootError, TvmBootRequest, TvmLaunch, boot_tvm},
        cove::{End, Surroundings},
    },
    engine::riscv::Hart,
    loader::bare_metal::GuestTask,
};

/// The guest, if it is not where `cargo xtask build` puts it.
const GUEST: &str = "TSMSIM_GUEST_RISCV64";
/// Calls of the short run and of the long one.
const CALLS: [u32; 2] = [1000, 51_000];
/// Runs of each length.
const ROUNDS: usize = 5;
/// The mode of the guest that reads a register as often as it is told.
const READINGS: u16 = 2;

fn main() {
    // Without `--bench` it is a test that wants to see it run.
    let measured = env::args().any(|word| word == "--bench");
    let built = "../target/guest/riscv64imac-unknown-none-elf/release/tsmsim-guest-riscv64";
    let path =
        env::var_os(GUEST).map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(built), PathBuf::from);
    let Ok(elf) = fs::read(&path) else {
        return println!("not measured: there is no {}; `cargo xtask setup build` makes it", path.display());
    };
    let (calls, rounds) = if measured { (CALLS, ROUNDS) } else { ([1, 2], 1) };
    println!("{:40} {:>14} {:>14}", "best of the runs", "per ecall", "ecalls/s");
    alone(calls, rounds);
    compare("ckb-vm, in this process", calls, rounds, |count| boot_tvm(request(&elf, count)));
    #[cfg(target_os = "linux")]
    qemu::compare(&elf, calls, rounds);
}

fn request(elf: &[u8], count: u32) -> TvmBootRequest<'_> {
    TvmBootRequest {
        elf,
        platform: cove_platform(SignatureMode::Randomized),
        host: HostConfig::default(),
        launch: TvmLaunch::default(),
        identity: None,
        task: GuestTask { mode: READINGS, count, report_data: [0; 64] },
        surroundings: Surroundings::default(),
        console: None,
    }
}

/// The model, without a hart.
fn alone([few, many]: [u32; 2], rounds: usize) {
    let mut machine = MeasurementMachine::new(cove_platform(SignatureMode::Randomized));
    let calls = many - few;
    let once = || {
        let start = Instant::now();
        (0..calls).for_each(|_| machine.ecall());
        start.elapsed()
    };
    let best = std::iter::repeat_with(once).take(rounds).min().unwrap_or_default();
    print("the simulator alone", best, calls);
}

/// The guest on a hart. The machine is made before the clock starts; the rest of starting is in both runs.
fn compare<H: Hart>(
    name: &str,
    [few, many]: [u32; 2],
    rounds: usize,
    boot: impl Fn(u32) -> Result<BootedTvm<H>, TvmBootError>,
) {
    let run = |count| {
        let mut booted = boot(count).expect("the guest boots");
        let start = Instant::now();
        let end = booted.machine.run(start + Duration::from_secs(600));
        let time = start.elapsed();
        let console = String::from_utf8_lossy(&booted.console.contents()).into_owned();
        assert!(matches!(end, Ok(End::Done(0))) && console.contains("ok 1 - readings"), "{end:?}: {console}");
        time
    };
    let best = |count| std::iter::repeat_with(|| run(count)).take(rounds).min().unwrap_or_default();
    print(name, best(many).saturating_sub(best(few)), many - few);
}

fn print(name: &str, time: Duration, calls: u32) {
    let each = time.as_secs_f64() / f64::from(calls);
    println!("{name:40} {:>11.2} µs {:>14.0}", each * 1e6, each.recip());
}

#[cfg(target_os = "linux")]
mod qemu {
    use tsmsim_vmm::{
        cc::boot_tvm::boot_tvm_on,
        engine::{
            EngineError,
            riscv::qemu::{Firmware, QemuHart, version},
        },
        memory::PlacedRam,
    };

    /// The same on QEMU, if there is one.
    pub(super) fn compare(elf: &[u8], calls: [u32; 2], rounds: usize) {
        if let Err(error) = version() {
            return println!("not measured on QEMU: {error}");
        }
        let engine =
            |ram: &PlacedRam| Ok::<_, EngineError>(QemuHart::new(Firmware::BareMetal, ram.ram().clone()));
        super::compare("QEMU", calls, rounds, |count| boot_tvm_on(super::request(elf, count), engine));
    }
}
