//! Registers 0 to 3, computed from the tokens.

use aws_lc_rs::digest::{self, Context, SHA3_384, SHA3_512, SHA384, SHA512};
use tsmsim_abi::cove::{
    attcaps::HashAlgorithm,
    claims::register::{COUNT, PLATFORM_CONFIGURATION, PLATFORM_FIRMWARE, TSM_CONFIGURATION, TSM_SOFTWARE},
};

use super::token::{Component, PlatformClaims, TsmClaims, TvmClaims};
use crate::{Verdict, hex::short};

const OBJECT: &str = "registers";

/// `M' = H(M || data)`, from zeros.
fn extended<'a>(algorithm: HashAlgorithm, data: impl IntoIterator<Item = &'a Vec<u8>>) -> Option<Vec<u8>> {
    let hash: &'static digest::Algorithm = match algorithm {
        HashAlgorithm::SHA_384 => &SHA384,
        HashAlgorithm::SHA_512 => &SHA512,
        HashAlgorithm::SHA3_384 => &SHA3_384,
        HashAlgorithm::SHA3_512 => &SHA3_512,
        _ => return None,
    };
    Some(data.into_iter().fold(vec![0; hash.output_len()], |register, data| {
        let mut context = Context::new(hash);
        context.update(&register);
        context.update(data);
        context.finish().as_ref().to_vec()
    }))
}

/// Judges that all hashes are of one algorithm, and that the registers fit the components.
pub(super) fn judge(verdict: &mut Verdict, platform: &PlatformClaims, tsm: &TsmClaims, tvm: &TvmClaims) {
    let Some(algorithm) = tvm.initial.first().map(|register| register.hash_algorithm) else { return };
    let below: Vec<&Component> = platform.components.iter().chain([&tsm.tsm_driver]).collect();
    let components = below.iter().copied().chain([&tsm.tsm]).map(|component| component.hash_algorithm);
    let registers = tvm.registers().map(|register| register.hash_algorithm);
    let name = algorithm.iana_name().unwrap_or_default();
    let result = match components.chain(registers).all(|other| other == algorithm) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name} and others")),
    };
    verdict.judge(OBJECT, "hash algorithm", result);
    let count = tvm.initial.len();
    let result = match count == COUNT {
        true => Ok(format!("{count} initial, {} runtime", tvm.runtime.len())),
        false => Err(format!("{count} initial registers, where the specification's example has {COUNT}")),
    };
    if !verdict.judge(OBJECT, "number", result) {
        return;
    }
    let own = [&tsm.tsm];
    let measurements = below.iter().map(|component| &component.measurement);
    let manifests = below.iter().filter_map(|component| component.manifest.as_ref());
    let computed = [
        (PLATFORM_FIRMWARE, "platform firmware", extended(algorithm, measurements)),
        (PLATFORM_CONFIGURATION, "platform configuration", extended(algorithm, manifests)),
        (TSM_SOFTWARE, "TSM", extended(algorithm, own.map(|component| &component.measurement))),
        (
            TSM_CONFIGURATION,
            "TSM configuration",
            extended(algorithm, own.iter().filter_map(|component| component.manifest.as_ref())),
        ),
    ];
    for (index, field, computed) in computed {
        let stated = tvm.initial.get(index).map(|register| &register.value);
        let result = match (stated, computed) {
            (Some(stated), Some(computed)) if *stated == computed => Ok(short(stated)),
            _ => Err("not what the components of the tokens come to".to_owned()),
        };
        verdict.judge(OBJECT, field, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extends_from_zeros() {
        let data = vec![1; 48];
        let once = extended(HashAlgorithm::SHA_384, [&data]).unwrap();
        assert_eq!(once, digest::digest(&SHA384, &[vec![0; 48], data].concat()).as_ref());
        assert_eq!(extended(HashAlgorithm::SHA3_512, []), Some(vec![0; 64]));
        assert_eq!(extended(HashAlgorithm(9), []), None);
    }
}
