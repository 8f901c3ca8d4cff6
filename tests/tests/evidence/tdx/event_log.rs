//! The RTMRs in a quote are what a replay of the event log gives.

use std::fs;

use rstest::rstest;
use sha2::{Digest, Sha384};
use tsmsim_abi::tdx::quote::Quote;

use crate::program::{Tsmsim, hex};

const EVENTS: [(usize, &str); 4] = [(2, "a kernel"), (3, "an application"), (2, "a command line"), (0, "")];

/// Evidence of a TD that measured [`EVENTS`].
fn report(tsmsim: &Tsmsim, out: &std::path::Path) {
    let mut command = tsmsim.command(["report", "--tee", "tdx", "--out"]);
    command.arg(out);
    for (rtmr, text) in EVENTS {
        command.arg("--event").arg(format!("{rtmr}:{text}"));
    }
    crate::program::run(&mut command).with_status(0);
}

/// What the registers must hold.
fn by_hand() -> [[u8; 48]; 4] {
    let mut registers = [[0; 48]; 4];
    for (rtmr, text) in EVENTS {
        let digest = Sha384::digest(text.as_bytes());
        registers[rtmr] = Sha384::new().chain_update(registers[rtmr]).chain_update(digest).finalize().into();
    }
    registers
}

#[test]
fn the_replay_that_is_shown_is_what_the_quote_has() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    report(&tsmsim, out);
    let quote = fs::read(out.join("quote.bin")).unwrap();
    let rtmr = Quote::read(&quote).unwrap().signed.body.td().unwrap().rtmr;
    assert_eq!(rtmr, by_hand());
    let shown = tsmsim.say("show --json", &[("", &out.join("ccel.bin"))]).with_status(0).json();
    let fields = shown["fields"].as_array().unwrap();
    let group =
        |name: &str| fields.iter().find(|field| field["name"] == name).unwrap()["fields"].as_array().unwrap();
    assert_eq!(group("records").len(), EVENTS.len());
    for (register, value) in group("replay").iter().zip(rtmr) {
        assert_eq!(register["raw"], hex(&value));
    }
    let text = tsmsim.say("show", &[("", &out.join("ccel.bin"))]).with_status(0).out;
    assert!(EVENTS.iter().all(|(_, event)| text.contains(event)), "{text}");
    // It belongs to the evidence, and is judged with it.
    let said = tsmsim.say("verify", &[("--dir", out)]).with_status(0);
    assert!(said.out.contains("replay = rtmr3"), "{}", said.out);
    let description = fs::read_to_string(out.join("evidence.json")).unwrap();
    assert!(description.contains("\"ccel.bin\""), "{description}");
}

/// Offsets: behind the first record of 65 bytes, the register of the second, its type, its digest; and the length of all.
#[rstest]
#[case::register(65, "event log: replay = rtmr1: not what the quote has")]
#[case::no_register(68, "event log: records: measurement register of a record")]
#[case::algorithm(77, "event log: records: ")]
#[case::digest(79, "event log: replay = rtmr2: not what the quote has")]
#[case::size(127, "event log: records: ")]
fn an_altered_log_is_refused(#[case] byte: usize, #[case] reason: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    report(&tsmsim, out);
    let mut log = fs::read(out.join("ccel.bin")).unwrap();
    log[byte] ^= 1;
    fs::write(out.join("ccel.bin"), &log).unwrap();
    let said = tsmsim.say("verify", &[("--dir", out)]).with_status(1);
    assert!(said.last_line().starts_with(&format!("refused: {reason}")), "{}", said.last_line());
}

#[test]
fn a_log_by_itself_missing_records_or_of_another_td() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (out, other) = (directory.path().join("one"), directory.path().join("other"));
    report(&tsmsim, &out);
    tsmsim.say("report --tee tdx", &[("--out", &other)]).with_status(0);
    assert!(!other.join("ccel.bin").exists(), "nothing was measured");
    let verify = |quote: &std::path::Path| {
        let (report, collateral) = (quote.join("quote.bin"), quote.join("collateral.json"));
        let log = out.join("ccel.bin");
        tsmsim.say("verify", &[("--report", &report), ("--collateral", &collateral), ("--ccel", &log)])
    };
    verify(&out).with_status(0);
    let said = verify(&other).with_status(1);
    assert!(said.last_line().starts_with("refused: event log: replay = rtmr0: "), "{}", said.last_line());
    let log = fs::read(out.join("ccel.bin")).unwrap();
    fs::write(out.join("ccel.bin"), &log[..log.len() - 66]).unwrap();
    let said = verify(&out).with_status(1);
    assert!(said.last_line().starts_with("refused: event log: replay = rtmr0: "), "{}", said.last_line());
}

#[rstest]
#[case("4:x")]
#[case("x")]
#[case(":x")]
#[case("-1:x")]
fn what_is_no_event_is_refused(#[case] event: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let said = tsmsim.run(["report", "--tee", "tdx", "--out", "nowhere", &format!("--event={event}")]);
    assert!(said.with_status(2).err.contains("give the index of an RTMR (0 to 3)"));
}
