//! `TCB_VERSION`: taking any eight bytes apart and putting them together again loses only reserved bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::tcb::{TcbLayout, TcbVersion};

fuzz_target!(|value: u64| {
    let version = TcbVersion::new(value);
    for layout in [TcbLayout::MilanGenoa, TcbLayout::Turin] {
        let parts = version.parts(layout);
        let packed = parts.pack(layout);
        assert_eq!(packed.parts(layout), parts);
        assert!(packed.reserved_is_zero(layout));
        assert_eq!(packed == version, version.reserved_is_zero(layout));
        assert!(parts.at_most(parts));
    }
});
