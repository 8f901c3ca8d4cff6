//! Reading any OpenSBI. The first byte says how often the rest is repeated behind itself, so that images of all sizes come up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_vmm::engine::riscv::qemu::OpenSbi;

fuzz_target!(|bytes: &[u8]| {
    let Some((repeat, rest)) = bytes.split_first() else { return };
    let image = rest.repeat(usize::from(*repeat) + 1);
    let read = OpenSbi::read(image.clone());
    if let Err(error) = &read {
        assert!(error.to_string().contains("not an OpenSBI that is known"), "{error}");
    }
    assert_eq!(read, OpenSbi::read(image), "the same bytes give the same answer");
});
