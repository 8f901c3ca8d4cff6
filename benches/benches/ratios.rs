//! What dispatch costs beyond the cryptography that it cannot do without: both sides in turn, many times, in one run.
//!
//! The aim for a report request with randomized signatures is a ratio under 1.15. It is printed and never tested.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA384, digest};
use tsmsim_abi::snp::{PAGE_SIZE, tcb::ProductLine};
use tsmsim_benches::{BareSignature, MODES, ReportMachine, platform};
use tsmsim_simulator::snp::launch::{LaunchDigest, LaunchPage};

/// Rounds of each comparison.
const ROUNDS: usize = 5000;
/// Pages per round, to be long enough for the clock.
const PAGES: u32 = 16;

fn main() {
    // Without `--bench` it is a test that wants to see it run.
    let rounds = if std::env::args().any(|word| word == "--bench") { ROUNDS } else { 1 };
    println!("{:52} {:>10} {:>10} {:>7}", "medians", "whole", "bare", "ratio");
    for mode in MODES {
        let mut machine = ReportMachine::new(platform(ProductLine::Milan, mode));
        let bare = BareSignature::new();
        let measured = compare(
            rounds,
            || {
                machine.prepare();
                timed(|| machine.vmgexit())
            },
            || timed(|| bare.sign()),
        );
        print(&format!("report request / P-384 signature ({mode:?})"), measured);
    }
    let page = [0x90; PAGE_SIZE];
    let mut launch = LaunchDigest::default();
    let whole = || {
        let extend = |_| launch.extend(0x1000, LaunchPage::Normal(black_box(&page)));
        timed(|| (0..PAGES).for_each(extend)) / PAGES
    };
    let hash = |_| {
        black_box(digest(&SHA384, black_box(&page)));
    };
    let bare = || timed(|| (0..PAGES).for_each(hash)) / PAGES;
    let measured = compare(rounds, whole, bare);
    print("launch digest of a page / SHA-384 of 4 KiB", measured);
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The times of both sides, taken in turn.
fn compare(
    rounds: usize,
    mut whole: impl FnMut() -> Duration,
    mut bare: impl FnMut() -> Duration,
) -> Vec<(Duration, Duration)> {
    (0..rounds).map(|_| (whole(), bare())).collect()
}

fn print(what: &str, measured: Vec<(Duration, Duration)>) {
    let (whole, bare): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
    let (whole, bare) = (median(whole), median(bare));
    let ratio = whole.as_secs_f64() / bare.as_secs_f64();
    let [whole, bare] = [whole, bare].map(|time| format!("{:.2} µs", time.as_secs_f64() * 1e6));
    println!("{what:52} {whole:>10} {bare:>10} {ratio:7.3}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
