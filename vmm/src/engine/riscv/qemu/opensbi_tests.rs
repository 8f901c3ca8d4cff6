use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// An image with a hart's waiting place and a trap entry, both written to `mtvec`: what matters of release 1.1.
pub(crate) fn image() -> Vec<u8> {
    let mut code = vec![0x0000_0013; 64];
    // auipc s4, 0; addi s4, s4, 0x40; csrw mtvec, s4
    code[..3].copy_from_slice(&[0x0000_0a17, 0x040a_0a13, 0x305a_1073]);
    // auipc a4, 0; addi a4, a4, 0x70; csrw mtvec, a4: 0x10 + 0x70
    code[4..7].copy_from_slice(&[0x0000_0717, 0x0707_0713, 0x3057_1073]);
    code[16] = WFI;
    // csrrw tp, mscratch, tp; sd t0, 72(tp); csrr t0, mstatus
    code[32..35].copy_from_slice(&[SWAP_TP, 0x0452_3423, 0x3000_22f3]);
    code.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    instruction(bytes, offset).unwrap()
}

#[test]
fn a_trap_entry_becomes_a_jump() {
    let opensbi = OpenSbi::read(image()).unwrap();
    assert_eq!(opensbi.entries, [TrapEntry { offset: 0x80, temporary: 72 }]);
    let patched = opensbi.patched(0xa000_0000).unwrap();
    assert_eq!(patched.bytes[0x80..0x84], shim::jump(0xa000_0080, 0xa000_0000 + SHIMS).unwrap());
    let original = image();
    let same = |range: std::ops::Range<usize>| patched.bytes[range.clone()] == original[range];
    assert!(same(0..0x80) && same(0x84..original.len()), "one instruction is changed");
    let shims = usize::try_from(SHIMS).unwrap();
    assert_eq!(word(&patched.bytes, shims), SWAP_TP);
    assert_eq!(word(&patched.bytes, shims + 4), 0x0452_3423);
    assert_eq!(patched.mailboxes.len(), 1);
    assert!(patched.mailboxes[0] > SHIMS && to_u64(patched.bytes.len()) <= PROTECTED);
}

#[test]
fn either_of_two_trap_entries_is_found() {
    let mut image = image();
    // Before the second write to mtvec: auipc a4, 0; addi a4, a4, 0x94, and another entry at 0x0c + 0x94.
    image[0x0c..0x10].copy_from_slice(&0x0000_0717u32.to_le_bytes());
    image[0x10..0x14].copy_from_slice(&0x0947_0713u32.to_le_bytes());
    image[0x14..0x1c].copy_from_slice(&0x06c7_0713_0000_0717u64.to_le_bytes());
    image[0x1c..0x20].copy_from_slice(&0x3057_1073u32.to_le_bytes());
    image.copy_within(0x80..0x88, 0xa0);
    let offsets: Vec<usize> =
        OpenSbi::read(image).unwrap().entries.iter().map(|entry| entry.offset).collect();
    assert_eq!(offsets, [0x80, 0xa0]);
}

#[rstest]
#[case::empty(0, None, "no trap entry")]
#[case::cut_short(0x82, None, "is no trap entry")]
#[case::another_first_instruction(256, Some((32, 0x3402_9073)), "is no trap entry")]
#[case::t0_saved_elsewhere(256, Some((33, 0x0452_b423)), "is no trap entry")]
#[case::value_of_unknown_origin(256, Some((5, 0x13)), "not clear")]
#[case::an_address_outside(256, Some((4, 0x7fff_f717)), "no trap entry")]
#[case::an_odd_address(256, Some((5, 0x0727_0713)), "no trap entry can be")]
fn another_image_is_refused(
    #[case] length: usize,
    #[case] change: Option<(usize, u32)>,
    #[case] problem: &str,
) {
    let mut image = image();
    if let Some((index, instruction)) = change {
        image[index * 4..index * 4 + 4].copy_from_slice(&instruction.to_le_bytes());
    }
    image.truncate(length);
    let error = OpenSbi::read(image).unwrap_err().to_string();
    assert!(error.contains(problem), "{error}");
}

#[test]
fn a_larger_image_is_refused() {
    let mut image = image();
    image.resize(MAX_IMAGE + 1, 0);
    assert!(OpenSbi::read(image).unwrap_err().to_string().contains("known releases"));
}

#[test]
fn the_installed_one_is_recognised() {
    let opensbi = match OpenSbi::find() {
        Err(EngineError::Missing(_)) => return,
        found => found.unwrap(),
    };
    assert!(!opensbi.entries.is_empty());
    assert!(opensbi.patched(0x9000_0000).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(image in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let _ = OpenSbi::read(image);
    }

    #[test]
    fn any_change_is_answered(offset in 0_usize..256, byte: u8) {
        let mut image = image();
        image[offset] = byte;
        if let Ok(opensbi) = OpenSbi::read(image) {
            let _ = opensbi.patched(0xa000_0000);
        }
    }
}
