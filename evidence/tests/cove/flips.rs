//! No bit is without meaning: evidence with any one bit changed is refused, and the reason names an object.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use rstest::rstest;
use tsmsim_evidence::cove::Bundle;

use crate::{formats, judge};

type Part = fn(&mut Bundle) -> &mut Vec<u8>;

/// Flips every bit of a part whose number is a multiple of `step`, one at a time.
fn flips(bundle: &Bundle, part: Part, step: usize) {
    assert_eq!(judge(bundle).reason(), None);
    let bits = part(&mut bundle.clone()).len() * 8;
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut flipped = bundle.clone();
                loop {
                    let bit = next.fetch_add(step, Ordering::Relaxed);
                    if bit >= bits {
                        break;
                    }
                    part(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
                    let reason = judge(&flipped).reason();
                    let reason = reason.unwrap_or_else(|| panic!("accepted with bit {bit} flipped"));
                    assert!(reason.split(": ").count() >= 3, "bit {bit}: {reason}");
                    part(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
                }
            });
        }
    });
}

fn evidence(bundle: &mut Bundle) -> &mut Vec<u8> {
    &mut bundle.evidence
}

fn root(bundle: &mut Bundle) -> &mut Vec<u8> {
    bundle.root.as_mut().unwrap()
}

fn chain(bundle: &mut Bundle) -> &mut Vec<u8> {
    bundle.chain.as_mut().unwrap()
}

fn crl(bundle: &mut Bundle) -> &mut Vec<u8> {
    bundle.crl.as_mut().unwrap()
}

fn inblob(bundle: &mut Bundle) -> &mut Vec<u8> {
    bundle.inblob.as_mut().unwrap()
}

/// The evidence bit by bit; of the rest, whose every byte is signed or compared, a bit of each byte.
#[rstest]
#[case::evidence(evidence, 1)]
#[case::root(root, 9)]
#[case::chain(chain, 9)]
#[case::crl(crl, 9)]
#[case::inblob(inblob, 1)]
fn every_flipped_bit_is_refused(#[case] part: Part, #[case] step: usize) {
    for made in formats() {
        flips(&made.bundle, part, step);
    }
}
