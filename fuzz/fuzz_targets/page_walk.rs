//! Walks through any page tables. Input: CR0, CR3, CR4, EFER (8 each), flags (1), the number of entries (1), the entries
//! (frame 1, index 2, entry 8), addresses (8 each).
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_fuzz::{Input, STEPS};
use tsmsim_simulator::{env::GuestMemory, snp::guest::VecMemory};
use tsmsim_vmm::{engine::SystemRegisters, paging::Walk};

/// Pages of memory.
const PAGES: u8 = 8;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let [cr0, cr3, cr4, efer] = [(); 4].map(|()| input.u64());
    let flags = input.u8();
    let c_bit = (flags & 0x80 != 0).then_some(flags & 0x7f);
    let memory = VecMemory::new(usize::from(PAGES) << 12);
    for _ in 0..input.u8() {
        let (frame, index, entry) = (input.u8() % PAGES, input.u16() & 511, input.u64());
        let gpa = u64::from(frame) << 12 | u64::from(index) << 3;
        memory.write(gpa, &entry.to_le_bytes()).expect("it is in memory");
    }
    let walk = Walk::new(&memory, &SystemRegisters { cr0, cr3, cr4, efer, cpl: 0 }, c_bit);
    for _ in 0..STEPS {
        let address = input.u64();
        if let Ok(translation) = walk.translate(address) {
            let offset = translation.size.bytes() - 1;
            assert_eq!(translation.gpa & offset, address & offset);
            assert!(translation.gpa < 1 << 52);
            assert!(!translation.encrypted || c_bit.is_some_and(|bit| (12..52).contains(&bit)));
        }
    }
});
