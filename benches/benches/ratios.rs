//! What dispatch costs beyond the cryptography that it cannot do without: both sides in turn, many times, in one run.
//!
//! With randomized signatures the aim is a ratio under 1.15 for a report request, and under 1.3 and the report's MAC for a
//! quote; CoVE's evidence is compared with its two signatures by the same libraries, and judging a quote with dcap-qvl. Ratios
//! are printed and never tested.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA384, digest};
use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};
use tsmsim_abi::snp::{PAGE_SIZE, tcb::ProductLine};
use tsmsim_benches::{
    BareSignature, MODES, ReportMachine,
    cove::{BareEvidence, EvidenceMachine, FORMATS, cove_platform},
    platform,
    tdx::{QuoteMachine, tdx_platform},
};
use tsmsim_evidence::{
    Timestamp,
    tdx::{Bundle, Policy, verify},
};
use tsmsim_keys::{SignatureMode, cove::KeyAlgorithm};
use tsmsim_simulator::snp::launch::{LaunchDigest, LaunchPage};

/// Rounds of each comparison.
const ROUNDS: usize = 5000;
/// Pages per round, to be long enough for the clock.
const PAGES: u32 = 16;
/// Within the validity of the default seed's certificates.
const MOMENT: u32 = 1_750_000_000;

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
    quote(rounds);
    evidence(rounds);
    judge(rounds.div_ceil(10));
}

/// A report that is there becomes a quote.
fn quote(rounds: usize) {
    for mode in MODES {
        let mut machine = QuoteMachine::new(tdx_platform(mode));
        let bare = BareSignature::p256();
        let whole = || {
            machine.prepare();
            timed(|| machine.tdcall())
        };
        let measured = compare(rounds, whole, || timed(|| bare.sign()));
        print(&format!("GetQuote / P-256 signature ({mode:?})"), measured);
    }
}

/// `get_evidence`, whose bare cost is the signatures of the TVM token and of the certificate.
fn evidence(rounds: usize) {
    for format in FORMATS {
        let what = match format {
            KeyAlgorithm::Ed25519 => "get_evidence, CBOR / two Ed25519 signatures",
            KeyAlgorithm::P256 => "get_evidence, X.509 / two P-256 signatures",
        };
        let platform = cove_platform(SignatureMode::Randomized);
        let mut machine = EvidenceMachine::new(platform.clone(), format);
        let bare = BareEvidence::new(platform, format, &machine.evidence());
        let whole = || {
            machine.prepare();
            timed(|| machine.ecall())
        };
        print(what, compare(rounds, whole, || timed(|| bare.sign())));
    }
}

/// The same quote with the same collateral. Either side reads everything anew.
fn judge(rounds: usize) {
    let platform = tdx_platform(SignatureMode::Randomized);
    let mut machine = QuoteMachine::new(platform.clone());
    machine.prepare();
    machine.tdcall();
    let (quote, qe) = (machine.quote(), &platform.config().qe);
    let root = platform.hierarchy().root().expect("there is a root").der().to_vec();
    let collateral = platform.hierarchy().collateral(platform.identity().ca(), &platform.tcb_info_spec(), qe);
    let collateral = collateral.expect("there is collateral").to_json().expect("it is text").into_bytes();
    let verifier = QuoteVerifier::new(root.clone());
    let bundle =
        Bundle { quote: quote.clone(), root: Some(root), collateral: Some(collateral), ..Bundle::default() };
    let policy = Policy::at(Timestamp(MOMENT.into()));
    let ours = || {
        timed(|| {
            let verdict = verify(black_box(&bundle), &policy);
            assert!(verdict.accepted(), "{}", verdict.table());
        })
    };
    let theirs = || {
        timed(|| {
            let collateral = bundle.collateral.as_deref().unwrap_or_default();
            let collateral: QuoteCollateralV3 = serde_json::from_slice(collateral).expect("it is collateral");
            let report = verifier.verify(black_box(&quote), &collateral, MOMENT.into());
            assert!(report.is_ok_and(|report| report.status == "UpToDate"), "dcap-qvl accepts it");
        })
    };
    print("judging a quote / dcap-qvl", compare(rounds, ours, theirs));
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
