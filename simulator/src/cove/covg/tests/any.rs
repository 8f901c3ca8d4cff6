//! Any registers, any memory, any sequence.

use proptest::prelude::*;

use super::*;

fn interesting() -> impl Strategy<Value = u64> {
    let places = prop::sample::select(vec![
        0,
        1,
        2,
        40,
        48,
        64,
        336,
        KEY,
        CHALLENGE,
        SHARED,
        OUT,
        MMIO,
        HOLLOW,
        RAM - 0x1000,
        RAM,
        1 << 49,
        (1 << 50) - 0x1000,
        u64::MAX,
        u64::MAX - 0xfff,
    ]);
    prop_oneof![4 => places, 1 => any::<u64>(), 1 => (0_u64..0x100).prop_map(|page| page * 0x1000)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any registers, any memory: an SBI error code that the specification knows.
    #[test]
    fn any_calls(
        calls in prop::collection::vec((0_u64..12, prop::array::uniform6(interesting()), 0_usize..3), 1..24),
        memory: [u8; 48],
    ) {
        let mut bench = bench();
        bench.world.memory.write(KEY, &memory).unwrap();
        let known: Vec<SbiError> = SbiError::NAMED.iter().map(|(error, _)| *error).collect();
        for (fid, arguments, vcpu) in calls {
            let mut registers = Registers::call(ExtensionId::COVG, fid, &arguments);
            let [.., a6, a7] = registers.0;
            prop_assert_eq!(bench.ecall(vcpu, &mut registers), Action::Resume);
            prop_assert!(known.contains(&registers.error()), "{}", registers.error());
            prop_assert!(registers.error() == OK || registers.value() == 0);
            prop_assert_eq!((&registers.0[2..6], &registers.0[6..]), (&arguments[2..], &[a6, a7][..]));
        }
    }

    /// Calls that no extension of ours answers leave the registers alone.
    #[test]
    fn any_registers(values: [u64; 8]) {
        let (mut registers, mut bench) = (Registers(values), bench());
        match bench.ecall(0, &mut registers) {
            Action::Forward => prop_assert_eq!(registers.0, values),
            Action::Resume => prop_assert!(matches!(values[7], 0x10 | 0x434f_5647)),
        }
    }

    #[test]
    fn any_key_is_a_key_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = crate::cove::public_key::PublicKey::from_cose(&bytes);
    }
}
