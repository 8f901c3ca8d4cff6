//! Reading and loading any ELF image for a TVM.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::guest_test::riscv64::{FDT_GPA, IMAGE_GPA, PARAMETERS_GPA};
use tsmsim_fuzz::cove;
use tsmsim_vmm::loader::{
    elf::ElfImage,
    tvm::{load, load_to_promote},
};

/// `e_machine` of RISC-V.
const EM_RISCV: u16 = 243;
/// Pages that are worth the time.
const FEW: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let Ok(image) = ElfImage::parse_for(bytes, EM_RISCV) else { return };
    let Ok(loaded) = load(bytes, None) else {
        assert!(load_to_promote(bytes, None, None).is_err(), "both want the same of an image");
        return;
    };
    let plan = &loaded.plan;
    let allowed = |gpa: u64| (IMAGE_GPA..PARAMETERS_GPA).contains(&gpa) && gpa.is_multiple_of(4096);
    assert!(plan.pages.iter().all(|page| allowed(page.gpa)));
    assert!(plan.pages.is_sorted_by(|page, next| page.gpa < next.gpa), "each page is measured once");
    let runs = |gpa| plan.pages.iter().any(|page| (page.gpa..page.gpa + 4096).contains(&gpa));
    assert!(plan.entry_sepc == image.entry() && runs(plan.entry_sepc));
    if plan.pages.len() <= FEW {
        let before = cove::platform().initial_registers().clone();
        assert_ne!(loaded.measure(&before).expect("the plan is of this memory"), before);
    }
    let promoted = load_to_promote(bytes, Some(bytes), None).expect("there is room");
    assert_eq!((promoted.plan.entry_sepc, promoted.plan.fdt_addr), (plan.entry_sepc, FDT_GPA));
});
