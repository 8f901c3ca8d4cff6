//! Machines whose TVM does nothing but ask for evidence or read a register, and the signatures that evidence cannot do without.

use tsmsim_abi::cove::{
    PAGE_SIZE,
    covg::{ATTESTATION_CERTIFICATE_CBOR, ATTESTATION_CERTIFICATE_X509, CHALLENGE_SIZE, CovgFid},
    sbi::SbiError,
};
use tsmsim_keys::{
    Seed, SignatureMode,
    cove::{AttestationKey, KeyAlgorithm},
};
use tsmsim_simulator::{
    cove::{
        guest::InProcessTvmGuest,
        machine::{Action, HostConfig, LaunchPlan},
        platform::{CovePlatform, CovePlatformConfig},
        registers::Registers,
    },
    snp::guest::World,
};

/// Guest memory, in bytes.
const RAM: usize = 1 << 20;
/// Guest-physical addresses.
const KEY: u64 = 0x1000;
const CHALLENGE: u64 = 0x2000;
const OUTPUT: u64 = 0x8000;
const OUTPUT_SIZE: usize = 4 * PAGE_SIZE;
/// What `Sig_structure` (RFC 9052 section 4.4) has besides the payload, with the header of these tokens.
const SIG_STRUCTURE: usize = 20;

/// The formats, by the algorithm of their keys.
pub const FORMATS: [KeyAlgorithm; 2] = [KeyAlgorithm::Ed25519, KeyAlgorithm::P256];

/// A platform of the default seed.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn cove_platform(mode: SignatureMode) -> CovePlatform {
    let config = CovePlatformConfig { signature_mode: mode, ..CovePlatformConfig::new() };
    config.build(&Seed::DEFAULT).expect("a platform of the default seed can be built")
}

/// A TVM of no page, on a platform.
///
/// # Panics
/// If it cannot be launched.
#[must_use]
pub fn tvm(platform: CovePlatform) -> InProcessTvmGuest {
    let plan = LaunchPlan {
        ram: std::iter::once(0..RAM as u64).collect(),
        vcpus: 1,
        pages: Vec::new(),
        entry_sepc: 0,
        entry_arg: 0,
        identity: None,
    };
    let world = World::new(RAM, Seed::DEFAULT);
    InProcessTvmGuest::launch(platform, HostConfig::default(), &plan, world).expect("the TVM launches")
}

/// A key of the TVM's own, as `cove_guest` gives one: {1: 2, -1: 1, -2: x, -3: y}, here the base point of P-256.
fn cose_key() -> Vec<u8> {
    const X: [u8; 32] = [
        0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77,
        0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
    ];
    const Y: [u8; 32] = [
        0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b,
        0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
    ];
    [&[0xa4, 0x01, 0x02, 0x20, 0x01, 0x21, 0x58, 0x20], &X[..], &[0x22, 0x58, 0x20], &Y].concat()
}

/// A TVM that asks for evidence of one format.
pub struct EvidenceMachine {
    guest: InProcessTvmGuest,
    registers: Registers,
    evidence: usize,
    number: u64,
}

impl EvidenceMachine {
    /// A machine on this platform.
    ///
    /// # Panics
    /// If it cannot be launched, or gives no evidence.
    #[must_use]
    pub fn new(platform: CovePlatform, format: KeyAlgorithm) -> Self {
        let format = match format {
            KeyAlgorithm::Ed25519 => ATTESTATION_CERTIFICATE_CBOR,
            KeyAlgorithm::P256 => ATTESTATION_CERTIFICATE_X509,
        };
        let key = cose_key();
        let arguments = [KEY, key.len() as u64, CHALLENGE, format, OUTPUT, OUTPUT_SIZE as u64];
        let registers = Registers::covg(CovgFid::GET_EVIDENCE, &arguments);
        let mut machine = Self { guest: tvm(platform), registers, evidence: 0, number: 0 };
        machine.guest.world().memory.write(KEY, &key).expect("it is in memory");
        // The first call maps the pages.
        machine.prepare();
        machine.ecall();
        machine
    }

    /// What the TVM does before its `ecall`: another challenge.
    ///
    /// # Panics
    /// Never: the page is in memory.
    pub fn prepare(&mut self) {
        self.number += 1;
        let mut challenge = [0; CHALLENGE_SIZE];
        challenge[..8].copy_from_slice(&self.number.to_le_bytes());
        self.guest.world().memory.write(CHALLENGE, &challenge).expect("it is in memory");
    }

    /// The timed part: `ecall`, TSM, signatures, output.
    ///
    /// # Panics
    /// If it fails.
    pub fn ecall(&mut self) {
        let mut registers = self.registers;
        let action = self.guest.ecall(&mut registers);
        assert_eq!((action, registers.error()), (Action::Resume, SbiError::SUCCESS), "there is evidence");
        self.evidence = usize::try_from(registers.value()).expect("it is in the buffer");
    }

    /// The evidence.
    ///
    /// # Panics
    /// Never: the output is in memory.
    #[must_use]
    pub fn evidence(&mut self) -> Vec<u8> {
        let mut evidence = vec![0; self.evidence];
        self.guest.world().memory.read(OUTPUT, &mut evidence).expect("it is in memory");
        evidence
    }
}

/// A TVM that reads a measurement register again and again: a call with hardly any work in it.
pub struct MeasurementMachine {
    guest: InProcessTvmGuest,
    registers: Registers,
}

impl MeasurementMachine {
    /// A machine on this platform.
    ///
    /// # Panics
    /// If it cannot be launched, or there is no register.
    #[must_use]
    pub fn new(platform: CovePlatform) -> Self {
        let registers = Registers::covg(CovgFid::READ_MEASUREMENT, &[OUTPUT, PAGE_SIZE as u64, 0]);
        let mut machine = Self { guest: tvm(platform), registers };
        // The first call maps the page.
        machine.ecall();
        machine
    }

    /// The timed part: `ecall`, TSM, the register into memory.
    ///
    /// # Panics
    /// If it fails.
    pub fn ecall(&mut self) {
        let mut registers = self.registers;
        let action = self.guest.ecall(&mut registers);
        assert_eq!((action, registers.error()), (Action::Resume, SbiError::SUCCESS), "there is a register");
    }
}

/// The signatures of one `get_evidence`, over as many bytes, by the same libraries: the TVM token, and the certificate around
/// the three tokens.
pub struct BareEvidence {
    platform: CovePlatform,
    algorithm: KeyAlgorithm,
    mode: SignatureMode,
    token: Vec<u8>,
    certificate: Vec<u8>,
}

impl BareEvidence {
    /// For evidence like this.
    ///
    /// # Panics
    /// If it is no evidence.
    #[must_use]
    pub fn new(platform: CovePlatform, algorithm: KeyAlgorithm, evidence: &[u8]) -> Self {
        // Tag 61, a map, the challenge; a byte string with its length in two bytes has it.
        let starts =
            |bytes: &[u8]| bytes.starts_with(&[0xd8, 0x3d]) && bytes[3..].starts_with(&[10, 0x58, 64]);
        let start = evidence.windows(6).position(starts).expect("there is a TVM token");
        let token = usize::from(u16::from_be_bytes([evidence[start - 2], evidence[start - 1]]));
        let certificate = match algorithm {
            // Tag, array, headers, the payload's head, the signature.
            KeyAlgorithm::Ed25519 => evidence.len() - 76 + SIG_STRUCTURE,
            // The SEQUENCE's head, the algorithm, a signature of 70 to 72 bytes.
            KeyAlgorithm::P256 => evidence.len() - 4 - 12 - 74,
        };
        let mode = platform.config().signature_mode;
        let bytes = |size| vec![0x5a; size];
        Self {
            platform,
            algorithm,
            mode,
            token: bytes(token + SIG_STRUCTURE),
            certificate: bytes(certificate),
        }
    }

    /// Signs both.
    ///
    /// # Panics
    /// If the library fails.
    pub fn sign(&self) {
        let key: &std::sync::Arc<AttestationKey> = self.platform.chain(self.algorithm).tsm_key();
        let token = key.sign_token(self.mode, std::hint::black_box(&self.token));
        std::hint::black_box(token.expect("the key signs"));
        let certificate = key.signer().sign(std::hint::black_box(&self.certificate));
        std::hint::black_box(certificate.expect("the key signs"));
    }
}

#[cfg(test)]
mod tests {
    use tsmsim_evidence::cove::Claims;

    use super::*;

    #[test]
    fn what_is_timed_is_whole_evidence() {
        for format in FORMATS {
            let platform = cove_platform(SignatureMode::Randomized);
            let mut machine = EvidenceMachine::new(platform.clone(), format);
            for number in 2..4_u8 {
                machine.prepare();
                machine.ecall();
                let evidence = machine.evidence();
                let claims = Claims::read(&evidence).expect("it is evidence");
                assert_eq!(claims.tvm.challenge[..2], [number, 0]);
                let bare = BareEvidence::new(platform.clone(), format, &evidence);
                assert!(bare.certificate.len() > bare.token.len() + 1000, "it has three tokens");
                assert!(bare.token.len() > 1000 && bare.certificate.len() < evidence.len());
                bare.sign();
            }
        }
    }
}
